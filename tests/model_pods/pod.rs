//! A supervisor and its launcher around the real `acquire`, `successor` and `heir`.
//!
//! Each turn rests on the ConfigMap as the pod read it last, and makes at most one write, whose precondition is that read.

use std::collections::BTreeMap;
use std::sync::Arc;

use drey::domain::lock::{
    Lock, LockPolicy, LockStep, LockView, PodState, acquire, hand_over, heir, leave, successor,
};
use drey::domain::pointer::JobEntry;
use jiff::Timestamp;

use super::bugs::Bug;
use super::job::{ask, pass_on, prepare, record, record_again};
use super::promises;
use super::world::{
    Container, Content, Jvm, Map, SILENT_FOR, Stop, World, at, index, ticks, timeless,
};

pub(crate) fn policy(world: &World, bug: Option<Bug>) -> LockPolicy {
    let break_after = match bug {
        Some(Bug::IgnoresNever) => Some(1),
        _ => world.left.break_after,
    };
    LockPolicy {
        break_after: break_after.map(ticks),
        silent_for: ticks(SILENT_FOR),
        ..LockPolicy::default()
    }
}

/// What the pods look like, to who makes this mistake.
fn states(world: &World, bug: Option<Bug>) -> BTreeMap<String, PodState> {
    let long_ago = Some(Timestamp::MIN);
    let mut states = world.states();
    for state in states.values_mut() {
        match (bug, &mut *state) {
            (Some(Bug::BreaksWhenObjectGone), PodState::Deleted { silent_since }) => {
                *silent_since = long_ago;
            }
            (Some(Bug::BreaksWithoutSilence), PodState::Alive(life)) => {
                life.silent_since = long_ago;
            }
            (Some(Bug::RestartingIsEnded), PodState::Alive(life)) if life.restarting => {
                *state = PodState::JobManagerEnded;
            }
            (Some(Bug::SeesNobodyGo), PodState::JobManagerEnded | PodState::Deleted { .. }) => {
                *state = PodState::Unknown { silent_since: None };
            }
            _ => {}
        }
    }
    states
}

/// One turn of the pod's supervisor.
pub(crate) fn turn(world: &mut World, pod: usize, bug: Option<Bug>) {
    match world.pods[pod].container.clone() {
        Container::Waiting if world.reaches(pod) => wait(world, pod, bug),
        Container::Waiting => go_on_alone(world, pod, bug),
        Container::Jvm(jvm) => supervise(world, pod, &jvm, bug),
        Container::Restarting if world.reaches(pod) => {
            give_way(world, pod, bug);
        }
        Container::Ended if world.reaches(pod) && world.pods[pod].object => {
            let lock = leave(&world.pods[pod].read.lock, &world.pod_ref(pod).uid);
            write_lock(world, pod, lock, bug);
        }
        _ => {}
    }
}

fn with_view<T>(
    world: &World,
    pod: usize,
    bug: Option<Bug>,
    look: impl FnOnce(&LockPolicy, &LockView<'_>) -> T,
) -> T {
    let me = world.pod_ref(pod);
    let pods = states(world, bug);
    look(
        &policy(world, bug),
        &LockView {
            now: at(world.now),
            me: &me,
            handed_over: false,
            getting_ready: false,
            high_availability: false,
            wanted: None,
            lock: &world.pods[pod].read.lock,
            pods: &pods,
        },
    )
}

fn wait(world: &mut World, pod: usize, bug: Option<Bug>) {
    if world.pods[pod].heard {
        world.pods[pod].noted = false;
        let lock = leave(&world.pods[pod].read.lock, &world.pod_ref(pod).uid);
        write_lock(world, pod, lock, bug);
        return;
    }
    match distorted(world, pod, bug, with_view(world, pod, bug, acquire)) {
        LockStep::Held if bug == Some(Bug::GivesBackAtOnce) && give_way(world, pod, bug) => {}
        LockStep::Held => {
            world.pods[pod].noted = true;
            prepare(world, pod, bug);
        }
        LockStep::Take(lock) => take(world, pod, lock, bug),
        LockStep::Announce(lock) => {
            write_lock(world, pod, lock, bug);
        }
        LockStep::Wait { .. } => world.pods[pod].noted = false,
    }
}

fn distorted(world: &World, pod: usize, bug: Option<Bug>, step: LockStep) -> LockStep {
    let read = &world.pods[pod].read.lock;
    let me = world.pod_ref(pod);
    let handed_over = read.waiter(&me.uid).is_some_and(|own| own.handed_over);
    match (bug, step) {
        (Some(Bug::TakesSameTemplate), LockStep::Wait { .. })
            if read
                .holders
                .iter()
                .any(|holder| holder.pod.template == me.template) =>
        {
            let free = Lock {
                holders: Vec::new(),
                ..read.clone()
            };
            let pods = BTreeMap::new();
            acquire(
                &policy(world, bug),
                &LockView {
                    now: at(world.now),
                    me: &me,
                    handed_over: false,
                    getting_ready: false,
                    high_availability: false,
                    wanted: None,
                    lock: &free,
                    pods: &pods,
                },
            )
        }
        (Some(Bug::HandsOverForEver), LockStep::Take(_)) if handed_over => LockStep::Wait {
            until: None,
            watch: Vec::new(),
            why: String::new(),
        },
        (_, step) => step,
    }
}

/// Takes the lock, and looks whether those that held it are really gone.
fn take(world: &mut World, pod: usize, lock: Lock, bug: Option<Bug>) {
    let read = world.pods[pod].read.clone();
    if !write_lock(world, pod, lock, bug) {
        return;
    }
    let dropped: Vec<usize> = read
        .lock
        .holders
        .iter()
        .filter(|holder| !world.map.lock.holds(&holder.pod.uid))
        .map(|holder| index(&holder.pod.uid))
        .collect();
    for other in dropped {
        let held = world.pods[other].clone();
        let told = held.gone_by.is_some() && world.left.break_after.is_some();
        if !held.ended() {
            let excused = held.cut && (!held.object || told);
            if excused {
                // From here on two JobManagers may run: nothing more is added to that.
                world.excused = true;
                world.spend();
            }
            // How that one ends is worth to be seen.
            let seen = bug == Some(Bug::RestartingIsEnded);
            world.require(excused || seen, promises::ALIVE);
        }
        let only_silent = held.object && !held.reported && !held.node_deleted;
        world.require(
            !only_silent || world.left.break_after.is_some(),
            promises::NEVER,
        );
    }
}

/// The newest pointer that the pod knows of: the ConfigMap's, or the copy beside the savepoints.
pub(crate) fn entry(world: &World, pod: usize) -> (u8, Arc<JobEntry>) {
    let read = &world.pods[pod].read;
    match &world.copy {
        Some((generation, copy)) if *generation > read.generation => {
            (*generation, Arc::clone(copy))
        }
        _ => (read.generation, Arc::clone(&read.entry)),
    }
}

/// Writes entry and lock, or with the API server away the entry alone, beside the savepoints. After a conflict the pod has
/// read what there is.
pub(crate) fn write(
    world: &mut World,
    pod: usize,
    entry: JobEntry,
    lock: Lock,
    bug: Option<Bug>,
) -> bool {
    let generation = self::entry(world, pod).0 + 1;
    let entry = Arc::new(entry);
    if !world.reaches(pod) {
        world.copy = Some((generation, entry));
        return true;
    }
    let (asked, answered) = (world.map.asked, world.map.answered);
    let map = Content {
        lock,
        entry,
        generation,
        asked,
        answered,
    };
    put(world, pod, map, bug)
}

fn write_lock(world: &mut World, pod: usize, lock: Lock, bug: Option<Bug>) -> bool {
    let map = Content {
        lock,
        ..(*world.pods[pod].read).clone()
    };
    put(world, pod, map, bug)
}

fn put(world: &mut World, pod: usize, mut map: Content, bug: Option<Bug>) -> bool {
    let fresh = world.pods[pod].read == world.map;
    let blind = bug == Some(Bug::NoPrecondition);
    if fresh || blind {
        (map.asked, map.answered) = (world.map.asked, world.map.answered);
        map.lock
            .waiters
            .iter_mut()
            .for_each(|waiter| waiter.since = at(0));
        if !world.tells_times() {
            timeless(&mut map.lock);
        }
        world.map = Map::new(map);
    }
    world.pods[pod].read = world.map.clone();
    fresh || blind
}

/// With the API server away the holder goes on, as far as it knows by its own note.
fn go_on_alone(world: &mut World, pod: usize, bug: Option<Bug>) {
    if world.pods[pod].noted && !world.pods[pod].heard && !world.pods[pod].node_dead {
        prepare(world, pod, bug);
    }
}

fn supervise(world: &mut World, pod: usize, jvm: &Jvm, bug: Option<Bug>) {
    let told = world.pods[pod].heard;
    match jvm.stop {
        Stop::Not => {
            let next = with_view(world, pod, bug, |policy, view| {
                successor(policy, view).map(|waiter| waiter.pod.template.clone())
            });
            let looks = bug != Some(Bug::IgnoresWaiters);
            let next = next.filter(|_| looks && world.reaches(pod));
            if told || next.is_some() {
                let other = next != Some(world.pods[pod].template.to_string());
                world.require(told || other, promises::SAME);
                ask(world, pod, jvm, bug);
            }
        }
        Stop::Asked => {
            if bug == Some(Bug::ReleasesBeforeRecord) && world.reaches(pod) {
                let lock = leave(&world.pods[pod].read.lock, &world.pod_ref(pod).uid);
                write_lock(world, pod, lock, bug);
            }
        }
        Stop::Done => record(world, pod, jvm, bug),
        Stop::Recorded if bug == Some(Bug::RecordsAgain) => record_again(world, pod, jvm, bug),
        Stop::Recorded => {}
    }
}

/// The JobManager has failed: another template goes on, if one is there. Whether it does.
fn give_way(world: &mut World, pod: usize, bug: Option<Bug>) -> bool {
    let gives = with_view(world, pod, bug, |policy, view| heir(policy, view).is_some());
    if gives {
        world.pods[pod].noted = false;
        let me = world.pod_ref(pod);
        let lock = hand_over(&world.pods[pod].read.lock, &me, at(world.now));
        if write_lock(world, pod, lock, bug) {
            pass_on(world);
        }
    }
    gives
}
