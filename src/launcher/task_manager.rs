//! The launcher of a TaskManager: starts it, and holds SIGTERM back for as long as its JobManager may need it for a
//! savepoint. There is no supervisor beside it, and while nobody tells it to go, it talks to nobody.

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::command::Command;
use super::configuration::{Configuration, LaunchError};
use super::hold::Hold;
use super::{KILL_AFTER, at};
use crate::config::Settings;
use crate::metrics::own;
use crate::process::Flink;

/// Starts a TaskManager and ends it.
#[derive(Debug)]
pub struct TaskManager {
    settings: Settings,
    command: Command,
    /// What the image's entrypoint needs, and Flink's reporter of metrics; else a script or class reads the user's
    /// configuration as it is.
    configuration: Option<Configuration>,
    signals: mpsc::Receiver<&'static str>,
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
        })
    }

    /// Runs it to its end; its exit code.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run(mut self) -> Result<i32, LaunchError> {
        let mut command = match &self.configuration {
            Some(configuration) => {
                configuration.task_manager(&self.command, &self.settings.state_dir)?
            }
            None => self.command.plain(),
        };
        let flink = Flink::spawn(&mut command).map_err(|source| LaunchError::Spawn {
            command: self.command.program().to_owned(),
            source,
        })?;
        info!(pid = flink.identity().pid, "TaskManager started");
        let exit = tokio::select! {
            exit = flink.exited() => exit,
            signal = self.signals.recv() => {
                info!(signal, "Asked to end: the TaskManager is held while a savepoint may need it");
                self.end(&flink).await;
                flink.exited().await
            }
        };
        info!(code = exit.code(), "TaskManager ended");
        Ok(exit.code().unwrap_or(1))
    }

    /// Passes SIGTERM on when the time has come, and waits until that has had its effect.
    async fn end(&self, flink: &Flink) {
        let told = Instant::now();
        let mut hold = Hold::new(&self.settings, Timestamp::now()).await;
        tokio::select! {
            _ = flink.exited() => {}
            why = hold.until_free() => {
                info!(why, "TaskManager is told to end");
                own().held(told.elapsed());
                flink.terminate();
            }
        }
        let kill_at = Instant::now() + KILL_AFTER;
        hold.withdraw().await;
        tokio::select! {
            _ = flink.exited() => {}
            () = at(Some(kill_at)) => {
                warn!("TaskManager did not end after SIGTERM: killed");
                flink.kill();
            }
        }
    }
}
