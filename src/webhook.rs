//! The admission webhook: Flink pods that opt in are injected as they are created.
//!
//! One process of few threads and little memory. What it answers is [`crate::inject`]'s; here are the server, its certificate, and what an
//! API server needs to trust it.

mod admission;
mod certificate;
mod connections;
mod election;
mod files;
mod keeper;
mod lookups;
mod metrics;
mod probes;
mod registration;
mod reporter;
mod review;
mod rotation;
mod server;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::inject::Settings;
use crate::kubernetes::{self, Kube};
use crate::telemetry::one_line;
use admission::Admission;
use connections::Connections;
use election::Election;
use files::Files;
use keeper::{Keeper, Renewal};
pub use lookups::LookUp;
use metrics::Metrics;
pub use metrics::markdown_table;
use probes::Probes;
use registration::Entry;
use rotation::Policy;
use tls::Tls;

/// Where pods are injected that opt in themselves.
pub const INJECT_PATH: &str = "/inject";

/// Where Flink pods are injected because their namespace opts in. A query would say it better, but Kubernetes allows none in the path of a
/// webhook's service.
pub const INJECT_NAMESPACE_PATH: &str = "/inject/namespace";

/// Connections for probes and Prometheus.
const PROBE_CONNECTIONS: usize = 32;

/// How long events that are not written yet are waited for at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// What the operator of the webhook decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where API servers connect, with TLS.
    pub listen: SocketAddr,
    /// Where kubelet and Prometheus connect, in plain text.
    pub probe_listen: SocketAddr,
    /// How pods are injected; what [`Options::native_sidecar`] leaves open is filled in.
    pub inject: Settings,
    /// Whether the cluster has native sidecars; `None` to ask it.
    pub native_sidecar: Option<bool>,
    /// The MutatingWebhookConfiguration.
    pub configuration: String,
    /// Where the certificate is from.
    pub certificates: Certificates,
    /// The name of this replica.
    pub identity: String,
    /// What is looked up of pods, for warnings and events.
    pub look_up: Vec<LookUp>,
    /// PEM file with the CA whose clients alone are answered.
    pub client_ca: Option<PathBuf>,
    /// The most TLS connections at a time.
    pub connections: usize,
    /// How long requests are answered after the signal to end: until then, others may not know.
    pub drain_delay: Duration,
    /// How long what is open after that may take.
    pub drain_timeout: Duration,
}

/// Where the server's certificate is from.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// `tls.crt` and `tls.key` in a directory, renewed by somebody else.
    Directory(PathBuf),
    /// Made and renewed here.
    Builtin(Builtin),
}

/// How the built-in certificate is kept.
#[derive(Debug, Clone)]
pub struct Builtin {
    /// The Secret that all replicas share.
    pub secret: String,
    /// The Lease of the replica that renews.
    pub lease: String,
    /// The names that the certificate is for.
    pub names: Vec<String>,
    /// How long a certificate is valid.
    pub lifetime: Duration,
    /// How long before its end it is replaced.
    pub renew_before: Duration,
    /// How long its CA is published before it is served.
    pub overlap: Duration,
    /// How long a Lease is valid without being renewed.
    pub lease_duration: Duration,
}

/// Why the webhook ended.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// An address cannot be listened at.
    #[error("could not listen at {address}: free the port or give another one with `{flag}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What sets it.
        flag: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The metrics contradict each other.
    #[error("could not set up the metrics")]
    Metrics(#[from] prometheus::Error),
}

/// What all parts of the process see.
#[derive(Debug)]
struct Shared {
    tls: Arc<Tls>,
    metrics: Metrics,
    template: Settings,
    /// For pods that opt in themselves, and for those whose namespace does; once the cluster's version is known.
    settings: OnceLock<[Settings; 2]>,
    configuration: String,
    /// Our entries in the configuration, or why they are not known.
    registered: Mutex<Result<Vec<Entry>, String>>,
    connections: Arc<Connections>,
    draining: AtomicBool,
}

impl Shared {
    fn new(options: &Options) -> Result<Self, WebhookError> {
        let files = match &options.certificates {
            Certificates::Directory(dir) => Some(Files::new(dir)),
            Certificates::Builtin(_) => None,
        };
        Ok(Self {
            tls: Arc::new(Tls::new(files, options.client_ca.clone())),
            metrics: Metrics::new()?,
            template: options.inject.clone(),
            settings: OnceLock::new(),
            configuration: options.configuration.clone(),
            registered: Mutex::new(Err("it was not read yet".to_owned())),
            connections: Connections::new(options.connections),
            draining: AtomicBool::new(false),
        })
    }

    fn settings(&self, opted_in: bool) -> Option<&Settings> {
        self.settings.get().map(|both| &both[usize::from(opted_in)])
    }

    fn set_native_sidecar(&self, native_sidecar: bool) {
        let with = |opted_in| Settings {
            native_sidecar,
            opted_in,
            ..self.template.clone()
        };
        let _ = self.settings.set([with(false), with(true)]);
    }

    fn register(&self, entries: Vec<Entry>) {
        *self.registration() = Ok(entries);
    }

    /// The entries cannot be read; once they were, what they were stays.
    fn unregistered(&self, error: &str) {
        let mut registered = self.registration();
        if registered.is_err() {
            *registered = Err(error.to_owned());
        }
    }

    fn entries(&self) -> Option<Vec<Entry>> {
        self.registration().as_ref().ok().cloned()
    }

    fn registration(&self) -> std::sync::MutexGuard<'_, Result<Vec<Entry>, String>> {
        let registered = self.registered.lock();
        registered.unwrap_or_else(PoisonError::into_inner)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether API servers can be sent here.
    ///
    /// # Errors
    /// Why not, with the remedy.
    fn readiness(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("ending".to_owned());
        }
        if self.settings.get().is_none() {
            return Err("the version of Kubernetes is not known yet".to_owned());
        }
        let served = self.tls.current()?;
        let name = &self.configuration;
        let registered = self.registration();
        let entries = registered.as_ref().map_err(|error| {
            format!("the MutatingWebhookConfiguration {name} is not known: {error}")
        })?;
        if entries.is_empty() {
            return Err(format!(
                "the MutatingWebhookConfiguration {name} is not there, or has no entry *.drey.io: install it"
            ));
        }
        let now = Timestamp::now();
        for entry in entries {
            let checked = served.certificate.check(&entry.bundle, &entry.host, now);
            checked.map_err(|error| {
                format!(
                    "the caBundle of {} in the MutatingWebhookConfiguration {name} does not fit to the certificate served, \
                     for the name {}: {error}",
                    entry.name, entry.host
                )
            })?;
        }
        Ok(())
    }

    /// What is not counted as it happens.
    fn refresh_metrics(&self) {
        let metrics = &self.metrics;
        let expires = self.tls.current().map(|served| served.certificate.expires);
        let seconds = expires.map_or(0, Timestamp::as_second);
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        metrics.expiry.set(seconds as f64);
        metrics.ready.set(i64::from(self.readiness().is_ok()));
        let open = self.connections.len();
        metrics
            .connections
            .set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}

/// Serves until a signal comes, then answers what is open.
///
/// # Errors
/// When it cannot listen.
pub async fn run(
    options: Options,
    kube: Kube,
    mut signals: mpsc::Receiver<&'static str>,
) -> Result<(), WebhookError> {
    let shared = Arc::new(Shared::new(&options)?);
    let listener = listen(options.listen, "--listen").await?;
    let probes = listen(options.probe_listen, "--probe-listen").await?;
    let plain = Connections::new(PROBE_CONNECTIONS);
    tokio::spawn(server::serve(
        probes,
        None,
        plain,
        Arc::new(Probes::new(Arc::clone(&shared))),
    ));
    let admission = Arc::new(Admission::new(Arc::clone(&shared), &kube, &options));
    let serving = tokio::spawn(server::serve(
        listener,
        Some(Arc::clone(&shared.tls)),
        Arc::clone(&shared.connections),
        Arc::clone(&admission),
    ));
    let end = Arc::new(Notify::new());
    let election = keep(&options, &kube, &shared, &end);
    tokio::spawn(know_version(
        kube,
        Arc::clone(&shared),
        options.native_sidecar,
    ));
    info!(listen = %options.listen, probe_listen = %options.probe_listen, "Serving admission reviews");
    let signal = signals.recv().await;
    info!(signal, "Asked to end");
    shared.draining.store(true, Ordering::Relaxed);
    end.notify_one();
    sleep(options.drain_delay).await;
    serving.abort();
    shared.connections.end();
    if timeout(options.drain_timeout, shared.connections.ended())
        .await
        .is_err()
    {
        let open = shared.connections.len();
        warn!(open, "Connections were open at the end of the time");
    }
    admission.flush(FLUSH).await;
    if let Some(election) = election {
        let _ = timeout(options.drain_timeout, election).await;
    }
    Ok(())
}

async fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, WebhookError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| WebhookError::Listen {
            address,
            flag,
            source,
        })
}

/// Starts what keeps certificate and configuration together; returns what gives the Lease up once `end` is told.
fn keep(
    options: &Options,
    kube: &Kube,
    shared: &Arc<Shared>,
    end: &Arc<Notify>,
) -> Option<tokio::task::JoinHandle<()>> {
    let mut election = None;
    let renewal = match &options.certificates {
        Certificates::Directory(_) => None,
        Certificates::Builtin(it) => {
            let (candidate, leads) =
                Election::new(kube, &it.lease, &options.identity, it.lease_duration);
            let end = Arc::clone(end);
            let run = candidate.run(async move { end.notified().await });
            election = Some(tokio::spawn(run));
            Some(Renewal {
                secret: it.secret.clone(),
                policy: Policy {
                    names: it.names.clone(),
                    renew_before: it.renew_before,
                    overlap: it.overlap,
                },
                lifetime: it.lifetime,
                leads,
            })
        }
    };
    let keeper = Keeper {
        kube: kube.clone(),
        shared: Arc::clone(shared),
        configuration: options.configuration.clone(),
        renewal,
    };
    tokio::spawn(keeper.run());
    election
}

/// Native sidecars are on by default from Kubernetes 1.29 on.
async fn know_version(kube: Kube, shared: Arc<Shared>, known: Option<bool>) {
    if let Some(native) = known {
        return shared.set_native_sidecar(native);
    }
    let mut pause = Duration::from_millis(200);
    loop {
        match kubernetes::admission::version(&kube).await {
            Ok(version) => {
                let native = version >= (1, 29);
                info!(?version, native, "Asked for the version of Kubernetes");
                return shared.set_native_sidecar(native);
            }
            Err(error) => {
                warn!(
                    error = one_line(&error, 300),
                    "Cannot ask for the version of Kubernetes"
                );
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        }
    }
}
