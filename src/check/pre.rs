//! Before an installation: what can be known of whether it will work.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;

use super::rights::{self, Right};
use super::{Finding, Sight, pods, table, webhook};

/// What is judged before an installation.
#[derive(Debug, Clone)]
pub struct PreFacts {
    /// `v1.34.4`.
    pub git_version: String,
    /// Major and minor version of the API server, where it says them.
    pub version: Option<(u32, u32)>,
    /// The resources of `admissionregistration.k8s.io/v1` that are served.
    pub registration: Sight<Vec<String>>,
    /// Where it is to be installed.
    pub namespace: String,
    /// The rights that it takes, and whether the user has them.
    pub rights: Vec<(Right, Sight<bool>)>,
    /// All configurations of mutating webhooks.
    pub configurations: Sight<Vec<MutatingWebhookConfiguration>>,
    /// The pods that were looked at.
    pub pods: Sight<Vec<Pod>>,
    /// The webhook's Service is there already.
    pub service: Sight<bool>,
}

pub(super) fn findings(facts: &PreFacts) -> Vec<Finding> {
    let mut all = vec![api_server(&facts.git_version)];
    all.extend(versions(facts.version, &facts.git_version));
    all.extend(registration(&facts.registration));
    all.push(rights::install_finding(&facts.rights));
    all.push(other_installation(facts));
    all.extend(waiting_pods(&facts.pods));
    all.push(reachable(facts));
    all
}

pub(super) fn api_server(git_version: &str) -> Finding {
    Finding::ok(
        &table::API_SERVER,
        format!("answers, with Kubernetes {git_version}"),
    )
}

fn versions(version: Option<(u32, u32)>, git_version: &str) -> Vec<Finding> {
    let Some(version) = version else {
        let found = format!("cannot be told from {git_version:?}");
        let remedy = "make sure that it is 1.28 or later";
        return vec![Finding::unknown(&table::KUBERNETES_VERSION, found, remedy)];
    };
    let found = format!("{}.{}", version.0, version.1);
    let enough = if version >= (1, 28) {
        Finding::ok(&table::KUBERNETES_VERSION, found)
    } else {
        let found = format!(
            "{found} has no match conditions: all pods of the cluster would depend on the webhook"
        );
        let remedy = "update Kubernetes to 1.28 or later, or use `drey inject` on manifests";
        Finding::failed(&table::KUBERNETES_VERSION, found, remedy)
    };
    let sidecars = if version >= (1, 29) {
        Finding::ok(&table::NATIVE_SIDECARS, "the cluster has them")
    } else {
        let found = "the cluster does not have them by default";
        let remedy = "leave injection.sidecar of the chart at auto, or set it to ordinary: the sidecar is a container like any other then";
        Finding::warning(&table::NATIVE_SIDECARS, found, remedy)
    };
    vec![enough, sidecars]
}

fn registration(served: &Sight<Vec<String>>) -> Vec<Finding> {
    let served = match served {
        Ok(served) => served,
        Err(blind) => return vec![Finding::blind(&table::ADMISSION_WEBHOOKS, blind)],
    };
    let has = |resource: &str| served.iter().any(|name| name == resource);
    let webhooks = if has("mutatingwebhookconfigurations") {
        Finding::ok(&table::ADMISSION_WEBHOOKS, "the API server serves them")
    } else {
        let remedy = "switch the API admissionregistration.k8s.io/v1 and the admission plugin MutatingAdmissionWebhook on in the API server";
        Finding::failed(
            &table::ADMISSION_WEBHOOKS,
            "the API server does not serve them",
            remedy,
        )
    };
    let policies = if has("validatingadmissionpolicies") {
        Finding::ok(&table::ADMISSION_POLICY, "the API server serves them")
    } else {
        let remedy =
            "leave admissionPolicy.enabled of the chart at false; Kubernetes 1.30 has them";
        Finding::warning(
            &table::ADMISSION_POLICY,
            "the API server does not serve them",
            remedy,
        )
    };
    vec![webhooks, policies]
}

fn other_installation(facts: &PreFacts) -> Finding {
    let check = &table::OTHER_INSTALLATION;
    let configurations = match &facts.configurations {
        Ok(configurations) => configurations,
        Err(blind) => return Finding::blind(check, blind),
    };
    for configuration in configurations {
        let name = configuration.metadata.name.as_deref().unwrap_or_default();
        let entries = configuration.webhooks.iter().flatten();
        let (own, foreign): (Vec<_>, Vec<_>) =
            entries.partition(|entry| entry.name.ends_with(".drey.io"));
        if name == webhook::CONFIGURATION && (own.is_empty() || !foreign.is_empty()) {
            let found =
                format!("the MutatingWebhookConfiguration {name} belongs to something else");
            return Finding::failed(check, found, "rename or remove it");
        }
        let place = own.iter().find_map(|entry| {
            let service = entry.client_config.service.as_ref()?;
            Some(service.namespace.as_str())
        });
        match place {
            Some(place) if name != webhook::CONFIGURATION || place != facts.namespace => {
                let found = format!(
                    "the MutatingWebhookConfiguration {name} is of an installation in namespace {place}"
                );
                let remedy = "remove it, or update that one: a cluster has one webhook of Drey";
                return Finding::failed(check, found, remedy);
            }
            Some(place) => {
                let found = format!("Drey is installed in namespace {place} already");
                let remedy = "`drey check` without `--pre` looks at what is installed";
                return Finding::warning(check, found, remedy);
            }
            None => {}
        }
    }
    Finding::ok(check, "none")
}

fn waiting_pods(pods: &Sight<Vec<Pod>>) -> Vec<Finding> {
    let check = &table::WAITING_PODS;
    let pods = match pods {
        Ok(pods) => pods,
        Err(blind) => return vec![Finding::blind(check, blind)],
    };
    let found: Vec<Finding> = pods.iter().filter_map(waiting).collect();
    if found.is_empty() {
        return vec![Finding::ok(check, "none")];
    }
    found
}

fn waiting(pod: &Pod) -> Option<Finding> {
    let check = &table::WAITING_PODS;
    if !pods::is_alive(pod) || !pods::asks(pod) || pods::supervised(pod) {
        return None;
    }
    let finding = if pods::container(pod, crate::inject::SIDECAR).is_some() {
        let remedy = "rename that container: the webhook refuses such a pod";
        Finding::failed(check, "has a foreign container named `drey`", remedy)
    } else {
        let remedy = "after the installation, restart it with `kubectl rollout restart`; its running job has no savepoint by Drey then, so take one first";
        Finding::warning(check, "has opted in and runs without Drey", remedy)
    };
    Some(finding.on(pods::subject(pod)))
}

fn reachable(facts: &PreFacts) -> Finding {
    let check = &table::WEBHOOK_REACHABLE;
    let remedy = match facts.git_version.as_str() {
        version if version.contains("-gke") => {
            "in a private GKE cluster, let the control plane reach port 8443 of the nodes by a firewall rule, or choose another port in the chart's values; then `drey check`"
        }
        version if version.contains("-eks") => {
            "on EKS with a pod network of your own the control plane cannot reach pods: set hostNetwork: true in the chart's values; then `drey check`"
        }
        _ => "after the installation run `drey check`: its dry run goes the whole way",
    };
    match &facts.service {
        Ok(true) => Finding::unknown(
            check,
            "the webhook's Service is there already",
            "run `drey check`: its dry run goes the whole way",
        ),
        Err(blind) if blind.right.is_some() => Finding::blind(check, blind),
        _ if remedy.ends_with("then `drey check`") => {
            let found = "managed clusters can have a firewall or a pod network in between";
            Finding::warning(check, found, remedy)
        }
        _ => Finding::unknown(check, "cannot be known before the installation", remedy),
    }
}
