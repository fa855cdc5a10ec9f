use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::inject::Role;

fn pod(name: &str, annotations: Value) -> Pod {
    object(json!({
        "metadata": {
            "name": name,
            "namespace": "a",
            "annotations": annotations,
            "labels": { "type": "flink-native-kubernetes", "component": "jobmanager", "app": "orders" },
        },
        "spec": { "containers": [{ "name": "flink-main-container" }] },
    }))
}

fn injected(version: &str) -> Value {
    json!({ "drey.io/inject": "true", "drey.io/status": json!({ "version": version }).to_string() })
}

fn namespace(label: Option<&str>, pods: Vec<Pod>) -> Namespace {
    let label = label.map(|value| ("drey.io/inject".to_owned(), value.to_owned()));
    Namespace {
        name: "a".to_owned(),
        labels: Ok(label.into_iter().collect()),
        pods: Ok(pods),
        clusters: Vec::new(),
    }
}

fn found(namespace: &Namespace) -> Vec<Finding> {
    super::super::pods::findings(namespace, Some("1.0.0"))
}

#[test]
fn pods_that_opted_in_and_run_without_drey_are_named() {
    let asks = json!({ "drey.io/inject": "true" });
    let pods = vec![pod("good", injected("1.0.0")), pod("bad", asks)];
    let all = found(&namespace(None, pods));
    let finding = the(&all, "pods-injected");
    is(finding, State::Failed, "runs without Drey");
    assert_eq!(finding.subject.as_deref(), Some("a/bad"));
    let good = found(&namespace(None, vec![pod("good", injected("1.0.0"))]));
    is(the(&good, "pods-injected"), State::Ok, "all 1");
    is(the(&good, "pods-version"), State::Ok, "1.0.0");
}

#[test]
fn a_namespace_opts_its_flink_pods_in_and_a_pod_may_stay_out() {
    let label = Some("enabled");
    let by_namespace = found(&namespace(label, vec![pod("jm", json!({}))]));
    is(
        the(&by_namespace, "pods-injected"),
        State::Failed,
        "opted in",
    );
    let out = found(&namespace(
        label,
        vec![pod("jm", json!({ "drey.io/inject": "false" }))],
    ));
    is(the(&out, "pods-injected"), State::Ok, "none");
    let unlabelled = found(&namespace(None, vec![pod("jm", json!({}))]));
    is(the(&unlabelled, "pods-injected"), State::Ok, "none");
    let mut stranger = pod("x", json!({}));
    stranger.metadata.labels = None;
    is(
        the(&found(&namespace(label, vec![stranger])), "pods-injected"),
        State::Ok,
        "none",
    );
}

#[test]
fn pods_that_are_over_or_going_do_not_count() {
    let asks = || json!({ "drey.io/inject": "true" });
    let mut over = pod("over", asks());
    over.status = Some(object(json!({ "phase": "Failed" })));
    let mut going = pod("going", asks());
    going.metadata.deletion_timestamp = Some(object(json!("2026-06-01T12:00:00Z")));
    is(
        the(&found(&namespace(None, vec![over, going])), "pods-injected"),
        State::Ok,
        "none",
    );
}

#[test]
fn a_pod_written_by_hand_is_as_good_as_an_injected_one() {
    let mut by_hand = pod("jm", json!({ "drey.io/inject": "true" }));
    let containers = &mut by_hand.spec.as_mut().unwrap().containers;
    containers[0].env = Some(object(
        json!([{ "name": "DREY_STATE_DIR", "value": "/drey/flink" }]),
    ));
    is(
        the(&found(&namespace(None, vec![by_hand])), "pods-injected"),
        State::Ok,
        "all 1",
    );
}

#[test]
fn another_version_than_the_webhooks_is_warned_of() {
    let all = found(&namespace(None, vec![pod("jm", injected("0.9.0"))]));
    is(
        the(&all, "pods-version"),
        State::Warning,
        "0.9.0 instead of 1.0.0",
    );
}

#[test]
fn what_may_not_be_read_is_unknown() {
    let mut blind = namespace(None, Vec::new());
    blind.pods = Err(forbidden());
    is(
        the(&found(&blind), "pods-injected"),
        State::Unknown,
        "may not",
    );
    let mut unlabelled = namespace(None, Vec::new());
    unlabelled.labels = Err(forbidden());
    is(
        the(&found(&unlabelled), "pods-injected"),
        State::Unknown,
        "may not",
    );
}

#[test]
fn roles_are_told_by_labels_and_by_commands() {
    use crate::inject::Role;
    let runs = |args: Value| {
        object::<Pod>(json!({ "spec": { "containers": [{ "name": "x", "args": args }] } }))
    };
    let role = super::super::pods::role;
    assert_eq!(role(&pod("jm", json!({}))), Some(Role::JobManager));
    assert_eq!(
        role(&runs(json!(["standalone-job", "--x"]))),
        Some(Role::JobManager)
    );
    assert_eq!(
        role(&runs(json!([
            "/opt/flink/bin/taskmanager.sh",
            "start-foreground"
        ]))),
        Some(Role::TaskManager)
    );
    assert_eq!(role(&runs(json!(["sleep", "1"]))), None);
}

/// Flink's container need not be the first one, and its command need not be a word of its own.
#[test]
fn what_a_pod_runs_is_found_as_the_webhook_finds_it() {
    let two = |annotations: Value, words: &str| -> Pod {
        object(json!({
            "metadata": { "name": "x", "namespace": "a", "annotations": annotations },
            "spec": { "containers": [
                { "name": "log", "args": ["--of", "others"] },
                { "name": "flink", "command": ["bash", "-c", words] },
            ] },
        }))
    };
    let of = |pod: &Pod| {
        let container = super::super::pods::flink_container(pod).expect("a container");
        (container.name.clone(), super::super::pods::role(pod))
    };
    let flink = |role| ("flink".to_owned(), role);
    let shell = "exec /opt/flink/bin/taskmanager.sh start-foreground";
    assert_eq!(of(&two(json!({}), shell)), flink(Some(Role::TaskManager)));
    let named = json!({ "drey.io/container": "flink", "drey.io/role": "jobmanager" });
    assert_eq!(of(&two(named, "./own")), flink(Some(Role::JobManager)));
    let noted = json!({ "drey.io/status": json!({ "container": "flink" }).to_string() });
    assert_eq!(of(&two(noted, "./own")), flink(None));
}
