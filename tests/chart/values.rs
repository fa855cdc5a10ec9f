//! Values that contradict each other, or do not exist, are refused before anything is installed.

use crate::helm::{deploy, refused};

#[test]
fn contradicting_values_are_refused_with_a_remedy_each_all_at_once() {
    let said = refused(&[
        "--set=certificates.mode=files",
        "--set=certificates.certManager.issuerRef.name=mine",
        "--set=podDisruptionBudget.enabled=true",
        "--set=flink.serviceAccounts[0].namespace=kube-system",
        "--set=flink.serviceAccounts[0].name=flink",
        "--set=flink.serviceAccounts[0].clusterId=orders",
    ]);

    for part in [
        "certificates.files.secretName is empty: name the Secret",
        "certificates.files.caBundle is empty",
        "set it to cert-manager, or leave issuerRef out",
        "podDisruptionBudget.enabled needs replicas of at least 2",
        "names the namespace kube-system, whose pods are never injected",
    ] {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

#[test]
fn a_policy_is_refused_where_the_cluster_does_not_know_it() {
    let said = refused(&[
        "--set=admissionPolicy.enabled=true",
        "--kube-version=v1.29.4",
    ]);
    assert!(
        said.contains("admissionPolicy.enabled needs Kubernetes 1.30"),
        "{said}"
    );
}

#[test]
fn a_cluster_without_match_conditions_is_refused() {
    let said = refused(&["--kube-version=v1.27.9"]);
    assert!(said.contains(">=1.28.0-0"), "{said}");
}

#[test]
fn the_schema_refuses_what_is_misspelt_or_of_the_wrong_kind() {
    for (value, what) in [
        ("replica=2", "replica"),
        ("replicas=0", "replicas"),
        ("replicas=two", "replicas"),
        ("image.pullPolicy=always", "pullPolicy"),
        ("image.digest=latest", "digest"),
        ("webhook.timeoutSeconds=30", "timeoutSeconds"),
        ("webhook.failurePolicy.jobManager=Deny", "jobManager"),
        ("certificates.mode=certmanager", "mode"),
        ("certificates.files.caBundle=/etc/ca.crt", "caBundle"),
        ("admissionPolicy.actions[0]=Refuse", "actions"),
        ("flink.serviceAccounts[0].name=flink", "namespace"),
        ("flink.serviceAccounts[0].namespace=a b", "namespace"),
        ("injection.allowedImages[0]=a,b", "allowedImages"),
        ("port=443", "port"),
        ("port=8080", "port"),
        ("log.format=xml", "format"),
    ] {
        let said = refused(&[&format!("--set={}", value.replace("a,b", "a\\,b"))]);
        assert!(said.contains(what), "{value}: {said}");
    }
}

/// A value that the chart does not document can hardly be used.
#[test]
fn every_value_of_the_schema_is_in_values_yaml_with_its_default() {
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(deploy("chart/values.schema.json")).unwrap())
            .unwrap();
    let values: serde_json::Value =
        serde_saphyr::from_str(&std::fs::read_to_string(deploy("chart/values.yaml")).unwrap())
            .unwrap();
    let mut missing = Vec::new();
    walk("", &schema, &values, &mut missing);
    assert_eq!(
        missing,
        [
            "global",
            "certificates.certManager.issuerRef.group",
            "certificates.certManager.issuerRef.kind",
            "certificates.certManager.issuerRef.name"
        ]
    );
}

fn walk(
    path: &str,
    schema: &serde_json::Value,
    values: &serde_json::Value,
    missing: &mut Vec<String>,
) {
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match values.get(key) {
            None => missing.push(path.trim_start_matches('.').to_owned()),
            Some(value) => walk(&path, schema, value, missing),
        }
    }
}
