//! Certificates out of a directory, as a mounted Secret or cert-manager provides them.
//!
//! The kubelet renews such a directory by exchanging a symlink, so a watch on the files would see the first renewal only. Here
//! nothing is watched: whoever needs the certificate looks whether the files are still the same ones, which costs a few microseconds.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::certificate::Pem;

/// What tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

/// The stamp of a file; `None` when it cannot be looked at.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: metadata.modified().ok(),
    })
}

/// `tls.crt` and `tls.key` in a directory: the names of a Secret of type `kubernetes.io/tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub(super) fn stamps(&self) -> [Option<Stamp>; 2] {
        [self.chain(), self.key()].map(|path| stamp(&path))
    }

    /// # Errors
    /// When one of them cannot be read; with its name.
    pub(super) fn read(&self) -> io::Result<Pem> {
        Ok(Pem {
            chain: read(&self.chain())?,
            key: read(&self.key())?,
        })
    }

    fn chain(&self) -> PathBuf {
        self.dir.join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.dir.join("tls.key")
    }
}

/// # Errors
/// With the file's name.
pub(super) fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("could not read {}: {error}", path.display()),
        )
    })
}
