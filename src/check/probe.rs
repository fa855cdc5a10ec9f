//! The proof that the webhook answers: pods that are created in a dry run, so that nothing is stored and nothing runs.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Blind, Finding, pods, table};
use crate::inject::{INJECT, Role};

/// What came of a dry run.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What Flink's process in the pod is.
    pub role: Role,
    /// The namespace that it was created in.
    pub namespace: String,
    /// What the API server said.
    pub answer: Answer,
}

/// What the API server said to the creation of a pod in a dry run.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The pod as it would be stored.
    Pod(Box<Pod>),
    /// It was refused, with this message.
    Refused(String),
    /// It could not be tried.
    NotTried(Blind),
}

/// A small Flink pod that has opted in and keeps to Pod Security `restricted`.
#[must_use]
pub(super) fn pod(namespace: &str, role: Role) -> Pod {
    let (component, script) = match role {
        Role::JobManager => (
            "jobmanager",
            "kubernetes-jobmanager.sh kubernetes-application",
        ),
        Role::TaskManager => ("taskmanager", "kubernetes-taskmanager.sh"),
    };
    let pod = json!({
        "metadata": {
            "generateName": format!("drey-check-{component}-"),
            "namespace": namespace,
            "labels": { "app": "drey-check", "component": component, "type": "flink-native-kubernetes" },
            "annotations": { INJECT: "true" },
        },
        "spec": {
            "restartPolicy": "Always",
            "securityContext": { "runAsNonRoot": true, "runAsUser": 9999, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "flink-main-container",
                "image": "flink",
                "command": ["/docker-entrypoint.sh"],
                "args": ["bash", "-c", script],
                "resources": {
                    "requests": { "cpu": "1m", "memory": "1Mi" },
                    "limits": { "cpu": "1m", "memory": "1Mi" },
                },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    serde_json::from_value(pod).expect("a pod")
}

/// The version of the webhook that injected one of these.
pub(super) fn version(probes: &[Probe]) -> Option<String> {
    probes.iter().find_map(|probe| match &probe.answer {
        Answer::Pod(pod) => pods::injected_by(pod),
        _ => None,
    })
}

pub(super) fn findings(probes: &[Probe]) -> Vec<Finding> {
    let bad: Vec<Finding> = probes.iter().filter_map(judge).collect();
    match probes.first() {
        Some(first) if bad.is_empty() => {
            let found = format!(
                "a JobManager and a TaskManager pod come back injected (dry run in namespace {})",
                first.namespace
            );
            vec![Finding::ok(&table::WEBHOOK_ANSWERS, found)]
        }
        _ => bad,
    }
}

fn judge(probe: &Probe) -> Option<Finding> {
    let check = &table::WEBHOOK_ANSWERS;
    let finding = match &probe.answer {
        Answer::Pod(pod) if pods::injected_by(pod).is_some() => return None,
        Answer::Pod(_) => {
            let found = format!(
                "a pod that opts in is not injected (dry run in namespace {})",
                probe.namespace
            );
            Finding::failed(
                check,
                found,
                "see the other findings about the webhook; its own and the system's namespaces are excluded, so name another one with `--namespace`",
            )
        }
        Answer::Refused(message) => refused(message),
        Answer::NotTried(blind) => Finding::blind(check, blind),
    };
    Some(finding.on(match probe.role {
        Role::JobManager => "JobManager",
        Role::TaskManager => "TaskManager",
    }))
}

/// What the API server says when it could not call a webhook, or when one refused.
fn refused(message: &str) -> Finding {
    let check = &table::WEBHOOK_ANSWERS;
    let own = message.contains(".drey.io\"");
    if message.contains("failed calling webhook") && own {
        return Finding::failed(check, message, remedy(message));
    }
    if message.contains("ValidatingAdmissionPolicy") && message.contains("'drey") {
        let found = format!("a pod that opts in is not injected: {message}");
        return Finding::failed(check, found, "see the other findings about the webhook");
    }
    if message.contains("denied the request") && own {
        return Finding::failed(
            check,
            message,
            "the webhook answers and refuses a plain Flink pod: see its log",
        );
    }
    Finding::unknown(
        check,
        format!("something else refuses the pod: {message}"),
        "run it in a namespace that admits small pods, named with `--namespace`",
    )
}

fn remedy(message: &str) -> &'static str {
    if message.contains("x509") || message.contains("certificate") {
        "the caBundle and the webhook's certificate do not fit: see the findings about both, and the webhook's log"
    } else if ["deadline exceeded", "i/o timeout", "Client.Timeout"]
        .iter()
        .any(|why| message.contains(why))
    {
        // Not merely `timeout`: the address that is called has `?timeout=5s` behind it.
        "the API server cannot reach the webhook: let the control plane through to port 8443 of its pods (firewall of private clusters, NetworkPolicy), or set hostNetwork: true in the chart's values"
    } else {
        "the webhook is not running: see its Deployment, `kubectl -n drey-system describe deployment drey-webhook`"
    }
}
