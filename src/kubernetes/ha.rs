//! Flink's own ConfigMaps for high availability on Kubernetes (1.15 and later).
//!
//! `CLUSTER_ID-cluster-config-map` names the leader of each component and keeps the job graph; each job has a
//! `CLUSTER_ID-JOB_ID-config-map` with its completed checkpoints. They have no owner, so they outlive the Deployment.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use super::client::{Kube, limited};
use super::error::{Attempt, KubeError};
use super::watch::{Target, watch_object};

pub use crate::domain::ha::Metadata;

/// Where the leader of the REST interface stands, as `UUID,ADDRESS`.
const LEADER: &str = "org.apache.flink.k8s.leader.restserver";

/// The lock of Flink's leader election, an annotation.
const LEASE: &str = "control-plane.alpha.kubernetes.io/leader";

/// What the keys of a job graph begin with: before 2.0, since 2.0, and what 2.3 keeps beside it.
const GRAPHS: [&str; 3] = ["jobGraph-", "executionPlan-", "application-"];

/// What the keys of completed checkpoints begin with; their ids follow, with leading zeros.
const CHECKPOINT: &str = "checkpointID-";

/// The high-availability metadata of one cluster id.
#[derive(Debug, Clone)]
pub struct HighAvailability {
    kube: Kube,
    cluster_id: String,
    leader_map: String,
}

impl HighAvailability {
    /// Those of `cluster_id`. Nothing is asked of the API server yet.
    #[must_use]
    pub fn new(kube: &Kube, cluster_id: &str) -> Self {
        Self {
            kube: kube.clone(),
            cluster_id: cluster_id.to_owned(),
            leader_map: format!("{cluster_id}-cluster-config-map"),
        }
    }

    /// The IP address of the pod that leads, now and after each change; `None` while there is none.
    pub fn watch_leader(
        &self,
    ) -> impl Stream<Item = Result<Option<String>, KubeError>> + Unpin + use<> {
        let target = Target {
            resource: "configmaps",
            group: "",
            name: self.leader_map.clone(),
        };
        watch_object::<ConfigMap>(self.api(), target)
            .map(|map| Ok(map?.as_ref().and_then(leader_of)))
    }

    /// What is there of jobs.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn metadata(&self) -> Result<Metadata, KubeError> {
        let mut found = Metadata::default();
        for map in self.maps().await? {
            for key in map.data.unwrap_or_default().keys() {
                found.graph |= GRAPHS.iter().any(|graph| key.starts_with(graph));
                let id = key.strip_prefix(CHECKPOINT).and_then(|id| id.parse().ok());
                found.checkpoint = found.checkpoint.max(id);
            }
        }
        Ok(found)
    }

    /// Takes the job graphs away, so that the next start takes what its own configuration says, and with `checkpoints`
    /// what is known of checkpoints as well, so that it takes its start path. To be done while no JobManager runs.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn forget(&self, checkpoints: bool) -> Result<(), KubeError> {
        for map in self.maps().await? {
            let name = map.metadata.name.clone().unwrap_or_default();
            if name == self.leader_map {
                let graph = |key: &&String| GRAPHS.iter().any(|graph| key.starts_with(graph));
                let data = map.data.unwrap_or_default();
                let gone: BTreeMap<&String, Value> = data
                    .keys()
                    .filter(graph)
                    .map(|key| (key, Value::Null))
                    .collect();
                if !gone.is_empty() {
                    self.patch(&name, &json!({ "data": gone })).await?;
                }
            } else if checkpoints && is_of_job(&map) {
                self.delete(&name, map.metadata.uid).await?;
            }
        }
        Ok(())
    }

    /// Deletes all of it. To be done when the cluster is gone for good: its job comes back from a restore point only.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_all(&self) -> Result<(), KubeError> {
        for map in self.maps().await? {
            let name = map.metadata.name.unwrap_or_default();
            self.delete(&name, map.metadata.uid).await?;
        }
        Ok(())
    }

    /// Who holds the lease of the leader: a name that only Flink knows, another one for each life of a JobManager.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn lease_holder(&self) -> Result<Option<String>, KubeError> {
        let api = self.api();
        let attempt = self.attempt("get", &self.leader_map);
        let map = limited(attempt, api.get_opt(&self.leader_map)).await?;
        let holder = |lease: Value| Some(lease["holderIdentity"].as_str()?.to_owned());
        Ok(map.as_ref().and_then(lease_of).and_then(holder))
    }

    /// Ends the lease of a leader whose JobManager has ended, so that nobody waits until it expires. A JobManager that ends
    /// in an orderly way takes its address away, and leaves its lease all the same: it is known by `holder` then, else by
    /// its `ip`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn release_lease(&self, ip: &str, holder: Option<&str>) -> Result<(), KubeError> {
        let api = self.api();
        let attempt = self.attempt("get", &self.leader_map);
        let Some(map) = limited(attempt, api.get_opt(&self.leader_map)).await? else {
            return Ok(());
        };
        let Some(mut lease) = lease_of(&map) else {
            return Ok(());
        };
        let by_name = holder.is_some() && lease["holderIdentity"].as_str() == holder;
        if !by_name && leader_of(&map).as_deref() != Some(ip) {
            return Ok(());
        }
        // What fabric8's client writes when it releases a lease.
        lease["holderIdentity"] = Value::from("");
        let patch = json!({"metadata": {
            "resourceVersion": map.metadata.resource_version,
            "annotations": {LEASE: lease.to_string()},
        }});
        match self.patch(&self.leader_map, &patch).await {
            // Somebody else has taken it meanwhile.
            Err(KubeError::Conflict { .. }) => Ok(()),
            other => other,
        }
    }

    fn api(&self) -> Api<ConfigMap> {
        self.kube.api()
    }

    fn attempt<'a>(&self, verb: &'static str, name: &'a str) -> Attempt<'a> {
        Attempt {
            verb,
            resource: "configmaps",
            group: "",
            name,
        }
    }

    /// Flink 2 has no label `configmap-type` any more, and its configuration's map has the same labels: names tell.
    async fn maps(&self) -> Result<Vec<ConfigMap>, KubeError> {
        let labels = format!("app={},type=flink-native-kubernetes", self.cluster_id);
        let params = ListParams::default().labels(&labels);
        let api = self.api();
        let list = limited(self.attempt("list", ""), api.list(&params)).await?;
        let own = |map: &ConfigMap| {
            let name = map.metadata.name.as_deref().unwrap_or_default();
            name.starts_with(&format!("{}-", self.cluster_id)) && name.ends_with("-config-map")
        };
        Ok(list.items.into_iter().filter(own).collect())
    }

    async fn patch(&self, name: &str, patch: &Value) -> Result<(), KubeError> {
        let params = PatchParams {
            field_manager: Some("drey".to_owned()),
            ..PatchParams::default()
        };
        let (api, patch) = (self.api(), Patch::Merge(patch));
        let patched = api.patch(name, &params, &patch);
        limited(self.attempt("patch", name), patched)
            .await
            .map(drop)
    }

    async fn delete(&self, name: &str, uid: Option<String>) -> Result<(), KubeError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let api = self.api();
        match limited(self.attempt("delete", name), api.delete(name, &params)).await {
            Ok(_) | Err(KubeError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn lease_of(map: &ConfigMap) -> Option<Value> {
    let text = map.metadata.annotations.as_ref()?.get(LEASE)?;
    serde_json::from_str(text).ok()
}

/// The host in `UUID,http://IP:PORT`.
fn leader_of(map: &ConfigMap) -> Option<String> {
    let (_, address) = map.data.as_ref()?.get(LEADER)?.split_once(',')?;
    let url = url::Url::parse(address).ok()?;
    let host = url.host_str()?;
    Some(host.trim_matches(['[', ']']).to_owned())
}

/// A job's map, not the cluster's: it has, or had, a leader of its own and checkpoints.
fn is_of_job(map: &ConfigMap) -> bool {
    let name = map.metadata.name.as_deref().unwrap_or_default();
    !name.ends_with("-cluster-config-map")
}
