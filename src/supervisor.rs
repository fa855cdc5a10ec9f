//! The supervisor: observe, decide, act, for each job of one Flink cluster.
//!
//! It alone writes the pointer and it alone asks Flink for savepoints. The launcher and people reach it by
//! [calls](crate::control); what is to be done is decided by [`decide`](crate::domain::supervise::decide).

mod asks;
mod changes;
mod cluster;
mod events;
mod fork;
mod hand_over;
mod health;
mod high_availability;
mod leave;
mod lock;
mod map;
mod memory;
mod nonce;
mod others;
mod outcome;
mod planner;
mod pod;
mod report;
mod requests;
mod rescale;
mod retention;
mod schedule;
mod search;
mod session;
mod settings;
mod settle;
mod start;
mod stop;
mod suspend;
mod turn;
mod up;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch as channel};
use tracing::{info, warn};

use crate::config::Settings;
use crate::control::{Call, Incoming, Prepare, Reply, Status};
use crate::domain::budget::{Backoff, after, until};
use crate::domain::job::JobView;
use crate::domain::pointer::{Pointer, RunId};
use crate::domain::savepoint::FailureCause;
use crate::domain::schedule::Schedule;
use crate::domain::supervise::{Ask, Evidence, Outcome, Policy, Process};
use crate::kubernetes::{Kube, PointerMap};
use crate::pointer_file::PointerError;
use crate::status_page::story::Decisions;
use crate::storage::Storage;
use crate::store::{MapStore, Store};

use changes::Changes;
use cluster::Cluster;
use high_availability::Leadership;
use leave::Signs;
use lock::Starting;
use pod::Pod;
use requests::Releasing;
use retention::Keeper;
use schedule::CheckpointWaiter;
use session::Session;
use stop::Ordered;

pub use asks::{choose, clear};
pub use cluster::high_availability;
pub use planner::{NoStart, Planner, storage_for};
pub use start::prepare;
pub use write::load;

/// The wait before something that did not answer is tried again.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(100),
    most: Duration::from_secs(5),
};

/// In a pod, what is kept of the grace period for the fallback and for recording it.
const RESERVE_IN_POD: Duration = Duration::from_millis(1500);

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
    /// In a pod: a stop that was ordered through the map.
    ordered: Option<Ordered>,
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
    /// What is being deleted, and when to look again.
    keeper: Keeper,
    /// When periodic savepoints are taken.
    schedule: Option<Schedule>,
    /// Checkpoints that people wait for.
    checkpoints: Vec<CheckpointWaiter>,
    /// In Application mode: Flink's configuration.
    changes: Changes,
    /// The pointer was read.
    loaded: bool,
    /// Only one start is prepared: the sidecar is away.
    alone: bool,
    /// When Flink was started lately.
    starts: Vec<Timestamp>,
    /// Flink is to be ended as it is, and started again.
    anew: bool,
    /// For people.
    decisions: Decisions,
    status: channel::Sender<Status>,
    /// What the settings file says, whenever it has changed.
    settings_news: Option<SettingsNews>,
}

/// Changed settings, or why they cannot be used.
pub type SettingsNews = mpsc::Receiver<Result<Settings, String>>;

/// Why a supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nobody can call it any more.
    Uncalled,
    /// It is an ordinary container of a pod in which Flink has ended for good.
    Done,
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
    /// The annotation's value that the present ask is for.
    nonce: Option<String>,
    /// When the last periodic savepoint was asked for or left out.
    periodic: Option<Timestamp>,
    /// The storage did not answer the last search.
    searched_in_vain: bool,
    /// Why it last waited, so that only a change is logged.
    waiting: &'static str,
    /// A hand-over has failed, or is under way: not before this time again.
    no_hand_over_before: Option<Timestamp>,
    watch: watch::Watch,
    /// Another parallelism is wanted.
    rescaling: Option<Box<rescale::Rescaling>>,
    health: health::Health,
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
        let schedule = schedule::schedule(&settings);
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
            ordered: None,
            held: String::new(),
            copied: 0,
            leadership: Leadership::default(),
            untold_deadline: false,
            session: Session::default(),
            keeper: Keeper::default(),
            schedule,
            checkpoints: Vec::new(),
            changes: Changes::default(),
            loaded: false,
            alone: false,
            starts: Vec::new(),
            anew: false,
            decisions: Decisions::default(),
            status,
            settings_news: None,
        }
    }

    /// Follows changes of the settings from now on.
    #[must_use]
    pub fn with_settings_from(mut self, news: SettingsNews) -> Self {
        self.settings_news = Some(news);
        self
    }

    /// Prepares one start, and supervises nothing: of a launcher whose sidecar is away.
    pub async fn start_only(mut self, flink: Prepare) -> Reply {
        self.alone = true;
        let (calls, received) = mpsc::channel(1);
        let (back, reply) = oneshot::channel();
        // There is room for one.
        let _ = calls.send((Call::Prepare(flink), back)).await;
        tokio::select! {
            _ = self.run(received) => Reply::failed("not started: the supervisor ended"),
            reply = reply => reply.unwrap_or_else(|_| Reply::failed("not started: no answer")),
        }
    }

    /// Supervises until nobody can call any more, or in a pod until nothing is left to do.
    pub async fn run(mut self, mut calls: mpsc::Receiver<Incoming>) -> End {
        let mut news = self.watch_pod();
        let mut settings = self.settings_news.take();
        let mut wake = Timestamp::now();
        loop {
            let nap = tokio::time::sleep(until(Timestamp::now(), wake));
            let look = tokio::select! {
                biased;
                call = calls.recv() => match call {
                    Some((call, back)) => self.accept(call, back).await,
                    None => return End::Uncalled,
                },
                Some(news) = news.recv() => {
                    self.hear(news).await;
                    true
                }
                Some(new) = next_of(&mut settings) => {
                    self.take_settings(new);
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
            if self.is_last() {
                return self.finish().await;
            }
        }
    }

    async fn finish(&self) -> End {
        info!(
            "Flink has ended for good, and the pod waits for this container alone: ending as well"
        );
        if let Some(pod) = &self.pod {
            pod.flush().await;
        }
        End::Done
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
                self.prepare_alone(&flink).await
            }
            Call::Ready => self.start_is_ready(),
            Call::Mounted { files } => {
                self.mounted(files);
                Reply::Done
            }
            Call::Diff => self.diff(),
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
            long @ (Call::Savepoint(_)
            | Call::Checkpoint(_)
            | Call::Gc { .. }
            | Call::Rescale(_)) => {
                self.begin(long, back).await;
                return true;
            }
            Call::Status => Reply::Status(Box::new(self.status.borrow().clone())),
            Call::Story => {
                look = false;
                Reply::Story(Box::new(self.story()))
            }
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

    /// Begins what a person waits for; it is answered when it is done.
    async fn begin(&mut self, call: Call, back: oneshot::Sender<Reply>) {
        match call {
            Call::Savepoint(wanted) => self.want_savepoint(wanted, back),
            Call::Checkpoint(wanted) => self.want_checkpoint(&wanted, back).await,
            Call::Gc { dry_run } => self.want_gc(dry_run, back),
            Call::Rescale(wanted) => self.want_rescale(wanted, back),
            // Answered at once, by `accept`.
            _ => {}
        }
    }

    /// One look at every job; the time of the next one.
    async fn look(&mut self) -> Timestamp {
        let judged = self.judge_signs().await;
        let started = self.go_on_with_start().await;
        let mut wake = after(Timestamp::now(), self.policy.idle);
        if self.is_loaded().await && !self.is_standby() && !self.gave_up_lock() {
            wake = wake.min(self.give_way().await.unwrap_or(Timestamp::MAX));
            self.discover().await;
            self.begin_ordered_stop().await;
            self.suspend();
            wake = wake.min(self.submit_jobs().await);
            self.ask_by_nonce();
            wake = wake.min(self.ask_periodic());
            let keys: Vec<String> = self.jobs.keys().cloned().collect();
            for key in keys {
                wake = wake.min(self.turns(&key).await);
            }
            self.note_up().await;
        }
        let changes = self.follow_changes().await;
        if self.process == Process::Running && self.jobs.values().all(|job| job.ask.is_none()) {
            self.copy_aside().await;
        }
        if std::mem::take(&mut self.untold_deadline) {
            self.announce_deadline().await;
        }
        self.answer_ordered_stop().await;
        self.answer_nonces().await;
        let others = [
            judged,
            started,
            changes,
            self.go_on_with_rescaling().await,
            self.answer_requests().await,
            self.catch_up().await,
            self.watch_last_checkpoint().await,
            self.answer_checkpoints().await,
            self.keep_house().await,
        ]
        .into_iter()
        .flatten();
        others.fold(wake, Timestamp::min)
    }
}

/// `None` once nothing comes any more.
async fn next_of(news: &mut Option<SettingsNews>) -> Option<Result<Settings, String>> {
    news.as_mut()?.recv().await
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
