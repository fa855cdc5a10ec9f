//! Events on the pod and on its owner, for `kubectl describe` and `kubectl events`.
//!
//! They are for people: a failure to write one is logged and never anybody else's concern. Core v1, since that is what
//! `kubectl describe` reads and what Roles commonly allow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event as CoreEvent;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::client::{Kube, limited};
use super::error::{Attempt, KubeError};
use super::pods::OwnerRef;
use crate::domain::lock::PodRef;

/// Events that wait to be written while the API server is away; what comes when it is full is lost.
const QUEUE: usize = 32;

/// Events that are remembered, so that a repetition is counted.
const REMEMBERED: usize = 32;

/// The most that Kubernetes takes for a message, in bytes.
const MESSAGE: usize = 1024;

/// How long the writing of one event is tried.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// In CamelCase, such as `SavepointCompleted`.
    pub reason: &'static str,
    /// Whether somebody should look.
    pub kind: EventKind,
    /// For people; cut at 1024 bytes.
    pub message: String,
    /// What was done, in CamelCase, such as `Savepoint`.
    pub action: &'static str,
}

impl Event {
    /// Something that is as it should be.
    #[must_use]
    pub fn normal(reason: &'static str, message: &str) -> Self {
        Self {
            reason,
            kind: EventKind::Normal,
            message: message.to_owned(),
            action: reason,
        }
    }

    /// Something that somebody should look at.
    #[must_use]
    pub fn warning(reason: &'static str, message: &str) -> Self {
        Self {
            kind: EventKind::Warning,
            ..Self::normal(reason, message)
        }
    }
}

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing has to be done.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Writes events, one at a time, in the order in which they were published.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Order>,
    /// About whom events are, if not said otherwise.
    about: Arc<About>,
    lost: Arc<AtomicU64>,
}

/// Objects of one namespace.
#[derive(Debug)]
struct About {
    kube: Kube,
    subjects: Vec<OwnerRef>,
}

#[derive(Debug)]
enum Order {
    Write(Arc<About>, Event),
    Done(oneshot::Sender<()>),
}

impl Recorder {
    /// A recorder for `pod` and what owns it. Must be called inside a Tokio runtime, in which it writes until it is dropped.
    #[must_use]
    pub fn new(kube: &Kube, pod: &PodRef, owner: Option<OwnerRef>) -> Self {
        let pod_ref = OwnerRef {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        };
        let subjects = std::iter::once(pod_ref).chain(owner).collect();
        Self::start(kube, &pod.name, subjects)
    }

    /// A recorder of `instance` for objects that are named with each event, by [`Recorder::publish_about`].
    pub(crate) fn for_others(kube: &Kube, instance: &str) -> Self {
        Self::start(kube, instance, Vec::new())
    }

    fn start(kube: &Kube, instance: &str, subjects: Vec<OwnerRef>) -> Self {
        let (queue, orders) = mpsc::channel(QUEUE);
        let writer = Writer {
            instance: instance.to_owned(),
            written: VecDeque::new(),
            told_forbidden: false,
        };
        tokio::spawn(writer.run(orders));
        let kube = kube.clone();
        Self {
            queue,
            about: Arc::new(About { kube, subjects }),
            lost: Arc::default(),
        }
    }

    /// Has the event written soon, and never waits for that.
    pub fn publish(&self, event: Event) {
        self.order(Arc::clone(&self.about), event);
    }

    /// The same about an object of the namespace that `kube` is for.
    pub(crate) fn publish_about(&self, kube: Kube, subject: OwnerRef, event: Event) {
        let subjects = vec![subject];
        self.order(Arc::new(About { kube, subjects }), event);
    }

    fn order(&self, about: Arc<About>, event: Event) {
        if self.queue.try_send(Order::Write(about, event)).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            warn!(lost, "Lost an event: too many wait to be written");
        }
    }

    /// Waits until what was published is written, at most as long as `most`: before the process ends.
    pub async fn flush(&self, most: Duration) {
        let (done, written) = oneshot::channel();
        let flush = async {
            if self.queue.send(Order::Done(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        let _ = timeout(most, flush).await;
    }
}

struct Writer {
    /// The pod that reports.
    instance: String,
    /// The last ones, newest last.
    written: VecDeque<Written>,
    told_forbidden: bool,
}

/// An event that stands in the API server.
struct Written {
    subject: String,
    event: Event,
    name: String,
    count: i32,
}

impl Writer {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Write(about, mut event) => {
                    event.message = cut(&event.message, MESSAGE).to_owned();
                    for subject in &about.subjects {
                        self.write(&about.kube, subject, &event).await;
                    }
                }
                Order::Done(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    async fn write(&mut self, kube: &Kube, subject: &OwnerRef, event: &Event) {
        let start = Instant::now();
        let mut pause = Duration::from_millis(200);
        loop {
            match self.try_write(kube, subject, event).await {
                Ok(()) => return,
                Err(KubeError::Forbidden { .. }) if self.told_forbidden => return,
                Err(error @ KubeError::Forbidden { .. }) => {
                    self.told_forbidden = true;
                    warn!(%error, "Cannot write events; this is said only once");
                    return;
                }
                Err(error) if error.is_retryable() && start.elapsed() < PATIENCE => {
                    debug!(%error, "Cannot write an event now");
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(error) => {
                    warn!(%error, reason = event.reason, "Lost an event");
                    return;
                }
            }
        }
    }

    async fn try_write(
        &mut self,
        kube: &Kube,
        subject: &OwnerRef,
        event: &Event,
    ) -> Result<(), KubeError> {
        let known = self
            .written
            .iter()
            .position(|written| written.subject == subject.uid && written.event == *event);
        if let Some(mut written) = known.and_then(|index| self.written.remove(index)) {
            written.count += 1;
            match count(kube, &written).await {
                Ok(()) => {
                    self.remember(written);
                    return Ok(());
                }
                // The API server forgets events after an hour.
                Err(KubeError::NotFound { .. }) => {}
                Err(error) => {
                    written.count -= 1;
                    self.remember(written);
                    return Err(error);
                }
            }
        }
        let name = self.create(kube, subject, event).await?;
        self.remember(Written {
            subject: subject.uid.clone(),
            event: event.clone(),
            name,
            count: 1,
        });
        Ok(())
    }

    fn remember(&mut self, written: Written) {
        self.written.push_back(written);
        if self.written.len() > REMEMBERED {
            self.written.pop_front();
        }
    }

    async fn create(
        &self,
        kube: &Kube,
        subject: &OwnerRef,
        event: &Event,
    ) -> Result<String, KubeError> {
        let now = Timestamp::now();
        // As client-go names them; the subject's name is cut so that this one is not too long.
        let name = format!("{}.{:x}", cut(&subject.name, 200), now.as_nanosecond());
        let kind = match event.kind {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        };
        let event: CoreEvent = serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": kube.namespace() },
            "involvedObject": {
                "apiVersion": subject.api_version,
                "kind": subject.kind,
                "name": subject.name,
                "uid": subject.uid,
                "namespace": kube.namespace(),
            },
            "type": kind,
            "reason": event.reason,
            "message": event.message,
            "action": event.action,
            "count": 1,
            "firstTimestamp": seconds(now),
            "lastTimestamp": seconds(now),
            "source": { "component": "drey" },
            "reportingComponent": "drey",
            "reportingInstance": self.instance,
        }))
        .expect("an Event");
        let api: Api<CoreEvent> = kube.api();
        let params = PostParams::default();
        let created = limited(attempt("create", &name), api.create(&params, &event)).await;
        match created {
            // Written, but the answer was lost.
            Ok(_) | Err(KubeError::Conflict { .. }) => Ok(name),
            Err(error) => Err(error),
        }
    }
}

async fn count(kube: &Kube, written: &Written) -> Result<(), KubeError> {
    let api: Api<CoreEvent> = kube.api();
    let patch = json!({ "count": written.count, "lastTimestamp": seconds(Timestamp::now()) });
    let params = PatchParams::default();
    let patch = Patch::Merge(&patch);
    let patched = api.patch(&written.name, &params, &patch);
    limited(attempt("patch", &written.name), patched).await?;
    Ok(())
}

fn attempt<'a>(verb: &'static str, name: &'a str) -> Attempt<'a> {
    Attempt {
        verb,
        resource: "events",
        group: "",
        name,
    }
}

/// A `Time` of Kubernetes has whole seconds.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// At most `most` bytes of `text`, whole characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
