//! What comes of pods that an API server is asked to create.

use drey::inject::{self, Facts, Outcome, Settings};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::helm;
use crate::ports::free_port;
use crate::world::{Flags, World, run};

/// A pod of Flink's native mode, cut short.
pub fn flink(component: &str, name: &str, annotations: &Value) -> Value {
    let script = format!("kubernetes-{component}.sh kubernetes-application");
    json!({
        "metadata": {
            "name": name,
            "labels": { "app": "orders", "component": component, "type": "flink-native-kubernetes" },
            "annotations": annotations,
        },
        "spec": {
            "containers": [{
                "name": "flink-main-container",
                "image": "flink:1.20.2",
                "command": ["/docker-entrypoint.sh"],
                "args": ["bash", "-c", script],
            }],
        },
    })
}

pub fn opted_in() -> Value {
    json!({ "drey.io/inject": "true" })
}

fn settings() -> Settings {
    Settings {
        image: "drey:test".to_owned(),
        image_pull_policy: None,
        allowed_images: Vec::new(),
        native_sidecar: true,
        opted_in: false,
    }
}

pub fn is_injected(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.iter().flatten();
    annotations
        .into_iter()
        .any(|(key, _)| key == inject::STATUS)
}

/// Without what differs between any two pods.
fn same(mut pod: Pod) -> Value {
    let meta = &mut pod.metadata;
    meta.namespace = None;
    meta.uid = None;
    meta.resource_version = None;
    meta.creation_timestamp = None;
    meta.managed_fields = None;
    serde_json::to_value(pod).unwrap()
}

#[test]
fn what_the_api_server_stores_is_what_the_function_returns() {
    run(async {
        let world = World::new("through").await;
        let webhook = world.start("a", Flags::default());
        world.configure(webhook.port).await;
        webhook.ready().await;
        let plain = world.plain().await;
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        for component in ["jobmanager", "taskmanager"] {
            let pod = flink(component, component, &opted_in());
            let stored = world.create(&pod, false).await.unwrap();
            assert!(is_injected(&stored));
            // What the API server itself adds, it adds before the webhook and after it.
            let typed = serde_json::from_value(pod).unwrap();
            let before = plain.create(&dry, &typed).await.unwrap();
            let outcome = inject::inject(&before, &settings(), &Facts::default()).unwrap();
            let Outcome::Injected(mut injected) = outcome else {
                panic!("{outcome:?}")
            };
            // The API server would keep the class that it has computed for the pod before.
            injected.pod.status = None;
            let after = plain.create(&dry, &injected.pod).await.unwrap();
            assert_eq!(same(stored), same(after));
        }
    });
}

#[test]
fn warnings_and_refusals_reach_whoever_creates_the_pod() {
    run(async {
        let world = World::new("words").await;
        let webhook = world.start("a", Flags::default());
        world.configure(webhook.port).await;
        webhook.ready().await;
        let warnings = world
            .warnings(&flink("jobmanager", "jm", &opted_in()))
            .await;
        // Its service account has no rights at all here.
        let rights = "may not get configmaps/drey-orders";
        assert!(
            warnings.iter().any(|text| text.contains(rights)),
            "{warnings:?}"
        );

        let annotations = json!({ "drey.io/inject": "true", "drey.io/nonsense": "\"}\n'" });
        let error = world
            .create(&flink("jobmanager", "jm", &annotations), true)
            .await
            .unwrap_err();
        let kube::Error::Api(status) = error else {
            panic!("{error:?}")
        };
        assert_eq!(status.code, 422);
        assert!(
            status.message.contains("drey.io/nonsense"),
            "{}",
            status.message
        );
        assert!(
            status.message.contains("jobmanager.drey.io"),
            "{}",
            status.message
        );
    });
}

/// Nothing that the pod itself says tells that savepoints have nowhere to go.
#[test]
fn flinks_configuration_is_read_where_that_is_asked_for() {
    run(async {
        let chart = helm::render(&["--set=webhook.lookUp={configuration}"]);
        let world = World::of("looked-up", &chart).await;
        let webhook = world.start("a", Flags::default().with(&["--look-up=configuration"]));
        world.configure(webhook.port).await;
        webhook.ready().await;
        let configuration = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "flink-config-orders" },
            "data": { "config.yaml": "execution.checkpointing.interval: 10s\n" },
        });
        world
            .apply("/api/v1", "configmaps/flink-config-orders", &configuration)
            .await;
        let mut pod = flink("jobmanager", "jm", &opted_in());
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{ "name": "flink-config-volume", "mountPath": "/opt/flink/conf" }]);
        pod["spec"]["volumes"] = json!([{ "name": "flink-config-volume", "configMap": { "name": "flink-config-orders" } }]);
        let warnings = world.warnings(&pod).await;
        let has = |text: &str| warnings.iter().any(|warning| warning.contains(text));
        assert!(has("names no directory for savepoints"), "{warnings:?}");
        assert!(
            !has("checkpointing is off") && !has("may not"),
            "{warnings:?}"
        );
    });
}

#[test]
fn a_webhook_that_is_down_stops_job_managers_alone() {
    run(async {
        let world = World::new("down").await;
        world.configure(free_port()).await;
        let job_manager = flink("jobmanager", "jm", &opted_in());
        // The configuration counts a moment after it was made.
        let start = std::time::Instant::now();
        let error = loop {
            match world.create(&job_manager, true).await {
                Err(error) => break error,
                Ok(_) => assert!(start.elapsed().as_secs() < 60),
            }
        };
        assert!(error.to_string().contains("jobmanager.drey.io"), "{error}");
        let passed = [
            flink("taskmanager", "tm", &opted_in()),
            flink("jobmanager", "out", &json!({ "drey.io/inject": "false" })),
            flink("jobmanager", "unasked", &json!({})),
            json!({
                "metadata": { "name": "foreign" },
                "spec": { "containers": [{ "name": "x", "image": "y" }] },
            }),
        ];
        for pod in passed {
            let stored = world.create(&pod, true).await.unwrap();
            assert!(!is_injected(&stored));
        }
    });
}

#[test]
fn a_namespace_opts_its_flink_pods_in() {
    run(async {
        let world = World::new("namespace").await;
        let webhook = world.start("a", Flags::default());
        world.configure(webhook.port).await;
        let label = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": world.name, "labels": { "drey.io/inject": "enabled" } },
        });
        let path = format!("/api/v1/namespaces/{}", world.name);
        world.server.apply(&path, &label).await;
        webhook.ready().await;
        // The API server sees the label a moment later.
        let unasked = flink("jobmanager", "jm", &json!({}));
        let start = std::time::Instant::now();
        while !is_injected(&world.create(&unasked, true).await.unwrap()) {
            assert!(start.elapsed().as_secs() < 60, "{}", webhook.log());
        }
        let out = flink("jobmanager", "jm", &json!({ "drey.io/inject": "false" }));
        assert!(!is_injected(&world.create(&out, true).await.unwrap()));
        let foreign = json!({
            "metadata": { "name": "foreign" },
            "spec": { "containers": [{ "name": "x", "image": "y" }] },
        });
        assert!(!is_injected(&world.create(&foreign, true).await.unwrap()));
    });
}

#[test]
fn the_owner_hears_of_it_unless_it_was_a_dry_run() {
    run(async {
        let world = World::new("heard").await;
        let webhook = world.start("a", Flags::default());
        world.configure(webhook.port).await;
        webhook.ready().await;
        let owned = |owner: &str, annotations: &Value| {
            let mut pod = flink("jobmanager", owner, annotations);
            pod["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "name": owner,
                "uid": format!("uid-of-{owner}"),
                "controller": true,
            }]);
            pod
        };
        world
            .create(&owned("dry", &opted_in()), true)
            .await
            .unwrap();
        world
            .create(&owned("wet", &opted_in()), false)
            .await
            .unwrap();
        let bad = json!({ "drey.io/inject": "true", "drey.io/nonsense": "x" });
        world.create(&owned("bad", &bad), false).await.unwrap_err();
        let operator = json!({
            "drey.io/inject": "true",
            "flinkdeployment.flink.apache.org/generation": "1",
        });
        world
            .create(&owned("operator", &operator), false)
            .await
            .unwrap();
        let start = std::time::Instant::now();
        // Written one after the other: what comes before the last one is there.
        let events = loop {
            let events = world.events().await;
            if events.len() >= 3 {
                break events;
            }
            assert!(start.elapsed().as_secs() < 60, "{events:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let mut seen: Vec<(String, String)> = events
            .into_iter()
            .map(|event| (event.involved_object.name.unwrap(), event.reason.unwrap()))
            .collect();
        seen.sort();
        let expected = [
            ("bad", "InjectionRefused"),
            ("operator", "InjectionSkipped"),
            ("wet", "Injected"),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, reason)| (name.to_owned(), reason.to_owned()))
        );
    });
}

/// In native mode its TaskManagers are owned by the Deployment, which alone says whose it is.
#[test]
fn a_flink_deployments_pods_are_left_alone() {
    run(async {
        let world = World::new("operators").await;
        let webhook = world.start("a", Flags::default());
        world.configure(webhook.port).await;
        webhook.ready().await;
        let owner = |kind: &str, name: &str| {
            json!([{
                "apiVersion": "x/v1", "kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true,
            }])
        };
        let labels = json!({ "app": "theirs" });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "theirs", "ownerReferences": owner("FlinkDeployment", "orders") },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "x", "image": "y" }] },
                },
            },
        });
        world
            .apply("/apis/apps/v1", "deployments/theirs", &deployment)
            .await;
        let mut theirs = flink("taskmanager", "tm", &opted_in());
        theirs["metadata"]["ownerReferences"] = owner("Deployment", "theirs");
        assert!(!is_injected(&world.create(&theirs, true).await.unwrap()));
        let mut ours = flink("taskmanager", "tm", &opted_in());
        ours["metadata"]["ownerReferences"] = owner("Deployment", "ours");
        assert!(is_injected(&world.create(&ours, true).await.unwrap()));
    });
}
