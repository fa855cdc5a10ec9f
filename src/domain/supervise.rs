//! What to do next for one job: [`decide`], a pure function of what is known.
//!
//! The supervisor calls it over and over: observe, decide, act. It is level-triggered and gives one action per turn, so a
//! supervisor that died between any two actions goes on from what is stored. A SIGTERM is an [`Ask`] like any other:
//! it has a deadline, which `decide` spends.
//!
//! ```text
//! ask ─► StoreIntent ─► Send ─► Wait … ─► Verify ─► Record ─► Settle
//!                         │        └─ failed: Abandon ─► again, while there is time
//!                         └─ too late, or the job is gone: SearchFallback ─► Record ─► Settle
//! ```

use std::time::Duration;

use jiff::Timestamp;

use self::turn::{Turn, without_pointer};
use super::budget::Backoff;
use super::job::{JobStatus, JobView};
use super::pointer::{Intent, JobEntry, PointKind, TriggerReason};
use super::savepoint::{FailureCause, OperationStatus, SavepointFormat, SavepointKind, TriggerId};

mod pursue;
mod resume;
mod turn;

/// What a look at something outside showed. "Not there" and "could not look" are different facts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sighting<T> {
    /// It is there.
    Seen(T),
    /// It is not there.
    Absent,
    /// Nobody can say: the other side did not answer.
    Unreachable,
}

/// What does not change from turn to turn.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The wait between attempts at a savepoint that failed for a passing reason.
    pub retry: Backoff,
    /// What is kept of the time before the deadline for the fallback and for Flink's own end.
    pub reserve: Duration,
    /// How long a job that is RESTARTING or FAILING is waited for before its newest retained checkpoint is used.
    pub restart_patience: Duration,
    /// How often the job is looked at while nobody asks for anything.
    pub idle: Duration,
    /// Restore points that cannot be read back (`hdfs:`, `oss:`) are recorded all the same.
    pub allow_unverified: bool,
}

/// Somebody wants a savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Plain, or the job stops with it.
    pub kind: SavepointKind,
    /// Why.
    pub reason: TriggerReason,
    /// The format, where Flink has a choice.
    pub format: Option<SavepointFormat>,
    /// The format of every second attempt: a state backend that cannot write the first one fails the tasks, and nothing
    /// that Flink reports tells that from other failures.
    pub other_format: Option<SavepointFormat>,
    /// Above the directory of the savepoint, which is named after its trigger id so that no other one is ever taken for
    /// it; `None`: Flink's default directory.
    pub directory: Option<String>,
    /// When it was asked.
    pub since: Timestamp,
    /// When the asker gives up, or the process is killed.
    pub deadline: Timestamp,
    /// The process goes whether there is a savepoint or not, so at the end of the time the newest retained checkpoint
    /// has to do.
    pub must_end: bool,
}

/// The Flink process that the launcher started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Process {
    /// It runs, as far as is known.
    Running,
    /// It has ended.
    Gone,
}

/// What reading a restore point back showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Complete.
    Good(Verified),
    /// There is nothing at that path.
    Missing,
    /// There is something else than a complete `_metadata`; the reason.
    Damaged(String),
    /// The storage did not answer; the reason. May pass.
    Unreachable(String),
    /// No client for this scheme; the reason.
    Unsupported(String),
}

/// A restore point whose `_metadata` was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Verified {
    /// As Flink writes it.
    pub path: String,
    /// Flink's checkpoint id.
    pub checkpoint_id: i64,
    /// Bytes of state and metadata, as far as the metadata tell.
    pub size: u64,
}

/// What earlier actions of the same ask found out. Kept in memory only: after a restart it is found out again.
///
/// A new ask starts with none of it. Storing or closing an intent takes `late` away, which is about one intent only. A
/// storage that does not answer is searched again at once: whoever acts pauses between such searches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// The last restore point that was read back, and when an unreachable one may be tried again.
    pub verdict: Option<(String, Verdict, Timestamp)>,
    /// A savepoint (a directory with a `_metadata` file, whole or not) found in the open intent's directory: its path.
    pub late: Option<Sighting<String>>,
    /// The newest retained checkpoint of the run.
    pub fallback: Option<Sighting<Verified>>,
    /// The last failed attempt, how many there were, and when the last one was. A request that Flink did not accept is
    /// one as well, although its intent is still open.
    pub failure: Option<(FailureCause, u32, Timestamp)>,
}

/// Everything that is known in one turn.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// The time of the turn.
    pub now: Timestamp,
    /// What is wanted, if anything.
    pub ask: Option<&'a Ask>,
    /// The job's entry in the pointer. Unreachable in the turn after a write that failed, so that a pointer which can be
    /// read and not written does not hold an end up for ever.
    pub entry: Sighting<&'a JobEntry>,
    /// The job in Flink.
    pub job: Sighting<&'a JobView>,
    /// The Flink process.
    pub process: Process,
    /// What Flink says of the open intent; `None` when there is no open intent.
    pub operation: Option<Sighting<&'a OperationStatus>>,
    /// The job has FINISHED with a stop-with-savepoint that somebody else ordered: its path. While that cannot be told,
    /// the job is to be shown as unreachable, not as FINISHED.
    pub stopped_outside: Option<&'a str>,
    /// What earlier actions found.
    pub evidence: &'a Evidence,
    /// A random trigger id for the case that one is needed.
    pub fresh: TriggerId,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing before this time, unless something happens.
    Wait(Timestamp, &'static str),
    /// Store this intent in the pointer.
    StoreIntent(Intent),
    /// Send the open intent's request to Flink.
    Send,
    /// Read this restore point back.
    Verify(String),
    /// Record a restore point in the pointer, and close the intent or leave it to the next start.
    Record(NewPoint),
    /// The open intent has failed: close it.
    Abandon(FailureCause),
    /// Look into the open intent's directory for its savepoint.
    SearchIntent,
    /// List the run's retained checkpoints and read the newest one back.
    SearchFallback,
    /// Record that the job ended by itself.
    RecordEnded(JobStatus),
    /// There is nothing left to do for this job.
    Settle(Outcome),
}

/// A restore point to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NewPoint {
    /// As Flink wrote it.
    pub path: String,
    /// What it is.
    pub kind: PointKind,
    /// Checkpoint id and size; `None` when it could not be read back and that is allowed.
    pub verified: Option<Verified>,
    /// Whether the open intent is done with.
    pub close_intent: bool,
}

/// How an ask, or the watch over a job, came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The savepoint is recorded under this path.
    Recorded(String),
    /// No savepoint in time: the restore point is this retained checkpoint. The reason.
    Fallback(String, String),
    /// The job has ended by itself.
    Ended(JobStatus),
    /// Nothing was recorded; the pointer is as it was before. The reason.
    Nothing(String),
}

/// The next action for one job.
#[must_use]
pub fn decide(policy: &Policy, seen: &Observation<'_>) -> Action {
    let entry = match seen.entry {
        Sighting::Seen(entry) => entry,
        Sighting::Absent | Sighting::Unreachable => return without_pointer(policy, seen),
    };
    let turn = Turn {
        policy,
        seen,
        entry,
    };
    if let Some(reason) = &entry.frozen {
        return turn.set_aside(&format!("the pointer is frozen: {reason}"));
    }
    if entry.person_decided() {
        return turn.set_aside("a person has chosen what the next start resumes from");
    }
    match (&entry.intent, seen.ask) {
        // A stop aborts plain savepoints that are under way, and it does not wait for them.
        (Some(intent), Some(ask)) if is_stop(ask.kind) && !is_stop(intent.kind) => turn.pursue(ask),
        (Some(intent), _) => turn.resume(intent),
        (None, Some(ask)) => turn.pursue(ask),
        (None, None) => turn.watch(),
    }
}

/// All tasks run, so that a savepoint can work. "RUNNING" alone does not say so: it comes before the first task runs.
#[must_use]
pub fn ready(job: &JobView) -> bool {
    job.status == JobStatus::Running && job.tasks.all_running()
}

fn is_stop(kind: SavepointKind) -> bool {
    matches!(kind, SavepointKind::Stop { .. })
}

#[cfg(test)]
mod tests;
