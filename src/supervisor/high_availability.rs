//! Several JobManagers with Kubernetes HA: only the leader's supervisor acts, a standby waits, and what Flink's metadata
//! hold is weighed against the pointer before a start.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, info, warn};

use super::requests::CheckpointWatch;
use super::{Shutdown, Supervisor};
use crate::control::{Prepare, Reply};
use crate::domain::budget::after;
use crate::domain::ha::{Metadata, Start, is_stopped, start};
use crate::domain::pointer::{APPLICATION, JobEntry};
use crate::kubernetes::events::Event;
use crate::kubernetes::ha::HighAvailability;
use crate::telemetry::one_line;

/// How long the job's metadata may take to go after its stop.
const CLEANED_IN: Duration = Duration::from_secs(2);

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What is known of Flink's leader election.
#[derive(Debug, Default)]
pub(super) struct Leadership {
    metadata: Option<HighAvailability>,
    /// The leader's IP address as it was seen last; `None` outside before it was ever seen, and inside while there is none.
    leader: Option<Option<String>>,
    /// A checkpoint is taken before the leader goes.
    pub(super) last_checkpoint: Option<CheckpointWatch>,
    /// Who held the leader's lease when this pod's JobManager led and was to end.
    lease: Option<String>,
    /// The JobManager may end without any more.
    pub(super) free: bool,
    /// Since when it is waited for the standby JobManagers and for Flink's own clean-up.
    waits_since: Option<Timestamp>,
}

impl Leadership {
    /// Kubernetes HA is on.
    pub(super) fn is_known(&self) -> bool {
        self.metadata.is_some()
    }
}

impl Supervisor {
    /// Kubernetes HA: who leads is watched from the first start on.
    pub(super) fn watch_leader(&mut self, flink: &Prepare) {
        let Some(pod) = self.pod.as_mut() else { return };
        if self.leadership.metadata.is_some() || !on_kubernetes(flink) {
            return;
        }
        let id = flink.configuration.get("kubernetes.cluster-id");
        let id = id.unwrap_or(&self.settings.cluster_id);
        let metadata = HighAvailability::new(pod.kube(), id);
        pod.watch_leader(&metadata);
        self.leadership.metadata = Some(metadata);
    }

    pub(super) fn see_leader(&mut self, leader: Option<String>) {
        let was = self.is_standby();
        self.leadership.leader = Some(leader);
        if was != self.is_standby() {
            let leads = !self.is_standby();
            info!(leads, "Leadership has changed");
        }
    }

    /// Another pod's JobManager leads, or nobody's does yet: nothing is to be done here.
    pub(super) fn is_standby(&self) -> bool {
        if self.leadership.metadata.is_none() {
            return false;
        }
        let me = self.pod.as_ref().and_then(|pod| pod.me.as_ref());
        let ip = me.and_then(|me| me.pod.ip.as_deref());
        match &self.leadership.leader {
            Some(leader) => leader.as_deref() != ip,
            None => true,
        }
    }

    /// What a start with high availability does about Flink's metadata; the reply when that fails.
    pub(super) async fn weigh_metadata(&mut self) -> Result<Start, Reply> {
        let Some(ha) = self.leadership.metadata.clone() else {
            return Ok(Start::Plain);
        };
        let metadata = ha.metadata().await.map_err(|error| refused(&error))?;
        let none = JobEntry::default();
        let entry = self.pointer.jobs.get(APPLICATION).unwrap_or(&none);
        let how = start(entry, metadata, self.others_hold());
        info!(
            ?how,
            checkpoint_id = metadata.checkpoint,
            graph = metadata.graph,
            "High-availability metadata"
        );
        match how {
            Start::Choose => {
                ha.forget(true).await.map_err(|error| refused(&error))?;
                let text =
                    "Flink's high-availability metadata are taken away: the pointer is newer";
                self.tell(Event::normal("MetadataRemoved", text));
            }
            // The graph may be of another configuration; the checkpoints are what the job resumes from.
            Start::Resume => ha.forget(false).await.map_err(|error| refused(&error))?,
            Start::Join | Start::Plain => {}
        }
        Ok(how)
    }

    /// The present run ended with a stop-with-savepoint.
    pub(super) fn run_is_stopped(&self) -> bool {
        self.pointer.jobs.get(APPLICATION).is_some_and(is_stopped)
    }

    fn others_hold(&self) -> bool {
        let uid = self.pod_uid();
        let lock = self.store.as_map().map(|map| &map.document().lock);
        lock.is_some_and(|lock| {
            let mut holders = lock.holders.iter();
            holders.any(|holder| Some(&holder.pod.uid) != uid.as_ref())
        })
    }

    /// The leader goes and a standby, or a successor, resumes the same job: a checkpoint just before keeps what has to
    /// be processed again small.
    pub(super) async fn end_with_checkpoint(&mut self, budget: Duration) {
        let since = Timestamp::now();
        let deadline = after(since, budget);
        self.shutdown = Some(Shutdown { since, deadline });
        let triggered = self.trigger_checkpoints().await;
        self.leadership.free = triggered.is_empty();
        let text = "Checkpoint before the leader goes: another JobManager resumes the job from it";
        self.tell(Event::normal("CheckpointStarted", text));
        self.leadership.last_checkpoint = Some(CheckpointWatch::new(triggered, deadline));
    }

    /// Looks after the last checkpoint; when to look again.
    pub(super) async fn watch_last_checkpoint(&mut self) -> Option<Timestamp> {
        let watch = self.leadership.last_checkpoint.take()?;
        match self.look_at(watch).await {
            Some((watch, again)) => {
                self.leadership.last_checkpoint = Some(watch);
                Some(again)
            }
            None => {
                self.leadership.free = true;
                None
            }
        }
    }

    /// A standby whose run was stopped elsewhere must not become the leader: it has read its start path long ago and would
    /// run the job from there.
    pub(super) fn is_outdated_standby(&self) -> bool {
        let entry = self.pointer.jobs.get(APPLICATION);
        let run = self.cluster.as_ref().map(|cluster| &cluster.run);
        self.is_standby()
            && entry.is_some_and(|entry| {
                is_stopped(entry) || entry.run.as_ref().map(|known| &known.id) != run
            })
    }

    /// After a stop with high availability the leader stays until the standby JobManagers have ended and Flink has removed
    /// the job's metadata; when to look again.
    pub(super) async fn wait_for_standbys(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        let ha = self.leadership.metadata.clone()?;
        if self.is_standby() || !self.run_is_stopped() {
            return None;
        }
        let since = *self.leadership.waits_since.get_or_insert(now);
        let by = self
            .shutdown
            .map_or(after(since, self.settings.shutdown_timeout), |it| {
                it.deadline
            });
        if after(now, self.policy.reserve) >= by {
            warn!("Standby JobManagers are not waited for any longer");
            return None;
        }
        if self.others_hold() {
            return Some(after(now, LOOK * 5));
        }
        if after(since, CLEANED_IN) > now {
            match ha.metadata().await {
                Ok(metadata) if metadata == Metadata::default() => {}
                Ok(_) => return Some(after(now, LOOK)),
                Err(error) => debug!(error = one_line(&error, 200), "Metadata cannot be seen"),
            }
        }
        None
    }

    /// The leader is about to end: what it leaves behind has to be known by name.
    pub(super) async fn remember_lease(&mut self) {
        let Some(ha) = self.leadership.metadata.clone() else {
            return;
        };
        if !self.is_standby() {
            self.leadership.lease = ha.lease_holder().await.ok().flatten();
        }
    }

    /// The JobManager of this pod has ended: if it led, nobody has to wait for its lease to expire.
    pub(super) async fn release_lease(&mut self) {
        let me = self.pod.as_ref().and_then(|pod| pod.me.as_ref());
        let ip = me.and_then(|me| me.pod.ip.clone());
        let (Some(ha), Some(ip)) = (self.leadership.metadata.clone(), ip) else {
            return;
        };
        let holder = self.leadership.lease.take();
        if let Err(error) = ha.release_lease(&ip, holder.as_deref()).await {
            warn!(
                error = one_line(&error, 300),
                "Leader's lease is left to expire"
            );
        }
    }

    /// A new JobManager is to be started.
    pub(super) fn forget_last_end(&mut self) {
        self.leadership.last_checkpoint = None;
        self.leadership.free = false;
        self.leadership.waits_since = None;
    }
}

fn on_kubernetes(flink: &Prepare) -> bool {
    let kind = flink
        .configuration
        .get("high-availability.type")
        .or_else(|| flink.configuration.get("high-availability"));
    kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("kubernetes"))
}

fn refused(error: &crate::kubernetes::KubeError) -> Reply {
    Reply::Failed {
        error: format!(
            "not started: Flink's high-availability metadata cannot be weighed against the pointer: {}",
            one_line(error, 300)
        ),
        code: 75,
    }
}
