use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::domain::pointer::{APPLICATION, Run};
use crate::storage::StorageSettings;

const TRIGGER: &str = "00000000000000000000000000000001";

fn storage() -> Storage {
    Storage::new(StorageSettings::default())
}

fn url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

/// Makes what looks like a savepoint of `run` in `root`; its directory.
fn savepoint(root: &TempDir, run: &str, trigger: &str) -> std::path::PathBuf {
    let dir = root
        .path()
        .join(format!("orders/{run}/{trigger}/savepoint-aaaaaa-1"));
    fs::create_dir_all(dir.join("more")).expect("a directory");
    for file in ["_metadata", "state-1", "more/state-2"] {
        fs::write(dir.join(file), file).expect("a file");
    }
    dir
}

/// The pointer of a cluster whose present run is `000000000001`.
fn pointer(root: &TempDir) -> Pointer {
    let mut pointer = Pointer::new("orders");
    let entry = pointer.entry(APPLICATION);
    entry.lineage = 1;
    let id = RunId::parse("000000000001").expect("a run id");
    entry.run = Some(Run {
        savepoint_dir: Some(format!("{}/orders/{id}", url(root.path()))),
        id,
        job_id: None,
        parent: None,
        checkpoint_dir: None,
        stored: Timestamp::UNIX_EPOCH,
        owner: String::new(),
        flink_version: String::new(),
    });
    entry.note_start();
    pointer
}

#[tokio::test]
async fn a_deletion_goes_on_where_it_was_interrupted_and_takes_nothing_else() {
    let root = tempfile::tempdir().expect("a directory");
    let (dir, other) = (
        savepoint(&root, "000000000001", TRIGGER),
        savepoint(&root, "000000000002", TRIGGER),
    );
    fs::remove_file(dir.join("_metadata")).expect("half of it is gone");
    for _ in 0..2 {
        let done = dispose(None, &storage(), &url(&dir)).await;
        assert_eq!(done, Ok(()), "also of what is gone");
        assert!(!dir.exists() && !dir.parent().expect("a parent").exists());
    }
    assert!(other.join("more/state-2").exists());
    let beside = dir.parent().and_then(Path::parent).expect("a run");
    assert!(
        beside.exists(),
        "nothing above the savepoint's own directory"
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_told() {
    let refused = dispose(None, &storage(), "hdfs://n/orders/x").await;
    let why = refused.expect_err("there is no client");
    assert!(
        why.contains("hdfs") && why.contains("Flink does not run"),
        "{why}"
    );
}

#[tokio::test]
async fn savepoints_that_nobody_recorded_are_told_from_others() {
    let root = tempfile::tempdir().expect("a directory");
    let pointer = pointer(&root);
    assert_eq!(
        find_orphans(&storage(), &pointer).await,
        Ok(Vec::new()),
        "no directory yet"
    );
    let own = savepoint(&root, "000000000001", TRIGGER);
    let strange = savepoint(&root, "00000000000f", TRIGGER);
    fs::create_dir_all(root.path().join("orders/not-a-run/x/savepoint-1")).expect("a directory");
    fs::create_dir_all(
        root.path()
            .join(format!("others/000000000001/{TRIGGER}/savepoint-1")),
    )
    .expect("a directory");
    let mut found = find_orphans(&storage(), &pointer).await.expect("a list");
    found.sort_by(|a, b| a.run.cmp(&b.run));
    let seen: Vec<_> = found
        .iter()
        .map(|it| (it.path.clone(), it.job.clone(), it.adopted))
        .collect();
    let expected = [
        (url(&own), Some(APPLICATION.to_owned()), true),
        (url(&strange), None, false),
    ];
    assert_eq!(seen, expected);
    assert_eq!(
        adopted(&storage(), &found[0]).await,
        None,
        "it is not whole"
    );
}

#[test]
fn what_could_not_be_deleted_lets_others_go_first() {
    let mut entry = JobEntry::default();
    for path in ["a", "b", "c"] {
        entry.disposals.push(crate::domain::pointer::Disposal {
            path: path.to_owned(),
            since: Timestamp::UNIX_EPOCH,
            size: None,
        });
    }
    postpone(&mut entry, "a");
    disposed(&mut entry, "b");
    let left: Vec<&str> = entry.disposals.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(left, ["c", "a"]);
}
