//! A start while the sidecar is away: the launcher takes the supervisor's steps itself, in its own process.
//!
//! What makes a start safe is the lock between pods, not who asks for it. The launcher acts for the same pod, with the same
//! settings, the same files and the same rights as the sidecar, and every write of both has the ConfigMap's version as its
//! precondition. So whatever one of them writes while the other comes or goes, the run that was stored last is the one that is
//! started. Where another pod may run the job, the launcher waits, as the sidecar would.
//!
//! Not with high availability: a standby whose run was stopped elsewhere would go on with it from its old start path, and
//! only its supervisor ends it in time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::{persistently, reach};
use crate::config::{Settings, SettingsArgs};
use crate::control::{self, Call, Prepare, Reply};
use crate::kubernetes::Kube;
use crate::supervisor::{Supervisor, high_availability, storage_for};
use crate::telemetry::one_line;

/// How long a sidecar may be away before it counts as dead: the kubelet starts one that ended again at once, and then after
/// ten seconds.
const COMES_BACK: Duration = Duration::from_secs(20);

/// How often it is looked whether it is back.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps beside the socket what a launcher needs to start Flink without the sidecar: its settings, none of which is a
/// secret.
///
/// # Errors
/// When it cannot be written.
pub fn leave_behind(settings: &Settings) -> io::Result<()> {
    let mut settings = settings.clone();
    settings.state_dir = std::path::absolute(&settings.state_dir)?;
    // Files that only a running job needs, and that only the sidecar's container has.
    settings.session_jobs = None;
    settings.rest_ca = None;
    settings.rest_client_cert = None;
    settings.rest_client_key = None;
    settings.rest_bearer_file = None;
    settings.rest_basic_file = None;
    settings.metrics_address = None;
    settings.metrics_web_config = None;
    settings.metrics_relabel = None;
    let file = file(&settings.socket);
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = file.with_extension("json.new");
    fs::write(&new, serde_json::to_string_pretty(&settings.to_env())?)?;
    fs::rename(&new, &file)
}

/// How long a supervisor that does not listen is waited for.
pub(super) fn patience(settings: &Settings) -> Duration {
    COMES_BACK.min(settings.start_timeout)
}

/// How to start Flink: from the supervisor, or, once it has been away for too long, from what it left behind.
pub(super) async fn order(settings: &Settings, flink: &Prepare) -> Reply {
    let call = Call::Prepare(flink.clone());
    loop {
        if let Some(reply) = reach(&settings.socket, &call, Some(patience(settings))).await {
            return reply;
        }
        let sidecar = match substitute(settings, flink) {
            Ok(sidecar) => sidecar,
            Err(why) => {
                warn!(
                    why,
                    "The supervisor is away, and Flink is not started without it"
                );
                return persistently(&settings.socket, &call).await;
            }
        };
        warn!("The supervisor is away: the start is planned without it");
        tokio::select! {
            reply = start(sidecar, flink) => return reply,
            () = is_back(&settings.socket) => info!("The supervisor is back: it is asked"),
        }
    }
}

/// The sidecar's settings, when a start without it can be safe at all.
fn substitute(settings: &Settings, flink: &Prepare) -> Result<Settings, String> {
    if high_availability(&flink.configuration) {
        let why = "with high availability nobody else keeps a standby from running a job that was stopped";
        return Err(why.to_owned());
    }
    let file = file(&settings.socket);
    let text = fs::read_to_string(&file).map_err(|error| {
        format!("it has not been there yet, so that whether another pod runs the job is not known ({}: {error})", file.display())
    })?;
    let env: BTreeMap<OsString, OsString> = serde_json::from_str::<BTreeMap<String, String>>(&text)
        .map_err(|error| format!("{}: {error}", file.display()))?
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let loaded = crate::config::load(&SettingsArgs::default(), env)
        .map_err(|error| format!("{}: {}", file.display(), one_line(&error, 300)))?;
    match loaded.settings.pod_name {
        Some(_) => Ok(loaded.settings),
        None => Err("outside Kubernetes there is no lock to tell who runs the job".to_owned()),
    }
}

/// The supervisor's part of a start.
async fn start(sidecar: Settings, flink: &Prepare) -> Reply {
    let name = sidecar.pod_name.clone().unwrap_or_default();
    let kube = match Kube::connect(sidecar.pod_namespace.as_deref()).await {
        Ok(kube) => kube,
        Err(error) => {
            let error = one_line(&error, 300);
            warn!(
                error,
                "The lock cannot be looked at: the supervisor is waited for"
            );
            return std::future::pending().await;
        }
    };
    let storage = storage_for(&sidecar, &flink.configuration);
    let (supervisor, _) = Supervisor::in_pod(sidecar, storage, kube, &name);
    supervisor.start_only(flink.clone()).await
}

async fn is_back(socket: &Path) {
    while control::call(socket, &Call::Status).await.is_err() {
        sleep(LOOK).await;
    }
}

fn file(socket: &Path) -> PathBuf {
    socket.with_extension("json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(env: &[(&str, &Path)]) -> Settings {
        let env = env
            .iter()
            .map(|(name, value)| (OsString::from(*name), value.as_os_str().to_owned()));
        crate::config::load(&SettingsArgs::default(), env)
            .expect("good settings")
            .settings
    }

    fn flink(key: &str, value: &str) -> Prepare {
        Prepare {
            flink_version: "2.3.0".to_owned(),
            configuration: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            application: true,
            standalone: true,
            ..Prepare::default()
        }
    }

    #[test]
    fn a_launcher_knows_the_settings_of_the_sidecar_that_was_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("drey.sock");
        let launcher = settings(&[("DREY_SOCKET", &socket)]);
        let plain = flink("a", "b");
        let never = substitute(&launcher, &plain).expect_err("none was there");
        assert!(never.contains("has not been there yet"), "{never}");

        let sidecar = settings(&[
            ("DREY_SOCKET", &socket),
            ("DREY_POD_NAME", Path::new("orders-0")),
            ("DREY_STATE_DIR", &dir.path().join("sidecar")),
            ("DREY_RESTORE_STRATEGY", Path::new("latest-savepoint")),
        ]);
        leave_behind(&sidecar).expect("written");
        assert_eq!(substitute(&launcher, &plain), Ok(sidecar));
    }

    #[test]
    fn no_start_without_the_supervisor_with_high_availability_or_outside_kubernetes() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("drey.sock");
        let sidecar = settings(&[("DREY_SOCKET", &socket)]);
        leave_behind(&sidecar).expect("written");
        let outside = substitute(&sidecar, &flink("a", "b")).expect_err("no lock");
        assert!(outside.contains("outside Kubernetes"), "{outside}");
        let standby =
            substitute(&sidecar, &flink("high-availability.type", "kubernetes")).expect_err("HA");
        assert!(standby.contains("standby"), "{standby}");
    }
}
