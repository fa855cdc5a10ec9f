//! Injection: what turns a Flink pod into one that Drey supervises.
//!
//! One pure function, [`inject`], behind the webhook and behind `drey inject`; [`uninject`] takes back exactly what it added.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

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
}

/// What Flink's process in a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Gets a sidecar, and a launcher in front of Flink.
    JobManager,
    /// Gets a launcher.
    TaskManager,
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

/// The pod with Drey in it.
///
/// Injecting twice equals injecting once, also over the work of an older version.
///
/// # Errors
/// When an annotation is unknown or bad, or the pod cannot be understood.
pub fn inject(_pod: &Pod, _settings: &Settings, _facts: &Facts) -> Result<Outcome, Refused> {
    Ok(Outcome::Skipped(Skipped {
        reason: "NotOptedIn",
        message: String::new(),
        surprising: false,
    }))
}

/// The pod as it was before its injection.
///
/// # Errors
/// When what was added cannot be told from its [`STATUS`].
pub fn uninject(pod: &Pod) -> Result<Pod, Refused> {
    Ok(pod.clone())
}
