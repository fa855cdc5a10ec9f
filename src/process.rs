//! The Flink process and the signals that reach its launcher.
//!
//! Flink runs in a process group of its own, so that a terminal's Ctrl-C reaches Drey alone. Everything here works without
//! the async runtime: waiting and signals have threads of their own, so a second SIGTERM ends everything at once even
//! when the runtime is wedged.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, wait};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use tokio::sync::{mpsc, watch};

/// The process group that a second SIGTERM kills; 0 for none.
static GROUP: AtomicI32 = AtomicI32::new(0);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody can say: it was started by another process.
    Unknown,
}

impl Exit {
    /// The exit code as a shell reports it: 128 and the signal's number for a signal; `None` when unknown.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(signal) => Some(128 + signal),
            Self::Unknown => None,
        }
    }
}

/// What names one process for as long as the machine runs, even when its id is used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Identity {
    /// The process id, also that of its group.
    pub pid: i32,
    /// Its start, in clock ticks since boot.
    pub started: u64,
    /// The boot.
    pub boot: String,
}

impl Identity {
    /// The process with this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold anything; the start time is the 20th field after it.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let started = fields
            .split_whitespace()
            .nth(19)
            .and_then(|field| field.parse().ok());
        let started = started.ok_or_else(|| io::Error::other("unexpected /proc/PID/stat"))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned();
        Ok(Self { pid, started, boot })
    }
}

/// A running Flink process.
#[derive(Debug)]
pub struct Flink {
    identity: Identity,
    exit: watch::Receiver<Option<Exit>>,
}

impl Flink {
    /// Starts `command` in a process group of its own.
    ///
    /// As process 1 of a container it also reaps the orphans that end up with it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        GROUP.store(pid, Ordering::SeqCst);
        let (done, exit) = watch::channel(None);
        thread::Builder::new()
            .name("reaper".to_owned())
            .spawn(move || {
                let _ = done.send(Some(reap(pid)));
            })?;
        Ok(Self {
            identity: Identity::of(pid)?,
            exit,
        })
    }

    /// Takes over a process that an earlier launcher started, or `None` when it is gone.
    #[must_use]
    pub fn adopt(identity: &Identity) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(identity.pid)?, PidfdFlags::empty()).ok()?;
        // Looked at after the pidfd was opened: from here on it cannot become another process.
        if Identity::of(identity.pid).ok()? != *identity {
            return None;
        }
        GROUP.store(identity.pid, Ordering::SeqCst);
        let (done, exit) = watch::channel(None);
        thread::Builder::new()
            .name("adopted".to_owned())
            .spawn(move || {
                let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
                while poll(&mut fds, None).is_err() {}
                let _ = done.send(Some(Exit::Unknown));
            })
            .ok()?;
        Some(Self {
            identity: identity.clone(),
            exit,
        })
    }

    /// Which process it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether `wanted` is true of one of the arguments of what it executes now, which scripts replace by a JVM.
    pub fn runs(&self, wanted: impl Fn(&OsStr) -> bool) -> bool {
        let line = self.words("cmdline").unwrap_or_default();
        line.iter().any(|word| wanted(word))
    }

    /// What it executes now, in the environment that it was executed in; `None` where that cannot be read.
    #[must_use]
    pub fn command(&self) -> Option<Command> {
        let (line, environment) = (self.words("cmdline")?, self.words("environ")?);
        let (program, args) = line.split_first()?;
        let mut command = Command::new(program);
        command.args(args).env_clear();
        for variable in environment {
            let bytes = variable.as_bytes();
            if let Some(at) = bytes.iter().position(|byte| *byte == b'=') {
                let (name, value) = (&bytes[..at], &bytes[at + 1..]);
                command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
            }
        }
        let directory = fs::read_link(format!("/proc/{}/cwd", self.identity.pid)).ok()?;
        command.current_dir(directory);
        Some(command)
    }

    fn words(&self, file: &str) -> Option<Vec<OsString>> {
        let all = fs::read(format!("/proc/{}/{file}", self.identity.pid)).ok()?;
        let words = all.strip_suffix(b"\0")?.split(|byte| *byte == 0);
        Some(
            words
                .map(|word| OsString::from_vec(word.to_vec()))
                .collect(),
        )
    }

    /// Waits for its end.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let seen = exit.wait_for(Option::is_some).await.map(|exit| *exit);
        let exit = seen.ok().flatten().unwrap_or(Exit::Unknown);
        GROUP.store(0, Ordering::SeqCst);
        exit
    }

    /// Asks it to end, with everything it started.
    pub fn terminate(&self) {
        signal_group(self.identity.pid, Signal::TERM);
    }

    /// Ends it, with everything it started.
    pub fn kill(&self) {
        signal_group(self.identity.pid, Signal::KILL);
    }
}

fn signal_group(pid: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(pid).filter(|_| pid > 1) {
        // An error means that it has ended already.
        let _ = kill_process_group(group, signal);
    }
}

/// Waits for every child until `main` has ended.
fn reap(main: i32) -> Exit {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == main => {
                let code = status.exit_status().map(Exit::Code);
                return code
                    .or(status.terminating_signal().map(Exit::Signal))
                    .unwrap_or(Exit::Unknown);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Exit::Unknown,
        }
    }
}

/// Who is told of SIGUSR1, instead of Flink.
static SAVEPOINT: OnceLock<mpsc::Sender<()>> = OnceLock::new();

/// Receives SIGUSR1 from now on, which asks for a savepoint and is not passed on to Flink then. To be called once, before
/// [`signals`].
#[must_use]
pub fn savepoint_signals() -> mpsc::Receiver<()> {
    let (tell, told) = mpsc::channel(1);
    drop(SAVEPOINT.set(tell));
    told
}

/// Receives this process's signals: the first SIGTERM or SIGINT is told, a second one kills Flink and ends this process
/// at once, everything else is passed on to Flink.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn signals() -> io::Result<mpsc::Receiver<&'static str>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])?;
    let (tell, told) = mpsc::channel(1);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut asked = false;
            for signal in &mut signals {
                let group = GROUP.load(Ordering::SeqCst);
                match signal {
                    SIGTERM | SIGINT if asked => {
                        signal_group(group, Signal::KILL);
                        end_now(128 + signal);
                    }
                    SIGTERM | SIGINT => {
                        asked = true;
                        let _ = tell.try_send(if signal == SIGTERM {
                            "SIGTERM"
                        } else {
                            "SIGINT"
                        });
                    }
                    SIGUSR1 if SAVEPOINT.get().is_some() => {
                        // One that waits will do.
                        let _ = SAVEPOINT.get().map(|tell| tell.try_send(()));
                    }
                    other => {
                        if let Some(signal) = Signal::from_named_raw(other) {
                            signal_group(group, signal);
                        }
                    }
                }
            }
        })?;
    Ok(told)
}

#[expect(
    clippy::exit,
    reason = "the runtime may be wedged, so nothing can be unwound"
)]
fn end_now(code: i32) -> ! {
    std::process::exit(code)
}
