//! The one table of settings: field, type, key, default, parser and help text of each.
//!
//! Flag (`--KEY`), environment variable (`DREY_KEY`), file key, help and documentation are all made from it.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::parse;
use super::shown::Shown;
use super::sources::Resolver;
use super::values::{Labels, LockBreak, LogFormat, Mode, Ports, Restart};
use crate::domain::changes::OnChange;
use crate::domain::claim::ClaimMode;
use crate::domain::restore::Strategy;
use crate::domain::savepoint::SavepointFormat;
use crate::flink::version::FlinkVersion;

/// What is said about one setting, whatever its source.
#[derive(Debug)]
pub struct Spec {
    /// The field of [`Settings`].
    pub field: &'static str,
    /// The name in the file, and of the flag after `--`.
    pub key: &'static str,
    /// The heading in the help text.
    pub group: &'static str,
    /// What the value is, in the help text.
    pub value: &'static str,
    /// The value when nothing is given, as it could be written.
    pub default: Option<&'static str>,
    /// The value when the flag is given without one.
    pub alone: Option<&'static str>,
    /// A variable of Flink's own that is looked at last.
    pub fallback: Option<&'static str>,
    /// The lines of the help text.
    doc: &'static [&'static str],
}

impl Spec {
    /// The environment variable.
    #[must_use]
    pub fn env(&self) -> String {
        format!("DREY_{}", self.key.to_ascii_uppercase().replace('-', "_"))
    }

    /// The help text, in one line.
    #[must_use]
    pub fn help(&self) -> String {
        let lines: Vec<&str> = self.doc.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }
}

macro_rules! settings {
    (@option) => { None };
    (@option $text:literal) => { Some($text) };
    ($($group:literal: { $(
        $(#[doc = $doc:literal])+
        $field:ident: $type:ty {
            $key:literal, $value:literal
            $(, default $default:literal)?
            $(, alone $alone:literal)?
            $(, fallback $fallback:literal)?
            => $parse:expr
        }
    )+ })+) => {
        /// The effective settings, all of them checked. See [`load`](super::load).
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Settings {
            $($( $(#[doc = $doc])+ pub $field: $type, )+)+
        }

        /// All settings, in the order in which they are shown.
        pub const TABLE: &[Spec] = &[$($( Spec {
            field: stringify!($field),
            key: $key,
            group: $group,
            value: $value,
            default: settings!(@option $($default)?),
            alone: settings!(@option $($alone)?),
            fallback: settings!(@option $($fallback)?),
            doc: &[$($doc),+],
        }, )+)+];

        impl Settings {
            pub(super) fn resolve(resolver: &mut Resolver) -> Self {
                Self { $($( $field: resolver.take($key, $parse), )+)+ }
            }

            /// The values in the order of [`TABLE`].
            pub(super) fn values(&self) -> Vec<serde_json::Value> {
                vec![$($( Shown::shown(&self.$field), )+)+]
            }
        }
    };
}

settings! {
    "Job": {
        /// The Flink cluster's name, as in `kubernetes.cluster-id`.
        cluster_id: String { "cluster-id", "ID", default "default" => parse::cluster_id }
        /// Directory for what Drey keeps on this machine.
        state_dir: PathBuf { "state-dir", "DIR", default ".drey" => parse::path }
        /// The file that names the newest restore point.
        pointer: PathBuf { "pointer", "FILE", default "STATE_DIR/pointer.json" => parse::path }
        /// The Unix socket on which the supervisor answers; at most 107 bytes long.
        socket: PathBuf { "socket", "FILE", default "STATE_DIR/drey.sock" => parse::path }
        /// Whether the child runs one application or a session cluster; `auto` goes by the command.
        mode: Mode { "mode", "auto|application|session", default "auto" => parse::choice }
        /// Whether Flink is started again when it dies by itself. The flag alone means `on-failure`.
        restart: Restart { "restart", "never|on-failure", default "never", alone "on-failure" => parse::choice }
        /// Who starts the job: a job that has finished is started again only by another owner. One for each `drey run`
        /// if not given.
        owner: Option<String> { "owner", "NAME" => parse::some_text }
    }
    "Session cluster": {
        /// YAML list of the jobs that Drey submits to a session cluster, each from its own restore point.
        session_jobs: Option<PathBuf> { "session-jobs", "FILE" => parse::some_path }
    }
    "Flink": {
        /// Flink's home directory. Found by the command if not given.
        flink_home: Option<PathBuf> { "flink-home", "DIR", fallback "FLINK_HOME" => parse::some_path }
        /// Flink's configuration directory, which is copied and never written to. `conf` in the home directory if not
        /// given.
        flink_conf_dir: Option<PathBuf> { "flink-conf-dir", "DIR", fallback "FLINK_CONF_DIR" => parse::some_path }
        /// Flink's version. Found in the home directory if not given.
        flink_version: Option<FlinkVersion> { "flink-version", "VERSION" => parse::flink_version }
        /// What is done when Flink's configuration, or `arguments-file`, changes while its job runs. `restart` stops it with
        /// a savepoint and starts it again, or rescales it while it runs where that is all; `rescale-only` does so for
        /// changes of the parallelism alone; `ignore` leaves it for the next start.
        on_config_change: OnChange { "on-config-change", "ignore|restart|rescale-only", default "ignore" => parse::choice }
        /// A file with arguments of the job, one in each line, which come after those in the command. It is followed as
        /// Flink's configuration is. Application mode only.
        arguments_file: Option<PathBuf> { "arguments-file", "FILE" => parse::some_path }
        /// Runs the entrypoint and Flink's scripts while it is still being decided what the job starts from, up to Flink's JVM
        /// itself. Turn it off for an entrypoint that must not run while another pod still runs the job.
        start_ahead: bool { "start-ahead", "true|false", default "true", alone "true" => parse::boolean }
        /// The entrypoint of Flink's image, which `drey-launch` starts. Drey prepares its configuration directory.
        entrypoint: PathBuf { "entrypoint", "FILE", default "/docker-entrypoint.sh" => parse::path }
    }
    "Kubernetes": {
        /// The pod that this runs in. With it the pointer is the ConfigMap `drey-CLUSTER_ID`, and the pods of the cluster id
        /// run their JobManagers one after the other.
        pod_name: Option<String> { "pod-name", "NAME" => parse::some_text }
        /// The pod's namespace. That of its service account if not given.
        pod_namespace: Option<String> { "pod-namespace", "NAME" => parse::some_text }
        /// The container in the pod that Flink runs in.
        flink_container: String { "flink-container", "NAME", default "flink-main-container" => parse::text }
        /// How long after its grace period a pod of which nothing can be seen keeps the lock; `never` waits for a person.
        lock_break_after: LockBreak { "lock-break-after", "TIME|never", default "1m" => parse::lock_break }
        /// How long a TaskManager that was told to go stays when it can see neither the pointer nor its JobManager.
        task_manager_hold: Duration { "task-manager-hold", "TIME", default "5s" => |text| parse::duration(text, Duration::ZERO, parse::HOUR) }
        /// Whether a TaskManager is started again, in its container, when another JobManager runs the job, in another pod or
        /// started again in its own. Without high availability it would notice that only by `heartbeat.timeout`.
        follow_job_manager: bool { "follow-job-manager", "true|false", default "true", alone "true" => parse::boolean }
    }
    "Restore points": {
        /// Where savepoints go. `execution.checkpointing.savepoint-dir` of Flink if not given.
        savepoint_dir: Option<String> { "savepoint-dir", "URL" => parse::some_location }
        /// Where checkpoints go. `execution.checkpointing.dir` of Flink if not given.
        checkpoint_dir: Option<String> { "checkpoint-dir", "URL" => parse::some_location }
        /// How savepoints store keyed state. `auto` is native from Flink 1.15 on.
        savepoint_format: Option<SavepointFormat> { "savepoint-format", "auto|canonical|native", default "auto" => parse::choice_or_auto }
        /// Which restore points a start may use.
        restore_strategy: Strategy { "restore-strategy", "latest-state|latest-savepoint|none", default "latest-state" => parse::choice }
        /// Who owns a restore point after the start. `auto` claims checkpoints of this job's own runs, and no savepoints.
        claim_mode: Option<ClaimMode> { "claim-mode", "auto|claim|no-claim", default "auto" => parse::claim_mode }
        /// Starts although the restore point holds state that the job has no operator for.
        allow_non_restored_state: bool { "allow-non-restored-state", "true|false", default "false", alone "true" => parse::boolean }
        /// Records and uses restore points that cannot be read back, such as those in `hdfs:`.
        allow_unverified: bool { "allow-unverified", "true|false", default "false", alone "true" => parse::boolean }
        /// The cluster id in the same namespace from whose newest savepoint the first start resumes, as a fork.
        fork_from: Option<String> { "fork-from", "CLUSTER-ID" => parse::some_text }
        /// The sinks of a fork have other transactional-id prefixes and output paths than its parent's.
        fork_confirmed: bool { "fork-confirmed", "true|false", default "false", alone "true" => parse::boolean }
        /// How many restore points are remembered for each job, 1 to 100; with `retention` older savepoints are deleted.
        history: usize { "history", "N", default "10" => parse::history }
    }
    "Housekeeping": {
        /// Whether old savepoints that Drey made are deleted: those beyond `history` and those older than `retention-age`.
        retention: bool { "retention", "true|false", default "true", alone "true" => parse::boolean }
        /// How old a savepoint gets. The newest one is kept whatever its age.
        retention_age: Duration { "retention-age", "TIME", default "168h" => |text| parse::duration(text, Duration::from_secs(1), parse::DAY * 3660) }
        /// How often a savepoint is taken while the job runs. None are taken if not given.
        savepoint_interval: Option<Duration> { "savepoint-interval", "TIME" => |text| parse::duration(text, Duration::from_secs(1), parse::DAY * 366).map(Some) }
        /// When savepoints are taken while the job runs: a cron expression of five fields, in UTC, instead of
        /// `savepoint-interval`.
        savepoint_schedule: Option<String> { "savepoint-schedule", "CRON" => parse::some_schedule }
        /// A periodic savepoint is left out while there is one that is younger.
        savepoint_min_age: Duration { "savepoint-min-age", "TIME", default "10m" => |text| parse::duration(text, Duration::ZERO, parse::DAY * 366) }
    }
    "Times": {
        /// How long a savepoint that somebody asked for may take.
        savepoint_timeout: Duration { "savepoint-timeout", "TIME", default "10m" => |text| parse::duration(text, Duration::from_secs(1), parse::DAY) }
        /// How long everything from SIGTERM to the end of Flink may take; at least 10s, of which Flink needs 5s to exit.
        shutdown_timeout: Duration { "shutdown-timeout", "TIME", default "1m" => |text| parse::duration(text, Duration::from_secs(10), parse::DAY) }
        /// How long a job may take, with a changed configuration, until its tasks run and a checkpoint is completed. Then
        /// the last good configuration comes back.
        config_change_timeout: Duration { "config-change-timeout", "TIME", default "5m" => |text| parse::duration(text, Duration::from_secs(10), parse::DAY) }
        /// How long a start waits for a pointer or a storage that does not answer, before it exits with 75.
        start_timeout: Duration { "start-timeout", "TIME", default "1m" => |text| parse::duration(text, Duration::ZERO, parse::DAY) }
    }
    "Health": {
        /// How many failures of a job, or starts of Flink, within `health-window` are a restart loop, 2 to 16.
        restart_loop: usize { "restart-loop", "N", default "5" => parse::failures }
        /// How far back failures and starts are counted.
        health_window: Duration { "health-window", "TIME", default "10m" => |text| parse::duration(text, Duration::from_secs(1), parse::DAY) }
        /// How long a running job may complete no checkpoint until it counts as stuck; at least three checkpoint intervals.
        stuck_after: Duration { "stuck-after", "TIME", default "10m" => |text| parse::duration(text, Duration::from_secs(1), parse::DAY) }
        /// Starts Flink again, from the newest restore point, when its job is in a restart loop or its checkpoints are stuck;
        /// at most once in `health-window`. Application mode only.
        restart_unhealthy: bool { "restart-unhealthy", "true|false", default "false", alone "true" => parse::boolean }
        /// Starts Flink again, from the newest restore point, when its job has FAILED; 1 s after that, and up to 1 min when it
        /// fails again soon. In session mode the listed jobs.
        restart_failed: bool { "restart-failed", "true|false", default "false", alone "true" => parse::boolean }
    }
    "Flink's REST interface": {
        /// Address of the JobManager. From Flink's configuration if not given.
        rest_url: Option<Url> { "rest-url", "URL" => parse::some_http_url }
        /// Certificate authorities to trust instead of the system's, as PEM.
        rest_ca: Option<PathBuf> { "rest-ca", "FILE" => parse::some_path }
        /// Client certificate, as PEM; needs `rest-client-key`.
        rest_client_cert: Option<PathBuf> { "rest-client-cert", "FILE" => parse::some_path }
        /// The client certificate's private key, as PEM.
        rest_client_key: Option<PathBuf> { "rest-client-key", "FILE" => parse::some_path }
        /// File that holds a bearer token.
        rest_bearer_file: Option<PathBuf> { "rest-bearer-file", "FILE" => parse::some_path }
        /// File that holds `USER:PASSWORD` for basic authentication.
        rest_basic_file: Option<PathBuf> { "rest-basic-file", "FILE" => parse::some_path }
        /// How long one request may take, never more than a tenth of `shutdown-timeout`.
        rest_timeout: Duration { "rest-timeout", "TIME", default "5s" => |text| parse::duration(text, Duration::from_millis(1), parse::HOUR) }
        /// Whether the name in the JobManager's certificate must be the one in its address.
        rest_verify_hostname: bool { "rest-verify-hostname", "true|false", default "true", alone "true" => parse::boolean }
    }
    "Metrics": {
        /// Where Prometheus finds the metrics of Flink and of Drey, as `0.0.0.0:9249`. Nothing is served if not given.
        metrics_address: Option<SocketAddr> { "metrics-address", "IP:PORT" => parse::some_address }
        /// Where Flink's own reporter listens then: the first free port of these.
        flink_metrics_port: Ports { "flink-metrics-port", "PORT|FIRST-LAST", default "9250-9260" => parse::ports }
        /// TLS and users of `metrics-address`, in the format of Prometheus' exporters (`--web.config.file`).
        metrics_web_config: Option<PathBuf> { "metrics-web-config", "FILE" => parse::some_path }
        /// YAML list of rules, as Prometheus' `metric_relabel_configs`, for what is kept of Flink's series.
        metrics_relabel: Option<PathBuf> { "metrics-relabel", "FILE" => parse::some_path }
        /// Labels for each of Flink's series that has none of the same name: `cluster_id`, `job_name`, `namespace`, `pod`, or
        /// any `NAME=VALUE`.
        metrics_labels: Labels { "metrics-labels", "NAME[=VALUE],…", default "none" => parse::labels }
        /// How many of Flink's series one answer has at most.
        metrics_series_limit: usize { "metrics-series-limit", "N", default "500000" => parse::count }
        /// For how long one reading of Flink is an answer for all who ask.
        metrics_cache: Duration { "metrics-cache", "TIME", default "1s" => |text| parse::duration(text, Duration::ZERO, Duration::from_secs(60)) }
        /// The port at which the TaskManagers' pods serve their metrics (9249): all of these are in the JobManager's answers, too. Not
        /// if not given.
        metrics_aggregate: Option<u16> { "metrics-aggregate", "PORT" => parse::some_port }
    }
    "Status page": {
        /// Where the supervisor serves its status page, on the loopback interface alone: `127.0.0.1:9248`. Not served if not
        /// given.
        status_page: Option<SocketAddr> { "status-page", "IP:PORT" => parse::some_loopback }
    }
    "Object storage": {
        /// Server to use instead of Amazon's. From Flink's configuration if not given.
        s3_endpoint: Option<Url> { "s3-endpoint", "URL" => parse::some_http_url }
        /// The bucket's region.
        s3_region: Option<String> { "s3-region", "REGION" => parse::some_text }
        /// Whether the bucket is in the path (`true`) or in the host name (`false`).
        s3_path_style: Option<bool> { "s3-path-style", "true|false", alone "true" => parse::some_boolean }
        /// Server to use instead of Google's.
        gcs_endpoint: Option<Url> { "gcs-endpoint", "URL" => parse::some_http_url }
        /// Server to use instead of Microsoft's; an emulator's ends with the account.
        azure_endpoint: Option<Url> { "azure-endpoint", "URL" => parse::some_http_url }
        /// Certificate authorities to trust beside the system's, as PEM.
        storage_ca: Option<PathBuf> { "storage-ca", "FILE" => parse::some_path }
        /// How long one operation on a storage may take.
        storage_timeout: Duration { "storage-timeout", "TIME", default "10s" => |text| parse::duration(text, Duration::from_millis(1), parse::HOUR) }
        /// Allows `http:`, and so requests in the clear, in the three endpoints above.
        storage_allow_http: bool { "storage-allow-http", "true|false", default "false", alone "true" => parse::boolean }
    }
    "Logs": {
        /// Logs for people, or one JSON object a line for machines.
        log_format: LogFormat { "log-format", "text|json", default "text" => parse::choice }
        /// The least important level that is logged, or a list such as `drey=debug,hyper=info`.
        log_level: String { "log-level", "LEVEL", default "info" => parse::log_level }
    }
}
