//! Jobs that Flink calls RUNNING, or that have failed: what is wrong is told once, and Flink is started again where that is
//! wanted.

use std::fs;

use drey::domain::health::AilmentKind::{self, RestartLoop, StuckCheckpoints};
use drey::domain::job::JobStatus;
use drey::domain::pointer::APPLICATION;

use serde_json::Value;

use crate::support::{ApiServer, Cluster, Process, Version, wait_until};

fn settle(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
}

/// Waits until exactly this is wrong with the job; the problems in words.
fn wait_for(cluster: &Cluster, wanted: &[AilmentKind]) -> Vec<String> {
    let status = cluster.wait_for_status(&format!("{wanted:?}"), |status| {
        let job = status.jobs.get(APPLICATION);
        job.is_some_and(|job| job.ailments == wanted)
    });
    status.jobs[APPLICATION].problems.clone()
}

/// A job that fails, or is slow in its snapshots, while a file is there.
fn troubled(version: Version, option: &str) -> Cluster {
    let cluster = Cluster::new(version)
        .set("restart-strategy.type", "fixed-delay")
        .set("restart-strategy.fixed-delay.attempts", 100_000)
        .set("restart-strategy.fixed-delay.delay", "100ms")
        .drey_env("DREY_RESTART_LOOP", 3)
        .drey_env("DREY_HEALTH_WINDOW", "10s")
        .drey_env("DREY_STUCK_AFTER", "4s");
    let file = cluster.path("trouble").display().to_string();
    cluster.job_args(&["--rate", "1000", option, &file])
}

fn trouble(cluster: &Cluster, text: &str) {
    fs::write(cluster.path("trouble"), text).unwrap();
}

fn no_trouble(cluster: &Cluster) {
    fs::remove_file(cluster.path("trouble")).unwrap();
}

/// It was told once that it is not well, and once that it is well again.
fn told_once(drey: &Process) {
    let log = drey.log();
    assert_eq!(log.matches("Job is not well").count(), 1, "{log}");
    assert_eq!(log.matches("Job is well again").count(), 1, "{log}");
}

#[test]
fn a_restart_loop_is_told_once_and_so_is_its_end() {
    let cluster = troubled(Version::v2(), "--fail-commit-file");
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    wait_for(&cluster, &[]);
    let mut watching = cluster.drey_background(&["status", "--watch"]);
    watching.wait_for_log("application RUNNING");
    trouble(&cluster, "");
    let problems = wait_for(&cluster, &[RestartLoop]);
    assert!(
        problems[0].contains("restart loop: tasks failed"),
        "{problems:?}"
    );
    let shown = cluster.drey_ok(&["status"]);
    assert!(shown.contains("PROBLEM       restart loop"), "{shown}");
    no_trouble(&cluster);
    wait_for(&cluster, &[]);
    told_once(&drey);
    cluster.rest().wait_running();
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    watching.wait_for_logs(&["PROBLEM: restart loop", "no supervisor answers"]);
    cluster.assert_exactly_once(500);
}

/// What the pointer says of it, for `drey check` and others who cannot ask the supervisor.
fn noted(api: &ApiServer) -> Value {
    let map = api.kubectl(&["get", "configmap/drey-orders", "-o", "json"]);
    let map: Value = serde_json::from_str(&map).unwrap();
    let pointer = map["data"]["pointer.json"].as_str().unwrap();
    let pointer: Value = serde_json::from_str(pointer).unwrap();
    pointer["jobs"]["application"]["ailments"].clone()
}

#[test]
fn in_a_pod_the_pointer_says_what_is_wrong_for_as_long_as_it_is() {
    let api = ApiServer::start();
    let uid = api.pod("orders-0");
    let cluster = troubled(Version::v2(), "--fail-commit-file").in_pod(&api);
    let _task_manager = cluster.task_manager();
    let _launch = cluster.launch().in_container_of(&uid).go();
    let mut sidecar = cluster.sidecar().in_container_of(&uid).go();
    settle(&cluster, &mut sidecar);
    assert_eq!(noted(&api), Value::Null);

    trouble(&cluster, "");
    wait_until("a note of the restart loop", || {
        noted(&api)[0]["kind"] == "restart-loop"
    });
    assert_eq!(noted(&api).as_array().map(Vec::len), Some(1));
    no_trouble(&cluster);
    wait_until("no note any more", || noted(&api) == Value::Null);
}

#[test]
fn stuck_checkpoints_are_told_once_and_so_is_their_end() {
    let cluster = troubled(Version::v1(), "--snapshot-delay-file");
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    wait_for(&cluster, &[]);
    trouble(&cluster, "12000");
    let problems = wait_for(&cluster, &[StuckCheckpoints]);
    assert!(
        problems[0].contains("none has completed for"),
        "{problems:?}"
    );
    no_trouble(&cluster);
    wait_for(&cluster, &[]);
    told_once(&drey);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn flink_is_started_again_from_the_newest_checkpoint_when_that_is_wanted() {
    let cluster =
        troubled(Version::v2(), "--snapshot-delay-file").drey_env("DREY_RESTART_UNHEALTHY", "true");
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    let before = cluster.job_managers();
    trouble(&cluster, "600000");
    drey.wait_for_log("Flink is started again, from the newest restore point");
    let newest = cluster.newest_checkpoint();
    no_trouble(&cluster);
    drey.wait_for_logs(&["Flink ended", "Flink started", "Job is running"]);
    cluster.rest().wait_running();
    assert_ne!(cluster.job_managers(), before);
    let restored = cluster.rest().restored().map(std::path::PathBuf::from);
    assert_eq!(restored, newest);
    cluster.rest().wait_for_checkpoints(2);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_failed_job_is_started_again_when_that_is_wanted() {
    // Once in each TaskManager.
    let cluster = Cluster::new(Version::v1())
        .set("restart-strategy.type", "none")
        .drey_env("DREY_RESTART_FAILED", "true")
        .job_args(&["--rate", "1000", "--fail-after", "1200"]);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    drey.wait_for_logs(&[
        "Job is running",
        "The job has FAILED: Flink is started again",
        "Flink started",
        "Job is running",
    ]);
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    assert!(cluster.rest().restored().is_some());
    assert_ne!(
        cluster.entry().ended.map(|ended| ended.status),
        Some(JobStatus::Failed)
    );
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(2400);
}
