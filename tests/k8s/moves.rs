//! A JobManager's pod goes and its controller makes another: stop-with-savepoint, and the successor waits for it and
//! resumes from exactly there.

use serde_json::Value;

use crate::support::{
    JOB_MANAGER, Job, Mode, TASK_MANAGER, Version, eventually, wait_until, with_ordinary_sidecar,
};

#[test]
fn a_deleted_pods_replacement_resumes_from_the_savepoint() {
    let job = Job::new("delete-pod", Mode::Standalone, Version::v2());
    let before = job.start_and_work();

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    job.resumes_from_a_savepoint(&before);
}

/// At the address of a pod that is gone nobody answers, so Flink itself would not notice before this hour is over.
#[test]
fn a_taskmanager_is_started_again_beside_the_jobmanager_that_takes_the_job_over() {
    let job =
        Job::new("tm-follows", Mode::Standalone, Version::v2()).set("heartbeat.timeout", "1h");
    let before = job.start_and_work();
    let task_managers = |job: &Job| -> Vec<String> {
        let pods = job.namespace.pods(TASK_MANAGER);
        let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap().to_owned();
        pods.iter().map(uid).collect()
    };
    let pods = task_managers(&job);

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    let after = job.resumes(&before);
    assert!(after.restored().unwrap().contains("/savepoint-"));
    assert_eq!(task_managers(&job), pods, "in its pod");
    job.stop_and_judge(1000);
}

/// Before Kubernetes 1.29 the sidecar is a container like any other, which gets SIGTERM at the same time as Flink.
#[test]
fn with_an_ordinary_container_as_sidecar_the_replacement_resumes_from_the_savepoint() {
    let job = Job::new("ordinary", Mode::Standalone, Version::v1()).edit(with_ordinary_sidecar);
    let before = job.start_and_work();

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    job.resumes_from_a_savepoint(&before);
}

#[test]
fn an_evicted_pods_replacement_resumes_from_the_savepoint() {
    let job = Job::new("evict", Mode::Native, Version::v1());
    let before = job.start_and_work();

    job.namespace.evict(&before.pod);

    job.resumes_from_a_savepoint(&before);
}

/// The JobManager stays, and the job with it: what the TaskManager has done since the last checkpoint would be done again.
#[test]
fn a_taskmanager_that_goes_alone_first_gets_a_checkpoint_taken() {
    let job = Job::new("tm-alone", Mode::Standalone, Version::v2())
        .set("execution.checkpointing.interval", "1h");
    job.start();
    let before = job.wait_running();
    let pods = job.namespace.pods(TASK_MANAGER);
    let pod = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();

    job.kubectl(&["delete", "pod", &pod]);

    let restored = eventually("the job to be restored from a checkpoint", || {
        before.restored().filter(|path| path.contains("/chk-"))
    });
    assert!(restored.starts_with("/state/checkpoints/"), "{restored}");
    wait_until("every task to run", || before.rest.all_running(&before.job));
    job.stop_and_judge(500);
}

#[test]
fn a_drain_of_the_node_does_not_end_before_the_savepoint_is_taken() {
    let job = Job::alone("drain", Mode::Standalone, Version::v1());
    let before = job.start_and_work();

    let selector = format!("--pod-selector={JOB_MANAGER}");
    job.kubectl(&[
        "drain",
        "node1",
        &selector,
        "--delete-emptydir-data",
        "--timeout=240s",
    ]);
    let recorded = job.pointer();
    job.kubectl(&["uncordon", "node1"]);

    assert!(recorded.is_some());
    job.resumes_from_a_savepoint(&before);
}

#[test]
fn five_seconds_of_grace_are_enough_for_a_small_job() {
    let job = Job::new("grace-5", Mode::Native, Version::v2());
    let before = job.start_and_work();

    job.kubectl(&[
        "delete",
        "pod",
        &before.pod,
        "--grace-period=5",
        "--wait=false",
    ]);

    job.resumes(&before);
    job.stop_and_judge(1000);
}

#[test]
fn the_replacement_of_a_pod_deleted_by_force_waits_until_the_old_one_is_gone() {
    let job = Job::new("force", Mode::Standalone, Version::v1());
    let before = job.start_and_work();

    job.kubectl(&["delete", "pod", &before.pod, "--grace-period=0", "--force"]);

    job.resumes(&before);
    job.stop_and_judge(1000);
}

#[test]
fn a_restart_of_the_kubelet_is_no_reason_to_do_anything() {
    let job = Job::alone("kubelet", Mode::Standalone, Version::v2());
    let before = job.start_and_work();

    job.namespace.node.restart_kubelet();
    before.wait_for_checkpoints(2);
    assert_eq!(job.wait_running().job, before.job);
    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    job.resumes_from_a_savepoint(&before);
}

/// The kubelet ends the pods by itself: they get no `deletionTimestamp`, and their objects stay as failed ones.
#[test]
fn an_orderly_shutdown_of_the_node_takes_the_savepoint_first() {
    let job = Job::alone("reboot", Mode::Native, Version::v2());
    let before = job.start_and_work();

    job.namespace.node.reboot();

    let pod = job.namespace.pod(&before.pod);
    assert_eq!(pod["metadata"]["deletionTimestamp"], Value::Null);
    assert_eq!(pod["status"]["phase"], "Failed");
    let after = job.resumes(&before);
    let restored = after.restored().unwrap();
    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    // Nobody else does.
    job.kubectl(&["delete", "pods", "--field-selector=status.phase=Failed"]);
    job.stop_and_judge(1000);
}
