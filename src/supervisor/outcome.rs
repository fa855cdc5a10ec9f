//! How a job came to its end, or a savepoint to its own: said to who waits, logged, and kept.

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::Supervisor;
use super::turn::Next;
use crate::control::Reply;
use crate::domain::budget::after;
use crate::domain::savepoint::TriggerId;
use crate::domain::supervise::{Evidence, Outcome, Process};
use crate::metrics::own;

impl Supervisor {
    pub(super) fn settle_job(&mut self, key: &str, outcome: Outcome) -> Next {
        let idle = Next::At(after(Timestamp::now(), self.policy.idle));
        let process = self.process;
        let mut untold = None;
        let Some(job) = self.jobs.get_mut(key) else {
            return idle;
        };
        let manual = job.ask.as_ref().is_some_and(|ask| !ask.must_end);
        let worth_it = job.ask.is_some() || process == Process::Running;
        if worth_it && job.logged.as_ref() != Some(&outcome) {
            log_outcome(key, &outcome, manual);
            job.logged = Some(outcome.clone());
            untold = Some(outcome.clone());
        }
        for back in job.waiters.drain(..) {
            let _ = back.send(answer(&outcome));
        }
        if manual {
            job.ask = None;
            job.evidence = Evidence::default();
        } else {
            // A job that runs on without having been asked for anything is not done with.
            let done = job.ask.is_some()
                || process == Process::Gone
                || !matches!(outcome, Outcome::Nothing(_));
            job.settled = done.then_some(outcome);
        }
        if let Some(outcome) = untold {
            // A savepoint on demand ends nothing.
            if !manual {
                own().settled(&outcome);
            }
            self.tell_outcome(key, &outcome);
        }
        if manual { Next::Turn } else { idle }
    }
}

fn answer(outcome: &Outcome) -> Reply {
    match outcome {
        Outcome::Recorded(path) => Reply::Savepoint { path: path.clone() },
        Outcome::Fallback(path, why) => Reply::failed(format!(
            "no savepoint: {why}; the restore point is the retained checkpoint {path}"
        )),
        Outcome::Ended(status) => Reply::failed(format!("no savepoint: the job is {status}")),
        Outcome::Nothing(why) => {
            Reply::failed(format!("no savepoint: {why}; the pointer is as it was"))
        }
    }
}

fn log_outcome(key: &str, outcome: &Outcome, manual: bool) {
    match outcome {
        Outcome::Recorded(path) => {
            let trigger_id = TriggerId::of_path(path).map(|id| id.to_string());
            info!(
                job = key,
                trigger_id,
                savepoint_path = path,
                "Savepoint done"
            );
        }
        Outcome::Fallback(path, why) => {
            warn!(
                job = key,
                savepoint_path = path,
                why,
                "No savepoint in time: the restore point is a retained checkpoint"
            );
        }
        Outcome::Ended(status) => info!(job = key, %status, "Job is over"),
        Outcome::Nothing(why) if manual => warn!(job = key, why, "No savepoint"),
        Outcome::Nothing(why) => error!(
            job = key,
            why, "Nothing was recorded: the pointer is as it was before"
        ),
    }
}
