//! What the supervisor is asked over its Unix socket: by the launcher, and by a person's `drey savepoint`, `status` and
//! `pointer`.
//!
//! One call per connection: a line of JSON there, a line of JSON back. Only who may open the socket can make Drey act, so
//! it is made for its owner alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use crate::domain::changes::Files;
use crate::domain::health::AilmentKind;
use crate::domain::job::{JobId, JobStatus};
use crate::domain::pointer::{Pointer, RunId, TriggerReason};
use crate::domain::savepoint::SavepointFormat;
use crate::retention::Report;
use crate::status_page::story::Story;

/// The longest line that is read: a pointer with a long history is far below it.
const LINE_LIMIT: u64 = 4 << 20;

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "call",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Call {
    /// The launcher is about to start Flink: where does it resume from?
    Prepare(Prepare),
    /// The start that was asked for needs no more than its order.
    Ready,
    /// The launcher has started Flink, or found it running already. Said again to a supervisor that was restarted.
    Started {
        /// What it is.
        flink: Prepare,
        /// The run that was prepared.
        run: RunId,
        /// Flink's process id.
        pid: i32,
        /// It was started by an earlier launcher that is gone.
        adopted: bool,
    },
    /// What stands in Flink's configuration directory now.
    Mounted {
        /// Its files.
        files: Files,
    },
    /// What would change if Flink were started now.
    Diff,
    /// Answered when the launcher shall end Flink.
    Order,
    /// Flink has ended; answered when everything about it is recorded.
    Exited {
        /// Its exit code, `None` when it is not known.
        code: Option<i32>,
    },
    /// Flink has to end: stop its jobs with savepoints. Answered at once, carried out by an [`Order`](Call::Order).
    Shutdown {
        /// How long there is, in milliseconds, from now to the end of the process.
        budget_ms: u64,
    },
    /// A preStop hook runs in the pod: answered when there is nothing more to wait for.
    PreStop {
        /// The hook of the sidecar's container, which runs only when the whole pod goes; else that of Flink's, which also
        /// runs when only its container is restarted.
        sidecar: bool,
    },
    /// A person wants a savepoint; answered when it is recorded or has failed.
    Savepoint(SavepointCall),
    /// A person wants a checkpoint; answered when it is completed or has failed.
    Checkpoint(CheckpointCall),
    /// Deletes what retention allows, and finds savepoints that nobody has recorded; answered when that is done.
    Gc {
        /// Only tell what would be done.
        dry_run: bool,
    },
    /// A person wants another parallelism; answered when the job runs with it, or goes on without.
    Rescale(RescaleCall),
    /// How everything stands.
    Status,
    /// What the status page shows.
    Story,
    /// The pointer.
    PointerShow,
    /// The next start resumes from here.
    PointerSet {
        /// A savepoint or retained checkpoint, as Flink would write it.
        path: String,
        /// The job's key; `None` in Application mode.
        job: Option<String>,
    },
    /// The next start is from empty state.
    PointerClear {
        /// The job's key; `None` in Application mode.
        job: Option<String>,
    },
}

/// What the launcher knows about the Flink that it is going to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Prepare {
    /// Its version.
    pub flink_version: String,
    /// The user's configuration, flat.
    pub configuration: BTreeMap<String, String>,
    /// Application or session mode, as far as the command tells.
    pub application: bool,
    /// Standalone mode, in which Flink ignores part of its configuration file.
    pub standalone: bool,
    /// The job id that the command fixes.
    pub job_id: Option<JobId>,
    /// Where the user's configuration is, in the container that Flink runs in.
    #[serde(default)]
    pub directory: PathBuf,
    /// The file with the job's arguments, in the same container.
    #[serde(default)]
    pub arguments_file: Option<PathBuf>,
    /// The files that `configuration` was read from, and the one with the job's arguments.
    #[serde(default)]
    pub files: Files,
    /// They are those of a [`Reply::Configure`], not what stands in the directory.
    #[serde(default)]
    pub ordered: bool,
    /// They cannot be understood, and why.
    #[serde(default)]
    pub unreadable: Option<String>,
    /// Entrypoint and scripts run ahead of the start: [`Call::Ready`] comes when its JVM could start.
    #[serde(default)]
    pub getting_ready: bool,
}

/// A savepoint by a person's hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SavepointCall {
    /// Stop the job with it.
    pub stop: bool,
    /// Fire all timers first, for a job that will not be resumed. Only with `stop`.
    pub drain: bool,
    /// The format.
    pub format: Option<SavepointFormat>,
    /// The job's key, name or id; `None`: the only one.
    pub job: Option<String>,
    /// How long to wait, in milliseconds.
    pub timeout_ms: u64,
}

/// A checkpoint by a person's hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckpointCall {
    /// The job's key, name or id; `None`: the only one.
    pub job: Option<String>,
    /// How long to wait, in milliseconds.
    pub timeout_ms: u64,
}

/// Another parallelism, while the job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RescaleCall {
    /// Of all vertices that are not named below.
    pub parallelism: Option<u32>,
    /// Of single vertices, by id or name.
    pub vertices: BTreeMap<String, u32>,
    /// The job's key, name or id; `None`: the only one.
    pub job: Option<String>,
    /// How long to wait until it runs like this, in milliseconds.
    pub timeout_ms: u64,
}

/// One vertex of a job that has another parallelism now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RescaledVertex {
    /// Its id.
    pub id: String,
    /// The names of its operators.
    pub name: String,
    /// Its parallelism before.
    pub before: u32,
    /// Its parallelism now.
    pub after: u32,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "reply",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Reply {
    /// Start Flink like this.
    Start(StartOrder),
    /// Do not start: the job is over.
    Ended {
        /// Its last state.
        status: JobStatus,
        /// Wait to be told to go instead of ending: a container that ended would be started again and again.
        stay: bool,
    },
    /// Done.
    Done,
    /// End Flink now.
    Terminate {
        /// What was reached for each job.
        settled: Vec<Settled>,
        /// What the launcher does then.
        then: Then,
    },
    /// What was reached for each job after Flink ended.
    Settled {
        /// By job.
        settled: Vec<Settled>,
        /// Flink is to be started again: what it ended with was a configuration that is tried.
        #[serde(default)]
        again: bool,
    },
    /// Use these files instead of the configuration directory, and ask again.
    Configure {
        /// By name.
        files: Files,
    },
    /// What would change.
    Diff(Box<DiffReport>),
    /// The savepoint is recorded.
    Savepoint {
        /// Its path.
        path: String,
    },
    /// The checkpoint is completed.
    Checkpoint {
        /// Its id.
        checkpoint_id: u64,
    },
    /// What was deleted, or would be.
    Gc(Box<Report>),
    /// The job runs with the parallelism that was wanted.
    Rescaled {
        /// Its vertices.
        vertices: Vec<RescaledVertex>,
        /// A checkpoint that was completed with it; `None`: nothing had to be changed.
        checkpoint: Option<u64>,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// How everything stands.
    Status(Box<Status>),
    /// What the status page shows.
    Story(Box<Story>),
    /// The pointer; `None` when there has never been one.
    Pointer {
        /// The pointer.
        pointer: Option<Box<Pointer>>,
    },
    /// It did not work.
    Failed {
        /// Why, and what to do.
        error: String,
        /// The exit code of whoever asked: 1 failed, 64 bad usage, 75 may work later.
        code: u8,
    },
}

impl Reply {
    /// It did not work and will not by itself.
    #[must_use]
    pub fn failed(error: impl Into<String>) -> Self {
        Self::Failed {
            error: error.into(),
            code: 1,
        }
    }
}

/// What comes after Flink's end by order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The launcher ends, with an exit code that says what was reached.
    End,
    /// The launcher ends with Flink's own exit code: a pod of kind Job that was evicted would otherwise count as complete.
    EndAsFlink,
    /// The launcher asks for the next start.
    Again,
}

/// How Flink is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StartOrder {
    /// The run.
    pub run: RunId,
    /// Keys to be set in Flink's configuration.
    pub set: BTreeMap<String, String>,
    /// Keys to be removed from it.
    pub remove: Vec<String>,
    /// Arguments for a standalone JobManager, right after its command.
    pub args: Vec<String>,
    /// Arguments for the job, after those in the command: by the launcher, which knows their file.
    #[serde(default)]
    pub job_args: Vec<String>,
    /// Where it resumes from, `None` for empty state.
    pub restore_from: Option<String>,
    /// Why.
    pub why: String,
}

/// What was reached for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settled {
    /// The job's key.
    pub job: String,
    /// How it came out.
    pub outcome: SettledOutcome,
    /// The restore point of the next start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Why it came out like this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// Who wanted the stop, when it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<TriggerReason>,
}

/// How it came out for one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettledOutcome {
    /// Stopped with a savepoint that is recorded.
    Recorded,
    /// The restore point is a retained checkpoint.
    Fallback,
    /// The job finished by itself or was cancelled.
    Finished,
    /// The job failed by itself.
    Failed,
    /// Nothing was recorded.
    Nothing,
}

/// How everything stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The version of drey.
    pub version: String,
    /// The cluster id.
    pub cluster_id: String,
    /// Where the pointer is: a file, or `configmap/NAME`.
    pub pointer: String,
    /// Flink's process id, while it runs.
    pub flink_pid: Option<i32>,
    /// Its version.
    pub flink_version: Option<String>,
    /// Its REST address.
    pub rest_url: Option<String>,
    /// Whether Flink answered the last time.
    pub reachable: bool,
    /// A shutdown is under way.
    pub shutting_down: bool,
    /// The annotation `drey.io/suspend` holds the job.
    #[serde(default)]
    pub suspended: bool,
    /// What a start of Flink waits for.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// The jobs, by key.
    pub jobs: BTreeMap<String, JobReport>,
}

/// What would change if Flink were started now, with secrets masked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiffReport {
    /// Names the configuration that runs.
    pub running: String,
    /// Names the one that stands there; `None`: it cannot be understood.
    pub wanted: Option<String>,
    /// Keys that differ, with their values before and after.
    pub keys: BTreeMap<String, (Option<String>, Option<String>)>,
    /// Other files that differ.
    pub files: Vec<String>,
    /// The job's arguments before and after, if they differ.
    #[serde(default)]
    pub arguments: Option<[Vec<String>; 2]>,
    /// Only the parallelism differs.
    pub only_parallelism: bool,
    /// TaskManagers read some of it.
    pub concerns_task_managers: bool,
    /// Why it would not be applied.
    pub refused: Vec<String>,
    /// It was tried and rolled back: why.
    pub rolled_back: Option<String>,
    /// It is being tried.
    pub on_trial: bool,
}

/// How one job stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobReport {
    /// The job id.
    pub job_id: Option<JobId>,
    /// The job's name.
    pub name: Option<String>,
    /// Its state.
    pub status: Option<JobStatus>,
    /// Running and total tasks.
    pub tasks: Option<(u32, u32)>,
    /// What the run started from.
    pub restored_from: Option<String>,
    /// The newest recorded restore point.
    pub restore_point: Option<String>,
    /// The newest checkpoint that Flink completed in this run.
    pub completed_checkpoint: Option<i64>,
    /// The checkpoint interval in milliseconds, as the job really has it.
    pub checkpoint_interval_ms: Option<u64>,
    /// A savepoint under way.
    pub savepoint_in_progress: bool,
    /// What is wrong with its health, each with its words among the problems.
    #[serde(default)]
    pub ailments: Vec<AilmentKind>,
    /// What a person should know.
    pub problems: Vec<String>,
}

/// A call on its way to the supervisor, with the way back.
pub type Incoming = (Call, oneshot::Sender<Reply>);

/// Opens the socket at `path`, for its owner only. A socket left behind by a dead process is replaced.
///
/// # Errors
/// When it cannot be made there.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another supervisor listens there",
        ));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes calls and passes them on until the supervisor is gone.
pub async fn serve(
    listener: UnixListener,
    calls: mpsc::Sender<Incoming>,
    status: watch::Receiver<Status>,
) {
    while !calls.is_closed() {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (calls, status) = (calls.clone(), status.clone());
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, calls, status).await {
                        debug!(%error, "Control connection ended");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: nothing to be done but to let others finish.
                debug!(%error, "Control connection refused");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(
    stream: UnixStream,
    calls: mpsc::Sender<Incoming>,
    status: watch::Receiver<Status>,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(LINE_LIMIT));
    read.read_line(&mut line).await?;
    let (back, reply) = oneshot::channel();
    let reply = match serde_json::from_str(&line) {
        Ok(Call::Status) => Reply::Status(Box::new(status.borrow().clone())),
        Ok(call) => {
            // A supervisor that is gone drops the way back, which is noticed below.
            let _ = calls.send((call, back)).await;
            tokio::select! {
                reply = reply => reply.unwrap_or_else(|_| gone()),
                // The caller has hung up: its waiting ends, what it asked for goes on.
                _ = read.read_u8() => return Ok(()),
            }
        }
        Err(error) => Reply::failed(format!("not a call: {error}")),
    };
    let mut text = serde_json::to_string(&reply)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

fn gone() -> Reply {
    Reply::Failed {
        error: "the supervisor is shutting down".to_owned(),
        code: 75,
    }
}

/// Makes one call to the supervisor at `path` and waits for its answer, however long that takes.
///
/// # Errors
/// When nobody listens there, or the supervisor goes away before it has answered.
pub async fn call(path: &Path, call: &Call) -> io::Result<Reply> {
    let (read, mut write) = UnixStream::connect(path).await?.into_split();
    let mut text = serde_json::to_string(call)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(read.take(LINE_LIMIT))
        .read_line(&mut line)
        .await?;
    if line.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the supervisor went away",
        ));
    }
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn supervisor(path: &Path) -> (mpsc::Receiver<Incoming>, watch::Sender<Status>) {
        let listener = listen(path).expect("listen");
        let (calls, received) = mpsc::channel(4);
        let (status, watched) = watch::channel(Status::default());
        tokio::spawn(serve(listener, calls, watched));
        (received, status)
    }

    #[tokio::test]
    async fn a_call_is_answered_over_the_socket_which_only_its_owner_may_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sub/drey.sock");
        let (mut received, _status) = supervisor(&path).await;
        let mode = fs::metadata(&path).expect("socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let answer = async {
            let (asked, back) = received.recv().await.expect("a call");
            assert_eq!(asked, Call::PointerClear { job: None });
            back.send(Reply::Done).expect("the caller waits");
        };
        let (reply, ()) = tokio::join!(call(&path, &Call::PointerClear { job: None }), answer);
        assert_eq!(reply.expect("an answer"), Reply::Done);
    }

    #[tokio::test]
    async fn status_is_answered_while_the_supervisor_is_busy() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drey.sock");
        let (_busy, status) = supervisor(&path).await;
        status.send_modify(|status| status.cluster_id = "orders".to_owned());
        let Reply::Status(status) = call(&path, &Call::Status).await.expect("an answer") else {
            panic!("not a status");
        };
        assert_eq!(status.cluster_id, "orders");
    }

    #[tokio::test]
    async fn what_is_no_call_is_refused_and_a_supervisor_that_goes_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drey.sock");
        let (mut received, _status) = supervisor(&path).await;
        let mut stream = UnixStream::connect(&path).await.expect("connect");
        stream
            .write_all(b"{\"call\": \"dance\"}\n")
            .await
            .expect("write");
        let mut line = String::new();
        BufReader::new(&mut stream)
            .read_line(&mut line)
            .await
            .expect("read");
        assert!(line.contains("not a call"), "{line}");
        let leave = async { drop(received.recv().await) };
        let (reply, ()) = tokio::join!(call(&path, &Call::Order), leave);
        assert!(matches!(
            reply.expect("an answer"),
            Reply::Failed { code: 75, .. }
        ));
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drey.sock");
        drop(listen(&path).expect("listen"));
        let _second = listen(&path).expect("the first one is gone");
        assert_eq!(
            listen(&path).expect_err("in use").kind(),
            io::ErrorKind::AddrInUse
        );
    }
}
