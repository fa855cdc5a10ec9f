//! How asks and jobs come to their end.

use super::super::*;
use super::scene::*;
use crate::domain::pointer::{Ended, RestorePoint};

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
