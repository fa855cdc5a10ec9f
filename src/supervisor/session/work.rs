//! What takes its time and is done beside the supervisor's loop: where a job resumes from, and its submission.

use std::io;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use tracing::debug;

use crate::config::Settings;
use crate::control::Prepare;
use crate::domain::job::JobId;
use crate::domain::pointer::{Ended, JobEntry};
use crate::domain::restore::{Choice, RestorePlan};
use crate::flink::rest::{FlinkRest, JarRun, JarUpload, RestError};
use crate::flink::tls::{TlsSettings, client_config};
use crate::flink::version::FlinkVersion;
use crate::kill_point;
use crate::session_jobs::JarSource;
use crate::storage::{Location, Storage};
use crate::supervisor::planner::{Planner, storage_for};
use crate::telemetry::one_line;

/// How much of a jar is in memory at once.
const PIECE: u64 = 1 << 20;

/// The longest reason that is kept.
const REASON: usize = 400;

/// Everything that a plan is made from.
pub(super) struct Planning {
    pub(super) settings: Settings,
    pub(super) flink: Prepare,
    pub(super) version: FlinkVersion,
    pub(super) owner: String,
    pub(super) entry: JobEntry,
    /// Of a job that is to be submitted.
    pub(super) jar: Option<JarSource>,
}

/// Where a job resumes from.
#[derive(Debug)]
pub(super) enum Plan {
    /// From here, or from empty state. The reason, for people.
    Start(Option<Choice>, String),
    /// It is over.
    Over(Ended),
    /// A person has to decide.
    Refused(String),
    /// Something is missing or does not answer.
    Later(String),
}

impl Planning {
    pub(super) async fn plan(self) -> Plan {
        let storage = storage_for(&self.settings, &self.flink.configuration);
        let planner = Planner {
            settings: &self.settings,
            storage: &storage,
            version: self.version,
            flink: &self.flink,
            owner: &self.owner,
        };
        let plan = match planner.plan_once(&self.entry).await {
            RestorePlan::From(choice, why) => Plan::Start(Some(choice), why),
            RestorePlan::Fresh(why) => Plan::Start(None, why),
            RestorePlan::Ended(ended) => Plan::Over(ended),
            RestorePlan::Refuse(refusal) => Plan::Refused(refusal.to_string()),
            RestorePlan::Retry(why) => Plan::Later(why),
            RestorePlan::Verify(path) => Plan::Later(format!("{path} was not read back")),
        };
        match (&plan, &self.jar) {
            // Nothing is stored for a job that cannot be submitted. What a web server has shows when it is fetched.
            (Plan::Start(..), Some(JarSource::Stored(location))) => {
                match storage.size(location).await {
                    Ok(_) => plan,
                    Err(error) => Plan::Later(format!(
                        "its jar cannot be read: {}",
                        one_line(&error, REASON)
                    )),
                }
            }
            _ => plan,
        }
    }
}

/// Everything that a submission needs. The run is stored already.
pub(super) struct Submission {
    pub(super) settings: Settings,
    pub(super) flink: Prepare,
    pub(super) version: FlinkVersion,
    pub(super) rest: FlinkRest,
    pub(super) jar: JarSource,
    pub(super) run: JarRun,
}

/// Why a submission failed.
#[derive(Debug)]
pub(super) struct NotSubmitted {
    pub(super) text: String,
    /// Flink said no: trying it again and again would fill its memory with the job's classes.
    pub(super) refused: bool,
}

impl Submission {
    pub(super) async fn submit(self) -> Result<JobId, NotSubmitted> {
        let jar = self.open().await.map_err(|error| NotSubmitted {
            text: format!("its jar cannot be read: {error}"),
            refused: false,
        })?;
        let jar = self.rest.upload_jar(jar).await.map_err(not_submitted)?;
        kill_point("after-jar-upload");
        let submitted = self.rest.run_jar(&jar, &self.run, self.version).await;
        kill_point("after-jar-run");
        // Without an answer the main method may still run, out of this jar.
        let answered = !matches!(submitted, Err(RestError::Unreachable { .. }));
        if answered && let Err(error) = self.rest.delete_jar(&jar).await {
            debug!(
                error = one_line(&error, REASON),
                "Uploaded jar was not deleted"
            );
        }
        submitted.map_err(not_submitted)
    }

    async fn open(&self) -> Result<JarUpload<Bytestream>, String> {
        let (name, size, bytes) = match &self.jar {
            JarSource::Stored(location) => {
                let storage = storage_for(&self.settings, &self.flink.configuration);
                let size = storage.size(location).await;
                let size = size.map_err(|error| one_line(&error, REASON))?;
                let bytes = pieces(storage, location.clone(), size);
                (location.name().to_owned(), Some(size), bytes)
            }
            JarSource::Web(url) => {
                let (size, bytes) = self.fetch(url.as_str()).await?;
                let name = url.path().rsplit('/').next().unwrap_or_default();
                (name.to_owned(), size, bytes)
            }
        };
        // Flink refuses another ending.
        let name = match name.strip_suffix(".jar") {
            Some(_) => name,
            None => format!("{name}.jar"),
        };
        Ok(JarUpload { name, size, bytes })
    }

    async fn fetch(&self, url: &str) -> Result<(Option<u64>, Bytestream), String> {
        let settings = &self.settings;
        let tls = client_config(&TlsSettings {
            ca: settings.storage_ca.clone(),
            verify_hostname: true,
            ..TlsSettings::default()
        });
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.map_err(|error| one_line(&error, REASON))?)
            .connect_timeout(settings.storage_timeout)
            .read_timeout(settings.storage_timeout)
            .build();
        let client = client.map_err(|error| one_line(&error, REASON))?;
        let answer = client.get(url).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(|error| one_line(&error, REASON))?;
        let size = answer.content_length();
        let bytes = stream::try_unfold(answer, |mut answer| async move {
            let piece = answer.chunk().await.map_err(io::Error::other)?;
            Ok(piece.map(|piece| (piece, answer)))
        });
        Ok((size, bytes.boxed()))
    }
}

type Bytestream = BoxStream<'static, io::Result<Bytes>>;

/// A file or object, piece by piece.
fn pieces(storage: Storage, location: Location, size: u64) -> Bytestream {
    let state = (storage, location, 0);
    stream::try_unfold(state, move |(storage, location, at)| async move {
        if at >= size {
            return Ok(None);
        }
        let end = size.min(at + PIECE);
        let piece = storage.read_part(&location, at..end).await;
        piece.map(|piece| Some((piece, (storage, location, end))))
    })
    .map_err(io::Error::other)
    .boxed()
}

fn not_submitted(error: RestError) -> NotSubmitted {
    let refused = !matches!(
        error,
        RestError::Unreachable { .. } | RestError::Unavailable { .. }
    );
    NotSubmitted {
        text: one_line(&error, REASON),
        refused,
    }
}
