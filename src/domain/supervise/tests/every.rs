//! What holds in every situation.

use super::super::*;
use super::scene::*;
use crate::domain::savepoint::FailureClass;

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
