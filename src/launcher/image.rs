//! What the entrypoint of Flink's official image needs.
//!
//! It writes into `$FLINK_HOME/conf`, wherever `FLINK_CONF_DIR` points to, and when it cannot, as with a mounted ConfigMap
//! or a read-only root, it goes on without a word and `FLINK_PROPERTIES` is lost. So it gets a home of links in which
//! `conf` is a copy of its own, and Drey puts `FLINK_PROPERTIES` into that copy itself.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{Access, access};

use super::properties::{Properties, substitute};
use crate::flink::config_file::{ConfigFile, ConfigFileError};
use crate::flink::version::FlinkVersion;

/// The address of the JobManager: the entrypoint sets it to the host's name.
const ADDRESS: &str = "jobmanager.rpc.address";
/// The slots of a TaskManager: up to 1.14 the entrypoint sets them to 1.
const SLOTS: &str = "taskmanager.numberOfTaskSlots";
/// What the entrypoint sets, and no variable of its own can change.
const PORTS: [(&str, &str); 2] = [("blob.server.port", "6124"), ("query.server.port", "6125")];

/// A container of Flink's image.
#[derive(Debug, Clone)]
pub(super) struct Image {
    home: PathBuf,
    version: FlinkVersion,
    /// Flink wrote the configuration itself and mounted it: the entrypoint's defaults would break it, and never came into
    /// it, since the mount is read-only.
    native: bool,
    environment: BTreeMap<String, String>,
}

impl Image {
    pub(super) fn new(
        home: PathBuf,
        version: FlinkVersion,
        native: bool,
        environment: BTreeMap<String, String>,
    ) -> Self {
        Self {
            home,
            version,
            native,
            environment,
        }
    }

    /// The image's own configuration directory.
    pub(super) fn conf(&self) -> PathBuf {
        self.home.join("conf")
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    fn properties(&self) -> Properties {
        Properties::read(
            self.variable("FLINK_PROPERTIES").unwrap_or_default(),
            |name| self.variable(name).map(str::to_owned),
        )
    }

    /// The configuration as the entrypoint would have it: `FLINK_PROPERTIES` wins over the variables of its own, and those
    /// over the file.
    ///
    /// # Errors
    /// The key that cannot be set.
    pub(super) fn fill(&self, file: &ConfigFile) -> Result<ConfigFile, (String, ConfigFileError)> {
        let mut filled = file.clone();
        if self.substitutes() && !self.native {
            let text = substitute(file.text(), |name| self.variable(name).map(str::to_owned));
            filled = ConfigFile::parse(file.format(), &text)
                .map_err(|error| ("variables".to_owned(), error))?;
        }
        let mut set = BTreeMap::new();
        if !self.native {
            for (key, name) in [
                (ADDRESS, "JOB_MANAGER_RPC_ADDRESS"),
                (SLOTS, "TASK_MANAGER_NUMBER_OF_TASK_SLOTS"),
            ] {
                set.extend(self.variable(name).map(|value| (key, value.to_owned())));
            }
        }
        let properties = self.properties();
        set.extend(
            properties
                .entries()
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone())),
        );
        for (key, value) in set {
            filled
                .set(key, &value)
                .map_err(|error| (key.to_owned(), error))?;
        }
        Ok(filled)
    }

    /// Up to 1.18 the entrypoint sends the whole file through `envsubst`.
    fn substitutes(&self) -> bool {
        (self.version.major, self.version.minor) < (1, 19)
    }

    /// Makes the home of links in `state_dir`, with `conf` in it.
    pub(super) fn shadow(&self, state_dir: &Path, conf: &Path) -> io::Result<()> {
        let shadow = state_dir.join("home");
        match fs::remove_dir_all(&shadow) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&shadow)?,
        }
        for entry in fs::read_dir(&self.home)? {
            let entry = entry?;
            let (path, link) = (entry.path(), shadow.join(entry.file_name()));
            match entry.file_name().to_str() {
                Some("conf") => {}
                // The entrypoint's `find` does not follow a link to the directory it begins in, and it makes links of its
                // own for ENABLE_BUILT_IN_PLUGINS.
                Some("lib" | "plugins") if path.is_dir() => mirror(&path, &link)?,
                Some("bin") if self.native => {
                    mirror(&path, &link)?;
                    idle_parser(&link)?;
                }
                _ => symlink(&path, &link)?,
            }
        }
        if self.native {
            // What the entrypoint writes is read by nobody, as with Flink's own mount.
            copy_files(conf, &shadow.join("conf"), |_| true)
        } else {
            symlink(conf, shadow.join("conf"))
        }
    }

    /// Gives the entrypoint its home, and the values which it would otherwise replace by its own.
    pub(super) fn environment(
        &self,
        command: &mut process::Command,
        state_dir: &Path,
        entries: &BTreeMap<String, String>,
    ) {
        let shadow = state_dir.join("home");
        if self.variable("FLINK_PLUGINS_DIR").is_none() {
            command.env("FLINK_PLUGINS_DIR", shadow.join("plugins"));
        }
        let log = self.home.join("log");
        let logs_elsewhere =
            self.variable("FLINK_LOG_DIR").is_some() || entries.contains_key("env.log.dir");
        if !logs_elsewhere && access(&log, Access::WRITE_OK).is_err() {
            let own = state_dir.join("log");
            // Without it Flink logs to the console alone, as it would in plain Flink.
            if fs::create_dir_all(&own).is_ok() {
                command.env("FLINK_LOG_DIR", own);
            }
        }
        command.env("FLINK_HOME", shadow);
        command.env_remove("FLINK_PROPERTIES");
        if !self.native {
            self.keep(command, entries);
        }
    }

    /// What the entrypoint sets in any case keeps the value that it has.
    fn keep(&self, command: &mut process::Command, entries: &BTreeMap<String, String>) {
        let chosen = |key: &str| self.properties().entries().contains_key(key);
        // `localhost` is what the image has: the entrypoint knows better.
        let address = entries.get(ADDRESS).filter(|address| {
            *address != "localhost"
                || chosen(ADDRESS)
                || self.variable("JOB_MANAGER_RPC_ADDRESS").is_some()
        });
        command.envs(address.map(|address| ("JOB_MANAGER_RPC_ADDRESS", address)));
        let slots = entries.get(SLOTS);
        command.envs(slots.map(|slots| ("TASK_MANAGER_NUMBER_OF_TASK_SLOTS", slots)));
        let ports: Vec<String> = PORTS
            .iter()
            .filter_map(|(key, usual)| {
                let port = entries.get(*key).filter(|port| port != usual)?;
                Some(format!("{key}: {port}"))
            })
            .collect();
        if !ports.is_empty() {
            command.env("FLINK_PROPERTIES", ports.join("\n"));
        }
        if self.substitutes() {
            // Or else `envsubst` would make `.pipeline.job-id` of Drey's key `$internal.pipeline.job-id`.
            command.env("internal", "$internal");
        }
    }
}

/// Directories of links to the files in `from`.
fn mirror(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() {
            mirror(&path, &to.join(name))?;
        } else {
            symlink(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// Saves the start of a JVM whose result nobody reads.
fn idle_parser(bin: &Path) -> io::Result<()> {
    let parser = bin.join("config-parser-utils.sh");
    if parser.is_symlink() {
        fs::remove_file(&parser)?;
        fs::write(&parser, "#!/bin/sh\n")?;
        fs::set_permissions(&parser, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Copies the files of a directory that are `wanted`. Links are followed, since a mounted ConfigMap consists of them, and
/// copies can be written to, which the originals need not.
pub(super) fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else {
            continue;
        };
        if !wanted(&name.to_string_lossy()) {
            continue;
        }
        let copy = to.join(name);
        if copy.exists() {
            fs::remove_file(&copy)?;
        }
        fs::copy(&path, &copy)?;
        let mode = fs::metadata(&copy)?.permissions().mode();
        fs::set_permissions(&copy, Permissions::from_mode(mode | 0o600))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
