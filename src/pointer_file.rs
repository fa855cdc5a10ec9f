//! The pointer outside Kubernetes: a JSON file that a person can read.
//!
//! One process at a time owns it, by a lock on the file beside it that the kernel drops when the process ends. A write is
//! durable and all-or-nothing. A file that cannot be understood is reported and never overwritten.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::domain::pointer::{FORMAT, Pointer};
use crate::kill_point;

/// Why the pointer could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PointerError {
    /// Another process has the pointer.
    #[error(
        "the pointer {path} is in use by process {holder}; stop that one, or give this one a `--pointer` of its own"
    )]
    Busy {
        /// The pointer file.
        path: PathBuf,
        /// The process id of the holder, as far as it is known.
        holder: String,
    },
    /// The file is no pointer, or a truncated one.
    #[error(
        "the pointer {path} is damaged ({why}) and was left as it is; repair it, or move it away and choose a restore point with `drey pointer set PATH`"
    )]
    Damaged {
        /// The pointer file.
        path: PathBuf,
        /// What is wrong, with line and column.
        why: String,
    },
    /// The file was written by another version.
    #[error(
        "the pointer {path} has format {found}, this version of drey knows {FORMAT}; use the drey that wrote it"
    )]
    Format {
        /// The pointer file.
        path: PathBuf,
        /// The format found.
        found: u64,
    },
    /// The pointer belongs to another cluster id.
    #[error(
        "the pointer {name} belongs to cluster id {found}, not {wanted}; name the right one with `--cluster-id`, or give this cluster a `--pointer` of its own"
    )]
    OtherCluster {
        /// The pointer file or ConfigMap.
        name: String,
        /// The cluster id found.
        found: String,
        /// The cluster id that was wanted.
        wanted: String,
    },
    /// Somebody else has written it since it was read.
    #[error("the pointer {name} is being written by somebody else; try again")]
    Conflict {
        /// The pointer's ConfigMap.
        name: String,
    },
    /// The API server does not answer; that may pass.
    #[error("the pointer {name} cannot be read or written now: {why}")]
    Away {
        /// The pointer's ConfigMap.
        name: String,
        /// What was seen.
        why: String,
    },
    /// Kubernetes refused.
    #[error("could not read or write the pointer {name}")]
    Map {
        /// The pointer's ConfigMap.
        name: String,
        /// Why not.
        source: Box<crate::kubernetes::PointerMapError>,
    },
    /// What stands in the ConfigMap is no pointer.
    #[error(
        "the pointer {name} is damaged ({why}) and was left as it is; repair it, or delete the ConfigMap's key pointer.json and choose a restore point with `drey pointer set PATH`"
    )]
    Unusable {
        /// The pointer's ConfigMap.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The operating system refused.
    #[error("could not {doing} {path}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The pointer file, locked for this process as long as the value lives.
#[derive(Debug)]
pub struct PointerFile {
    path: PathBuf,
    _lock: File,
}

impl PointerFile {
    /// Locks the pointer at `path`; its directory is made when there is none.
    ///
    /// # Errors
    /// [`PointerError::Busy`] when another process has it.
    pub fn open(path: &Path) -> Result<Self, PointerError> {
        let directory = directory_of(path);
        fs::create_dir_all(directory).map_err(io_error("create", directory))?;
        let lock_path = with_suffix(path, ".lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = lock.read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                let holder = if known {
                    holder.trim().to_owned()
                } else {
                    "unknown".to_owned()
                };
                return Err(PointerError::Busy {
                    path: path.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &lock_path)(source)),
        }
        lock.set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .map_err(io_error("write", &lock_path))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The pointer, or `None` when there has never been one.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn load(&self) -> Result<Option<Pointer>, PointerError> {
        peek(&self.path)
    }

    /// Replaces the pointer, durably: when this returns, a power failure leaves the new one; before, the old one.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then untouched.
    pub fn save(&self, pointer: &Pointer) -> Result<(), PointerError> {
        kill_point("before-pointer-write");
        write_durably(&self.path, &to_json(pointer))?;
        kill_point("after-pointer-write");
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The pointer at `path` as it is now, without the lock: for looking only.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn peek(path: &Path) -> Result<Option<Pointer>, PointerError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(PointerError::Damaged {
                path: path.to_owned(),
                why: error.to_string(),
            });
        }
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let damaged = |error: serde_json::Error| PointerError::Damaged {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(damaged)?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(found) if found != u64::from(FORMAT) => Err(PointerError::Format {
            path: path.to_owned(),
            found,
        }),
        // Parsed from the text once more, so that an error names line and column.
        _ => serde_json::from_str(&text).map(Some).map_err(damaged),
    }
}

/// The pointer as it is written: indented, with a final newline.
#[must_use]
pub fn to_json(pointer: &Pointer) -> String {
    let mut text = serde_json::to_string_pretty(pointer).expect("a pointer has only string keys");
    text.push('\n');
    text
}

/// Writes `text` to `path` so that there is never a moment with half a file: write, fsync, rename, fsync of the directory.
///
/// # Errors
/// When any step fails; the file at `path` is then as it was.
pub fn write_durably(path: &Path, text: &str) -> Result<(), PointerError> {
    write_with(path, text, 0o666)
}

/// [`write_durably`], readable for the owner alone: Flink's configuration may hold secrets.
///
/// # Errors
/// As [`write_durably`].
pub fn write_privately(path: &Path, text: &str) -> Result<(), PointerError> {
    write_with(path, text, 0o600)
}

/// `mode` is what the umask leaves of it.
fn write_with(path: &Path, text: &str, mode: u32) -> Result<(), PointerError> {
    let new = with_suffix(path, ".new");
    let written = write_synced(&new, text, mode).and_then(|()| {
        kill_point("before-pointer-rename");
        fs::rename(&new, path).map_err(io_error("replace", path))
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
        return written;
    }
    let directory = directory_of(path);
    File::open(directory)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("sync", directory))
}

fn write_synced(path: &Path, text: &str, mode: u32) -> Result<(), PointerError> {
    // One that a crash has left may have another mode.
    let _ = fs::remove_file(path);
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(mode);
    let mut file = open.open(path).map_err(io_error("write", path))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PointerError {
    let path = path.to_owned();
    move |source| PointerError::Io {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer() -> Pointer {
        let mut pointer = Pointer::new("orders");
        pointer.entry("application").lineage = 3;
        pointer.seal();
        pointer
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = PointerFile::open(&dir.path().join("deep/pointer.json")).expect("lock");
        assert_eq!(file.load().expect("load"), None);
        file.save(&pointer()).expect("save");
        assert_eq!(file.load().expect("load"), Some(pointer()));
    }

    #[test]
    fn a_second_owner_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pointer.json");
        let first = PointerFile::open(&path).expect("lock");
        let refused = PointerFile::open(&path)
            .expect_err("two owners")
            .to_string();
        assert!(
            refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(first);
        PointerFile::open(&path).expect("free again");
    }

    #[test]
    fn a_pointer_cut_anywhere_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pointer.json");
        let whole = to_json(&pointer());
        for cut in 0..whole.trim_end().len() {
            fs::write(&path, &whole[..cut]).expect("write");
            let error = peek(&path).expect_err("damaged");
            assert!(
                matches!(error, PointerError::Damaged { .. }),
                "cut at {cut}: {error}"
            );
            assert_eq!(fs::read_to_string(&path).expect("read"), &whole[..cut]);
        }
    }

    #[test]
    fn a_pointer_of_a_later_format_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pointer.json");
        fs::write(&path, r#"{"format": 2, "whatever": []}"#).expect("write");
        assert!(matches!(
            peek(&path),
            Err(PointerError::Format { found: 2, .. })
        ));
    }
}
