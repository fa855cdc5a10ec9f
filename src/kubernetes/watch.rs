//! Watches one object by its name.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{BoxStream, unfold};
use futures_util::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::client::LIMIT;
use super::error::{Attempt, KubeError};

/// How long one watch is open before the API server ends it and the next one begins. 290 s is the most that kube asks for.
const OPEN: u32 = 290;

/// The pauses after a failure.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// What a watch of `resource` is about.
pub(crate) struct Target {
    pub(crate) resource: &'static str,
    /// Its API group as a Role names it.
    pub(crate) group: &'static str,
    pub(crate) name: String,
}

impl Target {
    fn attempt(&self, verb: &'static str) -> Attempt<'_> {
        Attempt {
            verb,
            resource: self.resource,
            group: self.group,
            name: &self.name,
        }
    }

    fn selector(&self) -> String {
        // With this selector a Role may bind the right to list and watch to a name.
        format!("metadata.name={}", self.name)
    }
}

struct Watch<K> {
    api: Api<K>,
    target: Target,
    state: State<K>,
    /// Failures in a row.
    failures: usize,
    /// What was told of the failure that lasts.
    told: Option<KubeError>,
    pending: VecDeque<Option<K>>,
    opened: Instant,
}

enum State<K> {
    /// The present state has to be read.
    Unknown,
    /// Read at this resourceVersion.
    Known(String),
    /// Watched.
    Open(String, BoxStream<'static, kube::Result<WatchEvent<K>>>),
}

/// The object now, and after each change; `None` when there is none. A failure is told once as long as it stays the same; the state
/// is told again when it is over.
pub(crate) fn watch_object<K>(
    api: Api<K>,
    target: Target,
) -> BoxStream<'static, Result<Option<K>, KubeError>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watch = Watch {
        api,
        target,
        state: State::Unknown,
        failures: 0,
        told: None,
        pending: VecDeque::new(),
        opened: Instant::now(),
    };
    unfold(watch, |mut watch| async move {
        let item = watch.next().await;
        Some((item, watch))
    })
    .boxed()
}

impl<K> Watch<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> Result<Option<K>, KubeError> {
        loop {
            if let Some(object) = self.pending.pop_front() {
                return Ok(object);
            }
            if let Err(error) = self.step().await {
                // Read again after each failure, so that nothing that happened meanwhile is missed.
                self.state = State::Unknown;
                self.failures += 1;
                if self.told.as_ref() != Some(&error) {
                    self.told = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<(), KubeError> {
        match std::mem::replace(&mut self.state, State::Unknown) {
            State::Unknown => self.read().await,
            State::Known(version) => self.open(version).await,
            State::Open(version, stream) => self.follow(version, stream).await,
        }
    }

    async fn read(&mut self) -> Result<(), KubeError> {
        if let Some(last) = self.failures.checked_sub(1) {
            sleep(PAUSES[last.min(PAUSES.len() - 1)]).await;
        }
        let params = ListParams::default().fields(&self.target.selector());
        let list = self.api.list(&params);
        let list = super::client::limited(self.target.attempt("list"), list).await?;
        self.pending.push_back(list.items.into_iter().next());
        self.state = State::Known(list.metadata.resource_version.unwrap_or_default());
        Ok(())
    }

    async fn open(&mut self, version: String) -> Result<(), KubeError> {
        let attempt = self.target.attempt("watch");
        let params = WatchParams::default()
            .fields(&self.target.selector())
            .timeout(OPEN);
        let watch = self.api.watch(&params, &version);
        let stream = super::client::limited(attempt, watch).await?;
        self.failures = 0;
        self.told = None;
        self.opened = Instant::now();
        self.state = State::Open(version, stream.boxed());
        Ok(())
    }

    async fn follow(
        &mut self,
        version: String,
        mut stream: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    ) -> Result<(), KubeError> {
        let attempt = self.target.attempt("watch");
        // The API server ends a watch by itself; one that is open for longer has been forgotten.
        let idle = Duration::from_secs(u64::from(OPEN)) + LIMIT;
        let event = match timeout(idle, pin!(stream.try_next())).await {
            Ok(Ok(Some(event))) => event,
            // An API server that is about to go ends each watch as soon as it begins.
            Ok(Ok(None)) if self.opened.elapsed() < PAUSES[2] => {
                return Err(KubeError::unreachable(
                    attempt,
                    "it ended the watch at once",
                ));
            }
            Ok(Ok(None)) | Err(_) => {
                self.state = State::Known(version);
                return Ok(());
            }
            Ok(Err(error)) => return Err(KubeError::of(attempt, &error)),
        };
        let version = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let seen = object.meta().resource_version.clone();
                self.pending.push_back(Some(object));
                seen.unwrap_or(version)
            }
            WatchEvent::Deleted(object) => {
                self.pending.push_back(None);
                object.meta().resource_version.clone().unwrap_or(version)
            }
            WatchEvent::Bookmark(mark) => mark.metadata.resource_version,
            // The changes since this version are forgotten: read the present state.
            WatchEvent::Error(status) if status.code == 410 => return Ok(()),
            WatchEvent::Error(status) => return Err(KubeError::refused(attempt, &status)),
        };
        self.state = State::Open(version, stream);
        Ok(())
    }
}
