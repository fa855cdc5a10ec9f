//! What retention leaves behind: savepoints that should be gone and are not.

use jiff::{SignedDuration, Timestamp};

use super::{Finding, table};
use crate::domain::pointer::Pointer;

/// A deletion that takes longer than this has failed a few times.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// Nothing to say where nothing waits to be deleted.
pub(super) fn retention(pointer: &Pointer, now: Timestamp) -> Option<Finding> {
    let check = &table::RETENTION;
    let all = pointer.jobs.values().flat_map(|entry| &entry.disposals);
    let oldest = all.clone().map(|disposal| disposal.since).min()?;
    let count = all.count();
    let found = format!("{count} old savepoints wait to be deleted, since {oldest:.0}");
    if now.duration_since(oldest) < PATIENCE {
        return Some(Finding::ok(check, found));
    }
    let remedy = "see `drey gc` and the events SavepointNotDeleted: neither Flink nor the sidecar may delete there, or no job runs";
    Some(Finding::warning(check, found, remedy))
}
