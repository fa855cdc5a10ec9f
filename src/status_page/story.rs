//! What the supervisor tells about itself: the raw material of the page.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::control::Status;
use crate::domain::pointer::{Intent, Pointer};
use crate::domain::supervise::{Action, Outcome};
use crate::flink::wire::{CheckpointEntry, CheckpointPhase};

/// How many decisions are remembered.
const DECISIONS: usize = 60;

/// How many checkpoints of a run are remembered.
const CHECKPOINTS: usize = 200;

/// Everything that the page is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Story {
    /// How everything stands.
    pub status: Status,
    /// What is remembered from start to start.
    pub pointer: Pointer,
    /// The checkpoints and savepoints of each job's present run, the oldest first.
    pub checkpoints: BTreeMap<String, Vec<Mark>>,
    /// The last decisions, the oldest first.
    pub decisions: Vec<Decision>,
    /// The settings in force, by environment variable. Secrets are never among them: settings name the files that hold
    /// them, and a URL with a password is refused.
    pub settings: BTreeMap<String, String>,
}

/// One checkpoint or savepoint, as Flink tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mark {
    /// Flink's checkpoint id.
    pub id: u64,
    /// A savepoint, also that of a stop.
    pub savepoint: bool,
    /// `completed`, `failed` or `in-progress`.
    pub state: String,
    /// When it was triggered, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it took or has taken, in milliseconds.
    pub duration_ms: i64,
    /// Bytes of state.
    pub bytes: i64,
    /// Why it failed, in one line.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

impl From<&CheckpointEntry> for Mark {
    fn from(entry: &CheckpointEntry) -> Self {
        let state = match entry.status {
            CheckpointPhase::InProgress => "in-progress",
            CheckpointPhase::Completed => "completed",
            CheckpointPhase::Failed => "failed",
        };
        Self {
            id: entry.id,
            savepoint: entry.is_savepoint,
            state: state.to_owned(),
            at_ms: entry.trigger_timestamp,
            duration_ms: entry.end_to_end_duration,
            bytes: entry.state_size,
            why: entry.failure.clone(),
        }
    }
}

/// The checkpoints of one run.
#[derive(Debug, Default)]
pub struct Marks(BTreeMap<u64, Mark>);

impl Marks {
    /// Takes what Flink shows now: it forgets all but the last ten (`web.checkpoints.history`).
    pub fn note(&mut self, history: &[CheckpointEntry]) {
        let shown = history.iter().map(|entry| (entry.id, Mark::from(entry)));
        self.0.extend(shown);
        while self.0.len() > CHECKPOINTS {
            self.0.pop_first();
        }
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Mark> {
        self.0.values().cloned().collect()
    }
}

/// What was decided for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The job's key.
    pub job: String,
    /// What is done.
    pub what: String,
    /// Why, or about what.
    pub why: String,
    /// The savepoint that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trigger_id: Option<String>,
}

/// The last decisions, the oldest first. The same one again is none.
#[derive(Debug, Default)]
pub struct Decisions(VecDeque<Decision>);

impl Decisions {
    /// A start was decided.
    pub fn start(&mut self, job: &str, from: Option<&str>, why: &str) {
        let what = format!("start from {}", from.unwrap_or("empty state"));
        self.push(job, what, why.to_owned(), None);
    }

    /// The next action of a job was decided, `open` being its open intent.
    pub fn note(&mut self, job: &str, action: &Action, open: Option<&Intent>) {
        let (what, why) = told(action);
        let intent = match action {
            Action::StoreIntent(intent) => Some(intent),
            _ => open,
        };
        let trigger = intent.map(|intent| intent.trigger.to_string());
        self.push(job, what.to_owned(), why, trigger);
    }

    fn push(&mut self, job: &str, what: String, why: String, trigger_id: Option<String>) {
        let mut of_job = self.0.iter().rev().filter(|known| known.job == job);
        if of_job
            .next()
            .is_some_and(|last| (&last.what, &last.why) == (&what, &why))
        {
            return;
        }
        if self.0.len() == DECISIONS {
            self.0.pop_front();
        }
        let (at, job) = (Timestamp::now(), job.to_owned());
        self.0.push_back(Decision {
            at,
            job,
            what,
            why,
            trigger_id,
        });
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Decision> {
        self.0.iter().cloned().collect()
    }
}

fn told(action: &Action) -> (&'static str, String) {
    match action {
        Action::Wait(_, why) => ("wait", (*why).to_owned()),
        Action::StoreIntent(intent) => ("take a savepoint", intent.reason.to_string()),
        Action::Send => ("ask Flink for it", "the intent is stored".to_owned()),
        Action::Verify(path) => ("read it back", path.clone()),
        Action::Record(point) => ("record the restore point", point.path.clone()),
        Action::Abandon(cause) => ("give the savepoint up", cause.to_string()),
        Action::SearchIntent => (
            "look for the savepoint",
            "its result was never fetched".to_owned(),
        ),
        Action::SearchFallback => (
            "look for a retained checkpoint",
            "there is no savepoint".to_owned(),
        ),
        Action::RecordEnded(status) => ("record the end", status.to_string()),
        Action::Settle(Outcome::Recorded(path)) => ("done", format!("recorded {path}")),
        Action::Settle(Outcome::Fallback(path, why)) => {
            ("done without a savepoint", format!("{why}: {path}"))
        }
        Action::Settle(Outcome::Ended(status)) => ("done", format!("the job is {status}")),
        Action::Settle(Outcome::Nothing(why)) => ("nothing to be done", why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64) -> CheckpointEntry {
        CheckpointEntry {
            id,
            status: CheckpointPhase::Completed,
            is_savepoint: false,
            checkpoint_type: None,
            trigger_timestamp: 0,
            end_to_end_duration: 5,
            state_size: 7,
            external_path: None,
            discarded: false,
            failure: None,
        }
    }

    #[test]
    fn checkpoints_are_kept_longer_than_flink_shows_them_and_not_for_ever() {
        let mut marks = Marks::default();
        marks.note(&[entry(2), entry(1)]);
        marks.note(&[entry(3), entry(2)]);
        assert!(marks.all().iter().map(|mark| mark.id).eq([1, 2, 3]));
        for id in 4..=300 {
            marks.note(&[entry(id)]);
        }
        assert!(marks.all().iter().map(|mark| mark.id).eq(101..=300));
    }

    #[test]
    fn what_is_decided_again_and_again_is_there_once_for_each_job() {
        let mut decisions = Decisions::default();
        let wait = |why| Action::Wait(Timestamp::UNIX_EPOCH, why);
        for job in ["a", "b", "a", "b"] {
            decisions.note(job, &wait("nothing is asked for"), None);
        }
        decisions.note("a", &wait("savepoint in progress"), None);
        decisions.note("a", &wait("nothing is asked for"), None);
        let all = decisions.all();
        let told: Vec<(&str, &str)> = all.iter().map(|it| (&*it.job, &*it.why)).collect();
        let (idle, busy) = ("nothing is asked for", "savepoint in progress");
        assert_eq!(told, [("a", idle), ("b", idle), ("a", busy), ("a", idle)]);
        for _ in 0..100 {
            decisions.start("a", None, "one");
            decisions.start("a", Some("s3://x"), "two");
        }
        assert_eq!(decisions.all().len(), DECISIONS);
    }
}
