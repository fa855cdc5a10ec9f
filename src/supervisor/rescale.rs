//! Another parallelism for a job that runs on: asked of Flink, and observed until all tasks run with it and a checkpoint is
//! complete. When that does not come about in time, what Flink was asked for before is put back.
//!
//! ```text
//! Planning ─► Saving (a checkpoint, so that little is processed again) ─► Required ─► Reached (a checkpoint) ─► answer
//! ```
//! Nothing of this is stored: a supervisor that is killed leaves Flink to it, which goes on by itself.

mod steps;

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::Supervisor;
use crate::control::{Reply, RescaleCall, RescaledVertex};
use crate::domain::budget::{after, until};
use crate::domain::rescale::{Obstacle, Order, Requirements, Vertex, Wanted};
use crate::domain::savepoint::{SavepointKind, TriggerId};
use crate::domain::supervise::{Ask, Process, ready};
use crate::flink::rest::RestError;
use crate::kubernetes::events::Event;
use crate::metrics::own;
use crate::telemetry::one_line;
use steps::take_back;

/// How often a job under way is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The wait between checkpoints that are asked for.
const CHECKPOINT_AGAIN: Duration = Duration::from_secs(10);

/// A job on its way to another parallelism.
#[derive(Debug)]
pub(super) struct Rescaling {
    wanted: Wanted,
    /// Who waits for it; `None`: it is a change of the configuration.
    back: Option<oneshot::Sender<Reply>>,
    since: Timestamp,
    deadline: Timestamp,
    phase: Phase,
    /// How it was before.
    before: Vec<Vertex>,
    previous: Requirements,
    order: Order,
    /// The checkpoint that was asked for last, and when.
    checkpoint: Option<(TriggerId, Timestamp)>,
    /// What it waits for.
    waiting: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is not known yet what to ask of Flink.
    Planning,
    /// A checkpoint is under way, from which Flink will restore the job.
    Saving,
    /// Flink was asked.
    Required,
    /// All tasks run with the new parallelism, and a checkpoint of them is under way.
    Reached,
}

enum Step {
    Wait(String),
    Turn,
    Hindered(Obstacle),
    End(Reply),
}

impl Step {
    fn failed(error: impl Into<String>) -> Self {
        Self::End(Reply::failed(error))
    }

    fn later(error: impl Into<String>) -> Self {
        let error = error.into();
        Self::End(Reply::Failed { error, code: 75 })
    }
}

impl From<RestError> for Step {
    /// A Flink that does not answer may answer later.
    fn from(error: RestError) -> Self {
        match error {
            RestError::Unreachable { .. } | RestError::Unavailable { .. } => {
                Self::Wait("Flink does not answer".to_owned())
            }
            error => Self::failed(one_line(&error, 400)),
        }
    }
}

impl From<Obstacle> for Step {
    fn from(obstacle: Obstacle) -> Self {
        Self::Hindered(obstacle)
    }
}

impl Supervisor {
    /// Another parallelism is wanted. `back` is answered when the job runs with it, or goes on without.
    pub(super) fn want_rescale(&mut self, call: RescaleCall, back: oneshot::Sender<Reply>) {
        let refused = self.rescalable(&call);
        let key = match refused {
            Ok(key) => key,
            Err((error, code)) => {
                let _ = back.send(Reply::Failed { error, code });
                return;
            }
        };
        info!(job = key, parallelism = call.parallelism, vertices = ?call.vertices, "Rescaling asked for");
        let wanted = Wanted {
            all: call.parallelism,
            vertices: call.vertices,
            default: None,
        };
        let patience = Duration::from_millis(call.timeout_ms);
        self.begin_rescaling(key, Rescaling::new(wanted, patience, Some(back)));
    }

    pub(super) fn begin_rescaling(&mut self, key: String, begun: Rescaling) {
        self.jobs.entry(key).or_default().rescaling = Some(Box::new(begun));
    }

    /// The key of the job, or why it cannot be rescaled now.
    fn rescalable(&self, call: &RescaleCall) -> Result<String, (String, u8)> {
        let zero = call.parallelism == Some(0) || call.vertices.values().any(|wanted| *wanted == 0);
        if zero || (call.parallelism.is_none() && call.vertices.is_empty()) {
            return Err(("a parallelism of at least 1 is needed".to_owned(), 64));
        }
        if self.shutdown.is_some() || self.process == Process::Gone {
            return Err(("Flink does not run, or is about to end".to_owned(), 75));
        }
        let key = self
            .find_job(call.job.as_deref())
            .map_err(|error| (error, 64))?;
        let job = self.jobs.get(&key);
        if job.is_some_and(|job| job.ask.is_some() || job.rescaling.is_some()) {
            let text = "a savepoint or another rescaling of this job is under way; try again when it is done";
            return Err((text.to_owned(), 75));
        }
        Ok(key)
    }

    /// Looks how far the jobs are on their way; when to look again.
    pub(super) async fn go_on_with_rescaling(&mut self) -> Option<Timestamp> {
        let keys: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.rescaling.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        let mut wake = None;
        for key in keys {
            let job = self.jobs.get_mut(&key);
            let Some(mut under_way) = job.and_then(|job| job.rescaling.take()) else {
                continue;
            };
            let step = loop {
                match self.rescale_step(&key, &mut under_way).await {
                    Step::Turn => {}
                    step => break step,
                }
            };
            match (step, self.jobs.get_mut(&key)) {
                (Step::Hindered(obstacle), _) => {
                    let reply = Reply::failed(format!("not rescaled: {obstacle}"));
                    self.end_rescaling(&key, *under_way, reply, Some(obstacle));
                    wake = Some(Timestamp::now());
                }
                (Step::End(reply), _) => {
                    self.end_rescaling(&key, *under_way, reply, None);
                    wake = Some(Timestamp::now());
                }
                (Step::Wait(why), Some(job)) => {
                    if under_way.waiting != why {
                        debug!(job = key, why, "Rescaling waits");
                    }
                    under_way.waiting = why;
                    job.rescaling = Some(under_way);
                    wake = Some(after(Timestamp::now(), POLL));
                }
                _ => {}
            }
        }
        wake
    }

    async fn rescale_step(&self, key: &str, under_way: &mut Rescaling) -> Step {
        let Some(cluster) = self
            .cluster
            .as_ref()
            .filter(|_| self.process == Process::Running)
        else {
            return Step::later(
                "not rescaled: Flink has ended, and starts as its configuration says",
            );
        };
        if let Some(step) = self.in_between(key, under_way) {
            return step;
        }
        let job = self.jobs.get(key);
        let view = job.and_then(|job| job.view.as_ref());
        let overdue = Timestamp::now() >= under_way.deadline;
        let all_run = view.filter(|view| ready(view));
        match (under_way.phase, view, all_run) {
            (phase, _, _) if overdue => {
                take_back(cluster, phase, view.map(|v| v.id), under_way).await
            }
            (Phase::Planning, _, None) => Step::Wait("not all tasks are running yet".to_owned()),
            (Phase::Planning, _, Some(view)) => {
                if job.is_some_and(|job| job.watch.takes_no_checkpoints()) {
                    let why =
                        "the job takes no checkpoints, so it would begin again from empty state";
                    return Obstacle::Scheduler(why).into();
                }
                settled(under_way.prepare(cluster, view.id).await)
            }
            (Phase::Saving, Some(view), _) => settled(under_way.save(cluster, view.id).await),
            (Phase::Required, Some(view), _) => settled(under_way.observe(cluster, view.id).await),
            (Phase::Reached, Some(view), _) => settled(under_way.confirm(cluster, view.id).await),
            (_, None, _) => Step::Wait("Flink does not show the job".to_owned()),
        }
    }

    /// What else happens to the job comes first: its stop or its end, and a plain savepoint, which a change would break off.
    fn in_between(&self, key: &str, under_way: &Rescaling) -> Option<Step> {
        let job = self.jobs.get(key)?;
        let plain = |ask: &Ask| matches!(ask.kind, SavepointKind::Savepoint);
        let stops = job.ask.as_ref().is_some_and(|ask| !plain(ask));
        if self.shutdown.is_some() || stops {
            return Some(Step::later("not rescaled: the job is being stopped"));
        }
        let over = job.view.as_ref().map(|view| view.status);
        if let Some(status) = over.filter(|status| status.is_globally_terminal()) {
            return Some(Step::later(format!("not rescaled: the job is {status}")));
        }
        let asked = matches!(under_way.phase, Phase::Required | Phase::Reached);
        let overdue = Timestamp::now() >= under_way.deadline;
        let waits = job.ask.is_some() && !asked && !overdue;
        waits.then(|| Step::Wait("a savepoint is under way".to_owned()))
    }

    fn end_rescaling(
        &mut self,
        key: &str,
        under_way: Rescaling,
        reply: Reply,
        obstacle: Option<Obstacle>,
    ) {
        let took = until(under_way.since, Timestamp::now());
        let overdue = Timestamp::now() >= under_way.deadline;
        match &reply {
            Reply::Rescaled { .. } => self.log_rescaled(key, &reply),
            Reply::Failed { error, .. } => {
                warn!(job = key, error, "Job was not rescaled");
                if under_way.back.is_some() {
                    let text = format!("Job {key}: {error}");
                    self.tell(Event::warning("RescaleFailed", &text));
                }
            }
            _ => return,
        }
        own().rescaled(took, matches!(reply, Reply::Rescaled { .. }));
        match under_way.back {
            // Who has hung up needs no answer.
            Some(back) => drop(back.send(reply)),
            None => self.rescaled_for_change(reply, obstacle, overdue),
        }
    }

    fn log_rescaled(&self, key: &str, reply: &Reply) {
        let Reply::Rescaled {
            vertices,
            checkpoint,
            took_ms,
        } = reply
        else {
            return;
        };
        let widest =
            |of: fn(&RescaledVertex) -> u32| vertices.iter().map(of).max().unwrap_or_default();
        let (before, after) = (widest(|it| it.before), widest(|it| it.after));
        info!(
            job = key,
            before, after, checkpoint, took_ms, "Job was rescaled in place"
        );
        if checkpoint.is_some() {
            let text = format!("Job {key} runs with parallelism {after} instead of {before}");
            self.tell(Event::normal("Rescaled", &text));
        }
    }
}

fn settled(step: Result<Step, Step>) -> Step {
    step.unwrap_or_else(|step| step)
}
