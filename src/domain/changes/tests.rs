use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::budget::after;

fn content(keys: &[(&str, &str)]) -> Content {
    let keys = keys
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Content {
        keys: keys.collect(),
        ..Content::default()
    }
}

fn version(name: &str) -> Version {
    Version {
        digest: name.to_owned(),
        files: Files::from([("config.yaml".to_owned(), name.to_owned())]),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn refused(keys: &[(&str, &str)]) -> String {
    let wanted = Ok(content(keys));
    match judge(OnChange::Ignore, &content(&[]), &wanted, Vec::new()) {
        Change::Refused(reasons) => reasons.join("; "),
        other => panic!("{other:?}"),
    }
}

fn restart() -> Change {
    let wanted = Ok(content(&[("pipeline.name", "b")]));
    judge(OnChange::Restart, &content(&[]), &wanted, Vec::new())
}

fn view<'a>(running: &'a str, wanted: Option<(&'a str, &'a Change)>) -> View<'a> {
    View {
        now: at(100),
        running,
        wanted,
        works: true,
        busy: false,
        in_place: None,
    }
}

fn works_with(name: &str) -> Record {
    Record::default().confirmed(version(name))
}

#[test]
fn what_waits_is_noted_once_and_gone_with_the_next_start() {
    let wanted = Ok(content(&[("pipeline.name", "b")]));
    let ignored = judge(OnChange::Ignore, &content(&[]), &wanted, Vec::new());
    let what = ignored.pending();
    assert_eq!(
        what.as_deref(),
        Some("left for the next start: pipeline.name")
    );
    assert_eq!(restart().pending(), None);
    let record = works_with("a")
        .with_pending(what.clone(), at(5))
        .expect("news");
    assert_eq!(record.with_pending(what, at(6)), None);
    let gone = record.with_pending(None, at(7)).expect("news");
    assert_eq!(gone, works_with("a"));
    let refused = Change::Refused(vec!["x".to_owned(), "y".to_owned()]);
    assert_eq!(refused.pending().as_deref(), Some("refused: x; y"));
    let (_, next) = at_start(&record, Ok(&version("a")), at(8), at(9));
    assert_eq!(next.pending, None);
}

#[test]
fn the_same_content_has_the_same_digest_whatever_the_order() {
    let one = content(&[("a", "1"), ("b", "2")]);
    assert_eq!(one.digest(), content(&[("b", "2"), ("a", "1")]).digest());
    assert_ne!(one.digest(), content(&[("a", "1")]).digest());
    assert_eq!(
        one.digest(),
        "f19c0938831f0f51",
        "it is stored, so it stays"
    );
}

#[test]
fn only_what_taskmanagers_read_changes_their_part() {
    let one = content(&[
        ("taskmanager.numberOfTaskSlots", "2"),
        ("parallelism.default", "2"),
    ]);
    let job = content(&[
        ("taskmanager.numberOfTaskSlots", "2"),
        ("parallelism.default", "4"),
    ]);
    let slots = content(&[
        ("taskmanager.numberOfTaskSlots", "4"),
        ("parallelism.default", "2"),
    ]);
    assert_eq!(one.of_task_managers(), job.of_task_managers());
    assert_ne!(one.of_task_managers(), slots.of_task_managers());
    assert!(Difference::between(&one, &slots).concerns_task_managers());
    assert!(!Difference::between(&one, &job).concerns_task_managers());
    let backend = content(&[("state.backend.type", "rocksdb")]);
    assert!(Difference::between(&one, &backend).changes_state_backend());
    assert!(!Difference::between(&one, &slots).changes_state_backend());
}

#[test]
fn the_policy_decides_what_a_change_asks_for() {
    let running = content(&[("parallelism.default", "1"), ("pipeline.name", "a")]);
    let wider = content(&[("parallelism.default", "2"), ("pipeline.name", "a")]);
    let other = content(&[("parallelism.default", "2"), ("pipeline.name", "b")]);
    let asks = |policy, wanted: &Content| judge(policy, &running, &Ok(wanted.clone()), Vec::new());
    assert_eq!(asks(OnChange::Restart, &running), Change::None);
    assert!(matches!(
        asks(OnChange::Restart, &other),
        Change::Restart(_)
    ));
    assert!(matches!(
        asks(OnChange::RescaleOnly, &wider),
        Change::Restart(_)
    ));
    assert!(matches!(
        asks(OnChange::RescaleOnly, &other),
        Change::Ignored(_)
    ));
    assert!(matches!(asks(OnChange::Ignore, &wider), Change::Ignored(_)));
}

#[test]
fn what_cannot_work_is_refused_with_its_reason() {
    let broken = judge(
        OnChange::Restart,
        &content(&[]),
        &Err("line 3".into()),
        Vec::new(),
    );
    assert_eq!(broken, Change::Refused(vec!["line 3".to_owned()]));
    let flaw = judge(
        OnChange::Restart,
        &content(&[]),
        &Ok(content(&[("a", "b")])),
        vec!["no".into()],
    );
    assert_eq!(flaw, Change::Refused(vec!["no".to_owned()]));
    for (keys, part) in [
        (
            &[("execution.state-recovery.path", "s3://a")][..],
            "set by Drey",
        ),
        (
            &[("kubernetes.cluster-id", "other")],
            "which cluster this is",
        ),
        (
            &[("taskmanager.memory.process.size", "a lot")],
            "is not a size",
        ),
        (&[("parallelism.default", "0")], "above 0"),
        (
            &[
                ("taskmanager.memory.process.size", "1g"),
                ("taskmanager.memory.managed.size", "2g"),
            ],
            "more than all of it",
        ),
        (
            &[
                ("jobmanager.memory.process.size", "1g"),
                ("jobmanager.memory.heap.size", "1024m"),
            ],
            "not below",
        ),
        (
            &[
                ("taskmanager.memory.network.min", "2 gb"),
                ("taskmanager.memory.network.max", "1g"),
            ],
            "is above",
        ),
    ] {
        let reasons = refused(keys);
        assert!(reasons.contains(part), "{reasons}");
    }
    let fine = content(&[
        ("taskmanager.memory.process.size", "1728m"),
        ("jobmanager.memory.heap.size", "1g"),
    ]);
    assert_eq!(implausible(&fine.keys), [""; 0]);
}

#[test]
fn secrets_are_not_shown() {
    for (key, value) in [
        ("s3.secret-key", "x"),
        ("security.ssl.rest.key-password", "x"),
        ("env.java.opts.all", "-Dmy.Password=x"),
        ("some.url", "https://user:word@host/path"),
    ] {
        assert_eq!(shown(key, value), "******", "{key}");
    }
    assert_eq!(
        shown("execution.checkpointing.dir", "s3://a/b@c"),
        "s3://a/b@c"
    );
    let change = Difference::between(&content(&[]), &content(&[("s3.secret-key", "hidden")]));
    assert_eq!(change.names(), "s3.secret-key");
}

#[test]
fn a_change_is_applied_once_the_job_can_be_stopped_and_confirmed_once_it_works() {
    let change = restart();
    let record = works_with("a");
    let mut seen = view("a", Some(("b", &change)));
    seen.busy = true;
    assert_eq!(next(&record, &seen), Step::Nothing);
    seen.busy = false;
    assert_eq!(next(&record, &seen), Step::Apply);

    let record = record.tried(version("b"));
    let (start, record) = at_start(&record, Ok(&version("b")), at(100), at(160));
    assert_eq!(start, Start::Wanted);
    let mut seen = view("b", Some(("b", &Change::None)));
    seen.works = false;
    assert_eq!(next(&record, &seen), Step::Nothing);
    seen.works = true;
    assert_eq!(next(&record, &seen), Step::Confirm);
    let record = record.confirmed(version("b"));
    assert_eq!(next(&record, &seen), Step::Nothing);
}

#[test]
fn what_does_not_work_in_time_is_rolled_back_and_not_tried_again_until_it_says_something_else() {
    let change = restart();
    let record = works_with("a").tried(version("b"));
    let (_, record) = at_start(&record, Ok(&version("b")), at(100), at(160));
    let mut seen = view("b", Some(("b", &Change::None)));
    (seen.works, seen.now) = (false, at(160));
    let Step::RollBack(why) = next(&record, &seen) else {
        panic!("rolled back");
    };
    let record = record.rolled_back(why);
    assert!(
        matches!(next(&record, &seen), Step::RollBack(_)),
        "who stored it has died"
    );
    let (start, record) = at_start(&record, Ok(&version("b")), at(161), at(200));
    assert_eq!(start, Start::Good(version("a"), None));
    assert_eq!(
        next(&record, &view("a", Some(("b", &change)))),
        Step::Nothing
    );
    assert_eq!(next(&record, &view("a", Some(("c", &change)))), Step::Apply);
    let back = view("a", Some(("a", &Change::None)));
    assert_eq!(next(&record, &back), Step::Forget);
    assert_eq!(
        next(&record.settled(), &view("a", Some(("b", &change)))),
        Step::Apply
    );
}

#[test]
fn a_jobmanager_that_dies_again_and_again_gets_the_last_good_configuration() {
    let (start, record) = at_start(&works_with("a"), Ok(&version("b")), at(100), at(160));
    assert_eq!(start, Start::Wanted);
    let (start, record) = at_start(&record.died(), Ok(&version("b")), at(101), at(161));
    assert_eq!(start, Start::Wanted, "once may be an accident");
    let (start, record) = at_start(&record.died(), Ok(&version("b")), at(102), at(162));
    assert!(matches!(start, Start::Good(good, Some(_)) if good == version("a")));
    assert!(record.has_failed("b"));
}

#[test]
fn a_last_good_configuration_that_cannot_read_what_the_changed_one_made_waits_for_a_person() {
    use crate::domain::pointer::JobEntry;
    let entry = |from: &str| -> JobEntry {
        let text = format!(
            r#"{{"lineage": 1, "run": {{"id": "0123456789ab", "parent": {{"path": "{from}"}}, "stored": "2026-01-01T00:00:00Z",
                "owner": "o", "flink-version": "2.3.0"}}, "history": [{{"path": "file:/sp", "kind": "stop", "lineage": 1,
                "reason": "config-change", "completed": "2026-01-01T00:00:00Z"}}]}}"#
        );
        serde_json::from_str(&text).expect("an entry")
    };
    let (newer, savepoint) = (entry("file:/chk-9"), entry("file:/sp"));
    let mut record = works_with("a").tried(version("b")).rolled_back("no".into());
    for _ in 0..3 {
        assert_eq!(record.stuck(&newer), None, "it may still come up");
        record = record.died();
    }
    let asks = record.stuck(&newer);
    assert_eq!(asks, Some(("file:/chk-9", "file:/sp")));
    assert_eq!(record.stuck(&savepoint), None, "which it can read");
    assert_eq!(record.tried(version("c")).stuck(&newer), None, "mended");
    let person = JobEntry {
        run: None,
        ..newer.clone()
    };
    assert_eq!(record.stuck(&person), None, "decided");

    let back = view("a", Some(("b", &Change::None)));
    assert_eq!(next(&record, &back), Step::Confirm);
    let record = record.confirmed(version("a"));
    assert_eq!(record.stuck(&newer), None);
    assert!(record.has_failed("b"), "and is still not tried again");
}

#[test]
fn a_configuration_that_cannot_be_read_does_not_keep_a_job_from_starting() {
    let (start, _) = at_start(&works_with("a"), Err("line 3"), at(100), at(160));
    assert_eq!(start, Start::Good(version("a"), None));
    let (start, _) = at_start(&Record::default(), Err("line 3"), at(100), at(160));
    assert_eq!(
        start,
        Start::Wanted,
        "there is none: the launcher says what is wrong"
    );
}

#[test]
fn the_end_of_the_old_jobmanager_does_not_count_against_the_new_configuration() {
    let record = works_with("a").tried(version("b")).died();
    assert_eq!(record.trial.expect("a trial").deaths, 0);
}

#[test]
fn a_newer_change_replaces_one_that_is_tried() {
    let change = restart();
    let record = works_with("a").tried(version("b"));
    let (_, record) = at_start(&record, Ok(&version("b")), at(100), at(160));
    let mut seen = view("b", Some(("c", &change)));
    (seen.works, seen.busy, seen.now) = (false, true, at(170));
    assert_eq!(next(&record, &seen), Step::Apply);
    let record = record.tried(version("c"));
    assert_eq!(
        record.good,
        Some(version("a")),
        "not the one that never worked"
    );
}

#[test]
fn another_parallelism_needs_no_restart_where_the_scheduler_can() {
    let change = restart();
    let wanted = NewDefault {
        before: 1,
        after: 4,
    };
    let record = works_with("a");
    let mut seen = view("a", Some(("b", &change)));
    seen.in_place = Some(wanted);
    assert_eq!(next(&record, &seen), Step::Rescale(wanted));
    seen.busy = true;
    assert_eq!(next(&record, &seen), Step::Nothing);

    let record = record.rescaled("a", version("b"));
    assert_eq!(record.good, Some(version("b")), "what a rollback knows");
    assert_eq!(record.instead_of("a"), Some(&version("b")));
    let record = record.rescaled("b", version("c"));
    assert_eq!(
        record.instead_of("a"),
        Some(&version("c")),
        "a supervisor that died"
    );
    let (start, record) = at_start(&record, Ok(&version("c")), at(100), at(160));
    assert_eq!(start, Start::Wanted);
    assert_eq!(record.instead_of("a"), None, "it was started with it");
}

#[test]
fn what_never_worked_is_not_rescaled_but_replaced() {
    let change = restart();
    let (_, record) = at_start(&works_with("a"), Ok(&version("b")), at(100), at(160));
    let mut seen = view("b", Some(("c", &change)));
    seen.works = false;
    seen.in_place = Some(NewDefault {
        before: 64,
        after: 4,
    });
    assert_eq!(next(&record, &seen), Step::Apply);
}

#[test]
fn reactive_mode_knows_no_parallelism() {
    let reactive = ("scheduler-mode", "reactive");
    let running = content(&[reactive, ("parallelism.default", "1")]);
    let wanted = Ok(content(&[reactive, ("parallelism.default", "2")]));
    for policy in [OnChange::Restart, OnChange::RescaleOnly] {
        let change = judge(policy, &running, &wanted, Vec::new());
        assert!(matches!(change, Change::Ignored(_)), "{change:?}");
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Edit(u8),
    Look,
    Die,
    Restart,
    Wait,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0..4u8).prop_map(Event::Edit),
        Just(Event::Look),
        Just(Event::Die),
        Just(Event::Restart),
        Just(Event::Wait),
    ];
    prop::collection::vec(event, 1..60)
}

/// A world in which versions 0 and 1 work, and 2 and 3 never do.
struct World {
    record: Record,
    wanted: u8,
    running: u8,
    now: Timestamp,
    applied: Vec<u8>,
}

impl World {
    fn look(&mut self) {
        let (running, wanted) = (self.running.to_string(), self.wanted.to_string());
        let change = if running == wanted {
            Change::None
        } else {
            restart()
        };
        let step = next(
            &self.record,
            &View {
                now: self.now,
                running: &running,
                wanted: Some((&wanted, &change)),
                works: self.running < 2,
                busy: false,
                in_place: None,
            },
        );
        match step {
            Step::Confirm => self.record = self.record.confirmed(version(&running)),
            Step::Forget => self.record = self.record.settled(),
            Step::Apply => {
                self.applied.push(self.wanted);
                self.record = self.record.tried(version(&wanted));
                self.start();
            }
            Step::RollBack(why) => {
                self.record = self.record.rolled_back(why);
                self.start();
            }
            Step::Nothing | Step::Ignore | Step::Refuse(_) | Step::Rescale(_) => {}
        }
    }

    fn start(&mut self) {
        let by = after(self.now, Duration::from_secs(60));
        let wanted = version(&self.wanted.to_string());
        let (start, record) = at_start(&self.record, Ok(&wanted), self.now, by);
        self.record = record;
        self.running = match start {
            Start::Wanted => self.wanted,
            Start::Good(good, _) => good.digest.parse().expect("a number"),
        };
    }
}

proptest! {
    #[test]
    fn each_edit_is_applied_at_most_once_and_in_the_end_something_runs_that_works(events in events()) {
        let mut world = World {
            record: works_with("0"),
            wanted: 0,
            running: 0,
            now: at(1000),
            applied: Vec::new(),
        };
        let mut edits = 0;
        for event in events {
            match event {
                Event::Edit(to) if to != world.wanted => {
                    world.wanted = to;
                    edits += 1;
                }
                Event::Edit(_) => {}
                Event::Look => world.look(),
                Event::Die => {
                    world.record = world.record.died();
                    world.start();
                }
                Event::Restart => world.start(),
                Event::Wait => world.now = after(world.now, Duration::from_secs(20)),
            }
            prop_assert!(world.applied.len() <= edits, "{:?}", world.applied);
            let good = world.record.good.as_ref().map(|good| good.digest.as_str());
            prop_assert!(matches!(good, Some("0" | "1")), "{good:?}");
        }
        for _ in 0..4 {
            world.now = after(world.now, Duration::from_secs(61));
            world.look();
        }
        prop_assert!(world.running < 2, "runs {}", world.running);
        let failed = world.record.has_failed(&world.wanted.to_string());
        prop_assert!(failed || world.running == world.wanted, "what stands there is in effect");
        let before = world.applied.len();
        world.look();
        prop_assert_eq!(before, world.applied.len());
    }
}
