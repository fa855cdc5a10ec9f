//! Objects of one bucket. Directories do not exist there: a missing one is an empty listing.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, ObjectStoreExt, PutPayload, Result};

use super::layout::{self, Child, Entry, Group};
use super::location::METADATA_FILE;
use super::{CONCURRENCY, Content};
use crate::kill_point;

/// A key in a bucket.
pub(super) struct Remote {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) key: String,
}

fn absent(deleted: Result<()>) -> Result<()> {
    match deleted {
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

impl Remote {
    /// The `_metadata` below the key, or the object of that key, as Flink resolves it.
    pub(super) async fn read_metadata(&self, limit: u64) -> Result<Content> {
        if self.key.rsplit('/').next() == Some(METADATA_FILE) {
            return self.read(&self.path("")?, limit).await;
        }
        match self.read(&self.path(METADATA_FILE)?, limit).await {
            Err(missing @ Error::NotFound { .. }) if !self.key.is_empty() => {
                match self.read(&self.path("")?, limit).await {
                    // Azure's hierarchical namespace has directories, which read as empty blobs.
                    Ok(Content::Bytes(bytes)) if bytes.is_empty() => Err(missing),
                    // The first answer says more: hardly anybody gives a file that is not called `_metadata`.
                    Err(Error::NotFound { .. }) => Err(missing),
                    other => other,
                }
            }
            other => other,
        }
    }

    pub(super) async fn read_file(&self, limit: u64) -> Result<Content> {
        self.read(&self.path("")?, limit).await
    }

    async fn read(&self, path: &Path, limit: u64) -> Result<Content> {
        let found = self.store.get_opts(path, GetOptions::default()).await?;
        if found.meta.size > limit {
            return Ok(Content::TooLarge(found.meta.size));
        }
        found.bytes().await.map(Content::Bytes)
    }

    pub(super) async fn size(&self) -> Result<u64> {
        Ok(self.store.head(&self.path("")?).await?.size)
    }

    pub(super) async fn read_part(&self, part: Range<u64>) -> Result<Bytes> {
        self.store.get_range(&self.path("")?, part).await
    }

    pub(super) async fn exists(&self) -> Result<bool> {
        match self.store.head(&self.path("")?).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One listing for each level: never into `shared/` or the state files of a checkpoint.
    pub(super) async fn checkpoints(&self, newest: usize) -> Result<Vec<Entry>> {
        let names = self.directories("").await?;
        let dir_name = self.key.rsplit('/').next().unwrap_or_default();
        let mut jobs = names.clone();
        jobs.retain(|name| layout::is_job_id(name));
        let groups: Vec<Group> = stream::iter(jobs)
            .map(|job: String| async move {
                Ok::<_, Error>(layout::of_job(&job, &self.directories(&job).await?))
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut found = self
            .complete(layout::direct(dir_name, &names), newest)
            .await?;
        for group in groups {
            found.extend(self.complete(group, newest).await?);
        }
        Ok(found)
    }

    pub(super) async fn savepoints(&self) -> Result<Vec<Entry>> {
        self.complete(layout::savepoints(&self.directories("").await?), usize::MAX)
            .await
    }

    async fn complete(&self, group: Group, newest: usize) -> Result<Vec<Entry>> {
        stream::iter(group)
            .map(|child| self.stat(child))
            .buffered(CONCURRENCY.min(newest.max(1)))
            .try_filter_map(|entry| async move { Ok(entry) })
            .take(newest)
            .try_collect()
            .await
    }

    async fn stat(&self, child: Child) -> Result<Option<Entry>> {
        match self
            .store
            .head(&self.path(&format!("{}/{METADATA_FILE}", child.path))?)
            .await
        {
            Ok(meta) => Ok(Some(Entry {
                child,
                modified: meta.last_modified.into(),
                metadata_size: meta.size,
            })),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn directories(&self, below: &str) -> Result<Vec<String>> {
        let listing = self
            .store
            .list_with_delimiter(Some(&self.path(below)?))
            .await?;
        Ok(listing
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect())
    }

    /// The `_metadata` first, then everything below.
    pub(super) async fn delete_savepoint(&self) -> Result<()> {
        absent(self.store.delete(&self.path(METADATA_FILE)?).await)?;
        kill_point("amid-disposal");
        let directory = self.path("")?;
        let all = self.store.list(Some(&directory));
        let all = all.map_ok(|meta| meta.location).boxed();
        let mut deleted = self.store.delete_stream(all);
        while let Some(one) = deleted.next().await {
            absent(one.map(drop))?;
        }
        Ok(())
    }

    pub(super) async fn write(&self, bytes: Bytes) -> Result<()> {
        self.store
            .put(&self.path("")?, PutPayload::from_bytes(bytes))
            .await
            .map(drop)
    }

    /// Always the same name, so that nothing piles up where deleting is forbidden (which savepoints do not need).
    pub(super) async fn probe(&self) -> Result<()> {
        let path = self.path(".drey-probe")?;
        self.store
            .put(&path, PutPayload::from_static(b"drey"))
            .await?;
        match self.store.delete(&path).await {
            Err(Error::NotFound { .. } | Error::PermissionDenied { .. }) => Ok(()),
            other => other,
        }
    }

    fn path(&self, below: &str) -> Result<Path> {
        let whole = [self.key.as_str(), below]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        Ok(Path::parse(whole)?)
    }
}
