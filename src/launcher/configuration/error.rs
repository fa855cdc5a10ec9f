//! Why a start of Flink fails.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::flink::config_file::{ConfDirError, ConfigFileError};
use crate::flink::home::HomeError;
use crate::launcher::command::CommandError;
use crate::pointer_file::PointerError;

/// Why Flink could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The command cannot be supervised.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Flink is not to be found.
    #[error(
        "could not find Flink's home directory from the command {0:?}; name it with `--flink-home DIR`"
    )]
    NoHome(OsString),
    /// Its version is not to be found.
    #[error("could not find Flink's version; name it with `--flink-version VERSION`")]
    Version(#[source] HomeError),
    /// There is no application that the arguments could be for.
    #[error(
        "arguments-file is for application mode: in a session cluster each job has `args` of its own in session-jobs"
    )]
    NoApplication,
    /// The job's arguments cannot be read or understood.
    #[error("{0}")]
    Arguments(String),
    /// Its configuration cannot be read or written.
    #[error("could not prepare Flink's configuration")]
    Configuration(#[from] ConfDirError),
    /// A key cannot be set in its configuration.
    #[error("could not set {key} in {file}")]
    Key {
        /// The key.
        key: String,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: ConfigFileError,
    },
    /// A file of the configuration directory cannot be copied.
    #[error("could not copy {path}")]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A home of links cannot be made for the image's entrypoint.
    #[error("could not make {path}, a home of links for Flink")]
    Shadow {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The state directory cannot be written to.
    #[error("could not remember the start")]
    Remember(#[source] PointerError),
    /// The supervisor refused.
    #[error("{error}")]
    Refused {
        /// Why, and what to do.
        error: String,
        /// The exit code.
        code: u8,
    },
    /// The command cannot be executed.
    #[error("could not execute {command:?}; check that it exists and may be executed")]
    Spawn {
        /// The program.
        command: OsString,
        /// Why not.
        source: io::Error,
    },
}

impl LaunchError {
    /// The exit code: 64 where the user has to change something, 75 where it may work later, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Remember(_) | Self::Copy { .. } | Self::Shadow { .. } => 1,
            _ => 64,
        }
    }
}
