//! Values that only settings have.
use std::time::Duration;

use crate::domain::claim::ClaimMode;
use crate::domain::restore::Strategy;
use crate::domain::savepoint::SavepointFormat;

/// What the supervised command runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// To be told from the command.
    #[default]
    Auto,
    /// One application: the JobManager ends with its job.
    Application,
    /// A session cluster: jobs come and go.
    Session,
}

/// Whether a child that died by itself is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Restart {
    /// Drey exits with the child's code.
    #[default]
    Never,
    /// It is started again from the newest restore point.
    OnFailure,
}

/// For whom logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A closed set of values with names.
pub(super) trait Choice: Copy + PartialEq + Sized + 'static {
    /// All of them.
    const NAMES: &'static [(&'static str, Self)];
}

macro_rules! choice {
    ($($type:ty { $($name:literal: $value:ident),+ })+) => {
        $( impl Choice for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$value)),+];
        } )+
    };
}

choice! {
    Mode { "auto": Auto, "application": Application, "session": Session }
    Restart { "never": Never, "on-failure": OnFailure }
    LogFormat { "text": Text, "json": Json }
    Strategy { "latest-state": LatestState, "latest-savepoint": LatestSavepoint, "none": None }
    SavepointFormat { "canonical": Canonical, "native": Native }
    ClaimMode { "claim": Claim, "no-claim": NoClaim }
}

/// How long a pod of which nothing can be seen keeps the lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LockBreak {
    /// This long after its grace period.
    After(Duration),
    /// Until a person acts.
    #[default]
    Never,
}

impl LockBreak {
    /// The time, `None` for never.
    #[must_use]
    pub fn after(self) -> Option<Duration> {
        match self {
            Self::After(time) => Some(time),
            Self::Never => None,
        }
    }
}
