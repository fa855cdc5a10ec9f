//! What `drey check` says of an installation: `deploy/install.yaml`, in front of nobody who answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::world::{CONFIGURATION, Said, World};

const SECRET: &str = "/api/v1/namespaces/drey-system/secrets/drey-webhook-tls";
const STATUS: &str = "/apis/apps/v1/namespaces/drey-system/deployments/drey-webhook/status";
/// Nobody listens there.
const NOBODY: &str = "https://127.0.0.1:1/inject";

/// A certificate for the webhook's Service and its authority, valid for a year from `year`.
fn certificate(year: i32) -> (String, String) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let host = "drey-webhook.drey-system.svc".to_owned();
    let mut leaf = CertificateParams::new(vec![host]).unwrap();
    leaf.not_before = rcgen::date_time_ymd(year, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(year + 20, 1, 1);
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap();
    (leaf.pem(), ca.pem())
}

async fn installed(world: &World) {
    world.kubectl(&["create", "-f", &world.manifests()]);
    let (leaf, ca) = certificate(2020);
    put_certificate(world, &leaf).await;
    put_bundles(world, |entry| {
        entry["clientConfig"]["caBundle"] = json!(STANDARD.encode(&ca));
    })
    .await;
    ready(world, 1).await;
}

async fn put_certificate(world: &World, pem: &str) {
    let data = json!({ "tls.crt": STANDARD.encode(pem) });
    world.patch(SECRET, json!({ "data": data })).await;
}

pub async fn put_bundles(world: &World, change: impl Fn(&mut Value)) {
    let mut configuration = world.send("GET", CONFIGURATION, &json!({})).await.unwrap();
    for entry in configuration["webhooks"].as_array_mut().unwrap() {
        change(entry);
    }
    world
        .send("PUT", CONFIGURATION, &configuration)
        .await
        .unwrap();
}

pub async fn ready(world: &World, replicas: u32) {
    let status = json!({ "replicas": 1, "readyReplicas": replicas });
    world.patch(STATUS, json!({ "status": status })).await;
}

fn without_answer(said: &Said) -> Vec<String> {
    let bad = said.not_ok().into_values().flatten();
    bad.filter(|id| id != "webhook-answers").collect()
}

#[tokio::test]
async fn nothing_installed_is_said_once() {
    let world = World::new("bare").await;
    let said = world.check(&[]);
    assert_eq!(said.code, 1);
    said.is(
        "webhook-configuration",
        "failed",
        "there is no MutatingWebhookConfiguration",
    );
    assert_eq!(
        json!(said.not_ok()),
        json!({ "failed": ["webhook-configuration"] })
    );
}

#[tokio::test]
async fn what_was_installed_well_is_good_but_for_the_webhook_that_does_not_answer() {
    let world = World::new("installed").await;
    installed(&world).await;
    let said = world.check(&[]);
    assert_eq!(
        without_answer(&said),
        Vec::<String>::new(),
        "{:#}",
        said.json
    );
    said.is("webhook-configuration", "ok", "entries");
    said.is("webhook-ca", "ok", "verifies");
    said.is("webhook-replicas", "ok", "1 of 1");
    assert_eq!(said.code, 1);
}

#[tokio::test]
async fn a_webhook_that_is_away_is_seen_by_the_dry_run() {
    let world = World::new("away").await;
    installed(&world).await;
    // No request leaves this machine.
    put_bundles(&world, |entry| {
        let bundle = entry["clientConfig"]["caBundle"].clone();
        entry["clientConfig"] = json!({ "url": NOBODY, "caBundle": bundle });
    })
    .await;
    let answers = |said: &Said| {
        let all = said.json["findings"].as_array().unwrap();
        let of: Vec<Value> = all
            .iter()
            .filter(|one| one["id"] == "webhook-answers")
            .cloned()
            .collect();
        of
    };
    let refused = |said: &Said| {
        let found = answers(said)[0]["found"].to_string();
        found.contains("failed calling webhook") && found.contains("127.0.0.1")
    };
    let said = world.until(&[], refused).await;
    let both = answers(&said);
    assert_eq!(both[0]["subject"], "JobManager");
    assert!(
        both[0]["found"]
            .as_str()
            .unwrap()
            .contains("connection refused")
    );
    assert!(
        both[0]["remedy"]
            .as_str()
            .unwrap()
            .contains("is not running")
    );
    // Failure policy Ignore: it would have started, without Drey.
    assert_eq!(both[1]["subject"], "TaskManager");
    assert!(
        both[1]["found"]
            .as_str()
            .unwrap()
            .contains("is not injected")
    );
    let pods = world
        .send("GET", "/api/v1/namespaces/away/pods", &json!({}))
        .await
        .unwrap();
    assert_eq!(pods["items"], json!([]));
}

#[tokio::test]
async fn each_defect_of_an_installation_is_found() {
    let world = World::new("defects").await;
    installed(&world).await;
    ready(&world, 0).await;
    world.check(&[]).is("webhook-replicas", "failed", "0 of 1");
    put_certificate(&world, &certificate(1999).0).await;
    let said = world.check(&[]);
    said.is("webhook-certificate", "failed", "expired");
    let all = said.json["findings"].as_array().unwrap();
    let foreign = all
        .iter()
        .filter(|one| one["id"] == "webhook-ca" && one["state"] == "failed");
    assert!(foreign.count() >= 2, "{:#}", said.json);
    put_bundles(&world, |entry| entry["failurePolicy"] = json!("Ignore")).await;
    let said = world.check(&[]);
    said.is("webhook-configuration", "warning", "from empty state");
    put_bundles(&world, |entry| {
        entry["clientConfig"]["caBundle"] = Value::Null;
        entry["failurePolicy"] = json!("Fail");
        entry["matchConditions"] = json!([]);
        entry["name"] = json!(format!("other-{}", entry["name"].as_str().unwrap()));
    })
    .await;
    let text = world.check(&[]).json.to_string();
    for found in [
        "there is no caBundle",
        "the entry is missing",
        "no pod of the cluster starts",
    ] {
        assert!(text.contains(found), "{found}: {text}");
    }
}

#[tokio::test]
async fn who_may_read_only_his_namespace_fails_for_nothing_he_cannot_see() {
    let world = World::new("reader").await;
    installed(&world).await;
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }]);
    world.server.grant("reader", "reader", rules).await;
    let said = world.check_as("reader", &[]);
    assert_eq!(said.code, 0, "{:#}", said.json);
    said.is(
        "webhook-configuration",
        "unknown",
        "you may not get mutatingwebhookconfigurations",
    );
    said.is(
        "webhook-replicas",
        "unknown",
        "deployments.apps drey-webhook in namespace drey-system",
    );
    said.is("webhook-certificate", "unknown", "secrets drey-webhook-tls");
    said.is("pods-injected", "unknown", "you may not get namespaces");
    let all = said.json["findings"].as_array().unwrap();
    let dry: Vec<&Value> = all
        .iter()
        .filter(|one| one["id"] == "webhook-answers")
        .collect();
    assert_eq!(dry.len(), 2);
    assert_eq!(
        dry[0]["found"],
        "you may not create pods in namespace reader"
    );
}
