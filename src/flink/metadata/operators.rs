//! Reads the state of one operator (`deserializeOperatorState` of Flink's serializers of formats 2 to 6).

use std::collections::HashSet;

use super::files::Files;
use super::handles::{Channel, ChannelFormat, Handles};
use super::keyed::KeyedState;
use super::reader::Reader;
use super::{FormatVersion, MetadataError, Operator, StateSize, Subtasks};

/// The number of subtasks of an operator that has finished as a whole.
const FULLY_FINISHED: i32 = -1;

/// Flink's limit of parallelism and max parallelism (`KeyGroupRangeAssignment.UPPER_BOUND_MAX_PARALLELISM`).
const MAX_PARALLELISM: u32 = 1 << 15;

/// One operator, and how many bytes this snapshot wrote for it.
pub(super) fn read_operator(
    reader: &mut Reader<'_>,
    version: FormatVersion,
    files: &mut Files,
) -> Result<(Operator, u64), MetadataError> {
    let mut operator = head(reader, version)?;
    let mut handles = Handles::new(reader, files);
    if version.has_coordinators() {
        operator.coordinator_state = handles.coordinator()?;
    } else {
        handles.reader.i32("the unused chain length")?;
    }
    let mut checkpointed = operator.coordinator_state.unwrap_or(0);
    let count = subtask_count(handles.reader, &operator, version)?;
    match count {
        None => operator.subtasks.finished = operator.parallelism as usize,
        Some(count) => {
            let mut seen = HashSet::new();
            for _ in 0..count {
                let (index, finished) =
                    subtask_index(handles.reader, version, operator.parallelism)?;
                if !seen.insert(index) {
                    return Err(handles.reader.corrupt(
                        4,
                        "a second subtask of the same index",
                        i64::from(index),
                    ));
                }
                if finished {
                    operator.subtasks.finished += 1;
                    continue;
                }
                let written = subtask(&mut handles, version, &mut operator)?;
                checkpointed = checkpointed.saturating_add(written);
            }
        }
    }
    operator.state_size = total(&operator);
    Ok((operator, checkpointed))
}

fn head(reader: &mut Reader<'_>, version: FormatVersion) -> Result<Operator, MetadataError> {
    let mut name = None;
    let mut uid = None;
    if version.has_names() {
        name = Some(reader.utf("the name of an operator")?.into_owned())
            .filter(|name| !name.is_empty());
        uid =
            Some(reader.utf("the uid of an operator")?.into_owned()).filter(|uid| !uid.is_empty());
    }
    let id = reader.take(16, "the id of an operator")?;
    let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let parallelism = parallelism(reader, "the parallelism of an operator")?;
    let reading = "the max parallelism of an operator";
    let max_parallelism = self::parallelism(reader, reading)?;
    if parallelism > max_parallelism {
        return Err(reader.corrupt(4, reading, i64::from(max_parallelism)));
    }
    Ok(Operator {
        id,
        name,
        uid,
        parallelism,
        max_parallelism,
        subtasks: Subtasks::default(),
        coordinator_state: None,
        managed_operator_state: StateSize::default(),
        raw_operator_state: StateSize::default(),
        managed_keyed_state: StateSize::default(),
        raw_keyed_state: StateSize::default(),
        input_channel_state: StateSize::default(),
        output_channel_state: StateSize::default(),
        keyed_state_kinds: Vec::new(),
        state_size: StateSize::default(),
    })
}

fn parallelism(reader: &mut Reader<'_>, reading: &'static str) -> Result<u32, MetadataError> {
    let value = reader.i32(reading)?;
    match u32::try_from(value) {
        Ok(some @ 1..=MAX_PARALLELISM) => Ok(some),
        _ => Err(reader.corrupt(4, reading, i64::from(value))),
    }
}

/// How many subtasks follow; none for an operator that has finished as a whole, which has no coordinator state either.
fn subtask_count(
    reader: &mut Reader<'_>,
    operator: &Operator,
    version: FormatVersion,
) -> Result<Option<u32>, MetadataError> {
    let reading = "the number of subtasks";
    let count = reader.i32(reading)?;
    let corrupt = reader.corrupt(4, reading, i64::from(count));
    match u32::try_from(count) {
        Ok(some) if some <= operator.parallelism => Ok(Some(some)),
        Err(_)
            if count == FULLY_FINISHED
                && version.has_coordinators()
                && operator.coordinator_state.is_none() =>
        {
            Ok(None)
        }
        _ => Err(corrupt),
    }
}

/// The index of the next subtask, and whether that subtask had finished.
fn subtask_index(
    reader: &mut Reader<'_>,
    version: FormatVersion,
    parallelism: u32,
) -> Result<(u32, bool), MetadataError> {
    let reading = "the index of a subtask";
    let written = reader.i32(reading)?;
    // A finished subtask i is written as -(i + 1), and has no body.
    let finished = written < 0 && version.has_coordinators();
    let index = if finished {
        -(i64::from(written) + 1)
    } else {
        i64::from(written)
    };
    match u32::try_from(index) {
        Ok(index) if index < parallelism => Ok((index, finished)),
        _ => Err(reader.corrupt(4, reading, i64::from(written))),
    }
}

/// Format 2 has a duration and a number of states of Flink 1.1, which must be none.
fn legacy_fields(reader: &mut Reader<'_>) -> Result<(), MetadataError> {
    reader.i64("the unused duration of a subtask")?;
    let legacy = reader.i32("the number of states of Flink 1.1")?;
    match legacy {
        ..=0 => Ok(()),
        _ => Err(reader.corrupt(4, "the number of states of Flink 1.1", i64::from(legacy))),
    }
}

/// Reads one subtask into the operator; returns the bytes that this snapshot wrote for it.
fn subtask(
    handles: &mut Handles<'_, '_>,
    version: FormatVersion,
    operator: &mut Operator,
) -> Result<u64, MetadataError> {
    if !version.has_coordinators() {
        legacy_fields(handles.reader)?;
    }
    let managed = handles.operator_state("the managed operator state")?;
    let raw = handles.operator_state("the raw operator state")?;
    let keyed = handles.keyed_state("the managed keyed state")?;
    let raw_keyed = handles.keyed_state("the raw keyed state")?;
    let (mut input, mut output) = (StateSize::default(), StateSize::default());
    if version.has_coordinators() {
        let format = if version.number() >= 6 {
            ChannelFormat::Tagged
        } else {
            ChannelFormat::Untagged
        };
        input = handles.channels(Channel::Input, format)?;
        output = handles.channels(Channel::Output, format)?;
    }

    let keyed_size = |state: Option<KeyedState>| state.map(|state| state.size).unwrap_or_default();
    let mut written = 0_u64;
    let mut size = StateSize::default();
    for (part, into) in [
        (
            managed.unwrap_or_default(),
            &mut operator.managed_operator_state,
        ),
        (raw.unwrap_or_default(), &mut operator.raw_operator_state),
        (input, &mut operator.input_channel_state),
        (output, &mut operator.output_channel_state),
    ] {
        into.add(part);
        size.add(part);
        written = written.saturating_add(part.total());
    }
    operator.managed_keyed_state.add(keyed_size(keyed));
    operator.raw_keyed_state.add(keyed_size(raw_keyed));
    for state in [keyed, raw_keyed].into_iter().flatten() {
        size.add(state.size);
        written = written.saturating_add(state.checkpointed);
        if !operator.keyed_state_kinds.contains(&state.kind) {
            operator.keyed_state_kinds.push(state.kind);
        }
    }
    let any = managed.is_some()
        || raw.is_some()
        || keyed.is_some()
        || raw_keyed.is_some()
        || size.total() > 0;
    *(if any {
        &mut operator.subtasks.with_state
    } else {
        &mut operator.subtasks.without_state
    }) += 1;
    Ok(written)
}

fn total(operator: &Operator) -> StateSize {
    let mut total = StateSize {
        inline: operator.coordinator_state.unwrap_or(0),
        in_files: 0,
    };
    for part in [
        operator.managed_operator_state,
        operator.raw_operator_state,
        operator.managed_keyed_state,
        operator.raw_keyed_state,
        operator.input_channel_state,
        operator.output_channel_state,
    ] {
        total.add(part);
    }
    total
}
