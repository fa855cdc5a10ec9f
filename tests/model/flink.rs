//! What Flink does by itself and what it makes of requests, as far as restore points are concerned (1.15 and later).
//!
//! - A completed checkpoint and a stop's savepoint commit the sinks; a plain savepoint does not, nor does it serve recovery.
//! - `/stop` aborts plain savepoints that are under way. A second `/stop` with another id kills both and restarts the job.
//! - The same trigger id is idempotent, and forgotten when the JobManager dies.
//! - A stop may fail before its savepoint is written: the job runs on; or after: the job is FAILED, and the path is in
//!   the cause.
//! - Whatever fails inside a run, it goes on from its newest completed checkpoint. What its sinks had prepared after that
//!   is aborted, also what a plain savepoint counts on.

use drey::domain::pointer::{Intent, PointKind};
use drey::domain::savepoint::{FailureClass, SavepointKind};

use super::promises;
use super::world::{File, Flink, JobState, Operation, Progress, World, job_id};

impl Flink {
    pub(crate) fn new(run: u8, from: Option<(u8, u8)>, now: u8) -> Self {
        Self {
            run,
            job: JobState::Deploying,
            position: from.map_or(0, |(_, position)| position),
            next_id: from.map_or(1, |(id, _)| id + 1),
            latest: from,
            restored: from.map(|(id, _)| (id, now)),
            operations: Vec::new(),
            abandoned: false,
            ending: false,
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.operations
            .iter()
            .any(|operation| operation.stop && operation.in_flight())
    }

    pub(crate) fn stop_written(&self) -> bool {
        self.operations
            .iter()
            .any(|operation| matches!(operation.progress, Progress::Written(_)))
    }

    fn fail_in_flight(&mut self, class: FailureClass, which: impl Fn(&Operation) -> bool) {
        for operation in &mut self.operations {
            if operation.in_flight() && which(operation) {
                operation.progress = Progress::Failed(class, None);
            }
        }
    }
}

/// The request of `intent` arrives.
pub(crate) fn receive(world: &mut World, intent: &Intent) {
    let stop = matches!(intent.kind, SavepointKind::Stop { .. });
    let trigger = intent.trigger.as_bytes()[0];
    let Some(flink) = &mut world.flink else {
        return;
    };
    if flink
        .operations
        .iter()
        .any(|operation| operation.trigger == trigger)
    {
        return;
    }
    let refused = if intent.job_id != job_id(flink.run) || flink.job.is_over() {
        Some(FailureClass::JobGone)
    } else if flink.job != JobState::Running {
        Some(FailureClass::NotAllTasksRunning)
    } else {
        None
    };
    let second = stop && refused.is_none() && flink.stopping();
    let progress = match refused {
        Some(class) => Progress::Failed(class, None),
        None => Progress::Triggered,
    };
    if stop && refused.is_none() {
        flink.fail_in_flight(FailureClass::AnotherInProgress, |operation| !operation.stop);
    }
    flink.operations.push(Operation {
        trigger,
        stop,
        progress,
    });
    if second {
        flink.fail_in_flight(FailureClass::AnotherInProgress, |_| true);
        flink.job = JobState::Restarting;
    }
    world.require(!second, promises::ONE_STOP);
}

/// Writes a snapshot of the job as it is now; its path.
fn snapshot(world: &mut World, kind: PointKind, trigger: u8, damaged: bool) -> String {
    let flink = world
        .flink
        .as_mut()
        .expect("only a JobManager that is alive takes snapshots");
    flink.position += 1;
    let file = File {
        run: flink.run,
        id: flink.next_id,
        kind,
        trigger,
        position: flink.position,
        damaged,
        aborted: false,
    };
    flink.next_id += 1;
    let path = file.path();
    if kind != PointKind::Savepoint {
        flink.latest = Some((file.id, file.position));
        if !flink.abandoned {
            world.committed = world.committed.max(file.position);
            world.point_made = true;
        }
    }
    world.files.push(file);
    path
}

pub(crate) fn checkpoint(world: &mut World, damaged: bool) {
    snapshot(world, PointKind::Checkpoint, 0, damaged);
}

/// The savepoint of operation `index` is written.
pub(crate) fn write(world: &mut World, index: usize, damaged: bool) {
    let Some(flink) = &world.flink else { return };
    let (stop, trigger) = (
        flink.operations[index].stop,
        flink.operations[index].trigger,
    );
    let kind = if stop {
        PointKind::Stop
    } else {
        PointKind::Savepoint
    };
    let path = snapshot(world, kind, trigger, damaged);
    if let Some(flink) = &mut world.flink {
        let progress = if stop {
            Progress::Written(path)
        } else {
            Progress::Completed(path)
        };
        flink.operations[index].progress = progress;
    }
}

/// The savepoint of operation `index` fails; the job runs on.
pub(crate) fn fail(world: &mut World, index: usize) {
    if let Some(flink) = &mut world.flink {
        flink.operations[index].progress = Progress::Failed(FailureClass::CheckpointFailure, None);
    }
}

/// The stop `index` comes to its end: FINISHED, or FAILED although its savepoint is written.
pub(crate) fn stop(world: &mut World, index: usize, well: bool) {
    let Some(flink) = &mut world.flink else {
        return;
    };
    let Progress::Written(path) = flink.operations[index].progress.clone() else {
        return;
    };
    (flink.job, flink.operations[index].progress) = if well {
        (JobState::Finished, Progress::Completed(path))
    } else {
        (
            JobState::Failed,
            Progress::Failed(FailureClass::StoppedAfterSavepoint, Some(path)),
        )
    };
}

/// A task fails: the job goes back to its newest completed checkpoint.
pub(crate) fn fail_over(world: &mut World) {
    let Some(flink) = &mut world.flink else {
        return;
    };
    flink.fail_in_flight(FailureClass::CheckpointFailure, |_| true);
    flink.job = JobState::Restarting;
}

/// The job runs again. What comes after that is later than what came before it.
pub(crate) fn recover(world: &mut World) {
    let now = world.now;
    world.now += 1;
    let Some(flink) = &mut world.flink else {
        return;
    };
    flink.job = JobState::Running;
    flink.position = flink.latest.map_or(0, |(_, position)| position);
    flink.restored = flink.latest.map(|(id, _)| (id, now));
    let (run, id) = (flink.run, flink.latest.map_or(0, |(id, _)| id));
    for file in &mut world.files {
        file.aborted |= file.run == run && file.kind == PointKind::Savepoint && file.id > id;
    }
}

/// The job comes to its end by itself or by a person's hand.
pub(crate) fn end(world: &mut World, how: JobState) {
    if let Some(flink) = &mut world.flink {
        flink.fail_in_flight(FailureClass::JobGone, |_| true);
        flink.job = how;
    }
}
