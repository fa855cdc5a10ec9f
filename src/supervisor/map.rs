//! The pointer in a pod: read when the API server answers, kept beside the savepoints when it does not, and what a person
//! has written into the ConfigMap by hand.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::pod::News;
use super::{RETRY, Supervisor};
use crate::control::{Prepare, Reply};
use crate::domain::budget::after;
use crate::domain::pointer::{APPLICATION, Pointer};
use crate::domain::pointer_map::{Document, HandEdit, hand_edit};
use crate::domain::supervise::Process;
use crate::flink::restore_keys::RestoreKeys;
use crate::flink::version::FlinkVersion;
use crate::kubernetes::events::Event;
use crate::pointer_file::{PointerError, to_json};
use crate::storage::{Location, StorageErrorKind};
use crate::telemetry::one_line;

/// How long the supervisor waits to hear whether the API server is back: meanwhile it does nothing else.
const CATCH_UP: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Whether the pointer is known. In a pod it is read when there is something to supervise.
    pub(super) async fn is_loaded(&mut self) -> bool {
        if self.loaded {
            return true;
        }
        if self.cluster.is_none() {
            return false;
        }
        if let Err(error) = self.load_pointer().await {
            warn!(error = one_line(&error, 300), "Pointer cannot be read");
            self.take_copy();
        }
        self.loaded
    }

    /// Flink runs and nobody can be asked: what the last container of this pod knew has to do.
    fn take_copy(&mut self) {
        let copy = self.store.map().and_then(super::MapStore::load_copy);
        if let Some(copy) = copy {
            info!("The pointer's copy in this pod is used until the API server answers");
            self.pointer = copy;
            self.loaded = true;
        }
    }

    /// Reads the pointer once.
    pub(super) async fn load_pointer(&mut self) -> Result<(), PointerError> {
        if self.loaded {
            return Ok(());
        }
        let theirs = self.store.load().await;
        if matches!(theirs, Err(PointerError::Away { .. })) && self.holds_by_copy() {
            self.take_copy();
            return Ok(());
        }
        let theirs = theirs?.unwrap_or_else(|| Pointer::new(&self.settings.cluster_id));
        if theirs.cluster_id != self.settings.cluster_id {
            return Err(PointerError::OtherCluster {
                name: self.store.name(),
                found: theirs.cluster_id,
                wanted: self.settings.cluster_id.clone(),
            });
        }
        self.pointer = theirs;
        self.loaded = true;
        Ok(())
    }

    /// The last container of this very pod held the lock, and nobody can take it away from a pod that lives.
    fn holds_by_copy(&self) -> bool {
        let uid = self.pod_uid();
        let map = self.store.as_map();
        map.zip(uid)
            .is_some_and(|(map, uid)| map.copy_says_held(&uid))
    }

    /// The API server is away: the pointer is kept beside the savepoints, and in this pod, until it is back.
    pub(super) async fn write_aside(
        &mut self,
        pointer: &Pointer,
        name: String,
        why: String,
    ) -> Result<(), PointerError> {
        let Some(location) = self.aside(pointer) else {
            return Err(PointerError::Away { name, why });
        };
        let text = Bytes::from(to_json(pointer));
        if let Err(error) = self.storage.write_small(&location, text).await {
            let why = format!("{why}; and {}", one_line(&error, 300));
            return Err(PointerError::Away { name, why });
        }
        self.copied = pointer.generation;
        warn!(
            why,
            copy = location.as_str(),
            "Pointer written beside the savepoints: the API server does not answer"
        );
        if let Some(map) = self.store.map() {
            map.fall_behind(pointer);
        }
        Ok(())
    }

    /// Keeps the copy beside the savepoints current: a namespace that is deleted takes the ConfigMap along. Written when
    /// the run has begun and when its last savepoint is recorded, and never in anybody's way.
    pub(super) async fn copy_aside(&mut self) {
        if self.pod.is_none() || self.copied >= self.pointer.generation {
            return;
        }
        self.copied = self.pointer.generation;
        let Some(location) = self.aside(&self.pointer) else {
            return;
        };
        let text = Bytes::from(to_json(&self.pointer));
        if let Err(error) = self.storage.write_small(&location, text).await {
            warn!(
                error = one_line(&error, 300),
                "Pointer's copy could not be written"
            );
        }
    }

    /// What was written while the API server was away is newer than what stands in the ConfigMap; and where there is no
    /// ConfigMap any more, the copy is all there is: its deletion is no reason for a start from empty state.
    ///
    /// # Errors
    /// When the copy may be all there is, and cannot be read.
    pub(super) async fn merge_copy(&mut self, flink: &Prepare) -> Result<(), Reply> {
        let location = self.aside(&self.pointer).or_else(|| self.aside_of(flink));
        let Some(location) = location else {
            return Ok(());
        };
        let copy = match self.storage.read_small(&location).await {
            Ok(bytes) => serde_json::from_slice::<Pointer>(&bytes)
                .map_err(|error| (format!("it is damaged: {error}"), 1)),
            Err(error) if error.kind() == StorageErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let code = if error.is_retryable() { 75 } else { 1 };
                Err((one_line(&error, 300), code))
            }
        };
        match copy {
            Ok(copy) => {
                self.merge(copy, &location);
                Ok(())
            }
            Err((why, code)) => self
                .refused_without(&location, &why, code)
                .map_or(Ok(()), Err),
        }
    }

    /// Beside a pointer the copy is only the day before's; without one, what it says cannot be guessed.
    fn refused_without(&self, copy: &Location, why: &str, code: u8) -> Option<Reply> {
        let copy = copy.as_str();
        warn!(why, copy, "Pointer's copy cannot be used");
        if self.pointer.generation > 0 {
            return None;
        }
        let error = format!(
            "not started: there is no pointer in the namespace, and the copy beside the savepoints, {copy}, cannot be read: \
             {why}; mend that, or say with `drey pointer set` or `drey pointer clear`, and --kubernetes, what to start from"
        );
        Some(Reply::Failed { error, code })
    }

    fn merge(&mut self, copy: Pointer, location: &Location) {
        if copy.cluster_id != self.settings.cluster_id {
            return;
        }
        // Of the same run only: another one has made its own way since.
        let run = |pointer: &Pointer| {
            let entry = pointer.jobs.get(APPLICATION)?;
            entry.run.as_ref().map(|run| run.id.clone())
        };
        let lost = self.pointer.generation == 0;
        if lost || (copy.generation > self.pointer.generation && run(&copy) == run(&self.pointer)) {
            let text = if lost {
                "There is no pointer in the namespace, but one beside the savepoints: that is used"
            } else {
                "The pointer was written beside the savepoints while the API server was away: that is used"
            };
            info!(
                copy = location.as_str(),
                generation = copy.generation,
                "{text}"
            );
            self.tell(Event::normal("PointerMerged", text));
            self.pointer = copy;
        }
    }

    /// What a person has written by hand while no job ran counts for the next start.
    pub(super) async fn edit_before_start(&mut self) -> Result<(), Reply> {
        let edit = self
            .store
            .as_map()
            .and_then(|map| hand_edit(map.document()));
        let Some(HandEdit::PathSet(path)) = edit else {
            return Ok(());
        };
        info!(path, "savepoint-path was set by hand");
        match self.set_pointer(&path, None).await {
            Reply::Failed { error, code } => Err(Reply::Failed {
                error: format!(
                    "not started: savepoint-path in the ConfigMap was set by hand, and {error}"
                ),
                code,
            }),
            _ => Ok(()),
        }
    }

    /// The watch over the own pod and the pointer's ConfigMap; outside Kubernetes nothing ever comes.
    pub(super) fn watch_pod(&mut self) -> mpsc::Receiver<News> {
        match (&mut self.pod, self.store.as_map()) {
            (Some(pod), Some(map)) => pod.watch(map.map()),
            _ => mpsc::channel(1).1,
        }
    }

    /// The ConfigMap has changed.
    pub(super) async fn see_map(&mut self, document: Option<Document>) {
        let deleted = document.is_none();
        let edit = document.as_ref().and_then(hand_edit);
        let immutable = document.as_ref().is_some_and(|map| map.immutable);
        let theirs = document
            .as_ref()
            .and_then(|document| document.pointer.good().cloned());
        let Some(map) = self.store.map() else { return };
        let was_behind = map.is_behind();
        map.seen(document);
        let behind = map.is_behind();
        if !self.loaded {
            return;
        }
        if let Some(theirs) = theirs.clone().filter(|_| was_behind && !behind) {
            info!(
                generation = theirs.generation,
                "The API server is back, and has what this pod does not know"
            );
            self.pointer = theirs;
        }
        if immutable {
            self.tell_immutable();
            return;
        }
        let lock_lost = self.keep_lock();
        match (theirs, edit) {
            _ if deleted => {
                self.restore_map("The pointer's ConfigMap was deleted")
                    .await
            }
            _ if behind => self.restore_map("The API server is back").await,
            (_, Some(HandEdit::PathSet(path))) => self.path_by_hand(&path).await,
            (_, Some(HandEdit::PathRemoved)) => {
                self.restore_map("The key savepoint-path was removed").await;
            }
            (_, Some(HandEdit::Damaged(why))) => {
                self.restore_map(&format!("The pointer's ConfigMap was damaged: {why}"))
                    .await;
            }
            _ if lock_lost => {
                self.restore_map(
                    "The key lock.json was emptied, removed or damaged while the job runs",
                )
                .await
            }
            (Some(theirs), None) if theirs.generation > self.pointer.generation => {
                info!(
                    generation = theirs.generation,
                    "The pointer was changed by somebody else"
                );
                self.pointer = theirs;
            }
            _ => {}
        }
    }

    /// While this pod's job runs, a lock that names nobody would let another pod run it a second time, and one that cannot
    /// be understood would let nothing be recorded. Whether a person has made it so.
    fn keep_lock(&mut self) -> bool {
        let runs = self.process == Process::Running && !self.run_is_stopped();
        let shared = match &self.cluster {
            Some(cluster) if runs => cluster.high_availability,
            _ => return false,
        };
        let me = match &self.pod {
            Some(pod) if !pod.handed_over => pod.me.as_ref().map(|me| me.pod.clone()),
            _ => return false,
        };
        let Some((map, me)) = self.store.map().zip(me) else {
            return false;
        };
        map.keep_lock(&me, shared)
    }

    /// Nothing can be recorded from now on, and only a person can change that.
    fn tell_immutable(&self) {
        let name = self.store.name();
        warn!(
            name,
            "The pointer was made immutable: nothing can be recorded in it"
        );
        let text = format!(
            "The pointer was made immutable: no savepoint can be recorded in it, and no other pod can start the job. Delete {name}: it is made again at once from what the supervisor knows"
        );
        self.tell(Event::warning("PointerUnwritable", &text));
    }

    /// While a job runs, what is in memory is what counts: it is written again.
    async fn restore_map(&mut self, what: &str) {
        warn!(what, "Pointer is written again");
        let text = format!(
            "{what}: written again from what the supervisor knows. To choose a restore point, set the key savepoint-path, or use `drey pointer set`"
        );
        self.tell(Event::warning("PointerRestored", &text));
        if let Err(error) = self.write(|_| {}).await {
            error!(
                error = one_line(&error, 300),
                "Pointer could not be written"
            );
            self.complain("PointerUnwritable", "The pointer cannot be written", &error);
        }
    }

    /// A person wrote a path into `savepoint-path`: the same as `drey pointer set`.
    async fn path_by_hand(&mut self, path: &str) {
        match self.set_pointer(path, None).await {
            Reply::Failed { error, .. } => {
                warn!(path, error, "A path set by hand is refused");
                let text = format!("savepoint-path was set by hand and is refused: {error}");
                self.tell(Event::warning("PointerRefused", &text));
                self.restore_map("The key savepoint-path was set to what cannot be used")
                    .await;
            }
            _ => {
                let text =
                    format!("savepoint-path was set by hand: the next start resumes from {path}");
                self.tell(Event::normal("PointerSet", &text));
            }
        }
    }

    /// When the next attempt is made to write what the API server does not have yet.
    pub(super) async fn catch_up(&mut self) -> Option<Timestamp> {
        let behind = self.store.map().is_some_and(|map| map.is_behind());
        // Who is told to go has no time to wait for an answer: what it records is written anyway, here or there.
        if !behind || !self.loaded || self.is_told_to_go() {
            return None;
        }
        let theirs = timeout(CATCH_UP, self.store.map()?.map().load()).await;
        match theirs {
            Ok(Ok(document)) => self.see_map(document).await,
            Ok(Err(_)) | Err(_) => return Some(after(Timestamp::now(), RETRY.most)),
        }
        None
    }
}

/// The pointer's copy beside the savepoints: `BASE/CLUSTER_ID/drey-pointer-NAMESPACE.json`. A cluster id is unique in its
/// namespace only.
impl Supervisor {
    fn aside(&self, pointer: &Pointer) -> Option<Location> {
        let run = pointer.jobs.values().find_map(|entry| entry.run.as_ref())?;
        let own = Location::parse(run.savepoint_dir.as_deref()?).ok()?;
        self.copy_in(&own.parent()?)
    }

    /// Where an earlier pod with this configuration has put it.
    fn aside_of(&self, flink: &Prepare) -> Option<Location> {
        let version: FlinkVersion = flink.flink_version.parse().ok()?;
        let key = RestoreKeys::of(version).savepoint_dir();
        let configured = || key.find_in(&flink.configuration);
        let base = self.settings.savepoint_dir.as_deref().or_else(configured)?;
        let base = Location::parse(base.trim_end_matches('/')).ok()?;
        self.copy_in(&base.join(&self.settings.cluster_id))
    }

    fn copy_in(&self, directory: &Location) -> Option<Location> {
        let namespace = self.pod.as_ref()?.kube().namespace();
        let name = format!("drey-pointer-{namespace}.json");
        directory.is_supported().then(|| directory.join(&name))
    }
}
