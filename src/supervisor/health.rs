//! Health: whether a job fails again and again, and whether its checkpoints complete. Told once per change, as an event and
//! in the log; shown by `drey status` and as metrics, and never by the pod's readiness. Where that is wanted, Flink is
//! started again from the newest restore point.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::Supervisor;
use crate::control::{Settled, SettledOutcome};
use crate::domain::budget::{after, until};
use crate::domain::health::{Ailment, AilmentKind, Checkpoints, Limits, Sight, diagnose, noted};
use crate::domain::job::{JobId, JobView};
use crate::domain::pointer::APPLICATION;
use crate::domain::supervise::ready;
use crate::flink::wire::{CheckpointEntry, CheckpointPhase, CheckpointStats};
use crate::kubernetes::events::Event;
use crate::metrics::own;
use crate::telemetry::one_line;

/// How often Flink is asked for the failures of a job.
const FAILURES_AGAIN: Duration = Duration::from_secs(5);

/// What is known of the health of one job.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: Vec<Timestamp>,
    asked: Option<(JobId, Timestamp)>,
    running_since: Option<Timestamp>,
    checkpoints: Checkpoints,
    ailments: Vec<Ailment>,
}

impl Health {
    /// In words.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.ailments.iter().map(|ailment| ailment.text.clone())
    }

    pub(super) fn kinds(&self) -> Vec<AilmentKind> {
        self.ailments.iter().map(|ailment| ailment.kind).collect()
    }

    /// What Flink says of the checkpoints.
    pub(super) fn note(&mut self, stats: &CheckpointStats) {
        let newest = [&stats.latest.completed, &stats.latest.savepoint];
        let completed = newest.into_iter().flatten().filter_map(end).max();
        let failed: Vec<&CheckpointEntry> = stats
            .history
            .iter()
            .take_while(|entry| entry.status != CheckpointPhase::Completed)
            .filter(|entry| entry.status == CheckpointPhase::Failed)
            .collect();
        self.checkpoints = Checkpoints {
            completed,
            why: failed.first().and_then(|entry| entry.failure.clone()),
            failed: failed
                .iter()
                .filter_map(|entry| Timestamp::from_millisecond(entry.trigger_timestamp).ok())
                .collect(),
        };
    }
}

fn end(entry: &CheckpointEntry) -> Option<Timestamp> {
    let end = entry
        .trigger_timestamp
        .saturating_add(entry.end_to_end_duration.max(0));
    Timestamp::from_millisecond(end).ok()
}

impl Supervisor {
    /// Flink was started once more.
    pub(super) fn note_start(&mut self) {
        let (now, window) = (Timestamp::now(), self.settings.health_window);
        self.anew = false;
        self.starts.retain(|at| until(*at, now) < window);
        self.starts.push(now);
    }

    /// Looks whether a job gets on.
    pub(super) async fn judge_health(&mut self, key: &str, view: &JobView) {
        self.learn_failures(key, view).await;
        let now = Timestamp::now();
        let saving = self
            .pointer
            .jobs
            .get(key)
            .is_some_and(|entry| entry.intent.is_some());
        let starts = if key == APPLICATION {
            self.starts.as_slice()
        } else {
            &[]
        };
        let limits = Limits {
            failures: self.settings.restart_loop,
            window: self.settings.health_window,
            stuck_after: self.settings.stuck_after,
        };
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        let runs = ready(view) && !saving && job.rescaling.is_none();
        job.health.running_since = runs.then(|| job.health.running_since.unwrap_or(now));
        let interval = job.watch.interval_ms().map(Duration::from_millis);
        let found = diagnose(
            &limits,
            &Sight {
                now,
                failures: &job.health.failures,
                starts,
                running_since: job.health.running_since,
                interval,
                checkpoints: &job.health.checkpoints,
            },
        );
        let before = std::mem::replace(&mut job.health.ailments, found.clone());
        self.tell_health(key, &before, &found);
        self.note_health(key, &found).await;
        self.start_anew(key, &found);
    }

    /// Whether the application has failed for good and Flink is started again for it: after a while, which the launcher
    /// makes longer each time.
    pub(super) fn starts_failed_again(&self, settled: &[Settled]) -> bool {
        let failed = |job: &Settled| job.outcome == SettledOutcome::Failed;
        let again = self.settings.restart_failed && settled.iter().any(failed);
        if again {
            let text = "The job has FAILED: Flink is started again, from the newest restore point";
            warn!("{text}");
            self.tell(Event::warning("RestartFailed", text));
            own().restarted("failed");
        }
        again
    }

    /// The failures that Flink remembers; when it does not answer, what it said before.
    async fn learn_failures(&mut self, key: &str, view: &JobView) {
        let now = Timestamp::now();
        let asked = self.jobs.get(key).and_then(|job| job.health.asked);
        let fresh = asked.is_some_and(|(id, at)| id == view.id && now < after(at, FAILURES_AGAIN));
        let Some(cluster) = self.cluster.as_ref().filter(|_| !fresh) else {
            return;
        };
        let failures = cluster.rest.failures(view.id).await;
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        job.health.asked = Some((view.id, now));
        match failures {
            Ok(failures) => job.health.failures = failures,
            Err(error) => debug!(
                job = key,
                error = one_line(&error, 300),
                "No failures known"
            ),
        }
    }

    /// Where others can see the pointer it says so, too: `drey check` reads nothing else.
    async fn note_health(&mut self, key: &str, found: &[Ailment]) {
        let entry = self.pointer.jobs.get(key).filter(|_| self.pod.is_some());
        let news = entry.and_then(|entry| noted(&entry.ailments, found, Timestamp::now()));
        if let Some(news) = news {
            self.update(key, |entry| entry.ailments.clone_from(&news))
                .await;
        }
    }

    fn tell_health(&self, key: &str, before: &[Ailment], now: &[Ailment]) {
        let has = |list: &[Ailment], kind| list.iter().any(|ailment| ailment.kind == kind);
        for ailment in now.iter().filter(|it| !has(before, it.kind)) {
            warn!(job = key, problem = ailment.text, "Job is not well");
            let reason = match ailment.kind {
                AilmentKind::RestartLoop => "RestartLoop",
                AilmentKind::StuckCheckpoints => "CheckpointsStuck",
            };
            self.tell(Event::warning(
                reason,
                &format!("Job {key}: {}", ailment.text),
            ));
        }
        for ailment in before.iter().filter(|it| !has(now, it.kind)) {
            info!(job = key, was = %ailment.kind, "Job is well again");
            let text = format!("Job {key}: {} no more", ailment.kind);
            self.tell(Event::normal("JobRecovered", &text));
        }
    }

    /// Where that is wanted, Flink is ended as it is: a job whose checkpoints are stuck would not complete a savepoint
    /// either. Not without anything to resume from, and not again before the window has passed.
    fn start_anew(&mut self, key: &str, found: &[Ailment]) {
        let wanted = self.settings.restart_unhealthy && key == APPLICATION && !self.anew;
        let Some(job) = self.jobs.get(key).filter(|_| wanted && !found.is_empty()) else {
            return;
        };
        let recorded = self.pointer.jobs.get(key).and_then(|entry| entry.newest());
        let resumes = recorded.is_some() || job.watch.completed().is_some();
        let now = Timestamp::now();
        let again = |at: Timestamp| now >= after(at, self.settings.health_window);
        if !resumes || job.ask.is_some() || job.rescaling.is_some() {
            return;
        }
        if !self.starts.last().is_none_or(|at| again(*at)) {
            return;
        }
        self.anew = true;
        let text =
            "Flink is started again, from the newest restore point, since its job is not well";
        warn!(job = key, "{text}");
        self.tell(Event::warning("RestartUnhealthy", text));
        own().restarted("unhealthy");
    }
}
