//! The objects of Kubernetes that have a pod in them, and what becomes of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::patch::graft;
use super::{Facts, Outcome, Refused, Role, Settings, inject, uninject};

/// What came of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Done {
    Changed {
        value: Value,
        what: String,
        warnings: Vec<String>,
    },
    Kept {
        why: String,
    },
}

/// Where an object has its pod: the keys to it.
fn pod_in(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Pod" => Some(&[]),
        "PodTemplate" => Some(&["template"]),
        "CronJob" => Some(&["spec", "jobTemplate", "spec", "template"]),
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job" => Some(&["spec", "template"]),
        _ => None,
    }
}

/// Text under a key.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The object's name for people.
pub(super) fn title(object: &Value) -> String {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let name = ["name", "generateName"].map(|key| text(metadata, key));
    let name = name
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or("?");
    format!("{}/{name}", text(object, "kind"))
}

/// The items of a list of objects.
pub(super) fn items(object: &Value) -> Option<&Vec<Value>> {
    let list = text(object, "kind").ends_with("List");
    object
        .get("items")
        .and_then(Value::as_array)
        .filter(|_| list)
}

/// The pod of an object as it is written: that of a template has no kind of its own.
fn written<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Puts Drey into an object's pod.
pub(super) fn put_in(object: &Value, settings: &Settings, facts: &Facts) -> Result<Done, Refused> {
    let change = |pod: &Pod| match inject(pod, settings, facts)? {
        Outcome::Skipped(skipped) => Ok(Err(skipped.message)),
        Outcome::Injected(injected) if injected.pod == *pod => {
            Ok(Err("is injected already".to_owned()))
        }
        Outcome::Injected(injected) => Ok(Ok((
            injected.pod,
            format!("injected ({})", injected.role.name()),
            injected.warnings,
        ))),
    };
    changed(object, change)
}

/// Takes Drey out of an object's pod.
pub(super) fn take_out(object: &Value) -> Result<Done, Refused> {
    let change = |pod: &Pod| {
        let before = uninject(pod)?;
        Ok(match before == *pod {
            true => Err("was not injected".to_owned()),
            false => Ok((before, "uninjected".to_owned(), Vec::new())),
        })
    };
    changed(object, change)
}

/// The pod instead, what was done, and warnings; or why nothing was.
type Change = Result<(Pod, String, Vec<String>), String>;

fn changed(
    object: &Value,
    change: impl FnOnce(&Pod) -> Result<Change, Refused>,
) -> Result<Done, Refused> {
    if text(object, "kind") == "FlinkDeployment" {
        let why = "is supervised by the Flink Kubernetes Operator".to_owned();
        return Ok(Done::Kept { why });
    }
    let path = pod_in(text(object, "kind"));
    let Some((path, written)) = path.and_then(|path| Some((path, written(object, path)?))) else {
        let why = "has no pod in it".to_owned();
        return Ok(Done::Kept { why });
    };
    let before = typed(written)?;
    Ok(match change(&before)? {
        Err(why) => Done::Kept { why },
        Ok((after, what, warnings)) => {
            let mut pod = graft(written, &before, &after);
            if let Value::Object(pod) = &mut pod
                && pod.get("metadata") == Some(&json!({}))
            {
                // It had none before Drey's status.
                pod.shift_remove("metadata");
            }
            let mut value = object.clone();
            if let Some(place) = path
                .iter()
                .try_fold(&mut value, |value, key| value.get_mut(key))
            {
                *place = pod;
            }
            Done::Changed {
                value,
                what,
                warnings,
            }
        }
    })
}

/// The pod of an object, if it has one.
pub(super) fn pod(object: &Value) -> Option<Pod> {
    let path = pod_in(text(object, "kind"))?;
    typed(written(object, path)?).ok()
}

fn typed(written: &Value) -> Result<Pod, Refused> {
    let mut value = json!({
        "metadata": written.get("metadata").unwrap_or(&Value::Null),
        "spec": written.get("spec").unwrap_or(&Value::Null),
    });
    quantities(&mut value);
    serde_json::from_value(value).map_err(|error| Refused::new(format!("is no pod: {error}")))
}

/// Quantities may be written as numbers, which only the API server takes.
fn quantities(value: &mut Value) {
    let number = |value: &mut Value| {
        if let Value::Number(number) = value {
            *value = Value::String(number.to_string());
        }
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(quantities),
        Value::Object(entries) => {
            for (key, inner) in entries {
                match (key.as_str(), inner) {
                    ("limits" | "requests" | "overhead", Value::Object(all)) => {
                        all.iter_mut().for_each(|(_, value)| number(value));
                    }
                    ("sizeLimit" | "divisor", inner) => number(inner),
                    (_, inner) => quantities(inner),
                }
            }
        }
        _ => {}
    }
}

/// Whether it is a pod template of Flink's native mode: Flink gives its container image and command.
pub(super) fn is_native_template(object: &Value) -> bool {
    let Some(pod) = pod(object).filter(|_| text(object, "kind") == "Pod") else {
        return false;
    };
    let labels = pod.metadata.labels.unwrap_or_default();
    let spec = pod.spec.unwrap_or_default();
    let mut containers = spec.containers.iter();
    let flink = containers.find(|container| container.name == super::flink::NATIVE_CONTAINER);
    labels
        .get("type")
        .is_none_or(|kind| kind != "flink-native-kubernetes")
        && flink.is_some_and(|flink| flink.command.is_none() && flink.args.is_none())
}

/// What the annotation says about the process of a template.
pub(super) fn role(object: &Value) -> Option<Role> {
    let annotations = object.get("metadata")?.get("annotations")?;
    serde_json::from_value(annotations.get("drey.io/role")?.clone()).ok()
}

/// How many pods an object asks for.
pub(super) fn replicas(object: &Value) -> Option<i32> {
    let replicas = object.get("spec")?.get("replicas")?.as_i64()?;
    i32::try_from(replicas).ok()
}

/// The ConfigMap that a pod mounts as Flink's configuration.
pub(crate) fn configuration_map(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    let mut mounts = spec
        .containers
        .iter()
        .flat_map(|container| container.volume_mounts.iter().flatten());
    let mount = mounts.find(|mount| {
        mount
            .mount_path
            .trim_end_matches('/')
            .ends_with("/flink/conf")
    })?;
    let mut volumes = spec.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == mount.name)?;
    Some(volume.config_map.as_ref()?.name.as_str())
}

/// The texts in a ConfigMap.
pub(super) fn data(object: &Value) -> BTreeMap<&str, &str> {
    let entries = object.get("data").and_then(Value::as_object);
    let texts = entries.into_iter().flatten();
    texts
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}
