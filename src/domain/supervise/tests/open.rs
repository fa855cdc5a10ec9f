//! A savepoint is under way.

use super::super::*;
use super::scene::*;
use crate::domain::savepoint::FailureClass;

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
