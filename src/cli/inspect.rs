//! `drey inspect`: shows what a `_metadata` file says, as a table for a person or as JSON with exact bytes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::config::Output;
use super::{TRY_AGAIN, USAGE, failure, runtime, settings};
use crate::config::SettingsArgs;
use crate::storage::Location;
use crate::supervisor::storage_for;
use crate::telemetry::one_line;

use crate::flink::metadata::{
    self, FilePath, KeyedStateKind, Metadata, MetadataError, Operator, SavepointFormat,
    SnapshotKind, StateSize,
};

/// Widest name or uid that a table shows.
const WIDEST_NAME: usize = 40;

/// What a savepoint or checkpoint holds.
#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The savepoint or checkpoint, as Flink would write it, or its `_metadata` file
    path: String,
    /// A table for people, or everything in exact bytes
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &InspectArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let location = Location::parse(&absolute(&args.path))
        .map_err(|error| failure(one_line(&error, 400), USAGE))?;
    let storage = storage_for(&settings, &BTreeMap::new());
    let bytes = runtime()?
        .block_on(storage.read_metadata(&location))
        .map_err(|error| {
            failure(
                one_line(&error, 600),
                if error.is_retryable() { TRY_AGAIN } else { 1 },
            )
        })?;
    let text = render(&bytes, &args.path, args.output)
        .map_err(|error| failure(format!("{}: {}", args.path, one_line(&error, 600)), 1))?;
    io::stdout()
        .write_all(text.as_bytes())
        .context("could not write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// A relative path is meant from here; Flink would not know from where.
fn absolute(path: &str) -> String {
    let relative = !path.starts_with('/') && !path.contains(':');
    let found = relative.then(|| std::path::absolute(path).ok()).flatten();
    found.map_or_else(
        || path.to_owned(),
        |path| path.to_string_lossy().into_owned(),
    )
}

/// Checks that `bytes` are a complete `_metadata` file and shows it; `location` is where they were read from.
fn render(bytes: &[u8], location: &str, output: Output) -> Result<String, MetadataError> {
    let metadata = metadata::parse(bytes)?;
    Ok(match output {
        Output::Text => table(&metadata, location),
        Output::Json => json(&metadata, location),
    })
}

/// The snapshot as indented JSON.
pub(crate) fn json(metadata: &Metadata, location: &str) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        location: &'a str,
        written_by: &'static str,
        #[serde(flatten)]
        metadata: &'a Metadata,
    }
    let document = Document {
        location,
        written_by: metadata.header.version.written_by(),
        metadata,
    };
    let mut text =
        serde_json::to_string_pretty(&document).expect("plain structs with text keys serialize");
    text.push('\n');
    text
}

/// The snapshot as a header and a table of its operators.
pub(crate) fn table(metadata: &Metadata, location: &str) -> String {
    let mut text = String::new();
    for (label, value) in header(metadata, location) {
        writeln!(text, "{label:<14}{value}").expect("writing to a string");
    }
    if metadata.operators.is_empty() {
        text.push_str("\nNo operator.\n");
        return text;
    }
    text.push('\n');
    text.push_str(&columns(&rows(&metadata.operators)));
    text
}

fn header(metadata: &Metadata, location: &str) -> Vec<(&'static str, String)> {
    let version = metadata.header.version;
    let mut lines = vec![
        ("Location", printable(location)),
        ("Kind", kind(metadata)),
        ("Checkpoint id", metadata.header.checkpoint_id.to_string()),
        (
            "Format",
            format!("{} ({})", version.number(), version.written_by()),
        ),
        ("State", state(metadata)),
        ("Files", files(metadata)),
    ];
    if metadata.checkpointed_size != metadata.state_size.total() {
        let written = human(metadata.checkpointed_size);
        lines.push((
            "Written",
            format!("{written}, the rest is shared with earlier checkpoints"),
        ));
    }
    if !metadata.master_states.is_empty() {
        let names: Vec<String> = metadata
            .master_states
            .iter()
            .map(|name| printable(name))
            .collect();
        lines.push(("Master states", names.join(", ")));
    }
    lines
}

fn kind(metadata: &Metadata) -> String {
    let Some(properties) = &metadata.properties else {
        let format = metadata.header.version.number();
        return format!("not recorded in format {format}");
    };
    let kind = match properties.kind {
        SnapshotKind::Savepoint => "savepoint",
        SnapshotKind::Checkpoint => "checkpoint",
    };
    let format = match properties.format {
        Some(SavepointFormat::Canonical) => ", canonical format",
        Some(SavepointFormat::Native) => ", native format",
        None => "",
    };
    let unclaimed = if properties.unclaimed {
        ", unclaimed"
    } else {
        ""
    };
    let name = properties.name.to_lowercase();
    let detail = if name == kind {
        String::new()
    } else {
        format!(" ({})", printable(&name))
    };
    format!("{kind}{detail}{format}{unclaimed}")
}

fn state(metadata: &Metadata) -> String {
    let StateSize { inline, in_files } = metadata.state_size;
    let total = human(metadata.state_size.total());
    let metadata_size = human(metadata.metadata_size);
    match (inline, in_files) {
        (0, 0) => format!("none; _metadata has {metadata_size}"),
        (_, 0) => format!("{total}, all of it in _metadata ({metadata_size})"),
        (0, _) => format!("{total}, all of it in files; _metadata has {metadata_size}"),
        _ => format!(
            "{total}: {} in files, {} in _metadata ({metadata_size})",
            human(in_files),
            human(inline)
        ),
    }
}

fn files(metadata: &Metadata) -> String {
    let total = metadata.files.len();
    if total == 0 {
        return "none but _metadata".to_owned();
    }
    let relative = metadata
        .files
        .iter()
        .filter(|file| matches!(file.path, FilePath::Relative(_)))
        .count();
    let shared = metadata.files.iter().filter(|file| file.shared).count();
    let mut parts = Vec::new();
    if relative > 0 {
        parts.push(format!("{relative} in the same directory"));
    }
    if relative < total {
        parts.push(format!("{} by absolute path", total - relative));
    }
    if shared > 0 {
        parts.push(format!("{shared} shared with other checkpoints"));
    }
    format!("{total}: {}", parts.join(", "))
}

/// One row of cells; numbers are aligned to the right.
type Row = [String; 9];

const TITLES: [&str; 9] = [
    "OPERATOR",
    "NAME",
    "PARALLELISM",
    "MAX",
    "SUBTASKS",
    "OPERATOR STATE",
    "KEYED STATE",
    "IN FLIGHT",
    "KEYED FORMAT",
];
const TO_THE_RIGHT: std::ops::RangeInclusive<usize> = 2..=7;

fn rows(operators: &[Operator]) -> Vec<Row> {
    let titles = TITLES.map(str::to_owned);
    std::iter::once(titles)
        .chain(operators.iter().map(row))
        .collect()
}

fn row(operator: &Operator) -> Row {
    let sum = |parts: &[u64]| {
        parts
            .iter()
            .fold(0_u64, |sum, part| sum.saturating_add(*part))
    };
    let operator_state = sum(&[
        operator.coordinator_state.unwrap_or(0),
        operator.managed_operator_state.total(),
        operator.raw_operator_state.total(),
    ]);
    let keyed = sum(&[
        operator.managed_keyed_state.total(),
        operator.raw_keyed_state.total(),
    ]);
    let in_flight = sum(&[
        operator.input_channel_state.total(),
        operator.output_channel_state.total(),
    ]);
    [
        operator.id.clone(),
        label(operator),
        operator.parallelism.to_string(),
        operator.max_parallelism.to_string(),
        subtasks(operator),
        size_or_dash(operator_state),
        size_or_dash(keyed),
        size_or_dash(in_flight),
        kinds(&operator.keyed_state_kinds),
    ]
}

fn label(operator: &Operator) -> String {
    let text = match (&operator.uid, &operator.name) {
        (Some(uid), Some(name)) if uid == name => uid.clone(),
        (Some(uid), Some(name)) => format!("{uid} ({name})"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => return "-".to_owned(),
    };
    let text = printable(&text);
    match text.char_indices().nth(WIDEST_NAME) {
        Some(_) => text.chars().take(WIDEST_NAME - 1).chain(['…']).collect(),
        None => text,
    }
}

/// How many subtasks have state, and how many had finished.
fn subtasks(operator: &Operator) -> String {
    match (operator.subtasks.with_state, operator.subtasks.finished) {
        (0, 0) => "-".to_owned(),
        (some, 0) => some.to_string(),
        (0, finished) => format!("{finished} finished"),
        (some, finished) => format!("{some} + {finished} finished"),
    }
}

fn kinds(kinds: &[KeyedStateKind]) -> String {
    let words: Vec<&str> = kinds
        .iter()
        .map(|kind| match kind {
            KeyedStateKind::Full => "full",
            KeyedStateKind::CanonicalSavepoint => "canonical",
            KeyedStateKind::Incremental => "incremental",
            KeyedStateKind::Changelog => "changelog",
        })
        .collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    }
}

/// Lays the rows out in columns; leaves a column out in which no operator has anything.
fn columns(rows: &[Row]) -> String {
    let empty = |column: usize| rows.iter().skip(1).all(|row| row[column] == "-");
    let shown: Vec<usize> = (0..TITLES.len()).filter(|column| !empty(*column)).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = shown.iter().map(|column| width(*column)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = shown
            .iter()
            .zip(&widths)
            .map(|(column, width)| match TO_THE_RIGHT.contains(column) {
                true => format!("{:>width$}", row[*column]),
                false => format!("{:<width$}", row[*column]),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Names come from the file: control characters must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn size_or_dash(bytes: u64) -> String {
    if bytes == 0 {
        "-".to_owned()
    } else {
        human(bytes)
    }
}

/// Bytes as a person reads them, in powers of 1024 like Flink's web interface.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        let path = format!(
            "{}/tests/fixtures/metadata/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::read(path).expect("the fixtures are in the repository")
    }

    fn shown(name: &str, output: Output) -> String {
        render(&fixture(name), "s3://bucket/savepoint-1/_metadata", output).expect("a good file")
    }

    #[test]
    fn a_native_savepoint_reads_well() {
        let expected = "\
Location      s3://bucket/savepoint-1/_metadata
Kind          savepoint, native format
Checkpoint id 9
Format        6 (Flink 2.1 to 2.3)
State         220.6 KiB: 220.6 KiB in files, 16 B in _metadata (2.7 KiB)
Files         23: 23 in the same directory

OPERATOR                          NAME                       PARALLELISM  MAX  SUBTASKS  OPERATOR STATE  KEYED STATE  KEYED FORMAT
ca88eee0095684d687a1b6495617f957  numbers (Source: Numbers)            2    8         2           546 B            -  -
0da08f51eaa85fc298e176a139b3649a  counter (Counter)                    2    8         2           978 B            -  -
e7beec23fd9f6ed5e1b8395129d43728  keyed (Keyed)                        2    8         2               -    219.1 KiB  incremental
d06859e95f2429b15bd2ed357b9dc91d  Sink: Print                          2    8         -               -            -  -
60fbb6e4a68906bda95e671db594b60a  Nothing                              2    8         -               -            -  -
";
        assert_eq!(shown("v6-savepoint-native", Output::Text), expected);
    }

    #[test]
    fn an_old_checkpoint_shows_ids_in_place_of_names() {
        let text = shown("v3-checkpoint-incremental", Output::Text);
        assert!(
            text.contains("Kind          not recorded in format 3\n"),
            "{text}"
        );
        assert!(
            !text.contains("NAME") && !text.contains("IN FLIGHT"),
            "{text}"
        );
    }

    #[test]
    fn json_has_exact_bytes() {
        let json: serde_json::Value =
            serde_json::from_str(&shown("v6-every-handle", Output::Json)).expect("JSON");
        assert_eq!(json["location"], "s3://bucket/savepoint-1/_metadata");
        assert_eq!(
            (&json["version"], &json["checkpoint_id"]),
            (&6.into(), &42.into())
        );
        assert_eq!(
            json["state_size"],
            serde_json::json!({"total": 4438, "inline": 41, "in_files": 4397})
        );
        assert_eq!(json["files"][1]["relative"], "r");
        assert_eq!(json["properties"]["format"], "NATIVE");
        assert_eq!(
            json["operators"][0]["keyed_state_kinds"][1],
            "canonical-savepoint"
        );
    }

    #[test]
    fn a_refused_file_says_why() {
        let bytes = fixture("v4-savepoint-native");
        let error = render(&bytes[..1000], "here", Output::Text).expect_err("it is cut");
        assert!(
            error
                .to_string()
                .starts_with("truncated _metadata: the file ends at byte 1000"),
            "{error}"
        );
    }

    #[test]
    fn names_cannot_reach_the_terminal_raw() {
        assert_eq!(printable("a\x1b[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }

    #[test]
    fn sizes_are_rounded_down_to_a_tenth() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
