//! Why a JobManager's pod or container goes, and so what has to be done before it does.

use serde::{Deserialize, Serialize};

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
