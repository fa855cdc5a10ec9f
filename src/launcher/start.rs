//! How a Flink comes to be started: what is asked for it, and what is executed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::process;

use tokio::time::Instant;
use tracing::info;

use super::again::{Made, Own};
use super::ahead::{Ahead, Gone};
use super::command::is_job_manager_class;
use super::{LaunchError, Launcher, Running, alone, handover, persistently};
use crate::control::{Call, Prepare, Reply, StartOrder};
use crate::domain::changes::Files;
use crate::process::Flink;

impl Launcher {
    /// Prepares and starts Flink; the exit code when there is nothing to start.
    pub(super) async fn start(&mut self) -> Result<Result<Running, i32>, LaunchError> {
        let mut ordered: Option<Files> = None;
        let mut ahead: Option<Ahead> = None;
        let (prepare, reply) = loop {
            let mut prepare = self.configuration.prepare(
                &self.command,
                &self.settings.state_dir,
                ordered.as_ref(),
            )?;
            let made = self.made.as_ref();
            if ahead.is_none() && !made.is_some_and(|made| made.serves(&prepare.configuration)) {
                ahead = Ahead::begin(&self.configuration, &self.command, &self.settings, &prepare);
            }
            prepare.getting_ready = ahead.is_some();
            let reply = tokio::select! {
                reply = alone::order(&self.settings, &prepare) => reply,
                never = tell_ready(&self.settings.socket, ahead.as_mut()) => match never {},
                signal = self.signals.recv() => return Ok(ended_early(signal, ahead).await),
            };
            match reply {
                Reply::Configure { files } if ordered.is_none() => ordered = Some(files),
                reply => break (prepare, reply),
            }
        };
        match reply {
            Reply::Start(order) => self.go(ahead, prepare, &order).await,
            reply => {
                abandon(ahead).await;
                self.not_started(reply).await.map(Err)
            }
        }
    }

    /// The exit code where the supervisor wants no start.
    async fn not_started(&mut self, reply: Reply) -> Result<i32, LaunchError> {
        match reply {
            Reply::Ended { status, stay } => {
                info!(%status, "The job is over, and this is the owner that it ended for: not started again");
                if stay {
                    self.signals.recv().await;
                }
                Ok(0)
            }
            Reply::Failed { error, code } => Err(LaunchError::Refused { error, code }),
            other => Err(LaunchError::Refused {
                error: format!("unexpected answer {other:?}"),
                code: 1,
            }),
        }
    }

    /// Starts Flink as ordered, with what was made ready ahead, if it is that.
    async fn go(
        &mut self,
        ahead: Option<Ahead>,
        mut prepare: Prepare,
        order: &StartOrder,
    ) -> Result<Result<Running, i32>, LaunchError> {
        let state_dir = self.settings.state_dir.clone();
        if !prepare.ordered {
            // What stands there may have changed while it was waited for other pods.
            prepare = self
                .configuration
                .prepare(&self.command, &state_dir, None)?;
        }
        let order = &self
            .configuration
            .with_arguments(&self.command, order, &prepare)?;
        handover::remember(&state_dir, &order.run, &prepare)?;
        crate::kill_point("before-spawn");
        let run = (handover::RUN_VARIABLE, order.run.as_str());
        let gone = match ahead {
            Some(ahead) if ahead.fits(&prepare) => ahead.go(order, run, &mut self.signals).await?,
            ahead => {
                abandon(ahead).await;
                Gone::Nothing
            }
        };
        let flink = match gone {
            Gone::Started(flink) => flink,
            Gone::Nothing => self.spawn(&prepare, order)?,
            Gone::Signal(signal) => return Ok(ended_early(Some(signal), None).await),
        };
        crate::kill_point("after-spawn");
        Ok(Ok(Running {
            flink,
            prepare,
            run: order.run.clone(),
            order: Some(order.clone()),
            since: Instant::now(),
        }))
    }

    fn spawn(&mut self, prepare: &Prepare, order: &StartOrder) -> Result<Flink, LaunchError> {
        let mut command = self.command_for(prepare, order)?;
        command.env(handover::RUN_VARIABLE, order.run.as_str());
        Flink::spawn(&mut command).map_err(|source| LaunchError::Spawn {
            command: self.command.program().to_owned(),
            source,
        })
    }

    fn command_for(
        &mut self,
        prepare: &Prepare,
        order: &StartOrder,
    ) -> Result<process::Command, LaunchError> {
        let ordered = prepare.ordered.then_some(&prepare.files);
        // Once: should it fail, the next start goes through the scripts again.
        let made = self.made.take();
        let Some(made) = made.filter(|made| made.serves(&prepare.configuration)) else {
            let state_dir = &self.settings.state_dir;
            return self
                .configuration
                .job_manager(&self.command, state_dir, order, ordered);
        };
        info!("Flink is started with what its scripts made the last time");
        let set = self.own(order, &prepare.configuration);
        let own = Own {
            set: &set,
            remove: &order.remove,
            args: &order.args,
            job_args: &order.job_args,
        };
        made.command(&self.configuration, ordered, &own)
    }

    /// What scripts have made for a Flink that runs; `None` where there are none.
    pub(super) fn made_of(&self, running: &Running) -> Option<Made> {
        let order = running
            .order
            .as_ref()
            .filter(|_| self.command.is_script())?;
        let configuration = running.prepare.configuration.clone();
        let set = self.own(order, &configuration);
        let own = Own {
            set: &set,
            remove: &order.remove,
            args: &order.args,
            job_args: &order.job_args,
        };
        let (flink, from) = (&running.flink, &self.configuration);
        Made::of(flink, is_job_manager_class, from, configuration, &own)
    }

    /// Drey's own in Flink's configuration.
    fn own(
        &self,
        order: &StartOrder,
        configuration: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut set = order.set.clone();
        set.extend(self.configuration.reporter_of(configuration));
        set
    }
}

/// Tells the supervisor that an order is all that is missing, once that is so.
async fn tell_ready(socket: &Path, ahead: Option<&mut Ahead>) -> Infallible {
    if let Some(ahead) = ahead {
        if ahead.ready().await {
            info!("Flink is ready: its JVM waits for its order");
        }
        persistently(socket, &Call::Ready).await;
    }
    std::future::pending().await
}

/// The exit code of a launcher that was asked to end before there was a Flink.
async fn ended_early(signal: Option<&'static str>, ahead: Option<Ahead>) -> Result<Running, i32> {
    info!(signal, "Asked to end before Flink was started");
    abandon(ahead).await;
    Err(0)
}

async fn abandon(ahead: Option<Ahead>) {
    if let Some(ahead) = ahead {
        ahead.abandon().await;
    }
}
