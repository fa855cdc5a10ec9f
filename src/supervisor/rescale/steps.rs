//! The steps of one job on its way to another parallelism.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::{CHECKPOINT_AGAIN, Phase, Rescaling, Step};
use crate::control::{Reply, RescaledVertex};
use crate::domain::budget::{after, until};
use crate::domain::job::JobId;
use crate::domain::rescale::{
    Obstacle, Order, Requirements, Scheduling, Situation, Targets, Vertex, Wanted, plan, reached,
};
use crate::domain::savepoint::TriggerId;
use crate::flink::rest::RestError;
use crate::flink::wire::CheckpointOperation;
use crate::kill_point;
use crate::supervisor::cluster::Cluster;
use crate::supervisor::random;
use crate::telemetry::one_line;

/// The time is up.
pub(super) async fn take_back(
    cluster: &Cluster,
    phase: Phase,
    job: Option<JobId>,
    under_way: &Rescaling,
) -> Step {
    let why = &under_way.waiting;
    let asked = matches!(phase, Phase::Required | Phase::Reached);
    let Some(job) = job.filter(|_| asked) else {
        return Step::failed(format!("not rescaled in time: {why}; nothing was changed"));
    };
    match cluster.rest.require(job, &under_way.previous).await {
        Ok(()) => Step::failed(format!(
            "not rescaled in time: {why}; what was asked of Flink before is asked of it again"
        )),
        Err(error) => Step::failed(format!(
            "not rescaled in time: {why}; and it could not be taken back: {}",
            one_line(&error, 300)
        )),
    }
}

impl Rescaling {
    /// One that has to be done in time; `back` is who waits for it.
    pub(in crate::supervisor) fn new(
        wanted: Wanted,
        patience: Duration,
        back: Option<oneshot::Sender<Reply>>,
    ) -> Self {
        let since = Timestamp::now();
        Self {
            wanted,
            back,
            since,
            deadline: after(since, patience),
            phase: Phase::Planning,
            before: Vec::new(),
            previous: Requirements::new(),
            order: Order {
                targets: Targets::new(),
                requirements: Requirements::new(),
            },
            checkpoint: None,
            waiting: String::new(),
        }
    }

    /// Finds out what to ask for.
    pub(super) async fn prepare(&mut self, cluster: &Cluster, job: JobId) -> Result<Step, Step> {
        let configuration = cluster.rest.jobmanager_config().await?;
        let scheduling = Scheduling::of(&configuration, cluster.version.at_least(1, 18));
        if let Some(obstacle) = scheduling.obstacle() {
            return Err(obstacle.into());
        }
        self.before = cluster.rest.graph(job).await?.vertices;
        self.previous = match cluster.rest.requirements(job).await {
            // A batch job, say: the configuration alone does not tell.
            Err(RestError::Server { cause, .. }) => {
                debug!(cause = cause.root, "No requirements");
                return Err(Scheduling::Fixed.obstacle().map_or(Step::Turn, Step::from));
            }
            other => other?,
        };
        let free_slots = if cluster.native {
            None
        } else {
            let all = cluster.rest.task_managers().await?;
            Some(all.iter().map(|it| it.free_slots).sum())
        };
        self.order = plan(
            &self.wanted,
            &Situation {
                vertices: &self.before,
                requirements: &self.previous,
                free_slots,
            },
        )?;
        let there = reached(&self.order.targets, &self.before).is_ok();
        if there && self.order.requirements == self.previous {
            return Ok(self.done(None, &self.before));
        }
        self.trigger(cluster, job).await?;
        self.phase = Phase::Saving;
        Ok(Step::Turn)
    }

    /// Flink restores the job from its newest checkpoint: without one it would be from empty state.
    pub(super) async fn save(&mut self, cluster: &Cluster, job: JobId) -> Result<Step, Step> {
        if self.completed(cluster, job).await?.is_none() {
            return Ok(Step::Wait("a checkpoint is not complete".to_owned()));
        }
        match cluster.rest.require(job, &self.order.requirements).await {
            Ok(()) => {}
            Err(RestError::BadRequest { cause, .. }) => {
                return Err(Obstacle::Refused(cause.root).into());
            }
            Err(error) => return Err(error.into()),
        }
        kill_point("after-rescale-asked");
        info!(%job, requirements = ?self.order.requirements, "Another parallelism is asked of Flink");
        self.phase = Phase::Required;
        self.checkpoint = None;
        Ok(Step::Turn)
    }

    /// All tasks must run with the new parallelism.
    pub(super) async fn observe(&mut self, cluster: &Cluster, job: JobId) -> Result<Step, Step> {
        let graph = cluster.rest.graph(job).await?;
        match reached(&self.order.targets, &graph.vertices) {
            Ok(()) => {
                self.phase = Phase::Reached;
                self.checkpoint = None;
                Ok(Step::Turn)
            }
            Err(why) => {
                // From 2.0 on Flink changes over when a checkpoint completes, or after a long while (FLIP-461).
                if cluster.version.at_least(2, 0) {
                    self.completed(cluster, job).await?;
                }
                Ok(Step::Wait(why))
            }
        }
    }

    /// And a checkpoint of them must be complete.
    pub(super) async fn confirm(&mut self, cluster: &Cluster, job: JobId) -> Result<Step, Step> {
        let graph = cluster.rest.graph(job).await?;
        if reached(&self.order.targets, &graph.vertices).is_err() {
            self.phase = Phase::Required;
            return Ok(Step::Turn);
        }
        Ok(match self.completed(cluster, job).await? {
            Some(checkpoint) => self.done(Some(checkpoint), &graph.vertices),
            None => Step::Wait("no checkpoint was completed with the new parallelism".to_owned()),
        })
    }

    /// The checkpoint that was asked for, once it is complete; one that fails is asked for again after a while.
    async fn completed(&mut self, cluster: &Cluster, job: JobId) -> Result<Option<u64>, Step> {
        let Some((trigger, at)) = self.checkpoint else {
            self.trigger(cluster, job).await?;
            return Ok(None);
        };
        let again = Timestamp::now() >= after(at, CHECKPOINT_AGAIN);
        match cluster.rest.checkpoint_operation(job, trigger).await? {
            CheckpointOperation::Completed { checkpoint } => {
                if again {
                    self.checkpoint = None;
                }
                return Ok(Some(checkpoint));
            }
            CheckpointOperation::InProgress => {}
            CheckpointOperation::Failed(_) | CheckpointOperation::Unknown => {
                if again {
                    self.checkpoint = None;
                }
            }
        }
        Ok(None)
    }

    async fn trigger(&mut self, cluster: &Cluster, job: JobId) -> Result<(), Step> {
        let fresh = TriggerId::from_bytes(random());
        let trigger = cluster.rest.trigger_checkpoint(job, fresh).await?;
        self.checkpoint = Some((trigger, Timestamp::now()));
        Ok(())
    }

    fn done(&self, checkpoint: Option<u64>, now: &[Vertex]) -> Step {
        let vertex = |vertex: &Vertex| {
            let before = self.before.iter().find(|known| known.id == vertex.id);
            RescaledVertex {
                id: vertex.id.clone(),
                name: vertex.name.clone(),
                before: before.map_or(0, |known| known.parallelism),
                after: vertex.parallelism,
            }
        };
        let took = until(self.since, Timestamp::now());
        Step::End(Reply::Rescaled {
            vertices: now.iter().map(vertex).collect(),
            checkpoint,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
