use proptest::prelude::*;

use super::*;
use crate::domain::pointer::{Fork, Parent, Run, RunId, TriggerReason};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn run_id(number: u8) -> RunId {
    RunId::from_bytes([0, 0, 0, 0, 0, number])
}

fn hour(number: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + number * 3600).expect("a time")
}

fn path(run: u8, number: u32) -> String {
    format!(
        "s3://b/sp/orders/{}/{number:032x}/savepoint-aaaaaa-{number:012x}",
        run_id(run)
    )
}

/// Savepoint `number` of `run`, completed in that hour.
fn point(run: u8, number: u32) -> RestorePoint {
    RestorePoint {
        path: path(run, number),
        kind: PointKind::Savepoint,
        checkpoint_id: Some(i64::from(number)),
        job_id: None,
        lineage: 1,
        run: Some(run_id(run)),
        reason: TriggerReason::Manual,
        started: None,
        completed: hour(i64::from(number)),
        size: Some(10),
        flink_version: None,
        superseded: false,
        claimed: false,
    }
}

fn run(number: u8, parent: Option<&str>) -> Run {
    Run {
        id: run_id(number),
        job_id: None,
        parent: parent.map(|path| Parent {
            path: path.to_owned(),
            checkpoint_id: None,
        }),
        checkpoint_dir: None,
        savepoint_dir: None,
        stored: hour(0),
        owner: String::new(),
        flink_version: String::new(),
    }
}

/// Run 2, proven, after savepoints 1 to `count` of run 1, from the newest of which it started.
fn entry(count: u32) -> JobEntry {
    let mut entry = JobEntry {
        lineage: 1,
        run: Some(run(2, Some(&path(1, count)))),
        history: (1..=count).rev().map(|number| point(1, number)).collect(),
        ..JobEntry::default()
    };
    entry.prove(hour(i64::from(count) + 1));
    entry
}

fn policy(count: usize) -> Policy {
    Policy { count, age: WEEK }
}

fn fates(entry: &JobEntry, count: usize, now: i64) -> Vec<Fate> {
    plan("orders", entry, &[], policy(count), hour(now))
}

fn deleted(fates: &[Fate]) -> Vec<usize> {
    let is_deleted =
        |(number, fate): (usize, &Fate)| matches!(fate, Fate::Delete(_)).then_some(number);
    fates.iter().enumerate().filter_map(is_deleted).collect()
}

#[test]
fn beyond_the_count_and_beyond_the_age_savepoints_are_deleted() {
    assert_eq!(deleted(&fates(&entry(5), 3, 6)), [3, 4]);
    assert_eq!(deleted(&fates(&entry(5), 10, 6)), [0; 0]);
    let after_a_week = fates(&entry(5), 10, 7 * 24 + 3);
    assert_eq!(deleted(&after_a_week), [3, 4], "completed in hours 2 and 1");
    assert_eq!(after_a_week[3], Fate::Delete(Expiry::Age));
}

#[test]
fn the_newest_and_what_runs_are_kept_for_ever() {
    let mut entry = entry(5);
    entry.history.insert(0, point(2, 6));
    let fates = fates(&entry, 1, 24 * 365);
    assert_eq!(fates[0], Fate::Keep(KeepReason::Newest));
    assert_eq!(fates[1], Fate::Keep(KeepReason::Running));
    assert_eq!(deleted(&fates), [2, 3, 4, 5]);
}

#[test]
fn a_newest_checkpoint_leaves_the_newest_savepoint_for_who_starts_from_savepoints_only() {
    let mut entry = entry(3);
    entry.run = Some(run(2, None));
    let checkpoint = RestorePoint {
        kind: PointKind::Checkpoint,
        path: "s3://b/cp/orders/x/chk-9".to_owned(),
        ..point(2, 9)
    };
    entry.history.insert(0, checkpoint);
    let fates = fates(&entry, 1, 24 * 365);
    assert_eq!(fates[1], Fate::Keep(KeepReason::Newest));
    assert_eq!(deleted(&fates), [2, 3]);
}

#[test]
fn nothing_is_deleted_before_the_present_run_has_a_checkpoint_of_its_own() {
    let mut entry = entry(5);
    entry.starts.clear();
    let unproven = fates(&entry, 2, 24 * 365);
    assert_eq!(deleted(&unproven), [0; 0]);
    assert_eq!(unproven[4], Fate::Keep(KeepReason::Unproven));
    entry.run = None;
    assert_eq!(
        deleted(&fates(&entry, 2, 24 * 365)),
        [0; 0],
        "a person has just decided"
    );
    entry.run = Some(run(2, None));
    entry.history.insert(0, point(2, 6));
    assert_eq!(
        deleted(&fates(&entry, 2, 24)),
        [2, 3, 4, 5],
        "its own savepoint counts as well"
    );
    entry.frozen = Some("restored something else".to_owned());
    assert_eq!(
        deleted(&fates(&entry, 2, 24)),
        [0; 0],
        "a person must look first"
    );
}

#[test]
fn what_others_refer_to_is_kept_in_whatever_spelling() {
    let entry = entry(5);
    let fork = path(1, 2).replace("s3:", "s3a:") + "/_metadata";
    let fates = plan("orders", &entry, &[&fork], policy(2), hour(6));
    assert_eq!(fates[3], Fate::Keep(KeepReason::Referred));
    assert_eq!(deleted(&fates), [2, 4]);
}

#[test]
fn only_what_drey_made_is_deleted() {
    let mut entry = entry(6);
    entry.history[2].kind = PointKind::Set;
    entry.history[3].path = "s3://b/sp/savepoint-aaaaaa-1".to_owned();
    entry.history[4].kind = PointKind::Checkpoint;
    entry.history[5].claimed = true;
    let fates = fates(&entry, 1, 7);
    assert_eq!(
        fates[2..],
        [
            Fate::Forget(KeepReason::NotOwn),
            Fate::Forget(KeepReason::NotOwn),
            Fate::Forget(KeepReason::Checkpoint),
            Fate::Forget(KeepReason::Claimed)
        ]
    );
    assert_eq!(deleted(&fates), [1]);
    let other = plan("other", &self::entry(5), &[], policy(1), hour(6));
    assert_eq!(
        deleted(&other),
        [0; 0],
        "another cluster's in the same directory"
    );
}

#[test]
fn what_a_person_chose_again_is_kept_although_an_abandoned_run_made_it() {
    let mut entry = entry(5);
    entry.lineage = 2;
    let set = RestorePoint {
        kind: PointKind::Set,
        lineage: 2,
        run: None,
        ..point(1, 2)
    };
    entry.history.insert(0, set);
    entry.history.insert(
        0,
        RestorePoint {
            lineage: 2,
            ..point(2, 9)
        },
    );
    let fates = fates(&entry, 2, 10);
    assert_eq!(fates[5], Fate::Keep(KeepReason::Referred));
}

#[test]
fn a_savepoint_that_was_never_recorded_is_known_from_then_on_and_chosen_by_nobody() {
    let mut entry = entry(3);
    assert!(adopt(&mut entry, point(2, 9)));
    assert!(!adopt(&mut entry, point(2, 9)), "it is known");
    assert!(!adopt(&mut entry, point(3, 9)), "a run that nobody knows");
    assert_eq!(entry.newest().map(|it| it.path.clone()), Some(path(1, 3)));
    assert_eq!(entry.history[0].path, path(2, 9), "newest first");
    entry.lineage = 2;
    assert!(!adopt(&mut entry, point(2, 8)), "a run of another lineage");
}

#[test]
fn other_jobs_of_the_cluster_refer_to_what_they_started_from() {
    let mut pointer = Pointer::new("orders");
    *pointer.entry("a") = entry(1);
    pointer.entry("b").run = Some(run(9, Some(&path(1, 7))));
    assert_eq!(referred(&pointer, "a"), [path(1, 7)]);
    assert_eq!(referred(&pointer, "b"), [path(1, 1), path(1, 1)]);
    let fork = Fork {
        path: path(1, 3),
        at: hour(0),
    };
    pointer.forks.insert("child".to_owned(), fork);
    assert_eq!(referred(&pointer, "a"), [path(1, 3), path(1, 7)]);
}

#[test]
fn a_savepoints_place_names_its_run() {
    let good = path(7, 1);
    assert_eq!(place("orders", &good), Some("000000000007"));
    assert_eq!(place("orders", &(good.clone() + "/")), Some("000000000007"));
    for bad in [
        good.replace("orders", "others"),
        good.replace("savepoint-", "chk-"),
        "s3://b/savepoint-1".to_owned(),
        String::new(),
    ] {
        assert_eq!(place("orders", &bad), None, "{bad}");
    }
}

prop_compose! {
    fn points()(
        run in 0..4_u8, number in 0..200_u32, kind in prop::sample::select(vec![
            PointKind::Stop, PointKind::Savepoint, PointKind::Savepoint, PointKind::Checkpoint, PointKind::Set,
        ]),
        lineage in 0..3_u64, superseded in any::<bool>(), claimed in any::<bool>(),
    ) -> RestorePoint {
        RestorePoint { kind, lineage, superseded, claimed, ..point(run, number) }
    }
}

prop_compose! {
    fn entries()(
        mut history in prop::collection::vec(points(), 0..30), lineage in 0..3_u64, present in 0..4_u8,
        parent in prop::option::of((0..4_u8, 0..200_u32)), proven in any::<bool>(),
    ) -> JobEntry {
        history.sort_by(|a, b| (b.completed, &b.path).cmp(&(a.completed, &a.path)));
        history.dedup_by(|a, b| a.path == b.path);
        let parent = parent.map(|(run, number)| path(run, number));
        let mut entry = JobEntry { lineage, history, run: Some(run(present, parent.as_deref())), ..JobEntry::default() };
        if proven {
            entry.prove(hour(0));
        }
        entry
    }
}

proptest! {
    #[test]
    fn no_restore_point_that_anything_needs_is_ever_deleted(
        mut entry in entries(), count in 1..12_usize, now in 0..600_i64, fork in prop::option::of((0..4_u8, 0..200_u32)),
    ) {
        let before = entry.clone();
        let fork = fork.map(|(run, number)| path(run, number));
        let referred: Vec<&str> = fork.iter().map(String::as_str).collect();
        let fates = plan("orders", &entry, &referred, policy(count), hour(now));
        expire(&mut entry, &fates, hour(now));
        prop_assert_eq!(entry.newest(), before.newest());
        let gone = |path: &str| entry.disposals.iter().any(|disposal| same(&disposal.path, path));
        let parent = entry.run.as_ref().and_then(|run| run.parent.as_ref());
        prop_assert!(!parent.is_some_and(|parent| gone(&parent.path)));
        prop_assert!(!fork.is_some_and(|fork| gone(&fork)));
        if let Some(last) = before.history.iter().max_by_key(|point| point.completed) {
            prop_assert!(entry.history.iter().any(|point| same(&point.path, &last.path)));
        }
        for point in &before.history {
            let own = matches!(point.kind, PointKind::Stop | PointKind::Savepoint) && !point.claimed;
            prop_assert!(!gone(&point.path) || own && before.is_proven());
        }
        prop_assert_eq!(entry.starts, before.starts);
    }

    #[test]
    fn what_was_planned_once_is_not_planned_again(mut entry in entries(), count in 1..12_usize, now in 0..600_i64) {
        let fates = plan("orders", &entry, &[], policy(count), hour(now));
        expire(&mut entry, &fates, hour(now));
        let again = plan("orders", &entry, &[], policy(count), hour(now));
        prop_assert!(again.iter().all(|fate| matches!(fate, Fate::Keep(_))), "{:?}", again);
    }
}
