//! What happens, as it is counted.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::GaugeVec;

use super::{Own, STATUSES, number};
use crate::control::JobReport;
use crate::domain::health::AilmentKind;
use crate::domain::job::JobStatus;
use crate::domain::pointer::{PointKind, Pointer, RestorePoint, TriggerReason};
use crate::domain::supervise::{Action, Outcome};
use crate::metrics::merge::Counts;
use crate::metrics::proxy::Outcome as Reading;
use crate::pointer_file::PointerError;

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

fn reason(reason: TriggerReason) -> &'static str {
    match reason {
        TriggerReason::Shutdown => "shutdown",
        TriggerReason::HandOver => "hand-over",
        TriggerReason::ConfigChange => "config-change",
        TriggerReason::Manual => "manual",
        TriggerReason::Stop => "stop",
        TriggerReason::Suspend => "suspend",
        TriggerReason::Periodic => "periodic",
        TriggerReason::Restore => "restore",
    }
}

fn status(job: &JobReport) -> &'static str {
    match job.status {
        Some(JobStatus::Running) if job.tasks.is_some_and(|(running, all)| running < all) => {
            "starting"
        }
        Some(JobStatus::Running) => "running",
        Some(JobStatus::Initializing | JobStatus::Created) => "starting",
        Some(JobStatus::Failing | JobStatus::Restarting | JobStatus::Reconciling) => "restarting",
        Some(JobStatus::Failed) => "failed",
        Some(JobStatus::Cancelling | JobStatus::Canceled | JobStatus::Finished) => "ended",
        Some(JobStatus::Suspended) | None => "unknown",
    }
}

/// Whether a job has to make progress.
fn runs(job: &JobReport) -> bool {
    matches!(status(job), "running" | "starting" | "restarting")
}

impl Own {
    /// Flink's page was read.
    pub fn flink_was_read(&self, outcome: Reading, counts: &Counts) {
        self.readings.with_label_values(&[outcome.name()]).inc();
        for (reason, count) in [
            ("duplicate", counts.duplicates),
            ("invalid", counts.invalid),
            ("conflict", counts.conflicts),
            ("filtered", counts.filtered),
            ("reserved", counts.reserved),
            ("limit", counts.over_limit),
            ("timestamp", counts.timestamps),
        ] {
            self.left_out.with_label_values(&[reason]).inc_by(count);
        }
    }

    /// A restore point is recorded.
    pub fn recorded(&self, point: &RestorePoint) {
        if point.kind == PointKind::Checkpoint {
            return;
        }
        let labels = [reason(point.reason), "recorded"];
        self.savepoints.with_label_values(&labels).inc();
        if let Some(started) = point.started {
            let took = point.completed.duration_since(started).as_secs_f64();
            self.savepoint_duration
                .with_label_values::<&str>(&[])
                .observe(took);
        }
        if let Some(size) = point.size {
            self.savepoint_size
                .with_label_values::<&str>(&[])
                .observe(number(size));
        }
    }

    /// An old savepoint was deleted, or could not be.
    pub fn deleted(&self, done: bool) {
        let outcome = if done { "deleted" } else { "failed" };
        self.deleted.with_label_values(&[outcome]).inc();
    }

    /// There are this many savepoints that nobody has recorded.
    pub fn orphans(&self, count: usize) {
        let count = number(u64::try_from(count).unwrap_or(u64::MAX));
        self.orphans.with_label_values::<&str>(&[]).set(count);
    }

    /// A periodic savepoint was due: `taken`, `skipped` or `missed`.
    pub fn periodic(&self, outcome: &'static str) {
        self.periodic.with_label_values(&[outcome]).inc();
    }

    /// Something became of a changed configuration.
    pub fn config_changed(&self, outcome: &'static str) {
        self.config_changes.with_label_values(&[outcome]).inc();
    }

    /// Whether what stands there waits for a person or for the next start.
    pub fn config_pending(&self, pending: bool) {
        let value = f64::from(u8::from(pending));
        self.config_pending
            .with_label_values::<&str>(&[])
            .set(value);
    }

    /// Drey's own settings have changed.
    pub fn settings_changed(&self, outcome: &'static str) {
        self.settings_changes.with_label_values(&[outcome]).inc();
    }

    /// Flink is started from the restore point `path`, or from empty state.
    pub fn started(&self, path: Option<&str>) {
        let last = |path: &str| {
            path.trim_end_matches('/')
                .rsplit('/')
                .next()
                .map(str::to_owned)
        };
        let name = match path.and_then(last) {
            // The name is Flink's own (`CHECKPOINT_DIR_PREFIX`).
            Some(name) if name.starts_with("chk-") => "checkpoint",
            Some(_) => "savepoint",
            None => "empty",
        };
        self.starts.with_label_values(&[name]).inc();
    }

    /// A job was given another parallelism, or could not be.
    pub fn rescaled(&self, took: Duration, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.rescales.with_label_values(&[outcome]).inc();
        if done {
            self.rescale_duration
                .with_label_values::<&str>(&[])
                .observe(took.as_secs_f64());
        }
    }

    /// Flink is started again by Drey's own decision.
    pub fn restarted(&self, reason: &'static str) {
        self.restarts.with_label_values(&[reason]).inc();
    }

    /// A TaskManager was kept after SIGTERM.
    pub fn held(&self, time: Duration) {
        self.holds
            .with_label_values::<&str>(&[])
            .observe(time.as_secs_f64());
    }

    /// A TaskManager is started again beside another JobManager.
    pub fn followed(&self) {
        self.follows.with_label_values::<&str>(&[]).inc();
    }

    /// A start has had its turn after this time.
    pub fn lock_waited(&self, time: Duration) {
        self.lock_waits
            .with_label_values::<&str>(&[])
            .observe(time.as_secs_f64());
    }

    /// Whether a start waits for its turn.
    pub fn lock_waiting(&self, waits: bool) {
        self.lock_waiting
            .with_label_values::<&str>(&[])
            .set(f64::from(waits));
    }

    /// Whether a person's annotation holds the job.
    pub fn suspended(&self, held: bool) {
        self.suspended
            .with_label_values::<&str>(&[])
            .set(f64::from(held));
    }

    /// Flink's REST interface was asked.
    pub fn requested(&self, time: Duration, answered: bool) {
        let outcome = if answered { "answered" } else { "failed" };
        self.requests
            .with_label_values(&[outcome])
            .observe(time.as_secs_f64());
    }

    /// How the jobs stand.
    pub fn stand(&self, reachable: bool, jobs: &BTreeMap<String, JobReport>, pointer: &Pointer) {
        let set = |gauge: &GaugeVec, value: f64| gauge.with_label_values::<&str>(&[]).set(value);
        let count = |wanted: &dyn Fn(&JobReport) -> bool| {
            number(
                u64::try_from(jobs.values().filter(|job| wanted(job)).count()).unwrap_or(u64::MAX),
            )
        };
        set(&self.reachable, f64::from(reachable));
        set(&self.troubled_jobs, count(&|job| !job.problems.is_empty()));
        set(
            &self.savepoints_in_progress,
            count(&|job| job.savepoint_in_progress),
        );
        for kind in AilmentKind::ALL {
            self.unhealthy
                .with_label_values(&[kind.name()])
                .set(count(&|job| job.ailments.contains(&kind)));
        }
        for name in STATUSES {
            self.jobs
                .with_label_values(&[name])
                .set(count(&|job| status(job) == name));
        }
        let points = || pointer.jobs.values().flat_map(|entry| &entry.history);
        let amount = |count: usize| number(u64::try_from(count).unwrap_or(u64::MAX));
        set(&self.restore_points, amount(points().count()));
        let bytes = points().filter_map(|point| point.size).sum();
        set(&self.restore_points_bytes, number(bytes));
        let live = jobs
            .keys()
            .filter_map(|key| Some((key, pointer.jobs.get(key)?)));
        let live = live.filter(|(_, entry)| entry.ended.is_none());
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.retain(|key, _| jobs.contains_key(key));
        let (mut point, mut latest) = (f64::INFINITY, f64::INFINITY);
        for (key, entry) in live {
            let recorded = entry.newest().map_or(0.0, |point| seconds(point.completed));
            let checkpoint = jobs.get(key).and_then(|job| job.completed_checkpoint);
            let seen = progress.entry(key.clone()).or_insert((None, 0.0));
            if checkpoint.is_some() && seen.0 != checkpoint {
                *seen = (checkpoint, seconds(Timestamp::now()));
            }
            point = point.min(recorded);
            // One that has failed goes no further, however new the others are.
            if jobs.get(key).is_some_and(runs) {
                latest = latest.min(recorded.max(seen.1));
            }
        }
        let known = |time: f64| if time.is_finite() { time } else { 0.0 };
        set(&self.restore_point_time, known(point));
        set(&self.progress_time, known(latest));
    }

    /// A savepoint has failed.
    pub fn savepoint_failed(&self, why: TriggerReason) {
        self.savepoints
            .with_label_values(&[reason(why), "failed"])
            .inc();
    }

    /// A job is settled.
    pub fn settled(&self, outcome: &Outcome) {
        let name = match outcome {
            Outcome::Recorded(_) => "recorded",
            Outcome::Fallback(..) => "fallback",
            Outcome::Ended(_) => "ended",
            Outcome::Nothing(_) => "nothing",
        };
        self.outcomes.with_label_values(&[name]).inc();
    }

    /// The supervisor has decided.
    pub fn decided(&self, action: &Action) {
        let name = match action {
            Action::Wait(..) => "wait",
            Action::StoreIntent(_) => "store-intent",
            Action::Send => "send",
            Action::Verify(_) => "verify",
            Action::Record(_) => "record",
            Action::Abandon(_) => "abandon",
            Action::SearchIntent => "search-intent",
            Action::SearchFallback => "search-fallback",
            Action::RecordEnded(_) => "record-ended",
            Action::Settle(_) => "settle",
        };
        self.decisions.with_label_values(&[name]).inc();
    }

    /// The pointer was written, or not.
    pub fn pointer_written(&self, result: &Result<(), PointerError>) {
        let outcome = match result {
            Ok(()) => "written",
            Err(PointerError::Conflict { .. }) => "conflict",
            Err(PointerError::Away { .. }) => "away",
            Err(_) => "failed",
        };
        self.pointer_writes.with_label_values(&[outcome]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pointer::JobEntry;

    #[test]
    fn jobs_that_do_not_run_make_no_progress_and_are_forgotten() {
        let own = Own::new();
        let mut pointer = Pointer::new("test");
        let mut jobs = BTreeMap::new();
        for (key, status) in [("runs", JobStatus::Running), ("failed", JobStatus::Failed)] {
            pointer.jobs.insert(key.to_owned(), JobEntry::default());
            let job = JobReport {
                status: Some(status),
                completed_checkpoint: (key == "runs").then_some(1),
                ..JobReport::default()
            };
            jobs.insert(key.to_owned(), job);
        }
        let progress = || own.progress_time.with_label_values::<&str>(&[]).get();
        own.stand(true, &jobs, &pointer);
        assert!(progress() > 0.0);
        jobs.remove("runs");
        own.stand(true, &jobs, &pointer);
        assert!(progress().abs() < f64::EPSILON);
        let known = own.progress.lock().expect("whole");
        assert!(known.keys().eq(["failed"]), "{known:?}");
    }
}
