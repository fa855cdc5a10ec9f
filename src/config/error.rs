//! What is wrong with the settings: all of it, each with its source and what to do about it.
use std::fmt;

use super::sources::Source;

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    what: String,
    remedy: String,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn at(self, source: impl Into<String>) -> ConfigError {
        ConfigError {
            source: source.into(),
            what: self.what,
            remedy: self.remedy,
        }
    }

    /// Without a place: what went wrong, and the remedy.
    pub(super) fn text(&self) -> String {
        format!("{}; {}", self.what, self.remedy)
    }

    /// At the place where the setting `key` was given.
    pub(super) fn given(self, source: &Source, key: &str) -> ConfigError {
        self.at(source.naming(key))
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was given: flag, environment variable, or file, line and key.
    pub source: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.source, self.what, self.remedy)
    }
}

/// Everything that is wrong, one line each. A command ends with exit code 64 (`EX_USAGE`) over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The exit code for bad settings, `EX_USAGE` of `sysexits.h`.
    pub const EXIT_CODE: u8 = 64;

    /// The errors; at least one.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 setting is wrong:")?,
            count => write!(f, "{count} settings are wrong:")?,
        }
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}
