//! What is looked at while a job runs: whether it restored what was chosen, which checkpoints it completes, and whether
//! its code overrides what Drey relies on.

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::planner::Completed;
use super::{Supervisor, random};
use crate::domain::job::{JobId, JobStatus, JobView};
use crate::domain::pointer::{JobEntry, Parent, Run, RunId};
use crate::domain::restore::{Restored, restore_mismatch};
use crate::flink::rest::RestError;
use crate::flink::restore_keys::RestoreKeys;
use crate::flink::wire::{CheckpointConfig, CheckpointStats};
use crate::status_page::story::{Mark, Marks};
use crate::telemetry::one_line;

/// What has been seen of one job in its present run.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The restored checkpoint was compared with the chosen one.
    compared: bool,
    completed: Option<i64>,
    /// It was noted in the pointer, or that was tried.
    proof_noted: bool,
    /// For people.
    marks: Marks,
    /// What Flink says of the job's checkpoints; `None` inside: it has none at all.
    config: Option<Option<CheckpointConfig>>,
    stopped_outside: Option<String>,
}

impl Watch {
    pub(super) fn stopped_outside(&self) -> Option<&str> {
        self.stopped_outside.as_deref()
    }

    pub(super) fn completed(&self) -> Option<i64> {
        self.completed
    }

    pub(super) fn marks(&self) -> Vec<Mark> {
        self.marks.all()
    }

    pub(super) fn interval_ms(&self) -> Option<u64> {
        let interval = self.config.as_ref()?.as_ref()?.interval?;
        u64::try_from(interval.as_millis()).ok()
    }

    /// The job is known to take no checkpoints.
    pub(super) fn takes_no_checkpoints(&self) -> bool {
        self.config.is_some() && self.interval_ms().is_none()
    }

    /// What a person should know.
    pub(super) fn problems(&self) -> Vec<String> {
        let Some(config) = &self.config else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        let interval = config.as_ref().and_then(|config| config.interval);
        let retained = config
            .as_ref()
            .is_some_and(|config| config.externalization.retained());
        if interval.is_none() {
            problems.push(
                "the job takes no checkpoints; without a savepoint it starts from empty state: \
                 set execution.checkpointing.interval"
                    .to_owned(),
            );
        } else if !retained {
            problems.push(
                "the job's code overrides the retention of its checkpoints: they are deleted when the JobManager \
                 ends; use RETAIN_ON_CANCELLATION there"
                    .to_owned(),
            );
        }
        problems
    }
}

impl Supervisor {
    /// Looks at the checkpoints of every job that Flink has shown.
    pub(super) async fn watch_jobs(&mut self) {
        let seen: Vec<(String, JobView)> = self
            .jobs
            .iter()
            .filter_map(|(key, job)| Some((key.clone(), job.view.clone()?)))
            .collect();
        for (key, view) in seen {
            // While savepoints are wanted at once, only a job that is over is looked at.
            let quiet =
                self.shutdown.is_none() && self.jobs.get(&key).is_some_and(|job| job.ask.is_none());
            let wanted = match view.status {
                JobStatus::Finished => true,
                JobStatus::Running => quiet || self.is_new(&key, &view),
                _ => false,
            };
            if wanted {
                self.watch_job(&key, &view).await;
            }
            if quiet && !view.status.is_globally_terminal() {
                self.judge_health(&key, &view).await;
            }
        }
    }

    fn is_new(&self, key: &str, view: &JobView) -> bool {
        let run = self
            .pointer
            .jobs
            .get(key)
            .and_then(|entry| entry.run.as_ref());
        run.is_none_or(|run| run.job_id != Some(view.id))
    }

    async fn watch_job(&mut self, key: &str, view: &JobView) {
        let Some(cluster) = &self.cluster else { return };
        let (application, known) = (
            cluster.application,
            self.jobs
                .get(key)
                .is_some_and(|job| job.watch.config.is_some()),
        );
        let stats = match cluster.rest.checkpoints(view.id).await {
            Ok(stats) => stats,
            Err(error) => {
                tracing::debug!(job_id = %view.id, error = one_line(&error, 300), "No checkpoint statistics");
                return;
            }
        };
        if !known && view.status == JobStatus::Running {
            // 404 means that the job has no checkpointing at all.
            let config = match cluster.rest.checkpoint_config(view.id).await {
                Ok(config) => Some(Some(config)),
                Err(RestError::NotFound { .. }) => Some(None),
                Err(_) => None,
            };
            self.learn_config(key, config);
        }
        if !application && self.is_new(key, view) {
            self.begin_session_job(key, view, &stats).await;
        }
        self.compare(key, view, &stats).await;
        self.note_completed(key, &stats);
        self.note_proof(key).await;
        if let Some(job) = self.jobs.get_mut(key) {
            job.health.note(&stats);
            job.watch.marks.note(&stats.history);
        }
        if view.status == JobStatus::Finished
            && let Some(job) = self.jobs.get_mut(key)
        {
            job.watch.stopped_outside = stopped_with_savepoint(&stats);
        }
    }

    fn learn_config(&mut self, key: &str, config: Option<Option<CheckpointConfig>>) {
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        job.watch.config = config;
        for problem in job.watch.problems() {
            warn!(job = key, problem, "Job is not well protected");
        }
    }

    /// What was restored must be what was chosen. After a failover, plain savepoints of the past that was taken back
    /// count no longer.
    async fn compare(&mut self, key: &str, view: &JobView, stats: &CheckpointStats) {
        let restored = stats.latest.restored.as_ref().map(|restored| {
            let at = Timestamp::from_millisecond(restored.restore_timestamp);
            (signed(restored.id), at.unwrap_or(Timestamp::UNIX_EPOCH))
        });
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        let first = !std::mem::replace(&mut job.watch.compared, true);
        if first {
            self.compare_with_choice(key, view, stats).await;
        }
        // In every turn: a savepoint from before the failover may be recorded after it was noticed.
        if let Some((id, at)) = restored {
            self.supersede(key, id, at).await;
        }
    }

    async fn compare_with_choice(&mut self, key: &str, view: &JobView, stats: &CheckpointStats) {
        let Some(entry) = self
            .pointer
            .jobs
            .get(key)
            .filter(|entry| entry.frozen.is_none())
        else {
            return;
        };
        let Some(run) = entry.run.as_ref() else {
            return;
        };
        let restored = stats.latest.restored.as_ref().map(|restored| Restored {
            checkpoint_id: signed(restored.id),
            path: restored.external_path.clone(),
        });
        match restore_mismatch(run, view.id, restored.as_ref()) {
            Some(mismatch) => {
                error!(job_id = %view.id, mismatch, "Flink did not restore what was chosen: the pointer is frozen");
                self.update(key, |entry| entry.frozen = Some(mismatch.clone()))
                    .await;
            }
            // A supervisor that takes over may find it stopped by what the last one had begun.
            None if view.status != JobStatus::Running => {}
            None => {
                let checkpoint_id = restored.map(|restored| restored.checkpoint_id);
                info!(job_id = %view.id, name = view.name, restored_checkpoint_id = checkpoint_id, "Job is running");
            }
        }
    }

    async fn supersede(&mut self, key: &str, id: i64, at: Timestamp) {
        let mut entry = self.pointer.jobs.get(key).cloned().unwrap_or_default();
        let changed = entry.supersede_above(id, at);
        let again = |known: &mut JobEntry| {
            known.supersede_above(id, at);
        };
        if changed && self.update(key, again).await {
            warn!(
                job = key,
                restored_checkpoint_id = id,
                "Job restored from an older checkpoint: newer plain savepoints count no longer"
            );
        }
    }

    /// Remembers the newest completed checkpoint, so that a start can tell when it has been lost.
    fn note_completed(&mut self, key: &str, stats: &CheckpointStats) {
        let latest = stats
            .latest
            .completed
            .as_ref()
            .filter(|latest| !latest.discarded);
        let completed = latest.map(|latest| signed(latest.id));
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        if completed <= job.watch.completed {
            return;
        }
        job.watch.completed = completed;
        let application = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.application);
        let run = self
            .pointer
            .jobs
            .get(key)
            .and_then(|entry| entry.run.as_ref());
        // Only a retained checkpoint is missed when it is not there any more.
        let retained = job
            .watch
            .config
            .as_ref()
            .and_then(Option::as_ref)
            .is_some_and(|config| config.externalization.retained());
        if let (Some(checkpoint_id), Some(run), true) = (
            completed,
            run,
            application && retained && run.is_some_and(|run| run.checkpoint_dir.is_some()),
        ) {
            let completed = Completed {
                run: run.id.clone(),
                checkpoint_id,
            };
            if let Err(error) = completed.save(&self.settings) {
                warn!(
                    error = one_line(&error, 300),
                    "Completed checkpoint could not be noted"
                );
            }
        }
    }

    /// The run needs nothing that is older than its own first checkpoint: noted once, in the pointer.
    async fn note_proof(&mut self, key: &str) {
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        if job.watch.completed.is_none() || std::mem::replace(&mut job.watch.proof_noted, true) {
            return;
        }
        let now = Timestamp::now();
        let entry = self.pointer.jobs.get(key);
        if entry.is_some_and(|entry| entry.run.is_some() && entry.clone().prove(now)) {
            self.update(key, |entry| {
                entry.prove(now);
            })
            .await;
        }
        self.look_after();
    }

    /// A job of a session cluster was submitted: its run begins, in the lineage that it was restored from.
    async fn begin_session_job(&mut self, key: &str, view: &JobView, stats: &CheckpointStats) {
        let run = self.session_run(view, stats);
        let parent = run.parent.clone();
        let entry = self.pointer.jobs.get(key);
        let continues = entry
            .zip(parent.as_ref())
            .is_some_and(|(entry, parent)| entry.continued_by(parent));
        if !continues && entry.is_some_and(|entry| !entry.cleared && entry.person_decided()) {
            // What a person chose is for the job that will be submitted from it, not for the one that still runs.
            return;
        }
        self.update(key, |entry| {
            if !continues && (entry.run.is_some() || !entry.history.is_empty()) {
                entry.open_lineage();
            }
            entry.ended = None;
            entry.intent = None;
            entry.run = Some(run.clone());
            entry.note_start();
        })
        .await;
        self.ask_shutdown(key);
    }

    fn session_run(&self, view: &JobView, stats: &CheckpointStats) -> Run {
        let parent = stats.latest.restored.as_ref().and_then(|restored| {
            Some(Parent {
                path: restored.external_path.clone()?,
                checkpoint_id: Some(signed(restored.id)),
            })
        });
        self.run_of(view.id, parent)
    }

    /// A run of the session cluster's job with the id `job`.
    pub(super) fn run_of(&self, job: JobId, parent: Option<Parent>) -> Run {
        let cluster = self.cluster.as_ref();
        let configuration = cluster.map(|cluster| &cluster.configuration);
        let version = cluster.map(|cluster| cluster.version);
        let id = RunId::from_bytes(random());
        let option = |base: &Option<String>, savepoints: bool| {
            let keys = RestoreKeys::of(version?);
            let key = if savepoints {
                keys.savepoint_dir()
            } else {
                keys.checkpoint_dir()
            };
            let base = base.as_deref().or_else(|| key.find_in(configuration?))?;
            Some(base.trim_end_matches('/').to_owned())
        };
        let savepoints = option(&self.settings.savepoint_dir, true);
        Run {
            job_id: Some(job),
            parent,
            checkpoint_dir: option(&self.settings.checkpoint_dir, false)
                .map(|base| format!("{base}/{job}")),
            savepoint_dir: savepoints
                .map(|base| format!("{base}/{}/{id}", self.settings.cluster_id)),
            stored: Timestamp::now(),
            owner: self.owner(),
            flink_version: version
                .map(|version| version.to_string())
                .unwrap_or_default(),
            id,
        }
    }
}

/// The savepoint with which a finished job was stopped, whoever ordered that.
fn stopped_with_savepoint(stats: &CheckpointStats) -> Option<String> {
    let last = stats.latest.savepoint.as_ref()?;
    let sync = last.checkpoint_type.as_deref() == Some("SYNC_SAVEPOINT");
    let newest = stats
        .latest
        .completed
        .as_ref()
        .is_none_or(|completed| completed.id < last.id);
    last.external_path.clone().filter(|_| sync && newest)
}

/// Flink's checkpoint ids are positive and rise by one.
fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
