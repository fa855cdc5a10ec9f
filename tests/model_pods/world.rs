//! The state of the small world in which the lock is driven: pods, the pointer's ConfigMap, storage, a TaskManager.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use drey::domain::budget::after;
use drey::domain::lock::{Life, Lock, PodRef, PodState};
use drey::domain::pointer::{JobEntry, PointKind, RunId};
use jiff::Timestamp;

/// Ticks from the order to go to the end of the grace period.
pub(crate) const GRACE: u8 = 2;
/// Ticks for which an IP has to be silent.
pub(crate) const SILENT_FOR: u8 = 1;

/// What is set up in a scenario, and how often each thing may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// The templates of the pods that come after the first one, which is of template 1 and runs the job.
    pub(crate) arrivals: &'static [u8],
    /// `lock-break-after`, in ticks.
    pub(crate) break_after: Option<u8>,
    /// The pods may read each other's objects.
    pub(crate) rights: bool,
    /// There is a TaskManager, without which no savepoint completes.
    pub(crate) task_manager: bool,
    /// Pods that are told to go.
    pub(crate) tells: u8,
    /// Pods whose object is deleted by force.
    pub(crate) forces: u8,
    /// Partitions of one node from everything but the storage.
    pub(crate) cuts: u8,
    /// Nodes that die, and Node objects that a person deletes then.
    pub(crate) node_deaths: u8,
    pub(crate) node_deletes: u8,
    /// Deaths of the Flink container in place: of its JobManager, or of its launcher.
    pub(crate) crashes: u8,
    pub(crate) checkpoints: u8,
    pub(crate) stop_failures: u8,
    /// Times at which the API server stops answering.
    pub(crate) outages: u8,
    /// Times at which the TaskManager is told to go.
    pub(crate) task_manager_tells: u8,
}

/// The pointer's ConfigMap. Its content stands for its resourceVersion.
#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Content {
    pub(crate) lock: Lock,
    pub(crate) entry: Arc<JobEntry>,
    pub(crate) generation: u8,
    /// The TaskManager's request, and its answer.
    pub(crate) asked: bool,
    pub(crate) answered: bool,
}

/// A version of the ConfigMap. It is compared far more often than written, so it carries its fingerprint with it.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    content: Arc<Content>,
    fingerprint: u64,
}

impl Map {
    pub(crate) fn new(content: Content) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self {
            content: Arc::new(content),
            fingerprint: hasher.finish(),
        }
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Content)) {
        let mut content = (*self.content).clone();
        change(&mut content);
        *self = Self::new(content);
    }
}

impl Deref for Map {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Map {}

impl Hash for Map {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stop {
    Not,
    /// Its intent is stored and the request sent.
    Asked,
    /// The job is FINISHED.
    Done,
    /// Its savepoint is recorded, and the JobManager about to end.
    Recorded,
}

/// A JobManager with its job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Jvm {
    pub(crate) run: u8,
    pub(crate) id: u8,
    /// How many pieces of work lie behind it: each snapshot is one piece further.
    pub(crate) position: u8,
    pub(crate) stop: Stop,
    pub(crate) started: u8,
}

/// Flink's container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Container {
    /// The launcher waits in its `Prepare` call.
    Waiting,
    /// This run is stored, with the path that it starts from.
    Prepared(u8, Option<String>),
    Jvm(Jvm),
    /// It has ended, and the kubelet starts it again.
    Restarting,
    /// It has ended for good.
    Ended,
}

/// A pod of a JobManager.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pod {
    pub(crate) template: u8,
    pub(crate) container: Container,
    /// Its object is there.
    pub(crate) object: bool,
    pub(crate) gone_by: Option<u8>,
    /// The kubelet and the pod know that it is to go.
    pub(crate) heard: bool,
    /// Its node is cut off from the API server and from the other pods.
    pub(crate) cut: bool,
    pub(crate) node_dead: bool,
    pub(crate) node_deleted: bool,
    /// Its status says that its container has ended for good.
    pub(crate) reported: bool,
    pub(crate) silent_since: Option<u8>,
    /// The ConfigMap as the supervisor read it last.
    pub(crate) read: Map,
    /// Its own note, in its emptyDir, that it holds the lock.
    pub(crate) noted: bool,
}

impl Pod {
    pub(crate) fn new(template: u8, read: Map) -> Self {
        Self {
            template,
            container: Container::Waiting,
            object: true,
            gone_by: None,
            heard: false,
            cut: false,
            node_dead: false,
            node_deleted: false,
            reported: false,
            silent_since: None,
            read,
            noted: false,
        }
    }

    pub(crate) fn runs_job(&self) -> bool {
        matches!(&self.container, Container::Jvm(jvm) if matches!(jvm.stop, Stop::Not | Stop::Asked))
    }

    pub(crate) fn ended(&self) -> bool {
        self.container == Container::Ended
    }

    /// It is to stay, and everybody can reach it.
    pub(crate) fn stays(&self) -> bool {
        self.object && self.gone_by.is_none() && !self.cut && !self.node_dead
    }

    pub(crate) fn end(&mut self) {
        self.container = Container::Ended;
        self.reported |= !self.cut && !self.node_dead;
    }

    /// What another pod can know of it.
    pub(crate) fn state(&self, rights: bool) -> PodState {
        let silent_since = self.silent_since.map(at);
        if !rights {
            return PodState::Unknown { silent_since };
        }
        if !self.object {
            return PodState::Deleted { silent_since };
        }
        if self.node_deleted {
            return PodState::NodeGone;
        }
        if self.reported {
            return PodState::JobManagerEnded;
        }
        PodState::Alive(Life {
            restarting: self.container == Container::Restarting && !self.cut,
            started: match &self.container {
                Container::Jvm(jvm) => Some(at(jvm.started)),
                _ => None,
            },
            gone_by: self.gone_by.map(at),
            silent_since,
        })
    }
}

/// A TaskManager that was told to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Hold {
    pub(crate) told_at: u8,
    /// Which pods ran the job then.
    pub(crate) ran: Vec<usize>,
    pub(crate) requested: bool,
    pub(crate) read: Map,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TaskManager {
    Runs,
    Holds(Hold),
    Gone,
}

/// A checkpoint or the savepoint of a stop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct File {
    pub(crate) run: u8,
    pub(crate) id: u8,
    pub(crate) kind: PointKind,
    pub(crate) position: u8,
}

impl File {
    pub(crate) fn path(&self) -> String {
        format!("{}/{:?}-{}", self.run, self.kind, self.id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) now: u8,
    pub(crate) pods: Vec<Pod>,
    pub(crate) map: Map,
    /// The copy of the pointer beside the savepoints, and its generation.
    pub(crate) copy: Option<(u8, Arc<JobEntry>)>,
    pub(crate) files: Vec<File>,
    pub(crate) task_manager: TaskManager,
    pub(crate) api_away: bool,
    /// How far the job's sinks have committed.
    pub(crate) committed: u8,
    pub(crate) runs: u8,
    /// The lock was broken across a partition, or a person has deleted by force what lives behind one.
    pub(crate) excused: bool,
    /// How often the lock was handed over since a JobManager was started last.
    pub(crate) passed_on: u8,
    pub(crate) left: Budget,
    pub(crate) broken: Option<&'static str>,
}

impl World {
    /// Notes the first promise that does not hold.
    pub(crate) fn require(&mut self, holds: bool, promise: &'static str) {
        if !holds && self.broken.is_none() {
            self.broken = Some(promise);
        }
    }

    /// From here on only what comes about by itself happens.
    pub(crate) fn spend(&mut self) {
        self.left = Budget {
            arrivals: &[],
            tells: 0,
            forces: 0,
            cuts: 0,
            node_deaths: 0,
            node_deletes: 0,
            crashes: 0,
            checkpoints: 0,
            stop_failures: 0,
            outages: 0,
            task_manager_tells: 0,
            ..self.left
        };
    }

    /// Makes equal what no decision tells apart any more, so that there is less to search.
    pub(crate) fn forget(&mut self) {
        for pod in &mut self.pods {
            if pod.ended() && (pod.node_dead || !pod.object) {
                (pod.read, pod.noted) = (Map::new(Content::default()), false);
            }
        }
    }

    /// Only a TaskManager asks since when a pod holds the lock and a JobManager runs.
    pub(crate) fn forget_times(&mut self) {
        for pod in &mut self.pods {
            pod.read.change(|map| timeless(&mut map.lock));
            if let Container::Jvm(jvm) = &mut pod.container {
                jvm.started = 0;
            }
        }
        self.map.change(|map| timeless(&mut map.lock));
    }

    /// Somebody asks for these times.
    pub(crate) fn tells_times(&self) -> bool {
        self.task_manager != TaskManager::Gone
    }

    /// The API server answers to this pod.
    pub(crate) fn reaches(&self, pod: usize) -> bool {
        !self.api_away && !self.pods[pod].cut && !self.pods[pod].node_dead
    }

    pub(crate) fn states(&self) -> BTreeMap<String, PodState> {
        let pods = self.pods.iter().enumerate();
        pods.map(|(index, pod)| (uid(index), pod.state(self.left.rights)))
            .collect()
    }

    pub(crate) fn pod_ref(&self, index: usize) -> PodRef {
        PodRef {
            uid: uid(index),
            name: uid(index),
            ip: Some(String::new()),
            node: None,
            template: self.pods[index].template.to_string(),
        }
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path() == path)
    }
}

pub(crate) fn timeless(lock: &mut Lock) {
    lock.holders
        .iter_mut()
        .for_each(|holder| holder.since = at(0));
    lock.waiters
        .iter_mut()
        .for_each(|waiter| waiter.since = at(0));
}

pub(crate) fn uid(index: usize) -> String {
    index.to_string()
}

pub(crate) fn index(uid: &str) -> usize {
    uid.parse().expect("a pod's UID is its index")
}

pub(crate) fn at(tick: u8) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, ticks(tick))
}

pub(crate) fn ticks(count: u8) -> Duration {
    Duration::from_secs(u64::from(count))
}

pub(crate) fn run_id(run: u8) -> RunId {
    RunId::from_bytes([run; 6])
}
