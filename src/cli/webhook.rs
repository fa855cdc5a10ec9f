//! `drey webhook`: injects Flink pods as the API server creates them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use super::{USAGE, failure, runtime};
use crate::config::LogFormat;
use crate::inject;
use crate::kubernetes::Kube;
use crate::process;
use crate::telemetry::{self, one_line};
use crate::webhook::{Builtin, Certificates, LookUp, Options};

/// What the README's section refers to.
pub(super) const HELP: &str = "\
It needs a MutatingWebhookConfiguration whose entries *.drey.io send pods to /inject, or to /inject/namespace where the namespace opts in, \
and the rights that the chart in deploy/ gives it. \
Durations are written as 30s, 5m or 24h.";

/// A Lease counts in whole seconds, and is renewed three times before its end.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// How pods are injected, and how this is served.
#[derive(Debug, clap::Args)]
pub(super) struct WebhookArgs {
    /// Drey's image, which injected pods run
    #[arg(long, env = "DREY_WEBHOOK_IMAGE", hide_env_values = true)]
    image: String,
    /// Always, IfNotPresent or Never; the kubelet's default if not given
    #[arg(long, value_name = "POLICY", env = "DREY_WEBHOOK_IMAGE_PULL_POLICY", hide_env_values = true,
        value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// An image that a pod may name instead, without tag and digest, or with * at its end; may be given several times
    #[arg(
        long = "allowed-image",
        value_name = "IMAGE",
        value_delimiter = ',',
        env = "DREY_WEBHOOK_ALLOWED_IMAGES",
        hide_env_values = true
    )]
    allowed_images: Vec<String>,
    /// Whether JobManager pods get a native sidecar; auto: on Kubernetes 1.29 or newer
    #[arg(
        long,
        env = "DREY_WEBHOOK_SIDECAR",
        hide_env_values = true,
        default_value = "auto"
    )]
    sidecar: Sidecar,
    /// Where the API server connects, with TLS
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "DREY_WEBHOOK_LISTEN",
        hide_env_values = true,
        default_value = "0.0.0.0:8443"
    )]
    listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are, in plain text
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "DREY_WEBHOOK_PROBE_LISTEN",
        hide_env_values = true,
        default_value = "0.0.0.0:8080"
    )]
    probe_listen: SocketAddr,
    /// The MutatingWebhookConfiguration
    #[arg(
        long,
        value_name = "NAME",
        env = "DREY_WEBHOOK_CONFIGURATION",
        hide_env_values = true,
        default_value = "drey"
    )]
    configuration: String,
    /// What is looked up of a pod, for warnings and events; configuration needs the right to read all ConfigMaps
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        env = "DREY_WEBHOOK_LOOK_UP",
        hide_env_values = true,
        default_value = "rights,owners"
    )]
    look_up: Vec<LookUp>,
    #[command(flatten)]
    certificate: CertificateArgs,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Certificate")]
struct CertificateArgs {
    /// Serve tls.crt and tls.key of this directory, read again as they change, instead of a certificate made here
    ///
    /// The caBundle is left alone then: cert-manager's injector, or a person, writes it.
    #[arg(
        long,
        value_name = "DIR",
        env = "DREY_WEBHOOK_TLS_DIR",
        hide_env_values = true
    )]
    tls_dir: Option<PathBuf>,
    /// Answer only clients with a certificate of this CA (PEM file); the API server has to be told to use one
    #[arg(
        long,
        value_name = "FILE",
        env = "DREY_WEBHOOK_CLIENT_CA",
        hide_env_values = true
    )]
    client_ca: Option<PathBuf>,
    /// The Service in front of this, in this pod's namespace: its name is in the certificate
    #[arg(
        long,
        value_name = "NAME",
        env = "DREY_WEBHOOK_SERVICE",
        hide_env_values = true,
        default_value = "drey-webhook"
    )]
    service: String,
    /// A further host name or address in the certificate; may be given several times
    #[arg(
        long = "server-name",
        value_name = "NAME",
        value_delimiter = ',',
        env = "DREY_WEBHOOK_SERVER_NAMES",
        hide_env_values = true
    )]
    server_names: Vec<String>,
    /// The Secret that keeps the certificate, in this pod's namespace
    #[arg(
        long,
        value_name = "NAME",
        env = "DREY_WEBHOOK_SECRET",
        hide_env_values = true,
        default_value = "drey-webhook-tls"
    )]
    secret: String,
    /// The Lease of the replica that renews the certificate, in this pod's namespace
    #[arg(
        long,
        value_name = "NAME",
        env = "DREY_WEBHOOK_LEASE",
        hide_env_values = true,
        default_value = "drey-webhook"
    )]
    lease: String,
    /// How long the Lease is valid without being renewed
    #[arg(long, value_name = "TIME", env = "DREY_WEBHOOK_LEASE_DURATION", hide_env_values = true,
        default_value = "30s", value_parser = time)]
    lease_duration: Duration,
    /// How long a certificate is valid
    #[arg(long, value_name = "TIME", env = "DREY_WEBHOOK_CERTIFICATE_LIFETIME", hide_env_values = true,
        default_value = "2160h", value_parser = time)]
    certificate_lifetime: Duration,
    /// How long before its end a certificate is replaced
    #[arg(long, value_name = "TIME", env = "DREY_WEBHOOK_RENEW_BEFORE", hide_env_values = true,
        default_value = "720h", value_parser = time)]
    renew_before: Duration,
    /// How long a new CA is in the caBundle before its certificate is served
    #[arg(long, value_name = "TIME", env = "DREY_WEBHOOK_CERTIFICATE_OVERLAP", hide_env_values = true,
        default_value = "5m", value_parser = time)]
    certificate_overlap: Duration,
    /// The name of this pod, as the holder of the Lease
    #[arg(
        long,
        value_name = "NAME",
        env = "DREY_POD_NAME",
        hide_env_values = true,
        default_value = "drey-webhook"
    )]
    pod_name: String,
    /// The namespace of Secret and Lease; that of this pod if not given
    #[arg(
        long,
        value_name = "NAME",
        env = "DREY_POD_NAMESPACE",
        hide_env_values = true
    )]
    pod_namespace: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Serving")]
struct ServeArgs {
    /// The most TLS connections at a time; for one more, the one that was quiet for longest is closed
    #[arg(
        long,
        value_name = "COUNT",
        env = "DREY_WEBHOOK_CONNECTIONS",
        hide_env_values = true,
        default_value = "256"
    )]
    connections: std::num::NonZeroUsize,
    /// How long reviews are taken after SIGTERM: until everybody knows that this pod goes
    #[arg(long, value_name = "TIME", env = "DREY_WEBHOOK_DRAIN_DELAY", hide_env_values = true,
        default_value = "10s", value_parser = time)]
    drain_delay: Duration,
    /// How long open reviews may take after that
    #[arg(long, value_name = "TIME", env = "DREY_WEBHOOK_DRAIN_TIMEOUT", hide_env_values = true,
        default_value = "10s", value_parser = time)]
    drain_timeout: Duration,
    /// text or json
    #[arg(
        long,
        env = "DREY_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text"
    )]
    log_format: Format,
    /// A level such as info, or a list such as drey=debug,hyper=info
    #[arg(
        long,
        value_name = "LEVEL",
        env = "DREY_LOG_LEVEL",
        hide_env_values = true,
        default_value = "info"
    )]
    log_level: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sidecar {
    Auto,
    Native,
    Ordinary,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn time(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
}

/// Serves until a signal comes.
pub(super) fn run(args: WebhookArgs) -> anyhow::Result<ExitCode> {
    let format = match args.serve.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    telemetry::init(format, &args.serve.log_level)
        .map_err(|error| failure(one_line(&error, 400), USAGE))?;
    check(&args)?;
    let signals = process::signals()?;
    runtime()?.block_on(async {
        let kube = Kube::connect(args.certificate.pod_namespace.as_deref())
            .await
            .map_err(|error| failure(one_line(&error, 400), USAGE))?;
        let options = options(args, kube.namespace());
        crate::webhook::run(options, kube, signals)
            .await
            .map_err(|error| failure(one_line(&error, 400), 1))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(args: &WebhookArgs) -> anyhow::Result<()> {
    let it = &args.certificate;
    if it.tls_dir.is_none() && it.renew_before + it.certificate_overlap >= it.certificate_lifetime {
        let text = "`--renew-before` and `--certificate-overlap` together are not shorter than `--certificate-lifetime`: a \
                    certificate would be replaced as soon as it is made; make its lifetime longer";
        return Err(failure(text, USAGE));
    }
    if it.lease_duration < SHORTEST_LEASE {
        let text = "`--lease-duration` is shorter than 3s: the replicas would do little else than renew; make it longer";
        return Err(failure(text, USAGE));
    }
    Ok(())
}

fn options(args: WebhookArgs, namespace: &str) -> Options {
    let it = args.certificate;
    let service = format!("{}.{namespace}.svc", it.service);
    let certificates = match it.tls_dir {
        Some(dir) => Certificates::Directory(dir),
        None => Certificates::Builtin(Builtin {
            secret: it.secret,
            lease: it.lease,
            names: std::iter::once(service).chain(it.server_names).collect(),
            lifetime: it.certificate_lifetime,
            renew_before: it.renew_before,
            overlap: it.certificate_overlap,
            lease_duration: it.lease_duration,
        }),
    };
    Options {
        listen: args.listen,
        probe_listen: args.probe_listen,
        inject: inject::Settings {
            image: args.image,
            image_pull_policy: args.image_pull_policy,
            allowed_images: args.allowed_images,
            native_sidecar: true,
            opted_in: false,
        },
        native_sidecar: match args.sidecar {
            Sidecar::Auto => None,
            Sidecar::Native => Some(true),
            Sidecar::Ordinary => Some(false),
        },
        configuration: args.configuration,
        identity: it.pod_name,
        look_up: args.look_up,
        certificates,
        client_ca: it.client_ca,
        connections: args.serve.connections.get(),
        drain_delay: args.serve.drain_delay,
        drain_timeout: args.serve.drain_timeout,
    }
}
