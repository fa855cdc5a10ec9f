//! What is remembered for retention and for people: the starts, and the savepoints that are being deleted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JobEntry, Run, RunId};

/// How many starts are remembered for each job.
const STARTS: usize = 20;

/// One start of a job: what `drey history` shows of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Start {
    /// The run that began with it.
    pub run: RunId,
    /// The lineage that it continued or opened.
    pub lineage: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// The restore point; `None` for empty state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Its checkpoint id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checkpoint_id: Option<i64>,
    /// When the run was first seen to have completed a checkpoint of its own: from then on it needs nothing older.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proven: Option<Timestamp>,
    /// The Flink version.
    pub flink_version: String,
}

impl Start {
    fn of(run: &Run, lineage: u64) -> Self {
        let parent = run.parent.as_ref();
        Self {
            run: run.id.clone(),
            lineage,
            at: run.stored,
            from: parent.map(|parent| parent.path.clone()),
            checkpoint_id: parent.and_then(|parent| parent.checkpoint_id),
            proven: None,
            flink_version: run.flink_version.clone(),
        }
    }
}

/// A savepoint that is being deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Disposal {
    /// Where it is, or what is left of it.
    pub path: String,
    /// Since when.
    pub since: Timestamp,
    /// Its size in bytes, as far as known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
}

/// A savepoint that was asked for by the annotation `drey.io/savepoint-request`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Requested {
    /// The annotation's value. Stored with the intent, so that the same one does nothing twice.
    pub nonce: String,
    /// When its intent was stored: a restore point that was begun since is its savepoint.
    pub since: Timestamp,
    /// Why there is no savepoint.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
    /// What was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer: Option<String>,
}

impl JobEntry {
    /// Remembers the start of the present run. May be called again.
    pub fn note_start(&mut self) {
        let Some(run) = &self.run else { return };
        if self.start_of(&run.id).is_none() {
            self.starts.insert(0, Start::of(run, self.lineage));
            self.starts.truncate(STARTS);
        }
    }

    /// The start of `run`, as long as it is remembered.
    #[must_use]
    pub fn start_of(&self, run: &RunId) -> Option<&Start> {
        self.starts.iter().find(|start| start.run == *run)
    }

    /// The present run has completed a checkpoint of its own. Returns whether that is news.
    pub fn prove(&mut self, now: Timestamp) -> bool {
        self.note_start();
        let run = self.run.as_ref().map(|run| run.id.clone());
        let start = self
            .starts
            .iter_mut()
            .find(|start| Some(&start.run) == run.as_ref());
        match start {
            Some(start) if start.proven.is_none() => {
                start.proven = Some(now);
                true
            }
            _ => false,
        }
    }

    /// The present run has completed a checkpoint or a savepoint of its own, so it needs nothing that is older.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        let Some(run) = &self.run else { return false };
        let seen = self.start_of(&run.id).and_then(|start| start.proven);
        let made = |point: &super::RestorePoint| {
            point.run.as_ref() == Some(&run.id)
                && point.checkpoint_id.is_some()
                && !point.superseded
        };
        seen.is_some() || self.counting().any(made)
    }

    /// A run starts from `path` and takes its files over.
    pub fn note_claim(&mut self, path: &str) {
        for point in self.history.iter_mut().filter(|point| point.path == path) {
            point.claimed = true;
        }
    }
}
