//! The pointer: what is remembered of a cluster id from one start to the next.
//!
//! It names the newest restore point of each job, the run that is under way, the savepoint that was asked for and not
//! yet seen to its end (the intent), and the last few restore points. A cluster in Application mode has one job, under
//! the key [`APPLICATION`]; a session cluster has one entry for each job, by job name.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::Noted;
use super::job::{JobId, JobStatus};
use super::path::{last_segment, without_scheme};
use super::savepoint::{SavepointFormat, SavepointKind, TriggerId};

mod kept;

pub use kept::{Disposal, Requested, Start};

/// The key of the only job of a cluster in Application mode.
pub const APPLICATION: &str = "application";

/// The format of the pointer that this version reads and writes.
pub const FORMAT: u32 = 1;

/// Everything that is remembered of one cluster id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pointer {
    /// The format, [`FORMAT`].
    pub format: u32,
    /// `kubernetes.cluster-id` in native mode, else what the user named.
    pub cluster_id: String,
    /// Counts the writes. Of two copies the one with the higher generation is newer.
    pub generation: u64,
    /// The newest restore point of the application: for people and for scripts, Drey itself reads the history.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub savepoint_path: Option<String>,
    /// The jobs, by key.
    pub jobs: BTreeMap<String, JobEntry>,
    /// The clusters that were started from a savepoint of this one, by cluster id. What they started from is never deleted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forks: BTreeMap<String, Fork>,
}

/// Another cluster's first start was from a savepoint of this one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fork {
    /// The savepoint, as it stands in the history here.
    pub path: String,
    /// When the fork was decided.
    pub at: Timestamp,
}

impl Pointer {
    /// The pointer of a cluster id of which nothing is known yet.
    #[must_use]
    pub fn new(cluster_id: &str) -> Self {
        Self {
            format: FORMAT,
            cluster_id: cluster_id.to_owned(),
            generation: 0,
            savepoint_path: None,
            jobs: BTreeMap::new(),
            forks: BTreeMap::new(),
        }
    }

    /// The entry under `key`, made when there is none.
    pub fn entry(&mut self, key: &str) -> &mut JobEntry {
        self.jobs.entry(key.to_owned()).or_default()
    }

    /// Makes `savepoint_path` name the newest restore point and counts the write. To be called before each save.
    pub fn seal(&mut self) {
        self.generation += 1;
        self.savepoint_path = self
            .jobs
            .get(APPLICATION)
            .and_then(JobEntry::newest)
            .map(|point| point.path.clone());
    }
}

/// What is remembered of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JobEntry {
    /// The lineage: counted up when a person sets the pointer or orders a fresh start, so that the restore points of
    /// the abandoned runs count no longer, whatever their checkpoint ids.
    pub lineage: u64,
    /// The run under way, or the last one. Stored before its JobManager starts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<Run>,
    /// The savepoint that was asked for and is not yet recorded or given up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub intent: Option<Intent>,
    /// The job has ended by itself or by a person's hand.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Ended>,
    /// Why nothing is recorded any more: the last start did not restore what was chosen. A person must look.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub frozen: Option<String>,
    /// A person cleared the pointer: the next start is from empty state, on purpose.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cleared: bool,
    /// How far the last run that came up has come.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub up: Option<Up>,
    /// The last restore points, newest first.
    #[serde(default)]
    pub history: Vec<RestorePoint>,
    /// The last starts, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub starts: Vec<Start>,
    /// Savepoints that are being deleted, in this order. Stored before the first file goes, taken out after the last one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub disposals: Vec<Disposal>,
    /// The last savepoint that was asked for by annotation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requested: Option<Requested>,
    /// What is wrong with the job that runs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ailments: Vec<Noted>,
}

impl JobEntry {
    /// The restore points that count: of this lineage and not superseded.
    pub fn counting(&self) -> impl Iterator<Item = &RestorePoint> {
        self.history
            .iter()
            .filter(|point| point.lineage == self.lineage && !point.superseded)
    }

    /// The newest restore point that counts: the highest checkpoint id, of equal ones the one recorded last.
    #[must_use]
    pub fn newest(&self) -> Option<&RestorePoint> {
        self.counting().reduce(|best, point| {
            if point.rank() > best.rank() {
                point
            } else {
                best
            }
        })
    }

    /// A person set or cleared the pointer and nothing was started since: what still runs is of an abandoned lineage.
    #[must_use]
    pub fn person_decided(&self) -> bool {
        self.run.is_none()
            && (self.cleared
                || self
                    .newest()
                    .is_some_and(|point| point.kind == PointKind::Set))
    }

    /// Adds a restore point and forgets the oldest ones beyond `keep`, but never the newest one that counts.
    pub fn record(&mut self, point: RestorePoint, keep: usize) {
        self.history
            .retain(|known| known.path != point.path || known.lineage != point.lineage);
        self.history.insert(0, point);
        while self.history.len() > keep.max(1) && self.forget_oldest() {}
    }

    /// Forgets the oldest restore point, but never the newest one that counts. Returns whether there was one to forget.
    pub fn forget_oldest(&mut self) -> bool {
        let newest = self.newest().cloned();
        let oldest = self
            .history
            .iter()
            .rposition(|point| Some(point) != newest.as_ref());
        oldest.map(|oldest| self.history.remove(oldest)).is_some()
    }

    /// The job restored checkpoint `id` at `at`, as Flink reports it (`latest.restored`: `id`, `restore_timestamp`):
    /// plain savepoints asked for before that and with a higher id are of a past that was taken back, and count no
    /// longer. A stop-with-savepoint ended its run, so nothing can have been taken back after it.
    /// May be called in every turn. Returns whether anything changed.
    pub fn supersede_above(&mut self, id: i64, at: Timestamp) -> bool {
        let mut changed = false;
        for point in &mut self.history {
            let before = point.started.unwrap_or(point.completed) <= at;
            if point.kind == PointKind::Savepoint
                && point.checkpoint_id > Some(id)
                && before
                && !point.superseded
            {
                point.superseded = true;
                changed = true;
            }
        }
        changed
    }

    /// The next run starts from `path`: whatever of this lineage would be chosen before it the next time is of a past
    /// that is taken back with this start, and counts no longer.
    pub fn supersede_for(&mut self, path: &str) {
        let chosen = self.counting().find(|point| point.path == path);
        let Some(rank) = chosen.map(RestorePoint::rank) else {
            return;
        };
        let lineage = self.lineage;
        for point in &mut self.history {
            if point.lineage == lineage && point.path != path && point.rank() >= rank {
                point.superseded = true;
            }
        }
    }

    /// A run that starts from `parent` continues this lineage: it was recorded here, or the last run made it.
    #[must_use]
    pub fn continued_by(&self, parent: &Parent) -> bool {
        let recorded = self
            .history
            .iter()
            .any(|point| last_segment(&point.path) == last_segment(&parent.path));
        let made = self
            .run
            .iter()
            .flat_map(|run| [&run.checkpoint_dir, &run.savepoint_dir]);
        recorded
            || made
                .flatten()
                .any(|dir| without_scheme(&parent.path).starts_with(without_scheme(dir)))
    }

    /// Opens a new lineage: whatever was recorded before counts no longer.
    pub fn open_lineage(&mut self) {
        self.lineage += 1;
        self.run = None;
        self.intent = None;
        self.ended = None;
        self.frozen = None;
        self.cleared = false;
    }
}

/// One life of a job, from one start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Run {
    /// Names the run and its directories.
    pub id: RunId,
    /// The job id that the start was given; `None` where Flink chooses it (high availability, session mode).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub job_id: Option<JobId>,
    /// The restore point it started from; `None` for empty state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<Parent>,
    /// Where its checkpoints go: the directory above `JOB_ID/chk-N`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checkpoint_dir: Option<String>,
    /// Where its savepoints go.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub savepoint_dir: Option<String>,
    /// When the start was decided.
    pub stored: Timestamp,
    /// What may not be resurrected after it finished: a Deployment or Job by UID, one `drey run` outside Kubernetes.
    pub owner: String,
    /// The Flink version that runs it.
    pub flink_version: String,
}

/// The restore point that a run started from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Parent {
    /// As it was written into Flink's configuration.
    pub path: String,
    /// Its checkpoint id, `None` when it was recorded unverified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checkpoint_id: Option<i64>,
}

/// A savepoint that was asked for, stored before the request is sent, so that whoever comes next resumes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Intent {
    /// Drey's own trigger id, given to Flink from 1.15 on.
    pub trigger: TriggerId,
    /// The id that Flink 1.13 and 1.14 chose instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flink_trigger: Option<TriggerId>,
    /// Plain savepoint or stop-with-savepoint.
    pub kind: SavepointKind,
    /// The format asked for; `None` where Flink knows but one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub format: Option<SavepointFormat>,
    /// Why.
    pub reason: TriggerReason,
    /// The job.
    pub job_id: JobId,
    /// The run's own savepoint directory, where a result that was never fetched can be found; `None`: Flink's default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub directory: Option<String>,
    /// When it was stored.
    pub stored: Timestamp,
    /// Until when its result is waited for.
    pub deadline: Timestamp,
    /// Where Flink said that its savepoint is, when it could not be read back: the next start must not pass it over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<String>,
}

/// The job is over and is not started again by the same owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ended {
    /// FINISHED, CANCELED or FAILED.
    pub status: JobStatus,
    /// When that was seen.
    pub at: Timestamp,
    /// The owner whose run ended.
    pub owner: String,
}

/// A run has come up. Written twice in its life, so that whoever waits for it need not reach Flink.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Up {
    /// The run.
    pub run: RunId,
    /// When all its tasks were first seen to run.
    pub since: Timestamp,
    /// The first checkpoint that it was seen to complete, by id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checkpoint: Option<i64>,
}

/// Something that a start can resume from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RestorePoint {
    /// As Flink wrote it.
    pub path: String,
    /// What it is.
    pub kind: PointKind,
    /// Flink's checkpoint id, which rises along a lineage; `None` when it could not be read (unverified).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checkpoint_id: Option<i64>,
    /// The job that made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub job_id: Option<JobId>,
    /// The lineage it belongs to.
    pub lineage: u64,
    /// The run that made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<RunId>,
    /// Why it was taken or recorded.
    pub reason: TriggerReason,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<Timestamp>,
    /// When it was verified and recorded.
    pub completed: Timestamp,
    /// Bytes of state and metadata, as far as the metadata tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// The Flink version that wrote it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flink_version: Option<String>,
    /// Of a past that was taken back: the job, or a later run, has since restored a lower checkpoint id.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub superseded: bool,
    /// A run started from it and claimed it: its files are Flink's, which deletes them when no checkpoint needs them.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub claimed: bool,
}

impl RestorePoint {
    /// What orders restore points of one lineage. One that could not be read back was recorded last when it was
    /// recorded, and where one cannot be read none can.
    #[must_use]
    pub fn rank(&self) -> i64 {
        self.checkpoint_id.unwrap_or(i64::MAX)
    }
}

/// What a restore point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointKind {
    /// Made by stop-with-savepoint: the job emitted nothing after it.
    Stop,
    /// A savepoint of a job that went on.
    Savepoint,
    /// A retained checkpoint.
    Checkpoint,
    /// Set by a person.
    Set,
}

impl fmt::Display for PointKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop-with-savepoint",
            Self::Savepoint => "savepoint",
            Self::Checkpoint => "retained checkpoint",
            Self::Set => "set by a person",
        })
    }
}

/// Why a savepoint was asked for, or a restore point recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TriggerReason {
    /// The process or pod was told to go.
    Shutdown,
    /// Another pod takes the job over.
    HandOver,
    /// Flink's configuration has changed.
    ConfigChange,
    /// A person or a pipeline asked.
    Manual,
    /// A person or a pipeline ended the job for now.
    Stop,
    /// The annotation `drey.io/suspend` holds the job.
    Suspend,
    /// It was time for one.
    Periodic,
    /// Chosen as the newest one by a start.
    Restore,
}

impl fmt::Display for TriggerReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "shutdown",
            Self::HandOver => "hand-over",
            Self::ConfigChange => "config-change",
            Self::Manual => "manual",
            Self::Stop => "stop",
            Self::Suspend => "suspend",
            Self::Periodic => "periodic",
            Self::Restore => "restore",
        })
    }
}

/// Names one run; 12 hexadecimal digits, fit for a directory name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A run id from six random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The run id in these 12 digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| Self(text.to_owned()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
