//! Flink's pods: whether Drey is in those that asked for it, in which version, and whether they have the time to end well.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::jobs::{self, Cluster};
use super::{Finding, Sight, table};
use crate::inject::{
    INJECT, Role, SIDECAR, STATUS, flink_containers, native_role, role_of, starts_of,
};

/// The grace period of a pod that names none.
const GRACE: i64 = 30;

/// A namespace that was asked for.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Sight<BTreeMap<String, String>>,
    /// Its pods.
    pub pods: Sight<Vec<Pod>>,
    /// The cluster ids in it.
    pub clusters: Vec<Cluster>,
}

impl Namespace {
    fn opted_in(&self) -> bool {
        let label = self
            .labels
            .as_ref()
            .ok()
            .and_then(|labels| labels.get(INJECT));
        label.is_some_and(|value| value == "enabled")
    }
}

/// Whether Drey is in the pods of `namespace` that asked for it, and in the version of the webhook.
pub(super) fn findings(namespace: &Namespace, webhook: Option<&str>) -> Vec<Finding> {
    let pods = match &namespace.pods {
        Ok(pods) => pods,
        Err(blind) => {
            let finding = Finding::blind(&table::PODS_INJECTED, blind);
            return vec![finding.on(&namespace.name)];
        }
    };
    let by_namespace = namespace.opted_in();
    let asking: Vec<&Pod> = pods
        .iter()
        .filter(|pod| is_alive(pod) && wants(pod, by_namespace))
        .collect();
    let mut all = injected(namespace, &asking);
    all.extend(versions(namespace, pods, webhook));
    all
}

fn injected(namespace: &Namespace, asking: &[&Pod]) -> Vec<Finding> {
    let check = &table::PODS_INJECTED;
    let missing: Vec<&&Pod> = asking.iter().filter(|pod| !supervised(pod)).collect();
    if !missing.is_empty() {
        return missing.into_iter().map(|pod| not_injected(pod)).collect();
    }
    // Its label may be what opts pods in.
    if let (Err(blind), true) = (&namespace.labels, asking.is_empty()) {
        return vec![Finding::blind(check, blind).on(&namespace.name)];
    }
    let found = match asking.len() {
        0 => "none has opted in".to_owned(),
        count => format!("all {count}"),
    };
    vec![Finding::ok(check, found).on(&namespace.name)]
}

fn not_injected(pod: &Pod) -> Finding {
    let found = "has opted in and runs without Drey";
    let remedy = match role(pod) {
        Some(Role::TaskManager) => {
            "delete it: Flink starts another one, which is injected if the webhook answers"
        }
        _ => {
            "take a savepoint by Flink's own means, then restart the JobManager with it as its start path once; if it comes back like this, see the findings about the webhook. Pods of a FlinkDeployment are never injected: take their annotation out"
        }
    };
    Finding::failed(&table::PODS_INJECTED, found, remedy).on(subject(pod))
}

fn versions(namespace: &Namespace, pods: &[Pod], webhook: Option<&str>) -> Vec<Finding> {
    let check = &table::PODS_VERSION;
    let wanted = webhook.unwrap_or(env!("CARGO_PKG_VERSION"));
    let alive = pods.iter().filter(|pod| is_alive(pod));
    let seen: Vec<(&Pod, String)> = alive
        .filter_map(|pod| Some((pod, injected_by(pod)?)))
        .collect();
    let others = seen.iter().filter(|(_, version)| version != wanted);
    let bad: Vec<Finding> = others
        .map(|(pod, version)| {
            let remedy = "restart it when it suits you: the job stops with a savepoint, and the new pod has the webhook's version";
            Finding::warning(check, format!("has {version} instead of {wanted}"), remedy)
                .on(subject(pod))
        })
        .collect();
    if bad.is_empty() && !seen.is_empty() {
        return vec![Finding::ok(check, wanted).on(&namespace.name)];
    }
    bad
}

/// Whether the pods of a cluster id have the time that a savepoint takes.
pub(super) fn grace(cluster: &Cluster) -> Vec<Finding> {
    let Some(leader) = cluster.job_managers.first() else {
        return Vec::new();
    };
    let mut all = vec![job_manager_grace(cluster, leader)];
    let shortest = cluster
        .task_managers
        .iter()
        .map(|pod| (grace_of(pod), pod))
        .min_by_key(|(grace, _)| *grace);
    if let Some((grace, pod)) = shortest {
        let needed = grace_of(leader);
        let found = format!("{grace} s, the JobManager has {needed} s");
        let finding = if grace >= needed {
            Finding::ok(&table::TASK_MANAGER_GRACE, found)
        } else {
            let remedy = format!(
                "set terminationGracePeriodSeconds: {needed} in the TaskManagers' pod template; shortest in {}",
                subject(pod)
            );
            Finding::warning(&table::TASK_MANAGER_GRACE, found, remedy)
        };
        all.push(finding.on(cluster.subject()));
    }
    all
}

fn job_manager_grace(cluster: &Cluster, pod: &Pod) -> Finding {
    let check = &table::GRACE_PERIOD;
    let subject = cluster.subject();
    let grace = grace_of(pod);
    let set = shutdown_timeout(pod);
    let template = "terminationGracePeriodSeconds in the JobManager's pod template";
    if let Some(set) = set.filter(|set| *set > grace) {
        let found = format!("{grace} s, but DREY_SHUTDOWN_TIMEOUT is {set} s");
        let remedy = format!("raise {template} to {set}");
        return Finding::failed(check, found, remedy).on(subject);
    }
    let whole = set.unwrap_or(grace);
    // What the supervisor keeps for the fallback and for Flink's own end.
    let usable = whole - (whole / 5).min(10);
    let Some(took) = jobs::last_duration(cluster) else {
        let found = format!("{grace} s; no savepoint was taken yet to compare it with");
        return Finding::ok(check, found).on(subject);
    };
    let seconds = i64::try_from(took.as_secs()).unwrap_or(i64::MAX);
    let found = format!(
        "{usable} s of {grace} s for a savepoint, and the last one took {}",
        exact(took)
    );
    let finding = if seconds >= usable {
        let remedy = format!("raise {template} to {}", seconds.saturating_mul(2) + 10);
        Finding::failed(check, found, remedy)
    } else if seconds.saturating_mul(2) > usable {
        let remedy = format!(
            "state grows: raise {template} to {}",
            seconds.saturating_mul(2) + 10
        );
        Finding::warning(check, found, remedy)
    } else {
        Finding::ok(check, found)
    };
    finding.on(subject)
}

fn exact(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// `DREY_SHUTDOWN_TIMEOUT` of Flink's container, in seconds.
fn shutdown_timeout(pod: &Pod) -> Option<i64> {
    let text = env(pod, "DREY_SHUTDOWN_TIMEOUT")?;
    text.parse::<SignedDuration>()
        .ok()
        .map(|time| time.as_secs())
}

/// `namespace/name`.
pub(super) fn subject(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    format!("{}/{name}", meta.namespace.as_deref().unwrap_or_default())
}

/// It is not over, and was not told to go.
pub(super) fn is_alive(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// It opted in by itself. The webhook refuses what is neither `true` nor `false`.
pub(crate) fn asks(pod: &Pod) -> bool {
    annotation(pod, INJECT).is_some_and(|value| value != "false")
}

fn wants(pod: &Pod, by_namespace: bool) -> bool {
    match annotation(pod, INJECT) {
        Some(_) => asks(pod),
        None => by_namespace && role(pod).is_some(),
    }
}

/// The version that injected it; `None`: it was not injected.
pub(super) fn injected_by(pod: &Pod) -> Option<String> {
    status(pod)?.get("version")?.as_str().map(str::to_owned)
}

/// What the injection has noted, of whatever version.
fn status(pod: &Pod) -> Option<serde_json::Value> {
    serde_json::from_str(annotation(pod, STATUS)?).ok()
}

/// Drey is in it, by injection or written by hand.
pub(super) fn supervised(pod: &Pod) -> bool {
    injected_by(pod).is_some() || env(pod, "DREY_STATE_DIR").is_some()
}

/// All its containers, first those that are not init containers.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    })
}

pub(super) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    containers(pod).find(|container| container.name == name)
}

/// The container that Flink runs in: as the injection has noted or the pod says, else by its usual name or its command, else the
/// first.
pub(crate) fn flink_container(pod: &Pod) -> Option<&Container> {
    let all = &pod.spec.as_ref()?.containers;
    let named = |name: &str| all.iter().find(|container| container.name == name);
    let noted = status(pod).and_then(|status| named(status.get("container")?.as_str()?));
    let said = || named(annotation(pod, "drey.io/container")?);
    let own = |container: &&Container| container.name != SIDECAR;
    noted
        .or_else(said)
        .or_else(|| flink_containers(pod).first().copied())
        .or_else(|| all.iter().find(own))
}

/// The value of a variable in any of the pod's containers.
pub(super) fn env<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let all = containers(pod).flat_map(|container| container.env.iter().flatten());
    let mut found = all.filter(|variable| variable.name == name);
    found.find_map(|variable| variable.value.as_deref().filter(|value| !value.is_empty()))
}

/// What Flink's process in it is, as the pod says, by native mode's labels, or by its command line.
pub(crate) fn role(pod: &Pod) -> Option<Role> {
    match annotation(pod, "drey.io/role") {
        Some("jobmanager") => return Some(Role::JobManager),
        Some("taskmanager") => return Some(Role::TaskManager),
        _ => {}
    }
    native_role(pod).or_else(|| starts_of(flink_container(pod)?).map(role_of))
}

/// The cluster id: as Drey was told, else native mode's label.
pub(crate) fn cluster_id(pod: &Pod) -> Option<&str> {
    let labels = pod.metadata.labels.as_ref();
    let native = || {
        let labels = labels?;
        labels
            .get("type")
            .filter(|value| *value == "flink-native-kubernetes")?;
        labels.get("app").map(String::as_str)
    };
    env(pod, "DREY_CLUSTER_ID").or_else(native)
}

fn grace_of(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.termination_grace_period_seconds)
        .unwrap_or(GRACE)
}

/// The service account that it runs as.
pub(super) fn service_account(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.service_account_name.as_deref())
        .unwrap_or("default")
}
