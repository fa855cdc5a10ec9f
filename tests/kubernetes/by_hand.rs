//! `drey pointer --kubernetes`: a person's hand on the pointer of a cluster whose pods are gone.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use drey::domain::lock::{Holder, Lock, PodRef};
use drey::kubernetes::Sight;
use serde_json::Value;

use crate::world::{World, document, run};

/// Runs `drey pointer` with the rights of the world's user, and nothing else in its environment.
async fn pointer(world: &World, args: &[&str]) -> Output {
    drey(world, &[&["pointer"], args].concat(), "").await
}

/// Runs one of the commands that take `--kubernetes` with the rights of the world's user, and nothing else in its environment.
pub async fn drey(world: &World, args: &[&str], kill_at: &str) -> Output {
    let kubeconfig = world.server.kubeconfig(&world.name, &world.name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_drey"));
    command
        .env_clear()
        .current_dir(kubeconfig.parent().unwrap())
        .env("KUBECONFIG", &kubeconfig)
        // As in the pod of a CI runner, whose own account is not meant.
        .env("KUBERNETES_SERVICE_HOST", "192.0.2.1")
        .env("KUBERNETES_SERVICE_PORT", "443")
        .env("DREY_CLUSTER_ID", "orders")
        .env("DREY_HISTORY", "2")
        .env("DREY_KILL_AT", kill_at)
        .args(args)
        .arg("--kubernetes");
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.unwrap().unwrap()
}

pub fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    [out, err]
        .map(|text| String::from_utf8_lossy(text))
        .concat()
}

fn savepoint(dir: &Path) -> String {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/metadata/v6-savepoint-native"
    );
    fs::copy(fixture, dir.join("_metadata")).unwrap();
    format!("file://{}", dir.display())
}

#[test]
fn the_pointer_of_a_cluster_without_pods_is_set_shown_and_cleared() {
    run(async {
        let world = World::new("by-hand").await;
        let none = pointer(&world, &["show"]).await;
        assert_eq!(none.status.code(), Some(1));
        assert!(said(&none).contains("there is no configmap/drey-orders yet"));

        let dir = tempfile::tempdir().unwrap();
        let path = savepoint(dir.path());
        let set = pointer(&world, &["set", &path, "--output", "json"]).await;
        assert!(set.status.success(), "{}", said(&set));
        let shown: Value = serde_json::from_slice(&set.stdout).unwrap();
        assert_eq!(shown["savepoint-path"], path.as_str());
        assert_eq!(world.load().await.savepoint_path.as_deref(), Some(&*path));

        let missing = pointer(&world, &["set", "file:///nowhere/savepoint-1"]).await;
        assert_eq!(missing.status.code(), Some(1));
        assert!(said(&missing).contains("the pointer is as it was"));
        assert_eq!(world.load().await.savepoint_path.as_deref(), Some(&*path));

        let cleared = pointer(&world, &["clear"]).await;
        assert!(said(&cleared).contains("empty state, as a person ordered"));
        let read = world.load().await;
        let entry = &read.pointer.good().unwrap().jobs["application"];
        assert!(entry.cleared);
    });
}

#[test]
fn the_lock_stays_as_it_is_and_shows_whose_job_manager_runs() {
    run(async {
        let world = World::new("by-hand-held").await;
        let mut before = document("s3://b/1");
        before.lock = Lock {
            holders: vec![Holder {
                pod: PodRef {
                    uid: "u".to_owned(),
                    name: "orders-0".to_owned(),
                    ip: None,
                    node: None,
                    template: String::new(),
                },
                since: "2026-01-02T03:04:05Z".parse().unwrap(),
                deadline: None,
            }],
            waiters: Vec::new(),
        };
        world.map.save(&before).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = savepoint(dir.path());
        let set = pointer(&world, &["set", &path]).await;
        assert!(
            said(&set).contains("Lock     held by pod orders-0"),
            "{}",
            said(&set)
        );
        let read = world.load().await;
        assert_eq!(read.lock, before.lock);
        let Sight::Good(pointer) = read.pointer else {
            panic!("damaged");
        };
        assert!(pointer.generation > before.pointer.good().unwrap().generation);
    });
}
