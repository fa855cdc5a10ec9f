//! The launcher around the real `plan_restore` and `begin`: plan, store the run, start the JobManager.

use std::sync::Arc;

use drey::domain::job::JobStatus;
use drey::domain::pointer::{JobEntry, PointKind, RestorePoint, Run};
use drey::domain::restore::{
    Choice, Found, RestorePlan, StartView, Strategy, UNREAD, begin, person_chose, plan_restore,
};
use drey::domain::savepoint::SavepointKind;
use drey::domain::supervise::{Process, Sighting, Verdict};

use super::acts::late;
use super::bugs::Bug;
use super::promises;
use super::world::{Flink, Launcher, Supervisor, World, at, job_id, run_id};

const KEEP: usize = 2;

/// Plans the next start and stores its run. `forgotten`: the start goes on, but storing the run came too late.
pub(crate) fn prepare(world: &mut World, bug: Option<Bug>, forgotten: bool) {
    notice(world);
    let (choice, why_not) = match plan(world, bug) {
        RestorePlan::From(choice, _) => (Some(choice), None),
        RestorePlan::Fresh(_) => (None, None),
        RestorePlan::Refuse(_) if bug == Some(Bug::FreshOnMissing) => (None, None),
        RestorePlan::Refuse(_) => (None, Some(Launcher::Resigned)),
        RestorePlan::Ended(_) => {
            world.launcher = Launcher::Resigned;
            return;
        }
        RestorePlan::Retry(_) | RestorePlan::Verify(_) => return,
    };
    if let Some(resigned) = why_not {
        let damaged = world.files.iter().any(|file| file.damaged);
        world.require(damaged, promises::NO_NEEDLESS_REFUSAL);
        world.launcher = resigned;
        return;
    }
    store(world, choice.as_ref(), forgotten);
}

fn store(world: &mut World, choice: Option<&Choice>, forgotten: bool) {
    world.require(world.ended_of != Some(world.owner), promises::STAYS_ENDED);
    let finished = world
        .entry
        .ended
        .as_ref()
        .is_some_and(|ended| ended.status == JobStatus::Finished);
    if choice.is_none() && finished {
        // A new owner starts the next batch.
        (world.committed, world.point_made) = (0, false);
    }
    world.require(choice.is_some() || !world.point_made, promises::NOT_FRESH);
    if let Some(chosen) = world.chosen.take() {
        let path = choice.map(|choice| choice.path.clone());
        world.require(path == chosen, promises::AS_CHOSEN);
    }
    (world.ended_of, world.runs) = (None, world.runs + 1);
    let run = run(world.runs, world);
    if !forgotten {
        begin(Arc::make_mut(&mut world.entry), choice, run, KEEP);
    }
    world.launcher = Launcher::Prepared(choice.map(|choice| choice.path.clone()));
    world.supervisor = Some(Supervisor::new(Process::Gone));
}

/// What the supervisor has noticed of failovers: a plain savepoint from before one does not count.
fn notice(world: &mut World) {
    let Some((run, id, when)) = world.restored else {
        return;
    };
    if world
        .entry
        .run
        .as_ref()
        .is_some_and(|known| known.id == run_id(run))
    {
        Arc::make_mut(&mut world.entry).supersede_above(i64::from(id), at(when));
    }
}

pub(crate) fn run(number: u8, world: &World) -> Run {
    Run {
        id: run_id(number),
        job_id: Some(job_id(number)),
        parent: None,
        checkpoint_dir: None,
        savepoint_dir: None,
        stored: world.time(),
        owner: world.owner.to_string(),
        flink_version: String::new(),
    }
}

fn plan(world: &World, bug: Option<Bug>) -> RestorePlan {
    let entry = distorted(&world.entry, bug);
    let found = found(world, bug);
    let found = match &found {
        Sighting::Seen(found) => Sighting::Seen(found.as_slice()),
        Sighting::Absent => Sighting::Absent,
        Sighting::Unreachable => Sighting::Unreachable,
    };
    let run = entry.run.as_ref().map(|run| run.id.clone());
    let completed = world
        .seen_completed
        .filter(|(of, _)| Some(run_id(*of)) == run);
    let mut verdicts: Vec<(String, Verdict)> = Vec::new();
    loop {
        let plan = plan_restore(&StartView {
            entry: &entry,
            strategy: Strategy::LatestState,
            owner: &world.owner.to_string(),
            found: found.clone(),
            completed: completed
                .map(|(_, id)| i64::from(id))
                .filter(|_| bug != Some(Bug::TakesThePointersPath)),
            configured: None,
            verdicts: &verdicts,
            allow_unverified: false,
        });
        match plan {
            RestorePlan::Verify(path) => {
                let verdict = world.verdict(&path);
                verdicts.push((path, verdict));
            }
            plan => return plan,
        }
    }
}

fn distorted(entry: &JobEntry, bug: Option<Bug>) -> JobEntry {
    let mut entry = entry.clone();
    match bug {
        Some(Bug::ForgetsSuperseding) => entry
            .history
            .iter_mut()
            .for_each(|point| point.superseded = false),
        Some(Bug::ResurrectsFinished) => entry.ended = None,
        _ => {}
    }
    entry
}

/// The checkpoints of the last run, and the savepoint of a stop whose end nobody has seen.
fn found(world: &World, bug: Option<Bug>) -> Sighting<Vec<Found>> {
    if bug == Some(Bug::TakesThePointersPath) {
        return Sighting::Absent;
    }
    if world.storage_away {
        return Sighting::Unreachable;
    }
    let run = world.entry.run.as_ref().map(|run| run.id.clone());
    let ours = |file: &&super::world::File| {
        file.kind == PointKind::Checkpoint && Some(run_id(file.run)) == run
    };
    let mut all: Vec<Found> = world
        .files
        .iter()
        .filter(ours)
        .map(|file| Found {
            path: file.path(),
            kind: file.kind,
            checkpoint_id: i64::from(file.id),
        })
        .collect();
    let intent = world.entry.intent.as_ref();
    if intent.is_some_and(|intent| matches!(intent.kind, SavepointKind::Stop { .. }))
        && let Sighting::Seen(path) = late(world, bug)
    {
        all.push(Found {
            path,
            kind: PointKind::Stop,
            checkpoint_id: UNREAD,
        });
    }
    Sighting::Seen(all)
}

/// A person sets the pointer, or clears it, whatever runs at the time.
pub(crate) fn choose(world: &mut World, empty: bool) {
    let now = world.time();
    let oldest = world.entry.history.last().map(|point| point.path.clone());
    let Some(file) = oldest.and_then(|path| world.file(&path).cloned()) else {
        return;
    };
    let entry = Arc::make_mut(&mut world.entry);
    if empty {
        entry.open_lineage();
        entry.cleared = true;
    } else {
        person_chose(entry, &file.path(), Some(&file.verified()), now);
    }
    let position = if empty { 0 } else { file.position };
    (world.committed, world.point_made) = (position, !empty);
    (world.ended_of, world.chosen) = (None, Some((!empty).then(|| file.path())));
    // To go back is what was asked for, also to what was taken back before.
    for known in &mut world.files {
        known.aborted &= known.path() != file.path();
    }
    if let Some(flink) = &mut world.flink {
        flink.abandoned = true;
    }
}

/// The JobManager starts from what was prepared.
pub(crate) fn start(world: &mut World) {
    let Launcher::Prepared(path) = world.launcher.clone() else {
        return;
    };
    // A person may have chosen something else in between: that is for the next start.
    let abandoned = world.chosen.is_some();
    let from = path.map(|path| resume(world, &path, abandoned));
    if from.is_none() && !abandoned {
        world.committed = 0;
    }
    world.flink = Some(Flink {
        abandoned,
        ..Flink::new(world.runs, from, world.now)
    });
    // What comes after the start is later than what it restored.
    world.now += 1;
    world.launcher = Launcher::Up;
    if let Some(supervisor) = &mut world.supervisor {
        supervisor.process = Process::Running;
    }
}

/// Id and position of the restore point at `path`, once it is known that nothing is lost or repeated with it.
fn resume(world: &mut World, path: &str, abandoned: bool) -> (u8, u8) {
    let chosen = world.file(path).cloned();
    let usable = chosen
        .as_ref()
        .is_some_and(|file| !file.damaged && !file.aborted);
    let (id, position) = chosen.map_or((0, 0), |file| (file.id, file.position));
    let recorded = world
        .entry
        .counting()
        .filter_map(|point: &RestorePoint| world.file(&point.path));
    let behind = recorded.map(|file| file.position).max() > Some(position);
    world.require(abandoned || (usable && !behind), promises::LOST);
    world.require(abandoned || position >= world.committed, promises::TWICE);
    for file in &mut world.files {
        file.aborted |= file.kind == PointKind::Savepoint && file.id > id;
    }
    (id, position)
}
