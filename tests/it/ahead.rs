//! Entrypoint and scripts run while a start still waits for its order; Flink itself does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Cluster, Version, eventually, wait_until};

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

fn words(cluster: &Cluster) -> Vec<String> {
    let line = fs::read(format!("/proc/{}/cmdline", cluster.job_manager())).unwrap();
    let words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    words.map(|word| word.into_owned()).collect()
}

#[test]
fn a_changed_configuration_is_started_without_scripts_unless_they_would_make_something_else_of_it()
{
    let mut cluster = Cluster::new(Version::v2()).drey_env("DREY_ON_CONFIG_CHANGE", "restart");
    let _task_manager = cluster.task_manager();
    let mut drey = cluster
        .start()
        .script()
        .flag("--allow-non-restored-state")
        .go();
    drey.wait_for_log("Job is running");
    eventually("the good configuration kept", || {
        let text = fs::read_to_string(cluster.path("state/configuration.json")).ok()?;
        text.contains("\"good\"").then_some(())
    });

    let changes = [
        ("web.history", "3", 1),
        ("env.java.opts.jobmanager", "-Dchanged=yes", 1),
        ("web.history", "4", 2),
    ];
    for (number, (key, value, quick)) in changes.into_iter().enumerate() {
        cluster.configure(key, value);
        let said = |text: &str| drey.log().matches(text).count();
        wait_until("the change applied", || {
            said("Changed configuration works") == number + 1
        });
        assert_eq!(said("what its scripts made the last time"), quick);
        let words = words(&cluster);
        let paths = words.iter().filter(|word| *word == "--fromSavepoint");
        assert_eq!(paths.count(), 1, "{words:?}");
    }
    let config = cluster.rest().get("/jobmanager/config");
    let mut entries = config.as_array().unwrap().iter();
    let entry = entries.find(|entry| entry["key"] == "web.history");
    assert_eq!(entry.unwrap()["value"], "4");
    assert!(words(&cluster).contains(&"-Dchanged=yes".to_owned()));
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}
