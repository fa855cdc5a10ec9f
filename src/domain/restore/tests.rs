use super::*;
use crate::domain::job::JobId;
use crate::domain::pointer::{Intent, RunId};
use crate::domain::savepoint::{SavepointKind, TriggerId};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time that can be told")
}

fn run(byte: u8) -> Run {
    Run {
        id: RunId::from_bytes([byte; 6]),
        job_id: Some(JobId::from_bytes([byte; 16])),
        parent: None,
        checkpoint_dir: Some(format!("file:///checkpoints/{byte}")),
        savepoint_dir: Some(format!("file:///savepoints/{byte}")),
        stored: at(0),
        owner: "me".to_owned(),
        flink_version: "1.20.2".to_owned(),
    }
}

fn point(path: &str, kind: PointKind, id: impl Into<Option<i64>>) -> RestorePoint {
    RestorePoint {
        path: path.to_owned(),
        kind,
        checkpoint_id: id.into(),
        job_id: None,
        lineage: 0,
        run: None,
        reason: TriggerReason::Shutdown,
        started: None,
        completed: at(1),
        size: None,
        flink_version: None,
        superseded: false,
        claimed: false,
    }
}

fn stop(path: &str, id: i64) -> RestorePoint {
    point(path, PointKind::Stop, id)
}

fn verified(path: &str, checkpoint_id: i64) -> Verified {
    Verified {
        path: path.to_owned(),
        checkpoint_id,
        size: 1,
    }
}

fn choice(path: &str, kind: PointKind, id: i64) -> Choice {
    Choice {
        path: path.to_owned(),
        kind,
        verified: Some(verified(path, id)),
    }
}

/// A start by the owner "me" after a run, with everything intact: what is named `x-N` holds checkpoint N.
struct Start {
    entry: JobEntry,
    strategy: Strategy,
    found: Sighting<Vec<Found>>,
    completed: Option<i64>,
    configured: Option<&'static str>,
    verdicts: Vec<(&'static str, Verdict)>,
    allow_unverified: bool,
}

fn start() -> Start {
    Start {
        entry: JobEntry {
            run: Some(run(1)),
            ..JobEntry::default()
        },
        strategy: Strategy::LatestState,
        found: Sighting::Absent,
        completed: None,
        configured: None,
        verdicts: Vec::new(),
        allow_unverified: false,
    }
}

impl Start {
    fn recorded(mut self, point: RestorePoint) -> Self {
        self.entry.record(point, 10);
        self
    }

    fn found(mut self, path: &str, kind: PointKind, checkpoint_id: i64) -> Self {
        let found = Found {
            path: path.to_owned(),
            kind,
            checkpoint_id,
        };
        match &mut self.found {
            Sighting::Seen(all) => all.push(found),
            none => *none = Sighting::Seen(vec![found]),
        }
        self
    }

    fn checkpoint(self, path: &str, id: i64) -> Self {
        self.found(path, PointKind::Checkpoint, id)
    }

    fn is(mut self, path: &'static str, verdict: Verdict) -> Self {
        self.verdicts.push((path, verdict));
        self
    }

    fn ended(mut self, status: JobStatus, owner: &str) -> Self {
        self.entry.ended = Some(Ended {
            status,
            at: at(2),
            owner: owner.to_owned(),
        });
        self
    }

    fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn verdict(&self, path: &str) -> Verdict {
        let told = self.verdicts.iter().find(|(known, _)| *known == path);
        let id = path
            .rsplit('-')
            .next()
            .and_then(|id| id.parse().ok())
            .unwrap_or_default();
        told.map_or_else(
            || Verdict::Good(verified(path, id)),
            |(_, verdict)| verdict.clone(),
        )
    }

    /// Plans, reading back what is to be read back.
    fn plan(&self) -> RestorePlan {
        let mut verdicts: Vec<(String, Verdict)> = Vec::new();
        loop {
            let plan = plan_restore(&StartView {
                entry: &self.entry,
                strategy: self.strategy,
                owner: "me",
                found: match &self.found {
                    Sighting::Seen(found) => Sighting::Seen(found.as_slice()),
                    Sighting::Absent => Sighting::Absent,
                    Sighting::Unreachable => Sighting::Unreachable,
                },
                completed: self.completed,
                configured: self.configured,
                verdicts: &verdicts,
                allow_unverified: self.allow_unverified,
            });
            match plan {
                RestorePlan::Verify(path) => {
                    let verdict = self.verdict(&path);
                    assert!(
                        verdicts.iter().all(|(known, _)| *known != path),
                        "read back twice: {path}"
                    );
                    verdicts.push((path, verdict));
                }
                plan => return plan,
            }
        }
    }
}

fn brief(plan: &RestorePlan) -> String {
    match plan {
        RestorePlan::Verify(path) => format!("verify {path}"),
        RestorePlan::From(choice, _) => format!("from {}", choice.path),
        RestorePlan::Fresh(_) => "fresh".to_owned(),
        RestorePlan::Ended(ended) => format!("ended {}", ended.status),
        RestorePlan::Refuse(_) => "refuse".to_owned(),
        RestorePlan::Retry(_) => "retry".to_owned(),
    }
}

fn table(rows: Vec<(Start, &str)>) {
    for (number, (start, wanted)) in rows.into_iter().enumerate() {
        let plan = start.plan();
        assert_eq!(brief(&plan), wanted, "row {number}: {plan:?}");
    }
}

#[test]
fn the_newest_restore_point_is_chosen_whether_recorded_or_found() {
    let superseded = RestorePoint {
        superseded: true,
        ..point("s-9", PointKind::Savepoint, 9)
    };
    let other_lineage = RestorePoint {
        lineage: 7,
        ..stop("s-9", 9)
    };
    table(vec![
        (start().recorded(stop("s-5", 5)), "from s-5"),
        (
            start().recorded(stop("s-5", 5)).checkpoint("chk-4", 4),
            "from s-5",
        ),
        (
            start().recorded(stop("s-5", 5)).checkpoint("chk-6", 6),
            "from chk-6",
        ),
        (
            start()
                .checkpoint("chk-4", 4)
                .checkpoint("chk-6", 6)
                .checkpoint("chk-5", 5),
            "from chk-6",
        ),
        (
            start().recorded(stop("s-5", 5)).checkpoint("chk-5", 5),
            "from s-5",
        ),
        (
            start()
                .checkpoint("chk-6", 6)
                .found("late-7", PointKind::Stop, UNREAD),
            "from late-7",
        ),
        (
            start()
                .recorded(stop("s-5", 5))
                .recorded(superseded.clone()),
            "from s-5",
        ),
        (
            start()
                .recorded(stop("s-5", 5))
                .recorded(superseded)
                .checkpoint("s-9", 9),
            "from s-5",
        ),
        (
            start().recorded(stop("s-5", 5)).recorded(other_lineage),
            "from s-5",
        ),
    ]);
}

#[test]
fn a_start_from_empty_state_is_only_for_a_job_that_never_had_a_restore_point() {
    let child = || {
        start().with(|s| {
            let parent = Parent {
                path: "s-5".to_owned(),
                checkpoint_id: Some(5),
            };
            s.entry.run = Some(Run {
                parent: Some(parent),
                ..run(1)
            });
        })
    };
    table(vec![
        (start(), "fresh"),
        (start().with(|s| s.entry.run = None), "fresh"),
        (start().with(|s| s.configured = Some("file:/mine")), "fresh"),
        (child(), "refuse"),
        (start().with(|s| s.completed = Some(3)), "refuse"),
        (
            start()
                .with(|s| s.entry.cleared = true)
                .recorded(stop("s-5", 5)),
            "fresh",
        ),
        (
            start().recorded(stop("s-5", 5)).strategy(Strategy::None),
            "fresh",
        ),
    ]);
}

#[test]
fn a_restore_point_that_is_missing_or_damaged_is_never_passed_over() {
    let damaged = || Verdict::Damaged("truncated".to_owned());
    let newest = || start().recorded(stop("s-5", 5)).checkpoint("chk-4", 4);
    table(vec![
        (newest().is("s-5", Verdict::Missing), "refuse"),
        (newest().is("s-5", damaged()), "refuse"),
        (
            newest().is("s-5", Verdict::Good(verified("s-5", 4))),
            "refuse",
        ),
        (
            newest().is("s-5", Verdict::Unreachable("no answer".to_owned())),
            "retry",
        ),
        (
            start()
                .recorded(stop("s-5", 5))
                .checkpoint("chk-6", 6)
                .is("chk-6", damaged()),
            "refuse",
        ),
        (
            start()
                .checkpoint("chk-6", 6)
                .found("late-7", PointKind::Stop, UNREAD)
                .is("late-7", damaged()),
            "refuse",
        ),
        (newest().is("chk-4", damaged()), "from s-5"),
    ]);
}

#[test]
fn a_stop_that_could_not_be_read_back_is_looked_at_again() {
    let open = |path: &str| {
        let path = path.to_owned();
        start().checkpoint("chk-4", 4).with(|s| {
            s.entry.intent = Some(Intent {
                trigger: TriggerId::from_bytes([1; 16]),
                flink_trigger: None,
                kind: SavepointKind::Stop { drain: false },
                format: None,
                reason: TriggerReason::Shutdown,
                job_id: JobId::from_bytes([1; 16]),
                directory: None,
                stored: at(0),
                deadline: at(9),
                location: Some(path),
            });
        })
    };
    table(vec![
        (open("s-5"), "from s-5"),
        (open("s-5").is("s-5", Verdict::Missing), "refuse"),
        (
            open("s-5").is("s-5", Verdict::Unsupported("hdfs".to_owned())),
            "refuse",
        ),
        (
            open("s-5").found("s-5", PointKind::Stop, UNREAD),
            "from s-5",
        ),
    ]);
}

#[test]
fn a_completed_checkpoint_that_is_gone_is_not_gone_back_behind() {
    let completed = |id| {
        start()
            .recorded(stop("s-5", 5))
            .checkpoint("chk-7", 7)
            .with(|s| s.completed = Some(id))
    };
    table(vec![
        (completed(7), "from chk-7"),
        (completed(6), "from chk-7"),
        (completed(8), "refuse"),
        (completed(8).strategy(Strategy::LatestSavepoint), "from s-5"),
    ]);
}

#[test]
fn the_strategy_latest_savepoint_passes_over_checkpoints_only_for_a_savepoint() {
    let latest = |start: Start| start.strategy(Strategy::LatestSavepoint);
    table(vec![
        (
            latest(start().recorded(stop("s-5", 5)).checkpoint("chk-7", 7)),
            "from s-5",
        ),
        (
            latest(
                start()
                    .recorded(point("chk-7", PointKind::Checkpoint, 7))
                    .recorded(stop("s-5", 5)),
            ),
            "from s-5",
        ),
        (
            latest(
                start()
                    .recorded(point("set-3", PointKind::Set, 3))
                    .checkpoint("chk-7", 7),
            ),
            "from set-3",
        ),
        (latest(start()), "fresh"),
        (latest(start().checkpoint("chk-7", 7)), "refuse"),
        (
            latest(start().recorded(point("chk-7", PointKind::Checkpoint, 7))),
            "refuse",
        ),
        (latest(start().with(|s| s.completed = Some(7))), "refuse"),
    ]);
}

#[test]
fn what_has_ended_is_not_started_again_by_its_own_owner() {
    use JobStatus::{Canceled, Failed, Finished};
    let after = |status, owner| start().recorded(stop("s-5", 5)).ended(status, owner);
    table(vec![
        (after(Finished, "me"), "ended FINISHED"),
        (after(Canceled, "me"), "ended CANCELED"),
        (after(Failed, "me"), "from s-5"),
        (after(Finished, "another"), "fresh"),
        (after(Canceled, "another"), "from s-5"),
        (after(Failed, "another"), "from s-5"),
        (
            after(Finished, "me").strategy(Strategy::None),
            "ended FINISHED",
        ),
        (
            after(Finished, "me").with(|s| s.entry.cleared = true),
            "fresh",
        ),
    ]);
}

#[test]
fn nothing_is_planned_while_storage_does_not_answer_or_a_person_must_look() {
    let away = |start: Start| start.with(|s| s.found = Sighting::Unreachable);
    let frozen = |start: Start| start.with(|s| s.entry.frozen = Some("mismatch".to_owned()));
    table(vec![
        (away(start().recorded(stop("s-5", 5))), "retry"),
        (frozen(start().recorded(stop("s-5", 5))), "refuse"),
        (frozen(start()), "refuse"),
        (frozen(start().strategy(Strategy::None)), "fresh"),
    ]);
}

#[test]
fn what_no_client_can_read_is_used_only_when_allowed() {
    let unread = || {
        start()
            .recorded(point("hdfs", PointKind::Stop, None))
            .is("hdfs", Verdict::Unsupported("hdfs".to_owned()))
    };
    table(vec![
        (unread(), "refuse"),
        (unread().with(|s| s.allow_unverified = true), "from hdfs"),
        (
            unread().with(|s| (s.allow_unverified, s.completed) = (true, Some(9))),
            "from hdfs",
        ),
    ]);
}

#[test]
fn a_refusal_says_what_is_wrong_and_what_to_do() {
    let RestorePlan::Refuse(refusal) = start()
        .recorded(stop("s-5", 5))
        .is("s-5", Verdict::Missing)
        .plan()
    else {
        panic!("a missing restore point is refused");
    };
    assert_eq!(
        refusal.to_string(),
        "the newest restore point s-5 does not exist; bring it back, or choose a restore point with \
         `drey pointer set PATH`, or start from empty state with `drey pointer clear`"
    );
}

#[test]
fn a_start_stores_its_run_and_where_it_comes_from() {
    let mut entry = start()
        .recorded(stop("s-5", 5))
        .ended(JobStatus::Canceled, "me")
        .entry;
    entry.cleared = true;
    begin(
        &mut entry,
        Some(&choice("s-5", PointKind::Stop, 5)),
        run(2),
        10,
    );
    let started = entry.run.as_ref().expect("a run");
    assert_eq!(started.id, run(2).id);
    assert_eq!(
        started.parent,
        Some(Parent {
            path: "s-5".to_owned(),
            checkpoint_id: Some(5)
        })
    );
    assert_eq!(
        (entry.lineage, entry.ended, entry.intent, entry.cleared),
        (0, None, None, false)
    );
    assert_eq!(
        entry.history.len(),
        1,
        "a known restore point is not recorded again"
    );
}

#[test]
fn a_restore_point_found_by_a_start_becomes_part_of_the_history() {
    let mut entry = start().recorded(stop("s-5", 5)).entry;
    begin(
        &mut entry,
        Some(&choice("chk-7", PointKind::Checkpoint, 7)),
        run(2),
        10,
    );
    let newest = entry.newest().expect("a restore point");
    assert_eq!(
        (newest.path.as_str(), newest.checkpoint_id, newest.reason),
        ("chk-7", Some(7), TriggerReason::Restore)
    );
    assert_eq!(
        (newest.run.as_ref(), newest.job_id),
        (Some(&run(1).id), run(1).job_id),
        "the run that made it"
    );
}

#[test]
fn going_back_to_an_older_point_takes_back_what_came_after_it() {
    let recorded =
        start()
            .recorded(stop("s-5", 5))
            .recorded(point("chk-7", PointKind::Checkpoint, 7));
    let mut entry = recorded.entry;
    begin(
        &mut entry,
        Some(&choice("s-5", PointKind::Stop, 5)),
        run(2),
        10,
    );
    assert_eq!(entry.newest().map(|point| point.path.as_str()), Some("s-5"));
    let again = Start { entry, ..start() };
    assert_eq!(brief(&again.plan()), "from s-5");
}

#[test]
fn a_fresh_start_opens_a_lineage_in_which_nothing_old_counts() {
    let mut entry = start()
        .recorded(stop("s-5", 5))
        .ended(JobStatus::Finished, "another")
        .entry;
    begin(&mut entry, None, run(2), 10);
    assert_eq!(
        (entry.lineage, entry.newest(), entry.history.len()),
        (1, None, 1)
    );
    let mut first = JobEntry::default();
    begin(&mut first, None, run(1), 10);
    assert_eq!((first.lineage, first.run), (0, Some(run(1))));
}

#[test]
fn a_persons_choice_is_not_overruled_by_a_higher_id_of_the_abandoned_run() {
    let mut entry = start()
        .recorded(stop("s-9", 9))
        .recorded(stop("s-5", 5))
        .entry;
    person_chose(&mut entry, "s-5", Some(&verified("s-5", 5)), at(3));
    let chosen = Start { entry, ..start() };
    assert_eq!(brief(&chosen.plan()), "from s-5");
    let mut entry = chosen.entry;
    begin(
        &mut entry,
        Some(&choice("s-5", PointKind::Set, 5)),
        run(2),
        10,
    );
    assert_eq!(
        brief(&Start { entry, ..start() }.plan()),
        "from s-5",
        "also after a crash of the run that it began"
    );
}

/// A run that was to start from `path`.
fn child(path: &str, checkpoint_id: Option<i64>) -> Run {
    let path = path.to_owned();
    Run {
        parent: Some(Parent {
            path,
            checkpoint_id,
        }),
        ..run(1)
    }
}

/// What Flink restored, and whether that is not what was chosen.
fn mismatches(run: &Run, rows: &[(Option<(i64, &str)>, bool)]) {
    for (restored, wanted) in rows {
        let restored = restored.map(|(checkpoint_id, path)| Restored {
            checkpoint_id,
            path: Some(path.to_owned()),
        });
        let found = restore_mismatch(run, JobId::from_bytes([1; 16]), restored.as_ref());
        assert_eq!(found.is_some(), *wanted, "{restored:?}: {found:?}");
    }
}

/// After a failover.
const OWN: &str = "file:/checkpoints/1/j/chk-7";

#[test]
fn a_start_that_did_not_restore_what_was_chosen_is_noticed() {
    let chosen = child("file:///s/savepoint-5", Some(5));
    let rows = [
        (Some((5, "file:/s/savepoint-5")), false),
        (Some((5, "file:/s/savepoint-5/_metadata")), false),
        (None, true),
        (Some((4, "file:/s/savepoint-4")), true),
        (Some((5, "file:/s/savepoint-x")), true),
        (Some((7, OWN)), false),
    ];
    mismatches(&chosen, &rows);
    mismatches(&run(1), &[(None, false), (Some((7, OWN)), false)]);
    let pathless = Restored {
        checkpoint_id: 5,
        path: None,
    };
    assert_eq!(
        restore_mismatch(&chosen, JobId::from_bytes([1; 16]), Some(&pathless)),
        None
    );
}

#[test]
fn the_own_checkpoint_of_a_run_that_started_unverified_is_no_mismatch() {
    let rows = [
        (Some((5, "hdfs:/s/savepoint-5")), false),
        (Some((5, "hdfs:/s/savepoint-x")), true),
        (Some((7, OWN)), false),
        (Some((7, "file:/checkpoints/2/j/chk-7")), true),
        (None, true),
    ];
    mismatches(&child("hdfs:///s/savepoint-5", None), &rows);
}
