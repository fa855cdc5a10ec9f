//! A change of Flink's configuration while the job runs: applied by one restart, refused, or taken back, and nothing is lost
//! or doubled.

use std::fs;

use serde_json::Value;

use crate::support::{Cluster, Process, Version, eventually};

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
    let cluster = supervised(Version::v1()).drey_env("DREY_CONFIG_CHANGE_TIMEOUT", "10s");
    let mut cluster = cluster.set("execution.checkpointing.timeout", "10 min");
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);

    // More than there are slots.
    cluster.configure("parallelism.default", 64);
    drey.wait_for_log("Changed configuration is rolled back");
    eventually("the last good parallelism", || {
        (in_effect(&cluster, "parallelism.default").as_deref() != Some("64")).then_some(())
    });
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    drey.term();
    assert_eq!(drey.exit_code(), 0);

    let mut drey = cluster.run();
    drey.wait_for_log("Started with the last good configuration");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    end(&cluster, drey);
}
