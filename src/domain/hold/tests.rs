//! When a TaskManager that was told to go asks, stays and goes.

use super::*;
use crate::domain::lock::{Lock, PodRef};
use crate::domain::pointer::{Pointer, Run, RunId};
use crate::domain::pointer_map::Sight;

fn at(second: u64) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, Duration::from_secs(second))
}

fn holder(name: &str, since: u64) -> Holder {
    Holder {
        pod: PodRef {
            uid: name.to_owned(),
            name: name.to_owned(),
            ip: None,
            node: None,
            template: String::new(),
        },
        since: at(since),
        deadline: None,
    }
}

/// Told to go at 100, at 102, until 150; `jm` is the JobManager's pod.
fn look(map: MapSight<'_>, jm: Option<PodState>, requested: bool) -> HoldAction {
    look_at(102, map, jm, requested)
}

fn look_at(now: u64, map: MapSight<'_>, jm: Option<PodState>, requested: bool) -> HoldAction {
    let pods = jm
        .map(|state| ("jm".to_owned(), state))
        .into_iter()
        .collect();
    decide_hold(&HoldView {
        now: at(now),
        told_at: at(100),
        deadline: at(150),
        map,
        pods: &pods,
        requested,
        blind_for: Duration::from_secs(5),
    })
}

fn seen(answered: bool, holders: &[Holder]) -> MapSight<'_> {
    MapSight::Seen { answered, holders }
}

fn alive(life: Life) -> Option<PodState> {
    Some(PodState::Alive(life))
}

fn goes(action: &HoldAction) -> bool {
    matches!(action, HoldAction::Go(_))
}

fn waits_until(action: &HoldAction, second: u64) -> bool {
    matches!(action, HoldAction::Wait(until, _) if *until == at(second))
}

#[test]
fn it_asks_then_stays_then_goes_with_the_answer() {
    let jm = [holder("jm", 10)];
    let running = || alive(Life::default());
    assert_eq!(
        look(seen(false, &jm), running(), false),
        HoldAction::Request
    );
    assert!(waits_until(&look(seen(false, &jm), running(), true), 150));
    assert!(goes(&look(seen(true, &jm), running(), true)));
}

#[test]
fn an_answer_to_nothing_is_none() {
    let jm = [holder("jm", 10)];
    let action = look(seen(true, &jm), alive(Life::default()), false);
    assert_eq!(action, HoldAction::Request);
}

#[test]
fn it_goes_when_its_time_is_spent_whatever_it_sees() {
    let jm = [holder("jm", 10)];
    let leaving = || {
        alive(Life {
            gone_by: Some(at(200)),
            ..Life::default()
        })
    };
    for requested in [false, true] {
        assert!(goes(&look_at(150, seen(false, &jm), leaving(), requested)));
    }
    let since = at(149);
    assert!(goes(&look_at(
        150,
        MapSight::Unreachable { since },
        leaving(),
        false
    )));
}

#[test]
fn it_goes_when_no_jobmanager_of_its_own_time_runs() {
    let over = [
        PodState::JobManagerEnded,
        PodState::NodeGone,
        PodState::Deleted { silent_since: None },
        PodState::Alive(Life {
            restarting: true,
            ..Life::default()
        }),
        PodState::Alive(Life {
            started: Some(at(101)),
            ..Life::default()
        }),
    ];
    for requested in [false, true] {
        assert!(goes(&look(seen(false, &[]), None, requested)));
        for state in over.clone() {
            let action = look(seen(false, &[holder("jm", 10)]), Some(state), requested);
            assert!(goes(&action), "{action:?}");
        }
        // The next JobManager took the lock after this TaskManager was told to go.
        let next = [holder("next", 101)];
        assert!(goes(&look(seen(false, &next), None, requested)));
    }
}

#[test]
fn it_stays_for_one_of_several_jobmanagers_and_for_one_that_it_cannot_see() {
    let two = [holder("jm", 10), holder("standby", 11)];
    assert!(waits_until(
        &look(seen(false, &two), Some(PodState::JobManagerEnded), true),
        150
    ));
    let unknown = Some(PodState::Unknown { silent_since: None });
    assert!(waits_until(
        &look(seen(false, &two[..1]), unknown, true),
        150
    ));
}

#[test]
fn it_stays_a_few_seconds_when_it_can_see_nothing() {
    let blind = MapSight::Unreachable { since: at(101) };
    assert!(waits_until(&look_at(102, blind, None, false), 106));
    assert!(waits_until(&look_at(105, blind, None, true), 106));
    assert!(goes(&look_at(106, blind, None, true)));
    let unknown = || Some(PodState::Unknown { silent_since: None });
    assert!(waits_until(&look_at(105, blind, unknown(), false), 106));
    assert!(goes(&look_at(106, blind, unknown(), false)));
    let long = MapSight::Unreachable { since: at(0) };
    assert!(waits_until(&look_at(102, long, None, false), 105));
}

#[test]
fn without_the_configmap_it_stays_for_a_jobmanager_that_leaves_and_goes_when_all_are_gone() {
    let blind = MapSight::Unreachable { since: at(101) };
    let leaving = alive(Life {
        gone_by: Some(at(200)),
        ..Life::default()
    });
    assert!(waits_until(&look_at(120, blind, leaving, false), 150));
    assert!(goes(&look(blind, Some(PodState::JobManagerEnded), false)));
    assert!(goes(&look_at(120, blind, alive(Life::default()), false)));
}

/// Who is followed, when these pods hold the lock and the application's run was given this job id.
fn follows(holders: &[&str], job_id: Option<&str>) -> Option<String> {
    let holders = holders.iter().map(|uid| holder(uid, 0)).collect();
    let mut pointer = Pointer::new("orders");
    pointer.entry(APPLICATION).run = Some(Run {
        id: RunId::from_bytes([1; 6]),
        job_id: job_id.map(|id| id.parse().expect("a job id")),
        parent: None,
        checkpoint_dir: None,
        savepoint_dir: None,
        stored: Timestamp::UNIX_EPOCH,
        owner: String::new(),
        flink_version: "2.3".to_owned(),
    });
    let document = Document {
        pointer: Sight::Good(pointer),
        lock: Lock {
            holders,
            waiters: Vec::new(),
        },
        ..Document::default()
    };
    let (pod, run) = followed(&document)?;
    assert_eq!(run, &RunId::from_bytes([1; 6]));
    Some(pod.uid.clone())
}

#[test]
fn a_taskmanager_follows_the_only_jobmanager_of_an_application_without_high_availability() {
    let id = Some("00112233445566778899aabbccddeeff");
    assert_eq!(follows(&["a"], id).as_deref(), Some("a"));
    assert_eq!(follows(&["a"], None), None, "with high availability");
    assert_eq!(follows(&["a", "b"], id), None);
    assert_eq!(follows(&[], id), None, "between two holders");
}
