//! Brings the facts, with the rights that whoever runs this has. Nothing is changed in the cluster.

mod ask;
mod changes;
mod cluster;
mod installation;
mod review;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Pod, Service};
use kube::Api;

pub use changes::{Marks, changed, marks};

use super::rights::{self, Right};
use super::{Blind, Facts, Namespace, PreFacts, Sight, WEBHOOK, pods};
use crate::config::Settings;
use crate::kubernetes::Kube;
use ask::{get, list, see};

const REGISTRATION: &str = "admissionregistration.k8s.io";

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The only namespace; `None`: all.
    pub namespace: Option<String>,
    /// Where the dry runs are made.
    pub dry_run: String,
    /// Where the webhook is, or is to be.
    pub webhook: String,
}

/// Why nothing can be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The API server does not answer.
    Unreachable(String),
    /// It does not know the user.
    Refused(String),
    /// There is no such namespace.
    NoNamespace(String),
}

/// What is judged before an installation.
///
/// # Errors
/// When nothing can be looked at.
pub async fn before(kube: &Kube, scope: &Scope) -> Result<PreFacts, Trouble> {
    let server = server(kube).await?;
    let registration = registration(kube).await;
    let namespaces: Api<NamespaceObject> = Api::all(kube.client());
    let right = Right::new("get", "", "namespaces");
    let place = get(&namespaces, right, &scope.webhook).await;
    let needed = rights::to_install(&scope.webhook, matches!(place, Ok(Some(_))));
    let services: Api<Service> = Api::namespaced(kube.client(), &scope.webhook);
    let service = Right::new("get", "", "services").within(&scope.webhook);
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(kube.client());
    let all = Right::new("list", REGISTRATION, "mutatingwebhookconfigurations");
    let (rights, configurations, pods, service) = tokio::join!(
        review::own(kube, needed),
        list(&configurations, all, |_| true),
        pods_in(kube, scope.namespace.as_deref()),
        get(&services, service, WEBHOOK),
    );
    Ok(PreFacts {
        version: number(&server.major).zip(number(&server.minor)),
        git_version: server.git_version,
        registration,
        namespace: scope.webhook.clone(),
        rights,
        configurations,
        pods,
        service: service.map(|service| service.is_some()),
    })
}

/// What is judged after an installation; `settings` say how the storage is reached.
///
/// # Errors
/// When nothing can be looked at.
pub async fn after(kube: &Kube, scope: &Scope, settings: &Settings) -> Result<Facts, Trouble> {
    let server = server(kube).await?;
    let (installation, namespaces) = tokio::join!(
        installation::gather(kube, scope),
        namespaces(kube, scope, settings)
    );
    Ok(Facts {
        now: Timestamp::now(),
        git_version: server.git_version,
        installation,
        namespaces: namespaces?,
    })
}

/// Which API server answers.
async fn server(kube: &Kube) -> Result<k8s_openapi::apimachinery::pkg::version::Info, Trouble> {
    let client = kube.client();
    let asked = ask::limited(client.apiserver_version()).await;
    asked.map_err(|error| match error {
        ask::Failed::Api(status) if status.code == 401 => {
            Trouble::Refused("the API server does not know the user of the kubeconfig".to_owned())
        }
        ask::Failed::Api(status) => Trouble::Refused(format!(
            "the API server does not say its version: {}",
            status.message
        )),
        ask::Failed::Other(why) => {
            Trouble::Unreachable(format!("the API server does not answer: {why}"))
        }
    })
}

/// Managed clusters say `28+`.
fn number(text: &str) -> Option<u32> {
    text.trim_end_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .ok()
}

async fn registration(kube: &Kube) -> Sight<Vec<String>> {
    let client = kube.client();
    let group = format!("{REGISTRATION}/v1");
    let right = Right::new("list", REGISTRATION, "mutatingwebhookconfigurations");
    let served = see(right, client.list_api_group_resources(&group)).await?;
    Ok(served
        .resources
        .into_iter()
        .map(|resource| resource.name)
        .collect())
}

/// Flink's pods, and those that asked for Drey.
async fn pods_in(kube: &Kube, namespace: Option<&str>) -> Sight<Vec<Pod>> {
    let right = Right::new("list", "", "pods");
    let concerns =
        |pod: &Pod| pods::asks(pod) || pods::supervised(pod) || pods::role(pod).is_some();
    match namespace {
        Some(name) => {
            let api = Api::namespaced(kube.client(), name);
            list(&api, right.within(name), concerns).await
        }
        None => list(&Api::all(kube.client()), right, concerns).await,
    }
}

async fn namespaces(
    kube: &Kube,
    scope: &Scope,
    settings: &Settings,
) -> Result<Vec<Namespace>, Trouble> {
    let pods = pods_in(kube, scope.namespace.as_deref()).await;
    let mut all = match &scope.namespace {
        Some(name) => vec![one(kube, name, pods).await?],
        None => every(kube, pods).await,
    };
    for namespace in &mut all {
        if let Ok(pods) = &namespace.pods {
            namespace.clusters = cluster::gather(kube, &namespace.name, pods, settings).await;
        }
    }
    Ok(all)
}

async fn one(kube: &Kube, name: &str, pods: Sight<Vec<Pod>>) -> Result<Namespace, Trouble> {
    let api: Api<NamespaceObject> = Api::all(kube.client());
    let right = Right::new("get", "", "namespaces").within(name);
    let labels = match get(&api, right, name).await {
        Ok(None) => return Err(Trouble::NoNamespace(name.to_owned())),
        Ok(Some(object)) => Ok(object.metadata.labels.unwrap_or_default()),
        Err(blind) => Err(blind),
    };
    Ok(namespace(name, labels, pods))
}

fn namespace(
    name: &str,
    labels: Sight<BTreeMap<String, String>>,
    pods: Sight<Vec<Pod>>,
) -> Namespace {
    Namespace {
        name: name.to_owned(),
        labels,
        pods,
        clusters: Vec::new(),
    }
}

/// The namespaces with pods that matter. Those that opted in and have none have nothing to be looked at.
async fn every(kube: &Kube, pods: Sight<Vec<Pod>>) -> Vec<Namespace> {
    let pods = match pods {
        Ok(pods) => pods,
        Err(blind) => return vec![namespace("all namespaces", Ok(BTreeMap::new()), Err(blind))],
    };
    let api: Api<NamespaceObject> = Api::all(kube.client());
    let labels = list(&api, Right::new("list", "", "namespaces"), |_| true).await;
    let mut by_name: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
    for pod in pods {
        let name = pod.metadata.namespace.clone().unwrap_or_default();
        by_name.entry(name).or_default().push(pod);
    }
    let labels_of = |name: &str| -> Sight<BTreeMap<String, String>> {
        let all = labels.as_ref().map_err(Blind::clone)?;
        let found = all
            .iter()
            .find(|object| object.metadata.name.as_deref() == Some(name));
        Ok(found
            .and_then(|object| object.metadata.labels.clone())
            .unwrap_or_default())
    };
    by_name
        .into_iter()
        .map(|(name, pods)| namespace(&name, labels_of(&name), Ok(pods)))
        .collect()
}
