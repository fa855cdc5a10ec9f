//! A directory with everything of one cluster: Flink's configuration, its output, and Drey's state.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use drey::control::{Call, Reply, Status};
use drey::domain::pointer::{APPLICATION, JobEntry, Pointer, RestorePoint};
use rustix::process::Signal;
use tempfile::TempDir;

use super::ApiServer;
use super::installation::{Installation, ROOT, Version};
use super::processes::{self, MARK, Process};
use super::rest::{Rest, plain_path};
use super::start::Start;
use super::wait::{eventually, wait_until};
use crate::ports::free_port;

/// The main class of a JobManager.
pub const JOB_MANAGER: &str =
    "org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint";

/// The main class of a TaskManager.
const TASK_MANAGER: &str = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner";

/// One Flink cluster in Application mode. When it is dropped, everything that was started in it is killed and its
/// directory removed; after a failure the directory stays, and the ends of all logs are shown.
#[derive(Debug)]
pub struct Cluster {
    pub version: Version,
    pub installation: Arc<Installation>,
    dir: TempDir,
    rest_port: u16,
    options: BTreeMap<String, String>,
    pub(super) job_args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    started: AtomicU32,
    plugins: Option<PathBuf>,
}

impl Cluster {
    pub fn new(version: Version) -> Self {
        let installation = Installation::of(&version);
        let dir = tempfile::Builder::new().prefix("drey-it-").tempdir();
        let dir = dir.unwrap();
        for name in ["conf", "log", "pid", "out", "tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let logging = "log4j-console.properties";
        fs::copy(
            installation.home.join("conf").join(logging),
            dir.path().join("conf").join(logging),
        )
        .unwrap();
        let url = |name: &str| format!("file://{}", dir.path().join(name).display());
        let rest_port = free_port();
        let options = [
            ("rest.port", rest_port.to_string()),
            ("jobmanager.rpc.port", free_port().to_string()),
            ("state.checkpoints.dir", url("checkpoints")),
            ("state.savepoints.dir", url("savepoints")),
            ("execution.checkpointing.interval", "500".to_owned()),
            ("io.tmp.dirs", dir.path().join("tmp").display().to_string()),
        ];
        let mut cluster = Self {
            version,
            dir,
            rest_port,
            options: options.map(|(key, value)| (key.to_owned(), value)).into(),
            job_args: vec!["--rate".to_owned(), "1000".to_owned()],
            env: BTreeMap::new(),
            started: AtomicU32::new(0),
            plugins: None,
            installation,
        };
        let (key, value) = cluster.java_options();
        cluster.options.insert(key, value);
        cluster.write_configuration();
        cluster
    }

    /// The same cluster with another version of Flink, from its next start on.
    pub fn with_version(mut self, version: Version) -> Self {
        self.installation = Installation::of(&version);
        self.version = version;
        let (key, value) = self.java_options();
        self.set(&key, value)
    }

    /// What the scripts need to start a JVM as the argument files do.
    fn java_options(&self) -> (String, String) {
        let key = if self.version.at_least(1, 18) {
            "env.java.opts.all"
        } else {
            "env.java.opts"
        };
        let args = fs::read_to_string(self.installation.java_args.join("jm.args")).unwrap();
        let wanted = ["--add", "-XX:Tiered", "-XX:+Use"];
        let options: Vec<&str> = args
            .lines()
            .filter(|line| wanted.iter().any(|start| line.starts_with(start)))
            .collect();
        (key.to_owned(), options.join(" "))
    }

    /// Sets an option of Flink.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.configure(key, value);
        self
    }

    /// Sets an option of Flink for the next start.
    pub fn configure(&mut self, key: &str, value: impl ToString) {
        self.options.insert(key.to_owned(), value.to_string());
        self.write_configuration();
    }

    /// Takes an option of Flink away.
    pub fn without(mut self, key: &str) -> Self {
        self.options.remove(key);
        self.write_configuration();
        self
    }

    /// Gives Flink these plugins instead of its own.
    pub fn plugins(mut self, directory: PathBuf) -> Self {
        self.plugins = Some(directory);
        self
    }

    /// Where Flink's REST interface is.
    pub fn rest_port(&self) -> u16 {
        self.rest_port
    }

    /// Arguments of the example job besides `--out`, instead of `--rate 1000`.
    pub fn job_args(mut self, args: &[&str]) -> Self {
        self.job_args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    /// Drey as in the pod `orders-0` of that API server.
    pub fn in_pod(self, api: &ApiServer) -> Self {
        self.drey_env("KUBECONFIG", api.kubeconfig().display())
            .drey_env("DREY_CLUSTER_ID", "orders")
            .drey_env("DREY_POD_NAME", "orders-0")
    }

    /// A variable in the environment of every `drey`, such as `DREY_RESTART`.
    pub fn drey_env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    fn write_configuration(&self) {
        let base = fs::read_to_string(Path::new(ROOT).join("tests/flink/base.yaml")).unwrap();
        let given = |line: &&str| {
            let key = line.split(": ").next().unwrap_or_default();
            !self.options.contains_key(key)
        };
        let mut text: String = base
            .lines()
            .filter(given)
            .map(|line| format!("{line}\n"))
            .collect();
        for (key, value) in &self.options {
            text.push_str(&format!("{key}: {value}\n"));
        }
        fs::write(self.configuration_file(), text).unwrap();
    }

    /// The user's configuration file.
    pub fn configuration_file(&self) -> PathBuf {
        let name = if self.version.at_least(1, 19) {
            "config.yaml"
        } else {
            "flink-conf.yaml"
        };
        self.path("conf").join(name)
    }

    /// The user's configuration directory, file by file.
    pub fn configuration(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.path("conf")).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        files
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    /// A path in the cluster's directory: `out`, `checkpoints`, `savepoints`, `state`, `conf`, `log`, or a new one.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn rest(&self) -> Rest {
        Rest::new(self.rest_port)
    }

    /// A new file in `log`, numbered in the order of starts.
    pub fn log_file(&self, name: &str) -> PathBuf {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        self.path("log").join(format!("{number:02}-{name}.log"))
    }

    /// `program` with an environment that has nothing in it but what belongs to this cluster.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let own = || self.installation.home.join("plugins");
        let plugins = self.plugins.clone().unwrap_or_else(own);
        let mut command = Command::new(program);
        command.env_clear();
        for name in ["PATH", "HOME", "LANG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let (run, this) = processes::run_mark();
        command
            .current_dir(self.dir.path())
            .env(run, this)
            .env(MARK, self.dir.path())
            .env("JAVA_HOME", &self.installation.java_home)
            .env("FLINK_LIB_DIR", &self.installation.lib)
            .env("FLINK_PLUGINS_DIR", plugins)
            .env("FLINK_CONF_DIR", self.path("conf"))
            .env("FLINK_LOG_DIR", self.path("log"))
            .env("FLINK_PID_DIR", self.path("pid"))
            .env("FLINK_IDENT_STRING", "it");
        command
    }

    /// Java with one of the argument files, running `class`.
    pub fn java(&self, args: &str, class: &str) -> Vec<String> {
        let installation = &self.installation;
        let java = installation.java_home.join("bin/java");
        let args = installation.java_args.join(args);
        vec![
            java.display().to_string(),
            format!("@{}", args.display()),
            class.to_owned(),
            "--configDir".to_owned(),
            self.path("conf").display().to_string(),
        ]
    }

    /// Starts a TaskManager.
    pub fn task_manager(&self) -> Process {
        let words = self.java("tm.args", TASK_MANAGER);
        let mut command = self.command(&words[0]);
        command.args(&words[1..]);
        Process::start(&mut command, self.log_file("tm"))
    }

    /// A `drey run` to be started.
    pub fn start(&self) -> Start<'_> {
        Start::new(self, "run")
    }

    /// Starts `drey run` with a JobManager.
    pub fn run(&self) -> Process {
        self.start().go()
    }

    /// A `drey launch` to be started.
    pub fn launch(&self) -> Start<'_> {
        Start::new(self, "launch")
    }

    /// A `drey sidecar` to be started.
    pub fn sidecar(&self) -> Start<'_> {
        Start::new(self, "sidecar")
    }

    /// `drey` for this cluster.
    pub(super) fn drey_command(&self) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_drey"));
        command
            .env("DREY_STATE_DIR", self.path("state"))
            .env("DREY_FLINK_HOME", &self.installation.home)
            .env("DREY_LOG_LEVEL", "drey=debug")
            .envs(&self.env);
        command
    }

    /// Runs one of Drey's commands to its end.
    pub fn drey(&self, args: &[&str]) -> Output {
        let mut command = self.drey_command();
        command.env("DREY_LOG_LEVEL", "info").args(args);
        command.output().unwrap()
    }

    /// Standard output of a command of Drey that must succeed.
    pub fn drey_ok(&self, args: &[&str]) -> String {
        let output = self.drey(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "drey {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a command of Drey whose end is not waited for; both outputs are in its log.
    pub fn drey_background(&self, args: &[&str]) -> Process {
        let mut command = self.drey_command();
        command.env("DREY_LOG_LEVEL", "info").args(args);
        Process::start(&mut command, self.log_file(&format!("drey-{}", args[0])))
    }

    /// One of Drey's commands that is killed at `point` (`drey::kill_point`).
    pub fn drey_kill(&self, point: &str, args: &[&str]) -> Process {
        let mut command = self.drey_command();
        command.env("DREY_KILL_AT", point).args(args);
        Process::start(&mut command, self.log_file(&format!("drey-{}", args[0])))
    }

    /// Makes one call to the supervisor; `None` when none listens.
    pub fn call(&self, call: &Call) -> Option<Reply> {
        let mut stream = UnixStream::connect(self.path("state/drey.sock")).ok()?;
        let mut line = serde_json::to_string(call).unwrap();
        line.push('\n');
        stream.write_all(line.as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// What `drey status` would show; `None` when no supervisor listens.
    pub fn status(&self) -> Option<Status> {
        match self.call(&Call::Status)? {
            Reply::Status(status) => Some(*status),
            other => panic!("unexpected answer to the status call: {other:?}"),
        }
    }

    /// Waits until the status is as `met` wants it.
    pub fn wait_for_status(&self, what: &str, met: impl Fn(&Status) -> bool) -> Status {
        eventually(what, || self.status().filter(|status| met(status)))
    }

    /// The pointer file; `None` before the first start.
    pub fn try_pointer(&self) -> Option<Pointer> {
        drey::pointer_file::peek(&self.path("state/pointer.json")).unwrap()
    }

    pub fn pointer(&self) -> Pointer {
        self.try_pointer().expect("there is a pointer")
    }

    /// The pointer's entry of the application.
    pub fn entry(&self) -> JobEntry {
        let jobs = self.pointer().jobs;
        jobs.get(APPLICATION).cloned().unwrap_or_default()
    }

    /// The pointer's entry under `key`, if there is one.
    pub fn pointer_entry(&self, key: &str) -> Option<JobEntry> {
        self.try_pointer()?.jobs.remove(key)
    }

    /// `kill -9` of every JVM that runs `class`.
    pub fn kill_all(&self, class: &str) {
        let all = || {
            let mut all = processes::belonging_to(self.dir.path());
            all.retain(|pid| processes::is_java(*pid, class));
            all
        };
        for pid in all() {
            processes::signal(pid, Signal::KILL);
        }
        wait_until("no such JVM left", || all().is_empty());
    }

    /// The newest restore point in the pointer.
    pub fn newest(&self) -> Option<RestorePoint> {
        self.entry().newest().cloned()
    }

    /// Path of the newest restore point, without `file:`.
    pub fn newest_path(&self) -> PathBuf {
        let newest = self.newest().expect("a restore point is recorded");
        PathBuf::from(plain_path(&newest.path))
    }

    /// All complete savepoints on disk.
    pub fn savepoints(&self) -> Vec<PathBuf> {
        complete(&self.path("savepoints"))
    }

    /// All complete checkpoints on disk.
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        complete(&self.path("checkpoints"))
    }

    /// The checkpoint with the highest id.
    pub fn newest_checkpoint(&self) -> Option<PathBuf> {
        let id = |path: &PathBuf| -> Option<u64> {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("chk-")?.parse().ok()
        };
        self.checkpoints().into_iter().max_by_key(id)
    }

    /// The process ids of all JobManagers of this cluster.
    pub fn job_managers(&self) -> Vec<i32> {
        let mut all = processes::belonging_to(self.dir.path());
        all.retain(|pid| processes::is_java(*pid, JOB_MANAGER));
        all
    }

    /// The only JobManager.
    pub fn job_manager(&self) -> i32 {
        let all = self.job_managers();
        assert_eq!(all.len(), 1, "JobManagers: {all:?}");
        all[0]
    }

    /// `kill -9` of every JobManager.
    pub fn kill_job_managers(&self) {
        for pid in self.job_managers() {
            processes::signal(pid, Signal::KILL);
        }
        self.wait_gone();
    }

    /// Waits until no JobManager runs.
    pub fn wait_gone(&self) {
        wait_until("no JobManager left", || self.job_managers().is_empty());
    }

    /// Fails unless the committed output has at least `min` events, each exactly once. To be called when the job has
    /// stopped.
    pub fn assert_exactly_once(&self, min: u64) {
        self.check(&["--min", &min.to_string()]);
    }

    /// `check.py` with more arguments.
    pub fn check(&self, args: &[&str]) {
        self.check_in(&self.path("out"), args);
    }

    /// `check.py` for the output in `directory`.
    pub fn check_in(&self, directory: &Path, args: &[&str]) {
        let mut command = Command::new("python3");
        command.arg(Path::new(ROOT).join("images/example-job/check.py"));
        let output = command.arg(directory).args(args).output().unwrap();
        let verdict = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{verdict}");
    }

    fn show_logs(&self) {
        const LINES: usize = 30;
        eprintln!("--- kept: {}", self.dir.path().display());
        let mut logs: Vec<PathBuf> = fs::read_dir(self.path("log"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        logs.sort();
        for log in logs {
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- {}, the last of {} lines", log.display(), lines.len());
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                eprintln!("{}", line.chars().take(400).collect::<String>());
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A JobManager may have been left running by a drey that was killed, as it should be.
        loop {
            let left = processes::belonging_to(self.dir.path());
            if left.is_empty() {
                break;
            }
            for pid in left {
                processes::signal(pid, Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            self.show_logs();
        }
    }
}

/// The directories at or below `dir` that hold a `_metadata`.
fn complete(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if dir.join("_metadata").exists() {
        found.push(dir.to_owned());
    }
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            found.extend(complete(&entry.path()));
        }
    }
    found.sort();
    found
}
