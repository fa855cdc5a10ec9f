//! What differs between two configurations, which part of Flink that concerns, and how it is shown to people.

use std::collections::{BTreeMap, BTreeSet};

use super::Content;

/// What is shown instead of a secret, as Flink itself does.
const MASK: &str = "******";

/// What makes a key's value a secret: `GlobalConfiguration.SENSITIVE_KEYS` of Flink 2.3.
const SENSITIVE: [&str; 11] = [
    "password",
    "secret",
    "fs.azure.account.key",
    "apikey",
    "api-key",
    "auth-params",
    "service-key",
    "token",
    "basic-auth",
    "jaas.config",
    "http-headers",
];

/// Keys that Drey writes itself: another value would have no effect.
const OWN: [&str; 5] = [
    "drey.run-id",
    "$internal.pipeline.job-id",
    "execution.shutdown-on-application-finish",
    "execution.state-recovery.path",
    "execution.savepoint.path",
];

/// Keys that say which cluster this is: others find it by them, so only a new Deployment can have others.
const IDENTITY: [&str; 6] = [
    "kubernetes.cluster-id",
    "kubernetes.namespace",
    "high-availability",
    "high-availability.type",
    "high-availability.cluster-id",
    "high-availability.storageDir",
];

/// The parallelism, and nothing else.
const PARALLELISM: [&str; 2] = [
    "parallelism.default",
    "pipeline.jobvertex-parallelism-overrides",
];

/// Keys that only the JobManager and the job's main method read.
const JOB_MANAGER: [&str; 12] = [
    "jobmanager.",
    "jobstore.",
    "parallelism.",
    "pipeline.",
    "execution.",
    "restart-strategy",
    "rest.",
    "web.",
    "kubernetes.jobmanager.",
    "scheduler-mode",
    "jobmanager",
    "state.savepoints.",
];

/// Whether TaskManagers read this key, as far as is known.
pub(super) fn of_task_managers(key: &str) -> bool {
    !JOB_MANAGER.iter().any(|prefix| key.starts_with(prefix))
        || key == "jobmanager.rpc.address"
        || key == "jobmanager.rpc.port"
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// Its value as it was; `None`: it was not there.
    pub before: Option<String>,
    /// Its value as it is to be; `None`: it is not there any more.
    pub after: Option<String>,
}

/// How the job's arguments are called among the names of what differs.
const ARGUMENTS: &str = "the job's arguments";

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Keys of Flink's configuration.
    pub keys: Vec<KeyChange>,
    /// Other files, by name.
    pub files: Vec<String>,
    /// The job's arguments do.
    pub arguments: bool,
}

impl Difference {
    /// What differs between two of them.
    #[must_use]
    pub fn between(before: &Content, after: &Content) -> Self {
        let keys = differing(&before.keys, &after.keys).map(|key| KeyChange {
            before: before.keys.get(key).cloned(),
            after: after.keys.get(key).cloned(),
            key: key.clone(),
        });
        Self {
            keys: keys.collect(),
            files: differing(&before.others, &after.others).cloned().collect(),
            arguments: before.arguments != after.arguments,
        }
    }

    /// Nothing does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.files.is_empty() && !self.arguments
    }

    /// Only the parallelism does.
    #[must_use]
    pub fn only_parallelism(&self) -> bool {
        let known = |change: &KeyChange| PARALLELISM.contains(&change.key.as_str());
        self.files.is_empty() && !self.arguments && self.keys.iter().all(known)
    }

    /// Whether keyed state is kept by something else: native savepoints of one state backend are unreadable for another.
    #[must_use]
    pub fn changes_state_backend(&self) -> bool {
        let keys = self.keys.iter().map(|change| change.key.as_str());
        keys.into_iter()
            .any(|key| matches!(key, "state.backend" | "state.backend.type"))
    }

    /// Whether it concerns TaskManagers.
    #[must_use]
    pub fn concerns_task_managers(&self) -> bool {
        let read = |change: &KeyChange| of_task_managers(&change.key);
        !self.files.is_empty() || self.keys.iter().any(read)
    }

    /// Why it cannot be applied, as far as the keys' names tell.
    pub(super) fn refused(&self) -> Vec<String> {
        let reason = |change: &KeyChange| {
            let key = change.key.as_str();
            if OWN.contains(&key) && change.after.is_some() {
                Some(format!("{key} is set by Drey at each start: take it out"))
            } else if IDENTITY.contains(&key) {
                Some(format!(
                    "{key} says which cluster this is, and cannot change while its job is to go on: put it back"
                ))
            } else {
                None
            }
        };
        self.keys.iter().filter_map(reason).collect()
    }

    /// In one line, without any value.
    #[must_use]
    pub fn names(&self) -> String {
        const MOST: usize = 8;
        let keys = self.keys.iter().map(|change| change.key.as_str());
        let files = self.files.iter().map(String::as_str);
        let arguments = self.arguments.then_some(ARGUMENTS);
        let all: Vec<&str> = arguments.into_iter().chain(keys).chain(files).collect();
        let more = all.len().saturating_sub(MOST);
        let names = all.into_iter().take(MOST).collect::<Vec<_>>().join(", ");
        match more {
            0 => names,
            more => format!("{names} and {more} more"),
        }
    }
}

fn differing<'a>(
    before: &'a BTreeMap<String, String>,
    after: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = &'a String> {
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    all.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
}

/// The job's arguments as they may be shown: the value of an option with such a name is a secret.
#[must_use]
pub fn shown_arguments(arguments: &[String]) -> Vec<String> {
    let mut name = "";
    let shown = arguments.iter().map(|argument| {
        let option = argument.starts_with('-');
        let text = match argument.split_once('=').filter(|_| option) {
            Some((name, value)) => format!("{name}={}", shown(name, value)),
            // A name by itself may say what it is the name of.
            None if option => argument.clone(),
            None => shown(name, argument).to_owned(),
        };
        name = if option { argument } else { "" };
        text
    });
    shown.collect()
}

/// A value as it may be shown.
#[must_use]
pub fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    let key = key.to_ascii_lowercase();
    let text = value.to_ascii_lowercase();
    let in_key = SENSITIVE.iter().any(|word| key.contains(word));
    // JVM options, URLs with user and password, and lists of them.
    let in_value = ["password", "secret", "token", "apikey", "api-key"]
        .iter()
        .any(|word| text.contains(word));
    let credentials = text.split_once("://").is_some_and(|(_, rest)| {
        rest.split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
    });
    if in_key || in_value || credentials {
        MASK
    } else {
        value
    }
}
