//! In a pod whose job's arguments come from a Secret: Flink's configuration is followed, and the arguments are copied nowhere.

use std::fs;

use serde_json::{Value, json};

use super::{KEY, supervised, wait_in_effect};
use crate::support::{ApiServer, Cluster, Version, eventually, wait_until};

/// The pod `orders-0`, as the kubelet would report it, with both directories mounted.
fn pod(api: &ApiServer, cluster: &Cluster) -> String {
    let mount = |volume: &str, directory: &str| json!({"name": volume, "mountPath": cluster.path(directory)});
    let made = api.create(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orders-0"},
        "spec": {
            "nodeName": "none",
            "containers": [{
                "name": "flink-main-container", "image": "none",
                "volumeMounts": [mount("conf", "conf"), mount("job", "job")],
            }],
            "volumes": [
                {"name": "conf", "configMap": {"name": "flink-config"}},
                {"name": "job", "secret": {"secretName": "job"}},
            ],
        },
    }));
    let status = json!({"status": {"phase": "Running", "podIP": "127.0.0.1"}});
    api.patch("pod/orders-0", true, &status);
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn configuration(cluster: &Cluster) -> Value {
    let file = |(path, text): (std::path::PathBuf, Vec<u8>)| {
        let name = path.file_name()?.to_str()?.to_owned();
        Some((name, String::from_utf8(text).ok()?))
    };
    let files = cluster.configuration().into_iter().filter_map(file);
    json!({"data": files.collect::<std::collections::BTreeMap<_, _>>()})
}

fn arguments(name: &str) -> String {
    format!("--name\n{name}\n--snapshot-delay-file\n/nowhere/hidden\n")
}

fn pointer_map(api: &ApiServer) -> String {
    api.kubectl(&["get", "configmap/drey-orders", "-o", "json"])
}

fn wait_for_name(cluster: &Cluster, name: &str) {
    eventually("the job of that name", || {
        let all = cluster.rest().try_get("/jobs/overview")?;
        let mut jobs = all["jobs"].as_array()?.iter();
        jobs.find(|job| job["state"] == "RUNNING" && job["name"] == name)
            .map(drop)
    });
}

#[test]
fn arguments_from_a_secret_are_told_of_and_taken_by_the_next_start_and_never_copied() {
    let api = ApiServer::start();
    let mut cluster = supervised(Version::v2()).in_pod(&api);
    fs::create_dir(cluster.path("job")).unwrap();
    let file = cluster.path("job/arguments");
    fs::write(&file, arguments("first")).unwrap();
    cluster = cluster.drey_env("DREY_ARGUMENTS_FILE", file.display());
    let mut map = configuration(&cluster);
    map["apiVersion"] = json!("v1");
    map["kind"] = json!("ConfigMap");
    map["metadata"] = json!({"name": "flink-config"});
    api.create(&map);
    let uid = pod(&api, &cluster);
    let _task_manager = cluster.task_manager();
    let mut launch = cluster.launch().go();
    let mut sidecar = cluster.sidecar().in_container_of(&uid).go();
    sidecar.wait_for_log("Job is running");
    wait_for_name(&cluster, "first");
    wait_until("the good configuration kept", || {
        pointer_map(&api).contains(r#"\"good\""#)
    });

    fs::write(&file, arguments("second")).unwrap();
    sidecar.wait_for_log("The job's arguments have changed, and are left for the next start");
    cluster.rest().wait_for_checkpoints(1);
    wait_for_name(&cluster, "first");

    cluster.configure(KEY, 3);
    api.patch("configmap/flink-config", false, &configuration(&cluster));
    wait_in_effect(&cluster, KEY, "3");
    sidecar.wait_for_log("Changed configuration works");
    wait_for_name(&cluster, "second");
    let all = pointer_map(&api) + &sidecar.log() + &launch.log();
    assert!(!all.contains("hidden"), "a secret");

    let held = json!({"metadata": {"annotations": {"drey.io/suspend": "true"}}});
    api.patch("configmap/drey-orders", false, &held);
    sidecar.wait_for_log("Start waits: the annotation");
    launch.kill();
    cluster.assert_exactly_once(500);
}
