//! One API server for all tests of the binary; for each a namespace, a MutatingWebhookConfiguration, and replicas of the webhook.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::api_server::ApiServer;
pub use crate::api_server::run;
use crate::helm;
use crate::ports::free_port;

static SERVER: OnceCell<ApiServer> = OnceCell::const_new();

/// How long anything may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// The chart as it is rendered by default.
fn chart() -> &'static [Value] {
    static CHART: OnceLock<Vec<Value>> = OnceLock::new();
    CHART.get_or_init(|| helm::render(&[]))
}

/// The rules of the chart's role of this kind, for this configuration.
fn rules(chart: &[Value], kind: &str, configuration: &str) -> Value {
    let role = helm::only(chart, kind);
    let mut rules = role["rules"].clone();
    for rule in rules.as_array_mut().unwrap() {
        if rule["resourceNames"] == json!(["drey"]) {
            rule["resourceNames"] = json!([configuration]);
        }
    }
    rules
}

/// A namespace with its own configuration of the webhook.
pub struct World {
    pub server: &'static ApiServer,
    pub name: String,
    pub admin: Client,
    /// As whom replicas are known to the API server.
    pub user: String,
    /// The MutatingWebhookConfiguration.
    pub configured: String,
}

/// What one replica is told.
#[derive(Default)]
pub struct Flags(pub Vec<String>);

impl Flags {
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.0.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }
}

impl World {
    /// A namespace with the rights, the Secret and the Lease of the chart.
    pub async fn new(name: &str) -> Self {
        Self::of(name, chart()).await
    }

    /// The same, with the rights of a chart that is rendered with other values.
    pub async fn of(name: &str, chart: &[Value]) -> Self {
        let server = SERVER.get_or_init(ApiServer::start).await;
        server.namespace(name).await;
        server.grant(name, name, rules(chart, "Role", name)).await;
        let everywhere = rules(chart, "ClusterRole", name);
        server.grant_everywhere(name, everywhere).await;
        let world = Self {
            server,
            name: name.to_owned(),
            admin: server.admin().await,
            user: name.to_owned(),
            configured: name.to_owned(),
        };
        world
            .apply(
                "/api/v1",
                "secrets/drey-webhook-tls",
                &json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "drey-webhook-tls" } }),
            )
            .await;
        world
            .apply(
                "/apis/coordination.k8s.io/v1",
                "leases/drey-webhook",
                &json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "drey-webhook" } }),
            )
            .await;
        world
    }

    /// What the chart has installed there, with the rights of its own service account.
    pub async fn installed(server: &'static ApiServer) -> Self {
        Self {
            server,
            name: helm::NAMESPACE.to_owned(),
            admin: server.admin().await,
            user: format!("system:serviceaccount:{}:drey-webhook", helm::NAMESPACE),
            configured: "drey".to_owned(),
        }
    }

    /// Applies an object of the namespace, by its path there.
    pub async fn apply(&self, api: &str, path: &str, object: &Value) {
        let path = format!("{api}/namespaces/{}/{path}", self.name);
        self.server.apply(&path, object).await;
    }

    /// The chart's configuration, for the webhook at `port`, for this namespace alone.
    pub async fn configure(&self, port: u16) {
        self.configure_with(|_| port, |_| {}).await;
    }

    /// The same with a port for each entry, by its name, and with a change to each entry.
    pub async fn configure_with(&self, port: impl Fn(&str) -> u16, change: impl Fn(&mut Value)) {
        let mut configuration = helm::only(chart(), "MutatingWebhookConfiguration").clone();
        configuration["metadata"] = json!({ "name": self.configured });
        for entry in configuration["webhooks"].as_array_mut().unwrap() {
            let port = port(entry["name"].as_str().unwrap());
            let path = entry["clientConfig"]["service"]["path"].as_str().unwrap();
            let url = format!("https://127.0.0.1:{port}{path}");
            entry["clientConfig"] = json!({ "url": url });
            let here = json!({
                "key": "kubernetes.io/metadata.name",
                "operator": "In",
                "values": [self.name],
            });
            entry["namespaceSelector"]["matchExpressions"] = json!([here]);
            change(entry);
        }
        let base = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        let path = format!("{base}/{}", self.configured);
        self.server.apply(&path, &configuration).await;
    }

    /// A namespace that no webhook looks at.
    pub async fn plain(&self) -> Api<Pod> {
        let name = format!("{}-plain", self.name);
        self.server.namespace(&name).await;
        Api::namespaced(self.admin.clone(), &name)
    }

    /// A replica with a built-in certificate, at a port of its own.
    pub fn start(&self, identity: &str, flags: Flags) -> Webhook {
        self.start_at(free_port(), identity, flags)
    }

    pub fn start_at(&self, port: u16, identity: &str, flags: Flags) -> Webhook {
        let kubeconfig = self.server.kubeconfig(&self.user, &self.name);
        Webhook::start(self, &kubeconfig, port, identity, flags)
    }

    /// A replica that takes what `kubeconfig` has for its API server.
    pub fn start_with(
        &self,
        kubeconfig: &Path,
        port: u16,
        identity: &str,
        flags: Flags,
    ) -> Webhook {
        Webhook::start(self, kubeconfig, port, identity, flags)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), &self.name)
    }

    pub async fn secret(&self) -> Secret {
        let secrets: Api<Secret> = Api::namespaced(self.admin.clone(), &self.name);
        secrets.get("drey-webhook-tls").await.unwrap()
    }

    pub async fn configuration(&self) -> MutatingWebhookConfiguration {
        let all: Api<MutatingWebhookConfiguration> = Api::all(self.admin.clone());
        all.get(&self.configured).await.unwrap()
    }

    pub async fn events(&self) -> Vec<Event> {
        let events: Api<Event> = Api::namespaced(self.admin.clone(), &self.name);
        events.list(&ListParams::default()).await.unwrap().items
    }

    /// What the creator of a pod is warned of, in a dry run.
    pub async fn warnings(&self, pod: &Value) -> Vec<String> {
        let uri = format!("/api/v1/namespaces/{}/pods?dryRun=All", self.name);
        let request = http::Request::post(uri)
            .header("content-type", "application/json")
            .body(Body::from(pod.to_string().into_bytes()))
            .unwrap();
        let answer = self.admin.send(request).await.unwrap();
        let warnings = answer.headers().get_all("warning").iter();
        warnings
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    /// Creates a pod, or only asks what it would be.
    pub async fn create(&self, pod: &Value, dry_run: bool) -> kube::Result<Pod> {
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        let pod = serde_json::from_value(pod.clone()).unwrap();
        self.pods().create(&params, &pod).await
    }
}

/// A replica of the webhook; it ends with this value, or with this process.
pub struct Webhook {
    shell: Child,
    pub pid: u32,
    pub port: u16,
    pub probes: u16,
    log: PathBuf,
    _dir: TempDir,
}

impl Webhook {
    fn start(world: &World, kubeconfig: &Path, port: u16, identity: &str, flags: Flags) -> Self {
        let dir = TempDir::new().unwrap();
        let log = dir.path().join("log");
        let probes = free_port();
        let mut shell = Command::new("bash")
            .args([
                "-c",
                r#""$@" & pid=$!; echo $pid; while read -r signal; do kill "-$signal" $pid; done; kill -9 $pid; wait $pid"#,
                "--",
                env!("CARGO_BIN_EXE_drey"),
                "webhook",
            ])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--probe-listen=127.0.0.1:{probes}"))
            .arg(format!("--configuration={}", world.configured))
            .arg(format!("--pod-name={identity}"))
            .args(["--image=drey:test", "--server-name=127.0.0.1", "--log-level=debug"])
            .args(flags.0)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("KUBECONFIG", kubeconfig)
            .env("DREY_WEBHOOK_DRAIN_DELAY", "0s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            shell,
            pid: line.trim().parse().unwrap(),
            port,
            probes,
            log,
            _dir: dir,
        }
    }

    pub fn signal(&mut self, name: &str) {
        let pipe = self.shell.stdin.as_mut().unwrap();
        writeln!(pipe, "{name}").unwrap();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// What the plain port says at `path`: status and body; `None` when nothing answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.probes)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    pub async fn ready(&self) {
        self.until("it is ready", || {
            self.get("/readyz").is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is: impl Fn() -> bool) {
        let start = Instant::now();
        while !is() {
            let log = self.log();
            let ready = self.get("/readyz");
            assert!(
                start.elapsed() < PATIENCE,
                "not yet: {what}; {ready:?}\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of a metric without labels, or with them as they are written.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib << 10
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        if thread::panicking() {
            eprintln!("--- the webhook's log:\n{}", self.log());
        }
    }
}
