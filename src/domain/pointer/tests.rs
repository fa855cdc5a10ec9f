use std::error::Error;

use proptest::prelude::*;

use super::*;
use crate::domain::health::AilmentKind;

impl JobEntry {
    /// One whose run, named after `run`, has started from a restore point with this checkpoint id.
    pub(crate) fn started(run: u8, from: &str, checkpoint_id: Option<i64>) -> Self {
        let parent = Parent {
            path: from.to_owned(),
            checkpoint_id,
        };
        let run = Run {
            id: RunId::from_bytes([run; 6]),
            job_id: None,
            parent: Some(parent),
            checkpoint_dir: None,
            savepoint_dir: None,
            stored: Timestamp::UNIX_EPOCH,
            owner: String::new(),
            flink_version: "2.3.0".to_owned(),
        };
        Self {
            run: Some(run),
            ..Self::default()
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time that can be told")
}

fn point(path: &str, kind: PointKind, id: impl Into<Option<i64>>) -> RestorePoint {
    RestorePoint {
        path: path.to_owned(),
        kind,
        checkpoint_id: id.into(),
        job_id: None,
        lineage: 0,
        run: None,
        reason: TriggerReason::Manual,
        started: Some(at(10)),
        completed: at(11),
        size: None,
        flink_version: None,
        superseded: false,
        claimed: false,
    }
}

fn plain(path: &str, id: i64) -> RestorePoint {
    point(path, PointKind::Savepoint, id)
}

/// An entry with these points, recorded in this order.
fn recorded(points: impl IntoIterator<Item = RestorePoint>) -> JobEntry {
    let mut entry = JobEntry::default();
    for point in points {
        entry.record(point, 10);
    }
    entry
}

fn paths(entry: &JobEntry) -> Vec<&str> {
    entry
        .history
        .iter()
        .map(|point| point.path.as_str())
        .collect()
}

fn newest(entry: &JobEntry) -> Option<&str> {
    entry.newest().map(|point| point.path.as_str())
}

#[test]
fn the_newest_point_is_the_highest_id_and_of_equal_ones_the_last_recorded() {
    let table = [
        (vec![], None),
        (vec![plain("a", 1), plain("b", 3), plain("c", 2)], Some("b")),
        (vec![plain("a", 3), plain("b", 3)], Some("b")),
        (
            vec![point("u", PointKind::Stop, None), plain("b", 3)],
            Some("u"),
        ),
        (
            vec![
                RestorePoint {
                    lineage: 1,
                    ..plain("other", 9)
                },
                plain("b", 3),
            ],
            Some("b"),
        ),
        (
            vec![
                RestorePoint {
                    superseded: true,
                    ..plain("old", 9)
                },
                plain("b", 3),
            ],
            Some("b"),
        ),
    ];
    for (points, wanted) in table {
        assert_eq!(newest(&recorded(points.clone())), wanted, "{points:#?}");
    }
}

#[test]
fn the_history_is_newest_first_and_holds_each_point_once() {
    let entry = recorded([plain("a", 1), plain("b", 2), plain("a", 1)]);
    assert_eq!(paths(&entry), ["a", "b"]);
}

#[test]
fn the_same_path_in_another_lineage_is_another_point() {
    let mut entry = recorded([plain("a", 1)]);
    entry.open_lineage();
    entry.record(
        RestorePoint {
            lineage: entry.lineage,
            ..plain("a", 1)
        },
        10,
    );
    assert_eq!(paths(&entry), ["a", "a"]);
}

#[test]
fn the_history_forgets_the_oldest_but_never_the_newest_that_counts() {
    let mut entry = recorded([plain("highest", 9)]);
    for (path, id) in [("a", 1), ("b", 2), ("c", 3)] {
        entry.record(plain(path, id), 2);
    }
    assert_eq!(paths(&entry), ["c", "highest"]);
    entry.record(plain("d", 4), 0);
    assert_eq!(paths(&entry), ["highest"]);
}

#[test]
fn a_restore_from_a_lower_id_takes_back_the_plain_savepoints_before_it() {
    let stop = point("stop", PointKind::Stop, 7);
    let checkpoint = point("checkpoint", PointKind::Checkpoint, 8);
    let later = RestorePoint {
        started: Some(at(21)),
        ..plain("later", 9)
    };
    let unknown = RestorePoint {
        started: None,
        ..plain("unknown", 6)
    };
    let mut entry = recorded([
        plain("lower", 4),
        plain("higher", 6),
        unknown,
        stop,
        checkpoint,
        later,
    ]);
    assert!(entry.supersede_above(5, at(20)));
    let superseded: Vec<&str> = entry
        .history
        .iter()
        .filter(|point| point.superseded)
        .map(|point| point.path.as_str())
        .collect();
    assert_eq!(superseded, ["unknown", "higher"]);
    assert!(
        !entry.supersede_above(5, at(20)),
        "nothing changes the second time"
    );
}

#[test]
fn a_savepoint_recorded_after_its_job_went_back_behind_it_is_taken_back_too() {
    let mut entry = JobEntry::default();
    assert!(!entry.supersede_above(5, at(20)));
    entry.record(
        RestorePoint {
            completed: at(25),
            ..plain("slow", 6)
        },
        10,
    );
    assert!(entry.supersede_above(5, at(20)));
    assert_eq!(newest(&entry), None);
}

#[test]
fn whatever_outranks_the_point_of_a_start_is_taken_back() {
    let other = RestorePoint {
        lineage: 1,
        ..plain("other lineage", 9)
    };
    let mut entry = recorded([
        plain("chosen", 4),
        plain("lower", 3),
        point("checkpoint", PointKind::Checkpoint, 5),
        point("stop", PointKind::Stop, 6),
        point("same id", PointKind::Checkpoint, 4),
        other,
    ]);
    entry.supersede_for("chosen");
    assert_eq!(newest(&entry), Some("chosen"));
    assert_eq!(
        entry
            .counting()
            .map(|point| point.path.as_str())
            .collect::<Vec<_>>(),
        ["lower", "chosen"]
    );
    assert!(
        entry
            .history
            .iter()
            .any(|point| point.path == "other lineage" && !point.superseded)
    );
}

#[test]
fn a_run_continues_what_was_recorded_here_or_made_by_the_last_run() {
    let mut entry = recorded([plain("file:/savepoints/savepoint-1", 1)]);
    entry.run = Some(Run {
        id: RunId::from_bytes([7; 6]),
        job_id: None,
        parent: None,
        checkpoint_dir: Some("file:///checkpoints/job".to_owned()),
        savepoint_dir: None,
        stored: at(0),
        owner: String::new(),
        flink_version: String::new(),
    });
    let from = |path: &str| Parent {
        path: path.to_owned(),
        checkpoint_id: None,
    };
    assert!(entry.continued_by(&from("file:///savepoints/savepoint-1/")));
    assert!(entry.continued_by(&from("file:/checkpoints/job/chk-9")));
    assert!(!entry.continued_by(&from("file:/checkpoints/other/chk-9")));
    assert!(!entry.continued_by(&from("file:/savepoints/savepoint-2")));
}

#[test]
fn a_new_lineage_leaves_the_history_to_be_seen_and_counts_nothing_of_it() {
    let mut entry = recorded([plain("a", 1)]);
    (entry.cleared, entry.frozen) = (true, Some("mismatch".to_owned()));
    entry.open_lineage();
    assert_eq!(
        (entry.lineage, newest(&entry), paths(&entry)),
        (1, None, vec!["a"])
    );
    assert_eq!((entry.cleared, entry.frozen), (false, None));
}

#[test]
fn a_sealed_pointer_names_the_newest_point_of_the_application() {
    let mut pointer = Pointer::new("example");
    pointer.seal();
    assert_eq!((pointer.generation, &pointer.savepoint_path), (1, &None));
    *pointer.entry(APPLICATION) = recorded([plain("a", 1), plain("b", 2)]);
    *pointer.entry("another job") = recorded([plain("c", 3)]);
    pointer.seal();
    assert_eq!(
        (pointer.generation, pointer.savepoint_path.as_deref()),
        (2, Some("b"))
    );
}

#[test]
fn an_unknown_field_is_refused() {
    let text = r#"{"format": 1, "cluster-id": "c", "generation": 0, "jobs": {}, "surprise": 1}"#;
    assert!(serde_json::from_str::<Pointer>(text).is_err());
}

#[test]
fn a_pointer_is_readable_for_people() -> Result<(), Box<dyn Error>> {
    let mut pointer = Pointer::new("example");
    *pointer.entry(APPLICATION) = recorded([point("file:/s/savepoint-1", PointKind::Stop, 1)]);
    pointer.seal();
    let json = serde_json::to_value(&pointer)?;
    assert_eq!(json["savepoint-path"], "file:/s/savepoint-1");
    let point = &json["jobs"]["application"]["history"][0];
    assert_eq!(
        (&point["kind"], &point["checkpoint-id"]),
        (&"stop".into(), &1.into())
    );
    assert_eq!(
        point.get("superseded"),
        None,
        "what is not the case is not written"
    );
    Ok(())
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_000_i64).prop_map(|ms| Timestamp::from_millisecond(ms).expect("within range"))
}

fn text() -> impl Strategy<Value = String> {
    // What paths and reasons may hold, and what a codec may stumble on.
    "[a-zA-Z0-9:/_. #'\"\\\\\n\tä-]{0,24}"
}

fn job_id() -> impl Strategy<Value = JobId> {
    any::<[u8; 16]>().prop_map(JobId::from_bytes)
}

fn trigger() -> impl Strategy<Value = TriggerId> {
    any::<[u8; 16]>().prop_map(TriggerId::from_bytes)
}

fn run_id() -> impl Strategy<Value = RunId> {
    any::<[u8; 6]>().prop_map(RunId::from_bytes)
}

fn reason() -> impl Strategy<Value = TriggerReason> {
    prop::sample::select(vec![
        TriggerReason::Shutdown,
        TriggerReason::Manual,
        TriggerReason::Stop,
        TriggerReason::Periodic,
        TriggerReason::Restore,
    ])
}

fn kind() -> impl Strategy<Value = PointKind> {
    prop::sample::select(vec![
        PointKind::Stop,
        PointKind::Savepoint,
        PointKind::Checkpoint,
        PointKind::Set,
    ])
}

prop_compose! {
    fn points()(
        path in text(), kind in kind(), checkpoint_id in any::<Option<i64>>(), job_id in prop::option::of(job_id()),
        lineage in 0..3_u64, run in prop::option::of(run_id()), reason in reason(), started in prop::option::of(time()),
        completed in time(), size in any::<Option<u64>>(), (superseded, claimed) in any::<(bool, bool)>(),
    ) -> RestorePoint {
        RestorePoint {
            path, kind, checkpoint_id, job_id, lineage, run, reason, started, completed, size,
            flink_version: size.map(|_| "1.20.2".to_owned()), superseded, claimed,
        }
    }
}

prop_compose! {
    fn runs()(
        id in run_id(), job_id in prop::option::of(job_id()), parent in prop::option::of((text(), any::<Option<i64>>())),
        checkpoint_dir in prop::option::of(text()), savepoint_dir in prop::option::of(text()), stored in time(),
        owner in text(),
    ) -> Run {
        let parent = parent.map(|(path, checkpoint_id)| Parent { path, checkpoint_id });
        let flink_version = "2.3.0".to_owned();
        Run { id, job_id, parent, checkpoint_dir, savepoint_dir, stored, owner, flink_version }
    }
}

prop_compose! {
    fn intents()(
        trigger in trigger(), flink_trigger in prop::option::of(trigger()), drain in any::<Option<bool>>(),
        native in any::<Option<bool>>(), reason in reason(), job_id in job_id(), directory in prop::option::of(text()),
        times in (time(), time()), location in prop::option::of(text()),
    ) -> Intent {
        Intent {
            trigger,
            flink_trigger,
            kind: drain.map_or(SavepointKind::Savepoint, |drain| SavepointKind::Stop { drain }),
            format: native.map(|native| if native { SavepointFormat::Native } else { SavepointFormat::Canonical }),
            reason,
            job_id,
            directory,
            stored: times.0,
            deadline: times.1,
            location,
        }
    }
}

prop_compose! {
    fn starts()(
        run in run_id(), lineage in any::<u64>(), at in time(), from in prop::option::of(text()),
        checkpoint_id in any::<Option<i64>>(), proven in prop::option::of(time()), flink_version in text(),
    ) -> Start {
        Start { run, lineage, at, from, checkpoint_id, proven, flink_version }
    }
}

prop_compose! {
    fn disposals()(path in text(), since in time(), size in any::<Option<u64>>()) -> Disposal {
        Disposal { path, since, size }
    }
}

prop_compose! {
    fn entries()(
        lineage in any::<u64>(), run in prop::option::of(runs()), intent in prop::option::of(intents()),
        ended in prop::option::of((time(), text())), frozen in prop::option::of(text()), cleared in any::<bool>(),
        up in prop::option::of((run_id(), time(), any::<Option<i64>>())), history in prop::collection::vec(points(), 0..4),
        starts in prop::collection::vec(starts(), 0..3), disposals in prop::collection::vec(disposals(), 0..3),
        requested in prop::option::of((text(), time(), prop::option::of(text()), prop::option::of(text()))),
        ailments in prop::collection::vec((time(), text()), 0..3),
    ) -> JobEntry {
        let ended = ended.map(|(at, owner)| Ended { status: JobStatus::Canceled, at, owner });
        let up = up.map(|(run, since, checkpoint)| Up { run, since, checkpoint });
        let ailments = ailments.into_iter();
        let ailments = ailments.map(|(since, text)| Noted { kind: AilmentKind::RestartLoop, since, text }).collect();
        let requested = requested.map(|(nonce, since, failure, answer)| Requested { nonce, since, failure, answer });
        JobEntry { lineage, run, intent, ended, frozen, cleared, up, history, starts, disposals, requested, ailments }
    }
}

proptest! {
    #[test]
    fn a_pointer_is_read_as_it_was_written(
        entries in prop::collection::btree_map(text(), entries(), 0..3), generation in any::<u64>(),
        forks in prop::collection::btree_map(text(), (text(), time()), 0..3),
    ) {
        let mut pointer = Pointer::new("example");
        let forks = forks.into_iter().map(|(id, (path, at))| (id, Fork { path, at }));
        pointer.forks = forks.collect();
        (pointer.generation, pointer.jobs) = (generation, entries);
        let json = serde_json::to_string(&pointer)?;
        prop_assert_eq!(&serde_json::from_str::<Pointer>(&json)?, &pointer);
    }

    #[test]
    fn recording_never_lowers_the_newest_point_nor_exceeds_the_history(
        before in prop::collection::vec(points(), 0..6), new in points(), keep in 1..5_usize,
    ) {
        let mut entry = JobEntry::default();
        for point in before {
            entry.record(point, keep);
        }
        let rank = entry.newest().filter(|newest| newest.path != new.path).map(RestorePoint::rank);
        entry.record(new, keep);
        prop_assert!(entry.newest().map(RestorePoint::rank) >= rank);
        prop_assert!(entry.history.len() <= keep);
    }

    #[test]
    fn the_point_of_a_start_is_the_newest_from_then_on(history in prop::collection::vec(points(), 1..6), nth in any::<prop::sample::Index>()) {
        let mut entry = recorded(history);
        let counting: Vec<String> = entry.counting().map(|point| point.path.clone()).collect();
        prop_assume!(!counting.is_empty());
        let chosen = nth.get(&counting);
        entry.supersede_for(chosen);
        prop_assert_eq!(newest(&entry), Some(chosen.as_str()));
    }
}
