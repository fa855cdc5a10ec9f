//! What a `_metadata` file says, in Flink's words.

use std::ops::RangeInclusive;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

/// The beginning of a `_metadata` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Header {
    /// The format of the file, 2 to 6.
    pub version: FormatVersion,
    /// The number of the checkpoint or savepoint: both count up together within a job and its restores.
    pub checkpoint_id: u64,
}

/// The format of a `_metadata` file that this parser reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct FormatVersion(i32);

impl FormatVersion {
    pub(super) const KNOWN: RangeInclusive<i32> = 2..=6;

    pub(super) fn new(number: i32) -> Self {
        Self(number)
    }

    /// The number as written in the file.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The Flink versions that write this format.
    pub fn written_by(self) -> &'static str {
        match self.0 {
            2 => "Flink 1.3 to 1.10",
            3 => "Flink 1.11 to 1.15",
            4 => "Flink 1.16 to 1.20",
            5 => "Flink 2.0",
            _ => "Flink 2.1 to 2.3",
        }
    }

    pub(super) fn has_coordinators(self) -> bool {
        self.0 >= 3
    }

    pub(super) fn has_properties(self) -> bool {
        self.0 >= 4
    }

    pub(super) fn has_names(self) -> bool {
        self.0 >= 5
    }
}

/// What a complete `_metadata` file says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metadata {
    /// Format version and checkpoint id.
    #[serde(flatten)]
    pub header: Header,
    /// What was asked for when it was taken; formats 2 and 3 do not say.
    pub properties: Option<Properties>,
    /// Names of the states that hooks on the JobManager stored.
    pub master_states: Vec<String>,
    /// All operators, in the order of the file.
    pub operators: Vec<Operator>,
    /// Every file that the state refers to, once, in the order of the file.
    pub files: Vec<StateFile>,
    /// All state of all operators. Flink's REST API leaves the coordinators out of its `state_size`, see
    /// [`Metadata::subtask_state_size`].
    pub state_size: StateSize,
    /// Bytes written for this snapshot itself, without files of earlier checkpoints that it shares. Equal to the state
    /// size where the format does not say.
    pub checkpointed_size: u64,
    /// Bytes of the `_metadata` file itself, inline state included.
    pub metadata_size: u64,
}

impl Metadata {
    /// The state of all subtasks in bytes: what Flink's REST API calls `state_size`. (Up to 1.14 it calls so what an
    /// incremental checkpoint wrote itself, which format 3 does not record.)
    pub fn subtask_state_size(&self) -> u64 {
        let coordinators = self
            .operators
            .iter()
            .filter_map(|operator| operator.coordinator_state);
        self.state_size.total().saturating_sub(coordinators.sum())
    }

    /// How many subtasks hold state, over all operators.
    pub fn subtasks_with_state(&self) -> usize {
        self.operators
            .iter()
            .map(|operator| operator.subtasks.with_state)
            .sum()
    }
}

/// What Flink was asked for (`CheckpointProperties`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Properties {
    /// Savepoint or checkpoint.
    pub kind: SnapshotKind,
    /// Flink's name of the kind, such as `Savepoint`, `Suspend Savepoint`, `Terminate Savepoint` or `Full Checkpoint`.
    pub name: String,
    /// The format of a savepoint.
    pub format: Option<SavepointFormat>,
    /// When Flink deletes it by itself.
    pub discard: Discard,
    /// Whether it belongs to no job: a checkpoint that a job restored from in NO_CLAIM mode.
    pub unclaimed: bool,
}

/// Savepoint or checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// Belongs to the user.
    Savepoint,
    /// Belongs to Flink, which may delete it.
    Checkpoint,
}

/// The format of a savepoint's state (`SavepointFormatType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SavepointFormat {
    /// Readable by every state backend.
    Canonical,
    /// The state backend's own files.
    Native,
}

/// When Flink deletes a checkpoint by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Discard {
    /// Once enough newer ones have completed.
    pub subsumed: bool,
    /// When the job finishes.
    pub finished: bool,
    /// When the job is cancelled.
    pub cancelled: bool,
    /// When the job fails.
    pub failed: bool,
    /// When the job is suspended, as by a JobManager that is told to go.
    pub suspended: bool,
}

/// The state of one operator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operator {
    /// 32 hexadecimal digits: the hash of the uid, or one that Flink derived from the job graph.
    pub id: String,
    /// The operator's name; written since Flink 2.0.
    pub name: Option<String>,
    /// The uid that the job's author gave; written since Flink 2.0.
    pub uid: Option<String>,
    /// The parallelism it ran with.
    pub parallelism: u32,
    /// The most it can be scaled to without losing this state.
    pub max_parallelism: u32,
    /// How many of its subtasks had state, and how many were done.
    pub subtasks: Subtasks,
    /// Bytes of the coordinator's state, which is always inline.
    pub coordinator_state: Option<u64>,
    /// Operator state that Flink manages, such as the offsets of a source.
    pub managed_operator_state: StateSize,
    /// Operator state that the operator writes as it likes.
    pub raw_operator_state: StateSize,
    /// State per key that Flink manages.
    pub managed_keyed_state: StateSize,
    /// State per key that the operator writes as it likes, such as timers of the heap.
    pub raw_keyed_state: StateSize,
    /// Data that was in flight to the operator; in unaligned checkpoints only.
    pub input_channel_state: StateSize,
    /// Data that was in flight from the operator; in unaligned checkpoints only.
    pub output_channel_state: StateSize,
    /// How the keyed state is stored, each kind once.
    pub keyed_state_kinds: Vec<KeyedStateKind>,
    /// All of the above together.
    pub state_size: StateSize,
}

/// The subtasks of an operator at the time of the snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Subtasks {
    /// Those that hold state of any kind.
    pub with_state: usize,
    /// Those that hold none.
    pub without_state: usize,
    /// Those that had finished; all of them, if the operator had finished as a whole.
    pub finished: usize,
}

/// How keyed state is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyedStateKind {
    /// Key groups in the format of one state backend, complete.
    Full,
    /// Key groups of a savepoint in canonical format.
    CanonicalSavepoint,
    /// The files of a RocksDB or ForSt instance; a checkpoint shares them with others.
    Incremental,
    /// A changelog over any of the others.
    Changelog,
}

/// Bytes of state, by where they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Bytes inside `_metadata` itself.
    pub inline: u64,
    /// Bytes in other files. A file that several handles share counts for each as far as it uses it.
    pub in_files: u64,
}

impl Serialize for StateSize {
    /// Both parts and their total.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut size = serializer.serialize_struct("StateSize", 3)?;
        size.serialize_field("total", &self.total())?;
        size.serialize_field("inline", &self.inline)?;
        size.serialize_field("in_files", &self.in_files)?;
        size.end()
    }
}

impl StateSize {
    /// All bytes.
    pub fn total(self) -> u64 {
        self.inline.saturating_add(self.in_files)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.inline = self.inline.saturating_add(other.inline);
        self.in_files = self.in_files.saturating_add(other.in_files);
    }
}

/// A file that holds state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateFile {
    /// Where it is.
    #[serde(flatten)]
    pub path: FilePath,
    /// Its length in bytes, if Flink knew it.
    pub size: Option<u64>,
    /// Whether the file may be longer than `size`: only parts of a merged file are referred to (since 1.20), and
    /// changelog files are a byte longer than Flink says. Otherwise `size` is exact.
    pub partial: bool,
    /// Whether other checkpoints may refer to it as well.
    pub shared: bool,
}

/// The path of a state file as Flink wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FilePath {
    /// Relative to the directory of `_metadata`, which may be moved together with it.
    Relative(String),
    /// A URI, or an absolute path of the local file system.
    Absolute(String),
}
