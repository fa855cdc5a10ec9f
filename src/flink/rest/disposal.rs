//! Deleting a savepoint through Flink, which finds its files wherever they are (`SavepointDisposalHandlers`).
use super::exchange::Call;
use super::{FlinkRest, RestError};
use crate::domain::savepoint::{FailureCause, TriggerId};
use crate::flink::wire::DisposalResult;

/// How far a disposal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposal {
    /// Flink is still at it.
    InProgress,
    /// The savepoint is gone.
    Done,
    /// It failed. Part of the savepoint may be gone.
    Failed(FailureCause),
    /// Flink does not know this id: answered too long ago, or the JobManager was restarted.
    Unknown,
}

impl FlinkRest {
    /// Asks for the deletion of the savepoint at `path`; the id to ask for the outcome with. Whether anything still needs it
    /// is not Flink's concern.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn dispose(&self, path: &str) -> Result<TriggerId, RestError> {
        let body = serde_json::json!({ "savepoint-path": path });
        self.submit("/savepoint-disposal".to_owned(), serde_json::to_vec(&body))
            .await
    }

    /// How far that is.
    ///
    /// # Errors
    /// See [`RestError`]; an unknown id is [`Disposal::Unknown`].
    pub async fn disposal(&self, trigger: TriggerId) -> Result<Disposal, RestError> {
        let call = Call::get(format!("/savepoint-disposal/{trigger}"));
        let answer = self.poll::<DisposalResult>(&call).await?;
        Ok(answer.map_or(Disposal::Unknown, Disposal::from))
    }
}
