//! What owns a pod, and what it wants now: from the pod over its ReplicaSet to its Deployment, or to a StatefulSet or Job.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::client::limited;
use super::error::Attempt;
use super::pods::{OwnerRef, PodSight, TEMPLATE_HASH, controller};
use super::{Kube, KubeError};
use crate::domain::cause::Owner;

/// The annotation by which a Deployment's controller counts its templates.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// What owns a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerSight {
    /// The topmost controller; `None` for a bare pod.
    pub owner: Option<OwnerRef>,
    /// What it wants now.
    pub wants: Owner,
    /// The template of its newest revision, where that is known.
    pub newest_template: Option<String>,
    /// The pod's namespace is being deleted.
    pub namespace_terminating: bool,
}

/// What owns `pod` now.
///
/// # Errors
/// When the API server does not say, or a right is missing. Whether the namespace is being deleted is left open then.
pub async fn owner_of(kube: &Kube, pod: &PodSight) -> Result<OwnerSight, KubeError> {
    let namespace_terminating = terminating(kube).await;
    let sight = match &pod.owner {
        None => OwnerSight::default(),
        Some(owner) => match owner.kind.as_str() {
            "ReplicaSet" => of_replica_set(kube, pod, owner).await?,
            "StatefulSet" => of_stateful_set(kube, pod, owner).await?,
            "Job" => of_job(kube, owner).await?,
            _ => OwnerSight {
                owner: Some(owner.clone()),
                ..OwnerSight::default()
            },
        },
    };
    Ok(OwnerSight {
        namespace_terminating,
        ..sight
    })
}

async fn of_replica_set(
    kube: &Kube,
    pod: &PodSight,
    owner: &OwnerRef,
) -> Result<OwnerSight, KubeError> {
    let Some(set) = get::<ReplicaSet>(kube, "replicasets", "apps", owner).await? else {
        return Ok(gone(owner));
    };
    let Some(deployment_ref) = controller(set.owner_references()) else {
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
        return Ok(of_plain(
            owner,
            replicas,
            set.metadata.deletion_timestamp.is_some(),
        ));
    };
    let found = get::<Deployment>(kube, "deployments", "apps", &deployment_ref).await?;
    let Some(deployment) = found else {
        return Ok(gone(&deployment_ref));
    };
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let deleting = deployment.metadata.deletion_timestamp.is_some();
    let mut sight = of_plain(&deployment_ref, replicas, deleting);
    sight.newest_template = newest_template(kube, &deployment_ref).await?;
    let other = sight
        .newest_template
        .as_ref()
        .is_some_and(|newest| *newest != pod.pod.template);
    if sight.wants == Owner::SamePods && other {
        sight.wants = Owner::NewTemplate;
    }
    Ok(sight)
}

/// The template hash of the Deployment's ReplicaSet with the highest revision.
async fn newest_template(kube: &Kube, deployment: &OwnerRef) -> Result<Option<String>, KubeError> {
    let api: Api<ReplicaSet> = kube.api();
    let attempt = Attempt {
        verb: "list",
        resource: "replicasets",
        group: "apps",
        name: "",
    };
    let sets = limited(attempt, api.list(&ListParams::default())).await?;
    let own = sets.items.into_iter().filter(|set| {
        controller(set.owner_references()).is_some_and(|owner| owner.uid == deployment.uid)
    });
    let revision = |set: &ReplicaSet| -> u64 {
        let text = set.annotations().get(REVISION);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    Ok(own
        .max_by_key(revision)
        .and_then(|set| set.labels().get(TEMPLATE_HASH).cloned()))
}

async fn of_stateful_set(
    kube: &Kube,
    pod: &PodSight,
    owner: &OwnerRef,
) -> Result<OwnerSight, KubeError> {
    let Some(set) = get::<StatefulSet>(kube, "statefulsets", "apps", owner).await? else {
        return Ok(gone(owner));
    };
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
    let deleting = set.metadata.deletion_timestamp.is_some();
    let mut sight = of_plain(owner, replicas, deleting);
    sight.newest_template = set.status.and_then(|status| status.update_revision);
    let other = sight
        .newest_template
        .as_ref()
        .is_some_and(|newest| *newest != pod.pod.template);
    if sight.wants == Owner::SamePods && other {
        sight.wants = Owner::NewTemplate;
    }
    Ok(sight)
}

async fn of_job(kube: &Kube, owner: &OwnerRef) -> Result<OwnerSight, KubeError> {
    let Some(job) = get::<Job>(kube, "jobs", "batch", owner).await? else {
        return Ok(gone(owner));
    };
    let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let deleting = job.metadata.deletion_timestamp.is_some();
    Ok(of_plain(owner, Some(i32::from(!suspended)), deleting))
}

fn of_plain(owner: &OwnerRef, replicas: Option<i32>, deleting: bool) -> OwnerSight {
    OwnerSight {
        owner: Some(owner.clone()),
        wants: match (deleting, replicas) {
            (true, _) => Owner::Deleted,
            (false, Some(0)) => Owner::NoPods,
            (false, _) => Owner::SamePods,
        },
        ..OwnerSight::default()
    }
}

fn gone(owner: &OwnerRef) -> OwnerSight {
    OwnerSight {
        owner: Some(owner.clone()),
        wants: Owner::Deleted,
        ..OwnerSight::default()
    }
}

/// The very object that `owner` means; another one of the same name is none.
async fn get<K>(
    kube: &Kube,
    resource: &'static str,
    group: &'static str,
    owner: &OwnerRef,
) -> Result<Option<K>, KubeError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = kube.api();
    let attempt = Attempt {
        verb: "get",
        resource,
        group,
        name: &owner.name,
    };
    let found = limited(attempt, api.get_opt(&owner.name)).await?;
    Ok(found.filter(|found| found.meta().uid.as_ref() == Some(&owner.uid)))
}

/// Whether the namespace is being deleted; not known counts as not.
async fn terminating(kube: &Kube) -> bool {
    let api: Api<Namespace> = Api::all(kube.client().clone());
    let attempt = Attempt {
        verb: "get",
        resource: "namespaces",
        group: "",
        name: kube.namespace(),
    };
    let found = limited(attempt, api.get_opt(kube.namespace())).await;
    matches!(found, Ok(Some(namespace)) if namespace.metadata.deletion_timestamp.is_some())
}
