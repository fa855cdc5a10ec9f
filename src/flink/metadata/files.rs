//! Collects the files that state handles refer to, each once.

use std::collections::HashMap;

use super::{FilePath, StateFile};

/// Whom a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// This snapshot alone.
    Exclusive,
    /// Other checkpoints may refer to it as well.
    Shared,
    /// A file of a changelog: shared, and one byte longer than its handle says, by a flag in front (seen in 1.15 to 2.3).
    Changelog,
}

/// The files in the order of their first mention.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<StateFile>,
    by_path: HashMap<FilePath, usize>,
}

impl Files {
    pub(super) fn absolute(&mut self, path: &str, size: Option<u64>, scope: Scope) {
        self.add(FilePath::Absolute(path.to_owned()), size, false, scope);
    }

    pub(super) fn relative(&mut self, path: &str, size: Option<u64>, scope: Scope) {
        self.add(FilePath::Relative(path.to_owned()), size, false, scope);
    }

    /// A part of a merged file that ends at `end`: the file is at least so long.
    pub(super) fn segment(&mut self, path: &str, end: u64, scope: Scope) {
        self.add(FilePath::Absolute(path.to_owned()), Some(end), true, scope);
    }

    pub(super) fn into_vec(self) -> Vec<StateFile> {
        self.files
    }

    fn add(&mut self, path: FilePath, size: Option<u64>, partial: bool, scope: Scope) {
        let partial = partial || scope == Scope::Changelog;
        // What lies in the snapshot's own directory is its own, as the copies in a native savepoint are.
        let shared = scope != Scope::Exclusive && matches!(path, FilePath::Absolute(_));
        if let Some(at) = self.by_path.get(&path) {
            let known = &mut self.files[*at];
            known.size = known.size.max(size);
            known.partial &= partial;
            known.shared |= shared;
            return;
        }
        self.by_path.insert(path.clone(), self.files.len());
        self.files.push(StateFile {
            path,
            size,
            partial,
            shared,
        });
    }
}
