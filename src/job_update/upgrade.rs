//! Another image, parallelism or option: in Flink's configuration and in the Deployments together, with one rollout.
//!
//! The supervisor does the rest: it stops the job with a savepoint when the pod of the new template is there, and hands over.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::error::JobError;
use super::workloads::{Cluster, Workload};
use super::{Progress, ROLLED, Target, start::Come};
use crate::check::pods;
use crate::flink::config_file::{ConfigFile, ConfigFormat};
use crate::kubernetes::asked;

pub use super::edit::Change;

/// The files of Flink's configuration: since 1.19, and before.
const FILES: [ConfigFormat; 2] = [ConfigFormat::ConfigYaml, ConfigFormat::FlinkConfYaml];

/// Changes the cluster and waits until the job has come up again.
///
/// # Errors
/// When something cannot be changed, or the job does not come up in time.
pub async fn upgrade(
    target: &Target,
    change: &Change,
    progress: &mut Progress,
) -> Result<Come, JobError> {
    change.check()?;
    let Some(cluster) = target.find().await? else {
        return Err(JobError::Refused(format!(
            "there is no cluster {}",
            target.name()
        )));
    };
    let before = target.run_now().await?;
    let native = cluster.job_manager().is_some_and(|it| it.native);
    let resources = if change.is_in_file(native) {
        progress.say("Changing Flink's configuration");
        target
            .change_file(&cluster, change)
            .await?
            .filter(|_| native)
    } else {
        None
    };
    for workload in &cluster.workloads {
        progress.say(&format!("Changing {}", workload.name));
        let patch = template(workload, change, resources.as_ref());
        target.patch(workload, &patch).await?;
    }
    if cluster.is_suspended() || target.is_held().await? {
        return Ok(Come {
            from: None,
            before: true,
        });
    }
    target.wait_up(before, progress).await
}

/// One change of the pod template, also when only the configuration is another.
fn template(workload: &Workload, change: &Change, resources: Option<&Value>) -> Value {
    let mut container = json!({});
    if let Some(image) = &change.image {
        container["image"] = json!(image);
    }
    if let Some(resources) = resources {
        container["resources"] = resources.clone();
    }
    let now = Timestamp::now().to_string();
    let mut patch =
        json!({"spec": {"template": {"metadata": {"annotations": {ROLLED: now}}, "spec": {}}}});
    if let Some(flink) = pods::flink_container(&workload.pod)
        && container.as_object().is_some_and(|all| !all.is_empty())
    {
        container["name"] = json!(flink.name);
        patch["spec"]["template"]["spec"]["containers"] = json!([container]);
    }
    patch
}

impl Target {
    /// Writes the changed file; what follows from it for the JobManager's container.
    async fn change_file(
        &self,
        cluster: &Cluster,
        change: &Change,
    ) -> Result<Option<Value>, JobError> {
        let name = self.configuration_map(cluster)?;
        let api: Api<ConfigMap> = self.kube.api();
        let map = asked("get", "configmaps", "", &name, api.get(&name)).await?;
        let native = cluster.job_manager().is_some_and(|it| it.native);
        let (format, text) = file_of(&map).ok_or_else(|| {
            JobError::Refused(format!(
                "configmaps {name} has neither config.yaml nor flink-conf.yaml: change the image alone, or the manifest itself"
            ))
        })?;
        let file: ConfigFile = change.file(format, text, native)?;
        let patch = json!({
            "metadata": {"resourceVersion": map.metadata.resource_version},
            "data": {format.file_name(): file.text()},
        });
        let params = PatchParams::default();
        let patch = Patch::Merge(&patch);
        let patched = api.patch(&name, &params, &patch);
        asked("patch", "configmaps", "", &name, patched).await?;
        Ok(change.resources(&file))
    }

    /// The ConfigMap that the JobManager has as Flink's configuration.
    fn configuration_map(&self, cluster: &Cluster) -> Result<String, JobError> {
        let job_manager = cluster.job_manager();
        if job_manager.is_some_and(|it| it.native) {
            return Ok(format!("flink-config-{}", self.cluster_id));
        }
        let mounted = job_manager.and_then(|it| crate::inject::configuration_map(&it.pod));
        mounted.map(str::to_owned).ok_or_else(|| {
            JobError::Refused(
                "Flink's configuration is in no mounted ConfigMap: change the image alone, or the manifest itself"
                    .to_owned(),
            )
        })
    }
}

fn file_of(map: &ConfigMap) -> Option<(ConfigFormat, &str)> {
    let data = map.data.as_ref()?;
    FILES.into_iter().find_map(|format| {
        let text = data.get(format.file_name())?;
        Some((format, text.as_str()))
    })
}
