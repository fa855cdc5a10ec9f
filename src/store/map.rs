//! The pointer in its ConfigMap, beside the lock and what others ask for.
//!
//! Every write has the object's version as its precondition, so of two writers one has to look again. What was written
//! last is kept in a file of the pod as well: a container that is restarted while the API server is away goes on.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use tracing::warn;

use crate::domain::lock::{Holder, Lock, PodRef};
use crate::domain::pointer::Pointer;
use crate::domain::pointer_map::{Document, Sight, Version};
use crate::kill_point;
use crate::kubernetes::{PointerMap, PointerMapError};
use crate::pointer_file::PointerError;
use crate::telemetry::one_line;

/// The API server answers within this time, or it is away.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pointer in its ConfigMap.
#[derive(Debug)]
pub struct MapStore {
    map: PointerMap,
    /// As it was read or written last.
    document: Document,
    /// It was read or written at least once, or the copy was read.
    known: bool,
    /// The last write did not reach the API server.
    behind: bool,
    copy: Option<PathBuf>,
}

impl MapStore {
    /// Nothing is asked of the API server yet. `copy` is the file that outlives the container.
    #[must_use]
    pub fn new(map: PointerMap, copy: PathBuf) -> Self {
        Self {
            map,
            document: Document::default(),
            known: false,
            behind: false,
            copy: Some(copy),
        }
    }

    /// For one who only looks, or changes something once.
    #[must_use]
    pub fn without_copy(map: PointerMap) -> Self {
        Self {
            copy: None,
            ..Self::new(map, PathBuf::new())
        }
    }

    /// `configmap/NAME`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("configmap/{}", self.map.name())
    }

    /// The map itself, for requests, answers and watches.
    #[must_use]
    pub fn map(&self) -> &PointerMap {
        &self.map
    }

    /// What stood there last.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Whether anything is known of it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether something was written that has not reached the API server.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// The next write is to be repeated, since this one has only reached another place.
    pub fn fall_behind(&mut self, pointer: &Pointer) {
        self.behind = true;
        self.document.pointer = Sight::Good(pointer.clone());
        self.document
            .savepoint_path
            .clone_from(&pointer.savepoint_path);
        self.keep(&self.document.lock);
    }

    /// What a watch has shown. Older than what is known here it cannot be told from newer: it only counts as news, the next
    /// write shows whether it was.
    pub fn seen(&mut self, document: Option<Document>) {
        if self.behind
            && !document
                .as_ref()
                .is_some_and(|seen| self.is_outdated_by(seen))
        {
            // What is known here is more than what stands there; only the version is news, and the lock, which is never
            // written anywhere else.
            self.document.version = document.as_ref().and_then(|seen| seen.version.clone());
            self.document.suspended = document.as_ref().is_some_and(|seen| seen.suspended);
            if let Some(seen) = document.filter(|seen| seen.lock_damage.is_none()) {
                self.document.lock = seen.lock;
            }
            return;
        }
        self.behind = false;
        // A map that was deleted, or whose lock somebody has damaged, says nothing about who holds the lock.
        let silent = document
            .as_ref()
            .is_none_or(|seen| seen.lock_damage.is_some());
        let lock = std::mem::take(&mut self.document.lock);
        self.document = document.unwrap_or_default();
        if silent {
            self.document.lock = lock;
        }
        self.known = true;
    }

    /// The highest generation wins, and of two equal ones the one that everybody sees.
    fn is_outdated_by(&self, seen: &Document) -> bool {
        let own = self.document.pointer.good().map(|own| own.generation);
        let theirs = seen.pointer.good().map(|theirs| theirs.generation);
        theirs.is_some() && theirs >= own
    }

    /// `me` runs the JobManager, alone or, with high availability (`shared`), with other pods of its template: puts it back
    /// into a lock that somebody has emptied, deleted or damaged by hand, for the next write. Whether that was needed.
    pub fn keep_lock(&mut self, me: &PodRef, shared: bool) -> bool {
        let lock = &mut self.document.lock;
        let held = lock.holds(&me.uid);
        let like_me = |holder: &Holder| shared && holder.pod.template == me.template;
        // Another pod's, judged by what it saw.
        if !held && !lock.holders.iter().all(like_me) {
            return false;
        }
        if !held {
            lock.holders.push(Holder {
                pod: me.clone(),
                since: Timestamp::now(),
                deadline: None,
            });
        }
        let damage = self.document.lock_damage.take();
        !held || damage.is_some()
    }

    /// Notes an answer that was written; its write has made another version of the object.
    pub fn answered(&mut self, name: &str, answer: &str) {
        self.document.requests.remove(name);
        self.document
            .answers
            .insert(name.to_owned(), answer.to_owned());
    }

    /// Writes what is known of configurations.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn keep_configuration(&mut self, text: &str) -> Result<(), PointerError> {
        match timeout(PATIENCE, self.map.keep_configuration(text)).await {
            Ok(Ok(())) => self.document.configuration = Some(text.to_owned()),
            Ok(Err(error)) => return Err(self.failed(error)),
            Err(_) => return Err(self.silent()),
        }
        Ok(())
    }

    /// Reads the map.
    ///
    /// # Errors
    /// When it cannot be read, or what stands in it cannot be understood.
    pub async fn load(&mut self) -> Result<Option<Pointer>, PointerError> {
        let loaded = timeout(PATIENCE, self.map.load()).await;
        let document = match loaded {
            Ok(Ok(document)) => document,
            Ok(Err(error)) => return Err(self.failed(error)),
            Err(_) => return Err(self.silent()),
        };
        self.seen(document);
        match &self.document.pointer {
            Sight::None => Ok(None),
            Sight::Good(pointer) => Ok(Some(pointer.clone())),
            Sight::Damaged(why) => Err(PointerError::Unusable {
                name: self.name(),
                why: why.clone(),
            }),
        }
    }

    /// Whether the last container of this pod knew that the pod `uid` holds the lock.
    #[must_use]
    pub fn copy_says_held(&self, uid: &str) -> bool {
        self.read_copy().is_some_and(|(_, lock)| lock.holds(uid))
    }

    fn read_copy(&self) -> Option<(Pointer, Lock)> {
        let text = fs::read_to_string(self.copy.as_ref()?).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// What the last container of this pod knew counts until the API server shows what is newer.
    pub fn load_copy(&mut self) -> Option<Pointer> {
        let (pointer, lock) = self.read_copy()?;
        self.document.pointer = Sight::Good(pointer.clone());
        self.document
            .savepoint_path
            .clone_from(&pointer.savepoint_path);
        self.document.lock = lock;
        self.known = true;
        self.behind = true;
        Some(pointer)
    }

    /// Writes the pointer, with the lock as it is.
    ///
    /// # Errors
    /// [`PointerError::Conflict`] after somebody else's write; [`PointerError::Away`] when nobody answers.
    pub async fn save(&mut self, pointer: &Pointer) -> Result<(), PointerError> {
        let lock = self.document.lock.clone();
        self.write(Some(pointer), lock).await
    }

    /// Writes the lock, with the pointer as it is.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn save_lock(&mut self, lock: Lock) -> Result<(), PointerError> {
        self.write(None, lock).await
    }

    /// Writes both at once.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn write(
        &mut self,
        pointer: Option<&Pointer>,
        lock: Lock,
    ) -> Result<(), PointerError> {
        let mut next = self.document.clone();
        if let Some(pointer) = pointer {
            next.savepoint_path.clone_from(&pointer.savepoint_path);
            next.pointer = Sight::Good(pointer.clone());
        }
        let gives_up = self.document.lock.holders.len() > lock.holders.len();
        next.lock = lock;
        if gives_up {
            // Noted before it is written: a container that is restarted right after the write, with the API server away,
            // would otherwise go on as the holder that it is not any more.
            self.keep(&next.lock);
        }
        kill_point("before-pointer-write");
        let version: Version = match timeout(PATIENCE, self.map.save(&next)).await {
            Ok(Ok(version)) => version,
            Ok(Err(PointerMapError::Conflict { .. })) => {
                return Err(PointerError::Conflict { name: self.name() });
            }
            Ok(Err(error)) => return Err(self.failed(error)),
            Err(_) => return Err(self.silent()),
        };
        kill_point("after-pointer-write");
        next.version = Some(version);
        self.document = next;
        self.known = true;
        self.behind = false;
        self.keep(&self.document.lock);
        Ok(())
    }

    /// For the next container of this pod. Not synced: with the pod the file is gone as well.
    fn keep(&self, lock: &Lock) {
        let (Sight::Good(pointer), Some(copy)) = (&self.document.pointer, &self.copy) else {
            return;
        };
        let new = copy.with_extension("new");
        let written = serde_json::to_string(&(pointer, lock))
            .map_err(std::io::Error::from)
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, copy));
        if let Err(error) = written {
            warn!(
                error = one_line(&error, 200),
                "Pointer's copy could not be written"
            );
        }
    }

    fn failed(&self, error: PointerMapError) -> PointerError {
        let name = self.name();
        if error.is_retryable() {
            let why = one_line(&error, 300);
            return PointerError::Away { name, why };
        }
        PointerError::Map {
            name,
            source: Box::new(error),
        }
    }

    fn silent(&self) -> PointerError {
        PointerError::Away {
            name: self.name(),
            why: format!("no answer within {} s", PATIENCE.as_secs()),
        }
    }
}
