//! Restore points as they lie in storage: reading one back, and finding those of a run.

use tracing::debug;

use crate::domain::path::last_segment;
use crate::domain::pointer::{PointKind, Run};
use crate::domain::restore::{Found, UNREAD};
use crate::domain::supervise::{Sighting, Verdict, Verified};
use crate::flink::metadata;
use crate::storage::{Location, Storage, StorageError, StorageErrorKind};
use crate::telemetry::one_line;

/// The longest reason that is kept.
const REASON: usize = 300;

/// How many checkpoints of one job are looked at: the newest counts, the others only say that there were more.
const NEWEST: usize = 3;

/// Reads the `_metadata` at `path`, a directory or the file itself, to its last byte.
pub async fn verify(storage: &Storage, path: &str) -> Verdict {
    let location = match Location::parse(path) {
        Ok(location) => location,
        Err(error) => return Verdict::Damaged(one_line(&error, REASON)),
    };
    if !location.is_supported() {
        let scheme = location.scheme().unwrap_or_default();
        return Verdict::Unsupported(format!("there is no client for {scheme}:"));
    }
    match storage.read_metadata(&location).await {
        Ok(bytes) => match metadata::parse(&bytes) {
            Ok(metadata) => Verdict::Good(Verified {
                path: path.to_owned(),
                checkpoint_id: i64::try_from(metadata.header.checkpoint_id).unwrap_or(i64::MAX),
                size: metadata.state_size.total() + metadata.metadata_size,
            }),
            Err(error) => Verdict::Damaged(one_line(&error, REASON)),
        },
        Err(error) => refused(&error),
    }
}

fn refused(error: &StorageError) -> Verdict {
    let why = one_line(error, REASON);
    match error.kind() {
        StorageErrorKind::NotFound => Verdict::Missing,
        StorageErrorKind::Unsupported => Verdict::Unsupported(why),
        _ if error.is_retryable() => Verdict::Unreachable(why),
        // Denied, too large: somebody must act, but the restore point itself may be whole.
        _ => Verdict::Damaged(why),
    }
}

/// The newest retained checkpoint of `run`, read back; damaged or missing ones are passed over, since this is the
/// fallback of a shutdown and the next start looks again.
pub async fn newest_checkpoint(storage: &Storage, run: &Run) -> Sighting<Verified> {
    let found = match checkpoints(storage, run).await {
        Ok(found) => found,
        Err(()) => return Sighting::Unreachable,
    };
    for candidate in found {
        match verify(storage, &candidate.path).await {
            Verdict::Good(verified) => return Sighting::Seen(verified),
            Verdict::Unreachable(_) => return Sighting::Unreachable,
            _ => {}
        }
    }
    Sighting::Absent
}

/// The savepoint in `directory`, the own one of an intent, that is not among `known`: its path. It is not read here, so
/// that one which is damaged is not taken for none.
pub async fn late_savepoint(
    storage: &Storage,
    directory: &str,
    known: &[&str],
) -> Sighting<String> {
    let Ok(found) = savepoints(storage, directory).await else {
        return Sighting::Unreachable;
    };
    let names: Vec<&str> = known.iter().map(|path| last_segment(path)).collect();
    let late = found
        .into_iter()
        .find(|path| !names.contains(&last_segment(path)));
    late.map_or(Sighting::Absent, Sighting::Seen)
}

/// Everything of `run` that a start could resume from: its retained checkpoints, and, when a stop was asked for and
/// its result never recorded, the savepoint in `intent_directory`.
pub async fn of_run(
    storage: &Storage,
    run: Option<&Run>,
    intent_directory: Option<&str>,
    known: &[&str],
) -> Sighting<Vec<Found>> {
    let mut all = match run {
        Some(run) => match checkpoints(storage, run).await {
            Ok(found) => found,
            Err(()) => return Sighting::Unreachable,
        },
        None => Vec::new(),
    };
    if let Some(directory) = intent_directory {
        match late_savepoint(storage, directory, known).await {
            Sighting::Seen(path) => all.push(Found {
                path,
                kind: PointKind::Stop,
                checkpoint_id: UNREAD,
            }),
            Sighting::Absent => {}
            Sighting::Unreachable => return Sighting::Unreachable,
        }
    }
    Sighting::Seen(all)
}

/// The newest retained checkpoints of `run`, newest first.
async fn checkpoints(storage: &Storage, run: &Run) -> Result<Vec<Found>, ()> {
    let Some(location) = run
        .checkpoint_dir
        .as_deref()
        .and_then(|dir| Location::parse(dir).ok())
    else {
        return Ok(Vec::new());
    };
    let listed = storage.list_checkpoints(&location, NEWEST).await;
    Ok(present(listed)?
        .into_iter()
        .filter_map(|found| {
            let checkpoint_id = i64::try_from(found.checkpoint_id?).ok()?;
            let path = found.location.as_str().to_owned();
            Some(Found {
                path,
                kind: PointKind::Checkpoint,
                checkpoint_id,
            })
        })
        .collect())
}

async fn savepoints(storage: &Storage, directory: &str) -> Result<Vec<String>, ()> {
    let Ok(location) = Location::parse(directory) else {
        return Ok(Vec::new());
    };
    let listed = storage.list_savepoints(&location).await;
    Ok(present(listed)?
        .into_iter()
        .map(|found| found.location.as_str().to_owned())
        .collect())
}

/// A directory that does not exist holds nothing; one that cannot be looked into may hold anything.
fn present<T>(listed: Result<Vec<T>, StorageError>) -> Result<Vec<T>, ()> {
    match listed {
        Ok(found) => Ok(found),
        Err(error) => match error.kind() {
            StorageErrorKind::NotFound | StorageErrorKind::Unsupported => Ok(Vec::new()),
            _ => {
                debug!(
                    error = one_line(&error, REASON),
                    "Directory cannot be listed"
                );
                Err(())
            }
        },
    }
}
