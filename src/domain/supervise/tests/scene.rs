//! What the situations are told in.

use super::super::*;
use crate::domain::budget::after;
use crate::domain::job::{JobId, TaskCounts};
use crate::domain::pointer::{RestorePoint, Run, RunId};
use crate::domain::savepoint::FailureClass;

pub(super) const STOP: SavepointKind = SavepointKind::Stop { drain: false };
pub(super) const PLAIN: SavepointKind = SavepointKind::Savepoint;

pub(super) fn at(second: u64) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, Duration::from_secs(second))
}

pub(super) fn policy() -> Policy {
    Policy {
        retry: Backoff {
            first: Duration::from_secs(1),
            most: Duration::from_secs(4),
        },
        reserve: Duration::from_secs(5),
        restart_patience: Duration::from_secs(10),
        idle: Duration::from_secs(2),
        allow_unverified: false,
    }
}

pub(super) fn trigger(byte: u8) -> TriggerId {
    TriggerId::from_bytes([byte; 16])
}

pub(super) fn run_id(byte: u8) -> RunId {
    RunId::from_bytes([byte; 6])
}

/// A situation: at second 10 of an ask from second 0 until second 30, of which an ending process keeps the last five.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) policy: Policy,
    pub(super) now: u64,
    pub(super) ask: Option<Ask>,
    pub(super) entry: JobEntry,
    pub(super) pointer_away: bool,
    pub(super) job: Sighting<JobView>,
    pub(super) process: Process,
    pub(super) operation: Option<Sighting<OperationStatus>>,
    pub(super) stopped_outside: Option<&'static str>,
    pub(super) evidence: Evidence,
}

pub(super) fn scene() -> Scene {
    let run = Run {
        id: run_id(1),
        job_id: None,
        parent: None,
        checkpoint_dir: None,
        savepoint_dir: None,
        stored: at(0),
        owner: "owner".to_owned(),
        flink_version: "1.20.2".to_owned(),
    };
    Scene {
        policy: policy(),
        now: 10,
        ask: None,
        entry: JobEntry {
            run: Some(run),
            ..JobEntry::default()
        },
        pointer_away: false,
        job: Sighting::Seen(view(JobStatus::Running, 2)),
        process: Process::Running,
        operation: None,
        stopped_outside: None,
        evidence: Evidence::default(),
    }
}

pub(super) fn view(status: JobStatus, running: u32) -> JobView {
    JobView {
        id: JobId::from_bytes([7; 16]),
        name: "example".to_owned(),
        status,
        start_time: 0,
        tasks: TaskCounts {
            total: 2,
            running,
            finished: 0,
        },
    }
}

pub(super) fn verified(path: &str, checkpoint_id: i64) -> Verified {
    Verified {
        path: path.to_owned(),
        checkpoint_id,
        size: 1,
    }
}

pub(super) fn point(path: &str, kind: PointKind, checkpoint_id: i64) -> RestorePoint {
    RestorePoint {
        path: path.to_owned(),
        kind,
        checkpoint_id: Some(checkpoint_id),
        job_id: None,
        lineage: 0,
        run: Some(run_id(1)),
        reason: TriggerReason::Manual,
        started: Some(at(5)),
        completed: at(6),
        size: None,
        flink_version: None,
        superseded: false,
        claimed: false,
    }
}

pub(super) fn failed(class: FailureClass) -> FailureCause {
    FailureCause {
        class,
        root: "cause".to_owned(),
        savepoint: None,
    }
}

pub(super) fn completed(path: &str) -> Sighting<OperationStatus> {
    Sighting::Seen(OperationStatus::Completed {
        location: path.to_owned(),
    })
}

impl Scene {
    pub(super) fn asked(mut self, kind: SavepointKind, must_end: bool) -> Self {
        self.ask = Some(Ask {
            kind,
            reason: TriggerReason::Shutdown,
            format: None,
            other_format: None,
            directory: Some("file:/savepoints/".to_owned()),
            since: at(0),
            // A process that ends needs the last five seconds for itself.
            deadline: at(if must_end { 30 } else { 25 }),
            must_end,
        });
        self
    }

    /// SIGTERM has arrived.
    pub(super) fn ending(self) -> Self {
        self.asked(STOP, true)
    }

    pub(super) fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }

    /// No time is left for anything but the fallback.
    pub(super) fn overdue(self) -> Self {
        self.at(25)
    }

    pub(super) fn late(self) -> Self {
        self.at(30)
    }

    pub(super) fn intent(mut self, kind: SavepointKind) -> Self {
        self.entry.intent = Some(Intent {
            trigger: trigger(1),
            flink_trigger: None,
            kind,
            format: None,
            reason: TriggerReason::Shutdown,
            job_id: JobId::from_bytes([7; 16]),
            directory: Some("file:/savepoints/1".to_owned()),
            stored: at(5),
            deadline: at(30),
            location: None,
        });
        self.operation = Some(Sighting::Seen(OperationStatus::InProgress));
        self
    }

    pub(super) fn operation(mut self, operation: Sighting<OperationStatus>) -> Self {
        self.operation = Some(operation);
        self
    }

    pub(super) fn unknown(self) -> Self {
        self.operation(Sighting::Seen(OperationStatus::Unknown))
    }

    pub(super) fn job(mut self, status: JobStatus, running: u32) -> Self {
        self.job = Sighting::Seen(view(status, running));
        self
    }

    pub(super) fn gone(mut self) -> Self {
        self.process = Process::Gone;
        self.job = Sighting::Unreachable;
        self.operation = self.operation.map(|_| Sighting::Unreachable);
        self
    }

    pub(super) fn failed_before(mut self, class: FailureClass, attempts: u32, second: u64) -> Self {
        self.evidence.failure = Some((failed(class), attempts, at(second)));
        self
    }

    pub(super) fn verdict(mut self, path: &str, verdict: Verdict) -> Self {
        self.evidence.verdict = Some((path.to_owned(), verdict, at(12)));
        self
    }

    pub(super) fn searched(mut self, late: Sighting<String>) -> Self {
        self.evidence.late = Some(late);
        self
    }

    pub(super) fn fallback(mut self, fallback: Sighting<Verified>) -> Self {
        self.evidence.fallback = Some(fallback);
        self
    }

    pub(super) fn recorded(mut self, point: RestorePoint) -> Self {
        self.entry.history.insert(0, point);
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn decide(&self) -> Action {
        decide(
            &self.policy,
            &Observation {
                now: at(self.now),
                ask: self.ask.as_ref(),
                entry: if self.pointer_away {
                    Sighting::Unreachable
                } else {
                    Sighting::Seen(&self.entry)
                },
                job: by_ref(&self.job),
                process: self.process,
                operation: self.operation.as_ref().map(by_ref),
                stopped_outside: self.stopped_outside,
                evidence: &self.evidence,
                fresh: trigger(9),
            },
        )
    }
}

pub(super) fn by_ref<T>(sighting: &Sighting<T>) -> Sighting<&T> {
    match sighting {
        Sighting::Seen(seen) => Sighting::Seen(seen),
        Sighting::Absent => Sighting::Absent,
        Sighting::Unreachable => Sighting::Unreachable,
    }
}

/// An action without its particulars, so that a table fits a screen.
pub(super) fn brief(action: &Action) -> String {
    match action {
        Action::Wait(until, why) => format!("wait {} {why}", until.as_second()),
        Action::StoreIntent(intent) => match &intent.location {
            Some(path) => format!("store {} at {path}", intent.trigger.as_bytes()[0]),
            None => format!("store {} {:?}", intent.trigger.as_bytes()[0], intent.kind),
        },
        Action::Send => "send".to_owned(),
        Action::Verify(path) => format!("verify {path}"),
        Action::Record(new) => {
            let close = if new.close_intent { "close" } else { "leave" };
            format!("record {:?} {} {close}", new.kind, new.path)
        }
        Action::Abandon(cause) => format!("abandon {:?}", cause.class),
        Action::SearchIntent => "search intent".to_owned(),
        Action::SearchFallback => "search fallback".to_owned(),
        Action::RecordEnded(status) => format!("ended {status}"),
        Action::Settle(Outcome::Recorded(path)) => format!("settle recorded {path}"),
        Action::Settle(Outcome::Fallback(path, _)) => format!("settle fallback {path}"),
        Action::Settle(Outcome::Ended(status)) => format!("settle ended {status}"),
        Action::Settle(Outcome::Nothing(_)) => "settle nothing".to_owned(),
    }
}

pub(super) fn table(rows: Vec<(Scene, &str)>) {
    for (number, (scene, wanted)) in rows.into_iter().enumerate() {
        let action = scene.decide();
        assert_eq!(brief(&action), wanted, "row {number}: {action:?}");
    }
}
