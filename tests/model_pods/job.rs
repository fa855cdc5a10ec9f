//! The start and the stop of a job, around the real `plan_restore` and `begin`.

use drey::domain::job::JobId;
use drey::domain::lock::{hand_over, leave, told_to_go};
use drey::domain::pointer::{Intent, JobEntry, PointKind, RestorePoint, Run, TriggerReason};
use drey::domain::restore::{Found, RestorePlan, StartView, Strategy, UNREAD, begin, plan_restore};
use drey::domain::savepoint::{SavepointKind, TriggerId};
use drey::domain::supervise::{Sighting, Verdict, Verified};
use jiff::Timestamp;

use super::bugs::Bug;
use super::pod::{entry, write};
use super::promises;
use super::world::{Container, File, Jvm, Stop, TaskManager, World, at, run_id};

const KEEP: usize = 2;

/// With the stop, and once more when the pod that has the lock then fails: no story crashes more often than once.
const PASSES: u8 = 2;

/// Plans the next start and stores its run.
pub(crate) fn prepare(world: &mut World, pod: usize, bug: Option<Bug>) {
    let (_, known) = entry(world, pod);
    let choice = match plan(world, &known) {
        RestorePlan::From(choice, _) => Some(choice),
        RestorePlan::Fresh(_) => None,
        _ => {
            world.require(world.excused, promises::NOT_REFUSED);
            return;
        }
    };
    let path = choice.as_ref().map(|choice| choice.path.clone());
    let mut new = (*known).clone();
    begin(&mut new, choice.as_ref(), run(world.runs + 1), KEEP);
    let forgotten = bug == Some(Bug::StartsWithoutStoring)
        || bug == Some(Bug::ForgetsCopy) && !world.reaches(pod);
    let lock = world.pods[pod].read.lock.clone();
    if forgotten || write(world, pod, new, lock, bug) {
        world.runs += 1;
        world.pods[pod].container = Container::Prepared(world.runs, path);
    }
}

pub(crate) fn run(number: u8) -> Run {
    Run {
        id: run_id(number),
        job_id: None,
        parent: None,
        checkpoint_dir: None,
        savepoint_dir: None,
        stored: Timestamp::UNIX_EPOCH,
        owner: String::new(),
        flink_version: String::new(),
    }
}

fn plan(world: &World, entry: &JobEntry) -> RestorePlan {
    let last = entry.run.as_ref().map(|run| run.id.clone());
    let found: Vec<Found> = world
        .files
        .iter()
        .filter(|file| Some(run_id(file.run)) == last)
        .filter(|file| file.kind == PointKind::Checkpoint || entry.intent.is_some())
        .map(|file| Found {
            path: file.path(),
            kind: file.kind,
            checkpoint_id: match file.kind {
                PointKind::Stop => UNREAD,
                _ => i64::from(file.id),
            },
        })
        .collect();
    let verdict = |file: &File| {
        let verified = Verified {
            path: file.path(),
            checkpoint_id: i64::from(file.id),
            size: 1,
        };
        (file.path(), Verdict::Good(verified))
    };
    let verdicts: Vec<_> = world.files.iter().map(verdict).collect();
    plan_restore(&StartView {
        entry,
        strategy: Strategy::LatestState,
        owner: "",
        found: Sighting::Seen(&found),
        completed: None,
        configured: None,
        verdicts: &verdicts,
        allow_unverified: false,
    })
}

/// The JobManager starts from what was prepared.
pub(crate) fn start(world: &mut World, pod: usize) {
    let Container::Prepared(run, path) = world.pods[pod].container.clone() else {
        return;
    };
    let file = path.and_then(|path| world.file(&path).cloned());
    let (id, position) = file.map_or((0, 0), |file| (file.id, file.position));
    world.require(
        world.excused || position >= world.committed,
        promises::TWICE,
    );
    world.passed_on = 0;
    world.pods[pod].container = Container::Jvm(Jvm {
        run,
        id,
        position,
        stop: Stop::Not,
        started: if world.tells_times() { world.now } else { 0 },
    });
}

/// Stores the intent, and by when the pod will be gone; then sends the request.
pub(crate) fn ask(world: &mut World, pod: usize, jvm: &Jvm, bug: Option<Bug>) {
    let (_, known) = entry(world, pod);
    let mut new = (*known).clone();
    if new.run.as_ref().map(|run| &run.id) == Some(&run_id(jvm.run)) {
        new.intent = Some(Intent {
            trigger: TriggerId::from_bytes([jvm.run; 16]),
            flink_trigger: None,
            kind: SavepointKind::Stop { drain: false },
            format: None,
            reason: TriggerReason::Shutdown,
            job_id: JobId::from_bytes([jvm.run; 16]),
            directory: None,
            stored: at(0),
            deadline: at(0),
            location: None,
        });
    }
    let mut lock = world.pods[pod].read.lock.clone();
    if let Some(gone_by) = world.pods[pod].gone_by {
        let told = told_to_go(&lock, &world.pod_ref(pod).uid, at(gone_by));
        lock = told.unwrap_or(lock);
    }
    if write(world, pod, new, lock, bug)
        && let Container::Jvm(jvm) = &mut world.pods[pod].container
    {
        jvm.stop = Stop::Asked;
    }
}

/// Records the savepoint and gives the lock up in one write; the pod's own note goes before it.
pub(crate) fn record(world: &mut World, pod: usize, jvm: &Jvm, bug: Option<Bug>) {
    let (_, known) = entry(world, pod);
    let told = world.pods[pod].heard;
    let online = world.reaches(pod);
    if !online && !told && known.intent.is_none() {
        return;
    }
    let mut new = (*known).clone();
    let own = new.run.as_ref().map(|run| &run.id) == Some(&run_id(jvm.run));
    if own && bug != Some(Bug::ReleasesWithoutPoint) {
        new.record(point(world, jvm, &new), KEEP);
    }
    if own {
        new.intent = None;
    }
    if bug != Some(Bug::KeepsNote) {
        world.pods[pod].noted = false;
    }
    let me = world.pod_ref(pod);
    let read = world.pods[pod].read.lock.clone();
    let lock = if told {
        leave(&read, &me.uid)
    } else {
        hand_over(&read, &me, at(world.now))
    };
    if write(world, pod, new, lock, bug) {
        if online && world.map.asked && world.task_manager != TaskManager::Gone {
            world.map.change(|map| map.answered = true);
        }
        if !told && online {
            pass_on(world);
        }
        if (told || online)
            && let Container::Jvm(jvm) = &mut world.pods[pod].container
        {
            jvm.stop = Stop::Recorded;
        }
    }
}

/// The lock is handed over: to the pod that waits, and back to this one only after a failure.
pub(crate) fn pass_on(world: &mut World) {
    world.passed_on += 1;
    world.require(world.passed_on <= PASSES, promises::PASSED_ON);
}

/// The job's end is recorded although its pod has given the lock up.
pub(crate) fn record_again(world: &mut World, pod: usize, jvm: &Jvm, bug: Option<Bug>) {
    let (_, known) = entry(world, pod);
    let Some(last) = known.run.as_ref().map(|run| run.id.clone()) else {
        return;
    };
    let recorded =
        |point: &RestorePoint| point.kind == PointKind::Stop && point.run.as_ref() == Some(&last);
    if known.newest().is_some_and(recorded) {
        return;
    }
    let mut new = (*known).clone();
    let made = point(world, jvm, &new);
    let own = made.run.as_ref() == Some(&last);
    new.record(
        RestorePoint {
            run: Some(last),
            ..made
        },
        KEEP,
    );
    let lock = world.pods[pod].read.lock.clone();
    if write(world, pod, new, lock, bug) {
        world.require(own, promises::OWN);
    }
}

fn point(world: &World, jvm: &Jvm, entry: &JobEntry) -> RestorePoint {
    let file = world
        .files
        .iter()
        .find(|file| file.run == jvm.run && file.kind == PointKind::Stop);
    RestorePoint {
        path: file.map(File::path).unwrap_or_default(),
        kind: PointKind::Stop,
        checkpoint_id: Some(i64::from(jvm.id)),
        job_id: None,
        lineage: entry.lineage,
        run: Some(run_id(jvm.run)),
        reason: TriggerReason::Shutdown,
        started: None,
        completed: Timestamp::UNIX_EPOCH,
        size: None,
        flink_version: None,
        superseded: false,
        claimed: false,
    }
}
