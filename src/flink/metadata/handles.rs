//! Reads the state handles of one subtask: where each piece of state is and how large it is.
//!
//! The tags and layouts are those of Flink's `MetadataV2V3SerializerBase` and `ChannelStateHandleSerializerV1`/`V2`.
//! What Flink's own reader refuses when it restores is refused here too.

use super::files::{Files, Scope};
use super::reader::Reader;
use super::{MetadataError, StateSize};

/// Key groups as a stream and changelogs nest; Flink writes at most two levels.
pub(super) const MAX_DEPTH: usize = 8;

pub(super) const NULL: u8 = 0;
const BYTE_STREAM: u8 = 1;
const FILE_STREAM: u8 = 2;
pub(super) const KEY_GROUPS: u8 = 3;
const PARTITIONABLE_OPERATOR_STATE: u8 = 4;
const RELATIVE_STREAM: u8 = 6;
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
pub(super) enum Stream {
    Null,
    Inline(u64),
    File(u64),
}

impl Stream {
    pub(super) fn size(self) -> StateSize {
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
    pub(super) fn part(self, size: u64) -> StateSize {
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
    pub(super) depth: usize,
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

    /// A stream that Flink's constructors require not to be null.
    pub(super) fn present(
        &mut self,
        scope: Scope,
        reading: &'static str,
    ) -> Result<Stream, MetadataError> {
        match self.stream(scope, reading)? {
            Stream::Null => Err(self.reader.corrupt(1, reading, i64::from(NULL))),
            stream => Ok(stream),
        }
    }

    pub(super) fn stream(
        &mut self,
        scope: Scope,
        reading: &'static str,
    ) -> Result<Stream, MetadataError> {
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
