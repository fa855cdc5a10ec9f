//! Flink's metrics and Drey's own, for Prometheus.
//!
//! Flink's reporter is read on this machine alone, line by line; what is served is one page of good lines in which every
//! family and every series is once, with Drey's own metrics at its end. Nothing about it waits for the supervisor, nor the
//! supervisor for it: it has a thread of its own.

pub mod aggregate;
pub mod coming;
pub mod deflate;
pub mod docs;
pub mod job_name;
pub mod line;
pub mod lines;
pub mod merge;
pub mod negotiate;
pub mod openmetrics;
pub mod own;
pub mod page;
pub mod patience;
pub mod proxy;
pub mod relabel;
pub mod server;
pub mod spool;
pub mod upstream;
pub mod web_config;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{error, info};

use crate::config::Settings;
use crate::telemetry::one_line;
pub use aggregate::JobManager;
use aggregate::TaskManagers;
pub use own::own;
use proxy::{Proxy, Served};
use relabel::{JOB_NAME, RelabelError, Rules};
use server::Server;
use upstream::Upstream;
use web_config::{Web, WebError};

/// How long until a taken address is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Where the kubelet puts the name of the pod's namespace.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Why no metrics can be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file of `metrics-relabel` cannot be read.
    #[error("could not read {path}, the file of `--metrics-relabel`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file of `metrics-relabel` cannot be used.
    #[error("{path}, the file of `--metrics-relabel`, {error}")]
    Relabel {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: RelabelError,
    },
    /// The file of `metrics-web-config` cannot be used.
    #[error("could not use the file of `--metrics-web-config`")]
    Web(#[from] WebError),
    /// There is no thread to be had.
    #[error("could not start a thread for the metrics")]
    Thread(#[source] std::io::Error),
}

/// Serves the metrics of this process and of its Flink from now on, where the settings say where.
///
/// # Errors
/// When that cannot be. Flink need not run yet.
pub fn serve(settings: &Settings) -> Result<(), MetricsError> {
    let Some(address) = settings.metrics_address else {
        return Ok(());
    };
    let server = server(settings, true)?;
    in_a_thread(async move { server.serve(listen(address).await).await })
}

/// Serves them as soon as their files can be used: in a pod these may come, or be mended, while it runs, and nothing about
/// metrics is a reason to leave a job unsupervised, or to keep a TaskManager from its work. A JobManager has `others`.
pub fn serve_when_possible(settings: &Settings, others: bool) {
    let Some(address) = settings.metrics_address else {
        return;
    };
    let settings = settings.clone();
    let served = in_a_thread(async move {
        let server = loop {
            match server(&settings, others) {
                Ok(server) => break server,
                Err(error) => unserved(&error),
            }
            sleep(AGAIN).await;
        };
        server.serve(listen(address).await).await;
    });
    if let Err(error) = served {
        unserved(&error);
    }
}

fn unserved(error: &MetricsError) {
    error!(error = one_line(error, 2000), "No metrics are served");
}

/// With `others`, those of the TaskManagers are served, too, where the settings say so.
fn server(settings: &Settings, others: bool) -> Result<Server, MetricsError> {
    let proxy = Proxy::new(
        Upstream::new(settings.flink_metrics_port),
        served(settings)?,
        Arc::clone(own()),
    );
    let job_manager = JobManager::of_this_process();
    let others = others.then_some(settings.metrics_aggregate).flatten();
    let others = others.map(|port| TaskManagers::new(job_manager, port));
    let web = Web::new(settings.metrics_web_config.clone())?;
    Ok(Server::new(proxy.with(others), web))
}

fn in_a_thread(work: impl Future<Output = ()> + Send + 'static) -> Result<(), MetricsError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MetricsError::Thread)?;
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || runtime.block_on(work))
        .map_err(MetricsError::Thread)?;
    Ok(())
}

/// The listener at `address`, as soon as it is free: that there are no metrics is no reason to leave a job unsupervised.
async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                info!(%address, "Serving metrics");
                return listener;
            }
            Err(error) => {
                let error: &std::io::Error = &error;
                error!(
                    %address,
                    error = one_line(error, 200),
                    "No metrics can be served here; give `metrics-address` another port, and keep Flink's reporter off it"
                );
                sleep(AGAIN).await;
            }
        }
    }
}

/// The namespace of this pod.
fn namespace() -> Option<String> {
    let text = fs::read_to_string(NAMESPACE).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

fn served(settings: &Settings) -> Result<Served, MetricsError> {
    let cluster_id = settings.cluster_id.clone();
    let known = |name: &str| match name {
        "cluster_id" => Some(settings.cluster_id.clone()),
        "pod" => settings.pod_name.clone(),
        JOB_NAME => None,
        _ => settings.pod_namespace.clone().or_else(namespace),
    };
    let labels = settings
        .metrics_labels
        .0
        .iter()
        .filter_map(|(name, value)| {
            let value = value.clone().or_else(|| known(name))?;
            Some((name.clone(), value))
        });
    let labels: Vec<(String, String)> = labels.collect();
    let wanted = |(name, value): &(String, Option<String>)| name == JOB_NAME && value.is_none();
    let job_name = settings.metrics_labels.0.iter().any(wanted);
    let rules = match &settings.metrics_relabel {
        None => Rules::adding(labels),
        Some(path) => {
            let path = path.clone();
            let text = fs::read_to_string(&path).map_err(|source| MetricsError::File {
                path: path.clone(),
                source,
            })?;
            Rules::read(&text, labels).map_err(|error| MetricsError::Relabel { path, error })?
        }
    };
    Ok(Served {
        rules: rules.with_job_name(job_name),
        limit: u64::try_from(settings.metrics_series_limit).unwrap_or(u64::MAX),
        cache: settings.metrics_cache,
        labels: Rules::adding(vec![("cluster_id".to_owned(), cluster_id)]),
    })
}
