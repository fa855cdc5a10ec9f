//! `drey check --pre`.

use serde_json::{Value, json};

use crate::world::{World, drey, said};

#[tokio::test]
async fn an_admin_may_install_and_only_the_way_to_the_webhook_is_unknown() {
    let world = World::new("pre-admin").await;
    let said = world.check(&["--pre"]);
    assert_eq!(said.code, 0, "{:#}", said.json);
    assert_eq!(said.json["result"], "ok");
    let not_ok = json!(said.not_ok());
    assert_eq!(not_ok, json!({ "unknown": ["webhook-reachable"] }));
    said.is("api-server", "ok", "v1.34");
    let strict = world.check(&["--pre", "--strict"]);
    assert_eq!(strict.code, 0);
}

#[tokio::test]
async fn who_may_do_nothing_learns_what_he_lacks() {
    let world = World::new("pre-nobody").await;
    let said = world.check_as("nobody", &["--pre"]);
    assert_eq!(said.code, 1);
    said.is(
        "rights-to-install",
        "failed",
        "create clusterroles.rbac.authorization.k8s.io",
    );
    said.is(
        "other-installation",
        "unknown",
        "you may not list mutatingwebhookconfigurations",
    );
    said.is(
        "waiting-pods",
        "unknown",
        "you may not list pods in namespace pre-nobody",
    );
    let remedy = said.the("waiting-pods")["remedy"].as_str().unwrap();
    let rule =
        r#"{apiGroups: [""], resources: [pods], verbs: [list]} in a Role in namespace pre-nobody"#;
    assert!(remedy.contains(rule), "{remedy}");
}

/// What `--pre` asks for is enough: who has exactly these rights can create all that the chart has.
#[tokio::test]
async fn the_rights_that_are_asked_for_are_those_that_the_chart_takes() {
    let world = World::new("pre-installer").await;
    let lacking = world.check_as("installer", &["--pre"]);
    let found = lacking.the("rights-to-install")["found"].as_str().unwrap();
    let rules: Vec<Value> = found
        .trim_start_matches("you may not ")
        .split(", ")
        .map(rule)
        .collect();
    world
        .server
        .grant_everywhere("installer", Value::Array(rules))
        .await;
    let said = world.check_as("installer", &["--pre"]);
    said.is("rights-to-install", "ok", "you may do all");
    let kubeconfig = world.kubeconfig("installer");
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    world.kubectl(&[&kubeconfig, "create", "-f", &world.manifests()]);
}

/// `create deployments.apps` as a rule.
fn rule(text: &str) -> Value {
    let (verb, what) = text.split_once(' ').unwrap();
    let (resource, group) = what.split_once('.').unwrap_or((what, ""));
    json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] })
}

#[tokio::test]
async fn pods_that_opted_in_already_and_another_installation_are_found() {
    let world = World::new("pre-conflict").await;
    let pod = |name: &str, container: &str| {
        json!({
            "metadata": { "name": name, "annotations": { "drey.io/inject": "true" } },
            "spec": { "containers": [{ "name": container, "image": "flink" }] },
        })
    };
    world.create("pods", pod("waiting", "flink")).await;
    let waiting = world.check(&["--pre"]);
    waiting.is("waiting-pods", "warning", "runs without Drey");
    assert_eq!(waiting.code, 0);
    assert_eq!(world.check(&["--pre", "--strict"]).code, 1);
    let path = "/api/v1/namespaces/pre-conflict/pods/waiting?gracePeriodSeconds=0";
    world.send("DELETE", path, &json!({})).await.unwrap();
    world.create("pods", pod("foreign", "drey")).await;
    world
        .check(&["--pre"])
        .is("waiting-pods", "failed", "foreign container");
    let stranger = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "drey" },
        "webhooks": [],
    });
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    world.send("POST", path, &stranger).await.unwrap();
    let said = world.check(&["--pre"]);
    said.is("other-installation", "failed", "something else");
    said.is("waiting-pods", "failed", "foreign container");
    assert_eq!(said.code, 1);
}

#[tokio::test]
async fn bad_usage_is_told_from_what_cannot_be_reached() {
    let world = World::new("usage").await;
    let root = world.kubeconfig("root");
    let run = |args: &[&str]| drey(&root, args).output().unwrap();
    for args in [
        &["-A", "-n", "x"][..],
        &["--wait=soon"],
        &["--output=yaml"],
        &["-n", "missing"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(&root).unwrap()).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!("https://127.0.0.1:1");
    let away = root.with_file_name("away.kubeconfig");
    std::fs::write(&away, config.to_string()).unwrap();
    for args in [&[][..], &["--pre"], &["--wait=1s"]] {
        let said = said(&drey(&away, args).output().unwrap());
        assert_eq!(said.code, 75);
        assert_eq!(said.json["result"], "unreachable");
        said.is("api-server", "failed", "does not answer");
    }
    let none = said(&drey("/nonexistent".as_ref(), &[]).output().unwrap());
    assert_eq!(none.code, 1);
    none.is(
        "api-server",
        "failed",
        "could not set up the Kubernetes client",
    );
    let stranger = root.with_file_name("stranger.kubeconfig");
    config["clusters"][0]["cluster"]["server"] = server_of(&root);
    config["users"][0]["user"] = json!({ "token": "made up" });
    std::fs::write(&stranger, config.to_string()).unwrap();
    let refused = said(&drey(&stranger, &[]).output().unwrap());
    assert_eq!(refused.code, 1);
    refused.is("api-server", "failed", "does not know the user");
}

fn server_of(kubeconfig: &std::path::Path) -> Value {
    let config: Value = serde_json::from_slice(&std::fs::read(kubeconfig).unwrap()).unwrap();
    config["clusters"][0]["cluster"]["server"].clone()
}
