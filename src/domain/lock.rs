//! The lock between pods: which of them may run the JobManager of a cluster id.
//!
//! It is held by pod UID, never by time, so there is nothing to renew. It stands in the pointer's ConfigMap, and every write
//! of it has that object's resourceVersion as its precondition: of two pods that want it at once, one has to look again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who may run the JobManager, and who waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lock {
    /// The pods that may: one; with Kubernetes HA all of one pod template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// The pods that wait, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiters: Vec<Waiter>,
}

/// A pod of a JobManager.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PodRef {
    /// `metadata.uid`: a name is used again, a UID never.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// `status.podIP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// `spec.nodeName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What tells pods of one template from those of another: the label `pod-template-hash` or
    /// `controller-revision-hash`; empty for a bare pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template: String,
}

/// A pod that may run the JobManager.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Holder {
    /// The pod.
    pub pod: PodRef,
    /// When it took the lock.
    pub since: Timestamp,
    /// Until when it will be gone, once it was told to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// A pod that waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Waiter {
    /// The pod.
    pub pod: PodRef,
    /// Since when.
    pub since: Timestamp,
    /// It has handed the job over to a pod of another template, and runs it again only when that one fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handed_over: bool,
}
