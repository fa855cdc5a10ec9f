//! Where the pointer is kept: in a file outside Kubernetes, in a ConfigMap inside.

use std::path::Path;

use crate::domain::pointer::Pointer;
use crate::pointer_file::{PointerError, PointerFile};

/// The pointer's place.
#[derive(Debug)]
pub enum Store {
    /// A file.
    File(PointerFile),
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
        }
    }

    /// The pointer, or `None` when there has never been one.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub async fn load(&mut self) -> Result<Option<Pointer>, PointerError> {
        match self {
            Self::File(file) => file.load(),
        }
    }

    /// Replaces the pointer, durably.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then untouched. [`PointerError::Conflict`] when somebody else has written
    /// it since it was read.
    pub async fn save(&mut self, pointer: &Pointer) -> Result<(), PointerError> {
        match self {
            Self::File(file) => file.save(pointer),
        }
    }
}
