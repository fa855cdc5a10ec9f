//! Listed jobs that have FAILED are submitted once more, where that is wanted.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use super::{AGAIN, State};
use crate::domain::budget::{after, until};
use crate::domain::job::{JobStatus, JobView};
use crate::domain::pointer::JobEntry;
use crate::kubernetes::events::Event;
use crate::metrics::own;
use crate::supervisor::Supervisor;

/// A job that ran this long did not fail at once.
const SETTLED_IN: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Puts every listed job back on the way that has failed for good, after a wait that gets longer each time.
    pub(super) fn resubmit_failed(&mut self, now: Timestamp) {
        let keys: Vec<String> = self.session.todo.keys().cloned().collect();
        for key in keys {
            let done = self.session.todo.get(&key).map(|todo| todo.state) == Some(State::Done);
            let view = self.jobs.get(&key).and_then(|job| job.view.as_ref());
            let Some(view) = view.filter(|view| done && self.is_resubmitted(&key, view)) else {
                continue;
            };
            let started = Timestamp::from_millisecond(view.start_time).unwrap_or(now);
            let Some(todo) = self.session.todo.get_mut(&key) else {
                continue;
            };
            let soon = until(started, now) < SETTLED_IN;
            todo.failures = if soon { todo.failures + 1 } else { 1 };
            todo.state = State::Waiting;
            todo.stored = false;
            todo.not_before = after(now, AGAIN.wait(todo.failures));
            self.session.ledger.done.remove(&key);
            self.save_ledger();
            let text = format!(
                "Job {key} has FAILED: it is submitted again, from its newest restore point"
            );
            warn!(job = key, "{text}");
            self.tell(Event::warning("RestartFailed", &text));
            own().restarted("failed");
        }
    }

    /// Whether this job, which Flink still shows, has failed, is recorded so, and is to be submitted once more.
    pub(super) fn is_resubmitted(&self, key: &str, view: &JobView) -> bool {
        let entry = self.pointer.jobs.get(key);
        let failed = |entry: &JobEntry| {
            let ended = entry.ended.as_ref().map(|ended| ended.status);
            ended == Some(JobStatus::Failed)
        };
        self.settings.restart_failed
            && view.status == JobStatus::Failed
            && self.session.job(key).is_some()
            && entry.is_some_and(failed)
    }

    /// The run that has failed is over for good: what is shown of it no longer counts.
    pub(super) fn forget_failed(&mut self, key: &str) {
        let view = self.jobs.get(key).and_then(|job| job.view.as_ref());
        if view.is_some_and(|view| view.status == JobStatus::Failed) {
            self.jobs.remove(key);
        }
    }
}
