//! What others do to a pod between two injections.

use super::*;

const LAUNCH: [&str; 3] = ["/drey/drey", "launch", "--"];

fn words(list: &Option<Vec<String>>) -> Vec<&str> {
    list.iter().flatten().map(String::as_str).collect()
}

/// As a webhook does that puts a program of its own in front of the command.
fn wrapped(mut pod: Pod) -> Pod {
    let flink = &mut pod.spec.as_mut().expect("a spec").containers[0];
    let command = flink.command.replace(vec!["/vault/vault-env".to_owned()]);
    let args = flink.args.take();
    flink.args = Some(command.into_iter().chain(args).flatten().collect());
    pod
}

#[test]
fn a_launcher_behind_somebody_elses_program_is_not_put_in_again() {
    let by_image = job_manager(&[]);
    let mut by_command = job_manager(&[]);
    by_command.spec.as_mut().expect("a spec").containers[0].command =
        Some(vec!["/own.sh".to_owned()]);
    for (original, ours) in [
        (by_image, &["/drey/drey-launch"][..]),
        (by_command, &LAUNCH),
    ] {
        let wrapped = wrapped(injected(&original).pod);
        let again = injected(&wrapped).pod;
        assert_eq!(words(&flink(&again).command), ["/vault/vault-env"]);
        let args = words(&flink(&again).args);
        assert_eq!(args[..ours.len()], *ours);
        let launchers = args.iter().filter(|word| word.contains("/drey/")).count();
        assert_eq!(launchers, 1, "{args:?}");
        assert_eq!(injected(&again).pod, again);
        // The way back takes our words and leaves the other program.
        let back = uninject(&again).expect("taken out");
        let args = words(&flink(&back).args).join(" ");
        assert!(
            args.ends_with("standalone-job") && !args.contains("/drey/"),
            "{args}"
        );
        assert_eq!(words(&flink(&back).command), ["/vault/vault-env"]);
    }
}

#[test]
fn an_argument_of_the_job_is_no_launcher() {
    let mut pod = job_manager(&[]);
    let args = ["standalone-job", "--copy", "/jobs/drey-launch"];
    pod.spec.as_mut().expect("a spec").containers[0].args = Some(args.map(str::to_owned).to_vec());
    let injected = injected(&pod).pod;
    assert_eq!(words(&flink(&injected).command), ["/drey/drey-launch"]);
}

#[test]
fn a_command_that_still_needs_drey_is_not_left_without_it() {
    let mut pod = injected(&job_manager(&[])).pod;
    let shell = ["bash", "-c", "exec /drey/drey-launch standalone-job"];
    pod.spec.as_mut().expect("a spec").containers[0].command =
        Some(shell.map(str::to_owned).to_vec());
    let error = uninject(&pod).expect_err("refused").message;
    assert!(
        error.starts_with("container `jm` still has `exec /drey/drey-launch"),
        "{error}"
    );
}

/// While the webhook is updated, an old replica sees what a new one has done.
#[test]
fn what_a_newer_version_has_injected_stays_as_it_is() {
    let mut pod = injected(&job_manager(&[])).pod;
    let annotations = pod.metadata.annotations.get_or_insert_default();
    let mut status: Value = serde_json::from_str(&annotations[STATUS]).expect("JSON");
    status["version"] = json!("999.0.0");
    status["somethingNew"] = json!({});
    annotations.insert(STATUS.to_owned(), status.to_string());
    assert_eq!(injected(&pod).pod, pod);
    assert!(uninject(&pod).is_err(), "this version cannot take it out");
    // Nobody gets around Drey by such a status alone.
    pod.spec.as_mut().expect("a spec").init_containers = None;
    assert!(refused(&pod).contains("does not say what Drey added"));
}

#[test]
fn request_and_limit_never_contradict_each_other() {
    let memory = |annotations: &[(&str, &str)]| {
        let pod = injected(&job_manager(annotations)).pod;
        let resources = sidecar(&pod).resources.clone().unwrap_or_default();
        let get = |map: Option<BTreeMap<String, _>>| {
            let quantity = map?.remove("memory");
            quantity.map(|k8s_openapi::apimachinery::pkg::api::resource::Quantity(text)| text)
        };
        (
            get(resources.requests).unwrap_or_default(),
            get(resources.limits).unwrap_or_default(),
        )
    };
    let (request, limit) = ("drey.io/memory-request", "drey.io/memory-limit");
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    assert_eq!(memory(&[]), pair("16Mi", "32Mi"));
    assert_eq!(memory(&[(request, "64Mi")]), pair("64Mi", "64Mi"));
    assert_eq!(memory(&[(request, "20M")]), pair("20M", "32Mi"));
    assert_eq!(memory(&[(limit, "8Mi")]), pair("8Mi", "8Mi"));
    assert_eq!(memory(&[(limit, "none")]), pair("16Mi", ""));
    assert_eq!(
        memory(&[(request, "1Gi"), (limit, "none")]),
        pair("1Gi", "")
    );
    assert_eq!(
        refused(&job_manager(&[(request, "1Gi"), (limit, "1000Mi")])),
        "annotation `drey.io/memory-request`: `1Gi` is above the limit, `1000Mi`; lower it, or raise `drey.io/memory-limit`"
    );
}
