//! What the supervisor answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::changes::Files;
use crate::domain::health::AilmentKind;
use crate::domain::job::{JobId, JobStatus};
use crate::domain::pointer::{Pointer, RunId, TriggerReason};
use crate::retention::Report;
use crate::status_page::story::Story;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "reply",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Reply {
    /// Start Flink like this.
    Start(StartOrder),
    /// Do not start: the job is over.
    Ended {
        /// Its last state.
        status: JobStatus,
        /// Wait to be told to go instead of ending: a container that ended would be started again and again.
        stay: bool,
    },
    /// Done.
    Done,
    /// End Flink now.
    Terminate {
        /// What was reached for each job.
        settled: Vec<Settled>,
        /// What the launcher does then.
        then: Then,
    },
    /// What was reached for each job after Flink ended.
    Settled {
        /// By job.
        settled: Vec<Settled>,
        /// Flink is to be started again: what it ended with was a configuration that is tried.
        #[serde(default)]
        again: bool,
    },
    /// Use these files instead of the configuration directory, and ask again.
    Configure {
        /// By name.
        files: Files,
    },
    /// What would change.
    Diff(Box<DiffReport>),
    /// The savepoint is recorded.
    Savepoint {
        /// Its path.
        path: String,
    },
    /// The checkpoint is completed.
    Checkpoint {
        /// Its id.
        checkpoint_id: u64,
    },
    /// What was deleted, or would be.
    Gc(Box<Report>),
    /// The job runs with the parallelism that was wanted.
    Rescaled {
        /// Its vertices.
        vertices: Vec<RescaledVertex>,
        /// A checkpoint that was completed with it; `None`: nothing had to be changed.
        checkpoint: Option<u64>,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// How everything stands.
    Status(Box<Status>),
    /// What the status page shows.
    Story(Box<Story>),
    /// The pointer; `None` when there has never been one.
    Pointer {
        /// The pointer.
        pointer: Option<Box<Pointer>>,
    },
    /// It did not work.
    Failed {
        /// Why, and what to do.
        error: String,
        /// The exit code of whoever asked: 1 failed, 64 bad usage, 75 may work later.
        code: u8,
    },
}

impl Reply {
    /// It did not work and will not by itself.
    #[must_use]
    pub fn failed(error: impl Into<String>) -> Self {
        Self::Failed {
            error: error.into(),
            code: 1,
        }
    }
}

/// What comes after Flink's end by order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The launcher ends, with an exit code that says what was reached.
    End,
    /// The launcher ends with Flink's own exit code: a pod of kind Job that was evicted would otherwise count as complete.
    EndAsFlink,
    /// The launcher asks for the next start.
    Again,
}

/// How Flink is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StartOrder {
    /// The run.
    pub run: RunId,
    /// Keys to be set in Flink's configuration.
    pub set: BTreeMap<String, String>,
    /// Keys to be removed from it.
    pub remove: Vec<String>,
    /// Arguments for a standalone JobManager, right after its command.
    pub args: Vec<String>,
    /// Arguments for the job, after those in the command: by the launcher, which knows their file.
    #[serde(default)]
    pub job_args: Vec<String>,
    /// Where it resumes from, `None` for empty state.
    pub restore_from: Option<String>,
    /// Why.
    pub why: String,
}

/// What was reached for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settled {
    /// The job's key.
    pub job: String,
    /// How it came out.
    pub outcome: SettledOutcome,
    /// The restore point of the next start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Why it came out like this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// Who wanted the stop, when it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<TriggerReason>,
}

/// How it came out for one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettledOutcome {
    /// Stopped with a savepoint that is recorded.
    Recorded,
    /// The restore point is a retained checkpoint.
    Fallback,
    /// The job finished by itself or was cancelled.
    Finished,
    /// The job failed by itself.
    Failed,
    /// Nothing was recorded.
    Nothing,
}

/// How everything stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The version of drey.
    pub version: String,
    /// The cluster id.
    pub cluster_id: String,
    /// Where the pointer is: a file, or `configmap/NAME`.
    pub pointer: String,
    /// Flink's process id, while it runs.
    pub flink_pid: Option<i32>,
    /// Its version.
    pub flink_version: Option<String>,
    /// Its REST address.
    pub rest_url: Option<String>,
    /// Whether Flink answered the last time.
    pub reachable: bool,
    /// A shutdown is under way.
    pub shutting_down: bool,
    /// The annotation `drey.io/suspend` holds the job.
    #[serde(default)]
    pub suspended: bool,
    /// What a start of Flink waits for.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// The jobs, by key.
    pub jobs: BTreeMap<String, JobReport>,
}

/// What would change if Flink were started now, with secrets masked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiffReport {
    /// Names the configuration that runs.
    pub running: String,
    /// Names the one that stands there; `None`: it cannot be understood.
    pub wanted: Option<String>,
    /// Keys that differ, with their values before and after.
    pub keys: BTreeMap<String, (Option<String>, Option<String>)>,
    /// Other files that differ.
    pub files: Vec<String>,
    /// The job's arguments before and after, if they differ.
    #[serde(default)]
    pub arguments: Option<[Vec<String>; 2]>,
    /// Only the parallelism differs.
    pub only_parallelism: bool,
    /// TaskManagers read some of it.
    pub concerns_task_managers: bool,
    /// Why it would not be applied.
    pub refused: Vec<String>,
    /// It was tried and rolled back: why.
    pub rolled_back: Option<String>,
    /// It is being tried.
    pub on_trial: bool,
}

/// How one job stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobReport {
    /// The job id.
    pub job_id: Option<JobId>,
    /// The job's name.
    pub name: Option<String>,
    /// Its state.
    pub status: Option<JobStatus>,
    /// Running and total tasks.
    pub tasks: Option<(u32, u32)>,
    /// What the run started from.
    pub restored_from: Option<String>,
    /// The newest recorded restore point.
    pub restore_point: Option<String>,
    /// The newest checkpoint that Flink completed in this run.
    pub completed_checkpoint: Option<i64>,
    /// The checkpoint interval in milliseconds, as the job really has it.
    pub checkpoint_interval_ms: Option<u64>,
    /// A savepoint under way.
    pub savepoint_in_progress: bool,
    /// What is wrong with its health, each with its words among the problems.
    #[serde(default)]
    pub ailments: Vec<AilmentKind>,
    /// What a person should know.
    pub problems: Vec<String>,
}

/// One vertex of a job that has another parallelism now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RescaledVertex {
    /// Its id.
    pub id: String,
    /// The names of its operators.
    pub name: String,
    /// Its parallelism before.
    pub before: u32,
    /// Its parallelism now.
    pub after: u32,
}
