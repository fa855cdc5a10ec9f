//! What a turn looks for: how the open intent stands in Flink, and savepoints and checkpoints in the storage.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, error, info, warn};

use super::Supervisor;
use super::turn::Next;
use crate::domain::budget::after;
use crate::domain::pointer::Intent;
use crate::domain::savepoint::OperationStatus;
use crate::domain::supervise::{Evidence, Process, Sighting, Verdict};
use crate::flink::rest::RestError;
use crate::flink::wire::{CheckpointPhase, CheckpointStats};
use crate::kill_point;
use crate::restore_points::{late_savepoint, newest_checkpoint, verify};
use crate::telemetry::one_line;

impl Supervisor {
    /// What Flink says of the open intent.
    pub(super) async fn operation(&mut self, key: &str) -> Option<Sighting<OperationStatus>> {
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
                debug!(trigger_id = %intent.trigger, error = one_line(&error, 300), "Savepoint status unknown");
                Sighting::Unreachable
            }
        }
    }

    pub(super) async fn read_back(&mut self, key: &str, path: &str) -> Next {
        let verdict = verify(&self.storage, path).await;
        let trigger_id = self.open_trigger(key);
        match &verdict {
            Verdict::Good(verified) => info!(
                trigger_id,
                savepoint_path = path,
                checkpoint_id = verified.checkpoint_id,
                bytes = verified.size,
                "Savepoint read back"
            ),
            Verdict::Unsupported(why) if self.settings.allow_unverified => {
                warn!(
                    trigger_id,
                    savepoint_path = path,
                    why,
                    "Savepoint cannot be read back, recorded unverified"
                );
            }
            other => {
                error!(trigger_id, savepoint_path = path, verdict = ?other, "Savepoint could not be read back")
            }
        }
        if let Some(job) = self.jobs.get_mut(key) {
            let again = after(Timestamp::now(), self.policy.retry.first * 5);
            job.evidence.verdict = Some((path.to_owned(), verdict, again));
        }
        Next::Turn
    }

    pub(super) async fn search_intent(&mut self, key: &str) -> Next {
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

    pub(super) async fn search_fallback(&mut self, key: &str) -> Next {
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
