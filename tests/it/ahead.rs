//! Entrypoint and scripts run while a start still waits for its order; Flink itself does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Cluster, Version};

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

/// It would run Flink before the order, were that possible with the configuration that it finds.
#[test]
fn what_executes_a_java_of_its_own_is_started_as_if_nothing_had_run_ahead() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let wrapper = cluster.path("wrapper.sh");
    fs::write(&wrapper, "#!/bin/sh\nexec \"$@\"\n").unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let start = || {
        let words = [vec![wrapper.display().to_string()], cluster.start().flink()].concat();
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
