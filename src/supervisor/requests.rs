//! What TaskManagers ask for through the pointer's ConfigMap: to be let go.
//!
//! A TaskManager that was told to go holds its SIGTERM back until this answers, or its JobManager is gone. It is let go at
//! once when it runs no task, after a checkpoint when it goes alone, and after the stop-with-savepoint when the job ends, now
//! or soon since the JobManager's owner has a new template.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::{Supervisor, random};
use crate::domain::budget::after;
use crate::domain::job::JobId;
use crate::domain::pointer_map::{Request, RequestKind};
use crate::domain::savepoint::TriggerId;
use crate::domain::supervise::{Process, ready};
use crate::flink::rest::RestError;
use crate::flink::wire::CheckpointOperation;
use crate::kubernetes::events::Event;
use crate::telemetry::one_line;

/// A checkpoint that takes longer is not waited for: the TaskManager's own time is bounded as well.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(30);

/// How often a checkpoint is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How often it is looked whether the JobManager's owner still wants another template.
const REPLACED_AGAIN: Duration = Duration::from_secs(3);

/// Checkpoints that somebody waits for, one for each job.
#[derive(Debug)]
pub(super) struct CheckpointWatch {
    open: Vec<(JobId, TriggerId)>,
    deadline: Timestamp,
}

impl CheckpointWatch {
    /// Until `deadline` at most.
    pub(super) fn new(open: Vec<(JobId, TriggerId)>, deadline: Timestamp) -> Self {
        Self { open, deadline }
    }
}

/// TaskManagers that go alone wait for these checkpoints.
#[derive(Debug)]
pub(super) struct Releasing {
    names: Vec<String>,
    checkpoints: CheckpointWatch,
}

impl Supervisor {
    /// Answers what can be answered; when to look again.
    pub(super) async fn answer_requests(&mut self) -> Option<Timestamp> {
        // A pod that waits for its turn must not let go whom the present JobManager needs.
        let waiting = if self.runs_the_job() {
            self.waiting_requests()
        } else {
            BTreeMap::new()
        };
        if waiting.is_empty() {
            self.releasing = None;
            return None;
        }
        if self.process == Process::Gone || self.cluster.is_none() {
            self.let_go(waiting.into_keys(), "no JobManager runs").await;
            return None;
        }
        // With its job's stop they are let go when that is recorded.
        if self.is_stopping() {
            self.tell_hold(&waiting);
            return None;
        }
        if self.releasing.is_some() {
            return self.watch_checkpoints().await;
        }
        self.begin_release(waiting).await
    }

    fn waiting_requests(&mut self) -> BTreeMap<String, Request> {
        let Some(map) = self.store.map() else {
            return BTreeMap::new();
        };
        let document = map.document();
        let open = |(name, request): &(&String, &Request)| {
            request.kind == RequestKind::Release && !document.answers.contains_key(*name)
        };
        let requests = document.requests.iter().filter(open);
        requests
            .map(|(name, request)| (name.clone(), request.clone()))
            .collect()
    }

    fn runs_the_job(&self) -> bool {
        let uid = self.pod_uid();
        let lock = self.store.as_map().map(|map| &map.document().lock);
        let holds = lock.zip(uid).is_some_and(|(lock, uid)| lock.holds(&uid));
        holds && !self.is_standby()
    }

    /// Once for each set of TaskManagers.
    fn tell_hold(&mut self, waiting: &BTreeMap<String, Request>) {
        let pods: Vec<&str> = waiting
            .values()
            .filter_map(|it| it.pod.as_deref())
            .collect();
        let pods = pods.join(", ");
        if self.held != pods {
            let jobs = self.pointer.jobs.keys();
            let open: Vec<String> = jobs.filter_map(|key| self.open_trigger(key)).collect();
            let trigger_id = Some(open.join(", ")).filter(|ids| !ids.is_empty());
            info!(
                pods,
                trigger_id, "TaskManagers are held until the savepoint is recorded"
            );
            let text = format!(
                "TaskManagers that were told to go stay until the savepoint is recorded: {pods}"
            );
            self.tell(Event::normal("Hold", &text));
            self.held = pods;
        }
    }

    fn is_stopping(&self) -> bool {
        use crate::domain::savepoint::SavepointKind::Stop;
        let asked = |job: &super::Job| {
            job.ask
                .as_ref()
                .is_some_and(|ask| matches!(ask.kind, Stop { .. }))
        };
        self.shutdown.is_some() || self.jobs.values().any(asked)
    }

    /// The JobManager's pod is to be replaced as well: a TaskManager that went before the savepoint would leave the job
    /// without slots, since the new TaskManagers no longer find this JobManager once its pod has left the Service.
    async fn is_replaced(&mut self) -> bool {
        if self.others_wait() {
            return true;
        }
        match &mut self.pod {
            Some(pod) => pod.owner_has_new_template().await,
            None => false,
        }
    }

    async fn begin_release(&mut self, waiting: BTreeMap<String, Request>) -> Option<Timestamp> {
        let busy = self.busy_addresses().await;
        let idle = |request: &Request| match (&busy, &request.ip) {
            (Some(busy), Some(ip)) => !busy.contains(ip),
            _ => false,
        };
        let (idle, busy): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, request)| idle(request));
        let names = |all: Vec<(String, Request)>| all.into_iter().map(|(name, _)| name);
        if !idle.is_empty() {
            self.let_go(names(idle), "it runs no task").await;
        }
        if busy.is_empty() {
            return None;
        }
        if self.is_replaced().await {
            self.tell_hold(&busy.into_iter().collect());
            return Some(after(Timestamp::now(), REPLACED_AGAIN));
        }
        let names: Vec<String> = names(busy).collect();
        let checkpoints = self.trigger_checkpoints().await;
        if checkpoints.is_empty() {
            self.let_go(names.into_iter(), "no checkpoint can be taken")
                .await;
            return None;
        }
        let text =
            "A TaskManager goes: a checkpoint is taken first, so that little is processed again";
        self.tell(Event::normal("CheckpointBeforeRelease", text));
        let deadline = after(Timestamp::now(), CHECKPOINT_PATIENCE);
        self.releasing = Some(Releasing {
            names,
            checkpoints: CheckpointWatch::new(checkpoints, deadline),
        });
        Some(after(Timestamp::now(), POLL))
    }

    /// The addresses of TaskManagers that run tasks; `None` when Flink does not say.
    async fn busy_addresses(&self) -> Option<BTreeSet<String>> {
        let all = self.cluster.as_ref()?.rest.task_managers().await;
        let all = all
            .inspect_err(|error| debug!(error = one_line(error, 200), "No list of TaskManagers"))
            .ok()?;
        let busy = all.into_iter().filter(|it| it.free_slots < it.slots);
        Some(busy.filter_map(|it| it.host).collect())
    }

    /// Asks for a checkpoint of every job that can have one (Flink 1.17 and later).
    pub(super) async fn trigger_checkpoints(&self) -> Vec<(JobId, TriggerId)> {
        let mut triggered = Vec::new();
        let Some(cluster) = &self.cluster else {
            return triggered;
        };
        let views = self.jobs.values().filter_map(|job| job.view.as_ref());
        for view in views.filter(|view| ready(view)) {
            let trigger = TriggerId::from_bytes(random());
            match cluster.rest.trigger_checkpoint(view.id, trigger).await {
                Ok(trigger) => {
                    info!(job_id = %view.id, trigger_id = %trigger, "Checkpoint triggered");
                    triggered.push((view.id, trigger));
                }
                Err(RestError::TooOld { .. }) => {}
                Err(error) => {
                    let error = one_line(&error, 200);
                    warn!(job_id = %view.id, error, "Checkpoint could not be triggered");
                }
            }
        }
        triggered
    }

    async fn watch_checkpoints(&mut self) -> Option<Timestamp> {
        let Releasing { names, checkpoints } = self.releasing.take()?;
        if let Some((checkpoints, again)) = self.look_at(checkpoints).await {
            self.releasing = Some(Releasing { names, checkpoints });
            return Some(again);
        }
        if self.is_replaced().await {
            return Some(Timestamp::now());
        }
        self.let_go(names.into_iter(), "a checkpoint was taken")
            .await;
        None
    }

    /// What is still open of these checkpoints, and when to look again; `None` when none is waited for any more.
    pub(super) async fn look_at(
        &self,
        watch: CheckpointWatch,
    ) -> Option<(CheckpointWatch, Timestamp)> {
        let cluster = self.cluster.as_ref()?;
        let mut open = Vec::new();
        for (job, trigger) in watch.open {
            match cluster.rest.checkpoint_operation(job, trigger).await {
                Ok(CheckpointOperation::InProgress) | Err(_) => open.push((job, trigger)),
                Ok(CheckpointOperation::Completed { checkpoint }) => {
                    info!(job_id = %job, trigger_id = %trigger, checkpoint_id = checkpoint, "Checkpoint completed");
                }
                Ok(other) => warn!(job_id = %job, trigger_id = %trigger, ?other, "No checkpoint"),
            }
        }
        let now = Timestamp::now();
        let goes_on = !open.is_empty() && now < watch.deadline && self.process == Process::Running;
        goes_on.then(|| (CheckpointWatch::new(open, watch.deadline), after(now, POLL)))
    }

    /// Lets every TaskManager go that waits: what it was held for is over.
    pub(super) async fn let_all_go(&mut self) {
        let waiting = self.waiting_requests();
        if !waiting.is_empty() {
            self.let_go(waiting.into_keys(), "the job is stopped").await;
        }
    }

    async fn let_go(&mut self, names: impl Iterator<Item = String>, why: &str) {
        let Some(map) = self.store.map() else { return };
        for name in names {
            info!(request = name, why, "TaskManager let go");
            match map.map().answer(&name, why).await {
                Ok(()) => map.answered(&name, why),
                Err(error) => {
                    // Its own time is bounded: it goes without an answer.
                    let error = one_line(&error, 200);
                    warn!(request = name, error, "TaskManager could not be answered");
                }
            }
        }
    }
}
