//! A start in a pod: it waits until no other pod runs the job, and gives way to a pod of a new template.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::cluster::high_availability;
use super::planner::storage_for;
use super::start::SESSION_START;
use super::{RETRY, Shutdown, Supervisor};
use crate::control::{Prepare, Reply};
use crate::domain::budget::after;
use crate::domain::cause::Owner;
use crate::domain::lock::{
    Lock, LockPolicy, LockStep, LockView, PodRef, PodState, acquire, hand_over, leave, told_to_go,
};
use crate::domain::pointer::{PointKind, RestorePoint, TriggerReason};
use crate::kubernetes::OwnerSight;
use crate::kubernetes::events::Event;
use crate::kubernetes::pods::{delete_pod, native_task_managers};
use crate::metrics::own;
use crate::pointer_file::PointerError;
use crate::telemetry::one_line;

/// More steps in a row than any story needs.
const STEPS: usize = 16;

/// The wait after something that a person has to mend.
const MENDED: Duration = Duration::from_secs(10);

/// A launcher that waits to be told how to start Flink.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) flink: Prepare,
    pub(super) back: oneshot::Sender<Reply>,
    pub(super) attempts: u32,
    /// The lock was taken for this start: no JobManager of this pod has failed with it.
    pub(super) taken: bool,
    /// When the launcher asked.
    pub(super) since: Instant,
    /// Flink's JVM could start now: nothing is made ready ahead any more.
    pub(super) ready: bool,
}

/// How far a start is.
pub(super) enum Turn {
    /// The pod holds the lock.
    Ours,
    /// Not before this time, unless something happens.
    Later(Timestamp),
}

impl Supervisor {
    /// Goes on with the start that a launcher waits for; when to look again.
    pub(super) async fn go_on_with_start(&mut self) -> Option<Timestamp> {
        let starting = self.starting.as_ref()?;
        if starting.back.is_closed() {
            self.starting = None;
            self.leave_lock().await;
            return None;
        }
        if let Some(gone) = self.refuse_start() {
            let starting = self.starting.take()?;
            let _ = starting.back.send(gone);
            return None;
        }
        let turn = self.turn().await;
        // What owns the pod was looked at meanwhile.
        if let Some(gone) = self.refuse_start() {
            let starting = self.starting.take()?;
            self.leave_lock().await;
            let _ = starting.back.send(gone);
            return None;
        }
        match turn {
            Turn::Later(time) => Some(time),
            Turn::Ours if self.is_held_by_annotation() => Some(self.wait_held()),
            Turn::Ours => {
                self.tell_resumed();
                let starting = self.starting.take()?;
                self.stop_following();
                own().lock_waited(starting.since.elapsed());
                let reply = self.prepare_in_pod(&starting.flink).await;
                self.tell_start(&reply);
                let _ = starting.back.send(reply);
                None
            }
        }
    }

    /// A pod that goes starts nothing, nor does one whose owner is gone: it goes as soon as the garbage collector gets to it. In
    /// native mode a finished job's Deployment goes first, and without it the pod would look like one of another owner.
    fn refuse_start(&self) -> Option<Reply> {
        let pod = self.pod.as_ref()?;
        let going = pod.me.as_ref().is_some_and(|me| me.deletion.is_some());
        let why = match pod.owner.as_ref().map(OwnerSight::wants) {
            _ if going || self.shutdown.is_some() => "the pod is being stopped",
            Some(Owner::Deleted) => "what owns the pod is gone or over",
            _ => return None,
        };
        Some(Reply::Failed {
            error: format!("not started: {why}"),
            code: 75,
        })
    }

    /// A launcher wants to start Flink, and waits.
    pub(super) fn wants_start(&mut self, flink: Prepare, back: oneshot::Sender<Reply>) {
        self.watch_leader(&flink);
        // The second half of a start: the lock is this pod's.
        let taken = flink.ordered;
        self.starting = Some(Starting {
            ready: !flink.getting_ready,
            flink,
            back,
            attempts: 0,
            taken,
            since: Instant::now(),
        });
    }

    /// The launcher needs no more than its order.
    pub(super) fn start_is_ready(&mut self) -> Reply {
        if let Some(starting) = &mut self.starting {
            starting.ready = true;
        }
        Reply::Done
    }

    /// The restore step, once the lock is held.
    async fn prepare_in_pod(&mut self, flink: &Prepare) -> Reply {
        if let Some(reply) = self.choose_configuration(flink).await {
            return reply;
        }
        // Flink's own keys say how its storage is reached.
        self.storage = storage_for(&self.settings, &flink.configuration);
        let looked = match self.merge_copy(flink).await {
            Ok(()) => self.edit_before_start().await,
            refused => refused,
        };
        if let Err(refused) = looked {
            return refused;
        }
        self.end_old_task_managers(flink).await;
        self.forget_signs();
        self.forget_last_end();
        if let Some(pod) = &mut self.pod {
            pod.handed_over = false;
        }
        self.prepare(flink).await
    }

    /// In native mode a JobManager adopts the TaskManagers that its predecessor left. Those of another image would run
    /// another version of the job, or of Flink; those of another configuration would keep it.
    async fn end_old_task_managers(&self, flink: &Prepare) {
        let Some(pod) = self.pod.as_ref().filter(|_| !flink.standalone) else {
            return;
        };
        let image = pod
            .me
            .as_ref()
            .and_then(|me| me.containers.get(pod.container()));
        let Some(image) = image.map(|container| container.image.clone()) else {
            return;
        };
        let found = native_task_managers(pod.kube(), &self.settings.cluster_id).await;
        let found = found.unwrap_or_else(|error| {
            let error = one_line(&error, 300);
            warn!(
                error,
                "TaskManagers of the last JobManager cannot be listed"
            );
            Vec::new()
        });
        for task_manager in found {
            let other = task_manager.containers.get(pod.container());
            let fits = other.is_none_or(|other| other.image == image);
            if fits && !self.changes.new_task_managers {
                continue;
            }
            let name = task_manager.pod.name.as_str();
            info!(
                pod = name,
                "TaskManager of another image or configuration is deleted"
            );
            if let Err(error) = delete_pod(pod.kube(), &task_manager.pod).await {
                let error = one_line(&error, 300);
                warn!(
                    pod = name,
                    error, "TaskManager of another image or configuration is left"
                );
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        for _ in 0..STEPS {
            if let Err(later) = self.know().await {
                return later;
            }
            let step = self.next_step();
            let fresh = self
                .starting
                .as_ref()
                .is_some_and(|starting| starting.taken);
            let lock = match step {
                LockStep::Held if fresh => return Turn::Ours,
                LockStep::Held => match self.gives_up_after_failure() {
                    Err(later) => return later,
                    Ok(None) => return Turn::Ours,
                    Ok(Some(lock)) => lock,
                },
                LockStep::Take(lock) => {
                    info!(cluster_id = self.settings.cluster_id, "Taking the lock");
                    if let Some(starting) = &mut self.starting {
                        starting.taken = true;
                    }
                    lock
                }
                LockStep::Announce(lock) => lock,
                LockStep::Wait { until, watch, why } => {
                    self.wait_for_pods(&watch, why);
                    let idle = after(Timestamp::now(), MENDED * 3);
                    return Turn::Later(until.unwrap_or(idle));
                }
            };
            if let Err(error) = self.save_lock(lock).await {
                return self.not_now(&error);
            }
        }
        Turn::Later(after(Timestamp::now(), RETRY.first))
    }

    /// The lock and the own pod have to be known before anything can be decided.
    async fn know(&mut self) -> Result<(), Turn> {
        let Some(pod) = &self.pod else { return Ok(()) };
        if pod.me.is_none() {
            return Err(Turn::Later(after(Timestamp::now(), MENDED)));
        }
        if let Some(pod) = &mut self.pod {
            pod.refresh_owner().await;
        }
        match self.load_pointer().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.not_now(&error)),
        }
    }

    fn next_step(&self) -> LockStep {
        self.with_lock(acquire).unwrap_or(LockStep::Held)
    }

    /// Calls `judge` with what is known of the lock; `None` outside Kubernetes.
    pub(super) fn with_lock<T>(
        &self,
        judge: impl FnOnce(&LockPolicy, &LockView<'_>) -> T,
    ) -> Option<T> {
        let pod = self.pod.as_ref()?;
        let flink = self.starting.as_ref().map(|starting| &starting.flink);
        let cluster = self.cluster.as_ref();
        let policy = LockPolicy {
            break_after: self.settings.lock_break_after.after(),
            ..LockPolicy::default()
        };
        let view = LockView {
            now: Timestamp::now(),
            me: &pod.me.as_ref()?.pod,
            handed_over: pod.handed_over,
            getting_ready: self.starting.as_ref().is_some_and(|it| !it.ready),
            // After a stop the next run begins when the last JobManager of this one has ended.
            high_availability: !self.run_is_stopped()
                && match flink {
                    Some(flink) => high_availability(&flink.configuration),
                    None => cluster.is_some_and(|cluster| cluster.high_availability),
                },
            wanted: pod.wanted_template(),
            lock: &self.store.as_map()?.document().lock,
            pods: &pod.states(),
        };
        Some(judge(&policy, &view))
    }

    fn wait_for_pods(&mut self, watch: &[PodRef], why: String) {
        let ports = self.ports();
        let Some(pod) = &mut self.pod else { return };
        pod.follow(watch, ports);
        // What has just begun to be followed is about to be seen.
        let unseen = PodState::Unknown { silent_since: None };
        let blind = pod.states().values().any(|state| *state == unseen);
        if pod.waits_for != why && !blind {
            info!(why, "Start waits for another pod");
            pod.tell(Event::normal(
                "StartWaits",
                &format!("The start waits: {why}"),
            ));
            pod.waits_for = why;
        }
    }

    fn stop_following(&mut self) {
        let ports = self.ports();
        if let Some(pod) = &mut self.pod {
            pod.waits_for.clear();
            pod.follow(&[], ports);
        }
    }

    /// What a JobManager with this configuration listens on: all pods of a cluster id have the same.
    pub(super) fn ports(&self) -> [u16; 2] {
        let flink = self.starting.as_ref().map(|starting| &starting.flink);
        let port = |key: &str, default: u16| {
            flink
                .and_then(|flink| flink.configuration.get(key)?.parse().ok())
                .unwrap_or(default)
        };
        [port("rest.port", 8081), port("jobmanager.rpc.port", 6123)]
    }

    /// It could not be read or written: what that means for the start.
    fn not_now(&mut self, error: &PointerError) -> Turn {
        let now = Timestamp::now();
        if matches!(error, PointerError::Conflict { .. }) {
            return Turn::Later(now);
        }
        let text = one_line(error, 400);
        let passing = matches!(error, PointerError::Away { .. });
        let attempts = self.starting.as_mut().map_or(1, |starting| {
            starting.attempts += 1;
            starting.attempts
        });
        if let Some(pod) = self.pod.as_mut().filter(|pod| pod.waits_for != text) {
            warn!(error = text, "Start waits for the pointer");
            let what = format!("The start waits: {text}");
            pod.tell(Event::warning("StartWaits", &what));
            pod.waits_for = text;
        }
        let wait = if passing {
            RETRY.wait(attempts)
        } else {
            MENDED
        };
        Turn::Later(after(now, wait))
    }

    /// Writes the lock; a conflict means that it has to be looked at again.
    pub(super) async fn save_lock(&mut self, lock: Lock) -> Result<(), PointerError> {
        let Some(map) = self.store.map() else {
            return Ok(());
        };
        match map.save_lock(lock).await {
            Err(PointerError::Conflict { .. }) => map.load().await.map(drop),
            other => other,
        }
    }

    /// This pod neither runs the JobManager nor waits for it any more.
    pub(super) async fn leave_lock(&mut self) {
        self.change_lock(leave).await;
    }

    async fn change_lock(&mut self, change: fn(&Lock, &str) -> Lock) {
        let Some(uid) = self.pod_uid() else { return };
        for _ in 0..super::write::CONFLICTS {
            let Some(map) = self.store.map() else { return };
            let lock = &map.document().lock;
            let next = change(lock, &uid);
            if next == *lock {
                return;
            }
            let written = map.save_lock(next).await;
            match written {
                Ok(()) => return,
                Err(PointerError::Conflict { .. }) => drop(map.load().await),
                Err(error) => {
                    let error = one_line(&error, 300);
                    warn!(
                        error,
                        "Lock could not be given up: others see that this pod is gone"
                    );
                    return;
                }
            }
        }
    }

    /// What becomes of the lock in the write that records `point`: with the end of its job, that of an application which
    /// this pod gives up, another pod may start.
    pub(super) fn lock_after(&self, point: &RestorePoint) -> Box<dyn Fn(&Lock) -> Lock> {
        let me = self
            .pod
            .as_ref()
            .and_then(|pod| Some(pod.me.as_ref()?.pod.clone()));
        let alone = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.application && !cluster.high_availability);
        let (Some(me), true, PointKind::Stop) = (me, alone, point.kind) else {
            return Box::new(Lock::clone);
        };
        if self.shutdown.is_some() {
            return Box::new(move |lock| leave(lock, &me.uid));
        }
        if point.reason == TriggerReason::HandOver {
            let now = Timestamp::now();
            return Box::new(move |lock| hand_over(lock, &me, now));
        }
        Box::new(Lock::clone)
    }

    /// This pod has given the lock up, or another one has it: what the pointer says is, or will be, about another run. A
    /// lock that somebody has only emptied by hand is no reason to leave a running job without its savepoint.
    pub(super) fn gave_up_lock(&self) -> bool {
        let lock = self.store.as_map().map(|map| &map.document().lock);
        let Some((lock, uid)) = lock.zip(self.pod_uid()) else {
            return false;
        };
        let passed_on = !lock.holders.is_empty() || lock.waiter(&uid).is_some();
        self.cluster.is_some() && !lock.holds(&uid) && (passed_on || self.run_is_stopped())
    }

    /// The lock, as it was read last, is not this pod's.
    pub(super) fn lost_lock(&self) -> bool {
        let lock = self.store.as_map().map(|map| &map.document().lock);
        let parts = lock.zip(self.pod_uid());
        parts.is_some_and(|(lock, uid)| !lock.holds(&uid))
    }

    /// Until when this pod will be gone is told to those that wait: should its node be lost, it is all they know.
    pub(super) async fn announce_deadline(&mut self) {
        let (Some(Shutdown { deadline, .. }), Some(uid)) = (self.shutdown, self.pod_uid()) else {
            return;
        };
        let lock = self.store.map().map(|map| map.document().lock.clone());
        if let Some(lock) = lock.and_then(|lock| told_to_go(&lock, &uid, deadline)) {
            // A conflict is no matter: it is told again with the next write.
            let _ = self.save_lock(lock).await;
        }
    }

    /// `metadata.uid` of the own pod.
    pub(super) fn pod_uid(&self) -> Option<String> {
        let me = self.pod.as_ref()?.me.as_ref()?;
        Some(me.pod.uid.clone())
    }

    /// How the start came out, for `kubectl describe`.
    fn tell_start(&self, reply: &Reply) {
        let Some(pod) = &self.pod else { return };
        if self.alone && matches!(reply, Reply::Start(_)) {
            let text = "The sidecar is away: Flink is started without it, and is not supervised until it is back";
            pod.tell(Event::warning("SidecarAway", text));
        }
        let event = match reply {
            Reply::Start(order) if order.why == SESSION_START => {
                let text = "Starting a session cluster, without jobs at first";
                Event::normal("ClusterStarts", text)
            }
            Reply::Start(order) => {
                let from = order.restore_from.as_deref().unwrap_or("empty state");
                Event::normal(
                    "RestoreChosen",
                    &format!("Starting from {from}: {}", order.why),
                )
            }
            Reply::Failed { error, .. } => Event::warning("RestoreRefused", error),
            Reply::Ended { status, .. } => Event::normal(
                "JobOver",
                &format!("Not started again: the job is {status}"),
            ),
            _ => return,
        };
        pod.tell(event);
    }
}
