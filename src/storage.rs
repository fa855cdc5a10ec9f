//! The one door to Flink's savepoints and checkpoints, in a local directory or in object storage.
//!
//! Promises: each operation ends within [`timeout`](field@StorageSettings::timeout); each error says what was tried on what, what to do
//! about it, and by [`StorageError::kind`] whether another try makes sense; no error shows a secret. Listings never walk
//! into state files. Whether a `_metadata` is whole is not known here: see the metadata reader.

mod client;
mod error;
mod layout;
mod local;
mod location;
mod remote;
mod settings;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;

pub use error::{Attempt, StorageError, StorageErrorKind};
pub use location::{Location, LocationError, METADATA_FILE};
pub use settings::{
    AzureSettings, DEFAULT_METADATA_LIMIT, DEFAULT_TIMEOUT, GcsSettings, S3Keys, S3Settings,
    Secret, StorageSettings,
};

use error::DELETE;
use layout::Entry;
use location::{Bucket, Target};
use remote::Remote;

/// Requests under way at once.
const CONCURRENCY: usize = 16;

/// Access to whatever storage a [`Location`] names. Clients are made at first use, one for each bucket, and kept:
/// [`Storage::probe_writable`] at start-up makes the later operations faster by that and by the open connection.
///
/// Works in a tokio runtime with time and I/O enabled. Proxies are taken from `HTTPS_PROXY` and `NO_PROXY`. An operation
/// on a hung network mount times out, but its thread stays: end the runtime with `shutdown_background`.
#[derive(Debug)]
pub struct Storage {
    settings: StorageSettings,
    stores: Mutex<HashMap<Bucket, Arc<dyn ObjectStore>>>,
}

/// A checkpoint or savepoint that has its `_metadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The directory, spelled like the one that was listed.
    pub location: Location,
    /// Of a checkpoint: `7` for `chk-7`. A savepoint's is inside its `_metadata`.
    pub checkpoint_id: Option<u64>,
    /// Of a checkpoint in a directory that is called after its job: 32 hexadecimal digits.
    pub job_id: Option<String>,
    /// When the `_metadata` was written, by the storage's clock.
    pub modified: SystemTime,
    /// Bytes of the `_metadata` file; state is beside it.
    pub metadata_size: u64,
}

enum Content {
    Bytes(Bytes),
    TooLarge(u64),
}

impl Content {
    fn bytes(self, attempt: Attempt, limit: u64) -> Result<Bytes, StorageError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::TooLarge(size) => Err(StorageError::TooLarge {
                attempt,
                size,
                limit,
            }),
        }
    }
}

enum Place {
    Local(PathBuf),
    Remote(Remote),
}

impl Storage {
    /// Opens storage; nothing is asked of it yet.
    pub fn new(settings: StorageSettings) -> Self {
        // Only ring is linked. An error means that somebody has installed it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self {
            settings,
            stores: Mutex::default(),
        }
    }

    /// Reads the `_metadata` of a savepoint or checkpoint, given by its directory or by the file itself.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] if the directory or the file in it is missing; [`StorageError::TooLarge`] beyond
    /// [`metadata_limit`](field@StorageSettings::metadata_limit).
    pub async fn read_metadata(&self, location: &Location) -> Result<Bytes, StorageError> {
        let attempt = Attempt::new("read the metadata of", location);
        let limit = self.settings.metadata_limit();
        let content = match self.place(location, &attempt)? {
            Place::Local(path) => {
                self.blocking(&attempt, move || local::read_metadata(&path, limit))
                    .await?
            }
            Place::Remote(remote) => self.remote(&attempt, remote.read_metadata(limit)).await?,
        };
        content.bytes(attempt, limit)
    }

    /// The complete checkpoints in `dir` (`chk-N`) and in job directories right below it (`JOB_ID/chk-N`), highest id
    /// first: at most `newest` of each directory, since object stores need a request for each.
    ///
    /// # Errors
    /// A missing local directory is [`StorageError::NotFound`]; in an object store it is an empty list.
    pub async fn list_checkpoints(
        &self,
        dir: &Location,
        newest: usize,
    ) -> Result<Vec<Found>, StorageError> {
        let attempt = Attempt::new("list the checkpoints in", dir);
        let entries = match self.place(dir, &attempt)? {
            Place::Local(path) => {
                self.blocking(&attempt, move || local::checkpoints(&path, newest))
                    .await?
            }
            Place::Remote(remote) => self.remote(&attempt, remote.checkpoints(newest)).await?,
        };
        Ok(found(dir, entries))
    }

    /// The complete savepoints (`savepoint-…`) right in `dir`, the most recently written first.
    ///
    /// # Errors
    /// As [`Storage::list_checkpoints`].
    pub async fn list_savepoints(&self, dir: &Location) -> Result<Vec<Found>, StorageError> {
        let attempt = Attempt::new("list the savepoints in", dir);
        let entries = match self.place(dir, &attempt)? {
            Place::Local(path) => {
                self.blocking(&attempt, move || local::savepoints(&path))
                    .await?
            }
            Place::Remote(remote) => self.remote(&attempt, remote.savepoints()).await?,
        };
        Ok(found(dir, entries))
    }

    /// The names of the directories right in `dir`.
    ///
    /// # Errors
    /// As [`Storage::list_checkpoints`].
    pub async fn list_directories(&self, dir: &Location) -> Result<Vec<String>, StorageError> {
        let attempt = Attempt::new("list the directories in", dir);
        match self.place(dir, &attempt)? {
            Place::Local(path) => {
                self.blocking(&attempt, move || local::directories(&path))
                    .await
            }
            Place::Remote(remote) => self.remote(&attempt, remote.directories("")).await,
        }
    }

    /// Deletes the savepoint directory `dir` with everything in it, its `_metadata` first, so that what is left of one whose
    /// deletion was interrupted is never taken for a savepoint. What is gone already is no error: call it again until it
    /// succeeds.
    ///
    /// # Errors
    /// Something could not be deleted; more may be gone than before.
    pub async fn delete_savepoint(&self, dir: &Location) -> Result<(), StorageError> {
        let attempt = Attempt::new(DELETE, dir);
        match self.place(dir, &attempt)? {
            Place::Local(path) => {
                self.blocking(&attempt, move || local::delete_savepoint(&path))
                    .await
            }
            Place::Remote(remote) => self.remote(&attempt, remote.delete_savepoint()).await,
        }
    }

    /// Whether there is such a file or object; locally also such a directory.
    ///
    /// # Errors
    /// Storage cannot tell.
    pub async fn exists(&self, location: &Location) -> Result<bool, StorageError> {
        let attempt = Attempt::new("look for", location);
        match self.place(location, &attempt)? {
            Place::Local(path) => self.blocking(&attempt, move || local::exists(&path)).await,
            Place::Remote(remote) => self.remote(&attempt, remote.exists()).await,
        }
    }

    /// Those of `locations` that do not exist, in their order. Ends at the first error.
    ///
    /// # Errors
    /// Storage cannot tell for one of them.
    pub async fn missing(&self, locations: &[Location]) -> Result<Vec<Location>, StorageError> {
        stream::iter(locations)
            .map(|location| async move { Ok((!self.exists(location).await?).then(|| location.clone())) })
            .buffered(CONCURRENCY)
            .try_filter_map(|missing| async move { Ok(missing) })
            .try_collect()
            .await
    }

    /// Whether all of `locations` exist.
    ///
    /// # Errors
    /// Storage cannot tell for one of them.
    pub async fn exists_all(&self, locations: &[Location]) -> Result<bool, StorageError> {
        Ok(self.missing(locations).await?.is_empty())
    }

    /// The size of a file or object in bytes.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] besides the usual ones.
    pub async fn size(&self, location: &Location) -> Result<u64, StorageError> {
        let attempt = Attempt::new("look for", location);
        match self.place(location, &attempt)? {
            Place::Local(path) => self.blocking(&attempt, move || local::size(&path)).await,
            Place::Remote(remote) => self.remote(&attempt, remote.size()).await,
        }
    }

    /// Reads a part of a file or object, so that one of any size fits into little memory and each piece into the time
    /// limit.
    ///
    /// # Errors
    /// The part lies beyond its end, besides the usual ones.
    pub async fn read_part(
        &self,
        location: &Location,
        part: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        let attempt = Attempt::new("read", location);
        match self.place(location, &attempt)? {
            Place::Local(path) => {
                self.blocking(&attempt, move || local::read_part(&path, part))
                    .await
            }
            Place::Remote(remote) => self.remote(&attempt, remote.read_part(part)).await,
        }
    }

    /// Reads a small file, such as one that [`Storage::write_small`] has written.
    ///
    /// # Errors
    /// As [`Storage::read_metadata`].
    pub async fn read_small(&self, location: &Location) -> Result<Bytes, StorageError> {
        let attempt = Attempt::new("read", location);
        let limit = self.settings.metadata_limit();
        let content = match self.place(location, &attempt)? {
            Place::Local(path) => {
                self.blocking(&attempt, move || local::read(&path, limit))
                    .await?
            }
            Place::Remote(remote) => self.remote(&attempt, remote.read_file(limit)).await?,
        };
        content.bytes(attempt, limit)
    }

    /// Writes or replaces a small file. Locally it is durable when this returns, missing directories are made, and a
    /// crash leaves the old file or the new one.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`] and [`StorageError::NoSpace`] besides the usual ones.
    pub async fn write_small(&self, location: &Location, bytes: Bytes) -> Result<(), StorageError> {
        let attempt = Attempt::new("write", location);
        match self.place(location, &attempt)? {
            Place::Local(path) => {
                let unique = unique();
                self.blocking(&attempt, move || local::write(&path, &bytes, &unique))
                    .await
            }
            Place::Remote(remote) => self.remote(&attempt, remote.write(bytes)).await,
        }
    }

    /// Whether a savepoint could be written into `dir`: writes a small file there and deletes it. A local directory that
    /// is missing is judged by the one above it, because Flink makes it.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn probe_writable(&self, dir: &Location) -> Result<(), StorageError> {
        let attempt = Attempt::new("write into", dir);
        match self.place(dir, &attempt)? {
            Place::Local(path) => {
                let unique = unique();
                self.blocking(&attempt, move || local::probe(&path, &unique))
                    .await
            }
            Place::Remote(remote) => self.remote(&attempt, remote.probe()).await,
        }
    }

    fn place(&self, location: &Location, attempt: &Attempt) -> Result<Place, StorageError> {
        match location.target() {
            Target::Local(path) => Ok(Place::Local(path.clone())),
            Target::Object { bucket, key } => Ok(Place::Remote(Remote {
                store: self.store(bucket, attempt)?,
                key: key.clone(),
            })),
            Target::Unsupported { scheme } => Err(StorageError::Unsupported {
                attempt: attempt.clone(),
                scheme: scheme.clone(),
            }),
        }
    }

    fn store(
        &self,
        bucket: &Bucket,
        attempt: &Attempt,
    ) -> Result<Arc<dyn ObjectStore>, StorageError> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(bucket) {
            return Ok(store.clone());
        }
        let built = client::build(bucket, &self.settings);
        let store = built.map_err(|detail| StorageError::settings(attempt.clone(), detail))?;
        stores.insert(bucket.clone(), store.clone());
        Ok(store)
    }

    /// File systems block, and a hung mount for ever: never on the runtime's own thread.
    async fn blocking<T, F>(&self, attempt: &Attempt, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let joined = self
            .timed(attempt, tokio::task::spawn_blocking(work))
            .await?;
        let result = joined.unwrap_or_else(|error| Err(io::Error::other(error)));
        result.map_err(|error| StorageError::io(attempt.clone(), error))
    }

    async fn remote<T>(
        &self,
        attempt: &Attempt,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StorageError> {
        let result = self.timed(attempt, work).await?;
        result.map_err(|error| StorageError::store(attempt.clone(), &error))
    }

    async fn timed<T>(
        &self,
        attempt: &Attempt,
        work: impl Future<Output = T>,
    ) -> Result<T, StorageError> {
        let after: Duration = self.settings.timeout();
        let timed_out = |_| StorageError::TimedOut {
            attempt: attempt.clone(),
            after,
        };
        tokio::time::timeout(after, work).await.map_err(timed_out)
    }
}

fn found(dir: &Location, mut entries: Vec<Entry>) -> Vec<Found> {
    layout::sort(&mut entries);
    let found = |entry: Entry| Found {
        location: dir.join(&entry.child.path),
        checkpoint_id: entry.child.checkpoint_id,
        job_id: entry.child.job_id,
        modified: entry.modified,
        metadata_size: entry.metadata_size,
    };
    entries.into_iter().map(found).collect()
}

/// Part of a temporary file's name that nobody else uses, in no other pod on the same volume either.
fn unique() -> String {
    // Without random numbers the name may be taken: then the write fails, and nothing is overwritten.
    format!("{:016x}", getrandom::u64().unwrap_or_default())
}

#[cfg(test)]
mod tests;
