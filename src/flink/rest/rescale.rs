//! The parallelism of a running job: what it is, and what it is wanted to be.
use super::exchange::Call;
use super::{FlinkRest, RestError};
use crate::domain::job::JobId;
use crate::domain::rescale::Requirements;
use crate::flink::wire::{JobGraph, from_wire, to_wire};
use bytes::Bytes;
use hyper::Method;

impl FlinkRest {
    /// A job's vertices, with their parallelism as of up to `web.refresh-interval` (3 s) ago.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::NotFound`] for an unknown job.
    pub async fn graph(&self, job: JobId) -> Result<JobGraph, RestError> {
        self.ask(&Call::get(format!("/jobs/{job}"))).await
    }

    /// The least and the most parallelism that a job is to have. Since Flink 1.18.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::Server`] with another scheduler than the adaptive one.
    pub async fn requirements(&self, job: JobId) -> Result<Requirements, RestError> {
        let call = Call::get(format!("/jobs/{job}/resource-requirements"));
        self.ask(&call).await.map(from_wire)
    }

    /// Changes them, of all vertices at once. Flink then restores the job from its newest checkpoint, unless it runs like
    /// this already. Without high availability they last as long as the JobManager.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::BadRequest`] when no such job can run.
    pub async fn require(&self, job: JobId, wanted: &Requirements) -> Result<(), RestError> {
        let body = serde_json::to_vec(&to_wire(wanted)).unwrap_or_default();
        self.answer(&Call {
            method: Method::PUT,
            path: format!("/jobs/{job}/resource-requirements"),
            body: Bytes::from(body),
        })
        .await
        .map(drop)
    }
}
