//! `drey gc --kubernetes` and `drey history --kubernetes`: where the pointer's ConfigMap is all there is of a cluster.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use drey::domain::lock::{Holder, Lock, PodRef};
use drey::domain::pointer::{APPLICATION, JobEntry, Parent, Pointer, Run, RunId};
use drey::kubernetes::{Document, Sight};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::by_hand::{drey, said};
use crate::world::{World, point, run};

const SIGKILL: i32 = 9;

fn run_id(number: u8) -> RunId {
    RunId::from_bytes([0, 0, 0, 0, 0, number])
}

/// Savepoint `number` of run 1 of `cluster`, where Drey would have put it.
fn place(dir: &Path, cluster: &str, number: u32) -> PathBuf {
    dir.join(format!(
        "{cluster}/{}/{number:032x}/savepoint-aaaaaa-{number:012x}",
        run_id(1)
    ))
}

fn make(dir: &Path, cluster: &str) {
    for number in 1..=4 {
        let savepoint = place(dir, cluster, number);
        fs::create_dir_all(&savepoint).unwrap();
        for name in ["_metadata", "state-1", "state-2"] {
            fs::write(savepoint.join(name), "state").unwrap();
        }
    }
}

fn left(dir: &Path, cluster: &str) -> Vec<u32> {
    let is_there = |number: &u32| place(dir, cluster, *number).join("_metadata").exists();
    (1..=4).filter(is_there).collect()
}

/// Four savepoints of run 1, after which run 2 started and has completed a checkpoint; its pod has the lock.
fn document(dir: &Path) -> Document {
    let url = |path: PathBuf| format!("file://{}", path.display());
    let mut pointer = Pointer::new("orders");
    let history = (1..=4).rev().map(|number: u32| {
        let mut point = point(&url(place(dir, "orders", number)), i64::from(number));
        point.run = Some(run_id(1));
        point.completed = Timestamp::now() - (10 - i64::from(number)).minutes();
        point
    });
    *pointer.entry(APPLICATION) = JobEntry {
        history: history.collect(),
        run: Some(Run {
            id: run_id(2),
            job_id: None,
            parent: Some(Parent {
                path: url(place(dir, "orders", 4)),
                checkpoint_id: Some(4),
            }),
            checkpoint_dir: None,
            savepoint_dir: Some(url(dir.join(format!("orders/{}", run_id(2))))),
            stored: Timestamp::now(),
            owner: String::new(),
            flink_version: "2.3.0".to_owned(),
        }),
        ..JobEntry::default()
    };
    pointer.entry(APPLICATION).prove(Timestamp::now());
    pointer.seal();
    let pod = PodRef {
        uid: "u".to_owned(),
        name: "orders-0".to_owned(),
        ip: None,
        node: None,
        template: String::new(),
    };
    Document {
        pointer: Sight::Good(pointer),
        lock: Lock {
            holders: vec![Holder {
                pod,
                since: Timestamp::UNIX_EPOCH,
                deadline: None,
            }],
            waiters: Vec::new(),
        },
        ..Document::default()
    }
}

async fn entry(world: &World) -> JobEntry {
    let document = world.load().await;
    let pointer = document.pointer.good().expect("a pointer");
    pointer.jobs[APPLICATION].clone()
}

async fn report(world: &World, args: &[&str]) -> Value {
    let output = drey(world, &[&["gc", "--output", "json"], args].concat(), "").await;
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn old_savepoints_are_deleted_by_the_configmap_and_those_of_another_cluster_stay() {
    run(async {
        let world = World::new("keep-gc").await;
        let none = drey(&world, &["history"], "").await;
        assert_eq!(none.status.code(), Some(1));
        assert!(said(&none).contains("there is no configmap/drey-orders yet"));

        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), "orders");
        make(dir.path(), "orders-2");
        world.map.save(&document(dir.path())).await.unwrap();
        let before = world.load().await;
        let dry = report(&world, &["--dry-run"]).await;
        let fates: Vec<&Value> = dry["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["fate"])
            .collect();
        let doomed = json!({"delete": "count"});
        assert_eq!(fates.iter().filter(|fate| ***fate == doomed).count(), 2);
        assert_eq!(world.load().await.version, before.version);
        assert_eq!(left(dir.path(), "orders"), [1, 2, 3, 4]);

        // Killed in the middle: the order stands in the ConfigMap, and whoever comes next carries it out.
        let killed = drey(&world, &["gc"], "amid-disposal").await;
        assert_eq!(killed.status.signal(), Some(SIGKILL), "{}", said(&killed));
        assert_eq!(entry(&world).await.disposals.len(), 2);
        assert_eq!(report(&world, &[]).await["failures"], json!([]));
        assert_eq!(left(dir.path(), "orders"), [3, 4]);
        assert!(!place(dir.path(), "orders", 2).exists());
        assert_eq!(left(dir.path(), "orders-2"), [1, 2, 3, 4]);
        let after = world.load().await;
        assert_eq!(after.lock, before.lock);
        let entry = entry(&world).await;
        assert_eq!((entry.history.len(), entry.disposals.len()), (2, 0));
    });
}

#[test]
fn the_history_of_a_cluster_without_pods_is_shown() {
    run(async {
        let world = World::new("keep-history").await;
        let dir = tempfile::tempdir().unwrap();
        world.map.save(&document(dir.path())).await.unwrap();
        let text = said(&drey(&world, &["history"], "").await);
        assert!(text.starts_with("Cluster  orders\n"), "{text}");
        assert!(text.contains("start of run 000000000002"), "{text}");
        assert!(text.contains("id 4, resumed by 000000000002"), "{text}");
        let json = drey(&world, &["history", "--output", "json"], "").await;
        let shown: Value = serde_json::from_slice(&json.stdout).unwrap();
        let points = &shown["jobs"][APPLICATION]["restore-points"];
        assert_eq!(points.as_array().unwrap().len(), 4);
        assert_eq!(points[0]["resumed-by"], json!(["000000000002"]));
    });
}

#[test]
fn who_may_not_write_the_configmap_deletes_nothing() {
    run(async {
        let world = World::new("keep-rights").await;
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), "orders");
        world.map.save(&document(dir.path())).await.unwrap();
        let read_only = json!({"apiGroups": [""], "resources": ["configmaps"],
            "resourceNames": ["drey-orders"], "verbs": ["get"]});
        world.grant(vec![read_only]).await;
        let refused = drey(&world, &["gc"], "").await;
        assert!(!refused.status.success());
        let text = said(&refused);
        assert!(
            text.contains("may not patch configmaps drey-orders"),
            "{text}"
        );
        assert_eq!(left(dir.path(), "orders"), [1, 2, 3, 4]);
        let dry = report(&world, &["--dry-run"]).await;
        assert_eq!(dry["points"].as_array().unwrap().len(), 4);
    });
}
