//! What defeats Drey although the pod can be injected, in one sentence each with its remedy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Probe, Volume};

use super::metrics;
use super::parts::Plan;
use super::{Facts, Role};
use crate::config::quoted;
use crate::flink::config_file::{ConfigFile, ConfigFormat};

/// The longest grace period that the usual cluster autoscaler waits for (`--max-graceful-termination-sec`).
const AUTOSCALER: i64 = 600;

/// Where a pod finds the token of its service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Nodes that are taken away at short notice: label, value, and the notice in seconds.
const SPOT: [(&str, &str, i64); 4] = [
    ("cloud.google.com/gke-spot", "true", 25),
    ("cloud.google.com/gke-preemptible", "true", 25),
    ("kubernetes.azure.com/scalesetpriority", "spot", 30),
    ("eks.amazonaws.com/capacityType", "SPOT", 120),
];

/// All that can be seen.
pub(super) fn of(plan: &Plan<'_>, facts: &Facts) -> Vec<String> {
    let mut warnings = Vec::new();
    grace(plan, &mut warnings);
    rights(plan, facts, &mut warnings);
    if let Some(rival) = metrics::rival(plan.spec, plan.flink.container, plan.wishes) {
        warnings.push(format!(
            "container {} has the port of metrics, so Drey serves none; name another by the annotation `drey.io/metrics-address`, \
             such as \"0.0.0.0:9349\"",
            quoted(rival)
        ));
    }
    if plan.flink.role == Role::JobManager {
        job_manager(plan, &mut warnings);
        configuration(plan, facts, &mut warnings);
    }
    warnings
}

fn grace(plan: &Plan<'_>, warnings: &mut Vec<String>) {
    let seconds = plan.grace.seconds;
    let selector = plan.spec.node_selector.iter().flatten();
    for (label, value) in selector {
        let known = SPOT
            .iter()
            .find(|(key, spot, _)| label == key && value == spot);
        if let Some((_, _, notice)) = known.filter(|(_, _, notice)| *notice < seconds) {
            warnings.push(format!(
                "the grace period of {seconds} s is cut to {notice} s on nodes with {label}={value}; keep checkpoints frequent, or \
                 run the pod on other nodes"
            ));
        }
    }
    if seconds > AUTOSCALER {
        warnings.push(format!(
            "the grace period of {seconds} s is cut to {AUTOSCALER} s by a cluster autoscaler with its default settings; raise its \
             --max-graceful-termination-sec, or annotate the pod with cluster-autoscaler.kubernetes.io/safe-to-evict: \"false\""
        ));
    }
    let container = plan.flink.container;
    for probe in [&container.liveness_probe, &container.startup_probe]
        .into_iter()
        .flatten()
    {
        if let Some(own) = probe
            .termination_grace_period_seconds
            .filter(|own| *own < seconds)
        {
            warnings.push(format!(
                "a probe of container {} cuts the grace period to {own} s; take its terminationGracePeriodSeconds out",
                quoted(&container.name)
            ));
        }
    }
}

fn rights(plan: &Plan<'_>, facts: &Facts, warnings: &mut Vec<String>) {
    let account = plan
        .spec
        .service_account_name
        .as_deref()
        .unwrap_or("default");
    let mounts = plan.flink.container.volume_mounts.iter().flatten();
    let mounted = mounts.into_iter().any(|mount| mount.mount_path == TOKEN);
    if plan.spec.automount_service_account_token == Some(false) && !mounted {
        warnings.push(format!(
            "the pod has no token of its service account (automountServiceAccountToken: false), without which Drey cannot keep \
             its pointer; set it to true, or mount a token at {TOKEN}"
        ));
    }
    if !facts.missing_rights.is_empty() {
        warnings.push(format!(
            "service account {} may not {}; bind it to Drey's Role (the chart does for the accounts that its values list)",
            quoted(account),
            facts.missing_rights.join(", ")
        ));
    }
}

fn job_manager(plan: &Plan<'_>, warnings: &mut Vec<String>) {
    let container = plan.flink.container;
    let name = quoted(&container.name);
    if let Some(argument) = &plan.flink.start_path {
        warnings.push(format!(
            "container {name} names a restore point by {argument}, with which Drey does not start it, since it would overrule the \
             pointer at every start; leave it out, and choose once with `drey pointer set PATH`"
        ));
    }
    let probes = [
        ("liveness", &container.liveness_probe),
        ("startup", &container.startup_probe),
    ];
    for (kind, probe) in probes {
        if probe.as_ref().is_some_and(asks_a_port) {
            warnings.push(format!(
                "the {kind} probe of container {name} asks a port, on which a JobManager that waits for its turn does not listen: \
                 it would be killed while it waits; take the probe out"
            ));
        }
    }
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|it| it.pre_stop.as_ref());
    if hook.is_some_and(|hook| hook.sleep.is_some()) {
        warnings.push(format!(
            "the preStop sleep of container {name} is left out: Drey's hook waits for the savepoint itself; take it out to silence this"
        ));
    }
}

fn asks_a_port(probe: &Probe) -> bool {
    probe.http_get.is_some() || probe.tcp_socket.is_some() || probe.grpc.is_some()
}

fn configuration(plan: &Plan<'_>, facts: &Facts, warnings: &mut Vec<String>) {
    let Some(configuration) = effective(plan, facts) else {
        return;
    };
    let get = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| configuration.get(*name))
            .map(|text| text.trim())
    };
    let several = facts.replicas.is_some_and(|replicas| replicas > 1);
    let ha = get(&["high-availability.type", "high-availability"]);
    let ha = ha.is_some_and(|kind| !kind.eq_ignore_ascii_case("none"));
    if several && (!ha || get(&["high-availability.storageDir"]).is_none()) {
        warnings.push(format!(
            "{} JobManagers share no high availability: all but one wait for ever; set high-availability.type and \
             high-availability.storageDir, or replicas: 1",
            facts.replicas.unwrap_or_default()
        ));
    }
    if facts.flink_configuration.is_none() {
        // What FLINK_PROPERTIES does not say may stand elsewhere.
        return;
    }
    if get(&["execution.checkpointing.interval"]).is_none() {
        warnings.push(
            "checkpointing is off in Flink's configuration: a job that does not switch it on itself resumes from its last \
             savepoint after a crash; set execution.checkpointing.interval"
                .to_owned(),
        );
    }
    let savepoints = get(&[
        "execution.checkpointing.savepoint-dir",
        "state.savepoints.dir",
    ])
    .map(str::to_owned)
    .or_else(|| plan.wishes.setting("savepoint-dir").map(str::to_owned));
    match savepoints {
        None => warnings.push(
            "Flink's configuration names no directory for savepoints, without which none can be taken; set \
             execution.checkpointing.savepoint-dir"
                .to_owned(),
        ),
        Some(directory) => local(plan, &directory, warnings),
    }
}

/// The pod's `FLINK_PROPERTIES` above what its ConfigMap says.
fn effective(plan: &Plan<'_>, facts: &Facts) -> Option<BTreeMap<String, String>> {
    let mut variables = plan.flink.container.env.iter().flatten();
    let properties = variables.find(|variable| variable.name == "FLINK_PROPERTIES");
    let properties = properties.and_then(|variable| variable.value.as_deref());
    if facts.flink_configuration.is_none() && properties.is_none() {
        return None;
    }
    let mut all = facts.flink_configuration.clone().unwrap_or_default();
    let file = ConfigFile::parse(ConfigFormat::FlinkConfYaml, properties.unwrap_or_default());
    if let Ok(file) = file {
        all.extend(file.entries().clone());
    }
    Some(all)
}

/// Savepoints on a disk that goes with the pod.
fn local(plan: &Plan<'_>, directory: &str, warnings: &mut Vec<String>) {
    let path = match directory.strip_prefix("file:") {
        Some(rest) => format!("/{}", rest.trim_start_matches('/')),
        None if directory.starts_with('/') => directory.to_owned(),
        None => return,
    };
    let mounts = plan.flink.container.volume_mounts.iter().flatten();
    let below = |mount: &str| {
        path == mount
            || path
                .strip_prefix(mount)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    let mount = mounts
        .filter(|mount| below(mount.mount_path.trim_end_matches('/')))
        .max_by_key(|mount| mount.mount_path.len());
    let volume = mount.and_then(|mount| {
        plan.spec
            .volumes
            .iter()
            .flatten()
            .find(|volume| volume.name == mount.name)
    });
    if volume.is_none_or(goes_with_pod) {
        warnings.push(format!(
            "savepoints go to {}, which is lost with the pod; use an object store or a persistent volume",
            quoted(directory)
        ));
    }
}

fn goes_with_pod(volume: &Volume) -> bool {
    volume.empty_dir.is_some() || volume.ephemeral.is_some() || volume.host_path.is_some()
}
