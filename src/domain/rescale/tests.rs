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
    let Err(Obstacle::Refused(why)) = planned(wanted, vertices, free) else {
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
    let change = |pairs: &[(&str, Option<&str>)]| {
        let own =
            |(key, value): &(&str, Option<&str>)| ((*key).to_owned(), value.map(str::to_owned));
        pairs.iter().map(own).collect::<BTreeMap<_, _>>()
    };
    let alone =
        |scheduling, pairs: &[(&str, Option<&str>)]| parallelism_alone(scheduling, &change(pairs));
    let four = ("parallelism.default", Some("4"));
    assert_eq!(alone(Scheduling::Adaptive, &[four]), Some(4));
    assert_eq!(
        alone(Scheduling::Adaptive, &[("parallelism.default", None)]),
        Some(1)
    );
    assert_eq!(alone(Scheduling::Fixed, &[four]), None);
    assert_eq!(alone(Scheduling::Reactive, &[four]), None);
    assert_eq!(alone(Scheduling::Adaptive, &[]), None);
    let more = [four, ("state.backend.type", Some("rocksdb"))];
    assert_eq!(alone(Scheduling::Adaptive, &more), None);
    for bad in ["0", "-1", "many"] {
        let change = [("parallelism.default", Some(bad))];
        assert_eq!(alone(Scheduling::Adaptive, &change), None, "{bad}");
    }
}

#[test]
fn all_vertices_or_single_ones_get_the_wanted_parallelism() {
    let vertices = [vertex("a", 1, None), vertex("b", 1, None)];
    let order = planned(&all(4), &vertices, Some(3)).expect("slots for it");
    let four = BTreeMap::from([("a".to_owned(), 4), ("b".to_owned(), 4)]);
    assert_eq!(order.targets, four);
    assert_eq!(order.requirements["a"], bounds(1, 4));
    let one = Wanted {
        all: None,
        vertices: BTreeMap::from([("operator b".to_owned(), 3)]),
    };
    let order = planned(&one, &vertices, None).expect("named once");
    let three = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 3)]);
    assert_eq!(order.targets, three);
    let nobody = Wanted {
        all: None,
        vertices: BTreeMap::from([("c".to_owned(), 3)]),
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
