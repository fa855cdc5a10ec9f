//! What the sidecar needs of Flink's container to read what Flink writes: volumes, and variables with credentials.
//!
//! Secrets stay references. A value that stands in the pod already is copied as it stands there.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, PodSpec, VolumeMount};

use super::Refused;
use super::annotations::bad;
use super::parts::{DIRECTORY, VOLUME};
use crate::config::quoted;

/// What the sidecar is given beside its own.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) mounts: Vec<VolumeMount>,
    pub(super) env: Vec<EnvVar>,
    pub(super) env_from: Option<Vec<EnvFromSource>>,
}

/// Variables of the clouds' own tools, which [`StorageSettings::from_env`](crate::storage::StorageSettings::from_env) reads,
/// and those by which certificate authorities are found.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];
const NAMES: [&str; 3] = ["STORAGE_EMULATOR_HOST", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Reads them off Flink's container; `wanted` are further volumes of the pod.
pub(super) fn access(
    spec: &PodSpec,
    flink: &Container,
    wanted: &[(&str, &str)],
) -> Result<Access, Refused> {
    let mut mounts: Vec<VolumeMount> = flink.volume_mounts.iter().flatten().cloned().collect();
    mounts.retain(|mount| !is_flinks_own(spec, mount));
    for mount in &mut mounts {
        // What `Bidirectional` takes, a privileged container, the sidecar is not.
        mount.mount_propagation = None;
    }
    for (volume, directory) in wanted {
        mounts.push(further(spec, &mounts, volume, directory)?);
    }
    Ok(Access {
        env: variables(flink, &mounts),
        env_from: flink.env_from.clone(),
        mounts,
    })
}

/// Where Flink has its configuration, which the launcher hands over, its logs, and what nobody else reads.
fn is_flinks_own(spec: &PodSpec, mount: &VolumeMount) -> bool {
    let mut volumes = spec.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == mount.name);
    let scratch = volume.is_some_and(|volume| volume.empty_dir.is_some());
    let path = mount.mount_path.trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or_default();
    let configuration =
        last == "conf" && path.contains("flink") || mount.name == "flink-config-volume";
    configuration || scratch && ["log", "logs", "tmp"].contains(&last)
}

fn further(
    spec: &PodSpec,
    mounts: &[VolumeMount],
    volume: &str,
    directory: &str,
) -> Result<VolumeMount, Refused> {
    let volumes = spec.volumes.iter().flatten();
    if !volumes.into_iter().any(|known| known.name == volume) {
        let what = format!("the pod has no volume {}", quoted(volume));
        return Err(bad("mounts", &what, "name one of the pod's volumes"));
    }
    let taken = mounts.iter().find(|mount| mount.mount_path == directory);
    let own = directory == DIRECTORY || directory.starts_with("/drey/") || volume == VOLUME;
    if own || taken.is_some() {
        let what = format!("another volume is mounted at {}", quoted(directory));
        return Err(bad("mounts", &what, "name another directory"));
    }
    Ok(VolumeMount {
        name: volume.to_owned(),
        mount_path: directory.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}

/// The variables for storage, and those that they or the mounts are made of.
fn variables(flink: &Container, mounts: &[VolumeMount]) -> Vec<EnvVar> {
    let all: Vec<&EnvVar> = flink.env.iter().flatten().collect();
    let is_storage = |name: &str| {
        PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
    };
    let mut wanted: BTreeSet<&str> = all
        .iter()
        .map(|variable| variable.name.as_str())
        .filter(|name| is_storage(name))
        .collect();
    for mount in mounts {
        wanted.extend(references(
            mount.sub_path_expr.as_deref().unwrap_or_default(),
        ));
    }
    // A variable can refer only to those before it.
    for variable in all.iter().rev() {
        if wanted.contains(variable.name.as_str()) {
            wanted.extend(references(variable.value.as_deref().unwrap_or_default()));
        }
    }
    let copied = all
        .into_iter()
        .filter(|variable| wanted.contains(variable.name.as_str()));
    copied.cloned().collect()
}

/// The names in `$(NAME)`.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split("$(")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(name, _)| name)
}
