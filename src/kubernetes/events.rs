//! Kubernetes events, for `kubectl describe` of the pod and of what owns it.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{Event as CoreEvent, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::client::limited;
use super::error::Attempt;
use super::pods::OwnerRef;
use super::{Kube, KubeError};
use crate::domain::lock::PodRef;
use crate::telemetry::one_line;

/// Kubernetes refuses longer ones.
const LONGEST: usize = 1024;

/// Events that wait to be written. More than that at once are not told.
const QUEUE: usize = 32;

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    warning: bool,
    reason: &'static str,
    message: String,
}

impl Event {
    /// Something that is as it should be. `reason` is one word in upper camel case.
    #[must_use]
    pub fn normal(reason: &'static str, message: &str) -> Self {
        Self::new(false, reason, message)
    }

    /// Something that a person should look at.
    #[must_use]
    pub fn warning(reason: &'static str, message: &str) -> Self {
        Self::new(true, reason, message)
    }

    fn new(warning: bool, reason: &'static str, message: &str) -> Self {
        let mut message = message.to_owned();
        if let Some((end, _)) = message.char_indices().nth(LONGEST / 4 * 3) {
            message.truncate(end);
            message.push('…');
        }
        Self {
            warning,
            reason,
            message,
        }
    }
}

/// Writes events without ever holding its caller up.
#[derive(Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Event>,
}

/// What was written last about one object.
struct Last {
    event: Event,
    name: String,
    count: i32,
}

struct Writer {
    kube: Kube,
    about: Vec<ObjectReference>,
    last: Vec<Option<Last>>,
    pod: PodRef,
    forbidden: bool,
}

impl Recorder {
    /// A recorder of events about `pod` and its owner.
    #[must_use]
    pub fn new(kube: &Kube, pod: &PodRef, owner: Option<OwnerRef>) -> Self {
        let (queue, mut events) = mpsc::channel::<Event>(QUEUE);
        let mut about = vec![reference(kube, "v1", "Pod", &pod.name, &pod.uid)];
        about.extend(owner.map(|owner| {
            reference(
                kube,
                &owner.api_version,
                &owner.kind,
                &owner.name,
                &owner.uid,
            )
        }));
        let mut writer = Writer {
            kube: kube.clone(),
            last: about.iter().map(|_| None).collect(),
            about,
            pod: pod.clone(),
            forbidden: false,
        };
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                writer.write(&event).await;
            }
        });
        Self { queue }
    }

    /// Tells `event`.
    pub fn publish(&self, event: Event) {
        if let Err(error) = self.queue.try_send(event) {
            debug!(%error, "Event is not told");
        }
    }
}

fn reference(kube: &Kube, version: &str, kind: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(kube.namespace().to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

impl Writer {
    async fn write(&mut self, event: &Event) {
        for place in 0..self.about.len() {
            let written = match &mut self.last[place] {
                Some(last) if last.event == *event => {
                    last.count += 1;
                    let (name, count) = (last.name.clone(), last.count);
                    self.count_up(&name, count).await
                }
                _ => self.create(place, event).await,
            };
            if let Err(error) = written {
                self.failed(&error);
            }
        }
    }

    fn failed(&mut self, error: &KubeError) {
        let text = one_line(error, 300);
        if error.is_forbidden() && !std::mem::replace(&mut self.forbidden, true) {
            warn!(error = text, "Events cannot be told");
        } else {
            debug!(error = text, "Event could not be told");
        }
    }

    async fn create(&mut self, place: usize, event: &Event) -> Result<(), KubeError> {
        let about = self.about[place].clone();
        let now = Time(jiff::Timestamp::now());
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let name = format!("{}.{nanos:x}", about.name.as_deref().unwrap_or_default());
        let object = CoreEvent {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.kube.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(event.reason.to_owned()),
            message: Some(event.message.clone()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            source: Some(EventSource {
                component: Some("drey".to_owned()),
                host: self.pod.node.clone(),
            }),
            reporting_component: Some("drey.io/drey".to_owned()),
            reporting_instance: Some(self.pod.name.clone()),
            ..CoreEvent::default()
        };
        let api: Api<CoreEvent> = self.kube.api();
        let params = PostParams {
            field_manager: Some("drey".to_owned()),
            ..PostParams::default()
        };
        limited(attempt("create", ""), api.create(&params, &object)).await?;
        self.last[place] = Some(Last {
            event: event.clone(),
            name,
            count: 1,
        });
        Ok(())
    }

    async fn count_up(&self, name: &str, count: i32) -> Result<(), KubeError> {
        let patch = json!({"count": count, "lastTimestamp": Time(jiff::Timestamp::now())});
        let api: Api<CoreEvent> = self.kube.api();
        let params = PatchParams::default();
        let patch = Patch::Merge(&patch);
        let patched = api.patch(name, &params, &patch);
        limited(attempt("patch", name), patched).await.map(drop)
    }
}

fn attempt<'a>(verb: &'static str, name: &'a str) -> Attempt<'a> {
    Attempt {
        verb,
        resource: "events",
        group: "",
        name,
    }
}
