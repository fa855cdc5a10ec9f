//! Pods with one annotation, which the webhook injects: installed by Helm from `deploy/chart`, jobs from `deploy/examples`.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{JOB_MANAGER, Job, Mode, TASK_MANAGER, Version, output_of, parse, pod_spec};

mod away;
mod uninstall;

/// Whether the webhook has left its status on a pod.
fn is_injected(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["drey.io/status"].is_string()
}

/// Fails unless all pods have what the webhook adds, and the JobManager's the sidecar.
fn assert_injected(job: &Job) {
    for (selector, sidecar) in [(JOB_MANAGER, true), (TASK_MANAGER, false)] {
        let pods = job.namespace.pods(selector);
        assert!(!pods.is_empty(), "no pod with {selector}");
        for pod in pods {
            assert!(is_injected(&pod), "not injected: {pod}");
            let containers = pod["spec"]["initContainers"].as_array().unwrap();
            let found = containers.iter().any(|it| it["name"] == "drey");
            assert_eq!(found, sidecar, "{pod}");
        }
    }
}

#[test]
fn a_native_job_with_two_annotations_survives_eviction_and_rollout() {
    let job = Job::only("annotated-native", Mode::Native, Version::v1()).injected();
    let before = job.start_and_work();
    assert_injected(&job);

    job.namespace.evict(&before.pod);
    let after = job.resumes(&before);
    job.kubectl(&["rollout", "restart", job.deployment()]);

    job.resumes_from_a_savepoint(&after);
}

#[test]
fn a_standalone_job_with_the_annotation_survives_eviction() {
    let job = Job::only("annotated", Mode::Standalone, Version::v2()).injected();
    let before = job.start_and_work();
    assert_injected(&job);

    job.namespace.evict(&before.pod);

    job.resumes_from_a_savepoint(&before);
}

/// The webhook sees these pods as well, and finds nothing to do.
#[test]
fn a_manifest_passed_through_drey_inject_survives_a_deleted_pod() {
    let job = Job::only("injected-offline", Mode::Standalone, Version::v1()).injected();
    job.start_with(|objects| drey_inject(&job, &objects));
    let before = job.wait_running();
    before.wait_for_checkpoints(2);
    assert_injected(&job);

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    job.resumes_from_a_savepoint(&before);
}

/// Nothing makes a bare pod again but a person.
#[test]
fn a_bare_pod_that_is_made_again_resumes_from_the_savepoint() {
    let job = Job::only("bare", Mode::Standalone, Version::v2()).injected();
    job.start_with(bare_pods);
    let before = job.wait_running();
    before.wait_for_checkpoints(2);
    assert_injected(&job);

    job.kubectl(&["delete", "pod", &before.pod]);
    job.start_with(bare_pods);
    let after = job.resumes(&before);
    let restored = after.restored().unwrap();
    job.kubectl(&["delete", "pod", &after.pod]);

    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    job.assert_exactly_once(1000);
}

/// `drey inject` on these manifests.
fn drey_inject(job: &Job, objects: &[Value]) -> Vec<Value> {
    let node = job.namespace.node;
    let mut command = Command::new(env!("CARGO_BIN_EXE_drey"));
    command.args([
        "inject",
        "--filename",
        "-",
        "--image",
        &node.image("drey:test"),
    ]);
    command.args(["--image-pull-policy", node.pull_policy()]);
    let documents: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let output = output_of(&mut command, Some(&documents.join("\n---\n")));
    assert!(output.status.success(), "drey inject: {output:?}");
    parse(&String::from_utf8(output.stdout).unwrap(), "drey inject")
}

/// The pods of Deployments without these. What Pod Security wants is said for each container, so that nothing is inherited.
fn bare_pods(objects: Vec<Value>) -> Vec<Value> {
    let bare = |mut object: Value| {
        if object["kind"] != "Deployment" {
            return object;
        }
        let spec = pod_spec(&mut object);
        let security = spec.as_object_mut().unwrap().remove("securityContext");
        let security = security.unwrap();
        for (key, value) in security.as_object().unwrap() {
            if key != "fsGroup" {
                spec["containers"][0]["securityContext"][key] = value.clone();
            }
        }
        let template = &object["spec"]["template"];
        let mut metadata = template["metadata"].clone();
        metadata["name"] = object["metadata"]["name"].clone();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": metadata, "spec": template["spec"],
        })
    };
    objects.into_iter().map(bare).collect()
}
