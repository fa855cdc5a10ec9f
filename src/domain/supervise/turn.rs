//! One turn of [`decide`](super::decide) over a pointer that can be read: one method for each situation.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Action, Ask, NewPoint, Observation, Outcome, Policy, Process, Sighting, Verdict, Verified,
    is_stop, ready,
};
use crate::domain::budget::{after, until};
use crate::domain::job::{JobStatus, JobView};
use crate::domain::pointer::{Intent, JobEntry, PointKind, RestorePoint};
use crate::domain::savepoint::{FailureCause, FailureClass, OperationStatus, SavepointKind};

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

    fn in_progress(&self, intent: &Intent) -> Action {
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
    fn unknown(&self, intent: &Intent) -> Action {
        match self.seen.job {
            Sighting::Seen(job) if job.status.is_globally_terminal() => self.search(intent),
            Sighting::Seen(job) if ready(job) => self.send(),
            _ => self.unanswered(intent),
        }
    }

    /// The request is to be sent, for the first time or once more: with the same trigger id that makes no difference.
    fn send(&self) -> Action {
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

    fn expired(&self) -> bool {
        let deadline = self.entry.intent.as_ref().map(|intent| intent.deadline);
        deadline.is_some_and(|deadline| self.seen.now >= deadline)
    }

    /// Nobody can be asked how the operation stands.
    fn unanswered(&self, intent: &Intent) -> Action {
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
    fn search(&self, intent: &Intent) -> Action {
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
    fn storage_away(&self) -> Action {
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
    fn conclude(&self, path: &str, kind: PointKind) -> Action {
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
    fn unverified(&self, path: &str, why: &str, kind: PointKind) -> Action {
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

/// No intent is open, or one that a stop takes the place of.
impl Turn<'_> {
    /// The run did not start from what was chosen, or something else was chosen since: nothing of it is recorded.
    pub(super) fn set_aside(&self, why: &str) -> Action {
        if self.seen.ask.is_some() || self.seen.process == Process::Gone {
            return Action::Settle(Outcome::Nothing(why.to_owned()));
        }
        self.idle("nothing of this run is recorded")
    }

    /// A savepoint is wanted and none is under way.
    pub(super) fn pursue(&self, ask: &Ask) -> Action {
        let done = self.stopped().or_else(|| self.plain_done(ask));
        if let Some(path) = done {
            return Action::Settle(Outcome::Recorded(path.to_owned()));
        }
        if let Some(status) = self.over() {
            return Action::Settle(Outcome::Ended(status));
        }
        match self.seen.job {
            Sighting::Seen(job) if job.status == JobStatus::Failed => {
                return self.give_up(ask, "the job has failed");
            }
            Sighting::Seen(job) if job.status.is_globally_terminal() => return self.ended(job),
            _ => {}
        }
        if let Some((cause, attempts, at)) = &self.seen.evidence.failure {
            let again = self.next_attempt(*attempts, *at);
            if !cause.class.is_retryable() || self.too_late(ask, again) {
                return self.give_up(ask, &cause.root);
            }
            if self.seen.now < again && matches!(self.seen.job, Sighting::Seen(job) if ready(job)) {
                return Action::Wait(again, "the last attempt failed");
            }
        }
        match self.seen.job {
            Sighting::Seen(job) if ready(job) && !self.overdue(ask) => {
                Action::StoreIntent(self.intent(ask, job))
            }
            _ => self.not_ready(ask),
        }
    }

    fn not_ready(&self, ask: &Ask) -> Action {
        if self.seen.process == Process::Gone {
            return self.give_up(ask, "the Flink process has ended");
        }
        let failing = matches!(self.seen.job,
            Sighting::Seen(job) if matches!(job.status, JobStatus::Restarting | JobStatus::Failing));
        let patience = after(ask.since, self.policy.restart_patience);
        if failing && self.seen.now >= patience {
            return self.give_up(ask, "the job keeps restarting");
        }
        let silent = matches!(self.seen.job, Sighting::Unreachable);
        match (self.overdue(ask), silent) {
            (true, true) => self.give_up(ask, "Flink did not answer in time"),
            (true, false) => self.give_up(ask, "the job was not running in time"),
            (false, true) => self.retry("Flink does not answer"),
            (false, false) => self.retry("not all tasks are running yet"),
        }
    }

    /// There will be no savepoint. Who only asked for one is told; before an end the newest checkpoint has to do.
    fn give_up(&self, ask: &Ask, why: &str) -> Action {
        if ask.must_end {
            self.fall_back(why)
        } else {
            Action::Settle(Outcome::Nothing(why.to_owned()))
        }
    }

    fn fall_back(&self, why: &str) -> Action {
        match &self.seen.evidence.fallback {
            None => Action::SearchFallback,
            Some(Sighting::Seen(found)) => match self.entry.newest() {
                Some(point) if point.rank() >= found.checkpoint_id => {
                    Action::Settle(Outcome::Fallback(point.path.clone(), why.to_owned()))
                }
                _ => record(found, PointKind::Checkpoint, false),
            },
            Some(Sighting::Absent) => Action::Settle(Outcome::Nothing(why.to_owned())),
            Some(Sighting::Unreachable) => match self.seen.ask {
                Some(ask) if self.seen.now < ask.deadline => Action::SearchFallback,
                _ => Action::Settle(Outcome::Nothing(format!(
                    "{why}, and the storage did not answer"
                ))),
            },
        }
    }

    /// Nobody wants anything: notice the job's end.
    pub(super) fn watch(&self) -> Action {
        if let Some(path) = self.stopped() {
            return Action::Settle(Outcome::Recorded(path.to_owned()));
        }
        match self.seen.job {
            Sighting::Seen(job) if job.status.is_globally_terminal() => self.ended(job),
            _ if self.seen.process == Process::Gone => Action::Settle(self.over().map_or_else(
                || Outcome::Nothing("the Flink process has ended".to_owned()),
                Outcome::Ended,
            )),
            _ => self.idle("nothing to do"),
        }
    }

    fn ended(&self, job: &JobView) -> Action {
        if let Some(path) = self.seen.stopped_outside {
            return self.conclude(path, PointKind::Stop);
        }
        match &self.entry.ended {
            Some(ended) => Action::Settle(Outcome::Ended(ended.status)),
            None => Action::RecordEnded(job.status),
        }
    }

    /// The recorded end of a job that Flink does not show any more. Not of one that failed: that may be started again.
    fn over(&self) -> Option<JobStatus> {
        let ended = self.entry.ended.as_ref()?;
        let gone = !matches!(self.seen.job, Sighting::Seen(_));
        (gone && ended.status != JobStatus::Failed).then_some(ended.status)
    }

    /// The path of the stop-with-savepoint that ended the present run, if one is recorded.
    fn stopped(&self) -> Option<&str> {
        let run = self.entry.run.as_ref()?;
        let newest = self.entry.newest()?;
        let ours = newest.kind == PointKind::Stop && newest.run.as_ref() == Some(&run.id);
        ours.then_some(newest.path.as_str())
    }

    /// The path of the plain savepoint that answers this ask.
    fn plain_done(&self, ask: &Ask) -> Option<&str> {
        let answers = |point: &&RestorePoint| {
            point.kind == PointKind::Savepoint && point.started >= Some(ask.since)
        };
        (!is_stop(ask.kind))
            .then(|| self.entry.counting().find(answers))?
            .map(|point| point.path.as_str())
    }

    fn intent(&self, ask: &Ask, job: &JobView) -> Intent {
        let trigger = self.seen.fresh;
        let own = |above: &String| format!("{}/{trigger}", above.trim_end_matches('/'));
        let attempts = self
            .seen
            .evidence
            .failure
            .as_ref()
            .map_or(0, |(_, attempts, _)| *attempts);
        let other = ask.other_format.filter(|_| attempts % 2 == 1);
        Intent {
            trigger,
            flink_trigger: None,
            kind: ask.kind,
            format: other.or(ask.format),
            reason: ask.reason,
            job_id: job.id,
            directory: ask.directory.as_ref().map(own),
            stored: self.seen.now,
            deadline: ask.deadline,
            location: None,
        }
    }
}

/// Times.
impl Turn<'_> {
    /// Before an end, what is left until the deadline is kept for the fallback and for Flink's own end.
    fn overdue(&self, ask: &Ask) -> bool {
        self.too_late(ask, self.seen.now)
    }

    fn too_late(&self, ask: &Ask, at: Timestamp) -> bool {
        let reserve = if ask.must_end {
            self.policy.reserve
        } else {
            Duration::ZERO
        };
        after(at, reserve) >= ask.deadline
    }

    fn next_attempt(&self, attempts: u32, last: Timestamp) -> Timestamp {
        after(last, self.policy.retry.wait(attempts))
    }

    /// A fiftieth of what it took so far, 5 to 50 ms: a short savepoint is noticed at once, a long one not hammered at.
    fn poll(&self, intent: &Intent) -> Duration {
        let elapsed = until(intent.stored, self.seen.now);
        (elapsed / 50).clamp(Duration::from_millis(5), Duration::from_millis(50))
    }

    fn retry(&self, why: &'static str) -> Action {
        Action::Wait(after(self.seen.now, self.policy.retry.first), why)
    }

    fn idle(&self, why: &'static str) -> Action {
        Action::Wait(after(self.seen.now, self.policy.idle), why)
    }
}

fn record(verified: &Verified, kind: PointKind, close_intent: bool) -> Action {
    Action::Record(NewPoint {
        path: verified.path.clone(),
        kind,
        verified: Some(verified.clone()),
        close_intent,
    })
}

fn cause(class: FailureClass, root: &str) -> FailureCause {
    FailureCause {
        class,
        root: root.to_owned(),
        savepoint: None,
    }
}

fn point_kind(kind: SavepointKind) -> PointKind {
    if is_stop(kind) {
        PointKind::Stop
    } else {
        PointKind::Savepoint
    }
}
