//! How long a TaskManager's container stays after it was told to go.
//!
//! A savepoint needs every task, and pods that are deleted together are told within a millisecond. So a TaskManager stays
//! until its supervisor has answered, its JobManager is gone, or its own time is spent. It never stays into the next
//! JobManager's life, which would count on its slots and then lose them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::budget::after;
use super::lock::{Holder, Life, PodRef, PodState};
use super::pointer::{APPLICATION, RunId};
use super::pointer_map::Document;

/// What a TaskManager that was told to go knows.
#[derive(Debug, Clone)]
pub struct HoldView<'a> {
    /// The time.
    pub now: Timestamp,
    /// When it was told to go.
    pub told_at: Timestamp,
    /// When its JVM has to be told: the end of its grace, less what the JVM may need.
    pub deadline: Timestamp,
    /// The pointer's ConfigMap.
    pub map: MapSight<'a>,
    /// What is known of the JobManagers' pods, by UID.
    pub pods: &'a BTreeMap<String, PodState>,
    /// Its request stands in the ConfigMap.
    pub requested: bool,
    /// How long it stays while it can see nothing at all.
    pub blind_for: Duration,
}

/// What the pointer's ConfigMap shows to a TaskManager.
#[derive(Debug, Clone, Copy)]
pub enum MapSight<'a> {
    /// It was read.
    Seen {
        /// This request was answered; an answer to one of an earlier life of the container is none.
        answered: bool,
        /// The pods that hold the lock.
        holders: &'a [Holder],
    },
    /// It is missing, or could not be read or written since then.
    Unreachable {
        /// The first failed attempt, or when it was told.
        since: Timestamp,
    },
}

/// What a TaskManager that was told to go does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldAction {
    /// To write its request, and to look again.
    Request,
    /// To wait for an event, at most until then. Why, for people.
    Wait(Timestamp, String),
    /// To pass SIGTERM on to the JVM. Why, for people.
    Go(String),
}

/// What a TaskManager that was told to go does next.
///
/// **Clock skew.** A holder counts as the next JobManager if it took the lock, or its container was started, after this
/// TaskManager was told to go; those times are another machine's. A clock behind by `s` lets a TaskManager go at once whose
/// JobManager started within the last `s`, a clock ahead by `s` lets it stay for a JobManager that comes within `s`, at most
/// until its deadline.
#[must_use]
pub fn decide_hold(view: &HoldView<'_>) -> HoldAction {
    let go = |why: &str| HoldAction::Go(why.to_owned());
    if view.now >= view.deadline {
        return go("the grace period is spent");
    }
    let (answered, holders) = match view.map {
        MapSight::Seen { answered, holders } => (answered, holders),
        MapSight::Unreachable { since } => return unseen(view, since),
    };
    if view.requested && answered {
        return go("the supervisor has answered");
    }
    let Some(holder) = holders.iter().find(|holder| awaited(view, holder)) else {
        return go("no JobManager runs that a savepoint could come from");
    };
    if !view.requested {
        return HoldAction::Request;
    }
    let name = &holder.pod.name;
    HoldAction::Wait(
        view.deadline,
        format!("JobManager pod {name} may need this TaskManager for a savepoint"),
    )
}

/// The JobManager that ran when the TaskManager was told to go runs still.
fn awaited(view: &HoldView<'_>, holder: &Holder) -> bool {
    holder.since <= view.told_at
        && match view.pods.get(&holder.pod.uid) {
            Some(PodState::Alive(life)) => runs_since_before(life, view.told_at),
            None | Some(PodState::Unknown { .. }) => true,
            Some(PodState::JobManagerEnded | PodState::Deleted { .. } | PodState::NodeGone) => {
                false
            }
        }
}

/// The run of the application and the pod that has it, where TaskManagers do not find its JobManager by themselves: without
/// high availability, with a job id of Drey's. In session mode there may be jobs of which the pointer knows nothing.
///
/// A JobManager that is started again in its pod is another one as well: it knows no TaskManager, and they do not notice, since
/// without high availability all of them have the same leader id (`HighAvailabilityServices.DEFAULT_LEADER_ID`).
#[must_use]
pub fn followed(document: &Document) -> Option<(&PodRef, &RunId)> {
    let [holder] = document.lock.holders.as_slice() else {
        return None;
    };
    let entry = document.pointer.good()?.jobs.get(APPLICATION)?;
    let run = entry.run.as_ref()?;
    run.job_id.as_ref()?;
    Some((&holder.pod, &run.id))
}

fn runs_since_before(life: &Life, told_at: Timestamp) -> bool {
    !life.restarting && life.started.is_none_or(|started| started <= told_at)
}

/// Without the ConfigMap, a JobManager that is seen to be on its way out may be at its savepoint; else it is a matter of
/// seconds.
fn unseen(view: &HoldView<'_>, since: Timestamp) -> HoldAction {
    let leaving = |state: &PodState| {
        matches!(state, PodState::Alive(life)
            if life.gone_by.is_some() && runs_since_before(life, view.told_at))
    };
    if view.pods.values().any(leaving) {
        return HoldAction::Wait(
            view.deadline,
            "the JobManager's pod goes as well, and may need this TaskManager for its savepoint"
                .to_owned(),
        );
    }
    let gone = |state: &PodState| {
        matches!(
            state,
            PodState::JobManagerEnded | PodState::Deleted { .. } | PodState::NodeGone
        )
    };
    if !view.pods.is_empty() && view.pods.values().all(gone) {
        return HoldAction::Go("no JobManager runs that a savepoint could come from".to_owned());
    }
    let limit = after(since.max(view.told_at), view.blind_for).min(view.deadline);
    if view.now >= limit {
        return HoldAction::Go("the pointer's ConfigMap cannot be reached".to_owned());
    }
    HoldAction::Wait(
        limit,
        "the pointer's ConfigMap cannot be reached yet".to_owned(),
    )
}

#[cfg(test)]
mod tests;
