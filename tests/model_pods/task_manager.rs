//! The TaskManager's launcher around the real `decide_hold`.

use std::time::Duration;

use drey::domain::hold::{HoldAction, HoldView, MapSight, decide_hold};
use drey::domain::lock::{Lock, PodState};

use super::bugs::Bug;
use super::promises;
use super::world::{Container, GRACE, Hold, Jvm, Stop, TaskManager, World, at, index, uid};

pub(crate) fn told(world: &mut World) {
    let runs = (0..world.pods.len()).filter(|pod| world.pods[*pod].runs_job());
    world.task_manager = TaskManager::Holds(Hold {
        told_at: world.now,
        ran: runs.collect(),
        requested: false,
        read: world.map.clone(),
    });
}

pub(crate) fn turn(world: &mut World, bug: Option<Bug>) {
    let TaskManager::Holds(mut hold) = world.task_manager.clone() else {
        return;
    };
    match decide(world, &hold, bug) {
        HoldAction::Request if world.api_away => {}
        HoldAction::Request => {
            world.map.change(|map| map.asked = true);
            hold.requested = true;
            hold.read = world.map.clone();
            world.task_manager = TaskManager::Holds(hold);
        }
        HoldAction::Wait(..) => {
            let fresh = hold.read == world.map && !world.api_away;
            let next = (0..world.pods.len()).any(|pod| {
                let later = |jvm: &Jvm| jvm.started > hold.told_at && jvm.stop == Stop::Not;
                matches!(&world.pods[pod].container, Container::Jvm(jvm) if later(jvm))
                    && world.map.lock.holds(&uid(pod))
            });
            world.require(!(fresh && next), promises::LINGERS);
        }
        HoldAction::Go(_) => {
            // Once it is let go it goes, also when its JobManager is told to go right after that.
            let kept = !hold.read.answered;
            let time = world.now < hold.told_at + GRACE && !world.api_away;
            let needed = world.map.lock.holders.iter().any(|holder| {
                let pod = index(&holder.pod.uid);
                let stopping = |jvm: &Jvm| jvm.stop == Stop::Asked;
                hold.ran.contains(&pod)
                    && world.pods[pod].object
                    && matches!(&world.pods[pod].container, Container::Jvm(jvm) if stopping(jvm))
            });
            world.require(world.excused || !(kept && time && needed), promises::HELD);
            world.task_manager = TaskManager::Gone;
            // What pods do without it is another scenario's.
            world.forget_times();
            world.spend();
        }
    }
}

fn decide(world: &World, hold: &Hold, bug: Option<Bug>) -> HoldAction {
    if bug == Some(Bug::TaskManagerRuns) {
        return HoldAction::Go(String::new());
    }
    let mut lock: Lock = hold.read.lock.clone();
    let mut pods = world.states();
    if bug == Some(Bug::TaskManagerLingers) {
        lock.holders
            .iter_mut()
            .for_each(|holder| holder.since = at(0));
        pods.clear();
    }
    if world.api_away {
        pods.values_mut()
            .for_each(|state| *state = PodState::Unknown { silent_since: None });
    }
    decide_hold(&HoldView {
        now: at(world.now),
        told_at: at(hold.told_at),
        deadline: at(hold.told_at + GRACE),
        blind_for: Duration::from_secs(5),
        map: if world.api_away {
            MapSight::Unreachable {
                since: at(hold.told_at),
            }
        } else {
            MapSight::Seen {
                answered: hold.read.answered,
                holders: &lock.holders,
            }
        },
        pods: &pods,
        requested: hold.requested,
    })
}

/// The TaskManager goes alone: the supervisor takes a checkpoint and lets it go.
pub(crate) fn can_answer(world: &World) -> bool {
    let waits = matches!(&world.task_manager, TaskManager::Holds(hold) if hold.requested);
    let runs = |pod: usize| {
        matches!(&world.pods[pod].container, Container::Jvm(jvm) if jvm.stop == Stop::Not)
            && !world.pods[pod].heard
            && world.reaches(pod)
            && world.pods[pod].read.lock.holds(&uid(pod))
    };
    waits && world.map.asked && !world.map.answered && (0..world.pods.len()).any(runs)
}
