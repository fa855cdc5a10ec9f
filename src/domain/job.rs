//! A Flink job as the cluster describes it: its id, its state, and how many of its tasks run.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A text that is not the 32 hex digits of a Flink id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hex digits, got {text:?}")]
pub struct ParseIdError {
    text: String,
}

/// Reads 32 hex digits; Flink accepts either case.
pub(crate) fn parse_id(text: &str) -> Result<[u8; 16], ParseIdError> {
    let refused = || ParseIdError {
        text: text.chars().take(64).collect(),
    };
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(refused());
    }
    u128::from_str_radix(text, 16)
        .map(u128::to_be_bytes)
        .map_err(|_| refused())
}

/// The traits that every 16-byte Flink id shares.
macro_rules! hex_id {
    ($name:ident) => {
        impl $name {
            /// The id made of these bytes, in the order in which Flink prints them.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes, in the order in which Flink prints them.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::domain::job::ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::domain::job::parse_id(text).map(Self)
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use hex_id;

/// A Flink job id: 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId([u8; 16]);
hex_id!(JobId);

/// The state of a job, in Flink's own words (`org.apache.flink.api.common.JobStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// The job was accepted; its JobMaster is not there yet.
    Initializing,
    /// The job is there; no task has been scheduled.
    Created,
    /// The job is running or its tasks are being deployed: see [`TaskCounts::all_running`].
    Running,
    /// The job has failed and waits for its tasks to be cancelled.
    Failing,
    /// The job has failed for good.
    Failed,
    /// The job is being cancelled.
    Cancelling,
    /// The job was cancelled.
    Canceled,
    /// The job is done, by itself or by stop-with-savepoint.
    Finished,
    /// The job is being restarted after a failure.
    Restarting,
    /// The job is stopped on this JobManager only: another one may recover it.
    Suspended,
    /// The job waits for TaskManagers to report what they still run.
    Reconciling,
}

impl JobStatus {
    const ALL: [(&'static str, Self); 11] = [
        ("INITIALIZING", Self::Initializing),
        ("CREATED", Self::Created),
        ("RUNNING", Self::Running),
        ("FAILING", Self::Failing),
        ("FAILED", Self::Failed),
        ("CANCELLING", Self::Cancelling),
        ("CANCELED", Self::Canceled),
        ("FINISHED", Self::Finished),
        ("RESTARTING", Self::Restarting),
        ("SUSPENDED", Self::Suspended),
        ("RECONCILING", Self::Reconciling),
    ];

    /// True when no JobManager will ever run this job again. A suspended job is not: with high availability another
    /// JobManager recovers it.
    #[must_use]
    pub const fn is_globally_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL
            .iter()
            .find(|(_, status)| status == self)
            .map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// A text that is none of Flink's job states.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown job status {0:?}")]
pub struct ParseJobStatusError(String);

impl FromStr for JobStatus {
    type Err = ParseJobStatusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, status)| *status)
            .ok_or_else(|| ParseJobStatusError(text.chars().take(64).collect()))
    }
}

/// How many tasks (parallel subtasks) a job has, and how many of them run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TaskCounts {
    /// All subtasks of all vertices.
    pub total: u32,
    /// Those in state RUNNING.
    pub running: u32,
    /// Those that are done already.
    pub finished: u32,
}

impl TaskCounts {
    /// True when a savepoint can be taken: Flink refuses one while any task is still being deployed, although the job's
    /// own state is RUNNING by then.
    #[must_use]
    pub const fn all_running(&self) -> bool {
        self.total > 0 && self.running as u64 + self.finished as u64 == self.total as u64
    }
}

/// One line of Flink's job overview.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobView {
    /// The job's id.
    pub id: JobId,
    /// The name given in the job's code.
    pub name: String,
    /// The job's state.
    pub status: JobStatus,
    /// When the job was accepted, in milliseconds since 1970.
    pub start_time: i64,
    /// How far its tasks are.
    pub tasks: TaskCounts,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn an_id_is_written_as_it_was_read_in_lower_case() -> Result<(), Box<dyn Error>> {
        let id: JobId = "00Ff000000000000000000000000000A".parse()?;
        assert_eq!(id.to_string(), "00ff000000000000000000000000000a");
        assert_eq!(
            serde_json::to_string(&id)?,
            "\"00ff000000000000000000000000000a\""
        );
        assert_eq!(
            serde_json::from_str::<JobId>("\"00ff000000000000000000000000000a\"")?,
            id
        );
        assert_eq!(JobId::from_bytes(*id.as_bytes()), id);
        Ok(())
    }

    #[test]
    fn anything_else_than_32_hex_digits_is_refused() {
        let long = "0".repeat(33);
        let sign = format!("+{}", "0".repeat(31));
        for text in [
            "",
            "00",
            "zz000000000000000000000000000000",
            long.as_str(),
            sign.as_str(),
            "ä".repeat(16).as_str(),
        ] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_status_has_one_name_for_people_for_json_and_for_parsing() -> Result<(), Box<dyn Error>>
    {
        for (name, status) in JobStatus::ALL {
            assert_eq!(status.to_string(), name);
            assert_eq!(name.parse::<JobStatus>()?, status);
            assert_eq!(serde_json::to_string(&status)?, format!("\"{name}\""));
            assert_eq!(
                serde_json::from_str::<JobStatus>(&format!("\"{name}\""))?,
                status
            );
        }
        assert!("running".parse::<JobStatus>().is_err());
        assert!(serde_json::from_str::<JobStatus>("\"DREAMING\"").is_err());
        Ok(())
    }

    #[test]
    fn only_failed_canceled_and_finished_are_globally_terminal() {
        let terminal: Vec<_> = JobStatus::ALL
            .iter()
            .filter(|(_, s)| s.is_globally_terminal())
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(terminal, ["FAILED", "CANCELED", "FINISHED"]);
    }

    #[test]
    fn a_job_without_tasks_or_with_a_deploying_task_is_not_all_running() {
        let counts = |total, running, finished| TaskCounts {
            total,
            running,
            finished,
        };
        assert!(!counts(0, 0, 0).all_running());
        assert!(!counts(3, 2, 0).all_running());
        assert!(counts(3, 2, 1).all_running());
        assert!(counts(3, 3, 0).all_running());
    }
}
