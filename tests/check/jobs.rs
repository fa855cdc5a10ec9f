//! What `drey check` says of pods and jobs.

use drey::domain::health::{AilmentKind, Noted};
use drey::domain::pointer::{PointKind, Pointer, RestorePoint, Run, RunId, TriggerReason};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::servers::Server;
use crate::world::{Said, World, deploy, drey, said};

const FIXTURE: &str = "tests/fixtures/metadata/v6-savepoint-native";

const CONFIGURATION: &str = "\
execution.checkpointing.interval: 10s
execution.checkpointing.dir: s3://bucket/checkpoints
execution.checkpointing.savepoint-dir: s3://bucket/savepoints
s3.access-key: test
s3.secret-key: secret
";

fn pod(name: &str, component: &str, grace: u32, drey: bool) -> Value {
    let status = json!({ "version": env!("CARGO_PKG_VERSION") }).to_string();
    let script = match component {
        "jobmanager" => "kubernetes-jobmanager.sh kubernetes-application",
        _ => "kubernetes-taskmanager.sh",
    };
    let mut annotations = json!({ "drey.io/inject": "true" });
    if drey {
        annotations["drey.io/status"] = json!(status);
    }
    json!({
        "metadata": {
            "name": name,
            "annotations": annotations,
            "labels": { "type": "flink-native-kubernetes", "component": component, "app": "example" },
        },
        "spec": {
            "serviceAccountName": "flink",
            "terminationGracePeriodSeconds": grace,
            "containers": [{
                "name": "flink-main-container",
                "image": "flink",
                "command": ["/docker-entrypoint.sh"],
                "args": ["bash", "-c", script],
                "volumeMounts": [{ "name": "conf", "mountPath": "/opt/flink/conf" }],
            }],
            "volumes": [{ "name": "conf", "configMap": { "name": "flink-config-example" } }],
        },
    })
}

/// The pointer, whose newest restore point took this long.
fn pointer(path: &str, took: i64) -> Pointer {
    let now = Timestamp::now();
    let mut pointer = Pointer::new("example");
    let point = RestorePoint {
        path: path.to_owned(),
        kind: PointKind::Stop,
        checkpoint_id: Some(7),
        job_id: None,
        lineage: 0,
        run: None,
        reason: TriggerReason::Shutdown,
        started: Some(now - SignedDuration::from_secs(took)),
        completed: now,
        size: None,
        flink_version: None,
        superseded: false,
        claimed: false,
    };
    let entry = pointer.entry("application");
    entry.record(point, 10);
    entry.run = Some(Run {
        id: RunId::from_bytes([7; 6]),
        job_id: None,
        parent: None,
        checkpoint_dir: None,
        savepoint_dir: None,
        stored: now,
        owner: String::new(),
        flink_version: "2.3.0".to_owned(),
    });
    pointer.seal();
    pointer
}

/// The pointer of a job that does not get on, as its supervisor has noted.
fn ill() -> String {
    let mut pointer = pointer("file:///state/savepoint-1", 3);
    pointer.entry("application").ailments = vec![Noted {
        kind: AilmentKind::RestartLoop,
        since: "2026-01-02T03:04:05Z".parse().unwrap(),
        text: "restart loop: tasks failed 7 times in the last 10 min".to_owned(),
    }];
    pointer.seal();
    serde_json::to_string(&pointer).unwrap()
}

async fn record(world: &World, text: &str) {
    let path = format!("/api/v1/namespaces/{}/configmaps/drey-example", world.name);
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "drey-example", "labels": { "drey.io/cluster-id": "example" } },
        "data": { "pointer.json": text },
    });
    world.server.apply(&path, &map).await;
}

/// A cluster `example` as native mode makes it, with Drey in its pods.
async fn world(name: &'static str, savepoint: &str) -> World {
    let world = World::new(name).await;
    fill(&world, savepoint, true).await;
    world
}

/// The same in a world that is there. Without `drey` the pods have to be injected as they are created.
pub async fn fill(world: &World, savepoint: &str, drey: bool) {
    world.kubectl(&["-n", world.name, "apply", "-f", &deploy("rbac.yaml")]);
    let config = json!({ "metadata": { "name": "flink-config-example" }, "data": { "config.yaml": CONFIGURATION } });
    world.create("configmaps", config).await;
    for (name, component) in [("jm", "jobmanager"), ("tm", "taskmanager")] {
        world.create("pods", pod(name, component, 120, drey)).await;
    }
    let pointer = pointer(savepoint, 3);
    record(world, &serde_json::to_string(&pointer).unwrap()).await;
}

/// What is found of pods and jobs by `root`, who reaches the storage at this port.
fn check(world: &World, port: u16, args: &[&str]) -> Said {
    let mut command = drey(&world.kubeconfig("root"), args);
    command
        .env("DREY_S3_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("DREY_STORAGE_ALLOW_HTTP", "true")
        .env("DREY_STORAGE_TIMEOUT", "5s");
    said(&command.output().unwrap())
}

#[tokio::test]
async fn a_cluster_that_is_well_has_good_findings_only() {
    let s3 = Server::s3("bucket");
    let savepoint = s3.dir.path().join("data/bucket/savepoints/savepoint-1");
    std::fs::create_dir_all(&savepoint).unwrap();
    std::fs::copy(FIXTURE, savepoint.join("_metadata")).unwrap();
    let world = world("well", "s3://bucket/savepoints/savepoint-1").await;
    let said = check(&world, s3.port, &[]);
    let not_ok = json!(said.not_ok());
    assert_eq!(
        not_ok,
        json!({ "failed": ["webhook-configuration"] }),
        "{:#}",
        said.json
    );
    said.is("pods-injected", "ok", "all 2");
    said.is("grace-period", "ok", "the last one took 3.0 s");
    said.is("restore-point", "ok", "was read to the last byte");
    said.is("savepoint-dir", "ok", "written and read back");
    said.is("service-account", "ok", "flink may do all");
    assert_eq!(said.the("pointer")["subject"], "well/example");
    // The namespaces of other tests are among all.
    let everywhere = check(&world, s3.port, &["-A"]).json;
    let own = |json: &Value| {
        let all = json["findings"].as_array().unwrap();
        let mut own: Vec<Value> = all.clone();
        own.retain(|one| {
            one["subject"]
                .as_str()
                .is_some_and(|of| of.starts_with("well"))
        });
        own
    };
    let ids = |json: &Value| {
        own(json)
            .iter()
            .map(|one| one["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&everywhere), ids(&said.json));
    assert!(own(&everywhere).iter().all(|one| one["state"] == "ok"));
    std::fs::write(savepoint.join("_metadata"), "cut").unwrap();
    check(&world, s3.port, &[]).is("restore-point", "failed", "is damaged");
    std::fs::remove_file(savepoint.join("_metadata")).unwrap();
    check(&world, s3.port, &[]).is("restore-point", "failed", "is not there");
    drop(s3);
    check(&world, 1, &[]).is("restore-point", "unknown", "cannot be read from here");
}

#[tokio::test]
async fn each_defect_of_pods_and_jobs_is_found() {
    let world = world("ill", "file:///state/savepoint-1").await;
    world
        .create("pods", pod("bare", "jobmanager", 120, false))
        .await;
    world
        .create("pods", pod("tm-2", "taskmanager", 30, true))
        .await;
    for role in ["drey", "flink"] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/ill/rolebindings/{role}");
        world.send("DELETE", &path, &json!({})).await.unwrap();
    }
    let late = pointer("file:///state/savepoint-1", 115);
    record(&world, &serde_json::to_string(&late).unwrap()).await;
    let granted = |said: &Said| said.the("service-account")["state"] == "failed";
    let said = world.until(&[], granted).await;
    assert_eq!(said.code, 1);
    said.is("service-account", "failed", "patch configmaps drey-example");
    said.is("pods-injected", "failed", "runs without Drey");
    assert_eq!(said.the("pods-injected")["subject"], "ill/bare");
    said.is("task-manager-grace", "warning", "30 s");
    said.is("grace-period", "failed", "took 115.0 s");
    said.is("restore-point", "unknown", "in the file system of the pods");
    said.is("health", "ok", "no restart loop");
    let map = "/api/v1/namespaces/ill/configmaps/drey-example";
    let held = json!({ "metadata": { "annotations": { "drey.io/suspend": "true" } } });
    world.patch(map, held).await;
    world
        .check(&[])
        .is("health", "ok", "suspended by the annotation");
    let free = json!({ "metadata": { "annotations": { "drey.io/suspend": null } } });
    world.patch(map, free).await;
    record(&world, &ill()).await;
    let said = world.check(&[]);
    said.is(
        "health",
        "warning",
        "job application: restart loop: tasks failed 7 times",
    );
    said.is("health", "warning", "since 2026-01-02T03:04:05Z");
    record(&world, "not what Drey wrote").await;
    world.check(&[]).is("pointer", "failed", "of no use");
    world
        .patch(
            "/api/v1/namespaces/ill/configmaps/drey-example",
            json!({ "immutable": true }),
        )
        .await;
    world.check(&[]).is("pointer", "failed", "immutable");
}

#[tokio::test]
async fn who_may_read_only_pods_learns_what_else_he_would_have_to() {
    let world = world("pods-only", "file:///state/savepoint-1").await;
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }]);
    world.server.grant("pods-only", "pods-only", rules).await;
    let said = world.check_as("pods-only", &[]);
    assert_eq!(said.code, 0, "{:#}", said.json);
    said.is("pods-injected", "ok", "all 2");
    said.is(
        "pointer",
        "unknown",
        "you may not get configmaps drey-example",
    );
    said.is(
        "checkpointing",
        "unknown",
        "you may not get configmaps flink-config-example",
    );
    said.is(
        "service-account",
        "unknown",
        "you may not create subjectaccessreviews",
    );
}
