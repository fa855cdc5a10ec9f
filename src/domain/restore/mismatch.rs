//! Whether a start resumed from what was chosen.

use crate::domain::job::JobId;
use crate::domain::path::{last_segment, without_scheme};
use crate::domain::pointer::Run;

/// What Flink reports to have restored (`latest.restored`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The checkpoint id.
    pub checkpoint_id: i64,
    /// The path, where Flink reports it.
    pub path: Option<String>,
}

/// Compares what Flink restored with what was chosen for `run`; the mismatch in words, or `None` when all is well.
///
/// A higher id is all right: after a failover Flink restores the newest checkpoint of the run itself, and with high
/// availability its own metadata win over the start path.
#[must_use]
pub fn restore_mismatch(run: &Run, job: JobId, restored: Option<&Restored>) -> Option<String> {
    let chosen = run.parent.as_ref();
    match (chosen, restored) {
        (None, _) => None,
        (Some(parent), None) => Some(format!(
            "job {job} started from empty state, chosen was {}",
            parent.path
        )),
        (Some(parent), Some(restored)) => {
            let older = parent
                .checkpoint_id
                .is_some_and(|id| restored.checkpoint_id < id);
            let path = restored.path.as_deref().filter(|path| !own(run, path));
            let other = parent
                .checkpoint_id
                .is_none_or(|id| restored.checkpoint_id == id)
                && path.is_some_and(|path| last_segment(path) != last_segment(&parent.path));
            (older || other).then(|| {
                let got = restored.path.as_deref().unwrap_or("an unknown path");
                format!(
                    "job {job} restored checkpoint {} from {got}, chosen was {}",
                    restored.checkpoint_id, parent.path
                )
            })
        }
    }
}

/// A checkpoint of the run itself, to which it went back after a failure.
fn own(run: &Run, path: &str) -> bool {
    let dir = run.checkpoint_dir.as_deref().map(without_scheme);
    dir.is_some_and(|dir| !dir.is_empty() && without_scheme(path).starts_with(dir))
}
