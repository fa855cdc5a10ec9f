//! A namespace of its own for each scenario, under Pod Security `restricted`, with a volume that outlives it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

use serde_json::{Value, json};

use super::dump;
use super::files::Files;
use super::node::{Node, output_of};
use super::wait::eventually;

/// Removed with all its pods when dropped; after a failure what is in it is shown first. With `DREY_TEST_KEEP` it stays.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
    pub node: &'static Node,
    _turn: Turn,
}

/// Whether other scenarios may run at the same time.
#[derive(Debug)]
enum Turn {
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
}

impl Namespace {
    /// A new namespace with a volume; `alone` for what is done to the node itself.
    pub fn new(purpose: &str, alone: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{count}", std::process::id());
        let node = Node::shared();
        let turn = if alone {
            Turn::Alone {
                _guard: node.alone.write().unwrap_or_else(PoisonError::into_inner),
            }
        } else {
            Turn::Shared {
                _guard: node.alone.read().unwrap_or_else(PoisonError::into_inner),
            }
        };
        let namespace = Self {
            name,
            node,
            _turn: turn,
        };
        namespace.create();
        namespace
    }

    /// Deletes the namespace with everything in it and makes it anew; the volume's content stays.
    pub fn create_again(&self) {
        self.kubectl(&["delete", "namespace", &self.name, "--timeout=180s"]);
        self.kubectl(&["delete", "persistentvolume", &self.name]);
        self.create();
    }

    fn create(&self) {
        self.apply(&[json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        })]);
        if self.node.is_own() {
            self.create_volume();
        } else {
            self.claim(None);
        }
        // The scheduler tries a pod again only after some seconds when its claim was not bound at first.
        if self.node.is_own() {
            let bound = "--for=jsonpath={.status.phase}=Bound";
            self.kubectl(&[
                "wait",
                bound,
                "persistentvolumeclaim/flink-state",
                "--timeout=60s",
            ]);
        }
    }

    fn create_volume(&self) {
        let volume = self.volume();
        fs::create_dir_all(&volume).unwrap();
        // For pods of any user.
        fs::set_permissions(&volume, Permissions::from_mode(0o777)).unwrap();
        // Pod Security `restricted` forbids hostPath in pods, but not behind a claim.
        self.apply(&[json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": self.name},
            "spec": {
                "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": volume},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": self.name, "name": "flink-state"},
            },
        })]);
        self.claim(Some(&self.name));
    }

    /// Claims this volume, or any of the storage class that is named, or of the default one.
    fn claim(&self, volume: Option<&str>) {
        let class = match volume {
            Some(_) => Some(String::new()),
            None => std::env::var("DREY_TEST_STORAGE_CLASS").ok(),
        };
        self.apply(&[json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "flink-state"},
            "spec": {
                "accessModes": ["ReadWriteMany"], "storageClassName": class, "volumeName": volume,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        })]);
    }

    /// A directory of the volume, for this machine to read; `image` is one that the cluster has.
    pub fn files(&self, image: &str, directory: &str) -> Files {
        if self.node.is_own() {
            Files::Here(self.volume().join(directory))
        } else {
            Files::copied(self, image, directory)
        }
    }

    /// The directory on this machine that pods have at `/state`.
    pub fn volume(&self) -> PathBuf {
        self.node.volume(&self.name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
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
        let documents: Vec<String> = objects
            .iter()
            .map(|object| format!("---\n{object}\n"))
            .collect();
        self.send(&["apply", "--filename", "-"], &documents.concat());
    }

    /// A kubectl that must succeed, with something to read.
    fn send(&self, args: &[&str], input: &str) {
        let output = output_of(&mut self.command(args), Some(input));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?}: {errors}");
    }

    /// The pods that a label selector matches.
    pub fn pods(&self, selector: &str) -> Vec<Value> {
        let list = self.get(&["pods", "--selector", selector]);
        let items = list.and_then(|list| list["items"].as_array().cloned());
        items.unwrap_or_default()
    }

    /// One pod, which must be there.
    pub fn pod(&self, name: &str) -> Value {
        let pod = self.get(&["pod", name]);
        pod.unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// Asks for the eviction of a pod, as `kubectl drain` and the autoscalers do.
    pub fn evict(&self, pod: &str) {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.name},
        });
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", self.name);
        self.send(
            &["create", "--raw", &path, "--filename", "-"],
            &eviction.to_string(),
        );
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
        if !std::thread::panicking() && self.node.is_own() {
            let _ = fs::remove_dir_all(self.volume());
        }
    }
}
