//! What controls a pod, up to the object that a person made: the facts from which the cause of its end is told.
//!
//! It needs the right to get the objects, by name, and nothing else. A right that is missing leaves facts out.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use serde_json::Value;

use super::client::{Kube, limited};
use super::error::{Attempt, KubeError};
use super::pods::{OwnerRef, PodSight, controller};
use crate::domain::cause::Owner;

/// What is known of the top of a pod's owners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerSight {
    /// The Deployment, StatefulSet, Job or whatever it is; `None` for a bare pod.
    pub owner: Option<OwnerRef>,
    /// How many pods it is to have; 0 for a Job that is suspended.
    pub replicas: Option<i32>,
    /// It was told to go.
    pub deleting: bool,
    /// It does not exist any more, whether or not there is another of its name.
    pub gone: bool,
    /// It is a Job that is complete or has failed: no pod comes after this one.
    pub finished: bool,
    /// Its pod template is no longer that of the pod; `None` where that cannot be told.
    pub template_changed: Option<bool>,
    /// The namespace was told to go; `None` where that cannot be told.
    pub namespace_terminating: Option<bool>,
    /// Rights that were missing.
    pub missing: Vec<KubeError>,
}

impl OwnerSight {
    /// What it wants now, as far as that is known.
    #[must_use]
    pub fn wants(&self) -> Owner {
        match (self.gone || self.deleting || self.finished, self.replicas) {
            _ if self.owner.is_none() => Owner::Unknown,
            (true, _) => Owner::Deleted,
            (false, Some(0)) => Owner::NoPods,
            (false, _) => match self.template_changed {
                Some(true) => Owner::NewTemplate,
                Some(false) => Owner::SamePods,
                None => Owner::Unknown,
            },
        }
    }
}

/// The top owner of `pod`: of a ReplicaSet its Deployment, else the pod's own controller.
///
/// # Errors
/// When the API server does not answer; what a missing right hides is left out instead.
pub async fn owner_of(kube: &Kube, pod: &PodSight) -> Result<OwnerSight, KubeError> {
    let (owner, namespace) = tokio::join!(top(kube, pod), terminating(kube));
    let mut sight = owner?;
    match namespace {
        Ok(terminating) => sight.namespace_terminating = Some(terminating),
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => sight.missing.push(error),
    }
    Ok(sight)
}

async fn terminating(kube: &Kube) -> Result<bool, KubeError> {
    let api: Api<Namespace> = Api::all(kube.client());
    let name = kube.namespace();
    let attempt = Attempt {
        verb: "get",
        resource: "namespaces",
        group: "",
        name,
    };
    let namespace = limited(attempt, api.get_opt(name)).await?;
    Ok(namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
}

async fn top(kube: &Kube, pod: &PodSight) -> Result<OwnerSight, KubeError> {
    let Some(own) = &pod.owner else {
        return Ok(OwnerSight::default());
    };
    let mut sight = OwnerSight {
        owner: Some(own.clone()),
        ..OwnerSight::default()
    };
    let found = match get(kube, own).await {
        Ok(found) => found,
        Err(error) => return hidden(sight, error),
    };
    let Some(object) = found else {
        sight.gone = true;
        if own.kind == "ReplicaSet" {
            return without_replica_set(kube, pod, own, sight).await;
        }
        return Ok(sight);
    };
    match controller(
        object
            .metadata
            .owner_references
            .as_deref()
            .unwrap_or_default(),
    ) {
        Some(deployment) if own.kind == "ReplicaSet" => {
            sight.owner = Some(deployment.clone());
            match get(kube, &deployment).await {
                Ok(Some(above)) => {
                    facts(&mut sight, &above);
                    sight.template_changed =
                        Some(template(&object, true) != template(&above, true));
                }
                Ok(None) => sight.gone = true,
                Err(error) => return hidden(sight, error),
            }
        }
        _ => {
            facts(&mut sight, &object);
            sight.template_changed = own_template_changed(&own.kind, &object, pod);
        }
    }
    Ok(sight)
}

/// Of a Deployment that is deleted, the garbage collector takes the ReplicaSet before the pod; its name is the Deployment's
/// with the template's hash behind it.
async fn without_replica_set(
    kube: &Kube,
    pod: &PodSight,
    own: &OwnerRef,
    mut sight: OwnerSight,
) -> Result<OwnerSight, KubeError> {
    let hash = format!("-{}", pod.pod.template);
    let Some(name) = own.name.strip_suffix(&hash) else {
        return Ok(sight);
    };
    let mut deployment = OwnerRef {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: name.to_owned(),
        uid: String::new(),
    };
    match get(kube, &deployment).await {
        Ok(Some(object)) => {
            let made: Option<Timestamp> =
                object.metadata.creation_timestamp.as_ref().map(|at| at.0);
            // One that is younger than the pod was made again after the one that was deleted.
            sight.gone = made > pod.created;
            if !sight.gone {
                deployment.uid = object.metadata.uid.clone().unwrap_or_default();
                facts(&mut sight, &object);
            }
            sight.owner = Some(deployment);
            Ok(sight)
        }
        Ok(None) => {
            sight.owner = Some(deployment);
            Ok(sight)
        }
        Err(error) => hidden(sight, error),
    }
}

fn hidden(mut sight: OwnerSight, error: KubeError) -> Result<OwnerSight, KubeError> {
    if error.is_retryable() {
        return Err(error);
    }
    sight.missing.push(error);
    Ok(sight)
}

/// The object, or `None` when it is gone or another one of its name is there.
async fn get(kube: &Kube, owner: &OwnerRef) -> Result<Option<DynamicObject>, KubeError> {
    let (group, version) = owner
        .api_version
        .split_once('/')
        .unwrap_or(("", &owner.api_version));
    let (resource, group_name) = match owner.kind.as_str() {
        "ReplicaSet" => ("replicasets", "apps"),
        "Deployment" => ("deployments", "apps"),
        "StatefulSet" => ("statefulsets", "apps"),
        "Job" => ("jobs", "batch"),
        _ => {
            let attempt = Attempt {
                verb: "get",
                resource: "owners",
                group: "",
                name: &owner.name,
            };
            let why = format!("Drey does not know the kind {}", owner.kind);
            return Err(KubeError::other(attempt, &why));
        }
    };
    let kind = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        plural: resource.to_owned(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(kube.client(), kube.namespace(), &kind);
    let attempt = Attempt {
        verb: "get",
        resource,
        group: group_name,
        name: &owner.name,
    };
    let found = limited(attempt, api.get_opt(&owner.name)).await?;
    Ok(found.filter(|object| {
        owner.uid.is_empty() || object.metadata.uid.as_deref() == Some(&owner.uid)
    }))
}

fn facts(sight: &mut OwnerSight, object: &DynamicObject) {
    let spec = &object.data["spec"];
    let number = |key: &str| {
        spec[key]
            .as_i64()
            .and_then(|count| i32::try_from(count).ok())
    };
    sight.deleting = object.metadata.deletion_timestamp.is_some();
    sight.gone = false;
    sight.replicas = match spec["suspend"].as_bool() {
        Some(true) => Some(0),
        _ => number("replicas").or_else(|| number("parallelism")),
    };
    let over = ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"];
    let conditions = object.data["status"]["conditions"].as_array();
    sight.finished = object
        .types
        .as_ref()
        .is_some_and(|types| types.kind == "Job")
        && conditions.into_iter().flatten().any(|condition| {
            condition["status"] == "True"
                && condition["type"]
                    .as_str()
                    .is_some_and(|kind| over.contains(&kind))
        });
}

/// The pod template as the Deployment controller compares it: the hash is the ReplicaSet's own.
fn template(object: &DynamicObject, without_hash: bool) -> Value {
    let mut template = object.data["spec"]["template"].clone();
    let labels = template.pointer_mut("/metadata/labels");
    if let (true, Some(Value::Object(labels))) = (without_hash, labels) {
        labels.remove("pod-template-hash");
    }
    template
}

fn own_template_changed(kind: &str, object: &DynamicObject, pod: &PodSight) -> Option<bool> {
    let status = &object.data["status"];
    match kind {
        // Its controller deletes the pod before it reports the new revision: a change that is not reported yet counts.
        "StatefulSet" => {
            let behind = status["observedGeneration"].as_i64() != object.metadata.generation;
            let revision = status["updateRevision"].as_str()?;
            Some(behind || revision != pod.pod.template)
        }
        // A Job's template cannot be changed.
        "Job" => Some(false),
        _ => None,
    }
}
