//! The lock in the pointer's ConfigMap, after a person has edited it while a JobManager runs.

use drey::domain::lock::{Holder, Lock, PodRef};
use drey::store::MapStore;
use serde_json::json;

use crate::world::{World, pointer, run};

fn pod(name: &str, template: &str) -> PodRef {
    PodRef {
        uid: format!("uid-of-{name}"),
        name: name.to_owned(),
        ip: None,
        node: None,
        template: template.to_owned(),
    }
}

fn held_by(pods: &[&PodRef]) -> Lock {
    let holder = |pod: &&PodRef| Holder {
        pod: (*pod).clone(),
        since: "2026-01-02T03:04:05Z".parse().unwrap(),
        deadline: None,
    };
    Lock {
        holders: pods.iter().map(holder).collect(),
        waiters: Vec::new(),
    }
}

/// What a supervisor knows that has written `lock` and then sees what a person did.
async fn after_edit(
    world: &World,
    lock: &Lock,
    edit: serde_json::Value,
) -> (MapStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = MapStore::new(world.map.clone(), directory.path().join("copy.json"));
    let pointer = pointer("s3://b/1");
    store.write(Some(&pointer), lock.clone()).await.unwrap();
    world.edit(edit).await;
    store.seen(world.map.load().await.unwrap());
    (store, directory)
}

#[test]
fn who_runs_the_job_puts_its_lock_back_and_can_write_again() {
    run(async {
        let me = pod("me", "a");
        for (name, lock) in [
            ("emptied", json!("{}")),
            ("damaged", json!("{")),
            ("removed", json!(null)),
        ] {
            let world = World::new(&format!("lock-{name}")).await;
            let edit = json!({ "data": { "lock.json": lock } });
            let (mut store, _directory) = after_edit(&world, &held_by(&[&me]), edit).await;

            assert!(store.keep_lock(&me, false), "{name}");
            store.save(&pointer("s3://b/2")).await.unwrap();

            let stands = world.load().await;
            assert!(stands.lock.holds(&me.uid), "{name}");
            assert_eq!(stands.lock_damage, None, "{name}");
            assert!(!store.keep_lock(&me, false), "{name}: once is enough");
        }
    });
}

#[test]
fn a_lock_that_others_took_stays_theirs_unless_it_is_shared() {
    run(async {
        let (me, like_me, other) = (pod("me", "a"), pod("like-me", "a"), pod("other", "b"));
        for (theirs, shared, kept) in [
            (&like_me, true, true),
            (&like_me, false, false),
            (&other, true, false),
        ] {
            let world = World::new(&format!("taken-by-{}-{shared}", theirs.name)).await;
            let lock = serde_json::to_string(&held_by(&[theirs])).unwrap();
            let edit = json!({ "data": { "lock.json": lock } });
            let (mut store, _directory) = after_edit(&world, &held_by(&[&me]), edit).await;

            assert_eq!(store.keep_lock(&me, shared), kept);
            let lock = &store.document().lock;
            assert_eq!((lock.holds(&theirs.uid), lock.holds(&me.uid)), (true, kept));
        }
    });
}

/// A container that was restarted while the API server was away, and what another one has written meanwhile.
#[test]
fn the_pods_copy_counts_only_until_something_newer_is_seen() {
    run(async {
        let (me, other) = (pod("me", "a"), pod("other", "b"));
        let world = World::new("outdated-copy").await;
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("copy.json");
        let mut first = MapStore::new(world.map.clone(), copy.clone());
        let mut pointer = pointer("s3://b/1");
        first.write(Some(&pointer), held_by(&[&me])).await.unwrap();

        // Written aside: more than what stands in the ConfigMap, but for the lock.
        pointer.seal();
        first.fall_behind(&pointer);
        let mut second = MapStore::new(world.map.clone(), copy.clone());
        assert!(second.copy_says_held(&me.uid) && !second.is_known());
        assert_eq!(second.load_copy(), Some(pointer.clone()));
        assert_eq!(second.load().await.unwrap(), Some(pointer.clone()));
        assert!(second.is_behind());

        // Another pod has gone on.
        let mut theirs = MapStore::without_copy(world.map.clone());
        theirs.load().await.unwrap();
        pointer.seal();
        pointer.seal();
        let lock = held_by(&[&other]);
        theirs.write(Some(&pointer), lock).await.unwrap();
        assert_eq!(second.load().await.unwrap(), Some(pointer));
        assert!(!second.is_behind());
        assert!(second.document().lock.holds(&other.uid));
        assert!(!second.document().lock.holds(&me.uid));
    });
}
