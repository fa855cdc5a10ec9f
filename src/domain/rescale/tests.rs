use super::*;

fn vertex(id: &str, parallelism: u32, group: Option<&str>) -> Vertex {
    Vertex {
        id: id.to_owned(),
        name: format!("operator {id}"),
        parallelism,
        max_parallelism: Some(128),
        running: parallelism,
        group: group.map(str::to_owned),
    }
}

fn bounds(lower: u32, upper: u32) -> Bounds {
    Bounds { lower, upper }
}

fn all(parallelism: u32) -> Wanted {
    Wanted {
        all: Some(parallelism),
        ..Wanted::default()
    }
}

fn configuration(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

fn planned(wanted: &Wanted, vertices: &[Vertex], free: Option<u32>) -> Result<Order, Obstacle> {
    let requirements = vertices
        .iter()
        .map(|vertex| (vertex.id.clone(), bounds(1, vertex.parallelism)))
        .collect();
    plan(
        wanted,
        &Situation {
            vertices,
            requirements: &requirements,
            free_slots: free,
        },
    )
}

fn refused(wanted: &Wanted, vertices: &[Vertex], free: Option<u32>) -> String {
    let Err(Obstacle::Refused(why) | Obstacle::Slots(why)) = planned(wanted, vertices, free) else {
        panic!("not refused");
    };
    why
}

#[test]
fn only_the_adaptive_scheduler_of_1_18_takes_another_parallelism() {
    let adaptive = configuration(&[("jobmanager.scheduler", "Adaptive")]);
    assert_eq!(Scheduling::of(&adaptive, true), Scheduling::Adaptive);
    assert_eq!(Scheduling::of(&adaptive, false), Scheduling::TooOld);
    let reactive = configuration(&[
        ("jobmanager.scheduler", "adaptive"),
        ("scheduler-mode", "REACTIVE"),
    ]);
    assert_eq!(Scheduling::of(&reactive, true), Scheduling::Reactive);
    for other in [&[][..], &[("jobmanager.scheduler", "default")]] {
        let fixed = Scheduling::of(&configuration(other), true);
        assert_eq!(fixed, Scheduling::Fixed);
        let text = fixed.obstacle().expect("not in place").to_string();
        assert!(text.contains("drey job upgrade --parallelism"), "{text}");
    }
    let Some(Obstacle::Refused(why)) = Scheduling::Reactive.obstacle() else {
        panic!("reactive mode is no matter of savepoints");
    };
    assert!(why.contains("start or end TaskManagers"), "{why}");
}

#[test]
fn a_change_of_the_parallelism_alone_is_told_from_others() {
    use crate::domain::changes::Content;
    let alone = |before: &[(&str, &str)], after: &[(&str, &str)], able| {
        let content = |pairs| Content {
            keys: configuration(pairs),
            ..Content::default()
        };
        let difference = Difference::between(&content(before), &content(after));
        parallelism_alone(&configuration(before), able, &difference)
    };
    let adaptive = ("jobmanager.scheduler", "adaptive");
    let two = [adaptive, ("parallelism.default", "2")];
    let four = [adaptive, ("parallelism.default", "4")];
    let wanted = |before, after| Some(NewDefault { before, after });
    assert_eq!(alone(&two, &four, true), wanted(2, 4));
    assert_eq!(alone(&[adaptive], &four, true), wanted(1, 4));
    assert_eq!(alone(&four, &[adaptive], true), wanted(4, 1));
    assert_eq!(alone(&two, &four, false), None, "too old");
    assert_eq!(alone(&two[1..], &four[1..], true), None, "not adaptive");
    assert_eq!(alone(&two, &two, true), None);
    let more = [four.as_slice(), &[("state.backend.type", "rocksdb")]].concat();
    assert_eq!(alone(&two, &more, true), None);
    let overrides = ("pipeline.jobvertex-parallelism-overrides", "a:1");
    let with = |pairs: &[(&'static str, &'static str)]| [pairs, &[overrides]].concat();
    assert_eq!(alone(&with(&two), &with(&four), true), None);
    for bad in ["0", "-1", "many"] {
        let bad = [adaptive, ("parallelism.default", bad)];
        assert_eq!(alone(&two, &bad, true), None, "{bad:?}");
    }
}

#[test]
fn another_default_concerns_only_vertices_that_have_it() {
    let vertices = [vertex("a", 1, None), vertex("b", 3, None)];
    let default = |before, after| Wanted {
        default: Some(NewDefault { before, after }),
        ..Wanted::default()
    };
    let order = planned(&default(1, 4), &vertices, Some(1)).expect("slots for it");
    assert_eq!(order.targets, BTreeMap::from([("a".to_owned(), 4)]));
    assert_eq!(order.requirements["a"], bounds(1, 4));
    assert_eq!(order.requirements["b"], bounds(1, 3), "as the code says");
    let again = planned(&default(9, 1), &vertices, None).expect("nothing to do");
    assert_eq!(again.requirements["a"], bounds(1, 1));
    let few = planned(&default(1, 4), &vertices, Some(0));
    assert!(matches!(few, Err(Obstacle::Slots(_))), "{few:?}");
    let none = planned(&default(5, 6), &vertices, None);
    assert!(matches!(none, Err(Obstacle::Scheduler(_))), "{none:?}");
}

#[test]
fn all_vertices_or_single_ones_get_the_wanted_parallelism() {
    let vertices = [vertex("a", 1, None), vertex("b", 1, None)];
    let order = planned(&all(4), &vertices, Some(3)).expect("slots for it");
    let four = BTreeMap::from([("a".to_owned(), 4), ("b".to_owned(), 4)]);
    assert_eq!(order.targets, four);
    assert_eq!(order.requirements["a"], bounds(1, 4));
    let one = Wanted {
        vertices: BTreeMap::from([("operator b".to_owned(), 3)]),
        ..Wanted::default()
    };
    let order = planned(&one, &vertices, None).expect("named once");
    let three = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 3)]);
    assert_eq!(order.targets, three);
    let nobody = Wanted {
        vertices: BTreeMap::from([("c".to_owned(), 3)]),
        ..Wanted::default()
    };
    let why = refused(&nobody, &vertices, None);
    assert!(why.contains("no vertex \"c\"") && why.contains("a (\"operator a\")"));
}

#[test]
fn a_lower_bound_is_kept_as_long_as_it_fits() {
    let vertices = [vertex("a", 4, None)];
    let with = |lower| {
        let requirements = BTreeMap::from([("a".to_owned(), bounds(lower, 4))]);
        let seen = Situation {
            vertices: &vertices,
            requirements: &requirements,
            free_slots: None,
        };
        plan(&all(2), &seen).expect("a plan").requirements["a"]
    };
    assert_eq!(with(1), bounds(1, 2));
    assert_eq!(with(3), bounds(2, 2));
}

#[test]
fn more_than_the_maximum_parallelism_is_refused() {
    let why = refused(&all(129), &[vertex("a", 1, None)], None);
    assert!(why.contains("maximum of 128"), "{why}");
}

#[test]
fn slots_are_counted_by_sharing_group_before_anything_is_changed() {
    let shared = [vertex("a", 2, None), vertex("b", 2, None)];
    assert!(planned(&all(4), &shared, Some(2)).is_ok());
    let why = refused(&all(5), &shared, Some(2));
    assert!(why.contains("5 are needed, and there are 4"), "{why}");
    let apart = [vertex("a", 2, Some("x")), vertex("b", 2, Some("y"))];
    assert!(planned(&all(3), &apart, Some(2)).is_ok());
    let why = refused(&all(4), &apart, Some(2));
    assert!(why.contains("8 are needed, and there are 6"), "{why}");
    assert!(planned(&all(100), &shared, None).is_ok(), "Flink adds some");
}

#[test]
fn a_parallelism_is_reached_when_all_its_tasks_run() {
    let targets = BTreeMap::from([("a".to_owned(), 2)]);
    assert!(reached(&targets, &[vertex("a", 2, None)]).is_ok());
    let mut deploying = vertex("a", 2, None);
    deploying.running = 1;
    let why = reached(&targets, &[deploying]).expect_err("one is missing");
    assert_eq!(why, "\"operator a\" has 1 of 2 tasks running");
    assert!(reached(&targets, &[vertex("a", 4, None)]).is_err());
    assert!(reached(&targets, &[]).is_err());
}
