//! Reading and writing the pointer, with others who write it as well.

use tracing::error;

use super::Supervisor;
use crate::domain::lock::Lock;
use crate::domain::pointer::{JobEntry, Pointer};
use crate::kubernetes::events::Event;
use crate::pointer_file::PointerError;
use crate::store::Store;

/// How often a write is begun anew because somebody else was quicker.
pub(super) const CONFLICTS: usize = 5;

impl Supervisor {
    /// Changes the pointer and writes it. When somebody else has written in between, theirs is what is changed. On
    /// failure the one in memory stays as it was.
    pub(super) async fn write(
        &mut self,
        change: impl Fn(&mut Pointer),
    ) -> Result<(), PointerError> {
        self.write_with(change, &Lock::clone).await
    }

    /// [`write`](Self::write), with a change of the lock in the same write.
    pub(super) async fn write_with(
        &mut self,
        change: impl Fn(&mut Pointer),
        lock: &dyn Fn(&Lock) -> Lock,
    ) -> Result<(), PointerError> {
        for _ in 0..CONFLICTS {
            let mut pointer = self.pointer.clone();
            change(&mut pointer);
            pointer.seal();
            match self.store.save_with(&pointer, lock).await {
                Ok(()) => {
                    self.pointer = pointer;
                    return Ok(());
                }
                Err(PointerError::Conflict { .. }) => self.take_over_theirs().await?,
                Err(PointerError::Away { name, why }) => {
                    self.write_aside(&pointer, name, why).await?;
                    self.pointer = pointer;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Err(PointerError::Conflict {
            name: self.store.name(),
        })
    }

    /// Reads the pointer again: of two the one with the higher generation is newer.
    pub(super) async fn take_over_theirs(&mut self) -> Result<(), PointerError> {
        if let Some(theirs) = self.store.load().await?
            && theirs.generation > self.pointer.generation
        {
            self.pointer = theirs;
        }
        Ok(())
    }

    /// Changes one entry and writes the pointer; logs when that does not work, for the next turn tries again.
    pub(super) async fn update(&mut self, key: &str, change: impl Fn(&mut JobEntry)) -> bool {
        let written = self.write(|pointer| change(pointer.entry(key))).await;
        self.is_written(written)
    }

    pub(super) fn is_written(&self, written: Result<(), PointerError>) -> bool {
        match written {
            Ok(()) => true,
            Err(error) => {
                let error = crate::telemetry::one_line(&error, 400);
                error!(
                    cluster_id = self.settings.cluster_id,
                    error, "Pointer could not be written"
                );
                self.tell(Event::warning("PointerUnwritable", &error));
                false
            }
        }
    }
}

/// The pointer of `cluster_id` in `store`, a new one when there is none.
///
/// # Errors
/// When it cannot be read, or belongs to another cluster id.
pub async fn load(store: &mut Store, cluster_id: &str) -> Result<Pointer, PointerError> {
    let pointer = store.load().await?;
    let pointer = pointer.unwrap_or_else(|| Pointer::new(cluster_id));
    if pointer.cluster_id != cluster_id {
        return Err(PointerError::OtherCluster {
            name: store.name(),
            found: pointer.cluster_id,
            wanted: cluster_id.to_owned(),
        });
    }
    Ok(pointer)
}
