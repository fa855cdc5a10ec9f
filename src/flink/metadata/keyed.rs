//! Reads the keyed state handles of one subtask (`deserializeKeyedStateHandle` of Flink's `MetadataV2V3SerializerBase`).

use super::files::Scope;
use super::handles::{Handles, KEY_GROUPS, MAX_DEPTH, NULL, Stream};
use super::{KeyedStateKind, MetadataError, StateSize};

const INCREMENTAL_KEY_GROUPS: u8 = 5;
const SAVEPOINT_KEY_GROUPS: u8 = 7;
const CHANGELOG: u8 = 8;
const CHANGELOG_BYTE_INCREMENT: u8 = 9;
const CHANGELOG_FILE_INCREMENT: u8 = 10;
const INCREMENTAL_KEY_GROUPS_V2: u8 = 11;
const KEY_GROUPS_V2: u8 = 12;
const CHANGELOG_FILE_INCREMENT_V2: u8 = 13;
const CHANGELOG_V2: u8 = 14;

/// The key group of a change that concerns no key (`StateChange.META_KEY_GROUP`).
const METADATA_CHANGE: i32 = -1;

/// Keyed state of one subtask.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedState {
    pub(super) kind: KeyedStateKind,
    pub(super) size: StateSize,
    /// Bytes written by this checkpoint itself, without what earlier ones had written.
    pub(super) checkpointed: u64,
}

impl Handles<'_, '_> {
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

    /// The number of key groups of a range, whose offsets may follow.
    pub(super) fn key_group_range(&mut self) -> Result<usize, MetadataError> {
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
        let written = if tag == INCREMENTAL_KEY_GROUPS_V2 {
            self.written_size()?
        } else {
            None
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

    /// The bytes that this checkpoint itself wrote; Flink's -1 for unknown becomes none.
    fn written_size(&mut self) -> Result<Option<u64>, MetadataError> {
        let reading = "the checkpointed size";
        match self.reader.i64(reading)? {
            -1 => Ok(None),
            size => u64::try_from(size)
                .map(Some)
                .map_err(|_| self.reader.corrupt(8, reading, size)),
        }
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
            .size("the first sequence number of a changelog")?;
        self.reader
            .size("the last sequence number of a changelog")?;
        let mut bytes = 0_u64;
        for _ in 0..self.reader.count("the number of changes")? {
            let group = self.reader.i32("the key group of a change")?;
            if group < METADATA_CHANGE {
                return Err(self
                    .reader
                    .corrupt(4, "the key group of a change", i64::from(group)));
            }
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
            place = self.stream(Scope::Changelog, "a file of a changelog")?;
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
}
