//! The end of Flink: when every job has come to its own end, the launcher is told to end Flink, and what comes then.

use jiff::Timestamp;
use tracing::warn;

use super::Supervisor;
use crate::control::{Reply, Settled, SettledOutcome, Then};
use crate::domain::job::JobStatus;
use crate::domain::pointer::{JobEntry, TriggerReason};
use crate::domain::supervise::{Outcome, Process};
use crate::kubernetes::events::Event;

impl Supervisor {
    /// Tells the launcher when every job has come to its end.
    pub(super) async fn settle(&mut self) -> Option<Timestamp> {
        let not_ours = self.is_standby() || self.gave_up_lock();
        if self.needs_nothing_more()
            || (self.process == Process::Gone && not_ours)
            || self.runs_without_lock().await
        {
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
            let again = self.tries() && !settled.iter().any(is_over);
            if let Some(back) = self.exited.take() {
                let _ = back.send(Reply::Settled { settled, again });
            }
            return None;
        }
        let application = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.application);
        let over = self.shutdown.is_some()
            || self.restarts_for_change()
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
                let waits = self.is_outdated_standby() || self.gave_up_lock();
                let again = self.shutdown.is_none() && (waits || self.anew);
                let then = if again { Then::Again } else { Then::EndAsFlink };
                let settled = Vec::new();
                let _ = back.send(Reply::Terminate { settled, then });
                self.answer_pre_stops(&[]);
            }
        } else if let Some(back) = self.exited.take() {
            self.jobs.clear();
            self.flink_is_over().await;
            let settled = Vec::new();
            let again = false;
            let _ = back.send(Reply::Settled { settled, again });
        }
    }

    /// Flink can be ended without a savepoint: only its container is restarted, it is a standby, another JobManager goes
    /// on with the job, or it could not complete one.
    fn needs_nothing_more(&self) -> bool {
        self.container_restarts() || self.leadership.free || self.is_outdated_standby() || self.anew
    }

    /// Another pod has the lock while a JobManager runs here that nobody will ask for anything more: the supervisor that gave
    /// the lock away was killed before it could end the JobManager, or a person emptied the lock and the other pod was quicker.
    async fn runs_without_lock(&mut self) -> bool {
        let alone = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.application && !cluster.high_availability);
        let unsettled = self.jobs.values().all(|job| job.settled.is_none());
        let lost = alone && unsettled && self.process == Process::Running && self.gave_up_lock();
        if !lost || self.order.is_none() {
            return false;
        }
        // What a watch has shown may be older than this pod's own write.
        let seen = match self.store.map() {
            Some(map) => map.load().await.is_ok(),
            None => false,
        };
        if !seen || !self.gave_up_lock() {
            return false;
        }
        let text = "Another pod has the lock, and runs the job or will: this JobManager is ended";
        warn!("{text}");
        self.tell(Event::warning("LockLost", text));
        true
    }

    /// In a pod that stays, Flink is started anew: the job was handed over and may come back, or a finished one is waited
    /// beside, since a container that ends is started again by the kubelet.
    fn after_end(&self, settled: &[Settled]) -> Then {
        let again = self.restarts_for_change()
            || self.stopped_to_be_held()
            || self.starts_failed_again(settled);
        if self.shutdown.is_none() && again {
            return Then::Again;
        }
        let Some(pod) = &self.pod else {
            return Then::End;
        };
        if self.shutdown.is_some() {
            return Then::EndAsFlink;
        }
        let given = pod.handed_over || self.gives_session_way();
        let by_order = self
            .pointer
            .jobs
            .values()
            .any(|entry| entry.ended.is_some());
        let over = all_finished(settled) || by_order;
        let stays = given || (pod.is_restarted() && over);
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
}

/// It has its end, or somebody stopped it: a configuration has nothing to do with that.
fn is_over(job: &Settled) -> bool {
    use SettledOutcome::{Finished, Recorded};
    matches!(job.outcome, Recorded | Finished)
}

fn all_finished(settled: &[Settled]) -> bool {
    let finished = |job: &Settled| job.outcome == SettledOutcome::Finished;
    !settled.is_empty() && settled.iter().all(finished)
}
