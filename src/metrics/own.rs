//! Drey's own metrics: one table, from which the registry and the documentation are made.
//!
//! Labels have values out of closed sets, and all of them are there from the start, so that a rate is right from the first
//! event on. What names a job, a pod or a path is in the logs.

mod events;
mod scrape;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::proxy::Outcome as Reading;
pub use scrape::{OF_TASK_MANAGERS, SCRAPE, Scrape};

/// From a fast savepoint of a small state to one that takes 17 minutes.
const DURATIONS: [f64; 12] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1000.0,
];

/// Of requests on one machine or in one network.
const LATENCIES: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];

/// From 1 kB to 1 TB.
const SIZES: [f64; 10] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

const REASONS: [&str; 8] = [
    "shutdown",
    "hand-over",
    "config-change",
    "manual",
    "stop",
    "suspend",
    "periodic",
    "restore",
];

const STATUSES: [&str; 6] = [
    "running",
    "starting",
    "restarting",
    "failed",
    "ended",
    "unknown",
];

/// One family of Drey's own.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: &'static str,
    /// What it is.
    doc: &'static [&'static str],
    /// Its labels with all their values.
    pub labels: &'static [(&'static str, &'static [&'static str])],
}

impl Family {
    /// What it is, in one line.
    #[must_use]
    pub fn help(&self) -> String {
        let lines: Vec<&str> = self.doc.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }
}

trait Metric: Sized {
    const KIND: &'static str;
    fn made(family: &Family, buckets: &[f64]) -> prometheus::Result<Self>;
    fn touch(&self, values: &[&str]);
}

macro_rules! metric {
    ($type:ty, $kind:literal, |$family:ident, $buckets:ident| $options:expr) => {
        impl Metric for $type {
            const KIND: &'static str = $kind;

            fn made($family: &Family, $buckets: &[f64]) -> prometheus::Result<Self> {
                let names: Vec<&str> = $family.labels.iter().map(|(name, _)| *name).collect();
                Self::new($options, &names)
            }

            fn touch(&self, values: &[&str]) {
                let _ = self.with_label_values(values);
            }
        }
    };
}

metric!(IntCounterVec, "counter", |family, _buckets| Opts::new(
    family.name,
    family.help()
));
metric!(GaugeVec, "gauge", |family, _buckets| Opts::new(
    family.name,
    family.help()
));
metric!(HistogramVec, "histogram", |family, buckets| {
    HistogramOpts::new(family.name, family.help()).buckets(buckets.to_vec())
});

macro_rules! own {
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { &$buckets };
    ($(
        $(#[doc = $doc:literal])+
        $field:ident: $type:ty = $name:literal { $($label:literal: $values:expr),* } $([$buckets:expr])?
    )+) => {
        /// The metrics of this process.
        #[derive(Debug)]
        pub struct Own {
            registry: Registry,
            /// The newest completed checkpoint of each job, and when it was seen.
            progress: Mutex<HashMap<String, (Option<i64>, f64)>>,
            $($field: $type,)+
        }

        /// All families in the registry.
        pub const TABLE: &[Family] = &[$(Family {
            name: $name,
            kind: <$type as Metric>::KIND,
            doc: &[$($doc),+],
            labels: &[$(($label, &$values)),*],
        }),+];

        impl Own {
            fn made() -> prometheus::Result<Self> {
                let registry = Registry::new();
                let mut families = TABLE.iter();
                $(
                    let family = families.next().ok_or(prometheus::Error::AlreadyReg)?;
                    let $field: $type = Metric::made(family, own!(@buckets $($buckets)?))?;
                    for values in combinations(family.labels) {
                        $field.touch(&values);
                    }
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { registry, progress: Mutex::default(), $($field),+ })
            }
        }
    };
}

own! {
    /// 1, with the version of Drey.
    build_info: GaugeVec = "drey_build_info" { "version": [env!("CARGO_PKG_VERSION")] }
    /// When this process was started, as Unix time.
    start_time: GaugeVec = "drey_start_timestamp_seconds" {}
    /// Savepoints that were asked for, by reason and by what became of them; `recorded` ones were read back.
    savepoints: IntCounterVec = "drey_savepoints_total" { "reason": REASONS, "outcome": ["recorded", "failed"] }
    /// Time from the stored intent of a savepoint to its record.
    savepoint_duration: HistogramVec = "drey_savepoint_duration_seconds" {} [DURATIONS]
    /// Size of recorded savepoints.
    savepoint_size: HistogramVec = "drey_savepoint_size_bytes" {} [SIZES]
    /// Ends of Flink by what the next start resumes from: a savepoint (`recorded`), a retained checkpoint (`fallback`), nothing
    /// new (`nothing`); or the job was over (`ended`).
    outcomes: IntCounterVec = "drey_shutdowns_total" { "outcome": ["recorded", "fallback", "ended", "nothing"] }
    /// Changes of Flink's configuration: left for the next start (`ignored`), begun (`seen`), seen to work (`applied`), refused
    /// as they would not work (`refused`), or taken back (`rolled-back`).
    config_changes: IntCounterVec = "drey_config_changes_total" { "outcome": ["ignored", "seen", "applied", "refused", "rolled-back"] }
    /// 1 while what stands in Flink's configuration, or in the file with the job's arguments, is not in effect: left for the
    /// next start, refused, or taken back.
    config_pending: GaugeVec = "drey_config_pending" {}
    /// Changes of Drey's own settings file while Flink ran: in effect at once (`applied`), with the next start of Drey
    /// (`needs-restart`), or not used since something is wrong with them (`refused`).
    settings_changes: IntCounterVec = "drey_settings_changes_total" { "outcome": ["applied", "needs-restart", "refused"] }
    /// When the newest restore point was completed, as Unix time; 0 when there is none. Of several jobs the one whose newest is
    /// the oldest.
    restore_point_time: GaugeVec = "drey_restore_point_timestamp_seconds" {}
    /// When the newest completed checkpoint or recorded savepoint was seen, as Unix time; 0 when there is none. Of several jobs
    /// that run the oldest.
    progress_time: GaugeVec = "drey_progress_timestamp_seconds" {}
    /// Jobs by state.
    jobs: GaugeVec = "drey_jobs" { "status": STATUSES }
    /// Jobs that have something a person should know; `drey status` tells what.
    troubled_jobs: GaugeVec = "drey_jobs_with_problems" {}
    /// Jobs whose savepoint is under way.
    savepoints_in_progress: GaugeVec = "drey_savepoints_in_progress" {}
    /// Whether Flink's REST interface answered the last time.
    reachable: GaugeVec = "drey_flink_reachable" {}
    /// Restore points in the history of all jobs.
    restore_points: GaugeVec = "drey_restore_points" {}
    /// Their size as far as known.
    restore_points_bytes: GaugeVec = "drey_restore_points_bytes" {}
    /// Old savepoints that were deleted; one that `failed` is tried again.
    deleted: IntCounterVec = "drey_savepoints_deleted_total" { "outcome": ["deleted", "failed"] }
    /// Savepoints in the cluster's own directories that nobody has recorded and that belong to no run of the job's lineage.
    orphans: GaugeVec = "drey_orphaned_savepoints" {}
    /// Periodic savepoints by what became of them when they were due: `taken`, `skipped` since there was one that is young enough,
    /// or `missed` since the job did not run.
    periodic: IntCounterVec = "drey_periodic_savepoints_total" { "outcome": ["taken", "skipped", "missed"] }
    /// Jobs that do not get on, by what is wrong: failures or starts again and again, or checkpoints that do not complete.
    unhealthy: GaugeVec = "drey_jobs_unhealthy" { "problem": ["restart-loop", "stuck-checkpoints"] }
    /// Ends of Flink by Drey's own decision, to start it again: for a job that does not get on, or that has FAILED.
    restarts: IntCounterVec = "drey_restarts_total" { "reason": ["unhealthy", "failed"] }
    /// Changes of a job's parallelism in place that were asked for.
    rescales: IntCounterVec = "drey_rescales_total" { "outcome": ["done", "failed"] }
    /// Time from asking for another parallelism until a checkpoint was complete with it.
    rescale_duration: HistogramVec = "drey_rescale_duration_seconds" {} [DURATIONS]
    /// Starts of Flink by what they resume from.
    starts: IntCounterVec = "drey_starts_total" { "from": ["savepoint", "checkpoint", "empty"] }
    /// Writes of the pointer; a `conflict` is tried again.
    pointer_writes: IntCounterVec = "drey_pointer_writes_total" { "outcome": ["written", "conflict", "away", "failed"] }
    /// What the supervisor has decided.
    decisions: IntCounterVec = "drey_decisions_total" { "action": [
        "wait", "store-intent", "send", "verify", "record", "abandon", "search-intent", "search-fallback", "record-ended", "settle"
    ] }
    /// Requests to Flink's REST interface.
    requests: HistogramVec = "drey_flink_request_duration_seconds" { "outcome": ["answered", "failed"] } [LATENCIES]
    /// Time for which TaskManagers of this process were kept after SIGTERM.
    holds: HistogramVec = "drey_hold_duration_seconds" {} [DURATIONS]
    /// Times that this TaskManager was started again since another JobManager had its job.
    follows: IntCounterVec = "drey_task_manager_restarts_total" {}
    /// Time for which starts have waited for their turn, while another pod held the lock.
    lock_waits: HistogramVec = "drey_lock_wait_duration_seconds" {} [DURATIONS]
    /// Whether a start waits for its turn.
    lock_waiting: GaugeVec = "drey_lock_waiting" {}
    /// Whether the annotation `drey.io/suspend` holds the job: it is stopped with a savepoint, or about to be, and no start goes on.
    suspended: GaugeVec = "drey_suspended" {}
    /// Readings of Flink's own metrics.
    readings: IntCounterVec = "drey_flink_scrapes_total" { "outcome": Reading::NAMES }
    /// Lines of Flink's metrics that were left out: series that were there already (`duplicate`), lines that Prometheus does not
    /// take (`invalid`), second kinds of a family (`conflict`), series that the rules drop (`filtered`), that have
    /// a name as Drey's own (`reserved`) or that are beyond `metrics-series-limit` (`limit`); and times of samples that were taken off (`timestamp`).
    left_out: IntCounterVec = "drey_flink_lines_dropped_total" { "reason": ["duplicate", "invalid", "conflict", "filtered", "reserved", "limit", "timestamp"] }
}

static OWN: LazyLock<Arc<Own>> = LazyLock::new(|| Arc::new(Own::new()));

/// The metrics of this process.
#[must_use]
pub fn own() -> &'static Arc<Own> {
    &OWN
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows no other numbers"
)]
fn number(count: u64) -> f64 {
    count as f64
}

/// All values of all labels with each other.
fn combinations(labels: &[(&str, &'static [&'static str])]) -> Vec<Vec<&'static str>> {
    labels.iter().fold(vec![Vec::new()], |known, (_, values)| {
        let with = |values_so_far: &Vec<&'static str>, value: &&'static str| {
            let mut longer = values_so_far.clone();
            longer.push(*value);
            longer
        };
        known
            .iter()
            .flat_map(|so_far| values.iter().map(move |value| with(so_far, value)))
            .collect()
    })
}

impl Default for Own {
    fn default() -> Self {
        Self::new()
    }
}

impl Own {
    /// Metrics of which nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        let own = Self::made().expect("the table has good names, each once");
        own.build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let now = jiff::Timestamp::now().as_duration().as_secs_f64();
        own.start_time.with_label_values::<&str>(&[]).set(now);
        own
    }
}
