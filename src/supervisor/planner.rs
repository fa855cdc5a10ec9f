//! Where the next start resumes from, and what has to stand in Flink's configuration for it.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::cluster::{RUN_KEY, high_availability, is_application};
use super::{RETRY, random};
use crate::config::Settings;
use crate::control::{Prepare, StartOrder};
use crate::domain::claim::ClaimMode;
use crate::domain::job::JobId;
use crate::domain::pointer::{JobEntry, PointKind, Run, RunId};
use crate::domain::restore::{Choice, RestorePlan, StartView, Strategy, plan_restore};
use crate::domain::savepoint::SavepointKind;
use crate::domain::supervise::{Sighting, Verdict};
use crate::flink::REGISTRATION_AGAIN;
use crate::flink::restore_keys::{OptionKey, RestoreKeys};
use crate::flink::version::FlinkVersion;
use crate::restore_points::{of_run, verify};
use crate::storage::{Location, Storage, StorageSettings};
use crate::telemetry::one_line;

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
    pub(super) fn usage(text: impl Into<String>) -> Self {
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
    pub(super) fn configured(&self) -> Option<&str> {
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
        let (again, after) = REGISTRATION_AGAIN;
        if !self.flink.configuration.contains_key(again) {
            set.insert(again.to_owned(), after.to_owned());
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
    pub(super) fn common_order(&self, run: &Run, why: &str) -> StartOrder {
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
            job_args: Vec::new(),
            restore_from: None,
            why: why.to_owned(),
        }
    }

    /// Who owns the files of `choice` after the start.
    pub(super) fn claim(&self, choice: Option<&Choice>) -> ClaimMode {
        let checkpoint = choice.is_some_and(|choice| choice.kind == PointKind::Checkpoint);
        match self.settings.claim_mode {
            _ if self.flink.standalone => ClaimMode::NoClaim,
            Some(mode) => mode,
            None if checkpoint => ClaimMode::Claim,
            None => ClaimMode::NoClaim,
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
                order.args = self.allowing_arguments(order);
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
        let mode = self.claim(choice);
        if let (Some(key), Some(_)) = (keys.claim_mode(), choice) {
            order
                .set
                .insert(key.name.to_owned(), mode.to_flink().to_owned());
        }
        Ok(())
    }

    /// Flink reads `--allowNonRestoredState` only beside a path in its arguments (`createSavepointRestoreSettings` of its
    /// command line), so the start path stands there as well as in the configuration.
    fn allowing_arguments(&self, order: &StartOrder) -> Vec<String> {
        let kept = self.configured().filter(|_| order.remove.is_empty());
        let Some(path) = order.restore_from.as_deref().or(kept) else {
            return Vec::new();
        };
        ["--fromSavepoint", path, "--allowNonRestoredState"]
            .map(str::to_owned)
            .to_vec()
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
