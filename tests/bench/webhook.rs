//! Admissions per second and their latency over TLS with keep-alive, on one core of the webhook's own, and its memory.
//!
//! `make bench-webhook`. The webhook gets core 0, this program core 1. A lookup that the API server does not answer is remembered, as
//! one that it answers is. Latencies at half load are counted from when a request was due, so that a stall counts for all that wait.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark fails by panicking"
)]
#![allow(missing_docs, reason = "a program")]

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connections at full load: as many as keep the webhook busy.
const CONNECTIONS: u32 = 16;

/// How long each load lasts.
const LASTS: Duration = Duration::from_secs(15);

type Connection = TlsStream<TcpStream>;

struct Webhook(Child);

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Webhook {
    fn memory(&self, line: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let text = status
            .lines()
            .find_map(|text| text.strip_prefix(line))
            .unwrap();
        let kib: f64 = text.trim().trim_end_matches(" kB").parse().unwrap();
        kib / 1024.0
    }

    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }
}

fn main() {
    // `cargo bench` gives --bench; anything else is somebody who only looks whether it can be started.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    pin(std::process::id());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(bench());
}

/// This process to core 1.
fn pin(pid: u32) {
    let pinned = Command::new("taskset")
        .args(["-cp", "1", &pid.to_string()])
        .stdout(Stdio::null())
        .status();
    assert!(pinned.unwrap().success(), "taskset needs two cores");
}

async fn bench() {
    let dir = tempfile::tempdir().unwrap();
    let ca = certificates(dir.path());
    let port = free_port();
    let webhook = start(dir.path(), port);
    let connector = connector(&ca);
    let idle = until_open(&connector, port, &webhook).await;
    let body = review().to_string();
    let request = Arc::new(request(&body));
    println!(
        "review: {} bytes; patch verified in every answer",
        body.len()
    );
    println!("memory idle: {idle:.1} MiB");
    closed(&connector, port, &request, LASTS / 5).await;
    let (cpu, start) = (webhook.cpu(), Instant::now());
    let full = closed(&connector, port, &request, LASTS).await;
    let busy = (webhook.cpu() - cpu) / start.elapsed().as_secs_f64();
    report("full load", full, LASTS);
    println!("  of one core: {:.0} %", busy * 100.0);
    println!("  memory: {:.1} MiB", webhook.memory("VmRSS:"));
    let rate =
        f64::from(u32::try_from(closed_count(&connector, port, &request).await).unwrap()) / 2.0;
    let half = open(&connector, port, &request, rate).await;
    report("half load", half, LASTS);
    println!(
        "memory, most at any time: {:.1} MiB",
        webhook.memory("VmHWM:")
    );
}

/// How many a second are answered at full load.
async fn closed_count(connector: &TlsConnector, port: u16, request: &Arc<Vec<u8>>) -> usize {
    let lasts = Duration::from_secs(3);
    closed(connector, port, request, lasts).await.len() / 3
}

fn report(name: &str, mut took: Vec<Duration>, lasts: Duration) {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 1000].as_secs_f64() * 1000.0;
    let rate = f64::from(u32::try_from(took.len()).unwrap()) / lasts.as_secs_f64();
    println!("{name}: {rate:.0} admissions/s");
    println!(
        "  latency: median {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, most {:.2} ms",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}

/// Each connection sends its next request as soon as it has an answer.
async fn closed(
    connector: &TlsConnector,
    port: u16,
    request: &Arc<Vec<u8>>,
    lasts: Duration,
) -> Vec<Duration> {
    let end = Instant::now() + lasts;
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = connect(connector, port).await.unwrap();
        let request = Arc::clone(request);
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                admit(&mut connection, &request).await;
                took.push(start.elapsed());
            }
            took
        }));
    }
    join(tasks).await
}

/// Requests come at `rate` a second, whether or not those before are answered.
async fn open(
    connector: &TlsConnector,
    port: u16,
    request: &Arc<Vec<u8>>,
    rate: f64,
) -> Vec<Duration> {
    let mut tasks = Vec::new();
    let pause = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let start = Instant::now() + Duration::from_millis(100);
    for index in 0..CONNECTIONS {
        let mut connection = connect(connector, port).await.unwrap();
        let request = Arc::clone(request);
        let mut due = start + pause * index / CONNECTIONS;
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while due < start + LASTS {
                wait(due).await;
                admit(&mut connection, &request).await;
                took.push(due.elapsed());
                due += pause;
            }
            took
        }));
    }
    join(tasks).await
}

/// Until `due`, more exactly than a timer's millisecond.
async fn wait(due: Instant) {
    let early = due.checked_sub(Duration::from_millis(1)).unwrap();
    sleep_until(early).await;
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

async fn join(tasks: Vec<tokio::task::JoinHandle<Vec<Duration>>>) -> Vec<Duration> {
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

async fn admit(connection: &mut Connection, request: &[u8]) {
    connection.write_all(request).await.unwrap();
    let mut answer = Vec::with_capacity(16 << 10);
    loop {
        let read = connection.read_buf(&mut answer).await.unwrap();
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
        let Some(head) = answer.windows(4).position(|it| it == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&answer[..head]).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        if answer.len() == head + 4 + length.parse::<usize>().unwrap() {
            let patched = answer.windows(9).any(|it| it == b"patchType");
            assert!(patched, "{}", String::from_utf8_lossy(&answer));
            return;
        }
    }
}

fn request(body: &str) -> Vec<u8> {
    format!(
        "POST /inject?timeout=5s HTTP/1.1\r\nhost: drey-webhook.drey-system.svc:443\r\nuser-agent: kube-apiserver-admission\r\n\
         accept: application/json, */*\r\naccept-encoding: gzip\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn until_open(connector: &TlsConnector, port: u16, webhook: &Webhook) -> f64 {
    let start = Instant::now();
    while connect(connector, port).await.is_err() {
        assert!(
            start.elapsed().as_secs() < 60,
            "the webhook does not listen"
        );
    }
    webhook.memory("VmRSS:")
}

async fn connect(connector: &TlsConnector, port: u16) -> std::io::Result<Connection> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    connector.connect(name, stream).await
}

fn connector(ca: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Writes `tls.crt` and `tls.key`; returns their CA.
fn certificates(dir: &std::path::Path) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let chain = params.signed_by(&key, &ca).unwrap();
    fs::write(dir.join("tls.crt"), chain.pem()).unwrap();
    fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    ca.pem()
}

fn start(dir: &std::path::Path, port: u16) -> Webhook {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://127.0.0.1:{}", free_port()) } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
        "current-context": "x",
    });
    fs::write(dir.join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let child = Command::new("taskset")
        .args([
            "-c",
            "0",
            env!("CARGO_BIN_EXE_drey"),
            "webhook",
            "--image=drey:1",
            "--sidecar=native",
        ])
        .arg(format!("--tls-dir={}", dir.display()))
        .arg(format!("--listen=127.0.0.1:{port}"))
        .arg(format!("--probe-listen=127.0.0.1:{}", free_port()))
        .env("KUBECONFIG", dir.join("kubeconfig"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Webhook(child)
}

/// What an API server sends for a JobManager that Flink's native mode makes, with what it has filled in itself.
fn review() -> Value {
    let gvk = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let pod: Value = serde_json::from_str(include_str!("pod.json")).unwrap();
    let gvr = json!({ "group": "", "version": "v1", "resource": "pods" });
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": gvk,
            "resource": gvr,
            "requestKind": gvk,
            "requestResource": gvr,
            "namespace": "orders",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "c7d5a1f3-6b0e-4a2e-9f4c-3a7a4a1c8f22",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
                "extra": { "authentication.kubernetes.io/credential-id": ["JTI=6d0c2d0f-3f6c-4c8b-8d8c-0a7f1d3f6f11"] },
            },
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
        },
    })
}
