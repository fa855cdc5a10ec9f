//! No intent is open, or one that a stop takes the place of: what an ask leads to, and what a watch notices.

use super::turn::{Turn, record};
use super::{Action, Ask, Outcome, Process, Sighting, is_stop, ready};
use crate::domain::budget::after;
use crate::domain::job::{JobStatus, JobView};
use crate::domain::pointer::{Intent, PointKind, RestorePoint};

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

    pub(super) fn not_ready(&self, ask: &Ask) -> Action {
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
    pub(super) fn give_up(&self, ask: &Ask, why: &str) -> Action {
        if ask.must_end {
            self.fall_back(why)
        } else {
            Action::Settle(Outcome::Nothing(why.to_owned()))
        }
    }

    pub(super) fn fall_back(&self, why: &str) -> Action {
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

    pub(super) fn ended(&self, job: &JobView) -> Action {
        if let Some(path) = self.seen.stopped_outside {
            return self.conclude(path, PointKind::Stop);
        }
        match &self.entry.ended {
            Some(ended) => Action::Settle(Outcome::Ended(ended.status)),
            None => Action::RecordEnded(job.status),
        }
    }

    /// The recorded end of a job that Flink does not show any more. Not of one that failed: that may be started again.
    pub(super) fn over(&self) -> Option<JobStatus> {
        let ended = self.entry.ended.as_ref()?;
        let gone = !matches!(self.seen.job, Sighting::Seen(_));
        (gone && ended.status != JobStatus::Failed).then_some(ended.status)
    }

    /// The path of the stop-with-savepoint that ended the present run, if one is recorded.
    pub(super) fn stopped(&self) -> Option<&str> {
        let run = self.entry.run.as_ref()?;
        let newest = self.entry.newest()?;
        let ours = newest.kind == PointKind::Stop && newest.run.as_ref() == Some(&run.id);
        ours.then_some(newest.path.as_str())
    }

    /// The path of the plain savepoint that answers this ask.
    pub(super) fn plain_done(&self, ask: &Ask) -> Option<&str> {
        let answers = |point: &&RestorePoint| {
            point.kind == PointKind::Savepoint && point.started >= Some(ask.since)
        };
        (!is_stop(ask.kind))
            .then(|| self.entry.counting().find(answers))?
            .map(|point| point.path.as_str())
    }

    pub(super) fn intent(&self, ask: &Ask, job: &JobView) -> Intent {
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
