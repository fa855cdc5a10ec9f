//! Savepoints are kept, deleted and taken by the clock.

use std::fs;
use std::path::{Path, PathBuf};

use drey::domain::pointer::TriggerReason;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Cluster, Process, Version, signal, wait_until};

const KILLED: i32 = -9;

fn work(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
}

/// A savepoint by a person's hand.
fn savepoint(cluster: &Cluster) -> PathBuf {
    let path = cluster.drey_ok(&["savepoint"]);
    PathBuf::from(crate::support::plain_path(path.trim()))
}

fn json_of(cluster: &Cluster, args: &[&str]) -> Value {
    serde_json::from_str(&cluster.drey_ok(args)).unwrap()
}

/// A savepoint that Drey does not hear of, in a directory as it would have made it.
fn unrecorded(cluster: &Cluster) -> String {
    let run = cluster.entry().run.expect("a run");
    let directory = format!("{}/{:032x}", run.savepoint_dir.unwrap(), 7);
    let job = cluster.rest().job();
    let body = json!({ "target-directory": directory, "cancel-job": false });
    let answer = cluster
        .rest()
        .post(&format!("/jobs/{job}/savepoints"), &body);
    let trigger = answer["request-id"].as_str().unwrap();
    cluster
        .rest()
        .savepoint(&format!("/jobs/{job}/savepoints/{trigger}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn shown_in_the_history(cluster: &Cluster) {
    let history = json_of(cluster, &["history", "--output", "json"]);
    let job = &history["jobs"]["application"];
    assert_eq!(job["restore-points"].as_array().unwrap().len(), 2);
    assert_eq!(job["restore-points"][0]["reason"], "manual");
    assert!(job["restore-points"][0]["duration-ms"].as_i64().unwrap() > 0);
    let text = cluster.drey_ok(&["history"]);
    assert!(
        text.contains("start of run") && text.contains("from empty state"),
        "{text}"
    );
}

/// One of this run, and one of a run that nobody knows.
fn find_unrecorded(cluster: &Cluster, newest: &Path) {
    let lost = unrecorded(cluster);
    let stranger = cluster.path(&format!(
        "savepoints/default/00000000000f/{:032x}/savepoint-1",
        1
    ));
    copy(newest, &stranger);
    let dry = json_of(cluster, &["gc", "--dry-run", "--output", "json"]);
    assert_eq!(dry["orphans"].as_array().unwrap().len(), 2);
    assert_eq!(cluster.entry().history.len(), 2, "nothing is done");
    let text = cluster.drey_ok(&["gc"]);
    assert!(text.contains("adopted into the history"), "{text}");
    assert!(
        text.contains("of a run that the pointer does not remember"),
        "{text}"
    );
    let entry = cluster.entry();
    let plain = crate::support::plain_path;
    let adopted = entry
        .history
        .iter()
        .find(|point| plain(&point.path) == plain(&lost));
    assert!(adopted.is_some_and(|point| point.superseded), "{entry:?}");
    assert_eq!(
        cluster.newest_path(),
        newest,
        "what nobody recorded is never chosen"
    );
    assert!(stranger.join("_metadata").exists());
}

#[test]
fn old_savepoints_go_and_those_that_nobody_recorded_are_found() {
    let cluster = Cluster::new(Version::v2()).drey_env("DREY_HISTORY", 2);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    let made: Vec<PathBuf> = (0..4).map(|_| savepoint(&cluster)).collect();
    wait_until("the older two are deleted", || {
        cluster.entry().disposals.is_empty() && cluster.savepoints().len() == 2
    });
    assert!(made[2].exists() && made[3].exists());
    assert!(
        !made[0].parent().unwrap().exists(),
        "its own directory goes with it"
    );

    shown_in_the_history(&cluster);
    find_unrecorded(&cluster, &made[3]);
    // By signal: the supervisor takes it, and Flink does not hear of it.
    signal(drey.pid(), Signal::USR1);
    drey.wait_for_log("Savepoint asked for by SIGUSR1");
    wait_until("a newer savepoint", || cluster.newest_path() != made[3]);

    let checkpoint = cluster.drey_ok(&["checkpoint"]);
    assert!(checkpoint.trim().parse::<u64>().unwrap() > 0);
    drey.term();
    assert_eq!(drey.exit_code(), 0);

    // The next start resumes from the stop's savepoint, and the history says so.
    let stop = cluster.newest_path();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    let text = cluster.drey_ok(&["history"]);
    assert!(
        text.contains("resumed by") && text.contains(&format!("from file:{}", stop.display())),
        "{text}"
    );
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_deletion_that_was_killed_is_finished_by_whoever_comes_next() {
    let cluster = Cluster::new(Version::v1()).drey_env("DREY_HISTORY", 1);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.start().kill_at("after-retention-stored").go();
    work(&cluster, &mut drey);
    let first = savepoint(&cluster);
    let second = cluster.drey_background(&["savepoint"]);
    assert_eq!(drey.exit_code(), KILLED);
    drop(second);
    let intent = cluster.entry().disposals;
    assert_eq!(intent.len(), 1, "stored before the first file goes");
    assert!(first.join("_metadata").exists());
    for point in ["before-disposal", "amid-disposal", "after-disposal"] {
        let mut drey = cluster.start().kill_at(point).go();
        assert_eq!(drey.exit_code(), KILLED, "killed {point}");
        assert_eq!(cluster.entry().disposals, intent, "killed {point}");
    }
    let mut drey = cluster.run();
    drey.wait_for_log("Old savepoint deleted");
    assert!(!first.exists());
    let kept = cluster.newest_path();
    assert_eq!(cluster.savepoints(), std::slice::from_ref(&kept));
    cluster.rest().wait_running();
    drey.term();
    assert_eq!(drey.exit_code(), 0);

    // Nothing runs: the files go one by one, and what is left of an interrupted deletion is no savepoint.
    assert_eq!(cluster.savepoints().len(), 2, "the stop's is the newest");
    let mut command = cluster.drey_kill("amid-disposal", &["gc"]);
    assert_eq!(command.exit_code(), KILLED);
    assert!(kept.exists() && !kept.join("_metadata").exists());
    let text = cluster.drey_ok(&["gc"]);
    assert!(!kept.exists(), "{text}");
    assert_eq!(cluster.savepoints(), [cluster.newest_path()]);
    assert!(cluster.entry().disposals.is_empty());
    cluster.assert_exactly_once(500);
}

#[test]
fn two_clusters_that_share_a_directory_delete_only_their_own() {
    let cluster = Cluster::new(Version::v2()).drey_env("DREY_HISTORY", 1);
    let _task_manager = cluster.task_manager();
    let mut all = Vec::new();
    for id in ["one", "two"] {
        let cluster_id = ["--cluster-id", id];
        let mut drey = cluster
            .start()
            .flags(&cluster_id)
            .env("DREY_POINTER", &format!("state/{id}.json"))
            .flags(&["--savepoint-interval", "1s"])
            .go();
        work(&cluster, &mut drey);
        drey.wait_for_log("Old savepoint deleted");
        drey.term();
        assert_eq!(drey.exit_code(), 0);
        all.push(pointer(&cluster, id).savepoint_path.unwrap());
        let log = drey.log();
        assert!(log.contains("reason=periodic"), "{log}");
    }
    // The first one's own savepoints are where it left them.
    for path in &all {
        let path = Path::new(crate::support::plain_path(path));
        assert!(path.join("_metadata").exists(), "{}", path.display());
    }
    for id in ["one", "two"] {
        let file = format!("state/{id}.json");
        let args = [
            "gc",
            "--cluster-id",
            id,
            "--pointer",
            &file,
            "--output",
            "json",
        ];
        let report = json_of(&cluster, &args);
        assert_eq!(report["orphans"], json!([]), "{report}");
        let reasons = pointer(&cluster, id).jobs["application"].history.clone();
        assert!(
            reasons
                .iter()
                .all(|point| point.reason != TriggerReason::Manual)
        );
    }
    assert_eq!(cluster.savepoints().len(), 2, "{all:?}");
}

fn pointer(cluster: &Cluster, id: &str) -> drey::domain::pointer::Pointer {
    let file = cluster.path(&format!("state/{id}.json"));
    drey::pointer_file::peek(&file).unwrap().expect("a pointer")
}
