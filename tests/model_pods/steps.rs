//! Everything that can happen next, in any order.

use std::sync::Arc;

use drey::domain::lock::Lock;
use drey::domain::pointer::{JobEntry, PointKind};
use drey::domain::restore::begin;
use stateright::{Expectation, Model, Property};

use super::bugs::Bug;
use super::events::{happen, snapshot};
use super::world::{
    Budget, Container, Content, GRACE, Jvm, Map, Pod, SILENT_FOR, Stop, TaskManager, World, at,
    index, uid,
};
use super::{job, pod, promises, sights, task_manager};

/// One step of one of the parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    // What comes about by itself in the end: pods, kubelets, Flink and the time.
    Read(usize),
    Turn(usize),
    Start(usize),
    Stopped(usize),
    Restart(usize),
    Exit(usize),
    Kill(usize),
    Remove(usize),
    HoldReads,
    HoldTurns,
    Answer,
    Tick,
    // What may happen or not.
    Arrive,
    Tell(usize),
    Force(usize),
    Cut(usize),
    Heal(usize),
    NodeDies(usize),
    NodeDeleted(usize),
    Crash(usize),
    Checkpoint(usize),
    StopFails(usize),
    ApiAway,
    ApiBack,
    HoldTold,
}

/// A world with a budget, and a mistake or none.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    pub(crate) budget: Budget,
    pub(crate) bug: Option<Bug>,
}

/// The first pod runs the job, and its run is stored.
fn first(left: Budget) -> World {
    let mut entry = JobEntry::default();
    begin(&mut entry, None, job::run(1), 2);
    let map = Map::new(Content {
        lock: Lock::default(),
        entry: Arc::new(entry),
        generation: 1,
        asked: false,
        answered: false,
    });
    let mut world = World {
        now: 1,
        pods: vec![Pod::new(1, map.clone())],
        map,
        copy: None,
        files: Vec::new(),
        task_manager: if left.task_manager {
            TaskManager::Runs
        } else {
            TaskManager::Gone
        },
        api_away: false,
        committed: 0,
        runs: 1,
        excused: false,
        passed_on: 0,
        left,
        broken: None,
    };
    pod::turn(&mut world, 0, None);
    assert!(world.map.lock.holds(&uid(0)));
    world.pods[0].noted = true;
    world.pods[0].container = Container::Jvm(Jvm {
        run: 1,
        id: 0,
        position: 0,
        stop: Stop::Not,
        started: 1,
    });
    world
}

impl Model for Search {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![first(self.budget)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken.is_none() {
            fair(world, steps);
            free(world, steps);
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        self.take(&mut world, step);
        world.forget();
        let running = world.pods.iter().filter(|pod| pod.runs_job()).count();
        world.require(running <= 1 || world.excused, promises::ONE);
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! keeps {
            ($($promise:ident),*) => {
                vec![$(Property::always(promises::$promise, |_, world: &World| {
                    world.broken != Some(promises::$promise)
                })),*]
            };
        }
        let mut properties = keeps![
            ONE,
            ALIVE,
            TWICE,
            OWN,
            PASSED_ON,
            NEVER,
            NOT_REFUSED,
            SAME,
            HELD,
            LINGERS
        ];
        properties.push(Property::always(
            promises::PROGRESS,
            |search: &Search, world: &World| {
                world.broken.is_some() || !search.is_quiet(world) || is_well(world)
            },
        ));
        properties.push(Property::always(
            promises::ROLLS_OUT,
            |search: &Search, world: &World| {
                world.broken.is_some() || !is_passed_over(world) || !search.is_quiet(world)
            },
        ));
        properties.extend(sights::ALL.iter().map(|(name, seen)| Property {
            expectation: Expectation::Sometimes,
            name,
            condition: *seen,
        }));
        properties
    }
}

fn fair(world: &World, steps: &mut Vec<Step>) {
    for (index, pod) in world.pods.iter().enumerate() {
        if !pod.ended() || pod.object && !pod.node_dead {
            if world.reaches(index) && pod.read != world.map {
                steps.push(Step::Read(index));
            }
            steps.push(Step::Turn(index));
        }
        let told = pod.heard;
        match &pod.container {
            Container::Waiting if told => steps.push(Step::Exit(index)),
            Container::Prepared(..) => {
                steps.push(Step::Start(index));
                if told {
                    steps.push(Step::Exit(index));
                }
            }
            Container::Jvm(Jvm {
                stop: Stop::Asked, ..
            }) if !world.left.task_manager || world.task_manager != TaskManager::Gone => {
                steps.push(Step::Stopped(index));
            }
            Container::Jvm(Jvm {
                stop: Stop::Recorded,
                ..
            }) => steps.push(Step::Exit(index)),
            Container::Restarting => steps.push(Step::Restart(index)),
            _ => {}
        }
        if told && !pod.ended() && pod.gone_by.is_some_and(|at| world.now >= at) {
            steps.push(Step::Kill(index));
        }
        let there = pod.object || pod.silent_since.is_none();
        if told && pod.ended() && there && !pod.cut && !pod.node_dead {
            steps.push(Step::Remove(index));
        }
    }
    if let TaskManager::Holds(hold) = &world.task_manager {
        if hold.read != world.map && !world.api_away {
            steps.push(Step::HoldReads);
        }
        steps.push(Step::HoldTurns);
        if task_manager::can_answer(world) {
            steps.push(Step::Answer);
        }
    }
    if matters(world) > world.now {
        steps.push(Step::Tick);
    }
}

/// The last point in time that can change anything.
fn matters(world: &World) -> u8 {
    let break_after = world.left.break_after.unwrap_or(0);
    let of_pod = |pod: &Pod| {
        let killed = pod.gone_by.map(|at| at + break_after);
        let silent = pod.silent_since.map(|at| at + SILENT_FOR);
        killed.max(silent).unwrap_or(0)
    };
    let of_hold = match &world.task_manager {
        TaskManager::Holds(hold) => hold.told_at + GRACE,
        _ => 0,
    };
    let pods = world.pods.iter().map(of_pod).max();
    pods.unwrap_or(0).max(of_hold)
}

fn free(world: &World, steps: &mut Vec<Step>) {
    let left = &world.left;
    for (index, pod) in world.pods.iter().enumerate() {
        let mut may = |budget: u8, such: bool, step: Step| {
            if budget > 0 && such {
                steps.push(step);
            }
        };
        may(
            left.tells,
            pod.object && pod.gone_by.is_none(),
            Step::Tell(index),
        );
        may(left.forces, pod.object, Step::Force(index));
        may(left.cuts, !pod.cut && !pod.ended(), Step::Cut(index));
        may(1, pod.cut && !pod.node_dead, Step::Heal(index));
        may(
            left.node_deaths,
            !pod.node_dead && !pod.ended(),
            Step::NodeDies(index),
        );
        may(
            left.node_deletes,
            pod.node_dead && !pod.node_deleted,
            Step::NodeDeleted(index),
        );
        may(
            left.crashes,
            matches!(
                pod.container,
                Container::Jvm(_) | Container::Waiting | Container::Prepared(..)
            ),
            Step::Crash(index),
        );
        if let Container::Jvm(jvm) = &pod.container {
            may(
                left.checkpoints,
                jvm.stop == Stop::Not,
                Step::Checkpoint(index),
            );
            may(
                left.stop_failures,
                jvm.stop == Stop::Asked,
                Step::StopFails(index),
            );
        }
    }
    if !left.arrivals.is_empty() && !world.api_away {
        steps.push(Step::Arrive);
    }
    if world.api_away {
        steps.push(Step::ApiBack);
    } else if left.outages > 0 {
        steps.push(Step::ApiAway);
    }
    if left.task_manager_tells > 0 && world.task_manager == TaskManager::Runs {
        steps.push(Step::HoldTold);
    }
}

impl Search {
    fn take(&self, world: &mut World, step: Step) {
        match step {
            Step::Read(pod) => world.pods[pod].read = world.map.clone(),
            Step::Turn(pod) => pod::turn(world, pod, self.bug),
            Step::Start(pod) => job::start(world, pod),
            Step::Stopped(pod) => snapshot(world, pod, PointKind::Stop),
            Step::Restart(pod) => world.pods[pod].container = Container::Waiting,
            // In a pod that stays the launcher waits for the next turn.
            Step::Exit(pod) if !world.pods[pod].heard => {
                world.pods[pod].container = Container::Waiting;
            }
            Step::Exit(pod) | Step::Kill(pod) => world.pods[pod].end(),
            Step::Remove(pod) => {
                let now = world.now;
                let pod = &mut world.pods[pod];
                pod.object = false;
                pod.silent_since = pod.silent_since.or(Some(now));
            }
            Step::HoldReads => {
                if let TaskManager::Holds(hold) = &mut world.task_manager {
                    hold.read = world.map.clone();
                }
            }
            Step::HoldTurns => task_manager::turn(world, self.bug),
            Step::Answer => world.map.change(|map| map.answered = true),
            Step::Tick => world.now += 1,
            step => happen(world, step),
        }
    }

    /// Nothing comes about by itself any more.
    fn is_quiet(&self, world: &World) -> bool {
        let mut steps = Vec::new();
        fair(world, &mut steps);
        steps
            .into_iter()
            .all(|step| self.next_state(world, step).is_none())
    }
}

/// Some pod runs the job; or none can, or only a person can say whether a holder is dead.
fn is_well(world: &World) -> bool {
    let runs = world.pods.iter().any(Pod::runs_job);
    let could = world.pods.iter().any(Pod::stays);
    runs || !could
        || world.api_away
        || world.map.lock.holders.iter().any(|holder| {
            let pod = &world.pods[index(&holder.pod.uid)];
            let told = if world.left.rights {
                pod.gone_by.is_some()
            } else {
                holder.deadline.is_some_and(|by| by >= at(0))
            };
            let visible = world.left.rights && (!pod.object || pod.reported || pod.node_deleted);
            !visible && pod.silent_since.is_some() && (!told || world.left.break_after.is_none())
        })
}

/// A pod that has not run the job waits for one of another template, which can see it.
fn is_passed_over(world: &World) -> bool {
    let runs = world.pods.iter().position(|pod| pod.runs_job() && !pod.cut);
    let Some(runs) = runs.filter(|_| world.left.rights && !world.api_away) else {
        return false;
    };
    world.map.lock.waiters.iter().any(|waiter| {
        let pod = &world.pods[index(&waiter.pod.uid)];
        !waiter.handed_over && pod.stays() && pod.template != world.pods[runs].template
    })
}
