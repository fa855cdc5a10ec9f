//! The Deployments and StatefulSets of a cluster id.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions,
    PropagationPolicy,
};
use serde_json::{Value, json};

use super::error::JobError;
use super::wait::watched;
use super::{Progress, Target};
use crate::check::pods;
use crate::inject::Role;
use crate::kubernetes::{KubeError, listing};

/// Who Drey is among the managers of an object's fields.
const MANAGER: &str = "drey-job";

/// Something that makes pods of a cluster id.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) replicas: i64,
    /// What it had before it was suspended.
    pub(super) remembered: Option<i64>,
    pub(super) role: Role,
    /// Flink has made it.
    pub(super) native: bool,
    /// The selector of its pods.
    pub(super) selector: String,
    /// Its pod template.
    pub(super) pod: Pod,
}

/// Its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Deployment,
    StatefulSet,
}

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        }
    }

    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
        }
    }
}

/// What makes the pods of a cluster id: the JobManager's first.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) workloads: Vec<Workload>,
}

impl Cluster {
    pub(super) fn job_manager(&self) -> Option<&Workload> {
        let mut all = self.workloads.iter();
        all.find(|workload| workload.role == Role::JobManager)
    }

    /// No JobManager is wanted.
    pub(super) fn is_suspended(&self) -> bool {
        self.job_manager().is_none_or(|it| it.replicas == 0)
    }

    /// For people.
    pub(super) fn names(&self) -> String {
        let name = |workload: &Workload| format!("{}/{}", workload.kind.plural(), workload.name);
        let all: Vec<String> = self.workloads.iter().map(name).collect();
        all.join(", ")
    }
}

impl Target {
    fn workloads_api(&self, kind: Kind) -> Api<DynamicObject> {
        let kube = &self.kube;
        Api::namespaced_with(kube.client(), kube.namespace(), &kind.resource())
    }

    /// The cluster; `None` when nothing makes pods of this id.
    pub(super) async fn find(&self) -> Result<Option<Cluster>, JobError> {
        let mut workloads = Vec::new();
        for kind in [Kind::Deployment, Kind::StatefulSet] {
            let api = self.workloads_api(kind);
            let all = listing(&api, kind.plural(), "apps", &ListParams::default()).await?;
            let own = all
                .iter()
                .filter_map(|object| read(kind, object, &self.cluster_id));
            workloads.extend(own);
        }
        workloads.sort_by_key(|workload| workload.role != Role::JobManager);
        Ok((!workloads.is_empty()).then_some(Cluster { workloads }))
    }

    /// Changes an object that is still the one that was read; a strategic merge, so that a container is known by its name.
    pub(super) async fn patch(&self, workload: &Workload, patch: &Value) -> Result<(), JobError> {
        let mut patch = patch.clone();
        patch["metadata"]["uid"] = json!(workload.uid);
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.workloads_api(workload.kind);
        let patch = Patch::Strategic(&patch);
        let patched = api.patch(&workload.name, &params, &patch);
        let (verb, plural) = ("patch", workload.kind.plural());
        crate::kubernetes::asked(verb, plural, "apps", &workload.name, patched).await?;
        Ok(())
    }

    /// Gives it this many pods.
    pub(super) async fn scale(
        &self,
        workload: &Workload,
        replicas: i64,
        annotations: Value,
    ) -> Result<(), JobError> {
        let patch = json!({
            "metadata": {"annotations": annotations}, "spec": {"replicas": replicas},
        });
        self.patch(workload, &patch).await
    }

    /// Deletes it with all that belongs to it. It is there until its last pod is gone.
    pub(super) async fn delete(&self, workload: &Workload) -> Result<(), JobError> {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(Preconditions {
                uid: Some(workload.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let api = self.workloads_api(workload.kind);
        let deleted = api.delete(&workload.name, &params);
        let plural = workload.kind.plural();
        match crate::kubernetes::asked("delete", plural, "apps", &workload.name, deleted).await {
            Ok(_) | Err(KubeError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is gone.
    pub(super) async fn wait_gone(
        &self,
        workload: &Workload,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        let api = self.workloads_api(workload.kind);
        let plural = workload.kind.plural();
        let mut watch = crate::kubernetes::watched(api, plural, "apps", &workload.name);
        let gone = |seen: Option<DynamicObject>, _: &mut Progress| {
            let uid = seen.and_then(|object| object.metadata.uid);
            Ok((uid.as_ref() != Some(&workload.uid)).then_some(()))
        };
        match watched(&mut watch, self.deadline, progress, gone).await? {
            Some(()) => Ok(()),
            None => Err(JobError::Later(format!(
                "{plural} {} is being deleted and still has pods; the savepoint is recorded, so nothing can be lost",
                workload.name
            ))),
        }
    }

    /// Why its pods do not run, as far as they say; empty when nothing is wrong with them.
    pub(super) async fn complaints(&self, cluster: &Cluster) -> String {
        let api: Api<Pod> = self.kube.api();
        let mut all = Vec::new();
        for workload in &cluster.workloads {
            let params = ListParams::default().labels(&workload.selector);
            let pods = listing(&api, "pods", "", &params).await.unwrap_or_default();
            all.extend(pods.iter().filter_map(complaint));
        }
        all.join("; ")
    }
}

fn complaint(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref()?;
    let status = pod.status.as_ref()?;
    let containers = [&status.init_container_statuses, &status.container_statuses];
    let mut statuses = containers.into_iter().flatten().flatten();
    let waiting = statuses.find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let usual = ["PodInitializing", "ContainerCreating"].contains(&reason);
        let container = &status.name;
        (!usual).then(|| format!("pod {name}: container {container}: {reason}"))
    });
    let unscheduled = || {
        let conditions = status.conditions.iter().flatten();
        let bad = |type_: &str, status: &str| type_ == "PodScheduled" && status == "False";
        let found = conditions
            .into_iter()
            .find(|it| bad(&it.type_, &it.status))?;
        let message = found.message.as_deref().unwrap_or("no reason given");
        Some(format!("pod {name} is not scheduled: {message}"))
    };
    waiting.or_else(unscheduled)
}

fn read(kind: Kind, object: &DynamicObject, cluster_id: &str) -> Option<Workload> {
    let spec = object.data.get("spec")?;
    let template = spec.get("template")?;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": template.get("metadata").unwrap_or(&Value::Null),
        "spec": template.get("spec").unwrap_or(&Value::Null),
    }))
    .ok()?;
    if !belongs(&pod, cluster_id) || object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let labels = pod.metadata.labels.as_ref();
    let native = labels
        .and_then(|all| all.get("type"))
        .is_some_and(|it| it == "flink-native-kubernetes");
    let annotations = object.metadata.annotations.as_ref();
    let remembered = annotations.and_then(|all| all.get(super::REPLICAS)?.parse().ok());
    Some(Workload {
        kind,
        name: object.metadata.name.clone()?,
        uid: object.metadata.uid.clone()?,
        replicas: spec.get("replicas").and_then(Value::as_i64).unwrap_or(1),
        remembered,
        role: pods::role(&pod)?,
        native,
        selector: selector(spec),
        pod,
    })
}

fn selector(spec: &Value) -> String {
    let labels = spec["selector"]["matchLabels"].as_object();
    let pair = |(key, value): (&String, &Value)| Some(format!("{key}={}", value.as_str()?));
    let pairs: Vec<String> = labels.into_iter().flatten().filter_map(pair).collect();
    pairs.join(",")
}

/// By what Drey was told in it, by native mode's labels, or by the annotations for the webhook.
fn belongs(pod: &Pod, cluster_id: &str) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let named = annotations.and_then(|all| all.get("drey.io/cluster-id"));
    let label = pod.metadata.labels.as_ref().and_then(|all| all.get("app"));
    let asked = pods::asks(pod).then(|| named.or(label)).flatten();
    match pods::cluster_id(pod) {
        Some(known) => known == cluster_id,
        None => asked.is_some_and(|known| known == cluster_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(template: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "uid": "u", "annotations": {"drey.io/replicas": "3"}},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "example", "component": "taskmanager"}},
                "template": template},
        }))
        .expect("an object")
    }

    #[test]
    fn a_workload_belongs_to_the_cluster_id_that_drey_was_told_or_the_annotations_name() {
        let by_hand = json!({"spec": {"containers": [{"name": "taskmanager", "args": ["taskmanager"],
            "env": [{"name": "DREY_CLUSTER_ID", "value": "example"}]}]}});
        let found = read(Kind::Deployment, &object(&by_hand), "example").expect("its own");
        assert_eq!(
            (found.role, found.replicas, found.remembered),
            (Role::TaskManager, 0, Some(3))
        );
        assert_eq!(found.selector, "app=example,component=taskmanager");
        assert!(read(Kind::Deployment, &object(&by_hand), "other").is_none());

        let injected = json!({
            "metadata": {"labels": {"app": "example"}, "annotations": {"drey.io/inject": "true"}},
            "spec": {"containers": [{"name": "flink", "args": ["standalone-job"]}]},
        });
        let found = read(Kind::Deployment, &object(&injected), "example").expect("its own");
        assert_eq!(found.role, Role::JobManager);

        let foreign = json!({
            "metadata": {"labels": {"app": "example"}},
            "spec": {"containers": [{"name": "web", "args": ["serve"]}]},
        });
        assert!(read(Kind::Deployment, &object(&foreign), "example").is_none());
    }
}
