//! What the launcher and people ask of the supervisor.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::cluster::Cluster;
use super::planner::storage_for;
use super::{Job, Shutdown, Supervisor, log_start};
use crate::control::{Prepare, Reply, SavepointCall};
use crate::domain::budget::after;
use crate::domain::job::JobStatus;
use crate::domain::pointer::{APPLICATION, Ended, JobEntry, Pointer, RunId, TriggerReason};
use crate::domain::restore::person_chose;
use crate::domain::savepoint::{SavepointFormat, SavepointKind};
use crate::domain::supervise::{Ask, Process, Verdict};
use crate::restore_points::verify;
use crate::telemetry::one_line;

impl Supervisor {
    /// The launcher has started Flink, or tells a restarted supervisor about it.
    pub(super) fn started(
        &mut self,
        flink: &Prepare,
        run: RunId,
        pid: i32,
        adopted: bool,
    ) -> Reply {
        let known = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.run == run);
        if known && self.pid == Some(pid) {
            return Reply::Done;
        }
        let cluster = match Cluster::new(&self.settings, flink, run) {
            Ok(cluster) => cluster,
            Err(error) => return Reply::Failed { error, code: 64 },
        };
        log_start(&cluster, adopted);
        self.note_start();
        self.storage = storage_for(&self.settings, &flink.configuration);
        self.jobs.clear();
        if cluster.application {
            self.jobs.insert(APPLICATION.to_owned(), Job::default());
        }
        self.cluster = Some(cluster);
        self.runs_with(flink);
        self.process = Process::Running;
        self.pid = Some(pid);
        if self.shutdown.is_some() {
            self.ask_all();
        }
        Reply::Done
    }

    /// Flink has ended, by order or by itself.
    pub(super) async fn flink_ended(&mut self, code: Option<i32>) {
        info!(code, "Flink ended");
        self.process = Process::Gone;
        self.pid = None;
        let Some(cluster) = self.cluster.as_mut() else {
            return;
        };
        cluster.reachable = false;
        self.died_on_trial().await;
        let Some(cluster) = &self.cluster else { return };
        // Before 1.15 an application's JobManager ends by itself when its job is done, and this is all there is to see.
        let finished = cluster.application && !cluster.version.at_least(1, 15) && code == Some(0);
        for job in self.jobs.values_mut() {
            job.view = None;
            job.settled = None;
            job.evidence.late = None;
            job.evidence.fallback = None;
        }
        let entry = self.pointer.jobs.get(APPLICATION);
        let open = entry.is_some_and(|entry| {
            entry.intent.is_none()
                && entry.ended.is_none()
                && !entry.person_decided()
                && !stopped(entry)
        });
        if finished && open {
            self.record_ended(APPLICATION, JobStatus::Finished).await;
        }
    }

    pub(super) async fn record_ended(&mut self, key: &str, status: JobStatus) -> bool {
        let owner = self
            .pointer
            .jobs
            .get(key)
            .and_then(|entry| entry.run.as_ref())
            .map(|run| run.owner.clone());
        let ended = Ended {
            status,
            at: Timestamp::now(),
            owner: owner.unwrap_or_default(),
        };
        let recorded = self
            .update(key, |entry| entry.ended = Some(ended.clone()))
            .await;
        if recorded {
            info!(job = key, %status, "Job ended by itself");
        }
        recorded
    }

    /// The process has to end within `budget`.
    pub(super) fn shut_down(&mut self, budget: Duration) -> Reply {
        let since = Timestamp::now();
        let deadline = after(since, budget);
        let earlier = self.shutdown.map(|shutdown| shutdown.deadline);
        let deadline = earlier.map_or(deadline, |earlier| earlier.min(deadline));
        if self.shutdown.is_none() {
            info!(
                cluster_id = self.settings.cluster_id,
                budget_s = budget.as_secs_f64(),
                "Shutdown asked for"
            );
        }
        self.shutdown = Some(Shutdown { since, deadline });
        self.ask_all();
        Reply::Done
    }

    /// Every job is to be stopped with a savepoint. Who waits for a plain one gets the stop's instead.
    pub(super) fn ask_all(&mut self) {
        let keys: Vec<String> = self.jobs.keys().cloned().collect();
        for key in keys {
            self.ask_shutdown(&key);
        }
    }

    pub(super) fn ask_shutdown(&mut self, key: &str) {
        let Some(Shutdown { since, deadline }) = self.shutdown else {
            return;
        };
        let ask = self.stop_ask(key, TriggerReason::Shutdown, since, deadline, true);
        if let Some(job) = self.jobs.get_mut(key) {
            job.ask = Some(ask);
            job.settled = None;
        }
    }

    /// A stop-with-savepoint of the job under `key`.
    pub(super) fn stop_ask(
        &self,
        key: &str,
        reason: TriggerReason,
        since: Timestamp,
        deadline: Timestamp,
        must_end: bool,
    ) -> Ask {
        Ask {
            kind: SavepointKind::Stop { drain: false },
            reason,
            format: self.stop_format(),
            other_format: self.other_format(),
            directory: self.savepoint_dir(key),
            since,
            deadline,
            must_end,
        }
    }

    /// Native savepoints are faster; before 1.20 the changelog state backend cannot make any, and the attempt takes the
    /// running tasks down.
    pub(super) fn stop_format(&self) -> Option<SavepointFormat> {
        let cluster = self
            .cluster
            .as_ref()
            .filter(|cluster| cluster.version.at_least(1, 15))?;
        let on = |key: &str| {
            cluster
                .configuration
                .get(key)
                .is_some_and(|value| value == "true")
        };
        let changelog = on("state.backend.changelog.enabled") || on("state.changelog.enabled");
        let able = cluster.version.at_least(1, 20) || !changelog;
        let fastest = if able {
            SavepointFormat::Native
        } else {
            SavepointFormat::Canonical
        };
        Some(self.settings.savepoint_format.unwrap_or(fastest))
    }

    /// What else can be tried, unless the user has decided.
    fn other_format(&self) -> Option<SavepointFormat> {
        let open = self.settings.savepoint_format.is_none();
        self.stop_format()
            .filter(|format| open && *format == SavepointFormat::Native)
            .map(|_| SavepointFormat::Canonical)
    }

    pub(super) fn savepoint_dir(&self, key: &str) -> Option<String> {
        self.pointer
            .jobs
            .get(key)?
            .run
            .as_ref()?
            .savepoint_dir
            .clone()
    }

    /// A person wants a savepoint. `back` is answered when it is recorded or has failed.
    pub(super) fn want_savepoint(&mut self, wanted: SavepointCall, back: oneshot::Sender<Reply>) {
        let refuse = |error: String, code: u8, back: oneshot::Sender<Reply>| {
            let _ = back.send(Reply::Failed { error, code });
        };
        if self.shutdown.is_some() {
            return refuse(
                "the job is being shut down, with a savepoint of its own".to_owned(),
                75,
                back,
            );
        }
        if self.process == Process::Gone {
            return refuse("Flink is not running".to_owned(), 75, back);
        }
        let key = match self.find_job(wanted.job.as_deref()) {
            Ok(key) => key,
            Err(error) => return refuse(error, 64, back),
        };
        let Some(ask) = self.manual_ask(&key, &wanted) else {
            let error =
                "Flink before 1.15 has but one savepoint format; leave out `--format`".to_owned();
            return refuse(error, 64, back);
        };
        let job = self.jobs.entry(key).or_default();
        if job.ask.is_some() || job.rescaling.is_some() {
            return refuse(
                "another savepoint or a rescaling of this job is under way; try again when it is done".to_owned(),
                75,
                back,
            );
        }
        job.ask = Some(ask);
        job.evidence = crate::domain::supervise::Evidence::default();
        job.logged = None;
        job.waiters.push(back);
    }

    fn manual_ask(&self, key: &str, wanted: &SavepointCall) -> Option<Ask> {
        let since = Timestamp::now();
        let native = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.version.at_least(1, 15));
        if wanted.format.is_some() && !native {
            return None;
        }
        Some(Ask {
            kind: if wanted.stop {
                SavepointKind::Stop {
                    drain: wanted.drain,
                }
            } else {
                SavepointKind::Savepoint
            },
            reason: TriggerReason::Manual,
            format: wanted.format.or(self.stop_format()),
            other_format: None,
            directory: self.savepoint_dir(key),
            since,
            deadline: after(since, Duration::from_millis(wanted.timeout_ms)),
            must_end: false,
        })
    }

    /// The key of the job that a person means: by key, by id, or the only one.
    pub(super) fn find_job(&self, wanted: Option<&str>) -> Result<String, String> {
        let all: Vec<&String> = self.jobs.keys().collect();
        let names = || {
            all.iter()
                .map(|key| format!("{key:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match (wanted, all.as_slice()) {
            (None, [only]) => Ok((*only).clone()),
            (None, []) => Err("there is no job".to_owned()),
            (None, _) => Err(format!(
                "there are several jobs; name one with `--job`: {}",
                names()
            )),
            (Some(wanted), _) => {
                let by_id = |job: &Job| {
                    job.view
                        .as_ref()
                        .is_some_and(|view| view.id.to_string() == wanted || view.name == wanted)
                };
                let found = self
                    .jobs
                    .iter()
                    .find(|(key, job)| *key == wanted || by_id(job));
                found
                    .map(|(key, _)| key.clone())
                    .ok_or_else(|| format!("there is no job {wanted:?}; there is: {}", names()))
            }
        }
    }

    pub(super) async fn set_pointer(&mut self, path: &str, job: Option<&str>) -> Reply {
        let verdict = verify(&self.storage, path).await;
        let (key, allow) = (job.unwrap_or(APPLICATION), self.settings.allow_unverified);
        self.by_a_person(key, |pointer| {
            choose(pointer, key, path, verdict.clone(), allow)
        })
        .await
    }

    pub(super) async fn clear_pointer(&mut self, job: Option<&str>) -> Reply {
        let key = job.unwrap_or(APPLICATION);
        self.by_a_person(key, |pointer| clear(pointer, key)).await
    }

    async fn by_a_person(
        &mut self,
        key: &str,
        change: impl Fn(&mut Pointer) -> Result<(), String>,
    ) -> Reply {
        if let Err(error) = change(&mut self.pointer.clone()) {
            return Reply::failed(error);
        }
        // Theirs, should somebody else have written, may lack the job: then nothing is changed.
        let written = self.write(|pointer| drop(change(pointer))).await;
        if let Err(error) = written {
            return Reply::failed(one_line(&error, 400));
        }
        let restore_point = self
            .pointer
            .jobs
            .get(key)
            .and_then(JobEntry::newest)
            .map(|point| point.path.as_str());
        warn!(job = key, restore_point, "Pointer changed by a person");
        Reply::Pointer {
            pointer: Some(Box::new(self.pointer.clone())),
        }
    }
}

/// Makes the next start of the job under `key` resume from `path`, whatever its abandoned runs made.
///
/// # Errors
/// When `path` is not a complete savepoint or checkpoint.
pub fn choose(
    pointer: &mut Pointer,
    key: &str,
    path: &str,
    verdict: Verdict,
    allow_unverified: bool,
) -> Result<(), String> {
    let verified = match verdict {
        Verdict::Good(verified) => Some(verified),
        Verdict::Unsupported(_) if allow_unverified => None,
        Verdict::Unsupported(why) => {
            return Err(format!(
                "{path} cannot be read back: {why}; accept it with `--allow-unverified`"
            ));
        }
        Verdict::Missing => {
            return Err(format!(
                "there is no savepoint or checkpoint at {path}; the pointer is as it was"
            ));
        }
        Verdict::Damaged(why) => {
            return Err(format!(
                "{path} cannot be used: {why}; the pointer is as it was"
            ));
        }
        Verdict::Unreachable(why) => {
            return Err(format!(
                "{path} could not be read: {why}; try again when it can"
            ));
        }
    };
    person_chose(
        pointer.entry(key),
        path,
        verified.as_ref(),
        Timestamp::now(),
    );
    Ok(())
}

/// Makes the next start of the job under `key` begin from empty state. What was recorded stays to be seen.
///
/// # Errors
/// When there is no such job.
pub fn clear(pointer: &mut Pointer, key: &str) -> Result<(), String> {
    let known = pointer
        .jobs
        .keys()
        .map(|key| format!("{key:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let Some(entry) = pointer.jobs.get_mut(key) else {
        return Err(format!(
            "there is no job {key:?} in the pointer; there is: {known}"
        ));
    };
    entry.open_lineage();
    entry.cleared = true;
    Ok(())
}

/// The present run ended with a stop-with-savepoint.
fn stopped(entry: &JobEntry) -> bool {
    use crate::domain::pointer::PointKind;
    let run = entry.run.as_ref().map(|run| &run.id);
    entry
        .newest()
        .is_some_and(|point| point.kind == PointKind::Stop && point.run.as_ref() == run)
}
