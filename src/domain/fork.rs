//! A fork: the first start of a cluster resumes from a savepoint of another cluster, and goes its own way from there.
//!
//! Only from a savepoint: the files of a checkpoint belong to the parent's Flink, which deletes them when it wants. Its sinks
//! must not write where the parent's do, which nobody but a person can know.

use jiff::Timestamp;

use super::pointer::{
    APPLICATION, Fork, JobEntry, PointKind, Pointer, RestorePoint, TriggerReason,
};
use super::restore::Refusal;

/// Nothing has ever been started or chosen here: a fork is a first start.
#[must_use]
pub fn is_first(entry: Option<&JobEntry>) -> bool {
    entry.is_none_or(|entry| {
        entry.run.is_none() && entry.history.is_empty() && entry.ended.is_none() && !entry.cleared
    })
}

/// The parent's savepoint that a fork starts from, as a restore point of its own: the newest one that counts.
///
/// # Errors
/// When there is none, or nobody has confirmed that the sinks' names differ.
pub fn source(parent: &Pointer, confirmed: bool, now: Timestamp) -> Result<RestorePoint, Refusal> {
    let id = &parent.cluster_id;
    if !confirmed {
        return Err(Refusal {
            what: format!("nobody has confirmed that this job may run beside {id}"),
            remedy: "give its sinks other transactional-id prefixes and output paths, then set fork-confirmed to true"
                .to_owned(),
        });
    }
    let savepoint = |point: &&RestorePoint| {
        matches!(point.kind, PointKind::Stop | PointKind::Savepoint)
            && point.checkpoint_id.is_some()
            // Flink deletes its files as it likes.
            && !point.claimed
    };
    let entry = parent.jobs.get(APPLICATION);
    let points = entry.into_iter().flat_map(JobEntry::counting);
    let newest = points.filter(savepoint).max_by_key(|point| point.rank());
    let Some(newest) = newest else {
        return Err(Refusal {
            what: format!("{id} has no savepoint to start from"),
            remedy: format!("take one with `drey savepoint` in a JobManager of {id}"),
        });
    };
    Ok(RestorePoint {
        kind: PointKind::Savepoint,
        lineage: 0,
        run: None,
        reason: TriggerReason::Restore,
        started: None,
        completed: now,
        ..newest.clone()
    })
}

/// Notes in the parent's pointer that `fork` starts from `path`. Whether that is news.
pub fn note(parent: &mut Pointer, fork: &str, path: &str, at: Timestamp) -> bool {
    let known = parent
        .forks
        .get(fork)
        .is_some_and(|known| known.path == path);
    if !known {
        let path = path.to_owned();
        parent.forks.insert(fork.to_owned(), Fork { path, at });
    }
    !known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(path: &str, kind: PointKind, id: i64) -> RestorePoint {
        RestorePoint {
            path: path.to_owned(),
            kind,
            checkpoint_id: Some(id),
            job_id: None,
            lineage: 0,
            run: None,
            reason: TriggerReason::Shutdown,
            started: None,
            completed: Timestamp::UNIX_EPOCH,
            size: None,
            flink_version: None,
            superseded: false,
            claimed: false,
        }
    }

    fn parent(points: Vec<RestorePoint>) -> Pointer {
        let mut parent = Pointer::new("parent");
        parent.entry(APPLICATION).history = points;
        parent
    }

    #[test]
    fn a_fork_starts_from_the_newest_savepoint_never_from_a_checkpoint() {
        let parent = parent(vec![
            point("chk-9", PointKind::Checkpoint, 9),
            point("savepoint-8", PointKind::Savepoint, 8),
            point("savepoint-7", PointKind::Stop, 7),
        ]);
        let source = source(&parent, true, Timestamp::UNIX_EPOCH).expect("a savepoint");
        assert_eq!(
            (source.path.as_str(), source.checkpoint_id),
            ("savepoint-8", Some(8))
        );
    }

    #[test]
    fn without_a_savepoint_or_a_confirmation_there_is_no_fork() {
        let only = parent(vec![point("chk-9", PointKind::Checkpoint, 9)]);
        let refused = source(&only, true, Timestamp::UNIX_EPOCH).expect_err("no savepoint");
        assert!(refused.what.contains("no savepoint"), "{refused}");
        let parent = parent(vec![point("savepoint-8", PointKind::Savepoint, 8)]);
        let refused = source(&parent, false, Timestamp::UNIX_EPOCH).expect_err("unconfirmed");
        assert!(refused.remedy.contains("transactional-id"), "{refused}");
    }

    #[test]
    fn the_parent_remembers_what_a_fork_started_from() {
        let mut parent = parent(Vec::new());
        assert!(note(
            &mut parent,
            "child",
            "savepoint-8",
            Timestamp::UNIX_EPOCH
        ));
        assert!(!note(
            &mut parent,
            "child",
            "savepoint-8",
            Timestamp::UNIX_EPOCH
        ));
        assert_eq!(parent.forks["child"].path, "savepoint-8");
    }

    #[test]
    fn only_a_first_start_is_a_fork() {
        assert!(is_first(None));
        let mut entry = JobEntry::default();
        assert!(is_first(Some(&entry)));
        entry.cleared = true;
        assert!(!is_first(Some(&entry)), "a person ordered empty state");
    }
}
