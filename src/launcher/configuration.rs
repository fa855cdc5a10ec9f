//! Flink's configuration for one start: a fresh copy of the user's directory, with Drey's keys in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use crate::changes::{arguments, content, format, read_arguments, read_files};
use crate::config::{Ports, Settings};
use crate::control::{Prepare, StartOrder};
use crate::domain::changes::{ARGUMENTS, Files};
use crate::flink::config_file::{ConfDir, elements, list};
use crate::flink::home::detect_version;
use crate::flink::reporter::reporter_keys;
use crate::flink::version::FlinkVersion;
use crate::telemetry::one_line;

use super::again::Own;
use super::command::Command;
use super::image::Image;

mod copy;
mod error;

pub use copy::apply;
use copy::edit;
pub use error::LaunchError;

/// The arguments of the job in native mode, as the client that deployed it has left them.
const PROGRAM_ARGS: &str = "$internal.application.program-args";

/// Where Flink's configuration is, and which version reads it.
#[derive(Debug, Clone)]
pub struct Configuration {
    directory: PathBuf,
    version: FlinkVersion,
    /// Flink is started by the entrypoint of its official image.
    image: Option<Image>,
    /// The port where Drey serves metrics, and those of Flink's own reporter then.
    metrics: Option<(u16, Ports)>,
    /// The file with the job's arguments.
    arguments: Option<PathBuf>,
}

impl Configuration {
    /// Finds Flink's home by the settings or by the command, and from it version and configuration directory.
    ///
    /// # Errors
    /// When one of them is not to be found.
    pub fn find(settings: &Settings, command: &Command) -> Result<Self, LaunchError> {
        let home = settings
            .flink_home
            .clone()
            .or_else(|| home_of(Path::new(command.program())));
        let missing = || LaunchError::NoHome(command.program().to_owned());
        let version = match settings.flink_version {
            Some(version) => version,
            None => detect_version(home.as_deref().ok_or_else(missing)?)
                .map_err(LaunchError::Version)?,
        };
        let image = match &home {
            Some(home) if command.is_entrypoint(&settings.entrypoint) => Some(Image::new(
                home.clone(),
                version,
                command.is_native(),
                environment(),
            )),
            _ => None,
        };
        let named = settings.flink_conf_dir.as_deref();
        let directory = match command.configuration_directory().or(named) {
            Some(directory) => directory.to_owned(),
            None => home.ok_or_else(missing)?.join("conf"),
        };
        let ports = settings.flink_metrics_port;
        let served = settings.metrics_address.map(|address| address.port());
        Ok(Self {
            directory,
            version,
            image,
            metrics: served.map(|served| (served, ports)),
            arguments: settings
                .arguments_file
                .clone()
                .filter(|_| command.is_application()),
        })
    }

    /// The user's configuration directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file with the job's arguments.
    #[must_use]
    pub fn arguments_file(&self) -> Option<&Path> {
        self.arguments.as_deref()
    }

    /// What the supervisor has to know before the start.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn prepare(
        &self,
        command: &Command,
        state_dir: &Path,
        ordered: Option<&Files>,
    ) -> Result<Prepare, LaunchError> {
        let (mut configuration, unreadable) = match self.entries(state_dir, ordered) {
            Ok(entries) => (entries, None),
            Err(LaunchError::Configuration(error)) if ordered.is_none() => {
                (BTreeMap::new(), Some(one_line(&error, 1000)))
            }
            Err(error) => return Err(error),
        };
        configuration.extend(command.dynamic());
        let mut files = match ordered {
            Some(files) => files.clone(),
            None => read_files(&self.directory).unwrap_or_default(),
        };
        if let Some(file) = self
            .arguments_file()
            .filter(|_| !files.contains_key(ARGUMENTS))
        {
            files.extend(read_arguments(file));
        }
        let unreadable = unreadable.or_else(|| arguments(&files).err());
        Ok(Prepare {
            directory: self.directory.clone(),
            arguments_file: self.arguments.clone(),
            files,
            ordered: ordered.is_some(),
            unreadable,
            flink_version: self.version.to_string(),
            configuration,
            application: command.is_application(),
            standalone: command.is_standalone(),
            job_id: command.job_id(),
            getting_ready: false,
        })
    }

    fn entries(
        &self,
        state_dir: &Path,
        ordered: Option<&Files>,
    ) -> Result<BTreeMap<String, String>, LaunchError> {
        let file = match (&self.image, ordered) {
            (None, None) => ConfDir::find(&self.directory, self.version)?.load()?,
            _ => self.seed(state_dir, ordered)?.0.load()?,
        };
        Ok(file.entries().clone())
    }

    /// The order of a start with the job's arguments of `flink`, which come after those that the command has: in native mode
    /// they are part of the configuration (`ApplicationConfiguration.APPLICATION_ARGS`).
    ///
    /// # Errors
    /// When they cannot be read or understood.
    pub(super) fn with_arguments(
        &self,
        command: &Command,
        order: &StartOrder,
        flink: &Prepare,
    ) -> Result<StartOrder, LaunchError> {
        let arguments = arguments(&flink.files).map_err(LaunchError::Arguments)?;
        let mut order = order.clone();
        if command.is_native() && !arguments.is_empty() {
            let format = format(&flink.files, self.version);
            let given = flink.configuration.get(PROGRAM_ARGS);
            let mut all = elements(format, given.map(String::as_str).unwrap_or_default());
            all.extend(arguments);
            order
                .set
                .insert(PROGRAM_ARGS.to_owned(), list(format, &all));
        } else {
            order.job_args = arguments;
        }
        Ok(order)
    }

    /// The command of a JobManager, with the configuration of this one start below `state_dir`. The user's own files stay
    /// as they are.
    ///
    /// # Errors
    /// When something cannot be copied or set.
    pub fn job_manager(
        &self,
        command: &Command,
        state_dir: &Path,
        order: &StartOrder,
        ordered: Option<&Files>,
    ) -> Result<process::Command, LaunchError> {
        let (directory, copy) = self.seed(state_dir, ordered)?;
        let mut order = order.clone();
        order.set.extend(self.reporter(command, &directory)?);
        apply(&directory, &order)?;
        let mut command = command.with(&order, &copy);
        self.shadow(&mut command, &directory, &copy)?;
        Ok(command)
    }

    /// The command of a TaskManager with `set` in its configuration; what it restores, its JobManager tells it.
    ///
    /// # Errors
    /// When something cannot be copied or set.
    pub fn task_manager(
        &self,
        command: &Command,
        state_dir: &Path,
        ordered: Option<&Files>,
        set: BTreeMap<String, String>,
    ) -> Result<process::Command, LaunchError> {
        let (directory, copy) = self.seed(state_dir, ordered)?;
        edit(&directory, &[], &set)?;
        let mut command = command.with_keys(&set, &[], &[], &copy);
        self.shadow(&mut command, &directory, &copy)?;
        Ok(command)
    }

    /// The command of a JobManager whose order is not known yet, with `set` and a copy of the configuration below `state_dir`,
    /// and where that is.
    ///
    /// # Errors
    /// When something cannot be copied or set.
    pub(super) fn ahead(
        &self,
        command: &Command,
        state_dir: &Path,
        mut set: BTreeMap<String, String>,
    ) -> Result<(process::Command, ConfDir), LaunchError> {
        let (directory, copy) = self.seed(state_dir, None)?;
        set.extend(self.reporter(command, &directory)?);
        edit(&directory, &[], &set)?;
        let mut command = command.with_keys(&set, &[], &[], &copy);
        self.shadow(&mut command, &directory, &copy)?;
        Ok((command, directory))
    }

    /// A fresh copy below `state_dir`, where a JVM had its configuration, for the same JVM: with Drey's own and with what `added`
    /// has beside the user's.
    ///
    /// # Errors
    /// When something cannot be copied or set.
    pub(super) fn again(
        &self,
        state_dir: &Path,
        ordered: Option<&Files>,
        own: &Own<'_>,
        added: impl Fn(&BTreeMap<String, String>) -> BTreeMap<String, String>,
    ) -> Result<(), LaunchError> {
        let (directory, _) = self.seed(state_dir, ordered)?;
        let mut set = added(directory.load()?.entries());
        set.extend(own.set.clone());
        edit(&directory, own.remove, &set)?;
        Ok(())
    }

    /// What stands in a directory that was made for a start.
    pub(super) fn read(&self, directory: &Path) -> Result<BTreeMap<String, String>, LaunchError> {
        let file = ConfDir::find(directory, self.version)?.load()?;
        Ok(file.entries().clone())
    }

    /// Names what of the user's configuration concerns TaskManagers; `None`: it cannot be read.
    pub(super) fn of_task_managers(&self) -> Option<String> {
        let files = read_files(&self.directory).ok()?;
        let content = content(&files, self.version).ok()?;
        Some(content.of_task_managers())
    }

    /// What Flink's own reporter needs, where Drey serves its metrics.
    fn reporter(
        &self,
        command: &Command,
        directory: &ConfDir,
    ) -> Result<BTreeMap<String, String>, LaunchError> {
        let mut configuration = directory.load()?.entries().clone();
        configuration.extend(command.dynamic());
        Ok(self.reporter_of(&configuration))
    }

    /// The same, of the user's configuration with what the command sets.
    pub(super) fn reporter_of(
        &self,
        configuration: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        match self.metrics {
            Some((served, ports)) => reporter_keys(configuration, served, ports),
            None => BTreeMap::new(),
        }
    }
}

/// The variables that are text: no other one can be meant for Flink.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// `HOME/bin/…` is below Flink's home when there is Flink's `HOME/lib`; a bare name is looked for in PATH.
fn home_of(program: &Path) -> Option<PathBuf> {
    let found = if program.components().count() > 1 {
        program.to_owned()
    } else {
        in_path(program)?
    };
    let home = fs::canonicalize(found).ok()?.parent()?.parent()?.to_owned();
    detect_version(&home).is_ok().then_some(home)
}

fn in_path(name: &Path) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_does_not_live_in_flinks_home() {
        assert_eq!(home_of(Path::new("/bin/sh")), None);
        assert_eq!(home_of(Path::new("no-such-command-anywhere")), None);
    }
}
