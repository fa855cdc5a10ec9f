//! Pods: how one stands, and a watch of one by its name.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, ResourceExt};

use super::client::limited;
use super::error::Attempt;
use super::watch::{Target, watch_object};
use super::{Kube, KubeError};
use crate::domain::lock::PodRef;

/// A Deployment's controller writes its ReplicaSets' template hash here.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// Those of StatefulSets and DaemonSets write theirs here.
pub const REVISION_HASH: &str = "controller-revision-hash";

/// The controller of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerRef {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `name`.
    pub name: String,
    /// `uid`.
    pub uid: String,
}

/// A pod was told to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// `deletionTimestamp`: the time of the request with the grace period added, by the API server's clock.
    pub deadline: Timestamp,
    /// `deletionGracePeriodSeconds`.
    pub grace: Duration,
}

/// How a container stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSight {
    /// It runs.
    pub running: bool,
    /// When it was started, if it runs.
    pub started: Option<Timestamp>,
    /// Exit code and reason, if it has terminated and not been started again.
    pub terminated: Option<(i32, String)>,
    /// How often it was started again.
    pub restarts: i32,
    /// Its image, as the pod's template has it.
    pub image: String,
}

/// How a pod stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSight {
    /// Which pod.
    pub pod: PodRef,
    /// It was told to go.
    pub deletion: Option<Deletion>,
    /// Why, where something else than a person has told it: the reason of the condition `DisruptionTarget`.
    pub disruption: Option<String>,
    /// Its controller.
    pub owner: Option<OwnerRef>,
    /// `status.phase`.
    pub phase: String,
    /// Its containers, without init containers, by name.
    pub containers: BTreeMap<String, ContainerSight>,
    /// The kubelet starts its containers again whenever they end.
    pub restart_always: bool,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Duration,
}

impl PodSight {
    /// All its containers have ended and none will be started again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// What the pod's object says.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let label = |key: &str| pod.labels().get(key).cloned();
        let conditions = status.and_then(|status| status.conditions.as_deref());
        let disruption = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
        let seconds = |seconds: Option<i64>| {
            Duration::from_secs(seconds.and_then(|it| u64::try_from(it).ok()).unwrap_or(30))
        };
        Self {
            pod: PodRef {
                uid: pod.uid().unwrap_or_default(),
                name: pod.name_any(),
                ip: status.and_then(|status| status.pod_ip.clone()),
                node: spec.and_then(|spec| spec.node_name.clone()),
                template: label(TEMPLATE_HASH)
                    .or_else(|| label(REVISION_HASH))
                    .unwrap_or_default(),
            },
            deletion: pod
                .metadata
                .deletion_timestamp
                .as_ref()
                .map(|time| Deletion {
                    deadline: time.0,
                    grace: seconds(pod.metadata.deletion_grace_period_seconds),
                }),
            disruption: disruption.and_then(|condition| condition.reason.clone()),
            owner: controller(pod.owner_references()),
            phase: status
                .and_then(|status| status.phase.clone())
                .unwrap_or_default(),
            containers: containers(pod),
            restart_always: spec
                .and_then(|spec| spec.restart_policy.as_deref())
                .is_none_or(|policy| policy == "Always"),
            grace: seconds(spec.and_then(|spec| spec.termination_grace_period_seconds)),
        }
    }
}

/// The one of `owners` that controls the object.
pub(super) fn controller(
    owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference],
) -> Option<OwnerRef> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(OwnerRef {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

fn containers(pod: &Pod) -> BTreeMap<String, ContainerSight> {
    let status = |name: &str| {
        let all = pod.status.as_ref()?.container_statuses.as_deref()?;
        all.iter().find(|status| status.name == name)
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .map(|container| {
            let image = container.image.clone().unwrap_or_default();
            (
                container.name.clone(),
                container_sight(status(&container.name), image),
            )
        })
        .collect()
}

fn container_sight(status: Option<&ContainerStatus>, image: String) -> ContainerSight {
    let state = status.and_then(|status| status.state.as_ref());
    let running = state.and_then(|state| state.running.as_ref());
    let terminated = state.and_then(|state| state.terminated.as_ref());
    ContainerSight {
        running: running.is_some(),
        started: running.and_then(|running| Some(running.started_at.as_ref()?.0)),
        terminated: terminated.map(|end| (end.exit_code, end.reason.clone().unwrap_or_default())),
        restarts: status.map_or(0, |status| status.restart_count),
        image,
    }
}

/// The pod now, and after each change; `None` when there is none of that name. It goes on by itself after a failure.
pub fn watch_pod(
    kube: &Kube,
    name: &str,
) -> BoxStream<'static, Result<Option<PodSight>, KubeError>> {
    let target = Target {
        resource: "pods",
        name: name.to_owned(),
    };
    watch_object::<Pod>(kube.api(), target)
        .map_ok(|pod| pod.as_ref().map(PodSight::of))
        .boxed()
}

/// The pod as it is now.
///
/// # Errors
/// When the API server does not say.
pub async fn get_pod(kube: &Kube, name: &str) -> Result<Option<PodSight>, KubeError> {
    let api: Api<Pod> = kube.api();
    let pod = limited(attempt("get", name), api.get_opt(name)).await?;
    Ok(pod.as_ref().map(PodSight::of))
}

/// The TaskManagers that Flink's native mode has started for `cluster_id`.
///
/// # Errors
/// When the API server does not say.
pub async fn native_task_managers(
    kube: &Kube,
    cluster_id: &str,
) -> Result<Vec<PodSight>, KubeError> {
    let api: Api<Pod> = kube.api();
    let labels = format!("app={cluster_id},component=taskmanager,type=flink-native-kubernetes");
    let params = ListParams::default().labels(&labels);
    let list = limited(attempt("list", ""), api.list(&params)).await?;
    Ok(list.items.iter().map(PodSight::of).collect())
}

/// Deletes this very pod within a second; one of the same name that came after it is left alone.
///
/// # Errors
/// When the API server refuses. A pod that is gone already is none.
pub async fn delete_pod(kube: &Kube, pod: &PodRef) -> Result<(), KubeError> {
    let api: Api<Pod> = kube.api();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(pod.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default().grace_period(1)
    };
    let deleted = api.delete(&pod.name, &params);
    match limited(attempt("delete", &pod.name), deleted).await {
        Ok(_) | Err(KubeError::NotFound { .. } | KubeError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a node is deleted, or marked as out of service; `None` where Nodes may not be read.
///
/// # Errors
/// When the API server does not say.
pub async fn node_gone(kube: &Kube, node: &str) -> Result<Option<bool>, KubeError> {
    let api: Api<Node> = Api::all(kube.client().clone());
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
            let out = |taint: &k8s_openapi::api::core::v1::Taint| {
                taint.key == "node.kubernetes.io/out-of-service"
            };
            Ok(Some(taints.iter().any(out)))
        }
        Err(error) if error.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}

fn attempt<'a>(verb: &'static str, name: &'a str) -> Attempt<'a> {
    Attempt {
        verb,
        resource: "pods",
        group: "",
        name,
    }
}
