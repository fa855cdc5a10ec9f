//! Savepoints by the clock, and checkpoints on request.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Supervisor, random};
use crate::config::Settings;
use crate::control::{CheckpointCall, Reply};
use crate::domain::budget::after;
use crate::domain::job::JobId;
use crate::domain::pointer::{JobEntry, PointKind, TriggerReason};
use crate::domain::savepoint::{SavepointKind, TriggerId};
use crate::domain::schedule::{Due, Schedule, Sight, due};
use crate::domain::supervise::{Ask, Evidence, Process, ready};
use crate::flink::rest::RestError;
use crate::flink::wire::CheckpointOperation;
use crate::metrics::own;
use crate::telemetry::one_line;

/// How often a checkpoint is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Somebody waits for a checkpoint.
#[derive(Debug)]
pub(super) struct CheckpointWaiter {
    job: JobId,
    trigger: TriggerId,
    deadline: Timestamp,
    back: oneshot::Sender<Reply>,
}

/// When periodic savepoints are taken; `None`: never.
pub(super) fn schedule(settings: &Settings) -> Option<Schedule> {
    let cron = settings.savepoint_schedule.as_deref();
    // The settings have checked it.
    cron.and_then(|text| Schedule::cron(text).ok())
        .or(settings.savepoint_interval.map(Schedule::Every))
}

impl Supervisor {
    /// Asks for the savepoints that are due; when to look again.
    pub(super) fn ask_periodic(&mut self) -> Timestamp {
        let now = Timestamp::now();
        let mut wake = after(now, self.policy.idle);
        let Some(schedule) = self.schedule.clone() else {
            return wake;
        };
        if self.shutdown.is_some() || self.process == Process::Gone {
            return wake;
        }
        let keys: Vec<String> = self.jobs.keys().cloned().collect();
        for key in keys {
            match self
                .periodic_sight(&key, now)
                .map(|sight| due(&schedule, &sight))
            {
                Some(Due::At(next)) => wake = wake.min(next),
                Some(Due::Skip) => {
                    info!(
                        job = key,
                        "Periodic savepoint left out: there is one that is young enough"
                    );
                    own().periodic("skipped");
                    self.periodic_done(&key, now);
                }
                Some(Due::Take { missed }) => self.take_periodic(&key, now, missed),
                Some(Due::Waiting | Due::Never) | None => {}
            }
        }
        wake
    }

    fn periodic_sight(&self, key: &str, now: Timestamp) -> Option<Sight> {
        let entry = self.pointer.jobs.get(key)?;
        let job = self.jobs.get(key)?;
        let first = entry.starts.last().map(|start| start.at);
        let last = [job.periodic, last_periodic(entry)]
            .into_iter()
            .flatten()
            .max();
        let open = entry.intent.is_none()
            && entry.frozen.is_none()
            && entry.ended.is_none()
            && !entry.person_decided();
        let least = self.settings.savepoint_min_age;
        Some(Sight {
            now,
            last: last.or(first).or(Some(entry.run.as_ref()?.stored))?,
            newest: newest_savepoint(entry),
            // With an interval, the last one of the same series must not stand in the way.
            min_age: match self.schedule {
                Some(Schedule::Every(interval)) => least.min(interval / 2),
                _ => least,
            },
            ready: open && job.ask.is_none() && job.view.as_ref().is_some_and(ready),
        })
    }

    fn take_periodic(&mut self, key: &str, now: Timestamp, missed: bool) {
        if missed {
            warn!(
                job = key,
                "Periodic savepoints were missed; they are not made up for"
            );
            own().periodic("missed");
        }
        own().periodic("taken");
        self.periodic_done(key, now);
        self.ask_plain(key, TriggerReason::Periodic);
    }

    /// A savepoint by annotation or signal.
    pub(super) fn ask_manual(&mut self, key: &str) {
        self.ask_plain(key, TriggerReason::Manual);
    }

    fn ask_plain(&mut self, key: &str, reason: TriggerReason) {
        let now = Timestamp::now();
        let ask = Ask {
            kind: SavepointKind::Savepoint,
            reason,
            format: self.stop_format(),
            other_format: None,
            directory: self.savepoint_dir(key),
            since: now,
            deadline: after(now, self.settings.savepoint_timeout),
            must_end: false,
        };
        if let Some(job) = self.jobs.get_mut(key) {
            job.ask = Some(ask);
            job.evidence = Evidence::default();
            job.logged = None;
        }
    }

    fn periodic_done(&mut self, key: &str, now: Timestamp) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.periodic = Some(now);
        }
    }

    /// A person wants a checkpoint of one job.
    pub(super) async fn want_checkpoint(
        &mut self,
        wanted: &CheckpointCall,
        back: oneshot::Sender<Reply>,
    ) {
        match self.trigger_checkpoint(wanted).await {
            Ok((job, trigger)) => self.checkpoints.push(CheckpointWaiter {
                job,
                trigger,
                deadline: after(Timestamp::now(), Duration::from_millis(wanted.timeout_ms)),
                back,
            }),
            Err(refused) => {
                let _ = back.send(refused);
            }
        }
    }

    async fn trigger_checkpoint(
        &self,
        wanted: &CheckpointCall,
    ) -> Result<(JobId, TriggerId), Reply> {
        let refuse = |error: String, code: u8| Reply::Failed { error, code };
        let cluster = match &self.cluster {
            Some(cluster) if self.process == Process::Running => cluster,
            _ => return Err(refuse("Flink is not running".to_owned(), 75)),
        };
        if self.shutdown.is_some() {
            return Err(refuse("the job is being shut down".to_owned(), 75));
        }
        let key = self.find_job(wanted.job.as_deref());
        let key = key.map_err(|error| refuse(error, 64))?;
        let view = self.jobs.get(&key).and_then(|job| job.view.as_ref());
        let Some(view) = view.filter(|view| ready(view)) else {
            let error = format!("not all tasks of job {key} run; try again when they do");
            return Err(refuse(error, 75));
        };
        let trigger = TriggerId::from_bytes(random());
        match cluster.rest.trigger_checkpoint(view.id, trigger).await {
            Ok(trigger) => {
                info!(job_id = %view.id, trigger_id = %trigger, "Checkpoint triggered");
                Ok((view.id, trigger))
            }
            Err(RestError::TooOld { version, .. }) => {
                let error = format!(
                    "Flink {version} takes no checkpoints on request; use `drey savepoint`"
                );
                Err(refuse(error, 64))
            }
            Err(error) => Err(refuse(one_line(&error, 300), 1)),
        }
    }

    /// Answers who waits for a checkpoint that has come to its end; when to look again.
    pub(super) async fn answer_checkpoints(&mut self) -> Option<Timestamp> {
        for waiter in std::mem::take(&mut self.checkpoints) {
            match self.checkpoint_reply(&waiter).await {
                // Who has hung up needs no answer.
                Some(reply) => drop(waiter.back.send(reply)),
                None => self.checkpoints.push(waiter),
            }
        }
        (!self.checkpoints.is_empty()).then(|| after(Timestamp::now(), POLL))
    }

    async fn checkpoint_reply(&self, waiter: &CheckpointWaiter) -> Option<Reply> {
        let cluster = self
            .cluster
            .as_ref()
            .filter(|_| self.process == Process::Running);
        let Some(cluster) = cluster else {
            return Some(Reply::failed("Flink has ended"));
        };
        let operation = cluster
            .rest
            .checkpoint_operation(waiter.job, waiter.trigger);
        match operation.await {
            Ok(CheckpointOperation::Completed { checkpoint }) => {
                info!(job_id = %waiter.job, checkpoint_id = checkpoint, "Checkpoint completed");
                Some(Reply::Checkpoint {
                    checkpoint_id: checkpoint,
                })
            }
            Ok(CheckpointOperation::Failed(cause)) => Some(Reply::failed(cause.root)),
            Ok(CheckpointOperation::Unknown) => {
                Some(Reply::failed("Flink has forgotten the request"))
            }
            Ok(CheckpointOperation::InProgress) | Err(_) if Timestamp::now() < waiter.deadline => {
                None
            }
            Ok(CheckpointOperation::InProgress) | Err(_) => Some(Reply::Failed {
                error: "the checkpoint is not done yet".to_owned(),
                code: 75,
            }),
        }
    }
}

fn last_periodic(entry: &JobEntry) -> Option<Timestamp> {
    let periodic = entry
        .history
        .iter()
        .filter(|point| point.reason == TriggerReason::Periodic);
    periodic
        .map(|point| point.started.unwrap_or(point.completed))
        .max()
}

fn newest_savepoint(entry: &JobEntry) -> Option<Timestamp> {
    let savepoint = |kind| matches!(kind, PointKind::Savepoint | PointKind::Stop);
    let made = entry.counting().filter(|point| savepoint(point.kind));
    made.map(|point| point.completed).max()
}
