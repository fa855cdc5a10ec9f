//! `kill -9` of drey between any two steps: the next `drey run` goes on with the same operation.

use std::fs;
use std::path::{Path, PathBuf};

use drey::domain::pointer::PointKind;

use crate::support::{Cluster, Process, Version};

const KILLED: i32 = -9;

/// What a drey logs that finishes the stop of another one.
const STARTED_AGAIN: &[&str] = &["Flink is started again", "Flink started", "Job is running"];

/// Lets a job run for a while.
fn work(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
}

/// How many stops a JobManager was asked for, by its log.
fn stops(log: &Path) -> usize {
    let log = fs::read_to_string(log).unwrap();
    log.matches("Triggering stop-with-savepoint").count()
}

/// All logs of JobManagers, oldest first.
fn job_manager_logs(cluster: &Cluster) -> Vec<PathBuf> {
    let entries = fs::read_dir(cluster.path("log")).unwrap();
    let mut logs: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with("-jm.log")))
        .collect();
    logs.sort();
    logs
}

fn all_stops(cluster: &Cluster) -> usize {
    job_manager_logs(cluster).iter().map(|log| stops(log)).sum()
}

/// Drey is killed at each step in turn while it stops the job; each successor comes one step further.
pub fn one_savepoint_by_six(version: Version) {
    let cluster = Cluster::new(version);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().kill_at("before-intent").go();
    work(&cluster, &mut drey);
    let job_manager = cluster.job_manager();
    drey.term();
    assert_eq!(drey.exit_code(), KILLED);
    assert_eq!(cluster.entry().intent, None);

    // The SIGTERM died with it: the next one supervises the job that runs on, until it is told to stop as well.
    let mut drey = cluster.start().kill_at("after-intent").go();
    drey.wait_for_log("Job is running");
    drey.term();
    assert_eq!(drey.exit_code(), KILLED);
    let intent = cluster.entry().intent.expect("the intent is stored");
    assert_eq!(all_stops(&cluster), 0);

    for point in ["after-post", "after-completion", "after-record"] {
        let mut drey = cluster.start().kill_at(point).go();
        assert_eq!(drey.exit_code(), KILLED);
        assert_eq!(cluster.job_manager(), job_manager, "killed {point}");
        if let Some(still) = cluster.entry().intent {
            assert_eq!(still.trigger, intent.trigger, "killed {point}");
        }
    }
    let savepoint = cluster.newest_path();
    assert_eq!(cluster.savepoints(), std::slice::from_ref(&savepoint));
    assert_eq!(all_stops(&cluster), 1);

    // Somebody wants Flink to run: it is ended and starts again from the savepoint.
    let mut drey = cluster.run();
    drey.wait_for_logs(STARTED_AGAIN);
    work(&cluster, &mut drey);
    assert_ne!(cluster.job_manager(), job_manager);
    assert_eq!(
        cluster.rest().restored().map(PathBuf::from),
        Some(savepoint)
    );
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    assert_eq!(cluster.savepoints().len(), 2);
    assert_eq!(all_stops(&cluster), 2);
    cluster.assert_exactly_once(300);
}

#[test]
fn killed_at_each_step_of_a_savepoint_in_turn_drey_takes_one_1_20() {
    one_savepoint_by_six(Version::v1());
}

#[test]
fn killed_at_each_step_of_a_savepoint_in_turn_drey_takes_one_2_x() {
    one_savepoint_by_six(Version::v2());
}

#[test]
fn killed_at_any_step_of_a_savepoint_the_next_drey_finishes_it_and_starts_from_it() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let points = [
        "after-intent",
        "after-post",
        "after-completion",
        "after-record",
    ];
    for (index, point) in points.into_iter().enumerate() {
        // Takes over the JobManager of the last round.
        let mut drey = cluster.start().kill_at(point).go();
        work(&cluster, &mut drey);
        drey.term();
        assert_eq!(drey.exit_code(), KILLED, "killed {point}");
        cluster.job_manager();

        let mut drey = cluster.run();
        drey.wait_for_logs(STARTED_AGAIN);
        work(&cluster, &mut drey);
        assert_eq!(cluster.savepoints().len(), index + 1, "killed {point}");
        assert_eq!(all_stops(&cluster), index + 1, "killed {point}");
        let newest = cluster.newest_path();
        assert_eq!(cluster.rest().restored().map(PathBuf::from), Some(newest));
        drey.kill();
    }
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn killed_at_any_step_of_a_start_the_next_drey_has_exactly_one_job_manager() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let points = [
        "before-run-stored",
        "before-pointer-write",
        "before-pointer-rename",
        "after-pointer-write",
        "after-run-stored",
        "before-spawn",
    ];
    for point in points {
        let mut drey = cluster.start().kill_at(point).go();
        assert_eq!(drey.exit_code(), KILLED, "killed {point}");
        assert_eq!(cluster.job_managers(), [0; 0], "killed {point}");
    }
    let mut drey = cluster.start().kill_at("after-spawn").go();
    assert_eq!(drey.exit_code(), KILLED);
    let job_manager = cluster.job_manager();

    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    assert_eq!(cluster.job_manager(), job_manager);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.wait_gone();
    cluster.assert_exactly_once(200);
}

#[test]
fn when_the_machine_is_lost_the_next_start_resumes_from_the_newest_checkpoint() {
    let cluster = Cluster::new(Version::v2());
    let task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    drey.kill();
    cluster.kill_job_managers();
    drop(task_manager);
    let checkpoint = cluster.newest_checkpoint();
    assert!(checkpoint.is_some());

    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    assert_eq!(cluster.rest().restored().map(PathBuf::from), checkpoint);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    assert_eq!(
        cluster.newest().map(|point| point.kind),
        Some(PointKind::Stop)
    );
    cluster.assert_exactly_once(200);
}
