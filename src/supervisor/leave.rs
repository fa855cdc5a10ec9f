//! Why the own pod or container goes, and what that asks for.
//!
//! Signs come from three sides: the preStop hooks of both containers, the pod's own object, and SIGTERM at the launcher.
//! The first one that says that the pod goes is acted upon at once; what is looked up beside it never delays a savepoint.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tracing::info;

use super::pod::News;
use super::{Job, Shutdown, Supervisor};
use crate::control::{Reply, Settled};
use crate::domain::budget::{after, until};
use crate::domain::cause::{Cause, CauseView, Known, Means, Setting, Verdict, judge, means};
use crate::domain::supervise::Process;
use crate::kubernetes::OwnerSight;
use crate::kubernetes::events::Event;
use crate::kubernetes::pods::PodSight;
use crate::telemetry::one_line;

/// What the kubelet needs to see the end of the containers before it kills them.
const MARGIN: Duration = Duration::from_secs(1);

/// The part of the shutdown's time for which a successor that is getting ready is waited for.
const SHARE_FOR_SUCCESSOR: u32 = 8;

/// The signs that the pod or the container goes.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// The preStop hook of Flink's container runs.
    flink_hook: bool,
    /// The preStop hook of the sidecar runs.
    sidecar_hook: bool,
    /// The launcher got SIGTERM, and has this long.
    sigterm: Option<Timestamp>,
    /// When the first of them came.
    first: Option<Timestamp>,
    /// What follows from them, once that is known.
    pub(super) cause: Option<Cause>,
}

impl Supervisor {
    /// Takes note of what a watch has shown.
    pub(super) async fn hear(&mut self, news: News) {
        match news {
            News::Me(Some(sight)) => self.see_own_pod(*sight).await,
            News::Me(None) => {}
            News::Map(document) => self.see_map(document.map(|document| *document)).await,
            News::Other(uid, state) => {
                if let Some(pod) = &mut self.pod {
                    pod.note(&uid, state);
                }
            }
            News::Configuration(part, files) => self.see_configuration(part, files),
            News::NoConfiguration(part, why) => self.cannot_see_configuration(part, &why),
            News::Leader(leader) => self.see_leader(leader),
            News::Away(why) => {
                info!(why, "A watch is interrupted");
                self.tell(Event::warning("WatchInterrupted", &why));
            }
        }
    }

    async fn see_own_pod(&mut self, sight: PodSight) {
        let deletion = sight.deletion;
        let Some(pod) = &mut self.pod else { return };
        let known = pod.me.as_ref().is_some_and(|me| me.deletion.is_some());
        pod.see(sight).await;
        let ended = pod.flink_ended_for_good();
        if ended.is_some() && self.process == Process::Running {
            // Its launcher was killed before it could say so.
            self.flink_ended(ended).await;
        }
        if deletion.is_some() && !known {
            self.sign(|_| {});
        }
    }

    /// Nothing is left to do, and the pod waits for this container alone: that of a Job completes only then.
    pub(super) fn is_last(&self) -> bool {
        let settled = |job: &Job| job.ask.is_none() || job.settled.is_some();
        self.pod
            .as_ref()
            .is_some_and(|pod| pod.is_waited_for() && pod.flink_ended_for_good().is_some())
            && self.process == Process::Gone
            && self.exited.is_none()
            && self.jobs.values().all(settled)
    }

    /// A preStop hook runs.
    pub(super) fn pre_stop(&mut self, sidecar: bool, back: oneshot::Sender<Reply>) {
        info!(sidecar, "preStop hook runs");
        self.sign(|signs| {
            signs.sidecar_hook |= sidecar;
            signs.flink_hook |= !sidecar;
        });
        if sidecar || self.process == Process::Gone {
            // The sidecar itself lives until Flink has ended: nothing is to be held back for it.
            let _ = back.send(Reply::Done);
        } else {
            self.pre_stops.push(back);
            if self.pod.is_none() {
                // Nothing else tells why it goes.
                self.shut_down(self.settings.shutdown_timeout);
            }
        }
    }

    /// The launcher got SIGTERM.
    pub(super) fn sigterm(&mut self, budget: Duration) -> Reply {
        if self.pod.is_none() {
            return self.shut_down(budget);
        }
        let by = after(Timestamp::now(), budget);
        self.sign(|signs| signs.sigterm = Some(signs.sigterm.map_or(by, |known| known.min(by))));
        Reply::Done
    }

    fn sign(&mut self, note: impl Fn(&mut Signs)) {
        self.signs.first.get_or_insert_with(Timestamp::now);
        note(&mut self.signs);
    }

    /// A new JobManager is to be started: what was told before was for the last one. A pod that goes starts none.
    pub(super) fn forget_signs(&mut self) {
        self.signs = Signs::default();
    }

    /// Whether there was any sign that the pod or the container goes.
    pub(super) fn is_told_to_go(&self) -> bool {
        self.signs.first.is_some()
    }

    /// Judges the signs; when to look again.
    pub(super) async fn judge_signs(&mut self) -> Option<Timestamp> {
        if self.signs.first.is_some() && self.signs.cause.is_none() && self.is_highly_available() {
            // Only here the cause decides between two ways to go.
            if let Some(pod) = &mut self.pod {
                pod.refresh_owner().await;
            }
        }
        let (Some(pod), Some(first)) = (&self.pod, self.signs.first) else {
            return None;
        };
        if self.signs.cause.is_some() {
            self.shorten();
            return None;
        }
        let view = CauseView {
            now: Timestamp::now(),
            first_sign: first,
            job_manager_told: self.signs.flink_hook || self.signs.sigterm.is_some(),
            sidecar_told: self.signs.sidecar_hook,
            deletion: match &pod.me {
                Some(me) if me.deletion.is_some() => Known::Yes,
                Some(_) if pod.is_seen() => Known::No,
                _ => Known::Unknown,
            },
            owner: pod
                .owner
                .as_ref()
                .map(OwnerSight::wants)
                .unwrap_or_default(),
            namespace_terminating: pod
                .owner
                .as_ref()
                .is_some_and(|owner| owner.namespace_terminating == Some(true)),
            suspended: false,
        };
        match judge(&view) {
            Verdict::Undecided { until } => Some(until),
            Verdict::Cause(Cause::Rollout | Cause::PodMoves)
                if self.successor_gets_ready(first).is_some() =>
            {
                self.successor_gets_ready(first)
            }
            Verdict::Cause(cause) => {
                self.signs.cause = Some(cause);
                self.act_on(cause).await;
                None
            }
        }
    }

    /// Until when the job runs on, since the pod that takes it over is not ready. A small part of the time that is left:
    /// a savepoint may need the rest.
    fn successor_gets_ready(&self, first: Timestamp) -> Option<Timestamp> {
        let (_, later) = self.successor()?;
        let share = self.settings.shutdown_timeout / SHARE_FOR_SUCCESSOR;
        let until = later?.min(after(first, share));
        let enough = self.time_left().is_none_or(|left| left > share);
        (enough && Timestamp::now() < until).then_some(until)
    }

    fn is_highly_available(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.high_availability)
    }

    async fn act_on(&mut self, cause: Cause) {
        info!(cluster_id = self.settings.cluster_id, ?cause, "Told to go");
        if cause == Cause::ContainerRestarts {
            let text = "Flink's container is restarted: the next start resumes from the newest restore point";
            self.tell(Event::normal("ContainerRestarts", text));
            self.answer_pre_stops(&[]);
            return;
        }
        self.untold_deadline = true;
        let budget = self.time_left().unwrap_or(self.settings.shutdown_timeout);
        let version = self.cluster.as_ref().map(|cluster| cluster.version);
        let setting = Setting {
            high_availability: self.is_highly_available(),
            checkpoint_on_demand: version.is_some_and(|version| version.at_least(1, 17)),
            leader: !self.is_standby(),
            job_over: false,
        };
        match means(cause, setting) {
            Means::Stop => drop(self.shut_down(budget)),
            Means::Checkpoint => self.end_with_checkpoint(budget).await,
            Means::Nothing => {
                let since = Timestamp::now();
                let deadline = after(since, budget);
                self.shutdown = Some(Shutdown { since, deadline });
                self.leadership.free = true;
            }
        }
        self.remember_lease().await;
    }

    /// A later sign may leave less time: a second `kubectl delete` can only shorten it.
    fn shorten(&mut self) {
        let (Some(left), Some(shutdown)) = (self.time_left(), &mut self.shutdown) else {
            return;
        };
        let deadline = after(Timestamp::now(), left);
        if deadline >= shutdown.deadline {
            return;
        }
        shutdown.deadline = deadline;
        for job in self.jobs.values_mut() {
            if let Some(ask) = job.ask.as_mut().filter(|ask| ask.must_end) {
                ask.deadline = ask.deadline.min(deadline);
            }
        }
    }

    /// What is left until the kubelet kills the containers, as far as anybody has said so.
    fn time_left(&self) -> Option<Duration> {
        let me = self.pod.as_ref()?.me.as_ref();
        let deletion = me.and_then(|me| me.deletion.as_ref());
        let by = [
            deletion.map(|deletion| deletion.deadline),
            self.signs.sigterm,
        ];
        let by = by.into_iter().flatten().min()?;
        Some(until(Timestamp::now(), by).saturating_sub(MARGIN))
    }

    /// Whether only the container is restarted: Flink is ended without a savepoint.
    pub(super) fn container_restarts(&self) -> bool {
        self.signs.cause == Some(Cause::ContainerRestarts)
    }

    /// Lets the preStop hooks go: SIGTERM comes next.
    pub(super) fn answer_pre_stops(&mut self, settled: &[Settled]) {
        for back in self.pre_stops.drain(..) {
            let settled = settled.to_vec();
            let _ = back.send(Reply::Settled {
                settled,
                again: false,
            });
        }
    }

    /// An error for people, as an event.
    pub(super) fn complain(&self, reason: &'static str, what: &str, error: &dyn std::error::Error) {
        self.tell(Event::warning(
            reason,
            &format!("{what}: {}", one_line(error, 500)),
        ));
    }
}
