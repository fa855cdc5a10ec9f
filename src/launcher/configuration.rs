//! Flink's configuration for one start: a fresh copy of the user's directory, with Drey's keys in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use crate::changes::{arguments, content, format, read_arguments, read_files};
use crate::config::{Ports, Settings};
use crate::control::{Prepare, StartOrder};
use crate::domain::changes::{ARGUMENTS, Files};
use crate::flink::config_file::{
    ConfDir, ConfDirError, ConfigFile, ConfigFileError, ConfigFormat, elements, list,
};
use crate::flink::home::{HomeError, detect_version};
use crate::flink::reporter::reporter_keys;
use crate::flink::version::FlinkVersion;
use crate::pointer_file::PointerError;
use crate::telemetry::one_line;

use super::again::Own;
use super::command::{Command, CommandError};
use super::image::{Image, copy_files};

/// The arguments of the job in native mode, as the client that deployed it has left them.
const PROGRAM_ARGS: &str = "$internal.application.program-args";

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

    /// A fresh copy of the configuration, or of the files that were ordered instead, and where it is.
    fn seed(
        &self,
        state_dir: &Path,
        ordered: Option<&Files>,
    ) -> Result<(ConfDir, PathBuf), LaunchError> {
        let copy = state_dir.join("conf");
        let failed = |source| LaunchError::Copy {
            path: copy.clone(),
            source,
        };
        match fs::remove_dir_all(&copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        if let Some(image) = &self.image {
            self.image_files(image, &copy, ordered).map_err(failed)?;
        }
        match ordered {
            Some(files) => write_files(files, &copy).map_err(failed)?,
            None => copy_files(&self.directory, &copy, |_| true).map_err(|source| {
                let path = self.directory.clone();
                LaunchError::Copy { path, source }
            })?,
        }
        let copy = std::path::absolute(&copy).map_err(failed)?;
        let directory = ConfDir::open(&copy, self.version)?;
        if let Some(image) = &self.image {
            let filled = image.fill(&directory.load()?).map_err(|(key, source)| {
                let file = directory.file().to_owned();
                LaunchError::Key { key, file, source }
            })?;
            directory.save(&filled)?;
        }
        Ok((directory, copy))
    }

    /// What a mounted directory of the user lacks, such as the configuration of the logs. Of two formats of Flink's
    /// configuration the old one would win, so the image's does not come beside the user's.
    fn image_files(&self, image: &Image, copy: &Path, ordered: Option<&Files>) -> io::Result<()> {
        let formats = [ConfigFormat::FlinkConfYaml, ConfigFormat::ConfigYaml];
        let flink = |name: &str| formats.iter().any(|format| format.file_name() == name);
        let given = formats.iter().any(|format| match ordered {
            Some(files) => files.contains_key(format.file_name()),
            None => self.directory.join(format.file_name()).exists(),
        });
        match image.conf() {
            conf if conf.is_dir() => copy_files(&conf, copy, |name| !(given && flink(name))),
            _ => Ok(()),
        }
    }

    fn shadow(
        &self,
        command: &mut process::Command,
        directory: &ConfDir,
        copy: &Path,
    ) -> Result<(), LaunchError> {
        let (Some(image), Some(state_dir)) = (&self.image, copy.parent()) else {
            return Ok(());
        };
        image
            .shadow(state_dir, copy)
            .map_err(|source| LaunchError::Shadow {
                path: state_dir.join("home"),
                source,
            })?;
        let file = directory.load()?;
        image.environment(command, state_dir, file.entries());
        Ok(())
    }
}

/// Readable for their owner alone: they may hold secrets.
fn write_files(files: &Files, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in files {
        // A name is one of a file in a directory, or a key of a ConfigMap: neither has a slash.
        if name.contains('/') || name.starts_with('.') {
            continue;
        }
        let path = directory.join(name);
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Puts the keys of `order` into a configuration directory, and leaves everything else in it as it was. Returns whether
/// anything changed.
///
/// # Errors
/// When a key cannot be set; the file is then as it was.
pub fn apply(directory: &ConfDir, order: &StartOrder) -> Result<bool, LaunchError> {
    edit(directory, &order.remove, &order.set)
}

fn edit(
    directory: &ConfDir,
    remove: &[String],
    set: &BTreeMap<String, String>,
) -> Result<bool, LaunchError> {
    let mut file: ConfigFile = directory.load()?;
    let failed = |key: &str| {
        let (key, file) = (key.to_owned(), directory.file().to_owned());
        move |source| LaunchError::Key { key, file, source }
    };
    for key in remove {
        file.remove(key).map_err(failed(key))?;
    }
    for (key, value) in set {
        file.set(key, value).map_err(failed(key))?;
    }
    Ok(directory.save(&file)?)
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
    use std::os::unix::fs::symlink;

    #[test]
    fn a_copy_follows_the_links_of_a_mounted_configmap_and_forgets_what_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mount, copy) = (dir.path().join("mount"), dir.path().join("conf"));
        fs::create_dir_all(mount.join("..2026")).expect("directories");
        fs::write(mount.join("..2026/config.yaml"), "a: 1\n").expect("write");
        symlink("..2026", mount.join("..data")).expect("link");
        symlink("..data/config.yaml", mount.join("config.yaml")).expect("link");
        fs::create_dir_all(&copy).expect("directory");
        fs::write(copy.join("old.properties"), "").expect("write");

        let configuration = Configuration {
            directory: mount,
            version: FlinkVersion {
                major: 2,
                minor: 3,
                patch: 0,
            },
            image: None,
            metrics: None,
            arguments: None,
        };
        configuration.seed(dir.path(), None).expect("copied");

        let names: Vec<_> = fs::read_dir(&copy)
            .expect("list")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["config.yaml"]);
        assert_eq!(
            fs::read_to_string(copy.join("config.yaml")).expect("read"),
            "a: 1\n"
        );
        assert!(
            !fs::symlink_metadata(copy.join("config.yaml"))
                .expect("file")
                .is_symlink()
        );
    }

    #[test]
    fn java_does_not_live_in_flinks_home() {
        assert_eq!(home_of(Path::new("/bin/sh")), None);
        assert_eq!(home_of(Path::new("no-such-command-anywhere")), None);
    }
}
