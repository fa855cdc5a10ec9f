//! What every turn of [`decide`](super::decide) shares: what is known, and the times that follow from it.

use std::time::Duration;

use jiff::Timestamp;

use super::{Action, Ask, NewPoint, Observation, Outcome, Policy, Process, Verified, is_stop};
use crate::domain::budget::{after, until};
use crate::domain::pointer::{Intent, JobEntry, PointKind};
use crate::domain::savepoint::{FailureCause, FailureClass, SavepointKind};

/// No intent can be stored, so no request may be sent.
pub(super) fn without_pointer(policy: &Policy, seen: &Observation<'_>) -> Action {
    const WHY: &str = "the pointer cannot be read or written";
    match seen.ask {
        Some(ask) if after(seen.now, policy.reserve) < ask.deadline => {
            Action::Wait(after(seen.now, policy.retry.first), WHY)
        }
        None if seen.process == Process::Running => Action::Wait(after(seen.now, policy.idle), WHY),
        _ => Action::Settle(Outcome::Nothing(WHY.to_owned())),
    }
}

/// What is known in one turn, with the entry at hand.
pub(super) struct Turn<'a> {
    pub(super) policy: &'a Policy,
    pub(super) seen: &'a Observation<'a>,
    pub(super) entry: &'a JobEntry,
}

/// Times.
impl Turn<'_> {
    /// Before an end, what is left until the deadline is kept for the fallback and for Flink's own end.
    pub(super) fn overdue(&self, ask: &Ask) -> bool {
        self.too_late(ask, self.seen.now)
    }

    pub(super) fn too_late(&self, ask: &Ask, at: Timestamp) -> bool {
        let reserve = if ask.must_end {
            self.policy.reserve
        } else {
            Duration::ZERO
        };
        after(at, reserve) >= ask.deadline
    }

    pub(super) fn next_attempt(&self, attempts: u32, last: Timestamp) -> Timestamp {
        after(last, self.policy.retry.wait(attempts))
    }

    /// A fiftieth of what it took so far, 5 to 50 ms: a short savepoint is noticed at once, a long one not hammered at.
    pub(super) fn poll(&self, intent: &Intent) -> Duration {
        let elapsed = until(intent.stored, self.seen.now);
        (elapsed / 50).clamp(Duration::from_millis(5), Duration::from_millis(50))
    }

    pub(super) fn retry(&self, why: &'static str) -> Action {
        Action::Wait(after(self.seen.now, self.policy.retry.first), why)
    }

    pub(super) fn idle(&self, why: &'static str) -> Action {
        Action::Wait(after(self.seen.now, self.policy.idle), why)
    }
}

pub(super) fn record(verified: &Verified, kind: PointKind, close_intent: bool) -> Action {
    Action::Record(NewPoint {
        path: verified.path.clone(),
        kind,
        verified: Some(verified.clone()),
        close_intent,
    })
}

pub(super) fn cause(class: FailureClass, root: &str) -> FailureCause {
    FailureCause {
        class,
        root: root.to_owned(),
        savepoint: None,
    }
}

pub(super) fn point_kind(kind: SavepointKind) -> PointKind {
    if is_stop(kind) {
        PointKind::Stop
    } else {
        PointKind::Savepoint
    }
}
