//! A fork: the first start of a cluster resumes from a savepoint of another cluster, and goes its own way from there.
//!
//! Only from a savepoint: the files of a checkpoint belong to the parent's Flink, which deletes them when it wants. Its sinks
//! must not write where the parent's do, which nobody but a person can know.

use jiff::Timestamp;

use super::pointer::{
    APPLICATION, Fork, JobEntry, PointKind, Pointer, RestorePoint, TriggerReason,
};
use super::restore::Refusal;
use super::retention::same;

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

/// Takes the note out of the parent's pointer once the fork, whose entry is `own`, needs what it started from no more. Whether
/// there was one to take.
pub fn forget(parent: &mut Pointer, fork: &str, own: &JobEntry) -> bool {
    let done = parent
        .forks
        .get(fork)
        .is_some_and(|noted| !needs(own, &noted.path));
    done && parent.forks.remove(fork).is_some()
}

/// The files of `path` are needed until a run that started from there has completed a checkpoint of its own: nothing was
/// claimed, so Flink's first one is a full one. A later run started from something else only because there is one.
fn needs(own: &JobEntry, path: &str) -> bool {
    let Some(run) = &own.run else { return true };
    let up = own.up.as_ref().filter(|up| up.run == run.id);
    let completed = up.is_some_and(|up| up.checkpoint.is_some());
    let from = run.parent.as_ref().map(|parent| parent.path.as_str());
    !completed && from.is_none_or(|from| same(from, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pointer::{RunId, Up};

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

    fn started(from: &str) -> JobEntry {
        JobEntry::started(1, from, Some(8))
    }

    fn up(entry: &mut JobEntry, run: u8, checkpoint: Option<i64>) {
        entry.up = Some(Up {
            run: RunId::from_bytes([run; 6]),
            since: Timestamp::UNIX_EPOCH,
            checkpoint,
        });
    }

    #[test]
    fn the_parent_forgets_it_with_the_forks_first_checkpoint_and_not_before() {
        let path = "s3://b/savepoint-8";
        let mut parent = parent(Vec::new());
        note(&mut parent, "child", path, Timestamp::UNIX_EPOCH);
        let mut own = started("s3a://b/savepoint-8/_metadata");
        assert!(!forget(&mut parent, "child", &own), "it has just begun");
        up(&mut own, 1, None);
        assert!(!forget(&mut parent, "child", &own), "its tasks run");
        up(&mut own, 2, Some(9));
        assert!(!forget(&mut parent, "child", &own), "of another run");
        up(&mut own, 1, Some(9));
        assert!(!forget(&mut parent, "other", &own), "of another fork");
        assert!(forget(&mut parent, "child", &own));
        assert!(!forget(&mut parent, "child", &own), "it is forgotten");
    }

    #[test]
    fn the_parent_forgets_a_fork_that_started_from_something_of_its_own_since() {
        let mut parent = parent(Vec::new());
        note(
            &mut parent,
            "child",
            "s3://b/savepoint-8",
            Timestamp::UNIX_EPOCH,
        );
        assert!(!forget(&mut parent, "child", &JobEntry::default()));
        assert!(forget(&mut parent, "child", &started("s3://b/chk-9")));
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
