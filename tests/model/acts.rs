//! What the supervisor does about each action: one effect for each step.

use std::sync::Arc;

use drey::domain::budget::after;
use drey::domain::job::JobStatus;
use drey::domain::pointer::{Ended, Intent, JobEntry, PointKind, RestorePoint, TriggerReason};
use drey::domain::savepoint::FailureCause;
use drey::domain::supervise::{
    Action, Evidence, NewPoint, Outcome, Process, Sighting, Verdict, Verified,
};

use super::bugs::Bug;
use super::promises;
use super::supervisor::TICK;
use super::world::{File, Flink, Supervisor, Want, World, trigger_id};

/// A history so short that it forgets.
const KEEP: usize = 2;

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
        claimed: false,
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
    let mut paths = world.files.iter().map(File::path);
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
