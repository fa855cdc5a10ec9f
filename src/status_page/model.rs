//! What the page shows, made of the supervisor's story: no I/O, no clock.

use serde::Serialize;

use super::story::{Decision, Mark, Story};
use crate::control::{JobReport, Status};
use crate::domain::pointer::{JobEntry, PointKind, RestorePoint, Run, Start};

/// The page's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Page {
    /// How the cluster stands; its jobs are in `jobs`.
    pub status: Status,
    /// The writes of the pointer so far.
    pub generation: u64,
    /// The jobs.
    pub jobs: Vec<JobPage>,
    /// The last decisions, the newest first.
    pub decisions: Vec<Decision>,
    /// The settings in force: name and value.
    pub settings: Vec<(String, String)>,
}

/// What is shown of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobPage {
    /// Its key.
    pub key: String,
    /// How it stands.
    pub report: JobReport,
    /// Its checkpoints, savepoints and restore points, by time.
    pub timeline: Vec<Moment>,
    /// Which start came from which restore point, the newest first.
    pub lineage: Vec<Life>,
}

/// One checkpoint, savepoint or recorded restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Moment {
    /// `checkpoint`, `savepoint` or `stop`.
    pub kind: &'static str,
    /// Flink's checkpoint id.
    pub id: Option<i64>,
    /// `completed`, `failed` or `in-progress`.
    pub state: String,
    /// When it was triggered, in milliseconds since 1970.
    pub at_ms: i64,
    /// In milliseconds.
    pub duration_ms: Option<i64>,
    /// In bytes.
    pub bytes: Option<i64>,
    /// Where it is, when it is recorded.
    pub path: Option<String>,
    /// Why it was taken, or why it failed.
    pub why: Option<String>,
    /// The next start would resume from it, as far as is recorded.
    pub newest: bool,
}

/// One run, and what it started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Life {
    /// The run's id.
    pub run: String,
    /// It is the present one, or the last.
    pub present: bool,
    /// When its start was decided.
    pub started: Option<String>,
    /// The restore point it started from; `None` for empty state, or when that is not `known` any more.
    pub from: Option<String>,
    /// Whether it is remembered what it started from.
    pub known: bool,
    /// The restore points that were recorded of it, the newest first.
    pub made: Vec<String>,
}

impl From<Story> for Page {
    fn from(story: Story) -> Self {
        let keys = story.status.jobs.keys();
        let jobs = keys.map(|key| job(key, &story)).collect();
        let mut status = story.status;
        status.jobs.clear();
        Self {
            status,
            generation: story.pointer.generation,
            jobs,
            decisions: story.decisions.into_iter().rev().collect(),
            settings: story.settings.into_iter().collect(),
        }
    }
}

fn job(key: &str, story: &Story) -> JobPage {
    let none = JobEntry::default();
    let entry = story.pointer.jobs.get(key).unwrap_or(&none);
    let marks = story.checkpoints.get(key).map_or(&[][..], Vec::as_slice);
    JobPage {
        key: key.to_owned(),
        report: story.status.jobs.get(key).cloned().unwrap_or_default(),
        timeline: timeline(entry, marks),
        lineage: lineage(entry),
    }
}

/// A restore point of the present run is also among Flink's own checkpoints: it is shown once.
fn timeline(entry: &JobEntry, marks: &[Mark]) -> Vec<Moment> {
    let present = entry.run.as_ref().map(|run| &run.id);
    let newest = entry.newest();
    let recorded: Vec<Moment> = entry
        .history
        .iter()
        .map(|point| of_point(point, Some(point) == newest))
        .collect();
    let known = |mark: &&Mark| {
        let mut points = entry.history.iter();
        !points.any(|point| {
            point.run.as_ref() == present && point.checkpoint_id == i64::try_from(mark.id).ok()
        })
    };
    let mut all: Vec<Moment> = marks.iter().filter(known).map(of_mark).collect();
    all.extend(recorded);
    all.sort_by_key(|moment| (moment.at_ms, moment.id));
    all
}

fn of_mark(mark: &Mark) -> Moment {
    Moment {
        kind: if mark.savepoint {
            "savepoint"
        } else {
            "checkpoint"
        },
        id: i64::try_from(mark.id).ok(),
        state: mark.state.clone(),
        at_ms: mark.at_ms,
        duration_ms: Some(mark.duration_ms),
        bytes: Some(mark.bytes),
        path: None,
        why: mark.why.clone(),
        newest: false,
    }
}

fn of_point(point: &RestorePoint, newest: bool) -> Moment {
    let at = point.started.unwrap_or(point.completed);
    let took = point.completed.duration_since(at).as_millis();
    Moment {
        kind: match point.kind {
            PointKind::Checkpoint => "checkpoint",
            PointKind::Stop => "stop",
            _ => "savepoint",
        },
        id: point.checkpoint_id,
        state: "completed".to_owned(),
        at_ms: at.as_millisecond(),
        duration_ms: point.started.and_then(|_| i64::try_from(took).ok()),
        bytes: point.size.and_then(|size| i64::try_from(size).ok()),
        path: Some(point.path.clone()),
        why: Some(point.reason.to_string()),
        newest,
    }
}

/// The remembered starts, and runs of which only restore points are left.
fn lineage(entry: &JobEntry) -> Vec<Life> {
    let present = entry.run.as_ref();
    let mut lives: Vec<Life> = present.into_iter().map(of_run).collect();
    let earlier = entry.starts.iter();
    lives.extend(
        earlier
            .filter(|start| present.is_none_or(|run| run.id != start.run))
            .map(of_start),
    );
    for point in &entry.history {
        let run = point.run.as_ref().map(ToString::to_string);
        let run = run.unwrap_or_else(|| "given by hand".to_owned());
        let at = lives.iter().position(|life| life.run == run);
        let at = at.unwrap_or_else(|| {
            lives.push(Life::forgotten(run));
            lives.len() - 1
        });
        lives[at].made.push(point.path.clone());
    }
    lives
}

fn of_run(run: &Run) -> Life {
    Life {
        present: true,
        started: Some(run.stored.to_string()),
        from: run.parent.as_ref().map(|parent| parent.path.clone()),
        known: true,
        ..Life::forgotten(run.id.to_string())
    }
}

fn of_start(start: &Start) -> Life {
    Life {
        started: Some(start.at.to_string()),
        from: start.from.clone(),
        known: true,
        ..Life::forgotten(start.run.to_string())
    }
}

impl Life {
    /// A run of which nothing but its id is remembered.
    fn forgotten(run: String) -> Self {
        Self {
            run,
            present: false,
            started: None,
            from: None,
            known: false,
            made: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn story() -> Story {
        let point = |path: &str, run: &str, id: i64, at: &str| {
            json!({
                "path": path, "kind": "stop", "checkpoint-id": id, "lineage": 0, "run": run, "reason": "shutdown",
                "started": format!("2026-01-01T00:00:{at}Z"), "completed": format!("2026-01-01T00:00:{at}.5Z"), "size": 9,
            })
        };
        let pointer = json!({
            "format": 1, "cluster-id": "orders", "generation": 4,
            "jobs": {"application": {
                "lineage": 0,
                "run": {
                    "id": "222222222222", "parent": {"path": "s3://b/one", "checkpoint-id": 3}, "stored": "2026-01-01T00:00:20Z",
                    "owner": "o", "flink-version": "2.3.0",
                },
                "starts": [{
                    "run": "111111111111", "lineage": 0, "at": "2026-01-01T00:00:00Z", "from": "s3://b/zero", "flink-version": "2.3.0",
                }],
                "history": [point("s3://b/two", "222222222222", 5, "30"), point("s3://b/one", "111111111111", 3, "10"), point("s3://b/zero", "000000000000", 1, "05")],
            }},
        });
        let mark = |id, savepoint, at_ms| Mark {
            id,
            savepoint,
            state: "completed".to_owned(),
            at_ms,
            duration_ms: 12,
            bytes: 34,
            why: None,
        };
        let mut status = Status::default();
        status
            .jobs
            .insert("application".to_owned(), JobReport::default());
        let marks = vec![
            mark(4, false, 1_767_225_625_000),
            mark(5, true, 1_767_225_630_000),
        ];
        Story {
            status,
            pointer: serde_json::from_value(pointer).expect("a pointer"),
            checkpoints: BTreeMap::from([("application".to_owned(), marks)]),
            decisions: Vec::new(),
            settings: BTreeMap::from([("DREY_HISTORY".to_owned(), "10".to_owned())]),
        }
    }

    #[test]
    fn the_timeline_has_recorded_and_other_checkpoints_once_each_by_time() {
        let page = Page::from(story());
        let shown = page.jobs[0]
            .timeline
            .iter()
            .map(|it| (it.kind, it.id, it.newest));
        let wanted = [
            ("stop", Some(1), false),
            ("stop", Some(3), false),
            ("checkpoint", Some(4), false),
            ("stop", Some(5), true),
        ];
        assert!(shown.eq(wanted), "{page:?}");
        assert_eq!(page.jobs[0].timeline[0].duration_ms, Some(500));
    }

    #[test]
    fn the_lineage_says_which_start_came_from_which_restore_point() {
        let page = serde_json::to_value(Page::from(story())).expect("JSON");
        let lives = &page["jobs"][0]["lineage"];
        assert_eq!(lives[0]["from"], "s3://b/one");
        assert_eq!(lives[0]["made"], json!(["s3://b/two"]));
        assert_eq!(lives[1]["made"], json!(["s3://b/one"]));
        assert_eq!(lives[1]["from"], "s3://b/zero");
        assert_eq!(lives[2]["made"], json!(["s3://b/zero"]));
        assert_eq!(
            (&lives[2]["known"], &lives[2]["from"]),
            (&json!(false), &Value::Null)
        );
    }
}
