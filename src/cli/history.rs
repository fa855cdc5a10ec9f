//! `drey history`: the restore points and the starts of a cluster.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pointer::{Common, current};
use super::{print, settings};
use crate::domain::pointer::{JobEntry, Pointer, RestorePoint, Start};
use crate::domain::retention::same;

/// The restore points and the starts of a cluster.
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &HistoryArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    let settings = settings(&common.settings, env)?;
    let (pointer, _) = current(common.kubernetes, &settings)?;
    print(common.output, &text(&pointer), &value(&pointer))
}

/// Something that happened to a job.
enum Line<'a> {
    Start(&'a Start),
    Point(&'a RestorePoint),
}

impl Line<'_> {
    fn at(&self) -> Timestamp {
        match self {
            Self::Start(start) => start.at,
            Self::Point(point) => point.completed,
        }
    }
}

/// Newest first.
fn lines(entry: &JobEntry) -> Vec<Line<'_>> {
    let points = entry.history.iter().map(Line::Point);
    let starts = entry.starts.iter().map(Line::Start);
    let mut lines: Vec<Line<'_>> = points.chain(starts).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.at()));
    lines
}

fn text(pointer: &Pointer) -> String {
    let mut text = format!("Cluster  {}\n", pointer.cluster_id);
    for (key, entry) in &pointer.jobs {
        let _ = writeln!(text, "Job      {key}");
        for line in lines(entry) {
            let at = line.at();
            let (what, where_) = match line {
                Line::Start(start) => start_text(start),
                Line::Point(point) => (point_text(entry, point), point.path.clone()),
            };
            let _ = writeln!(text, "  {at:.0}  {what}\n    {where_}");
        }
    }
    text
}

fn start_text(start: &Start) -> (String, String) {
    let proven = match start.proven {
        Some(_) => "",
        None => ", no checkpoint of its own seen",
    };
    let what = format!(
        "start of run {}, Flink {}{proven}",
        start.run, start.flink_version
    );
    let from = match (&start.from, start.checkpoint_id) {
        (Some(path), Some(id)) => format!("from {path}, id {id}"),
        (Some(path), None) => format!("from {path}"),
        (None, _) => "from empty state".to_owned(),
    };
    (what, from)
}

fn point_text(entry: &JobEntry, point: &RestorePoint) -> String {
    let mut text = format!("{} ({})", point.kind, point.reason);
    match point.checkpoint_id {
        Some(id) => {
            let _ = write!(text, ", id {id}");
        }
        None => text.push_str(", unverified"),
    }
    if let Some(size) = point.size {
        let _ = write!(text, ", {size} bytes");
    }
    if let Some(ms) = duration_ms(point) {
        let _ = write!(text, ", took {ms} ms");
    }
    let runs = resumed(entry, point);
    if !runs.is_empty() {
        let _ = write!(text, ", resumed by {}", runs.join(", "));
    }
    if point.lineage != entry.lineage || point.superseded {
        text.push_str(", counts no longer");
    }
    text
}

fn duration_ms(point: &RestorePoint) -> Option<i128> {
    let started = point.started?;
    Some(point.completed.duration_since(started).as_millis())
}

/// The runs that started from it.
fn resumed<'e>(entry: &'e JobEntry, point: &RestorePoint) -> Vec<&'e str> {
    let from = |start: &&Start| {
        start
            .from
            .as_ref()
            .is_some_and(|from| same(from, &point.path))
    };
    let starts = entry.starts.iter().filter(from);
    starts.map(|start| start.run.as_str()).collect()
}

fn value(pointer: &Pointer) -> Value {
    let of_job = |entry: &JobEntry| {
        let points = entry.history.iter().map(|point| {
            let mut value = json!(point);
            value["duration-ms"] = json!(duration_ms(point).and_then(|ms| i64::try_from(ms).ok()));
            value["resumed-by"] = json!(resumed(entry, point));
            value
        });
        json!({
            "lineage": entry.lineage,
            "restore-points": points.collect::<Vec<_>>(),
            "starts": entry.starts,
            "deleting": entry.disposals,
        })
    };
    let jobs = pointer
        .jobs
        .iter()
        .map(|(key, entry)| (key.clone(), of_job(entry)));
    json!({ "cluster-id": pointer.cluster_id, "jobs": jobs.collect::<serde_json::Map<_, _>>() })
}
