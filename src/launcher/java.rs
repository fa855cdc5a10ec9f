//! `java` as Flink's scripts find it while a start is made ready ahead of its time ([`super::ahead`]).
//!
//! The scripts run several JVMs, for the memory's sizes and the options, before they execute Flink's own. Those run as they
//! are. Flink's own waits here until the launcher says with what it starts.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process;

use serde::{Deserialize, Serialize};

use super::command::{is_job_manager_class, with_order};

/// The socket on which the launcher lets it go. This and the next are not `DREY_…`, which is for settings.
const SOCKET: &str = "_DREY_AHEAD";
/// What `JAVA_HOME` was, if it was set.
const HOME: &str = "_DREY_AHEAD_JAVA_HOME";

/// What lets Flink's JVM start.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Go {
    /// Configuration that goes before what the command line sets.
    pub(super) set: BTreeMap<String, String>,
    /// Configuration that the command line must not set.
    pub(super) remove: Vec<String>,
    /// More arguments.
    pub(super) args: Vec<String>,
    /// More arguments of the job.
    pub(super) job_args: Vec<String>,
    /// More variables of its environment.
    pub(super) env: BTreeMap<String, String>,
}

/// Makes `command` find this program as its `java`, which asks at `socket`. `directory` is for links.
///
/// # Errors
/// When a link cannot be made, or there is no java.
pub(super) fn stand_in(
    command: &mut process::Command,
    directory: &Path,
    socket: &Path,
) -> io::Result<()> {
    let home = env::var_os("JAVA_HOME").filter(|home| !home.is_empty());
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin)?;
    symlink(env::current_exe()?, bin.join("java"))?;
    command.env(SOCKET, socket);
    if let Some(home) = home {
        let home = PathBuf::from(home);
        links(&home, directory, "bin")?;
        links(&home.join("bin"), &bin, "java")?;
        command.env(HOME, home).env("JAVA_HOME", directory);
    } else {
        // Looked for by its name alone.
        let path = env::var_os("PATH").unwrap_or_default();
        let first = [bin].into_iter().chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(first).map_err(io::Error::other)?);
    }
    Ok(())
}

/// Links to everything in `from` but `except`.
fn links(from: &Path, to: &Path, except: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != except {
            symlink(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Whether this process was executed as that `java`.
#[must_use]
pub fn is_stand_in(program: Option<&OsStr>) -> bool {
    let name = program.map(Path::new).and_then(Path::file_name);
    name == Some(OsStr::new("java")) && env::var_os(SOCKET).is_some()
}

/// Becomes the real `java`: at once, or as Flink's JobManager once the launcher lets it. Returns why that was not possible.
#[must_use]
pub fn become_java(mut args: Vec<OsString>) -> String {
    let mut more = BTreeMap::new();
    if args.iter().any(|arg| is_job_manager_class(arg)) {
        match wait() {
            Ok(Some(go)) => {
                args = with_order(
                    args.into_iter(),
                    &go.set,
                    &go.remove,
                    &go.args,
                    &go.job_args,
                );
                more = go.env;
            }
            Ok(None) => return "nobody lets Flink start".to_owned(),
            Err(error) => return format!("could not ask whether Flink may start: {error}"),
        }
    }
    let error = real().args(args).envs(more).exec();
    format!("could not execute java: {error}")
}

fn wait() -> io::Result<Option<Go>> {
    let path = env::var_os(SOCKET).ok_or(io::ErrorKind::NotFound)?;
    let mut text = String::new();
    UnixStream::connect(path)?.read_to_string(&mut text)?;
    if text.is_empty() {
        // The launcher is gone.
        return Ok(None);
    }
    serde_json::from_str(&text).map_err(io::Error::other)
}

/// The `java` that would have been found otherwise, in that environment.
fn real() -> process::Command {
    let mut command = match env::var_os(HOME) {
        Some(home) => {
            let mut command = process::Command::new(Path::new(&home).join("bin/java"));
            command.env("JAVA_HOME", home);
            command
        }
        None => by_path(),
    };
    command.env_remove(SOCKET).env_remove(HOME);
    command
}

fn by_path() -> process::Command {
    let own = env::var_os(SOCKET)
        .and_then(|socket| Some(Path::new(&socket).parent()?.join("java/bin")))
        .unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let others: Vec<PathBuf> = env::split_paths(&path).filter(|dir| *dir != own).collect();
    let found = others
        .iter()
        .map(|dir| dir.join("java"))
        .find(|java| java.is_file());
    let mut command = process::Command::new(found.unwrap_or_else(|| "java".into()));
    if let Ok(path) = env::join_paths(others) {
        command.env("PATH", path);
    }
    command
}
