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

use super::budget::{Backoff, after};
use super::job::{JobStatus, JobView};
use super::pointer::{Intent, JobEntry, PointKind, TriggerReason};
use super::savepoint::{
    FailureCause, FailureClass, OperationStatus, SavepointFormat, SavepointKind, TriggerId,
};

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
    /// Where the savepoint goes; `None`: Flink's default directory.
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// The last restore point that was read back, and when an unreachable one may be tried again.
    pub verdict: Option<(String, Verdict, Timestamp)>,
    /// A savepoint found in the open intent's directory.
    pub late: Option<Sighting<Verified>>,
    /// The newest retained checkpoint of the run.
    pub fallback: Option<Sighting<Verified>>,
    /// The last failed attempt, how many there were, and when the last one was.
    pub failure: Option<(FailureCause, u32, Timestamp)>,
}

/// Everything that is known in one turn.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// The time of the turn.
    pub now: Timestamp,
    /// What is wanted, if anything.
    pub ask: Option<&'a Ask>,
    /// The job's entry in the pointer.
    pub entry: Sighting<&'a JobEntry>,
    /// The job in Flink.
    pub job: Sighting<&'a JobView>,
    /// The Flink process.
    pub process: Process,
    /// What Flink says of the open intent; `None` when there is no open intent.
    pub operation: Option<Sighting<&'a OperationStatus>>,
    /// The job has FINISHED with a stop-with-savepoint that somebody else ordered: its path.
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
        return turn.frozen(reason);
    }
    if entry.person_decided() {
        return turn.frozen("a person has chosen what the next start resumes from");
    }
    match (&entry.intent, seen.ask) {
        (Some(intent), _) => turn.resume(intent),
        (None, Some(ask)) => turn.pursue(ask),
        (None, None) => turn.watch(),
    }
}

/// No intent can be stored, so no request may be sent.
fn without_pointer(policy: &Policy, seen: &Observation<'_>) -> Action {
    match seen.ask {
        Some(ask) if seen.now >= ask.deadline => {
            Action::Settle(Outcome::Nothing("the pointer could not be read".to_owned()))
        }
        Some(_) => Action::Wait(
            after(seen.now, policy.retry.first),
            "the pointer cannot be read",
        ),
        None => Action::Wait(after(seen.now, policy.idle), "the pointer cannot be read"),
    }
}

/// One turn over a readable pointer.
struct Turn<'a> {
    policy: &'a Policy,
    seen: &'a Observation<'a>,
    entry: &'a JobEntry,
}

impl Turn<'_> {
    /// The run did not start from what was chosen: nothing of it is recorded.
    fn frozen(&self, reason: &str) -> Action {
        if self.seen.ask.is_some() || self.seen.process == Process::Gone {
            return Action::Settle(Outcome::Nothing(format!("the pointer is frozen: {reason}")));
        }
        self.idle("the pointer is frozen")
    }

    /// An intent is open: bring it to its end.
    fn resume(&self, intent: &Intent) -> Action {
        match &self.seen.operation {
            Some(Sighting::Seen(OperationStatus::Completed { location })) => {
                self.conclude(location, point_kind(intent.kind))
            }
            Some(Sighting::Seen(OperationStatus::Failed(cause))) => match &cause.savepoint {
                // The savepoint was written, only the stop failed: Flink itself says to restore from exactly it.
                Some(path) => self.conclude(path, PointKind::Stop),
                None => Action::Abandon(cause.clone()),
            },
            Some(Sighting::Seen(OperationStatus::InProgress)) => self.in_progress(intent),
            Some(Sighting::Seen(OperationStatus::Unknown) | Sighting::Absent) => {
                self.unknown(intent)
            }
            Some(Sighting::Unreachable) | None => self.unanswered(intent),
        }
    }

    fn in_progress(&self, intent: &Intent) -> Action {
        match self.seen.ask {
            // A stop aborts plain savepoints that are under way, and it does not wait for them.
            Some(ask) if is_stop(ask.kind) && !is_stop(intent.kind) => Action::Abandon(cause(
                FailureClass::AnotherInProgress,
                "a stop-with-savepoint took its place",
            )),
            Some(ask) if self.overdue(ask) => {
                self.fall_back("the savepoint was not complete in time")
            }
            _ => Action::Wait(
                after(self.seen.now, self.poll(intent)),
                "savepoint in progress",
            ),
        }
    }

    /// Flink does not know the trigger id: it never came, or the JobManager that knew it is gone.
    fn unknown(&self, intent: &Intent) -> Action {
        match self.seen.job {
            Sighting::Seen(job) if job.status.is_globally_terminal() => self.search(intent),
            Sighting::Seen(job) if ready(job) => Action::Send,
            _ => self.unanswered(intent),
        }
    }

    /// Nobody can be asked how the operation stands.
    fn unanswered(&self, intent: &Intent) -> Action {
        if self.seen.process == Process::Gone {
            return self.search(intent);
        }
        match self.seen.ask {
            Some(ask) if self.overdue(ask) => self.fall_back("Flink did not answer in time"),
            Some(_) => self.retry("Flink does not answer"),
            None if is_stop(intent.kind) || self.seen.now < intent.deadline => {
                self.retry("Flink does not answer")
            }
            None => Action::Abandon(cause(
                FailureClass::Unavailable,
                "Flink did not answer in time",
            )),
        }
    }

    /// The job or its JobManager is gone: only storage still knows whether the savepoint was completed.
    fn search(&self, intent: &Intent) -> Action {
        match &self.seen.evidence.late {
            None => Action::SearchIntent,
            Some(Sighting::Seen(found)) => self.record(found, point_kind(intent.kind), true),
            Some(Sighting::Absent) => Action::Abandon(cause(
                FailureClass::JobGone,
                "the job was gone before its savepoint was complete",
            )),
            Some(Sighting::Unreachable) => self.storage_away(),
        }
    }

    /// The storage cannot be looked at. The intent stays, so the next start looks again.
    fn storage_away(&self) -> Action {
        match self.seen.ask {
            Some(ask) if self.overdue(ask) => {
                Action::Settle(Outcome::Nothing("the storage did not answer".to_owned()))
            }
            None if self.seen.process == Process::Gone => {
                Action::Settle(Outcome::Nothing("the storage did not answer".to_owned()))
            }
            _ => Action::SearchIntent,
        }
    }

    /// Flink says that a savepoint is complete: it counts once it was read back.
    fn conclude(&self, path: &str, kind: PointKind) -> Action {
        let verdict = match &self.seen.evidence.verdict {
            Some((known, verdict, again)) if known == path => (verdict, *again),
            _ => return Action::Verify(path.to_owned()),
        };
        match verdict {
            (Verdict::Good(verified), _) => self.record(verified, kind, true),
            (Verdict::Unsupported(_), _) if self.policy.allow_unverified => {
                Action::Record(NewPoint {
                    path: path.to_owned(),
                    kind,
                    verified: None,
                    close_intent: true,
                })
            }
            (Verdict::Unreachable(_), again) => match self.seen.ask {
                Some(ask) if self.overdue(ask) => {
                    self.unverified("the storage did not answer", kind)
                }
                _ if self.seen.now >= again => Action::Verify(path.to_owned()),
                _ => Action::Wait(again, "the savepoint cannot be read back"),
            },
            (Verdict::Missing, _) => {
                self.unverified("Flink reported a savepoint that is not there", kind)
            }
            (Verdict::Damaged(why) | Verdict::Unsupported(why), _) => self.unverified(why, kind),
        }
    }

    /// A savepoint that cannot be read back never replaces a good restore point. After a stop the intent stays open:
    /// the job has no newer state anywhere, so the next start must look at it again rather than pass over it.
    fn unverified(&self, why: &str, kind: PointKind) -> Action {
        match kind {
            PointKind::Stop => Action::Settle(Outcome::Nothing(format!(
                "the savepoint is not usable: {why}"
            ))),
            _ => Action::Abandon(cause(FailureClass::StorageUnwritable, why)),
        }
    }

    /// A savepoint is wanted and none is under way.
    fn pursue(&self, ask: &Ask) -> Action {
        if let Some(path) = self.stopped() {
            return Action::Settle(Outcome::Recorded(path.to_owned()));
        }
        if let Some(path) = self.plain_done(ask) {
            return Action::Settle(Outcome::Recorded(path.to_owned()));
        }
        match self.seen.job {
            Sighting::Seen(job) if job.status == JobStatus::Failed => {
                return self.give_up(ask, "the job has failed");
            }
            Sighting::Seen(job) if job.status.is_globally_terminal() => return self.ended(job),
            _ => {}
        }
        if let Some((cause, attempts, at)) = &self.seen.evidence.failure {
            let again = after(*at, self.policy.retry.wait(*attempts));
            if !cause.class.is_retryable() || after(again, self.policy.reserve) >= ask.deadline {
                return self.give_up(ask, &cause.root);
            }
            if self.seen.now < again && matches!(self.seen.job, Sighting::Seen(job) if ready(job)) {
                return Action::Wait(again, "the last attempt failed");
            }
        }
        match self.seen.job {
            Sighting::Seen(job) if ready(job) && !self.overdue(ask) => {
                Action::StoreIntent(self.intent(ask, job))
            }
            _ => self.not_ready(ask),
        }
    }

    fn not_ready(&self, ask: &Ask) -> Action {
        if self.seen.process == Process::Gone {
            return self.give_up(ask, "the Flink process has ended");
        }
        let failing = matches!(self.seen.job,
            Sighting::Seen(job) if matches!(job.status, JobStatus::Restarting | JobStatus::Failing));
        let patience = after(ask.since, self.policy.restart_patience);
        if failing && self.seen.now >= patience {
            return self.give_up(ask, "the job keeps restarting");
        }
        if self.overdue(ask) {
            return self.give_up(ask, "the job was not running in time");
        }
        self.retry("not all tasks are running yet")
    }

    /// There will be no savepoint. Who only asked for one is told; before an end the newest checkpoint has to do.
    fn give_up(&self, ask: &Ask, why: &str) -> Action {
        if ask.must_end {
            self.fall_back(why)
        } else {
            Action::Settle(Outcome::Nothing(why.to_owned()))
        }
    }

    fn fall_back(&self, why: &str) -> Action {
        match &self.seen.evidence.fallback {
            None => Action::SearchFallback,
            Some(Sighting::Seen(found)) => {
                let newest = self.entry.newest();
                if newest.is_some_and(|point| point.checkpoint_id >= Some(found.checkpoint_id)) {
                    return Action::Settle(Outcome::Fallback(found.path.clone(), why.to_owned()));
                }
                self.record(found, PointKind::Checkpoint, false)
            }
            Some(Sighting::Absent) => Action::Settle(Outcome::Nothing(why.to_owned())),
            Some(Sighting::Unreachable) => match self.seen.ask {
                Some(ask) if self.seen.now < ask.deadline => Action::SearchFallback,
                _ => Action::Settle(Outcome::Nothing(format!(
                    "{why}, and the storage did not answer"
                ))),
            },
        }
    }

    /// Nobody wants anything: notice the job's end.
    fn watch(&self) -> Action {
        if let Some(path) = self.stopped() {
            return Action::Settle(Outcome::Recorded(path.to_owned()));
        }
        match self.seen.job {
            Sighting::Seen(job) if job.status.is_globally_terminal() => self.ended(job),
            _ if self.seen.process == Process::Gone => {
                Action::Settle(Outcome::Nothing("the Flink process has ended".to_owned()))
            }
            _ => self.idle("nothing to do"),
        }
    }

    fn ended(&self, job: &JobView) -> Action {
        if let Some(path) = self.seen.stopped_outside {
            return self.conclude(path, PointKind::Stop);
        }
        match &self.entry.ended {
            Some(ended) => Action::Settle(Outcome::Ended(ended.status)),
            None => Action::RecordEnded(job.status),
        }
    }

    /// The path of the stop-with-savepoint that ended the present run, if one is recorded.
    fn stopped(&self) -> Option<&str> {
        let run = self.entry.run.as_ref()?;
        let newest = self.entry.newest()?;
        let ours = newest.kind == PointKind::Stop && newest.run.as_ref() == Some(&run.id);
        ours.then_some(newest.path.as_str())
    }

    /// The path of the plain savepoint that answers this ask.
    fn plain_done(&self, ask: &Ask) -> Option<&str> {
        let answers = |point: &&super::pointer::RestorePoint| {
            point.kind == PointKind::Savepoint && point.started >= Some(ask.since)
        };
        (!is_stop(ask.kind))
            .then(|| self.entry.counting().find(answers))?
            .map(|point| point.path.as_str())
    }

    fn record(&self, verified: &Verified, kind: PointKind, close_intent: bool) -> Action {
        let path = verified.path.clone();
        Action::Record(NewPoint {
            path,
            kind,
            verified: Some(verified.clone()),
            close_intent,
        })
    }

    fn intent(&self, ask: &Ask, job: &JobView) -> Intent {
        Intent {
            trigger: self.seen.fresh,
            flink_trigger: None,
            kind: ask.kind,
            format: ask.format,
            reason: ask.reason,
            job_id: job.id,
            directory: ask.directory.clone(),
            stored: self.seen.now,
            deadline: ask.deadline,
        }
    }

    /// Only who must end has a deadline beyond which waiting makes it worse.
    fn overdue(&self, ask: &Ask) -> bool {
        after(self.seen.now, self.policy.reserve) >= ask.deadline
    }

    /// A fiftieth of what it took so far, 5 to 50 ms: a short savepoint is noticed at once, a long one not hammered at.
    fn poll(&self, intent: &Intent) -> Duration {
        let elapsed = super::budget::until(intent.stored, self.seen.now);
        (elapsed / 50).clamp(Duration::from_millis(5), Duration::from_millis(50))
    }

    fn retry(&self, why: &'static str) -> Action {
        Action::Wait(after(self.seen.now, self.policy.retry.first), why)
    }

    fn idle(&self, why: &'static str) -> Action {
        Action::Wait(after(self.seen.now, self.policy.idle), why)
    }
}

/// All tasks run, so that a savepoint can work. "RUNNING" alone does not say so: it comes before the first task runs.
#[must_use]
pub fn ready(job: &JobView) -> bool {
    job.status == JobStatus::Running && job.tasks.all_running()
}

fn cause(class: FailureClass, root: &str) -> FailureCause {
    FailureCause {
        class,
        root: root.to_owned(),
        savepoint: None,
    }
}

fn is_stop(kind: SavepointKind) -> bool {
    matches!(kind, SavepointKind::Stop { .. })
}

fn point_kind(kind: SavepointKind) -> PointKind {
    if is_stop(kind) {
        PointKind::Stop
    } else {
        PointKind::Savepoint
    }
}
