//! A savepoint is wanted and none is under way.

use super::super::*;
use super::scene::*;
use crate::domain::savepoint::FailureClass;

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
