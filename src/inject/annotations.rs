//! The annotations that a pod may carry: what each means, and what the ones of a pod say.
//!
//! Values are checked, never pasted anywhere: they end as fields of typed objects.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{INJECT, Refused, Role, STATUS};
use crate::config::{self, Spec, TABLE, annotation, nearest, quoted};

/// What all of them begin with.
const PREFIX: &str = "drey.io/";

/// An annotation that is about the injection itself.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// The name behind `drey.io/`.
    pub key: &'static str,
    /// What the value is.
    pub value: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

/// The annotations that are no settings.
pub const ANNOTATIONS: &[Annotation] = &[
    Annotation {
        key: "inject",
        value: "true|false",
        default: "as the namespace's label",
        help: "Whether Drey supervises this pod.",
    },
    Annotation {
        key: "role",
        value: "jobmanager|taskmanager",
        default: "by labels and command",
        help: "What Flink's process in this pod is.",
    },
    Annotation {
        key: "container",
        value: "NAME",
        default: "by name and command",
        help: "The container that Flink runs in.",
    },
    Annotation {
        key: "image",
        value: "IMAGE",
        default: "as installed",
        help: "Drey's image, one of those that the installation allows.",
    },
    Annotation {
        key: "run-as-user",
        value: "UID|none",
        default: "Flink's user, else 9999",
        help: "The user of Drey's containers, the same as Flink's: they share a socket and files. `none` leaves it to the \
               cluster (OpenShift).",
    },
    Annotation {
        key: "metrics",
        value: "true|false",
        default: "`true`",
        help: "Whether Drey serves Flink's metrics and its own, at `metrics-address`.",
    },
    Annotation {
        key: "mounts",
        value: "VOLUME=DIR,…",
        default: "",
        help: "Further volumes of the pod that the sidecar reads, such as a list of session jobs and their jars.",
    },
    Annotation {
        key: "cpu-request",
        value: "QUANTITY",
        default: "10m",
        help: "CPU that each of Drey's containers asks for.",
    },
    Annotation {
        key: "memory-request",
        value: "QUANTITY",
        default: "16Mi",
        help: "Memory that each of Drey's containers asks for.",
    },
    Annotation {
        key: "cpu-limit",
        value: "QUANTITY|none",
        default: "none",
        help: "Most CPU of each of Drey's containers.",
    },
    Annotation {
        key: "memory-limit",
        value: "QUANTITY|none",
        default: "32Mi",
        help: "Most memory of each of Drey's containers.",
    },
];

/// Settings that the injection gives itself, or that have another name here.
const NOT_FOR_PODS: &[&str] = &[
    "flink-container",
    "owner",
    "pod-name",
    "pod-namespace",
    "pointer",
    "socket",
    "state-dir",
];

/// Written by Drey, and no wish.
const WRITTEN: &[&str] = &[STATUS];

/// The settings that a pod may override, each as `drey.io/KEY`.
pub(super) fn settings() -> impl Iterator<Item = &'static Spec> {
    TABLE
        .iter()
        .filter(|spec| !NOT_FOR_PODS.contains(&spec.key))
}

/// The table of all annotations for the README, in Markdown.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from("| Annotation | Value | Default | Meaning |\n|---|---|---|---|\n");
    let mut row = |key: &str, value: &str, default: &str, help: &str| {
        let value = value.replace('|', "\\|");
        writeln!(
            table,
            "| `drey.io/{key}` | `{value}` | {default} | {help} |"
        )
        .expect("a String takes everything");
    };
    for own in ANNOTATIONS {
        row(own.key, own.value, own.default, own.help);
    }
    for spec in settings() {
        let default = match spec.key {
            "metrics-address" => "`0.0.0.0:9249`".to_owned(),
            "cluster-id" => "the label `app`".to_owned(),
            "shutdown-timeout" => "the pod's grace period, at least `2m`".to_owned(),
            _ => spec
                .default
                .map_or_else(String::new, |text| format!("`{text}`")),
        };
        row(spec.key, spec.value, &default, &spec.help());
    }
    table
}

/// Which user Drey's containers run as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum User {
    /// As Flink does.
    #[default]
    AsFlink,
    Uid(i64),
    /// Whatever the cluster assigns.
    Unset,
}

/// What the annotations of a pod ask for, checked.
#[derive(Debug, Default)]
pub(super) struct Wishes<'a> {
    pub(super) role: Option<Role>,
    pub(super) container: Option<&'a str>,
    pub(super) image: Option<&'a str>,
    pub(super) user: User,
    pub(super) metrics: Option<bool>,
    /// Volumes by name, and where the sidecar mounts them.
    pub(super) mounts: Vec<(&'a str, &'a str)>,
    pub(super) resources: Resources,
    /// The settings that are given, in the order of [`TABLE`].
    pub(super) settings: Vec<(&'static Spec, &'a str)>,
    /// All settings, those that are not given with their defaults.
    pub(super) values: Option<config::Settings>,
}

/// Requests and limits; `None` where nothing is said.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) cpu_request: Option<Quantity>,
    pub(super) memory_request: Option<Quantity>,
    /// `Some(None)` for none.
    pub(super) cpu_limit: Option<Option<Quantity>>,
    pub(super) memory_limit: Option<Option<Quantity>>,
}

impl Wishes<'_> {
    /// Whether a setting is given.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.setting(key).is_some()
    }

    /// What is given for a setting.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        let given = self.settings.iter().find(|(spec, _)| spec.key == key);
        given.map(|(_, text)| *text)
    }
}

/// Whether the pod asks to be injected; `None` when it does not say.
pub(super) fn inject(annotations: &BTreeMap<String, String>) -> Result<Option<bool>, Refused> {
    let value = annotations.get(INJECT);
    value.map(|value| truth("inject", value)).transpose()
}

fn truth(key: &str, value: &str) -> Result<bool, Refused> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(bad(
            key,
            &format!("{} is neither true nor false", quoted(other)),
            "write \"true\" or \"false\", in quotes",
        )),
    }
}

/// Reads all of them.
pub(super) fn read(annotations: &BTreeMap<String, String>) -> Result<Wishes<'_>, Refused> {
    let mut wishes = Wishes::default();
    for (name, value) in annotations {
        if let Some(key) = name.strip_prefix(PREFIX)
            && !WRITTEN.contains(&name.as_str())
        {
            take(&mut wishes, key, value)?;
        }
    }
    let position = |spec: &Spec| TABLE.iter().position(|known| known.key == spec.key);
    wishes.settings.sort_by_key(|(spec, _)| position(spec));
    let values = config::of_annotations(wishes.settings.iter().copied());
    let values = values.map_err(|errors| {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Refused::new(all.join("; and "))
    })?;
    wishes.values = Some(values);
    Ok(wishes)
}

fn take<'a>(wishes: &mut Wishes<'a>, key: &str, value: &'a str) -> Result<(), Refused> {
    let resources = &mut wishes.resources;
    match key {
        "inject" => {}
        "role" => wishes.role = Some(role(value)?),
        "container" => wishes.container = Some(value),
        "image" => wishes.image = Some(value),
        "run-as-user" => wishes.user = user(value)?,
        "metrics" => wishes.metrics = Some(truth(key, value)?),
        "mounts" => wishes.mounts = mounts(value)?,
        "cpu-request" => resources.cpu_request = Some(quantity(key, value)?),
        "memory-request" => resources.memory_request = Some(quantity(key, value)?),
        "cpu-limit" => resources.cpu_limit = Some(limit(key, value)?),
        "memory-limit" => resources.memory_limit = Some(limit(key, value)?),
        _ => match settings().find(|spec| spec.key == key) {
            Some(spec) => wishes.settings.push((spec, value)),
            None => return Err(unknown(key)),
        },
    }
    Ok(())
}

fn unknown(key: &str) -> Refused {
    let own = ANNOTATIONS.iter().map(|own| own.key);
    let known = own
        .chain(settings().map(|spec| spec.key))
        .map(str::to_owned);
    let remedy = match nearest(key, known) {
        Some(near) => format!("did you mean `{}`?", annotation(&near)),
        None => "take it out; Drey's README lists what there is".to_owned(),
    };
    let name = quoted(&annotation(key));
    Refused::new(format!("annotation {name} is not known; {remedy}"))
}

/// What is wrong with the value of an annotation, and the remedy.
pub(super) fn bad(key: &str, what: &str, remedy: &str) -> Refused {
    Refused::new(format!(
        "annotation `{}`: {what}; {remedy}",
        annotation(key)
    ))
}

fn role(value: &str) -> Result<Role, Refused> {
    match value {
        "jobmanager" => Ok(Role::JobManager),
        "taskmanager" => Ok(Role::TaskManager),
        _ => Err(bad(
            "role",
            &format!("{} is not known", quoted(value)),
            "use one of `jobmanager`, `taskmanager`",
        )),
    }
}

fn user(value: &str) -> Result<User, Refused> {
    if value == "none" {
        return Ok(User::Unset);
    }
    match value.parse::<u32>() {
        Ok(uid) if i32::try_from(uid).is_ok() => Ok(User::Uid(i64::from(uid))),
        _ => Err(bad(
            "run-as-user",
            &format!("{} is not a user id", quoted(value)),
            "give the number that Flink runs as, such as `9999`, or `none`",
        )),
    }
}

fn limit(key: &str, value: &str) -> Result<Option<Quantity>, Refused> {
    match value {
        "none" => Ok(None),
        _ => quantity(key, value).map(Some),
    }
}

/// A quantity as Kubernetes writes them, above zero. Only the usual suffixes are taken.
fn quantity(key: &str, value: &str) -> Result<Quantity, Refused> {
    const SUFFIXES: &[&str] = &["", "m", "k", "M", "G", "Ki", "Mi", "Gi"];
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number = digits.len() <= 12
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
        && digits.parse::<f64>().is_ok_and(|number| number > 0.0);
    if number && SUFFIXES.contains(&&value[digits.len()..]) {
        return Ok(Quantity(value.to_owned()));
    }
    let example = if key.starts_with("cpu") {
        "100m"
    } else {
        "64Mi"
    };
    let what = format!("{} is not a quantity above zero", quoted(value));
    Err(bad(key, &what, &format!("give one such as `{example}`")))
}

fn mounts(value: &str) -> Result<Vec<(&str, &str)>, Refused> {
    let one = |part: &'_ str| {
        let what = format!("{} does not name a volume and a directory", quoted(part));
        bad(
            "mounts",
            &what,
            "write `VOLUME=/DIRECTORY`, with commas between several",
        )
    };
    let parts = value.split(',').map(str::trim);
    parts
        .map(|part| match part.split_once('=') {
            Some((volume, directory)) if !volume.is_empty() && is_directory(directory) => {
                Ok((volume, directory))
            }
            _ => Err(one(part)),
        })
        .collect()
}

/// An absolute path that Kubernetes takes as one to mount at.
fn is_directory(path: &str) -> bool {
    path.len() > 1
        && path.len() <= 256
        && path.starts_with('/')
        && !path.contains(':')
        && !path.split('/').any(|part| part == "..")
        && !path.chars().any(char::is_control)
}
