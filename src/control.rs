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
use crate::domain::job::JobId;
use crate::domain::pointer::RunId;
use crate::domain::savepoint::SavepointFormat;

pub use reply::{
    DiffReport, JobReport, Reply, RescaledVertex, Settled, SettledOutcome, StartOrder, Status, Then,
};

mod reply;

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
mod tests;
