//! The installation for the whole cluster: configuration, pods and certificate of the webhook, and whether it answers.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use rustls::pki_types::CertificateDer;
use url::Url;

use super::certificate::{self, Validity};
use super::probe::{self, Probe};
use super::{Finding, Sight, rough, table};

/// The MutatingWebhookConfiguration.
pub(super) const CONFIGURATION: &str = "drey";

/// The webhook's Deployment and Service.
pub const WEBHOOK: &str = "drey-webhook";

/// The entry for JobManagers, which must not start without Drey.
const JOB_MANAGER: &str = "jobmanager.drey.io";

/// The entry for TaskManagers.
const TASK_MANAGER: &str = "taskmanager.drey.io";

/// What is installed for the whole cluster.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Where the webhook is.
    pub namespace: String,
    /// The configuration; `None`: there is none.
    pub configuration: Sight<Option<MutatingWebhookConfiguration>>,
    /// The webhook's Deployment; `None`: there is none.
    pub deployment: Sight<Option<Deployment>>,
    /// `tls.crt` of the Secret, PEM; `None`: there is none.
    pub certificate: Sight<Option<Vec<u8>>>,
    /// The dry runs.
    pub probes: Vec<Probe>,
}

impl Installation {
    /// The webhook's version, if it has answered.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        probe::version(&self.probes)
    }
}

pub(super) fn findings(installation: &Installation, now: Timestamp) -> Vec<Finding> {
    let mut all = match &installation.configuration {
        Ok(Some(configuration)) => entries(configuration),
        Ok(None) => {
            let found = format!("there is no MutatingWebhookConfiguration {CONFIGURATION}");
            let remedy = "install Drey with the chart in deploy/chart, or `kubectl apply -f deploy/install.yaml`";
            // Without it the rest says the same once more.
            return vec![Finding::failed(
                &table::WEBHOOK_CONFIGURATION,
                found,
                remedy,
            )];
        }
        Err(blind) => vec![Finding::blind(&table::WEBHOOK_CONFIGURATION, blind)],
    };
    all.push(replicas(&installation.deployment));
    let (ca, validity) = certificates(installation, now);
    all.extend(ca);
    all.push(validity);
    all.extend(probe::findings(&installation.probes));
    all.extend(installation.version().map(|version| own_version(&version)));
    all
}

fn own_version(version: &str) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    if version == own {
        return Finding::ok(&table::WEBHOOK_VERSION, version);
    }
    let found = format!("the webhook has {version}, this program {own}");
    let remedy = "update the older of both; what this program says about the pods may be wrong";
    Finding::warning(&table::WEBHOOK_VERSION, found, remedy)
}

fn entries(configuration: &MutatingWebhookConfiguration) -> Vec<Finding> {
    let check = &table::WEBHOOK_CONFIGURATION;
    let all: Vec<&MutatingWebhook> = configuration.webhooks.iter().flatten().collect();
    let mut bad: Vec<Finding> = [JOB_MANAGER, TASK_MANAGER]
        .into_iter()
        .filter(|name| !all.iter().any(|entry| entry.name == *name))
        .map(|name| Finding::failed(check, "the entry is missing", "install Drey again").on(name))
        .collect();
    let judged = all
        .iter()
        .filter_map(|entry| Some(judge(entry)?.on(&entry.name)));
    bad.extend(judged);
    if bad.is_empty() {
        let count = all.len();
        bad.push(Finding::ok(
            check,
            format!("{CONFIGURATION} has its {count} entries"),
        ));
    }
    bad
}

fn judge(entry: &MutatingWebhook) -> Option<Finding> {
    let check = &table::WEBHOOK_CONFIGURATION;
    let again = "install Drey again, or put it back by hand";
    let fails = entry.failure_policy.as_deref() != Some("Ignore");
    let filtered = entry.match_conditions.iter().flatten().next().is_some();
    if !sees_pods(entry) {
        let found = "no rule of it is about the creation of pods";
        return Some(Finding::failed(check, found, again));
    }
    if fails && !filtered {
        let found = "failure policy Fail without match conditions: no pod of the cluster starts while the webhook is away";
        return Some(Finding::failed(check, found, again));
    }
    if !fails && entry.name == JOB_MANAGER {
        let found = "failure policy Ignore: while the webhook is away a JobManager starts without Drey, from empty state";
        return Some(Finding::warning(
            check,
            found,
            "set failurePolicy: Fail; only pods that opted in depend on it",
        ));
    }
    None
}

fn sees_pods(entry: &MutatingWebhook) -> bool {
    let has = |list: &Option<Vec<String>>, one: &str| {
        let all = list.iter().flatten();
        all.into_iter().any(|name| name == one || name == "*")
    };
    let rules = entry.rules.iter().flatten();
    rules
        .into_iter()
        .any(|rule| has(&rule.resources, "pods") && has(&rule.operations, "CREATE"))
}

fn replicas(deployment: &Sight<Option<Deployment>>) -> Finding {
    let check = &table::WEBHOOK_REPLICAS;
    let deployment = match deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) => {
            let found = format!("there is no Deployment {WEBHOOK}");
            let remedy =
                "install Drey again; name the namespace that it is in with `--webhook-namespace`";
            return Finding::failed(check, found, remedy);
        }
        Err(blind) => return Finding::blind(check, blind),
    };
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let ready = deployment
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    let found = format!("{ready} of {wanted} ready");
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let remedy = format!(
        "see `kubectl -n {namespace} describe deployment {WEBHOOK}` and the log of its pods"
    );
    if ready == 0 {
        Finding::failed(check, found, remedy)
    } else if ready < wanted {
        Finding::warning(check, found, remedy)
    } else {
        Finding::ok(check, found)
    }
}

/// What is found of the CA bundles, and of the certificate's validity.
fn certificates(installation: &Installation, now: Timestamp) -> (Vec<Finding>, Finding) {
    let chain = match &installation.certificate {
        Ok(Some(pem)) => certificate::read(pem).map(Some),
        Ok(None) | Err(_) => Ok(None),
    };
    let none: Vec<MutatingWebhook> = Vec::new();
    let entries = match &installation.configuration {
        Ok(Some(configuration)) => configuration.webhooks.as_ref().unwrap_or(&none),
        _ => &none,
    };
    let served = chain.as_ref().ok().and_then(Option::as_deref);
    (
        bundles(entries, served),
        serving(installation, chain.clone(), entries, now),
    )
}

fn bundles(entries: &[MutatingWebhook], chain: Option<&[CertificateDer<'static>]>) -> Vec<Finding> {
    let check = &table::WEBHOOK_CA;
    if entries.is_empty() {
        return Vec::new();
    }
    let bad: Vec<Finding> = entries
        .iter()
        .filter_map(|entry| Some(bundle(entry, chain)?.on(&entry.name)))
        .collect();
    if !bad.is_empty() {
        return bad;
    }
    let found = match chain {
        Some(_) => "the webhook's certificate verifies with the caBundle of each entry",
        None => "each entry has one; whether it fits shows in the dry run",
    };
    vec![Finding::ok(check, found)]
}

fn bundle(entry: &MutatingWebhook, chain: Option<&[CertificateDer<'static>]>) -> Option<Finding> {
    let remedy =
        "the webhook writes it when it starts: see its log; with cert-manager, see its ca-injector";
    let failed = |found: String| Some(Finding::failed(&table::WEBHOOK_CA, found, remedy));
    let config = &entry.client_config;
    let Some(pem) = config.ca_bundle.as_ref().filter(|pem| !pem.0.is_empty()) else {
        return failed("there is no caBundle".to_owned());
    };
    let roots = match certificate::read(&pem.0) {
        Ok(roots) => roots,
        Err(why) => return failed(format!("the caBundle is of no use: {why}")),
    };
    let host = host(config)?;
    let why = certificate::verify(&roots, chain?, &host).err()?;
    failed(format!(
        "the webhook's certificate does not verify for {host}: {why}"
    ))
}

/// The name that the API server verifies.
fn host(config: &WebhookClientConfig) -> Option<String> {
    if let Some(service) = &config.service {
        return Some(format!("{}.{}.svc", service.name, service.namespace));
    }
    let url = Url::parse(config.url.as_ref()?).ok()?;
    Some(url.host_str()?.trim_matches(['[', ']']).to_owned())
}

fn serving(
    installation: &Installation,
    chain: Result<Option<Vec<CertificateDer<'static>>>, String>,
    entries: &[MutatingWebhook],
    now: Timestamp,
) -> Finding {
    let check = &table::WEBHOOK_CERTIFICATE;
    let see = "see the webhook's log; with cert-manager, its Certificate";
    let leaf = match chain {
        Ok(Some(chain)) => chain.into_iter().next(),
        Ok(None) => None,
        Err(why) => {
            let found = format!("tls.crt of the Secret is of no use: {why}");
            return Finding::failed(check, found, see);
        }
    };
    let seen = leaf.map(|leaf| certificate::validity(&leaf));
    match (seen, &installation.certificate) {
        (Some(Ok(validity)), _) => lifetime("", validity, validity.is_old(now), now),
        (Some(Err(why)), _) => Finding::failed(check, why, see),
        (None, Err(blind)) => {
            authority(entries, now).unwrap_or_else(|| Finding::blind(check, blind))
        }
        (None, Ok(_)) => {
            let found = "there is no Secret drey-webhook-tls with a tls.crt";
            Finding::unknown(
                check,
                found,
                "if the webhook has its certificate from files, look there",
            )
        }
    }
}

/// Where the Secret may not be read: the authority in the bundle that is valid for longest.
fn authority(entries: &[MutatingWebhook], now: Timestamp) -> Option<Finding> {
    let month = 30 * 86_400;
    let bundles = entries
        .iter()
        .filter_map(|entry| entry.client_config.ca_bundle.as_ref());
    let roots = bundles
        .filter_map(|pem| certificate::read(&pem.0).ok())
        .flatten();
    let validity = roots
        .filter_map(|root| certificate::validity(&root).ok())
        .max_by_key(|validity| validity.until)?;
    let old = validity.is_old(now) && validity.left(now) < month;
    Some(lifetime("the authority: ", validity, old, now))
}

fn lifetime(what: &str, validity: Validity, old: bool, now: Timestamp) -> Finding {
    let check = &table::WEBHOOK_CERTIFICATE;
    let left = validity.left(now);
    let remedy = "it should have been renewed by now: see the webhook's log; with cert-manager, its Certificate";
    if left <= 0 {
        let found = format!("{what}expired {} ago", rough(-left));
        return Finding::failed(check, found, remedy);
    }
    if validity.not_yet(now) {
        let found = format!("{what}not valid yet");
        let remedy = "set the clocks of this machine, of the webhook's node and of the API server";
        return Finding::failed(check, found, remedy);
    }
    let found = format!("{what}valid for {} more", rough(left));
    if old {
        Finding::warning(check, found, remedy)
    } else {
        Finding::ok(check, found)
    }
}
