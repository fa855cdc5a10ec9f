//! Where the pointer is kept: in a file outside Kubernetes, in a ConfigMap inside.

mod map;

use std::path::Path;

pub use map::MapStore;

use crate::domain::lock::Lock;
use crate::domain::pointer::Pointer;
use crate::metrics::own;
use crate::pointer_file::{PointerError, PointerFile};

/// The pointer's place.
#[derive(Debug)]
pub enum Store {
    /// A file.
    File(PointerFile),
    /// A ConfigMap.
    Map(Box<MapStore>),
}

impl Store {
    /// The file at `path`, locked for this process.
    ///
    /// # Errors
    /// When another process has it.
    pub fn file(path: &Path) -> Result<Self, PointerError> {
        PointerFile::open(path).map(Self::File)
    }

    /// Where that is, for people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Map(map) => map.name(),
        }
    }

    /// The pointer, or `None` when there has never been one.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub async fn load(&mut self) -> Result<Option<Pointer>, PointerError> {
        match self {
            Self::File(file) => file.load(),
            Self::Map(map) => map.load().await,
        }
    }

    /// Replaces the pointer, durably.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then untouched. [`PointerError::Conflict`] when somebody else has written
    /// it since it was read; [`PointerError::Away`] when the API server does not answer.
    pub async fn save(&mut self, pointer: &Pointer) -> Result<(), PointerError> {
        let saved = match self {
            Self::File(file) => file.save(pointer),
            Self::Map(map) => map.save(pointer).await,
        };
        own().pointer_written(&saved);
        saved
    }

    /// [`save`](Self::save), with a change of the lock in the same write. A file has no lock between pods.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn save_with(
        &mut self,
        pointer: &Pointer,
        lock: &dyn Fn(&Lock) -> Lock,
    ) -> Result<(), PointerError> {
        let saved = match self {
            Self::File(file) => file.save(pointer),
            Self::Map(map) => {
                let lock = lock(&map.document().lock);
                map.write(Some(pointer), lock).await
            }
        };
        own().pointer_written(&saved);
        saved
    }

    /// The ConfigMap, if it is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&MapStore> {
        match self {
            Self::File(_) => None,
            Self::Map(map) => Some(map),
        }
    }

    /// The ConfigMap, if it is one.
    pub fn map(&mut self) -> Option<&mut MapStore> {
        match self {
            Self::File(_) => None,
            Self::Map(map) => Some(map),
        }
    }
}
