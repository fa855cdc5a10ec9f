//! What a pod knows of itself, kept for the next container that is started in it while the API server is away.
//!
//! Which pod holds the lock is told by UID, so the UID has to be certain. A file alone proves nothing: a volume may outlive a
//! pod, and another pod may have its name. But the kubelet mounts what it makes for a pod (volumes, `/etc/hosts`) from a
//! directory that is named after the pod's UID, which the kernel shows in the container's own list of mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::kubernetes::pods::PodSight;
use crate::telemetry::one_line;

/// The mounts that this process sees; see proc_pid_mountinfo(5).
const MOUNTS: &str = "/proc/self/mountinfo";

/// The file and what stands in it.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    known: Option<Known>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Known {
    pod: PodSight,
    /// What owns it in the end.
    owner_uid: Option<String>,
}

impl Memory {
    /// What an earlier container of this very pod has left in `state_dir`.
    pub(super) fn load(state_dir: &Path, name: &str) -> Self {
        let file = state_dir.join("pod.json");
        let read = || serde_json::from_str(&fs::read_to_string(&file).ok()?).ok();
        let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
        let own = |known: &Known| known.pod.pod.name == name && names(&mounts, &known.pod.pod.uid);
        let known = read().filter(own);
        Self { file, known }
    }

    /// The pod as it was seen last.
    pub(super) fn pod(&self) -> Option<PodSight> {
        Some(self.known.as_ref()?.pod.clone())
    }

    /// What owned it.
    pub(super) fn owner_uid(&self) -> Option<String> {
        self.known.as_ref()?.owner_uid.clone()
    }

    /// Notes how the pod stands; an owner that is not known now was known before. Not synced: with the pod the file goes.
    pub(super) fn keep(&mut self, pod: &PodSight, owner_uid: Option<String>) {
        let known = Known {
            pod: pod.clone(),
            owner_uid: owner_uid.or_else(|| self.owner_uid()),
        };
        if self.known.as_ref() == Some(&known) {
            return;
        }
        if let Err(error) = save(&self.file, &known) {
            let error = one_line(&error, 200);
            warn!(
                error,
                "What is known of this pod could not be kept for a restart"
            );
        }
        self.known = Some(known);
    }
}

fn save(file: &Path, known: &Known) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_string(known)?)?;
    fs::rename(&new, file)
}

/// Whether one of `mounts` comes from a directory of the pod `uid`.
fn names(mounts: &str, uid: &str) -> bool {
    // The fourth field is the directory within its file system that is mounted.
    let roots = mounts
        .lines()
        .filter_map(|mount| mount.split_whitespace().nth(3));
    let mut parts = roots.flat_map(|root| root.split('/'));
    !uid.is_empty() && parts.any(|part| part == uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lock::PodRef;

    const UID: &str = "3c1f6a52-0d0c-4c41-9a53-5f5d1f6b8d27";

    fn pod() -> PodSight {
        PodSight {
            pod: PodRef {
                uid: UID.to_owned(),
                name: "orders-0".to_owned(),
                ip: None,
                node: None,
                template: String::new(),
            },
            deletion: None,
            grace: std::time::Duration::from_secs(30),
            disruption: None,
            owner: None,
            phase: "Running".to_owned(),
            containers: std::collections::BTreeMap::new(),
            service_account: String::new(),
            labels: std::collections::BTreeMap::new(),
            created: None,
            restarts: crate::kubernetes::pods::Restarts::Always,
            config_maps: Vec::new(),
        }
    }

    #[test]
    fn a_pod_is_known_by_what_the_kubelet_mounts_for_it() {
        let mount =
            |root: &str| format!("97 81 8:1 {root} /etc/hosts rw,relatime - ext4 /dev/a rw\n");
        let own = mount(&format!("/var/lib/kubelet/pods/{UID}/etc-hosts"));
        assert!(names(&(mount("/") + &own), UID));
        assert!(!names(&own, "4c1f6a52-0d0c-4c41-9a53-5f5d1f6b8d27"));
        assert!(!names(&own, ""));
        // A directory that is mounted *at* a path of that name is no evidence.
        let at = format!("97 81 8:1 / /pods/{UID}/x rw - ext4 /dev/a rw\n");
        assert!(!names(&at, UID));
    }

    #[test]
    fn what_another_pod_has_left_in_a_volume_is_not_believed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut memory = Memory::load(dir.path(), "orders-0");
        memory.keep(&pod(), Some("owner".to_owned()));
        memory.keep(&pod(), None);
        assert_eq!(memory.owner_uid().as_deref(), Some("owner"));
        let text = fs::read_to_string(dir.path().join("pod.json")).expect("kept");
        let kept: Known = serde_json::from_str(&text).expect("as it was written");
        assert_eq!(kept.pod, pod());
        // Nothing is mounted here for a pod of that UID.
        assert_eq!(Memory::load(dir.path(), "orders-0").pod(), None);
    }
}
