//! One job's turns: observe, decide, act, until there is something to wait for.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, error, info, warn};

use super::Supervisor;
use crate::control::Reply;
use crate::domain::budget::after;
use crate::domain::pointer::{Intent, JobEntry, RestorePoint, TriggerReason};
use crate::domain::savepoint::{
    FailureCause, OperationStatus, SavepointKind, SavepointRequest, TriggerId,
};
use crate::domain::supervise::{
    Action, Ask, Evidence, NewPoint, Observation, Outcome, Process, Sighting, Verdict, decide,
};
use crate::flink::rest::RestError;
use crate::flink::wire::{CheckpointPhase, CheckpointStats};
use crate::kill_point;
use crate::kubernetes::events::Event;
use crate::restore_points::{late_savepoint, newest_checkpoint, verify};
use crate::telemetry::one_line;

/// More turns in a row than any story needs.
const TURNS: usize = 64;

/// What an action leads to.
enum Next {
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

    /// What Flink says of the open intent.
    async fn operation(&mut self, key: &str) -> Option<Sighting<OperationStatus>> {
        if let Some(job) = self.jobs.get_mut(key) {
            job.unwritable = false;
        }
        let intent = self.pointer.jobs.get(key)?.intent.clone()?;
        if let Some(cause) = self.jobs.get(key).and_then(|job| job.refused.clone()) {
            return Some(Sighting::Seen(OperationStatus::Failed(cause)));
        }
        if self.process == Process::Gone {
            return Some(Sighting::Unreachable);
        }
        let seen = self.ask_operation(&intent).await;
        if matches!(seen, Sighting::Seen(OperationStatus::Completed { .. })) {
            kill_point("after-completion");
        }
        if matches!(
            seen,
            Sighting::Seen(OperationStatus::Unknown) | Sighting::Unreachable
        ) {
            // Only the job itself can tell now what that means.
            self.refresh().await;
        }
        Some(seen)
    }

    async fn ask_operation(&self, intent: &Intent) -> Sighting<OperationStatus> {
        let Some(cluster) = &self.cluster else {
            return Sighting::Unreachable;
        };
        if !cluster.version.at_least(1, 15) && intent.flink_trigger.is_none() {
            let fresh = Timestamp::now() < after(intent.stored, Duration::from_secs(4));
            return match cluster.rest.checkpoints(intent.job_id).await {
                Ok(stats) => match by_statistics(&stats, intent) {
                    // The statistics are up to 3 s old (`web.refresh-interval`): a request may not show in them yet.
                    OperationStatus::Unknown if fresh => Sighting::Unreachable,
                    status => Sighting::Seen(status),
                },
                Err(RestError::NotFound { .. }) => Sighting::Seen(OperationStatus::Unknown),
                Err(_) => Sighting::Unreachable,
            };
        }
        let trigger = intent.flink_trigger.unwrap_or(intent.trigger);
        match cluster.rest.operation(intent.job_id, trigger).await {
            Ok(status) => Sighting::Seen(status),
            Err(error) => {
                debug!(error = one_line(&error, 300), "Savepoint status unknown");
                Sighting::Unreachable
            }
        }
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
            Action::Settle(outcome) => return self.settle_job(key, outcome),
        }
        Next::Turn
    }

    fn wait(&mut self, key: &str, until: Timestamp, why: &'static str) -> Next {
        if let Some(job) = self.jobs.get_mut(key)
            && job.waiting != why
        {
            job.waiting = why;
            if job.ask.is_some() && why != "savepoint in progress" {
                info!(job = key, why, "Waiting");
            }
        }
        Next::At(until)
    }

    async fn store_intent(&mut self, key: &str, intent: Intent) -> Next {
        kill_point("before-intent");
        let (job_id, trigger_id, reason) = (intent.job_id, intent.trigger, intent.reason);
        let stop = matches!(intent.kind, SavepointKind::Stop { .. });
        let noted = intent.location.is_some();
        if !self
            .update(key, |entry| entry.intent = Some(intent.clone()))
            .await
        {
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
                info!(job_id = %intent.job_id, trigger_id = %flink_trigger, "Savepoint triggered");
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

    async fn read_back(&mut self, key: &str, path: &str) -> Next {
        let verdict = verify(&self.storage, path).await;
        match &verdict {
            Verdict::Good(verified) => debug!(
                savepoint_path = path,
                checkpoint_id = verified.checkpoint_id,
                bytes = verified.size,
                "Savepoint read back"
            ),
            Verdict::Unsupported(why) if self.settings.allow_unverified => {
                warn!(
                    savepoint_path = path,
                    why, "Savepoint cannot be read back, recorded unverified"
                );
            }
            other => {
                error!(savepoint_path = path, verdict = ?other, "Savepoint could not be read back")
            }
        }
        if let Some(job) = self.jobs.get_mut(key) {
            let again = after(Timestamp::now(), self.policy.retry.first * 5);
            job.evidence.verdict = Some((path.to_owned(), verdict, again));
        }
        Next::Turn
    }

    async fn record(&mut self, key: &str, new: NewPoint) -> Next {
        let point = self.restore_point(key, &new);
        let (path, kind, checkpoint_id) = (point.path.clone(), point.kind, point.checkpoint_id);
        let (job_id, bytes) = (point.job_id.map(|id| id.to_string()), point.size);
        let duration_ms = point
            .started
            .map(|started| point.completed.duration_since(started).as_millis());
        let keep = self.settings.history;
        let lock = self.lock_after(&point);
        let written = self.write_with(
            |pointer| {
                let entry = pointer.entry(key);
                if new.close_intent {
                    entry.intent = None;
                }
                entry.record(point.clone(), keep);
            },
            &*lock,
        );
        let recorded = written.await;
        let recorded = self.is_written(recorded);
        if !recorded {
            return self.unwritable(key);
        }
        kill_point("after-record");
        self.tell_recorded(kind, &path, duration_ms);
        self.note_handed_over(&lock);
        info!(job_id, %kind, savepoint_path = path, checkpoint_id, bytes, duration_ms, "Restore point recorded");
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
        }
    }

    async fn abandon(&mut self, key: &str, cause: FailureCause) -> Next {
        let intent = self
            .pointer
            .jobs
            .get(key)
            .and_then(|entry| entry.intent.as_ref());
        let trigger_id = intent.map(|intent| intent.trigger.to_string());
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

    async fn search_intent(&mut self, key: &str) -> Next {
        let entry = self.pointer.jobs.get(key);
        let directory = entry.and_then(|entry| entry.intent.as_ref()?.directory.clone());
        let known: Vec<String> = entry
            .into_iter()
            .flat_map(|entry| &entry.history)
            .map(|point| point.path.clone())
            .collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let found = match directory {
            Some(directory) => late_savepoint(&self.storage, &directory, &known).await,
            None => Sighting::Absent,
        };
        self.found(key, found, |evidence, found| evidence.late = Some(found))
    }

    async fn search_fallback(&mut self, key: &str) -> Next {
        let run = self
            .pointer
            .jobs
            .get(key)
            .and_then(|entry| entry.run.clone());
        let found = match run {
            Some(run) => newest_checkpoint(&self.storage, &run).await,
            None => Sighting::Absent,
        };
        self.found(key, found, |evidence, found| {
            evidence.fallback = Some(found)
        })
    }

    fn found<T>(
        &mut self,
        key: &str,
        found: Sighting<T>,
        note: impl FnOnce(&mut Evidence, Sighting<T>),
    ) -> Next {
        let away = matches!(found, Sighting::Unreachable);
        let again = self.jobs.get_mut(key).is_some_and(|job| {
            let again = std::mem::replace(&mut job.searched_in_vain, away);
            note(&mut job.evidence, found);
            again
        });
        // The first answer is looked at at once, so that a passed deadline is; then there is a pause between attempts.
        if away && again {
            Next::At(after(Timestamp::now(), self.policy.retry.first))
        } else {
            Next::Turn
        }
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

    fn settle_job(&mut self, key: &str, outcome: Outcome) -> Next {
        let idle = Next::At(after(Timestamp::now(), self.policy.idle));
        let process = self.process;
        let mut untold = None;
        let Some(job) = self.jobs.get_mut(key) else {
            return idle;
        };
        let manual = job.ask.as_ref().is_some_and(|ask| !ask.must_end);
        let worth_it = job.ask.is_some() || process == Process::Running;
        if worth_it && job.logged.as_ref() != Some(&outcome) {
            log_outcome(key, &outcome, manual);
            job.logged = Some(outcome.clone());
            untold = Some(outcome.clone());
        }
        for back in job.waiters.drain(..) {
            let _ = back.send(answer(&outcome));
        }
        if manual {
            job.ask = None;
            job.evidence = Evidence::default();
        } else {
            // A job that runs on without having been asked for anything is not done with.
            let done = job.ask.is_some()
                || process == Process::Gone
                || !matches!(outcome, Outcome::Nothing(_));
            job.settled = done.then_some(outcome);
        }
        if let Some(outcome) = untold {
            self.tell_outcome(key, &outcome);
        }
        if manual { Next::Turn } else { idle }
    }
}

/// How the savepoint of `intent` stands when Flink chose its trigger id (before 1.15) and the answer was lost: it is the
/// one in the directory that is named after the intent. One in progress does not show its directory and is taken for it.
fn by_statistics(stats: &CheckpointStats, intent: &Intent) -> OperationStatus {
    let own = format!("/{}/", intent.trigger);
    let mut savepoints = stats.history.iter().filter(|entry| entry.is_savepoint);
    let path = savepoints.clone().find_map(|entry| {
        let path = entry.external_path.as_ref()?;
        (entry.status == CheckpointPhase::Completed && path.contains(&own)).then_some(path)
    });
    match path {
        Some(path) => OperationStatus::Completed {
            location: path.clone(),
        },
        None if savepoints.any(|entry| entry.status == CheckpointPhase::InProgress) => {
            OperationStatus::InProgress
        }
        None => OperationStatus::Unknown,
    }
}

/// What Flink will answer to the same request again, whoever sends it.
fn refusal(error: &RestError) -> Option<FailureCause> {
    match error {
        RestError::BadRequest { cause, .. } => Some(cause.clone()),
        _ => None,
    }
}

fn answer(outcome: &Outcome) -> Reply {
    match outcome {
        Outcome::Recorded(path) => Reply::Savepoint { path: path.clone() },
        Outcome::Fallback(path, why) => Reply::failed(format!(
            "no savepoint: {why}; the restore point is the retained checkpoint {path}"
        )),
        Outcome::Ended(status) => Reply::failed(format!("no savepoint: the job is {status}")),
        Outcome::Nothing(why) => {
            Reply::failed(format!("no savepoint: {why}; the pointer is as it was"))
        }
    }
}

fn log_outcome(key: &str, outcome: &Outcome, manual: bool) {
    match outcome {
        Outcome::Recorded(path) => info!(job = key, savepoint_path = path, "Savepoint done"),
        Outcome::Fallback(path, why) => {
            warn!(
                job = key,
                savepoint_path = path,
                why,
                "No savepoint in time: the restore point is a retained checkpoint"
            );
        }
        Outcome::Ended(status) => info!(job = key, %status, "Job is over"),
        Outcome::Nothing(why) if manual => warn!(job = key, why, "No savepoint"),
        Outcome::Nothing(why) => error!(
            job = key,
            why, "Nothing was recorded: the pointer is as it was before"
        ),
    }
}
