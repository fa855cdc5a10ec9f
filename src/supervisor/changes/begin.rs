//! With which configuration Flink is started, and where the user's one comes from.

use jiff::Timestamp;
use tracing::info;

use super::Running;
use crate::changes::content;
use crate::control::{Prepare, Reply};
use crate::domain::budget::after;
use crate::domain::changes::{Content, Files, OnChange, Record, Start, Version, at_start};
use crate::domain::pointer::{APPLICATION, JobEntry, TriggerReason};
use crate::domain::supervise::Process;
use crate::flink::version::FlinkVersion;
use crate::supervisor::Supervisor;
use crate::supervisor::cluster::is_application;

impl Supervisor {
    /// The files to be used instead of those that the launcher has read, or why there is no start; `None`: they are right.
    pub(in crate::supervisor) async fn choose_configuration(
        &mut self,
        flink: &Prepare,
    ) -> Option<Reply> {
        if flink.ordered {
            return None;
        }
        self.changes.arguments_file = flink.arguments_file.clone();
        let refused = flink
            .unreadable
            .clone()
            .map(|error| Reply::Failed { error, code: 64 });
        let version: FlinkVersion = flink.flink_version.parse().ok()?;
        let managed = is_application(self.settings.mode, flink.application)
            && self.policy_of_changes(Some(flink)) != OnChange::Ignore
            && !flink.files.is_empty();
        if !managed {
            return refused;
        }
        let files = self.newest_files(&flink.files);
        let wanted = content(&files, version);
        let named = wanted
            .as_ref()
            .map_err(String::as_str)
            .map(|content| Version {
                digest: content.digest(),
                files: files.clone(),
            });
        let now = Timestamp::now();
        let by = after(now, self.settings.config_change_timeout);
        let record = self.configurations();
        let (start, next) = at_start(&record, named.as_ref().map_err(|why| *why), now, by);
        let chosen = match start {
            Start::Wanted if wanted.is_err() => return refused,
            Start::Wanted => files,
            Start::Good(good, why) => {
                if let Some(why) = why {
                    self.tell_rolled_back(&why);
                }
                if let Some(asks) = self.ask_a_person(&next) {
                    return Some(asks);
                }
                info!(
                    digest = good.digest,
                    "Started with the last good configuration"
                );
                good.files
            }
        };
        self.keep_for_start(next, &chosen, version).await;
        let given = self.without_secrets(flink.files.clone());
        (chosen != given).then_some(Reply::Configure { files: chosen })
    }

    /// A person has to decide where a job goes on that can go neither on nor back.
    fn ask_a_person(&self, record: &Record) -> Option<Reply> {
        let entry = self.pointer.jobs.get(APPLICATION)?;
        let (from, savepoint) = record.stuck(entry)?;
        let error = format!(
            "not started: the last good configuration does not come up from {from}, which the changed configuration's run made. \
             Change the configuration to one that can read it, or go back to the savepoint before the change, after which \
             events are put out again: `drey pointer set {savepoint}`"
        );
        Some(Reply::Failed { error, code: 64 })
    }

    /// A record that cannot be stored is no reason not to start.
    async fn keep_for_start(&mut self, mut next: Record, chosen: &Files, version: FlinkVersion) {
        let part = content(chosen, version).ok();
        let part = part.as_ref().map(Content::of_task_managers);
        self.changes.new_task_managers = next.task_managers.is_some() && next.task_managers != part;
        next.task_managers = part;
        self.keep(next).await;
    }

    /// Flink has ended by itself: while a configuration was tried, or after it was rolled back, that counts.
    pub(in crate::supervisor) async fn died_on_trial(&mut self) {
        let going = self.shutdown.is_some() || self.is_told_to_go() || self.gave_up_lock();
        if going || self.changes.restarts || self.changes.running.is_none() {
            return;
        }
        if self.settings.on_config_change != OnChange::Ignore {
            let record = self.configurations().died();
            self.keep(record).await;
        }
    }

    /// Flink is ended to be started again, also by a supervisor that finds the job stopped for it.
    pub(in crate::supervisor) fn restarts_for_change(&self) -> bool {
        let entry = self.pointer.jobs.get(APPLICATION);
        let reason = entry.and_then(JobEntry::newest).map(|point| point.reason);
        let stopped = self.run_is_stopped() && reason == Some(TriggerReason::ConfigChange);
        self.changes.restarts || stopped
    }

    /// What Flink ended with was a configuration that is tried: it is started again, and in the end with the last good one.
    pub(in crate::supervisor) fn tries(&mut self) -> bool {
        let going = self.shutdown.is_some() || self.is_told_to_go() || self.gave_up_lock();
        let managed = self.settings.on_config_change != OnChange::Ignore;
        managed && !going && self.changes.running.is_some() && self.configurations().trial.is_some()
    }

    /// Flink runs, and this is what it was started with.
    pub(super) fn running_now(&self) -> Option<&Running> {
        let running = self.changes.running.as_ref();
        running.filter(|_| self.process == Process::Running)
    }
}
