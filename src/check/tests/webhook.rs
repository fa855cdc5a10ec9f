use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};

use super::*;
use crate::inject::Role;

const HOST: &str = "drey-webhook.drey-system.svc";

struct Pki {
    ca: String,
    leaf: String,
}

/// A certificate for `host` that is valid from `from` days from now until `until` days from now.
fn pki(host: &str, from: i64, until: i64) -> Pki {
    let at = |days: i64| {
        let seconds = now().as_second() + days * 86_400;
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds.unsigned_abs())
    };
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (ca.not_before, ca.not_after) = (at(from), at(until));
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let mut leaf = CertificateParams::new(vec![host.to_owned()]).unwrap();
    (leaf.not_before, leaf.not_after) = (at(from), at(until));
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap();
    Pki {
        ca: ca.pem(),
        leaf: leaf.pem(),
    }
}

fn entry(name: &str, policy: &str) -> Value {
    json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "NoneOnDryRun",
        "failurePolicy": policy,
        "matchConditions": [{ "name": "opted-in", "expression": "true" }],
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
        "clientConfig": { "service": { "name": "drey-webhook", "namespace": "drey-system", "path": "/inject" } },
    })
}

fn configuration(ca: &str) -> MutatingWebhookConfiguration {
    let webhooks = [
        entry("jobmanager.drey.io", "Fail"),
        entry("taskmanager.drey.io", "Ignore"),
    ];
    let mut configuration: MutatingWebhookConfiguration =
        object(json!({ "metadata": { "name": "drey" }, "webhooks": webhooks }));
    for entry in configuration.webhooks.iter_mut().flatten() {
        entry.client_config.ca_bundle = Some(ByteString(ca.as_bytes().to_vec()));
    }
    configuration
}

fn probe(role: Role, answer: Answer) -> Probe {
    Probe {
        role,
        namespace: "a".to_owned(),
        answer,
    }
}

fn answered(version: Option<&str>) -> Answer {
    let mut pod: Pod = super::super::probe::pod("a", Role::JobManager);
    if let Some(version) = version {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        let status = json!({ "version": version, "role": "jobmanager" });
        annotations.insert("drey.io/status".to_owned(), status.to_string());
    }
    Answer::Pod(Box::new(pod))
}

fn installation(pki: &Pki) -> Installation {
    let own = env!("CARGO_PKG_VERSION");
    Installation {
        namespace: "drey-system".to_owned(),
        configuration: Ok(Some(configuration(&pki.ca))),
        deployment: Ok(Some(object(json!({
            "metadata": { "namespace": "drey-system" },
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": { "readyReplicas": 2 },
        })))),
        certificate: Ok(Some(pki.leaf.clone().into_bytes())),
        probes: vec![
            probe(Role::JobManager, answered(Some(own))),
            probe(Role::TaskManager, answered(Some(own))),
        ],
    }
}

fn found(change: impl FnOnce(&mut Installation)) -> Vec<Finding> {
    let mut installation = installation(&pki(HOST, -10, 80));
    change(&mut installation);
    super::super::webhook::findings(&installation, now())
}

fn with_entry(
    index: usize,
    change: impl FnOnce(&mut k8s_openapi::api::admissionregistration::v1::MutatingWebhook),
) -> Vec<Finding> {
    found(|facts| {
        let configuration = facts.configuration.as_mut().unwrap().as_mut().unwrap();
        change(&mut configuration.webhooks.as_mut().unwrap()[index]);
    })
}

#[test]
fn a_good_installation_has_nothing_but_good_findings() {
    let found = found(|_| {});
    assert!(
        found.iter().all(|finding| finding.state == State::Ok),
        "{found:#?}"
    );
    assert_eq!(found.len(), 6);
    is(
        the(&found, "webhook-certificate"),
        State::Ok,
        "valid for 80 days",
    );
    is(the(&found, "webhook-ca"), State::Ok, "verifies");
}

#[test]
fn without_a_configuration_that_alone_is_said() {
    let none = found(|facts| facts.configuration = Ok(None));
    assert_eq!(none.len(), 1);
    is(
        the(&none, "webhook-configuration"),
        State::Failed,
        "there is no",
    );
    let blind = found(|facts| facts.configuration = Err(forbidden()));
    is(
        the(&blind, "webhook-configuration"),
        State::Unknown,
        "may not",
    );
    is(the(&blind, "webhook-answers"), State::Ok, "injected");
}

#[test]
fn entries_that_were_changed_by_hand_are_found() {
    let gone = found(|facts| {
        let configuration = facts.configuration.as_mut().unwrap().as_mut().unwrap();
        configuration.webhooks.as_mut().unwrap().remove(1);
    });
    let finding = the(&gone, "webhook-configuration");
    is(finding, State::Failed, "missing");
    assert_eq!(finding.subject.as_deref(), Some("taskmanager.drey.io"));
    let ignored = with_entry(0, |entry| entry.failure_policy = Some("Ignore".to_owned()));
    is(
        the(&ignored, "webhook-configuration"),
        State::Warning,
        "from empty state",
    );
    let all = with_entry(0, |entry| entry.match_conditions = None);
    is(
        the(&all, "webhook-configuration"),
        State::Failed,
        "no pod of the cluster starts",
    );
    let blunt = with_entry(1, |entry| entry.rules = None);
    is(
        the(&blunt, "webhook-configuration"),
        State::Failed,
        "creation of pods",
    );
}

#[test]
fn the_webhooks_pods_have_to_be_ready() {
    let with = |deployment| {
        let all = found(|facts| facts.deployment = deployment);
        the(&all, "webhook-replicas").clone()
    };
    let ready = |ready: i32| {
        Ok(Some(object(json!({
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": { "readyReplicas": ready },
        }))))
    };
    is(&with(ready(2)), State::Ok, "2 of 2");
    is(&with(ready(1)), State::Warning, "1 of 2");
    is(&with(ready(0)), State::Failed, "0 of 2");
    is(&with(Ok(None)), State::Failed, "no Deployment");
    is(&with(Err(forbidden())), State::Unknown, "may not");
}

#[test]
fn the_bundle_has_to_fit_the_certificate() {
    let other = pki(HOST, -10, 80).ca;
    let foreign = with_entry(1, |entry| {
        entry.client_config.ca_bundle = Some(ByteString(other.into_bytes()))
    });
    let finding = the(&foreign, "webhook-ca");
    is(finding, State::Failed, "does not verify");
    assert_eq!(finding.subject.as_deref(), Some("taskmanager.drey.io"));
    let none = with_entry(0, |entry| entry.client_config.ca_bundle = None);
    is(the(&none, "webhook-ca"), State::Failed, "no caBundle");
    let junk = with_entry(0, |entry| {
        entry.client_config.ca_bundle = Some(ByteString(b"x".to_vec()))
    });
    is(the(&junk, "webhook-ca"), State::Failed, "of no use");
    let wrong = pki("other.svc", -10, 80);
    let host = found(|facts| *facts = installation(&wrong));
    let findings: Vec<_> = host
        .iter()
        .filter(|finding| finding.id == "webhook-ca")
        .collect();
    assert_eq!(findings.len(), 2);
    is(
        findings[0],
        State::Failed,
        "does not verify for drey-webhook.drey-system.svc",
    );
    let unread = found(|facts| facts.certificate = Err(forbidden()));
    is(
        the(&unread, "webhook-ca"),
        State::Ok,
        "shows in the dry run",
    );
}

#[test]
fn a_certificate_is_judged_by_what_is_left_of_its_life() {
    let lived = |from, until| {
        let all = found(|facts| *facts = installation(&pki(HOST, from, until)));
        the(&all, "webhook-certificate").clone()
    };
    is(&lived(-62, 28), State::Ok, "valid for 28 days");
    is(&lived(-64, 26), State::Warning, "valid for 26 days");
    is(&lived(-90, -3), State::Failed, "expired 3 days ago");
    is(&lived(2, 90), State::Failed, "not valid yet");
    let with = |certificate| {
        let all = found(|facts| facts.certificate = certificate);
        the(&all, "webhook-certificate").clone()
    };
    is(&with(Ok(Some(b"x".to_vec()))), State::Failed, "of no use");
    is(&with(Ok(None)), State::Unknown, "no Secret");
    is(
        &with(Err(forbidden())),
        State::Ok,
        "the authority: valid for 80 days",
    );
    let nothing = found(|facts| {
        facts.certificate = Err(forbidden());
        facts.configuration = Err(forbidden());
    });
    is(
        the(&nothing, "webhook-certificate"),
        State::Unknown,
        "may not",
    );
}

#[test]
fn the_dry_run_tells_what_an_opted_in_pod_would_meet() {
    let with = |answer| {
        let all = found(|facts| facts.probes[0].answer = answer);
        the(&all, "webhook-answers").clone()
    };
    is(&with(answered(None)), State::Failed, "not injected");
    is(
        &with(Answer::NotTried(forbidden())),
        State::Unknown,
        "may not",
    );
    let refused = |message: &str| with(Answer::Refused(message.to_owned()));
    let call = "Internal error occurred: failed calling webhook \"jobmanager.drey.io\": failed to call webhook: Post \"https://x/inject?timeout=5s\": ";
    for (why, remedy) in [
        (
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "do not fit",
        ),
        ("context deadline exceeded", "firewall"),
        (
            "dial tcp 10.0.0.1:443: connect: connection refused",
            "not running",
        ),
    ] {
        let finding = refused(&format!("{call}{why}"));
        is(&finding, State::Failed, why);
        assert!(
            finding.remedy.as_ref().unwrap().contains(remedy),
            "{finding:#?}"
        );
        assert_eq!(finding.subject.as_deref(), Some("JobManager"));
    }
    let denied = refused("admission webhook \"jobmanager.drey.io\" denied the request: no");
    is(&denied, State::Failed, "denied");
    let policy = refused(
        "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'drey' with binding 'drey' denied request: x",
    );
    is(&policy, State::Failed, "not injected");
    is(
        &refused("exceeded quota: small"),
        State::Unknown,
        "something else",
    );
}

#[test]
fn a_webhook_of_another_version_is_told() {
    let other = found(|facts| facts.probes[0].answer = answered(Some("0.0.1")));
    is(the(&other, "webhook-version"), State::Warning, "0.0.1");
}
