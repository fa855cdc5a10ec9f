//! Everything that can happen next, in any order.

use std::sync::Arc;

use drey::domain::supervise::{Action, Process};
use stateright::{Expectation, Model, Property};

use super::acts::{Luck, act, writes};
use super::bugs::Bug;
use super::supervisor::{look, turn};
use super::world::{Budget, Flink, GRACE, JobState, Launcher, Progress, Supervisor, Want, World};
use super::{flink, launcher, promises, sights};

/// One step of one of the parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    // The supervisor.
    Look,
    Turn,
    Act(Luck),
    SupervisorDies,
    SupervisorStarts,
    HearsOfTerm,
    Ask(Want),
    // The launcher and its owner.
    Prepare {
        forgotten: bool,
    },
    Start,
    LauncherDies,
    Term,
    NewOwner,
    /// A person sets the pointer to the oldest restore point in the history, or clears it.
    Choose {
        empty: bool,
    },
    // Flink.
    Deployed,
    Checkpoint {
        damaged: bool,
    },
    Write {
        index: usize,
        damaged: bool,
    },
    Fail {
        index: usize,
    },
    Stop {
        index: usize,
        well: bool,
    },
    FailOver,
    Recover,
    End(JobState),
    FlinkDies,
    FlinkEnds,
    // The rest of the world.
    Tick,
    StorageAway,
    StorageBack,
}

/// A world with a budget, and a mistake or none.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    pub(crate) budget: Budget,
    pub(crate) bug: Option<Bug>,
    /// The supervisor hears of a failover before the JobManager dies. Where it does not, a plain savepoint that the job
    /// has gone back behind may be taken for the newest restore point.
    pub(crate) notices_failover: bool,
}

impl Model for Search {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.budget)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken.is_some() {
            return;
        }
        supervisor_steps(world, steps);
        launcher_steps(world, self.bug, steps);
        if let Some(flink) = &world.flink {
            flink_steps(world, flink, steps);
            job_steps(world, flink, steps);
        }
        other_steps(world, steps);
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        self.take(&mut world, step);
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! keeps {
            ($($promise:ident),*) => {
                vec![$(Property::always(promises::$promise, |_, world: &World| {
                    world.broken != Some(promises::$promise)
                })),*]
            };
        }
        let mut properties = keeps![
            LOST,
            TWICE,
            ONE_STOP,
            NO_WORSE,
            NOT_EARLY,
            NOT_FRESH,
            NO_NEEDLESS_REFUSAL,
            AS_CHOSEN,
            STAYS_ENDED,
            SETTLES
        ];
        properties.extend(sights::ALL.iter().map(|(name, seen)| Property {
            expectation: Expectation::Sometimes,
            name,
            condition: *seen,
        }));
        properties
    }
}

fn supervisor_steps(world: &World, steps: &mut Vec<Step>) {
    let Some(supervisor) = &world.supervisor else {
        steps.push(Step::SupervisorStarts);
        return;
    };
    if world.left.supervisor_crashes > 0 {
        steps.push(Step::SupervisorDies);
    }
    if let Some(action) = &supervisor.acting {
        steps.push(Step::Act(Luck::Well));
        if writes(action) && world.left.failed_writes > 0 {
            steps.push(Step::Act(Luck::WriteFails));
        }
        if matches!(**action, Action::Send) && world.left.lost_posts > 0 {
            steps.push(Step::Act(Luck::PostLost));
        }
        return;
    }
    steps.extend([Step::Look, Step::Turn]);
    if world.left.choices > 0 && !world.entry.history.is_empty() {
        steps.extend([Step::Choose { empty: false }, Step::Choose { empty: true }]);
    }
    if world.term.is_some() && !matches!(supervisor.want, Some((Want::End, _))) {
        steps.push(Step::HearsOfTerm);
    }
    if supervisor.want.is_none() && world.flink.is_some() {
        if world.left.manual > 0 {
            steps.push(Step::Ask(Want::Savepoint));
        }
        if world.left.manual_stops > 0 {
            steps.push(Step::Ask(Want::Stop));
        }
    }
}

fn launcher_steps(world: &World, bug: Option<Bug>, steps: &mut Vec<Step>) {
    match world.launcher {
        Launcher::Down => {
            let ready = world
                .supervisor
                .as_ref()
                .is_some_and(|supervisor| supervisor.acting.is_none());
            if ready && world.left.starts > 0 {
                steps.push(Step::Prepare { forgotten: false });
                if bug == Some(Bug::StartsBeforeStoring) {
                    steps.push(Step::Prepare { forgotten: true });
                }
            }
        }
        Launcher::Prepared(_) => {
            steps.push(Step::Start);
            if world.left.flink_crashes > 0 {
                steps.push(Step::LauncherDies);
            }
        }
        Launcher::Up => {
            if world.left.terms > 0 && world.term.is_none() {
                steps.push(Step::Term);
            }
        }
        Launcher::Resigned => {}
    }
    if world.left.owners > 0 && world.entry.ended.is_some() && world.flink.is_none() {
        steps.push(Step::NewOwner);
    }
}

fn flink_steps(world: &World, flink: &Flink, steps: &mut Vec<Step>) {
    let killed = world.term.is_some_and(|since| world.now > since + GRACE);
    if flink.ending || killed {
        steps.push(Step::FlinkEnds);
    } else if world.left.flink_crashes > 0 {
        steps.push(Step::FlinkDies);
    }
    for (index, operation) in flink.operations.iter().enumerate() {
        match operation.progress {
            Progress::Triggered => {
                steps.push(Step::Write {
                    index,
                    damaged: false,
                });
                if world.left.damages > 0 {
                    steps.push(Step::Write {
                        index,
                        damaged: true,
                    });
                }
                if world.left.failures > 0 {
                    steps.push(Step::Fail { index });
                }
            }
            Progress::Written(_) => {
                steps.push(Step::Stop { index, well: true });
                if world.left.failures > 0 {
                    steps.push(Step::Stop { index, well: false });
                }
            }
            Progress::Completed(_) | Progress::Failed(..) => {}
        }
    }
}

fn job_steps(world: &World, flink: &Flink, steps: &mut Vec<Step>) {
    match flink.job {
        JobState::Deploying => steps.push(Step::Deployed),
        JobState::Restarting => steps.push(Step::Recover),
        JobState::Running if !flink.stop_written() => {
            if world.left.checkpoints > 0 && !flink.stopping() {
                steps.push(Step::Checkpoint { damaged: false });
                if world.left.damages > 0 {
                    steps.push(Step::Checkpoint { damaged: true });
                }
            }
            // A job without any checkpoint goes back to where it started: nothing tells Drey of it.
            if world.left.failovers > 0 && flink.latest.is_some() {
                steps.push(Step::FailOver);
            }
            if world.left.ends > 0 {
                let ends = [JobState::Finished, JobState::Canceled, JobState::Failed];
                steps.extend(ends.map(Step::End));
            }
        }
        _ => {}
    }
}

fn other_steps(world: &World, steps: &mut Vec<Step>) {
    let wanted = world
        .supervisor
        .as_ref()
        .is_some_and(|supervisor| supervisor.want.is_some());
    if world.left.ticks > 0 && (world.term.is_some() || wanted) {
        steps.push(Step::Tick);
    }
    if world.storage_away {
        steps.push(Step::StorageBack);
    } else if world.left.outages > 0 {
        steps.push(Step::StorageAway);
    }
}

impl Search {
    fn take(&self, world: &mut World, step: Step) {
        match step {
            Step::Look => look(world),
            Step::Turn => turn(world, self.bug),
            Step::Act(luck) => {
                match luck {
                    Luck::Well => {}
                    Luck::WriteFails => world.left.failed_writes -= 1,
                    Luck::PostLost => world.left.lost_posts -= 1,
                }
                act(world, self.bug, luck);
            }
            Step::SupervisorDies => {
                world.left.supervisor_crashes -= 1;
                world.supervisor = None;
            }
            Step::SupervisorStarts => {
                let process = if world.flink.is_some() {
                    Process::Running
                } else {
                    Process::Gone
                };
                world.supervisor = Some(Supervisor::new(process));
            }
            Step::HearsOfTerm => want(world, Want::End, world.term.unwrap_or_default()),
            Step::Ask(what) => {
                match what {
                    Want::Stop => world.left.manual_stops -= 1,
                    _ => world.left.manual -= 1,
                }
                want(world, what, world.now);
            }
            step => self.take_outside(world, step),
        }
    }

    fn take_outside(&self, world: &mut World, step: Step) {
        match step {
            Step::Prepare { forgotten } => {
                launcher::prepare(world, self.bug, forgotten);
                world.left.starts -= u8::from(world.launcher != Launcher::Down);
            }
            Step::Start => launcher::start(world),
            Step::LauncherDies => {
                world.left.flink_crashes -= 1;
                world.launcher = Launcher::Down;
            }
            Step::Term => {
                world.left.terms -= 1;
                world.term = Some(world.now);
            }
            Step::NewOwner => {
                world.left.owners -= 1;
                world.owner += 1;
                world.launcher = Launcher::Down;
            }
            Step::Choose { empty } => {
                world.left.choices -= 1;
                launcher::choose(world, empty);
            }
            Step::Tick => {
                world.left.ticks -= 1;
                world.now += 1;
            }
            Step::StorageAway => {
                world.left.outages -= 1;
                world.storage_away = true;
            }
            Step::StorageBack => world.storage_away = false,
            step => self.take_in_flink(world, step),
        }
    }

    fn take_in_flink(&self, world: &mut World, step: Step) {
        match step {
            Step::Deployed => {
                if let Some(flink) = &mut world.flink {
                    flink.job = JobState::Running;
                }
            }
            Step::Checkpoint { damaged } => {
                world.left.checkpoints -= 1;
                world.left.damages -= u8::from(damaged);
                flink::checkpoint(world, damaged);
            }
            Step::Write { index, damaged } => {
                world.left.damages -= u8::from(damaged);
                flink::write(world, index, damaged);
            }
            Step::Fail { index } => {
                world.left.failures -= 1;
                flink::fail(world, index);
            }
            Step::Stop { index, well } => {
                world.left.failures -= u8::from(!well);
                flink::stop(world, index, well);
            }
            Step::FailOver => {
                world.left.failovers -= 1;
                flink::fail_over(world);
            }
            Step::Recover => {
                flink::recover(world);
                let seen = world
                    .flink
                    .as_ref()
                    .and_then(|flink| Some((flink.run, flink.restored?)));
                if let Some((run, (id, when))) = seen.filter(|_| self.notices_failover) {
                    world.restored = Some((run, id, when));
                }
            }
            Step::End(how) => {
                world.left.ends -= 1;
                flink::end(world, how);
            }
            Step::FlinkDies => {
                world.left.flink_crashes -= 1;
                gone(world);
            }
            _ => gone(world),
        }
    }
}

fn want(world: &mut World, what: Want, since: u8) {
    if let Some(supervisor) = &mut world.supervisor {
        supervisor.want = Some((what, since));
        supervisor.evidence = Arc::default();
        supervisor.settled = false;
        supervisor.late_turns = 0;
    }
}

/// The JobManager is gone.
fn gone(world: &mut World) {
    world.flink = None;
    world.term = None;
    world.launcher = Launcher::Down;
}
