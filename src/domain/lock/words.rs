//! What a pod that waits says: for which pod, and what must happen.

use super::{
    Holder, Life, LockPolicy, LockView, PodState, Waiter, deadline, gone_at, handed_over, state,
};

/// Why the lock is not free.
pub(super) fn of_holder(policy: &LockPolicy, view: &LockView<'_>, holder: &Holder) -> String {
    let name = &holder.pod.name;
    let (silent_since, deleted) = match state(view, &holder.pod.uid) {
        PodState::Alive(Life { silent_since, .. }) => (*silent_since, false),
        PodState::Deleted { silent_since } => (*silent_since, true),
        PodState::Unknown { silent_since: None } => {
            return format!(
                "pod {name} holds the lock, and cannot be looked at: the API server is away, or the right to read pods \
                 is missing"
            );
        }
        PodState::Unknown { silent_since } => (*silent_since, false),
        PodState::JobManagerEnded | PodState::NodeGone => return format!("pod {name} is gone"),
    };
    match (silent_since, deleted, deadline(view, holder)) {
        (None, false, None) => of_running(view, holder),
        (None, false, Some(by)) => {
            format!("pod {name} was told to go, and will be gone by {by}")
        }
        (None, true, _) => format!(
            "pod {name} is deleted, but its IP {} answers or was not probed yet: its JobManager may still run",
            holder.pod.ip.as_deref().unwrap_or("(unknown)")
        ),
        (Some(since), deleted, by) => {
            let what = match by {
                _ if deleted => "is deleted".to_owned(),
                Some(by) => format!("has to be gone by {by}"),
                None => "was not told to go".to_owned(),
            };
            let then = gone_at(policy, view, holder).map_or_else(
                || remedy(policy, name),
                |at| format!("if it stays silent the lock passes on at {at}"),
            );
            format!("pod {name} {what}, and its IP has been silent since {since}: {then}")
        }
    }
}

fn remedy(policy: &LockPolicy, name: &str) -> String {
    let never = if policy.break_after.is_none() {
        "lock-break-after is never, so "
    } else {
        ""
    };
    format!(
        "{never}once it is certain that it does not run any more, delete its Node or `kubectl delete pod {name} --force`"
    )
}

fn of_running(view: &LockView<'_>, holder: &Holder) -> String {
    let name = &holder.pod.name;
    if handed_over(view) {
        return format!(
            "the job was handed over to pod {name}, and is taken back if that one fails"
        );
    }
    if holder.pod.template == view.me.template {
        let alone = if view.high_availability {
            "is about to hand the job over to another pod template"
        } else {
            "without high availability only one may: scale to 1"
        };
        return format!("pod {name} of the same pod template runs the JobManager, and {alone}");
    }
    if view.wanted == Some(holder.pod.template.as_str()) {
        return format!(
            "pod {name} runs the JobManager, and its pod template is the one that the owner wants now"
        );
    }
    format!("pod {name} runs the JobManager: it hands the job over once it has its savepoint")
}

/// Why a free lock is not this pod's.
pub(super) fn of_waiter(view: &LockView<'_>, first: &Waiter) -> String {
    let why = if handed_over(view) {
        "the job was handed over to it, or it waits longer"
    } else if first.pod.template == view.me.template {
        "it is of the same pod template and waits longer"
    } else {
        "its pod template is newer"
    };
    format!(
        "the lock is free, and pod {} takes it: {why}",
        first.pod.name
    )
}
