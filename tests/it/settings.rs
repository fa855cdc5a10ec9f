//! Drey's own settings file changes while Flink runs.

use std::fs;

use crate::changes::{KEY, end, wait_in_effect};
use crate::support::{Cluster, Version, eventually};

/// Writes the settings file as an editor does: anew, under the same name.
fn say(cluster: &Cluster, text: &str) {
    fs::write(cluster.path("drey.new"), text).unwrap();
    fs::rename(cluster.path("drey.new"), cluster.path("drey.yaml")).unwrap();
}

#[test]
fn what_can_change_at_once_does_and_what_is_wrong_changes_nothing() {
    let cluster = Cluster::new(Version::v2());
    let file = cluster.path("drey.yaml");
    let mut cluster = cluster.drey_env("DREY_CONFIG", file.display());
    say(&cluster, "on-config-change: ignore\n");
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    cluster.rest().wait_for_checkpoints(1);
    cluster.configure(KEY, 3);
    drey.wait_for_log("Configuration has changed, and is left for the next start");

    say(&cluster, "on-config-change: restart\n");
    drey.wait_for_log("Settings have changed live=\"on-config-change\"");
    wait_in_effect(&cluster, KEY, "3");
    drey.wait_for_log("Changed configuration works");
    let job_manager = cluster.job_manager();

    say(
        &cluster,
        "on-config-change: restart\nsavepoint-interval: 1s\nsavepoint-min-age: 0s\nshutdown-timeout: 50s\n",
    );
    drey.wait_for_log("needs_restart=\"shutdown-timeout\"");
    let before = cluster.entry().history.len();
    eventually("a periodic savepoint", || {
        (cluster.entry().history.len() > before).then_some(())
    });

    say(&cluster, "savepoint-interval: soon\nunheard-of: 1\n");
    drey.wait_for_log("Changed settings are refused: the present ones stay");
    let log = drey.log();
    let line = log.lines().find(|line| line.contains("are refused"));
    let line = line.unwrap();
    assert!(
        line.contains("drey.yaml:1") && line.contains("drey.yaml:2"),
        "{line}"
    );
    let before = cluster.newest_path();
    eventually("the next periodic savepoint", || {
        (cluster.newest_path() != before).then_some(())
    });
    assert_eq!(cluster.job_manager(), job_manager);
    end(&cluster, drey);
}
