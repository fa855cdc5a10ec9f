//! Waits for a change of what is checked, so that waiting for a good report is no busy loop.

use std::fmt::Debug;
use std::pin::pin;

use futures_util::future::{BoxFuture, select_all};
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, WatchParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use super::Scope;
use super::ask::limited;
use crate::kubernetes::Kube;

/// The state that was looked at: each change after it counts. What may not be read is not watched.
pub struct Marks {
    waits: Vec<BoxFuture<'static, ()>>,
}

impl Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Marks")
            .field("kinds", &self.waits.len())
            .finish()
    }
}

/// Remembers the present state, before it is looked at: no change is missed between looking and waiting.
pub async fn marks(kube: &Kube, scope: &Scope) -> Marks {
    let client = kube.client();
    let own = "app.kubernetes.io/managed-by=drey";
    let (pods, maps, deployments, configurations) = tokio::join!(
        mark::<Pod>(within(&client, scope), ""),
        mark::<ConfigMap>(within(&client, scope), own),
        mark::<Deployment>(Api::namespaced(client.clone(), &scope.webhook), ""),
        mark::<MutatingWebhookConfiguration>(Api::all(client.clone()), ""),
    );
    let waits = [pods, maps, deployments, configurations];
    Marks {
        waits: waits.into_iter().flatten().collect(),
    }
}

/// Ends with the next change; never where nothing may be watched.
pub async fn changed(marks: Marks) {
    if marks.waits.is_empty() {
        return std::future::pending().await;
    }
    select_all(marks.waits).await;
}

fn within<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match &scope.namespace {
        Some(name) => Api::namespaced(client.clone(), name),
        None => Api::all(client.clone()),
    }
}

async fn mark<K>(api: Api<K>, labels: &'static str) -> Option<BoxFuture<'static, ()>>
where
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let params = ListParams::default().labels(labels).limit(1);
    let list = limited(api.list(&params)).await.ok()?;
    let version = list.metadata.resource_version?;
    Some(follow(api, labels, version).boxed())
}

async fn follow<K>(api: Api<K>, labels: &'static str, version: String)
where
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let params = WatchParams::default().labels(labels).disable_bookmarks();
    if let Ok(stream) = limited(api.watch(&params, &version)).await
        && pin!(stream).next().await.is_some()
    {
        return;
    }
    // Not allowed, ended or broken: the pause between two looks goes on without it.
    std::future::pending().await
}
