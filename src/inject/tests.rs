mod annotations;
mod files;
mod golden;
mod others;
mod properties;
mod warnings;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

/// What a test installation decides.
fn settings() -> Settings {
    Settings {
        image: "drey:latest".to_owned(),
        image_pull_policy: None,
        allowed_images: vec![
            "registry.example/drey".to_owned(),
            "registry.example/try-*".to_owned(),
        ],
        native_sidecar: true,
        opted_in: false,
    }
}

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

/// A JobManager's pod as somebody could write it, with these annotations.
fn job_manager(annotations: &[(&str, &str)]) -> Pod {
    let mut pod = pod(json!({
        "metadata": {"labels": {"app": "orders"}, "annotations": {"drey.io/inject": "true"}},
        "spec": {"containers": [{"name": "jm", "image": "flink:1.20", "args": ["standalone-job"]}]},
    }));
    let all = pod.metadata.annotations.get_or_insert_default();
    for (name, value) in annotations {
        all.insert((*name).to_owned(), (*value).to_owned());
    }
    pod
}

fn injected_with(pod: &Pod, settings: &Settings) -> Injected {
    match inject(pod, settings, &Facts::default()) {
        Ok(Outcome::Injected(injected)) => *injected,
        other => unreachable!("{other:?}"),
    }
}

fn injected(pod: &Pod) -> Injected {
    injected_with(pod, &settings())
}

fn skipped(pod: &Pod, settings: &Settings, facts: &Facts) -> Skipped {
    match inject(pod, settings, facts) {
        Ok(Outcome::Skipped(skipped)) => skipped,
        other => unreachable!("{other:?}"),
    }
}

/// The pods of the Deployments in a manifest of `deploy/`.
fn pods_of(text: &str) -> Vec<Pod> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    let deployments = documents
        .into_iter()
        .filter(|document| document["kind"] == "Deployment");
    deployments
        .map(|document| {
            let deployment: Deployment = serde_json::from_value(document).expect("a Deployment");
            let template = deployment.spec.expect("a spec").template;
            Pod {
                metadata: template.metadata.unwrap_or_default(),
                spec: template.spec,
                status: None,
            }
        })
        .collect()
}

/// The pod without what a person wrote into it for Drey.
fn without_drey(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.annotations = Some([(INJECT.to_owned(), "true".to_owned())].into());
    let spec = pod.spec.as_mut().expect("a spec");
    spec.termination_grace_period_seconds = None;
    spec.init_containers = None;
    let volumes = spec.volumes.as_mut().expect("volumes");
    volumes.retain(|volume| volume.name != "drey");
    let flink = &mut spec.containers[0];
    flink.command = None;
    flink.lifecycle = None;
    flink.env = None;
    let ports = flink.ports.take().into_iter().flatten();
    let ports: Vec<_> = ports
        .filter(|port| port.name.as_deref() != Some("metrics"))
        .collect();
    flink.ports = Some(ports).filter(|ports| !ports.is_empty());
    let mounts = flink.volume_mounts.as_mut().expect("mounts");
    mounts.retain(|mount| mount.name != "drey");
    pod
}

fn yaml(pod: &Pod) -> String {
    serde_saphyr::to_string(pod).expect("YAML")
}

/// In an order of its own, where the order says nothing.
fn sorted(mut pod: Pod) -> Pod {
    pod.metadata.annotations = None;
    let spec = pod.spec.as_mut().expect("a spec");
    spec.volumes
        .iter_mut()
        .for_each(|all| all.sort_by(|a, b| a.name.cmp(&b.name)));
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        container
            .env
            .iter_mut()
            .for_each(|all| all.sort_by(|a, b| a.name.cmp(&b.name)));
        let mounts = &mut container.volume_mounts;
        mounts
            .iter_mut()
            .for_each(|all| all.sort_by(|a, b| a.name.cmp(&b.name)));
    }
    pod
}

#[test]
fn it_is_what_a_person_writes_by_hand() {
    let by_hand = pods_of(include_str!("../../deploy/standalone/flink.yaml"));
    assert_eq!(by_hand.len(), 2);
    for written in by_hand {
        let injected = injected(&without_drey(&written));
        assert_eq!(yaml(&sorted(injected.pod)), yaml(&sorted(written)));
        assert_eq!(injected.warnings, Vec::<String>::new());
    }
}

#[test]
fn what_was_written_by_hand_is_left_alone() {
    for mut written in pods_of(include_str!("../../deploy/standalone/flink.yaml")) {
        written.metadata.annotations = Some([(INJECT.to_owned(), "true".to_owned())].into());
        let skipped = skipped(&written, &settings(), &Facts::default());
        assert_eq!((skipped.reason, skipped.surprising), ("ByHand", false));
    }
}

#[test]
fn twice_is_once_and_back_is_where_it_began() {
    for native_sidecar in [true, false] {
        let settings = Settings {
            native_sidecar,
            ..settings()
        };
        for written in pods_of(include_str!("../../deploy/standalone/flink.yaml")) {
            let original = without_drey(&written);
            let once = injected_with(&original, &settings);
            assert_eq!(injected_with(&once.pod, &settings), once);
            assert_eq!(uninject(&once.pod), Ok(original));
        }
    }
    let original = job_manager(&[]);
    assert_eq!(uninject(&injected(&original).pod), Ok(original.clone()));
    assert_eq!(uninject(&original), Ok(original));
}

fn refused(pod: &Pod) -> String {
    let refused = inject(pod, &settings(), &Facts::default());
    refused.expect_err("refused").message
}

fn flink(pod: &Pod) -> &Container {
    &pod.spec.as_ref().expect("a spec").containers[0]
}

fn sidecar(pod: &Pod) -> &Container {
    let spec = pod.spec.as_ref().expect("a spec");
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.find(|container| container.name == "drey")
        .expect("a sidecar")
}

fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let mut all = container.env.iter().flatten();
    all.find(|variable| variable.name == name)?.value.as_deref()
}

#[test]
fn the_grace_period_is_raised_and_never_lowered() {
    for (was, asked, grace, shutdown) in [
        (None, None, 120, "2m"),
        (Some(30), None, 120, "2m"),
        (Some(600), None, 600, "10m"),
        (Some(600), Some("1m"), 600, "1m"),
        (Some(60), Some("1m"), 60, "1m"),
        (Some(10), Some("90500ms"), 91, "1m 30s 500ms"),
        (Some(0), None, 120, "2m"),
        (Some(i64::MAX), None, i64::MAX, "24h"),
    ] {
        let mut pod = job_manager(&[]);
        if let Some(asked) = asked {
            pod = job_manager(&[("drey.io/shutdown-timeout", asked)]);
        }
        pod.spec
            .as_mut()
            .expect("a spec")
            .termination_grace_period_seconds = was;
        let injected = injected(&pod).pod;
        let text =
            variable(flink(&injected), "DREY_SHUTDOWN_TIMEOUT").map(|text| text.replace(' ', ""));
        assert_eq!(
            text.as_deref(),
            Some(shutdown.replace(' ', "").as_str()),
            "{was:?} {asked:?}"
        );
        let spec = injected.spec.as_ref().expect("a spec");
        assert_eq!(
            spec.termination_grace_period_seconds,
            Some(grace),
            "{was:?} {asked:?}"
        );
        assert_eq!(uninject(&injected), Ok(pod));
    }
}

fn with_hook(hook: Value) -> Pod {
    let mut pod = job_manager(&[]);
    let lifecycle = serde_json::from_value(json!({ "preStop": hook })).expect("a lifecycle");
    pod.spec.as_mut().expect("a spec").containers[0].lifecycle = Some(lifecycle);
    pod
}

#[test]
fn a_hook_that_was_there_runs_after_dreys() {
    let pod = with_hook(json!({"exec": {"command": ["sh", "-c", "echo done"]}}));
    let once = injected(&pod).pod;
    let hook = serde_json::to_value(&flink(&once).lifecycle).expect("JSON");
    let words = ["/drey/drey", "prestop", "--", "sh", "-c", "echo done"];
    assert_eq!(hook["preStop"]["exec"]["command"], json!(words));
    assert_eq!(injected(&once).pod, once);
    assert_eq!(uninject(&once), Ok(pod));
    let sleeps = with_hook(json!({"sleep": {"seconds": 5}}));
    let injected = injected(&sleeps);
    assert!(injected.warnings[0].starts_with("the preStop sleep of container `jm` is left out"));
    assert_eq!(uninject(&injected.pod), Ok(sleeps));
    let asks = with_hook(json!({"httpGet": {"port": 8081}}));
    assert_eq!(
        refused(&asks),
        "the preStop hook of container `jm` is a request, behind which Drey's cannot run; make it a command (`exec`), or take it out"
    );
}

#[test]
fn a_pod_is_left_alone_for_a_reason() {
    let facts = Facts::default();
    let mut out = job_manager(&[]);
    out.metadata.annotations = Some([(INJECT.to_owned(), "false".to_owned())].into());
    assert_eq!(skipped(&out, &settings(), &facts).reason, "OptedOut");
    let mut silent = job_manager(&[]);
    silent.metadata.annotations = None;
    assert_eq!(skipped(&silent, &settings(), &facts).reason, "NotOptedIn");
    let everywhere = Settings {
        opted_in: true,
        ..settings()
    };
    let mut other = silent.clone();
    other.spec.as_mut().expect("a spec").containers[0].args = None;
    assert_eq!(skipped(&other, &everywhere, &facts).reason, "NotFlink");
    other.metadata.annotations = job_manager(&[]).metadata.annotations;
    assert!(refused(&other).starts_with("no container of the pod looks like Flink's; name it"));
    let owned = Facts {
        flink_deployment: Some("theirs".to_owned()),
        ..Facts::default()
    };
    let left = skipped(&job_manager(&[]), &settings(), &owned);
    assert_eq!((left.reason, left.surprising), ("FlinkDeployment", true));
    let marked = job_manager(&[("flinkdeployment.flink.apache.org/generation", "1")]);
    assert_eq!(
        skipped(&marked, &settings(), &facts).reason,
        "FlinkDeployment"
    );
    let mut injected = injected(&job_manager(&[])).pod;
    let annotations = injected.metadata.annotations.get_or_insert_default();
    annotations.insert(INJECT.to_owned(), "false".to_owned());
    assert!(skipped(&injected, &settings(), &facts).surprising);
}

#[test]
fn a_pod_in_which_others_have_dreys_names_is_refused() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::to_value(job_manager(&[])).expect("JSON");
        change(&mut value["spec"]);
        refused(&pod(value))
    };
    for (name, list) in [("drey", "containers"), ("drey-install", "initContainers")] {
        let message = with(&|spec| match spec[list].as_array_mut() {
            Some(all) => all.push(json!({"name": name, "image": "theirs"})),
            None => spec[list] = json!([{"name": name, "image": "theirs"}]),
        });
        assert_eq!(
            message,
            format!(
                "container `{name}` of the pod has the name of one of Drey's; give it another name"
            )
        );
    }
    let message = with(&|spec| spec["volumes"] = json!([{"name": "drey"}]));
    assert_eq!(
        message,
        "volume `drey` of the pod has the name of Drey's; give it another name"
    );
    let message = with(&|spec| {
        spec["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": "/drey/x/"}])
    });
    assert_eq!(
        message,
        "container `jm` mounts a volume at `/drey/x`, where Drey's is; mount it elsewhere"
    );
    let message = with(&|spec| {
        spec["containers"][0]["env"] = json!([{"name": "DREY_SHUTDOWN_TIMEOUT", "value": "1m"}])
    });
    assert_eq!(
        message,
        "container `jm` has a variable `DREY_SHUTDOWN_TIMEOUT`, which Drey sets; take it out, and give \
         `drey.io/shutdown-timeout` as an annotation"
    );
}

#[test]
fn a_status_that_was_edited_is_refused() {
    let good = injected(&job_manager(&[])).pod;
    let status = good.metadata.annotations.as_ref().expect("annotations")[STATUS].clone();
    for (from, to, why) in [
        ("{", "x", "(expected value at line 1"),
        ("\"version\"", "\"edition\"", "(unknown field `edition`"),
        ("\"drey-install\"", "\"jm\"", "(`jm` is not Drey's)"),
        (
            "\"container\":\"jm\"",
            "\"container\":\"tm\"",
            "(the pod has no container `tm`)",
        ),
    ] {
        let mut edited = good.clone();
        let annotations = edited.metadata.annotations.get_or_insert_default();
        annotations.insert(STATUS.to_owned(), status.replacen(from, to, 1));
        let message = refused(&edited);
        assert!(
            message.starts_with(&format!(
                "annotation `{STATUS}` does not say what Drey added {why}"
            )),
            "{message}"
        );
        assert_eq!(uninject(&edited).expect_err("refused").message, message);
    }
}

#[test]
fn a_command_that_the_launcher_would_refuse_is_refused_at_once() {
    let with = |command: &[&str]| {
        let mut pod = job_manager(&[]);
        let flink = &mut pod.spec.as_mut().expect("a spec").containers[0];
        flink.args = None;
        flink.command = Some(command.iter().map(|word| (*word).to_owned()).collect());
        refused(&pod)
    };
    assert_eq!(
        with(&["bin/jobmanager.sh", "start"]),
        "container `jm`: bin/jobmanager.sh start goes to the background, where its end cannot be seen; use start-foreground"
    );
    assert_eq!(
        with(&["bash", "-c", "/docker-entrypoint.sh standalone-job"]),
        "annotation `drey.io/entrypoint`: container `jm` starts Flink by a shell, behind which Drey cannot give Flink arguments; \
         make the command a script in the image and name it here, with Flink's arguments as `args`"
    );
}
