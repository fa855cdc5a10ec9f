//! What is known of a pod, out of its object.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStatus, KeyToPath, Pod, PodSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::{Deserialize, Serialize};

use crate::domain::lock::{Life, PodRef, PodState};

/// The labels that tell pods of one template from those of another.
const TEMPLATE: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];

/// The grace period of a pod that names none.
const GRACE: i64 = 30;

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSight {
    /// Which one.
    pub pod: PodRef,
    /// It was told to go. Neither a failing liveness probe nor a node that shuts down sets this.
    pub deletion: Option<Deletion>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// Why it is evicted, as the reason of the condition `DisruptionTarget` has it: `EvictionByEvictionAPI`,
    /// `PreemptionByScheduler`, `DeletionByTaintManager`, `DeletionByPodGC`, `TerminationByKubelet`.
    pub disruption: Option<String>,
    /// Its controller.
    pub owner: Option<OwnerRef>,
    /// `status.phase`.
    pub phase: String,
    /// Its containers, sidecars and init containers, by name, as far as the kubelet has reported them.
    pub containers: BTreeMap<String, ContainerSight>,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When the kubelet starts its containers again.
    pub restarts: Restarts,
    /// ConfigMaps that are mounted as directories.
    #[serde(default)]
    pub config_maps: Vec<ConfigMapMount>,
}

/// `spec.restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restarts {
    /// Whenever they end.
    Always,
    /// When they fail.
    OnFailure,
    /// Not at all.
    Never,
}

/// A ConfigMap that is mounted as a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMapMount {
    /// The container.
    pub container: String,
    /// The directory.
    pub path: String,
    /// The ConfigMap.
    pub name: String,
    /// The keys that are mounted, and under which names; empty: all under their own.
    pub keys: BTreeMap<String, String>,
}

/// When a pod has to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When the kubelet kills what is left: `deletionTimestamp`, which already has the grace in it.
    pub deadline: Timestamp,
    /// `deletionGracePeriodSeconds`, as it was given with the request or as the pod has it.
    pub grace: Duration,
}

/// What controls an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRef {
    /// `apps/v1` and so on.
    pub api_version: String,
    /// `ReplicaSet` and so on.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// A container, as the kubelet reported it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSight {
    /// It runs.
    pub running: bool,
    /// When it was started, if it runs.
    pub started: Option<Timestamp>,
    /// It has ended, and was not started again yet.
    pub terminated: Option<Terminated>,
    /// How the one before it ended.
    pub last: Option<Terminated>,
    /// How often it was started again.
    pub restarts: i32,
    /// Its image, as the template names it.
    pub image: String,
    /// The pod is not over before it has ended: neither an init container nor a native sidecar.
    pub main: bool,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    /// Its exit code.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled` and so on.
    pub reason: String,
}

impl PodSight {
    /// All its containers have ended, and none will be started again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// How the container `name` ended, if the kubelet will not start it again.
    #[must_use]
    pub fn ended_for_good(&self, name: &str) -> Option<&Terminated> {
        let container = self.containers.get(name).filter(|it| !it.running)?;
        let ended = container.terminated.as_ref()?;
        let for_good = match self.restarts {
            Restarts::Always => false,
            Restarts::OnFailure => ended.code == 0,
            Restarts::Never => true,
        };
        for_good.then_some(ended)
    }
}

/// What the lock makes of a pod whose JobManager runs in `container`; `None`: its object is gone.
#[must_use]
pub fn seen_as(
    seen: Option<&PodSight>,
    container: &str,
    silent_since: Option<Timestamp>,
) -> PodState {
    let Some(seen) = seen else {
        return PodState::Deleted { silent_since };
    };
    let flink = seen.containers.get(container);
    let ended = flink.is_some_and(|flink| !flink.running && flink.terminated.is_some());
    let going = seen.deletion.is_some() || seen.ended_for_good(container).is_some();
    if seen.is_over() || (ended && going) {
        return PodState::JobManagerEnded;
    }
    PodState::Alive(Life {
        restarting: ended,
        started: flink.and_then(|flink| flink.started),
        gone_by: seen.deletion.as_ref().map(|deletion| deletion.deadline),
        silent_since,
    })
}

pub(super) fn sight(pod: &Pod) -> PodSight {
    let spec = pod.spec.as_ref();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let grace = spec.and_then(|spec| spec.termination_grace_period_seconds);
    let grace = seconds(grace.unwrap_or(GRACE));
    PodSight {
        pod: pod_ref(pod, &labels),
        deletion: pod.metadata.deletion_timestamp.as_ref().map(|at| Deletion {
            deadline: at.0,
            grace: pod
                .metadata
                .deletion_grace_period_seconds
                .map_or(grace, seconds),
        }),
        grace,
        disruption: disruption(pod),
        owner: controller(pod.metadata.owner_references.as_deref().unwrap_or_default()),
        phase: pod
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default(),
        containers: containers(pod),
        service_account: spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        labels,
        created: pod.metadata.creation_timestamp.as_ref().map(|at| at.0),
        restarts: match spec.and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => Restarts::Never,
            Some("OnFailure") => Restarts::OnFailure,
            _ => Restarts::Always,
        },
        config_maps: spec.map(config_maps).unwrap_or_default(),
    }
}

fn config_maps(spec: &PodSpec) -> Vec<ConfigMapMount> {
    let mut found = Vec::new();
    for container in &spec.containers {
        for mount in container.volume_mounts.iter().flatten() {
            let volumes = spec.volumes.iter().flatten();
            let volume = volumes.filter(|volume| volume.name == mount.name);
            // Of a part of a volume the kubelet never brings a change.
            let whole = mount.sub_path.is_none() && mount.sub_path_expr.is_none();
            let map = volume.filter_map(only_map).next();
            let Some((name, items)) = map.filter(|_| whole) else {
                continue;
            };
            let keys = items.into_iter().flatten();
            found.push(ConfigMapMount {
                container: container.name.clone(),
                path: mount.mount_path.trim_end_matches('/').to_owned(),
                name: name.to_owned(),
                keys: keys
                    .map(|item| (item.key.clone(), item.path.clone()))
                    .collect(),
            });
        }
    }
    found
}

/// The ConfigMap that is all there is in a volume, and which of its keys are files.
fn only_map(volume: &Volume) -> Option<(&str, Option<&Vec<KeyToPath>>)> {
    if let Some(map) = &volume.config_map {
        return Some((&map.name, map.items.as_ref()));
    }
    let sources = volume.projected.as_ref()?.sources.as_deref()?;
    let [only] = sources else { return None };
    let map = only.config_map.as_ref()?;
    Some((&map.name, map.items.as_ref()))
}

fn pod_ref(pod: &Pod, labels: &BTreeMap<String, String>) -> PodRef {
    let ip = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.clone())
        .filter(|ip| !ip.is_empty());
    PodRef {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        ip,
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        template: TEMPLATE
            .iter()
            .find_map(|key| labels.get(*key).cloned())
            .unwrap_or_default(),
    }
}

fn disruption(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let disrupted = conditions
        .iter()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")?;
    Some(disrupted.reason.clone().unwrap_or_default())
}

/// The one owner that controls the object.
pub(crate) fn controller(owners: &[OwnerReference]) -> Option<OwnerRef> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(OwnerRef {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

fn containers(pod: &Pod) -> BTreeMap<String, ContainerSight> {
    let Some(status) = &pod.status else {
        return BTreeMap::new();
    };
    let init = status.init_container_statuses.iter().flatten();
    let init = init.map(|status| (status, false));
    let main = status.container_statuses.iter().flatten();
    let main = main.map(|status| (status, true));
    init.chain(main)
        .map(|(status, main)| (status.name.clone(), container(pod, status, main)))
        .collect()
}

fn container(pod: &Pod, status: &ContainerStatus, main: bool) -> ContainerSight {
    let state = status.state.as_ref();
    // The status names what the runtime calls the image, which may be a digest.
    let spec = pod.spec.as_ref();
    let specs = spec.iter().flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    });
    let image = specs
        .into_iter()
        .find(|container| container.name == status.name)
        .and_then(|container| container.image.clone());
    ContainerSight {
        running: state.is_some_and(|state| state.running.is_some()),
        started: state
            .and_then(|state| state.running.as_ref())
            .and_then(|running| Some(running.started_at.as_ref()?.0)),
        terminated: state.and_then(terminated),
        last: status.last_state.as_ref().and_then(terminated),
        restarts: status.restart_count,
        image: image.unwrap_or_else(|| status.image.clone()),
        main,
    }
}

fn terminated(state: &ContainerState) -> Option<Terminated> {
    let terminated = state.terminated.as_ref()?;
    Some(Terminated {
        code: terminated.exit_code,
        reason: terminated.reason.clone().unwrap_or_default(),
    })
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configmap_is_followed_where_it_is_all_there_is_in_the_directory() {
        let map = serde_json::json!({"configMap": {"name": "flink"}});
        let secret = serde_json::json!({"secret": {"name": "keys"}});
        let found = |volume: serde_json::Value, mount: serde_json::Value| {
            let mut volumes = [volume];
            volumes[0]["name"] = "conf".into();
            let mut mounts = [mount];
            mounts[0]["name"] = "conf".into();
            mounts[0]["mountPath"] = "/opt/flink/conf/".into();
            let spec = serde_json::json!({"volumes": volumes,
                "containers": [{"name": "flink", "volumeMounts": mounts}]});
            let maps = config_maps(&serde_json::from_value(spec).expect("a pod"));
            maps.first().map(|it| (it.name.clone(), it.path.clone()))
        };
        let whole = || serde_json::json!({});
        let projected =
            |sources: &[&serde_json::Value]| serde_json::json!({"projected": {"sources": sources}});
        let flink = Some(("flink".to_owned(), "/opt/flink/conf".to_owned()));
        assert_eq!(found(map.clone(), whole()), flink);
        assert_eq!(found(projected(&[&map]), whole()), flink);
        assert_eq!(found(projected(&[&map, &secret]), whole()), None);
        assert_eq!(found(projected(&[&secret]), whole()), None);
        let part = serde_json::json!({"subPath": "config.yaml"});
        assert_eq!(found(map, part), None);
    }

    /// A pod whose only container has ended like this.
    fn ended(policy: &str, state: &serde_json::Value) -> PodSight {
        let pod = serde_json::from_value(serde_json::json!({
            "metadata": {"uid": "a"},
            "spec": {"restartPolicy": policy, "containers": []},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "flink", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]},
        }));
        sight(&pod.expect("a pod"))
    }

    #[test]
    fn a_container_has_ended_for_good_when_the_kubelet_leaves_it_so() {
        let exit = |code: i32| serde_json::json!({"terminated": {"exitCode": code}});
        let good = |policy: &str, state| ended(policy, &state).ended_for_good("flink").is_some();
        assert!(good("Never", exit(0)) && good("Never", exit(1)) && good("OnFailure", exit(0)));
        assert!(!good("OnFailure", exit(1)) && !good("Always", exit(0)));
        assert!(!good("Never", serde_json::json!({"running": {}})));
        assert!(!good("Never", serde_json::json!({"waiting": {}})));
        assert_eq!(ended("Never", &exit(0)).ended_for_good("other"), None);
        let lock = |policy: &str| seen_as(Some(&ended(policy, &exit(1))), "flink", None);
        assert_eq!(lock("Never"), PodState::JobManagerEnded);
        assert!(matches!(lock("Always"), PodState::Alive(life) if life.restarting));
    }
}
