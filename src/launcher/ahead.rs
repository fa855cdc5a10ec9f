//! A start that is made ready while it is still being decided what Flink starts from, and while another pod has its turn.
//!
//! The image's entrypoint and Flink's scripts run several JVMs in a row, for the memory's sizes and the options, before they
//! execute Flink's own: with two cores that takes longer than Flink's own start. Nothing of it depends on the restore
//! point. So they run ahead, up to a `java` that waits ([`super::java`]), with a copy of the configuration of their own.
//!
//! What executes a JVM by another way than `JAVA_HOME` or `PATH` would start Flink too early. In that copy Flink cannot start:
//! its port is none. Such a command is then started as if nothing had run ahead, here and in the next life of the container.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::command::Command;
use super::configuration::{Configuration, LaunchError, apply};
use super::java::{Go, stand_in};
use crate::config::Settings;
use crate::control::{Prepare, StartOrder};
use crate::flink::config_file::ConfDir;
use crate::process::Flink;
use crate::telemetry::one_line;

/// What no JobManager can start with; read before anything else is done (`ClusterEntrypoint.initializeServices`).
const PORT: &str = "jobmanager.rpc.port";
const NO_PORT: &str = "drey-is-not-ready";

/// Names another java than `JAVA_HOME` does.
const OTHER_JAVA: &str = "env.java.home";

/// A start that waits for its order.
#[derive(Debug)]
pub(super) struct Ahead {
    flink: Flink,
    listener: UnixListener,
    /// Flink's java, which waits.
    java: Option<UnixStream>,
    prepare: Prepare,
    directory: ConfDir,
    /// Says, in the next life of the container, that this does not work here.
    mark: PathBuf,
    /// How long an order waits for the rest of it.
    patience: Duration,
}

/// What became of it.
pub(super) enum Gone {
    /// Flink's JVM starts.
    Started(Flink),
    /// There is nothing that could start; as if it had never been.
    Nothing,
    /// The launcher was asked to end meanwhile.
    Signal(&'static str),
}

impl Ahead {
    /// Begins to make the start ready, where that is possible.
    pub(super) fn begin(
        configuration: &Configuration,
        command: &Command,
        settings: &Settings,
        prepare: &Prepare,
    ) -> Option<Self> {
        let own = command.dynamic().any(|(key, _)| key == PORT);
        let other = prepare.configuration.contains_key(OTHER_JAVA);
        let mark = settings.state_dir.join("not-ahead");
        let possible = settings.start_ahead
            && command.is_script()
            && !(own || other || prepare.ordered || prepare.unreadable.is_some() || mark.exists());
        if !possible {
            return None;
        }
        match start(configuration, command, &settings.state_dir) {
            Ok((flink, listener, directory)) => Some(Self {
                flink,
                listener,
                java: None,
                prepare: prepare.clone(),
                directory,
                mark,
                patience: settings.start_timeout,
            }),
            Err(error) => {
                // The usual start says what is wrong, if anything is.
                debug!(error = one_line(&error, 300), "Not made ready ahead");
                None
            }
        }
    }

    /// Waits until Flink's JVM could start, or what was to make it ready has ended: then it is false.
    pub(super) async fn ready(&mut self) -> bool {
        if self.java.is_none() {
            tokio::select! {
                java = self.listener.accept() => self.java = java.ok().map(|(stream, _)| stream),
                _ = self.flink.exited() => {}
            }
        }
        self.java.is_some()
    }

    /// Whether what was made ready is what is to be started now.
    pub(super) fn fits(&self, prepare: &Prepare) -> bool {
        self.prepare.files == prepare.files && self.prepare.configuration == prepare.configuration
    }

    /// Lets Flink start as ordered, once it is ready; `env` is added to its environment.
    ///
    /// # Errors
    /// When the order cannot be put into its configuration.
    pub(super) async fn go(
        mut self,
        order: &StartOrder,
        env: (&str, &str),
        signals: &mut mpsc::Receiver<&'static str>,
    ) -> Result<Gone, LaunchError> {
        tokio::select! {
            _ = timeout(self.patience, self.ready()) => {}
            signal = signals.recv() => {
                self.abandon().await;
                return Ok(Gone::Signal(signal.unwrap_or_default()));
            }
        }
        let Some(java) = self.java.take() else {
            warn!(
                mark = %self.mark.display(),
                "Flink's JVM cannot be made ready ahead here: started as usual, until the mark is deleted"
            );
            if let Err(error) = fs::write(&self.mark, "") {
                debug!(%error, "Not remembered");
            }
            self.abandon().await;
            return Ok(Gone::Nothing);
        };
        match self.release(java, order, env).await {
            Ok(()) => Ok(Gone::Started(self.flink)),
            Err(Failure::Order(error)) => {
                self.abandon().await;
                Err(error)
            }
            Err(Failure::Socket(error)) => {
                warn!(%error, "What was made ready ahead is not reached: started as usual");
                self.abandon().await;
                Ok(Gone::Nothing)
            }
        }
    }

    async fn release(
        &self,
        mut java: UnixStream,
        order: &StartOrder,
        (name, value): (&str, &str),
    ) -> Result<(), Failure> {
        let mut order = order.clone();
        match self.prepare.configuration.get(PORT) {
            Some(port) => drop(order.set.insert(PORT.to_owned(), port.clone())),
            None => order.remove.push(PORT.to_owned()),
        }
        apply(&self.directory, &order).map_err(Failure::Order)?;
        let go = Go {
            set: order.set,
            remove: order.remove,
            args: order.args,
            job_args: order.job_args,
            env: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        };
        let text = serde_json::to_vec(&go).map_err(|error| Failure::Socket(error.into()))?;
        let sent = async {
            java.write_all(&text).await?;
            java.shutdown().await
        };
        sent.await.map_err(Failure::Socket)?;
        info!("Flink was made ready ahead: its JVM starts");
        Ok(())
    }

    /// Ends what was made ready, and waits until it is gone.
    pub(super) async fn abandon(self) {
        self.flink.kill();
        self.flink.exited().await;
    }
}

enum Failure {
    Order(LaunchError),
    Socket(io::Error),
}

fn start(
    configuration: &Configuration,
    command: &Command,
    state_dir: &Path,
) -> Result<(Flink, UnixListener, ConfDir), LaunchError> {
    let own = state_dir.join("ahead");
    let failed = |source| LaunchError::Shadow {
        path: own.clone(),
        source,
    };
    let own = std::path::absolute(&own).map_err(failed)?;
    empty(&own).map_err(failed)?;
    let socket = own.join("go.sock");
    let listener = UnixListener::bind(&socket).map_err(failed)?;
    let unready = BTreeMap::from([(PORT.to_owned(), NO_PORT.to_owned())]);
    let (mut command, directory) = configuration.ahead(command, &own, unready)?;
    stand_in(&mut command, &own.join("java"), &socket).map_err(failed)?;
    let flink = Flink::spawn(&mut command).map_err(failed)?;
    Ok((flink, listener, directory))
}

fn empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory),
    }
}
