//! What people and their scripts ask of a running drey.

use std::path::{Path, PathBuf};
use std::process::Output;

use drey::domain::pointer::PointKind;
use serde_json::Value;

use crate::support::{Cluster, Process, Version, eventually, plain_path};

/// Lets a job run for a while.
fn work(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
}

/// Exit code and standard error of a command that fails.
fn failure(output: &Output) -> (Option<i32>, String) {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), errors)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The line that a savepoint command prints names a complete savepoint, which is recorded.
fn recorded(cluster: &Cluster, printed: &str, kind: PointKind) {
    let path = printed.trim_end();
    assert!(Path::new(plain_path(path)).join("_metadata").is_file());
    let newest = cluster.newest().expect("a restore point is recorded");
    assert_eq!((newest.path.as_str(), newest.kind), (path, kind));
}

/// The format in which Flink says that it wrote a savepoint. Its statistics may lag behind the answer to the request,
/// since Flink hands out the same ones for a while.
fn format_of(cluster: &Cluster, path: &str) -> Value {
    let job = cluster.rest().job();
    eventually("the savepoint in Flink's statistics", || {
        let stats = cluster
            .rest()
            .try_get(&format!("/jobs/{job}/checkpoints"))?;
        let savepoints = stats["history"].as_array()?;
        let this = savepoints.iter().find(|one| one["external_path"] == path)?;
        Some(this["savepointFormat"].clone())
    })
}

#[test]
fn savepoint_status_and_pointer_talk_to_the_running_drey() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    work(&cluster, &mut drey);

    recorded(
        &cluster,
        &cluster.drey_ok(&["savepoint"]),
        PointKind::Savepoint,
    );
    for format in ["canonical", "native"] {
        let printed = cluster.drey_ok(&["savepoint", "--format", format]);
        recorded(&cluster, &printed, PointKind::Savepoint);
        assert_eq!(
            format_of(&cluster, printed.trim_end()),
            format.to_uppercase()
        );
    }
    let printed = json(&cluster.drey_ok(&["savepoint", "--output", "json"]));
    let path = printed["path"].as_str().unwrap_or_default();
    recorded(&cluster, path, PointKind::Savepoint);
    assert_eq!(cluster.savepoints().len(), 4);

    let status = json(&cluster.drey_ok(&["status", "--output", "json"]));
    let job = &status["jobs"]["application"];
    assert_eq!(status["reachable"], true, "{status}");
    assert_eq!(status["flink-pid"], cluster.job_manager(), "{status}");
    assert_eq!(job["status"], "RUNNING", "{status}");
    assert_eq!(job["job-id"], cluster.rest().job(), "{status}");
    assert_eq!(job["restore-point"], path, "{status}");
    let text = cluster.drey_ok(&["status"]);
    assert!(text.contains("RUNNING") && text.contains(path), "{text}");

    let pointer = json(&cluster.drey_ok(&["pointer", "show", "--output", "json"]));
    assert_eq!(pointer["savepoint-path"], path, "{pointer}");
    let history = pointer["jobs"]["application"]["history"].as_array();
    assert_eq!(history.map(Vec::len), Some(4), "{pointer}");
    let text = cluster.drey_ok(&["pointer", "show"]);
    assert!(text.contains(path), "{text}");

    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(100);
}

#[test]
fn a_job_stopped_by_a_person_resumes_from_that_savepoint_at_the_next_start() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    for how in [
        &["savepoint", "--stop"][..],
        &["savepoint", "--stop", "--format", "canonical"],
    ] {
        let mut drey = cluster.run();
        work(&cluster, &mut drey);
        let printed = cluster.drey_ok(how);
        assert_eq!(drey.exit_code(), 0);
        cluster.wait_gone();
        recorded(&cluster, &printed, PointKind::Stop);
    }
    let mut drey = cluster.run();
    work(&cluster, &mut drey);
    assert_eq!(
        cluster.rest().restored().map(PathBuf::from),
        Some(cluster.newest_path())
    );
    // No more timers, no more windows: the source ends.
    let printed = cluster.drey_ok(&["savepoint", "--stop", "--drain"]);
    assert_eq!(drey.exit_code(), 0);
    recorded(&cluster, &printed, PointKind::Stop);
    assert_eq!(cluster.savepoints().len(), 3);
    cluster.assert_exactly_once(300);
}

#[test]
fn exit_codes_tell_bad_usage_from_what_may_work_later() {
    let cluster = Cluster::new(Version::v2());
    // Nobody is there to be asked.
    let (code, errors) = failure(&cluster.drey(&["savepoint"]));
    assert_eq!(code, Some(75), "{errors}");
    assert!(errors.contains("no supervisor listens"), "{errors}");
    let (code, errors) = failure(&cluster.drey(&["status"]));
    assert_eq!(code, Some(75), "{errors}");
    let (code, errors) = failure(&cluster.drey(&["pointer", "show"]));
    assert_eq!(code, Some(1), "{errors}");

    let (code, errors) = failure(&cluster.drey(&["savepoint", "--drain"]));
    assert_eq!(code, Some(64), "{errors}");
    let (code, errors) = failure(&cluster.drey(&["status", "--rest-timeout", "soon"]));
    assert_eq!(code, Some(64), "{errors}");
    let mut unknown = cluster.start().env("DREY_SHUTDOWN_TIMEOUT", "5s").go();
    assert_eq!(unknown.exit_code(), 64, "{}", unknown.log());

    let mut drey = cluster.run();
    drey.wait_for_log("Flink started");
    let mut second = cluster.run();
    assert_eq!(second.exit_code(), 75);
    assert!(
        second.log().contains(&drey.pid().to_string()),
        "{}",
        second.log()
    );
    drey.wait_for_log("Flink started");
    assert!(drey.is_running());
    let (code, errors) = failure(&cluster.drey(&["savepoint", "--job", "another"]));
    assert!(matches!(code, Some(1 | 64)), "{code:?}: {errors}");
    assert!(errors.contains("another"), "{errors}");
}
