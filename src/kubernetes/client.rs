//! The connection to the API server.

use std::future::Future;
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use tokio::time::timeout;
use tower::{BoxError, ServiceExt};

use super::error::{Attempt, KubeError};

/// How long a request may take. Watches are open for minutes, only their beginning is limited.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// How long it may take to reach the API server.
const CONNECT: Duration = Duration::from_secs(5);

/// A peer that is silent for this long is asked whether it is still there: a watch would not notice otherwise.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// A client for one namespace.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Kube {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kube")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Kube {
    /// A client with the pod's service account, whose token and CA are read again as they are renewed; outside a pod with
    /// `KUBECONFIG`. For `namespace`, else for that of the pod or of the context.
    ///
    /// Nothing is asked of the API server yet, so it need not be there.
    ///
    /// # Errors
    /// When there is neither a service account nor a kubeconfig, or what they name cannot be used.
    pub async fn connect(namespace: Option<&str>) -> Result<Self, KubeError> {
        let setup = |error: &dyn std::error::Error| {
            KubeError::Setup(crate::telemetry::one_line(error, 300))
        };
        let config = match Config::incluster() {
            Ok(config) => config,
            // Inside a pod the mount is what counts: its absence must not be hidden behind a missing kubeconfig.
            Err(error) if in_pod() => return Err(setup(&error)),
            Err(_) => Config::from_kubeconfig(&KubeConfigOptions::default())
                .await
                .map_err(|error| setup(&error))?,
        };
        Self::with_config(config, namespace)
    }

    /// For a command of a person or a pipeline: with `KUBECONFIG`, also where that stands in a pod, as that of a CI runner. Without
    /// one as [`Kube::connect`].
    ///
    /// # Errors
    /// When what it names cannot be used, or there is neither it nor a service account.
    pub async fn of_caller(namespace: Option<&str>) -> Result<Self, KubeError> {
        let named = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
        if !named {
            return Self::connect(namespace).await;
        }
        let config = Config::from_kubeconfig(&KubeConfigOptions::default()).await;
        let setup = |error| KubeError::Setup(crate::telemetry::one_line(&error, 300));
        Self::with_config(config.map_err(setup)?, namespace)
    }

    /// A client with a configuration made elsewhere.
    ///
    /// # Errors
    /// When its certificates cannot be used.
    pub fn with_config(config: Config, namespace: Option<&str>) -> Result<Self, KubeError> {
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let client = client(&config)
            .map_err(|error| KubeError::Setup(crate::telemetry::one_line(&error, 300)))?;
        Ok(Self { client, namespace })
    }

    /// The namespace of this pod, in which everything is done.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The same client for another namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            client: self.client.clone(),
            namespace: namespace.to_owned(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Waits for a request, as long as [`LIMIT`].
pub(crate) async fn limited<T>(
    attempt: Attempt<'_>,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, KubeError> {
    match timeout(LIMIT, request).await {
        Ok(answer) => answer.map_err(|error| KubeError::of(attempt, &error)),
        Err(_) => Err(KubeError::unreachable(
            attempt,
            &format!("no answer in {} s", LIMIT.as_secs()),
        )),
    }
}

/// The parts of kube's own client that are wanted: no proxy, no retries, no tracing of each request.
fn client(config: &Config) -> kube::Result<Client> {
    // Where two libraries name two providers rustls would refuse to choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(Duration::from_secs(5)));
    connector.set_keepalive_retries(Some(3));
    // What was sent and is not acknowledged is not covered by keepalive.
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(KEEPALIVE));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        // Requests are rare: a connection that waits for the next one costs memory.
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(30))
        .build(connector);
    let http = http.map_err(BoxError::from);
    let builder = ClientBuilder::new(http, config.default_namespace.clone());
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => builder.with_layer(&auth).with_layer(&base).build(),
        None => builder.with_layer(&base).build(),
    })
}

fn in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}
