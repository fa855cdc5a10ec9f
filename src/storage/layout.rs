//! How Flink names the directories of checkpoints and savepoints, without any I/O.

use std::time::SystemTime;

/// A directory that may be a checkpoint or savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Child {
    /// Below the directory that was listed: `chk-7`, `JOB_ID/chk-7` or `savepoint-…`.
    pub(super) path: String,
    pub(super) checkpoint_id: Option<u64>,
    pub(super) job_id: Option<String>,
}

/// Children of one directory, newest first.
pub(super) type Group = Vec<Child>;

/// A child with a `_metadata` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) child: Child,
    pub(super) modified: SystemTime,
    pub(super) metadata_size: u64,
}

/// `JobID.toHexString`.
pub(super) fn is_job_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `AbstractFsCheckpointStorageAccess.CHECKPOINT_DIR_PREFIX`.
fn checkpoint_id(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("chk-")?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

/// The checkpoints among the children of a directory that is called `dir_name`.
pub(super) fn direct(dir_name: &str, names: &[String]) -> Group {
    let job_id = is_job_id(dir_name).then(|| dir_name.to_owned());
    newest_first(names, |name| (name.to_owned(), job_id.clone()))
}

/// The checkpoints among the children of job directory `job`.
pub(super) fn of_job(job: &str, names: &[String]) -> Group {
    newest_first(names, |name| {
        (format!("{job}/{name}"), Some(job.to_owned()))
    })
}

fn newest_first(names: &[String], place: impl Fn(&str) -> (String, Option<String>)) -> Group {
    let mut ids: Vec<(u64, &String)> = names
        .iter()
        .filter_map(|name| Some((checkpoint_id(name)?, name)))
        .collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.into_iter()
        .map(|(id, name)| {
            let (path, job_id) = place(name);
            Child {
                path,
                checkpoint_id: Some(id),
                job_id,
            }
        })
        .collect()
}

/// `AbstractFsCheckpointStorageAccess.initializeLocationForSavepoint`: `savepoint-JOB6-RANDOM`.
pub(super) fn savepoints(names: &[String]) -> Group {
    let candidates = names.iter().filter(|name| name.starts_with("savepoint-"));
    candidates
        .map(|name| Child {
            path: name.clone(),
            checkpoint_id: None,
            job_id: None,
        })
        .collect()
}

/// Highest checkpoint id first, then the most recently written.
pub(super) fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| {
        (b.child.checkpoint_id, b.modified)
            .cmp(&(a.child.checkpoint_id, a.modified))
            .then(a.child.path.cmp(&b.child.path))
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn checkpoints_are_told_from_flinks_other_directories() {
        let all = names(&[
            "chk-9",
            "shared",
            "chk-10",
            "taskowned",
            "chk-",
            "chk-x",
            "chk--1",
            "chk-+3",
            "CHK-4",
            "0xchk-1",
        ]);
        let ids: Vec<_> = direct("dir", &all)
            .into_iter()
            .filter_map(|child| child.checkpoint_id)
            .collect();
        assert_eq!(ids, [10, 9]);
    }

    #[test]
    fn job_id_comes_from_the_directory() {
        let job = "0123456789abcdef0123456789abcdef";
        assert_eq!(
            direct(job, &names(&["chk-1"]))[0].job_id.as_deref(),
            Some(job)
        );
        assert_eq!(
            of_job(job, &names(&["chk-1"]))[0].path,
            format!("{job}/chk-1")
        );
        assert_eq!(direct("x", &names(&["chk-1"]))[0].job_id, None);
        assert!(!is_job_id("0123456789ABCDEF0123456789abcdef"));
    }

    proptest! {
        #[test]
        fn any_ids_come_out_in_falling_order(ids in prop::collection::vec(any::<u64>(), 0..40)) {
            let all: Vec<String> = ids.iter().map(|id| format!("chk-{id}")).collect();
            let out: Vec<u64> = direct("", &all).into_iter().filter_map(|child| child.checkpoint_id).collect();
            let mut sorted = ids;
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(out, sorted);
        }
    }
}
