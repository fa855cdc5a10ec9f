//! SIGTERM and SIGINT: the job stops with a savepoint, and the next start resumes from exactly there.

use std::fs;
use std::path::PathBuf;

use drey::domain::pointer::PointKind;
use serde_json::json;

use crate::support::{Cluster, Process, Version, wait_until};

/// Lets a job run for a while.
fn work(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
}

/// Stops a running job by SIGTERM, starts it again, and stops it by SIGINT.
fn cycle(cluster: &Cluster, start: impl Fn() -> Process) {
    let configuration = cluster.configuration();
    let _task_manager = cluster.task_manager();
    let mut drey = start();
    work(cluster, &mut drey);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.wait_gone();
    let savepoint = cluster.newest_path();
    assert_eq!(cluster.savepoints(), std::slice::from_ref(&savepoint));

    let mut drey = start();
    work(cluster, &mut drey);
    assert_eq!(
        cluster.rest().restored().map(PathBuf::from),
        Some(savepoint)
    );
    drey.int();
    assert_eq!(drey.exit_code(), 0);
    assert_eq!(cluster.savepoints().len(), 2);
    cluster.assert_exactly_once(500);
    assert_eq!(cluster.configuration(), configuration);
}

#[test]
fn the_next_start_resumes_exactly_where_sigterm_or_sigint_stopped_it_1_20() {
    let cluster = Cluster::new(Version::v1());
    cycle(&cluster, || cluster.run());
}

#[test]
fn the_next_start_resumes_exactly_where_sigterm_or_sigint_stopped_it_2_x() {
    let cluster = Cluster::new(Version::v2());
    cycle(&cluster, || cluster.run());
}

#[test]
fn the_same_with_flinks_own_scripts_1_20() {
    let cluster = Cluster::new(Version::v1());
    cycle(&cluster, || cluster.start().script().go());
}

#[test]
fn the_same_with_flinks_own_scripts_2_x() {
    let cluster = Cluster::new(Version::v2());
    cycle(&cluster, || cluster.start().script().go());
}

#[test]
fn sigterm_while_deploying_waits_for_the_tasks_and_not_beyond_the_deadline() {
    let cluster = Cluster::new(Version::v2());
    let mut drey = cluster.run();
    cluster.rest().job();
    drey.term();
    drey.wait_for_log("not all tasks are running yet");
    let task_manager = cluster.task_manager();
    assert_eq!(drey.exit_code(), 0);
    let before = cluster.newest().expect("the savepoint is recorded");

    // From there on without a TaskManager.
    drop(task_manager);
    let mut drey = cluster.start().env("DREY_SHUTDOWN_TIMEOUT", "10s").go();
    cluster.rest().job();
    drey.term();
    drey.wait_for_log("not all tasks are running yet");
    assert_eq!(drey.exit_code(), 143, "Flink's own code");
    let entry = cluster.entry();
    assert_eq!(entry.newest(), Some(&before));
    assert_eq!(entry.intent, None);
    assert_eq!(cluster.savepoints().len(), 1);
}

#[test]
fn sigterm_during_a_checkpoint_or_somebodys_savepoint_is_a_stop_with_savepoint_all_the_same() {
    const SLOW: &str = "1500";
    let cluster = Cluster::new(Version::v2());
    let delay = cluster.path("delay");
    let args = [
        "--rate",
        "1000",
        "--snapshot-delay-file",
        delay.to_str().unwrap(),
    ];
    let cluster = cluster.job_args(&args);
    let _task_manager = cluster.task_manager();
    let stopped = |mut drey: Process| {
        fs::remove_file(&delay).unwrap();
        assert_eq!(drey.exit_code(), 0);
        let newest = cluster.newest().expect("the savepoint is recorded");
        assert_eq!(newest.kind, PointKind::Stop);
    };

    // A checkpoint.
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    fs::write(&delay, SLOW).unwrap();
    wait_until("a checkpoint in progress", || {
        cluster.rest().in_progress() > 0
    });
    drey.term();
    drey.wait_for_log("Savepoint triggered");
    stopped(drey);

    // A savepoint that was asked of Flink itself.
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    fs::write(&delay, SLOW).unwrap();
    let job = cluster.rest().job();
    let directory = cluster.path("somebodys");
    cluster.rest().post(
        &format!("/jobs/{job}/savepoints"),
        &json!({"cancel-job": false, "target-directory": directory}),
    );
    wait_until("the savepoint in progress", || {
        let history = &cluster.rest().checkpoints()["history"];
        let entries = history.as_array().into_iter().flatten();
        let mut savepoints = entries.filter(|entry| entry["is_savepoint"] == true);
        savepoints.any(|entry| entry["status"] == "IN_PROGRESS")
    });
    drey.term();
    drey.wait_for_log("Savepoint triggered");
    stopped(drey);

    // One that was asked of Drey: who waits for it gets the path of the stop.
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    fs::write(&delay, SLOW).unwrap();
    let mut asked = cluster.drey_background(&["savepoint"]);
    cluster.wait_for_status("a savepoint in progress", |status| {
        status.jobs.values().all(|job| job.savepoint_in_progress)
    });
    drey.term();
    drey.wait_for_log("Shutdown asked for");
    stopped(drey);
    assert_eq!(asked.exit_code(), 0, "{}", asked.log());
    let newest = cluster.newest().unwrap();
    assert_eq!(asked.log().lines().last(), Some(newest.path.as_str()));
    cluster.assert_exactly_once(500);
}

#[test]
fn a_second_sigterm_ends_drey_and_flink_at_once() {
    let cluster = Cluster::new(Version::v1());
    let mut drey = cluster.run();
    cluster.rest().job();
    drey.term();
    // No task can run, so this would take a minute.
    drey.wait_for_log("not all tasks are running yet");
    drey.term();
    assert_eq!(drey.exit_code(), 143);
    cluster.wait_gone();
    assert_eq!(cluster.newest(), None);
}

#[test]
fn a_second_sigterm_ends_drey_and_flink_even_when_the_runtime_is_wedged() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().kill_at("wedge:after-intent").go();
    work(&cluster, &mut drey);
    drey.term();
    drey.wait_for_log("Wedged at after-intent");
    drey.term();
    assert_eq!(drey.exit_code(), 143);
    cluster.wait_gone();

    // The intent was stored and never sent: the newest checkpoint it is.
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    assert!(
        cluster
            .rest()
            .restored()
            .is_some_and(|path| path.contains("/chk-"))
    );
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_prestop_hook_blocks_until_the_savepoint_is_recorded_and_flink_is_not_started_again() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().flag("--restart").go();
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    let printed = cluster.drey_ok(&["prestop"]);
    let newest = cluster.newest().expect("the savepoint is recorded");
    assert_eq!(newest.kind, PointKind::Stop);
    assert!(printed.contains(&newest.path), "{printed}");
    // SIGTERM, which a kubelet sends next, would find nothing left to do.
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());
    cluster.wait_gone();
    assert_eq!(cluster.savepoints(), [cluster.newest_path()]);
    cluster.assert_exactly_once(200);

    let printed = cluster.drey_ok(&["prestop"]);
    assert!(printed.starts_with("no supervisor listens"), "{printed}");
}
