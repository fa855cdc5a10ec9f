//! What a search must have come across, or else its promises were kept by doing nothing.

use drey::domain::pointer::{PointKind, RestorePoint};

use super::steps::Search;
use super::world::{JobState, Launcher, World};

pub(crate) const FROM_STOP: &str = "a run resumes from a stop that was recorded";
pub(crate) const FROM_LATE_STOP: &str =
    "a run resumes from a stop that completed after its deadline";
pub(crate) const FROM_CHECKPOINT: &str = "a run resumes from a checkpoint that nobody recorded";
pub(crate) const FALLBACK: &str = "a shutdown records a checkpoint instead of its savepoint";
pub(crate) const SUPERSEDED: &str = "a plain savepoint counts no longer";
pub(crate) const REFUSED: &str = "a start is refused because of a damaged file";
pub(crate) const OVER: &str = "a job that has ended is not started again";
pub(crate) const NEXT_BATCH: &str = "another owner starts a finished job from empty state";

type Seen = fn(&Search, &World) -> bool;

pub(crate) const ALL: [(&str, Seen); 8] = [
    (FROM_STOP, |_, world| {
        resumed(world, |point| {
            point.kind == PointKind::Stop && point.started.is_some()
        })
    }),
    (FROM_LATE_STOP, |_, world| {
        resumed(world, |point| {
            point.kind == PointKind::Stop && point.started.is_none()
        })
    }),
    (FROM_CHECKPOINT, |_, world| {
        resumed(world, |point| point.kind == PointKind::Checkpoint)
    }),
    (FALLBACK, |_, world| {
        let newest = world.entry.newest();
        world.term.is_some()
            && newest
                .is_some_and(|point| point.kind == PointKind::Checkpoint && point.started.is_none())
    }),
    (SUPERSEDED, |_, world| {
        world.entry.history.iter().any(|point| point.superseded)
    }),
    (REFUSED, |_, world| {
        world.launcher == Launcher::Resigned
            && world.entry.ended.is_none()
            && world.files.iter().any(|file| file.damaged)
    }),
    (OVER, |_, world| {
        world.launcher == Launcher::Resigned && world.entry.ended.is_some()
    }),
    (NEXT_BATCH, |_, world| {
        world.owner > 0 && running(world) && world.entry.lineage > 0
    }),
];

fn running(world: &World) -> bool {
    world
        .flink
        .as_ref()
        .is_some_and(|flink| flink.run > 1 && flink.job == JobState::Running)
}

/// The run goes on from the newest restore point, and that one is such.
fn resumed(world: &World, such: impl Fn(&RestorePoint) -> bool) -> bool {
    running(world) && world.entry.newest().is_some_and(such)
}
