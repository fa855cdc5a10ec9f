//! The restore step: where the next start resumes from, and what has to stand in Flink's configuration for it.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::cluster::{RUN_KEY, high_availability, is_application};
use super::pod::Pod;
use super::{RETRY, Supervisor, random};
use crate::config::Settings;
use crate::control::{Prepare, Reply, StartOrder};
use crate::domain::claim::ClaimMode;
use crate::domain::ha::Start;
use crate::domain::job::JobId;
use crate::domain::pointer::{APPLICATION, JobEntry, PointKind, Pointer, Run, RunId};
use crate::domain::restore::{Choice, RestorePlan, StartView, Strategy, begin, plan_restore};
use crate::domain::savepoint::SavepointKind;
use crate::domain::supervise::{Sighting, Verdict};
use crate::flink::restore_keys::{OptionKey, RestoreKeys};
use crate::flink::version::FlinkVersion;
use crate::kill_point;
use crate::pointer_file::PointerError;
use crate::restore_points::{of_run, verify};
use crate::storage::{Location, Storage, StorageSettings};
use crate::telemetry::one_line;

/// Why a session cluster's JobManager starts without a restore point.
pub(super) const SESSION_START: &str = "a session cluster's jobs are submitted to it";

/// Why there is no start, with the exit code that tells it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoStart {
    /// Why, and what to do.
    pub text: String,
    /// 1 refused, 64 bad usage, 75 may work later.
    pub code: u8,
}

impl NoStart {
    fn usage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 64,
        }
    }
}

/// What a start is planned with.
#[derive(Debug)]
pub struct Planner<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// Where restore points lie.
    pub storage: &'a Storage,
    /// Flink's version.
    pub version: FlinkVersion,
    /// What the launcher told.
    pub flink: &'a Prepare,
    /// Who starts.
    pub owner: &'a str,
}

/// The highest checkpoint id that a run was seen to complete, kept in a file of its own: it changes with every
/// checkpoint, the pointer does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Completed {
    /// The run.
    pub(super) run: RunId,
    /// The id.
    pub(super) checkpoint_id: i64,
}

impl Completed {
    /// The file in the state directory.
    #[must_use]
    pub(super) fn file(settings: &Settings) -> std::path::PathBuf {
        settings.state_dir.join("completed.json")
    }

    /// Replaces what is known. Not synced: after a power failure less is known, and that is all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save(&self, settings: &Settings) -> std::io::Result<()> {
        let file = Self::file(settings);
        let new = file.with_extension("new");
        std::fs::write(&new, serde_json::to_string(self)?)?;
        std::fs::rename(&new, &file)
    }

    /// What is known of `run`; a file that cannot be read only means that less is known.
    #[must_use]
    pub(super) fn load(settings: &Settings, run: Option<&Run>) -> Option<i64> {
        let text = std::fs::read_to_string(Self::file(settings)).ok()?;
        let known: Self = serde_json::from_str(&text).ok()?;
        (Some(&known.run) == run.map(|run| &run.id)).then_some(known.checkpoint_id)
    }
}

impl Planner<'_> {
    /// Where the next start of the application resumes from. Waits for a storage that does not answer.
    ///
    /// # Errors
    /// When the start has to be refused.
    pub async fn plan(&self, entry: &JobEntry) -> Result<RestorePlan, NoStart> {
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            match self.plan_once(entry).await {
                RestorePlan::Refuse(refusal) => {
                    return Err(NoStart {
                        text: format!("not started: {refusal}"),
                        code: 1,
                    });
                }
                RestorePlan::Retry(why) if started.elapsed() >= self.settings.start_timeout => {
                    return Err(NoStart {
                        text: format!("not started: {why}; try again when it answers"),
                        code: 75,
                    });
                }
                RestorePlan::Retry(why) => {
                    attempt += 1;
                    warn!(why, attempt, "Start waits for the storage");
                    tokio::time::sleep(RETRY.wait(attempt)).await;
                }
                plan => return Ok(plan),
            }
        }
    }

    /// One attempt at it.
    pub(super) async fn plan_once(&self, entry: &JobEntry) -> RestorePlan {
        let known: Vec<&str> = entry
            .history
            .iter()
            .map(|point| point.path.as_str())
            .collect();
        let stop = entry
            .intent
            .as_ref()
            .filter(|intent| matches!(intent.kind, SavepointKind::Stop { .. }));
        let directory = stop.and_then(|intent| intent.directory.as_deref());
        let found = of_run(self.storage, entry.run.as_ref(), directory, &known).await;
        let found = match &found {
            Sighting::Seen(found) => Sighting::Seen(found.as_slice()),
            Sighting::Absent => Sighting::Absent,
            Sighting::Unreachable => Sighting::Unreachable,
        };
        let mut verdicts: Vec<(String, Verdict)> = Vec::new();
        loop {
            let plan = plan_restore(&StartView {
                entry,
                strategy: self.settings.restore_strategy,
                owner: self.owner,
                found: found.clone(),
                completed: Completed::load(self.settings, entry.run.as_ref()),
                configured: self.configured(),
                verdicts: &verdicts,
                allow_unverified: self.settings.allow_unverified,
            });
            match plan {
                RestorePlan::Verify(path) => {
                    let verdict = verify(self.storage, &path).await;
                    verdicts.push((path, verdict));
                }
                plan => return plan,
            }
        }
    }

    /// A run that has not been stored yet, with directories and, where Flink does not choose it, a job id of its own.
    ///
    /// # Errors
    /// When there is nowhere to put savepoints.
    pub fn new_run(&self) -> Result<Run, NoStart> {
        let id = RunId::from_bytes(random());
        let keys = RestoreKeys::of(self.version);
        let own = |base: &str| format!("{}/{}/{id}", self.base(base), self.settings.cluster_id);
        let checkpoints = self
            .settings
            .checkpoint_dir
            .as_deref()
            .or(self.option(keys.checkpoint_dir()));
        let savepoints = self
            .settings
            .savepoint_dir
            .as_deref()
            .or(self.option(keys.savepoint_dir()));
        let Some(savepoints) = savepoints else {
            return Err(NoStart::usage(format!(
                "there is nowhere to put savepoints; set {} in Flink's configuration, or `--savepoint-dir URL`",
                keys.savepoint_dir().name
            )));
        };
        for base in [Some(savepoints), checkpoints].into_iter().flatten() {
            self.check_directory(base)?;
        }
        if checkpoints.is_none() {
            let key = keys.checkpoint_dir().name;
            warn!(
                "No checkpoint directory is set ({key}): a job that dies without a savepoint starts from empty state"
            );
        }
        let fixed = is_application(self.settings.mode, self.flink.application)
            && !high_availability(&self.flink.configuration);
        Ok(Run {
            job_id: self
                .flink
                .job_id
                .or_else(|| fixed.then(|| JobId::from_bytes(random()))),
            parent: None,
            checkpoint_dir: checkpoints.map(own),
            savepoint_dir: Some(own(savepoints)),
            stored: Timestamp::now(),
            owner: self.owner.to_owned(),
            flink_version: self.version.to_string(),
            id,
        })
    }

    /// `directory` without the part that an earlier start has put behind it, in the very file that is read here.
    fn base<'d>(&self, directory: &'d str) -> &'d str {
        let directory = directory.trim_end_matches('/');
        let last = self.flink.configuration.get(RUN_KEY);
        last.and_then(|run| directory.strip_suffix(run.as_str())?.strip_suffix('/'))
            .and_then(|rest| {
                rest.strip_suffix(self.settings.cluster_id.as_str())?
                    .strip_suffix('/')
            })
            .unwrap_or(directory)
    }

    fn check_directory(&self, base: &str) -> Result<(), NoStart> {
        let location =
            Location::parse(base).map_err(|error| NoStart::usage(one_line(&error, 400)))?;
        if location.is_supported() || self.settings.allow_unverified {
            return Ok(());
        }
        Err(NoStart::usage(format!(
            "nothing in {base} can be read back, since there is no client for {}:; use file:, s3:, gs: or abfs:, or \
             accept restore points that nobody verified with `--allow-unverified`",
            location.scheme().unwrap_or_default()
        )))
    }

    /// The start path in the user's own configuration.
    fn configured(&self) -> Option<&str> {
        RestoreKeys::of(self.version).configured_start_path(&self.flink.configuration)
    }

    fn option(&self, key: OptionKey) -> Option<&str> {
        key.find_in(&self.flink.configuration)
    }

    /// What has to stand in Flink's configuration for `run` to start as planned.
    ///
    /// # Errors
    /// When the settings ask for what this Flink cannot do.
    pub fn order(
        &self,
        run: &Run,
        choice: Option<&Choice>,
        why: &str,
        cleared: bool,
    ) -> Result<StartOrder, NoStart> {
        let keys = RestoreKeys::of(self.version);
        let mut order = self.common_order(run, why);
        let set = &mut order.set;
        if let Some(dir) = &run.checkpoint_dir {
            set.insert(keys.checkpoint_dir().name.to_owned(), dir.clone());
        }
        if let Some(key) = keys.shutdown_on_application_finish() {
            set.insert(key.name.to_owned(), "false".to_owned());
        }
        if let Some(job) = run.job_id.filter(|_| self.flink.job_id.is_none()) {
            set.insert("$internal.pipeline.job-id".to_owned(), job.to_string());
        }
        let start = keys.start_path();
        if cleared || choice.is_some() || self.settings.restore_strategy == Strategy::None {
            order.remove = start.names().map(str::to_owned).collect();
        }
        if let Some(choice) = choice {
            set.insert(start.name.to_owned(), choice.path.clone());
            order.restore_from = Some(choice.path.clone());
            order.remove.retain(|key| key != start.name);
        }
        self.restore_options(&mut order, choice)?;
        Ok(order)
    }

    /// What every JobManager gets, also that of a session cluster.
    fn common_order(&self, run: &Run, why: &str) -> StartOrder {
        let keys = RestoreKeys::of(self.version);
        let mut set = BTreeMap::from([
            (RUN_KEY.to_owned(), run.id.to_string()),
            // Without it a JobManager that is told to go deletes the checkpoints of its jobs.
            (
                keys.checkpoint_retention().name.to_owned(),
                "RETAIN_ON_CANCELLATION".to_owned(),
            ),
        ]);
        if let Some(dir) = &run.savepoint_dir {
            set.insert(keys.savepoint_dir().name.to_owned(), dir.clone());
        }
        set.extend(result_stores(&self.flink.configuration, run, self.version));
        StartOrder {
            run: run.id.clone(),
            set,
            remove: keys.tripwires(&self.flink.configuration),
            args: Vec::new(),
            restore_from: None,
            why: why.to_owned(),
        }
    }

    /// Claim mode and allow-non-restored-state, which standalone mode takes from nowhere but its arguments (FLINK-40559).
    fn restore_options(
        &self,
        order: &mut StartOrder,
        choice: Option<&Choice>,
    ) -> Result<(), NoStart> {
        let keys = RestoreKeys::of(self.version);
        if self.settings.allow_non_restored_state {
            if self.flink.standalone {
                order.args.push("--allowNonRestoredState".to_owned());
            } else {
                order.set.insert(
                    keys.ignore_unclaimed_state().name.to_owned(),
                    "true".to_owned(),
                );
            }
        }
        if self.flink.standalone {
            return match self.settings.claim_mode {
                Some(ClaimMode::Claim) => Err(NoStart::usage(
                    "standalone mode ignores the claim mode (FLINK-40559) and always uses NO_CLAIM; leave `--claim-mode` at auto",
                )),
                _ => Ok(()),
            };
        }
        let checkpoint = choice.is_some_and(|choice| choice.kind == PointKind::Checkpoint);
        let mode = match self.settings.claim_mode {
            Some(mode) => mode,
            None if checkpoint => ClaimMode::Claim,
            None => ClaimMode::NoClaim,
        };
        if let (Some(key), Some(_)) = (keys.claim_mode(), choice) {
            order
                .set
                .insert(key.name.to_owned(), mode.to_flink().to_owned());
        }
        Ok(())
    }
}

/// With high availability the job keeps its id, so what is left of an earlier run in Flink's result stores would keep the
/// next one from running (FLIP-194): each run has stores of its own.
fn result_stores(
    configuration: &BTreeMap<String, String>,
    run: &Run,
    version: FlinkVersion,
) -> BTreeMap<String, String> {
    let base = configuration.get("high-availability.storageDir");
    let Some(base) = base.filter(|_| high_availability(configuration) && version.at_least(1, 15))
    else {
        return BTreeMap::new();
    };
    let id = configuration.get("kubernetes.cluster-id");
    let id = id.or_else(|| configuration.get("high-availability.cluster-id"));
    let id = id.map_or("default", |id| id.trim_matches('/'));
    let store = |name: &str| {
        let path = format!("{}/{id}/{name}/{}", base.trim_end_matches('/'), run.id);
        (format!("{name}.storage-path"), path)
    };
    let mut stores = BTreeMap::from([store("job-result-store")]);
    if version.at_least(2, 3) {
        stores.extend([store("application-result-store")]);
    }
    stores
}

/// Access to storage as the settings say, and where they are silent, as the environment and Flink's own configuration do.
#[must_use]
pub fn storage_for(settings: &Settings, flink: &BTreeMap<String, String>) -> Storage {
    Storage::new(
        settings
            .storage()
            .over(StorageSettings::from_env(std::env::vars_os()))
            .over(StorageSettings::from_flink(flink)),
    )
}

/// Plans a start, stores the run in `pointer`, and says what has to stand in Flink's configuration. Everything is in
/// `pointer` only: the caller saves it before Flink starts.
///
/// With `again` a run that has been stored but has left no trace is used once more, so that the same step twice gives
/// the same configuration.
///
/// # Errors
/// When the start has to be refused, or the job is over.
pub async fn prepare(
    planner: &Planner<'_>,
    pointer: &mut Pointer,
    again: bool,
) -> Result<Result<StartOrder, RestorePlan>, NoStart> {
    if !is_application(planner.settings.mode, planner.flink.application) {
        let run = planner.new_run()?;
        return Ok(Ok(planner.common_order(&run, SESSION_START)));
    }
    let entry = pointer.entry(APPLICATION);
    let plan = planner.plan(entry).await?;
    let (choice, why) = match &plan {
        RestorePlan::From(choice, why) => (Some(choice), why),
        RestorePlan::Fresh(why) => (None, why),
        _ => return Ok(Err(plan)),
    };
    // A start path that the last start has put into the very file that is read here is not the user's.
    let parent = entry.run.as_ref().and_then(|run| run.parent.as_ref());
    let stale = parent.is_some_and(|parent| planner.configured() == Some(parent.path.as_str()));
    let cleared = entry.cleared || stale;
    let unused = entry
        .run
        .clone()
        .filter(|run| again && unused(run, entry, choice));
    let run = match unused {
        Some(run) => run,
        None => {
            let run = planner.new_run()?;
            begin(entry, choice, run.clone(), planner.settings.history);
            run
        }
    };
    Ok(Ok(planner.order(&run, choice, why, cleared)?))
}

/// A run that started from the same place and has recorded nothing since.
pub(super) fn unused(run: &Run, entry: &JobEntry, choice: Option<&Choice>) -> bool {
    let parent = run.parent.as_ref().map(|parent| parent.path.as_str());
    parent == choice.map(|choice| choice.path.as_str())
        && entry.ended.is_none()
        && entry.intent.is_none()
        && !entry.cleared
        && !entry
            .history
            .iter()
            .any(|point| point.run.as_ref() == Some(&run.id))
}

impl Supervisor {
    pub(super) async fn prepare(&mut self, flink: &Prepare) -> Reply {
        for _ in 0..super::CONFLICTS {
            // In each turn: another JobManager may have begun the run meanwhile.
            match self.weigh_metadata().await {
                Ok(how @ (Start::Join | Start::Resume)) => return self.go_on_with_run(flink, how),
                Ok(Start::Choose | Start::Plain) => {}
                Err(refused) => return refused,
            }
            match self.try_prepare(flink).await {
                Ok(Some(reply)) => return reply,
                // Somebody else has written the pointer: what they wrote is what is planned with.
                Ok(None) => {}
                Err(NoStart { text, code }) => return Reply::Failed { error: text, code },
            }
        }
        Reply::Failed {
            error: "not started: the pointer is being written by somebody else; try again"
                .to_owned(),
            code: 75,
        }
    }

    /// `None` after a conflict.
    async fn try_prepare(&mut self, flink: &Prepare) -> Result<Option<Reply>, NoStart> {
        let version: FlinkVersion = flink.flink_version.parse().map_err(|error| {
            NoStart::usage(format!(
                "Flink's version {:?}: {error}",
                flink.flink_version
            ))
        })?;
        self.storage = storage_for(&self.settings, &flink.configuration);
        let owner = self.owner();
        let planner = Planner {
            settings: &self.settings,
            storage: &self.storage,
            version,
            flink,
            owner: &owner,
        };
        let mut pointer = self.pointer.clone();
        let order = match prepare(&planner, &mut pointer, false).await? {
            Ok(order) => order,
            Err(RestorePlan::Ended(ended)) => {
                return Ok(Some(Reply::Ended {
                    status: ended.status,
                    stay: self.pod.as_ref().is_some_and(Pod::is_restarted),
                }));
            }
            Err(plan) => unreachable_plan(&plan)?,
        };
        kill_point("before-run-stored");
        pointer.seal();
        let unwritable = |error: PointerError| NoStart {
            text: one_line(&error, 400),
            code: 75,
        };
        match self.store.save(&pointer).await {
            Ok(()) => {}
            Err(PointerError::Conflict { .. }) => {
                self.take_over_theirs().await.map_err(unwritable)?;
                return Ok(None);
            }
            Err(PointerError::Away { name, why }) => {
                let aside = self.write_aside(&pointer, name, why).await;
                aside.map_err(unwritable)?;
            }
            Err(error) => return Err(unwritable(error)),
        }
        self.pointer = pointer;
        kill_point("after-run-stored");
        let restore_from = order.restore_from.as_deref().unwrap_or("empty state");
        info!(cluster_id = self.settings.cluster_id, run = %order.run, restore_from, why = order.why, "Restore point chosen");
        Ok(Some(Reply::Start(order)))
    }

    /// The run goes on in another JobManager: with the same job id, directories and start path.
    pub(super) fn go_on_with_run(&self, flink: &Prepare, how: Start) -> Reply {
        let owner = self.owner();
        let parts = flink
            .flink_version
            .parse()
            .ok()
            .zip(self.run_of_application());
        let Some((version, run)) = parts else {
            return Reply::failed("not started: there is no run to go on with");
        };
        let planner = Planner {
            settings: &self.settings,
            storage: &self.storage,
            version,
            flink,
            owner: &owner,
        };
        let choice = run.parent.as_ref().map(|parent| Choice {
            path: parent.path.clone(),
            kind: PointKind::Savepoint,
            verified: None,
        });
        let why = match how {
            Start::Join => "another JobManager of this run is there already",
            _ => "Flink's high-availability metadata are the newest",
        };
        match planner.order(run, choice.as_ref(), why, false) {
            Ok(order) => Reply::Start(order),
            Err(NoStart { text, code }) => Reply::Failed { error: text, code },
        }
    }

    fn run_of_application(&self) -> Option<&Run> {
        self.pointer.jobs.get(APPLICATION)?.run.as_ref()
    }

    /// Who starts: named by the user, what owns the pod, else this very process.
    pub(super) fn owner(&self) -> String {
        let of_pod = || self.pod.as_ref()?.owner_uid();
        let named = self.settings.owner.clone().or_else(of_pod);
        named.unwrap_or_else(|| self.instance.clone())
    }
}

/// `plan` has handled everything else.
fn unreachable_plan(plan: &RestorePlan) -> Result<StartOrder, NoStart> {
    Err(NoStart {
        text: format!("not started: {plan:?}"),
        code: 1,
    })
}
