//! Values that only settings have.
use std::fmt;
use std::time::Duration;

use crate::domain::changes::OnChange;
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
    OnChange { "ignore": Ignore, "restart": Restart, "rescale-only": RescaleOnly }
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

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl Ports {
    /// All of them.
    pub fn all(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// Whether `port` is one of them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Labels for series, with their values; `None` where Drey knows the value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<(String, Option<String>)>);

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (number, (name, value)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let value = value
                .as_ref()
                .map_or_else(String::new, |value| format!("={value}"));
            write!(f, "{comma}{name}{value}")?;
        }
        Ok(())
    }
}
