//! What comes of pods.

use serde_json::{Value, json};

use crate::world::{Flags, World, run};

/// A JobManager pod of Flink's native mode, cut short.
pub fn job_manager(name: &str, annotations: &Value) -> Value {
    json!({
        "metadata": {
            "name": name,
            "labels": { "app": "orders", "component": "jobmanager", "type": "flink-native-kubernetes" },
            "annotations": annotations,
        },
        "spec": {
            "containers": [{
                "name": "flink-main-container",
                "image": "flink:1.20.2",
                "command": ["/docker-entrypoint.sh"],
                "args": ["bash", "-c", "kubernetes-jobmanager.sh kubernetes-application"],
            }],
        },
    })
}

#[test]
fn a_pod_that_is_opted_in_goes_through_the_webhook() {
    run(async {
        let world = World::new("through").await;
        let webhook = world.start("a", Flags::default());
        world.configure(webhook.port).await;
        webhook.ready().await;
        let pod = job_manager("jm", &json!({ "drey.io/inject": "true" }));
        world.create(&pod, true).await.unwrap();
        assert_eq!(webhook.metric("drey_webhook_leader"), 1.0);
    });
}
