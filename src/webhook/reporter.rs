//! Events on what owns a pod: what became of it. Never part of an answer, and never many of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

use super::lookups::LookUps;
use super::review::{Note, Noted};
use crate::kubernetes::pods::OwnerRef;
use crate::kubernetes::{Event, Kube, Recorder};

/// For how long the same is not said again of the same owner.
const QUIET: Duration = Duration::from_secs(60);

/// The most owners that are remembered.
const REMEMBERED: usize = 1024;

/// The most events that are on their way; what comes then is not told.
const PENDING: usize = 16;

/// Tells owners.
#[derive(Debug)]
pub(super) struct Reporter {
    kube: Kube,
    recorder: Recorder,
    look_ups: Arc<LookUps>,
    told: Mutex<HashMap<(String, &'static str), Instant>>,
    pending: Arc<Semaphore>,
}

impl Reporter {
    /// Must be called inside a Tokio runtime.
    pub(super) fn new(kube: &Kube, instance: &str, look_ups: Arc<LookUps>) -> Self {
        Self {
            kube: kube.clone(),
            recorder: Recorder::for_others(kube, instance),
            look_ups,
            told: Mutex::default(),
            pending: Arc::new(Semaphore::new(PENDING)),
        }
    }

    /// Has `note` told to the pod's owner, soon and at most once a minute. A pod without owner has nobody to be told: who creates
    /// it has seen the warnings.
    pub(super) fn tell(&self, namespace: &str, note: &Note) {
        let Some(owner) = &note.owner else {
            return;
        };
        let event = match note.what {
            Noted::Injected => Event::normal("Injected", &note.message),
            Noted::Skipped => Event::warning("InjectionSkipped", &note.message),
            Noted::Refused => Event::warning("InjectionRefused", &note.message),
        };
        if !self.is_new(owner, event.reason) {
            return;
        }
        let Ok(place) = Arc::clone(&self.pending).try_acquire_owned() else {
            return debug!(event.reason, owner.name, "Too many events wait");
        };
        let kube = self.kube.in_namespace(namespace);
        let (recorder, look_ups) = (self.recorder.clone(), Arc::clone(&self.look_ups));
        let owner = owner.clone();
        tokio::spawn(async move {
            let _place = place;
            let subject = look_ups.subject(kube.namespace(), owner).await;
            recorder.publish_about(kube, subject, event);
        });
    }

    /// Waits for what was told, before the process ends.
    pub(super) async fn flush(&self, most: Duration) {
        self.recorder.flush(most).await;
    }

    fn is_new(&self, owner: &OwnerRef, reason: &'static str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| at.elapsed() < QUIET);
        let key = (owner.uid.clone(), reason);
        if told.contains_key(&key) || told.len() >= REMEMBERED {
            return false;
        }
        told.insert(key, Instant::now());
        true
    }
}
