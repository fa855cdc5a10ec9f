//! Parses Flink's `_metadata`, the file that makes a directory a savepoint or a checkpoint.
//!
//! Promises: bytes that are accepted are complete to the last one and have passed the checks of Flink's own reader (of the
//! Java-serialized properties at the end only the structure is checked, of paths only the encoding); bytes that
//! are refused come with the offset and with what was being read. Time and memory are linear in the length of the file,
//! whatever it contains, and inline state is not copied. No I/O: whether the files that are referred to exist is for the
//! caller to look up, see [`Metadata::files`].
//!
//! Formats 2 to 6 are read, which covers all that Flink 1.3 to 2.3 writes (`MetadataV2Serializer` … `MetadataV6Serializer`).

mod files;
mod foreign;
mod handles;
mod java;
mod keyed;
mod model;
mod operators;
mod reader;
#[cfg(test)]
mod tests;

use files::Files;
use reader::Reader;

pub use model::{
    Discard, FilePath, FormatVersion, Header, KeyedStateKind, Metadata, Operator, Properties,
    SavepointFormat, SnapshotKind, StateFile, StateSize, Subtasks,
};

const MAGIC: u32 = 0x4960_672d;
const MASTER_STATE_MAGIC: u32 = 0xc96b_1696;

/// Most operators that are accepted; bounds memory. Flink jobs have tens.
const MAX_OPERATORS: usize = 100_000;

/// How many bytes [`peek`] needs: magic number, format version and checkpoint id.
pub const HEADER_BYTES: usize = 16;

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
    if !FormatVersion::KNOWN.contains(&version) {
        return Err(MetadataError::UnsupportedVersion { version });
    }
    let checkpoint_id = reader.size("the checkpoint id")?;
    Ok(Header {
        version: FormatVersion::new(version),
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
