//! Pods: how they are watched, looked for and deleted.

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions};

use super::client::{Kube, limited};
use super::error::{Attempt, KubeError};
use super::watch::{Target, watch_object};
use crate::domain::changes::Files;
use crate::domain::lock::PodRef;
use sight::sight;

pub(crate) use sight::controller;
pub use sight::{
    ConfigMapMount, ContainerSight, Deletion, OwnerRef, PodSight, Restarts, Terminated, seen_as,
};

mod sight;

/// The pod now and after each change, `None` when it is gone. A StatefulSet makes another of the same name: look at the UID.
/// It reconnects by itself; an error is told once as long as it stays the same, and the pod again when it is over.
pub fn watch_pod(
    kube: &Kube,
    name: &str,
) -> impl Stream<Item = Result<Option<PodSight>, KubeError>> + Unpin + use<> {
    let target = Target {
        resource: "pods",
        group: "",
        name: name.to_owned(),
    };
    watch_object::<Pod>(kube.api(), target).map(|seen| Ok(seen?.map(|pod| sight(&pod))))
}

/// The pod as it is now; `None` when there is none.
///
/// # Errors
/// When the API server cannot say.
pub async fn get_pod(kube: &Kube, name: &str) -> Result<Option<PodSight>, KubeError> {
    let api: Api<Pod> = kube.api();
    let pod = limited(attempt("get", name), api.get_opt(name)).await?;
    Ok(pod.map(|pod| sight(&pod)))
}

/// The TaskManagers that the JobManager of a cluster in native mode has started.
///
/// # Errors
/// When the API server cannot say.
pub async fn native_task_managers(
    kube: &Kube,
    cluster_id: &str,
) -> Result<Vec<PodSight>, KubeError> {
    let api: Api<Pod> = kube.api();
    let labels = format!("app={cluster_id},component=taskmanager,type=flink-native-kubernetes");
    let params = ListParams::default().labels(&labels);
    let pods = limited(attempt("list", ""), api.list(&params)).await?;
    Ok(pods.items.iter().map(sight).collect())
}

/// Deletes exactly this pod, with its own grace period. One that is gone already is no error.
///
/// # Errors
/// When the API server does not do it.
pub async fn delete_pod(kube: &Kube, pod: &PodRef) -> Result<(), KubeError> {
    let api: Api<Pod> = kube.api();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(pod.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match limited(attempt("delete", &pod.name), api.delete(&pod.name, &params)).await {
        // With another UID it is another pod of that name.
        Ok(_) | Err(KubeError::NotFound { .. } | KubeError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a node is deleted or marked out of service; `None` when Nodes may not be read.
///
/// # Errors
/// When the API server cannot say.
pub async fn node_gone(kube: &Kube, node: &str) -> Result<Option<bool>, KubeError> {
    let api: Api<Node> = Api::all(kube.client());
    let attempt = Attempt {
        verb: "get",
        resource: "nodes",
        group: "",
        name: node,
    };
    match limited(attempt, api.get_opt(node)).await {
        Ok(None) => Ok(Some(true)),
        Ok(Some(node)) => {
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            let out = |key: &str| key == "node.kubernetes.io/out-of-service";
            Ok(Some(taints.iter().any(|taint| out(&taint.key))))
        }
        Err(KubeError::Forbidden { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the address `ip`, which the pod `uid` had, is another pod's now, so that whoever answers there says nothing about
/// the first one. A pod of another namespace is not seen.
///
/// # Errors
/// When the API server cannot say.
pub async fn is_reused(kube: &Kube, ip: &str, uid: &str) -> Result<bool, KubeError> {
    let api: Api<Pod> = kube.api();
    let params = ListParams::default().fields(&format!("status.podIP={ip}"));
    let pods = limited(attempt("list", ""), api.list(&params)).await?;
    Ok(pods.items.iter().any(|pod| has_address(pod, ip, uid)))
}

/// Whether this is another pod than `uid` that has the address `ip` to itself: one that is over keeps it in its status only,
/// and in its node's network it shares it with others.
fn has_address(pod: &Pod, ip: &str, uid: &str) -> bool {
    let shared = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.host_network);
    let seen = sight(pod);
    seen.pod.uid != uid
        && seen.pod.ip.as_deref() == Some(ip)
        && !seen.is_over()
        // One that is going may have had it before.
        && seen.deletion.is_none()
        && shared(pod) != Some(true)
}

fn attempt<'a>(verb: &'static str, name: &'a str) -> Attempt<'a> {
    Attempt {
        verb,
        resource: "pods",
        group: "",
        name,
    }
}

/// The files of a mounted ConfigMap now and after each change, `None` when it is gone, as the kubelet will bring them.
pub fn watch_config_map(
    kube: &Kube,
    mount: ConfigMapMount,
) -> impl Stream<Item = Result<Option<Files>, KubeError>> + Unpin + use<> {
    let target = Target {
        resource: "configmaps",
        group: "",
        name: mount.name.clone(),
    };
    watch_object::<ConfigMap>(kube.api(), target).map(move |seen| {
        let map = seen?;
        Ok(map.map(|map| {
            let texts = map.data.unwrap_or_default().into_iter();
            let named = |(key, text): (String, String)| match mount.keys.get(&key) {
                Some(name) => Some((name.clone(), text)),
                None => mount.keys.is_empty().then_some((key, text)),
            };
            texts.filter_map(named).collect()
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_reused_by_a_pod_that_lives_and_has_it_to_itself() {
        let pod = |uid: &str, ip: &str, phase: &str, host: bool| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"uid": uid},
                "spec": {"hostNetwork": host, "containers": []},
                "status": {"podIP": ip, "phase": phase},
            }))
            .expect("a pod")
        };
        let reused = |pod: &Pod| has_address(pod, "10.0.0.7", "old");
        assert!(reused(&pod("new", "10.0.0.7", "Running", false)));
        assert!(reused(&pod("new", "10.0.0.7", "Pending", false)));
        assert!(!reused(&pod("old", "10.0.0.7", "Running", false)));
        assert!(!reused(&pod("new", "10.0.0.8", "Running", false)));
        assert!(!reused(&pod("new", "10.0.0.7", "Succeeded", false)));
        assert!(!reused(&pod("new", "10.0.0.7", "Running", true)));
    }
}
