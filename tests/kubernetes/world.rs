//! One API server for all tests of the binary, a namespace and a user for each.

use std::time::Duration;

use drey::domain::pointer::{PointKind, Pointer, RestorePoint, TriggerReason};
use drey::kubernetes::{Document, Kube, PointerMap, Sight};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::api_server::ApiServer;
pub use crate::api_server::run;

static SERVER: OnceCell<ApiServer> = OnceCell::const_new();

/// What the README's Role allows in a namespace.
pub fn rights(map: &str) -> Vec<Value> {
    vec![
        json!({ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [map], "verbs": ["get", "list", "watch", "patch", "update"] }),
        json!({ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"] }),
        json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"] }),
        json!({ "apiGroups": ["apps"], "resources": ["replicasets", "deployments", "statefulsets"], "verbs": ["get"] }),
        json!({ "apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"] }),
        json!({ "apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"] }),
        json!({ "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"] }),
    ]
}

/// A namespace of one's own.
pub struct World {
    pub server: &'static ApiServer,
    pub name: String,
    pub admin: Client,
    pub kube: Kube,
    pub map: PointerMap,
}

impl World {
    /// The world of `name`, with the rights of the README.
    pub async fn new(name: &str) -> Self {
        let server = SERVER.get_or_init(ApiServer::start).await;
        let world = Self::on(server, name).await;
        world.grant(rights(world.map.name())).await;
        world
    }

    async fn on(server: &'static ApiServer, name: &str) -> Self {
        server.namespace(name).await;
        let kube = server.drey(name, name).await;
        Self {
            server,
            name: name.to_owned(),
            admin: server.admin().await,
            map: PointerMap::new(&kube, "orders"),
            kube,
        }
    }

    pub async fn grant(&self, rules: Vec<Value>) {
        self.server
            .grant(&self.name, &self.name, Value::Array(rules))
            .await;
    }

    pub fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.admin.clone(), &self.name)
    }

    /// What a person does with kubectl.
    pub async fn edit(&self, patch: Value) -> ConfigMap {
        self.maps()
            .patch(
                self.map.name(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await
            .unwrap()
    }

    pub async fn load(&self) -> Document {
        self.map.load().await.unwrap().unwrap()
    }
}

/// The next item of a stream, which must come soon.
pub async fn next<T>(stream: &mut (impl futures_util::Stream<Item = T> + Unpin)) -> T {
    use futures_util::StreamExt;
    timeout(Duration::from_secs(60), stream.next())
        .await
        .expect("an item within a minute")
        .expect("no end")
}

pub fn point(path: &str, checkpoint_id: i64) -> RestorePoint {
    RestorePoint {
        path: path.to_owned(),
        kind: PointKind::Stop,
        checkpoint_id: Some(checkpoint_id),
        job_id: None,
        lineage: 0,
        run: None,
        reason: TriggerReason::Shutdown,
        started: None,
        completed: "2026-01-02T03:04:05Z".parse().unwrap(),
        size: None,
        flink_version: None,
        superseded: false,
        claimed: false,
    }
}

/// A pointer whose newest restore point is `path`.
pub fn pointer(path: &str) -> Pointer {
    let mut pointer = Pointer::new("orders");
    pointer.entry("application").record(point(path, 1), 10);
    pointer.seal();
    pointer
}

pub fn document(path: &str) -> Document {
    Document {
        pointer: Sight::Good(pointer(path)),
        ..Document::default()
    }
}
