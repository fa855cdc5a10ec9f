//! Processes of one test: found by a mark in their environment, ended by their ids.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{eventually, wait_until};

/// Names the cluster's directory in the environment of everything that belongs to it.
pub const MARK: &str = "IT_CLUSTER";

/// Names the test run in the environment of everything that belongs to it.
const RUN_MARK: &str = "IT_RUN";

/// A mark for every process of this test run: what carries it is killed when the run has ended, also when it was killed
/// itself and no destructor has run.
pub fn run_mark() -> (&'static str, &'static str) {
    static GUARD: OnceLock<(String, Child)> = OnceLock::new();
    let (run, _) = GUARD.get_or_init(|| {
        let boot = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        let run = boot.trim().to_owned();
        let script = r#"cat; for process in /proc/[0-9]*; do
            tr '\0' '\n' 2>/dev/null <"$process/environ" | grep -qxF "$0" && kill -9 "${process#/proc/}"; done"#;
        let mut guard = Command::new("sh");
        guard.args(["-c", script, &format!("{RUN_MARK}={run}")]);
        // Its standard input closes when the test run ends, however that happens; Ctrl-C does not reach its group.
        guard.process_group(0).stdin(Stdio::piped());
        guard.stdout(Stdio::null()).stderr(Stdio::null());
        (run, guard.spawn().unwrap())
    });
    (RUN_MARK, run)
}

/// A process that a test started, killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What it wrote to standard error, and to standard output if that has no file of its own.
    pub log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs in `log`.
    pub fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self::spawn(command, log)
    }

    /// Starts `command` with standard error in `log` and standard output in `out`.
    pub fn start_with_output(command: &mut Command, log: PathBuf, out: &Path) -> Self {
        command
            .stdout(File::create(out).unwrap())
            .stderr(File::create(&log).unwrap());
        Self::spawn(command, log)
    }

    fn spawn(command: &mut Command, log: PathBuf) -> Self {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn term(&self) {
        signal(self.pid(), Signal::TERM);
    }

    pub fn int(&self) {
        signal(self.pid(), Signal::INT);
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        signal(self.pid(), Signal::KILL);
        self.exit();
    }

    /// Stops it in its tracks, until [`Process::proceed`].
    pub fn pause(&self) {
        signal(self.pid(), Signal::STOP);
    }

    pub fn proceed(&self) {
        signal(self.pid(), Signal::CONT);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn exit(&mut self) -> ExitStatus {
        let what = format!("end of the process that logs to {}", self.log.display());
        eventually(&what, || self.child.try_wait().unwrap())
    }

    /// Waits for its end; the exit code, or minus the signal.
    pub fn exit_code(&mut self) -> i32 {
        let status = self.exit();
        let signal = || -status.signal().unwrap_or_default();
        status.code().unwrap_or_else(signal)
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits for `text` in its log; fails at once when it ends without.
    pub fn wait_for_log(&mut self, text: &str) {
        self.wait_for_logs(&[text]);
    }

    /// Waits until its log has these texts in this order; fails at once when it ends without.
    pub fn wait_for_logs(&mut self, texts: &[&str]) {
        let what = format!("{texts:?} in {}", self.log.display());
        wait_until(&what, || {
            let running = self.is_running();
            let found = in_order(&self.log(), texts);
            assert!(found || running, "{:?} without {what}", self.exit());
            found
        });
    }
}

fn in_order(log: &str, texts: &[&str]) -> bool {
    let mut rest = log;
    texts.iter().all(|text| match rest.split_once(text) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

pub fn signal(pid: i32, signal: Signal) {
    // It may have ended already.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// The processes that belong to the cluster in `dir`: whatever was started there, and what those have started.
pub fn belonging_to(dir: &Path) -> Vec<i32> {
    let mark = format!("{MARK}={}", dir.display());
    let marked = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| {
            all.split(|byte| *byte == 0)
                .any(|one| one == mark.as_bytes())
        })
    };
    pids().filter(marked).collect()
}

/// Whether it is a JVM that runs `class`.
pub fn is_java(pid: i32, class: &str) -> bool {
    let java = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("bin/java"));
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    java && String::from_utf8_lossy(&line).contains(class)
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
