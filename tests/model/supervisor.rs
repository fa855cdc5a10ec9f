//! The supervisor around the real `decide`: what it sees, and what it does about each action.
//!
//! It is what the adapters do, reduced to their effects: one effect for each step, so that it can die between any two.

use std::sync::Arc;
use std::time::Duration;

use drey::domain::budget::{Backoff, after};
use drey::domain::job::{JobStatus, JobView};
use drey::domain::pointer::{Ended, Intent, JobEntry, PointKind, RestorePoint, TriggerReason};
use drey::domain::savepoint::{FailureCause, FailureClass, OperationStatus, SavepointKind};
use drey::domain::supervise::{
    Action, Ask, Evidence, NewPoint, Observation, Outcome, Policy, Process, Sighting, Verdict,
    Verified, decide,
};
use jiff::Timestamp;

use super::bugs::Bug;
use super::launcher::run;
use super::promises;
use super::world::{
    Flink, GRACE, Operation, Progress, Supervisor, Want, World, at, run_id, trigger_id,
};

const TICK: Duration = Duration::from_secs(1);

/// Turns that a shutdown may need after its deadline: search, record, settle and a failed write in between.
const LATE_TURNS: u8 = 8;

/// A history so short that it forgets.
const KEEP: usize = 2;

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

/// How acting turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Luck {
    Well,
    /// The pointer cannot be written.
    WriteFails,
    /// The request never reaches Flink.
    PostLost,
}

/// Whether `action` writes the pointer.
pub(crate) fn writes(action: &Action) -> bool {
    matches!(
        action,
        Action::StoreIntent(_) | Action::Record(_) | Action::Abandon(_) | Action::RecordEnded(_)
    )
}

/// Does what was decided.
pub(crate) fn act(world: &mut World, bug: Option<Bug>, luck: Luck) {
    let Some(mut supervisor) = world.supervisor.take() else {
        return;
    };
    if let Some(action) = supervisor.acting.take() {
        if luck == Luck::WriteFails {
            supervisor.unwritable = true;
        } else {
            perform(world, &mut supervisor, *action, (bug, luck));
        }
    }
    world.supervisor = Some(supervisor);
}

fn perform(
    world: &mut World,
    supervisor: &mut Supervisor,
    action: Action,
    (bug, luck): (Option<Bug>, Luck),
) {
    match action {
        Action::Wait(..) => {}
        Action::StoreIntent(intent) => store_intent(world, supervisor, intent, bug),
        Action::Send => send(world, bug, luck),
        Action::Verify(path) => {
            let verdict = verdict(world, &path, bug);
            let again = after(world.time(), TICK);
            Arc::make_mut(&mut supervisor.evidence).verdict = Some((path, verdict, again));
        }
        Action::Record(new) => record(world, supervisor, &new),
        Action::Abandon(cause) => abandon(world, supervisor, cause),
        Action::SearchIntent => {
            let found = late(world, bug);
            Arc::make_mut(&mut supervisor.evidence).late = Some(found);
        }
        Action::SearchFallback => {
            let found = fallback(world);
            Arc::make_mut(&mut supervisor.evidence).fallback = Some(found);
        }
        Action::RecordEnded(status) => {
            let owner = world
                .entry
                .run
                .as_ref()
                .map(|run| run.owner.clone())
                .unwrap_or_default();
            let at = world.time();
            Arc::make_mut(&mut world.entry).ended = Some(Ended { status, at, owner });
            world.ended_of = (status != JobStatus::Failed).then_some(world.owner);
        }
        Action::Settle(outcome) => settle(world, supervisor, &outcome, bug),
    }
}

fn store_intent(world: &mut World, supervisor: &mut Supervisor, intent: Intent, bug: Option<Bug>) {
    let send = intent.location.is_none();
    let trigger = intent.trigger.as_bytes()[0];
    let sent = |flink: &Flink| {
        flink
            .operations
            .iter()
            .any(|known| known.trigger == trigger)
    };
    if bug == Some(Bug::SendsBeforeStoring) && send && !world.flink.as_ref().is_none_or(sent) {
        super::flink::receive(world, &intent);
        supervisor.acting = Some(Box::new(Action::StoreIntent(intent)));
        return;
    }
    Arc::make_mut(&mut world.entry).intent = Some(intent);
    Arc::make_mut(&mut supervisor.evidence).late = None;
    if send {
        supervisor.acting = Some(Box::new(Action::Send));
    }
}

fn send(world: &mut World, bug: Option<Bug>, luck: Luck) {
    let Some(mut intent) = world.entry.intent.clone() else {
        return;
    };
    if bug == Some(Bug::NewTriggerOnResume) {
        world.triggers += 1;
        intent.trigger = trigger_id(world.triggers);
    }
    if luck == Luck::Well {
        super::flink::receive(world, &intent);
    }
}

fn verdict(world: &World, path: &str, bug: Option<Bug>) -> Verdict {
    match (bug, world.file(path)) {
        (Some(Bug::RecordsUnverified), Some(file)) => Verdict::Good(file.verified()),
        _ => world.verdict(path),
    }
}

fn record(world: &mut World, supervisor: &mut Supervisor, new: &NewPoint) {
    let intent = world.entry.intent.clone().filter(|_| new.close_intent);
    let before = world.entry.newest().map_or(i64::MIN, RestorePoint::rank);
    let point = RestorePoint {
        path: new.path.clone(),
        kind: new.kind,
        checkpoint_id: new.verified.as_ref().map(|verified| verified.checkpoint_id),
        job_id: None,
        lineage: world.entry.lineage,
        run: world.entry.run.as_ref().map(|run| run.id.clone()),
        reason: TriggerReason::Manual,
        started: intent.map(|intent| intent.stored),
        completed: world.time(),
        size: None,
        flink_version: None,
        superseded: false,
    };
    let good = world.file(&new.path).is_some_and(|file| !file.damaged) && new.verified.is_some();
    let entry: &mut JobEntry = Arc::make_mut(&mut world.entry);
    if new.close_intent {
        entry.intent = None;
    }
    entry.record(point, KEEP);
    let no_lower = entry.newest().map_or(i64::MIN, RestorePoint::rank) >= before;
    world.point_made = true;
    world.require(good && no_lower, promises::NO_WORSE);
    let evidence = Arc::make_mut(&mut supervisor.evidence);
    *evidence = Evidence {
        fallback: evidence.fallback.take(),
        failure: evidence.failure.take().filter(|_| !new.close_intent),
        ..Evidence::default()
    };
}

fn abandon(world: &mut World, supervisor: &mut Supervisor, cause: FailureCause) {
    Arc::make_mut(&mut world.entry).intent = None;
    let attempts = supervisor
        .evidence
        .failure
        .as_ref()
        .map_or(0, |(_, attempts, _)| *attempts);
    let failure = Some((cause, attempts + 1, world.time()));
    supervisor.evidence = Arc::new(Evidence {
        failure,
        ..Evidence::default()
    });
    supervisor.view = None;
}

/// The savepoint in the open intent's directory.
pub(crate) fn late(world: &World, bug: Option<Bug>) -> Sighting<String> {
    if world.storage_away {
        return Sighting::Unreachable;
    }
    let directory = world
        .entry
        .intent
        .as_ref()
        .and_then(|intent| intent.directory.clone());
    let Some(directory) = directory.filter(|_| bug != Some(Bug::NeverLooksForLate)) else {
        return Sighting::Absent;
    };
    let mut paths = world.files.iter().map(super::world::File::path);
    let found = paths.find(|path| path.starts_with(&format!("{directory}/")));
    found.map_or(Sighting::Absent, Sighting::Seen)
}

/// The newest retained checkpoint of the run that can be read back.
fn fallback(world: &World) -> Sighting<Verified> {
    if world.storage_away {
        return Sighting::Unreachable;
    }
    let ours = world.files.iter().filter(|file| {
        file.kind == PointKind::Checkpoint && file.run == world.runs && !file.damaged
    });
    ours.max_by_key(|file| file.id)
        .map_or(Sighting::Absent, |file| Sighting::Seen(file.verified()))
}

fn settle(world: &mut World, supervisor: &mut Supervisor, outcome: &Outcome, bug: Option<Bug>) {
    match supervisor.want {
        Some((Want::Savepoint | Want::Stop, _)) => {
            supervisor.want = None;
            supervisor.evidence = Arc::default();
            return;
        }
        Some((Want::End, _)) if bug == Some(Bug::ForgetsIntentAtDeadline) => {
            Arc::make_mut(&mut world.entry).intent = None;
        }
        _ => {}
    }
    let asked = supervisor.want.is_some();
    supervisor.settled =
        asked || supervisor.process == Process::Gone || !matches!(outcome, Outcome::Nothing(_));
    if supervisor.settled
        && let Some(flink) = &mut world.flink
    {
        flink.ending = true;
    }
}
