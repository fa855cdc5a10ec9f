//! The ConfigMap `drey-CLUSTER_ID`: the pointer, the lock, and what others ask for.

use std::collections::BTreeMap;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tracing::warn;

use super::client::limited;
use super::error::Attempt;
use super::watch::{Target, watch_object};
use super::{Kube, KubeError};
use crate::domain::pointer::Pointer;
use crate::domain::pointer_map::{
    ANSWER, Document, GENERATION, Keys, LOCK, POINTER, REQUEST, Request, SAVEPOINT_PATH, Sight,
    Version,
};

/// Who wrote, as Kubernetes keeps it for each field.
const MANAGER: &str = "drey";

/// A ConfigMap may hold 1 MiB in all; the rest is for its metadata.
const LIMIT: usize = (1 << 20) - (16 << 10);

/// Why the map could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointerMapError {
    /// Somebody else has written it since it was read.
    #[error("configmap {name} was changed by somebody else meanwhile")]
    Conflict {
        /// The ConfigMap.
        name: String,
    },
    /// Something in it is damaged, and is not overwritten.
    #[error("configmap {name}: {why}; repair that key or remove it")]
    Damaged {
        /// The ConfigMap.
        name: String,
        /// Which key, and what is wrong.
        why: String,
    },
    /// Kubernetes refused.
    #[error(transparent)]
    Kube(#[from] KubeError),
}

impl PointerMapError {
    /// It may work later, without anybody doing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Kube(error) if error.is_retryable())
    }
}

/// One cluster id's ConfigMap.
#[derive(Debug, Clone)]
pub struct PointerMap {
    kube: Kube,
    cluster_id: String,
    name: String,
}

impl PointerMap {
    /// Nothing is asked of the API server yet.
    #[must_use]
    pub fn new(kube: &Kube, cluster_id: &str) -> Self {
        Self {
            kube: kube.clone(),
            cluster_id: cluster_id.to_owned(),
            name: format!("drey-{cluster_id}"),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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

    /// The map as it is now; `None` when there is none. What in it cannot be understood is part of the document.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn load(&self) -> Result<Option<Document>, PointerMapError> {
        let api = self.api();
        let found = limited(self.attempt("get"), api.get_opt(&self.name)).await?;
        Ok(found.map(|map| document(&self.cluster_id, &map)))
    }

    /// Writes pointer and lock, provided that the map is still in the version that was read, and makes it when there was
    /// none. Keys and annotations of others stay. A history that is too long for a ConfigMap is trimmed.
    ///
    /// # Errors
    /// [`PointerMapError::Conflict`] when somebody else was quicker.
    pub async fn save(&self, document: &Document) -> Result<Version, PointerMapError> {
        if let Some(why) = &document.lock_damage {
            return Err(PointerMapError::Damaged {
                name: self.name.clone(),
                why: why.clone(),
            });
        }
        if document.immutable {
            let (resource, name) = ("configmaps", self.name.clone());
            return Err(KubeError::Immutable { resource, name }.into());
        }
        let (data, generation) = self.data(document);
        let saved = match &document.version {
            None => self.create(data, generation).await,
            Some(version) => self.replace(version, data, generation).await,
        };
        match saved {
            Ok(map) => Ok(version(&map)),
            Err(KubeError::Conflict { name, .. }) => Err(PointerMapError::Conflict { name }),
            // It was deleted since it was read.
            Err(KubeError::NotFound { name, .. }) => Err(PointerMapError::Conflict { name }),
            Err(error) => Err(error.into()),
        }
    }

    /// The keys to be written, and the pointer's generation if one is written.
    fn data(&self, document: &Document) -> (serde_json::Map<String, Value>, Option<u64>) {
        let mut data = serde_json::Map::new();
        let lock = serde_json::to_string(&document.lock).expect("only string keys");
        let mut generation = None;
        if let Sight::Good(pointer) = &document.pointer {
            let room = LIMIT.saturating_sub(document.other_bytes + lock.len());
            let text = self.fitting(pointer, room);
            data.insert(POINTER.to_owned(), Value::from(text));
            let path = pointer.savepoint_path.clone();
            data.insert(SAVEPOINT_PATH.to_owned(), json!(path));
            generation = Some(pointer.generation);
        }
        data.insert(LOCK.to_owned(), Value::from(lock));
        (data, generation)
    }

    fn fitting(&self, pointer: &Pointer, room: usize) -> String {
        let mut pointer = pointer.clone();
        let mut forgotten = 0;
        loop {
            let text = crate::pointer_file::to_json(&pointer);
            let path = pointer.savepoint_path.as_ref().map_or(0, String::len);
            if text.len() + path <= room || !pointer.forget_oldest() {
                if forgotten > 0 {
                    warn!(
                        configmap = self.name,
                        forgotten, "The pointer's history is too long for a ConfigMap"
                    );
                }
                return text;
            }
            forgotten += 1;
        }
    }

    async fn create(
        &self,
        data: serde_json::Map<String, Value>,
        generation: Option<u64>,
    ) -> Result<ConfigMap, KubeError> {
        let text = |(key, value): (String, Value)| Some((key, value.as_str()?.to_owned()));
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.labels()),
                annotations: generation
                    .map(|it| BTreeMap::from([(GENERATION.to_owned(), it.to_string())])),
                ..ObjectMeta::default()
            },
            data: Some(data.into_iter().filter_map(text).collect()),
            ..ConfigMap::default()
        };
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let api = self.api();
        limited(self.attempt("create"), api.create(&params, &map)).await
    }

    /// A merge patch with `resourceVersion` in it is refused with 409 when the object has another one by now.
    async fn replace(
        &self,
        version: &Version,
        data: serde_json::Map<String, Value>,
        generation: Option<u64>,
    ) -> Result<ConfigMap, KubeError> {
        let mut metadata = json!({
            "resourceVersion": version.resource,
            "uid": version.uid,
            "labels": self.labels(),
        });
        if let Some(generation) = generation {
            metadata["annotations"] = json!({GENERATION: generation.to_string()});
        }
        self.patch(&json!({"metadata": metadata, "data": data}))
            .await
    }

    async fn patch(&self, patch: &Value) -> Result<ConfigMap, KubeError> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api();
        let patch = Patch::Merge(patch);
        let patched = api.patch(&self.name, &params, &patch);
        limited(self.attempt("patch"), patched).await
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let labels = [
            ("app.kubernetes.io/managed-by", "drey"),
            ("drey.io/cluster-id", self.cluster_id.as_str()),
        ];
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// The map now, and after each change; `None` while there is none. It goes on by itself after a failure, which is
    /// told once.
    #[must_use]
    pub fn watch(&self) -> BoxStream<'static, Result<Option<Document>, PointerMapError>> {
        let target = Target {
            resource: "configmaps",
            name: self.name.clone(),
        };
        let cluster_id = self.cluster_id.clone();
        watch_object::<ConfigMap>(self.api(), target)
            .map_ok(move |map| map.as_ref().map(|map| document(&cluster_id, map)))
            .map_err(PointerMapError::from)
            .boxed()
    }

    /// Asks the supervisor for something, under a name of one's own.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn request(&self, name: &str, request: &Request) -> Result<(), PointerMapError> {
        let text = serde_json::to_string(request).expect("only string keys");
        let data = BTreeMap::from([(format!("{REQUEST}{name}"), Some(text))]);
        self.put(&data).await
    }

    /// Answers a request, which is taken away with that.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn answer(&self, name: &str, answer: &str) -> Result<(), PointerMapError> {
        let data = BTreeMap::from([
            (format!("{ANSWER}{name}"), Some(answer.to_owned())),
            (format!("{REQUEST}{name}"), None),
        ]);
        self.put(&data).await
    }

    /// Takes a request and its answer away.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn withdraw(&self, name: &str) -> Result<(), PointerMapError> {
        let data = BTreeMap::from([
            (format!("{ANSWER}{name}"), None),
            (format!("{REQUEST}{name}"), None),
        ]);
        self.put(&data).await
    }

    async fn put(&self, data: &BTreeMap<String, Option<String>>) -> Result<(), PointerMapError> {
        self.patch(&json!({ "data": data })).await?;
        Ok(())
    }
}

fn document(cluster_id: &str, map: &ConfigMap) -> Document {
    let annotation = |annotations: &BTreeMap<String, String>| annotations.get(GENERATION).cloned();
    let keys = Keys {
        text: map.data.clone().unwrap_or_default(),
        binary: map
            .binary_data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.0.len()))
            .collect(),
        generation: map.metadata.annotations.as_ref().and_then(annotation),
    };
    Document::read(cluster_id, version(map), &keys, map.immutable == Some(true))
}

fn version(map: &ConfigMap) -> Version {
    Version {
        resource: map.metadata.resource_version.clone().unwrap_or_default(),
        uid: map.metadata.uid.clone().unwrap_or_default(),
    }
}
