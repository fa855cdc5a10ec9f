//! The jobs of a session cluster come back: what a JobManager without high availability has forgotten is submitted again,
//! each job from its own restore point; of the others it is said what a person must do.
//!
//! Promises: each listed job is submitted once in a JobManager's life. Its run is stored with a job id of Drey's own
//! before its jar is run, and Flink refuses a second job with the id of one that it knows, also of one that has ended: so a
//! supervisor that is killed at any instruction goes on with the same submission. One job that cannot be submitted does
//! not keep the others from it.

mod failed;
mod ledger;
mod steps;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::Supervisor;
use crate::domain::budget::{Backoff, after};
use crate::domain::job::JobId;
use crate::domain::pointer::{JobEntry, RunId, TriggerReason};
use crate::domain::supervise::Process;
use crate::kubernetes::events::Event;
use crate::session_jobs::SessionJob;
use ledger::Ledger;
use work::{NotSubmitted, Plan};

/// The wait before a job is tried again.
const AGAIN: Backoff = Backoff {
    first: Duration::from_secs(1),
    most: Duration::from_secs(60),
};

/// How often Flink may refuse a job in one JobManager's life.
const REFUSALS: u32 = 5;

/// How often it is looked whether work is done.
const LOOK: Duration = Duration::from_millis(100);

/// How long a main method may run.
const MAIN_METHOD: Duration = Duration::from_secs(600);

/// The jobs that are brought back in the present JobManager's life.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The JobManager, by the run id that it was started with.
    life: Option<RunId>,
    ledger: Ledger,
    /// Whether an earlier supervisor has begun with it.
    resumed: bool,
    listed: Vec<SessionJob>,
    todo: BTreeMap<String, Todo>,
    work: Option<(String, Work)>,
    /// The JobManager whose jobs are all stopped for a pod of another template that waits.
    gives_way: Option<RunId>,
}

#[derive(Debug, Default)]
struct Todo {
    state: State,
    attempts: u32,
    not_before: Timestamp,
    /// Its entry when it was planned last.
    planned: JobEntry,
    /// Its run was stored in this JobManager's life.
    stored: bool,
    /// How often in a row it has failed soon after its start.
    failures: u32,
    problem: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be planned.
    #[default]
    Waiting,
    /// A person has to act: to be planned again when its entry has changed.
    Told,
    /// Flink has accepted it, and will show it.
    Submitted,
    /// It is there, or needs not be.
    Done,
}

#[derive(Debug)]
enum Work {
    Plan(JoinHandle<Plan>),
    Submit(JoinHandle<Result<JobId, NotSubmitted>>),
}

impl Work {
    fn is_finished(&self) -> bool {
        match self {
            Self::Plan(task) => task.is_finished(),
            Self::Submit(task) => task.is_finished(),
        }
    }
}

impl Session {
    /// The jobs of which something is to be said.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.todo.keys()
    }

    /// What a person should know of the job under `key`.
    pub(super) fn problem(&self, key: &str) -> Option<String> {
        self.todo.get(key)?.problem.clone()
    }

    fn job(&self, key: &str) -> Option<&SessionJob> {
        self.listed.iter().find(|job| job.name == key)
    }

    /// Whatever is under way is left: no job starts while others are stopped.
    fn interrupt(&mut self) {
        match self.work.take() {
            Some((_, Work::Plan(task))) => task.abort(),
            Some((_, Work::Submit(task))) => task.abort(),
            None => {}
        }
    }

    /// The next job to be looked at, those of the list first.
    fn next(&self, now: Timestamp, jobs: &BTreeMap<String, JobEntry>) -> Option<String> {
        let listed = self.listed.iter().map(|job| &job.name);
        let mut keys = listed.chain(self.todo.keys());
        let due = |key: &&String| {
            self.todo.get(*key).is_some_and(|todo| match todo.state {
                State::Waiting => todo.not_before <= now,
                State::Told => todo.planned != jobs.get(*key).cloned().unwrap_or_default(),
                State::Submitted | State::Done => false,
            })
        };
        keys.find(due).cloned()
    }

    fn wake(&self, now: Timestamp) -> Timestamp {
        if self.work.is_some() {
            return after(now, LOOK);
        }
        let waiting = |todo: &&Todo| todo.state == State::Waiting;
        let times = self.todo.values().filter(waiting);
        let soonest = times.map(|todo| todo.not_before).min();
        soonest.unwrap_or(Timestamp::MAX)
    }
}

impl Supervisor {
    /// One step towards having every job back; when to take the next one.
    pub(super) async fn submit_jobs(&mut self) -> Timestamp {
        let now = Timestamp::now();
        let Some(life) = self.submits_to() else {
            self.session.interrupt();
            self.say_list_is_unused();
            return Timestamp::MAX;
        };
        if self.session.life.as_ref() != Some(&life) {
            self.begin_life(life);
        }
        self.resubmit_failed(now);
        self.note_seen();
        let finished = |(_, work): &mut (String, Work)| work.is_finished();
        if let Some((key, work)) = self.session.work.take_if(finished) {
            match work {
                Work::Plan(task) => self.planned(&key, task.await).await,
                Work::Submit(task) => self.submitted(&key, task.await),
            }
        }
        if self.session.work.is_none()
            && let Some(key) = self.session.next(now, &self.pointer.jobs)
        {
            self.plan_job(&key);
        }
        self.session.wake(now)
    }

    /// Whether a session cluster is supervised.
    pub(super) fn is_session(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| !cluster.application)
    }

    /// Whether the JobManager ends when every job is stopped, for a pod that waits.
    pub(super) fn gives_session_way(&self) -> bool {
        let run = self.cluster.as_ref().map(|cluster| &cluster.run);
        run.is_some() && self.session.gives_way.as_ref() == run
    }

    /// A pod of another template waits: every job is stopped with a savepoint, or falls back to its newest checkpoint, as in
    /// a shutdown. With its JobManager's end the pod that waits has its turn, and submits them again.
    pub(super) fn give_session_way(&mut self, to: &str) {
        if !self.gives_session_way() {
            self.session.gives_way = self.cluster.as_ref().map(|cluster| cluster.run.clone());
            info!(to, "Giving all jobs over to a pod of another template");
            let text = format!(
                "Pod {to} of another template waits: all jobs are stopped with savepoints and given over to it"
            );
            self.tell(Event::normal("HandOver", &text));
        }
        let since = Timestamp::now();
        let deadline = after(since, self.settings.shutdown_timeout);
        let keys: Vec<String> = self.jobs.keys().cloned().collect();
        for key in keys {
            let ask = self.stop_ask(&key, TriggerReason::HandOver, since, deadline, true);
            let job = self.jobs.get_mut(&key);
            if let Some(job) = job.filter(|job| job.ask.is_none()) {
                job.settled = None;
                job.ask = Some(ask);
            }
        }
    }

    /// A list where jobs come back by themselves may be a mistake.
    fn say_list_is_unused(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let odd = cluster.application || cluster.high_availability;
        let told = self.session.life.as_ref() == Some(&cluster.run);
        if odd && !told && self.settings.session_jobs.is_some() {
            self.session.life = Some(cluster.run.clone());
            let text = "The list of jobs is not used: it is for session clusters without high availability";
            warn!("{text}");
            self.tell(Event::warning("SessionJobsUnused", text));
        }
    }

    /// The JobManager to which jobs may be submitted. With high availability they come back by themselves.
    fn submits_to(&self) -> Option<RunId> {
        let cluster = self.cluster.as_ref()?;
        let goes = self.shutdown.is_some() || self.container_restarts() || self.gives_session_way();
        let runs = self.process == Process::Running && cluster.reachable;
        let forgets = !cluster.application && !cluster.high_availability;
        (runs && forgets && !goes).then(|| cluster.run.clone())
    }
}
