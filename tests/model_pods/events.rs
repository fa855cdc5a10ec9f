//! What may happen to pods, nodes, jobs and the API server.

use drey::domain::pointer::PointKind;

use super::steps::Step;
use super::task_manager;
use super::world::{Container, File, GRACE, Pod, Stop, World};

/// What is counted, because it need not happen.
pub(crate) fn happen(world: &mut World, step: Step) {
    let now = world.now;
    let left = &mut world.left;
    match step {
        Step::Arrive => {
            let template = left.arrivals[0];
            left.arrivals = &left.arrivals[1..];
            let read = world.map.clone();
            world.pods.push(Pod::new(template, read));
        }
        Step::Tell(pod) => {
            left.tells -= 1;
            let pod = &mut world.pods[pod];
            pod.gone_by = Some(now + GRACE);
            pod.heard = !pod.cut && !pod.node_dead;
        }
        Step::Force(pod) => {
            left.forces -= 1;
            let pod = &mut world.pods[pod];
            (pod.object, pod.gone_by) = (false, Some(now));
            pod.heard |= !pod.cut && !pod.node_dead;
            if pod.ended() {
                pod.silent_since = pod.silent_since.or(Some(now));
            }
        }
        Step::Crash(pod) => {
            left.crashes -= 1;
            let pod = &mut world.pods[pod];
            if pod.heard {
                pod.end();
            } else {
                pod.container = Container::Restarting;
            }
        }
        Step::Checkpoint(pod) => {
            left.checkpoints -= 1;
            snapshot(world, pod, PointKind::Checkpoint);
        }
        Step::StopFails(pod) => {
            left.stop_failures -= 1;
            if let Container::Jvm(jvm) = &mut world.pods[pod].container {
                jvm.stop = Stop::Not;
            }
        }
        Step::HoldTold => {
            left.task_manager_tells -= 1;
            task_manager::told(world);
        }
        step => fail(world, step),
    }
}

/// Nodes and the API server.
fn fail(world: &mut World, step: Step) {
    let now = world.now;
    let left = &mut world.left;
    match step {
        Step::Cut(pod) => {
            left.cuts -= 1;
            let pod = &mut world.pods[pod];
            pod.cut = true;
            pod.silent_since = pod.silent_since.or(Some(now));
        }
        Step::Heal(pod) => {
            let pod = &mut world.pods[pod];
            pod.cut = false;
            pod.heard |= pod.gone_by.is_some();
            pod.reported = pod.ended();
            if !pod.ended() {
                pod.silent_since = None;
            }
        }
        Step::NodeDies(pod) => {
            left.node_deaths -= 1;
            let pod = &mut world.pods[pod];
            pod.node_dead = true;
            pod.container = Container::Ended;
            pod.silent_since = pod.silent_since.or(Some(now));
        }
        Step::NodeDeleted(pod) => {
            left.node_deletes -= 1;
            world.pods[pod].node_deleted = true;
        }
        Step::ApiAway => {
            left.outages -= 1;
            world.api_away = true;
        }
        _ => world.api_away = false,
    }
}

/// A checkpoint completes, or a stop's savepoint and with it the job.
pub(crate) fn snapshot(world: &mut World, pod: usize, kind: PointKind) {
    let Container::Jvm(jvm) = &mut world.pods[pod].container else {
        return;
    };
    (jvm.id, jvm.position) = (jvm.id + 1, jvm.position + 1);
    if kind == PointKind::Stop {
        jvm.stop = Stop::Done;
    }
    world.committed = world.committed.max(jvm.position);
    world.files.push(File {
        run: jvm.run,
        id: jvm.id,
        kind,
        position: jvm.position,
    });
}
