//! What is known of each cluster id of a namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;

use super::super::jobs::PointFault;
use super::super::rights::{self, Right};
use super::super::{Account, Blind, Cluster, FlinkConfig, PointRead, Sight, flink, pods};
use super::ask::{get, list};
use super::review;
use crate::config::Settings;
use crate::domain::pointer::JobEntry;
use crate::flink::metadata;
use crate::inject::Role;
use crate::kubernetes::{Document, Kube, KubeError, PointerMap, PointerMapError};
use crate::storage::{Location, StorageErrorKind};
use crate::supervisor::storage_for;
use crate::telemetry::one_line;

/// Its JobManagers and its TaskManagers.
type Pods = (Vec<Pod>, Vec<Pod>);

pub(super) async fn gather(
    kube: &Kube,
    namespace: &str,
    pods: &[Pod],
    settings: &Settings,
) -> Vec<Cluster> {
    let mut by_id: BTreeMap<String, Pods> = pointers(kube, namespace).await;
    for pod in pods
        .iter()
        .filter(|pod| pods::is_alive(pod) && pods::supervised(pod))
    {
        let Some(id) = pods::cluster_id(pod) else {
            continue;
        };
        let (job_managers, task_managers) = by_id.entry(id.to_owned()).or_default();
        match pods::role(pod) {
            Some(Role::TaskManager) => task_managers.push(pod.clone()),
            _ => job_managers.push(pod.clone()),
        }
    }
    let mut all = Vec::new();
    for (id, pods) in by_id {
        all.push(one(kube, namespace, id, pods, settings).await);
    }
    all
}

/// The cluster ids with a pointer: a job that is suspended has no pod. Who may not list them sees those with pods.
async fn pointers(kube: &Kube, namespace: &str) -> BTreeMap<String, Pods> {
    let api: Api<ConfigMap> = Api::namespaced(kube.client(), namespace);
    let right = Right::new("list", "", "configmaps").within(namespace);
    let named = |map: &ConfigMap| id_of(map).is_some();
    let maps = list(&api, right, named).await.unwrap_or_default();
    let ids = maps.iter().filter_map(id_of);
    ids.map(|id| (id.to_owned(), Pods::default())).collect()
}

fn id_of(map: &ConfigMap) -> Option<&str> {
    let id = map.metadata.labels.as_ref()?.get("drey.io/cluster-id")?;
    let own = map.metadata.name.as_deref()? == format!("drey-{id}");
    own.then_some(id.as_str())
}

async fn one(
    kube: &Kube,
    namespace: &str,
    id: String,
    (job_managers, task_managers): Pods,
    settings: &Settings,
) -> Cluster {
    let pointer = pointer(kube, namespace, &id).await;
    let leader = job_managers.first();
    let configuration = match leader {
        Some(pod) => Some(configuration(kube, namespace, pod).await),
        None => None,
    };
    let account = match leader {
        Some(pod) => Some(rights_of(kube, namespace, &id, pod, &pointer).await),
        None => None,
    };
    let known = configuration.as_ref().and_then(|seen| seen.as_ref().ok());
    let points = points(&pointer, known, settings).await;
    Cluster {
        id,
        namespace: namespace.to_owned(),
        job_managers,
        task_managers,
        pointer,
        points,
        configuration,
        account,
    }
}

async fn pointer(kube: &Kube, namespace: &str, id: &str) -> Sight<Option<Document>> {
    let map = PointerMap::new(&kube.in_namespace(namespace), id);
    map.load().await.map_err(|error| match error {
        PointerMapError::Kube(KubeError::Forbidden { .. }) => Blind {
            why: format!(
                "you may not get configmaps {} in namespace {namespace}",
                map.name()
            ),
            right: Some(Box::new(
                Right::new("get", "", "configmaps")
                    .within(namespace)
                    .named(map.name()),
            )),
        },
        error => Blind::new(one_line(&error, 300)),
    })
}

async fn configuration(kube: &Kube, namespace: &str, pod: &Pod) -> Sight<FlinkConfig> {
    let api: Api<ConfigMap> = Api::namespaced(kube.client(), namespace);
    let mut maps = Vec::new();
    for name in flink::mounted_maps(pod) {
        let right = Right::new("get", "", "configmaps").within(namespace);
        maps.extend(get(&api, right, &name).await?);
    }
    Ok(flink::configuration(pod, &maps))
}

async fn rights_of(
    kube: &Kube,
    namespace: &str,
    id: &str,
    pod: &Pod,
    pointer: &Sight<Option<Document>>,
) -> Account {
    let account = pods::service_account(pod);
    let exists = matches!(pointer, Ok(Some(_)));
    let needed = rights::of_pods(namespace, id, exists);
    let asked = review::account(kube, namespace, account, needed).await;
    Account {
        name: account.to_owned(),
        asked,
    }
}

/// Reads the newest restore point of each job, with the environment's credentials or those in Flink's configuration.
async fn points(
    pointer: &Sight<Option<Document>>,
    configuration: Option<&FlinkConfig>,
    settings: &Settings,
) -> Vec<PointRead> {
    let document = pointer.as_ref().ok().and_then(Option::as_ref);
    let pointer = document.and_then(|document| document.pointer.good());
    let newest = pointer
        .iter()
        .flat_map(|pointer| pointer.jobs.values())
        .filter_map(JobEntry::newest);
    let none = BTreeMap::new();
    let flink = configuration.map_or(&none, |configuration| &configuration.entries);
    let storage = storage_for(settings, flink);
    let mut all = Vec::new();
    for point in newest {
        let path = point.path.clone();
        let read = read(&storage, &path).await;
        all.push(PointRead { path, read });
    }
    all
}

async fn read(storage: &crate::storage::Storage, path: &str) -> Result<(), PointFault> {
    let location =
        Location::parse(path).map_err(|error| PointFault::Unreachable(one_line(&error, 300)))?;
    let local = location.local_path().is_some();
    let bytes = storage.read_metadata(&location).await.map_err(|error| {
        match (error.kind(), local) {
            // Another file system than the pods'.
            (_, true) => PointFault::Unreachable("it is in the file system of the pods".to_owned()),
            (StorageErrorKind::NotFound, false) => PointFault::Missing(one_line(&error, 300)),
            _ => PointFault::Unreachable(one_line(&error, 300)),
        }
    })?;
    metadata::parse(&bytes)
        .map(|_| ())
        .map_err(|error| PointFault::Damaged(one_line(&error, 300)))
}
