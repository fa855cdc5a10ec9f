//! What `drey status` shows.

use std::collections::BTreeMap;

use super::Supervisor;
use crate::control::{JobReport, Status};
use crate::metrics::own;
use crate::status_page::story::Story;

impl Supervisor {
    pub(super) fn report(&self) {
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
            suspended: self.is_held_by_annotation(),
            waits_for: self.start_waits_for(),
            jobs: self.job_reports(),
        };
        // What is held waits for a person, not for another pod.
        own().lock_waiting(self.starting.is_some() && !status.suspended);
        own().suspended(status.suspended);
        own().stand(status.reachable, &status.jobs, &self.pointer);
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    fn start_waits_for(&self) -> Option<String> {
        let pod = self.pod.as_ref().filter(|_| self.starting.is_some())?;
        Some(pod.waits_for.clone()).filter(|why| !why.is_empty())
    }

    /// What the status page shows.
    pub(super) fn story(&self) -> Story {
        let marks = self
            .jobs
            .iter()
            .map(|(key, job)| (key.clone(), job.watch.marks()));
        Story {
            status: self.status.borrow().clone(),
            pointer: self.pointer.clone(),
            checkpoints: marks.collect(),
            decisions: self.decisions.all(),
            settings: self.settings.to_env(),
        }
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
        problems.extend(job.into_iter().flat_map(|job| job.health.problems()));
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
            ailments: job.map(|job| job.health.kinds()).unwrap_or_default(),
            problems,
        }
    }
}
