//! A job graph with other operators than the savepoint: what is left behind is named while the old job still runs.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Cluster, Version};

/// `drey job preflight` for a new job with these uids.
fn preflight(cluster: &Cluster, savepoint: &str, uids: &[&str], more: &[&str]) -> Output {
    let file = cluster.path("uids.txt");
    fs::write(&file, uids.join("\n")).unwrap();
    let file = file.display().to_string();
    let args = [
        "job",
        "preflight",
        "--savepoint",
        savepoint,
        "--uids",
        &file,
    ];
    cluster.drey(&[&args, more].concat())
}

fn left_behind(output: &Output) -> Value {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    said["preflight"]["left-behind"].clone()
}

fn named_before_the_old_job_is_stopped(version: Version) {
    let stores_names = version.at_least(2, 0);
    let cluster = Cluster::new(version);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    let savepoint = cluster.drey_ok(&["savepoint"]);
    let savepoint = savepoint.trim();

    let same = preflight(&cluster, savepoint, &["numbers", "count", "files"], &[]);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let said = String::from_utf8_lossy(&same.stdout);
    assert!(said.contains("All state is taken over"), "{said}");

    let changed = ["numbers", "count", "other-files"];
    let refused = preflight(&cluster, savepoint, &changed, &[]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("LEFT BEHIND"), "{said}");
    assert!(said.contains("starts empty   other-files"), "{said}");
    let json = preflight(&cluster, savepoint, &changed, &["--output", "json"]);
    let left = left_behind(&json);
    let operators = left.as_array().unwrap();
    assert_eq!(
        operators.len(),
        2,
        "the sink's writer and committer: {left}"
    );
    let named = operators
        .iter()
        .all(|operator| operator["name"].is_string());
    assert_eq!(named, stores_names, "{left}");
    let allowed = ["--allow-non-restored-state", "--output", "json"];
    let allowed = preflight(&cluster, savepoint, &changed, &allowed);
    assert_eq!(allowed.status.code(), Some(0), "{allowed:?}");
    assert_eq!(left_behind(&allowed), left, "it is told all the same");
    let nothing = preflight(&cluster, savepoint, &["numbers"], &["--output", "json"]);
    assert_ne!(left_behind(&nothing), json!([]));

    // All of this is about a job that runs on.
    cluster.rest().wait_running();
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(200);
}

#[test]
fn what_a_new_job_leaves_behind_is_named_before_the_old_one_is_stopped_1_20() {
    named_before_the_old_job_is_stopped(Version::v1());
}

#[test]
fn what_a_new_job_leaves_behind_is_named_before_the_old_one_is_stopped_2_x() {
    named_before_the_old_job_is_stopped(Version::v2());
}
