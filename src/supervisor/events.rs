//! What happens to a job, told as Kubernetes events: readable without knowing Drey.

use super::Supervisor;
use crate::domain::lock::Lock;
use crate::domain::pointer::{PointKind, TriggerReason};
use crate::domain::supervise::Outcome;
use crate::kubernetes::events::Event;

impl Supervisor {
    /// An event on the pod and its owner; nothing outside Kubernetes.
    pub(super) fn tell(&self, event: Event) {
        if let Some(pod) = &self.pod {
            pod.tell(event);
        }
    }

    pub(super) fn tell_savepoint(&self, key: &str, reason: TriggerReason, stop: bool) {
        let what = if stop {
            "Stopping job"
        } else {
            "Savepoint of job"
        };
        let how = if stop { " with a savepoint" } else { "" };
        let text = format!("{what} {key}{how} ({reason})");
        self.tell(Event::normal("SavepointStarted", &text));
    }

    pub(super) fn tell_recorded(&self, kind: PointKind, path: &str, duration_ms: Option<i128>) {
        let took = duration_ms.map_or_else(String::new, |ms| format!(" in {ms} ms"));
        let text = format!("Recorded {kind}{took}: {path}");
        self.tell(Event::normal("SavepointCompleted", &text));
    }

    pub(super) fn tell_outcome(&self, key: &str, outcome: &Outcome) {
        let event = match outcome {
            // Told when it was recorded.
            Outcome::Recorded(_) => return,
            Outcome::Fallback(path, why) => {
                let text = format!(
                    "No savepoint of job {key} in time ({why}): the next start resumes from the retained checkpoint {path}"
                );
                Event::warning("FallbackUsed", &text)
            }
            Outcome::Ended(status) => Event::normal("JobOver", &format!("Job {key} is {status}")),
            Outcome::Nothing(why) => {
                let text = format!("No savepoint of job {key}: {why}; the pointer is as it was");
                Event::warning("SavepointFailed", &text)
            }
        };
        self.tell(event);
    }

    /// Whether this very write has given the lock to others while the pod stays.
    pub(super) fn note_handed_over(&mut self, change: &dyn Fn(&Lock) -> Lock) {
        let Some(pod) = &mut self.pod else { return };
        let Some(me) = &pod.me else { return };
        let waits = change(&Lock::default());
        pod.handed_over |= waits
            .waiter(&me.pod.uid)
            .is_some_and(|waiter| waiter.handed_over);
    }
}
