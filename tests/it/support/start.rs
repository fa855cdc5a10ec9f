//! Starting `drey run`, `drey launch` and `drey sidecar`.

use std::process::Command;

use super::cluster::{Cluster, JOB_MANAGER};
use super::processes::Process;

/// A `drey` that is about to be started.
#[derive(Debug)]
pub struct Start<'a> {
    cluster: &'a Cluster,
    verb: &'static str,
    script: bool,
    command: Command,
    flink_args: Vec<String>,
    job_args: Vec<String>,
    instead: Option<Vec<String>>,
}

impl<'a> Start<'a> {
    pub(super) fn new(cluster: &'a Cluster, verb: &'static str) -> Self {
        let mut command = cluster.drey_command();
        command.arg(verb);
        Self {
            cluster,
            verb,
            script: false,
            command,
            flink_args: Vec::new(),
            job_args: cluster.job_args.clone(),
            instead: None,
        }
    }

    /// Starts Flink by its own script, as a person would, instead of by its class, which takes a third of the time.
    pub fn script(mut self) -> Self {
        self.script = true;
        self
    }

    /// Flags of Drey with their values.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.command.args(flags);
        self
    }

    /// Arguments for Flink's own entry point, as `--job-id`.
    pub fn flink_args(mut self, args: &[&str]) -> Self {
        self.flink_args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    /// Starts another command instead of the JobManager.
    pub fn command(mut self, words: Vec<String>) -> Self {
        self.instead = Some(words);
        self
    }

    /// A flag of Drey, as `--restart`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.command.arg(flag);
        self
    }

    /// A variable in the environment of this start only.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Ends this drey as `kill -9` would when it comes to `point` (`drey::kill_point`).
    pub fn kill_at(self, point: &str) -> Self {
        self.env("DREY_KILL_AT", point)
    }

    /// Sees what the kubelet mounts in a container of the pod `uid`: a directory that has the UID in its path.
    pub fn in_container_of(mut self, uid: &str) -> Self {
        let script = r#"mkdir -p "$0/pods/$1/etc" && cd "$0" && mount --bind "pods/$1/etc" tmp && shift && exec "$@""#;
        let mut command = self.cluster.command("unshare");
        command
            .args(["--mount", "--map-root-user", "sh", "-c", script])
            .arg(self.cluster.path(""))
            .arg(uid)
            .arg(self.command.get_program())
            .args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        self.command = command;
        self
    }

    /// Other arguments of the example job besides `--out`.
    pub fn job_args(mut self, args: &[&str]) -> Self {
        self.job_args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    /// Starts it.
    pub fn go(mut self) -> Process {
        let log = self.cluster.log_file(&format!("drey-{}", self.verb));
        if self.verb == "sidecar" {
            return Process::start(&mut self.command, log);
        }
        let flink = self.instead.take().unwrap_or_else(|| self.flink());
        self.command.arg("--").args(flink);
        let out = self.cluster.log_file("jm");
        Process::start_with_output(&mut self.command, log, &out)
    }

    /// The command that starts the JobManager.
    pub fn flink(&self) -> Vec<String> {
        let mut words = if self.script {
            let script = self.cluster.installation.home.join("bin/standalone-job.sh");
            vec![script.display().to_string(), "start-foreground".to_owned()]
        } else {
            self.cluster.java("jm.args", JOB_MANAGER)
        };
        let job = ["--job-classname", "io.drey.example.ExampleJob"];
        words.extend(job.map(str::to_owned));
        words.extend(self.flink_args.iter().cloned());
        words.push("--out".to_owned());
        words.push(self.cluster.path("out").display().to_string());
        words.extend(self.job_args.iter().cloned());
        words
    }
}
