//! Certificates: renewed under load without one failed admission, by whichever replica leads, and read from files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::ByteString;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admissions::{flink, opted_in};
use crate::client::bundle;
use crate::ports::free_port;
use crate::world::{Flags, Webhook, World, run};

const EXPIRY: &str = "drey_webhook_certificate_expiry_timestamp_seconds";
const LEADER: &str = "drey_webhook_leader";

/// A new certificate about every five seconds.
fn fast() -> Flags {
    Flags::default().with(&[
        "--certificate-lifetime=60s",
        "--renew-before=58s",
        "--certificate-overlap=1900ms",
        "--lease-duration=3s",
    ])
}

pub async fn bundles(world: &World) -> Vec<String> {
    let webhooks = world.configuration().await.webhooks.unwrap_or_default();
    let text = |ByteString(bytes): ByteString| String::from_utf8(bytes).unwrap();
    webhooks
        .into_iter()
        .map(|entry| entry.client_config.ca_bundle.map(text).unwrap_or_default())
        .collect()
}

#[test]
fn no_admission_fails_while_certificates_rotate() {
    run(async {
        let world = Arc::new(World::new("rotation").await);
        let a = world.start("a", fast());
        let b = world.start("b", fast());
        let ports = (a.port, b.port);
        // JobManagers go to one replica, TaskManagers to the other, and each failure is one.
        world
            .configure_with(
                |name| {
                    if name.contains("jobmanager") {
                        ports.0
                    } else {
                        ports.1
                    }
                },
                |entry| entry["failurePolicy"] = json!("Fail"),
            )
            .await;
        a.ready().await;
        b.ready().await;
        let (over, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let load = ["jobmanager", "taskmanager"].map(|component| {
            let (world, over, answered) = (world.clone(), over.clone(), answered.clone());
            tokio::spawn(async move {
                let pod = flink(component, "pod", &opted_in());
                while !over.load(Ordering::Relaxed) {
                    let stored = world.create(&pod, true).await.expect("no admission fails");
                    let annotations = stored.metadata.annotations.unwrap();
                    assert!(annotations.contains_key("drey.io/status"));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        for _ in 0..3 {
            let before = (a.metric(EXPIRY), b.metric(EXPIRY));
            a.until("both serve the next certificate", || {
                a.metric(EXPIRY) > before.0 && b.metric(EXPIRY) > before.1
            })
            .await;
            // A new connection is a new handshake: API servers keep theirs.
            a.ready().await;
            b.ready().await;
        }
        over.store(true, Ordering::Relaxed);
        for task in load {
            task.await.unwrap();
        }
        assert!(answered.load(Ordering::Relaxed) > 20);
        assert_eq!(a.metric(LEADER) + b.metric(LEADER), 1.0);
        // Old CAs stay until they end, and no longer.
        let secret = bundle(&world).await;
        assert!(secret.matches("BEGIN").count() >= 3);
        assert!(
            bundles(&world)
                .await
                .iter()
                .all(|it| it.matches("BEGIN").count() >= 3)
        );
    });
}

#[test]
fn another_replica_rotates_when_the_leader_is_killed() {
    run(async {
        let world = World::new("leaders").await;
        let mut a = world.start("a", fast());
        world.configure(a.port).await;
        a.ready().await;
        let b = world.start("b", fast());
        b.ready().await;
        assert_eq!((a.metric(LEADER), b.metric(LEADER)), (1.0, 0.0));
        a.signal("KILL");
        b.until("the other one leads", || b.metric(LEADER) == 1.0)
            .await;
        let before = b.metric(EXPIRY);
        b.until("it rotates", || b.metric(EXPIRY) > before).await;
        // In an orderly end the Lease is given up.
        let c = world.start("c", fast());
        c.ready().await;
        let mut b = b;
        b.signal("TERM");
        c.until("the third one leads", || c.metric(LEADER) == 1.0)
            .await;
    });
}

#[test]
fn what_is_undone_by_hand_is_done_again() {
    run(async {
        let world = World::new("undone").await;
        let webhook = world.start("a", Flags::default().with(&["--lease-duration=3s"]));
        world.configure(webhook.port).await;
        webhook.ready().await;
        let before = world.secret().await.data.unwrap();
        assert!(before["tls.key"].0.starts_with(b"-----BEGIN"));
        let secrets: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(world.admin.clone(), &world.name);
        let empty = Patch::Merge(json!({ "data": null }));
        secrets
            .patch("drey-webhook-tls", &PatchParams::default(), &empty)
            .await
            .unwrap();
        let start = std::time::Instant::now();
        while world.secret().await.data.as_ref() != Some(&before) {
            assert!(start.elapsed().as_secs() < 60, "{}", webhook.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // As another tool's apply does it.
        world.configure(webhook.port).await;
        let trusted = String::from_utf8(before["ca.crt"].0.clone()).unwrap();
        set_bundle(&world, "").await;
        while bundles(&world)
            .await
            .iter()
            .any(|bundle| *bundle != trusted)
        {
            assert!(start.elapsed().as_secs() < 60, "{}", webhook.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        webhook.ready().await;
    });
}

/// A CA, and a certificate by it for 127.0.0.1.
pub fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub fn certificate(ca: &CertifiedIssuer<'static, KeyPair>, days: u64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let day = Duration::from_secs(86_400);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1) + day * u32::try_from(days).unwrap();
    let chain = params.signed_by(&key, ca).unwrap().pem();
    (chain, key.serialize_pem())
}

/// What the kubelet does: a new directory, and `..data` exchanged for a link to it.
pub fn mount(dir: &Path, revision: &str, (chain, key): (String, String)) {
    let data = dir.join(revision);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("tls.crt"), chain).unwrap();
    fs::write(data.join("tls.key"), key).unwrap();
    symlink(revision, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        let _ = symlink(Path::new("..data").join(name), dir.join(name));
    }
}

pub async fn set_bundle(world: &World, bundle: &str) {
    let count = world.configuration().await.webhooks.unwrap().len();
    let value = ByteString(bundle.as_bytes().to_vec());
    let operations: Vec<Value> = (0..count)
        .map(|index| {
            let path = format!("/webhooks/{index}/clientConfig/caBundle");
            json!({ "op": "add", "path": path, "value": value })
        })
        .collect();
    let base = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let request = http::Request::patch(format!("{base}/{}", world.name))
        .header("content-type", "application/json-patch+json")
        .body(serde_json::to_vec(&operations).unwrap())
        .unwrap();
    world.admin.request::<Value>(request).await.unwrap();
}

fn unready(webhook: &Webhook, why: &str) -> bool {
    webhook
        .get("/readyz")
        .is_some_and(|(status, text)| status == 503 && text.contains(why))
}

#[test]
fn files_are_served_and_renewed_and_their_ca_is_left_to_others() {
    run(async {
        let world = World::new("files").await;
        let dir = TempDir::new().unwrap();
        let flag = format!("--tls-dir={}", dir.path().display());
        let port = free_port();
        let webhook = world.start_at(port, "a", Flags::default().with(&[&flag]));
        webhook
            .until("the missing file is named", || unready(&webhook, "tls.crt"))
            .await;
        let ca = authority();
        mount(dir.path(), "..1", certificate(&ca, 1));
        webhook
            .until("the missing configuration is named", || {
                unready(&webhook, "install it")
            })
            .await;
        world.configure(port).await;
        webhook
            .until("the missing bundle is named", || {
                unready(&webhook, "caBundle")
            })
            .await;
        assert!(bundles(&world).await.iter().all(String::is_empty));
        set_bundle(&world, &ca.pem()).await;
        webhook.ready().await;
        let pod = flink("jobmanager", "jm", &opted_in());
        world.create(&pod, true).await.unwrap();
        for days in 2..5 {
            let before = webhook.metric(EXPIRY);
            mount(dir.path(), &format!("..{days}"), certificate(&ca, days));
            assert!(webhook.metric(EXPIRY) > before);
            webhook.ready().await;
        }
        // One that API servers do not trust.
        mount(dir.path(), "..5", certificate(&authority(), 5));
        assert!(unready(&webhook, "caBundle"));
        assert!(
            bundles(&world)
                .await
                .iter()
                .all(|bundle| *bundle == ca.pem())
        );
        assert_eq!(webhook.metric(LEADER), 0.0);
    });
}
