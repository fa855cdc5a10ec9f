//! `drey check --wait`.

use std::time::Duration;

use drey::check::gather::{Scope, changed, marks};
use serde_json::json;
use tokio::time::timeout;

use crate::world::{World, drey, said, start};

fn foreign() -> serde_json::Value {
    json!({
        "metadata": { "name": "foreign", "annotations": { "drey.io/inject": "true" } },
        "spec": { "containers": [{ "name": "drey", "image": "x" }] },
    })
}

#[tokio::test]
async fn waiting_ends_when_what_failed_is_mended() {
    let world = World::new("wait").await;
    world.create("pods", foreign()).await;
    let waiting = start(drey(&world.kubeconfig("root"), &["--pre", "--wait=5m"]));
    let path = "/api/v1/namespaces/wait/pods/foreign?gracePeriodSeconds=0";
    world.send("DELETE", path, &json!({})).await.unwrap();
    let said = said(&waiting.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{:#}", said.json);
    said.is("waiting-pods", "ok", "none");
}

#[tokio::test]
async fn waiting_ends_with_its_time_and_the_last_report() {
    let world = World::new("wait-in-vain").await;
    world.create("pods", foreign()).await;
    let said = world.check(&["--pre", "--wait=1s"]);
    assert_eq!(said.code, 1);
    said.is("waiting-pods", "failed", "foreign container");
}

/// No event is missed between looking and waiting: the marks are taken first.
#[tokio::test]
async fn a_change_after_the_marks_ends_the_wait_and_nothing_else_does() {
    let world = World::new("wait-event").await;
    let kube = world.server.drey("watcher", world.name).await;
    world.all_rights("watcher").await;
    let scope = Scope {
        namespace: Some(world.name.to_owned()),
        dry_run: world.name.to_owned(),
        webhook: "drey-system".to_owned(),
    };
    let before = marks(&kube, &scope).await;
    world.create("pods", foreign()).await;
    let seen = timeout(Duration::from_secs(60), changed(before)).await;
    assert!(seen.is_ok(), "the new pod is no change");
    let blind = world.server.drey("blind", world.name).await;
    let nothing = marks(&blind, &scope).await;
    assert_eq!(format!("{nothing:?}"), "Marks { kinds: 0 }");
}
