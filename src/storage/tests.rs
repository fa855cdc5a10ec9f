#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use tempfile::TempDir;

use super::*;

const JOB: &str = "0123456789abcdef0123456789abcdef";

fn storage() -> Storage {
    Storage::new(StorageSettings::default())
}

fn location(path: &std::path::Path) -> Location {
    Location::parse(&format!("file://{}", path.display())).unwrap()
}

/// A directory with the checkpoints of one job, as Flink lays them out.
fn checkpoint_dir(complete: &[u64], aborted: &[u64]) -> TempDir {
    let dir = TempDir::new().unwrap();
    let job = dir.path().join(JOB);
    for other in ["shared", "taskowned"] {
        fs::create_dir_all(job.join(other)).unwrap();
    }
    for id in complete {
        fs::create_dir_all(job.join(format!("chk-{id}"))).unwrap();
        fs::write(job.join(format!("chk-{id}/_metadata")), b"meta").unwrap();
        fs::write(job.join(format!("chk-{id}/0b0b-state")), b"state").unwrap();
    }
    for id in aborted {
        fs::create_dir_all(job.join(format!("chk-{id}"))).unwrap();
    }
    dir
}

fn ids(found: &[Found]) -> Vec<u64> {
    found
        .iter()
        .filter_map(|found| found.checkpoint_id)
        .collect()
}

#[tokio::test]
async fn metadata_is_read_by_directory_or_file_name() {
    let dir = TempDir::new().unwrap();
    let savepoint = dir.path().join("sp #1 100% ü%20");
    fs::create_dir(&savepoint).unwrap();
    fs::write(savepoint.join("_metadata"), b"meta").unwrap();
    fs::write(savepoint.join("copy"), b"copied").unwrap();
    let at = location(&savepoint);
    assert_eq!(storage().read_metadata(&at).await.unwrap(), "meta");
    assert_eq!(
        storage()
            .read_metadata(&at.join("_metadata"))
            .await
            .unwrap(),
        "meta"
    );
    assert_eq!(
        storage().read_metadata(&at.join("copy")).await.unwrap(),
        "copied"
    );
}

#[tokio::test]
async fn missing_metadata_is_not_found() {
    let dir = TempDir::new().unwrap();
    for missing in [location(dir.path()), location(dir.path()).join("nothing")] {
        let error = storage().read_metadata(&missing).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::NotFound, "{error}");
        assert_eq!(
            error.to_string(),
            format!("cannot read the metadata of {missing}: not found")
        );
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn metadata_over_the_limit_is_refused_before_it_is_read() {
    let dir = TempDir::new().unwrap();
    fs::File::create(dir.path().join("_metadata"))
        .unwrap()
        .set_len(300 << 20)
        .unwrap();
    let error = storage()
        .read_metadata(&location(dir.path()))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("314572800 bytes, over the limit of 268435456"),
        "{text}"
    );
    let small = Storage::new(StorageSettings {
        metadata_limit: Some(3),
        ..StorageSettings::default()
    });
    fs::write(dir.path().join("_metadata"), b"meta").unwrap();
    assert_eq!(
        small
            .read_metadata(&location(dir.path()))
            .await
            .unwrap_err()
            .kind(),
        StorageErrorKind::Other
    );
}

#[tokio::test]
async fn complete_checkpoints_are_listed_newest_id_first_with_their_job() {
    let dir = checkpoint_dir(&[9, 10, 100], &[101]);
    let at = Location::parse(&format!("file:{}", dir.path().display())).unwrap();
    let found = storage().list_checkpoints(&at, usize::MAX).await.unwrap();
    assert_eq!(ids(&found), [100, 10, 9]);
    assert_eq!(found[0].location.as_str(), format!("{at}/{JOB}/chk-100"));
    assert_eq!(found[0].job_id.as_deref(), Some(JOB));
    assert_eq!(found[0].metadata_size, 4);
    let of_job = storage().list_checkpoints(&at.join(JOB), 2).await.unwrap();
    assert_eq!(ids(&of_job), [100, 10]);
    assert_eq!(of_job[0].job_id.as_deref(), Some(JOB));
}

#[tokio::test]
async fn checkpoints_of_several_jobs_are_merged_by_id() {
    let dir = checkpoint_dir(&[1, 5], &[]);
    let other = dir.path().join("f".repeat(32)).join("chk-3");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("_metadata"), b"m").unwrap();
    fs::write(dir.path().join("e".repeat(32)), b"a file, not a job").unwrap();
    let found = storage()
        .list_checkpoints(&location(dir.path()), 1)
        .await
        .unwrap();
    assert_eq!(ids(&found), [5, 3]);
}

/// Time that this thread has run, which other processes on the machine hardly change.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_thousand_checkpoints_are_listed_within_20_ms_of_processor_time() {
    let dir = checkpoint_dir(&(1..=1000).collect::<Vec<_>>(), &[]);
    let at = location(dir.path());
    let start = (cpu_time(), Instant::now());
    let entries = local::checkpoints(dir.path(), usize::MAX).unwrap();
    let looked = cpu_time() - start.0;
    assert_eq!(found(&at, entries).len(), 1000);
    let spent = cpu_time() - start.0;
    println!(
        "{spent:?}, {looked:?} of it for the file system, {:?} by the clock",
        start.1.elapsed()
    );
    assert!(spent <= Duration::from_millis(20), "{spent:?}");
}

#[tokio::test]
async fn aborted_savepoints_are_not_listed() {
    let dir = TempDir::new().unwrap();
    for name in ["savepoint-aaaaaa-1", "savepoint-bbbbbb-2", "other"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("savepoint-bbbbbb-2/_metadata"), b"m").unwrap();
    fs::write(dir.path().join("other/_metadata"), b"m").unwrap();
    let found = storage()
        .list_savepoints(&location(dir.path()))
        .await
        .unwrap();
    assert_eq!(
        found
            .iter()
            .map(|found| found.location.name())
            .collect::<Vec<_>>(),
        ["savepoint-bbbbbb-2"]
    );
    assert_eq!(found[0].checkpoint_id, None);
}

#[tokio::test]
async fn a_missing_directory_is_not_found() {
    let dir = TempDir::new().unwrap();
    let missing = location(dir.path()).join("nothing");
    let error = storage().list_checkpoints(&missing, 1).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NotFound);
    assert_eq!(
        storage()
            .list_savepoints(&missing)
            .await
            .unwrap_err()
            .kind(),
        StorageErrorKind::NotFound
    );
    assert!(!storage().exists(&missing).await.unwrap());
}

#[tokio::test]
async fn missing_files_are_named() {
    let dir = TempDir::new().unwrap();
    let all: Vec<_> = (0..100)
        .map(|i| location(dir.path()).join(&format!("state-{i}")))
        .collect();
    for i in (0..100).filter(|i| i % 50 != 7) {
        fs::write(dir.path().join(format!("state-{i}")), b"s").unwrap();
    }
    let missing = storage().missing(&all).await.unwrap();
    assert_eq!(missing, [all[7].clone(), all[57].clone()]);
    assert!(!storage().exists_all(&all).await.unwrap());
    assert!(storage().exists_all(&all[8..57]).await.unwrap());
}

#[tokio::test]
async fn writing_replaces_the_file_and_leaves_no_other() {
    let dir = TempDir::new().unwrap();
    let at = location(dir.path()).join("sub/pointer.yaml");
    for text in ["one", "two, longer"] {
        storage().write_small(&at, Bytes::from(text)).await.unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("sub/pointer.yaml")).unwrap(),
            text
        );
    }
    assert_eq!(fs::read_dir(dir.path().join("sub")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_failed_write_leaves_no_temporary_file() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("taken")).unwrap();
    let error = storage()
        .write_small(&location(dir.path()).join("taken"), Bytes::from("x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Other, "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn probe_leaves_nothing_and_accepts_a_directory_that_flink_would_make() {
    let dir = TempDir::new().unwrap();
    storage()
        .probe_writable(&location(dir.path()))
        .await
        .unwrap();
    storage()
        .probe_writable(&location(dir.path()).join("a/b"))
        .await
        .unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(dir.path().join("file"), b"").unwrap();
    assert!(
        storage()
            .probe_writable(&location(dir.path()).join("file"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn unreadable_is_denied_unless_root_reads_everything() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("closed")).unwrap();
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let at = location(dir.path()).join("closed");
    let result = storage().list_savepoints(&at).await;
    if rustix::process::geteuid().is_root() {
        assert_eq!(result.unwrap(), []);
    } else {
        assert_eq!(result.unwrap_err().kind(), StorageErrorKind::Denied);
    }
}

#[tokio::test]
async fn unknown_schemes_are_refused_with_the_remedy() {
    for text in ["hdfs://nn/x", "oss://b/x", "viewfs:///x"] {
        let error = storage()
            .read_metadata(&Location::parse(text).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Unsupported);
        let message = error.to_string();
        assert!(
            message.contains("allow-unverified") && message.contains(text),
            "{message}"
        );
    }
}

#[test]
fn file_system_errors_are_told_apart() {
    let at = Location::parse("/x").unwrap();
    // EPERM is reported as permission denied, too.
    for (code, kind, part) in [
        (2, StorageErrorKind::NotFound, "not found"),
        (13, StorageErrorKind::Denied, "fsGroup"),
        (1, StorageErrorKind::Denied, "fsGroup"),
        (30, StorageErrorKind::NotWritable, "read-only"),
        (28, StorageErrorKind::NotWritable, "no space left"),
        (122, StorageErrorKind::NotWritable, "no space left"),
        (116, StorageErrorKind::Unreachable, "volume"),
        (5, StorageErrorKind::Other, "failed"),
    ] {
        let error = StorageError::io(
            Attempt::new("write", &at),
            io::Error::from_raw_os_error(code),
        );
        assert_eq!(error.kind(), kind, "{code}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_hangs_times_out_and_may_be_tried_again() {
    let attempt = Attempt::new("read", &Location::parse("/x").unwrap());
    let error = storage()
        .timed(&attempt, std::future::pending::<()>())
        .await
        .unwrap_err();
    assert!(error.is_retryable());
    assert!(
        error.to_string().contains("no answer within 30s"),
        "{error}"
    );
}
