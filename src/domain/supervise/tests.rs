//! One table for each arm of `decide`: the situation, and what is done in it.

use super::*;
use crate::domain::budget::after;
use crate::domain::job::{JobId, TaskCounts};
use crate::domain::pointer::{Ended, RestorePoint, Run, RunId};
use crate::domain::savepoint::FailureClass;

const STOP: SavepointKind = SavepointKind::Stop { drain: false };
const PLAIN: SavepointKind = SavepointKind::Savepoint;

fn at(second: u64) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, Duration::from_secs(second))
}

fn policy() -> Policy {
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

fn trigger(byte: u8) -> TriggerId {
    TriggerId::from_bytes([byte; 16])
}

fn run_id(byte: u8) -> RunId {
    RunId::from_bytes([byte; 6])
}

/// A situation: at second 10 of an ask from second 0 until second 30, of which an ending process keeps the last five.
#[derive(Clone)]
struct Scene {
    policy: Policy,
    now: u64,
    ask: Option<Ask>,
    entry: JobEntry,
    pointer_away: bool,
    job: Sighting<JobView>,
    process: Process,
    operation: Option<Sighting<OperationStatus>>,
    stopped_outside: Option<&'static str>,
    evidence: Evidence,
}

fn scene() -> Scene {
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

fn view(status: JobStatus, running: u32) -> JobView {
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

fn verified(path: &str, checkpoint_id: i64) -> Verified {
    Verified {
        path: path.to_owned(),
        checkpoint_id,
        size: 1,
    }
}

fn point(path: &str, kind: PointKind, checkpoint_id: i64) -> RestorePoint {
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

fn failed(class: FailureClass) -> FailureCause {
    FailureCause {
        class,
        root: "cause".to_owned(),
        savepoint: None,
    }
}

fn completed(path: &str) -> Sighting<OperationStatus> {
    Sighting::Seen(OperationStatus::Completed {
        location: path.to_owned(),
    })
}

impl Scene {
    fn asked(mut self, kind: SavepointKind, must_end: bool) -> Self {
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
    fn ending(self) -> Self {
        self.asked(STOP, true)
    }

    fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }

    /// No time is left for anything but the fallback.
    fn overdue(self) -> Self {
        self.at(25)
    }

    fn late(self) -> Self {
        self.at(30)
    }

    fn intent(mut self, kind: SavepointKind) -> Self {
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

    fn operation(mut self, operation: Sighting<OperationStatus>) -> Self {
        self.operation = Some(operation);
        self
    }

    fn unknown(self) -> Self {
        self.operation(Sighting::Seen(OperationStatus::Unknown))
    }

    fn job(mut self, status: JobStatus, running: u32) -> Self {
        self.job = Sighting::Seen(view(status, running));
        self
    }

    fn gone(mut self) -> Self {
        self.process = Process::Gone;
        self.job = Sighting::Unreachable;
        self.operation = self.operation.map(|_| Sighting::Unreachable);
        self
    }

    fn failed_before(mut self, class: FailureClass, attempts: u32, second: u64) -> Self {
        self.evidence.failure = Some((failed(class), attempts, at(second)));
        self
    }

    fn verdict(mut self, path: &str, verdict: Verdict) -> Self {
        self.evidence.verdict = Some((path.to_owned(), verdict, at(12)));
        self
    }

    fn searched(mut self, late: Sighting<String>) -> Self {
        self.evidence.late = Some(late);
        self
    }

    fn fallback(mut self, fallback: Sighting<Verified>) -> Self {
        self.evidence.fallback = Some(fallback);
        self
    }

    fn recorded(mut self, point: RestorePoint) -> Self {
        self.entry.history.insert(0, point);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn decide(&self) -> Action {
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

fn by_ref<T>(sighting: &Sighting<T>) -> Sighting<&T> {
    match sighting {
        Sighting::Seen(seen) => Sighting::Seen(seen),
        Sighting::Absent => Sighting::Absent,
        Sighting::Unreachable => Sighting::Unreachable,
    }
}

/// An action without its particulars, so that a table fits a screen.
fn brief(action: &Action) -> String {
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

fn table(rows: Vec<(Scene, &str)>) {
    for (number, (scene, wanted)) in rows.into_iter().enumerate() {
        let action = scene.decide();
        assert_eq!(brief(&action), wanted, "row {number}: {action:?}");
    }
}

#[test]
fn a_savepoint_is_asked_for_when_all_tasks_run_and_the_intent_comes_first() {
    table(vec![
        (scene().ending(), "store 9 Stop { drain: false }"),
        (scene().asked(PLAIN, false), "store 9 Savepoint"),
        (
            scene().ending().job(JobStatus::Running, 1),
            "wait 11 not all tasks are running yet",
        ),
        (
            scene().ending().job(JobStatus::Initializing, 0),
            "wait 11 not all tasks are running yet",
        ),
        (
            scene().ending().with(|s| s.job = Sighting::Absent),
            "wait 11 not all tasks are running yet",
        ),
        (scene().ending().overdue(), "search fallback"),
        (scene().asked(PLAIN, false).overdue(), "settle nothing"),
        (scene().ending().gone(), "search fallback"),
    ]);
}

#[test]
fn every_savepoint_has_a_directory_of_its_own() {
    let Action::StoreIntent(intent) = scene().ending().decide() else {
        panic!("an intent is stored")
    };
    assert_eq!(
        intent.directory,
        Some(format!("file:/savepoints/{}", trigger(9)))
    );
    assert_eq!((intent.stored, intent.deadline), (at(10), at(30)));
}

#[test]
fn a_stop_takes_the_place_of_a_plain_savepoint_without_waiting_for_it() {
    let plain = || scene().ending().intent(PLAIN);
    let unreadable = Verdict::Unreachable("no answer".to_owned());
    table(vec![
        (plain(), "store 9 Stop { drain: false }"),
        (plain().unknown(), "store 9 Stop { drain: false }"),
        (
            plain().operation(completed("s")).verdict("s", unreadable),
            "store 9 Stop { drain: false }",
        ),
        (
            plain().job(JobStatus::Restarting, 0).at(5),
            "wait 6 not all tasks are running yet",
        ),
        (
            scene().asked(PLAIN, false).intent(STOP),
            "wait 10 savepoint in progress",
        ),
    ]);
}

#[test]
fn a_restarting_job_is_waited_for_only_so_long() {
    let restarting = || scene().ending().job(JobStatus::Restarting, 0);
    table(vec![
        (restarting().at(9), "wait 10 not all tasks are running yet"),
        (restarting().at(10), "search fallback"),
        (
            scene().ending().job(JobStatus::Failing, 0),
            "search fallback",
        ),
        (
            scene().asked(PLAIN, false).job(JobStatus::Restarting, 0),
            "settle nothing",
        ),
        (
            scene().ending().job(JobStatus::Created, 0),
            "wait 11 not all tasks are running yet",
        ),
    ]);
}

#[test]
fn a_passing_failure_is_tried_again_while_there_is_time() {
    let after_failure =
        |class, attempts, second| scene().ending().failed_before(class, attempts, second);
    table(vec![
        (
            after_failure(FailureClass::CheckpointFailure, 2, 9),
            "wait 11 the last attempt failed",
        ),
        (
            after_failure(FailureClass::CheckpointFailure, 1, 9),
            "store 9 Stop { drain: false }",
        ),
        (
            after_failure(FailureClass::CheckpointFailure, 9, 21).at(22),
            "search fallback",
        ),
        (
            after_failure(FailureClass::NotSupported, 1, 9),
            "search fallback",
        ),
        (
            after_failure(FailureClass::NoSavepointDirectory, 1, 9),
            "search fallback",
        ),
        (
            scene()
                .asked(PLAIN, false)
                .failed_before(FailureClass::NotSupported, 1, 9),
            "settle nothing",
        ),
        (
            after_failure(FailureClass::NotAllTasksRunning, 2, 9).job(JobStatus::Running, 0),
            "wait 11 not all tasks are running yet",
        ),
    ]);
}

#[test]
fn a_savepoint_in_progress_is_polled_until_no_time_is_left() {
    table(vec![
        (
            scene().ending().intent(STOP),
            "wait 10 savepoint in progress",
        ),
        (scene().intent(STOP).late(), "wait 30 savepoint in progress"),
        (scene().ending().intent(STOP).overdue(), "search fallback"),
        (
            scene().asked(PLAIN, false).intent(PLAIN).overdue(),
            "settle nothing",
        ),
        (
            scene().asked(STOP, false).intent(STOP).overdue(),
            "settle nothing",
        ),
    ]);
    let Action::Wait(until, _) = scene().ending().intent(STOP).decide() else {
        panic!("it is polled")
    };
    assert_eq!(until.duration_since(at(10)).as_millis(), 50, "at most");
    let young = scene().ending().intent(STOP).at(5);
    let Action::Wait(until, _) = young.decide() else {
        panic!("it is polled")
    };
    assert_eq!(until.duration_since(at(5)).as_millis(), 5, "at least");
}

#[test]
fn a_request_that_flink_does_not_know_is_sent_under_the_same_id() {
    let unknown = || scene().ending().intent(STOP).unknown();
    table(vec![
        (unknown(), "send"),
        (unknown().operation(Sighting::Absent), "send"),
        (scene().intent(STOP).unknown(), "send"),
        (scene().intent(PLAIN).unknown(), "send"),
        (
            unknown().job(JobStatus::Running, 1),
            "wait 11 Flink does not answer",
        ),
        (
            unknown().failed_before(FailureClass::Unavailable, 2, 9),
            "wait 11 the last attempt failed",
        ),
        (
            unknown().failed_before(FailureClass::NoSavepointDirectory, 1, 9),
            "abandon NoSavepointDirectory",
        ),
    ]);
}

#[test]
fn no_request_is_sent_when_nobody_waits_for_it_any_more() {
    table(vec![
        (
            scene().ending().intent(STOP).unknown().overdue(),
            "search fallback",
        ),
        (
            scene().asked(STOP, false).intent(STOP).unknown().overdue(),
            "abandon Unavailable",
        ),
        (scene().intent(STOP).unknown().late(), "abandon Unavailable"),
        (
            scene().intent(PLAIN).unknown().late(),
            "abandon Unavailable",
        ),
    ]);
}

#[test]
fn a_flink_that_does_not_answer_is_waited_for_and_then_given_up() {
    let silent = |scene: Scene| {
        scene
            .operation(Sighting::Unreachable)
            .with(|s| s.job = Sighting::Unreachable)
    };
    table(vec![
        (
            silent(scene().ending().intent(STOP)),
            "wait 11 Flink does not answer",
        ),
        (
            silent(scene().ending().intent(STOP)).overdue(),
            "search fallback",
        ),
        (
            silent(scene().asked(STOP, false).intent(STOP)).overdue(),
            "settle nothing",
        ),
        (
            silent(scene().intent(STOP)).late(),
            "wait 31 Flink does not answer",
        ),
        (
            silent(scene().intent(PLAIN)),
            "wait 11 Flink does not answer",
        ),
        (silent(scene().intent(PLAIN)).late(), "abandon Unavailable"),
    ]);
}

#[test]
fn only_storage_knows_what_became_of_a_stop_whose_job_or_process_is_gone() {
    let over = || {
        scene()
            .ending()
            .intent(STOP)
            .unknown()
            .job(JobStatus::Finished, 0)
    };
    let gone = || scene().ending().intent(STOP).gone();
    let found = || Sighting::Seen("s".to_owned());
    table(vec![
        (over(), "search intent"),
        (gone(), "search intent"),
        (scene().intent(STOP).gone(), "search intent"),
        (gone().searched(found()), "verify s"),
        (
            gone()
                .searched(found())
                .verdict("s", Verdict::Good(verified("s", 5))),
            "record Stop s close",
        ),
        (
            scene()
                .intent(PLAIN)
                .gone()
                .searched(found())
                .verdict("s", Verdict::Good(verified("s", 5))),
            "record Savepoint s close",
        ),
        (gone().searched(Sighting::Absent), "abandon JobGone"),
        (gone().searched(Sighting::Unreachable), "search intent"),
        (
            gone().searched(Sighting::Unreachable).overdue(),
            "settle nothing",
        ),
        (
            scene().intent(STOP).gone().searched(Sighting::Unreachable),
            "settle nothing",
        ),
    ]);
}

#[test]
fn a_savepoint_is_recorded_only_after_it_was_read_back() {
    let done = || scene().ending().intent(STOP).operation(completed("s"));
    let good = Verdict::Good(verified("s", 5));
    let away = Verdict::Unreachable("no answer".to_owned());
    let other = Verdict::Good(verified("other", 5));
    table(vec![
        (done(), "verify s"),
        (done().verdict("other", other), "verify s"),
        (done().verdict("s", good.clone()), "record Stop s close"),
        (
            done().late().verdict("s", good.clone()),
            "record Stop s close",
        ),
        (
            done()
                .intent(PLAIN)
                .operation(completed("s"))
                .with(|s| s.ask = None)
                .verdict("s", good),
            "record Savepoint s close",
        ),
        (
            done().verdict("s", away.clone()),
            "wait 12 the savepoint cannot be read back",
        ),
        (done().verdict("s", away).at(12), "verify s"),
    ]);
}

#[test]
fn a_stop_that_cannot_be_read_back_stays_open_with_its_path() {
    let done = || scene().ending().intent(STOP).operation(completed("s"));
    let noted = |scene: Scene| {
        scene.with(|s| {
            if let Some(intent) = &mut s.entry.intent {
                intent.location = Some("s".to_owned());
            }
        })
    };
    let damaged = || Verdict::Damaged("truncated".to_owned());
    let unsupported = || Verdict::Unsupported("hdfs".to_owned());
    table(vec![
        (done().verdict("s", damaged()), "store 1 at s"),
        (done().verdict("s", Verdict::Missing), "store 1 at s"),
        (done().verdict("s", unsupported()), "store 1 at s"),
        (
            done()
                .verdict("s", Verdict::Unreachable("no answer".to_owned()))
                .overdue(),
            "store 1 at s",
        ),
        (noted(done().verdict("s", damaged())), "settle nothing"),
        (
            done()
                .verdict("s", unsupported())
                .with(|s| s.policy.allow_unverified = true),
            "record Stop s close",
        ),
    ]);
}

#[test]
fn a_plain_savepoint_that_cannot_be_read_back_is_given_up() {
    let done = || {
        scene()
            .asked(PLAIN, false)
            .intent(PLAIN)
            .operation(completed("s"))
    };
    table(vec![
        (
            done().verdict("s", Verdict::Missing),
            "abandon StorageUnwritable",
        ),
        (
            done().verdict("s", Verdict::Damaged("truncated".to_owned())),
            "abandon StorageUnwritable",
        ),
        (
            done()
                .verdict("s", Verdict::Unreachable("no answer".to_owned()))
                .overdue(),
            "abandon StorageUnwritable",
        ),
    ]);
}

#[test]
fn a_failed_stop_is_abandoned_unless_its_savepoint_was_written() {
    let with = |cause| {
        scene()
            .ending()
            .intent(STOP)
            .operation(Sighting::Seen(OperationStatus::Failed(cause)))
    };
    let written = FailureCause {
        savepoint: Some("s".to_owned()),
        ..failed(FailureClass::StoppedAfterSavepoint)
    };
    table(vec![
        (
            with(failed(FailureClass::CheckpointFailure)),
            "abandon CheckpointFailure",
        ),
        (
            with(failed(FailureClass::CheckpointFailure)).late(),
            "abandon CheckpointFailure",
        ),
        (with(written.clone()), "verify s"),
        (
            with(written).verdict("s", Verdict::Good(verified("s", 5))),
            "record Stop s close",
        ),
    ]);
}

#[test]
fn before_an_end_the_newest_checkpoint_has_to_do() {
    let late = || scene().ending().overdue();
    let unverified = || RestorePoint {
        checkpoint_id: None,
        ..point("u", PointKind::Stop, 0)
    };
    let elsewhere = |mut point: RestorePoint| {
        point.run = Some(run_id(2));
        point
    };
    let found = || Sighting::Seen(verified("chk-5", 5));
    table(vec![
        (late(), "search fallback"),
        (late().fallback(found()), "record Checkpoint chk-5 leave"),
        (
            late().intent(STOP).fallback(found()),
            "record Checkpoint chk-5 leave",
        ),
        (
            late()
                .fallback(found())
                .recorded(point("chk-5", PointKind::Checkpoint, 5)),
            "settle fallback chk-5",
        ),
        (
            late()
                .fallback(found())
                .recorded(point("s", PointKind::Savepoint, 6)),
            "settle fallback s",
        ),
        (
            late()
                .fallback(found())
                .recorded(point("s", PointKind::Savepoint, 4)),
            "record Checkpoint chk-5 leave",
        ),
        (
            late().fallback(found()).recorded(elsewhere(unverified())),
            "settle fallback u",
        ),
        (late().fallback(Sighting::Absent), "settle nothing"),
        (late().fallback(Sighting::Unreachable), "search fallback"),
        (
            late().late().fallback(Sighting::Unreachable),
            "settle nothing",
        ),
    ]);
}

#[test]
fn what_is_recorded_settles_the_ask() {
    let stop = || point("s", PointKind::Stop, 5);
    let plain = |started| RestorePoint {
        started: Some(at(started)),
        ..point("p", PointKind::Savepoint, 5)
    };
    let asked = || {
        scene()
            .asked(PLAIN, false)
            .with(|s| s.ask.as_mut().expect("an ask").since = at(5))
    };
    table(vec![
        (
            scene()
                .ending()
                .recorded(stop())
                .job(JobStatus::Finished, 0),
            "settle recorded s",
        ),
        (
            scene().ending().recorded(stop()).gone(),
            "settle recorded s",
        ),
        (scene().recorded(stop()).gone(), "settle recorded s"),
        (asked().recorded(plain(5)), "settle recorded p"),
        (asked().recorded(plain(4)), "store 9 Savepoint"),
        (
            scene().ending().recorded(plain(9)),
            "store 9 Stop { drain: false }",
        ),
        (
            scene().ending().recorded(RestorePoint {
                run: Some(run_id(2)),
                ..stop()
            }),
            "store 9 Stop { drain: false }",
        ),
        (
            asked().recorded(RestorePoint {
                superseded: true,
                ..plain(5)
            }),
            "store 9 Savepoint",
        ),
    ]);
}

#[test]
fn the_end_of_a_job_is_recorded_once() {
    let ended = |status| Ended {
        status,
        at: at(9),
        owner: "owner".to_owned(),
    };
    table(vec![
        (scene().job(JobStatus::Finished, 0), "ended FINISHED"),
        (scene().job(JobStatus::Canceled, 0), "ended CANCELED"),
        (scene().job(JobStatus::Failed, 0), "ended FAILED"),
        (
            scene().ending().job(JobStatus::Finished, 0),
            "ended FINISHED",
        ),
        (
            scene().ending().job(JobStatus::Failed, 0),
            "search fallback",
        ),
        (
            scene().asked(PLAIN, false).job(JobStatus::Failed, 0),
            "settle nothing",
        ),
        (
            scene()
                .job(JobStatus::Finished, 0)
                .with(|s| s.entry.ended = Some(ended(JobStatus::Finished))),
            "settle ended FINISHED",
        ),
        (
            scene()
                .ending()
                .gone()
                .with(|s| s.entry.ended = Some(ended(JobStatus::Finished))),
            "settle ended FINISHED",
        ),
        (
            scene()
                .gone()
                .with(|s| s.entry.ended = Some(ended(JobStatus::Canceled))),
            "settle ended CANCELED",
        ),
        (
            scene()
                .ending()
                .gone()
                .with(|s| s.entry.ended = Some(ended(JobStatus::Failed))),
            "search fallback",
        ),
        (
            scene().job(JobStatus::Suspended, 0),
            "wait 12 nothing to do",
        ),
    ]);
}

#[test]
fn a_stop_that_somebody_else_ordered_is_recorded_like_ones_own() {
    let good = Verdict::Good(verified("s", 5));
    table(vec![
        (
            scene()
                .job(JobStatus::Finished, 0)
                .with(|s| s.stopped_outside = Some("s")),
            "verify s",
        ),
        (
            scene()
                .job(JobStatus::Finished, 0)
                .with(|s| s.stopped_outside = Some("s"))
                .verdict("s", good),
            "record Stop s close",
        ),
    ]);
}

#[test]
fn without_an_ask_a_job_is_only_watched() {
    table(vec![
        (scene(), "wait 12 nothing to do"),
        (
            scene().with(|s| s.job = Sighting::Unreachable),
            "wait 12 nothing to do",
        ),
        (scene().gone(), "settle nothing"),
    ]);
}

#[test]
fn without_a_pointer_nothing_is_sent_and_the_end_is_not_held_up() {
    const WHY: &str = "the pointer cannot be read or written";
    let away = |scene: Scene| scene.with(|s| s.pointer_away = true);
    table(vec![
        (away(scene()), &format!("wait 12 {WHY}")),
        (away(scene().ending()), &format!("wait 11 {WHY}")),
        (away(scene().ending().gone()), &format!("wait 11 {WHY}")),
        (away(scene().ending()).overdue(), "settle nothing"),
        (away(scene().gone()), "settle nothing"),
    ]);
}

#[test]
fn nothing_of_a_run_that_is_frozen_or_abandoned_is_recorded() {
    const IDLE: &str = "wait 12 nothing of this run is recorded";
    let frozen = |scene: Scene| scene.with(|s| s.entry.frozen = Some("mismatch".to_owned()));
    let abandoned = |scene: Scene| {
        scene.recorded(point("old", PointKind::Stop, 3)).with(|s| {
            s.entry.open_lineage();
            let set = RestorePoint {
                lineage: s.entry.lineage,
                run: None,
                ..point("set", PointKind::Set, 3)
            };
            s.entry.record(set, 9);
        })
    };
    table(vec![
        (frozen(scene()), IDLE),
        (frozen(scene().ending()), "settle nothing"),
        (
            frozen(scene().ending().intent(STOP).operation(completed("s"))),
            "settle nothing",
        ),
        (frozen(scene().gone()), "settle nothing"),
        (frozen(scene().job(JobStatus::Finished, 0)), IDLE),
        (abandoned(scene()), IDLE),
        (abandoned(scene().ending()), "settle nothing"),
        (abandoned(scene().job(JobStatus::Finished, 0)), IDLE),
        (
            abandoned(scene().ending().job(JobStatus::Finished, 0)),
            "settle nothing",
        ),
    ]);
}

/// Every combination of what can be seen of Flink, of storage and of the pointer, at a given time.
fn all_scenes(now: u64, ask: fn(Scene) -> Scene) -> Vec<Scene> {
    let good = || Verdict::Good(verified("s", 5));
    let operations = [
        Sighting::Seen(OperationStatus::InProgress),
        Sighting::Seen(OperationStatus::Unknown),
        completed("s"),
        Sighting::Seen(OperationStatus::Failed(failed(
            FailureClass::CheckpointFailure,
        ))),
        Sighting::Unreachable,
    ];
    let jobs = [
        JobStatus::Running,
        JobStatus::Restarting,
        JobStatus::Finished,
        JobStatus::Failed,
    ];
    let verdicts = [
        None,
        Some(good()),
        Some(Verdict::Missing),
        Some(Verdict::Unreachable(String::new())),
    ];
    let lates = [
        None,
        Some(Sighting::Seen("s".to_owned())),
        Some(Sighting::Absent),
        Some(Sighting::Unreachable),
    ];
    let fallbacks = [
        None,
        Some(Sighting::Seen(verified("chk-4", 4))),
        Some(Sighting::Absent),
        Some(Sighting::Unreachable),
    ];
    let mut scenes = vec![];
    for operation in [None].into_iter().chain(operations.map(Some)) {
        for job in jobs {
            for verdict in &verdicts {
                for late in &lates {
                    for fallback in &fallbacks {
                        for gone in [false, true] {
                            let mut scene = ask(scene()).at(now).job(job, 2);
                            if let Some(operation) = &operation {
                                scene = scene.intent(STOP).operation(operation.clone());
                            }
                            scene.evidence.late.clone_from(late);
                            scene.evidence.fallback.clone_from(fallback);
                            if let Some(verdict) = verdict {
                                scene = scene.verdict("s", verdict.clone());
                            }
                            scenes.push(if gone { scene.gone() } else { scene });
                        }
                    }
                }
            }
        }
    }
    scenes
}

#[test]
fn while_time_remains_a_stop_in_progress_is_never_settled_unrecorded() {
    for scene in all_scenes(10, Scene::ending) {
        let in_progress = scene.operation == Some(Sighting::Seen(OperationStatus::InProgress));
        let action = scene.decide();
        let settled = matches!(
            action,
            Action::Settle(_) | Action::Abandon(_) | Action::SearchFallback
        );
        assert!(!(in_progress && settled), "{action:?}");
    }
}

#[test]
fn while_an_intent_is_open_no_other_one_is_stored_in_a_stops_place() {
    for now in [10, 25, 30, 100] {
        for scene in all_scenes(now, Scene::ending) {
            if let Action::StoreIntent(intent) = scene.decide() {
                let open = scene.entry.intent.as_ref().map(|open| open.trigger);
                assert_eq!(intent.trigger, open.unwrap_or(trigger(9)));
            }
        }
    }
}

#[test]
fn at_its_deadline_a_shutdown_neither_waits_nor_begins_anything() {
    for scene in all_scenes(30, Scene::ending) {
        let action = scene.decide();
        let begins = matches!(
            action,
            Action::StoreIntent(Intent { location: None, .. }) | Action::Send
        );
        assert!(!begins && !matches!(action, Action::Wait(..)), "{action:?}");
    }
}

#[test]
fn nothing_is_recorded_that_was_not_read_back() {
    for now in [10, 25, 30] {
        for scene in all_scenes(now, Scene::ending)
            .into_iter()
            .chain(all_scenes(now, |scene| scene))
        {
            if let Action::Record(new) = scene.decide() {
                assert!(
                    new.verified
                        .is_some_and(|verified| verified.path == new.path)
                );
            }
        }
    }
}
