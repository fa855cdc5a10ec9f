//! `drey prestop`: the preStop hook of a container. It blocks until the supervisor has recorded what is to be recorded, so
//! that SIGTERM, after which a JobManager lives for 5 seconds at most, comes only then.
//!
//! Whatever goes wrong here, the hook succeeds: a failed hook would only be one more event, and the launcher holds SIGTERM
//! back by itself.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{sleep, timeout};

use super::config::Output;
use super::{TRY_AGAIN, print, runtime, settings};
use crate::config::SettingsArgs;
use crate::control::{self, Call, Reply, Settled, SettledOutcome};
use crate::telemetry::one_line;

/// How long a supervisor that went away in the middle is waited for: its container is started again at once, and it
/// resumes what it had begun.
const COMES_BACK: Duration = Duration::from_secs(10);

/// How often the supervisor is asked whether it still lives.
const LIVES: Duration = Duration::from_secs(5);

/// Which hook it is.
#[derive(Debug, clap::Args)]
pub(super) struct PreStopArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// This is the hook of the sidecar's container, which runs only when the whole pod goes
    #[arg(long)]
    sidecar: bool,
    /// What to run after that, such as the hook that the container had before
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Waits, and says in one line what came of it.
pub(super) fn run(args: &PreStopArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let call = Call::PreStop {
        sidecar: args.sidecar,
    };
    let line = runtime()?.block_on(wait(&settings.socket, &call));
    let value = serde_json::json!({ "outcome": line });
    print(Output::Text, &format!("{line}\n"), &value).context("could not say what came of it")?;
    if let Some(line) = then(&args.command) {
        let value = serde_json::json!({ "outcome": line });
        print(Output::Text, &format!("{line}\n"), &value)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the command that comes after the wait; how it went, unless it went well. It has until the container ends, which is
/// soon: its first process ends once it is told that Flink may go.
fn then(command: &[OsString]) -> Option<String> {
    let (program, args) = command.split_first()?;
    let name = program.to_string_lossy();
    match Command::new(program).args(args).status() {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("{name} after it: {status}")),
        Err(error) => Some(format!("{name} after it could not be run: {error}")),
    }
}

/// Waits for the answer to `call`; a line for people.
async fn wait(socket: &Path, call: &Call) -> String {
    let mut met = false;
    loop {
        match until_dead(socket, call).await {
            // A supervisor that ends says so.
            Ok(Reply::Failed { error, code }) if code == TRY_AGAIN => {
                met = true;
                if !is_back(socket).await {
                    return format!("the supervisor ended: {error}");
                }
            }
            Ok(reply) => return outcome(reply),
            Err(error) if !met && nobody_listens(&error) => {
                return "no supervisor listens: SIGTERM is held back by the launcher instead"
                    .to_owned();
            }
            Err(error) => {
                met = true;
                if !is_back(socket).await {
                    let why = one_line(&error, 200);
                    return format!("the supervisor went away and did not come back: {why}");
                }
            }
        }
    }
}

/// The answer to `call`, for as long as the supervisor gives signs of life: it alone knows how much time there is.
async fn until_dead(socket: &Path, call: &Call) -> io::Result<Reply> {
    let reply = control::call(socket, call);
    let silent = async {
        loop {
            sleep(LIVES).await;
            match timeout(LIVES, control::call(socket, &Call::Status)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error,
                Err(_) => return io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
            }
        }
    };
    tokio::select! {
        reply = reply => reply,
        error = silent => Err(error),
    }
}

async fn is_back(socket: &Path) -> bool {
    let back = async {
        while control::call(socket, &Call::Status).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(COMES_BACK, back).await.is_ok()
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn outcome(reply: Reply) -> String {
    match reply {
        Reply::Settled { settled, .. } if !settled.is_empty() => {
            let jobs: Vec<String> = settled.iter().map(job).collect();
            jobs.join("; ")
        }
        Reply::Settled { .. } | Reply::Done => "nothing is to be waited for".to_owned(),
        Reply::Failed { error, .. } => format!("the supervisor could not wait: {error}"),
        other => format!("unexpected answer of the supervisor: {other:?}"),
    }
}

fn job(settled: &Settled) -> String {
    let outcome = match settled.outcome {
        SettledOutcome::Recorded => "stopped with a savepoint",
        SettledOutcome::Fallback => "the newest checkpoint is kept",
        SettledOutcome::Finished => "has finished",
        SettledOutcome::Failed => "has failed",
        SettledOutcome::Nothing => "nothing was recorded",
    };
    let mut line = format!("job {:?}: {outcome}", settled.job);
    for more in [&settled.path, &settled.why].into_iter().flatten() {
        line.push_str(", ");
        line.push_str(more);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Incoming, Status, listen, serve};
    use tokio::sync::{mpsc, watch};

    const HOOK: Call = Call::PreStop { sidecar: false };

    /// A stand-in of the supervisor, to answer as wanted.
    fn supervisor(
        socket: &Path,
    ) -> (
        mpsc::Receiver<Incoming>,
        watch::Sender<Status>,
        tokio::task::JoinHandle<()>,
    ) {
        let listener = listen(socket).expect("listen");
        let (calls, received) = mpsc::channel(4);
        let (status, watched) = watch::channel(Status::default());
        (
            received,
            status,
            tokio::spawn(serve(listener, calls, watched)),
        )
    }

    fn recorded() -> Reply {
        Reply::Settled {
            again: false,
            settled: vec![Settled {
                job: "application".to_owned(),
                outcome: SettledOutcome::Recorded,
                path: Some("s3://b/savepoint-1".to_owned()),
                why: None,
                reason: None,
            }],
        }
    }

    #[test]
    fn the_command_after_the_wait_is_run_and_cannot_fail_the_hook() {
        let words = |line: &str| -> Vec<OsString> { line.split(' ').map(OsString::from).collect() };
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ran");
        let touch = words(&format!("touch {}", file.display()));
        assert_eq!(then(&touch), None);
        assert!(file.exists());
        assert_eq!(then(&[]), None);
        let failed = then(&words("false")).expect("a line");
        assert!(
            failed.starts_with("false after it: exit status"),
            "{failed}"
        );
        let missing = then(&words("/nothing/there x")).expect("a line");
        assert!(
            missing.starts_with("/nothing/there after it could not be run"),
            "{missing}"
        );
    }

    #[tokio::test]
    async fn without_a_supervisor_it_returns_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let line = wait(&dir.path().join("drey.sock"), &HOOK).await;
        assert!(line.starts_with("no supervisor listens"), "{line}");
    }

    #[tokio::test]
    async fn it_returns_when_the_outcome_is_recorded_and_names_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("drey.sock");
        let (mut received, _status, _serving) = supervisor(&socket);
        let answer = async {
            let (asked, back) = received.recv().await.expect("a call");
            assert_eq!(asked, HOOK);
            back.send(recorded()).expect("the hook waits");
        };
        let (line, ()) = tokio::join!(wait(&socket, &HOOK), answer);
        assert_eq!(
            line,
            "job \"application\": stopped with a savepoint, s3://b/savepoint-1"
        );
    }

    #[tokio::test]
    async fn a_supervisor_that_is_killed_and_comes_back_is_asked_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("drey.sock");
        let (mut received, status, serving) = supervisor(&socket);
        let answers = async {
            let first = received.recv().await.expect("a call");
            serving.abort();
            drop((received, status, serving.await, first));
            let (mut received, _status, _serving) = supervisor(&socket);
            let (asked, back) = received.recv().await.expect("the call again");
            assert_eq!(asked, HOOK);
            back.send(recorded()).expect("the hook waits");
        };
        let (line, ()) = tokio::join!(wait(&socket, &HOOK), answers);
        assert!(line.contains("s3://b/savepoint-1"), "{line}");
    }
}
