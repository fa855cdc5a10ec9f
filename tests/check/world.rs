//! One API server for all tests of the binary. What is installed is there for all of them, so they take turns.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::api_server::ApiServer;

static SERVER: OnceCell<ApiServer> = OnceCell::const_new();
static TURN: Mutex<()> = Mutex::const_new(());

/// How long an API server may take to act on what was just changed.
const ACTIVE: Duration = Duration::from_secs(60);

pub const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/drey";

/// A namespace of one's own, and everything that is there for the whole cluster.
pub struct World {
    pub server: &'static ApiServer,
    pub name: &'static str,
    pub admin: Client,
    _turn: MutexGuard<'static, ()>,
}

/// What `drey check` said.
pub struct Said {
    pub code: i32,
    pub json: Value,
}

async fn started() -> ApiServer {
    let server = ApiServer::start().await;
    server.namespace("drey-system").await;
    server
}

impl World {
    pub async fn new(name: &'static str) -> Self {
        let turn = TURN.lock().await;
        let server = SERVER.get_or_init(started).await;
        let world = Self {
            server,
            name,
            admin: server.admin().await,
            _turn: turn,
        };
        server.namespace(name).await;
        world.all_rights("root").await;
        world.kubectl(&[
            "delete",
            "--ignore-not-found",
            "--wait=false",
            "-f",
            &world.manifests(),
        ]);
        world
    }

    /// Creates, applies or deletes; what the API server says, if it does it.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(body).unwrap())
            .unwrap();
        self.admin.request(request).await.ok()
    }

    /// Makes an object of the core group in the namespace.
    pub async fn create(&self, plural: &str, object: Value) {
        let path = format!("/api/v1/namespaces/{}/{plural}", self.name);
        let made = self.send("POST", &path, &object).await;
        assert!(made.is_some(), "{plural}: {object}");
    }

    /// A merge patch.
    pub async fn patch(&self, path: &str, patch: Value) {
        let request = http::Request::patch(path)
            .header("content-type", "application/merge-patch+json")
            .body(serde_json::to_vec(&patch).unwrap())
            .unwrap();
        let _: Value = self.admin.request(request).await.unwrap();
    }

    /// `kubectl apply` by an admin.
    pub fn kubectl(&self, args: &[&str]) {
        let done = Command::new(kubectl())
            .env("KUBECONFIG", self.kubeconfig("root"))
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
    }

    /// `deploy/install.yaml` without the namespace, which nobody would delete here: there are no controllers.
    pub fn manifests(&self) -> String {
        let text = fs::read_to_string(deploy("install.yaml")).unwrap();
        let kept: Vec<&str> = text
            .split("\n---\n")
            .filter(|object| !object.contains("kind: Namespace\n"))
            .collect();
        let file = self.server.dir.join("install.yaml");
        fs::write(&file, kept.join("\n---\n")).unwrap();
        file.display().to_string()
    }

    /// The kubeconfig of `user`; `root` may do everything.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.server.kubeconfig(user, self.name)
    }

    pub async fn all_rights(&self, user: &str) {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{user}");
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": user },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "kind": "User", "name": user }],
        });
        self.server.apply(&path, &binding).await;
    }

    /// `drey check` by the user `root`.
    pub fn check(&self, args: &[&str]) -> Said {
        self.check_as("root", args)
    }

    pub fn check_as(&self, user: &str, args: &[&str]) -> Said {
        said(&drey(&self.kubeconfig(user), args).output().unwrap())
    }

    /// Checks until this is found: the API server acts on what was changed a moment later.
    pub async fn until(&self, args: &[&str], found: impl Fn(&Said) -> bool) -> Said {
        let deadline = Instant::now() + ACTIVE;
        loop {
            let said = self.check(args);
            if found(&said) {
                return said;
            }
            assert!(
                Instant::now() < deadline,
                "not within {ACTIVE:?}: {:#}",
                said.json
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Said {
    /// The only finding of this check.
    #[track_caller]
    pub fn the(&self, id: &str) -> &Value {
        let all = self.json["findings"].as_array().unwrap();
        let found: Vec<&Value> = all.iter().filter(|finding| finding["id"] == id).collect();
        assert_eq!(found.len(), 1, "{id} in {:#}", self.json);
        found[0]
    }

    #[track_caller]
    pub fn is(&self, id: &str, state: &str, found: &str) {
        let finding = self.the(id);
        let text = finding["found"].as_str().unwrap();
        let good = finding["state"] == state && text.contains(found);
        assert!(good, "{id} is not {state} ({found:?}): {finding:#}");
    }

    /// The checks in each state but `ok`.
    pub fn not_ok(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for finding in self.json["findings"].as_array().unwrap() {
            if finding["state"] != "ok" {
                let of = all.entry(text(&finding["state"])).or_default();
                of.push(text(&finding["id"]));
            }
        }
        all
    }
}

/// `drey check`, with this kubeconfig and nothing else of the environment.
pub fn drey(kubeconfig: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drey"));
    command
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .arg("check")
        .args(args);
    if !args.iter().any(|arg| arg.starts_with("--output")) {
        command.arg("--output=json");
    }
    command
}

pub fn said(output: &Output) -> Said {
    let json = serde_json::from_slice(&output.stdout);
    Said {
        code: output.status.code().unwrap(),
        json: json.unwrap_or_else(|error| panic!("{error}: {output:?}")),
    }
}

/// A process that is waited for; its end is awaited in any case.
pub fn start(mut command: Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

pub fn deploy(file: &str) -> String {
    format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"))
}

fn kubectl() -> PathBuf {
    crate::api_server::kubernetes("kubectl")
}
