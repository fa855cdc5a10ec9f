//! An intent is open: how it is brought to its end.

use super::turn::{Turn, cause, point_kind, record};
use super::{Action, NewPoint, Outcome, Process, Sighting, Verdict, is_stop, ready};
use crate::domain::budget::after;
use crate::domain::pointer::{Intent, PointKind};
use crate::domain::savepoint::{FailureClass, OperationStatus};

/// An intent is open.
impl Turn<'_> {
    /// Brings the open intent to its end.
    pub(super) fn resume(&self, intent: &Intent) -> Action {
        match &self.seen.operation {
            Some(Sighting::Seen(OperationStatus::Completed { location })) => {
                self.conclude(location, point_kind(intent.kind))
            }
            Some(Sighting::Seen(OperationStatus::Failed(cause))) => match &cause.savepoint {
                // The savepoint was written, only the stop failed: Flink itself says to restore from exactly it.
                Some(path) => self.conclude(path, PointKind::Stop),
                None => Action::Abandon(cause.clone()),
            },
            Some(Sighting::Seen(OperationStatus::InProgress)) => self.in_progress(intent),
            Some(Sighting::Seen(OperationStatus::Unknown) | Sighting::Absent) => {
                self.unknown(intent)
            }
            Some(Sighting::Unreachable) | None => self.unanswered(intent),
        }
    }

    pub(super) fn in_progress(&self, intent: &Intent) -> Action {
        match self.seen.ask {
            Some(ask) if self.overdue(ask) => {
                self.give_up(ask, "the savepoint was not complete in time")
            }
            _ => Action::Wait(
                after(self.seen.now, self.poll(intent)),
                "savepoint in progress",
            ),
        }
    }

    /// Flink does not know the trigger id: it never came, or the JobManager that knew it is gone.
    pub(super) fn unknown(&self, intent: &Intent) -> Action {
        match self.seen.job {
            Sighting::Seen(job) if job.status.is_globally_terminal() => self.search(intent),
            Sighting::Seen(job) if ready(job) => self.send(),
            _ => self.unanswered(intent),
        }
    }

    /// The request is to be sent, for the first time or once more: with the same trigger id that makes no difference.
    pub(super) fn send(&self) -> Action {
        const TOO_LATE: &str = "Flink did not accept the request in time";
        let too_late = || Action::Abandon(cause(FailureClass::Unavailable, TOO_LATE));
        match self.seen.ask {
            // Who still waits for it ends at the deadline; after that nobody may be surprised by a late stop.
            Some(ask) if self.overdue(ask) && ask.must_end => return self.fall_back(TOO_LATE),
            Some(ask) if self.overdue(ask) => return too_late(),
            None if self.expired() => return too_late(),
            _ => {}
        }
        match &self.seen.evidence.failure {
            Some((cause, ..)) if !cause.class.is_retryable() => Action::Abandon(cause.clone()),
            Some((_, attempts, at)) if self.seen.now < self.next_attempt(*attempts, *at) => {
                Action::Wait(self.next_attempt(*attempts, *at), "the last attempt failed")
            }
            _ => Action::Send,
        }
    }

    pub(super) fn expired(&self) -> bool {
        let deadline = self.entry.intent.as_ref().map(|intent| intent.deadline);
        deadline.is_some_and(|deadline| self.seen.now >= deadline)
    }

    /// Nobody can be asked how the operation stands.
    pub(super) fn unanswered(&self, intent: &Intent) -> Action {
        if self.seen.process == Process::Gone {
            return self.search(intent);
        }
        match self.seen.ask {
            Some(ask) if self.overdue(ask) => self.give_up(ask, "Flink did not answer in time"),
            None if !is_stop(intent.kind) && self.expired() => Action::Abandon(cause(
                FailureClass::Unavailable,
                "Flink did not answer in time",
            )),
            _ => self.retry("Flink does not answer"),
        }
    }

    /// The job or its JobManager is gone: only storage still knows whether the savepoint was completed.
    pub(super) fn search(&self, intent: &Intent) -> Action {
        match &self.seen.evidence.late {
            None => Action::SearchIntent,
            Some(Sighting::Seen(path)) => self.conclude(path, point_kind(intent.kind)),
            Some(Sighting::Absent) => Action::Abandon(cause(
                FailureClass::JobGone,
                "the job was gone before its savepoint was complete",
            )),
            Some(Sighting::Unreachable) => self.storage_away(),
        }
    }

    /// The storage cannot be looked at. The intent stays, so the next start looks again.
    pub(super) fn storage_away(&self) -> Action {
        let over = match self.seen.ask {
            Some(ask) => self.overdue(ask),
            None => self.seen.process == Process::Gone,
        };
        if over {
            return Action::Settle(Outcome::Nothing("the storage did not answer".to_owned()));
        }
        Action::SearchIntent
    }

    /// Flink says that a savepoint is complete: it counts once it was read back.
    pub(super) fn conclude(&self, path: &str, kind: PointKind) -> Action {
        let verdict = match &self.seen.evidence.verdict {
            Some((known, verdict, again)) if known == path => (verdict, *again),
            _ => return Action::Verify(path.to_owned()),
        };
        match verdict {
            (Verdict::Good(verified), _) => record(verified, kind, true),
            (Verdict::Unsupported(_), _) if self.policy.allow_unverified => {
                Action::Record(NewPoint {
                    path: path.to_owned(),
                    kind,
                    verified: None,
                    close_intent: true,
                })
            }
            (Verdict::Unreachable(_), again) => match self.seen.ask {
                Some(ask) if self.overdue(ask) => {
                    self.unverified(path, "the storage did not answer", kind)
                }
                _ if self.seen.now >= again => Action::Verify(path.to_owned()),
                _ => Action::Wait(again, "the savepoint cannot be read back"),
            },
            (Verdict::Missing, _) => {
                self.unverified(path, "Flink reported a savepoint that is not there", kind)
            }
            (Verdict::Damaged(why) | Verdict::Unsupported(why), _) => {
                self.unverified(path, why, kind)
            }
        }
    }

    /// A savepoint that cannot be read back never replaces a good restore point. After a stop the job has no newer state
    /// anywhere and its sinks have committed: the intent stays open with the path in it, so that the next start cannot
    /// pass it over.
    pub(super) fn unverified(&self, path: &str, why: &str, kind: PointKind) -> Action {
        match &self.entry.intent {
            Some(intent) if kind == PointKind::Stop && intent.location.as_deref() != Some(path) => {
                Action::StoreIntent(Intent {
                    location: Some(path.to_owned()),
                    ..intent.clone()
                })
            }
            Some(_) if kind != PointKind::Stop => {
                Action::Abandon(cause(FailureClass::StorageUnwritable, why))
            }
            _ => Action::Settle(Outcome::Nothing(format!(
                "the savepoint {path} is not usable: {why}"
            ))),
        }
    }
}
