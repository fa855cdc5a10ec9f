//! A pod goes, and its controller makes another: stop-with-savepoint, and the successor resumes from exactly there.

use crate::support::{Job, Mode, Run, Version};

/// A job that has run for a while.
fn working(job: &Job) -> Run {
    let run = job.start_and_wait();
    run.wait_for_checkpoints(2);
    run
}

/// The job came back from a savepoint that the pod that left had taken.
fn resumes_from_the_savepoint(job: &Job, before: &Run) {
    let after = job.wait_running_again(before);
    let restored = after.restored().expect("not from empty state");
    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    assert_eq!(job.pointer(), Some(restored));
    after.wait_for_checkpoints(2);
    job.stop_and_judge(1000);
}

#[test]
fn a_deleted_pods_replacement_resumes_from_the_savepoint() {
    let job = Job::new("delete-pod", Mode::Standalone, Version::v2());
    let before = working(&job);

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    resumes_from_the_savepoint(&job, &before);
}

#[test]
fn a_pod_deleted_in_native_mode_is_replaced_and_resumes_from_the_savepoint() {
    let job = Job::new("delete-pod-native", Mode::Native, Version::v1());
    let before = working(&job);

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    resumes_from_the_savepoint(&job, &before);
}
