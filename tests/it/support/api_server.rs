//! A real API server with its etcd on loopback, and nothing else: pods are objects here, in the states that a kubelet would
//! report.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::installation::ROOT;
use super::processes::{Process, run_mark};
use super::wait::wait_until;
use crate::ports::free_port;

/// A running API server.
pub struct ApiServer {
    server: Process,
    _etcd: Process,
    kubectl: PathBuf,
    dir: TempDir,
}

impl ApiServer {
    pub fn start() -> Self {
        let (kubernetes, etcd) = binaries();
        let dir = tempfile::Builder::new()
            .prefix("drey-api-")
            .tempdir()
            .unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("tokens"), "secret,admin,1,system:masters\n").unwrap();
        let made = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(at("sa.key"))
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "openssl genrsa");
        let [clients, peers, port] = [free_port(), free_port(), free_port()];
        let store = format!("http://127.0.0.1:{clients}");
        let peers = format!("http://127.0.0.1:{peers}");
        let mut command = marked(&etcd);
        command
            .arg("--data-dir")
            .arg(at("etcd"))
            .args(["--listen-client-urls", &store])
            .args(["--advertise-client-urls", &store])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            .arg("--unsafe-no-fsync");
        let etcd = Process::start(&mut command, at("etcd.log"));
        let mut command = marked(&kubernetes.join("kube-apiserver"));
        let file = |flag: &str, name: &str| format!("--{flag}={}", at(name).display());
        command
            .arg(format!("--etcd-servers={store}"))
            .arg(format!("--secure-port={port}"))
            .arg(file("cert-dir", "pki"))
            .arg(file("token-auth-file", "tokens"))
            .arg(file("service-account-key-file", "sa.key"))
            .arg(file("service-account-signing-key-file", "sa.key"))
            .args([
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--disable-admission-plugins=ServiceAccount",
            ]);
        let server = Process::start(&mut command, at("apiserver.log"));
        let mut started = Self {
            server,
            _etcd: etcd,
            kubectl: kubernetes.join("kubectl"),
            dir,
        };
        started.write_kubeconfig(port);
        wait_until("the API server is ready", || {
            let running = started.server.is_running();
            assert!(running, "the API server ended: {}", started.server.log());
            let ready = started.try_kubectl(&["get", "namespace", "default"], None);
            ready.status.success()
        });
        started
    }

    fn write_kubeconfig(&self, port: u16) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: '{}'}}}}]\n\
             users: [{{name: admin, user: {{token: secret}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: admin, namespace: default}}}}]\n",
            self.dir.path().join("pki/apiserver.crt").display()
        );
        fs::write(self.kubeconfig(), text).unwrap();
    }

    /// For `KUBECONFIG`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// A file of the test's own, removed with the server.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn try_kubectl(&self, args: &[&str], input: Option<&Value>) -> Output {
        let mut command = marked(&self.kubectl);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(args);
        if let Some(input) = input {
            let file = self.path("input.json");
            fs::write(&file, input.to_string()).unwrap();
            command.arg("-f").arg(file);
        }
        command.output().unwrap()
    }

    /// Standard output of `kubectl`, which must succeed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.succeed(args, None)
    }

    /// Creates an object; what it has become.
    pub fn create(&self, object: &Value) -> Value {
        let text = self.succeed(&["create", "-o", "json"], Some(object));
        serde_json::from_str(&text).unwrap()
    }

    fn succeed(&self, args: &[&str], input: Option<&Value>) -> String {
        let output = self.try_kubectl(args, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A pod, as its kubelet would report it; its UID.
    pub fn pod(&self, name: &str) -> String {
        let made = self.create(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                // With a node, a deleted pod waits for its kubelet, which never comes.
                "nodeName": "none",
                "containers": [{"name": "flink-main-container", "image": "none"}],
            },
        }));
        let status = json!({"status": {"phase": "Running", "podIP": "127.0.0.1"}});
        self.patch(&format!("pod/{name}"), true, &status);
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Patches an object, or its status.
    pub fn patch(&self, object: &str, status: bool, patch: &Value) {
        let patch = patch.to_string();
        let mut args = vec!["patch", object, "--type=merge", "-p", &patch];
        if status {
            args.push("--subresource=status");
        }
        self.kubectl(&args);
    }

    /// Stops answering, until it is dropped.
    pub fn pause(&self) {
        self.server.pause();
    }
}

/// The directory of Kubernetes' programs, and etcd.
fn binaries() -> (PathBuf, PathBuf) {
    let mut command = Command::new(Path::new(ROOT).join("tests/setup.sh"));
    command
        .args(["kubernetes", "etcd"])
        .stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "`tests/setup.sh kubernetes etcd` failed; run it by hand to see why"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let paths: Vec<&str> = text.lines().collect();
    let [kubernetes, etcd] = paths[..] else {
        panic!("unexpected output of tests/setup.sh: {text}");
    };
    (kubernetes.into(), etcd.into())
}

fn marked(program: &Path) -> Command {
    let (run, this) = run_mark();
    let mut command = Command::new(program);
    command.env(run, this);
    command
}
