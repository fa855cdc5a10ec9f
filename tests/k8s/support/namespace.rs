//! A namespace of its own for each scenario, under Pod Security `restricted`, with a volume that outlives it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::dump;
use super::manifests;
use super::node::Node;
use super::wait::eventually;

/// Flink's user in its image.
const FLINK_USER: u32 = 9999;

/// Removed with all its pods when dropped; after a failure what is in it is shown first. With `DREY_TEST_KEEP` it stays.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
    pub node: &'static Node,
}

impl Namespace {
    /// A new namespace with the rights of `deploy/rbac.yaml` and a volume.
    pub fn new(purpose: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{count}", std::process::id());
        let namespace = Self {
            name,
            node: Node::shared(),
        };
        namespace.create();
        namespace
    }

    /// Makes the namespace, also again after it was deleted; the volume's content stays.
    pub fn create(&self) {
        let volume = self.volume();
        fs::create_dir_all(&volume).unwrap();
        chown(&volume, Some(FLINK_USER), Some(FLINK_USER)).unwrap();
        self.apply(&[json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        })]);
        let size = json!({"storage": "1Gi"});
        // Pod Security `restricted` forbids hostPath in pods, but not behind a claim.
        self.apply(&[
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": self.name},
                "spec": {
                    "accessModes": ["ReadWriteMany"], "capacity": size, "hostPath": {"path": volume},
                    "persistentVolumeReclaimPolicy": "Retain",
                    "claimRef": {"namespace": self.name, "name": "flink-state"},
                },
            }),
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "flink-state"},
                "spec": {
                    "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": self.name,
                    "resources": {"requests": size},
                },
            }),
        ]);
        self.apply(&manifests::load("rbac.yaml"));
    }

    /// The directory on this machine that pods have at `/state`.
    pub fn volume(&self) -> PathBuf {
        self.node.volume(&self.name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.node.kubectl();
        command.args(["--namespace", &self.name]).args(args);
        command
    }

    /// Runs kubectl in this namespace, whatever it exits with.
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Standard output of a kubectl that must succeed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// One object, or a list; `None` when it is not there.
    pub fn get(&self, what: &[&str]) -> Option<Value> {
        let mut args = vec!["get", "-o", "json"];
        args.extend(what);
        let output = self.try_kubectl(&args);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// `kubectl apply` of these objects.
    pub fn apply(&self, objects: &[Value]) {
        let mut command = self.command(&["apply", "--filename", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        for object in objects {
            writeln!(input, "---\n{object}").unwrap();
        }
        drop(input);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl apply: {errors}");
    }

    /// The pods that a label selector matches.
    pub fn pods(&self, selector: &str) -> Vec<Value> {
        let list = self.get(&["pods", "--selector", selector]);
        let items = list.and_then(|list| list["items"].as_array().cloned());
        items.unwrap_or_default()
    }

    /// Waits until no pod matches a label selector.
    pub fn wait_no_pods(&self, selector: &str) {
        eventually(&format!("no pod with {selector}"), || {
            self.pods(selector).is_empty().then_some(())
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            dump::show(self);
        }
        if std::env::var_os("DREY_TEST_KEEP").is_some() {
            eprintln!("--- kept: namespace {}", self.name);
            return;
        }
        // The controllers first, else they make new pods; and no hook is waited for.
        for args in [
            &[
                "delete",
                "deployments,replicasets,statefulsets,jobs",
                "--all",
                "--wait=false",
            ][..],
            &[
                "delete",
                "pods",
                "--all",
                "--force",
                "--grace-period=0",
                "--wait=false",
            ],
            &["delete", "namespace", &self.name, "--wait=false"],
            &["delete", "persistentvolume", &self.name, "--wait=false"],
        ] {
            self.try_kubectl(args);
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(self.volume());
        }
    }
}
