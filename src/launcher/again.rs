//! A Flink that is started again in its container with what the entrypoint and Flink's scripts made for it the first time.
//!
//! They would do the same again, and take longer than Flink's own start. What they made is the command of the JVM, its
//! environment, and what the entrypoint added to the configuration. It holds for another configuration as long as that
//! differs only in what no script looks at.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process;

use super::command::{job_args, with_order};
use super::configuration::{Configuration, LaunchError};
use crate::domain::changes::Files;
use crate::process::Flink;

/// Names the configuration's directory in the environment of Flink's processes.
const CONF_DIR: &str = "FLINK_CONF_DIR";

/// Options that concern jobs and the running cluster. Scripts look at memory, slots and CPU, at `env.…`, and the entrypoint
/// at addresses and ports; what is in neither list counts as theirs.
const NO_SCRIPTS: [&str; 15] = [
    "execution.",
    "pipeline.",
    "parallelism.default",
    "state.",
    "restart-strategy",
    "table.",
    "sql-",
    "metrics.",
    "web.",
    "heartbeat.",
    "cluster.",
    "slot.",
    "jobmanager.scheduler",
    "jobmanager.adaptive-scheduler.",
    "jobmanager.execution.",
];

/// What scripts made of a configuration.
#[derive(Debug)]
pub(super) struct Made {
    /// The JVM that runs.
    command: process::Command,
    /// The user's configuration.
    configuration: BTreeMap<String, String>,
    /// What the JVM has read: with what the entrypoint and Drey have put into it.
    read: BTreeMap<String, String>,
    /// Drey's own in what the JVM reads.
    set: BTreeMap<String, String>,
    /// Drey's own arguments.
    args: Vec<String>,
    /// Those of the job that Drey has put there.
    job_args: Vec<String>,
}

/// What Drey changes in a start.
pub(super) struct Own<'a> {
    pub(super) set: &'a BTreeMap<String, String>,
    pub(super) remove: &'a [String],
    pub(super) args: &'a [String],
    pub(super) job_args: &'a [String],
}

impl Made {
    /// Of a JVM that runs, with a main class for which `class` is true; `None` while scripts run, or where it cannot be read.
    pub(super) fn of(
        flink: &Flink,
        class: impl Fn(&OsStr) -> bool,
        from: &Configuration,
        configuration: BTreeMap<String, String>,
        own: &Own<'_>,
    ) -> Option<Self> {
        let command = flink.runs(class).then(|| flink.command())??;
        Some(Self {
            read: from.read(&directory(&command)?.join("conf")).ok()?,
            command,
            configuration,
            set: own.set.clone(),
            args: own.args.to_vec(),
            job_args: own.job_args.to_vec(),
        })
    }

    /// Whether scripts would make the same of that configuration.
    pub(super) fn serves(&self, configuration: &BTreeMap<String, String>) -> bool {
        let keys = self.configuration.keys().chain(configuration.keys());
        let mut changed =
            keys.filter(|key| self.configuration.get(*key) != configuration.get(*key));
        changed.all(|key| NO_SCRIPTS.iter().any(|prefix| key.starts_with(prefix)))
    }

    /// The command for another start, with the user's configuration of `files`, or what stands in its directory now.
    ///
    /// # Errors
    /// When something cannot be copied or set.
    pub(super) fn command(
        &self,
        from: &Configuration,
        files: Option<&Files>,
        own: &Own<'_>,
    ) -> Result<process::Command, LaunchError> {
        if let Some(directory) = directory(&self.command) {
            from.again(&directory, files, own, |user| self.added(user))?;
        }
        let mut command = process::Command::new(self.command.get_program());
        let line = self.command.get_args().map(OsStr::to_owned).collect();
        let line = job_args::without(without(line, &self.args), &self.job_args);
        let line = line.into_iter();
        command.args(with_order(
            line,
            own.set,
            own.remove,
            own.args,
            own.job_args,
        ));
        command.env_clear();
        let given = self.command.get_envs();
        command.envs(given.filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = self.command.get_current_dir() {
            command.current_dir(directory);
        }
        Ok(command)
    }

    /// What the entrypoint put into the configuration beside the user's and Drey's own; what `user` has by now in another way
    /// is theirs.
    fn added(&self, user: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let by_entrypoint = |(key, value): &(&String, &String)| {
            !self.set.contains_key(*key)
                && self.configuration.get(*key) != Some(value)
                && self.configuration.get(*key) == user.get(*key)
        };
        let added = self.read.iter().filter(by_entrypoint);
        added
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// The directory of that start, with `conf` in it.
fn directory(command: &process::Command) -> Option<PathBuf> {
    let mut given = command.get_envs();
    let (_, value) = given.find(|(name, _)| *name == CONF_DIR)?;
    let conf = Path::new(value?);
    (conf.file_name()? == "conf").then(|| conf.parent().map(Path::to_owned))?
}

/// `line` without the arguments that were put into it in a row.
fn without(mut line: Vec<OsString>, args: &[String]) -> Vec<OsString> {
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    if !args.is_empty()
        && let Some(at) = line.windows(args.len()).position(|some| some == args)
    {
        line.drain(at..at + args.len());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> BTreeMap<String, String> {
        let pairs = text
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn made(configuration: &str) -> Made {
        let mut command = process::Command::new("java");
        command.env(CONF_DIR, "/drey/flink/ahead/conf");
        Made {
            command,
            configuration: map(configuration),
            read: map("a.b=1 address=pod-1 own=pod-1 blob.server.port=6124 drey.run-id=1"),
            set: map("drey.run-id=1"),
            args: vec!["--fromSavepoint".to_owned(), "/s".to_owned()],
            job_args: Vec::new(),
        }
    }

    #[test]
    fn what_scripts_look_at_or_may_look_at_has_to_be_the_same() {
        let made = made("execution.checkpointing.interval=10s env.java.opts.all=-Da x.y=1");
        for (changed, serves) in [
            (
                "execution.checkpointing.interval=1s env.java.opts.all=-Da x.y=1 parallelism.default=4",
                true,
            ),
            ("env.java.opts.all=-Da x.y=1", true),
            (
                "execution.checkpointing.interval=10s env.java.opts.all=-Db x.y=1",
                false,
            ),
            ("execution.checkpointing.interval=10s x.y=1", false),
            (
                "execution.checkpointing.interval=10s env.java.opts.all=-Da x.y=2",
                false,
            ),
            (
                "execution.checkpointing.interval=10s env.java.opts.all=-Da x.y=1 taskmanager.memory.size=1g",
                false,
            ),
        ] {
            assert_eq!(made.serves(&map(changed)), serves, "{changed}");
        }
    }

    #[test]
    fn what_the_entrypoint_added_stays_and_what_drey_set_does_not() {
        let made = made("a.b=1 address=localhost own=1");
        let added = made.added(&map("a.b=2 address=localhost own=2"));
        assert_eq!(added, map("address=pod-1 blob.server.port=6124"));
        assert_eq!(
            directory(&made.command),
            Some(PathBuf::from("/drey/flink/ahead"))
        );
    }

    #[test]
    fn arguments_of_the_last_order_are_taken_out_once() {
        let line =
            ["x.Class", "--fromSavepoint", "/s", "--fromSavepoint", "/s"].map(OsString::from);
        let left = without(line.to_vec(), &made("").args);
        assert_eq!(left, ["x.Class", "--fromSavepoint", "/s"]);
        assert_eq!(without(left.clone(), &[]), left);
    }
}
