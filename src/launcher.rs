//! The launcher: runs the restore step before each start of Flink, starts it, holds SIGTERM back until the supervisor lets
//! go, and ends it.
//!
//! It is process 1 of the Flink container, or half of `drey run`. Either way it talks to the supervisor over its socket.
//! A supervisor that is away for a while is waited for; Flink runs on meanwhile.

mod again;
mod ahead;
mod alone;
mod command;
mod configuration;
mod contact;
mod follow;
mod handover;
mod hold;
mod image;
mod java;
mod mount;
mod properties;
mod start;
mod suspended;
mod task_manager;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::config::{Restart, Settings};
use crate::control::{self, Call, Prepare, Reply, Settled, SettledOutcome, StartOrder, Then};
use crate::domain::budget::Backoff;
use crate::domain::changes::Files;
use crate::domain::pointer::{RunId, TriggerReason};
use crate::domain::savepoint::TriggerId;
use crate::process::{Exit, Flink};
use crate::telemetry::one_line;

pub use alone::leave_behind;
pub(crate) use command::Starts;
pub use command::{Command, CommandError};
pub use configuration::{Configuration, LaunchError, apply};
pub use java::{become_java, is_stand_in};
pub use task_manager::TaskManager;

use again::Made;
use mount::Mount;

/// A JobManager ends within 5 s of SIGTERM whatever happens (`JvmShutdownSafeguard`); after this it is killed.
const KILL_AFTER: Duration = Duration::from_secs(10);

/// A preStop hook that was answered returns within this time.
const HOOK_RETURNS: Duration = Duration::from_secs(2);

/// What Flink's JobManager exits with when its application has failed (`ApplicationStatus.FAILED`, 1443 modulo 256).
const FAILED: i32 = 163;

/// The wait between starts of a Flink that dies again and again.
const RESTART: Backoff = Backoff {
    first: Duration::from_secs(1),
    most: Duration::from_secs(60),
};

/// A Flink that ran this long was not dying at once.
const SETTLED_IN: Duration = Duration::from_secs(60);

/// Starts Flink and ends it.
#[derive(Debug)]
pub struct Launcher {
    settings: Settings,
    command: Command,
    configuration: Configuration,
    mount: Mount,
    signals: mpsc::Receiver<&'static str>,
    /// Until when Flink may run after SIGTERM.
    deadline: Option<Instant>,
    /// Flink was ended without the supervisor's word.
    out_of_time: bool,
    /// What scripts made for the Flink that ran last.
    made: Option<Made>,
}

/// A Flink that runs.
struct Running {
    flink: Flink,
    prepare: Prepare,
    run: RunId,
    /// `None`: another launcher has started it.
    order: Option<StartOrder>,
    since: Instant,
}

/// What comes after a Flink.
enum Next {
    Exit(i32),
    Again,
}

impl Launcher {
    /// A launcher of `command`.
    ///
    /// # Errors
    /// When the command or Flink's configuration cannot be understood.
    pub fn new(
        settings: Settings,
        command: Command,
        signals: mpsc::Receiver<&'static str>,
    ) -> Result<Self, LaunchError> {
        let configuration = Configuration::find(&settings, &command)?;
        if settings.arguments_file.is_some() && !command.is_application() {
            return Err(LaunchError::NoApplication);
        }
        let mount = Mount::new(&configuration);
        Ok(Self {
            settings,
            command,
            configuration,
            mount,
            signals,
            deadline: None,
            out_of_time: false,
            made: None,
        })
    }

    /// Runs Flink until there is no reason to start it again; the exit code.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run(mut self) -> Result<i32, LaunchError> {
        let mut deaths = 0;
        loop {
            let running = match handover::adopt(&self.settings.state_dir) {
                Some(running) => running,
                None => match self.start().await? {
                    Ok(running) => running,
                    Err(code) => return Ok(code),
                },
            };
            let since = running.since;
            match self.supervise(running).await {
                Next::Exit(code) => return Ok(code),
                Next::Again => {}
            }
            deaths = if since.elapsed() > SETTLED_IN {
                0
            } else {
                deaths + 1
            };
            if deaths > 1 {
                let wait = RESTART.wait(deaths - 1);
                warn!(
                    deaths,
                    wait_s = wait.as_secs(),
                    "Flink died soon after its start: waiting before the next one"
                );
                tokio::select! {
                    () = sleep(wait) => {}
                    _ = self.signals.recv() => return Ok(1),
                }
            }
        }
    }

    /// Watches a Flink to its end.
    async fn supervise(&mut self, running: Running) -> Next {
        let mut ordered: Option<Vec<Settled>> = None;
        let mut then = Then::End;
        let mut kill_at: Option<Instant> = None;
        let exit = loop {
            let deadline = self.deadline;
            let mounted = self.mount.files.clone();
            let orders = orders(&self.settings.socket, &running, deadline, mounted);
            tokio::select! {
                biased;
                exit = running.flink.exited() => break exit,
                signal = self.signals.recv(), if deadline.is_none() => {
                    info!(signal, "Asked to end: Flink is held until its jobs have their savepoints");
                    self.deadline = Some(Instant::now() + self.settings.shutdown_timeout);
                }
                (settled, next) = orders, if ordered.is_none() => {
                    log_order(&settled);
                    ordered = Some(settled);
                    then = next;
                    self.made = self.made_of(&running);
                    running.flink.terminate();
                    kill_at = Some(kill_time(deadline));
                }
                // The supervisor is told by the next `orders`.
                () = self.mount.changed(), if ordered.is_none() && deadline.is_none() => {}
                () = at(deadline), if ordered.is_none() && deadline.is_some() => {
                    warn!("The time is up: Flink is ended without the supervisor's word");
                    ordered = Some(Vec::new());
                    self.out_of_time = true;
                    running.flink.terminate();
                    kill_at = Some(Instant::now() + KILL_AFTER);
                }
                () = at(kill_at), if kill_at.is_some() => {
                    warn!("Flink did not end after SIGTERM: killed");
                    running.flink.kill();
                    kill_at = None;
                }
            }
        };
        handover::forget(&self.settings.state_dir);
        let told = ordered.is_some() && !self.out_of_time;
        let (settled, again) = self.after_exit(exit, ordered).await;
        match then {
            Then::End if again && self.deadline.is_none() => return Next::Again,
            Then::Again if self.deadline.is_none() => return Next::Again,
            Then::EndAsFlink => {
                self.outlive_hook().await;
                return Next::Exit(exit.code().unwrap_or(1));
            }
            Then::Again | Then::End => {}
        }
        self.next(&running, exit, &settled, told)
    }

    /// With its first process a container takes a preStop hook along that is about to return, which the kubelet would
    /// report as a failure. SIGTERM tells that it has returned.
    async fn outlive_hook(&mut self) {
        if self.deadline.is_none() {
            let _ = tokio::time::timeout(HOOK_RETURNS, self.signals.recv()).await;
        }
    }

    /// Tells the supervisor that Flink has ended; what was reached for each job.
    async fn after_exit(&self, exit: Exit, ordered: Option<Vec<Settled>>) -> (Vec<Settled>, bool) {
        let call = Call::Exited { code: exit.code() };
        let away = Some(alone::patience(&self.settings));
        let reply = reach(&self.settings.socket, &call, away);
        let (settled, again) = match tokio::time::timeout(self.settings.start_timeout, reply).await
        {
            Ok(Some(Reply::Settled { settled, again })) => (settled, again),
            other => {
                warn!(answer = ?other.ok(), "The supervisor could not tell what is recorded");
                (Vec::new(), false)
            }
        };
        // What made Flink end is known better from before its end; but a stop may have completed during it.
        let known = ordered.unwrap_or_default().into_iter().map(|before| {
            let late = settled
                .iter()
                .find(|after| after.job == before.job && after.outcome == SettledOutcome::Recorded);
            late.cloned().unwrap_or(before)
        });
        let known: Vec<Settled> = known.collect();
        (if known.is_empty() { settled } else { known }, again)
    }

    fn next(&self, running: &Running, exit: Exit, settled: &[Settled], told: bool) -> Next {
        let code = exit.code().unwrap_or(1);
        let all = |wanted: &[SettledOutcome]| {
            !settled.is_empty() && settled.iter().all(|job| wanted.contains(&job.outcome))
        };
        if self.deadline.is_some() {
            // A session cluster without jobs has nothing to record.
            let nothing = told && settled.is_empty();
            let done = all(&[SettledOutcome::Recorded, SettledOutcome::Finished]);
            return Next::Exit(if done || nothing { 0 } else { code });
        }
        let interrupted = settled
            .iter()
            .any(|job| job.reason == Some(TriggerReason::Shutdown));
        let restart = self.settings.restart == Restart::OnFailure;
        if all(&[SettledOutcome::Finished]) {
            Next::Exit(0)
        } else if all(&[SettledOutcome::Recorded]) && !interrupted {
            // A person stopped it.
            Next::Exit(0)
        } else if running.order.is_none() && interrupted {
            info!("What the last drey had begun is done: Flink is started again");
            Next::Again
        } else if all(&[SettledOutcome::Recorded]) {
            // The preStop hook has told before SIGTERM did, which is on its way.
            Next::Exit(0)
        } else if restart {
            Next::Again
        } else if all(&[SettledOutcome::Failed]) {
            Next::Exit(FAILED)
        } else {
            Next::Exit(code)
        }
    }
}

/// By the trigger id these lines are joined with the supervisor's.
fn log_order(settled: &[Settled]) {
    for job in settled {
        let recorded = job.outcome == SettledOutcome::Recorded;
        let path = job.path.as_deref().filter(|_| recorded);
        let trigger_id = path.and_then(TriggerId::of_path).map(|id| id.to_string());
        info!(job = job.job, trigger_id, outcome = ?job.outcome, savepoint_path = job.path, "Flink is told to end");
    }
}

/// Waits for the order to end Flink; tells every supervisor that comes up what it has to know.
async fn orders(
    socket: &Path,
    running: &Running,
    deadline: Option<Instant>,
    mounted: Option<Arc<Files>>,
) -> (Vec<Settled>, Then) {
    let started = Call::Started {
        flink: running.prepare.clone(),
        run: running.run.clone(),
        pid: running.flink.identity().pid,
        adopted: running.order.is_none(),
    };
    loop {
        if let Reply::Failed { error, .. } = persistently(socket, &started).await {
            warn!(
                error,
                "The supervisor does not know what to do with this Flink"
            );
            sleep(Duration::from_secs(1)).await;
            continue;
        }
        if let Some(files) = &mounted {
            let files = Files::clone(files);
            if let Err(error) = control::call(socket, &Call::Mounted { files }).await {
                went_away(&error);
                continue;
            }
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let budget_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            if let Err(error) = control::call(socket, &Call::Shutdown { budget_ms }).await {
                // The next supervisor has to hear of Flink before it can stop its jobs.
                went_away(&error);
                continue;
            }
        }
        match control::call(socket, &Call::Order).await {
            Ok(Reply::Terminate { settled, then }) => return (settled, then),
            Ok(other) => warn!(answer = ?other, "Unexpected answer of the supervisor"),
            Err(error) => went_away(&error),
        }
    }
}

fn went_away(error: &io::Error) {
    warn!(
        error = one_line(error, 200),
        "The supervisor went away: Flink runs on"
    );
}

/// Makes a call to a supervisor that may still have to come up, or to come back.
async fn persistently(socket: &Path, call: &Call) -> Reply {
    loop {
        if let Some(reply) = reach(socket, call, None).await {
            return reply;
        }
    }
}

/// [`persistently`], unless nobody listens for longer than `patience`. An answer may take as long as it takes.
async fn reach(socket: &Path, call: &Call, patience: Option<Duration>) -> Option<Reply> {
    const RETRY: Backoff = Backoff {
        first: Duration::from_millis(20),
        most: Duration::from_secs(1),
    };
    let mut attempt = 0;
    let mut away_since = Instant::now();
    loop {
        let asked = Instant::now();
        match control::call(socket, call).await {
            Ok(reply) => return Some(reply),
            Err(error) => {
                if asked.elapsed() > RETRY.most {
                    // It was there, and went away before it had answered.
                    away_since = Instant::now();
                }
                if patience.is_some_and(|patience| away_since.elapsed() >= patience) {
                    return None;
                }
                attempt += 1;
                if attempt == 8 {
                    let error: &io::Error = &error;
                    warn!(socket = %socket.display(), error = one_line(error, 200), "Waiting for the supervisor");
                }
                sleep(RETRY.wait(attempt)).await;
            }
        }
    }
}

/// When a Flink that got SIGTERM now is killed: no later than the deadline, unless that has passed already.
fn kill_time(deadline: Option<Instant>) -> Instant {
    let now = Instant::now();
    let most = now + KILL_AFTER;
    deadline
        .filter(|deadline| *deadline > now)
        .map_or(most, |deadline| deadline.min(most))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
