//! Injection: what turns a Flink pod into one that Drey supervises.
//!
//! One pure function, [`inject`], behind the webhook and behind `drey inject`; [`uninject`] takes back exactly what it added.

mod annotations;
mod confine;
mod env;
mod flink;
mod hook;
mod metrics;
mod objects;
pub mod offline;
mod parts;
mod patch;
mod status;
mod storage;
mod text;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};

pub use annotations::{ANNOTATIONS, Annotation, markdown_table};
pub(crate) use flink::{flink_containers, native_role, role_of, starts_of};
pub(crate) use objects::configuration_map;
pub(crate) use parts::SIDECAR;
pub use patch::patch;

use crate::config::quoted;
use annotations::Wishes;
use metrics::Metrics;
use parts::{Grace, Plan};
use status::{Status, Wrapped};

/// Opts a pod in (`"true"`) or out (`"false"`).
pub const INJECT: &str = "drey.io/inject";

/// On an injected pod: the version that injected it and what was added, as JSON.
pub const STATUS: &str = "drey.io/status";

/// What the installation decides; a pod's own `drey.io/…` annotations go above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Drey's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; the kubelet's default if not given.
    pub image_pull_policy: Option<String>,
    /// The images that a pod may name instead: a name without tag and digest, or with a `*` at its end.
    pub allowed_images: Vec<String>,
    /// Whether the cluster has native sidecars (Kubernetes 1.29 on by default).
    pub native_sidecar: bool,
    /// Whether a Flink pod without the annotation is injected: its namespace has opted in.
    pub opted_in: bool,
}

/// What is known of a pod from elsewhere, for warnings. Nothing of it is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Flink's configuration, flat, as the pod's ConfigMap has it; `FLINK_PROPERTIES` of the pod goes above it.
    pub flink_configuration: Option<BTreeMap<String, String>>,
    /// How many pods there are of this one's template.
    pub replicas: Option<i32>,
    /// What the pod's service account lacks, in words such as `patch configmaps/drey-orders`.
    pub missing_rights: Vec<String>,
    /// The FlinkDeployment of the Flink Kubernetes Operator that the pod's owners belong to.
    pub flink_deployment: Option<String>,
    /// The pod is a template of Flink's native mode: for which process. Flink adds image, command and labels to it.
    pub template: Option<Role>,
}

/// What Flink's process in a pod is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Gets a sidecar, and a launcher in front of Flink.
    #[default]
    JobManager,
    /// Gets a launcher.
    TaskManager,
}

impl Role {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::JobManager => "JobManager",
            Self::TaskManager => "TaskManager",
        }
    }
}

/// What came of a pod that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The pod to run instead.
    Injected(Box<Injected>),
    /// The pod stays as it is: it did not opt in, opted out, or something else supervises it.
    Skipped(Skipped),
}

/// An injected pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Injected {
    /// The whole pod; equal to the one given if that was injected already.
    pub pod: Pod,
    /// What Flink's process in it is.
    pub role: Role,
    /// What defeats Drey in it, a sentence each with its remedy.
    pub warnings: Vec<String>,
}

/// A pod that was left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// In CamelCase, such as `NotOptedIn`, for metrics and events: one of few.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Whether somebody who asked for the injection has to be told.
    pub surprising: bool,
}

/// Why a pod must not be created as it is: what is wrong, where, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// For people, one line.
    pub message: String,
}

impl Refused {
    fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { message }
    }
}

/// The pod with Drey in it.
///
/// Injecting twice equals injecting once, also over the work of an older version.
///
/// # Errors
/// When an annotation is unknown or bad, or the pod cannot be understood.
pub fn inject(pod: &Pod, settings: &Settings, facts: &Facts) -> Result<Outcome, Refused> {
    let nothing = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&nothing);
    let asked = annotations::inject(annotations)?;
    if let Some(skipped) = unasked(pod, asked, settings) {
        return Ok(Outcome::Skipped(skipped));
    }
    if let Some(name) = operators(pod, facts) {
        return Ok(Outcome::Skipped(by_operator(&name)));
    }
    if let Some(role) = status::by_newer(pod) {
        return Ok(Outcome::Injected(Box::new(Injected {
            pod: pod.clone(),
            role,
            warnings: Vec::new(),
        })));
    }
    let status = Status::of(pod)?;
    if status.is_none() && is_by_hand(pod) {
        return Ok(Outcome::Skipped(by_hand()));
    }
    let taken = status
        .as_ref()
        .map(|status| status.take_out(pod, Wrapped::Keep));
    let original = taken.as_ref().map_or(pod, |taken| &taken.pod);
    let wishes = annotations::read(annotations)?;
    let Some(mut injected) = anew(original, &wishes, settings, facts)? else {
        return nothing_found(asked);
    };
    if let Some(status) = &status {
        status.hand_on(pod, &mut injected.pod)?;
    }
    let same =
        taken.is_some_and(|taken| taken.complete) && status_text(&injected.pod) == status_text(pod);
    Ok(Outcome::Injected(Box::new(match same {
        // Others may have added to what Drey added.
        true => Injected {
            pod: pod.clone(),
            ..injected
        },
        false => injected,
    })))
}

/// The pod as it was before its injection.
///
/// # Errors
/// When what was added cannot be told from its [`STATUS`], or Flink's command still needs it.
pub fn uninject(pod: &Pod) -> Result<Pod, Refused> {
    let Some(status) = Status::of(pod)? else {
        return Ok(pod.clone());
    };
    let taken = status.take_out(pod, Wrapped::TakeOut).pod;
    status.check_taken(&taken)?;
    Ok(taken)
}

fn anew(
    pod: &Pod,
    wishes: &Wishes<'_>,
    settings: &Settings,
    facts: &Facts,
) -> Result<Option<Injected>, Refused> {
    let Some(spec) = &pod.spec else {
        return Ok(None);
    };
    let Some(flink) = flink::find(pod, wishes, facts)? else {
        return Ok(None);
    };
    let plan = Plan {
        pod,
        spec,
        flink: &flink,
        wishes,
        settings,
        image: image(wishes, settings)?,
        grace: Grace::of(spec, wishes),
        metrics: Metrics::of(spec, flink.container, wishes),
    };
    Ok(Some(Injected {
        pod: plan.carry_out()?,
        role: flink.role,
        warnings: warnings::of(&plan, facts),
    }))
}

fn image<'a>(wishes: &Wishes<'a>, settings: &'a Settings) -> Result<&'a str, Refused> {
    let Some(image) = wishes.image else {
        return Ok(&settings.image);
    };
    let mut allowed = settings.allowed_images.iter();
    if image == settings.image || allowed.any(|pattern| allows(pattern, image)) {
        return Ok(image);
    }
    let what = format!("image {} is not allowed here", quoted(image));
    let known = std::iter::once(&settings.image).chain(&settings.allowed_images);
    let known: Vec<&str> = known.map(String::as_str).collect();
    let remedy = format!(
        "use one of {}, or have it added to the installation's list",
        quoted(&known.join(", "))
    );
    Err(annotations::bad("image", &what, &remedy))
}

/// A name without tag and digest stands for all of its tags, one with `*` at its end for all that begin so.
fn allows(pattern: &str, image: &str) -> bool {
    if image.is_empty() || image.contains(char::is_whitespace) {
        return false;
    }
    match pattern.strip_suffix('*') {
        Some(start) => image.starts_with(start),
        None => match image.strip_prefix(pattern) {
            Some(rest) => rest.is_empty() || rest.starts_with([':', '@']) && !rest.contains('/'),
            None => false,
        },
    }
}

fn status_text(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.as_ref()?.get(STATUS)
}

fn unasked(pod: &Pod, asked: Option<bool>, settings: &Settings) -> Option<Skipped> {
    let injected = status_text(pod).is_some();
    match asked {
        Some(false) if injected => Some(Skipped {
            reason: "OptedOut",
            message: format!(
                "the pod has `{INJECT}: \"false\"`, but was injected before; `drey uninject` takes Drey out"
            ),
            surprising: true,
        }),
        Some(false) => Some(Skipped::quietly(
            "OptedOut",
            format!("the pod has `{INJECT}: \"false\"`"),
        )),
        None if !settings.opted_in => Some(Skipped::quietly(
            "NotOptedIn",
            format!("the pod has no annotation `{INJECT}: \"true\"`"),
        )),
        _ => None,
    }
}

impl Skipped {
    fn quietly(reason: &'static str, message: String) -> Self {
        Self {
            reason,
            message,
            surprising: false,
        }
    }
}

fn nothing_found(asked: Option<bool>) -> Result<Outcome, Refused> {
    if asked == Some(true) {
        return Err(Refused::new(
            "no container of the pod looks like Flink's; name it by the annotation `drey.io/container`, and what it is by \
             `drey.io/role` (jobmanager or taskmanager)",
        ));
    }
    let message = "no container of the pod looks like Flink's".to_owned();
    Ok(Outcome::Skipped(Skipped::quietly("NotFlink", message)))
}

/// The FlinkDeployment that a pod is of. The operator marks the JobManager's pods with its generation
/// (`FlinkUtils.CR_GENERATION_LABEL`), and owns what it makes in standalone mode.
fn operators(pod: &Pod, facts: &Facts) -> Option<String> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.kind == "FlinkDeployment");
    let mut annotations = pod.metadata.annotations.iter().flatten();
    let marked = annotations.any(|(name, _)| name.starts_with("flinkdeployment.flink.apache.org/"));
    let known = facts.flink_deployment.clone();
    known
        .or_else(|| owner.map(|owner| owner.name.clone()))
        .or_else(|| marked.then(String::new))
}

fn by_operator(name: &str) -> Skipped {
    let what = match name.is_empty() {
        true => "a FlinkDeployment".to_owned(),
        false => format!("FlinkDeployment {}", quoted(name)),
    };
    Skipped {
        reason: "FlinkDeployment",
        message: format!(
            "the pod belongs to {what}, whose operator takes its savepoints and restarts it: two supervisors would get in each \
             other's way, so Drey leaves it alone; take the annotation `{INJECT}` out, or run the job without the operator"
        ),
        surprising: true,
    }
}

/// Somebody has written Drey's containers into the pod, as in `deploy/`.
fn is_by_hand(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let runs = |container: &Container, name: &str, verb: &str| {
        let mut words = container.command.iter().chain(&container.args).flatten();
        container.name == name && words.any(|word| word == verb)
    };
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.any(|container| {
        runs(container, parts::SIDECAR, "sidecar") || runs(container, parts::INSTALL, "install")
    })
}

fn by_hand() -> Skipped {
    let message = "Drey's containers were written into the pod by hand".to_owned();
    Skipped::quietly("ByHand", message)
}
