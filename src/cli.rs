//! The commands.
mod check;
mod checkpoint;
mod completion;
pub mod config;
mod diff;
mod gc;
mod history;
mod inject;
pub(crate) mod inspect;
mod install;
mod job;
mod live;
mod pointer;
mod prestop;
mod rescale;
mod restore;
mod run;
mod savepoint;
mod status;
mod watch;
mod webhook;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::config::{ConfigErrors, Settings, SettingsArgs};
use crate::control::{self, Call, Reply};
use crate::launcher::{become_java, is_stand_in};
use crate::telemetry::{self, one_line};
use config::{ConfigArgs, Output};

/// Something in the command line, a setting or the environment is wrong.
pub const USAGE: u8 = 64;

/// It may work later.
pub const TRY_AGAIN: u8 = 75;

/// The name under which this program is Flink's entrypoint in a container.
const LAUNCH: &str = "drey-launch";

/// Supervises Apache Flink jobs: a savepoint before the JobManager goes away, and a start from exactly there.
#[derive(Debug, Parser)]
#[command(
    name = "drey",
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 done; 1 failed; 64 bad usage; 75 may work later; else Flink's own. \
Every setting is also an environment variable (--state-dir: DREY_STATE_DIR) and a key of a --config file."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a JobManager and supervise it: launcher and supervisor in one process
    #[command(after_help = run::HELP)]
    Run(run::RunArgs),
    /// Supervise the Flink that `drey launch` starts in the container beside this one
    Sidecar(run::SidecarArgs),
    /// Start a JobManager under the supervision of a `drey sidecar`, or a TaskManager
    Launch(run::RunArgs),
    /// Copy this program into a volume of the pod, as `drey` and `drey-launch`
    ///
    /// `drey-launch ARGS` is `drey launch -- /docker-entrypoint.sh ARGS`.
    Install(install::InstallArgs),
    /// Wait, as the preStop hook of a container, until the outcome is recorded
    #[command(name = "prestop")]
    PreStop(prestop::PreStopArgs),
    /// Write the restore point of the next start into a Flink configuration directory
    Restore(restore::RestoreArgs),
    /// Take a savepoint of a supervised job
    Savepoint(savepoint::SavepointArgs),
    /// Take a checkpoint of a supervised job, of the kind that it takes by itself (Flink 1.17 and later)
    Checkpoint(checkpoint::CheckpointArgs),
    /// Delete old savepoints, and find those that nobody has recorded
    ///
    /// By the supervisor where one listens, else, and with --kubernetes, from this machine, which has to reach them.
    Gc(gc::GcArgs),
    /// Show the restore points and the starts of a cluster
    History(history::HistoryArgs),
    /// Give a job another parallelism while it runs
    Rescale(rescale::RescaleArgs),
    /// Show how the supervised jobs stand
    Status(status::StatusArgs),
    /// Show what would change if Flink were started now
    #[command(after_help = diff::HELP)]
    Diff(diff::DiffArgs),
    /// Show or change what the next start resumes from
    Pointer(pointer::PointerArgs),
    /// Show what a savepoint or checkpoint holds
    Inspect(inspect::InspectArgs),
    /// Stop, start, upgrade, suspend or resume a job from outside, as a CD pipeline does
    Job(job::JobArgs),
    /// Inject Flink pods as they are created: the admission webhook
    #[command(after_help = webhook::HELP)]
    Webhook(Box<webhook::WebhookArgs>),
    /// Put Drey into manifests: the sidecar, the launcher, and what they need
    #[command(after_help = inject::HELP)]
    Inject(inject::InjectArgs),
    /// Take out of manifests what was put in
    Uninject(inject::UninjectArgs),
    /// Check whether Drey can be installed in a Kubernetes cluster, or works there
    #[command(after_help = check::HELP)]
    Check(check::CheckArgs),
    /// Show the effective settings and where each comes from
    Config(ConfigArgs),
    /// Print a script with which a shell completes commands and flags
    #[command(after_help = completion::HELP)]
    Completion(completion::CompletionArgs),
}

/// An error that decides on the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failure {
    message: String,
    code: u8,
}

/// An error that ends the command with `code`.
fn failure(message: impl Into<String>, code: u8) -> anyhow::Error {
    let message = message.into();
    Failure { message, code }.into()
}

/// Parses `args` and runs the command; errors are printed to standard error, one line for each.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>, env: Vec<(OsString, OsString)>) -> ExitCode {
    let mut args = args.into_iter().peekable();
    if is_stand_in(args.peek().map(OsString::as_os_str)) {
        return report(&failure(become_java(args.skip(1).collect()), 1));
    }
    let words = match words(args, &env) {
        Ok(words) => words,
        Err(error) => return report(&error.into()),
    };
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match dispatch(cli.command, env) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

/// The command line, with what `drey-launch` stands for spelled out: a container's command alone cannot have flags where
/// Flink itself writes the arguments (`kubernetes.entry.path`).
fn words(
    args: impl IntoIterator<Item = OsString>,
    env: &[(OsString, OsString)],
) -> Result<Vec<OsString>, ConfigErrors> {
    let mut words: Vec<OsString> = args.into_iter().collect();
    let called = words.first().map(Path::new).and_then(Path::file_name);
    if called.is_some_and(|name| name == LAUNCH) {
        let loaded = crate::config::load(&SettingsArgs::default(), env.iter().cloned())?;
        let entrypoint = loaded.settings.entrypoint.into_os_string();
        let meant = ["drey", "launch", "--"].map(OsString::from);
        words.splice(..1, meant.into_iter().chain([entrypoint]));
    }
    Ok(words)
}

fn report(error: &anyhow::Error) -> ExitCode {
    let (text, code) = describe(error);
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(code)
}

fn dispatch(command: Command, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args, env),
        Command::Sidecar(args) => run::sidecar(&args, env),
        Command::Launch(args) => run::launch(&args, env),
        Command::Install(args) => install::run(&args),
        Command::PreStop(args) => prestop::run(&args, env),
        Command::Restore(args) => restore::run(&args, env),
        Command::Savepoint(args) => savepoint::run(&args, env),
        Command::Checkpoint(args) => checkpoint::run(&args, env),
        Command::Gc(args) => gc::run(&args, env),
        Command::History(args) => history::run(&args, env),
        Command::Rescale(args) => rescale::run(&args, env),
        Command::Status(args) => status::run(&args, env),
        Command::Diff(args) => diff::run(&args, env),
        Command::Pointer(args) => pointer::run(&args, env),
        Command::Inspect(args) => inspect::run(&args, env),
        Command::Job(args) => job::run(&args, env),
        Command::Webhook(args) => webhook::run(*args),
        Command::Inject(args) => inject::inject(&args),
        Command::Uninject(args) => inject::uninject(&args),
        Command::Check(args) => check::run(&args, env),
        Command::Completion(args) => completion::run(&args),
        Command::Config(args) => {
            config::run(&args, env, &mut io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn describe(error: &anyhow::Error) -> (String, u8) {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        return (errors.to_string(), USAGE);
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return (format!("error: {}", failure.message), failure.code);
    }
    (format!("error: {}", one_line(error.as_ref(), 2000)), 1)
}

/// The effective settings, with logging set up as they say.
fn settings(args: &SettingsArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<Settings> {
    let settings = crate::config::load(args, env)?.settings;
    telemetry::init(settings.log_format, &settings.log_level)
        .map_err(|error| failure(one_line(&error, 400), USAGE))?;
    Ok(settings)
}

/// A runtime for one thread: there is little to do at a time, and every thread costs memory.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")
}

/// Makes one call to the running supervisor; `None` when there is none.
fn ask(settings: &Settings, call: &Call) -> anyhow::Result<Option<Reply>> {
    let socket = &settings.socket;
    match runtime()?.block_on(control::call(socket, call)) {
        Ok(Reply::Failed { error, code }) => Err(failure(error, code)),
        Ok(reply) => Ok(Some(reply)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => {
            let text = format!(
                "could not talk to the supervisor at {}: {}",
                socket.display(),
                one_line(&error, 200)
            );
            Err(failure(text, TRY_AGAIN))
        }
    }
}

/// Makes one call to a supervisor that has to be there.
fn demand(settings: &Settings, call: &Call) -> anyhow::Result<Reply> {
    ask(settings, call)?.ok_or_else(|| {
        let socket = settings.socket.display();
        let text = format!(
            "no supervisor listens at {socket}; start one with `drey run`, or name the socket or state directory of \
             the running one with `--socket FILE` or `--state-dir DIR`"
        );
        failure(text, TRY_AGAIN)
    })
}

/// Prints `text` for people or `value` for machines.
fn print(output: Output, text: &str, value: &serde_json::Value) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match output {
        Output::Text => out.write_all(text.as_bytes()),
        Output::Json => writeln!(out, "{value:#}"),
    }
    .context("could not write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn unexpected(reply: &Reply) -> anyhow::Error {
    failure(
        format!("unexpected answer of the supervisor: {reply:?}; do both have the same version?"),
        1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled_out(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
        let env: Vec<(OsString, OsString)> = env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let words = words(args.iter().map(OsString::from), &env).expect("good settings");
        let text = |word: &OsString| word.to_string_lossy().into_owned();
        words.iter().map(text).collect()
    }

    #[test]
    fn drey_launch_is_flinks_entrypoint() {
        assert_eq!(
            spelled_out(&["/drey/drey-launch", "bash", "-c", "a b"], &[]),
            [
                "drey",
                "launch",
                "--",
                "/docker-entrypoint.sh",
                "bash",
                "-c",
                "a b"
            ]
        );
        assert_eq!(
            spelled_out(
                &["drey-launch", "jobmanager"],
                &[("DREY_ENTRYPOINT", "/x.sh")]
            ),
            ["drey", "launch", "--", "/x.sh", "jobmanager"]
        );
        assert_eq!(
            spelled_out(&["/drey/drey", "status"], &[]),
            ["/drey/drey", "status"]
        );
        let plugin = ["/usr/local/bin/kubectl-drey", "check"];
        assert_eq!(spelled_out(&plugin, &[]), plugin);
    }
}
