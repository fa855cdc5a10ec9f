//! Reads the state handles of one subtask: where each piece of state is and how large it is.
//!
//! The tags and layouts are those of Flink's `MetadataV2V3SerializerBase` and `ChannelStateHandleSerializerV1`/`V2`.
//! What Flink's own reader refuses when it restores is refused here too.

use super::files::{Files, Scope};
use super::reader::Reader;
use super::{KeyedStateKind, MetadataError, StateSize};

/// Key groups as a stream and changelogs nest; Flink writes at most two levels.
const MAX_DEPTH: usize = 8;

const NULL: u8 = 0;
const BYTE_STREAM: u8 = 1;
const FILE_STREAM: u8 = 2;
const KEY_GROUPS: u8 = 3;
const PARTITIONABLE_OPERATOR_STATE: u8 = 4;
const INCREMENTAL_KEY_GROUPS: u8 = 5;
const RELATIVE_STREAM: u8 = 6;
const SAVEPOINT_KEY_GROUPS: u8 = 7;
const CHANGELOG: u8 = 8;
const CHANGELOG_BYTE_INCREMENT: u8 = 9;
const CHANGELOG_FILE_INCREMENT: u8 = 10;
const INCREMENTAL_KEY_GROUPS_V2: u8 = 11;
const KEY_GROUPS_V2: u8 = 12;
const CHANGELOG_FILE_INCREMENT_V2: u8 = 13;
const CHANGELOG_V2: u8 = 14;
const SEGMENT_FILE: u8 = 15;
const EMPTY_SEGMENT_FILE: u8 = 16;
const SEGMENT_PARTITIONABLE_OPERATOR_STATE: u8 = 17;

const MERGED_INPUT_CHANNEL: u8 = 3;
const MERGED_RESULT_SUBPARTITION: u8 = 4;

/// The two directions of in-flight data in an unaligned checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum Channel {
    Input,
    Output,
}

/// How channel state handles are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum ChannelFormat {
    /// Formats 3 to 5: no tag.
    Untagged,
    /// Format 6: behind a tag, since several channels may share one handle.
    Tagged,
}

/// Where a stream of bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Null,
    Inline(u64),
    File(u64),
}

impl Stream {
    fn size(self) -> StateSize {
        match self {
            Self::Null => StateSize::default(),
            Self::Inline(size) => StateSize {
                inline: size,
                in_files: 0,
            },
            Self::File(size) => StateSize {
                inline: 0,
                in_files: size,
            },
        }
    }

    /// The same place, with another number of bytes: handles that use a part of a stream say how large the part is.
    fn part(self, size: u64) -> StateSize {
        match self {
            Self::Null | Self::Inline(_) => StateSize {
                inline: size,
                in_files: 0,
            },
            Self::File(_) => StateSize {
                inline: 0,
                in_files: size,
            },
        }
    }
}

/// Reads handles and collects the files that they refer to.
pub(super) struct Handles<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    pub(super) files: &'r mut Files,
    depth: usize,
}

impl<'r, 'a> Handles<'r, 'a> {
    pub(super) fn new(reader: &'r mut Reader<'a>, files: &'r mut Files) -> Self {
        Self {
            reader,
            files,
            depth: 0,
        }
    }

    /// The state of an operator's coordinator: none, or inline (`deserializeAndCheckByteStreamStateHandle`).
    pub(super) fn coordinator(&mut self) -> Result<Option<u64>, MetadataError> {
        let reading = "the coordinator state";
        let mut before = self.reader.clone();
        match self.stream(Scope::Exclusive, reading)? {
            Stream::Null => Ok(None),
            Stream::Inline(size) => Ok(Some(size)),
            Stream::File(_) => {
                let tag = before.u8(reading)?;
                Err(before.corrupt(1, reading, i64::from(tag)))
            }
        }
    }

    /// Operator (non-keyed) state, behind the number 0 (absent) or 1.
    pub(super) fn operator_state(
        &mut self,
        reading: &'static str,
    ) -> Result<Option<StateSize>, MetadataError> {
        if !self.reader.flag(reading)? {
            return Ok(None);
        }
        let tag = self.reader.u8(reading)?;
        match tag {
            NULL => return Ok(None),
            PARTITIONABLE_OPERATOR_STATE | SEGMENT_PARTITIONABLE_OPERATOR_STATE => {}
            other => return Err(self.reader.corrupt(1, reading, i64::from(other))),
        }
        for _ in 0..self.reader.count("the number of named operator states")? {
            self.reader.utf("the name of an operator state")?;
            let mode = self
                .reader
                .u8("the distribution mode of an operator state")?;
            if mode > 2 {
                return Err(self.reader.corrupt(
                    1,
                    "the distribution mode of an operator state",
                    i64::from(mode),
                ));
            }
            let offsets = self.reader.count("the number of operator state offsets")?;
            self.reader
                .skip_longs(offsets, "the operator state offsets")?;
        }
        if tag == SEGMENT_PARTITIONABLE_OPERATOR_STATE {
            self.reader
                .utf("the directory of merged files owned by the task")?;
            self.reader.utf("the directory of merged shared files")?;
            self.reader.u8("whether merged operator state is empty")?;
        }
        self.present(Scope::Exclusive, reading)
            .map(|stream| Some(stream.size()))
    }

    /// Keyed state of one subtask, or none.
    pub(super) fn keyed_state(
        &mut self,
        reading: &'static str,
    ) -> Result<Option<KeyedState>, MetadataError> {
        let tag = self.reader.u8(reading)?;
        let offset = self.reader.clone();
        if self.depth >= MAX_DEPTH {
            return Err(offset.corrupt(1, "keyed state nested too deep", i64::from(tag)));
        }
        self.depth += 1;
        let state = match tag {
            NULL => None,
            KEY_GROUPS | KEY_GROUPS_V2 | SAVEPOINT_KEY_GROUPS => Some(self.key_groups(tag)?),
            INCREMENTAL_KEY_GROUPS | INCREMENTAL_KEY_GROUPS_V2 => Some(self.incremental(tag)?),
            CHANGELOG | CHANGELOG_V2 => Some(self.changelog(tag)?),
            CHANGELOG_BYTE_INCREMENT => Some(self.changelog_in_memory()?),
            CHANGELOG_FILE_INCREMENT | CHANGELOG_FILE_INCREMENT_V2 => {
                Some(self.changelog_files(tag)?)
            }
            other => return Err(offset.corrupt(1, reading, i64::from(other))),
        };
        self.depth -= 1;
        Ok(state)
    }

    /// One direction's channel state of one subtask: in-flight data of an unaligned checkpoint.
    pub(super) fn channels(
        &mut self,
        channel: Channel,
        format: ChannelFormat,
    ) -> Result<StateSize, MetadataError> {
        let mut total = StateSize::default();
        for _ in 0..self.reader.count("the number of channel states")? {
            total.add(match format {
                ChannelFormat::Untagged => self.channel()?,
                ChannelFormat::Tagged => self.tagged_channel(channel)?,
            });
        }
        Ok(total)
    }

    fn tagged_channel(&mut self, channel: Channel) -> Result<StateSize, MetadataError> {
        let reading = "the type of a channel state";
        match (self.reader.u8(reading)?, channel) {
            (1, Channel::Input) | (2, Channel::Output) => self.channel(),
            (MERGED_INPUT_CHANNEL, Channel::Input)
            | (MERGED_RESULT_SUBPARTITION, Channel::Output) => self.merged_channel(),
            (other, _) => Err(self.reader.corrupt(1, reading, i64::from(other))),
        }
    }

    fn channel(&mut self) -> Result<StateSize, MetadataError> {
        self.reader.i32("the subtask index of a channel state")?;
        self.reader
            .i64("the gate and channel, or partition and subpartition, of a channel state")?;
        let offsets = self.reader.count("the number of channel state offsets")?;
        self.reader
            .skip_longs(offsets, "the channel state offsets")?;
        let size = self.reader.size("the size of a channel state")?;
        Ok(self
            .present(Scope::Exclusive, "the handle of a channel state")?
            .part(size))
    }

    fn merged_channel(&mut self) -> Result<StateSize, MetadataError> {
        self.reader.i32("the subtask index of a channel state")?;
        let size = self.reader.size("the size of a channel state")?;
        let stream = self.present(Scope::Exclusive, "the handle of a channel state")?;
        let offsets = self
            .reader
            .count("the length of the channel state offsets")?;
        self.reader.take(offsets, "the channel state offsets")?;
        Ok(stream.part(size))
    }

    fn key_group_range(&mut self) -> Result<usize, MetadataError> {
        let start = self.reader.count("the first key group")?;
        let count = self.reader.count("the number of key groups")?;
        match i32::try_from(start.saturating_add(count)) {
            Ok(_) => Ok(count),
            Err(_) => Err(self
                .reader
                .corrupt(4, "the number of key groups", count as i64)),
        }
    }

    fn key_groups(&mut self, tag: u8) -> Result<KeyedState, MetadataError> {
        let groups = self.key_group_range()?;
        self.reader.skip_longs(groups, "the key group offsets")?;
        let stream = self.present(Scope::Exclusive, "the handle of the key groups")?;
        if tag == KEY_GROUPS_V2 {
            self.reader.utf("the state handle id")?;
        }
        let kind = match tag {
            SAVEPOINT_KEY_GROUPS => KeyedStateKind::CanonicalSavepoint,
            _ => KeyedStateKind::Full,
        };
        Ok(KeyedState {
            kind,
            size: stream.size(),
            checkpointed: stream.size().total(),
        })
    }

    fn incremental(&mut self, tag: u8) -> Result<KeyedState, MetadataError> {
        self.reader.i64("the checkpoint id of incremental state")?;
        self.reader.utf("the state backend id")?;
        self.key_group_range()?;
        let written = match tag {
            INCREMENTAL_KEY_GROUPS_V2 => {
                u64::try_from(self.reader.i64("the checkpointed size")?).ok()
            }
            _ => None,
        };
        let mut size = self
            .present(
                Scope::Exclusive,
                "the handle of the state backend's own metadata",
            )?
            .size();
        for (scope, reading) in [
            (Scope::Shared, "a shared file of the state backend"),
            (Scope::Exclusive, "a private file of the state backend"),
        ] {
            for _ in 0..self
                .reader
                .count("the number of files of the state backend")?
            {
                self.reader
                    .utf("the local path of a file of the state backend")?;
                size.add(self.present(scope, reading)?.size());
            }
        }
        if tag == INCREMENTAL_KEY_GROUPS_V2 {
            self.reader.utf("the state handle id")?;
        }
        Ok(KeyedState {
            kind: KeyedStateKind::Incremental,
            size,
            checkpointed: written.unwrap_or(size.total()),
        })
    }

    fn changelog(&mut self, tag: u8) -> Result<KeyedState, MetadataError> {
        self.key_group_range()?;
        let checkpointed = self.reader.size("the checkpointed size of a changelog")?;
        let mut size = StateSize::default();
        for reading in [
            "the materialized state of a changelog",
            "a part of a changelog",
        ] {
            for _ in 0..self.reader.count("the number of parts of a changelog")? {
                if let Some(part) = self.keyed_state(reading)? {
                    size.add(part.size);
                }
            }
        }
        self.reader.i64("the materialization id of a changelog")?;
        if tag == CHANGELOG_V2 {
            self.reader.i64("the checkpoint id of a changelog")?;
        }
        self.reader.utf("the state handle id")?;
        Ok(KeyedState {
            kind: KeyedStateKind::Changelog,
            size,
            checkpointed,
        })
    }

    fn changelog_in_memory(&mut self) -> Result<KeyedState, MetadataError> {
        self.key_group_range()?;
        self.reader
            .skip_longs(2, "the sequence numbers of a changelog")?;
        let mut bytes = 0_u64;
        for _ in 0..self.reader.count("the number of changes")? {
            self.reader.i32("the key group of a change")?;
            let length = self.reader.count("the length of a change")?;
            bytes = bytes.saturating_add(self.reader.take(length, "a change")?.len() as u64);
        }
        self.reader.utf("the state handle id")?;
        let size = StateSize {
            inline: bytes,
            in_files: 0,
        };
        Ok(KeyedState {
            kind: KeyedStateKind::Changelog,
            size,
            checkpointed: bytes,
        })
    }

    fn changelog_files(&mut self, tag: u8) -> Result<KeyedState, MetadataError> {
        self.key_group_range()?;
        let mut place = Stream::Null;
        for _ in 0..self.reader.count("the number of files of a changelog")? {
            self.reader.i64("the offset in a file of a changelog")?;
            place = self.stream(Scope::Shared, "a file of a changelog")?;
        }
        let size = self.reader.size("the size of a changelog")?;
        let checkpointed = self.reader.size("the checkpointed size of a changelog")?;
        self.reader.utf("the state handle id")?;
        if tag == CHANGELOG_FILE_INCREMENT_V2 {
            self.reader.utf("the storage of a changelog")?;
        }
        Ok(KeyedState {
            kind: KeyedStateKind::Changelog,
            size: place.part(size),
            checkpointed,
        })
    }

    /// A stream that Flink's constructors require not to be null.
    fn present(&mut self, scope: Scope, reading: &'static str) -> Result<Stream, MetadataError> {
        match self.stream(scope, reading)? {
            Stream::Null => Err(self.reader.corrupt(1, reading, i64::from(NULL))),
            stream => Ok(stream),
        }
    }

    fn stream(&mut self, scope: Scope, reading: &'static str) -> Result<Stream, MetadataError> {
        // Key groups as a stream wrap another stream. A loop, so that no file can make this recurse.
        for _ in 0..MAX_DEPTH {
            match self.reader.u8(reading)? {
                NULL => return Ok(Stream::Null),
                BYTE_STREAM => return self.byte_stream(),
                FILE_STREAM => return self.file(scope),
                RELATIVE_STREAM => return self.relative_file(scope),
                SEGMENT_FILE => return self.segment(),
                EMPTY_SEGMENT_FILE => return Ok(Stream::File(0)),
                KEY_GROUPS => {
                    let groups = self.key_group_range()?;
                    self.reader.skip_longs(groups, "the key group offsets")?;
                }
                other => return Err(self.reader.corrupt(1, reading, i64::from(other))),
            }
        }
        Err(self
            .reader
            .corrupt(1, "state handles nested too deep", i64::from(KEY_GROUPS)))
    }

    fn byte_stream(&mut self) -> Result<Stream, MetadataError> {
        self.reader.utf("the name of inline state")?;
        let length = self.reader.count("the length of inline state")?;
        self.reader.take(length, "inline state")?;
        Ok(Stream::Inline(length as u64))
    }

    fn file(&mut self, scope: Scope) -> Result<Stream, MetadataError> {
        let size = self.file_size()?;
        let path = self.reader.utf("the path of a state file")?;
        self.files.absolute(&path, size, scope);
        Ok(Stream::File(size.unwrap_or(0)))
    }

    fn relative_file(&mut self, scope: Scope) -> Result<Stream, MetadataError> {
        let path = self.reader.utf("the relative path of a state file")?;
        let size = self.file_size()?;
        self.files.relative(&path, size, scope);
        Ok(Stream::File(size.unwrap_or(0)))
    }

    /// `FileStateHandle` allows -1 for a size that is not known.
    fn file_size(&mut self) -> Result<Option<u64>, MetadataError> {
        let reading = "the size of a state file";
        match self.reader.i64(reading)? {
            -1 => Ok(None),
            size => u64::try_from(size)
                .map(Some)
                .map_err(|_| self.reader.corrupt(8, reading, size)),
        }
    }

    fn segment(&mut self) -> Result<Stream, MetadataError> {
        let start = self.reader.size("the start of a segment of a state file")?;
        let size = self.reader.size("the size of a segment of a state file")?;
        let reading = "the scope of a segment of a state file";
        let scope = if self.reader.flag(reading)? {
            Scope::Shared
        } else {
            Scope::Exclusive
        };
        let path = self.reader.utf("the path of a state file")?;
        self.reader.utf("the logical file id")?;
        self.files.segment(&path, start.saturating_add(size), scope);
        Ok(Stream::File(size))
    }
}

/// Keyed state of one subtask.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedState {
    pub(super) kind: KeyedStateKind,
    pub(super) size: StateSize,
    /// Bytes written by this checkpoint itself, without what earlier ones had written.
    pub(super) checkpointed: u64,
}
