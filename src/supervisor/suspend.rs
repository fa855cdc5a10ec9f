//! A job that is held by an annotation of the pointer's ConfigMap: `drey.io/suspend: "true"`.
//!
//! It is stopped with a savepoint and its JobManager is not started, in whichever pod, until the annotation is taken away or
//! is anything else. The pods stay: that needs no right but the one to watch the map. So no owner has to be told that the job
//! is over, and a start waits here as it waits for the lock.

use std::time::Duration;

use jiff::Timestamp;
use tracing::info;

use super::Supervisor;
use super::cluster::is_application;
use crate::domain::budget::after;
use crate::domain::pointer::{APPLICATION, JobEntry, TriggerReason};
use crate::domain::supervise::{Evidence, Process};
use crate::kubernetes::events::Event;

/// How long after a stop that failed the next one is tried, and how often a start that waits looks again by itself.
const AGAIN: Duration = Duration::from_secs(30);

const HELD: &str = "the annotation drey.io/suspend holds the job";

impl Supervisor {
    /// Whether the annotation says so, of a cluster in Application mode.
    pub(super) fn is_held_by_annotation(&self) -> bool {
        let map = self.store.as_map();
        let wanted = map.is_some_and(|map| map.document().suspended);
        let application = match &self.starting {
            Some(starting) => is_application(self.settings.mode, starting.flink.application),
            None => !self.is_session(),
        };
        wanted && application
    }

    /// Stops the job if it is to be held. Should that fail it runs on, and is stopped a little later.
    pub(super) fn suspend(&mut self) {
        let free = self.process == Process::Running && self.shutdown.is_none();
        if !free || !self.is_held_by_annotation() {
            return;
        }
        let open = self.pointer.jobs.get(APPLICATION);
        let open = open.is_some_and(|entry| entry.intent.is_some());
        let now = Timestamp::now();
        let deadline = after(now, self.settings.savepoint_timeout);
        let ask = self.stop_ask(APPLICATION, TriggerReason::Suspend, now, deadline, false);
        let Some(job) = self.jobs.get_mut(APPLICATION) else {
            return;
        };
        let early = job.no_hand_over_before.is_some_and(|again| now < again);
        if open || early || job.ask.is_some() || job.settled.is_some() || job.rescaling.is_some() {
            return;
        }
        info!(job = APPLICATION, "Stopping the job: {HELD}");
        job.ask = Some(ask);
        job.evidence = Evidence::default();
        job.logged = None;
        job.no_hand_over_before = Some(after(now, AGAIN));
        let text = format!("The job is stopped with a savepoint: {HELD}");
        self.tell(Event::normal("Suspending", &text));
    }

    /// The job has stopped for it: its JobManager is ended, and the next start waits.
    pub(super) fn stopped_to_be_held(&self) -> bool {
        let entry = self.pointer.jobs.get(APPLICATION);
        let reason = entry.and_then(JobEntry::newest).map(|point| point.reason);
        self.run_is_stopped() && reason == Some(TriggerReason::Suspend)
    }

    /// A start waits until the annotation is gone; when to look again, unless the map changes.
    pub(super) fn wait_held(&mut self) -> Timestamp {
        if let Some(pod) = self.pod.as_mut().filter(|pod| pod.waits_for != HELD) {
            info!("Start waits: {HELD}");
            let text = format!("The job is suspended and resumes when that is gone: {HELD}");
            pod.tell(Event::normal("Suspended", &text));
            HELD.clone_into(&mut pod.waits_for);
        }
        after(Timestamp::now(), AGAIN)
    }

    /// The annotation is gone, and the start that waited goes on.
    pub(super) fn tell_resumed(&self) {
        if let Some(pod) = self.pod.as_ref().filter(|pod| pod.waits_for == HELD) {
            info!("Start goes on: nothing holds the job any more");
            let text = "The annotation drey.io/suspend is gone: the job resumes";
            pod.tell(Event::normal("Resumed", text));
        }
    }
}
