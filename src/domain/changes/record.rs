//! What is stored of configurations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Files;
use crate::domain::pointer::{JobEntry, PointKind, RestorePoint, TriggerReason};

/// A JobManager with the last good configuration that has ended this often on what the changed one's run made is not started
/// so again.
const ATTEMPTS: u32 = 3;

/// A configuration, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// [`Content::digest`](super::Content::digest).
    pub digest: String,
    /// The files.
    pub files: Files,
}

/// A configuration that has not been seen to work yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trial {
    /// Which.
    pub version: Version,
    /// By when it has to work; `None`: it was not started yet.
    pub deadline: Option<Timestamp>,
    /// How often its JobManager has ended.
    #[serde(default)]
    pub deaths: u32,
}

/// A configuration that did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failed {
    /// Which.
    pub digest: String,
    /// Why.
    pub why: String,
    /// How often the JobManager has ended since with the last good one, before that was seen to work again.
    #[serde(default)]
    pub deaths: u32,
}

/// What stands there is not in effect, and nothing is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pending {
    /// What differs, or what is wrong with it; without any value.
    pub what: String,
    /// Since when that is known.
    pub since: Timestamp,
}

/// What is stored of configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// The last one with which the job's tasks ran and a checkpoint was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Version>,
    /// The one that is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// The one that was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
    /// What of the running one concerns TaskManagers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_managers: Option<String>,
    /// Flink was started with this one, and has the last good one since without another start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescaled_from: Option<String>,
    /// What of it waits for a person or for the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

impl Record {
    /// `wanted` is to be tried. Nothing is known against it any more.
    #[must_use]
    pub fn tried(&self, wanted: Version) -> Self {
        let trial = Trial {
            version: wanted,
            deadline: None,
            deaths: 0,
        };
        Self {
            trial: Some(trial),
            failed: None,
            ..self.clone()
        }
    }

    /// The record with what waits now; `None`: it says so already.
    #[must_use]
    pub fn with_pending(&self, what: Option<String>, now: Timestamp) -> Option<Self> {
        let known = self.pending.as_ref().map(|pending| &pending.what);
        (known != what.as_ref()).then(|| Self {
            pending: what.map(|what| Pending { what, since: now }),
            ..self.clone()
        })
    }

    /// `running` works.
    #[must_use]
    pub fn confirmed(&self, running: Version) -> Self {
        let failed = self.failed.clone();
        Self {
            good: Some(running),
            trial: None,
            failed: failed.map(|failed| Failed {
                deaths: 0,
                ..failed
            }),
            ..self.clone()
        }
    }

    /// Flink was started with `from` and works with `now`, without another start.
    #[must_use]
    pub fn rescaled(&self, from: &str, now: Version) -> Self {
        // Of several in a row the first one.
        let from = self.rescaled_from.clone().unwrap_or(from.to_owned());
        Self {
            failed: None,
            rescaled_from: Some(from),
            ..self.confirmed(now)
        }
    }

    /// What a Flink has that was started with `digest`, where that is not the same.
    #[must_use]
    pub fn instead_of(&self, digest: &str) -> Option<&Version> {
        let here = self.rescaled_from.as_deref() == Some(digest);
        self.good.as_ref().filter(|_| here)
    }

    /// What is tried does not work.
    #[must_use]
    pub fn rolled_back(&self, why: String) -> Self {
        let digest = self
            .trial
            .as_ref()
            .map(|trial| trial.version.digest.clone());
        Self {
            failed: digest.map(|digest| Failed {
                digest,
                why,
                deaths: 0,
            }),
            trial: None,
            ..self.clone()
        }
    }

    /// Nothing is tried, and nothing is known against any.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self {
            trial: None,
            failed: None,
            ..self.clone()
        }
    }

    /// The JobManager has ended by itself.
    #[must_use]
    pub fn died(&self) -> Self {
        let mut next = self.clone();
        if let Some(trial) = next.trial.as_mut().filter(|it| it.deadline.is_some()) {
            trial.deaths += 1;
        }
        if let Some(failed) = next.failed.as_mut().filter(|_| self.trial.is_none()) {
            failed.deaths += 1;
        }
        next
    }

    pub(super) fn has_stumbled(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.deaths > 0)
    }

    /// The last good configuration does not come up again on what the changed one's run made, and going back behind that
    /// would put out twice what its sinks have committed. What it started from, and the change's savepoint.
    #[must_use]
    pub fn stuck<'a>(&self, entry: &'a JobEntry) -> Option<(&'a str, &'a str)> {
        let deaths = self.failed.as_ref().map_or(0, |failed| failed.deaths);
        let from = entry.run.as_ref()?.parent.as_ref()?.path.as_str();
        let of_change = |point: &&RestorePoint| {
            point.reason == TriggerReason::ConfigChange && point.kind == PointKind::Stop
        };
        let savepoint = entry.history.iter().find(of_change)?;
        let newer = savepoint.path != from;
        (deaths >= ATTEMPTS && newer).then_some((from, savepoint.path.as_str()))
    }

    /// Whether this one was rolled back.
    #[must_use]
    pub fn has_failed(&self, digest: &str) -> bool {
        self.failed.as_ref().is_some_and(|it| it.digest == digest)
    }

    /// What the JobManager was started with last, and how the part of it is named that concerns TaskManagers.
    #[must_use]
    pub fn for_task_managers(&self) -> Option<(&str, &Files)> {
        let started = self.trial.as_ref().filter(|it| it.deadline.is_some());
        let version = started.map(|trial| &trial.version).or(self.good.as_ref())?;
        Some((self.task_managers.as_deref()?, &version.files))
    }

    pub(super) fn tries(&self, digest: &str) -> bool {
        let trial = self.trial.as_ref();
        trial.is_some_and(|trial| trial.version.digest == digest)
    }
}
