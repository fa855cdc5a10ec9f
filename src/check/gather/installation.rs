//! What is installed for the whole cluster, and the dry runs.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::PostParams;

use super::super::probe::{self, Answer, Probe};
use super::super::rights::Right;
use super::super::webhook::CONFIGURATION;
use super::super::{Installation, Sight, WEBHOOK};
use super::ask::{Failed, blind, get, limited};
use super::{REGISTRATION, Scope};
use crate::inject::Role;
use crate::kubernetes::Kube;

/// The Secret with the webhook's certificate.
const SECRET: &str = "drey-webhook-tls";

pub(super) async fn gather(kube: &Kube, scope: &Scope) -> Installation {
    let api: Api<MutatingWebhookConfiguration> = Api::all(kube.client());
    let right = Right::new("get", REGISTRATION, "mutatingwebhookconfigurations");
    let configuration = get(&api, right, CONFIGURATION).await;
    let namespace = place(&configuration).unwrap_or_else(|| scope.webhook.clone());
    let deployments: Api<Deployment> = Api::namespaced(kube.client(), &namespace);
    let deployment = Right::new("get", "apps", "deployments").within(&namespace);
    let (deployment, certificate, job_manager, task_manager) = tokio::join!(
        get(&deployments, deployment, WEBHOOK),
        certificate(kube, &namespace),
        dry_run(kube, &scope.dry_run, Role::JobManager),
        dry_run(kube, &scope.dry_run, Role::TaskManager),
    );
    Installation {
        namespace,
        configuration,
        deployment,
        certificate,
        probes: vec![job_manager, task_manager],
    }
}

/// The namespace that the configuration sends to.
fn place(configuration: &Sight<Option<MutatingWebhookConfiguration>>) -> Option<String> {
    let configuration = configuration.as_ref().ok()?.as_ref()?;
    let mut entries = configuration.webhooks.iter().flatten();
    entries.find_map(|entry| {
        let service = entry.client_config.service.as_ref()?;
        Some(service.namespace.clone())
    })
}

/// Of the Secret only the certificate is kept.
async fn certificate(kube: &Kube, namespace: &str) -> Sight<Option<Vec<u8>>> {
    let api: Api<Secret> = Api::namespaced(kube.client(), namespace);
    let right = Right::new("get", "", "secrets").within(namespace);
    let secret = get(&api, right, SECRET).await?;
    let pem = secret.and_then(|secret| secret.data?.remove("tls.crt"));
    Ok(pem.map(|pem| pem.0))
}

async fn dry_run(kube: &Kube, namespace: &str, role: Role) -> Probe {
    let api: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = probe::pod(namespace, role);
    let right = Right::new("create", "", "pods").within(namespace);
    let answer = match limited(api.create(&params, &pod)).await {
        Ok(pod) => Answer::Pod(Box::new(pod)),
        Err(Failed::Api(status)) if !status.message.contains(" cannot create ") => {
            Answer::Refused(status.message.clone())
        }
        Err(failed) => Answer::NotTried(blind(right, failed)),
    };
    Probe {
        role,
        namespace: namespace.to_owned(),
        answer,
    }
}
