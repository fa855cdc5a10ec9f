//! The file with the job's arguments: they come after those of the command, and a change of it is followed.

use std::fs;

use serde_json::json;

use super::{diff, end, record, supervised, working};
use crate::support::{Cluster, Process, Version, eventually, wait_until};

const NAME: &str = "arguments.txt";

fn with_file(version: Version, text: &str) -> Cluster {
    let cluster = supervised(version);
    fs::write(cluster.path(NAME), text).unwrap();
    let file = cluster.path(NAME);
    cluster.drey_env("DREY_ARGUMENTS_FILE", file.display())
}

fn write(cluster: &Cluster, text: &str) {
    fs::write(cluster.path(NAME), text).unwrap();
}

fn job_name(cluster: &Cluster) -> Option<String> {
    let all = cluster.rest().try_get("/jobs/overview")?;
    let jobs = all["jobs"].as_array()?;
    let runs = jobs.iter().find(|job| job["state"] == "RUNNING")?;
    Some(runs["name"].as_str()?.to_owned())
}

fn wait_for_name(cluster: &Cluster, name: &str) {
    eventually("the job of that name", || {
        job_name(cluster).filter(|found| found == name)
    });
}

/// A job whose configuration is known to be good, in a command without arguments for it.
fn by_script(cluster: &Cluster) -> Process {
    let mut words = cluster.start().script().flink();
    let at = words.iter().position(|word| word == "--out").unwrap();
    words.truncate(at);
    let mut drey = cluster.start().command(words).go();
    drey.wait_for_log("Job is running");
    wait_until("the good configuration kept", || {
        let text = fs::read_to_string(cluster.path("state/configuration.json"));
        text.is_ok_and(|text| text.contains("\"good\""))
    });
    drey
}

#[test]
fn changed_arguments_take_effect_by_one_restart_from_a_savepoint() {
    for version in [Version::v1(), Version::v2()] {
        let cluster = with_file(version, "");
        let out = cluster.path("out").display().to_string();
        let text = |name: &str| format!("# where\n--out\n{out}\n\n--rate\n1000\n--name\n{name}\n");
        write(&cluster, &text("the first, with 'quotes'"));
        let _task_manager = cluster.task_manager();
        let mut drey = by_script(&cluster);
        wait_for_name(&cluster, "the first, with 'quotes'");
        assert_eq!(diff(&cluster).0, Some(0));

        write(&cluster, &text("second"));
        drey.wait_for_log("Changed configuration works");
        wait_for_name(&cluster, "second");
        let log = drey.log();
        assert!(log.contains("changed=\"the job's arguments\""), "{log}");
        assert!(log.contains("what its scripts made the last time"), "{log}");
        write(&cluster, &format!("{}# a comment\n", text("second")));
        let history = cluster.entry().history;
        assert_eq!(history.len(), 1, "one stop: {history:?}");
        assert_eq!(diff(&cluster).0, Some(0));
        end(&cluster, drey);
    }
}

#[test]
fn arguments_that_the_job_refuses_are_rolled_back_and_missing_ones_start_nothing() {
    let cluster = with_file(Version::v2(), "--name\nfirst\n");
    // A main method that fails leaves a JobManager without a job.
    let cluster = cluster.drey_env("DREY_CONFIG_CHANGE_TIMEOUT", "20s");
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);

    write(&cluster, "--fromSavepoint\n/a\n");
    drey.wait_for_log("line 1: --fromSavepoint is for Flink");
    wait_until("what waits is noted", || {
        let pending = &record(&cluster)["pending"]["what"];
        let text = pending.as_str().unwrap_or_default();
        text.contains("refused: the file with the job's arguments, line 1")
    });
    write(&cluster, "--nobody-knows\nit\n--token\nhidden\n");
    drey.wait_for_log("Changed configuration is rolled back");
    wait_for_name(&cluster, "first");
    cluster.rest().wait_for_checkpoints(1);
    let (code, report) = diff(&cluster);
    assert_eq!(code, Some(2));
    let shown = json!([
        ["--name", "first"],
        ["--nobody-knows", "it", "--token", "******"]
    ]);
    assert_eq!(report["arguments"], shown);
    assert!(record(&cluster)["pending"].is_null(), "rolled back");
    write(&cluster, "--name\nsecond\n");
    drey.wait_for_log("Changed configuration works");
    wait_for_name(&cluster, "second");

    fs::remove_file(cluster.path(NAME)).unwrap();
    drey.wait_for_log("No such file");
    cluster.rest().wait_for_checkpoints(1);
    assert!(record(&cluster)["trial"].is_null());
    end(&cluster, drey);

    // The last good ones are known. Without them nothing can take their place.
    let mut drey = cluster.run();
    drey.wait_for_logs(&["Started with the last good configuration", "Job is running"]);
    wait_for_name(&cluster, "second");
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    let ignoring = ["--on-config-change", "ignore"];
    let mut drey = cluster.start().flags(&ignoring).go();
    assert_eq!(drey.exit_code(), 64);
    let log = drey.log();
    assert!(log.contains("arguments.txt: No such file"), "{log}");
    assert!(!log.contains("hidden"), "a secret");
}
