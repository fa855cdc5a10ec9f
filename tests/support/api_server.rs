//! A real etcd and kube-apiserver on loopback ports, without controllers, kubelet or scheduler: objects are made by hand.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drey::kubernetes::Kube;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::ports::free_port;

const KUBERNETES: &str = "v1.34.4";
const ETCD: &str = "v3.6.5";

/// How long a server may take to start on a machine that is busy.
const START: Duration = Duration::from_secs(120);

/// One API server with its etcd; both end with this value, or with this process.
pub struct ApiServer {
    pub dir: PathBuf,
    port: u16,
    etcd: String,
    ca: CertifiedIssuer<'static, KeyPair>,
    api: Option<Server>,
    _etcd: Server,
}

/// A process that ends when the pipe to its shell is closed, so also when the test process is killed.
pub struct Server {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Server {
    pub fn start(log: &Path, program: &Path, args: &[String]) -> Self {
        let log = fs::File::create(log).unwrap();
        let mut shell = Command::new("bash")
            .args([
                "-c",
                r#""$@" & pid=$!; read -r; kill -9 $pid; wait $pid"#,
                "--",
            ])
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}

impl ApiServer {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let ca = authority(&dir);
        certificate(&ca, &dir, "apiserver", "kube-apiserver", &[]);
        certificate(&ca, &dir, "admin", "admin", &["system:masters"]);
        certificate(&ca, &dir, "admission", "kube-apiserver-admission", &[]);
        admission(&dir);
        let signer = KeyPair::generate().unwrap();
        fs::write(dir.join("sa.key"), signer.serialize_pem()).unwrap();
        fs::write(dir.join("sa.pub"), signer.public_key_pem()).unwrap();
        let (client, peer) = (free_port(), free_port());
        let etcd = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let args = [
            format!("--data-dir={}", dir.join("etcd").display()),
            format!("--listen-client-urls={etcd}"),
            format!("--advertise-client-urls={etcd}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        let program = cache().join(format!("etcd/{ETCD}/etcd"));
        let server = Server::start(&dir.join("etcd.log"), &program, &args);
        let mut api = Self {
            port: free_port(),
            dir,
            etcd,
            ca,
            api: None,
            _etcd: server,
        };
        api.resume().await;
        api
    }

    /// The API server dies at once.
    pub fn kill(&mut self) {
        self.api = None;
    }

    /// The API server starts again, with what etcd has.
    pub async fn resume(&mut self) {
        let pki = |name: &str| self.dir.join(name).display().to_string();
        let args = [
            format!("--etcd-servers={}", self.etcd),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--cert-dir={}", pki("certs")),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--client-ca-file={}", pki("ca.crt")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", pki("sa.pub")),
            format!("--service-account-signing-key-file={}", pki("sa.key")),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            format!("--admission-control-config-file={}", pki("admission.json")),
            // It waits for a controller that makes service accounts.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ];
        let program = kubernetes("kube-apiserver");
        let log = self.dir.join("apiserver.log");
        self.api = Some(Server::start(&log, &program, &args));
        let admin = self.admin().await;
        let deadline = Instant::now() + START;
        while ready(&admin).await.is_none() {
            let failed = fs::read_to_string(&log).unwrap().contains("command failed");
            if failed || Instant::now() > deadline {
                let mut text = String::new();
                let read = fs::File::open(&log).unwrap().read_to_string(&mut text);
                panic!("no API server ({read:?}): {text}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Who may do everything.
    pub async fn admin(&self) -> Client {
        Client::try_from(self.config("admin", "default").await).unwrap()
    }

    /// Drey as the user `name`, who may do what the test grants.
    pub async fn drey(&self, name: &str, namespace: &str) -> Kube {
        certificate(&self.ca, &self.dir, name, name, &[]);
        Kube::with_config(self.config(name, namespace).await, Some(namespace)).unwrap()
    }

    /// A kubeconfig file of the user `name`, who may do what the test grants.
    pub fn kubeconfig(&self, name: &str, namespace: &str) -> PathBuf {
        certificate(&self.ca, &self.dir, name, name, &[]);
        // In the variable KUBECONFIG a colon would part two files.
        let file = self
            .dir
            .join(format!("{}.kubeconfig", name.replace(':', "-")));
        let text = self.kubeconfig_of(name, namespace).to_string();
        fs::write(&file, text).unwrap();
        file
    }

    /// A kubeconfig file of who may do everything, for kubectl.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        let file = self.dir.join("kubectl.kubeconfig");
        let text = self.kubeconfig_of("admin", "default").to_string();
        fs::write(&file, text).unwrap();
        file
    }

    async fn config(&self, user: &str, namespace: &str) -> Config {
        let text = self.kubeconfig_of(user, namespace);
        let kubeconfig: Kubeconfig = serde_json::from_value(text).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap()
    }

    fn kubeconfig_of(&self, user: &str, namespace: &str) -> Value {
        let read = |file: String| STANDARD.encode(fs::read(self.dir.join(file)).unwrap());
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority-data": read("ca.crt".to_owned()),
            }}],
            "users": [{ "name": "u", "user": {
                "client-certificate-data": read(format!("{user}.crt")),
                "client-key-data": read(format!("{user}.key")),
            }}],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u", "namespace": namespace } }],
            "current-context": "x",
        })
    }

    pub async fn namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.admin().await);
        let namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    /// Grants `user` these rules in `namespace`, in place of those before.
    pub async fn grant(&self, user: &str, namespace: &str, rules: Value) {
        let base = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": { "name": user },
            "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": { "name": user },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user },
            "subjects": [{ "kind": "User", "name": user }],
        });
        for (plural, object) in [("roles", role), ("rolebindings", binding)] {
            self.apply(&format!("{base}/{plural}/{user}"), &object)
                .await;
        }
    }

    /// Grants `user` these rules everywhere.
    pub async fn grant_everywhere(&self, user: &str, rules: Value) {
        let base = "/apis/rbac.authorization.k8s.io/v1";
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": user },
            "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": user },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
            "subjects": [{ "kind": "User", "name": user }],
        });
        for (plural, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
            self.apply(&format!("{base}/{plural}/{user}"), &object)
                .await;
        }
    }

    /// Server-side apply at this path.
    pub async fn apply(&self, path: &str, object: &Value) -> Value {
        let request = http::Request::patch(format!("{path}?fieldManager=test&force=true"))
            .header("content-type", "application/apply-patch+yaml")
            .body(serde_json::to_vec(object).unwrap())
            .unwrap();
        self.admin().await.request(request).await.unwrap()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.api = None;
        let _ = fs::remove_dir_all(&self.dir);
    }
}

async fn ready(admin: &Client) -> Option<()> {
    let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
    admin.request_text(request).await.ok()?;
    // Some are made a moment later by the API server itself.
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    namespaces.get("default").await.ok().map(|_| ())
}

/// Runs kubectl as who may do everything, beside what else the runtime does; it must succeed.
pub async fn kubectl(kubeconfig: &Path, args: Vec<String>) {
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let run = move || {
        let mut kubectl = Command::new(kubernetes("kubectl"));
        let output = kubectl.arg(kubeconfig).args(&args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?}: {errors}");
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

/// One of the programs of Kubernetes.
pub fn kubernetes(program: &str) -> PathBuf {
    cache().join(format!("kubernetes/{KUBERNETES}/{program}"))
}

fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    variable("DREY_CACHE")
        .or(cache.map(|dir| dir.join("drey")))
        .unwrap()
}

fn authority(dir: &Path) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.distinguished_name.push(DnType::CommonName, "ca");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.crt"), ca.pem()).unwrap();
    ca
}

/// The API server shows webhooks that ask for it a certificate of its CA.
fn admission(dir: &Path) {
    let path = |name: &str| dir.join(name).display().to_string();
    let users = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "users": [{ "name": "*", "user": {
            "client-certificate": path("admission.crt"),
            "client-key": path("admission.key"),
        }}],
    });
    let plugins = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{ "name": "MutatingAdmissionWebhook", "configuration": {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": path("admission.kubeconfig"),
        }}],
    });
    fs::write(dir.join("admission.kubeconfig"), users.to_string()).unwrap();
    fs::write(dir.join("admission.json"), plugins.to_string()).unwrap();
}

fn certificate(
    ca: &CertifiedIssuer<'static, KeyPair>,
    dir: &Path,
    file: &str,
    user: &str,
    groups: &[&str],
) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    for group in groups {
        params
            .distinguished_name
            .push(DnType::OrganizationName, *group);
    }
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&key, ca).unwrap();
    fs::write(dir.join(format!("{file}.crt")), certificate.pem()).unwrap();
    fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
}

/// Runs a test on a thread of the one runtime that the shared connections live in.
pub fn run(test: impl Future<Output = ()> + Send + 'static) {
    static RUNTIME: OnceLock<tokio::runtime::Handle> = OnceLock::new();
    let handle = RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    });
    let (done, ended) = std::sync::mpsc::channel();
    let task = handle.spawn(test);
    handle.spawn(async move { done.send(task.await).unwrap() });
    if let Err(error) = ended.recv().unwrap() {
        // Printed once more: the thread of the runtime prints into the output of another test.
        let panic = error.into_panic();
        match panic.downcast::<String>() {
            Ok(text) => panic!("{text}"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
