//! What Flink tells about the checkpoints of a job and about their settings.
use crate::flink::fault;
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// What Flink says in place of a path when a checkpoint lives in the JobManager's memory.
const NOT_ADDRESSABLE: &str = "<checkpoint-not-externally-addressable>";

/// What Flink tells about the checkpoints of one job. Flink caches it for `web.refresh-interval`, 3 s by default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CheckpointStats {
    /// How many there were in this run of the job on this JobManager.
    pub counts: CheckpointCounts,
    /// The newest of each kind.
    pub latest: LatestCheckpoints,
    /// The newest ones, the newest first, savepoints and those in progress among them (`web.checkpoints.history`).
    #[serde(default)]
    pub history: Vec<CheckpointEntry>,
}

/// Numbers of checkpoints and savepoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct CheckpointCounts {
    /// Restores: one for the start from a restore point, one for each failover from a checkpoint.
    pub restored: u64,
    /// All that were triggered.
    pub total: u64,
    /// Those in progress.
    pub in_progress: u64,
    /// Those completed.
    pub completed: u64,
    /// Those failed.
    pub failed: u64,
}

/// The newest checkpoint of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LatestCheckpoints {
    /// The newest completed checkpoint; never a savepoint.
    pub completed: Option<CheckpointEntry>,
    /// The newest completed savepoint.
    pub savepoint: Option<CheckpointEntry>,
    /// The newest that failed.
    pub failed: Option<CheckpointEntry>,
    /// What the job was restored from the last time: the proof of what a start has resumed.
    pub restored: Option<RestoredCheckpoint>,
}

/// One checkpoint or savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CheckpointEntry {
    /// The checkpoint id; savepoints and checkpoints share one sequence.
    pub id: u64,
    /// How far it is.
    pub status: CheckpointPhase,
    /// True for savepoints, also those of a stop.
    pub is_savepoint: bool,
    /// `CHECKPOINT`, `UNALIGNED_CHECKPOINT`, `SAVEPOINT` or `SYNC_SAVEPOINT`, which is the one of a stop.
    pub checkpoint_type: Option<String>,
    /// When it was triggered, in milliseconds since 1970.
    pub trigger_timestamp: i64,
    /// How long it took or has taken, in milliseconds.
    pub end_to_end_duration: i64,
    /// Bytes of state.
    pub state_size: i64,
    /// Where it is, once it is completed and if it can be restored from.
    #[serde(default, deserialize_with = "addressable")]
    pub external_path: Option<String>,
    /// True when Flink has deleted it again.
    #[serde(default)]
    pub discarded: bool,
    /// Why it failed, in one line.
    #[serde(default, deserialize_with = "short", rename = "failure_message")]
    pub failure: Option<String>,
}

/// How far a checkpoint is (`CheckpointStatsStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckpointPhase {
    /// Some task has not confirmed it yet.
    InProgress,
    /// It is complete.
    Completed,
    /// It has failed.
    Failed,
}

/// What a job was restored from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RestoredCheckpoint {
    /// The checkpoint id.
    pub id: u64,
    /// True for a savepoint.
    pub is_savepoint: bool,
    /// Where it was.
    #[serde(default, deserialize_with = "addressable")]
    pub external_path: Option<String>,
    /// When, in milliseconds since 1970.
    pub restore_timestamp: i64,
}

/// How a job takes its checkpoints: the effective settings, since the job's code can override the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CheckpointConfig {
    /// `exactly_once` or `at_least_once`.
    pub mode: String,
    /// The time between two of them; none when the job takes no checkpoints by itself.
    #[serde(deserialize_with = "interval")]
    pub interval: Option<Duration>,
    /// Also the limit for savepoints.
    #[serde(deserialize_with = "milliseconds")]
    pub timeout: Duration,
    /// What happens to checkpoints when the job ends.
    pub externalization: Externalization,
}

/// Whether checkpoints outlive their job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Externalization {
    /// False when Flink deletes all checkpoints of a job that ends or is suspended (without high availability).
    pub enabled: bool,
    /// True when they are kept after a failure only.
    pub delete_on_cancellation: bool,
}

impl Externalization {
    /// True for `RETAIN_ON_CANCELLATION`.
    #[must_use]
    pub const fn retained(&self) -> bool {
        self.enabled && !self.delete_on_cancellation
    }
}

fn addressable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let path = Option::<String>::deserialize(deserializer)?;
    Ok(path.filter(|path| path != NOT_ADDRESSABLE && !path.is_empty()))
}

fn short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.map(|text| fault::one_line(&text)))
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// A disabled interval is `Long.MAX_VALUE`.
fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let millis = i64::deserialize(deserializer)?;
    let enabled = u64::try_from(millis).ok().filter(|_| millis != i64::MAX);
    Ok(enabled.map(Duration::from_millis))
}
