//! A real TaskManager whose JobManager changes, by what a real API server says of the lock. The JobManagers' pods are names.

use std::process::Command;

use serde_json::{Value, json};

use crate::ports::free_port;
use crate::support::{ApiServer, Cluster, Process, Version, wait_until};

/// A pod of this name has the lock, and this run of the job, to which Drey gave its id.
fn runs(api: &ApiServer, pod: &str, run: u8) {
    let lock = json!({"holders": [{
        "pod": {"uid": format!("uid-{pod}"), "name": pod},
        "since": "2020-01-01T00:00:00Z",
    }]});
    let run = json!({
        "id": format!("{run:012}"), "job-id": "0".repeat(32), "stored": "2020-01-01T00:00:00Z",
        "owner": "orders", "flink-version": "2.3.0",
    });
    let jobs = json!({"application": {"lineage": 0, "run": run, "history": []}});
    let pointer = json!({"format": 1, "cluster-id": "orders", "generation": 1, "jobs": jobs});
    let data = json!({"lock.json": lock.to_string(), "pointer.json": pointer.to_string()});
    api.patch("configmap/drey-orders", false, &json!({ "data": data }));
}

fn flink(cluster: &Cluster, script: &str) -> Command {
    let mut command = cluster.command(cluster.installation.home.join("bin").join(script));
    command.arg("start-foreground");
    command
}

fn launcher(cluster: &Cluster, api: &ApiServer) -> Process {
    let mut command = cluster.command(env!("CARGO_BIN_EXE_drey"));
    let script = cluster.installation.home.join("bin/taskmanager.sh");
    command
        .env("KUBECONFIG", api.kubeconfig())
        .env("DREY_POD_NAME", "tm-1")
        .env("DREY_CLUSTER_ID", "orders")
        .env("DREY_STATE_DIR", cluster.path("drey-tm"))
        .env("DREY_METRICS_ADDRESS", format!("127.0.0.1:{}", free_port()))
        .args(["launch", "--"])
        .arg(script)
        .arg("start-foreground");
    Process::start(&mut command, cluster.log_file("launch-tm"))
}

/// One that has met no JobManager yet looks for whatever is there, and to start it again would cost time; one that has met
/// another one notices only by `heartbeat.timeout`.
#[test]
fn a_taskmanager_is_started_again_for_another_jobmanager_only_when_it_has_met_one() {
    let api = ApiServer::start();
    api.create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "drey-orders"},
    }));
    runs(&api, "jm-1", 1);
    let cluster = Cluster::new(Version::v2()).set("jobmanager.rpc.address", "127.0.0.1");
    let mut task_manager = launcher(&cluster, &api);
    task_manager.wait_for_log("Could not resolve ResourceManager address");

    runs(&api, "jm-2", 2);
    task_manager.wait_for_log("before the TaskManager has met one job_manager=\"jm-2\"");
    let _job_manager = Process::start(
        &mut flink(&cluster, "jobmanager.sh"),
        cluster.log_file("jm"),
    );
    task_manager.wait_for_log("Successful registration at resource manager");
    assert!(!task_manager.log().contains("is started again"));

    // In the same pod.
    runs(&api, "jm-2", 3);
    task_manager.wait_for_logs(&[
        "the TaskManager is started again job_manager=\"jm-2\"",
        "TaskManager started",
        "Successful registration at resource manager",
    ]);
    task_manager.term();
}

/// Flink ends a TaskManager that has no JobManager for this long.
const ALONE: &str = "8s";

#[test]
fn a_taskmanager_whose_job_is_suspended_waits_for_it_to_resume() {
    let api = ApiServer::start();
    let uid = api.pod("orders-0");
    let cluster = Cluster::new(Version::v2())
        .in_pod(&api)
        .set("jobmanager.rpc.address", "127.0.0.1")
        .set("taskmanager.registration.timeout", ALONE);
    let _launch = cluster.launch().in_container_of(&uid).go();
    let mut sidecar = cluster.sidecar().in_container_of(&uid).go();
    sidecar.wait_for_log("Flink started");
    wait_until("Flink to answer", || {
        cluster.rest().try_get("/config").is_some()
    });
    let mut task_manager = launcher(&cluster, &api);
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);

    let annotate = |value: Value| {
        let annotations = json!({"drey.io/suspend": value});
        let patch = json!({"metadata": {"annotations": annotations}});
        api.patch("configmap/drey-orders", false, &patch);
    };
    annotate(json!("true"));
    task_manager.wait_for_logs(&[
        "TaskManager ended code=1",
        "is started again when its job is suspended no more",
    ]);
    annotate(Value::Null);
    task_manager.wait_for_logs(&[
        "The job is suspended no more",
        "TaskManager started",
        "Successful registration at resource manager",
    ]);
    cluster.rest().wait_running();

    // One that is told to go while it waits goes.
    annotate(json!("true"));
    task_manager.wait_for_logs(&[
        "The job is suspended no more",
        "is started again when its job is suspended no more",
    ]);
    task_manager.term();
    assert_eq!(task_manager.exit_code(), 1);
    cluster.assert_exactly_once(100);
}
