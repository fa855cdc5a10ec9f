//! A change of Flink's configuration while the job runs: applied by one restart, refused, or taken back, and nothing is lost
//! or doubled.

use std::fs;

use serde_json::Value;

use crate::rescale::{adaptive, parallelism};
use crate::support::{Cluster, Process, Version, eventually, wait_until};

mod arguments;
mod secret;
mod stuck;

const KILLED: i32 = -9;

/// A key that Flink shows and that changes nothing.
pub const KEY: &str = "web.history";

fn supervised(version: Version) -> Cluster {
    Cluster::new(version).drey_env("DREY_ON_CONFIG_CHANGE", "restart")
}

/// What Flink itself says that it runs with.
fn in_effect(cluster: &Cluster, key: &str) -> Option<String> {
    let all = cluster.rest().try_get("/jobmanager/config")?;
    let found = all.as_array()?.iter().find(|entry| entry["key"] == key)?;
    Some(found["value"].as_str()?.to_owned())
}

pub fn wait_in_effect(cluster: &Cluster, key: &str, value: &str) {
    eventually("the change in effect", || {
        (in_effect(cluster, key).as_deref() == Some(value)).then_some(())
    });
}

pub fn diff(cluster: &Cluster) -> (Option<i32>, Value) {
    let output = cluster.drey(&["diff", "--output", "json"]);
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).unwrap(),
    )
}

/// A job whose configuration is known to be good.
pub fn working(cluster: &Cluster) -> Process {
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    eventually("the good configuration kept", || {
        let text = fs::read_to_string(cluster.path("state/configuration.json")).ok()?;
        text.contains("\"good\"").then_some(())
    });
    drey
}

pub fn end(cluster: &Cluster, mut drey: Process) {
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_changed_configuration_takes_effect_by_one_restart_from_a_savepoint() {
    let mut cluster = supervised(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);
    let run = cluster.entry().run.unwrap().id;

    let text = fs::read_to_string(cluster.configuration_file()).unwrap();
    fs::write(cluster.configuration_file(), format!("# a comment\n{text}")).unwrap();
    cluster.configure("s3.secret-key", "hidden");
    cluster.configure(KEY, 3);

    wait_in_effect(&cluster, KEY, "3");
    drey.wait_for_log("Changed configuration works");
    let entry = cluster.entry();
    let now = entry.run.unwrap();
    assert_ne!(now.id, run);
    assert_eq!(entry.history.len(), 1, "one stop: {:?}", entry.history);
    assert_eq!(entry.history[0].reason.to_string(), "config-change");
    let restored = cluster.rest().restored().unwrap();
    assert!(entry.history[0].path.ends_with(&restored), "{restored}");
    let (code, report) = diff(&cluster);
    assert_eq!((code, &report["wanted"]), (Some(0), &report["running"]));
    assert!(!drey.log().contains("hidden"), "a secret");
    end(&cluster, drey);
}

#[test]
fn another_state_backend_starts_from_a_savepoint_that_it_can_read() {
    let mut cluster = supervised(Version::v2()).set("state.backend.type", "hashmap");
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);
    cluster.configure("state.backend.type", "rocksdb");
    drey.wait_for_log("Changed configuration works");
    assert_eq!(
        in_effect(&cluster, "state.backend.type").as_deref(),
        Some("rocksdb")
    );
    assert_eq!(cluster.entry().history.len(), 1);
    end(&cluster, drey);
}

#[test]
fn what_would_not_work_is_refused_and_the_job_is_never_stopped() {
    let mut cluster = supervised(Version::v1());
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);
    let (job_manager, job) = (cluster.job_manager(), cluster.rest().job());

    cluster.configure("taskmanager.memory.process.size", "plenty");
    drey.wait_for_log("taskmanager.memory.process.size is not a size");
    let (code, report) = diff(&cluster);
    assert_eq!(code, Some(2));
    assert!(
        report["refused"][0]
            .as_str()
            .unwrap()
            .contains("is not a size"),
        "{report}"
    );
    fs::write(cluster.configuration_file(), "a: [\n").unwrap();
    drey.wait_for_log("config.yaml, line");

    cluster.rest().wait_for_checkpoints(1);
    assert_eq!(
        (cluster.job_manager(), cluster.rest().job()),
        (job_manager, job)
    );
    assert_eq!(cluster.entry().history.len(), 0, "not even asked to stop");
    end(&cluster, drey);
}

#[test]
fn a_configuration_that_kills_the_jobmanager_is_rolled_back_until_it_changes_again() {
    let mut cluster = supervised(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);

    cluster.configure("blob.storage.directory", "/proc/nowhere");
    drey.wait_for_log("Changed configuration is rolled back");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    assert_eq!(in_effect(&cluster, "blob.storage.directory"), None);
    let (code, report) = diff(&cluster);
    assert_eq!(code, Some(2));
    assert!(
        report["rolled-back"]
            .as_str()
            .unwrap()
            .contains("has ended"),
        "{report}"
    );
    assert_eq!(report["keys"]["blob.storage.directory"][1], "/proc/nowhere");

    let mut cluster = cluster.without("blob.storage.directory");
    cluster.configure(KEY, 4);
    wait_in_effect(&cluster, KEY, "4");
    drey.wait_for_log("Changed configuration works");
    assert_eq!(drey.log().matches("is rolled back").count(), 1);
    end(&cluster, drey);
}

#[test]
fn a_job_that_does_not_come_up_in_time_gets_the_last_good_configuration_and_a_later_start_as_well()
{
    // A job that never ran has nothing to save, so the time that its Flink would have for that is not waited out.
    let cluster = supervised(Version::v1())
        .drey_env("DREY_CONFIG_CHANGE_TIMEOUT", "10s")
        .drey_env("DREY_SHUTDOWN_TIMEOUT", "30m");
    let mut cluster = cluster.set("execution.checkpointing.timeout", "10 min");
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);

    // More than there are slots.
    cluster.configure("parallelism.default", 64);
    drey.wait_for_logs(&[
        "Changed configuration is rolled back",
        "Started with the last good configuration",
    ]);
    cluster.rest().wait_running();
    assert_ne!(in_effect(&cluster, "parallelism.default").unwrap(), "64");
    cluster.rest().wait_for_checkpoints(1);
    drey.term();
    assert_eq!(drey.exit_code(), 0);

    let mut drey = cluster.run();
    drey.wait_for_log("Started with the last good configuration");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    end(&cluster, drey);
}

/// What is stored of configurations.
fn record(cluster: &Cluster) -> Value {
    let text = fs::read_to_string(cluster.path("state/configuration.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// One drey after the other is killed at the next point; the last one goes on.
fn one_by_one(cluster: &Cluster, points: &[&str]) -> Process {
    for point in points {
        let mut drey = cluster.start().kill_at(point).go();
        assert_eq!(drey.exit_code(), KILLED, "killed {point}");
    }
    cluster.run()
}

#[test]
fn killed_at_each_step_of_a_change_drey_applies_it_once() {
    let mut cluster = supervised(Version::v2());
    let _task_manager = cluster.task_manager();
    working(&cluster).kill();
    cluster.configure(KEY, 3);
    let points = [
        "after-change-stored",
        "before-intent",
        "after-intent",
        "after-post",
        "after-completion",
        "after-record",
        "before-run-stored",
        "after-run-stored",
        "before-spawn",
        "after-spawn",
        "before-change-confirmed",
        "after-change-confirmed",
    ];
    let mut drey = one_by_one(&cluster, &points);
    drey.wait_for_log("Job is running");
    cluster.rest().wait_for_checkpoints(1);
    assert_eq!(in_effect(&cluster, KEY).as_deref(), Some("3"));
    assert_eq!(diff(&cluster).0, Some(0));
    assert_eq!(record(&cluster)["trial"], Value::Null);
    let history = cluster.entry().history;
    assert_eq!(history.len(), 1, "one stop: {history:?}");
    assert_eq!(cluster.savepoints().len(), 1);
    end(&cluster, drey);
}

#[test]
fn killed_during_a_rollback_drey_rolls_back() {
    let mut cluster = supervised(Version::v1()).drey_env("DREY_CONFIG_CHANGE_TIMEOUT", "10s");
    let _task_manager = cluster.task_manager();
    working(&cluster).kill();
    cluster.configure("parallelism.default", 64);
    let mut drey = one_by_one(&cluster, &["after-rollback-stored", "before-run-stored"]);
    drey.wait_for_log("Started with the last good configuration");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    assert_ne!(in_effect(&cluster, "parallelism.default").unwrap(), "64");
    end(&cluster, drey);
}

#[test]
fn killed_at_each_step_of_a_change_in_place_drey_rescales_without_a_restart() {
    let mut cluster = adaptive(Version::v2()).drey_env("DREY_ON_CONFIG_CHANGE", "restart");
    let _task_manager = cluster.task_manager();
    working(&cluster).kill();
    let before = (cluster.rest().job(), cluster.job_manager());
    cluster.configure("parallelism.default", 4);
    let mut drey = one_by_one(&cluster, &["after-rescale-asked", "before-rescale-stored"]);
    drey.wait_for_log("Changed configuration works");
    assert_eq!(parallelism(cluster.rest()), [4, 4]);
    assert_eq!((cluster.rest().job(), cluster.job_manager()), before);
    assert_eq!(cluster.entry().history.len(), 0, "no savepoint");
    end(&cluster, drey);
}

#[test]
fn a_savepoint_that_fails_leaves_the_job_as_it_was_and_the_change_is_tried_again() {
    let mut cluster = supervised(Version::v2()).drey_env("DREY_SAVEPOINT_TIMEOUT", "5s");
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);
    let before = (cluster.rest().job(), cluster.job_manager());
    // No directory can be made below a file.
    fs::write(cluster.path("savepoints"), "").unwrap();

    cluster.configure(KEY, 3);
    drey.wait_for_log("Configuration was not applied: the job goes on as it was");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    assert_eq!((cluster.rest().job(), cluster.job_manager()), before);
    assert_eq!(record(&cluster)["trial"], Value::Null);
    assert!(drey.log().contains("Savepoint failed"), "{}", drey.log());

    fs::remove_file(cluster.path("savepoints")).unwrap();
    drey.wait_for_log("Changed configuration works");
    assert_eq!(in_effect(&cluster, KEY).as_deref(), Some("3"));
    assert_eq!(cluster.savepoints().len(), 1);
    end(&cluster, drey);
}

#[test]
fn changes_at_once_and_one_during_the_savepoint_are_one_restart_with_the_newest() {
    let cluster = supervised(Version::v2());
    let file = cluster.path("delay");
    let delay = file.display().to_string();
    let mut cluster =
        cluster.job_args(&["--rate", "1000", "--snapshot-delay-file", delay.as_str()]);
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);

    fs::write(&file, "5000").unwrap();
    cluster.configure(KEY, 3);
    cluster.configure("web.timeout", 20_000);
    drey.wait_for_log("Savepoint triggered");
    cluster.configure(KEY, 4);
    fs::remove_file(&file).unwrap();
    drey.wait_for_log("Changed configuration works");
    assert_eq!(in_effect(&cluster, KEY).as_deref(), Some("4"));
    assert_eq!(in_effect(&cluster, "web.timeout").as_deref(), Some("20000"));
    let history = cluster.entry().history;
    assert_eq!(history.len(), 1, "one stop: {history:?}");

    // Taken back before the job was stopped for it.
    fs::write(&file, "5000").unwrap();
    cluster.configure(KEY, 5);
    drey.wait_for_logs(&["Changed configuration works", "Savepoint triggered"]);
    cluster.configure(KEY, 4);
    fs::remove_file(&file).unwrap();
    wait_until("nothing is tried any more", || {
        cluster.entry().history.len() == 2 && record(&cluster)["trial"].is_null()
    });
    cluster.rest().wait_running();
    assert_eq!(in_effect(&cluster, KEY).as_deref(), Some("4"));
    cluster.rest().wait_for_checkpoints(1);
    assert_eq!(cluster.entry().history.len(), 2, "and no third stop");
    assert!(!drey.log().contains("is rolled back"), "{}", drey.log());
    end(&cluster, drey);
}
