//! Retention carried out: savepoints are deleted, and those that nobody has recorded are found.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::domain::pointer::{JobEntry, PointKind, Pointer, RestorePoint, RunId, TriggerReason};
use crate::domain::retention::{Fate, Policy, expire, plan, referred, same};
use crate::domain::supervise::Verdict;
use crate::flink::rest::{Disposal, FlinkRest};
use crate::kill_point;
use crate::restore_points::verify;
use crate::storage::{Found, Location, Storage, StorageError, StorageErrorKind};
use crate::telemetry::one_line;

/// How long Flink may take to delete one savepoint, before its files are deleted one by one.
const FLINK_PATIENCE: Duration = Duration::from_secs(60);

/// How often Flink is asked whether it is done.
const POLL: Duration = Duration::from_millis(100);

/// What `drey gc` does, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The restore points in the history of each job.
    pub points: Vec<Judged>,
    /// Savepoints in the cluster's own directories that are in no history.
    pub orphans: Vec<Orphan>,
    /// What could not be done; it is tried again.
    pub failures: Vec<String>,
}

/// One restore point and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judged {
    /// The job's key.
    pub job: String,
    /// Where it is.
    pub path: String,
    /// When it was recorded.
    pub completed: Timestamp,
    /// Its size in bytes, as far as known.
    pub size: Option<u64>,
    /// What becomes of it.
    pub fate: Fate,
}

/// A savepoint that was written and never recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Orphan {
    /// Where it is.
    pub path: String,
    /// The run that made it, by the name of its directory.
    pub run: RunId,
    /// The job whose run that is; `None`: no run that the pointer remembers. It may belong to a cluster of the same id in
    /// another namespace.
    pub job: Option<String>,
    /// When it was written.
    pub written: Timestamp,
    /// It is of the job's lineage: taken into its history, and deleted in its time.
    pub adopted: bool,
}

/// What becomes of every restore point of `pointer`.
#[must_use]
pub fn judge(pointer: &Pointer, policy: Policy, now: Timestamp) -> Vec<Judged> {
    let of_job = |(key, entry): (&String, &JobEntry)| {
        let fates = plan(
            &pointer.cluster_id,
            entry,
            &referred(pointer, key),
            policy,
            now,
        );
        let judged = entry.history.iter().zip(fates);
        let judged = judged.map(|(point, fate)| Judged {
            job: key.clone(),
            path: point.path.clone(),
            completed: point.completed,
            size: point.size,
            fate,
        });
        judged.collect::<Vec<_>>()
    };
    pointer.jobs.iter().flat_map(of_job).collect()
}

/// Moves what may be deleted from the history to the disposals. Nothing is deleted yet. Returns whether anything changed.
pub fn expire_all(pointer: &mut Pointer, policy: Policy, now: Timestamp) -> bool {
    let keys: Vec<String> = pointer.jobs.keys().cloned().collect();
    let mut changed = false;
    for key in keys {
        let others = pointer.clone();
        let referred = referred(&others, &key);
        let entry = pointer.entry(&key);
        let fates = plan(&others.cluster_id, entry, &referred, policy, now);
        changed |= expire(entry, &fates, now);
    }
    changed
}

/// The first savepoint that is to be deleted: the job's key and the path.
#[must_use]
pub fn next_disposal(pointer: &Pointer) -> Option<(String, String)> {
    pointer.jobs.iter().find_map(|(key, entry)| {
        let disposal = entry.disposals.first()?;
        Some((key.clone(), disposal.path.clone()))
    })
}

/// The savepoint at `path` is gone.
pub fn disposed(entry: &mut JobEntry, path: &str) {
    entry.disposals.retain(|disposal| disposal.path != path);
}

/// It could not be deleted: others come first.
pub fn postpone(entry: &mut JobEntry, path: &str) {
    let (failed, mut others): (Vec<_>, Vec<_>) = std::mem::take(&mut entry.disposals)
        .into_iter()
        .partition(|disposal| disposal.path == path);
    others.extend(failed);
    entry.disposals = others;
}

/// Deletes the savepoint at `path`: by Flink, which finds files that lie elsewhere as well (`_entropy_`), and what is then
/// left in its directory by hand. What is gone already is no error.
///
/// # Errors
/// Why it could not be deleted; part of it may be gone.
pub async fn dispose(
    rest: Option<&FlinkRest>,
    storage: &Storage,
    path: &str,
) -> Result<(), String> {
    kill_point("before-disposal");
    let location = Location::parse(path).map_err(|error| one_line(&error, 300))?;
    let by_flink = match rest {
        Some(rest) => by_flink(rest, path).await,
        None => Err("Flink does not run".to_owned()),
    };
    if let Err(why) = &by_flink {
        debug!(path, why, "Flink has not deleted the savepoint");
    }
    let rest = match storage.delete_savepoint(&location.directory()).await {
        Ok(()) => Ok(()),
        // Flink can reach what Drey has no client for.
        Err(error) if error.kind() == StorageErrorKind::Unsupported => {
            by_flink.map_err(|why| format!("{}; and {why}", one_line(&error, 300)))
        }
        Err(error) => Err(one_line(&error, 300)),
    };
    kill_point("after-disposal");
    rest
}

async fn by_flink(rest: &FlinkRest, path: &str) -> Result<(), String> {
    let end = Instant::now() + FLINK_PATIENCE;
    let asked = rest.dispose(path).await;
    let trigger = asked.map_err(|error| one_line(&error, 300))?;
    loop {
        match rest.disposal(trigger).await {
            Ok(Disposal::Done) => return Ok(()),
            Ok(Disposal::Failed(cause)) => return Err(cause.root),
            Ok(Disposal::Unknown) => return Err("Flink has forgotten the request".to_owned()),
            Ok(Disposal::InProgress) | Err(_) if Instant::now() < end => sleep(POLL).await,
            Ok(Disposal::InProgress) => return Err("Flink takes too long".to_owned()),
            Err(error) => return Err(one_line(&error, 300)),
        }
    }
}

/// The savepoints in the own directories of the cluster id that nothing refers to. The directory of a savepoint that is
/// under way is left alone.
///
/// # Errors
/// A directory could not be listed.
pub async fn find_orphans(storage: &Storage, pointer: &Pointer) -> Result<Vec<Orphan>, String> {
    let mut orphans = Vec::new();
    for cluster in cluster_directories(pointer) {
        for run in directories(storage, &cluster).await? {
            let Some(id) = RunId::parse(&run) else {
                continue;
            };
            let run = cluster.join(&run);
            for trigger in directories(storage, &run).await? {
                if is_open(pointer, &trigger) {
                    continue;
                }
                let found = present(storage.list_savepoints(&run.join(&trigger)).await)?;
                let unknown = found.into_iter().filter(|found| !is_known(pointer, found));
                orphans.extend(unknown.map(|found| orphan(pointer, &id, &found)));
            }
        }
    }
    Ok(orphans)
}

/// Takes those that belong to a job's lineage into its history. They are read for it: what is not whole is not adopted.
pub async fn adopted(storage: &Storage, orphan: &Orphan) -> Option<RestorePoint> {
    orphan.job.as_ref()?;
    match verify(storage, &orphan.path).await {
        Verdict::Good(verified) => Some(RestorePoint {
            path: orphan.path.clone(),
            kind: PointKind::Savepoint,
            checkpoint_id: Some(verified.checkpoint_id),
            job_id: None,
            lineage: 0,
            run: Some(orphan.run.clone()),
            reason: TriggerReason::Restore,
            started: None,
            completed: orphan.written,
            size: Some(verified.size),
            flink_version: None,
            superseded: true,
            claimed: false,
        }),
        verdict => {
            warn!(
                path = orphan.path,
                ?verdict,
                "Savepoint that nobody recorded cannot be read"
            );
            None
        }
    }
}

/// Above the runs' own directories: `…/CLUSTER_ID`.
fn cluster_directories(pointer: &Pointer) -> Vec<Location> {
    let runs = pointer.jobs.values().filter_map(|entry| entry.run.as_ref());
    let own = runs.filter_map(|run| {
        Location::parse(run.savepoint_dir.as_deref()?)
            .ok()?
            .parent()
    });
    let mut seen = BTreeSet::new();
    own.filter(|dir| dir.name() == pointer.cluster_id)
        .filter(|dir| seen.insert(dir.as_str().to_owned()))
        .collect()
}

async fn directories(storage: &Storage, dir: &Location) -> Result<Vec<String>, String> {
    present(storage.list_directories(dir).await)
}

/// A directory that does not exist holds nothing.
fn present<T>(listed: Result<Vec<T>, StorageError>) -> Result<Vec<T>, String> {
    match listed {
        Err(error) if error.kind() == StorageErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| one_line(&error, 300)),
    }
}

fn is_open(pointer: &Pointer, trigger: &str) -> bool {
    let intents = pointer
        .jobs
        .values()
        .filter_map(|entry| entry.intent.as_ref());
    intents
        .flat_map(|intent| [Some(intent.trigger), intent.flink_trigger])
        .flatten()
        .any(|open| open.to_string() == trigger)
}

fn is_known(pointer: &Pointer, found: &Found) -> bool {
    let path = found.location.as_str();
    pointer.jobs.values().any(|entry| {
        let history = entry.history.iter().map(|point| point.path.as_str());
        let disposals = entry
            .disposals
            .iter()
            .map(|disposal| disposal.path.as_str());
        let parent = entry
            .run
            .iter()
            .filter_map(|run| Some(run.parent.as_ref()?.path.as_str()));
        history
            .chain(disposals)
            .chain(parent)
            .any(|known| same(known, path))
    })
}

fn orphan(pointer: &Pointer, run: &RunId, found: &Found) -> Orphan {
    let of_job = |(key, entry): (&String, &JobEntry)| {
        let present = entry.run.as_ref().is_some_and(|it| it.id == *run);
        let start = entry.start_of(run);
        let lineage = present || start.is_some_and(|start| start.lineage == entry.lineage);
        (present || start.is_some()).then(|| (key.clone(), lineage))
    };
    let owner = pointer.jobs.iter().find_map(of_job);
    let written = Timestamp::try_from(found.modified).unwrap_or(Timestamp::UNIX_EPOCH);
    Orphan {
        path: found.location.as_str().to_owned(),
        run: run.clone(),
        adopted: owner.as_ref().is_some_and(|(_, lineage)| *lineage),
        job: owner.map(|(key, _)| key),
        written,
    }
}

#[cfg(test)]
mod tests;
