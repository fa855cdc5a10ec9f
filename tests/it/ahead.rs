//! Entrypoint and scripts run while a start still waits for its order; Flink itself does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Cluster, Version};

fn wrapper(cluster: &Cluster, text: &str) -> String {
    let path = cluster.path("wrapper.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn scripts_run_before_the_order_comes_and_flink_after_it() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut launch = cluster.launch().script().go();
    launch.wait_for_logs(&["Waiting for the supervisor", "its JVM waits for its order"]);
    assert_eq!(cluster.job_managers(), [0; 0]);

    let mut sidecar = cluster.sidecar().go();
    launch.wait_for_log("Flink was made ready ahead");
    sidecar.wait_for_logs(&["Flink started", "Job is running"]);
    cluster.rest().wait_for_checkpoints(1);
    launch.term();
    assert_eq!(launch.exit_code(), 0, "{}", launch.log());
    assert_eq!(cluster.savepoints().len(), 1);
    sidecar.kill();

    let mut launch = cluster.launch().script().go();
    launch.wait_for_log("its JVM waits for its order");
    launch.term();
    assert_eq!(launch.exit_code(), 0, "{}", launch.log());
    assert_eq!(cluster.job_managers(), [0; 0]);

    let mut drey = cluster.start().script().flag("--start-ahead=false").go();
    drey.wait_for_log("Job is running");
    assert!(!drey.log().contains("ahead"), "{}", drey.log());
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(200);
}

/// The script that waits for its JVM does not carry the run's id, which came later; its JVM does.
#[test]
fn a_flink_that_was_made_ready_ahead_behind_a_script_is_taken_over() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let words = [
        vec![wrapper(&cluster, "\"$@\"\nexit $?")],
        cluster.start().script().flink(),
    ]
    .concat();
    let mut drey = cluster.start().command(words.clone()).go();
    drey.wait_for_logs(&["Flink was made ready ahead", "Job is running"]);
    let job_manager = cluster.job_manager();
    cluster.rest().wait_for_checkpoints(1);
    drey.kill();

    let mut drey = cluster.start().command(words).go();
    drey.wait_for_logs(&["Took over a running Flink", "Job is running"]);
    assert_eq!(cluster.job_manager(), job_manager);
    drey.term();
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());
    cluster.assert_exactly_once(200);
}

/// It would run Flink before the order, were that possible with the configuration that it finds.
#[test]
fn what_executes_a_java_of_its_own_is_started_as_if_nothing_had_run_ahead() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let start = || {
        let words = [
            vec![wrapper(&cluster, "exec \"$@\"")],
            cluster.start().flink(),
        ]
        .concat();
        cluster.start().command(words).go()
    };
    let mut drey = start();
    drey.wait_for_logs(&["cannot be made ready ahead here", "Job is running"]);
    cluster.rest().wait_for_checkpoints(1);
    drey.term();
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());

    let mut drey = start();
    drey.wait_for_log("Job is running");
    assert!(
        !drey.log().contains("cannot be made ready"),
        "once is enough"
    );
    assert_eq!(
        cluster.rest().restored().as_deref(),
        cluster.newest_path().to_str()
    );
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(200);
}
