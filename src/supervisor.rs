//! The supervisor: observe, decide, act, for each job of one Flink cluster.
//!
//! It alone writes the pointer and it alone asks Flink for savepoints. The launcher and people reach it by
//! [calls](crate::control); what is to be done is decided by [`decide`](crate::domain::supervise::decide).

mod asks;
mod cluster;
mod events;
mod high_availability;
mod leave;
mod lock;
mod map;
mod memory;
mod pod;
mod requests;
mod session;
mod start;
mod turn;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch as channel};
use tracing::{error, info, warn};

use crate::config::Settings;
use crate::control::{
    Call, Incoming, JobReport, Prepare, Reply, Settled, SettledOutcome, Status, Then,
};
use crate::domain::budget::{Backoff, after, until};
use crate::domain::job::{JobStatus, JobView};
use crate::domain::lock::Lock;
use crate::domain::pointer::{JobEntry, Pointer, RunId, TriggerReason};
use crate::domain::savepoint::FailureCause;
use crate::domain::supervise::{Ask, Evidence, Outcome, Policy, Process};
use crate::kubernetes::events::Event;
use crate::kubernetes::{Kube, PointerMap};
use crate::pointer_file::PointerError;
use crate::storage::Storage;
use crate::store::{MapStore, Store};

use cluster::Cluster;
use high_availability::Leadership;
use leave::Signs;
use lock::Starting;
use pod::Pod;
use requests::Releasing;
use session::Session;

pub use asks::{choose, clear};
pub use cluster::high_availability;
pub use start::{NoStart, Planner, prepare, storage_for};

/// The wait before something that did not answer is tried again.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(100),
    most: Duration::from_secs(5),
};

/// In a pod, what is kept of the grace period for the fallback and for recording it.
const RESERVE_IN_POD: Duration = Duration::from_millis(1500);

/// How often a write is begun anew because somebody else was quicker.
const CONFLICTS: usize = 5;

/// Supervises one Flink cluster.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    policy: Policy,
    storage: Storage,
    store: Store,
    pointer: Pointer,
    cluster: Option<Cluster>,
    process: Process,
    pid: Option<i32>,
    /// Names this process as the owner of what it starts, unless the user named one.
    instance: String,
    jobs: BTreeMap<String, Job>,
    shutdown: Option<Shutdown>,
    /// The launcher waits here for the order to end Flink.
    order: Option<oneshot::Sender<Reply>>,
    /// The launcher waits here until everything about Flink's end is recorded.
    exited: Option<oneshot::Sender<Reply>>,
    /// In a pod: the pod.
    pod: Option<Pod>,
    /// In a pod: a launcher waits here for its turn.
    starting: Option<Starting>,
    /// In a pod: preStop hooks that block until SIGTERM may come.
    pre_stops: Vec<oneshot::Sender<Reply>>,
    /// In a pod: the signs that it goes.
    signs: Signs,
    /// In a pod: TaskManagers that wait for a checkpoint.
    releasing: Option<Releasing>,
    /// In a pod: TaskManagers that are held, as they were told last.
    held: String,
    /// In a pod: the generation of the pointer's copy beside the savepoints.
    copied: u64,
    /// In a pod: who leads, with Kubernetes HA.
    leadership: Leadership,
    /// In a pod: it goes, and those that wait have not been told by when.
    untold_deadline: bool,
    /// In session mode: the jobs that are submitted.
    session: Session,
    /// The pointer was read.
    loaded: bool,
    /// Only one start is prepared: the sidecar is away.
    alone: bool,
    status: channel::Sender<Status>,
}

/// The process has to end.
#[derive(Debug, Clone, Copy)]
struct Shutdown {
    since: Timestamp,
    deadline: Timestamp,
}

/// What is known of one job in memory only.
#[derive(Debug, Default)]
struct Job {
    ask: Option<Ask>,
    waiters: Vec<oneshot::Sender<Reply>>,
    evidence: Evidence,
    view: Option<JobView>,
    /// Flink refused the open intent's request for good.
    refused: Option<FailureCause>,
    settled: Option<Outcome>,
    /// The outcome that was logged last: it is the same before and after Flink's end.
    logged: Option<Outcome>,
    /// The pointer could not be written in the last turn.
    unwritable: bool,
    /// The storage did not answer the last search.
    searched_in_vain: bool,
    /// Why it last waited, so that only a change is logged.
    waiting: &'static str,
    /// A hand-over has failed, or is under way: not before this time again.
    no_hand_over_before: Option<Timestamp>,
    watch: watch::Watch,
}

impl Supervisor {
    /// A supervisor of what `store` points to.
    ///
    /// # Errors
    /// When the pointer cannot be read, or belongs to another cluster id.
    pub async fn new(
        settings: Settings,
        storage: Storage,
        mut store: Store,
    ) -> Result<(Self, channel::Receiver<Status>), PointerError> {
        let pointer = load(&mut store, &settings.cluster_id).await?;
        let mut supervisor = Self::with(settings, storage, store, pointer);
        supervisor.loaded = true;
        supervisor.report();
        let status = supervisor.status.subscribe();
        Ok((supervisor, status))
    }

    /// A supervisor in the pod `name`. Nothing is asked of the API server yet: it may be away, and a sidecar that ends for
    /// that would only make it worse.
    #[must_use]
    pub fn in_pod(
        settings: Settings,
        storage: Storage,
        kube: Kube,
        name: &str,
    ) -> (Self, channel::Receiver<Status>) {
        let map = PointerMap::new(&kube, &settings.cluster_id);
        let copy = settings.state_dir.join("pointer-copy.json");
        let store = Store::Map(Box::new(MapStore::new(map, copy)));
        let pointer = Pointer::new(&settings.cluster_id);
        let pod = Pod::new(kube, name, &settings.flink_container, &settings.state_dir);
        let mut supervisor = Self::with(settings, storage, store, pointer);
        // The kubelet kills a JobManager that takes too long, which costs nothing once its job is stopped.
        supervisor.policy.reserve = RESERVE_IN_POD;
        supervisor.pod = Some(pod);
        supervisor.report();
        let status = supervisor.status.subscribe();
        (supervisor, status)
    }

    fn with(settings: Settings, storage: Storage, store: Store, pointer: Pointer) -> Self {
        let policy = Policy {
            retry: RETRY,
            // Never less than the 5 s that a JobManager may take to end.
            reserve: (settings.shutdown_timeout / 5)
                .clamp(Duration::from_secs(5), Duration::from_secs(10)),
            restart_patience: settings.shutdown_timeout / 4,
            idle: Duration::from_secs(2),
            allow_unverified: settings.allow_unverified,
        };
        let (status, _) = channel::channel(Status::default());
        Self {
            settings,
            policy,
            storage,
            store,
            pointer,
            cluster: None,
            process: Process::Gone,
            pid: None,
            instance: RunId::from_bytes(random()).to_string(),
            jobs: BTreeMap::new(),
            shutdown: None,
            order: None,
            exited: None,
            pod: None,
            starting: None,
            pre_stops: Vec::new(),
            signs: Signs::default(),
            releasing: None,
            held: String::new(),
            copied: 0,
            leadership: Leadership::default(),
            untold_deadline: false,
            session: Session::default(),
            loaded: false,
            alone: false,
            status,
        }
    }

    /// Prepares one start, and supervises nothing: of a launcher whose sidecar is away.
    pub async fn start_only(mut self, flink: Prepare) -> Reply {
        self.alone = true;
        let (calls, received) = mpsc::channel(1);
        let (back, reply) = oneshot::channel();
        // There is room for one.
        let _ = calls.send((Call::Prepare(flink), back)).await;
        tokio::select! {
            () = self.run(received) => Reply::failed("not started: the supervisor ended"),
            reply = reply => reply.unwrap_or_else(|_| Reply::failed("not started: no answer")),
        }
    }

    /// Supervises until nobody can call any more.
    pub async fn run(mut self, mut calls: mpsc::Receiver<Incoming>) {
        let mut news = self.watch_pod();
        let mut wake = Timestamp::now();
        loop {
            let nap = tokio::time::sleep(until(Timestamp::now(), wake));
            let look = tokio::select! {
                biased;
                call = calls.recv() => match call {
                    Some((call, back)) => self.accept(call, back).await,
                    None => return,
                },
                Some(news) = news.recv() => {
                    self.hear(news).await;
                    true
                }
                () = nap => true,
            };
            if look {
                wake = self.look().await;
            }
            if let Some(again) = self.settle().await {
                wake = wake.min(again);
            }
            self.report();
        }
    }

    /// Carries out a call; whether it is a reason to look at the jobs. What the launcher says again before each shutdown
    /// is none: Flink would be asked while the shutdown waits.
    async fn accept(&mut self, call: Call, back: oneshot::Sender<Reply>) -> bool {
        let mut look = true;
        let reply = match call {
            Call::Prepare(flink) => {
                if self.pod.is_some() {
                    self.wants_start(flink, back);
                    return true;
                }
                // What had to end has ended: a sidecar outlives its Flink.
                self.shutdown = None;
                self.prepare(&flink).await
            }
            Call::Started {
                flink,
                run,
                pid,
                adopted,
            } => {
                look = self.pid != Some(pid);
                self.started(&flink, run, pid, adopted)
            }
            Call::Order => {
                self.order = Some(back);
                return false;
            }
            Call::Exited { code } => {
                self.exited = Some(back);
                self.flink_ended(code).await;
                return true;
            }
            Call::Shutdown { budget_ms } => self.sigterm(Duration::from_millis(budget_ms)),
            Call::PreStop { sidecar } => {
                self.pre_stop(sidecar, back);
                return true;
            }
            Call::Savepoint(wanted) => {
                self.want_savepoint(wanted, back);
                return true;
            }
            Call::Status => Reply::Status(Box::new(self.status.borrow().clone())),
            Call::PointerShow => Reply::Pointer {
                pointer: Some(Box::new(self.pointer.clone())),
            },
            Call::PointerSet { path, job } => self.set_pointer(&path, job.as_deref()).await,
            Call::PointerClear { job } => self.clear_pointer(job.as_deref()).await,
        };
        // Who has hung up needs no answer.
        let _ = back.send(reply);
        look
    }

    /// One look at every job; the time of the next one.
    async fn look(&mut self) -> Timestamp {
        let judged = self.judge_signs().await;
        let started = self.go_on_with_start().await;
        let mut wake = after(Timestamp::now(), self.policy.idle);
        if self.is_loaded().await && !self.is_standby() && !self.gave_up_lock() {
            self.give_way().await;
            self.discover().await;
            wake = wake.min(self.submit_jobs().await);
            let keys: Vec<String> = self.jobs.keys().cloned().collect();
            for key in keys {
                wake = wake.min(self.turns(&key).await);
            }
        }
        if self.process == Process::Running && self.jobs.values().all(|job| job.ask.is_none()) {
            self.copy_aside().await;
        }
        if std::mem::take(&mut self.untold_deadline) {
            self.announce_deadline().await;
        }
        let answered = self.answer_requests().await;
        let behind = self.catch_up().await;
        let checkpoint = self.watch_last_checkpoint().await;
        let others = [judged, started, answered, behind, checkpoint]
            .into_iter()
            .flatten();
        others.fold(wake, Timestamp::min)
    }

    /// Tells the launcher when every job has come to its end.
    async fn settle(&mut self) -> Option<Timestamp> {
        let not_ours = self.is_standby() || self.gave_up_lock();
        if self.needs_nothing_more() || (self.process == Process::Gone && not_ours) {
            self.let_flink_end().await;
            return None;
        }
        let all: Option<Vec<Settled>> = self
            .jobs
            .iter()
            .map(|(key, job)| Some(self.settled(key, job.settled.as_ref()?)))
            .collect();
        let settled = all?;
        if self.process == Process::Gone {
            self.answer_pre_stops(&settled);
            if self.exited.is_some() {
                self.jobs.clear();
                self.flink_is_over().await;
            }
            if let Some(back) = self.exited.take() {
                let _ = back.send(Reply::Settled { settled });
            }
            return None;
        }
        let application = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.application);
        let over = self.shutdown.is_some()
            || self.gives_session_way()
            || (application
                && settled
                    .iter()
                    .any(|job| job.outcome != SettledOutcome::Nothing));
        if !over || self.order.is_none() {
            return None;
        }
        if let Some(again) = self.wait_for_standbys().await {
            return Some(again);
        }
        if let Some(back) = self.order.take() {
            self.clean_up(&settled).await;
            let then = self.after_end(&settled);
            self.answer_pre_stops(&settled);
            let _ = back.send(Reply::Terminate { settled, then });
            self.let_all_go().await;
            self.copy_aside().await;
        }
        None
    }

    /// Nothing has to be recorded before Flink ends, and nothing after.
    async fn let_flink_end(&mut self) {
        if self.process == Process::Running {
            if let Some(back) = self.order.take() {
                let again = self.shutdown.is_none() && self.is_outdated_standby();
                let then = if again { Then::Again } else { Then::EndAsFlink };
                let settled = Vec::new();
                let _ = back.send(Reply::Terminate { settled, then });
                self.answer_pre_stops(&[]);
            }
        } else if let Some(back) = self.exited.take() {
            self.jobs.clear();
            self.flink_is_over().await;
            let settled = Vec::new();
            let _ = back.send(Reply::Settled { settled });
        }
    }

    /// Flink can be ended without a savepoint: only its container is restarted, it is a standby, or another JobManager goes
    /// on with the job.
    fn needs_nothing_more(&self) -> bool {
        self.container_restarts() || self.leadership.free || self.is_outdated_standby()
    }

    /// In a pod that stays, Flink is started anew: the job was handed over and may come back, or a finished one is waited
    /// beside, since a container that ends is started again by the kubelet.
    fn after_end(&self, settled: &[Settled]) -> Then {
        let Some(pod) = &self.pod else {
            return Then::End;
        };
        if self.shutdown.is_some() {
            return Then::EndAsFlink;
        }
        let given = pod.handed_over || self.gives_session_way();
        let stays = given || (pod.is_restarted() && all_finished(settled));
        if stays { Then::Again } else { Then::End }
    }

    /// Flink has ended and everything about it is recorded.
    async fn flink_is_over(&mut self) {
        if self.pod.is_none() {
            return;
        }
        self.release_lease().await;
        if self.shutdown.is_some() || self.leadership.is_known() {
            self.leave_lock().await;
        }
    }

    /// A job that came to its end by itself leaves nothing behind for high availability: Flink cleans up when it is shut
    /// down in an orderly way, which it would have done itself, had it not been told to stay.
    async fn clean_up(&self, settled: &[Settled]) {
        let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.application) else {
            return;
        };
        // In native mode that deletes the Deployment as well, as Flink does when an application is done.
        if (cluster.high_availability || cluster.native)
            && all_finished(settled)
            && let Err(error) = cluster.rest.shut_down_cluster().await
        {
            warn!(
                error = crate::telemetry::one_line(&error, 300),
                "Flink's high-availability data may be left behind"
            );
        }
    }

    fn settled(&self, key: &str, outcome: &Outcome) -> Settled {
        let newest = self.pointer.jobs.get(key).and_then(JobEntry::newest);
        let (outcome, path, why) = match outcome {
            Outcome::Recorded(path) => (SettledOutcome::Recorded, Some(path.clone()), None),
            Outcome::Fallback(path, why) => (
                SettledOutcome::Fallback,
                Some(path.clone()),
                Some(why.clone()),
            ),
            Outcome::Ended(JobStatus::Failed) => (SettledOutcome::Failed, None, None),
            Outcome::Ended(_) => (SettledOutcome::Finished, None, None),
            Outcome::Nothing(why) => (SettledOutcome::Nothing, None, Some(why.clone())),
        };
        let path = path.or_else(|| newest.map(|point| point.path.clone()));
        let reason: Option<TriggerReason> = newest
            .filter(|_| outcome == SettledOutcome::Recorded)
            .map(|point| point.reason);
        Settled {
            job: key.to_owned(),
            outcome,
            path,
            why,
            reason,
        }
    }

    /// Changes the pointer and writes it. When somebody else has written in between, theirs is what is changed. On
    /// failure the one in memory stays as it was.
    async fn write(&mut self, change: impl Fn(&mut Pointer)) -> Result<(), PointerError> {
        self.write_with(change, &Lock::clone).await
    }

    /// [`write`](Self::write), with a change of the lock in the same write.
    async fn write_with(
        &mut self,
        change: impl Fn(&mut Pointer),
        lock: &dyn Fn(&Lock) -> Lock,
    ) -> Result<(), PointerError> {
        for _ in 0..CONFLICTS {
            let mut pointer = self.pointer.clone();
            change(&mut pointer);
            pointer.seal();
            match self.store.save_with(&pointer, lock).await {
                Ok(()) => {
                    self.pointer = pointer;
                    return Ok(());
                }
                Err(PointerError::Conflict { .. }) => self.take_over_theirs().await?,
                Err(PointerError::Away { name, why }) => {
                    self.write_aside(&pointer, name, why).await?;
                    self.pointer = pointer;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Err(PointerError::Conflict {
            name: self.store.name(),
        })
    }

    /// Reads the pointer again: of two the one with the higher generation is newer.
    async fn take_over_theirs(&mut self) -> Result<(), PointerError> {
        if let Some(theirs) = self.store.load().await?
            && theirs.generation > self.pointer.generation
        {
            self.pointer = theirs;
        }
        Ok(())
    }

    /// Changes one entry and writes the pointer; logs when that does not work, for the next turn tries again.
    async fn update(&mut self, key: &str, change: impl Fn(&mut JobEntry)) -> bool {
        let written = self.write(|pointer| change(pointer.entry(key))).await;
        self.is_written(written)
    }

    fn is_written(&self, written: Result<(), PointerError>) -> bool {
        match written {
            Ok(()) => true,
            Err(error) => {
                let error = crate::telemetry::one_line(&error, 400);
                error!(
                    cluster_id = self.settings.cluster_id,
                    error, "Pointer could not be written"
                );
                self.tell(Event::warning("PointerUnwritable", &error));
                false
            }
        }
    }

    fn report(&self) {
        let cluster = self.cluster.as_ref();
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: self.settings.cluster_id.clone(),
            pointer: self.store.name(),
            flink_pid: self.pid,
            flink_version: cluster.map(|cluster| cluster.version.to_string()),
            rest_url: cluster.map(|cluster| cluster.url.to_string()),
            reachable: cluster.is_some_and(|cluster| cluster.reachable),
            shutting_down: self.shutdown.is_some(),
            jobs: self.job_reports(),
        };
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    fn job_reports(&self) -> BTreeMap<String, JobReport> {
        let keys = self.pointer.jobs.keys().chain(self.jobs.keys());
        let keys = keys.chain(self.session.keys());
        keys.map(|key| (key.clone(), self.job_report(key)))
            .collect()
    }

    fn job_report(&self, key: &str) -> JobReport {
        let entry = self.pointer.jobs.get(key);
        let run = entry.and_then(|entry| entry.run.as_ref());
        let job = self.jobs.get(key);
        let view = job.and_then(|job| job.view.as_ref());
        let mut problems: Vec<String> = entry
            .and_then(|entry| entry.frozen.clone())
            .into_iter()
            .collect();
        problems.extend(job.into_iter().flat_map(|job| job.watch.problems()));
        problems.extend(self.session.problem(key));
        JobReport {
            job_id: view
                .map(|view| view.id)
                .or_else(|| run.and_then(|run| run.job_id)),
            name: view.map(|view| view.name.clone()),
            status: view.map(|view| view.status).or_else(|| {
                entry
                    .and_then(|entry| entry.ended.as_ref())
                    .map(|ended| ended.status)
            }),
            tasks: view.map(|view| (view.tasks.running, view.tasks.total)),
            restored_from: run.and_then(|run| Some(run.parent.as_ref()?.path.clone())),
            restore_point: entry.and_then(|entry| Some(entry.newest()?.path.clone())),
            completed_checkpoint: job.and_then(|job| job.watch.completed()),
            checkpoint_interval_ms: job.and_then(|job| job.watch.interval_ms()),
            savepoint_in_progress: entry.is_some_and(|entry| entry.intent.is_some()),
            problems,
        }
    }
}

/// The pointer of `cluster_id` in `store`, a new one when there is none.
///
/// # Errors
/// When it cannot be read, or belongs to another cluster id.
pub async fn load(store: &mut Store, cluster_id: &str) -> Result<Pointer, PointerError> {
    let pointer = store.load().await?;
    let pointer = pointer.unwrap_or_else(|| Pointer::new(cluster_id));
    if pointer.cluster_id != cluster_id {
        return Err(PointerError::OtherCluster {
            name: store.name(),
            found: pointer.cluster_id,
            wanted: cluster_id.to_owned(),
        });
    }
    Ok(pointer)
}

fn all_finished(settled: &[Settled]) -> bool {
    let finished = |job: &Settled| job.outcome == SettledOutcome::Finished;
    !settled.is_empty() && settled.iter().all(finished)
}

/// Random bytes for an id.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

fn log_start(flink: &Cluster, adopted: bool) {
    let (flink_version, rest) = (flink.version.to_string(), flink.url.as_str());
    if adopted {
        warn!(run = %flink.run, flink_version, rest, "Took over a running Flink");
    } else {
        info!(run = %flink.run, flink_version, rest, "Flink started");
    }
}
