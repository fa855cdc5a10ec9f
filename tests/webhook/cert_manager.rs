//! The chart with cert-manager's certificates, made by its controller and trusted by its cainjector.
//!
//! There is no node: the test is the kubelet that mounts the Secret, and the Service leads to a port of the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admissions::{flink, is_injected, opted_in};
use crate::api_server::{ApiServer, Server, kubectl};
use crate::certificates::{bundles, mount};
use crate::client::Client;
use crate::helm;
use crate::installed::apply;
use crate::ports::free_port;
use crate::world::{Flags, Webhook, World, run};

/// The name in the certificate, by which API servers ask for it.
const SERVICE: &str = "drey-webhook.drey-system.svc";

/// The Secret that the chart mounts.
const SECRET: &str = "drey-webhook-tls";

/// cert-manager's programs and custom resources.
fn home() -> PathBuf {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup.sh");
    let output = Command::new(setup).arg("cert-manager").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Its controller and its cainjector.
async fn cert_manager(server: &ApiServer, kubeconfig: &Path) -> [Server; 2] {
    let home = home();
    let crds = home.join("crds").display().to_string();
    for args in [
        &["apply", "--server-side", "-f", &crds][..],
        &[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "-f",
            &crds,
        ],
    ] {
        let args = args.iter().map(|&arg| arg.to_owned());
        kubectl(kubeconfig, args.collect()).await;
    }
    let common = [
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".to_owned(),
    ];
    let metrics = format!("--metrics-listen-address=127.0.0.1:{}", free_port());
    let start = |program: &str, args: &[String]| {
        let log = server.dir.join(format!("{program}.log"));
        Server::start(&log, &home.join(program), args)
    };
    [
        start("controller", &[&common[..], &[metrics]].concat()),
        start("cainjector", &common),
    ]
}

/// Has the API server find the chart's Service at a port of this machine.
async fn lead(world: &World, kubeconfig: &Path, port: u16) {
    let service = json!({ "spec": { "type": "ExternalName", "externalName": "localhost" } });
    let entries = world.configuration().await.webhooks.unwrap().len();
    let ports = (0..entries).map(|entry| {
        let path = format!("/webhooks/{entry}/clientConfig/service/port");
        json!({ "op": "add", "path": path, "value": port })
    });
    let ports = Value::from_iter(ports);
    let namespace = format!("--namespace={}", world.name);
    for (what, kind, patch) in [
        ("service/drey-webhook", "merge", service),
        ("mutatingwebhookconfiguration/drey", "json", ports),
    ] {
        let (kind, patch) = (format!("--type={kind}"), format!("--patch={patch}"));
        let args = ["patch", what, &namespace, &kind, &patch];
        kubectl(kubeconfig, args.map(str::to_owned).into()).await;
    }
}

/// The certificate and its key, once it is another one than `last`.
async fn issued(world: &World, server: &ApiServer, last: &str) -> (String, String) {
    let secrets: Api<Secret> = Api::namespaced(world.admin.clone(), &world.name);
    let start = Instant::now();
    loop {
        let found = secrets.get_opt(SECRET).await.unwrap();
        let data: BTreeMap<_, _> = found.and_then(|it| it.data).unwrap_or_default();
        let text = |key: &str| {
            let bytes = data.get(key).map(|ByteString(bytes)| bytes.clone());
            String::from_utf8(bytes.unwrap_or_default()).unwrap()
        };
        let (chain, key) = (text("tls.crt"), text("tls.key"));
        if !chain.is_empty() && !key.is_empty() && chain != last {
            return (chain, key);
        }
        let log = std::fs::read_to_string(server.dir.join("controller.log"));
        assert!(start.elapsed().as_secs() < 120, "not issued: {log:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Waits until whom API servers trust is who has signed what is served, and a new handshake shows just this certificate.
async fn trusted(world: &World, webhook: &Webhook, chain: &str) {
    webhook.ready().await;
    let bundle = bundles(world).await.remove(0);
    let client = Client::trusting(webhook, &bundle, None).by_name(SERVICE);
    let stream = client.connect().await.unwrap();
    let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    assert_eq!(*shown, leaf);
}

/// Waits until the API server has a pod injected.
async fn injects(pods: &Api<Pod>, webhook: &Webhook) {
    let pod = serde_json::from_value(flink("jobmanager", "jm", &opted_in())).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let start = Instant::now();
    loop {
        let created = pods.create(&dry, &pod).await;
        if created.as_ref().is_ok_and(is_injected) {
            return;
        }
        let log = webhook.log();
        assert!(start.elapsed().as_secs() < 60, "{created:?}\n{log}");
    }
}

#[test]
fn the_webhook_is_trusted_before_and_after_a_renewal() {
    run(async {
        // Its configuration is for all namespaces, so this API server is for this test alone.
        let server: &'static ApiServer = Box::leak(Box::new(ApiServer::start().await));
        let kubeconfig = server.admin_kubeconfig();
        let _programs = cert_manager(server, &kubeconfig).await;
        let values = [
            "--set=namespace.create=true",
            "--set=certificates.mode=cert-manager",
        ];
        apply(&kubeconfig, &helm::text(&values), &[]).await;
        let world = World::installed(server).await;
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        lead(&world, &kubeconfig, port).await;
        let first = issued(&world, server, "").await;
        mount(dir.path(), "..1", first.clone());
        let flag = format!("--tls-dir={}", dir.path().display());
        let webhook = world.start_at(port, "a", Flags::default().with(&[&flag]));
        trusted(&world, &webhook, &first.0).await;
        server.namespace("orders").await;
        let pods = Api::namespaced(world.admin.clone(), "orders");
        injects(&pods, &webhook).await;

        // cert-manager issues another one, with another key, and nothing is started again.
        let secrets: Api<Secret> = Api::namespaced(world.admin.clone(), &world.name);
        let params = DeleteParams::default();
        secrets.delete(SECRET, &params).await.unwrap();
        let second = issued(&world, server, &first.0).await;
        assert_ne!(first.1, second.1);
        mount(dir.path(), "..2", second.clone());
        trusted(&world, &webhook, &second.0).await;
        injects(&pods, &webhook).await;
    });
}
