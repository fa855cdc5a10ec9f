//! Savepoints that a pipeline asks for by an annotation of the pointer's ConfigMap, with no other right than to change that.

use serde_json::Value;

use crate::support::{Job, Mode, Version, eventually, plain_path, wait_until};

const MAP: &str = "configmap/drey-example";

fn ask(job: &Job, nonce: &str) {
    let annotation = format!("drey.io/savepoint-request={nonce}");
    job.kubectl(&["annotate", MAP, "--overwrite", &annotation]);
}

fn data(job: &Job, key: &str) -> Option<String> {
    let map = job.namespace.get(&[MAP])?;
    Some(map["data"][key].as_str()?.to_owned())
}

/// The path that was answered to `nonce`.
fn answered(job: &Job, nonce: &str) -> String {
    let start = format!("{nonce} ");
    eventually(&format!("an answer to {nonce}"), || {
        let answer = data(job, "answer.savepoint-request")?;
        let path = answer.strip_prefix(&start)?;
        assert!(!path.starts_with("failed"), "{answer}");
        Some(plain_path(path))
    })
}

fn manual_savepoints(job: &Job) -> usize {
    let text = data(job, "pointer.json").unwrap();
    let pointer: Value = serde_json::from_str(&text).unwrap();
    let history = pointer["jobs"]["application"]["history"]
        .as_array()
        .unwrap();
    history
        .iter()
        .filter(|point| point["reason"] == "manual")
        .count()
}

#[test]
fn a_savepoint_is_taken_once_for_each_annotation_also_by_a_restarted_sidecar() {
    let job = Job::new("keep", Mode::Standalone, Version::v2());
    let run = job.start_and_work();
    ask(&job, "release-1");
    let first = answered(&job, "release-1");
    assert_eq!(job.pointer().as_deref(), Some(first.as_str()));
    job.wait_told("SavepointAnswered", "release-1");

    job.kill_container(&run.pod, "drey");
    ask(&job, "release-1");
    ask(&job, "release-2");
    let second = answered(&job, "release-2");
    assert_ne!(first, second);
    wait_until("both savepoints are recorded", || {
        manual_savepoints(&job) == 2
    });
    assert_eq!(job.wait_running().job, run.job, "the job was disturbed");
    job.stop_and_judge(500);
}
