//! A JobManager that has to start while its sidecar is dead: it does where that is provably safe. The pods are objects of a
//! real API server without a kubelet; Flink is real.

use serde_json::{Value, json};

use crate::support::{ApiServer, Cluster, Process, Version, wait_until};

const MAP: &str = "configmap/drey-orders";

/// A cluster in the pod `orders-0`.
fn cluster(api: &ApiServer) -> Cluster {
    Cluster::new(Version::v2())
        .in_pod(api)
        .drey_env("DREY_START_TIMEOUT", "2s")
}

fn data(api: &ApiServer, key: &str) -> String {
    let text = api.kubectl(&["get", MAP, "-o", "json"]);
    let map: Value = serde_json::from_str(&text).unwrap();
    map["data"][key].as_str().unwrap_or_default().to_owned()
}

/// The sidecar dies, and then Flink with its container: the next container's launcher, to whom nobody answers.
fn alone(cluster: &Cluster, launch: &mut Process, sidecar: &mut Process, uid: &str) -> Process {
    sidecar.kill();
    launch.wait_for_log("The supervisor went away");
    cluster.kill_job_managers();
    assert_ne!(launch.exit_code(), 0);
    let mut launch = cluster.launch().in_container_of(uid).go();
    launch.wait_for_log("The supervisor is away: the start is planned without it");
    launch
}

/// The job works again, from a checkpoint of the life before.
fn resumed(cluster: &Cluster) {
    cluster.rest().wait_running();
    let restored = cluster.rest().restored().expect("a restored job");
    assert!(restored.contains("/chk-"), "{restored}");
    cluster.rest().wait_for_checkpoints(2);
}

#[test]
fn without_its_sidecar_a_job_manager_starts_in_the_pod_that_holds_the_lock() {
    let api = ApiServer::start();
    let uid = api.pod("orders-0");
    let cluster = cluster(&api);
    let _task_manager = cluster.task_manager();
    let mut launch = cluster.launch().go();
    let mut sidecar = cluster.sidecar().in_container_of(&uid).go();
    sidecar.wait_for_logs(&["Flink started", "Job is running"]);
    cluster.rest().wait_for_checkpoints(2);

    // The ConfigMap says that this pod holds the lock.
    let mut launch = alone(&cluster, &mut launch, &mut sidecar, &uid);
    launch.wait_for_log("Restore point chosen");
    resumed(&cluster);

    // The sidecar is back and finds the JobManager as it is.
    let job_manager = cluster.job_manager();
    let mut sidecar = cluster.sidecar().in_container_of(&uid).go();
    sidecar.wait_for_logs(&["Flink started", "Job is running"]);
    assert_eq!(cluster.job_manager(), job_manager);

    // The API server is away as well: what this pod has written before says that it holds the lock.
    api.pause();
    let mut launch = alone(&cluster, &mut launch, &mut sidecar, &uid);
    launch.wait_for_logs(&[
        "The pointer's copy in this pod is used",
        "Restore point chosen",
    ]);
    resumed(&cluster);
    let mut sidecar = cluster.sidecar().in_container_of(&uid).go();
    sidecar.wait_for_logs(&["Flink started", "Job is running"]);

    launch.term();
    sidecar.wait_for_log("Restore point recorded");
    wait_until("the launcher has ended", || !launch.is_running());
    cluster.assert_exactly_once(200);
    assert_eq!(cluster.savepoints().len(), 1);
}

#[test]
fn without_its_sidecar_a_job_manager_waits_while_another_pod_may_run_the_job() {
    let api = ApiServer::start();
    let [uid, other] = ["orders-0", "orders-1"].map(|name| api.pod(name));
    let cluster = cluster(&api);
    let mut launch = cluster.launch().go();
    launch.wait_for_log("has not been there yet");
    launch.kill();

    let mut sidecar = cluster.sidecar().go();
    wait_until("the sidecar listens", || cluster.status().is_some());
    sidecar.kill();
    let lock = json!({"holders": [{
        "pod": {"uid": other, "name": "orders-1", "ip": "127.0.0.1"},
        "since": "2020-01-01T00:00:00Z",
    }]});
    api.create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "drey-orders"},
        "data": {"lock.json": lock.to_string()},
    }));
    let mut launch = cluster.launch().go();
    launch.wait_for_logs(&[
        "The supervisor is away: the start is planned without it",
        "Start waits for another pod",
    ]);
    assert!(launch.log().contains("orders-1"), "{}", launch.log());
    assert_eq!(cluster.job_managers(), Vec::<i32>::new());

    // Its JobManager has ended for good.
    let ended = json!({"status": {"phase": "Failed"}});
    api.patch("pod/orders-1", true, &ended);
    launch.wait_for_logs(&["Taking the lock", "Restore point chosen"]);
    let lock: Value = serde_json::from_str(&data(&api, "lock.json")).unwrap();
    assert_eq!(lock["holders"][0]["pod"]["uid"], json!(uid));
    wait_until("Flink runs", || cluster.job_managers().len() == 1);
}
