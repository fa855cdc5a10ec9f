//! `/inject` over HTTP: limits on what is read, and the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::lookups::LookUps;
use super::reporter::Reporter;
use super::review::{self, Malformed, Verdict};
use super::server::Handler;
use super::{Options, Shared};
use crate::inject::{Facts, Settings};
use crate::kubernetes::Kube;

/// The most that is read of a review, in bytes. An API server takes objects of 3 MiB at most, and etcd keeps 1.5 MiB.
const BODY: usize = 3 << 20;

/// What is kept of a larger one, for its uid, in bytes.
const PREFIX: usize = 4 << 10;

/// What is read and thrown away of a larger one, in bytes, since many clients look at the answer only once they have sent everything.
const DISCARDED: usize = 16 << 20;

/// All bodies that are in memory at a time, in bytes.
const BODIES: usize = 8 << 20;

/// How long a request waits for room. API servers wait 5 s for the answer, and a pod's creator tries again.
const ROOM: Duration = Duration::from_millis(500);

/// How long a body may take.
const ARRIVES: Duration = Duration::from_secs(4);

/// The units in which the room for bodies is counted, in bytes.
const UNIT: usize = 1 << 10;

/// What is set aside for a body before any of it has arrived, in bytes: what it says of its length costs the sender nothing.
const AHEAD: usize = 64 << 10;

/// Answers the API server.
#[derive(Debug)]
pub(super) struct Admission {
    shared: Arc<Shared>,
    look_ups: Arc<LookUps>,
    reporter: Reporter,
    room: Semaphore,
}

/// Why there is no review to read.
enum NoBody {
    TooLarge(BytesMut),
    NoRoom,
    Slow,
    Broken,
}

impl Admission {
    /// Must be called inside a Tokio runtime.
    pub(super) fn new(shared: Arc<Shared>, kube: &Kube, options: &Options) -> Self {
        let look_ups = Arc::new(LookUps::new(kube, &options.look_up));
        Self {
            shared,
            reporter: Reporter::new(kube, &options.identity, Arc::clone(&look_ups)),
            look_ups,
            room: Semaphore::new(BODIES / UNIT),
        }
    }

    /// Waits for events that are not written yet.
    pub(super) async fn flush(&self, most: Duration) {
        self.reporter.flush(most).await;
    }

    async fn admit(&self, request: Request<Incoming>, opted_in: bool) -> Response<Full<Bytes>> {
        let start = Instant::now();
        let (response, outcome, reason) = match self.review(request, opted_in).await {
            Ok((body, outcome, reason)) => (reply(body), outcome, reason),
            Err((response, reason)) => (response, "failed", reason),
        };
        let metrics = &self.shared.metrics;
        metrics.answered(outcome, reason, start.elapsed());
        response
    }

    async fn review(
        &self,
        request: Request<Incoming>,
        opted_in: bool,
    ) -> Result<(Vec<u8>, &'static str, &'static str), (Response<Full<Bytes>>, &'static str)> {
        let header = request.headers().get("content-type");
        let kind = header
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/json") {
            let what = "send an AdmissionReview as application/json\n";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err((text(status, what), "WrongContentType"));
        }
        let mut room = Room::of(&self.room);
        let body = collect(request.into_body(), &mut room)
            .await
            .map_err(NoBody::answer)?;
        let mut request = review::read(&body).map_err(bad)?;
        drop(body);
        let Some(settings) = self.shared.settings(opted_in) else {
            let what = "drey: not ready yet: the version of Kubernetes is not known";
            return Err((not_now(what), "NotReady"));
        };
        let verdict = self.judge(&request, settings).await;
        let answer = review::answer(&mut request, verdict);
        self.tell(&request, &answer);
        Ok((answer.body, answer.outcome, answer.reason))
    }

    /// What is looked up costs time, so only where it may matter.
    async fn judge(&self, request: &review::Request, settings: &Settings) -> Verdict {
        let verdict = review::judge(request, settings, &Facts::default());
        let Some((pod, role)) = review::subject(request, &verdict) else {
            return verdict;
        };
        let facts = self.look_ups.facts(&request.namespace, pod, role).await;
        match facts == Facts::default() {
            true => verdict,
            false => review::judge(request, settings, &facts),
        }
    }

    fn tell(&self, request: &review::Request, answer: &review::Answer) {
        let (uid, namespace) = (&request.uid, &request.namespace);
        let (outcome, reason) = (answer.outcome, answer.reason);
        let Some(note) = &answer.note else {
            return debug!(namespace, uid, outcome, reason, "Answered");
        };
        info!(
            namespace,
            uid, outcome, reason, request.dry_run, note.message, "Answered"
        );
        if !request.dry_run {
            self.reporter.tell(namespace, note);
        }
    }
}

impl Handler for Admission {
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let opted_in = match request.uri().path() {
            super::INJECT_PATH => false,
            super::INJECT_NAMESPACE_PATH => true,
            _ => return text(StatusCode::NOT_FOUND, "pods are injected at /inject\n"),
        };
        if request.method() != Method::POST {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "POST an AdmissionReview here\n",
            );
        }
        self.admit(request, opted_in).await
    }

    fn ending(&self) -> bool {
        self.shared.is_draining()
    }
}

impl NoBody {
    fn answer(self) -> (Response<Full<Bytes>>, &'static str) {
        let (status, what, reason) = match self {
            Self::TooLarge(prefix) => return bad(review::too_large(&prefix, BODY)),
            Self::NoRoom => {
                let what = "drey: too many reviews at a time; try again";
                return (again(what), "Overloaded");
            }
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "the review took too long to arrive\n",
                "Slow",
            ),
            Self::Broken => (
                StatusCode::BAD_REQUEST,
                "the review did not arrive\n",
                "Broken",
            ),
        };
        (text(status, what), reason)
    }
}

/// The room that one body has, which grows with what arrives of it: who only says that much will come takes none from others.
struct Room<'a> {
    all: &'a Semaphore,
    held: Option<SemaphorePermit<'a>>,
}

impl<'a> Room<'a> {
    const fn of(all: &'a Semaphore) -> Self {
        Self { all, held: None }
    }

    /// Waits until there is room for so many bytes in all.
    async fn grow(&mut self, bytes: usize) -> Result<(), NoBody> {
        let held = self.held.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = bytes.div_ceil(UNIT).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| NoBody::NoRoom)?;
        let taken = timeout(ROOM, self.all.acquire_many(more)).await;
        let taken = taken.ok().and_then(Result::ok).ok_or(NoBody::NoRoom)?;
        match &mut self.held {
            Some(held) => held.merge(taken),
            None => self.held = Some(taken),
        }
        Ok(())
    }

    fn give_back(&mut self) {
        self.held = None;
    }
}

async fn collect(mut body: Incoming, room: &mut Room<'_>) -> Result<Bytes, NoBody> {
    let expected = body.size_hint().exact().unwrap_or_default();
    let expected = usize::try_from(expected).unwrap_or(usize::MAX);
    let whole = async {
        if expected > BODY {
            return Err(NoBody::TooLarge(discard(body, BytesMut::new()).await));
        }
        let mut read = BytesMut::with_capacity(expected.min(AHEAD));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| NoBody::Broken)?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if read.len() + data.len() > BODY {
                let prefix = BytesMut::from(&read[..read.len().min(PREFIX)]);
                drop(read);
                room.give_back();
                return Err(NoBody::TooLarge(discard(body, prefix).await));
            }
            room.grow(read.len() + data.len()).await?;
            read.extend_from_slice(&data);
        }
        Ok(read.freeze())
    };
    timeout(ARRIVES, whole).await.unwrap_or(Err(NoBody::Slow))
}

/// Reads on without keeping anything but the beginning.
async fn discard(mut body: Incoming, mut prefix: BytesMut) -> BytesMut {
    let mut seen = prefix.len();
    prefix.truncate(PREFIX);
    while seen < DISCARDED
        && let Some(Ok(frame)) = body.frame().await
    {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen += data.len();
        let kept = data.len().min(PREFIX - prefix.len());
        prefix.extend_from_slice(&data[..kept]);
    }
    prefix
}

fn bad(malformed: Malformed) -> (Response<Full<Bytes>>, &'static str) {
    info!(
        reason = malformed.reason,
        error = malformed.message,
        "Cannot read a review"
    );
    let response = match malformed.denial {
        Some(denial) => reply(denial),
        None => text(StatusCode::BAD_REQUEST, &format!("{}\n", malformed.message)),
    };
    (response, malformed.reason)
}

fn reply(body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

/// The answer to what cannot be judged now.
///
/// No denial: that would count whatever an entry's `failurePolicy` says, and a TaskManager is better made without Drey than not at
/// all. Only the API server knows which policy the request came under. Of a 500 it passes the text on to whoever makes the pod;
/// that of a 503 it keeps to itself.
fn not_now(what: &str) -> Response<Full<Bytes>> {
    text(StatusCode::INTERNAL_SERVER_ERROR, what)
}

/// The same, where a moment later is soon enough: for `Retry-After` an API server asks again by itself, until its timeout. Of that alone
/// it tells then, and who can do without Drey has waited for it, so this is for what passes.
fn again(what: &str) -> Response<Full<Bytes>> {
    let mut response = not_now(what);
    let second = hyper::header::HeaderValue::from_static("1");
    response.headers_mut().insert("retry-after", second);
    response
}

/// An answer for people.
pub(super) fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}
