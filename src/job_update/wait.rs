//! Waiting for something that a watch shows.

use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::time::timeout;

use super::error::JobError;
use super::progress::{Progress, TICK};
use crate::domain::budget::until;
use crate::kubernetes::{KubeError, PointerMapError};

/// Why a watch shows nothing.
pub(super) trait Blind: Into<JobError> {
    /// It goes on by itself.
    fn passes(&self) -> bool;
}

impl Blind for KubeError {
    fn passes(&self) -> bool {
        self.is_retryable()
    }
}

impl Blind for PointerMapError {
    fn passes(&self) -> bool {
        self.is_retryable()
    }
}

/// What `look` finds in the first that has it; `None`: nothing until `last`.
pub(super) async fn watched<T, R, E: Blind>(
    watch: &mut (impl Stream<Item = Result<T, E>> + Unpin),
    last: Timestamp,
    progress: &mut Progress,
    mut look: impl FnMut(T, &mut Progress) -> Result<Option<R>, JobError>,
) -> Result<Option<R>, JobError> {
    loop {
        let left = until(Timestamp::now(), last);
        if left.is_zero() {
            return Ok(None);
        }
        match timeout(TICK.min(left), watch.next()).await {
            Ok(Some(Ok(seen))) => {
                if let Some(found) = look(seen, progress)? {
                    return Ok(Some(found));
                }
            }
            Ok(Some(Err(error))) if !error.passes() => return Err(error.into()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) | Err(_) => progress.tick(),
        }
    }
}
