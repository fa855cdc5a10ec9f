//! The conditions of the webhook's entries and of the policy, on a real API server that cannot reach any webhook: who depends
//! on it, and what is refused without it.

use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::helm::{deploy, only, parse, render};
use crate::render::rendered;

/// How long an API server may take to act on a configuration that was just made.
const ACTIVE: Duration = Duration::from_secs(60);

/// Creates a pod by dry run with labels, annotations and arguments; what it was refused with.
async fn create(admin: &Client, namespace: &str, pod: &Value) -> Option<String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(pod).unwrap())
        .unwrap();
    let answer = admin.request::<Value>(request).await;
    answer.err().map(|error| error.to_string())
}

fn pod(component: Option<&str>, args: &[&str], annotations: &[(&str, &str)]) -> Value {
    let mut metadata = json!({"name": "pod"});
    if let Some(component) = component {
        metadata["labels"] = json!({"type": "flink-native-kubernetes", "component": component});
    }
    for (key, value) in annotations {
        metadata["annotations"][*key] = json!(value);
    }
    let container = json!({"name": "flink", "image": "flink", "args": args});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": metadata, "spec": {"containers": [container]},
    })
}

/// Waits until this pod is refused, so that what was installed certainly counts.
async fn until_refused(admin: &Client, pod: &Value) {
    let all = async {
        while create(admin, "plain", pod).await.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(ACTIVE, all).await;
    assert!(waited.is_ok(), "not refused within {ACTIVE:?}: {pod}");
}

async fn server() -> (ApiServer, Client) {
    let server = ApiServer::start().await;
    let admin = server.admin().await;
    for name in ["plain", "drey-system"] {
        server.namespace(name).await;
    }
    let labelled = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "labelled", "labels": {"drey.io/inject": "enabled"}},
    });
    server.apply("/api/v1/namespaces/labelled", &labelled).await;
    (server, admin)
}

async fn install(server: &ApiServer, objects: &[Value], kind: &str, plural: &str) {
    let object = only(objects, kind);
    let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}/drey");
    server.apply(&path, object).await;
}

const IN: (&str, &str) = ("drey.io/inject", "true");
const OUT: (&str, &str) = ("drey.io/inject", "false");
const YES: (&str, &str) = ("drey.io/inject", "yes");
const JOB_MANAGER: &[&str] = &["standalone-job", "--job-classname", "org.example.Orders"];
const TASK_MANAGER: &[&str] = &["taskmanager"];
/// A JobManager whose job has an argument of that name.
const NOTIFIES: &[&str] = &["standalone-job", "--notify", "taskmanager"];

/// With what ships its log beside it, by a command that has the word as an argument.
fn beside(args: &[&str], annotations: &[(&str, &str)], word: &str) -> Value {
    let mut pod = pod(None, args, annotations);
    let container = json!({"name": "log", "image": "log", "args": ["--of", word]});
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.push(container);
    pod
}

/// Whether a pod is refused while there is no webhook: in a namespace, with a way to be known.
fn without_webhook() -> Vec<(bool, &'static str, Value)> {
    let native = ["bash", "-c", "exec java"];
    let role = |role| [IN, ("drey.io/role", role)];
    vec![
        (true, "plain", pod(Some("jobmanager"), &native, &[IN])),
        (true, "plain", pod(None, JOB_MANAGER, &[IN])),
        // What is not known for certain might be a JobManager.
        (true, "plain", pod(None, &native, &[IN])),
        (true, "plain", pod(None, &native, &[YES])),
        (true, "plain", pod(None, TASK_MANAGER, &role("jobmanager"))),
        (false, "plain", pod(None, &native, &role("taskmanager"))),
        (false, "plain", pod(Some("taskmanager"), &native, &[IN])),
        (false, "plain", pod(None, TASK_MANAGER, &[IN])),
        (
            false,
            "plain",
            pod(None, &["bin/taskmanager.sh", "start-foreground"], &[IN]),
        ),
        (
            false,
            "plain",
            pod(None, &["bash", "-c", "a && bin/taskmanager.sh x"], &[IN]),
        ),
        // Not what the word is about.
        (
            true,
            "plain",
            pod(None, &["standalone-job", "-Dtaskmanager.host=a"], &[IN]),
        ),
        (true, "plain", pod(None, NOTIFIES, &[IN])),
        (true, "plain", beside(JOB_MANAGER, &[IN], "taskmanager")),
        (false, "plain", pod(None, JOB_MANAGER, &[OUT])),
        (false, "plain", pod(None, JOB_MANAGER, &[])),
        (true, "labelled", pod(None, JOB_MANAGER, &[])),
        (true, "labelled", pod(None, NOTIFIES, &[])),
        (true, "labelled", beside(JOB_MANAGER, &[], "taskmanager")),
        (
            true,
            "labelled",
            pod(None, JOB_MANAGER, &[("other", "annotation")]),
        ),
        (true, "labelled", pod(Some("jobmanager"), &native, &[])),
        (
            true,
            "labelled",
            pod(None, &["/opt/flink/bin/standalone-job.sh"], &[]),
        ),
        (true, "labelled", pod(None, JOB_MANAGER, &[IN])),
        (false, "labelled", pod(None, JOB_MANAGER, &[OUT])),
        (false, "labelled", pod(None, TASK_MANAGER, &[])),
        (false, "labelled", pod(None, &native, &[])),
        (false, "drey-system", pod(None, JOB_MANAGER, &[IN])),
        (false, "kube-system", pod(None, JOB_MANAGER, &[IN])),
    ]
}

#[tokio::test]
async fn without_the_webhook_only_opted_in_jobmanagers_are_refused() {
    let (server, admin) = server().await;
    let kind = "MutatingWebhookConfiguration";
    install(&server, &render(&[]), kind, "mutatingwebhookconfigurations").await;
    until_refused(&admin, &pod(None, JOB_MANAGER, &[IN])).await;

    for (refused, namespace, pod) in without_webhook() {
        let error = create(&admin, namespace, &pod).await;
        assert_eq!(error.is_some(), refused, "{namespace} {pod}: {error:?}");
        if let Some(error) = error {
            assert!(error.contains("jobmanager.drey.io"), "{error}");
        }
    }
}

#[tokio::test]
async fn the_policy_refuses_opted_in_pods_that_are_not_injected() {
    let (server, admin) = server().await;
    let objects = render(&["--set=admissionPolicy.enabled=true"]);
    let policy = "ValidatingAdmissionPolicy";
    install(&server, &objects, policy, "validatingadmissionpolicies").await;
    let binding = "ValidatingAdmissionPolicyBinding";
    install(
        &server,
        &objects,
        binding,
        "validatingadmissionpolicybindings",
    )
    .await;
    until_refused(&admin, &pod(None, JOB_MANAGER, &[IN])).await;
    let injected = [IN, ("drey.io/status", "{}")];
    let operators = [IN, ("flinkdeployment.flink.apache.org/generation", "1")];
    let mut by_hand = pod(None, JOB_MANAGER, &[IN]);
    by_hand["spec"]["initContainers"] = json!([{"name": "drey-install", "image": "drey"}]);

    for (refused, namespace, pod) in [
        (true, "plain", pod(None, JOB_MANAGER, &[IN])),
        (true, "plain", pod(None, TASK_MANAGER, &[IN])),
        (true, "plain", pod(None, &["sleep"], &[IN])),
        (false, "plain", pod(None, JOB_MANAGER, &injected)),
        (false, "plain", pod(None, JOB_MANAGER, &operators)),
        (false, "plain", by_hand),
        (false, "plain", pod(None, JOB_MANAGER, &[OUT])),
        (false, "plain", pod(None, JOB_MANAGER, &[])),
        (true, "labelled", pod(None, JOB_MANAGER, &[])),
        (true, "labelled", pod(None, TASK_MANAGER, &[])),
        (false, "labelled", pod(None, TASK_MANAGER, &[OUT])),
        (false, "labelled", pod(None, &["sleep"], &[])),
        (false, "drey-system", pod(None, JOB_MANAGER, &[IN])),
    ] {
        let error = create(&admin, namespace, &pod).await;
        assert_eq!(error.is_some(), refused, "{namespace} {pod}: {error:?}");
        if let Some(error) = error {
            assert!(error.contains("Drey is not in it"), "{error}");
        }
    }
}

/// Where an object is, by its own words.
fn path(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let group = if version == "v1" { "api" } else { "apis" };
    let kind = text(&object["kind"]).to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    let metadata = &object["metadata"];
    let place = match metadata["namespace"].as_str() {
        Some(namespace) => format!("namespaces/{namespace}/"),
        None => String::new(),
    };
    format!(
        "/{group}/{version}/{place}{plural}/{}",
        text(&metadata["name"])
    )
}

/// No field is misspelt, none is of the wrong kind, and every condition is good CEL.
#[tokio::test]
async fn a_real_api_server_takes_every_object_word_by_word() {
    let (server, admin) = server().await;
    server.namespace("orders").await;
    for objects in [
        parse(&std::fs::read_to_string(deploy("install.yaml")).unwrap()),
        rendered("HA"),
        rendered("files"),
        rendered("everything"),
    ] {
        for object in objects {
            let query = "fieldManager=strict&force=true&fieldValidation=Strict";
            let request = http::Request::patch(format!("{}?{query}", path(&object)))
                .header("content-type", "application/apply-patch+yaml")
                .body(serde_json::to_vec(&object).unwrap())
                .unwrap();
            let taken = admin.request::<Value>(request).await;
            assert!(taken.is_ok(), "{}: {:?}", path(&object), taken.err());
        }
    }
}
