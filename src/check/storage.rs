//! Whether a directory outlives the pod that writes into it.

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::pods;

/// What a directory in a pod's file system lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In no volume, or in one that goes with the pod.
    OfThePod,
    /// A directory of the node.
    OfTheNode,
    /// A volume that is expected to outlive it: its name.
    Volume(String),
}

/// What `directory` lies on in Flink's container; `None`: it is no local one.
pub(super) fn place(pod: &Pod, directory: &str) -> Option<Place> {
    let path = local(directory)?;
    let mounts = pods::flink_container(pod)?.volume_mounts.iter().flatten();
    let below = |mount: &str| {
        let mount = mount.trim_end_matches('/');
        path == mount
            || path
                .strip_prefix(mount)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    let innermost = mounts
        .filter(|mount| below(&mount.mount_path))
        .max_by_key(|mount| mount.mount_path.len());
    let Some(mount) = innermost else {
        return Some(Place::OfThePod);
    };
    let mut volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let volume = volumes.find(|volume| volume.name == mount.name);
    Some(volume.map_or(Place::OfThePod, of_volume))
}

fn of_volume(volume: &Volume) -> Place {
    if volume.empty_dir.is_some() || volume.config_map.is_some() || volume.ephemeral.is_some() {
        Place::OfThePod
    } else if volume.host_path.is_some() {
        Place::OfTheNode
    } else {
        Place::Volume(volume.name.clone())
    }
}

/// The path of `file:/x`, `file:///x` and `/x`.
fn local(directory: &str) -> Option<String> {
    let path = match directory.split_once(':') {
        Some(("file", path)) => path,
        Some(_) => return None,
        None => directory,
    };
    Some(format!("/{}", path.trim_matches('/')))
}
