//! The versions of Flink that only `make test-matrix` tests, through everything that differs between versions.

use std::path::PathBuf;

use drey::domain::pointer::PointKind;
use rustix::process::Signal;

use crate::kills::one_savepoint_by_six;
use crate::support::{Cluster, Process, Version, signal};

/// Lets a job run for a while.
fn work(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
}

/// A plain savepoint, SIGTERM, a start from the savepoint, the death of the JobManager, a start from the newest
/// checkpoint, and drey killed once Flink has the request for the last savepoint.
fn story(version: &str) {
    let cluster = Cluster::new(Version::named(version));
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().script().go();
    work(&cluster, &mut drey);
    let plain = cluster.drey_ok(&["savepoint"]);
    assert_eq!(
        cluster.newest().map(|point| point.path),
        Some(plain.trim_end().to_owned())
    );
    drey.term();
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());
    cluster.wait_gone();
    assert_eq!(
        cluster.newest().map(|point| point.kind),
        Some(PointKind::Stop)
    );
    let savepoint = cluster.newest_path();

    let mut drey = cluster.start().flag("--restart").go();
    work(&cluster, &mut drey);
    assert_eq!(
        cluster.rest().restored().map(PathBuf::from),
        Some(savepoint)
    );
    signal(cluster.job_manager(), Signal::KILL);
    cluster.wait_gone();
    let checkpoint = cluster.newest_checkpoint();
    drey.wait_for_logs(&["Flink ended", "Flink started", "Job is running"]);
    assert_eq!(cluster.rest().restored().map(PathBuf::from), checkpoint);
    cluster.rest().wait_running();
    drey.kill();

    let mut drey = cluster.start().kill_at("after-post").go();
    drey.wait_for_log("Job is running");
    drey.term();
    assert_eq!(drey.exit_code(), -9);
    let mut drey = cluster.run();
    drey.wait_for_logs(&["Flink is started again", "Flink started", "Job is running"]);
    assert_eq!(cluster.savepoints().len(), 3, "one more");
    assert_eq!(
        cluster.rest().restored().map(PathBuf::from),
        Some(cluster.newest_path())
    );
    work(&cluster, &mut drey);
    drey.term();
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());
    cluster.assert_exactly_once(500);
}

macro_rules! matrix {
    ($($name:ident: $version:literal),+) => {
        $(
            #[test]
            fn $name() {
                story($version);
            }
        )+

        #[test]
        fn every_pinned_version_is_tested() {
            let tested: Vec<Version> = [$($version),+].map(Version::named).into();
            assert_eq!(Version::matrix(), tested, "FLINK_MATRIX in tests/versions.env");
        }
    };
}

matrix! {
    nothing_is_lost_or_repeated_1_13: "1.13.6",
    nothing_is_lost_or_repeated_1_15: "1.15.4",
    nothing_is_lost_or_repeated_1_17: "1.17.2",
    nothing_is_lost_or_repeated_1_18: "1.18.1",
    nothing_is_lost_or_repeated_1_19: "1.19.3",
    nothing_is_lost_or_repeated_2_0: "2.0.2"
}

/// Before 1.15 Flink chooses the trigger id, and its answer may be lost.
#[test]
fn killed_at_each_step_of_a_savepoint_in_turn_drey_takes_one_1_13() {
    one_savepoint_by_six(Version::named("1.13.6"));
}
