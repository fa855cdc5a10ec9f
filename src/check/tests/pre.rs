use super::*;

fn facts() -> PreFacts {
    PreFacts {
        git_version: "v1.34.4".to_owned(),
        version: Some((1, 34)),
        registration: Ok([
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
        ]
        .map(str::to_owned)
        .to_vec()),
        namespace: "drey-system".to_owned(),
        rights: vec![(
            Right::new("create", "apps", "deployments").within("drey-system"),
            Ok(true),
        )],
        configurations: Ok(Vec::new()),
        pods: Ok(Vec::new()),
        service: Ok(false),
    }
}

fn found(change: impl FnOnce(&mut PreFacts)) -> Vec<Finding> {
    let mut facts = facts();
    change(&mut facts);
    before(&facts).findings
}

#[test]
fn a_good_cluster_leaves_only_the_way_to_the_webhook_open() {
    let found = found(|_| {});
    let states: Vec<_> = found
        .iter()
        .filter(|finding| finding.state != State::Ok)
        .map(|finding| finding.id)
        .collect();
    assert_eq!(states, ["webhook-reachable"]);
    assert_eq!(found.len(), 9);
}

#[test]
fn versions_are_judged_by_what_they_lack() {
    let at = |version| found(|facts| facts.version = version);
    let old = at(Some((1, 27)));
    is(
        the(&old, "kubernetes-version"),
        State::Failed,
        "no match conditions",
    );
    is(
        the(&old, "native-sidecars"),
        State::Warning,
        "does not have them",
    );
    let later = at(Some((1, 28)));
    is(the(&later, "kubernetes-version"), State::Ok, "1.28");
    is(the(&later, "native-sidecars"), State::Warning, "");
    is(the(&at(Some((1, 29))), "native-sidecars"), State::Ok, "");
    is(
        the(&at(None), "kubernetes-version"),
        State::Unknown,
        "cannot be told",
    );
}

#[test]
fn what_the_api_server_does_not_serve_is_missed() {
    let none = found(|facts| facts.registration = Ok(Vec::new()));
    is(
        the(&none, "admission-webhooks"),
        State::Failed,
        "does not serve",
    );
    is(
        the(&none, "admission-policy"),
        State::Warning,
        "does not serve",
    );
    let blind = found(|facts| facts.registration = Err(forbidden()));
    is(the(&blind, "admission-webhooks"), State::Unknown, "may not");
}

#[test]
fn rights_that_are_missing_are_listed() {
    let right = || Right::new("create", "apps", "deployments").within("drey-system");
    let missing = found(|facts| facts.rights.push((right(), Ok(false))));
    is(
        the(&missing, "rights-to-install"),
        State::Failed,
        "create deployments.apps",
    );
    let blind = found(|facts| facts.rights.push((right(), Err(forbidden()))));
    is(the(&blind, "rights-to-install"), State::Unknown, "may not");
}

fn configuration(
    name: &str,
    webhooks: Value,
) -> Vec<k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration> {
    vec![object(
        json!({ "metadata": { "name": name }, "webhooks": webhooks }),
    )]
}

fn entry(name: &str, namespace: &str) -> Value {
    json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": { "service": { "name": "drey-webhook", "namespace": namespace } },
    })
}

#[test]
fn other_installations_are_told_from_strangers_with_the_same_name() {
    let with = |name: &str, webhooks| {
        let all = found(|facts| facts.configurations = Ok(configuration(name, webhooks)));
        the(&all, "other-installation").clone()
    };
    let own = || json!([entry("jobmanager.drey.io", "drey-system")]);
    is(
        &with("drey", own()),
        State::Warning,
        "installed in namespace drey-system already",
    );
    is(
        &with("drey", json!([entry("x.example.org", "x")])),
        State::Failed,
        "something else",
    );
    is(&with("drey", json!([])), State::Failed, "something else");
    is(
        &with("mine", own()),
        State::Failed,
        "of an installation in namespace drey-system",
    );
    let elsewhere = json!([entry("jobmanager.drey.io", "other")]);
    is(
        &with("drey", elsewhere),
        State::Failed,
        "in namespace other",
    );
    is(
        &with("istio", json!([entry("x.istio.io", "istio")])),
        State::Ok,
        "none",
    );
    let blind = found(|facts| facts.configurations = Err(forbidden()));
    is(the(&blind, "other-installation"), State::Unknown, "may not");
}

#[test]
fn pods_that_opted_in_already_are_named() {
    let pod = |container: &str, status: Value| {
        object::<k8s_openapi::api::core::v1::Pod>(json!({
            "metadata": { "name": "jm", "namespace": "a", "annotations": { "drey.io/inject": "true" } },
            "spec": { "containers": [{ "name": container }] },
            "status": status,
        }))
    };
    let with = |pods| found(|facts| facts.pods = pods);
    let plain = with(Ok(vec![pod("flink", json!({}))]));
    let finding = the(&plain, "waiting-pods");
    is(finding, State::Warning, "runs without Drey");
    assert_eq!(finding.subject.as_deref(), Some("a/jm"));
    let foreign = with(Ok(vec![pod("drey", json!({}))]));
    is(
        the(&foreign, "waiting-pods"),
        State::Failed,
        "foreign container",
    );
    let over = with(Ok(vec![pod("flink", json!({ "phase": "Succeeded" }))]));
    is(the(&over, "waiting-pods"), State::Ok, "none");
    is(
        the(&with(Err(forbidden())), "waiting-pods"),
        State::Unknown,
        "may not",
    );
}

#[test]
fn the_way_to_the_webhook_is_known_only_afterwards() {
    let on = |version: &str| {
        let all = found(|facts| version.clone_into(&mut facts.git_version));
        the(&all, "webhook-reachable").clone()
    };
    is(&on("v1.33.1-gke.1000"), State::Warning, "firewall");
    assert!(
        on("v1.33.1-gke.1000")
            .remedy
            .unwrap()
            .contains("firewall rule")
    );
    assert!(
        on("v1.33.1-eks-4b2a")
            .remedy
            .unwrap()
            .contains("hostNetwork")
    );
    is(&on("v1.34.4"), State::Unknown, "before the installation");
    let there = found(|facts| facts.service = Ok(true));
    is(
        the(&there, "webhook-reachable"),
        State::Unknown,
        "there already",
    );
    let blind = found(|facts| facts.service = Err(forbidden()));
    is(the(&blind, "webhook-reachable"), State::Unknown, "may not");
}
