//! Savepoints that a pipeline asks for by an annotation of the pointer's ConfigMap, with no other right than to change that. The
//! pod is an object of a real API server without a kubelet; Flink is real.

use serde_json::{Value, json};

use crate::support::{ApiServer, Cluster, Version, eventually, plain_path};

const MAP: &str = "configmap/drey-orders";

const KILLED: i32 = -9;

fn ask(api: &ApiServer, nonce: &str) {
    let annotations = json!({"drey.io/savepoint-request": nonce});
    api.patch(
        MAP,
        false,
        &json!({"metadata": {"annotations": annotations}}),
    );
}

/// The path that was answered to `nonce`.
fn answered(api: &ApiServer, nonce: &str) -> String {
    let start = format!("{nonce} ");
    eventually(&format!("an answer to {nonce}"), || {
        let text = api.kubectl(&["get", MAP, "-o", "json"]);
        let map: Value = serde_json::from_str(&text).unwrap();
        let answer = map["data"]["answer.savepoint-request"].as_str()?;
        let path = answer.strip_prefix(&start)?;
        assert!(!path.starts_with("failed"), "{answer}");
        Some(plain_path(path).to_owned())
    })
}

#[test]
fn a_savepoint_is_taken_once_for_each_annotation_also_by_a_restarted_sidecar() {
    let api = ApiServer::start();
    let uid = api.pod("orders-0");
    let cluster = Cluster::new(Version::v2()).in_pod(&api);
    let _task_manager = cluster.task_manager();
    let _launch = cluster.launch().go();
    let sidecar = || cluster.sidecar();
    let mut dies = sidecar().kill_at("after-intent").in_container_of(&uid).go();
    dies.wait_for_logs(&["Flink started", "Job is running"]);
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);

    // Killed with the intent stored: the next one goes on with it, and answers.
    ask(&api, "release-1");
    assert_eq!(dies.exit_code(), KILLED);
    let mut next = sidecar().in_container_of(&uid).go();
    let first = answered(&api, "release-1");
    assert_eq!(cluster.savepoints(), [std::path::PathBuf::from(&first)]);

    // One that was started again knows what was answered, and does it for another value only.
    next.kill();
    let mut again = sidecar().in_container_of(&uid).go();
    again.wait_for_logs(&["Flink started", "Job is running"]);
    ask(&api, "release-2");
    let second = answered(&api, "release-2");
    assert_ne!(first, second);
    assert_eq!(cluster.savepoints().len(), 2);
    assert_eq!(
        again
            .log()
            .matches("Savepoint asked for by annotation")
            .count(),
        1
    );
}
