//! Why a JobManager's pod or container goes, and so what has to be done before it does.
//!
//! The kubelet runs the preStop hooks of all containers of a pod at once, and only the JobManager's when it restarts that
//! container alone. So two hooks, or a `deletionTimestamp`, say that the pod goes. Why it goes is looked up beside that,
//! and whatever is not known counts as "a pod like it takes over".

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::budget::after;

/// Why it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Scaled to 0, deleted with its owner or its namespace: the job is not coming back by itself.
    Final,
    /// The owner's pod template has changed: another pod of the new template takes over.
    Rollout,
    /// Deleted, evicted, drained, preempted, its node shut down, or nobody can say: a pod like it takes over.
    PodMoves,
    /// Only the container is restarted (liveness): the pod stays.
    ContainerRestarts,
}

/// How long after the first sign the other hook of the same pod, or its `deletionTimestamp`, may come.
pub const HOOKS_APART: Duration = Duration::from_secs(1);

/// What is known of the end of a JobManager's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CauseView {
    /// The time.
    pub now: Timestamp,
    /// When the first hook or signal came.
    pub first_sign: Timestamp,
    /// The preStop hook of the JobManager's container has run, or SIGTERM has reached its launcher.
    pub job_manager_told: bool,
    /// The preStop hook of the sidecar has run, or SIGTERM has reached it.
    pub sidecar_told: bool,
    /// Whether the own pod has a `deletionTimestamp`. The node's own shutdown sets none.
    pub deletion: Known,
    /// What the owner wants now.
    pub owner: Owner,
    /// The own namespace is being deleted.
    pub namespace_terminating: bool,
    /// A person has ordered the job to suspend.
    pub suspended: bool,
}

/// A fact that has to be looked up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Known {
    /// It is so.
    Yes,
    /// It was not so when it was looked up last.
    No,
    /// It could not be looked up, or not yet.
    #[default]
    Unknown,
}

/// What the owner of the pod wants now: its Deployment, StatefulSet or Job. A ReplicaSet belongs to a Deployment, and is
/// scaled to 0 by a rollout, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owner {
    /// It could not be looked up, or not yet; or there is none.
    #[default]
    Unknown,
    /// Pods like this one.
    SamePods,
    /// Pods of another template.
    NewTemplate,
    /// No pods: scaled to 0, or a Job that is suspended.
    NoPods,
    /// It is gone (its UID is), or being deleted.
    Deleted,
}

/// Whether the cause can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is this one. What becomes known later may make more of it: [`Cause::ContainerRestarts`] < [`Cause::PodMoves`]
    /// < [`Cause::Rollout`] < [`Cause::Final`].
    Cause(Cause),
    /// One hook alone was seen, and the other one may still come: to be asked again at this time or with the next sign.
    Undecided {
        /// At the latest then.
        until: Timestamp,
    },
}

/// Why the JobManager's container goes.
#[must_use]
pub fn judge(view: &CauseView) -> Verdict {
    if view.suspended || view.namespace_terminating {
        return Verdict::Cause(Cause::Final);
    }
    let both = view.job_manager_told && view.sidecar_told;
    if both || view.deletion == Known::Yes {
        return Verdict::Cause(of_pod(view.owner));
    }
    let until = after(view.first_sign, HOOKS_APART);
    if view.now < until {
        return Verdict::Undecided { until };
    }
    Verdict::Cause(match view.deletion {
        Known::No => Cause::ContainerRestarts,
        Known::Yes | Known::Unknown => of_pod(view.owner),
    })
}

fn of_pod(owner: Owner) -> Cause {
    match owner {
        Owner::NoPods | Owner::Deleted => Cause::Final,
        Owner::NewTemplate => Cause::Rollout,
        Owner::SamePods | Owner::Unknown => Cause::PodMoves,
    }
}

/// What the choice of [`Means`] depends on, beside the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Kubernetes HA is on: another JobManager resumes the same job from its newest checkpoint.
    pub high_availability: bool,
    /// Flink takes checkpoints on demand (`POST /jobs/:id/checkpoints`, since 1.17).
    pub checkpoint_on_demand: bool,
    /// The JobManager of this pod leads. Always so without high availability.
    pub leader: bool,
    /// The job is over, or there is none.
    pub job_over: bool,
}

/// What is done for a job before its JobManager goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// A stop-with-savepoint.
    Stop,
    /// A checkpoint: the job goes on in another JobManager.
    Checkpoint,
    /// Nothing: the next start resumes from the newest restore point.
    Nothing,
}

/// What is done for the job.
#[must_use]
pub fn means(cause: Cause, setting: Setting) -> Means {
    if setting.job_over || !setting.leader {
        return Means::Nothing;
    }
    match cause {
        Cause::ContainerRestarts => Means::Nothing,
        Cause::PodMoves if setting.high_availability && setting.checkpoint_on_demand => {
            Means::Checkpoint
        }
        // With high availability a changed configuration, and the end of the job, need the stop: it removes Flink's HA
        // metadata, from which the old job would come back.
        Cause::PodMoves | Cause::Rollout | Cause::Final => Means::Stop,
    }
}

#[cfg(test)]
mod tests;
