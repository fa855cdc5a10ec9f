//! The real `acquire`, `successor`, `heir`, `decide_hold`, `plan_restore` and `begin`, driven through every interleaving with
//! a small model of pods, kubelets, nodes, an API server, a ConfigMap whose writes have a precondition, and storage.
//!
//! Each pod acts on the ConfigMap as it read it last, which may be long ago. Within a scenario's [`Budget`] *all* orders are
//! searched, breadth first, to the end. What comes about by itself in the end (turns, reads, kubelets, the time) is kept
//! apart from what need not happen, so that progress can be shown: wherever nothing comes about by itself any more, a pod
//! that lives runs the job, or a person is needed.
//!
//! What the model leaves out: the supervisor's way from an order to its savepoint (`tests/model.rs` has it), high
//! availability, clocks that differ, and a damaged storage.

#[path = "support/search.rs"]
mod search;

mod model_pods {
    pub(crate) mod bugs;
    pub(crate) mod events;
    pub(crate) mod job;
    pub(crate) mod pod;
    pub(crate) mod promises;
    pub(crate) mod sights;
    pub(crate) mod steps;
    pub(crate) mod task_manager;
    pub(crate) mod world;
}

use model_pods::bugs::Bug;
use model_pods::steps::Search;
use model_pods::world::Budget;
use model_pods::{promises, sights};

/// One pod, and nothing that could go wrong.
const CALM: Budget = Budget {
    arrivals: &[],
    break_after: Some(1),
    rights: true,
    task_manager: false,
    tells: 0,
    forces: 0,
    cuts: 0,
    node_deaths: 0,
    node_deletes: 0,
    crashes: 0,
    checkpoints: 0,
    stop_failures: 0,
    outages: 0,
    task_manager_tells: 0,
};

/// The pod is told to go; another one of its template comes at any time.
const MOVES: Budget = Budget {
    arrivals: &[1],
    tells: 1,
    crashes: 1,
    checkpoints: 1,
    ..CALM
};

/// A new template. Either pod may be told to go or crash, at any time.
const ROLLOUT: Budget = Budget {
    arrivals: &[2],
    tells: 1,
    crashes: 1,
    stop_failures: 1,
    ..CALM
};

/// Two new templates, one after the other.
const ROLLOUTS: Budget = Budget {
    arrivals: &[2, 3],
    tells: 1,
    ..CALM
};

/// A second pod of the same template, and one of another.
const SCALED: Budget = Budget {
    arrivals: &[1, 2],
    tells: 1,
    ..CALM
};

/// The API server is away for a time.
const AWAY: Budget = Budget {
    arrivals: &[2],
    tells: 1,
    crashes: 1,
    outages: 1,
    ..CALM
};

/// The API server is away while a pod moves and the job takes checkpoints.
const AWAY_MOVES: Budget = Budget {
    arrivals: &[1],
    tells: 1,
    crashes: 1,
    checkpoints: 1,
    outages: 1,
    ..CALM
};

/// A node is cut off for a time.
const PARTITION: Budget = Budget {
    arrivals: &[1],
    tells: 1,
    cuts: 1,
    crashes: 1,
    ..CALM
};

/// A pod is deleted by force, perhaps behind a partition.
const FORCED: Budget = Budget {
    arrivals: &[1],
    forces: 1,
    cuts: 1,
    crashes: 1,
    ..CALM
};

/// As before; nobody but a person says that a silent holder is dead.
const NEVER: Budget = Budget {
    break_after: None,
    ..PARTITION
};

/// A node dies.
const NODE: Budget = Budget {
    arrivals: &[1],
    tells: 1,
    node_deaths: 1,
    node_deletes: 1,
    checkpoints: 1,
    ..CALM
};

/// No pod may look at another one's object.
const BLIND: Budget = Budget {
    arrivals: &[2],
    rights: false,
    tells: 1,
    checkpoints: 1,
    cuts: 1,
    ..CALM
};

/// JobManager and TaskManager are told to go, together or alone.
const HOLD: Budget = Budget {
    arrivals: &[1],
    task_manager: true,
    tells: 1,
    task_manager_tells: 1,
    ..CALM
};

/// The same, and the API server is away for a time.
const HOLD_AWAY: Budget = Budget {
    arrivals: &[],
    outages: 1,
    ..HOLD
};

/// All promises hold in every state within `budget`, and the search has come across all of `sights`.
fn holds(name: &str, budget: Budget, sights: &[&'static str]) {
    let search = Search { budget, bug: None };
    search::holds(name, search, None, sights);
}

#[test]
fn every_promise_holds_when_a_pod_moves() {
    holds(
        "moves",
        MOVES,
        &[sights::AFTER_STOP, sights::AFTER_CHECKPOINT],
    );
}

#[test]
fn every_promise_holds_in_a_rollout() {
    holds(
        "rollout",
        ROLLOUT,
        &[sights::HANDED_OVER, sights::TAKEN_BACK, sights::AFTER_STOP],
    );
}

#[test]
fn every_promise_holds_in_two_rollouts_in_quick_succession() {
    holds("rollouts", ROLLOUTS, &[sights::HANDED_OVER]);
}

#[test]
fn every_promise_holds_while_a_taskmanager_holds_and_the_api_server_is_away() {
    holds("hold away", HOLD_AWAY, &[sights::LET_GO]);
}

#[test]
fn every_promise_holds_with_one_pod_too_many() {
    holds("scaled", SCALED, &[sights::HANDED_OVER]);
}

#[test]
fn every_promise_holds_when_the_api_server_is_away() {
    holds("away", AWAY, &[sights::ALONE, sights::HANDED_OVER]);
}

#[test]
fn every_promise_holds_when_a_pod_moves_while_the_api_server_is_away() {
    holds("away moves", AWAY_MOVES, &[sights::ALONE]);
}

#[test]
fn every_promise_holds_across_a_partition() {
    holds(
        "partition",
        PARTITION,
        &[sights::OVER_PARTITION, sights::ALONE],
    );
}

#[test]
fn every_promise_holds_when_a_pod_is_deleted_by_force() {
    holds("forced", FORCED, &[sights::OVER_PARTITION]);
}

#[test]
fn every_promise_holds_across_a_partition_when_the_lock_is_never_broken() {
    holds("never", NEVER, &[sights::AFTER_STOP]);
}

#[test]
fn every_promise_holds_when_a_node_dies() {
    holds("node", NODE, &[sights::BROKEN, sights::AFTER_CHECKPOINT]);
}

#[test]
fn every_promise_holds_when_no_pod_may_look_at_another() {
    holds("blind", BLIND, &[sights::AFTER_STOP]);
}

#[test]
fn every_promise_holds_while_a_taskmanager_holds() {
    holds("hold", HOLD, &[sights::LET_GO]);
}

#[test]
fn every_planted_bug_is_found() {
    let table = [
        (Bug::BreaksWhenObjectGone, FORCED, promises::ALIVE),
        (Bug::RestartingIsEnded, AWAY, promises::ONE),
        (Bug::TakesSameTemplate, SCALED, promises::ALIVE),
        (Bug::NoPrecondition, ROLLOUTS, promises::ONE),
        (Bug::ReleasesBeforeRecord, ROLLOUT, promises::ONE),
        (Bug::ReleasesWithoutPoint, ROLLOUT, promises::TWICE),
        (Bug::KeepsNote, AWAY, promises::ONE),
        (Bug::ForgetsCopy, AWAY_MOVES, promises::TWICE),
        (Bug::StartsWithoutStoring, MOVES, promises::TWICE),
        (Bug::IgnoresNever, NEVER, promises::NEVER),
        (Bug::BreaksWithoutSilence, MOVES, promises::ALIVE),
        (Bug::HandsOverForEver, ROLLOUT, promises::PROGRESS),
        (Bug::SeesNobodyGo, MOVES, promises::PROGRESS),
        (Bug::IgnoresWaiters, ROLLOUT, promises::ROLLS_OUT),
        (Bug::TaskManagerRuns, HOLD, promises::HELD),
        (Bug::TaskManagerLingers, HOLD, promises::LINGERS),
        (Bug::GivesBackAtOnce, ROLLOUT, promises::PASSED_ON),
        (Bug::RecordsAgain, ROLLOUT, promises::OWN),
    ];
    let unfound: Vec<_> = table
        .into_iter()
        .filter(|(bug, budget, promise)| {
            let search = Search {
                budget: *budget,
                bug: Some(*bug),
            };
            !search::finds(&format!("{bug:?}"), search, promise)
        })
        .collect();
    assert!(unfound.is_empty(), "{unfound:#?}");
}
