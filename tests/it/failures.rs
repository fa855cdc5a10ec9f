//! Everything that goes wrong around a savepoint: the next start still resumes from the newest good restore point.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use drey::domain::job::JobStatus;
use drey::domain::pointer::PointKind;

use crate::mounts::Mounted;
use crate::support::{Cluster, Process, Version, wait_until};

const FALLBACK: &str = "No savepoint in time: the restore point is a retained checkpoint";

/// A cluster whose snapshots take longer while [`delay`] says so.
fn delayable(version: Version) -> Cluster {
    let cluster = Cluster::new(version);
    let file = cluster.path("delay").display().to_string();
    cluster.job_args(&["--rate", "1000", "--snapshot-delay-file", &file])
}

fn delay(cluster: &Cluster, milliseconds: u32) {
    fs::write(cluster.path("delay"), milliseconds.to_string()).unwrap();
}

fn no_delay(cluster: &Cluster) {
    fs::remove_file(cluster.path("delay")).unwrap();
}

/// Waits until the job runs and has completed two checkpoints.
fn settle(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
}

/// The pointer names a retained checkpoint that is there, and the log says why.
fn fell_back(cluster: &Cluster, drey: &Process) {
    let newest = cluster.newest().expect("a restore point is recorded");
    assert_eq!(newest.kind, PointKind::Checkpoint);
    assert!(cluster.checkpoints().contains(&cluster.newest_path()));
    assert!(drey.log().contains(FALLBACK), "{}", drey.log());
}

/// The next start resumes from the newest restore point and loses and repeats nothing.
fn resumes(cluster: &Cluster) {
    let newest = cluster.newest_path();
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    assert_eq!(cluster.rest().restored().as_deref(), newest.to_str());
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_job_manager_that_dies_during_its_savepoint_leaves_the_newest_checkpoint() {
    let cluster = delayable(Version::v1());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    delay(&cluster, 30_000);
    drey.term();
    drey.wait_for_log("Savepoint triggered");
    cluster.kill_job_managers();
    assert_eq!(drey.exit_code(), 137, "the JobManager's own code");
    fell_back(&cluster, &drey);
    no_delay(&cluster);
    resumes(&cluster);
}

#[test]
fn a_savepoint_is_asked_for_again_when_a_task_manager_died_during_it() {
    let cluster = delayable(Version::v2());
    let mut task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    delay(&cluster, 30_000);
    drey.term();
    drey.wait_for_log("Savepoint triggered");
    task_manager.kill();
    no_delay(&cluster);
    let _another = cluster.task_manager();
    assert_eq!(drey.exit_code(), 0);
    assert!(drey.log().contains("Savepoint failed"), "{}", drey.log());
    assert_eq!(cluster.newest().unwrap().kind, PointKind::Stop);
    assert_eq!(cluster.savepoints(), [cluster.newest_path()]);
    resumes(&cluster);
}

#[test]
fn without_a_savepoint_directory_nothing_is_started_and_the_option_is_named() {
    let cluster = Cluster::new(Version::v1()).without("state.savepoints.dir");
    let mut drey = cluster.run();
    assert_eq!(drey.exit_code(), 64);
    let log = drey.log();
    assert!(
        log.contains("execution.checkpointing.savepoint-dir") && log.contains("--savepoint-dir"),
        "{log}"
    );
    assert_eq!(cluster.try_pointer(), None);
}

/// A stop whose savepoint cannot be written anywhere is asked for once, and not again.
fn unwritable(version: Version, directory: &Path) {
    let url = format!("file://{}", directory.join("savepoints").display());
    let mut cluster = Cluster::new(version).set("state.savepoints.dir", url);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    drey.term();
    assert_eq!(drey.exit_code(), 143);
    fell_back(&cluster, &drey);
    assert_eq!(
        drey.log().matches("Savepoint triggered").count(),
        1,
        "{}",
        drey.log()
    );
    let url = format!("file://{}", cluster.path("savepoints").display());
    cluster.configure("state.savepoints.dir", url);
    resumes(&cluster);
}

#[test]
fn on_a_read_only_file_system_the_newest_checkpoint_has_to_do() {
    let mounted = Mounted::read_only();
    unwritable(Version::v1(), mounted.path());
}

#[test]
fn on_a_full_file_system_the_newest_checkpoint_has_to_do() {
    let mounted = Mounted::full();
    unwritable(Version::v2(), mounted.path());
}

#[test]
fn a_savepoint_slower_than_the_deadline_is_not_waited_for() {
    let cluster = delayable(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().flags(&["--shutdown-timeout", "10s"]).go();
    settle(&cluster, &mut drey);
    delay(&cluster, 60_000);
    let since = Instant::now();
    drey.term();
    let code = drey.exit_code();
    assert_ne!(code, 0);
    let took = since.elapsed();
    assert!(
        took < Duration::from_secs(12),
        "the deadline is 10 s: {took:?}"
    );
    fell_back(&cluster, &drey);
    no_delay(&cluster);
    resumes(&cluster);
}

#[test]
fn a_stop_that_completes_after_everybody_has_died_is_found_by_the_next_start() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().kill_at("after-post").go();
    settle(&cluster, &mut drey);
    drey.term();
    assert_eq!(drey.exit_code(), -9);
    wait_until("the stop's end", || {
        cluster.rest().job_state().as_deref() == Some("FINISHED")
    });
    cluster.kill_job_managers();
    assert_eq!(cluster.newest(), None, "nobody has recorded it");
    let savepoint = cluster.savepoints().pop().unwrap();

    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    assert_eq!(cluster.newest_path(), savepoint);
    assert_eq!(cluster.newest().unwrap().kind, PointKind::Stop);
    assert_eq!(cluster.rest().restored().as_deref(), savepoint.to_str());
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_stop_that_completes_after_its_deadline_while_flink_ends_is_recorded() {
    let cluster = delayable(Version::v1());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().flags(&["--shutdown-timeout", "10s"]).go();
    settle(&cluster, &mut drey);
    // 5 s are kept for Flink's end, which a JobManager puts off as long as a savepoint is under way.
    delay(&cluster, 6_500);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    assert!(drey.log().contains(FALLBACK), "{}", drey.log());
    assert_eq!(cluster.newest().unwrap().kind, PointKind::Stop);
    assert_eq!(cluster.savepoints(), [cluster.newest_path()]);
    no_delay(&cluster);
    resumes(&cluster);
}

#[test]
fn a_job_that_finishes_at_that_very_moment_is_either_stopped_or_finished() {
    const COUNT: &str = "3000";
    let cluster = Cluster::new(Version::v2()).job_args(&["--rate", "1000", "--count", COUNT]);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    wait_until("the end of a task", || {
        let jobs = cluster.rest().try_get("/jobs/overview");
        jobs.is_some_and(|jobs| jobs["jobs"][0]["tasks"]["finished"].as_u64() > Some(0))
    });
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    assert!(!drey.log().contains("ERROR"), "{}", drey.log());
    match (cluster.entry().ended, cluster.newest()) {
        (Some(ended), None) => assert_eq!(ended.status, JobStatus::Finished),
        (None, Some(point)) => {
            assert_eq!(point.kind, PointKind::Stop);
            let mut drey = cluster.run();
            assert_eq!(drey.exit_code(), 0, "it finishes by itself");
            let ended = cluster.entry().ended.map(|ended| ended.status);
            assert_eq!(ended, Some(JobStatus::Finished));
        }
        other => panic!("neither stopped nor finished: {other:?}"),
    }
    cluster.check(&["--count", COUNT]);
}

/// Flink 2.3 leaves its JobManager there, without a job; older ones end it.
#[test]
fn an_application_that_fails_before_it_has_a_job_ends_as_one_whose_job_has_failed() {
    let cluster = Cluster::new(Version::v2()).job_args(&["--rate", "nonsense"]);
    let mut drey = cluster.run();
    assert_eq!(drey.exit_code(), 163);
    let log = drey.log();
    assert!(
        log.contains("The application has failed before it had a job: "),
        "{log}"
    );
    assert!(cluster.entry().ended.is_none(), "{:?}", cluster.entry());
}

#[test]
fn a_job_in_a_restart_loop_resumes_from_its_newest_checkpoint() {
    let mut cluster = Cluster::new(Version::v1())
        .set("restart-strategy.type", "fixed-delay")
        .set("restart-strategy.fixed-delay.attempts", 1000)
        .set("restart-strategy.fixed-delay.delay", "10 min")
        .job_args(&["--rate", "1000", "--fail-every", "2000"]);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().flags(&["--shutdown-timeout", "20s"]).go();
    drey.wait_for_log("Job is running");
    wait_until("the first failure", || {
        cluster.rest().job_state().as_deref() == Some("RESTARTING")
    });
    let since = Instant::now();
    drey.term();
    assert_ne!(drey.exit_code(), 0);
    let took = since.elapsed();
    assert!(
        took < Duration::from_secs(14),
        "a quarter of 20 s is patience: {took:?}"
    );
    assert!(drey.log().contains("the job keeps restarting"));
    fell_back(&cluster, &drey);
    cluster = cluster.job_args(&["--rate", "1000"]);
    resumes(&cluster);
}

#[test]
fn with_a_pointer_that_cannot_be_written_no_savepoint_is_asked_for() {
    let mounted = Mounted::small();
    let pointer = mounted.path().join("pointer.json");
    let cluster = Cluster::new(Version::v1()).drey_env("DREY_POINTER", pointer.display());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().flags(&["--shutdown-timeout", "10s"]).go();
    settle(&cluster, &mut drey);
    let before = fs::read(&pointer).unwrap();
    let filling = mounted.path().join("filling");
    let mut file = File::create(&filling).unwrap();
    while file.write(&[0; 512]).is_ok() {}
    drop(file);
    drey.term();
    assert_eq!(drey.exit_code(), 143);
    assert_eq!(fs::read(&pointer).unwrap(), before);
    let log = drey.log();
    assert!(log.contains("Pointer could not be written"), "{log}");
    assert!(!log.contains("The time is up"), "{log}");
    assert!(!log.contains("Savepoint triggered"), "{log}");
    assert_eq!(cluster.savepoints(), Vec::<std::path::PathBuf>::new());

    fs::remove_file(&filling).unwrap();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    let newest = drey::pointer_file::peek(&pointer).unwrap().unwrap();
    let parent = newest.jobs["application"].run.clone().unwrap().parent;
    assert!(parent.unwrap().path.contains("/chk-"));
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_damaged_pointer_is_reported_and_left_as_it_is() {
    let cluster = Cluster::new(Version::v2());
    let pointer = cluster.path("state/pointer.json");
    fs::create_dir(cluster.path("state")).unwrap();
    let damaged = r#"{"format": 1, "cluster"#;
    fs::write(&pointer, damaged).unwrap();
    let mut drey = cluster.run();
    assert_eq!(drey.exit_code(), 1);
    assert!(drey.log().contains("damaged"), "{}", drey.log());
    let commands: [&[&str]; 4] = [
        &["pointer", "show"],
        &["pointer", "clear"],
        &["restore"],
        &["restore", "--dry-run"],
    ];
    for command in commands {
        let output = cluster.drey(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("drey pointer set"), "{command:?}: {said}");
    }
    assert_eq!(fs::read_to_string(&pointer).unwrap(), damaged);
}
