//! Holds a TaskManager that was told to go, as [`decide_hold`] says.
//!
//! The API server is spoken to only from then on: a TaskManager that runs costs it nothing. Without Kubernetes there is
//! nobody to ask, and nothing is held.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::Settings;
use crate::domain::budget::{after, until};
use crate::domain::hold::{HoldAction, HoldView, MapSight, decide_hold};
use crate::domain::lock::PodState;
use crate::domain::pointer_map::{Document, Request, RequestKind};
use crate::domain::savepoint::TriggerId;
use crate::kubernetes::pods::{PodSight, seen_as};
use crate::kubernetes::{Kube, PointerMap, PointerMapError, watch_pod};
use crate::telemetry::one_line;

/// What a TaskManager's JVM may need from SIGTERM to its end: `JvmShutdownSafeguard` halts it after 5 s.
const JVM_NEEDS: Duration = Duration::from_secs(6);

/// A pod's grace period while its object has not been seen: what Kubernetes sets by itself.
const USUAL_GRACE: Duration = Duration::from_secs(30);

/// How long one write may take, of a time that may be short.
const WRITE: Duration = Duration::from_secs(2);

/// How long it waits to see its own pod before it asks without.
const SOON: Duration = Duration::from_secs(1);

/// The wait before a write that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// What a watch has shown.
enum News {
    Me(Option<Box<PodSight>>),
    Map(Option<Box<Document>>),
    Holder(String, PodState),
    Away(&'static str, String),
}

/// A TaskManager that was told to go.
pub(super) struct Hold {
    container: String,
    blind_for: Duration,
    told_at: Timestamp,
    deadline: Timestamp,
    kubernetes: Option<Kubernetes>,
}

/// What is known from the API server.
struct Kubernetes {
    kube: Kube,
    map: PointerMap,
    pod: String,
    news: SelectAll<BoxStream<'static, News>>,
    me: Option<PodSight>,
    document: Option<Document>,
    /// Since when the map is missing or could not be read.
    blind_since: Option<Timestamp>,
    /// Since when it could not be written.
    unwritten_since: Option<Timestamp>,
    holders: BTreeMap<String, PodState>,
    watched: BTreeSet<String>,
    /// The name under which it asks to be let go; perhaps without an answer to the write.
    asks_as: Option<String>,
    /// It has asked.
    requested: bool,
    /// The savepoints under way.
    savepoints: BTreeSet<TriggerId>,
}

impl Hold {
    /// To be made when SIGTERM has come.
    pub(super) async fn new(settings: &Settings, told_at: Timestamp) -> Self {
        let kubernetes = match &settings.pod_name {
            Some(pod) => Kubernetes::connect(settings, pod, told_at).await,
            None => None,
        };
        Self {
            container: settings.flink_container.clone(),
            blind_for: settings.task_manager_hold,
            told_at,
            deadline: after(told_at, USUAL_GRACE - JVM_NEEDS),
            kubernetes,
        }
    }

    /// Waits until the TaskManager may go; why it may.
    pub(super) async fn until_free(&mut self) -> String {
        let mut waits_for = String::new();
        loop {
            let action = match &self.kubernetes {
                None => HoldAction::Go("there is no Kubernetes to ask who needs it".to_owned()),
                Some(known) => decide_hold(&self.view(known)),
            };
            match action {
                HoldAction::Go(why) => return why,
                HoldAction::Request => {
                    if self.knows_itself() {
                        self.request().await;
                    } else {
                        self.next(after(self.told_at, SOON)).await;
                    }
                }
                HoldAction::Wait(until, why) => {
                    if why != waits_for {
                        info!(why, %until, "TaskManager waits");
                        waits_for = why;
                    }
                    if self.is_unwritten() {
                        self.next(until.min(after(Timestamp::now(), AGAIN))).await;
                        self.request().await;
                    } else {
                        self.next(until).await;
                    }
                }
            }
        }
    }

    /// Its own UID and address belong into the request, and come at the same time as the map, if they come.
    fn knows_itself(&self) -> bool {
        let seen = self
            .kubernetes
            .as_ref()
            .is_some_and(|known| known.me.is_some());
        seen || Timestamp::now() >= after(self.told_at, SOON)
    }

    fn is_unwritten(&self) -> bool {
        let known = self.kubernetes.as_ref();
        known.is_some_and(|known| known.unwritten_since.is_some() && known.document.is_some())
    }

    fn view<'a>(&self, known: &'a Kubernetes) -> HoldView<'a> {
        HoldView {
            now: Timestamp::now(),
            told_at: self.told_at,
            deadline: self.deadline,
            map: known.sight(self.told_at),
            pods: &known.holders,
            requested: known.requested,
            blind_for: self.blind_for,
        }
    }

    /// Waits for news, at most until then.
    async fn next(&mut self, end: Timestamp) {
        let Some(known) = &mut self.kubernetes else {
            return;
        };
        let left = until(Timestamp::now(), end);
        let news = tokio::select! {
            news = known.news.next() => news,
            () = sleep(left) => None,
        };
        match news {
            Some(News::Me(Some(me))) => {
                self.deadline = deadline(&me, self.told_at);
                known.me = Some(*me);
            }
            Some(News::Map(document)) => known.read(document.map(|it| *it), &self.container),
            Some(News::Holder(uid, state)) => {
                known.holders.insert(uid, state);
            }
            Some(News::Away(what, why)) => {
                warn!(what, why, "TaskManager cannot see what it waits for");
                if what == "map" {
                    known.blind_since.get_or_insert_with(Timestamp::now);
                }
            }
            Some(News::Me(None)) | None => {}
        }
    }

    /// Asks to be let go, or makes room for that.
    async fn request(&mut self) {
        let Some(known) = &mut self.kubernetes else {
            return;
        };
        let failure = match timeout(WRITE, known.request(self.told_at)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(one_line(&error, 300)),
            Err(_) => Some("no answer".to_owned()),
        };
        match failure {
            None => known.unwritten_since = None,
            Some(error) if known.unwritten_since.is_none() => {
                warn!(error, "TaskManager could not ask to be let go");
                known.unwritten_since = Some(Timestamp::now());
            }
            Some(_) => {}
        }
    }

    /// Takes the request away. The JVM may be ending meanwhile.
    pub(super) async fn withdraw(&mut self) {
        let Some(known) = &mut self.kubernetes else {
            return;
        };
        let Some(name) = known.asks_as.take() else {
            return;
        };
        match timeout(WRITE, known.map.withdraw(&name)).await {
            Ok(Ok(())) => {}
            // The supervisor answers it some day, and nobody reads that.
            Ok(Err(error)) => warn!(error = one_line(&error, 300), "Request stays"),
            Err(_) => warn!("Request stays: no answer"),
        }
    }
}

/// When the JVM has to be told, by this machine's clock or by that of the API server, whichever is earlier. A container that
/// is restarted alone, or a node that shuts down, leaves no mark in the pod.
fn deadline(me: &PodSight, told_at: Timestamp) -> Timestamp {
    let (grace, by) = match &me.deletion {
        Some(deletion) => (deletion.grace, Some(deletion.deadline)),
        None => (me.grace, None),
    };
    let own = after(told_at, grace);
    let end = by.map_or(own, |by| by.min(own));
    end.checked_sub(JVM_NEEDS).unwrap_or(end)
}

impl Kubernetes {
    async fn connect(settings: &Settings, pod: &str, told_at: Timestamp) -> Option<Self> {
        let kube = match Kube::connect(settings.pod_namespace.as_deref()).await {
            Ok(kube) => kube,
            Err(error) => {
                // Without a service account it will not be there later either.
                warn!(
                    error = one_line(&error, 300),
                    "TaskManager cannot ask Kubernetes"
                );
                return None;
            }
        };
        let map = PointerMap::new(&kube, &settings.cluster_id);
        let me = watch_pod(&kube, pod).map(|seen| match seen {
            Ok(pod) => News::Me(pod.map(Box::new)),
            Err(error) => News::Away("pod", one_line(&error, 300)),
        });
        let document = map.watch().map(|seen| match seen {
            Ok(document) => News::Map(document.map(Box::new)),
            Err(error) => News::Away("map", one_line(&error, 300)),
        });
        let mut news = SelectAll::new();
        news.push(me.boxed());
        news.push(document.boxed());
        // So that it never ends, whatever happens to the others.
        news.push(stream::once(pending()).boxed());
        Some(Self {
            pod: pod.to_owned(),
            map,
            kube,
            news,
            me: None,
            document: None,
            blind_since: Some(told_at),
            holders: BTreeMap::new(),
            watched: BTreeSet::new(),
            unwritten_since: None,
            asks_as: None,
            requested: false,
            savepoints: BTreeSet::new(),
        })
    }

    /// Its key in the map: of the pod's UID, since the next pod of a StatefulSet has the same name.
    fn name(&self) -> String {
        let uid = self.me.as_ref().map(|me| me.pod.uid.as_str());
        format!("tm-{}", uid.unwrap_or(&self.pod))
    }

    fn sight(&self, told_at: Timestamp) -> MapSight<'_> {
        let blind = [self.blind_since, self.unwritten_since];
        let since = blind.into_iter().flatten().min();
        match (&self.document, since) {
            (Some(document), None) if document.lock_damage.is_none() => {
                let answer = |name: &String| document.answers.contains_key(name);
                MapSight::Seen {
                    answered: self.requested && self.asks_as.as_ref().is_some_and(answer),
                    holders: &document.lock.holders,
                }
            }
            (_, since) => MapSight::Unreachable {
                since: since.unwrap_or(told_at),
            },
        }
    }

    /// Tells which savepoints begin and end while it waits: by their ids its log is joined with the supervisor's.
    fn follow(&mut self, document: &Document) {
        let jobs = document.pointer.good().into_iter();
        let jobs = jobs.flat_map(|pointer| pointer.jobs.values());
        let intents = jobs.filter_map(|entry| entry.intent.as_ref());
        let open: BTreeSet<TriggerId> = intents.map(|intent| intent.trigger).collect();
        for trigger_id in open.difference(&self.savepoints) {
            info!(%trigger_id, "TaskManager is kept for a savepoint");
        }
        for trigger_id in self.savepoints.difference(&open) {
            info!(%trigger_id, "Savepoint that the TaskManager was kept for is over");
        }
        self.savepoints = open;
    }

    fn read(&mut self, document: Option<Document>, container: &str) {
        match &document {
            Some(document) => {
                self.blind_since = None;
                self.follow(document);
            }
            None => {
                self.blind_since.get_or_insert_with(Timestamp::now);
            }
        }
        let holders = document.iter().flat_map(|document| &document.lock.holders);
        for pod in holders.map(|holder| holder.pod.clone()) {
            if !self.watched.insert(pod.uid.clone()) {
                continue;
            }
            let container = container.to_owned();
            let watch = watch_pod(&self.kube, &pod.name).map(move |seen| match seen {
                Ok(seen) => {
                    let same = seen.filter(|seen| seen.pod.uid == pod.uid);
                    let state = seen_as(same.as_ref(), &container, None);
                    News::Holder(pod.uid.clone(), state)
                }
                Err(error) => News::Away("JobManager's pod", one_line(&error, 300)),
            });
            self.news.push(watch.boxed());
        }
        self.document = document;
    }

    /// Writes the request. What an earlier life of the container has left goes first, and is waited for to be seen gone, so
    /// that its answer is not taken for the one to this request.
    async fn request(&mut self, told_at: Timestamp) -> Result<(), PointerMapError> {
        let name = self.name();
        let left = |document: &Document| document.answers.contains_key(&name);
        if self.document.as_ref().is_some_and(left) {
            self.map.withdraw(&name).await?;
            self.document = None;
            self.blind_since = Some(told_at);
            return Ok(());
        }
        let request = Request {
            kind: RequestKind::Release,
            pod: Some(self.pod.clone()),
            ip: self.me.as_ref().and_then(|me| me.pod.ip.clone()),
            asked: Timestamp::now(),
            until: None,
            format: None,
        };
        self.asks_as = Some(name.clone());
        self.map.request(&name, &request).await?;
        self.requested = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
