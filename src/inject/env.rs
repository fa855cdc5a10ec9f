//! The variables by which Drey's processes in a pod have their settings.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};

use super::Role;
use super::flink::{APP, Cluster, NATIVE_CONTAINER};
use super::parts::Plan;
use crate::config::time;

impl Plan<'_> {
    pub(super) fn sidecar_env(&self) -> Vec<EnvVar> {
        let mut env = vec![self.cluster_id(), pod_name()];
        let container = &self.flink.container.name;
        if container != NATIVE_CONTAINER {
            env.push(variable("DREY_FLINK_CONTAINER", container));
        }
        let of_flink = [
            "restart",
            "task-manager-hold",
            "follow-job-manager",
            "flink-metrics-port",
        ];
        env.extend(self.given(|key, group| group != "Flink" && !of_flink.contains(&key)));
        env.extend(self.metrics_address());
        env.push(self.shutdown_timeout());
        env.push(socket());
        env.push(variable("DREY_STATE_DIR", "/drey/sidecar"));
        env
    }

    /// Those of Flink's container, for the launcher.
    pub(super) fn flink_env(&self) -> Vec<EnvVar> {
        let always = |group: &str| ["Flink", "Logs"].contains(&group);
        let mut env = Vec::new();
        match self.flink.role {
            Role::JobManager => {
                let own = ["mode", "restart", "start-timeout", "flink-metrics-port"];
                env.extend(self.given(|key, group| always(group) || own.contains(&key)));
                env.extend([self.shutdown_timeout(), socket()]);
            }
            Role::TaskManager => {
                let own = |key: &str, group: &str| {
                    group == "Metrics" || ["task-manager-hold", "follow-job-manager"].contains(&key)
                };
                env.extend([self.cluster_id(), pod_name()]);
                env.extend(self.given(|key, group| always(group) || own(key, group)));
            }
        }
        env.extend(self.metrics_address());
        env.push(variable("DREY_STATE_DIR", "/drey/flink"));
        env
    }

    /// The given settings that a process has a use for, by key and group.
    fn given(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<EnvVar> {
        let elsewhere = ["cluster-id", "metrics-address", "shutdown-timeout"];
        let given = self.wishes.settings.iter();
        given
            .filter(|(spec, _)| !elsewhere.contains(&spec.key) && wanted(spec.key, spec.group))
            .map(|(spec, text)| literal(&spec.env(), text))
            .collect()
    }

    fn cluster_id(&self) -> EnvVar {
        match self.flink.cluster {
            Cluster::Named(id) => variable("DREY_CLUSTER_ID", id),
            Cluster::ByLabel => from_field("DREY_CLUSTER_ID", &format!("metadata.labels['{APP}']")),
        }
    }

    /// Who serves the metrics has it, and who makes room for that.
    fn metrics_address(&self) -> Option<EnvVar> {
        let metrics = self.metrics.as_ref()?;
        Some(variable("DREY_METRICS_ADDRESS", &metrics.address))
    }

    fn shutdown_timeout(&self) -> EnvVar {
        variable("DREY_SHUTDOWN_TIMEOUT", &time(self.grace.shutdown))
    }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

/// With every `$` doubled: the kubelet would put variables in.
fn literal(name: &str, value: &str) -> EnvVar {
    variable(name, &value.replace('$', "$$"))
}

fn from_field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector {
        field_path: path.to_owned(),
        api_version: None,
    };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    }
}

fn pod_name() -> EnvVar {
    from_field("DREY_POD_NAME", "metadata.name")
}

fn socket() -> EnvVar {
    variable("DREY_SOCKET", "/drey/drey.sock")
}
