//! Pods and what owns them, made by hand: no controller runs here.

use drey::kubernetes::pods::{delete_pod, get_pod, is_reused, native_task_managers, node_gone};
use drey::kubernetes::{owner_of, silent, watch_pod};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::world::{World, next, rights, run};

fn template(image: &str, hash: Option<&str>) -> Value {
    let mut labels = json!({ "app": "orders" });
    if let Some(hash) = hash {
        labels["pod-template-hash"] = json!(hash);
    }
    json!({
        "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "main", "image": image }] },
    })
}

impl World {
    async fn put(&self, api: &str, plural: &str, kind: &str, object: Value) -> Value {
        let mut object = object;
        object["apiVersion"] = json!(api);
        object["kind"] = json!(kind);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let base = if api == "v1" {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{api}")
        };
        let path = format!("{base}/namespaces/{}/{plural}/{name}", self.name);
        self.server.apply(&path, &object).await
    }

    async fn pod(
        &self,
        labels: Value,
        owner: Option<(&str, &str, &Value)>,
    ) -> drey::kubernetes::PodSight {
        let owners: Vec<Value> = owner
            .iter()
            .map(|(api, kind, of)| owner_ref(api, kind, of))
            .collect();
        self.put(
            "v1",
            "pods",
            "Pod",
            json!({
                "metadata": { "name": "jm", "labels": labels, "ownerReferences": owners },
                "spec": {
                    "nodeName": "node1",
                    "terminationGracePeriodSeconds": 120,
                    "containers": [{ "name": "main", "image": "flink:1" }],
                },
            }),
        )
        .await;
        get_pod(&self.kube, "jm").await.unwrap().unwrap()
    }

    async fn remove(&self, path: &str) {
        let path = format!(
            "/apis/apps/v1/namespaces/{}/{path}?propagationPolicy=Background",
            self.name
        );
        let request = http::Request::delete(path).body(Vec::new()).unwrap();
        let _: Value = self.admin.request(request).await.unwrap();
    }
}

fn owner_ref(api: &str, kind: &str, of: &Value) -> Value {
    json!({
        "apiVersion": api, "kind": kind, "controller": true,
        "name": of["metadata"]["name"], "uid": of["metadata"]["uid"],
    })
}

fn deployment(image: &str, replicas: i32) -> Value {
    json!({
        "metadata": { "name": "orders" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "orders" } },
            "template": template(image, None),
        },
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "one Deployment through its life")]
fn a_deployment_tells_scale_template_and_end() {
    run(async {
        let world = World::new("deployment").await;
        let top = world
            .put(
                "apps/v1",
                "deployments",
                "Deployment",
                deployment("flink:1", 1),
            )
            .await;
        let set = world
            .put("apps/v1", "replicasets", "ReplicaSet", json!({
                "metadata": { "name": "orders-abc", "ownerReferences": [owner_ref("apps/v1", "Deployment", &top)] },
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": { "app": "orders" } },
                    "template": template("flink:1", Some("abc")),
                },
            }))
            .await;
        let labels = json!({ "app": "orders", "pod-template-hash": "abc" });
        let pod = world
            .pod(labels, Some(("apps/v1", "ReplicaSet", &set)))
            .await;
        assert_eq!(pod.pod.template, "abc");
        let sight = owner_of(&world.kube, &pod).await.unwrap();
        assert_eq!(sight.missing, []);
        let owner = sight.owner.clone().unwrap();
        assert_eq!(
            (owner.kind.as_str(), owner.name.as_str()),
            ("Deployment", "orders")
        );
        assert_eq!(
            (sight.replicas, sight.template_changed),
            (Some(1), Some(false))
        );
        assert_eq!((sight.gone, sight.deleting), (false, false));
        assert_eq!(sight.namespace_terminating, Some(false));

        world
            .put(
                "apps/v1",
                "deployments",
                "Deployment",
                deployment("flink:2", 0),
            )
            .await;
        let sight = owner_of(&world.kube, &pod).await.unwrap();
        assert_eq!(
            (sight.replicas, sight.template_changed),
            (Some(0), Some(true))
        );

        world.remove("deployments/orders").await;
        assert!(owner_of(&world.kube, &pod).await.unwrap().gone);
        world
            .put(
                "apps/v1",
                "deployments",
                "Deployment",
                deployment("flink:1", 1),
            )
            .await;
        assert!(owner_of(&world.kube, &pod).await.unwrap().gone);
        world.remove("replicasets/orders-abc").await;
        let sight = owner_of(&world.kube, &pod).await.unwrap();
        assert_eq!(sight.owner.unwrap().kind, "Deployment");
    });
}

#[test]
fn a_stateful_set_a_job_and_a_bare_pod() {
    run(async {
        let world = World::new("others").await;
        let bare = world.pod(json!({}), None).await;
        assert_eq!(owner_of(&world.kube, &bare).await.unwrap().owner, None);
        delete_pod(&world.kube, &bare.pod).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(world.admin.clone(), &world.name);
        pods.delete("jm", &DeleteParams::default().grace_period(0))
            .await
            .unwrap();

        let job = json!({
            "metadata": { "name": "orders" },
            "spec": { "suspend": true, "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "main", "image": "flink:1" }],
            }}},
        });
        let job = world.put("batch/v1", "jobs", "Job", job).await;
        let pod = world.pod(json!({}), Some(("batch/v1", "Job", &job))).await;
        let sight = owner_of(&world.kube, &pod).await.unwrap();
        assert_eq!(
            (sight.replicas, sight.template_changed),
            (Some(0), Some(false))
        );
        pods.delete("jm", &DeleteParams::default().grace_period(0))
            .await
            .unwrap();

        let set = json!({
            "metadata": { "name": "orders" },
            "spec": {
                "serviceName": "orders",
                "selector": { "matchLabels": { "app": "orders" } },
                "template": template("flink:1", None),
            },
        });
        let set = world
            .put("apps/v1", "statefulsets", "StatefulSet", set)
            .await;
        let sets: Api<k8s_openapi::api::apps::v1::StatefulSet> =
            Api::namespaced(world.admin.clone(), &world.name);
        let status = json!({ "status": { "replicas": 1, "observedGeneration": 1, "updateRevision": "orders-1" } });
        sets.patch_status("orders", &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
        let labels = json!({ "controller-revision-hash": "orders-1" });
        let pod = world
            .pod(labels, Some(("apps/v1", "StatefulSet", &set)))
            .await;
        let sight = owner_of(&world.kube, &pod).await.unwrap();
        assert_eq!(
            (sight.replicas, sight.template_changed),
            (Some(1), Some(false))
        );
    });
}

#[test]
fn a_pod_that_is_told_to_go_has_its_deadline() {
    run(async {
        let world = World::new("pods").await;
        let labels = json!({ "app": "orders", "component": "taskmanager", "type": "flink-native-kubernetes" });
        let pod = world.pod(labels, None).await;
        assert_eq!(
            native_task_managers(&world.kube, "orders").await.unwrap(),
            std::slice::from_ref(&pod)
        );
        assert_eq!(
            native_task_managers(&world.kube, "other").await.unwrap(),
            []
        );
        let mut watch = watch_pod(&world.kube, "jm");
        assert_eq!(next(&mut watch).await.unwrap(), Some(pod.clone()));
        let mut other = pod.pod.clone();
        other.uid = "00000000-0000-0000-0000-000000000000".to_owned();
        delete_pod(&world.kube, &other).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(world.admin.clone(), &world.name);
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "podIPs": [{ "ip": "10.0.0.7" }],
            "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI" }],
            "containerStatuses": [{
                "name": "main", "image": "flink@sha256:1", "imageID": "", "ready": false, "restartCount": 2,
                "state": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
            }],
        }});
        pods.patch_status("jm", &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
        let seen = next(&mut watch).await.unwrap().unwrap();
        assert_eq!(seen.deletion, None);
        assert_eq!(seen.pod.ip.as_deref(), Some("10.0.0.7"));
        assert_eq!(seen.disruption.as_deref(), Some("EvictionByEvictionAPI"));
        let reused = async |ip, uid| is_reused(&world.kube, ip, uid).await.unwrap();
        assert!(reused("10.0.0.7", &other.uid).await);
        assert!(!reused("10.0.0.7", &pod.pod.uid).await);
        assert!(!reused("10.0.0.8", &other.uid).await);
        let main = &seen.containers["main"];
        assert_eq!(
            (main.running, main.restarts, main.image.as_str()),
            (false, 2, "flink:1")
        );
        assert_eq!(main.terminated.as_ref().unwrap().code, 137);
        let before = jiff::Timestamp::now();
        delete_pod(&world.kube, &pod.pod).await.unwrap();
        let seen = next(&mut watch).await.unwrap().unwrap();
        let deletion = seen.deletion.unwrap();
        assert_eq!(deletion.grace.as_secs(), 120);
        assert!(deletion.deadline.as_second() >= before.as_second() + 119);
        pods.delete("jm", &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        while next(&mut watch).await.unwrap().is_some() {}
        assert_eq!(get_pod(&world.kube, "jm").await.unwrap(), None);
    });
}

#[test]
fn without_rights_facts_are_missing_and_named() {
    run(async {
        let world = World::new("blind").await;
        let set = json!({ "metadata": { "name": "orders-abc", "uid": "11111111-0000-0000-0000-000000000000" } });
        let pod = world
            .pod(json!({}), Some(("apps/v1", "ReplicaSet", &set)))
            .await;
        assert_eq!(node_gone(&world.kube, "node1").await.unwrap(), None);
        let rules = rights(world.map.name()).into_iter().take(3).collect();
        world.grant(rules).await;
        let missing = loop {
            let sight = owner_of(&world.kube, &pod).await.unwrap();
            if sight.missing.len() == 2 {
                break sight.missing;
            }
        };
        let texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert!(
            texts[0].contains("apiGroups: [\"apps\"], resources: [replicasets], verbs: [get]"),
            "{texts:?}"
        );
        assert!(
            texts[1].contains("resources: [namespaces], verbs: [get]"),
            "{texts:?}"
        );
    });
}

async fn grant_nodes(world: &World) {
    let text = include_str!("../../deploy/rbac-nodes.yaml");
    let (role, _) = text.split_once("\n---\n").unwrap();
    let role: ClusterRole = serde_saphyr::from_str(role).unwrap();
    let binding = json!({
        "metadata": { "name": "nodes" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "drey-nodes" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": world.name }],
    });
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    let params = PostParams::default();
    let roles = Api::all(world.admin.clone());
    roles.create(&params, &role).await.unwrap();
    let bindings = Api::all(world.admin.clone());
    bindings.create(&params, &binding).await.unwrap();
}

/// With the ClusterRole of `deploy/rbac-nodes.yaml`.
#[test]
fn a_node_is_gone_when_it_is_deleted_or_out_of_service() {
    run(async {
        let world = World::new("nodes").await;
        let nodes: Api<Node> = Api::all(world.admin.clone());
        let node = json!({ "metadata": { "name": "lost" } });
        let node = serde_json::from_value(node).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        grant_nodes(&world).await;
        // The right takes effect a moment later.
        while node_gone(&world.kube, "lost").await.unwrap().is_none() {}
        assert_eq!(node_gone(&world.kube, "lost").await.unwrap(), Some(false));

        let taint = json!({ "key": "node.kubernetes.io/out-of-service", "value": "x", "effect": "NoExecute" });
        let patch = json!({ "spec": { "taints": [taint] } });
        let params = PatchParams::default();
        let tainted = nodes.patch("lost", &params, &Patch::Merge(patch)).await;
        tainted.unwrap();
        assert_eq!(node_gone(&world.kube, "lost").await.unwrap(), Some(true));

        nodes
            .delete("lost", &DeleteParams::default())
            .await
            .unwrap();
        assert_eq!(node_gone(&world.kube, "lost").await.unwrap(), Some(true));
    });
}

#[test]
fn an_address_where_nothing_listens_is_silent() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!silent("127.0.0.1", port).await);
        drop(listener);
        assert!(silent("127.0.0.1", port).await);
        assert!(silent("nonsense", port).await);
    });
}
