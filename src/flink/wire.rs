//! The JSON of Flink's REST interface, 1.13 to 2.3: what Drey reads and sends. Fields that it does not need, or does not
//! know, are ignored.
mod checkpoints;
mod vertices;

pub use checkpoints::{
    CheckpointConfig, CheckpointCounts, CheckpointEntry, CheckpointPhase, CheckpointStats,
    Externalization, LatestCheckpoints, RestoredCheckpoint,
};
pub use vertices::JobGraph;
pub(super) use vertices::{from_wire, to_wire};

use crate::domain::job::{JobId, JobStatus, JobView, TaskCounts};
use crate::domain::savepoint::{
    OperationStatus, SavepointFormat, SavepointKind, SavepointRequest, TriggerId,
};
use crate::flink::fault;
use crate::flink::version::FlinkVersion;
use serde::{Deserialize, Serialize};

/// Callers may choose the trigger id, and the format, from here on. Older versions refuse the fields (FLINK-24208).
pub const CHOSEN_TRIGGER_ID: FlinkVersion = FlinkVersion {
    major: 1,
    minor: 15,
    patch: 0,
};
/// Checkpoints can be asked for from here on.
pub const CHECKPOINT_ON_DEMAND: FlinkVersion = FlinkVersion {
    major: 1,
    minor: 17,
    patch: 0,
};

#[derive(Deserialize)]
pub(super) struct Errors {
    pub(super) errors: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Dashboard {
    #[serde(rename = "flink-version")]
    pub(super) flink_version: String,
}

#[derive(Deserialize)]
pub(super) struct Overview {
    jobs: Vec<OverviewJob>,
}

#[derive(Deserialize)]
struct OverviewJob {
    jid: JobId,
    name: String,
    state: JobStatus,
    #[serde(rename = "start-time")]
    start_time: i64,
    tasks: TaskCounts,
}

impl From<Overview> for Vec<JobView> {
    fn from(overview: Overview) -> Self {
        let view = |job: OverviewJob| JobView {
            id: job.jid,
            name: job.name,
            status: job.state,
            start_time: job.start_time,
            tasks: job.tasks,
        };
        overview.jobs.into_iter().map(view).collect()
    }
}

/// What has become of the applications that a JobManager was started for.
#[derive(Deserialize)]
pub(super) struct Applications {
    applications: Vec<Application>,
}

#[derive(Deserialize)]
struct Application {
    id: String,
    status: String,
}

impl Applications {
    /// The id of one that has failed.
    pub(super) fn failed(self) -> Option<String> {
        let mut all = self.applications.into_iter();
        Some(all.find(|it| it.status == "FAILED")?.id)
    }
}

/// Why one has failed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApplicationExceptions {
    exception_history: ApplicationHistory,
}

#[derive(Deserialize)]
struct ApplicationHistory {
    entries: Vec<ApplicationException>,
}

#[derive(Deserialize)]
struct ApplicationException {
    stacktrace: String,
}

impl ApplicationExceptions {
    /// The root cause of the newest one, in one line.
    pub(super) fn why(&self) -> String {
        let newest = self.exception_history.entries.first();
        newest.map_or_else(
            || "Flink does not say why".to_owned(),
            |it| fault::judge(&it.stacktrace).root,
        )
    }
}

/// The body of `POST /jobs/:id/savepoints`; its field names differ from those of `/stop`.
#[derive(Serialize)]
struct SavepointBody<'a> {
    #[serde(rename = "target-directory", skip_serializing_if = "Option::is_none")]
    target_directory: Option<&'a str>,
    #[serde(rename = "cancel-job")]
    cancel_job: bool,
    #[serde(flatten)]
    since_1_15: Since115,
}

#[derive(Serialize)]
struct StopBody<'a> {
    #[serde(rename = "targetDirectory", skip_serializing_if = "Option::is_none")]
    target_directory: Option<&'a str>,
    drain: bool,
    #[serde(flatten)]
    since_1_15: Since115,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Since115 {
    #[serde(skip_serializing_if = "Option::is_none")]
    format_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger_id: Option<TriggerId>,
}

/// The last part of the path and the body that ask this version of Flink for this savepoint.
pub(super) fn savepoint_call(
    request: &SavepointRequest,
    version: FlinkVersion,
) -> (&'static str, serde_json::Result<Vec<u8>>) {
    let chosen = version >= CHOSEN_TRIGGER_ID;
    let since_1_15 = Since115 {
        format_type: request
            .format
            .filter(|_| chosen)
            .map(SavepointFormat::to_flink),
        trigger_id: Some(request.trigger).filter(|_| chosen),
    };
    let target_directory = request.target_directory.as_deref();
    match request.kind {
        SavepointKind::Savepoint => {
            let body = SavepointBody {
                target_directory,
                cancel_job: false,
                since_1_15,
            };
            ("savepoints", serde_json::to_vec(&body))
        }
        SavepointKind::Stop { drain } => {
            let body = StopBody {
                target_directory,
                drain,
                since_1_15,
            };
            ("stop", serde_json::to_vec(&body))
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Triggered {
    #[serde(rename = "request-id")]
    pub(super) request_id: TriggerId,
}

#[derive(Deserialize)]
pub(super) struct Operation<T> {
    status: OperationId,
    operation: Option<T>,
}

#[derive(Deserialize)]
struct OperationId {
    id: OperationPhase,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum OperationPhase {
    InProgress,
    Completed,
}

#[derive(Deserialize)]
pub(super) struct SavepointResult {
    location: Option<String>,
    #[serde(rename = "failure-cause")]
    failure_cause: Option<Throwable>,
}

#[derive(Deserialize)]
pub(super) struct CheckpointResult {
    #[serde(rename = "checkpointId")]
    checkpoint: Option<u64>,
    // `failureCause` here, `failure-cause` for savepoints (`CheckpointInfo`, `SavepointInfo`).
    #[serde(rename = "failureCause")]
    failure_cause: Option<Throwable>,
}

#[derive(Deserialize)]
struct Throwable {
    #[serde(default)]
    class: String,
    #[serde(rename = "stack-trace", default)]
    stack_trace: String,
}

impl Throwable {
    fn judge(&self) -> crate::domain::savepoint::FailureCause {
        fault::judge(if self.stack_trace.trim().is_empty() {
            &self.class
        } else {
            &self.stack_trace
        })
    }
}

#[derive(Deserialize)]
pub(super) struct DisposalResult {
    #[serde(rename = "failure-cause")]
    failure_cause: Option<Throwable>,
}

impl From<Operation<DisposalResult>> for super::rest::Disposal {
    fn from(answer: Operation<DisposalResult>) -> Self {
        if answer.status.id == OperationPhase::InProgress {
            return Self::InProgress;
        }
        let failure = answer.operation.and_then(|result| result.failure_cause);
        failure.map_or(Self::Done, |cause| Self::Failed(cause.judge()))
    }
}

/// Neither a result nor a failure in a completed operation.
#[derive(Debug, thiserror::Error)]
#[error("the operation is completed with neither a result nor a failure cause")]
pub(super) struct EmptyOperation;

impl TryFrom<Operation<SavepointResult>> for OperationStatus {
    type Error = EmptyOperation;

    fn try_from(answer: Operation<SavepointResult>) -> Result<Self, EmptyOperation> {
        if answer.status.id == OperationPhase::InProgress {
            return Ok(Self::InProgress);
        }
        match answer.operation {
            Some(SavepointResult {
                failure_cause: Some(cause),
                ..
            }) => Ok(Self::Failed(cause.judge())),
            Some(SavepointResult {
                location: Some(location),
                ..
            }) => Ok(Self::Completed { location }),
            _ => Err(EmptyOperation),
        }
    }
}

/// How far a checkpoint asked for with [`super::rest::FlinkRest::trigger_checkpoint`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointOperation {
    /// Flink is still at it.
    InProgress,
    /// The checkpoint is complete.
    Completed {
        /// Its id.
        checkpoint: u64,
    },
    /// It failed.
    Failed(crate::domain::savepoint::FailureCause),
    /// Flink does not know this trigger id.
    Unknown,
}

impl TryFrom<Operation<CheckpointResult>> for CheckpointOperation {
    type Error = EmptyOperation;

    fn try_from(answer: Operation<CheckpointResult>) -> Result<Self, EmptyOperation> {
        if answer.status.id == OperationPhase::InProgress {
            return Ok(Self::InProgress);
        }
        match answer.operation {
            Some(CheckpointResult {
                failure_cause: Some(cause),
                ..
            }) => Ok(Self::Failed(cause.judge())),
            Some(CheckpointResult {
                checkpoint: Some(checkpoint),
                ..
            }) => Ok(Self::Completed { checkpoint }),
            _ => Err(EmptyOperation),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ConfigEntry {
    pub(super) key: String,
    pub(super) value: String,
}

#[derive(Deserialize)]
pub(super) struct TaskManagers {
    taskmanagers: Vec<RegisteredTaskManager>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegisteredTaskManager {
    id: String,
    path: String,
    slots_number: u32,
    free_slots: u32,
}

/// A TaskManager that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskManager {
    /// Flink's resource id; in native mode the pod's name.
    pub id: String,
    /// The host in its RPC address: an IP address in pods.
    pub host: Option<String>,
    /// Its slots.
    pub slots: u32,
    /// Those that no task uses.
    pub free_slots: u32,
}

impl From<TaskManagers> for Vec<TaskManager> {
    fn from(answer: TaskManagers) -> Self {
        let registered = answer.taskmanagers.into_iter();
        registered
            .map(|it| TaskManager {
                host: rpc_host(&it.path),
                id: it.id,
                slots: it.slots_number,
                free_slots: it.free_slots,
            })
            .collect()
    }
}

/// The host in `pekko.tcp://flink@10.0.0.7:6122/user/rpc/taskmanager_0` (akka before 1.18).
fn rpc_host(path: &str) -> Option<String> {
    let (_, rest) = path.split_once('@')?;
    let address = rest.split('/').next()?;
    let (host, _) = address.rsplit_once(':')?;
    Some(host.trim_matches(['[', ']']).to_owned())
}

#[cfg(test)]
mod tests;
