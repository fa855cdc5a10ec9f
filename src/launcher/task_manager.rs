//! The launcher of a TaskManager: starts it, and holds SIGTERM back for as long as its JobManager may need it for a
//! savepoint. There is no supervisor beside it. Until somebody tells it to go it only watches who runs its JobManager.

use std::collections::BTreeMap;
use std::process;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::KILL_AFTER;
use super::again::{Made, Own};
use super::command::{Command, is_task_manager_class};
use super::configuration::{Configuration, LaunchError};
use super::contact::Contact;
use super::follow::{Follow, Restart};
use super::hold::Hold;
use super::suspended::until_resumed;
use crate::config::Settings;
use crate::domain::changes::Files;
use crate::metrics::own as metrics;
use crate::process::{Exit, Flink};

/// Starts a TaskManager and ends it.
#[derive(Debug)]
pub struct TaskManager {
    settings: Settings,
    command: Command,
    /// What the image's entrypoint needs, and Flink's reporter of metrics; else a script or class reads the user's
    /// configuration as it is.
    configuration: Option<Configuration>,
    signals: mpsc::Receiver<&'static str>,
    contact: Contact,
}

impl TaskManager {
    /// A launcher of `command`.
    ///
    /// # Errors
    /// When Flink's configuration cannot be understood.
    pub fn new(
        settings: Settings,
        command: Command,
        signals: mpsc::Receiver<&'static str>,
    ) -> Result<Self, LaunchError> {
        let own = command.is_entrypoint(&settings.entrypoint) || settings.metrics_address.is_some();
        let configuration = own
            .then(|| Configuration::find(&settings, &command))
            .transpose()?;
        Ok(Self {
            settings,
            command,
            configuration,
            signals,
            contact: Contact::default(),
        })
    }

    /// Runs it to its end; its exit code.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run(mut self) -> Result<i32, LaunchError> {
        // In native mode the JobManager replaces its TaskManagers.
        let given = self
            .configuration
            .as_ref()
            .filter(|_| !self.command.is_native());
        let given = given.and_then(Configuration::of_task_managers);
        let mut follow = Follow::new(&self.settings, given).await;
        let mut ordered: Option<Files> = None;
        let mut configuration = self.entries(None);
        let native = self.command.is_native();
        self.contact = Contact::find(&self.settings, native, &configuration).await;
        let mut start = self.command(None, &configuration)?;
        loop {
            let flink = self.spawn(&mut start)?;
            let restart = tokio::select! {
                exit = flink.exited() => {
                    let code = ended(exit);
                    if self.resumes().await {
                        continue;
                    }
                    return Ok(code);
                }
                signal = self.signals.recv() => {
                    info!(signal, "Asked to end: the TaskManager is held while a savepoint may need it");
                    self.end(&flink).await;
                    return Ok(ended(flink.exited().await));
                }
                restart = restart(&mut follow, &flink, &self.contact) => restart,
            };
            start = match restart {
                Again::AsItRuns => match flink.command() {
                    Some(command) => command,
                    None => self.command(ordered.as_ref(), &configuration)?,
                },
                Again::With(files) => {
                    let made = self.made_of(&flink, configuration);
                    configuration = self.entries(Some(&files));
                    let files = ordered.insert(files);
                    self.changed(made, files, &configuration)?
                }
            };
            flink.terminate();
            killed_late(&flink).await;
        }
    }

    /// Whether it has ended since its job is held, which is over now. In native mode the JobManager has new pods made.
    async fn resumes(&mut self) -> bool {
        if self.command.is_native() {
            return false;
        }
        tokio::select! {
            resumed = until_resumed(&self.settings) => resumed,
            _ = self.signals.recv() => false,
        }
    }

    fn command(
        &self,
        ordered: Option<&Files>,
        known: &BTreeMap<String, String>,
    ) -> Result<process::Command, LaunchError> {
        match &self.configuration {
            Some(configuration) => {
                let set = self.set(configuration, known);
                configuration.task_manager(&self.command, &self.settings.state_dir, ordered, set)
            }
            None => Ok(self.command.plain()),
        }
    }

    /// The user's configuration, as far as it matters here.
    fn entries(&self, ordered: Option<&Files>) -> BTreeMap<String, String> {
        let prepare =
            |it: &Configuration| it.prepare(&self.command, &self.settings.state_dir, ordered);
        let known = self.configuration.as_ref().and_then(|it| prepare(it).ok());
        known
            .map(|prepare| prepare.configuration)
            .unwrap_or_default()
    }

    /// Drey's own in a configuration.
    fn set(
        &self,
        from: &Configuration,
        configuration: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut set = from.reporter_of(configuration);
        set.extend(self.contact.keys(configuration));
        set
    }

    fn made_of(&self, flink: &Flink, before: BTreeMap<String, String>) -> Option<Made> {
        let from = self.configuration.as_ref()?;
        let set = self.set(from, &before);
        Made::of(flink, is_task_manager_class, from, before, &own(&set))
    }

    /// With other files as its configuration: without scripts, where they would make the same of them.
    fn changed(
        &self,
        made: Option<Made>,
        files: &Files,
        wanted: &BTreeMap<String, String>,
    ) -> Result<process::Command, LaunchError> {
        let made = made.filter(|made| made.serves(wanted));
        let (Some(made), Some(from)) = (made, &self.configuration) else {
            return self.command(Some(files), wanted);
        };
        let set = self.set(from, wanted);
        made.command(from, Some(files), &own(&set))
    }

    fn spawn(&self, command: &mut process::Command) -> Result<Flink, LaunchError> {
        let flink = Flink::spawn(command).map_err(|source| LaunchError::Spawn {
            command: self.command.program().to_owned(),
            source,
        })?;
        info!(pid = flink.identity().pid, "TaskManager started");
        Ok(flink)
    }

    /// Passes SIGTERM on when the time has come, and waits until that has had its effect.
    async fn end(&self, flink: &Flink) {
        let told = Instant::now();
        let mut hold = Hold::new(&self.settings, Timestamp::now()).await;
        tokio::select! {
            _ = flink.exited() => {}
            why = hold.until_free() => {
                info!(why, "TaskManager is told to end");
                metrics().held(told.elapsed());
                flink.terminate();
            }
        }
        let ended = killed_late(flink);
        tokio::join!(hold.withdraw(), ended);
    }
}

/// A TaskManager has no order.
fn own(set: &BTreeMap<String, String>) -> Own<'_> {
    Own {
        set,
        remove: &[],
        args: &[],
        job_args: &[],
    }
}

/// How a TaskManager is started again.
enum Again {
    /// As the very JVM that runs, without the scripts, which would say the same and take longer than the JVM.
    AsItRuns,
    /// With these files as its configuration.
    With(Files),
}

async fn restart(follow: &mut Follow, flink: &Flink, contact: &Contact) -> Again {
    let mut met = false;
    loop {
        let restart = tokio::select! {
            restart = follow.restart() => restart,
            () = contact.made(), if !met => {
                met = true;
                continue;
            }
        };
        match restart {
            Restart::Configuration(files) => {
                info!(
                    "The JobManager has another configuration: the TaskManager is started again with it"
                );
                return Again::With(files);
            }
            Restart::Successor(job_manager)
                if !flink.runs(is_task_manager_class) || (!met && contact.is_missing()) =>
            {
                info!(
                    job_manager,
                    "Another JobManager has the job, before the TaskManager has met one"
                );
            }
            Restart::Successor(job_manager) => {
                info!(
                    job_manager,
                    "Another JobManager has the job: the TaskManager is started again"
                );
                metrics().followed();
                return Again::AsItRuns;
            }
        }
    }
}

fn ended(exit: Exit) -> i32 {
    info!(code = exit.code(), "TaskManager ended");
    exit.code().unwrap_or(1)
}

/// Waits for a Flink that got SIGTERM, and kills it when that has no effect.
async fn killed_late(flink: &Flink) {
    if timeout(KILL_AFTER, flink.exited()).await.is_err() {
        warn!("TaskManager did not end after SIGTERM: killed");
        flink.kill();
        flink.exited().await;
    }
}
