//! Files in a local file system. All of it blocks: call it off the runtime's thread, since a hung network mount never
//! answers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

use super::layout::{self, Child, Entry};
use super::location::METADATA_FILE;
use super::{Content, layout::Group};
use crate::kill_point;

/// Bytes that the probe writes: more than a file system may keep inside an inode.
const PROBE_BYTES: usize = 8 << 10;

/// The `_metadata` in `path`, or `path` itself if it is a file, as Flink resolves it
/// (`AbstractFsCheckpointStorageAccess.resolveCheckpointPointer`).
pub(super) fn read_metadata(path: &Path, limit: u64) -> io::Result<Content> {
    if fs::metadata(path)?.is_dir() {
        read(&path.join(METADATA_FILE), limit)
    } else {
        read(path, limit)
    }
}

pub(super) fn read(path: &Path, limit: u64) -> io::Result<Content> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > limit {
        return Ok(Content::TooLarge(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    let read = bytes.len() as u64;
    Ok(if read > limit {
        Content::TooLarge(read)
    } else {
        Content::Bytes(Bytes::from(bytes))
    })
}

pub(super) fn size(path: &Path) -> io::Result<u64> {
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(found.len())
}

pub(super) fn read_part(path: &Path, part: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(part.end.saturating_sub(part.start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    File::open(path)?.read_exact_at(&mut bytes, part.start)?;
    Ok(Bytes::from(bytes))
}

pub(super) fn exists(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Checkpoints in `dir` and one level of job directories below it; up to `newest` complete ones of each.
pub(super) fn checkpoints(dir: &Path, newest: usize) -> io::Result<Vec<Entry>> {
    let names = names(dir)?;
    let mut found = complete(dir, layout::direct(dir_name(dir), &names), newest)?;
    for job in names.iter().filter(|name| layout::is_job_id(name)) {
        match self::names(&dir.join(job)) {
            Ok(names) => found.extend(complete(dir, layout::of_job(job, &names), newest)?),
            // Deleted while we look, or a file of that name.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

pub(super) fn savepoints(dir: &Path) -> io::Result<Vec<Entry>> {
    complete(dir, layout::savepoints(&names(dir)?), usize::MAX)
}

/// Of the children in `group`, in its order, those with a `_metadata`.
fn complete(dir: &Path, group: Group, newest: usize) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for child in group {
        if found.len() >= newest {
            break;
        }
        found.extend(stat(dir, child)?);
    }
    Ok(found)
}

fn stat(dir: &Path, child: Child) -> io::Result<Option<Entry>> {
    match fs::metadata(dir.join(&child.path).join(METADATA_FILE)) {
        Ok(file) if file.is_file() => Ok(Some(Entry {
            modified: file.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            metadata_size: file.len(),
            child,
        })),
        Ok(_) => Ok(None),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directories right in `dir`.
pub(super) fn directories(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = names(dir)?;
    names.retain(|name| dir.join(name).is_dir());
    Ok(names)
}

/// The `_metadata` first, then the rest, then the directory above, which Drey named after the savepoint's trigger: that one
/// stays if anything else is in it.
pub(super) fn delete_savepoint(dir: &Path) -> io::Result<()> {
    absent(fs::remove_file(dir.join(METADATA_FILE)))?;
    kill_point("amid-disposal");
    absent(fs::remove_dir_all(dir))?;
    if let Some(above) = dir.parent() {
        drop(fs::remove_dir(above));
    }
    Ok(())
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if is_gone(&error) => Ok(()),
        other => other,
    }
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

fn dir_name(dir: &Path) -> &str {
    dir.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// Writes a file so that after a crash there is the old one or the new one, whole.
pub(super) fn write(path: &Path, bytes: &[u8], unique: &str) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::IsADirectory)?;
    fs::create_dir_all(dir)?;
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::IsADirectory)?
        .to_owned();
    name.push(format!(".{unique}.tmp"));
    let temporary = dir.join(name);
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        drop(fs::remove_file(&temporary));
    }
    written?;
    File::open(dir)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes and deletes a file in `dir`; or in the nearest directory above that exists, since Flink makes the rest
/// (`FsCheckpointStorageAccess.initializeLocationForSavepoint`).
pub(super) fn probe(dir: &Path, unique: &str) -> io::Result<()> {
    let path = existing(dir)?.join(format!(".drey-probe.{unique}.tmp"));
    let written = write_synced(&path, &[0; PROBE_BYTES]);
    match (written, fs::remove_file(&path)) {
        (Err(error), _) => Err(error),
        (Ok(()), removed) => removed,
    }
}

fn existing(dir: &Path) -> io::Result<PathBuf> {
    let mut dir = dir;
    loop {
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => return Ok(dir.to_owned()),
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                dir = dir.parent().ok_or(error)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
