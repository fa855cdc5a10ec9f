//! Stop and suspend: the savepoint first, and only when it is recorded anything is deleted or scaled.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::JobError;
use super::pointer::application;
use super::wait::watched;
use super::workloads::Cluster;
use super::{Progress, REPLICAS, Target};
use crate::domain::budget::after;
use crate::domain::lock::PodRef;
use crate::domain::pointer::{JobEntry, PointKind, RestorePoint, TriggerReason};
use crate::domain::pointer_map::StopAnswer;
use crate::domain::savepoint::{SavepointFormat, TriggerId};
use crate::kubernetes::ha::HighAvailability;
use crate::kubernetes::{Document, PodSight, Request, RequestKind, Sight, watch_pod};

/// The supervisor answers a little later than the time that it has.
const ANSWER: Duration = Duration::from_secs(5);

/// What a stop has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// There is no such cluster.
    NoCluster,
    /// It has stopped with this savepoint.
    Savepoint(String),
    /// It had stopped before; the newest restore point.
    Before(Option<String>),
}

/// Stops the job with a savepoint and deletes its cluster.
///
/// # Errors
/// [`JobError::Later`] when there is no savepoint in time: the cluster is as it was.
pub async fn stop(
    target: &Target,
    format: Option<SavepointFormat>,
    progress: &mut Progress,
) -> Result<Stopped, JobError> {
    let Some(cluster) = target.find().await? else {
        return Ok(Stopped::NoCluster);
    };
    let stopped = savepoint(target, &cluster, format, progress).await?;
    progress.say(&format!("Deleting {}", cluster.names()));
    for workload in &cluster.workloads {
        target.delete(workload).await?;
    }
    for workload in &cluster.workloads {
        target.wait_gone(workload, progress).await?;
    }
    let metadata = HighAvailability::new(&target.kube, &target.cluster_id);
    metadata.delete_all().await?;
    Ok(stopped)
}

/// Stops the job with a savepoint and scales its cluster to nothing, with the number of its pods remembered.
///
/// # Errors
/// [`JobError::Later`] when there is no savepoint in time: the cluster is as it was.
pub async fn suspend(
    target: &Target,
    format: Option<SavepointFormat>,
    progress: &mut Progress,
) -> Result<Stopped, JobError> {
    let Some(cluster) = target.find().await? else {
        return Ok(Stopped::NoCluster);
    };
    let stopped = savepoint(target, &cluster, format, progress).await?;
    let pods = holders(target.document().await?.as_ref());
    progress.say(&format!("Scaling {} to 0", cluster.names()));
    for workload in &cluster.workloads {
        if workload.replicas > 0 {
            let remembered = json!({ REPLICAS: workload.replicas.to_string() });
            target.scale(workload, 0, remembered).await?;
        }
    }
    for pod in &pods {
        wait_pod_gone(target, pod, progress).await?;
    }
    // From now on the Deployment's own number of pods says whether the job is to run, also to who scales it by hand.
    target.forget_stop().await?;
    Ok(stopped)
}

fn holders(document: Option<&Document>) -> Vec<PodRef> {
    let holders = document.into_iter().flat_map(|it| &it.lock.holders);
    holders.map(|holder| holder.pod.clone()).collect()
}

async fn wait_pod_gone(
    target: &Target,
    pod: &PodRef,
    progress: &mut Progress,
) -> Result<(), JobError> {
    let mut watch = watch_pod(&target.kube, &pod.name);
    let gone = |seen: Option<PodSight>, _: &mut Progress| {
        let there = seen.is_some_and(|seen| seen.pod.uid == pod.uid);
        Ok((!there).then_some(()))
    };
    if watched(&mut watch, target.deadline, progress, gone)
        .await?
        .is_some()
    {
        return Ok(());
    }
    Err(JobError::Later(format!(
        "the job is stopped, and pod {} is still there; `drey job resume` works all the same",
        pod.name
    )))
}

/// Has the supervisor stop the job, and waits until the savepoint is recorded.
async fn savepoint(
    target: &Target,
    cluster: &Cluster,
    format: Option<SavepointFormat>,
    progress: &mut Progress,
) -> Result<Stopped, JobError> {
    let Some(document) = target.document().await? else {
        return Err(JobError::Refused(format!(
            "there is no ConfigMap {}, so Drey does not supervise {}, or has never run there: nothing was changed",
            target.map.name(),
            cluster.names()
        )));
    };
    if let Sight::Damaged(why) = &document.pointer {
        return Err(JobError::Refused(format!(
            "the pointer cannot be used: {why}; nothing was changed"
        )));
    }
    let none = JobEntry::default();
    let entry = application(&document).unwrap_or(&none);
    let held = document.suspended && is_held(entry);
    if entry.ended.is_some() || cluster.is_suspended() || held {
        return Ok(Stopped::Before(newest(entry)));
    }
    order(target, format, progress)
        .await
        .map(Stopped::Savepoint)
}

/// The annotation `drey.io/suspend` has stopped the job.
fn is_held(entry: &JobEntry) -> bool {
    let run = entry.run.as_ref().map(|run| &run.id);
    let stopped = |point: &RestorePoint| {
        let suspended = point.reason == TriggerReason::Suspend && point.kind == PointKind::Stop;
        suspended && point.run.as_ref() == run
    };
    entry.newest().is_some_and(stopped)
}

fn newest(entry: &JobEntry) -> Option<String> {
    entry.newest().map(|point| point.path.clone())
}

async fn order(
    target: &Target,
    format: Option<SavepointFormat>,
    progress: &mut Progress,
) -> Result<String, JobError> {
    let id = TriggerId::from_bytes(crate::supervisor::random()).to_string();
    let name = format!("stop-{id}");
    let request = Request {
        kind: RequestKind::Stop,
        pod: None,
        ip: None,
        asked: Timestamp::now(),
        until: Some(target.deadline),
        format,
    };
    progress.say("Stopping the job with a savepoint");
    let mut watch = target.map.watch();
    target.map.request(&name, &request).await?;
    let last = after(target.deadline, ANSWER);
    let answer = watched(
        &mut watch,
        last,
        progress,
        |document: Option<Document>, _| Ok(document.and_then(|it| it.answers.get(&name).cloned())),
    );
    let answer = answer.await;
    // What was answered at the last moment counts.
    let late = match answer {
        Ok(None) => target
            .document()
            .await?
            .and_then(|it| it.answers.get(&name).cloned()),
        _ => None,
    };
    let withdrawn = target.map.withdraw(&name).await;
    let Some(text) = answer?.or(late) else {
        return Err(not_in_time());
    };
    withdrawn?;
    match StopAnswer::read(&text) {
        StopAnswer::Recorded { path } => Ok(path),
        StopAnswer::Failed { error } if target.left().is_zero() => {
            Err(JobError::Later(format!("{error}; nothing was changed")))
        }
        StopAnswer::Failed { error } => {
            Err(JobError::Refused(format!("{error}; nothing was changed")))
        }
    }
}

fn not_in_time() -> JobError {
    JobError::Later(
        "no savepoint was recorded in time, and nothing was deleted or scaled; a stop that Flink has begun cannot be \
         withdrawn: should it still complete, the savepoint is recorded, and the same command goes on from there"
            .to_owned(),
    )
}

/// Annotations that say nothing any more.
pub(super) fn forgotten() -> Value {
    json!({ REPLICAS: Value::Null })
}
