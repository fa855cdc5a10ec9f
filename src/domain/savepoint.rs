//! Savepoints as they are asked for and as they turn out.
use crate::domain::job::{JobId, hex_id};
use crate::domain::path::last_segment;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names one savepoint operation: 32 lower-case hex digits, chosen by the caller from Flink 1.15 on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerId([u8; 16]);
hex_id!(TriggerId);

impl TriggerId {
    /// The id of the savepoint at `path`, where Drey asked for it in a directory of its own, which is named after the id.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.trim_end_matches('/').trim_end_matches("/_metadata");
        let (directory, name) = path.rsplit_once('/')?;
        // A checkpoint's is named after its job's id.
        let id = name
            .starts_with("savepoint-")
            .then(|| last_segment(directory))?;
        id.parse().ok()
    }
}

/// How a savepoint stores keyed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SavepointFormat {
    /// The same for all state backends: slower, and the only one that outlives a change of backend.
    Canonical,
    /// The state backend's own files: faster. Since Flink 1.15.
    Native,
}

impl SavepointFormat {
    /// The name in Flink's REST interface, which takes upper case only.
    #[must_use]
    pub const fn to_flink(self) -> &'static str {
        match self {
            Self::Canonical => "CANONICAL",
            Self::Native => "NATIVE",
        }
    }
}

/// What becomes of the job after its savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavepointKind {
    /// The job runs on.
    Savepoint,
    /// The job emits nothing after its savepoint and finishes.
    Stop {
        /// Fire all timers and close all windows first: for a job that will not be resumed.
        drain: bool,
    },
}

/// A savepoint to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SavepointRequest {
    /// The job.
    pub job: JobId,
    /// The id to give to the operation; Flink 1.13 and 1.14 choose their own.
    pub trigger: TriggerId,
    /// What becomes of the job.
    pub kind: SavepointKind,
    /// The format, Flink's default if not given.
    pub format: Option<SavepointFormat>,
    /// The directory, the cluster's configured one if not given.
    pub target_directory: Option<String>,
}

/// How far a savepoint operation is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationStatus {
    /// Flink is still at it.
    InProgress,
    /// The savepoint is written and, for a stop, the job has finished.
    Completed {
        /// The directory of the savepoint.
        location: String,
    },
    /// It failed. For a stop, a savepoint may have been written nevertheless.
    Failed(FailureCause),
    /// Flink does not know this trigger id: never asked for, answered too long ago, or the JobManager was restarted.
    Unknown,
}

/// Why a savepoint failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FailureCause {
    /// What kind of failure it is.
    pub class: FailureClass,
    /// The root cause: one line of at most 300 characters, never a stack trace.
    pub root: String,
    /// The savepoint that was written although the stop failed.
    pub savepoint: Option<String>,
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.root)
    }
}

/// The kinds of savepoint failures that ask for different reactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// Some task is not running yet, or the job is just being restarted or rescaled.
    NotAllTasksRunning,
    /// Another savepoint or stop is in the way, or took this one down.
    AnotherInProgress,
    /// No directory was given and the cluster has none configured.
    NoSavepointDirectory,
    /// The job does not exist, or came to its end meanwhile.
    JobGone,
    /// The savepoint is written and consistent, but the job failed while it stopped.
    StoppedAfterSavepoint,
    /// The checkpoint was declined, expired or lost: it may work the next time.
    CheckpointFailure,
    /// The directory cannot be written to.
    StorageUnwritable,
    /// This job cannot have savepoints, for example because of blocking exchanges.
    NotSupported,
    /// The JobManager could not be asked: no leader, shutting down, or a timeout inside of Flink.
    Unavailable,
    /// None of the above.
    Other,
}

impl FailureClass {
    /// True when the same request may succeed later without anyone changing anything.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::NotAllTasksRunning
            | Self::AnotherInProgress
            | Self::CheckpointFailure
            | Self::Unavailable
            // Told by its wording from what cannot pass: a wording that nobody knows may.
            | Self::Other => true,
            Self::NoSavepointDirectory
            | Self::JobGone
            | Self::StoppedAfterSavepoint
            | Self::StorageUnwritable
            | Self::NotSupported => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn a_format_is_lower_case_for_people_and_upper_case_for_flink() -> Result<(), Box<dyn Error>> {
        assert_eq!(
            serde_json::to_string(&SavepointFormat::Native)?,
            "\"native\""
        );
        assert_eq!(
            serde_json::from_str::<SavepointFormat>("\"canonical\"")?,
            SavepointFormat::Canonical
        );
        assert_eq!(SavepointFormat::Native.to_flink(), "NATIVE");
        assert_eq!(SavepointFormat::Canonical.to_flink(), "CANONICAL");
        Ok(())
    }

    #[test]
    fn a_savepoint_of_dreys_own_is_in_a_directory_with_its_id() {
        let id = "81f8793e95f481f8793e95f481f8793e";
        let known = |path: &str| TriggerId::of_path(path).map(|id| id.to_string());
        for path in [
            "s3://b/run/ID/savepoint-51ad98-81f8",
            "file:/b/ID/savepoint-1/_metadata",
            "/ID/savepoint-1/",
        ] {
            assert_eq!(
                known(&path.replace("ID", id)).as_deref(),
                Some(id),
                "{path}"
            );
        }
        for path in [
            "s3://b/run/ID/chk-7",
            "s3://b/savepoints/savepoint-1",
            "savepoint-1",
            "",
            "/",
        ] {
            assert_eq!(known(&path.replace("ID", id)), None, "{path}");
        }
    }

    #[test]
    fn a_savepoint_that_was_written_is_never_asked_for_again() {
        assert!(!FailureClass::StoppedAfterSavepoint.is_retryable());
        assert!(FailureClass::NotAllTasksRunning.is_retryable());
    }
}
