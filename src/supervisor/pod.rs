//! The supervisor's own pod: what is known of it, of its owner, and of the other pods of the cluster id.
//!
//! Everything is told by watches of single objects; what they show comes to the supervisor's loop as [`News`].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::memory::Memory;
use super::others::follow;
use crate::domain::cause::Owner;
use crate::domain::changes::Files;
use crate::domain::lock::{PodRef, PodState};
use crate::domain::pointer_map::Document;
use crate::inject::SIDECAR;
use crate::kubernetes::events::{Event, Recorder};
use crate::kubernetes::ha::HighAvailability;
use crate::kubernetes::pods::{ConfigMapMount, PodSight, Restarts, watch_config_map, watch_pod};
use crate::kubernetes::{Kube, OwnerSight, PointerMap, owner_of};
use crate::telemetry::one_line;

use super::changes::Part;

/// For how long what owns the pod is taken for what it was.
const OWNER_FRESH: Duration = Duration::from_secs(2);

/// How long it is waited for what owns the pod: everything else can be done without it.
const OWNER_PATIENCE: Duration = Duration::from_secs(1);

/// How long events that are not written yet are waited for at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// What a watch has shown.
#[derive(Debug)]
pub(super) enum News {
    /// The own pod; `None`: it is gone.
    Me(Option<Box<PodSight>>),
    /// The pointer's ConfigMap; `None`: it was deleted.
    Map(Option<Box<Document>>),
    /// Another pod, by UID.
    Other(String, PodState),
    /// The leader's IP address, with Kubernetes HA; `None`: there is none.
    Leader(Option<String>),
    /// The files in the ConfigMap that this is mounted from; `None`: it is gone.
    Configuration(Part, Option<Files>),
    /// That ConfigMap cannot be watched.
    NoConfiguration(Part, String),
    /// A watch is interrupted; it goes on by itself.
    Away(String),
}

/// The pod that the supervisor runs in.
#[derive(Debug)]
pub(super) struct Pod {
    kube: Kube,
    name: String,
    /// Flink's container.
    container: String,
    sender: mpsc::Sender<News>,
    /// As it was seen last.
    pub(super) me: Option<PodSight>,
    /// What owns it, as it was looked up last.
    pub(super) owner: Option<OwnerSight>,
    looked_up: Option<Instant>,
    events: Option<Recorder>,
    others: BTreeMap<String, Other>,
    /// The job was given up to a pod of another template.
    pub(super) handed_over: bool,
    /// What was logged last.
    pub(super) waits_for: String,
    /// What a container that is started while the API server is away knows of its pod.
    memory: Memory,
}

#[derive(Debug)]
struct Other {
    state: PodState,
    task: JoinHandle<()>,
}

impl Pod {
    /// The pod `name`, whose container `container` Flink runs in.
    #[must_use]
    pub(super) fn new(kube: Kube, name: &str, container: &str, state_dir: &Path) -> Self {
        // Nobody listens before `watch`.
        let (sender, _) = mpsc::channel(1);
        let memory = Memory::load(state_dir, name);
        Self {
            kube,
            name: name.to_owned(),
            container: container.to_owned(),
            sender,
            me: memory.pod(),
            owner: None,
            looked_up: None,
            events: None,
            others: BTreeMap::new(),
            handed_over: false,
            waits_for: String::new(),
            memory,
        }
    }

    /// Watches the own pod and the pointer's ConfigMap from now on.
    pub(super) fn watch(&mut self, map: &PointerMap) -> mpsc::Receiver<News> {
        let (sender, news) = mpsc::channel(16);
        self.sender = sender;
        let (sender, mut pod) = (self.sender.clone(), watch_pod(&self.kube, &self.name));
        let (other, mut map) = (self.sender.clone(), map.watch());
        tokio::spawn(async move {
            while let Some(seen) = next(&mut pod, &sender).await {
                let news = seen.map_or_else(away, |pod| News::Me(pod.map(Box::new)));
                if sender.send(news).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(seen) = next(&mut map, &other).await {
                let news = seen.map_or_else(away, |map| News::Map(map.map(Box::new)));
                if other.send(news).await.is_err() {
                    return;
                }
            }
        });
        news
    }

    /// Watches who leads from now on.
    pub(super) fn watch_leader(&self, metadata: &HighAvailability) {
        let (sender, mut leader) = (self.sender.clone(), metadata.watch_leader());
        tokio::spawn(async move {
            let mut last = None;
            while let Some(seen) = next(&mut leader, &sender).await {
                // The lease is renewed every few seconds, which is no news.
                let news = match seen {
                    Ok(leader) if last.as_ref() == Some(&leader) => continue,
                    Ok(leader) => {
                        last = Some(leader.clone());
                        News::Leader(leader)
                    }
                    Err(error) => away(error),
                };
                if sender.send(news).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Watches the ConfigMap that `part` is mounted from, from now on.
    pub(super) fn watch_configuration(&self, part: Part, mount: ConfigMapMount) {
        let (sender, mut map) = (self.sender.clone(), watch_config_map(&self.kube, mount));
        tokio::spawn(async move {
            while let Some(seen) = next(&mut map, &sender).await {
                let news = match seen {
                    Ok(files) => News::Configuration(part, files),
                    Err(error) => News::NoConfiguration(part, one_line(&error, 300)),
                };
                if sender.send(news).await.is_err() {
                    return;
                }
            }
        });
    }

    /// What owns the pod, or the pod itself: what may not start a finished job again.
    pub(super) fn owner_uid(&self) -> Option<String> {
        let owner = self.owner.as_ref().and_then(|owner| owner.owner.clone());
        let owner = owner.map(|owner| owner.uid);
        let owner = owner.or_else(|| self.memory.owner_uid());
        owner.or_else(|| Some(self.me.as_ref()?.pod.uid.clone()))
    }

    /// Whether the API server has shown the pod to this process; until then it may be known from an earlier container.
    pub(super) fn is_seen(&self) -> bool {
        self.events.is_some()
    }

    /// The kubelet starts a container of this pod again whenever it ends, even in success.
    pub(super) fn is_restarted(&self) -> bool {
        let restarts = self.me.as_ref().map(|me| me.restarts);
        restarts == Some(Restarts::Always)
    }

    /// With what Flink's container has ended, if the kubelet will not start it again.
    pub(super) fn flink_ended_for_good(&self) -> Option<i32> {
        let ended = self.me.as_ref()?.ended_for_good(&self.container)?;
        Some(ended.code)
    }

    /// The kubelet ends a native sidecar once all else in the pod has ended, but for an ordinary one it waits.
    pub(super) fn is_waited_for(&self) -> bool {
        let me = self.me.as_ref();
        let own = me.and_then(|me| me.containers.get(SIDECAR));
        own.is_some_and(|own| own.main)
    }

    /// Waits a moment for events that are not written yet: the process is about to end.
    pub(super) async fn flush(&self) {
        if let Some(events) = &self.events {
            events.flush(FLUSH).await;
        }
    }

    /// The API.
    pub(super) fn kube(&self) -> &Kube {
        &self.kube
    }

    /// Flink's container.
    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// Notes how the own pod stands; events are possible from the first time on.
    pub(super) async fn see(&mut self, sight: PodSight) {
        if self.events.is_none() {
            self.look_up_owner(&sight).await;
            let owner = self.owner.as_ref().and_then(|owner| owner.owner.clone());
            self.events = Some(Recorder::new(&self.kube, &sight.pod, owner));
        }
        let known = self.owner.is_some();
        self.memory
            .keep(&sight, known.then(|| self.owner_uid()).flatten());
        self.me = Some(sight);
    }

    async fn look_up_owner(&mut self, sight: &PodSight) {
        self.looked_up = Some(Instant::now());
        match timeout(OWNER_PATIENCE, owner_of(&self.kube, sight)).await {
            Ok(Ok(owner)) => self.learn_owner(owner),
            Err(_) => warn!(
                pod = self.name,
                "What owns this pod is not known: no answer"
            ),
            Ok(Err(error)) => {
                let error = one_line(&error, 300);
                warn!(pod = self.name, error, "What owns this pod is not known");
            }
        }
    }

    /// Notes what owns the pod, and says once which rights were missing to see all of it.
    fn learn_owner(&mut self, owner: OwnerSight) {
        let known = self.owner.replace(owner);
        let missing = |owner: &OwnerSight| -> Vec<String> {
            owner
                .missing
                .iter()
                .map(|error| one_line(error, 300))
                .collect()
        };
        let now = self.owner.as_ref().map(missing).unwrap_or_default();
        if now.is_empty() || known.as_ref().map(missing).as_ref() == Some(&now) {
            return;
        }
        let what = now.join("; ");
        warn!(pod = self.name, what, "Rights are missing");
        self.tell(Event::warning("RightsMissing", &what));
    }

    /// What owns the pod as it is now, if that can be seen. Not asked again within moments.
    pub(super) async fn refresh_owner(&mut self) {
        let fresh = self.looked_up.is_some_and(|at| at.elapsed() < OWNER_FRESH);
        if let Some(sight) = self.me.clone().filter(|_| !fresh) {
            self.look_up_owner(&sight).await;
        }
    }

    /// Whether this pod is to be replaced by one of another template, as far as that can be seen now.
    pub(super) async fn owner_has_new_template(&mut self) -> bool {
        self.refresh_owner().await;
        self.owner.as_ref().map(OwnerSight::wants) == Some(Owner::NewTemplate)
    }

    /// An event on the pod and its owner.
    pub(super) fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            events.publish(event);
        }
    }

    /// What is known of the other pods.
    pub(super) fn states(&self) -> BTreeMap<String, PodState> {
        let known = |(uid, other): (&String, &Other)| (uid.clone(), other.state.clone());
        self.others.iter().map(known).collect()
    }

    pub(super) fn note(&mut self, uid: &str, state: PodState) {
        if let Some(other) = self.others.get_mut(uid) {
            other.state = state;
        }
    }

    /// Follows these pods, and no others any more. `ports` are what a JobManager listens on.
    pub(super) fn follow(&mut self, pods: &[PodRef], ports: [u16; 2]) {
        let wanted = |uid: &String| pods.iter().any(|pod| pod.uid == *uid);
        self.others.retain(|uid, other| {
            let keep = wanted(uid);
            if !keep {
                other.task.abort();
            }
            keep
        });
        for pod in pods {
            if self.others.contains_key(&pod.uid) {
                continue;
            }
            let task = tokio::spawn(follow(
                self.kube.clone(),
                pod.clone(),
                self.container.clone(),
                ports,
                self.sender.clone(),
            ));
            let state = PodState::Unknown { silent_since: None };
            self.others.insert(pod.uid.clone(), Other { state, task });
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for other in self.others.values() {
            other.task.abort();
        }
    }
}

/// What a watch shows next; `None` as well when nobody listens any more.
async fn next<T>(
    watch: &mut (impl Stream<Item = T> + Unpin),
    sender: &mpsc::Sender<News>,
) -> Option<T> {
    tokio::select! {
        seen = watch.next() => seen,
        () = sender.closed() => None,
    }
}

fn away(error: impl std::error::Error) -> News {
    News::Away(one_line(&error, 300))
}
