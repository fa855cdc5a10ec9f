//! `drey run`, `drey sidecar` and `drey launch`: what runs beside Flink.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::live::Origin;
use super::{TRY_AGAIN, USAGE, failure, runtime, settings};
use crate::config::{Settings, SettingsArgs};
use crate::control::{self, Call, Incoming, Reply, SavepointCall, Status};
use crate::kubernetes::Kube;
use crate::launcher::{Command, LaunchError, Launcher, TaskManager, leave_behind};
use crate::metrics;
use crate::pointer_file::PointerError;
use crate::process;
use crate::status_page;
use crate::store::Store;
use crate::supervisor::{End, Supervisor, storage_for};
use crate::telemetry::one_line;

/// What `drey run --help` ends with.
pub(super) const HELP: &str = "\
Example:
  drey run -- bin/standalone-job.sh start-foreground --job-classname org.example.Orders

SIGTERM or SIGINT stops the job with a savepoint, reads it back, records it, and ends Flink. The next `drey run` with the \
same state directory resumes from there. A second SIGTERM kills Flink at once. SIGUSR1 takes a savepoint, and the job runs on.";

/// A command that starts Flink.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// What starts the JobManager in the foreground
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A supervisor alone.
#[derive(Debug, clap::Args)]
pub(super) struct SidecarArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Launcher and supervisor in one process.
pub(super) fn run(args: &RunArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let origin = Origin::new(&args.settings, &env);
    let settings = settings(&args.settings, env)?;
    let savepoints = process::savepoint_signals();
    let signals = process::signals()?;
    let command =
        Command::new(&args.command, settings.mode).map_err(|error| launch_error(&error.into()))?;
    if command.is_task_manager() {
        let text = "a TaskManager needs no supervisor; start it with `drey launch -- COMMAND`";
        return Err(failure(text, USAGE));
    }
    let launcher =
        Launcher::new(settings.clone(), command, signals).map_err(|error| launch_error(&error))?;
    metrics::serve(&settings).map_err(|error| failure(one_line(&error, 2000), USAGE))?;
    status_page::serve(&settings);
    runtime()?.block_on(async {
        let timeout = settings.savepoint_timeout;
        let (supervisor, calls, _) = supervise(settings, origin).await?;
        tokio::spawn(savepoint_by_signal(savepoints, calls, timeout));
        tokio::select! {
            code = launcher.run() => exit(code),
            _ = supervisor => Err(failure("the supervisor ended", 1)),
        }
    })
}

/// The launcher alone, of a JobManager or a TaskManager.
pub(super) fn launch(args: &RunArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let signals = process::signals()?;
    let command =
        Command::new(&args.command, settings.mode).map_err(|error| launch_error(&error.into()))?;
    if command.is_task_manager() {
        // A JobManager's are served by the supervisor, which outlives it.
        metrics::serve_when_possible(&settings, false);
        let launcher = TaskManager::new(settings, command, signals);
        let launcher = launcher.map_err(|error| launch_error(&error))?;
        return runtime()?.block_on(async { exit(launcher.run().await) });
    }
    let launcher =
        Launcher::new(settings, command, signals).map_err(|error| launch_error(&error))?;
    runtime()?.block_on(async { exit(launcher.run().await) })
}

/// The supervisor alone. It outlives its SIGTERM until Flink has ended, for an ordinary sidecar container gets it at the
/// same moment as Flink does. As such it also ends by itself, where Flink has ended for good: else the pod of a Job would never complete.
pub(super) fn sidecar(
    args: &SidecarArgs,
    env: Vec<(OsString, OsString)>,
) -> anyhow::Result<ExitCode> {
    let origin = Origin::new(&args.settings, &env);
    let settings = settings(&args.settings, env)?;
    let savepoints = process::savepoint_signals();
    let mut signals = process::signals()?;
    metrics::serve_when_possible(&settings, true);
    status_page::serve(&settings);
    let (budget, timeout) = (settings.shutdown_timeout, settings.savepoint_timeout);
    runtime()?.block_on(async {
        let (supervisor, calls, status) = supervise(settings, origin).await?;
        tokio::spawn(savepoint_by_signal(savepoints, calls.clone(), timeout));
        let told = async {
            let signal = signals.recv().await;
            info!(signal, "Asked to end");
            last_duties(&calls, status, budget).await;
        };
        tokio::select! {
            end = supervisor => match end {
                End::Done => Ok(ExitCode::SUCCESS),
                End::Uncalled => Err(failure("the supervisor ended", 1)),
            },
            () = told => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Takes a savepoint for each SIGUSR1, one after the other.
async fn savepoint_by_signal(
    mut signals: mpsc::Receiver<()>,
    calls: mpsc::Sender<Incoming>,
    timeout: Duration,
) {
    while signals.recv().await.is_some() {
        info!("Savepoint asked for by SIGUSR1");
        let call = Call::Savepoint(SavepointCall {
            stop: false,
            drain: false,
            format: None,
            job: None,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        });
        let (back, reply) = oneshot::channel();
        let _ = calls.send((call, back)).await;
        if let Ok(Reply::Failed { error, .. }) = reply.await {
            warn!(error, "No savepoint for SIGUSR1");
        }
    }
}

/// Stops the jobs, should nobody else have asked for it, and waits for Flink's end.
async fn last_duties(
    calls: &mpsc::Sender<Incoming>,
    mut status: watch::Receiver<Status>,
    budget: Duration,
) {
    let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
    let (back, _) = oneshot::channel();
    let _ = calls.send((Call::Shutdown { budget_ms }, back)).await;
    let gone = status.wait_for(|status| status.flink_pid.is_none());
    if tokio::time::timeout(budget, gone).await.is_err() {
        warn!("Flink still runs at the end of the time");
    }
}

/// The supervisor with its socket: the future that runs it, the way to call it, and its status.
async fn supervise(
    settings: Settings,
    origin: Origin,
) -> anyhow::Result<(
    impl Future<Output = End>,
    mpsc::Sender<Incoming>,
    watch::Receiver<Status>,
)> {
    let storage = storage_for(&settings, &BTreeMap::new());
    let socket = settings.socket.clone();
    let (supervisor, status) = match settings.pod_name.clone() {
        Some(name) => {
            let kube = Kube::connect(settings.pod_namespace.as_deref())
                .await
                .map_err(|error| failure(one_line(&error, 400), USAGE))?;
            fs::create_dir_all(&settings.state_dir)
                .with_context(|| format!("could not create {}", settings.state_dir.display()))?;
            if let Err(error) = leave_behind(&settings) {
                let error = one_line(&error, 200);
                warn!(
                    error,
                    "Settings could not be left for a start without this sidecar"
                );
            }
            Supervisor::in_pod(settings, storage, kube, &name)
        }
        None => {
            let store = Store::file(&settings.pointer).map_err(|error| pointer_error(&error))?;
            Supervisor::new(settings, storage, store)
                .await
                .map_err(|error| pointer_error(&error))?
        }
    };
    let supervisor = match origin.follow() {
        Some(news) => supervisor.with_settings_from(news),
        None => supervisor,
    };
    let listener = control::listen(&socket).map_err(|error| {
        let text = format!(
            "could not listen at {}: {}; name another socket with `--socket`",
            socket.display(),
            one_line(&error, 200)
        );
        failure(text, USAGE)
    })?;
    let (calls, received) = mpsc::channel(16);
    let serve = control::serve(listener, calls.clone(), status.clone());
    let both = async move {
        tokio::select! {
            end = supervisor.run(received) => end,
            () = serve => End::Uncalled,
        }
    };
    Ok((both, calls, status))
}

fn exit(code: Result<i32, LaunchError>) -> anyhow::Result<ExitCode> {
    let code = code.map_err(|error| launch_error(&error))?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn launch_error(error: &LaunchError) -> anyhow::Error {
    failure(one_line(error, 2000), error.exit_code())
}

/// A pointer that is in use may be free later; everything else about it a person has to mend.
pub(super) fn pointer_error(error: &PointerError) -> anyhow::Error {
    let code = match error {
        PointerError::Busy { .. } | PointerError::Conflict { .. } | PointerError::Away { .. } => {
            TRY_AGAIN
        }
        PointerError::OtherCluster { .. } => USAGE,
        _ => 1,
    };
    failure(one_line(error, 2000), code)
}
