//! One job's turns: observe, decide, act, until there is something to wait for.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, error, info, warn};

use super::Supervisor;
use crate::domain::budget::after;
use crate::domain::job::JobStatus;
use crate::domain::pointer::{
    Ended, Intent, JobEntry, PointKind, Requested, RestorePoint, TriggerReason,
};
use crate::domain::savepoint::{
    FailureCause, OperationStatus, SavepointKind, SavepointRequest, TriggerId,
};
use crate::domain::supervise::{
    Action, Ask, Evidence, NewPoint, Observation, Outcome, Sighting, decide,
};
use crate::flink::rest::RestError;
use crate::kill_point;
use crate::kubernetes::events::Event;
use crate::metrics::own;
use crate::telemetry::one_line;

/// More turns in a row than any story needs.
const TURNS: usize = 64;

/// What an action leads to.
pub(super) enum Next {
    /// Another turn at once.
    Turn,
    /// Nothing before this time.
    At(Timestamp),
}

impl Supervisor {
    /// Turns of the job under `key` until there is something to wait for; until when.
    pub(super) async fn turns(&mut self, key: &str) -> Timestamp {
        // Once complete it stays so: Flink is not asked again between the turns that verify and record it.
        let mut complete: Option<(TriggerId, OperationStatus)> = None;
        for _ in 0..TURNS {
            let intent = self.pointer.jobs.get(key).and_then(|e| e.intent.as_ref());
            let open = intent.map(|intent| intent.trigger);
            let operation = match complete.take().filter(|(id, _)| Some(*id) == open) {
                Some((_, status)) => Some(Sighting::Seen(status)),
                None => self.operation(key).await,
            };
            if let (Some(id), Some(Sighting::Seen(status))) = (open, &operation)
                && matches!(status, OperationStatus::Completed { .. })
            {
                complete = Some((id, status.clone()));
            }
            let action = self.decision(key, operation.as_ref());
            debug!(job = key, ?action, "Decided");
            own().decided(&action);
            let open = self.pointer.jobs.get(key).and_then(|e| e.intent.as_ref());
            self.decisions.note(key, &action, open);
            match self.act(key, action).await {
                Next::Turn => {}
                Next::At(time) => return time,
            }
        }
        error!(job = key, "Too many turns without waiting");
        after(Timestamp::now(), self.policy.idle)
    }

    fn decision(&self, key: &str, operation: Option<&Sighting<OperationStatus>>) -> Action {
        let none = JobEntry::default();
        let Some(job) = self.jobs.get(key) else {
            return Action::Settle(Outcome::Nothing("there is no such job".to_owned()));
        };
        let reachable = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.reachable);
        let entry = self.pointer.jobs.get(key).unwrap_or(&none);
        decide(
            &self.policy,
            &Observation {
                now: Timestamp::now(),
                ask: job.ask.as_ref(),
                entry: if job.unwritable {
                    Sighting::Unreachable
                } else {
                    Sighting::Seen(entry)
                },
                job: match &job.view {
                    Some(view) => Sighting::Seen(view),
                    None if reachable => Sighting::Absent,
                    None => Sighting::Unreachable,
                },
                process: self.process,
                operation: operation.map(|operation| match operation {
                    Sighting::Seen(status) => Sighting::Seen(status),
                    Sighting::Absent => Sighting::Absent,
                    Sighting::Unreachable => Sighting::Unreachable,
                }),
                stopped_outside: job.watch.stopped_outside(),
                evidence: &job.evidence,
                fresh: TriggerId::from_bytes(super::random()),
            },
        )
    }

    async fn act(&mut self, key: &str, action: Action) -> Next {
        match action {
            Action::Wait(until, why) => return self.wait(key, until, why),
            Action::StoreIntent(intent) => return self.store_intent(key, intent).await,
            Action::Send => return self.send(key).await,
            Action::Verify(path) => return self.read_back(key, &path).await,
            Action::Record(point) => return self.record(key, point).await,
            Action::Abandon(cause) => return self.abandon(key, cause).await,
            Action::SearchIntent => return self.search_intent(key).await,
            Action::SearchFallback => return self.search_fallback(key).await,
            Action::RecordEnded(status) => {
                if !self.record_ended(key, status).await {
                    return self.unwritable(key);
                }
            }
            Action::Settle(outcome) => {
                self.refuse_nonce(key, &outcome).await;
                return self.settle_job(key, outcome);
            }
        }
        Next::Turn
    }

    fn wait(&mut self, key: &str, until: Timestamp, why: &'static str) -> Next {
        let trigger_id = self.open_trigger(key);
        if let Some(job) = self.jobs.get_mut(key)
            && job.waiting != why
        {
            job.waiting = why;
            if job.ask.is_some() && why != "savepoint in progress" {
                info!(job = key, trigger_id, why, "Waiting");
            }
        }
        Next::At(until)
    }

    async fn store_intent(&mut self, key: &str, intent: Intent) -> Next {
        kill_point("before-intent");
        let (job_id, trigger_id, reason) = (intent.job_id, intent.trigger, intent.reason);
        let stop = matches!(intent.kind, SavepointKind::Stop { .. });
        let noted = intent.location.is_some();
        let nonce = self.jobs.get(key).and_then(|job| job.nonce.clone());
        let requested = nonce.map(|nonce| Requested {
            nonce,
            since: intent.stored,
            failure: None,
            answer: None,
        });
        let store = |entry: &mut JobEntry| {
            entry.intent = Some(intent.clone());
            if requested.is_some() {
                entry.requested.clone_from(&requested);
            }
        };
        if !self.update(key, store).await {
            return self.unwritable(key);
        }
        if noted {
            return Next::Turn;
        }
        kill_point("after-intent");
        info!(%job_id, %trigger_id, %reason, stop, "Savepoint intent stored");
        self.tell_savepoint(key, reason, stop);
        self.send(key).await
    }

    /// Sends the open intent's request. Whether it was understood shows in its status: an answer may get lost, and
    /// Flink may refuse a request that it has started all the same.
    async fn send(&mut self, key: &str) -> Next {
        let Some(intent) = self
            .pointer
            .jobs
            .get(key)
            .and_then(|entry| entry.intent.clone())
        else {
            return Next::Turn;
        };
        let Some(cluster) = &self.cluster else {
            return Next::Turn;
        };
        let request = SavepointRequest {
            job: intent.job_id,
            trigger: intent.trigger,
            kind: intent.kind,
            format: intent.format,
            target_directory: intent.directory.clone(),
        };
        let sent = cluster.rest.trigger(&request, cluster.version).await;
        kill_point("after-post");
        match sent {
            Ok(flink_trigger) => {
                let own = (flink_trigger != intent.trigger).then(|| flink_trigger.to_string());
                info!(job_id = %intent.job_id, trigger_id = %intent.trigger, flink_trigger_id = own, "Savepoint triggered");
                if flink_trigger != intent.trigger {
                    self.update(key, |entry| {
                        if let Some(intent) = &mut entry.intent {
                            intent.flink_trigger = Some(flink_trigger);
                        }
                    })
                    .await;
                }
                Next::Turn
            }
            Err(error) => {
                let cause = refusal(&error);
                warn!(job_id = %intent.job_id, trigger_id = %intent.trigger, error = one_line(&error, 300),
                    "Savepoint could not be triggered");
                if let (Some(cause), Some(job)) = (cause, self.jobs.get_mut(key)) {
                    job.refused = Some(cause);
                    return Next::Turn;
                }
                Next::At(after(Timestamp::now(), self.policy.retry.first))
            }
        }
    }

    async fn record(&mut self, key: &str, new: NewPoint) -> Next {
        let point = self.restore_point(key, &new);
        let (path, kind, checkpoint_id) = (point.path.clone(), point.kind, point.checkpoint_id);
        let (job_id, bytes) = (point.job_id.map(|id| id.to_string()), point.size);
        let duration_ms = point
            .started
            .map(|started| point.completed.duration_since(started).as_millis());
        let trigger_id = self.open_trigger(key).filter(|_| new.close_intent);
        let keep = self.settings.remembered();
        let lock = self.lock_after(&point);
        let written = self.write_with(
            |pointer| {
                let entry = pointer.entry(key);
                if new.close_intent {
                    entry.intent = None;
                }
                entry.record(point.clone(), keep);
                if point.reason == TriggerReason::Stop && point.kind == PointKind::Stop {
                    entry.ended = Some(stopped_by_order(entry));
                }
            },
            &*lock,
        );
        let recorded = written.await;
        let recorded = self.is_written(recorded);
        if !recorded {
            return self.unwritable(key);
        }
        kill_point("after-record");
        own().recorded(&point);
        self.look_after();
        self.tell_recorded(kind, &path, duration_ms);
        self.note_handed_over(&lock);
        info!(job_id, trigger_id, %kind, savepoint_path = path, checkpoint_id, bytes, duration_ms, "Restore point recorded");
        if let Some(job) = self.jobs.get_mut(key) {
            let known = std::mem::take(&mut job.evidence);
            job.evidence = Evidence {
                fallback: known.fallback,
                // After a fallback the failure still stands, or the next turn would ask for another stop.
                failure: known.failure.filter(|_| !new.close_intent),
                ..Evidence::default()
            };
        }
        Next::Turn
    }

    fn restore_point(&self, key: &str, new: &NewPoint) -> RestorePoint {
        let entry = self.pointer.jobs.get(key);
        let run = entry.and_then(|entry| entry.run.as_ref());
        let intent = entry
            .and_then(|entry| entry.intent.as_ref())
            .filter(|_| new.close_intent);
        let ask = self.jobs.get(key).and_then(|job| job.ask.as_ref());
        let reason = intent
            .map(|intent| intent.reason)
            .or(ask.map(|ask| ask.reason));
        let view = self.jobs.get(key).and_then(|job| job.view.as_ref());
        RestorePoint {
            path: new.path.clone(),
            kind: new.kind,
            checkpoint_id: new.verified.as_ref().map(|verified| verified.checkpoint_id),
            job_id: intent
                .map(|intent| intent.job_id)
                .or(view.map(|view| view.id))
                .or(run.and_then(|run| run.job_id)),
            lineage: entry.map_or(0, |entry| entry.lineage),
            run: run.map(|run| run.id.clone()),
            reason: reason.unwrap_or(TriggerReason::Manual),
            started: intent.map(|intent| intent.stored),
            completed: Timestamp::now(),
            size: new.verified.as_ref().map(|verified| verified.size),
            flink_version: run.map(|run| run.flink_version.clone()),
            superseded: false,
            claimed: false,
        }
    }

    /// The savepoint under way, by which the log lines about it are joined.
    pub(super) fn open_trigger(&self, key: &str) -> Option<String> {
        let intent = self.pointer.jobs.get(key)?.intent.as_ref()?;
        Some(intent.trigger.to_string())
    }

    async fn abandon(&mut self, key: &str, cause: FailureCause) -> Next {
        let intent = self
            .pointer
            .jobs
            .get(key)
            .and_then(|entry| entry.intent.as_ref());
        let trigger_id = intent.map(|intent| intent.trigger.to_string());
        let reason = intent.map(|intent| intent.reason);
        if !self.update(key, |entry| entry.intent = None).await {
            return self.unwritable(key);
        }
        warn!(
            job = key,
            trigger_id,
            cause = cause.root,
            retry = cause.class.is_retryable(),
            "Savepoint failed"
        );
        own().savepoint_failed(reason.unwrap_or(TriggerReason::Manual));
        self.tell(Event::warning(
            "SavepointFailed",
            &format!("Savepoint of job {key} failed: {cause}"),
        ));
        if let Some(job) = self.jobs.get_mut(key) {
            let attempts = job
                .evidence
                .failure
                .as_ref()
                .map_or(0, |(_, attempts, _)| *attempts);
            job.evidence = Evidence {
                failure: Some((cause, attempts + 1, Timestamp::now())),
                ..Evidence::default()
            };
            job.refused = None;
            // How the job stands after it is what decides on the next attempt.
            job.view = None;
        }
        Next::At(Timestamp::now())
    }

    /// The pointer could not be written: this turn is taken back, and the next one comes a little later.
    fn unwritable(&mut self, key: &str) -> Next {
        let Some(job) = self.jobs.get_mut(key) else {
            return Next::Turn;
        };
        job.unwritable = true;
        let (now, reserve) = (Timestamp::now(), self.policy.reserve);
        let overdue = job.ask.as_ref().is_some_and(|ask: &Ask| {
            let reserve = if ask.must_end {
                reserve
            } else {
                Duration::ZERO
            };
            after(now, reserve) >= ask.deadline
        });
        if overdue {
            let why = "the pointer could not be written".to_owned();
            return self.settle_job(key, Outcome::Nothing(why));
        }
        Next::At(after(Timestamp::now(), Duration::from_millis(500)))
    }
}

/// The job is over for its owner, by order.
fn stopped_by_order(entry: &JobEntry) -> Ended {
    Ended {
        status: JobStatus::Canceled,
        at: Timestamp::now(),
        owner: entry
            .run
            .as_ref()
            .map(|run| run.owner.clone())
            .unwrap_or_default(),
    }
}

/// What Flink will answer to the same request again, whoever sends it.
fn refusal(error: &RestError) -> Option<FailureCause> {
    match error {
        RestError::BadRequest { cause, .. } => Some(cause.clone()),
        _ => None,
    }
}
