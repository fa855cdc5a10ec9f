//! When the tasks of a job have failed.
use super::exchange::Call;
use super::{FlinkRest, RestError};
use crate::domain::job::JobId;
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exceptions {
    exception_history: History,
}

#[derive(Deserialize)]
struct History {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    timestamp: i64,
}

impl FlinkRest {
    /// When tasks of a job failed, the newest first, of those failures that Flink remembers (16,
    /// `web.exception-history-size`). Unlike `numRestarts` it does not count a change of the parallelism.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::NotFound`] for an unknown job.
    pub async fn failures(&self, job: JobId) -> Result<Vec<Timestamp>, RestError> {
        let call = Call::get(format!("/jobs/{job}/exceptions?maxExceptions=16"));
        let answer: Exceptions = self.ask(&call).await?;
        let entries = answer.exception_history.entries.into_iter();
        let times = entries.map(|entry| Timestamp::from_millisecond(entry.timestamp));
        Ok(times.filter_map(Result::ok).collect())
    }
}
