//! What stands in the pointer's ConfigMap, and what a person has changed in it by hand.
//!
//! Whatever is found there is a value: a key that cannot be understood is damaged, which is no reason not to see the others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::pointer::{FORMAT, JobEntry, Pointer};
use super::savepoint::SavepointFormat;

/// The key with the newest restore point, for people and for scripts.
pub const SAVEPOINT_PATH: &str = "savepoint-path";

/// The key with the [`Pointer`].
pub const POINTER: &str = "pointer.json";

/// The key with the [`Lock`].
pub const LOCK: &str = "lock.json";

/// The key with the [`Record`](super::changes::Record) of configurations.
pub const CONFIGURATION: &str = "configuration.json";

/// What the key of a request begins with.
pub const REQUEST: &str = "request.";

/// What the key of an answer begins with.
pub const ANSWER: &str = "answer.";

/// The annotation by which people and pipelines ask for a savepoint: each new value once.
pub const SAVEPOINT_REQUEST: &str = "drey.io/savepoint-request";

/// The annotation that holds an application's job: while it is `true` the job is stopped and not started.
pub const SUSPEND: &str = "drey.io/suspend";

/// The annotation that counts the pointer's writes: where it stands and the pointer does not, somebody took it away.
pub const GENERATION: &str = "drey.io/generation";

/// The ConfigMap as it was read, or as it is to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Document {
    /// Which state of which object was read; `None` when there is none yet.
    pub version: Option<Version>,
    /// The pointer.
    pub pointer: Sight<Pointer>,
    /// `savepoint-path` as it stands in the map, without the white space around it. Written from the pointer.
    pub savepoint_path: Option<String>,
    /// The lock; of no use while `lock_damage` is set.
    pub lock: Lock,
    /// Why the lock cannot be understood. Nothing is written while this is set.
    pub lock_damage: Option<String>,
    /// What TaskManagers, people and pipelines ask for, by name. Read only.
    pub requests: BTreeMap<String, Request>,
    /// What is known of configurations, as text. Written by itself.
    pub configuration: Option<String>,
    /// The annotation [`SAVEPOINT_REQUEST`]. Read only.
    pub savepoint_request: Option<String>,
    /// The annotation [`SUSPEND`] is `true`. Read only.
    pub suspended: bool,
    /// Requests that cannot be understood, and why. Read only.
    pub unreadable: BTreeMap<String, String>,
    /// What was answered, by name. Read only.
    pub answers: BTreeMap<String, String>,
    /// The map was made immutable: nothing can be written, only deleting it helps.
    pub immutable: bool,
    /// Bytes in keys that are not written with this document: they count towards the limit of a ConfigMap.
    pub other_bytes: usize,
}

/// One state of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// `metadata.resourceVersion`.
    pub resource: String,
    /// `metadata.uid`: another one is another object of the same name.
    pub uid: String,
}

/// What was found under a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Sight<T> {
    /// It has never been written.
    #[default]
    None,
    /// It is there.
    Good(T),
    /// It is there and cannot be used, or was taken away: why.
    Damaged(String),
}

impl<T> Sight<T> {
    /// The value, if it is good.
    pub fn good(&self) -> Option<&T> {
        match self {
            Self::Good(value) => Some(value),
            Self::None | Self::Damaged(_) => None,
        }
    }
}

/// Something asked of the supervisor from outside its pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Request {
    /// What.
    pub kind: RequestKind,
    /// The pod that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// When.
    pub asked: Timestamp,
    /// Until when its answer is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The savepoint's format, where the asker has a wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<SavepointFormat>,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestKind {
    /// A TaskManager that was told to go waits to be let go.
    Release,
    /// A savepoint of a job that goes on.
    Savepoint,
    /// A checkpoint, now.
    Checkpoint,
    /// A stop-with-savepoint, after which the job is over for its owner.
    Stop,
}

/// What became of a [`RequestKind::Stop`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopAnswer {
    /// The savepoint is recorded, and the job has stopped.
    Recorded {
        /// Where it is.
        path: String,
    },
    /// There is no savepoint.
    Failed {
        /// Why.
        error: String,
    },
}

impl StopAnswer {
    /// The savepoint is recorded.
    #[must_use]
    pub fn recorded(path: String) -> Self {
        Self::Recorded { path }
    }

    /// There is no savepoint.
    #[must_use]
    pub fn failed(error: String) -> Self {
        Self::Failed { error }
    }

    /// As it stands in the map.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From the map; what cannot be understood is a failure.
    #[must_use]
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self::failed(text.to_owned()))
    }
}

/// What a person has changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HandEdit {
    /// `savepoint-path` names another restore point than the pointer does.
    PathSet(String),
    /// `savepoint-path` was taken away or emptied.
    PathRemoved,
    /// The pointer was taken away, or cannot be used: why.
    Damaged(String),
}

/// What a person has changed in the map since Drey wrote it.
#[must_use]
pub fn hand_edit(document: &Document) -> Option<HandEdit> {
    let written = match &document.pointer {
        Sight::Damaged(why) => return Some(HandEdit::Damaged(why.clone())),
        Sight::Good(pointer) => pointer.savepoint_path.as_deref(),
        Sight::None => None,
    };
    match (document.savepoint_path.as_deref(), written) {
        (Some(stands), written) if Some(stands) != written => {
            Some(HandEdit::PathSet(stands.to_owned()))
        }
        (None, Some(_)) => Some(HandEdit::PathRemoved),
        _ => None,
    }
}

/// The keys of a ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// `data`.
    pub text: BTreeMap<String, String>,
    /// `binaryData`, where `kubectl` puts what is no UTF-8: key and size.
    pub binary: BTreeMap<String, usize>,
    /// The annotation [`GENERATION`].
    pub generation: Option<String>,
    /// The annotation [`SAVEPOINT_REQUEST`].
    pub savepoint_request: Option<String>,
    /// The annotation [`SUSPEND`].
    pub suspend: Option<String>,
}

impl Document {
    /// What the keys of the map of `cluster_id` say.
    #[must_use]
    pub fn read(cluster_id: &str, version: Version, keys: &Keys, immutable: bool) -> Self {
        let lock = understand::<Lock>(keys, LOCK);
        let mut document = Self {
            version: Some(version),
            pointer: pointer(cluster_id, keys),
            savepoint_path: keys
                .text
                .get(SAVEPOINT_PATH)
                .map(|path| path.trim().to_owned())
                .filter(|path| !path.is_empty()),
            lock: lock.good().cloned().unwrap_or_default(),
            lock_damage: match lock {
                Sight::Damaged(why) => Some(why),
                _ => None,
            },
            immutable,
            // What is longer is no nonce, and would have to be stored.
            savepoint_request: keys
                .savepoint_request
                .clone()
                .filter(|nonce| !nonce.is_empty() && nonce.len() <= 200),
            suspended: keys.suspend.as_deref().map(str::trim) == Some("true"),
            ..Self::default()
        };
        for (key, text) in &keys.text {
            document.read_key(key, text);
        }
        let own = |key: &&String| [SAVEPOINT_PATH, POINTER, LOCK].contains(&key.as_str());
        let texts = keys.text.iter().filter(|(key, _)| !own(key));
        let binaries = keys.binary.iter().filter(|(key, _)| !own(key));
        document.other_bytes = texts.map(|(_, text)| text.len()).sum::<usize>()
            + binaries.map(|(_, size)| size).sum::<usize>();
        document
    }

    fn read_key(&mut self, key: &str, text: &str) {
        if key == CONFIGURATION {
            self.configuration = Some(text.to_owned());
        } else if let Some(name) = key.strip_prefix(ANSWER) {
            self.answers.insert(name.to_owned(), text.to_owned());
        } else if let Some(name) = key.strip_prefix(REQUEST) {
            match serde_json::from_str(text) {
                Ok(request) => {
                    self.requests.insert(name.to_owned(), request);
                }
                Err(error) => {
                    self.unreadable.insert(name.to_owned(), error.to_string());
                }
            }
        }
    }
}

fn pointer(cluster_id: &str, keys: &Keys) -> Sight<Pointer> {
    let format = keys
        .text
        .get(POINTER)
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
        .and_then(|value| value.get("format").and_then(serde_json::Value::as_u64));
    if let Some(found) = format.filter(|found| *found != u64::from(FORMAT)) {
        return Sight::Damaged(format!(
            "{POINTER} has format {found}, this version of drey knows {FORMAT}"
        ));
    }
    match understand::<Pointer>(keys, POINTER) {
        Sight::Good(pointer) if pointer.cluster_id != cluster_id => Sight::Damaged(format!(
            "{POINTER} belongs to cluster id {}, not {cluster_id}",
            pointer.cluster_id
        )),
        Sight::None if keys.generation.is_some() => {
            Sight::Damaged(format!("{POINTER} was taken away"))
        }
        sight => sight,
    }
}

fn understand<T: DeserializeOwned>(keys: &Keys, key: &str) -> Sight<T> {
    if keys.binary.contains_key(key) {
        return Sight::Damaged(format!("{key} is no text"));
    }
    match keys.text.get(key) {
        None => Sight::None,
        // A list would be taken for the fields in their order, an empty one for a lock that nobody holds.
        Some(text) if !text.trim_start().starts_with('{') => {
            Sight::Damaged(format!("{key} is no JSON object"))
        }
        Some(text) => match serde_json::from_str(text) {
            Ok(value) => Sight::Good(value),
            Err(error) => Sight::Damaged(format!("{key} is not what Drey wrote: {error}")),
        },
    }
}

impl Pointer {
    /// Forgets the oldest restore point of the job that has most of them, but never the newest one that counts. Returns
    /// whether there was one to forget.
    pub fn forget_oldest(&mut self) -> bool {
        let mut jobs: Vec<&mut JobEntry> = self.jobs.values_mut().collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.history.len()));
        jobs.into_iter().any(JobEntry::forget_oldest)
    }
}

#[cfg(test)]
mod tests;
