//! What is added to a pod: Drey's containers and volume, and what Flink's container gets.
//!
//! Everything goes to the end of its list: what other webhooks have put into a pod stays where they have put it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, ExecAction, Lifecycle,
    LifecycleHandler, Pod, PodSpec, Volume, VolumeMount,
};
use serde::Serialize;

use super::annotations::Wishes;
use super::flink::{Flink, PROGRAM};
use super::metrics::Metrics;
use super::status::{Field, Replaced, Status, digest};
use super::storage;
use super::{Refused, Role, STATUS, Settings, hook};
use crate::config::{self, quoted};

/// The name of the volume that Drey's program, socket and notes are in.
pub(super) const VOLUME: &str = "drey";

/// Where it is mounted, in every container.
pub(super) const DIRECTORY: &str = "/drey";

/// The supervisor.
pub(crate) const SIDECAR: &str = "drey";

/// The container that brings the program.
pub(super) const INSTALL: &str = "drey-install";

/// The names of Drey's containers.
pub(super) const CONTAINERS: [&str; 2] = [INSTALL, SIDECAR];

/// What a savepoint may take where nobody says how long.
const SHUTDOWN: Duration = Duration::from_secs(120);

/// `terminationGracePeriodSeconds` of a pod that does not say.
const KUBERNETES_GRACE: i64 = 30;

/// The longest time that a setting takes.
const DAY: i64 = 24 * 60 * 60;

/// How long a pod has for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grace {
    /// The pod's own, if it says.
    pub(super) was: Option<i64>,
    /// The pod's, in seconds.
    pub(super) seconds: i64,
    /// What of it Drey and Flink may use.
    pub(super) shutdown: Duration,
}

impl Grace {
    /// The pod's grace period, but at least what is asked for.
    pub(super) fn of(spec: &PodSpec, wishes: &Wishes<'_>) -> Self {
        let was = spec.termination_grace_period_seconds;
        let least = was.unwrap_or(KUBERNETES_GRACE).max(1);
        let asked = wishes
            .values
            .as_ref()
            .filter(|_| wishes.gives("shutdown-timeout"));
        let shutdown = match asked {
            Some(values) => values.shutdown_timeout,
            None => Duration::from_secs(least.min(DAY).unsigned_abs()).max(SHUTDOWN),
        };
        let needed = shutdown.as_secs() + u64::from(shutdown.subsec_nanos() > 0);
        let seconds = least.max(i64::try_from(needed).unwrap_or(DAY));
        Self {
            was,
            seconds,
            shutdown,
        }
    }

    pub(super) fn is_raised(self) -> bool {
        self.was.unwrap_or(KUBERNETES_GRACE) < self.seconds
    }
}

/// What is decided about a pod before anything is added.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a PodSpec,
    pub(super) flink: &'a Flink<'a>,
    pub(super) wishes: &'a Wishes<'a>,
    pub(super) settings: &'a Settings,
    pub(super) image: &'a str,
    pub(super) grace: Grace,
    pub(super) metrics: Option<Metrics>,
}

/// All that is added, which is what an injection can be compared by.
#[derive(Debug, Serialize)]
struct Additions {
    install: Container,
    sidecar: Option<Container>,
    volume: Volume,
    env: Vec<EnvVar>,
    port: Option<ContainerPort>,
    mount: VolumeMount,
    command: &'static [&'static str],
    pre_stop: Option<LifecycleHandler>,
    grace: Option<i64>,
}

impl Plan<'_> {
    /// The pod with everything in it.
    pub(super) fn carry_out(&self) -> Result<Pod, Refused> {
        self.room()?;
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: self.flink.role,
            container: self.flink.container.name.clone(),
            ..Status::default()
        };
        let additions = self.additions()?;
        status.digest = digest(&additions);
        let mut pod = self.pod.clone();
        let spec = pod.spec.get_or_insert_default();
        let mut all = spec.containers.iter_mut();
        if let Some(flink) = all.find(|container| container.name == status.container) {
            add_to_flink(flink, &additions, &mut status);
        }
        self.add_to_spec(spec, additions, &mut status);
        let annotations = &mut pod.metadata.annotations;
        if annotations.as_ref().is_some_and(BTreeMap::is_empty) {
            status.empty.push(Field::Annotations);
        }
        let text = status.text();
        annotations
            .get_or_insert_default()
            .insert(STATUS.to_owned(), text);
        Ok(pod)
    }

    /// Refuses a pod in which others have Drey's names.
    fn room(&self) -> Result<(), Refused> {
        let spec = self.spec;
        let containers = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        let taken = containers
            .map(|container| &container.name)
            .find(|name| CONTAINERS.contains(&name.as_str()));
        if let Some(name) = taken {
            let name = quoted(name);
            return Err(Refused::new(format!(
                "container {name} of the pod has the name of one of Drey's; give it another name"
            )));
        }
        if spec
            .volumes
            .iter()
            .flatten()
            .any(|volume| volume.name == VOLUME)
        {
            return Err(Refused::new(format!(
                "volume `{VOLUME}` of the pod has the name of Drey's; give it another name"
            )));
        }
        let flink = self.flink.container;
        let name = quoted(&flink.name);
        for mount in flink.volume_mounts.iter().flatten() {
            let path = mount.mount_path.trim_end_matches('/');
            if path == DIRECTORY || path.starts_with("/drey/") {
                return Err(Refused::new(format!(
                    "container {name} mounts a volume at {}, where Drey's is; mount it elsewhere",
                    quoted(path)
                )));
            }
        }
        let own = self.flink_env();
        let given = flink.env.iter().flatten().map(|variable| &variable.name);
        for variable in given {
            if own.iter().any(|own| own.name == *variable) {
                return Err(Refused::new(format!(
                    "container {name} has a variable {}, which Drey sets; take it out, and give `{}` as an annotation",
                    quoted(variable),
                    config::annotation(
                        &variable
                            .trim_start_matches("DREY_")
                            .to_lowercase()
                            .replace('_', "-")
                    )
                )));
            }
        }
        Ok(())
    }

    fn additions(&self) -> Result<Additions, Refused> {
        let job_manager = self.flink.role == Role::JobManager;
        let hook = self
            .flink
            .container
            .lifecycle
            .as_ref()
            .and_then(|it| it.pre_stop.as_ref());
        Ok(Additions {
            install: self.install()?,
            sidecar: job_manager.then(|| self.sidecar()).transpose()?,
            volume: Volume {
                name: VOLUME.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            },
            env: self.flink_env(),
            port: self.port().filter(|_| !job_manager),
            mount: own_mount(),
            command: self.flink.launch.words(),
            pre_stop: job_manager
                .then(|| hook::chained(&self.flink.container.name, hook))
                .transpose()?,
            grace: self.grace.is_raised().then_some(self.grace.seconds),
        })
    }

    fn add_to_spec(&self, spec: &mut PodSpec, additions: Additions, status: &mut Status) {
        status.note_empty(&spec.init_containers, Field::InitContainers);
        status.note_empty(&spec.volumes, Field::Volumes);
        status.init_containers.push(additions.install.name.clone());
        let inits = spec.init_containers.get_or_insert_default();
        inits.push(additions.install);
        if let Some(sidecar) = additions.sidecar {
            let (list, names) = match self.settings.native_sidecar {
                true => (inits, &mut status.init_containers),
                false => (&mut spec.containers, &mut status.containers),
            };
            names.push(sidecar.name.clone());
            list.push(sidecar);
        }
        status.volumes.push(additions.volume.name.clone());
        spec.volumes.get_or_insert_default().push(additions.volume);
        if let Some(is) = additions.grace {
            let was = spec.termination_grace_period_seconds.replace(is);
            status.grace = Some(Replaced { was, is });
        }
    }

    fn port(&self) -> Option<ContainerPort> {
        self.metrics.as_ref()?.port(self.flink.container)
    }

    /// Puts the program where Flink's container finds it.
    fn install(&self) -> Result<Container, Refused> {
        Ok(Container {
            name: INSTALL.to_owned(),
            args: Some(vec!["install".to_owned(), DIRECTORY.to_owned()]),
            volume_mounts: Some(vec![own_mount()]),
            ..self.container()?
        })
    }

    fn sidecar(&self) -> Result<Container, Refused> {
        let command = [PROGRAM, "prestop", "--sidecar"]
            .map(str::to_owned)
            .to_vec();
        let pre_stop = LifecycleHandler {
            exec: Some(ExecAction {
                command: Some(command),
            }),
            ..LifecycleHandler::default()
        };
        let access = storage::access(self.spec, self.flink.container, &self.wishes.mounts)?;
        let mut mounts = vec![own_mount()];
        mounts.extend(access.mounts);
        let mut env = access.env;
        env.extend(self.sidecar_env());
        Ok(Container {
            name: SIDECAR.to_owned(),
            args: Some(vec!["sidecar".to_owned()]),
            restart_policy: self.settings.native_sidecar.then(|| "Always".to_owned()),
            env: Some(env),
            env_from: access.env_from,
            lifecycle: Some(Lifecycle {
                pre_stop: Some(pre_stop),
                ..Lifecycle::default()
            }),
            ports: self.port().map(|port| vec![port]),
            volume_mounts: Some(mounts),
            ..self.container()?
        })
    }

    /// What both of Drey's containers are.
    fn container(&self) -> Result<Container, Refused> {
        Ok(Container {
            image: Some(self.image.to_owned()),
            image_pull_policy: self.settings.image_pull_policy.clone(),
            resources: Some(self.resources()?),
            security_context: Some(self.security_context()),
            ..Container::default()
        })
    }
}

fn add_to_flink(flink: &mut Container, additions: &Additions, status: &mut Status) {
    status.note_empty(&flink.env, Field::Env);
    status.note_empty(&flink.volume_mounts, Field::VolumeMounts);
    status.env = additions
        .env
        .iter()
        .map(|variable| variable.name.clone())
        .collect();
    flink
        .env
        .get_or_insert_default()
        .extend(additions.env.iter().cloned());
    if let Some(port) = &additions.port {
        status.note_empty(&flink.ports, Field::Ports);
        status.ports.extend(port.name.clone());
        flink.ports.get_or_insert_default().push(port.clone());
    }
    status.mounts = vec![additions.mount.mount_path.clone()];
    flink
        .volume_mounts
        .get_or_insert_default()
        .push(additions.mount.clone());
    if !additions.command.is_empty() {
        status.note_empty(&flink.command, Field::Command);
        status.command = additions
            .command
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
        let words = flink.command.get_or_insert_default();
        words.splice(..0, status.command.iter().cloned());
    }
    if let Some(is) = &additions.pre_stop {
        if flink.lifecycle.as_ref() == Some(&Lifecycle::default()) {
            status.empty.push(Field::Lifecycle);
        }
        let was = flink
            .lifecycle
            .get_or_insert_default()
            .pre_stop
            .replace(is.clone());
        status.pre_stop = Some(Replaced {
            was,
            is: is.clone(),
        });
    }
}

fn own_mount() -> VolumeMount {
    VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: DIRECTORY.to_owned(),
        ..VolumeMount::default()
    }
}
