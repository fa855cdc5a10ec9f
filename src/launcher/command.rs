//! The command that starts Flink: what it says about the mode, and where Drey's arguments go.

pub(super) mod job_args;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process;

use crate::config::Mode;
use crate::control::StartOrder;
use crate::domain::job::JobId;

/// The main class of a standalone JobManager in Application mode.
const APPLICATION_CLASS: &str = "StandaloneApplicationClusterEntryPoint";

/// The main class of a standalone JobManager in session mode.
const SESSION_CLASS: &str = "StandaloneSessionClusterEntrypoint";

/// The main classes of JobManagers that only native Kubernetes mode has.
const NATIVE_CLASSES: [&str; 2] = [
    "KubernetesApplicationClusterEntrypoint",
    "KubernetesSessionClusterEntrypoint",
];

/// The main class of a TaskManager.
const TASK_MANAGER_CLASS: &str = "TaskManagerRunner";

/// The main class of a TaskManager in native Kubernetes mode.
const NATIVE_TASK_MANAGER_CLASS: &str = "KubernetesTaskExecutorRunner";

/// A command that cannot be supervised.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It goes to the background.
    #[error("{0} start goes to the background, where its end cannot be seen; use start-foreground")]
    Background(String),
    /// It names a restore point itself.
    #[error(
        "{0} in the command would overrule the pointer at every start; leave it out, and choose once with `drey pointer set PATH`"
    )]
    RestorePoint(String),
    /// It does not say what it starts.
    #[error(
        "{0:?} does not tell whether it starts one application or a session cluster; say so with `--mode application` or `--mode session`"
    )]
    Mode(String),
    /// A job id that Flink does not take either.
    #[error("--job-id {0}: expected 32 hexadecimal digits")]
    JobId(String),
}

/// How the JobManager is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `standalone-job.sh`, `standalone-job` of the official image, or the class behind them.
    StandaloneApplication,
    /// `jobmanager.sh`, `jobmanager` of the official image, or the class behind them.
    StandaloneSession,
    /// `kubernetes-jobmanager.sh kubernetes-application`.
    NativeApplication,
    /// `kubernetes-jobmanager.sh kubernetes-session`.
    NativeSession,
    /// `taskmanager` of the official image, `taskmanager.sh`, `kubernetes-taskmanager.sh`, or the classes behind them.
    TaskManager { native: bool },
    /// Anything else, with the mode from the settings.
    Other { application: bool },
}

/// What a command line starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starts {
    JobManager { native: bool },
    TaskManager,
}

impl Starts {
    /// What a command line says itself, if anything.
    pub(crate) fn read<'a>(words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let name = |word: &'a str| Path::new(word).file_name().and_then(OsStr::to_str);
        match words
            .flat_map(str::split_whitespace)
            .filter_map(name)
            .find_map(known)?
        {
            Kind::TaskManager { .. } => Some(Self::TaskManager),
            Kind::NativeApplication | Kind::NativeSession => {
                Some(Self::JobManager { native: true })
            }
            _ => Some(Self::JobManager { native: false }),
        }
    }
}

/// The command that starts Flink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    kind: Kind,
    job_id: Option<JobId>,
}

impl Command {
    /// Reads a command line; `mode` decides where it does not.
    ///
    /// # Errors
    /// When it cannot be supervised.
    pub fn new(words: &[OsString], mode: Mode) -> Result<Self, CommandError> {
        let (program, args) = words.split_first().expect("clap requires a command");
        let kind = kind(words, mode)?;
        let mut command = Self {
            program: program.clone(),
            args: args.to_vec(),
            kind,
            job_id: None,
        };
        if command.is_standalone() {
            command.check()?;
        }
        Ok(command)
    }

    fn check(&mut self) -> Result<(), CommandError> {
        let texts: Vec<&str> = self.args.iter().filter_map(|arg| arg.to_str()).collect();
        if texts.first() == Some(&"start") {
            return Err(CommandError::Background(
                self.program.to_string_lossy().into_owned(),
            ));
        }
        let restore = |arg: &&&str| {
            matches!(**arg, "-s" | "--fromSavepoint" | "-fromSavepoint")
                || arg.starts_with("--fromSavepoint=")
        };
        if let Some(found) = texts.iter().find(restore) {
            return Err(CommandError::RestorePoint((*found).to_owned()));
        }
        let position = texts
            .iter()
            .position(|arg| matches!(*arg, "--job-id" | "-jid"));
        if let Some(id) = position.and_then(|at| texts.get(at + 1)) {
            let id = id
                .parse()
                .map_err(|_| CommandError::JobId((*id).to_owned()))?;
            self.job_id = Some(id);
        }
        Ok(())
    }

    /// What is executed.
    #[must_use]
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// It starts one application, not a session cluster.
    #[must_use]
    pub fn is_application(&self) -> bool {
        match self.kind {
            Kind::StandaloneApplication | Kind::NativeApplication => true,
            Kind::StandaloneSession | Kind::NativeSession | Kind::TaskManager { .. } => false,
            Kind::Other { application } => application,
        }
    }

    /// It starts Flink in standalone mode, which takes part of the restore options from its arguments only.
    #[must_use]
    pub fn is_standalone(&self) -> bool {
        matches!(
            self.kind,
            Kind::StandaloneApplication | Kind::StandaloneSession
        )
    }

    /// It starts a TaskManager.
    #[must_use]
    pub fn is_task_manager(&self) -> bool {
        matches!(self.kind, Kind::TaskManager { .. })
    }

    /// It starts Flink in native Kubernetes mode, where Flink writes configuration and command itself.
    #[must_use]
    pub fn is_native(&self) -> bool {
        matches!(
            self.kind,
            Kind::NativeApplication | Kind::NativeSession | Kind::TaskManager { native: true }
        )
    }

    /// It is one of Flink's scripts, or an entrypoint with their arguments: not the java itself, and nothing unknown.
    #[must_use]
    pub fn is_script(&self) -> bool {
        let java = Path::new(&self.program).file_name() == Some(OsStr::new("java"));
        !java && !matches!(self.kind, Kind::Other { .. })
    }

    /// It goes through the entrypoint of Flink's image.
    #[must_use]
    pub fn is_entrypoint(&self, entrypoint: &Path) -> bool {
        let program = Path::new(&self.program);
        program == entrypoint || program.file_name() == Some(OsStr::new("docker-entrypoint.sh"))
    }

    /// The command as it was given.
    #[must_use]
    pub fn plain(&self) -> process::Command {
        let mut command = process::Command::new(&self.program);
        command.args(&self.args);
        command
    }

    /// The job id that it fixes.
    #[must_use]
    pub fn job_id(&self) -> Option<JobId> {
        self.job_id
    }

    /// The configuration that it sets by `-D key=value`, which goes before the file.
    pub fn dynamic(&self) -> impl Iterator<Item = (String, String)> {
        let texts: Vec<String> = self
            .args
            .iter()
            .map(|arg| arg.to_string_lossy())
            .flat_map(|arg| match self.is_native() {
                true => arg.split_whitespace().map(str::to_owned).collect(),
                false => vec![arg.into_owned()],
            })
            .collect();
        let mut properties = Vec::new();
        for (index, arg) in texts.iter().enumerate() {
            let property = match arg.strip_prefix("-D") {
                Some("") => texts.get(index + 1).map(String::as_str),
                other => other,
            };
            if let Some((key, value)) = property.and_then(|property| property.split_once('=')) {
                properties.push((key.to_owned(), value.to_owned()));
            }
        }
        properties.into_iter()
    }

    /// The command as it is to be executed for `order` with the configuration in `directory`: with its arguments, and with
    /// its value wherever the command sets a key of it by `-D`, since that would win over the file.
    #[must_use]
    pub fn with(&self, order: &StartOrder, directory: &Path) -> process::Command {
        let mut command = self.with_keys(&order.set, &order.remove, &order.args, directory);
        let more = job_args::appended(command.get_args(), is_verb, &order.job_args);
        command.args(more);
        command
    }

    /// As [`Command::with`], for a start without an order.
    pub(super) fn with_keys(
        &self,
        set: &BTreeMap<String, String>,
        remove: &[String],
        more: &[String],
        directory: &Path,
    ) -> process::Command {
        let args = self.args.iter().cloned();
        let mut args: Vec<OsString> = match self.is_native() {
            // `bash -c "kubernetes-jobmanager.sh kubernetes-application -Dkey=value"` is one argument.
            true => args.map(|arg| overruled_words(arg, set, remove)).collect(),
            false => overruled(args, set, remove),
        };
        for at in 1..args.len() {
            if args[at - 1] == "--configDir" {
                args[at] = directory.into();
            }
        }
        insert(&mut args, more);
        let mut command = process::Command::new(&self.program);
        command.args(args).env("FLINK_CONF_DIR", directory);
        command
    }

    /// The configuration directory that it names itself (`--configDir`).
    #[must_use]
    pub fn configuration_directory(&self) -> Option<&Path> {
        let named = self.args.windows(2).find(|pair| pair[0] == "--configDir");
        named.map(|pair| Path::new(&pair[1]))
    }
}

/// The arguments of a JobManager's java as they are to be for an order, with Flink's own in `more` and the job's.
pub(super) fn with_order(
    args: impl Iterator<Item = OsString>,
    set: &BTreeMap<String, String>,
    remove: &[String],
    more: &[String],
    job_args: &[String],
) -> Vec<OsString> {
    let mut args = overruled(args, set, remove);
    insert(&mut args, more);
    let last = job_args::appended(args.iter().map(OsString::as_os_str), is_verb, job_args);
    args.extend(last);
    args
}

/// Puts Flink's own arguments before those of the job.
fn insert(args: &mut Vec<OsString>, more: &[String]) {
    let at = args.iter().position(|arg| is_verb(arg));
    let at = at.map_or(0, |at| at + 1);
    args.splice(at..at, more.iter().map(OsString::from));
}

/// Whether what follows this word is read by Flink itself.
fn is_verb(arg: &OsStr) -> bool {
    const VERBS: [&str; 3] = ["start-foreground", "standalone-job", "jobmanager"];
    let class = |arg: &str| {
        [APPLICATION_CLASS, SESSION_CLASS].contains(&arg.rsplit('.').next().unwrap_or(arg))
    };
    arg.to_str()
        .is_some_and(|arg| VERBS.contains(&arg) || class(arg))
}

/// Whether this argument of a java is the main class of a JobManager.
pub(super) fn is_job_manager_class(arg: &OsStr) -> bool {
    is_class(arg, &[APPLICATION_CLASS, SESSION_CLASS]) || is_class(arg, &NATIVE_CLASSES)
}

/// Whether this argument of a java is the main class of a TaskManager.
pub(super) fn is_task_manager_class(arg: &OsStr) -> bool {
    is_class(arg, &[TASK_MANAGER_CLASS, NATIVE_TASK_MANAGER_CLASS])
}

fn is_class(arg: &OsStr, names: &[&str]) -> bool {
    let name = arg
        .to_str()
        .and_then(|arg| arg.strip_prefix("org.apache.flink."));
    let name = name.and_then(|name| name.rsplit('.').next());
    name.is_some_and(|name| names.contains(&name))
}

/// [`overruled`], for several words in one argument; the white space between them stays.
fn overruled_words(arg: OsString, set: &BTreeMap<String, String>, remove: &[String]) -> OsString {
    match arg.to_str() {
        Some(text) => {
            let words = text.split_inclusive(char::is_whitespace);
            overruled(words.map(OsString::from), set, remove)
                .into_iter()
                .collect()
        }
        None => arg,
    }
}

/// `-Dkey=value` and `key=value` with Drey's value, and without those properties that are removed.
fn overruled(
    words: impl Iterator<Item = OsString>,
    set: &BTreeMap<String, String>,
    remove: &[String],
) -> Vec<OsString> {
    let mut kept: Vec<OsString> = Vec::new();
    for word in words {
        let text = word.to_str().unwrap_or_default();
        let joined = text.strip_prefix("-D");
        let behind = kept.last().is_some_and(|last| is_dash(last));
        let (key, value) = joined.unwrap_or(text).split_once('=').unwrap_or_default();
        if (joined.is_some() || behind) && remove.iter().any(|removed| removed == key) {
            if joined.is_none() {
                kept.pop();
            }
        } else if let Some(own) = set.get(key) {
            let dash = if joined.is_some() { "-D" } else { "" };
            let space = &value[value.trim_end().len()..];
            kept.push(format!("{dash}{key}={own}{space}").into());
        } else {
            kept.push(word);
        }
    }
    kept
}

fn is_dash(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| word.trim_end() == "-D")
}

fn kind(words: &[OsString], mode: Mode) -> Result<Kind, CommandError> {
    // `bash -c "… kubernetes-jobmanager.sh kubernetes-application …"` has everything in one word.
    let text: Vec<&str> = words
        .iter()
        .filter_map(|word| word.to_str())
        .flat_map(str::split_whitespace)
        .collect();
    let name = |word: &&str| {
        Path::new(word)
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or_default()
            .to_owned()
    };
    // The first that says anything: what comes after it may be the job's own.
    if let Some(known) = text.iter().map(name).find_map(|name| known(&name)) {
        return Ok(known);
    }
    match mode {
        Mode::Application => Ok(Kind::Other { application: true }),
        Mode::Session => Ok(Kind::Other { application: false }),
        Mode::Auto => {
            let program = words
                .first()
                .map(|word| word.to_string_lossy().into_owned());
            Err(CommandError::Mode(program.unwrap_or_default()))
        }
    }
}

/// What a word says that names a script, its first argument, or a class, without its directory or package.
fn known(name: &str) -> Option<Kind> {
    match name.rsplit('.').next() {
        Some(APPLICATION_CLASS) => return Some(Kind::StandaloneApplication),
        Some(SESSION_CLASS) => return Some(Kind::StandaloneSession),
        Some(TASK_MANAGER_CLASS) => return Some(Kind::TaskManager { native: false }),
        Some(NATIVE_TASK_MANAGER_CLASS) => return Some(Kind::TaskManager { native: true }),
        _ => {}
    }
    match name {
        "kubernetes-application" => Some(Kind::NativeApplication),
        "kubernetes-session" => Some(Kind::NativeSession),
        "standalone-job.sh" | "standalone-job" => Some(Kind::StandaloneApplication),
        "jobmanager.sh" | "jobmanager" => Some(Kind::StandaloneSession),
        "taskmanager.sh" | "taskmanager" => Some(Kind::TaskManager { native: false }),
        "kubernetes-taskmanager.sh" => Some(Kind::TaskManager { native: true }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
