//! Which savepoints may be deleted: [`plan`], a pure function of a job's entry in the pointer and of the time.
//!
//! By count and by age, whichever comes first. Only savepoints that Drey made and that lie where it puts them, and only
//! while the present run has completed a checkpoint of its own: until then it, or a start in its place, may need what is
//! older. Flink's retained checkpoints are never deleted: incremental ones share files, and those that were claimed are
//! Flink's to delete.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::path::{last_segment, without_scheme};
use super::pointer::{Disposal, JobEntry, PointKind, Pointer, RestorePoint};

/// How many savepoints are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The newest ones that are kept; at least one.
    pub count: usize,
    /// Older ones are deleted, however few there are.
    pub age: Duration,
}

/// What becomes of a restore point in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It stays.
    Keep(KeepReason),
    /// It leaves the history, as there is no room for it; its files are not Drey's to delete.
    Forget(KeepReason),
    /// Its files are deleted.
    Delete(Expiry),
}

/// Why the files of a restore point stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepReason {
    /// Neither too old nor too many.
    Recent,
    /// The newest one, or the newest that a start may choose.
    Newest,
    /// The present run started from it.
    Running,
    /// Another cluster started from it, or it is being read back.
    Referred,
    /// The present run has not completed a checkpoint of its own.
    Unproven,
    /// A run has claimed it: Flink deletes it.
    Claimed,
    /// A retained checkpoint: its files may be shared with others.
    Checkpoint,
    /// Drey did not make it, or it lies where Drey puts nothing.
    NotOwn,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recent => "neither too old nor too many",
            Self::Newest => "the newest restore point",
            Self::Running => "the present run started from it",
            Self::Referred => "something else still refers to it",
            Self::Unproven => "the present run has not completed a checkpoint of its own yet",
            Self::Claimed => "claimed by a run: Flink deletes it",
            Self::Checkpoint => "a retained checkpoint: others may share its files",
            Self::NotOwn => "not made by Drey",
        })
    }
}

/// Why a savepoint is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expiry {
    /// There are enough newer ones (`history`).
    Count,
    /// It is too old (`retention-age`).
    Age,
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "there are enough newer ones",
            Self::Age => "too old",
        })
    }
}

/// What becomes of each restore point in the history of `entry`, in its order. `referred` are paths that something
/// outside of this entry needs.
#[must_use]
pub fn plan(
    cluster_id: &str,
    entry: &JobEntry,
    referred: &[&str],
    policy: Policy,
    now: Timestamp,
) -> Vec<Fate> {
    let scene = Scene {
        cluster_id,
        entry,
        referred,
        proven: entry.is_proven() && entry.frozen.is_none(),
    };
    let expiries = expiries(&entry.history, policy, now);
    let judged = entry.history.iter().zip(expiries);
    judged
        .map(|(point, expiry)| match expiry {
            None => Fate::Keep(scene.needed(point).unwrap_or(KeepReason::Recent)),
            Some(expiry) => scene.judge(point, expiry),
        })
        .collect()
}

/// Carries `fates` out in `entry`: what is to be deleted is stored as a [`Disposal`] in the same write that takes it out of
/// the history, so that nobody starts from it meanwhile. Returns whether anything changed.
pub fn expire(entry: &mut JobEntry, fates: &[Fate], now: Timestamp) -> bool {
    let mut kept = Vec::new();
    let before = entry.history.len();
    for (number, point) in std::mem::take(&mut entry.history).into_iter().enumerate() {
        match fates.get(number) {
            Some(Fate::Delete(_)) => entry.disposals.push(Disposal {
                path: point.path,
                since: now,
                size: point.size,
            }),
            Some(Fate::Forget(_)) => {}
            Some(Fate::Keep(_)) | None => kept.push(point),
        }
    }
    entry.history = kept;
    entry.history.len() != before
}

/// Whether two paths name the same restore point, in whatever spelling.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    fn bare(path: &str) -> &str {
        without_scheme(path)
            .trim_end_matches("/_metadata")
            .trim_end_matches('/')
    }
    bare(one) == bare(other)
}

struct Scene<'a> {
    cluster_id: &'a str,
    entry: &'a JobEntry,
    referred: &'a [&'a str],
    proven: bool,
}

impl Scene<'_> {
    fn judge(&self, point: &RestorePoint, expiry: Expiry) -> Fate {
        if let Some(why) = self.needed(point) {
            return Fate::Keep(why);
        }
        match self.untouchable(point) {
            Some(why) if expiry == Expiry::Count => Fate::Forget(why),
            Some(why) => Fate::Keep(why),
            None if self.proven => Fate::Delete(expiry),
            None => Fate::Keep(KeepReason::Unproven),
        }
    }

    /// Why somebody needs it.
    fn needed(&self, point: &RestorePoint) -> Option<KeepReason> {
        let entry = self.entry;
        let savepoint = |point: &&RestorePoint| point.kind != PointKind::Checkpoint;
        let newest_savepoint = entry
            .counting()
            .filter(savepoint)
            .max_by_key(|point| point.rank());
        let last = entry.history.iter().max_by_key(|point| point.completed);
        let newest = [entry.newest(), newest_savepoint, last];
        if newest
            .into_iter()
            .flatten()
            .any(|it| same(&it.path, &point.path))
        {
            return Some(KeepReason::Newest);
        }
        let parent = entry.run.as_ref().and_then(|run| run.parent.as_ref());
        if parent.is_some_and(|parent| same(&parent.path, &point.path)) {
            return Some(KeepReason::Running);
        }
        let open = entry
            .intent
            .iter()
            .filter_map(|intent| intent.location.as_deref());
        // A person may have chosen what an abandoned run made.
        let set = entry
            .counting()
            .filter(|it| it.kind == PointKind::Set && point.kind != PointKind::Set);
        let set = set.map(|it| it.path.as_str());
        let mut referred = self.referred.iter().copied().chain(open).chain(set);
        referred
            .any(|path| same(path, &point.path))
            .then_some(KeepReason::Referred)
    }

    /// Why its files are not Drey's to delete.
    fn untouchable(&self, point: &RestorePoint) -> Option<KeepReason> {
        if point.kind == PointKind::Checkpoint {
            return Some(KeepReason::Checkpoint);
        }
        if point.claimed {
            return Some(KeepReason::Claimed);
        }
        let run = point.run.as_ref().map(|run| run.as_str());
        let own = point.kind != PointKind::Set
            && run.is_some_and(|run| place(self.cluster_id, &point.path) == Some(run));
        (!own).then_some(KeepReason::NotOwn)
    }
}

/// Takes a savepoint of a run of this lineage into the history that was written and never recorded: it counts no longer,
/// since nobody knows what was done after it, but it is known, and deleted in its time. `false` when the run is none of
/// this lineage.
pub fn adopt(entry: &mut JobEntry, point: RestorePoint) -> bool {
    let of_lineage = |run| {
        entry
            .start_of(run)
            .is_some_and(|start| start.lineage == entry.lineage)
    };
    let known = entry.history.iter().any(|it| same(&it.path, &point.path));
    if known || !point.run.as_ref().is_some_and(of_lineage) {
        return false;
    }
    let older = |it: &RestorePoint| it.completed <= point.completed;
    let place = entry.history.iter().position(older);
    let point = RestorePoint {
        superseded: true,
        lineage: entry.lineage,
        ..point
    };
    entry
        .history
        .insert(place.unwrap_or(entry.history.len()), point);
    true
}

/// What restore points of the other jobs, and of other clusters, the jobs of `pointer` beside `key` refer to.
#[must_use]
pub fn referred<'p>(pointer: &'p Pointer, key: &str) -> Vec<&'p str> {
    let forks = pointer.forks.values().map(|fork| fork.path.as_str());
    let others = pointer.jobs.iter().filter(|(other, _)| *other != key);
    let others = others.flat_map(|(_, entry)| {
        let parent = entry.run.iter().filter_map(|run| run.parent.as_ref());
        let history = entry.history.iter().map(|point| point.path.as_str());
        parent.map(|parent| parent.path.as_str()).chain(history)
    });
    forks.chain(others).collect()
}

/// The run in whose directory `path` lies, if it is a savepoint where Drey puts those of `cluster_id`:
/// `…/CLUSTER_ID/RUN_ID/TRIGGER_ID/savepoint-…`.
#[must_use]
pub fn place<'p>(cluster_id: &str, path: &'p str) -> Option<&'p str> {
    let mut parts = path.trim_end_matches('/').rsplit('/');
    let (savepoint, trigger) = (parts.next()?, parts.next()?);
    let (run, cluster) = (parts.next()?, parts.next()?);
    let hex =
        |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    let good = last_segment(savepoint).starts_with("savepoint-")
        && hex(trigger, 32)
        && hex(run, 12)
        && cluster == cluster_id;
    good.then_some(run)
}

/// Which ones are too old, or too many: of those that are deleted by age, newer ones are fewer.
fn expiries(history: &[RestorePoint], policy: Policy, now: Timestamp) -> Vec<Option<Expiry>> {
    let newer = |point: &RestorePoint| {
        let later = history
            .iter()
            .filter(|other| other.completed > point.completed);
        later.count()
    };
    let judge = |point: &RestorePoint| {
        let age = Duration::try_from(now.duration_since(point.completed)).unwrap_or_default();
        if newer(point) >= policy.count.max(1) {
            Some(Expiry::Count)
        } else {
            (age > policy.age).then_some(Expiry::Age)
        }
    };
    history.iter().map(judge).collect()
}

#[cfg(test)]
mod tests;
