//! The supervisor around the real `decide`: what it sees, and what it does about each action.
//!
//! It is what the adapters do, reduced to their effects: one effect for each step, so that it can die between any two.

use std::sync::Arc;
use std::time::Duration;

use drey::domain::budget::Backoff;
use drey::domain::job::JobView;
use drey::domain::pointer::{Intent, JobEntry, TriggerReason};
use drey::domain::savepoint::{FailureCause, FailureClass, OperationStatus, SavepointKind};
use drey::domain::supervise::{Action, Ask, Observation, Policy, Process, Sighting, decide};
use jiff::Timestamp;

use super::bugs::Bug;
use super::launcher::run;
use super::promises;
use super::world::{GRACE, Operation, Progress, Supervisor, Want, World, at, run_id, trigger_id};

pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Turns that a shutdown may need after its deadline: search, record, settle and a failed write in between.
const LATE_TURNS: u8 = 8;

pub(crate) fn policy() -> Policy {
    Policy {
        retry: Backoff {
            first: TICK,
            most: 2 * TICK,
        },
        reserve: TICK,
        restart_patience: TICK,
        idle: TICK,
        allow_unverified: false,
    }
}

/// A look at the job and the process, and at what was restored: a plain savepoint from before that counts no longer.
pub(crate) fn look(world: &mut World) {
    let seen = world
        .flink
        .as_ref()
        .map(|flink| (flink.run, flink.job, flink.restored, flink.latest));
    if let Some((run, _, restored, latest)) = seen
        && world
            .entry
            .run
            .as_ref()
            .is_some_and(|known| known.id == run_id(run))
    {
        if let Some((id, when)) = restored {
            Arc::make_mut(&mut world.entry).supersede_above(i64::from(id), at(when));
        }
        world.seen_completed = latest.map(|(id, _)| (run, id));
    }
    let Some(supervisor) = &mut world.supervisor else {
        return;
    };
    supervisor.view = seen.map(|(_, job, ..)| job);
    let process = if seen.is_some() {
        Process::Running
    } else {
        Process::Gone
    };
    if process != supervisor.process {
        supervisor.process = process;
        supervisor.settled = false;
        let evidence = Arc::make_mut(&mut supervisor.evidence);
        (evidence.late, evidence.fallback) = (None, None);
    }
}

/// Observes and decides.
pub(crate) fn turn(world: &mut World, bug: Option<Bug>) {
    let Some(mut supervisor) = world.supervisor.take() else {
        return;
    };
    let operation = operation(world, &supervisor, bug);
    if matches!(
        operation,
        Some(Sighting::Unreachable | Sighting::Seen(OperationStatus::Unknown))
    ) {
        supervisor.view = world.flink.as_ref().map(|flink| flink.job);
    }
    let ask = supervisor
        .want
        .map(|(want, since)| ask(world, want, since, bug));
    let seen = entry(world, bug);
    let action = distorted(
        decided(
            (world, &seen),
            &supervisor,
            operation.as_ref(),
            ask.as_ref(),
        ),
        bug,
    );
    supervisor.unwritable = false;
    judge(world, &mut supervisor, ask.as_ref(), &action);
    world.supervisor = Some(supervisor);
    if let Some(supervisor) = &mut world.supervisor
        && !matches!(action, Action::Wait(..))
    {
        if matches!(&action, Action::StoreIntent(intent) if intent.trigger == trigger_id(world.triggers + 1))
        {
            world.triggers += 1;
        }
        supervisor.acting = Some(Box::new(action));
    }
}

/// The pointer, as the supervisor understands it.
fn entry(world: &World, bug: Option<Bug>) -> Arc<JobEntry> {
    let mut entry = Arc::clone(&world.entry);
    if bug == Some(Bug::RecordsAbandonedRun)
        && let Some(flink) = &world.flink
        && entry.run.is_none()
    {
        Arc::make_mut(&mut entry).run = Some(run(flink.run, world));
    }
    entry
}

fn decided(
    (world, entry): (&World, &JobEntry),
    supervisor: &Supervisor,
    operation: Option<&Sighting<OperationStatus>>,
    ask: Option<&Ask>,
) -> Action {
    let run = world.flink.as_ref().map_or(0, |flink| flink.run);
    let view: Option<JobView> = supervisor.view.map(|job| job.view(run));
    decide(
        &policy(),
        &Observation {
            now: world.time(),
            ask,
            entry: if supervisor.unwritable {
                Sighting::Unreachable
            } else {
                Sighting::Seen(entry)
            },
            job: view.as_ref().map_or(Sighting::Unreachable, Sighting::Seen),
            process: supervisor.process,
            operation: operation.map(|operation| match operation {
                Sighting::Seen(status) => Sighting::Seen(status),
                Sighting::Absent => Sighting::Absent,
                Sighting::Unreachable => Sighting::Unreachable,
            }),
            stopped_outside: None,
            evidence: &supervisor.evidence,
            fresh: trigger_id(world.triggers + 1),
        },
    )
}

fn distorted(action: Action, bug: Option<Bug>) -> Action {
    match action {
        Action::StoreIntent(Intent {
            location: Some(_), ..
        }) if bug == Some(Bug::AbandonsUnreadableStop) => Action::Abandon(FailureCause {
            class: FailureClass::StorageUnwritable,
            root: String::new(),
            savepoint: None,
        }),
        action => action,
    }
}

/// What Flink says of the open intent.
fn operation(
    world: &World,
    supervisor: &Supervisor,
    bug: Option<Bug>,
) -> Option<Sighting<OperationStatus>> {
    let intent = world.entry.intent.as_ref()?;
    let Some(flink) = world
        .flink
        .as_ref()
        .filter(|_| supervisor.process == Process::Running)
    else {
        return Some(Sighting::Unreachable);
    };
    let trigger = intent.trigger.as_bytes()[0];
    let known = flink
        .operations
        .iter()
        .find(|operation| operation.trigger == trigger);
    Some(Sighting::Seen(
        known.map_or(OperationStatus::Unknown, |known| status(known, bug)),
    ))
}

fn status(operation: &Operation, bug: Option<Bug>) -> OperationStatus {
    match &operation.progress {
        Progress::Triggered | Progress::Written(_) => OperationStatus::InProgress,
        Progress::Completed(location) => OperationStatus::Completed {
            location: location.clone(),
        },
        Progress::Failed(class, path) => OperationStatus::Failed(FailureCause {
            class: *class,
            root: String::new(),
            savepoint: path
                .clone()
                .filter(|_| bug != Some(Bug::IgnoresPathInFailure)),
        }),
    }
}

fn ask(world: &World, want: Want, since: u8, bug: Option<Bug>) -> Ask {
    let deadline = if bug == Some(Bug::WaitsForEver) {
        Timestamp::MAX
    } else {
        at(since + GRACE)
    };
    let impatient = bug == Some(Bug::Impatient) && world.entry.intent.is_some();
    Ask {
        kind: match want {
            Want::Savepoint => SavepointKind::Savepoint,
            Want::End | Want::Stop => SavepointKind::Stop { drain: false },
        },
        reason: if want == Want::End {
            TriggerReason::Shutdown
        } else {
            TriggerReason::Manual
        },
        format: None,
        other_format: None,
        directory: Some(world.runs.to_string()),
        since: at(since),
        deadline: if impatient { at(since) } else { deadline },
        must_end: want == Want::End,
    }
}

/// Whether what was decided is in time: neither too late nor too early.
fn judge(world: &mut World, supervisor: &mut Supervisor, ask: Option<&Ask>, action: &Action) {
    let Some((Want::End, since)) = supervisor.want else {
        return;
    };
    let settles = matches!(action, Action::Settle(_));
    if world.now >= since + GRACE && !supervisor.settled {
        supervisor.late_turns = if settles {
            0
        } else {
            supervisor.late_turns + 1
        };
        let waits = matches!(
            action,
            Action::Wait(..) | Action::StoreIntent(Intent { location: None, .. }) | Action::Send
        );
        world.require(
            !waits && supervisor.late_turns <= LATE_TURNS,
            promises::SETTLES,
        );
    }
    let early = settles && world.now + 1 < since + GRACE;
    let stopping = world
        .flink
        .as_ref()
        .is_some_and(|flink| flink.stopping() && !flink.abandoned);
    // A failed write shows the pointer as unreachable for one turn, which settles nothing before the deadline.
    world.require(!(early && stopping && ask.is_some()), promises::NOT_EARLY);
}
