//! What is looked up of a pod beside the review: for warnings and events only, so nothing here is ever an error, and nothing takes
//! long.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::flink::config_file::{ConfigFile, ConfigFormat};
use crate::inject::{Facts, Role};
use crate::kubernetes::admission::{self, Right};
use crate::kubernetes::pods::{OwnerRef, controller};
use crate::kubernetes::{Kube, KubeError};
use crate::telemetry::one_line;

/// How long an admission waits for what is looked up.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long what was looked up counts; also that nothing was found.
const FRESH: Duration = Duration::from_secs(10);

/// How much is remembered of each kind.
const REMEMBERED: usize = 256;

/// What may be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LookUp {
    /// Whether the pod's service account has the rights that Drey needs.
    Rights,
    /// ReplicaSet and Deployment of the pod: how many JobManagers there are, on what to write events, and whether all is a
    /// FlinkDeployment's.
    Owners,
    /// Flink's configuration in the ConfigMap that the pod mounts.
    Configuration,
    /// Nothing.
    None,
}

/// Looks things up, and remembers them for a moment: pods come in groups.
#[derive(Debug)]
pub(super) struct LookUps {
    kube: Kube,
    what: Vec<LookUp>,
    rights: Cache<Vec<String>>,
    sets: Cache<ReplicaSet>,
    /// The FlinkDeployments that own Deployments.
    operators: Cache<String>,
    configurations: Cache<BTreeMap<String, String>>,
}

/// What is known of a ReplicaSet.
#[derive(Debug, Clone)]
pub(super) struct ReplicaSet {
    replicas: Option<i32>,
    deployment: Option<OwnerRef>,
}

#[derive(Debug)]
struct Cache<T>(Mutex<HashMap<String, (Instant, Option<T>)>>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Cache<T> {
    async fn get(
        &self,
        key: String,
        look: impl Future<Output = Result<Option<T>, KubeError>>,
    ) -> Option<T> {
        if let Some((at, known)) = self.lock().get(&key)
            && at.elapsed() < FRESH
        {
            return known.clone();
        }
        let found = match timeout(PATIENCE, look).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                debug!(error = one_line(&error, 300), "Cannot look something up");
                None
            }
            Err(_) => None,
        };
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (Instant::now(), found.clone()));
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Option<T>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookUps {
    pub(super) fn new(kube: &Kube, what: &[LookUp]) -> Self {
        Self {
            kube: kube.clone(),
            what: what.to_vec(),
            rights: Cache::default(),
            sets: Cache::default(),
            operators: Cache::default(),
            configurations: Cache::default(),
        }
    }

    /// What is known of a pod that will be injected.
    pub(super) async fn facts(&self, namespace: &str, pod: &Pod, role: Role) -> Facts {
        let job_manager = role == Role::JobManager;
        let kube = self.kube.in_namespace(namespace);
        let (missing, (set, flink_deployment), flink_configuration) = tokio::join!(
            self.missing_rights(&kube, pod),
            self.owners(namespace, pod),
            async {
                if job_manager {
                    self.configuration(&kube, pod).await
                } else {
                    None
                }
            },
        );
        Facts {
            flink_configuration,
            // One is what everybody has: nothing to be judged again for.
            replicas: set
                .and_then(|set| set.replicas)
                .filter(|replicas| job_manager && *replicas > 1),
            flink_deployment,
            missing_rights: missing.unwrap_or_default(),
            ..Facts::default()
        }
    }

    /// On what events about a pod are written that `own` controls: its Deployment, else `own`.
    pub(super) async fn subject(&self, namespace: &str, own: OwnerRef) -> OwnerRef {
        let set = self.replica_set(namespace, &own).await;
        set.and_then(|set| set.deployment).unwrap_or(own)
    }

    /// The ReplicaSet, and the FlinkDeployment above. In native mode TaskManagers are the Deployment's own.
    async fn owners(&self, namespace: &str, pod: &Pod) -> (Option<ReplicaSet>, Option<String>) {
        let Some(own) = owner(pod) else {
            return (None, None);
        };
        let set = self.replica_set(namespace, &own).await;
        let deployment = match &set {
            Some(set) => set.deployment.clone(),
            None => Some(own),
        };
        let operator = match deployment {
            Some(owner) => self.flink_deployment(namespace, &owner).await,
            None => None,
        };
        (set, operator)
    }

    async fn flink_deployment(&self, namespace: &str, deployment: &OwnerRef) -> Option<String> {
        if deployment.kind != "Deployment" || !self.what.contains(&LookUp::Owners) {
            return None;
        }
        let kube = self.kube.in_namespace(namespace);
        let look = async {
            let found = admission::get_deployment(&kube, &deployment.name).await?;
            let owners = found.and_then(|it| it.metadata.owner_references);
            let mut owners = owners.into_iter().flatten();
            let operator = owners.find(|owner| owner.kind == "FlinkDeployment");
            Ok(operator.map(|owner| owner.name))
        };
        self.operators.get(deployment.uid.clone(), look).await
    }

    async fn replica_set(&self, namespace: &str, own: &OwnerRef) -> Option<ReplicaSet> {
        if own.kind != "ReplicaSet" || !self.what.contains(&LookUp::Owners) {
            return None;
        }
        let kube = self.kube.in_namespace(namespace);
        let look = async {
            let found = admission::get_replica_set(&kube, &own.name).await?;
            Ok(found.map(|set| ReplicaSet {
                replicas: set.spec.and_then(|spec| spec.replicas),
                deployment: controller(
                    set.metadata.owner_references.as_deref().unwrap_or_default(),
                ),
            }))
        };
        self.sets.get(own.uid.clone(), look).await
    }

    async fn missing_rights(&self, kube: &Kube, pod: &Pod) -> Option<Vec<String>> {
        if !self.what.contains(&LookUp::Rights) {
            return None;
        }
        let account = pod.spec.as_ref()?.service_account_name.as_deref();
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        let map = format!("drey-{}", cluster_id(pod)?);
        let key = format!("{}/{account}/{map}", kube.namespace());
        self.rights.get(key, missing(kube, account, &map)).await
    }

    async fn configuration(&self, kube: &Kube, pod: &Pod) -> Option<BTreeMap<String, String>> {
        if !self.what.contains(&LookUp::Configuration) {
            return None;
        }
        let name = config_map(pod.spec.as_ref()?)?;
        let look = async {
            let found = admission::get_config_map(kube, name).await?;
            Ok(found.and_then(|files| parse(&files)))
        };
        let key = format!("{}/{name}", kube.namespace());
        self.configurations.get(key, look).await
    }
}

/// The controller of a pod.
fn owner(pod: &Pod) -> Option<OwnerRef> {
    controller(pod.metadata.owner_references.as_deref().unwrap_or_default())
}

fn cluster_id(pod: &Pod) -> Option<&str> {
    let annotations = pod.metadata.annotations.as_ref();
    let labels = pod.metadata.labels.as_ref();
    annotations
        .and_then(|all| all.get("drey.io/cluster-id"))
        .or_else(|| labels.and_then(|all| all.get("app")))
        .map(String::as_str)
}

/// What Drey cannot do without, as in `deploy/rbac.yaml`; without the rest it tells so itself.
async fn missing(kube: &Kube, account: &str, map: &str) -> Result<Option<Vec<String>>, KubeError> {
    let needed = [
        ("get", "configmaps", Some(map)),
        ("watch", "configmaps", Some(map)),
        ("patch", "configmaps", Some(map)),
        ("get", "pods", None),
        ("watch", "pods", None),
    ];
    let mut missing = Vec::new();
    for (verb, resource, name) in needed {
        let right = Right {
            verb,
            resource,
            name,
        };
        if !admission::may(kube, account, right).await? {
            let name = name.map(|name| format!("/{name}")).unwrap_or_default();
            missing.push(format!("{verb} {resource}{name}"));
        }
    }
    Ok(Some(missing))
}

/// The ConfigMap that is mounted as Flink's configuration directory.
fn config_map(spec: &PodSpec) -> Option<&str> {
    let is_conf = |path: &str| path.trim_end_matches('/').ends_with("/conf");
    let mounts = spec
        .containers
        .iter()
        .flat_map(|container| container.volume_mounts.iter().flatten());
    let mut mounts = mounts.filter(|mount| is_conf(&mount.mount_path) && mount.sub_path.is_none());
    mounts.find_map(|mount| {
        let volume = spec
            .volumes
            .iter()
            .flatten()
            .find(|volume| volume.name == mount.name)?;
        let map = volume.config_map.as_ref()?;
        (!map.name.is_empty()).then_some(map.name.as_str())
    })
}

fn parse(files: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    [ConfigFormat::ConfigYaml, ConfigFormat::FlinkConfYaml]
        .into_iter()
        .find_map(|format| {
            let file = ConfigFile::parse(format, files.get(format.file_name())?).ok()?;
            Some(file.entries().clone())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flinks_configuration_is_found_in_what_native_mode_mounts() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{ "name": "flink-main-container", "volumeMounts": [
                { "name": "hadoop", "mountPath": "/opt/hadoop/conf", "subPath": "x" },
                { "name": "flink-config-volume", "mountPath": "/opt/flink/conf" },
            ]}],
            "volumes": [
                { "name": "hadoop", "configMap": { "name": "hadoop" } },
                { "name": "flink-config-volume", "configMap": { "name": "flink-config-orders" } },
            ],
        }))
        .expect("a pod");
        assert_eq!(config_map(&spec), Some("flink-config-orders"));
        let files = [(
            "config.yaml".to_owned(),
            "state:\n  savepoints:\n    dir: s3://a\n".to_owned(),
        )];
        let entries = parse(&files.into()).expect("a configuration");
        assert_eq!(entries["state.savepoints.dir"], "s3://a");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_not_asked_for_again_at_once() {
        let cache = Cache::<u8>::default();
        let never = std::future::pending;
        let start = Instant::now();
        assert_eq!(cache.get("a".to_owned(), never()).await, None);
        assert_eq!(start.elapsed(), PATIENCE);
        assert_eq!(cache.get("a".to_owned(), never()).await, None);
        assert_eq!(start.elapsed(), PATIENCE);
        tokio::time::advance(FRESH).await;
        let found = cache.get("a".to_owned(), async { Ok(Some(1)) }).await;
        assert_eq!(found, Some(1));
    }
}
