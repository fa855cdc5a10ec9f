//! What pods have written, for this machine to read.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::namespace::Namespace;

/// A directory; a copy is gone when this is dropped.
pub enum Files {
    /// On a node of the tests' own, whose volumes are directories of this machine.
    Here(PathBuf),
    /// From a cluster elsewhere.
    Copied(TempDir),
}

impl Files {
    /// The directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Here(path) => path,
            Self::Copied(directory) => directory.path(),
        }
    }

    /// Has a pod pack the directory of the volume.
    pub fn copied(namespace: &Namespace, image: &str, directory: &str) -> Self {
        namespace.apply(&[json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader"},
            "spec": {
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 9999, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "reader", "image": image, "command": ["sleep", "600"],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "state", "mountPath": "/state"}],
                }],
                "volumes": [{"name": "state", "persistentVolumeClaim": {"claimName": "flink-state"}}],
            },
        })]);
        namespace.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod/reader",
            "--timeout=240s",
        ]);
        let copy = tempfile::tempdir().unwrap();
        let path = format!("/state/{directory}");
        let mut pack =
            namespace.command(&["exec", "reader", "--", "tar", "-C", &path, "-cf", "-", "."]);
        let mut pack = pack.stdout(Stdio::piped()).spawn().unwrap();
        let mut unpack = Command::new("tar");
        unpack.arg("-C").arg(copy.path()).args(["-xf", "-"]);
        let unpacked = unpack.stdin(pack.stdout.take().unwrap()).status().unwrap();
        assert!(unpacked.success() && pack.wait().unwrap().success());
        namespace.kubectl(&["delete", "pod/reader", "--wait=false"]);
        Self::Copied(copy)
    }
}
