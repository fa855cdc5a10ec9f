//! The Flink cluster under supervision: how its REST interface is reached, and whether it is the right one.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{debug, warn};
use url::Url;

use super::{Job, Supervisor};
use crate::config::{Mode, Settings};
use crate::control::Prepare;
use crate::domain::job::{JobId, JobStatus, JobView};
use crate::domain::pointer::{APPLICATION, JobEntry, RunId};
use crate::domain::supervise::{Outcome, Process};
use crate::flink::rest::{Auth, FlinkRest, RestError, RestSettings};
use crate::flink::tls::TlsSettings;
use crate::flink::version::FlinkVersion;
use crate::kubernetes::events::Event;
use crate::metrics::JobManager;
use crate::telemetry::one_line;

/// Drey's own key in Flink's configuration, by which a JobManager is recognized as the one that was started.
pub(super) const RUN_KEY: &str = "drey.run-id";

/// How long it may take to learn which TaskManagers there are, of the time of a scrape.
const METRICS: Duration = Duration::from_secs(5);

/// The cluster that the launcher started.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) rest: FlinkRest,
    pub(super) url: Url,
    pub(super) version: FlinkVersion,
    pub(super) run: RunId,
    pub(super) application: bool,
    pub(super) high_availability: bool,
    /// Native Kubernetes: Flink itself makes and deletes its pods.
    pub(super) native: bool,
    pub(super) configuration: BTreeMap<String, String>,
    /// It answered the last time.
    pub(super) reachable: bool,
    /// It has shown the run id that it was started with.
    recognized: bool,
    /// The last failure, so that only a new one is logged.
    failure: String,
}

impl Cluster {
    pub(super) fn new(settings: &Settings, flink: &Prepare, run: RunId) -> Result<Self, String> {
        let version: FlinkVersion = flink
            .flink_version
            .parse()
            .map_err(|error| format!("Flink's version {:?}: {error}", flink.flink_version))?;
        let url = match &settings.rest_url {
            Some(url) => url.clone(),
            None => rest_url(&flink.configuration)?,
        };
        let auth = match (&settings.rest_bearer_file, &settings.rest_basic_file) {
            (Some(file), _) => Some(Auth::Bearer(file.clone())),
            (None, Some(file)) => Some(Auth::Basic(file.clone())),
            (None, None) => None,
        };
        let rest = FlinkRest::new(RestSettings {
            auth,
            // A Flink that is slow to answer must not use up the time in which it has to end.
            timeout: settings.rest_timeout.min(settings.shutdown_timeout / 10),
            tls: TlsSettings {
                ca: settings.rest_ca.clone(),
                client_cert: settings.rest_client_cert.clone(),
                client_key: settings.rest_client_key.clone(),
                verify_hostname: settings.rest_verify_hostname,
            },
            ..RestSettings::new(url.clone())
        })
        .map_err(|error| one_line(&error, 400))?;
        Ok(Self {
            rest,
            url,
            version,
            run,
            application: is_application(settings.mode, flink.application),
            high_availability: high_availability(&flink.configuration),
            native: !flink.standalone && flink.configuration.contains_key("kubernetes.cluster-id"),
            configuration: flink.configuration.clone(),
            reachable: false,
            recognized: false,
            failure: String::new(),
        })
    }

    /// The jobs, once it is sure that this is the Flink that was started and not another one on the same port.
    async fn jobs(&mut self) -> Result<Vec<JobView>, RestError> {
        if !self.recognized {
            let configuration = self.rest.jobmanager_config().await?;
            let found = configuration.get(RUN_KEY).map(String::as_str);
            if found != Some(self.run.as_str()) {
                let what = format!(
                    "another Flink answers there ({RUN_KEY} is {}, not {}): give this one a port of its own with rest.port",
                    found.unwrap_or("not set"),
                    self.run
                );
                return Err(RestError::Garbage {
                    request: "GET /jobmanager/config".to_owned(),
                    what,
                });
            }
            self.recognized = true;
            if let Ok(rest) = self.rest.with_timeout(METRICS) {
                JobManager::of_this_process().is_at(rest);
            }
        }
        self.rest.jobs().await
    }
}

impl Cluster {
    /// Notes that it did not answer, and says so once for each reason.
    fn failed(&mut self, error: &RestError) {
        // A JobManager that comes up refuses connections at first, and then it is not available yet.
        let comes_up = matches!(
            error,
            RestError::Unreachable { .. } | RestError::Unavailable { .. }
        );
        let (text, rest) = (one_line(error, 500), self.url.as_str());
        let known = self.failure == text;
        if self.reachable || !(comes_up || known) {
            warn!(rest, error = text, "Flink does not answer");
        } else {
            debug!(rest, error = text, "Flink does not answer");
        }
        self.failure = text;
        self.reachable = false;
    }
}

/// The mode that was set, else what the command tells.
pub(super) fn is_application(mode: Mode, by_command: bool) -> bool {
    match mode {
        Mode::Auto => by_command,
        Mode::Application => true,
        Mode::Session => false,
    }
}

/// Whether Flink's own high availability is on: it then chooses job ids and restore points itself.
#[must_use]
pub fn high_availability(configuration: &BTreeMap<String, String>) -> bool {
    let kind = configuration
        .get("high-availability.type")
        .or_else(|| configuration.get("high-availability"));
    kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("none"))
}

/// Where the JobManager's REST interface can be reached from the same machine or pod.
fn rest_url(configuration: &BTreeMap<String, String>) -> Result<Url, String> {
    let get = |key: &str| configuration.get(key).map(String::as_str);
    let tls = get("security.ssl.rest.enabled").is_some_and(|on| on.eq_ignore_ascii_case("true"));
    let port = match get("rest.bind-port") {
        None => get("rest.port").unwrap_or("8081"),
        Some(port) => port,
    };
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
        format!("Flink's REST port {port:?} does not name one port; set rest.port, or tell the address with `--rest-url`")
    })?;
    let host = match get("rest.bind-address") {
        None | Some("0.0.0.0" | "::" | "localhost") => "127.0.0.1",
        Some(host) => host,
    };
    let scheme = if tls { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{host}:{port}"))
        .map_err(|error| format!("Flink's REST address: {error}"))
}

impl Supervisor {
    /// Looks which jobs there are. Left out while savepoints are under way: then only their results matter.
    pub(super) async fn discover(&mut self) {
        let busy = |key: &String| {
            self.pointer
                .jobs
                .get(key)
                .is_some_and(|entry| entry.intent.is_some())
        };
        let known = !self.jobs.is_empty() && self.jobs.keys().all(busy);
        if !known {
            self.refresh().await;
        }
    }

    /// Asks Flink for its jobs.
    pub(super) async fn refresh(&mut self) {
        let Some(cluster) = self
            .cluster
            .as_mut()
            .filter(|_| self.process == Process::Running)
        else {
            return;
        };
        let views = cluster.jobs().await;
        match views {
            Ok(views) => {
                cluster.reachable = true;
                cluster.failure.clear();
                let none = views.is_empty();
                self.place(views);
                self.watch_jobs().await;
                if none {
                    self.look_at_application().await;
                }
            }
            Err(error) => {
                cluster.failed(&error);
                for job in self.jobs.values_mut() {
                    job.view = None;
                }
            }
        }
    }

    /// Whether the application has failed before it had a job, as up to Flink 2.2 its JobManager's end tells.
    async fn look_at_application(&mut self) {
        let known = |job: &Job| job.settled.is_some() || job.ask.is_some();
        let known = self.jobs.get(APPLICATION).is_some_and(known);
        let cluster = self.cluster.as_ref().filter(|cluster| {
            cluster.application && cluster.version.at_least(2, 3) && !known && !self.is_standby()
        });
        let Some(cluster) = cluster else { return };
        match cluster.rest.failed_application().await {
            Ok(Some(why)) => {
                let text = format!("The application has failed before it had a job: {why}");
                warn!("{text}");
                self.tell(Event::warning("ApplicationFailed", &text));
                self.settle_job(APPLICATION, Outcome::Ended(JobStatus::Failed));
            }
            Ok(None) => {}
            Err(error) => debug!(
                error = one_line(&error, 300),
                "What has become of the application is not known"
            ),
        }
    }

    fn place(&mut self, views: Vec<JobView>) {
        let mut seen = BTreeMap::new();
        for (key, job) in &mut self.jobs {
            seen.extend(job.view.take().map(|view| (view.id, key.clone())));
        }
        if self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.application)
        {
            let run = self
                .pointer
                .jobs
                .get(APPLICATION)
                .and_then(|entry| entry.run.as_ref());
            let wanted = run.and_then(|run| run.job_id);
            let view = views
                .iter()
                .find(|view| Some(view.id) == wanted)
                .or(views.first())
                .cloned();
            self.jobs.entry(APPLICATION.to_owned()).or_default().view = view;
        } else {
            self.place_session_jobs(views, &seen);
        }
    }

    /// In session mode a job's key is the one under which its run was stored, else its name; a second one of the same name
    /// gets its id behind it. `seen` are the keys that they had the last time: one that ended before it was known is over, too.
    fn place_session_jobs(&mut self, views: Vec<JobView>, seen: &BTreeMap<JobId, String>) {
        let mut views = views;
        // Of several jobs with one name the one that is still there comes first, then the known one, then the youngest.
        views.sort_by_key(|view| {
            let known = self.key_of(view).is_some();
            (view.status.is_globally_terminal(), !known, -view.start_time)
        });
        for view in views {
            let taken = |key: &str| {
                self.jobs
                    .get(key)
                    .and_then(|job: &Job| job.view.as_ref())
                    .is_some_and(|v| v.id != view.id)
            };
            let known = self.key_of(&view).filter(|key| !taken(key));
            let is_known = known.is_some();
            let known = known.or_else(|| seen.get(&view.id).filter(|key| !taken(key)).cloned());
            if view.status.is_globally_terminal() && known.is_none() {
                continue;
            }
            let key = match known {
                Some(key) => key,
                None if taken(&view.name) => format!("{}@{}", view.name, view.id),
                None => view.name.clone(),
            };
            let job = self.jobs.entry(key.clone()).or_default();
            job.view = Some(view);
            // One that was submitted just before the shutdown; what was not known yet is asked when its run begins.
            if is_known && job.ask.is_none() && job.settled.is_none() {
                self.ask_shutdown(&key);
            }
        }
    }

    /// The key under which the run of this very job was stored.
    fn key_of(&self, view: &JobView) -> Option<String> {
        let runs = |entry: &JobEntry| entry.run.as_ref().and_then(|run| run.job_id);
        let mut jobs = self.pointer.jobs.iter();
        let found = jobs.find(|(_, entry)| runs(entry) == Some(view.id));
        found.map(|(key, _)| key.clone())
    }
}
