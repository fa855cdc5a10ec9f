//! The pointer's ConfigMap, `drey-CLUSTER_ID`.
//!
//! Every write of pointer and lock has the state that was read as its precondition, so of two writers one has to look again.
//! Only Drey's own keys are ever written; what others keep in the map, or write on it, stays. It has no owner, so it
//! outlives the Deployment.

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};
use tracing::warn;

use super::client::{Kube, limited};
use super::error::{Attempt, KubeError};
use super::watch::{Target, watch_object};
use crate::domain::pointer::Pointer;
use crate::domain::pointer_map::{
    ANSWER, CONFIGURATION, Document, GENERATION, Keys, LOCK, POINTER, REQUEST, Request,
    SAVEPOINT_PATH, SAVEPOINT_REQUEST, SUSPEND, Sight, Version,
};
use crate::pointer_file;

/// Who Drey is among the managers of the map's fields.
const MANAGER: &str = "drey";

/// The most that the values of a ConfigMap may hold together.
const MOST: usize = 1024 * 1024;

/// How often a write of a key of one's own is tried, when others write the same object at the same time.
const TRIES: usize = 8;

/// Why the map could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointerMapError {
    /// Somebody else has written it, made it or deleted it since it was read: read it again.
    #[error("the pointer ConfigMap {0} was changed by somebody else meanwhile")]
    Conflict(String),
    /// The document says that the lock in the map cannot be understood, and nothing may be written over it.
    #[error(
        "the pointer ConfigMap {name} is damaged ({why}) and was left as it is: remove the key {LOCK} once no JobManager of this cluster id runs"
    )]
    Damaged {
        /// The map.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It does not fit, even with only the newest restore point in it.
    #[error(
        "the pointer does not fit into ConfigMap {name}: {bytes} bytes, and other keys take {other_bytes} of the {MOST} there are"
    )]
    TooLarge {
        /// The map.
        name: String,
        /// What the pointer and the lock need.
        bytes: usize,
        /// What others keep there.
        other_bytes: usize,
    },
    /// No key can have this name.
    #[error("{0:?} is no name of a request: use letters, digits, '-', '_' and '.'")]
    Name(String),
    /// The API server did not do it.
    #[error(transparent)]
    Kube(#[from] KubeError),
}

impl PointerMapError {
    /// The same may work later, without anybody doing anything. A conflict is none of these: the map has to be read again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Kube(error) if error.is_retryable())
    }
}

/// The pointer's ConfigMap of one cluster id.
#[derive(Debug, Clone)]
pub struct PointerMap {
    kube: Kube,
    cluster_id: String,
    name: String,
}

impl PointerMap {
    /// The map of `cluster_id`; nothing is asked of the API server yet.
    #[must_use]
    pub fn new(kube: &Kube, cluster_id: &str) -> Self {
        Self {
            kube: kube.clone(),
            cluster_id: cluster_id.to_owned(),
            name: format!("drey-{cluster_id}"),
        }
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The map as it is now; `None` when there is none.
    ///
    /// # Errors
    /// When the API server cannot say. What stands in the map is never an error.
    pub async fn load(&self) -> Result<Option<Document>, PointerMapError> {
        let api = self.api();
        let map = limited(self.attempt("get"), api.get_opt(&self.name)).await?;
        Ok(map.map(|map| read(&self.cluster_id, &map)))
    }

    /// Writes `savepoint-path`, pointer and lock, if the map is still in the state that was read, and returns the new state.
    /// Without a version it makes the map. A pointer that is not good is left as it stands; so are requests and answers.
    ///
    /// When it does not fit, the oldest restore points are left out of what is written.
    ///
    /// # Errors
    /// [`PointerMapError::Conflict`] when somebody else was quicker; the other ones mean that nothing was written, except
    /// [`KubeError::Unreachable`], after which nobody knows.
    pub async fn save(&self, document: &Document) -> Result<Version, PointerMapError> {
        if let Some(why) = &document.lock_damage {
            return Err(PointerMapError::Damaged {
                name: self.name.clone(),
                why: why.clone(),
            });
        }
        let written = self.fit(document)?;
        let saved = match &document.version {
            None => self.create(&written).await,
            Some(version) => self.update(version, &written).await,
        };
        let map = saved.map_err(|error| match error {
            // Deleted since it was read; a namespace that is going is told apart from it.
            KubeError::Conflict { .. } => PointerMapError::Conflict(self.name.clone()),
            KubeError::NotFound { .. } if document.version.is_some() => {
                PointerMapError::Conflict(self.name.clone())
            }
            error => error.into(),
        })?;
        Ok(version(&map))
    }

    /// The map now and after each change, `None` when it is deleted; it reconnects by itself. An error is told once as
    /// long as it stays the same, and the map again when it is over.
    pub fn watch(
        &self,
    ) -> impl Stream<Item = Result<Option<Document>, PointerMapError>> + Unpin + use<> {
        let cluster_id = self.cluster_id.clone();
        let target = Target {
            resource: "configmaps",
            group: "",
            name: self.name.clone(),
        };
        watch_object::<ConfigMap>(self.api(), target).map(move |seen| {
            let map = seen?;
            Ok(map.map(|map| read(&cluster_id, &map)))
        })
    }

    /// Asks for something under `name`; a request of that name that is there already is replaced.
    ///
    /// # Errors
    /// When the map does not exist or cannot be written.
    pub async fn request(&self, name: &str, request: &Request) -> Result<(), PointerMapError> {
        let text = serde_json::to_string(request).expect("a request has only string keys");
        self.patch_keys(name, &[(REQUEST, Some(&text))]).await
    }

    /// Answers the request of that name, which is gone then.
    ///
    /// # Errors
    /// When the map does not exist or cannot be written.
    pub async fn answer(&self, name: &str, answer: &str) -> Result<(), PointerMapError> {
        self.patch_keys(name, &[(ANSWER, Some(answer)), (REQUEST, None)])
            .await
    }

    /// Keeps what is known of configurations. Only who holds the lock writes it.
    ///
    /// # Errors
    /// When the map does not exist or cannot be written.
    pub async fn keep_configuration(&self, text: &str) -> Result<(), PointerMapError> {
        self.patch_keys(CONFIGURATION, &[("", Some(text))]).await
    }

    /// Takes the request of that name and its answer away, whichever is there.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub async fn withdraw(&self, name: &str) -> Result<(), PointerMapError> {
        let withdrawn = self.patch_keys(name, &[(REQUEST, None), (ANSWER, None)]);
        match withdrawn.await {
            Err(PointerMapError::Kube(KubeError::NotFound { .. })) => Ok(()),
            withdrawn => withdrawn,
        }
    }

    fn api(&self) -> Api<ConfigMap> {
        self.kube.api()
    }

    fn attempt(&self, verb: &'static str) -> Attempt<'_> {
        Attempt {
            verb,
            resource: "configmaps",
            group: "",
            name: &self.name,
        }
    }

    async fn create(&self, written: &Written) -> Result<ConfigMap, KubeError> {
        let mut map: ConfigMap = serde_json::from_value(json!({
            "metadata": {
                "name": self.name,
                "labels": self.labels(),
                "annotations": written.annotations(),
            },
        }))
        .expect("a ConfigMap");
        let texts = written.texts.iter();
        map.data = Some(
            texts
                .filter_map(|(key, text)| Some(((*key).to_owned(), text.clone()?)))
                .collect(),
        );
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let api = self.api();
        limited(self.attempt("create"), api.create(&params, &map)).await
    }

    async fn update(&self, version: &Version, written: &Written) -> Result<ConfigMap, KubeError> {
        let own = written.texts.iter().map(|(key, _)| *key);
        // A key in `binaryData` would forbid the same one in `data`.
        let no_binary: Map<String, Value> = own.map(|key| (key.to_owned(), Value::Null)).collect();
        let texts: Map<String, Value> = written
            .texts
            .iter()
            .map(|(key, text)| ((*key).to_owned(), json!(text)))
            .collect();
        let patch = json!({
            "metadata": {
                "resourceVersion": version.resource,
                "uid": version.uid,
                "labels": self.labels(),
                "annotations": written.annotations(),
            },
            "data": texts,
            "binaryData": no_binary,
        });
        self.merge(&patch).await
    }

    async fn merge(&self, patch: &Value) -> Result<ConfigMap, KubeError> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api();
        let patch = Patch::Merge(patch);
        limited(
            self.attempt("patch"),
            api.patch(&self.name, &params, &patch),
        )
        .await
    }

    async fn patch_keys(
        &self,
        name: &str,
        keys: &[(&str, Option<&str>)],
    ) -> Result<(), PointerMapError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 200 || !name.chars().all(allowed) {
            return Err(PointerMapError::Name(name.to_owned()));
        }
        let data: Map<String, Value> = keys
            .iter()
            .map(|(prefix, text)| (format!("{prefix}{name}"), json!(text)))
            .collect();
        let patch = json!({ "data": data });
        // The API server merges again by itself a few times, then it gives up.
        for _ in 1..TRIES {
            match self.merge(&patch).await {
                Err(KubeError::Conflict { .. }) => {}
                merged => return Ok(merged.map(|_| ())?),
            }
        }
        Ok(self.merge(&patch).await.map(|_| ())?)
    }

    fn labels(&self) -> Value {
        json!({ "app.kubernetes.io/managed-by": "drey", "drey.io/cluster-id": self.cluster_id })
    }

    /// What is written of `document`, with as many restore points as fit.
    fn fit(&self, document: &Document) -> Result<Written, PointerMapError> {
        let lock = to_json(&document.lock);
        let Sight::Good(pointer) = &document.pointer else {
            return Ok(Written {
                texts: vec![(LOCK, Some(lock))],
                generation: None,
            });
        };
        let mut pointer = pointer.clone();
        let mut left_out = 0;
        loop {
            let written = Written::of(&pointer, &lock);
            let bytes = written.bytes();
            if bytes + document.other_bytes <= MOST {
                if left_out > 0 {
                    warn!(
                        configmap = self.name,
                        left_out,
                        bytes,
                        other_bytes = document.other_bytes,
                        "Left the oldest restore points out of the pointer, which is too large for a ConfigMap"
                    );
                }
                return Ok(written);
            }
            if !pointer.forget_oldest() {
                return Err(PointerMapError::TooLarge {
                    name: self.name.clone(),
                    bytes,
                    other_bytes: document.other_bytes,
                });
            }
            left_out += 1;
        }
    }
}

/// What one write puts into the map.
struct Written {
    /// Key and text; a key without text is removed.
    texts: Vec<(&'static str, Option<String>)>,
    generation: Option<u64>,
}

impl Written {
    fn of(pointer: &Pointer, lock: &str) -> Self {
        Self {
            texts: vec![
                (SAVEPOINT_PATH, pointer.savepoint_path.clone()),
                (POINTER, Some(pointer_file::to_json(pointer))),
                (LOCK, Some(lock.to_owned())),
            ],
            generation: Some(pointer.generation),
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.texts.iter().filter_map(|(_, text)| text.as_ref());
        texts.map(String::len).sum()
    }

    fn annotations(&self) -> Value {
        match self.generation {
            Some(generation) => json!({ GENERATION: generation.to_string() }),
            None => json!({}),
        }
    }
}

/// Indented and with a final newline, so that `kubectl get -o yaml` shows it as a block.
fn to_json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("only string keys");
    text.push('\n');
    text
}

fn version(map: &ConfigMap) -> Version {
    Version {
        resource: map.metadata.resource_version.clone().unwrap_or_default(),
        uid: map.metadata.uid.clone().unwrap_or_default(),
    }
}

fn read(cluster_id: &str, map: &ConfigMap) -> Document {
    let binary = map.binary_data.iter().flatten();
    let annotations = map.metadata.annotations.as_ref();
    let keys = Keys {
        text: map.data.clone().unwrap_or_default(),
        binary: binary
            .map(|(key, bytes)| (key.clone(), bytes.0.len()))
            .collect(),
        generation: annotations.and_then(|all| all.get(GENERATION).cloned()),
        savepoint_request: annotations.and_then(|all| all.get(SAVEPOINT_REQUEST).cloned()),
        suspend: annotations.and_then(|all| all.get(SUSPEND).cloned()),
    };
    let immutable = map.immutable == Some(true);
    Document::read(cluster_id, version(map), &keys, immutable)
}
