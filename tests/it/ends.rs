//! Jobs and JobManagers that end by themselves or by a person's hand.

use std::fs;
use std::path::PathBuf;

use drey::domain::job::JobStatus;
use drey::domain::pointer::PointKind;
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Cluster, Process, Version, signal};

/// Lets a job run for a while.
fn work(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
}

fn ended(cluster: &Cluster) -> Option<JobStatus> {
    cluster.entry().ended.map(|ended| ended.status)
}

/// Ends with exit code 0 and with this much committed.
fn finishes(cluster: &Cluster, owner: &str) {
    let mut drey = cluster.start().env("DREY_OWNER", owner).go();
    assert_eq!(drey.exit_code(), 0);
    cluster.wait_gone();
    assert_eq!(ended(cluster), Some(JobStatus::Finished));
    cluster.check(&["--count", "2000"]);
}

#[test]
fn a_finished_job_stays_finished_for_its_owner_and_starts_from_scratch_for_another() {
    let cluster = Cluster::new(Version::v2()).job_args(&["--rate", "2000", "--count", "2000"]);
    let _task_manager = cluster.task_manager();
    finishes(&cluster, "monday");
    let run = cluster.entry().run;

    let mut again = cluster.start().env("DREY_OWNER", "monday").go();
    assert_eq!(again.exit_code(), 0);
    assert!(again.log().contains("not started again"), "{}", again.log());
    assert_eq!(cluster.entry().run, run);

    fs::remove_dir_all(cluster.path("out")).unwrap();
    finishes(&cluster, "tuesday");
    let run = cluster.entry().run.expect("a run is stored");
    assert_eq!(run.parent, None);
}

#[test]
fn a_cancelled_job_stays_cancelled_for_its_owner_and_resumes_for_another() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().env("DREY_OWNER", "monday").go();
    work(&cluster, &mut drey);
    let job = cluster.rest().job();
    cluster.rest().patch(&format!("/jobs/{job}?mode=cancel"));
    assert_eq!(drey.exit_code(), 0);
    cluster.wait_gone();
    assert_eq!(ended(&cluster), Some(JobStatus::Canceled));

    let mut again = cluster.start().env("DREY_OWNER", "monday").go();
    assert_eq!(again.exit_code(), 0);
    assert!(again.log().contains("not started again"), "{}", again.log());

    let mut drey = cluster.start().env("DREY_OWNER", "tuesday").go();
    work(&cluster, &mut drey);
    assert!(cluster.rest().restored().is_some());
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(300);
}

#[test]
fn a_failed_job_exits_as_flink_does_and_is_started_again_only_when_asked() {
    // Once in each TaskManager.
    let cluster = Cluster::new(Version::v2())
        .set("restart-strategy.type", "none")
        .job_args(&["--rate", "1000", "--fail-after", "1200"]);
    let task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    assert_eq!(drey.exit_code(), 163);
    cluster.wait_gone();
    assert_eq!(ended(&cluster), Some(JobStatus::Failed));
    drop(task_manager);

    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().flag("--restart").go();
    drey.wait_for_logs(&[
        "Job is running",
        "status=FAILED",
        "Flink started",
        "Job is running",
    ]);
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    assert!(cluster.rest().restored().is_some());
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(2400);
}

#[test]
fn a_jobmanager_that_dies_is_started_again_only_when_asked_and_then_from_the_newest_checkpoint() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    signal(cluster.job_manager(), Signal::KILL);
    assert_eq!(drey.exit_code(), 137);
    assert_eq!(cluster.job_managers(), [0; 0]);
    let before = cluster.newest_checkpoint();

    let mut drey = cluster.start().flag("--restart=on-failure").go();
    work(&cluster, &mut drey);
    assert_eq!(cluster.rest().restored().map(PathBuf::from), before);
    signal(cluster.job_manager(), Signal::KILL);
    cluster.wait_gone();
    let before = cluster.newest_checkpoint();
    drey.wait_for_logs(&["Flink ended", "Flink started", "Job is running"]);
    assert_eq!(cluster.rest().restored().map(PathBuf::from), before);
    cluster.rest().wait_running();
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(300);
}

/// A stop-with-savepoint by Flink's own REST interface.
fn stopped_by_hand(version: Version) {
    let cluster = Cluster::new(version);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    let job = cluster.rest().job();
    cluster.rest().post(
        &format!("/jobs/{job}/stop"),
        &json!({"drain": false, "targetDirectory": cluster.path("by-hand")}),
    );
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());
    let newest = cluster.newest().expect("the savepoint is recorded");
    assert_eq!(newest.kind, PointKind::Stop);
    assert!(newest.path.contains("/by-hand/"), "{}", newest.path);

    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    assert_eq!(
        cluster.rest().restored().map(PathBuf::from),
        Some(cluster.newest_path())
    );
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(300);
}

#[test]
fn what_a_person_stopped_with_flinks_own_rest_resumes_from_that_savepoint_1_20() {
    stopped_by_hand(Version::v1());
}

#[test]
fn what_a_person_stopped_with_flinks_own_rest_resumes_from_that_savepoint_2_x() {
    stopped_by_hand(Version::v2());
}
