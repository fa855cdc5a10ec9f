//! What was done in a JobManager's life, kept for a supervisor that is restarted beside it: a job that has been seen in this
//! life is not submitted in it again, whatever became of it since.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::domain::pointer::RunId;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Ledger {
    /// The JobManager, by the run id that it was started with.
    pub(super) life: Option<RunId>,
    /// The keys of the jobs that are done with.
    pub(super) done: BTreeSet<String>,
}

fn file(settings: &Settings) -> PathBuf {
    settings.state_dir.join("session.json")
}

impl Ledger {
    /// What is known; a file that cannot be read only means that less is known.
    pub(super) fn load(settings: &Settings) -> Self {
        let text = fs::read_to_string(file(settings)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Replaces the file. Not synced: it outlives this process, and no JobManager outlives the machine.
    pub(super) fn save(&self, settings: &Settings) -> io::Result<()> {
        let file = file(settings);
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_string(self)?)?;
        fs::rename(&new, &file)
    }
}
