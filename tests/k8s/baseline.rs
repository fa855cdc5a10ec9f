//! What there is to beat: plain Flink with the script that everyone writes by hand (preStop: stop, poll, patch a ConfigMap;
//! an init step reads it). It loses, since nothing makes the new pod wait for the old one.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Job, Mode, Version, eventually, flink_container, plain_path, pod_spec};

/// Plain Flink with the two scripts in the JobManager's pod.
fn by_hand(purpose: &str) -> Job {
    let job = Job::only(purpose, Mode::Standalone, Version::v2()).plain();
    job.namespace.apply(&[
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts"},
            "data": {
                "prestop.sh": include_str!("baseline/prestop.sh"),
                "restore.sh": include_str!("baseline/restore.sh"),
            },
        }),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "savepoint"}}),
    ]);
    job.job_args(&["--snapshot-delay-file", "/state/delay"])
        .edit(|object, component| {
            if component == "jobmanager" {
                add_scripts(object);
            }
        })
}

fn add_scripts(object: &mut Value) {
    let flink = flink_container(object);
    let scripts = json!({"name": "scripts", "mountPath": "/scripts"});
    let mounts = flink["volumeMounts"].as_array_mut().unwrap();
    mounts.push(scripts.clone());
    flink["lifecycle"] = json!({"preStop": {"exec": {"command": ["bash", "/scripts/prestop.sh"]}}});
    let start =
        "exec /docker-entrypoint.sh $1 $(sed 's/^/--fromSavepoint /' /tmp/savepoint) \"${@:2}\"";
    flink["command"] = json!(["bash", "-c", start, "bash"]);
    let init = json!({
        "name": "restore", "image": flink["image"], "imagePullPolicy": flink["imagePullPolicy"],
        "command": ["bash", "/scripts/restore.sh"], "securityContext": flink["securityContext"],
        "volumeMounts": [scripts, {"name": "tmp", "mountPath": "/tmp"}],
    });
    let spec = pod_spec(object);
    spec["initContainers"] = json!([init]);
    let volumes = spec["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "scripts", "configMap": {"name": "scripts"}}));
}

/// The savepoint in the ConfigMap.
fn remembered(job: &Job) -> Option<String> {
    let found = job.namespace.get(&["configmap", "savepoint"])?;
    let path = found["data"]["savepoint"].as_str()?;
    Some(plain_path(path))
}

/// A savepoint takes a while, as it does with more state than an example has.
fn slow_snapshots(job: &Job) {
    fs::write(job.path("delay"), "10000").unwrap();
}

fn quick_snapshots(job: &Job) {
    fs::remove_file(job.path("delay")).unwrap();
}

#[test]
fn by_hand_a_deleted_pods_replacement_runs_from_empty_state() {
    let job = by_hand("by-hand-delete");
    let before = job.start_and_work();
    slow_snapshots(&job);

    job.kubectl(&["delete", "pod", &before.pod]);

    let after = job.wait_running_again(&before);
    quick_snapshots(&job);
    assert_eq!(after.restored(), None);
    after.wait_for_checkpoints(2);
    let (good, verdict) = job.verdict(1);
    assert!(!good && verdict.contains("duplicates"), "{verdict}");
}

#[test]
fn by_hand_a_rollout_restores_the_previous_savepoint() {
    let job = by_hand("by-hand-rollout");
    let first = job.start_and_work();
    // When everything ends before anything starts, the script is good.
    job.kubectl(&["scale", job.deployment(), "--replicas=0"]);
    job.wait_no_job_manager();
    let previous = remembered(&job);
    job.kubectl(&["scale", job.deployment(), "--replicas=1"]);
    let second = job.wait_running_again(&first);
    assert!(previous.is_some());
    assert_eq!(second.restored(), previous);
    second.wait_for_checkpoints(2);

    job.kubectl(&["rollout", "restart", job.deployment()]);

    let third = job.wait_running_again(&second);
    let newest = eventually("the script to have done its part", || {
        remembered(&job).filter(|newest| Some(newest) != previous.as_ref())
    });
    assert_ne!(Some(newest), previous);
    assert_eq!(third.restored(), previous, "the newest was not waited for");
    third.wait_for_checkpoints(2);
    let (good, verdict) = job.verdict(1);
    assert!(!good && verdict.contains("duplicates"), "{verdict}");
}
