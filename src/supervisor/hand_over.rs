//! The job is given to a pod of another template that waits for it, or to one that has given it to this one.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::lock::Turn;
use super::pod::Pod;
use super::{RETRY, Supervisor};
use crate::domain::budget::after;
use crate::domain::lock::{Lock, PodRef, PodState, hand_over, heir, not_before, successor};
use crate::domain::pointer::TriggerReason;
use crate::domain::supervise::{Evidence, Process};
use crate::kubernetes::events::Event;

/// How long after a hand-over that failed the next one is tried.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(30);

impl Supervisor {
    /// The JobManager of this pod has ended, and pods wait: a new template has its turn, and one that has handed the job
    /// over to this pod takes it back, since this one has failed.
    pub(super) fn gives_up_after_failure(&mut self) -> Result<Option<Lock>, Turn> {
        let lock = self.store.as_map().map(|map| map.document().lock.clone());
        let Some(lock) = lock.filter(|lock| !lock.waiters.is_empty()) else {
            return Ok(None);
        };
        let unseen = self.follow_waiters();
        if unseen {
            return Err(Turn::Later(after(Timestamp::now(), RETRY.first)));
        }
        let to = self.with_lock(|policy, view| heir(policy, view).map(|it| it.pod.name.clone()));
        let me = self
            .pod
            .as_ref()
            .and_then(|pod| Some(pod.me.as_ref()?.pod.clone()));
        let (Some(to), Some(me)) = (to.flatten(), me) else {
            return Ok(None);
        };
        warn!(
            to,
            "JobManager has ended: the job is given to a pod that waits"
        );
        if let Some(pod) = &mut self.pod {
            pod.handed_over = true;
        }
        Ok(Some(hand_over(&lock, &me, Timestamp::now())))
    }

    /// A pod of a new template waits for this one's job: it is stopped with a savepoint and given over. Behind a readiness
    /// probe nothing else would ever end this pod, since the new one is not ready before its JobManager runs.
    /// When to look again, if the new pod is getting ready.
    pub(super) async fn give_way(&mut self) -> Option<Timestamp> {
        if self.process == Process::Gone || self.shutdown.is_some() {
            return None;
        }
        self.follow_waiters();
        if !self.others_wait() {
            return None;
        }
        // What the owner wanted when this pod was made is not what it wants now.
        if let Some(pod) = &mut self.pod {
            pod.refresh_owner().await;
        }
        let (to, later) = self.successor()?;
        if later.is_some() {
            return later;
        }
        if self.is_session() {
            self.give_session_way(&to);
        } else {
            self.hand_over_to(&to);
        }
        None
    }

    /// The name of the pod for which the job is to be stopped, and before when it is not, since that pod is getting ready.
    pub(super) fn successor(&self) -> Option<(String, Option<Timestamp>)> {
        let found = self.with_lock(|policy, view| {
            let waiter = successor(policy, view)?;
            let later = not_before(policy, view.now, waiter);
            Some((waiter.pod.name.clone(), later))
        });
        found.flatten()
    }

    /// Whether a pod of another template waits.
    pub(super) fn others_wait(&self) -> bool {
        let me = self.pod.as_ref().and_then(|pod| pod.me.as_ref());
        let lock = self.store.as_map().map(|map| &map.document().lock);
        let (Some(me), Some(lock)) = (me, lock) else {
            return false;
        };
        let mut waiters = lock.waiters.iter();
        waiters.any(|it| !it.handed_over && it.pod.template != me.pod.template)
    }

    /// A job is given up only for a pod that is seen to be there. Whether one of them has not been seen yet.
    fn follow_waiters(&mut self) -> bool {
        let ports = self.ports();
        let (Some(pod), Some(map)) = (&mut self.pod, self.store.as_map()) else {
            return false;
        };
        let waiters: Vec<PodRef> = map
            .document()
            .lock
            .waiters
            .iter()
            .map(|waiter| waiter.pod.clone())
            .collect();
        pod.follow(&waiters, ports);
        let unseen = PodState::Unknown { silent_since: None };
        pod.states().values().any(|state| *state == unseen)
    }

    fn hand_over_to(&mut self, to: &str) {
        let now = Timestamp::now();
        let keys: Vec<String> = self.jobs.keys().cloned().collect();
        let mut begun = false;
        for key in keys {
            let deadline = after(now, self.settings.savepoint_timeout);
            let ask = self.stop_ask(&key, TriggerReason::HandOver, now, deadline, false);
            let Some(job) = self.jobs.get_mut(&key) else {
                continue;
            };
            if job.ask.is_some() || job.no_hand_over_before.is_some_and(|again| now < again) {
                continue;
            }
            info!(job = key, to, "Handing over to a pod of another template");
            job.ask = Some(ask);
            job.evidence = Evidence::default();
            job.logged = None;
            begun = true;
            // Should it fail, the job runs on, and it is not tried again at once.
            job.no_hand_over_before = Some(after(now, HAND_OVER_AGAIN));
        }
        if let Some(pod) = self.pod.as_ref().filter(|_| begun) {
            let text = format!(
                "Pod {to} of another template waits: the job is stopped with a savepoint and handed over"
            );
            pod.tell(Event::normal("HandOver", &text));
        }
    }
}

impl Pod {
    /// The template of the owner's newest revision, where that is known.
    pub(super) fn wanted_template(&self) -> Option<&str> {
        let changed = self.owner.as_ref()?.template_changed?;
        let own = self.me.as_ref()?.pod.template.as_str();
        (!changed).then_some(own)
    }
}
