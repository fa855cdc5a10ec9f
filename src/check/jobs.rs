//! What the next start of a job depends on: the pointer, the newest restore point, and Flink's configuration.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::flink::FlinkConfig;
use super::rights::{self, Needed};
use super::storage::{self, Place};
use super::{Blind, Finding, Sight, health, kept, pods, rescaling, rough, table};
use crate::domain::changes::Record;
use crate::domain::pointer::{JobEntry, PointKind, Pointer, RestorePoint};
use crate::domain::pointer_map::{Document, Sight as Seen};

/// One cluster id in one namespace.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The cluster id.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its JobManagers that live.
    pub job_managers: Vec<Pod>,
    /// Its TaskManagers that live.
    pub task_managers: Vec<Pod>,
    /// The pointer's ConfigMap; `None`: there is none.
    pub pointer: Sight<Option<Document>>,
    /// The newest restore points of its jobs, as far as they were read.
    pub points: Vec<PointRead>,
    /// Flink's configuration, where there is a JobManager.
    pub configuration: Option<Sight<FlinkConfig>>,
    /// The service account of the JobManagers.
    pub account: Option<Account>,
}

impl Cluster {
    /// `namespace/cluster id`.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{}/{}", self.namespace, self.id)
    }

    /// A person's annotation holds its job.
    pub(super) fn is_suspended(&self) -> bool {
        let document = self.pointer.as_ref().ok().and_then(Option::as_ref);
        document.is_some_and(|document| document.suspended)
    }

    fn good(&self) -> Option<&Pointer> {
        self.pointer.as_ref().ok()?.as_ref()?.pointer.good()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &JobEntry)> {
        self.good().into_iter().flat_map(|pointer| &pointer.jobs)
    }
}

/// A service account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// What Drey needs, and whether it may do it.
    pub asked: Vec<(Needed, Sight<bool>)>,
}

/// What reading a restore point's `_metadata` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointRead {
    /// The restore point.
    pub path: String,
    /// `Ok`: read to the last byte.
    pub read: Result<(), PointFault>,
}

/// Why a restore point could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointFault {
    /// The storage answers, and it is not there.
    Missing(String),
    /// It is there, and is no `_metadata` of Flink's.
    Damaged(String),
    /// It cannot be told from here.
    Unreachable(String),
}

pub(super) fn findings(cluster: &Cluster, now: Timestamp) -> Vec<Finding> {
    let mut all = vec![pointer(cluster, now)];
    all.extend(cluster.points.iter().map(restore_point));
    all.extend(cluster.good().and_then(|it| kept::retention(it, now)));
    all.extend(health::finding(cluster));
    if let Some(configuration) = &cluster.configuration {
        match configuration {
            Ok(configuration) => {
                all.push(savepoint_dir(cluster, configuration, now));
                all.push(checkpointing(configuration));
                all.extend(high_availability(cluster, configuration));
                all.extend(rescaling::finding(configuration));
            }
            Err(blind) => all.push(Finding::blind(&table::CHECKPOINTING, blind)),
        }
    }
    all.extend(changes(cluster));
    if let Some(account) = &cluster.account {
        all.push(rights::pod_finding(account, &cluster.id));
    }
    all.into_iter()
        .map(|finding| finding.on(cluster.subject()))
        .collect()
}

/// What became of the last change of Flink's configuration, where Drey applies them.
fn changes(cluster: &Cluster) -> Option<Finding> {
    let check = &table::CONFIGURATION;
    let text = cluster
        .pointer
        .as_ref()
        .ok()?
        .as_ref()?
        .configuration
        .as_ref()?;
    let Ok(record) = serde_json::from_str::<Record>(text) else {
        let remedy =
            "remove the key configuration.json of the pointer's ConfigMap: it is made again";
        return Some(Finding::warning(
            check,
            "its record cannot be understood",
            remedy,
        ));
    };
    Some(match (record.failed, record.trial) {
        (Some(failed), _) => {
            let found = format!("the last change was rolled back, since {}", failed.why);
            let remedy = "`drey diff` shows the change: correct it, or put back what stood there";
            Finding::warning(check, found, remedy)
        }
        (None, Some(_)) => Finding::ok(check, "a change is being tried"),
        (None, None) => match record.pending {
            Some(pending) => {
                let found = format!("not in effect since {:.0}, {}", pending.since, pending.what);
                let remedy = "`drey diff` in the JobManager's pod shows it: correct it, or start the job again, or set on-config-change";
                Finding::warning(check, found, remedy)
            }
            None => Finding::ok(check, "what stands there is in effect"),
        },
    })
}

/// How long the last savepoint took, from the request until it was read back.
pub(super) fn last_duration(cluster: &Cluster) -> Option<Duration> {
    let (_, point) = last_savepoint(cluster)?;
    let took = point.completed.duration_since(point.started?);
    took.try_into().ok()
}

/// The savepoint of Drey's own that was recorded last, of all jobs.
fn last_savepoint(cluster: &Cluster) -> Option<(&JobEntry, &RestorePoint)> {
    let own = |point: &&RestorePoint| matches!(point.kind, PointKind::Stop | PointKind::Savepoint);
    let points = cluster.entries().flat_map(|(_, entry)| {
        entry
            .history
            .iter()
            .filter(own)
            .map(move |point| (entry, point))
    });
    points.max_by_key(|(_, point)| point.completed)
}

fn pointer(cluster: &Cluster, now: Timestamp) -> Finding {
    let check = &table::POINTER;
    let name = format!("drey-{}", cluster.id);
    let document = match &cluster.pointer {
        Ok(Some(document)) => document,
        Ok(None) => {
            let found = format!("there is no ConfigMap {name} yet");
            let remedy = "the sidecar makes it at the first start: see the log of container drey in the JobManager's pod, and the service account's rights";
            return Finding::warning(check, found, remedy);
        }
        Err(blind) => return Finding::blind(check, blind),
    };
    if document.immutable {
        let found = format!("ConfigMap {name} is immutable, so nothing can be recorded");
        return Finding::failed(
            check,
            found,
            "delete it while the job runs: it is made again",
        );
    }
    if let Some(why) = &document.lock_damage {
        let found = format!("the lock cannot be understood: {why}");
        let remedy = format!(
            "remove the key lock.json of ConfigMap {name} once no JobManager of this cluster id runs"
        );
        return Finding::failed(check, found, remedy);
    }
    match &document.pointer {
        Seen::Damaged(why) => {
            let remedy = "while the job runs it is written again; else name the restore point with `drey pointer set PATH`";
            Finding::failed(check, format!("the pointer is of no use: {why}"), remedy)
        }
        Seen::None => {
            let found = format!("ConfigMap {name} has no pointer yet");
            let remedy = "the sidecar writes it at the first start: see its log";
            Finding::warning(check, found, remedy)
        }
        Seen::Good(pointer) => good(pointer, now),
    }
}

fn good(pointer: &Pointer, now: Timestamp) -> Finding {
    let check = &table::POINTER;
    let frozen = pointer
        .jobs
        .iter()
        .find_map(|(key, entry)| Some((key, entry.frozen.as_ref()?)));
    if let Some((key, why)) = frozen {
        let found = format!("nothing is recorded for job {key} any more: {why}");
        let remedy =
            "look at the job; then decide with `drey pointer set PATH` or `drey pointer clear`";
        return Finding::failed(check, found, remedy);
    }
    let newest = pointer
        .jobs
        .values()
        .filter_map(JobEntry::newest)
        .max_by_key(|point| point.completed);
    let found = match newest {
        Some(point) => format!(
            "write {}; newest restore point: {}, {} old",
            pointer.generation,
            point.kind,
            rough(now.as_second() - point.completed.as_second())
        ),
        None => format!(
            "write {}; no restore point recorded yet",
            pointer.generation
        ),
    };
    Finding::ok(check, found)
}

fn restore_point(point: &PointRead) -> Finding {
    let check = &table::RESTORE_POINT;
    let path = &point.path;
    match &point.read {
        Ok(()) => Finding::ok(check, format!("{path} was read to the last byte")),
        Err(PointFault::Missing(why)) => {
            let remedy = "the next start will refuse: bring it back, or name another one with `drey pointer set PATH`";
            Finding::failed(check, format!("{path} is not there: {why}"), remedy)
        }
        Err(PointFault::Damaged(why)) => {
            let remedy =
                "the next start will refuse: name another one with `drey pointer set PATH`";
            Finding::failed(check, format!("{path} is damaged: {why}"), remedy)
        }
        Err(PointFault::Unreachable(why)) => {
            let remedy = "the pods may well reach it. To look from here, give credentials as for `drey inspect`";
            Finding::unknown(
                check,
                format!("{path} cannot be read from here: {why}"),
                remedy,
            )
        }
    }
}

fn savepoint_dir(cluster: &Cluster, configuration: &FlinkConfig, now: Timestamp) -> Finding {
    let check = &table::SAVEPOINT_DIR;
    let Some(directory) = savepoint_target(cluster, configuration) else {
        let remedy =
            "set execution.checkpointing.savepoint-dir (before Flink 1.20: state.savepoints.dir)";
        if configuration.complete {
            return Finding::failed(check, "there is none, so no savepoint can be taken", remedy);
        }
        let found = "none is seen; the configuration in the image cannot be looked at from here";
        return Finding::unknown(check, found, remedy);
    };
    let pod = cluster.job_managers.first();
    match pod.and_then(|pod| storage::place(pod, &directory)) {
        Some(Place::OfThePod) => {
            let found = format!("{directory} is on the pod's own disk and goes with it");
            return Finding::failed(
                check,
                found,
                "use object storage, or a volume that JobManager and TaskManagers share",
            );
        }
        Some(Place::OfTheNode) => {
            let found =
                format!("{directory} is on the node's disk: a pod on another node does not see it");
            return Finding::warning(
                check,
                found,
                "use object storage, or a volume that all nodes share",
            );
        }
        Some(Place::Volume(_)) | None => {}
    }
    proof(cluster, &directory, now)
}

/// What has been written and read back proves more than a try with the credentials of whoever runs this.
fn proof(cluster: &Cluster, directory: &str, now: Timestamp) -> Finding {
    let check = &table::SAVEPOINT_DIR;
    let base = base(directory, &cluster.id);
    let within = format!("{}/", plain(&base).trim_end_matches('/'));
    match last_savepoint(cluster).filter(|(_, point)| plain(&point.path).starts_with(&within)) {
        Some((_, point)) => {
            let ago = rough(now.as_second() - point.completed.as_second());
            let found = format!("{base}: a savepoint was written and read back {ago} ago");
            Finding::ok(check, found)
        }
        None => {
            let found =
                format!("{base}: no savepoint has been taken there yet, which would prove it");
            let remedy = "take one: `drey savepoint` in the container drey of the JobManager's pod";
            Finding::unknown(check, found, remedy)
        }
    }
}

/// Where the last run's savepoints go, or those of the next one.
fn savepoint_target(cluster: &Cluster, configuration: &FlinkConfig) -> Option<String> {
    let of_run = |(_, entry): (_, &JobEntry)| entry.run.as_ref()?.savepoint_dir.clone();
    let pod = cluster.job_managers.first();
    let set = pod.and_then(|pod| pods::env(pod, "DREY_SAVEPOINT_DIR"));
    let keys = [
        "execution.checkpointing.savepoint-dir",
        "state.savepoints.dir",
    ];
    let configured = set.or_else(|| configuration.first(&keys));
    cluster
        .entries()
        .find_map(of_run)
        .or_else(|| configured.map(str::to_owned))
}

/// A run's directory is the configured one with `/CLUSTER_ID/RUN_ID` behind.
fn base(directory: &str, cluster_id: &str) -> String {
    let own = format!("/{cluster_id}/");
    let at = directory.rfind(&own).unwrap_or(directory.len());
    directory[..at].to_owned()
}

/// Flink writes `file:/x` where the configuration says `file:///x`.
fn plain(path: &str) -> String {
    let (scheme, path) = path.split_once(':').unwrap_or(("file", path));
    format!("{scheme}:{}", path.trim_start_matches('/'))
}

fn checkpointing(configuration: &FlinkConfig) -> Finding {
    let check = &table::CHECKPOINTING;
    let interval = configuration.first(&["execution.checkpointing.interval"]);
    let directory = configuration.first(&[
        "execution.checkpointing.dir",
        "state.checkpoints.dir",
        "state.backend.fs.checkpointdir",
    ]);
    let missing = |what: &str, remedy: &str| {
        if configuration.complete {
            Finding::warning(
                check,
                format!("{what}, unless the job's code sets it"),
                remedy,
            )
        } else {
            let found = format!(
                "{what} is seen; the configuration in the image cannot be looked at from here"
            );
            Finding::unknown(check, found, remedy)
        }
    };
    match (interval, directory) {
        (Some(interval), Some(directory)) => {
            Finding::ok(check, format!("each {interval}, into {directory}"))
        }
        (None, _) => missing(
            "no interval",
            "set execution.checkpointing.interval: without checkpoints a crash resumes from the last savepoint",
        ),
        (_, None) => missing(
            "no directory",
            "set execution.checkpointing.dir (before Flink 1.20: state.checkpoints.dir): else checkpoints are gone with the JobManager",
        ),
    }
}

fn high_availability(cluster: &Cluster, configuration: &FlinkConfig) -> Option<Finding> {
    let check = &table::HIGH_AVAILABILITY;
    let kind = configuration.first(&["high-availability.type", "high-availability"]);
    let on = kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("none"));
    let several = cluster.job_managers.len() > 1;
    let storage = configuration.first(&["high-availability.storageDir"]);
    match (on, storage) {
        (true, Some(storage)) => Some(Finding::ok(
            check,
            format!("{}, in {storage}", kind.unwrap_or_default()),
        )),
        (true, None) => {
            let found = "it has no storage directory: Flink does not start with it";
            Some(Finding::failed(
                check,
                found,
                "set high-availability.storageDir",
            ))
        }
        (false, _) if several && configuration.complete => {
            let found = format!(
                "{} JobManagers without it: one runs the job, the others wait for its pod to go",
                cluster.job_managers.len()
            );
            let remedy = "set replicas: 1, or high-availability.type: kubernetes and high-availability.storageDir";
            Some(Finding::warning(check, found, remedy))
        }
        (false, _) => None,
    }
}

impl PointRead {
    /// A restore point that cannot be looked at from here.
    #[must_use]
    pub fn unreachable(path: &str, why: &str) -> Self {
        Self {
            path: path.to_owned(),
            read: Err(PointFault::Unreachable(Blind::new(why).why)),
        }
    }
}
