//! Where the next start resumes from: [`plan_restore`], a pure function of the pointer and of what storage shows.
//!
//! The newest restore point is the highest checkpoint id within the pointer's lineage: recorded there, or found in the
//! directories of its last run. Nothing outside of these is ever adopted, and nothing known is ever passed over in
//! silence: when the newest one is missing or damaged, the plan is to refuse.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::mismatch::{Restored, restore_mismatch};
use super::job::JobStatus;
use super::pointer::{Ended, JobEntry, Parent, PointKind, RestorePoint, Run, TriggerReason};
use super::supervise::{Sighting, Verdict, Verified};

mod mismatch;

/// Which restore points a start may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The newest savepoint or retained checkpoint.
    #[default]
    LatestState,
    /// The newest savepoint, even when a newer checkpoint is there.
    LatestSavepoint,
    /// None: start from empty state.
    None,
}

/// The checkpoint id of a restore point that has not been read yet: above all others.
pub const UNREAD: i64 = i64::MAX;

/// A restore point that was found in a directory of the last run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Found {
    /// Where it is.
    pub path: String,
    /// What it is.
    pub kind: PointKind,
    /// From the directory's name (`chk-N`); [`UNREAD`] for the savepoint in the directory of a stop whose end nobody has
    /// seen: it is the last thing that its run did.
    pub checkpoint_id: i64,
}

/// What is known when a start is planned.
#[derive(Debug, Clone)]
pub struct StartView<'a> {
    /// The job's entry in the pointer.
    pub entry: &'a JobEntry,
    /// Which restore points may be used.
    pub strategy: Strategy,
    /// Who starts: what may not resurrect its own finished job.
    pub owner: &'a str,
    /// What lies in the last run's directories, and in the one of the open intent.
    pub found: Sighting<&'a [Found]>,
    /// The highest checkpoint id that the last run was seen to complete.
    pub completed: Option<i64>,
    /// The start path in the user's own configuration.
    pub configured: Option<&'a str>,
    /// What has been read back so far, by path.
    pub verdicts: &'a [(String, Verdict)],
    /// Restore points that no client can read are used all the same.
    pub allow_unverified: bool,
}

/// How the next start begins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RestorePlan {
    /// Read this one back first, then ask again.
    Verify(String),
    /// Resume from this restore point. The reason, for people.
    From(Choice, String),
    /// Start from empty state, or from what the user configured. The reason, for people.
    Fresh(String),
    /// The job is over; nothing is to be started.
    Ended(Ended),
    /// Starting would lose or repeat something.
    Refuse(Refusal),
    /// The storage did not answer: ask again later. The reason.
    Retry(String),
}

/// The restore point of a start.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Choice {
    /// As it goes into Flink's configuration.
    pub path: String,
    /// What it is.
    pub kind: PointKind,
    /// Id and size; `None` when it could not be read back and that is allowed.
    pub verified: Option<Verified>,
}

/// Why a start is refused, and what a person can do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Refusal {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Plans the next start.
#[must_use]
pub fn plan_restore(view: &StartView<'_>) -> RestorePlan {
    let entry = view.entry;
    if entry.cleared {
        return RestorePlan::Fresh("the pointer was cleared".to_owned());
    }
    if let Some(plan) = entry
        .ended
        .as_ref()
        .and_then(|ended| after_end(view, ended))
    {
        return plan;
    }
    if view.strategy == Strategy::None {
        return RestorePlan::Fresh("the restore strategy is none".to_owned());
    }
    if let Some(reason) = &entry.frozen {
        return refuse(format!("the pointer is frozen: {reason}"), REMEDY_CHOOSE);
    }
    let found = match view.found {
        Sighting::Seen(found) => found,
        Sighting::Absent => &[],
        Sighting::Unreachable => {
            return RestorePlan::Retry("the last run's directories cannot be listed".to_owned());
        }
    };
    match newest(view, found) {
        Some(best) => judge(view, &best),
        None => without_point(view, found),
    }
}

const REMEDY_CHOOSE: &str = "choose a restore point with `drey pointer set PATH`, or start from empty state with `drey pointer clear`";

/// A finished job is not resurrected by its own owner; a new one starts it afresh, as a daily batch wants it.
fn after_end(view: &StartView<'_>, ended: &Ended) -> Option<RestorePlan> {
    match ended.status {
        JobStatus::Finished | JobStatus::Canceled if ended.owner == view.owner => {
            Some(RestorePlan::Ended(ended.clone()))
        }
        JobStatus::Finished => Some(RestorePlan::Fresh("the last run finished".to_owned())),
        _ => None,
    }
}

fn newest(view: &StartView<'_>, found: &[Found]) -> Option<Found> {
    let recorded = view.entry.counting().map(|point| Found {
        path: point.path.clone(),
        kind: point.kind,
        checkpoint_id: point.rank(),
    });
    // A stop whose savepoint could not be read back at the time: its sinks have committed, so nothing older will do.
    let open = view
        .entry
        .intent
        .iter()
        .filter_map(|intent| intent.location.as_ref())
        .map(|path| Found {
            path: path.clone(),
            kind: PointKind::Stop,
            checkpoint_id: UNREAD,
        });
    let known = |path: &str| view.entry.history.iter().any(|point| point.path == path);
    let listed = found.iter().filter(|point| !known(&point.path)).cloned();
    let allowed = |point: &Found| {
        view.strategy != Strategy::LatestSavepoint || point.kind != PointKind::Checkpoint
    };
    // Recorded ones come first, newest first: of equal ids the first is kept.
    recorded
        .chain(open)
        .chain(listed)
        .filter(allowed)
        .reduce(|best, point| {
            if point.checkpoint_id > best.checkpoint_id {
                point
            } else {
                best
            }
        })
}

fn judge(view: &StartView<'_>, best: &Found) -> RestorePlan {
    if let Some(lost) = lost_checkpoint(view, Some(best.checkpoint_id)) {
        return lost;
    }
    let Some((path, verdict)) = view.verdicts.iter().find(|(path, _)| *path == best.path) else {
        return RestorePlan::Verify(best.path.clone());
    };
    let from = |verified: Option<Verified>| {
        let id = verified
            .as_ref()
            .map_or_else(|| "unverified".to_owned(), |v| v.checkpoint_id.to_string());
        let why = format!(
            "{} is the newest restore point of the lineage, checkpoint id {id}",
            best.kind
        );
        RestorePlan::From(
            Choice {
                path: path.clone(),
                kind: best.kind,
                verified,
            },
            why,
        )
    };
    match verdict {
        Verdict::Good(verified)
            if best.checkpoint_id != UNREAD && verified.checkpoint_id != best.checkpoint_id =>
        {
            let (id, known) = (verified.checkpoint_id, best.checkpoint_id);
            refuse(
                format!("{path} holds checkpoint {id} where checkpoint {known} was expected"),
                REMEDY_CHOOSE,
            )
        }
        Verdict::Good(verified) => from(Some(verified.clone())),
        Verdict::Unsupported(_) if view.allow_unverified => from(None),
        Verdict::Missing => refuse(
            format!("the newest restore point {path} does not exist"),
            &format!("bring it back, or {REMEDY_CHOOSE}"),
        ),
        Verdict::Damaged(why) => refuse(
            format!("the newest restore point {path} is damaged: {why}"),
            &format!("bring it back, or {REMEDY_CHOOSE}"),
        ),
        Verdict::Unsupported(why) => refuse(
            format!("the newest restore point {path} cannot be read back: {why}"),
            "allow it with `--allow-unverified`",
        ),
        Verdict::Unreachable(why) => {
            RestorePlan::Retry(format!("{path} cannot be read back: {why}"))
        }
    }
}

/// A checkpoint that the last run completed, and whose sinks have therefore committed, is not there any more.
fn lost_checkpoint(view: &StartView<'_>, best: Option<i64>) -> Option<RestorePlan> {
    let completed = view
        .completed
        .filter(|_| view.strategy == Strategy::LatestState)?;
    (best < Some(completed)).then(|| {
        let instead = best.map_or_else(
            || "no restore point".to_owned(),
            |id| format!("only checkpoint {id}"),
        );
        refuse(
            format!("the last run completed checkpoint {completed}, but there is {instead}"),
            REMEDY_CHOOSE,
        )
    })
}

/// From empty state only when there has never been a restore point in this lineage.
fn without_point(view: &StartView<'_>, found: &[Found]) -> RestorePlan {
    if let Some(lost) = lost_checkpoint(view, None) {
        return lost;
    }
    let passed_over = view.entry.counting().count() + found.len();
    if view.strategy == Strategy::LatestSavepoint && (passed_over > 0 || view.completed.is_some()) {
        return refuse(
            "there is no savepoint, only retained checkpoints".to_owned(),
            &format!(
                "resume from the newest one with the restore strategy latest-state, or {REMEDY_CHOOSE}"
            ),
        );
    }
    if let Some(parent) = view.entry.run.as_ref().and_then(|run| run.parent.as_ref()) {
        return refuse(
            format!(
                "the last run started from {}, which is recorded no longer",
                parent.path
            ),
            REMEDY_CHOOSE,
        );
    }
    RestorePlan::Fresh(match view.configured {
        Some(path) => format!("no restore point yet; Flink's configuration names {path}"),
        None => "there has never been a restore point".to_owned(),
    })
}

fn refuse(what: String, remedy: &str) -> RestorePlan {
    RestorePlan::Refuse(Refusal {
        what,
        remedy: remedy.to_owned(),
    })
}

/// Puts the planned start into the entry: the choice becomes part of the history, `run` the run under way.
///
/// To be stored before the JobManager starts.
pub fn begin(entry: &mut JobEntry, choice: Option<&Choice>, mut run: Run, keep: usize) {
    match choice {
        Some(choice) => {
            let checkpoint_id = choice
                .verified
                .as_ref()
                .map(|verified| verified.checkpoint_id);
            run.parent = Some(Parent {
                path: choice.path.clone(),
                checkpoint_id,
            });
            if !entry.counting().any(|point| point.path == choice.path) {
                entry.record(adopted(entry, choice, run.stored), keep);
            }
            entry.supersede_for(&choice.path);
        }
        None => {
            if !entry.history.is_empty() || entry.run.is_some() {
                entry.open_lineage();
            }
            run.parent = None;
        }
    }
    entry.ended = None;
    entry.intent = None;
    entry.cleared = false;
    entry.run = Some(run);
}

/// A person chose `path` for the next start: a new lineage begins with it.
pub fn person_chose(entry: &mut JobEntry, path: &str, verified: Option<&Verified>, now: Timestamp) {
    entry.open_lineage();
    let point = RestorePoint {
        path: path.to_owned(),
        kind: PointKind::Set,
        checkpoint_id: verified.map(|verified| verified.checkpoint_id),
        job_id: None,
        lineage: entry.lineage,
        run: None,
        reason: TriggerReason::Manual,
        started: None,
        completed: now,
        size: verified.map(|verified| verified.size),
        flink_version: None,
        superseded: false,
        claimed: false,
    };
    // One more than there were: a person's choice pushes nothing out.
    let keep = entry.history.len() + 1;
    entry.record(point, keep);
}

/// A restore point of the last run that was found in storage, not recorded by it.
fn adopted(entry: &JobEntry, choice: &Choice, now: Timestamp) -> RestorePoint {
    let last = entry.run.as_ref();
    RestorePoint {
        path: choice.path.clone(),
        kind: choice.kind,
        checkpoint_id: choice
            .verified
            .as_ref()
            .map(|verified| verified.checkpoint_id),
        job_id: last.and_then(|run| run.job_id),
        lineage: entry.lineage,
        run: last.map(|run| run.id.clone()),
        reason: TriggerReason::Restore,
        started: None,
        completed: now,
        size: choice.verified.as_ref().map(|verified| verified.size),
        flink_version: last.map(|run| run.flink_version.clone()),
        superseded: false,
        claimed: false,
    }
}

#[cfg(test)]
mod tests;
