//! What a search must have come across, or else its promises were kept by doing nothing.

use drey::domain::pointer::PointKind;

use super::steps::Search;
use super::world::{TaskManager, World, uid};

pub(crate) const HANDED_OVER: &str = "a pod of another template runs the job, the old one waits";
pub(crate) const TAKEN_BACK: &str = "a pod that has handed over runs the job again";
pub(crate) const AFTER_STOP: &str = "another pod resumes from a stop that was recorded";
pub(crate) const AFTER_CHECKPOINT: &str = "another pod resumes from a checkpoint";
pub(crate) const ALONE: &str = "a pod starts with the API server away";
pub(crate) const BROKEN: &str = "the lock of a silent holder was broken";
pub(crate) const OVER_PARTITION: &str = "the lock was broken over a partition";
pub(crate) const LET_GO: &str = "the TaskManager goes after the stop is recorded";

type Seen = fn(&Search, &World) -> bool;

pub(crate) const ALL: [(&str, Seen); 8] = [
    (HANDED_OVER, |_, world| {
        let waits = |pod: usize| {
            let waiter = world.map.lock.waiter(&uid(pod));
            waiter.is_some_and(|waiter| waiter.handed_over)
        };
        waits(0) && running(world).is_some_and(|pod| pod > 0)
    }),
    (TAKEN_BACK, |_, world| {
        world.runs > 2 && running(world) == Some(0) && world.pods.len() > 1
    }),
    (AFTER_STOP, |_, world| resumed(world, PointKind::Stop)),
    (AFTER_CHECKPOINT, |_, world| {
        resumed(world, PointKind::Checkpoint)
    }),
    (ALONE, |_, world| {
        world.copy.is_some() && running(world).is_some_and(|pod| !world.reaches(pod))
    }),
    (BROKEN, |_, world| {
        let lost = |pod: usize| world.pods[pod].object && !world.pods[pod].reported;
        world.pods[0].node_dead && lost(0) && running(world).is_some_and(|pod| pod > 0)
    }),
    (OVER_PARTITION, |_, world| world.excused),
    (LET_GO, |_, world| {
        world.task_manager == TaskManager::Gone && world.map.answered
    }),
];

fn running(world: &World) -> Option<usize> {
    world.pods.iter().position(super::world::Pod::runs_job)
}

fn resumed(world: &World, kind: PointKind) -> bool {
    let newest = world.map.entry.newest();
    running(world).is_some_and(|pod| pod > 0) && newest.is_some_and(|point| point.kind == kind)
}
