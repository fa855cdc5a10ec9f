//! Where an injected pod has its metrics: one named port, behind which Drey serves Flink's and its own.

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

use super::annotations::Wishes;

/// The usual port of Flink's Prometheus reporter (`PrometheusReporterOptions.PORT`), which Drey takes over.
const ADDRESS: &str = "0.0.0.0:9249";

/// The name of the port, by which a PodMonitor finds it.
const NAME: &str = "metrics";

/// An address that metrics are served at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metrics {
    /// As the setting takes it.
    pub(super) address: String,
    port: i32,
}

impl Metrics {
    /// What the pod asks for; nothing when it wants none, or somebody else has the port.
    pub(super) fn of(spec: &PodSpec, flink: &Container, wishes: &Wishes<'_>) -> Option<Self> {
        // On the node's own network one pod would keep the others from the port.
        let wanted = wishes.metrics.unwrap_or(spec.host_network != Some(true));
        let given = wishes
            .values
            .as_ref()
            .and_then(|values| values.metrics_address);
        let address = given.or_else(|| ADDRESS.parse().ok()).filter(|_| wanted)?;
        let metrics = Self {
            address: address.to_string(),
            port: i32::from(address.port()),
        };
        (given.is_some() || metrics.taken_by(spec, flink).is_none()).then_some(metrics)
    }

    /// The other container that listens there.
    fn taken_by<'a>(&self, spec: &'a PodSpec, flink: &Container) -> Option<&'a str> {
        let sidecars = spec.init_containers.iter().flatten();
        let mut others = spec
            .containers
            .iter()
            .chain(sidecars)
            .filter(|other| other.name != flink.name);
        let other = others.find(|other| declares(other, self.port))?;
        Some(&other.name)
    }

    /// The port as the container that serves it declares it; nothing when the pod has it already.
    pub(super) fn port(&self, flink: &Container) -> Option<ContainerPort> {
        let named = |port: &ContainerPort| port.name.as_deref() == Some(NAME);
        let known = declares(flink, self.port) || flink.ports.iter().flatten().any(named);
        (!known).then(|| ContainerPort {
            name: Some(NAME.to_owned()),
            container_port: self.port,
            ..ContainerPort::default()
        })
    }
}

/// The container that has the port where metrics would be, so that there are none.
pub(super) fn rival<'a>(
    spec: &'a PodSpec,
    flink: &Container,
    wishes: &Wishes<'_>,
) -> Option<&'a str> {
    if wishes.metrics == Some(false) || wishes.gives("metrics-address") {
        return None;
    }
    let port = ADDRESS
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())?;
    Metrics {
        address: String::new(),
        port,
    }
    .taken_by(spec, flink)
}

fn declares(container: &Container, number: i32) -> bool {
    let mut ports = container.ports.iter().flatten();
    ports.any(|port| port.container_port == number)
}
