//! The annotation on an injected pod that says what was added, and the way back by it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod, PodSpec};
use serde::{Deserialize, Serialize};

use super::{Refused, Role, STATUS};
use crate::config::quoted;

/// What was added to a pod, and what stood in its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Status {
    /// The version that did it.
    pub(super) version: String,
    /// Of everything that was added: tells whether it would be the same today.
    pub(super) digest: String,
    pub(super) role: Role,
    /// Flink's.
    pub(super) container: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) init_containers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) containers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) volumes: Vec<String>,
    /// Words before the command of Flink's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) command: Vec<String>,
    /// Variables of Flink's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) env: Vec<String>,
    /// Where Flink's container mounts something more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mounts: Vec<String>,
    /// Ports of Flink's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ports: Vec<String>,
    /// The preStop hook of Flink's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pre_stop: Option<Replaced<LifecycleHandler>>,
    /// `terminationGracePeriodSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) grace: Option<Replaced<i64>>,
    /// What was there before, but empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) empty: Vec<Field>,
}

/// A field that has another value now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replaced<T> {
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<T>,
    pub(super) is: T,
}

/// A list or mapping that something was added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Field {
    Annotations,
    Command,
    Env,
    InitContainers,
    Lifecycle,
    Ports,
    VolumeMounts,
    Volumes,
}

impl Status {
    /// The status of a pod, if it was injected.
    pub(super) fn of(pod: &Pod) -> Result<Option<Self>, Refused> {
        let annotations = pod.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|all| all.get(STATUS)) else {
            return Ok(None);
        };
        let status: Self =
            serde_json::from_str(text).map_err(|error| unreadable(&error.to_string()))?;
        status.check(pod)?;
        Ok(Some(status))
    }

    /// Only what Drey adds may be in it: it decides about what is taken out.
    fn check(&self, pod: &Pod) -> Result<(), Refused> {
        let containers = self.init_containers.iter().chain(&self.containers);
        let foreign = containers
            .filter(|name| !super::parts::CONTAINERS.contains(&name.as_str()))
            .chain(
                self.volumes
                    .iter()
                    .filter(|name| *name != super::parts::VOLUME),
            )
            .chain(self.env.iter().filter(|name| !name.starts_with("DREY_")))
            .next();
        if let Some(name) = foreign {
            return Err(unreadable(&format!("{} is not Drey's", quoted(name))));
        }
        let spec = pod.spec.as_ref();
        let mut names = spec.iter().flat_map(|spec| &spec.containers);
        if !names.any(|container| container.name == self.container) {
            let name = quoted(&self.container);
            return Err(unreadable(&format!("the pod has no container {name}")));
        }
        Ok(())
    }

    /// As the annotation has it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers can be written")
    }

    /// Notes that a list was there, but empty.
    pub(super) fn note_empty<T>(&mut self, list: &Option<Vec<T>>, field: Field) {
        if list.as_ref().is_some_and(Vec::is_empty) {
            self.empty.push(field);
        }
    }

    fn was_empty(&self, field: Field) -> bool {
        self.empty.contains(&field)
    }

    /// The pod without what was added. What somebody has changed since stays as it is; what has been removed is not missed.
    /// A launcher that somebody has put something in front of goes only if `wrapped` says so.
    pub(super) fn take_out(&self, pod: &Pod, wrapped: Wrapped) -> TakenOut {
        let mut taken = TakenOut {
            pod: pod.clone(),
            complete: true,
        };
        self.take_annotation(&mut taken.pod);
        let spec = taken.pod.spec.get_or_insert_default();
        taken.complete &= self.take_from_spec(spec);
        let mut all = spec.containers.iter_mut();
        if let Some(flink) = all.find(|container| container.name == self.container) {
            taken.complete &= self.take_from_container(flink);
            taken.complete &= match wrapped {
                Wrapped::Keep if self.is_wrapped(flink) => true,
                Wrapped::Keep => self.take_command(&mut flink.command),
                Wrapped::TakeOut => self.take_command(&mut flink.command) || self.take_words(flink),
            };
        }
        taken
    }

    fn take_annotation(&self, pod: &mut Pod) {
        let annotations = &mut pod.metadata.annotations;
        if let Some(all) = annotations {
            all.remove(STATUS);
        }
        if annotations.as_ref().is_some_and(BTreeMap::is_empty)
            && !self.was_empty(Field::Annotations)
        {
            *annotations = None;
        }
    }

    fn take_from_spec(&self, spec: &mut PodSpec) -> bool {
        let empty = |field| self.was_empty(field);
        let named = |names: &'_ [String], name: &str| names.iter().any(|own| own == name);
        let mut complete = take(
            &mut spec.init_containers,
            self.init_containers.len(),
            |container| named(&self.init_containers, &container.name),
            empty(Field::InitContainers),
        );
        complete &= take(
            &mut spec.volumes,
            self.volumes.len(),
            |volume| named(&self.volumes, &volume.name),
            empty(Field::Volumes),
        );
        let before = spec.containers.len();
        spec.containers
            .retain(|container| !named(&self.containers, &container.name));
        complete &= before - spec.containers.len() == self.containers.len();
        if let Some(grace) = &self.grace {
            let same = spec.termination_grace_period_seconds == Some(grace.is);
            complete &= same;
            if same {
                spec.termination_grace_period_seconds = grace.was;
            }
        }
        complete
    }

    fn take_from_container(&self, flink: &mut Container) -> bool {
        let empty = |field| self.was_empty(field);
        let mut complete = take(
            &mut flink.env,
            self.env.len(),
            |variable| self.env.contains(&variable.name),
            empty(Field::Env),
        );
        complete &= take(
            &mut flink.volume_mounts,
            self.mounts.len(),
            |mount| self.mounts.contains(&mount.mount_path),
            empty(Field::VolumeMounts),
        );
        complete &= take(
            &mut flink.ports,
            self.ports.len(),
            |port| {
                port.name
                    .as_ref()
                    .is_some_and(|name| self.ports.contains(name))
            },
            empty(Field::Ports),
        );
        complete &= self.take_hook(&mut flink.lifecycle);
        complete
    }

    fn take_command(&self, command: &mut Option<Vec<String>>) -> bool {
        if self.command.is_empty() {
            return true;
        }
        let words = command
            .as_mut()
            .filter(|words| words.starts_with(&self.command));
        let Some(words) = words else {
            return false;
        };
        words.drain(..self.command.len());
        if words.is_empty() && !self.was_empty(Field::Command) {
            *command = None;
        }
        true
    }

    /// Another webhook has put its own program in front of ours, and maybe ours among its arguments.
    pub(super) fn is_wrapped(&self, flink: &Container) -> bool {
        let first = flink.command.iter().flatten().next();
        first != self.command.first()
            && [&flink.command, &flink.args]
                .into_iter()
                .flatten()
                .any(|words| self.place_in(words).is_some())
    }

    /// Notes the launcher's words in a pod that was injected again around them, for the way back.
    pub(super) fn hand_on(&self, before: &Pod, pod: &mut Pod) -> Result<(), Refused> {
        let all = before.spec.iter().flat_map(|spec| &spec.containers);
        let mut flink = all.filter(|container| container.name == self.container);
        if flink.next().is_none_or(|flink| !self.is_wrapped(flink)) {
            return Ok(());
        }
        if let Some(mut status) = Self::of(pod)? {
            status.command.clone_from(&self.command);
            let annotations = pod.metadata.annotations.get_or_insert_default();
            annotations.insert(STATUS.to_owned(), status.text());
        }
        Ok(())
    }

    /// Where our words stand in a row.
    fn place_in(&self, words: &[String]) -> Option<usize> {
        let count = self.command.len();
        if count == 0 {
            return None;
        }
        words.windows(count).position(|some| some == self.command)
    }

    fn take_words(&self, flink: &mut Container) -> bool {
        for words in [&mut flink.command, &mut flink.args].into_iter().flatten() {
            if let Some(at) = self.place_in(words) {
                words.drain(at..at + self.command.len());
                return true;
            }
        }
        false
    }

    /// Refuses a pod that would start Flink by a program that is no longer in it.
    pub(super) fn check_taken(&self, pod: &Pod) -> Result<(), Refused> {
        let all = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut flink = all.filter(|container| container.name == self.container);
        let words = flink.next().into_iter().flat_map(|flink| {
            let command = flink.command.iter().flatten();
            command.chain(flink.args.iter().flatten())
        });
        let gone = !self.command.is_empty() && !self.volumes.is_empty();
        match words
            .into_iter()
            .find(|word| gone && word.contains("/drey/"))
        {
            None => Ok(()),
            Some(word) => Err(Refused::new(format!(
                "container {} still has {} in its command, changed by somebody since Drey was put in, and the pod would not have \
                 that any more; take Drey's words out of `command` and `args`, and try again",
                quoted(&self.container),
                quoted(word)
            ))),
        }
    }

    fn take_hook(&self, lifecycle: &mut Option<Lifecycle>) -> bool {
        let Some(hook) = &self.pre_stop else {
            return true;
        };
        let Some(inner) = lifecycle
            .as_mut()
            .filter(|it| it.pre_stop.as_ref() == Some(&hook.is))
        else {
            return false;
        };
        inner.pre_stop.clone_from(&hook.was);
        if *inner == Lifecycle::default() && !self.was_empty(Field::Lifecycle) {
            *lifecycle = None;
        }
        true
    }
}

/// What becomes of a launcher that another webhook has put its own program in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrapped {
    /// It stays as it is: that program starts it.
    Keep,
    TakeOut,
}

/// The process of a pod that a newer version has injected, which knows best: while the webhook is updated, both are asked.
pub(super) fn by_newer(pod: &Pod) -> Option<Role> {
    #[derive(Deserialize)]
    struct Any {
        version: String,
        role: Role,
    }
    let text = pod.metadata.annotations.as_ref()?.get(STATUS)?;
    let any: Any = serde_json::from_str(text).ok()?;
    let mut inits = pod.spec.as_ref()?.init_containers.iter().flatten();
    let there = inits.any(|container| container.name == super::parts::INSTALL);
    let newer = release(&any.version)? > release(env!("CARGO_PKG_VERSION"))?;
    (there && newer).then_some(any.role)
}

/// The numbers of a version.
fn release(version: &str) -> Option<[u64; 3]> {
    let numbers = version.split(['-', '+']).next()?.split('.');
    let numbers: Vec<u64> = numbers
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// A pod without Drey's parts.
pub(super) struct TakenOut {
    pub(super) pod: Pod,
    /// Everything that was added was there, as it was added.
    pub(super) complete: bool,
}

/// Takes out of a list; whether as many were there as there should be.
fn take<T>(
    list: &mut Option<Vec<T>>,
    count: usize,
    own: impl Fn(&T) -> bool,
    keep_empty: bool,
) -> bool {
    let Some(items) = list else {
        return count == 0;
    };
    let before = items.len();
    items.retain(|item| !own(item));
    let taken = before - items.len();
    if items.is_empty() && taken > 0 && !keep_empty {
        *list = None;
    }
    taken == count
}

/// Of anything that can be written. Another release of the compiler may give another one: then it is injected anew.
pub(super) fn digest(value: &impl Serialize) -> String {
    let mut hasher = DefaultHasher::new();
    let text = serde_json::to_string(value).expect("objects of Kubernetes can be written");
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn unreadable(why: &str) -> Refused {
    Refused::new(format!(
        "annotation `{STATUS}` does not say what Drey added ({why}): it was edited by hand, or a newer drey wrote it; put it \
         back, or use that drey, or take Drey's parts and the annotation out by hand"
    ))
}
