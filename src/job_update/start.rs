//! Start and resume: the cluster is made or scaled, and the job waited for.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use serde_json::json;

use super::error::JobError;
use super::pointer::application;
use super::stop::forgotten;
use super::wait::watched;
use super::workloads::{Cluster, Workload};
use super::{Progress, ROLLED, Target};
use crate::domain::pointer::{JobEntry, Run, RunId};
use crate::inject::Role;
use crate::kubernetes::Document;

/// How a job has come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Come {
    /// What it resumed from; `None` for empty state.
    pub from: Option<String>,
    /// It ran already.
    pub before: bool,
}

/// Starts the job and waits until it runs and has completed a checkpoint: with `command`, which makes the cluster, else
/// with the cluster that is there.
///
/// # Errors
/// When it does not come up in time, or the command fails.
pub async fn start(
    target: &Target,
    command: &[OsString],
    progress: &mut Progress,
) -> Result<Come, JobError> {
    target.refuse_held().await?;
    let cluster = target.find().await?;
    let before = target.run_now().await?;
    if command.is_empty() {
        let Some(cluster) = &cluster else {
            return Err(JobError::Usage(format!(
                "there is no cluster {}: name the command that makes it, as in `drey job start {} -- kubectl apply -f job.yaml`",
                target.name(),
                target.cluster_id
            )));
        };
        if !cluster.is_suspended() && !target.is_over().await? {
            return target.runs_already().await;
        }
        target.forget_stop().await?;
        target.scale_back(cluster, progress).await?;
    } else {
        // The same owner would not start it again.
        target.forget_stop().await?;
        progress.say(&format!("Running {}", command[0].to_string_lossy()));
        progress.close();
        run(command)?;
        if unchanged(cluster.as_ref(), target.find().await?.as_ref()) {
            return target.runs_already().await;
        }
    }
    target.wait_up(before, progress).await
}

/// The cluster ran before the command and is what it was.
fn unchanged(before: Option<&Cluster>, now: Option<&Cluster>) -> bool {
    let facts = |cluster: &Cluster| -> Vec<_> {
        let all = cluster.workloads.iter();
        all.map(|it| (it.uid.clone(), it.replicas, it.pod.clone()))
            .collect()
    };
    let running = before.is_some_and(|cluster| !cluster.is_suspended());
    running && before.map(facts) == now.map(facts)
}

/// Nothing else is to be done meanwhile, so that it may block.
fn run(command: &[OsString]) -> Result<(), JobError> {
    let Some((program, args)) = command.split_first() else {
        return Ok(());
    };
    let name = program.to_string_lossy();
    // What it says is for people; standard output is for what this command gives back.
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(JobError::Refused(format!(
            "{name} failed ({status}); the restore point is as it was"
        ))),
        Err(error) => Err(JobError::Usage(format!("could not run {name}: {error}"))),
    }
}

impl Target {
    /// The run that the pointer names.
    pub(super) async fn run_now(&self) -> Result<Option<RunId>, JobError> {
        let document = self.document().await?;
        let entry = document.as_ref().and_then(application);
        Ok(entry.and_then(|entry| Some(entry.run.as_ref()?.id.clone())))
    }

    async fn is_over(&self) -> Result<bool, JobError> {
        let document = self.document().await?;
        let entry = document.as_ref().and_then(application);
        Ok(entry.is_some_and(|entry| entry.ended.is_some()))
    }

    async fn runs_already(&self) -> Result<Come, JobError> {
        let document = self.document().await?;
        let run = document
            .as_ref()
            .and_then(application)
            .and_then(|entry| entry.run.as_ref());
        Ok(Come {
            from: run.and_then(parent),
            before: true,
        })
    }

    async fn scale_back(&self, cluster: &Cluster, progress: &mut Progress) -> Result<(), JobError> {
        progress.say(&format!("Scaling {} back", cluster.names()));
        for workload in &cluster.workloads {
            if workload.replicas > 0 && workload.role == Role::JobManager {
                // A stop that was interrupted: its pod is there and runs nothing.
                self.roll(workload).await?;
            } else if workload.replicas == 0 {
                let replicas = workload.remembered.unwrap_or(1);
                self.scale(workload, replicas, forgotten()).await?;
            }
        }
        Ok(())
    }

    /// Has its pods made anew.
    pub(super) async fn roll(&self, workload: &Workload) -> Result<(), JobError> {
        let now = Timestamp::now().to_string();
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {ROLLED: now}}}}});
        self.patch(workload, &patch).await
    }

    /// Waits until another run than `before` has come up.
    pub(super) async fn wait_up(
        &self,
        before: Option<RunId>,
        progress: &mut Progress,
    ) -> Result<Come, JobError> {
        let mut watch = self.map.watch();
        progress.say("Waiting for the JobManager");
        let mut last = JobEntry::default();
        let look = |document: Option<Document>, progress: &mut Progress| {
            let entry = document.as_ref().and_then(application);
            last = entry.cloned().unwrap_or_default();
            came(&last, before.as_ref(), progress)
        };
        if let Some(come) = watched(&mut watch, self.deadline, progress, look).await? {
            return Ok(come);
        }
        Err(self.not_up(&last, before.as_ref()).await)
    }

    async fn not_up(&self, entry: &JobEntry, before: Option<&RunId>) -> JobError {
        let run = entry.run.as_ref().filter(|run| Some(&run.id) != before);
        let far = match (run, &entry.up) {
            (None, _) => "no JobManager has started the job in time",
            (Some(run), Some(up)) if up.run == run.id => {
                "its tasks run, and no checkpoint was completed in time"
            }
            (Some(_), _) => "the JobManager was started, and not all tasks ran in time",
        };
        let complaints = match self.find().await {
            Ok(Some(cluster)) => self.complaints(&cluster).await,
            _ => String::new(),
        };
        let more = if complaints.is_empty() {
            "`kubectl get events` and the JobManager's log tell why".to_owned()
        } else {
            complaints
        };
        JobError::Later(format!("{far}: {more}; the restore point is kept"))
    }
}

/// How the new run has come up; `None` while it has not.
fn came(
    entry: &JobEntry,
    before: Option<&RunId>,
    progress: &mut Progress,
) -> Result<Option<Come>, JobError> {
    let Some(run) = entry.run.as_ref().filter(|run| Some(&run.id) != before) else {
        return Ok(None);
    };
    if let Some(why) = &entry.frozen {
        return Err(JobError::Refused(format!(
            "the job was started, and the pointer is frozen: {why}"
        )));
    }
    let from = parent(run);
    let up = entry.up.as_ref().filter(|up| up.run == run.id);
    match up {
        None => {
            let from = from.as_deref().unwrap_or("empty state");
            progress.say(&format!("Starting from {from}"));
            Ok(None)
        }
        Some(up) if up.checkpoint.is_none() => {
            progress.say("All tasks run; waiting for a checkpoint");
            Ok(None)
        }
        Some(_) => Ok(Some(Come {
            from,
            before: false,
        })),
    }
}

fn parent(run: &Run) -> Option<String> {
    run.parent.as_ref().map(|parent| parent.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pointer::Up;

    fn entry(up: Option<Option<i64>>) -> JobEntry {
        let mut entry = JobEntry::started(2, "file:/s/savepoint-1", Some(3));
        entry.up = up.map(|checkpoint| Up {
            run: RunId::from_bytes([2; 6]),
            since: Timestamp::UNIX_EPOCH,
            checkpoint,
        });
        entry
    }

    #[test]
    fn a_job_has_come_up_when_another_run_has_completed_a_checkpoint() {
        let mut progress = Progress::new(false);
        let old = RunId::from_bytes([1; 6]);
        let mut come = |entry: &JobEntry, before: &RunId| came(entry, Some(before), &mut progress);
        assert_eq!(come(&entry(None), &old), Ok(None));
        assert_eq!(come(&entry(Some(None)), &old), Ok(None));
        let from = Some("file:/s/savepoint-1".to_owned());
        let up = Come {
            from,
            before: false,
        };
        assert_eq!(come(&entry(Some(Some(4))), &old), Ok(Some(up)));
        let same = RunId::from_bytes([2; 6]);
        assert_eq!(come(&entry(Some(Some(4))), &same), Ok(None));
        let frozen = JobEntry {
            frozen: Some("restored checkpoint 2".to_owned()),
            ..entry(Some(Some(4)))
        };
        assert!(come(&frozen, &old).is_err());
    }
}
