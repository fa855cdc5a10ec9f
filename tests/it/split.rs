//! `drey sidecar` and `drey launch`, which meet on a Unix socket: the two halves of `drey run`.

use std::path::PathBuf;

use drey::domain::pointer::PointKind;

use crate::support::{Cluster, Process, Version};

/// Waits until the job works under this pair.
fn work(cluster: &Cluster, sidecar: &mut Process) {
    sidecar.wait_for_logs(&["Flink started", "Job is running"]);
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
}

/// Fails unless all lines about the one savepoint have its trigger id.
fn assert_joined(sidecar: &str, launch: &str) {
    let (_, id) = sidecar.split_once("trigger_id=").unwrap();
    let id: String = id.chars().take_while(char::is_ascii_hexdigit).collect();
    assert_eq!(id.len(), 32, "{id}");
    for (log, steps) in [
        (
            sidecar,
            &[
                "Savepoint intent stored",
                "Savepoint triggered",
                "Savepoint read back",
                "Restore point recorded",
                "Savepoint done",
            ][..],
        ),
        (launch, &["Flink is told to end"]),
    ] {
        for step in steps {
            let mut lines = log.lines().filter(|line| line.contains(step)).peekable();
            assert!(lines.peek().is_some(), "no {step}: {log}");
            for line in lines {
                assert!(
                    line.contains(&format!("trigger_id={id}"))
                        || line.contains(&format!("trigger_id=\"{id}\"")),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn a_sidecar_may_come_late_and_die_while_the_job_runs() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut launch = cluster.launch().go();
    launch.wait_for_log("Waiting for the supervisor");
    let mut sidecar = cluster.sidecar().go();
    work(&cluster, &mut sidecar);
    let job_manager = cluster.job_manager();

    sidecar.kill();
    launch.wait_for_log("The supervisor went away");
    let mut sidecar = cluster.sidecar().go();
    sidecar.wait_for_log("Job is running");
    assert_eq!(cluster.job_manager(), job_manager);

    // Only the launcher is told, as in a pod with a native sidecar.
    launch.term();
    assert_eq!(launch.exit_code(), 0);
    cluster.wait_gone();
    assert!(sidecar.is_running());
    assert_eq!(cluster.savepoints(), [cluster.newest_path()]);
    assert_joined(&sidecar.log(), &launch.log());

    // The container of Flink starts again under the same sidecar.
    let mut launch = cluster.launch().go();
    sidecar.wait_for_logs(&["Flink ended", "Flink started", "Job is running"]);
    assert_eq!(
        cluster.rest().restored().map(PathBuf::from),
        Some(cluster.newest_path())
    );
    cluster.rest().wait_running();

    // Both are told at the same moment, as in a pod with an ordinary sidecar.
    sidecar.term();
    launch.term();
    assert_eq!(launch.exit_code(), 0);
    assert_eq!(sidecar.exit_code(), 0);
    assert_eq!(cluster.savepoints().len(), 2);
    cluster.assert_exactly_once(200);
}

#[test]
fn a_sidecar_killed_in_the_middle_of_a_savepoint_is_replaced_by_one_that_finishes_it() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let mut launch = cluster.launch().go();
    let mut sidecar = cluster.sidecar().kill_at("before-intent").go();
    work(&cluster, &mut sidecar);
    launch.term();
    for next in [
        "after-intent",
        "after-post",
        "after-completion",
        "after-record",
    ] {
        assert_eq!(sidecar.exit_code(), -9);
        sidecar = cluster.sidecar().kill_at(next).go();
    }
    assert_eq!(sidecar.exit_code(), -9);
    assert!(launch.is_running());
    let mut sidecar = cluster.sidecar().go();
    assert_eq!(launch.exit_code(), 0, "{}", launch.log());
    let newest = cluster.newest().expect("the savepoint is recorded");
    assert_eq!(newest.kind, PointKind::Stop);
    assert_eq!(cluster.savepoints(), [cluster.newest_path()]);
    cluster.assert_exactly_once(200);
    sidecar.term();
    assert_eq!(sidecar.exit_code(), 0);
}
