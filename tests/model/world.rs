//! The state of the small world in which the real decisions are driven: Flink, storage, pointer, supervisor, launcher.

use std::sync::Arc;

use drey::domain::budget::after;
use drey::domain::job::{JobId, JobStatus, JobView, TaskCounts};
use drey::domain::pointer::{JobEntry, PointKind, RunId};
use drey::domain::savepoint::{FailureClass, TriggerId};
use drey::domain::supervise::{Action, Evidence, Process, Verdict, Verified};
use jiff::Timestamp;
use std::time::Duration;

/// Ticks from SIGTERM to its deadline, of which the last is the reserve.
pub(crate) const GRACE: u8 = 3;

/// How often each thing may still happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) ticks: u8,
    /// Starts of a JobManager.
    pub(crate) starts: u8,
    /// Deaths of the supervisor.
    pub(crate) supervisor_crashes: u8,
    /// Deaths of the JobManager that nobody ordered, and of the launcher before it started one.
    pub(crate) flink_crashes: u8,
    pub(crate) failovers: u8,
    pub(crate) checkpoints: u8,
    /// Savepoint operations that fail.
    pub(crate) failures: u8,
    pub(crate) terms: u8,
    /// Plain savepoints asked for by a person.
    pub(crate) manual: u8,
    /// Stops asked for by a person.
    pub(crate) manual_stops: u8,
    /// Files that turn out damaged.
    pub(crate) damages: u8,
    /// Times at which the storage stops answering.
    pub(crate) outages: u8,
    /// Requests that never reach Flink.
    pub(crate) lost_posts: u8,
    /// Pointer writes that fail.
    pub(crate) failed_writes: u8,
    /// Jobs that come to their end by themselves.
    pub(crate) ends: u8,
    /// New owners.
    pub(crate) owners: u8,
    /// Times at which a person sets or clears the pointer.
    pub(crate) choices: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum JobState {
    Deploying,
    Running,
    Restarting,
    Finished,
    Failed,
    Canceled,
}

impl JobState {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Canceled)
    }

    pub(crate) fn view(self, run: u8) -> JobView {
        let (status, running) = match self {
            Self::Deploying => (JobStatus::Running, 0),
            Self::Running => (JobStatus::Running, 1),
            Self::Restarting => (JobStatus::Restarting, 0),
            Self::Finished => (JobStatus::Finished, 0),
            Self::Failed => (JobStatus::Failed, 0),
            Self::Canceled => (JobStatus::Canceled, 0),
        };
        JobView {
            id: job_id(run),
            name: String::new(),
            status,
            start_time: 0,
            tasks: TaskCounts {
                total: 1,
                running,
                finished: 0,
            },
        }
    }
}

/// A JobManager that is alive, with its job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Flink {
    pub(crate) run: u8,
    pub(crate) job: JobState,
    /// How many pieces of work lie behind it: each snapshot is one piece further than what came before.
    pub(crate) position: u8,
    pub(crate) next_id: u8,
    /// The newest completed checkpoint, or what the run started from: id and position.
    pub(crate) latest: Option<(u8, u8)>,
    /// What was last restored, and when.
    pub(crate) restored: Option<(u8, u8)>,
    pub(crate) operations: Vec<Operation>,
    /// A person has chosen something else for the next start: what this one commits counts no longer.
    pub(crate) abandoned: bool,
    /// SIGTERM has reached it: it is gone in a moment.
    pub(crate) ending: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Operation {
    pub(crate) trigger: u8,
    pub(crate) stop: bool,
    pub(crate) progress: Progress,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Progress {
    Triggered,
    /// A stop's savepoint is written, its sinks commit, the job is not yet FINISHED.
    Written(String),
    Completed(String),
    Failed(FailureClass, Option<String>),
}

impl Operation {
    pub(crate) fn in_flight(&self) -> bool {
        matches!(self.progress, Progress::Triggered | Progress::Written(_))
    }
}

/// A checkpoint or savepoint in storage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct File {
    pub(crate) run: u8,
    pub(crate) id: u8,
    pub(crate) kind: PointKind,
    pub(crate) trigger: u8,
    pub(crate) position: u8,
    pub(crate) damaged: bool,
    /// A plain savepoint whose job has since gone back behind it, so that its sinks' transactions were aborted.
    pub(crate) aborted: bool,
}

impl File {
    pub(crate) fn path(&self) -> String {
        match self.kind {
            PointKind::Checkpoint => format!("{}/chk-{}", self.run, self.id),
            _ => format!(
                "{}/{}/savepoint-{}",
                self.run,
                trigger_id(self.trigger),
                self.id
            ),
        }
    }

    pub(crate) fn verified(&self) -> Verified {
        Verified {
            path: self.path(),
            checkpoint_id: i64::from(self.id),
            size: 1,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        if self.damaged {
            Verdict::Damaged("truncated".to_owned())
        } else {
            Verdict::Good(self.verified())
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Want {
    /// SIGTERM.
    End,
    Savepoint,
    Stop,
}

/// The supervisor's memory: lost when it dies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Supervisor {
    /// What is wanted, and since when.
    pub(crate) want: Option<(Want, u8)>,
    pub(crate) evidence: Arc<Evidence>,
    /// The job as it was last seen; may be long ago.
    pub(crate) view: Option<JobState>,
    pub(crate) process: Process,
    pub(crate) acting: Option<Box<Action>>,
    /// The last write failed.
    pub(crate) unwritable: bool,
    pub(crate) settled: bool,
    /// Turns since the deadline.
    pub(crate) late_turns: u8,
}

impl Supervisor {
    pub(crate) fn new(process: Process) -> Self {
        Self {
            want: None,
            evidence: Arc::default(),
            view: None,
            process,
            acting: None,
            unwritable: false,
            settled: false,
            late_turns: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Launcher {
    /// Nothing runs.
    Down,
    /// The run is stored, with the path that it starts from.
    Prepared(Option<String>),
    /// A JobManager was started.
    Up,
    /// The start was refused, or the job is over.
    Resigned,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) now: u8,
    pub(crate) flink: Option<Flink>,
    pub(crate) files: Vec<File>,
    pub(crate) storage_away: bool,
    /// The pointer.
    pub(crate) entry: Arc<JobEntry>,
    pub(crate) supervisor: Option<Supervisor>,
    pub(crate) launcher: Launcher,
    /// SIGTERM reached the launcher at this time, and the JobManager that it has started is still alive.
    pub(crate) term: Option<u8>,
    pub(crate) runs: u8,
    pub(crate) owner: u8,
    pub(crate) triggers: u8,
    /// How far the sinks of this lineage have committed.
    pub(crate) committed: u8,
    /// There has been a restore point in this lineage.
    pub(crate) point_made: bool,
    /// The highest checkpoint of the run that the supervisor saw completed.
    pub(crate) seen_completed: Option<(u8, u8)>,
    /// What the last run restored after a failover that was noticed: run, id and time.
    pub(crate) restored: Option<(u8, u8, u8)>,
    /// What a person chose for the next start; `None` within: empty state.
    pub(crate) chosen: Option<Option<String>>,
    /// The owner whose job was recorded as ended.
    pub(crate) ended_of: Option<u8>,
    pub(crate) left: Budget,
    pub(crate) broken: Option<&'static str>,
}

impl World {
    pub(crate) fn new(left: Budget) -> Self {
        Self {
            now: 0,
            flink: None,
            files: Vec::new(),
            storage_away: false,
            entry: Arc::default(),
            supervisor: Some(Supervisor::new(Process::Gone)),
            launcher: Launcher::Down,
            term: None,
            runs: 0,
            owner: 0,
            triggers: 0,
            committed: 0,
            point_made: false,
            seen_completed: None,
            restored: None,
            chosen: None,
            ended_of: None,
            left,
            broken: None,
        }
    }

    /// Notes the first promise that does not hold.
    pub(crate) fn require(&mut self, holds: bool, promise: &'static str) {
        if !holds && self.broken.is_none() {
            self.broken = Some(promise);
        }
    }

    pub(crate) fn time(&self) -> Timestamp {
        at(self.now)
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path() == path)
    }

    pub(crate) fn verdict(&self, path: &str) -> Verdict {
        if self.storage_away {
            return Verdict::Unreachable("no answer".to_owned());
        }
        self.file(path).map_or(Verdict::Missing, File::verdict)
    }
}

pub(crate) fn at(tick: u8) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, Duration::from_secs(u64::from(tick)))
}

pub(crate) fn trigger_id(number: u8) -> TriggerId {
    TriggerId::from_bytes([number; 16])
}

pub(crate) fn job_id(run: u8) -> JobId {
    JobId::from_bytes([run; 16])
}

pub(crate) fn run_id(run: u8) -> RunId {
    RunId::from_bytes([run; 6])
}
