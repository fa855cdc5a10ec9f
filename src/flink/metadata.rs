//! Parses Flink's `_metadata`, the file that makes a directory a savepoint or a checkpoint.
//!
//! Promises: bytes that are accepted are complete to the last one and would be accepted by Flink's own reader; bytes that
//! are refused come with the offset and with what was being read. Time and memory are linear in the length of the file,
//! whatever it contains, and inline state is not copied. No I/O: whether the files that are referred to exist is for the
//! caller to look up, see [`Metadata::files`].
//!
//! Formats 2 to 6 are read, which covers all that Flink 1.3 to 2.3 writes (`MetadataV2Serializer` … `MetadataV6Serializer`).

mod files;
mod foreign;
mod handles;
mod java;
mod operators;
mod reader;

use serde::Serialize;

use files::Files;
use reader::Reader;

const MAGIC: u32 = 0x4960_672d;
const MASTER_STATE_MAGIC: u32 = 0xc96b_1696;

/// Most operators that are accepted; bounds memory. Flink jobs have tens.
const MAX_OPERATORS: usize = 100_000;

/// How many bytes [`peek`] needs: magic number, format version and checkpoint id.
pub const HEADER_BYTES: usize = 16;

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

    fn has_coordinators(self) -> bool {
        self.0 >= 3
    }

    fn has_properties(self) -> bool {
        self.0 >= 4
    }

    fn has_names(self) -> bool {
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
    /// All state of all operators: what Flink's REST API calls `state_size`.
    pub state_size: StateSize,
    /// Bytes written for this snapshot itself, without files of earlier checkpoints that it shares: what Flink's REST
    /// API calls `checkpointed_size`. Equal to the state size where the format does not say.
    pub checkpointed_size: u64,
    /// Bytes of the `_metadata` file itself, inline state included.
    pub metadata_size: u64,
}

impl Metadata {
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StateSize {
    /// Bytes inside `_metadata` itself.
    pub inline: u64,
    /// Bytes in other files. A file that several handles share counts for each as far as it uses it.
    pub in_files: u64,
}

impl StateSize {
    /// All bytes.
    pub fn total(self) -> u64 {
        self.inline.saturating_add(self.in_files)
    }

    fn add(&mut self, other: Self) {
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
    /// Whether only a part of the file is referred to (merged files, since 1.20): then `size` is where the last part
    /// ends, and the file may be longer.
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

/// Why bytes are not a complete `_metadata`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The file is something else.
    #[error(
        "not a Flink savepoint or checkpoint: the file looks like {found}; pass the savepoint's directory or its _metadata file"
    )]
    NotMetadata {
        /// What it looks like.
        found: String,
    },
    /// Flink's magic number, with a format that is not known.
    #[error(
        "unsupported _metadata format {version}: formats 2 to 6, written by Flink 1.3 to 2.3, can be read; {}",
        if *.version > 6 { "it was written by a newer Flink, so use a newer release of drey" } else { "it is older than Flink 1.3, or damaged" }
    )]
    UnsupportedVersion {
        /// The number in the file.
        version: i32,
    },
    /// The file ends too early.
    #[error(
        "truncated _metadata: the file ends at byte {offset} while reading {reading}; the snapshot is not complete, use another one"
    )]
    Truncated {
        /// The length of the file.
        offset: u64,
        /// What was being read.
        reading: &'static str,
    },
    /// The file holds something that Flink never writes.
    #[error("damaged _metadata: {reading} is {value} at byte {offset}; use another snapshot")]
    Corrupt {
        /// Where the value is.
        offset: u64,
        /// What was being read.
        reading: &'static str,
        /// What was found.
        value: i64,
    },
    /// The file goes on after its end.
    #[error(
        "damaged _metadata: {surplus} more bytes after its end at byte {offset}; use another snapshot"
    )]
    TrailingGarbage {
        /// Where the metadata ends.
        offset: u64,
        /// How many bytes follow.
        surplus: u64,
    },
}

/// Reads the header from the first [`HEADER_BYTES`] bytes or more.
///
/// # Errors
/// If the bytes are something else, of an unknown format or too few. The rest of the file is not looked at.
pub fn peek(prefix: &[u8]) -> Result<Header, MetadataError> {
    header(&mut Reader::new(prefix), prefix)
}

/// Parses a whole `_metadata` file.
///
/// # Errors
/// If the bytes are something else, of an unknown format, damaged or not complete to the last byte.
pub fn parse(bytes: &[u8]) -> Result<Metadata, MetadataError> {
    let mut reader = Reader::new(bytes);
    let header = header(&mut reader, bytes)?;
    let master_states = master_states(&mut reader)?;
    let mut files = Files::default();
    let mut operators = Vec::new();
    let mut checkpointed_size = 0_u64;
    let count = reader.count("the number of operators")?;
    if count > MAX_OPERATORS {
        return Err(reader.corrupt(4, "the number of operators", count as i64));
    }
    for _ in 0..count {
        let (operator, checkpointed) =
            operators::read_operator(&mut reader, header.version, &mut files)?;
        checkpointed_size = checkpointed_size.saturating_add(checkpointed);
        operators.push(operator);
    }
    let properties = match header.version.has_properties() {
        true => Some(java::read_properties(&mut reader)?),
        false => None,
    };
    if reader.remaining() > 0 {
        return Err(MetadataError::TrailingGarbage {
            offset: reader.offset() as u64,
            surplus: reader.remaining() as u64,
        });
    }
    let mut state_size = StateSize::default();
    operators
        .iter()
        .for_each(|operator: &Operator| state_size.add(operator.state_size));
    let files = files.into_vec();
    let metadata_size = bytes.len() as u64;
    Ok(Metadata {
        header,
        properties,
        master_states,
        operators,
        files,
        state_size,
        checkpointed_size,
        metadata_size,
    })
}

fn header(reader: &mut Reader<'_>, prefix: &[u8]) -> Result<Header, MetadataError> {
    let magic = MAGIC.to_be_bytes();
    let start = &prefix[..prefix.len().min(magic.len())];
    if start.is_empty() || !magic.starts_with(start) {
        return Err(MetadataError::NotMetadata {
            found: foreign::looks_like(prefix),
        });
    }
    reader.take(magic.len(), "the magic number")?;
    let version = reader.i32("the format version")?;
    if !(2..=6).contains(&version) {
        return Err(MetadataError::UnsupportedVersion { version });
    }
    let checkpoint_id = reader.size("the checkpoint id")?;
    Ok(Header {
        version: FormatVersion(version),
        checkpoint_id,
    })
}

/// States of hooks on the JobManager (`MasterState`): a magic number, a length and that many bytes, which must hold a
/// version, a name and a payload exactly.
fn master_states(reader: &mut Reader<'_>) -> Result<Vec<String>, MetadataError> {
    let reading = "a master state";
    let mut names = Vec::new();
    for _ in 0..reader.count("the number of master states")? {
        let magic = reader.i32(reading)?;
        if magic.cast_unsigned() != MASTER_STATE_MAGIC {
            return Err(reader.corrupt(4, "the magic number of a master state", i64::from(magic)));
        }
        let length = reader.count("the length of a master state")?;
        let end = reader.offset().saturating_add(length);
        reader.i32("the version of a master state")?;
        names.push(reader.utf("the name of a master state")?.into_owned());
        let payload = reader.count("the length of a master state's payload")?;
        reader.take(payload, "a master state's payload")?;
        if reader.offset() != end {
            return Err(reader.corrupt(0, "the length of a master state", length as i64));
        }
    }
    Ok(names)
}
