//! Flink's REST interface, 1.13 to 2.3, in Drey's words. Each call is bounded in time and in size, follows no redirect, and
//! fails with a reason of one line.
mod disposal;
mod error;
mod exchange;
mod failures;
mod jars;
mod rescale;

pub use disposal::Disposal;
pub use error::RestError;
pub use jars::{JarRun, JarUpload};

use crate::domain::job::{JobId, JobView};
use crate::domain::savepoint::{FailureClass, OperationStatus, SavepointRequest, TriggerId};
use crate::flink::fault;
use crate::flink::tls::TlsSettings;
use crate::flink::version::FlinkVersion;
use crate::flink::wire::{
    self, CheckpointConfig, CheckpointOperation, CheckpointStats, ConfigEntry, Dashboard, Errors,
    Operation, Overview, TaskManager, Triggered,
};
use bytes::Bytes;
use exchange::{Answer, Call, Exchange};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Credentials, in a file that is read for each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// A file with the token.
    Bearer(PathBuf),
    /// A file with `user:password`.
    Basic(PathBuf),
}

/// How to reach Flink's REST interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestSettings {
    /// `http` or `https`, with a path if a proxy adds one.
    pub url: Url,
    /// For `https` only.
    pub tls: TlsSettings,
    /// The name that the server's certificate is checked for; the URL's host if not given.
    pub server_name: Option<String>,
    /// Credentials, for a proxy in front of Flink, which has none itself.
    pub auth: Option<Auth>,
    /// The limit for one call with all that belongs to it.
    pub timeout: Duration,
    /// The longest answer, in bytes.
    pub max_body: usize,
}

impl RestSettings {
    /// Settings without credentials, 10 s and 8 MiB for each call, certificates checked with the system's CAs.
    #[must_use]
    pub const fn new(url: Url) -> Self {
        Self {
            url,
            tls: TlsSettings {
                ca: None,
                client_cert: None,
                client_key: None,
                verify_hostname: true,
            },
            server_name: None,
            auth: None,
            timeout: Duration::from_secs(10),
            max_body: 8 << 20,
        }
    }
}

/// A client of one JobManager's REST interface.
pub struct FlinkRest {
    exchange: Exchange,
}

impl std::fmt::Debug for FlinkRest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlinkRest").finish_non_exhaustive()
    }
}

impl FlinkRest {
    /// Checks the settings and reads the certificates; connects at the first call.
    ///
    /// # Errors
    /// [`RestError::Settings`] or [`RestError::Tls`].
    pub fn new(settings: RestSettings) -> Result<Self, RestError> {
        Ok(Self {
            exchange: Exchange::new(settings)?,
        })
    }

    /// Another client of the same JobManager, with this limit for each call.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_timeout(&self, timeout: Duration) -> Result<Self, RestError> {
        let exchange = self.exchange.with_timeout(timeout)?;
        Ok(Self { exchange })
    }

    /// Flink's version.
    ///
    /// # Errors
    /// See [`RestError`], as for all calls; [`RestError::Garbage`] for a build without a version.
    pub async fn version(&self) -> Result<FlinkVersion, RestError> {
        let call = Call::get("/config");
        let dashboard: Dashboard = self.ask(&call).await?;
        let parsed = dashboard.flink_version.parse();
        parsed.map_err(|error| RestError::Garbage {
            request: call.name(),
            what: format!("{error}"),
        })
    }

    /// All jobs that the cluster knows, also those that ended lately (`jobstore.expiration-time`, 1 h).
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn jobs(&self) -> Result<Vec<JobView>, RestError> {
        let overview: Overview = self.ask(&Call::get("/jobs/overview")).await?;
        Ok(overview.into())
    }

    /// Why the cluster's application has failed, in one line; `None` if it has not.
    ///
    /// Up to Flink 2.2 a JobManager ends when the main method of its application throws. From 2.3 on it stays, without a job, where
    /// `execution.shutdown-on-application-finish` is false.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::NotFound`] before Flink 2.3.
    pub async fn failed_application(&self) -> Result<Option<String>, RestError> {
        let call = Call::get("/applications/overview");
        let Some(id) = self.ask::<wire::Applications>(&call).await?.failed() else {
            return Ok(None);
        };
        let call = Call::get(format!("/applications/{id}/exceptions"));
        let told: wire::ApplicationExceptions = self.ask(&call).await?;
        Ok(Some(told.why()))
    }

    /// Asks for a savepoint and returns the id to ask for its outcome with: the request's own, or Flink's before 1.15,
    /// which also has no formats. From 1.15 on, asking again with the same id is harmless.
    ///
    /// # Errors
    /// See [`RestError`]. After [`RestError::Unreachable`] and [`RestError::Server`] the savepoint may be under way: from
    /// 1.15 on [`Self::operation`] tells.
    pub async fn trigger(
        &self,
        request: &SavepointRequest,
        version: FlinkVersion,
    ) -> Result<TriggerId, RestError> {
        let (verb, body) = wire::savepoint_call(request, version);
        self.submit(format!("/jobs/{}/{verb}", request.job), body)
            .await
    }

    /// How far a savepoint or stop is. Flink forgets it `rest.async.store-duration` (5 min) after its end, and when the
    /// JobManager goes; a JobManager whose job was stopped waits for this call before it ends.
    ///
    /// # Errors
    /// See [`RestError`]; an unknown trigger id is [`OperationStatus::Unknown`].
    pub async fn operation(
        &self,
        job: JobId,
        trigger: TriggerId,
    ) -> Result<OperationStatus, RestError> {
        let call = Call::get(format!("/jobs/{job}/savepoints/{trigger}"));
        match self.poll::<wire::SavepointResult>(&call).await? {
            None => Ok(OperationStatus::Unknown),
            Some(answer) => answer.try_into().map_err(|error| garbage(&call, error)),
        }
    }

    /// The checkpoints of a job, as of up to `web.refresh-interval` (3 s) ago.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::NotFound`] with `NotSupported` for a batch job.
    pub async fn checkpoints(&self, job: JobId) -> Result<CheckpointStats, RestError> {
        self.ask(&Call::get(format!("/jobs/{job}/checkpoints")))
            .await
    }

    /// The effective checkpoint settings of a job.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::NotFound`] with `NotSupported` for a batch job.
    pub async fn checkpoint_config(&self, job: JobId) -> Result<CheckpointConfig, RestError> {
        self.ask(&Call::get(format!("/jobs/{job}/checkpoints/config")))
            .await
    }

    /// The effective configuration of the JobManager; secrets are masked by Flink.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn jobmanager_config(&self) -> Result<BTreeMap<String, String>, RestError> {
        let entries: Vec<ConfigEntry> = self.ask(&Call::get("/jobmanager/config")).await?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect())
    }

    /// The TaskManagers that are registered.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn task_managers(&self) -> Result<Vec<TaskManager>, RestError> {
        let call = Call::get("/taskmanagers".to_owned());
        let answer: wire::TaskManagers = self.ask(&call).await?;
        Ok(answer.into())
    }

    /// Asks for a checkpoint of the kind that the job takes by itself. Since Flink 1.17.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::TooOld`] before 1.17.
    pub async fn trigger_checkpoint(
        &self,
        job: JobId,
        trigger: TriggerId,
    ) -> Result<TriggerId, RestError> {
        let path = format!("/jobs/{job}/checkpoints");
        let version = self.version_or_newest().await?;
        let since = wire::CHECKPOINT_ON_DEMAND;
        if version < since {
            return Err(RestError::TooOld {
                request: format!("POST {path}"),
                version,
                since,
            });
        }
        let body = serde_json::json!({"checkpointType": "CONFIGURED", "triggerId": trigger});
        self.submit(path, serde_json::to_vec(&body)).await
    }

    /// How far a checkpoint asked for with [`Self::trigger_checkpoint`] is.
    ///
    /// # Errors
    /// See [`RestError`]; an unknown trigger id is [`CheckpointOperation::Unknown`].
    pub async fn checkpoint_operation(
        &self,
        job: JobId,
        trigger: TriggerId,
    ) -> Result<CheckpointOperation, RestError> {
        let call = Call::get(format!("/jobs/{job}/checkpoints/{trigger}"));
        match self.poll::<wire::CheckpointResult>(&call).await? {
            None => Ok(CheckpointOperation::Unknown),
            Some(answer) => answer.try_into().map_err(|error| garbage(&call, error)),
        }
    }

    /// Asks for the cancellation of a job.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::Conflict`] when the job has already ended, [`RestError::NotFound`] when unknown.
    pub async fn cancel(&self, job: JobId) -> Result<(), RestError> {
        let path = format!("/jobs/{job}?mode=cancel");
        self.answer(&Call {
            method: Method::PATCH,
            path,
            body: Bytes::new(),
        })
        .await
        .map(drop)
    }

    /// Ends the cluster gracefully: high-availability metadata is deleted, in native mode the Deployment too. Not a
    /// restart.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn shut_down_cluster(&self) -> Result<(), RestError> {
        let call = Call {
            method: Method::DELETE,
            path: "/cluster".to_owned(),
            body: Bytes::new(),
        };
        self.answer(&call).await.map(drop)
    }

    /// A build without a version is taken for a new one: an old one refuses the new fields without doing anything.
    async fn version_or_newest(&self) -> Result<FlinkVersion, RestError> {
        match self.version().await {
            Err(RestError::Garbage { .. }) => Ok(FlinkVersion {
                major: u16::MAX,
                minor: 0,
                patch: 0,
            }),
            other => other,
        }
    }

    async fn submit(
        &self,
        path: String,
        body: serde_json::Result<Vec<u8>>,
    ) -> Result<TriggerId, RestError> {
        let body = body.map(Bytes::from).unwrap_or_default();
        let triggered: Triggered = self
            .ask(&Call {
                method: Method::POST,
                path,
                body,
            })
            .await?;
        Ok(triggered.request_id)
    }

    /// The state of an operation, none when Flink does not know it. The 404 of an unknown path has other words.
    async fn poll<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<Option<Operation<T>>, RestError> {
        match self.ask(call).await {
            Err(RestError::NotFound { cause, .. }) if is_unknown_operation(&cause.root) => Ok(None),
            other => other.map(Some),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, RestError> {
        let body = self.answer(call).await?;
        serde_json::from_slice(&body).map_err(|error| garbage(call, error))
    }

    /// The body of a successful answer.
    async fn answer(&self, call: &Call) -> Result<Bytes, RestError> {
        let answer = self.exchange.call(call).await?;
        if answer.status.is_success() {
            Ok(answer.body)
        } else {
            Err(refusal(call, &answer))
        }
    }
}

/// `SavepointHandlers` since 1.15; `AbstractAsynchronousOperationHandlers` before and for checkpoints.
fn is_unknown_operation(words: &str) -> bool {
    words.contains("There is no ") && words.contains(" operation with triggerId=")
        || words.contains("Operation not found under key")
}

fn garbage(call: &Call, error: impl std::fmt::Display) -> RestError {
    RestError::Garbage {
        request: call.name(),
        what: fault::one_line(&error.to_string()),
    }
}

/// Turns a failed answer into an error. Flink tells its reason in a list of messages and stack traces.
fn refusal(call: &Call, answer: &Answer) -> RestError {
    let (request, status) = (call.name(), answer.status.as_u16());
    if matches!(
        answer.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ) {
        return RestError::Unauthorized { request, status };
    }
    if answer.status.is_redirection() {
        let target = answer.location.as_deref().unwrap_or("nowhere");
        return garbage(
            call,
            format_args!("redirected to {target}, which is not followed"),
        );
    }
    let errors = serde_json::from_slice::<Errors>(&answer.body);
    let transient = matches!(
        answer.status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
    );
    let mut cause = match errors {
        Ok(Errors { errors }) => fault::judge_errors(&errors),
        // A proxy or a service mesh answers for a JobManager that is not there.
        Err(_) if transient => fault::judge(&format!("status {status}")),
        Err(error) => {
            return garbage(
                call,
                format_args!("status {status} with a body that is not Flink's ({error})"),
            );
        }
    };
    if transient {
        cause.class = FailureClass::Unavailable;
    }
    match answer.status {
        _ if transient => RestError::Unavailable { request, cause },
        StatusCode::NOT_FOUND => RestError::NotFound { request, cause },
        StatusCode::CONFLICT => RestError::Conflict { request, cause },
        _ if answer.status.is_server_error() => RestError::Server {
            request,
            status,
            cause,
        },
        _ => RestError::BadRequest {
            request,
            status,
            cause,
        },
    }
}

#[cfg(test)]
mod tests;
