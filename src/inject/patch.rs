//! An injected pod as a change of what the API server, or a file, has.
//!
//! What is written there may hold more than this program's types know. So the change is made in what is written: only what
//! differs between the typed pod before and after is touched.

use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde_json::{Map, Value};

/// The JSON patch that makes `after` of `original`, whose typed form is `before`.
#[must_use]
pub fn patch(original: &Value, before: &Pod, after: &Pod) -> Patch {
    let changed = graft(original, before, after);
    json_patch::diff(original, &changed)
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

/// Items are the same by their name: one that keeps its name keeps what else is written in it, wherever it stands now.
fn array(original: &[Value], before: &[Value], after: &[Value]) -> Vec<Value> {
    let mut used = vec![false; before.len()];
    let mut same = |new: &Value| {
        let is_same = |old: &Value| old == new || key(old).is_some() && key(old) == key(new);
        let at = (0..before.len()).find(|at| !used[*at] && is_same(&before[*at]))?;
        used[at] = true;
        Some(at)
    };
    after
        .iter()
        .map(|new| match same(new) {
            Some(at) => original
                .get(at)
                .map_or_else(|| new.clone(), |written| value(written, &before[at], new)),
            None => new.clone(),
        })
        .collect()
}

/// What an item of a list of Kubernetes is known by there; a mount by its path, for it has its volume's name.
fn key(item: &Value) -> Option<&Value> {
    item.get("mountPath").or_else(|| item.get("name"))
}
