//! An injected pod as a change of what the API server, or a file, has.
//!
//! What is written there may hold more than this program's types know. So the change is made in what is written: only what
//! differs between the typed pod before and after is touched.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, Volume, VolumeMount};
use serde::Serialize;
use serde_json::{Map, Value};

/// The JSON patch that makes `after` of `original`, whose typed form is `before`.
#[must_use]
pub fn patch(original: &Value, mut before: Pod, mut after: Pod) -> Patch {
    leave_out_same(&mut before, &mut after);
    let mut changes = Changes::default();
    changes.value(original, &typed(&before), &typed(&after));
    Patch(changes.operations)
}

/// `original` with the difference between `before` and `after` in it.
pub(super) fn graft(original: &Value, before: &Pod, after: &Pod) -> Value {
    value(original, &typed(before), &typed(after))
}

fn typed(pod: &impl Serialize) -> Value {
    serde_json::to_value(pod).expect("objects of Kubernetes can be written")
}

fn value(original: &Value, before: &Value, after: &Value) -> Value {
    if before == after {
        return original.clone();
    }
    match (original, before, after) {
        (Value::Object(original), Value::Object(before), Value::Object(after)) => {
            Value::Object(object(original, before, after))
        }
        (Value::Array(original), Value::Array(before), Value::Array(after)) => {
            Value::Array(array(original, before, after))
        }
        _ => after.clone(),
    }
}

type Object = Map<String, Value>;

fn object(original: &Object, before: &Object, after: &Object) -> Object {
    let mut changed = original.clone();
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        changed.shift_remove(name);
    }
    for (name, new) in after {
        let old = before.get(name);
        if old == Some(new) {
            continue;
        }
        let written = original.get(name).unwrap_or(&Value::Null);
        changed.insert(
            name.clone(),
            value(written, old.unwrap_or(&Value::Null), new),
        );
    }
    changed
}

fn array(original: &[Value], before: &[Value], after: &[Value]) -> Vec<Value> {
    after
        .iter()
        .zip(places(before, after))
        .map(|(new, place)| match place {
            Some(at) => original
                .get(at)
                .map_or_else(|| new.clone(), |written| value(written, &before[at], new)),
            None => new.clone(),
        })
        .collect()
}

/// Where the items of `after` were in `before`. They are the same by their name: one that keeps its name keeps what else is written
/// in it, wherever it stands now.
fn places(before: &[Value], after: &[Value]) -> Vec<Option<usize>> {
    let mut used = vec![false; before.len()];
    let mut place = |new: &Value| {
        let is_same = |old: &Value| old == new || key(old).is_some() && key(old) == key(new);
        let at = (0..before.len()).find(|at| !used[*at] && is_same(&before[*at]))?;
        used[at] = true;
        Some(at)
    };
    after.iter().map(&mut place).collect()
}

/// What an item of a list of Kubernetes is known by there; a mount by its path, for it has its volume's name.
fn key(item: &Value) -> Option<&Value> {
    item.get("mountPath").or_else(|| item.get("name"))
}

/// The same difference as [`graft`] makes, as operations, without a second copy of what stays.
#[derive(Default)]
struct Changes {
    at: PointerBuf,
    operations: Vec<PatchOperation>,
}

impl Changes {
    fn value(&mut self, original: &Value, before: &Value, after: &Value) {
        if before == after {
            return;
        }
        match (original, before, after) {
            (Value::Object(original), Value::Object(before), Value::Object(after)) => {
                self.object(original, before, after);
            }
            (Value::Array(original), Value::Array(before), Value::Array(after)) => {
                self.array(original, before, after);
            }
            _ => self.replace(after.clone()),
        }
    }

    fn object(&mut self, original: &Object, before: &Object, after: &Object) {
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        for name in gone.filter(|name| original.contains_key(*name)) {
            let path = self.below(name);
            self.operations
                .push(PatchOperation::Remove(RemoveOperation { path }));
        }
        for (name, new) in after {
            match (original.get(name), before.get(name)) {
                (Some(written), old) => {
                    self.at.push_back(name);
                    self.value(written, old.unwrap_or(&Value::Null), new);
                    self.at.pop_back();
                }
                (None, Some(old)) if old == new => {}
                (None, _) => {
                    let path = self.below(name);
                    self.add(path, new.clone());
                }
            }
        }
    }

    /// Items that stay where they are change by themselves, and new ones come behind them, as an injection has it. A list in any
    /// other order is written anew.
    fn array(&mut self, original: &[Value], before: &[Value], after: &[Value]) {
        let places = places(before, after);
        let (stay, new) = places.split_at(original.len().min(places.len()));
        let in_place = stay.iter().enumerate().all(|(at, was)| *was == Some(at));
        if !in_place || stay.len() < original.len() || new.iter().any(Option::is_some) {
            return self.replace(Value::Array(array(original, before, after)));
        }
        for (at, new) in after.iter().enumerate() {
            match original.get(at) {
                Some(written) => {
                    self.at.push_back(at);
                    self.value(written, &before[at], new);
                    self.at.pop_back();
                }
                None => {
                    let path = self.below(at);
                    self.add(path, new.clone());
                }
            }
        }
    }

    fn replace(&mut self, value: Value) {
        let path = self.at.clone();
        self.operations
            .push(PatchOperation::Replace(ReplaceOperation { path, value }));
    }

    fn add(&mut self, path: PointerBuf, value: Value) {
        self.operations
            .push(PatchOperation::Add(AddOperation { path, value }));
    }

    fn below<'t>(&self, name: impl Into<json_patch::jsonptr::Token<'t>>) -> PointerBuf {
        let mut path = self.at.clone();
        path.push_back(name);
        path
    }
}

/// Takes optional fields out of both where they are the same.
macro_rules! leave_out {
    ($before:ident, $after:ident: $($field:ident),+) => {
        $(if $before.$field == $after.$field {
            $before.$field = None;
            $after.$field = None;
        })+
    };
}

/// Takes out of both what is large and the same: nothing comes of it, and to write it as values is what a patch takes most time for.
fn leave_out_same(before: &mut Pod, after: &mut Pod) {
    leave_out!(before, after: status);
    let (one, other) = (&mut before.metadata, &mut after.metadata);
    leave_out!(one, other: labels, managed_fields, owner_references);
    let (Some(before), Some(after)) = (&mut before.spec, &mut after.spec) else {
        return;
    };
    let name = |volume: &mut Volume| Volume {
        name: std::mem::take(&mut volume.name),
        ..Volume::default()
    };
    name_same(&mut before.volumes, &mut after.volumes, name);
    leave_out_of_spec(before, after);
}

fn leave_out_of_spec(before: &mut PodSpec, after: &mut PodSpec) {
    leave_out!(before, after: affinity, node_selector, security_context, tolerations);
    let inits = [&mut before.init_containers, &mut after.init_containers].map(Option::as_deref_mut);
    let [inits, others] = inits.map(Option::unwrap_or_default);
    for (before, after) in [
        (inits, others),
        (&mut before.containers[..], &mut after.containers[..]),
    ] {
        let pairs = before.iter_mut().zip(after);
        for (before, after) in pairs.take_while(|(before, after)| before.name == after.name) {
            leave_out_of_container(before, after);
        }
    }
}

fn leave_out_of_container(before: &mut Container, after: &mut Container) {
    leave_out!(
        before, after: args, env_from, liveness_probe, ports, readiness_probe, resources, security_context, startup_probe
    );
    let variable = |variable: &mut EnvVar| EnvVar {
        name: std::mem::take(&mut variable.name),
        ..EnvVar::default()
    };
    name_same(&mut before.env, &mut after.env, variable);
    let mount = |mount: &mut VolumeMount| VolumeMount {
        mount_path: std::mem::take(&mut mount.mount_path),
        ..VolumeMount::default()
    };
    name_same(&mut before.volume_mounts, &mut after.volume_mounts, mount);
}

/// Of items that are the same, only what they are known by, so that the others stay in their places. Those behind the first that
/// differs stay as they are: two may have one name, and which of them is which is told by their order.
fn name_same<T: PartialEq>(
    before: &mut Option<Vec<T>>,
    after: &mut Option<Vec<T>>,
    name: impl Fn(&mut T) -> T,
) {
    if before == after {
        (*before, *after) = (None, None);
    }
    let items = before.iter_mut().flatten().zip(after.iter_mut().flatten());
    for (before, after) in items.take_while(|(before, after)| before == after) {
        (*before, *after) = (name(before), name(after));
    }
}
