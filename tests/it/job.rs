//! A job that a pipeline suspends and brings back. The pods are objects of a real API server without a kubelet; Flink is real.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{ApiServer, Cluster, Process, Version, plain_path, run_mark, wait_until};

/// What would make that pod, were there controllers.
fn deploy(api: &ApiServer) {
    let container = json!({"name": "flink-main-container", "image": "none", "args": ["standalone-job"],
        "env": [{"name": "DREY_CLUSTER_ID", "value": "orders"}]});
    api.create(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "orders"}},
            "template": {"metadata": {"labels": {"app": "orders"}}, "spec": {"containers": [container]}},
        },
    }));
}

/// `drey job VERB orders`.
fn drey(api: &ApiServer, verb: &str) -> Process {
    let (run, this) = run_mark();
    let mut command = Command::new(env!("CARGO_BIN_EXE_drey"));
    command
        .args(["job", verb, "orders", "--timeout=3m"])
        .env("KUBECONFIG", api.kubeconfig())
        .env(run, this);
    Process::start(&mut command, api.path(&format!("{verb}.log")))
}

/// The application's entry in the pointer.
fn entry(api: &ApiServer) -> Value {
    let text = api.kubectl(&["get", "configmap/drey-orders", "-o", "json"]);
    let map: Value = serde_json::from_str(&text).unwrap();
    let pointer = map["data"]["pointer.json"].as_str().unwrap_or("{}");
    let pointer: Value = serde_json::from_str(pointer).unwrap();
    pointer["jobs"]["application"].clone()
}

fn replicas(api: &ApiServer) -> String {
    api.kubectl(&[
        "get",
        "deployment/orders",
        "-o",
        "jsonpath={.spec.replicas}",
    ])
}

/// The two processes of a pod whose job has completed a checkpoint.
fn working(cluster: &Cluster, api: &ApiServer, uid: &str) -> (Process, Process) {
    let launch = cluster.launch().in_container_of(uid).go();
    let mut sidecar = cluster.sidecar().in_container_of(uid).go();
    sidecar.wait_for_logs(&["Flink started", "Job is running"]);
    wait_until("a checkpoint to be noted", || {
        entry(api)["up"]["checkpoint"].is_number()
    });
    (launch, sidecar)
}

#[test]
fn a_suspended_job_stays_stopped_and_resumes_from_its_savepoint() {
    let api = ApiServer::start();
    deploy(&api);
    let uid = api.pod("orders-0");
    let cluster = Cluster::new(Version::v2()).in_pod(&api);
    let _task_manager = cluster.task_manager();
    let (mut launch, mut sidecar) = working(&cluster, &api, &uid);

    let mut suspend = drey(&api, "suspend");
    sidecar.wait_for_logs(&["Ordered to stop the job", "Restore point recorded"]);
    // In the same pod nothing is started again.
    launch.wait_for_log("The job is over");
    wait_until("no JobManager", || cluster.job_managers().is_empty());
    let savepoints = cluster.savepoints();
    assert_eq!(savepoints.len(), 1);
    suspend.wait_for_log("Scaling deployments/orders to 0");
    assert_eq!(replicas(&api), "0");
    for process in [&mut launch, &mut sidecar] {
        process.kill();
    }
    api.kubectl(&["delete", "pod/orders-0", "--force", "--grace-period=0"]);
    assert_eq!(suspend.exit_code(), 0, "{}", suspend.log());
    assert!(
        suspend.log().contains("/savepoints/orders/"),
        "{}",
        suspend.log()
    );
    assert_eq!(entry(&api)["ended"], Value::Null);

    let mut resume = drey(&api, "resume");
    resume.wait_for_log("Waiting for the JobManager");
    assert_eq!(replicas(&api), "1");
    let uid = api.pod("orders-0");
    let mut launch = cluster.launch().in_container_of(&uid).go();
    let mut sidecar = cluster.sidecar().in_container_of(&uid).go();
    assert_eq!(resume.exit_code(), 0, "{}", resume.log());
    let restored = cluster.rest().restored().expect("a restored job");
    assert!(restored.contains("/savepoints/orders/"), "{restored}");

    // A SIGTERM alone would be a restart of the container, before which no savepoint is taken.
    let mut again = drey(&api, "suspend");
    sidecar.wait_for_log("Restore point recorded");
    wait_until("no JobManager", || cluster.job_managers().is_empty());
    for process in [&mut again, &mut launch] {
        process.kill();
    }
    cluster.assert_exactly_once(200);
}

/// Sets the annotation on the pointer's ConfigMap, or takes it away.
fn annotate(api: &ApiServer, value: Value) {
    let annotations = json!({"drey.io/suspend": value});
    api.patch(
        "configmap/drey-orders",
        false,
        &json!({"metadata": {"annotations": annotations}}),
    );
}

#[test]
fn an_annotation_holds_the_job_until_it_is_taken_away() {
    let api = ApiServer::start();
    deploy(&api);
    let uid = api.pod("orders-0");
    let cluster = Cluster::new(Version::v2()).in_pod(&api);
    let _task_manager = cluster.task_manager();
    let (mut launch, mut sidecar) = working(&cluster, &api, &uid);

    annotate(&api, json!("true"));
    sidecar.wait_for_logs(&["Restore point recorded", "Start waits: the annotation"]);
    wait_until("no JobManager", || cluster.job_managers().is_empty());
    let held = entry(&api);
    assert_eq!(held["ended"], Value::Null, "it is over for no owner");
    assert_eq!(held["history"][0]["reason"], "suspend");
    assert_eq!(replicas(&api), "1", "the owner is left alone");
    // Another sidecar sees it as well, and a command that could not succeed says why.
    sidecar.kill();
    let mut sidecar = cluster.sidecar().in_container_of(&uid).go();
    sidecar.wait_for_log("Start waits: the annotation");
    let mut resume = drey(&api, "resume");
    assert_eq!(resume.exit_code(), 1, "{}", resume.log());
    let said = resume.log();
    assert!(said.contains("drey.io/suspend-"), "{said}");
    assert_eq!(cluster.job_managers(), [0; 0]);

    annotate(&api, Value::Null);
    sidecar.wait_for_logs(&["Start goes on", "Flink started", "Job is running"]);
    let restored = cluster.rest().restored().expect("a restored job");
    assert_eq!(
        plain_path(&restored),
        plain_path(held["history"][0]["path"].as_str().unwrap())
    );
    cluster.rest().wait_for_checkpoints(1);
    annotate(&api, json!("true"));
    sidecar.wait_for_logs(&["Restore point recorded", "Start waits: the annotation"]);
    wait_until("no JobManager", || cluster.job_managers().is_empty());
    launch.kill();
    cluster.assert_exactly_once(200);
}
