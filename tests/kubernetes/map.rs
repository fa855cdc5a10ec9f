//! The pointer's ConfigMap: what is written, what is kept, and what a person may do to it.

use drey::kubernetes::{
    HandEdit, KubeError, PointerMap, PointerMapError, Request, RequestKind, Sight, hand_edit,
};
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::world::{World, document, next, point, pointer, rights, run};

fn request(kind: RequestKind) -> Request {
    Request {
        kind,
        pod: Some("tm-1".to_owned()),
        ip: None,
        until: None,
        format: None,
        asked: "2026-01-02T03:04:05Z".parse().unwrap(),
    }
}

#[test]
fn what_was_written_is_read_and_a_script_finds_the_path() {
    run(async {
        let world = World::new("written").await;
        assert_eq!(world.map.load().await.unwrap(), None);
        let version = world.map.save(&document("s3://b/1")).await.unwrap();
        let mut read = world.load().await;
        assert_eq!(read.version, Some(version));
        assert_eq!(read.pointer, Sight::Good(pointer("s3://b/1")));
        assert_eq!(hand_edit(&read), None);
        read.pointer = Sight::Good(pointer("s3://b/2"));
        world.map.save(&read).await.unwrap();
        let map = world.maps().get(world.map.name()).await.unwrap();
        assert_eq!(map.data.unwrap()["savepoint-path"], "s3://b/2");
        let labels = map.metadata.labels.unwrap();
        assert_eq!(labels["drey.io/cluster-id"], "orders");
        assert_eq!(labels["app.kubernetes.io/managed-by"], "drey");
        assert_eq!(map.metadata.owner_references, None);
        let managers = map.metadata.managed_fields.unwrap();
        assert!(
            managers
                .iter()
                .all(|by| by.manager.as_deref() == Some("drey"))
        );
    });
}

#[test]
fn of_two_writers_one_has_to_look_again() {
    run(async {
        let world = World::new("conflict").await;
        let made = world.map.save(&document("s3://b/0")).await;
        made.unwrap();
        let again = world.map.save(&document("s3://b/0")).await;
        assert!(
            matches!(again, Err(PointerMapError::Conflict(_))),
            "{again:?}"
        );
        let (mut one, mut other) = (world.load().await, world.load().await);
        one.pointer = Sight::Good(pointer("s3://b/1"));
        other.pointer = Sight::Good(pointer("s3://b/2"));
        let (first, second) = tokio::join!(world.map.save(&one), world.map.save(&other));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let lost = first.err().or(second.err()).unwrap();
        assert!(matches!(lost, PointerMapError::Conflict(_)), "{lost}");
    });
}

#[test]
fn a_request_that_comes_during_a_write_is_not_lost() {
    run(async {
        let world = World::new("requests").await;
        world.map.save(&document("s3://b/0")).await.unwrap();
        let read = world.load().await;
        let asked = request(RequestKind::Release);
        world.map.request("tm-uid", &asked).await.unwrap();
        let lost = world.map.save(&read).await;
        assert!(
            matches!(lost, Err(PointerMapError::Conflict(_))),
            "{lost:?}"
        );
        let again = world.load().await;
        assert_eq!(again.requests["tm-uid"], asked);
        world.map.save(&again).await.unwrap();
        assert_eq!(world.load().await.requests["tm-uid"], asked);
        world.map.answer("tm-uid", "go").await.unwrap();
        let answered = world.load().await;
        assert!(answered.requests.is_empty());
        assert_eq!(answered.answers["tm-uid"], "go");
        world.map.withdraw("tm-uid").await.unwrap();
        world.map.withdraw("tm-uid").await.unwrap();
        assert!(world.load().await.answers.is_empty());
        assert_eq!(world.load().await.pointer, read.pointer);
        let name = world.map.request("a/b", &asked).await;
        assert!(matches!(name, Err(PointerMapError::Name(_))), "{name:?}");
    });
}

#[test]
fn many_requests_at_once_all_arrive() {
    run(async {
        let world = World::new("many").await;
        world.map.save(&document("s3://b/0")).await.unwrap();
        let asked = request(RequestKind::Checkpoint);
        let names: Vec<String> = (0..20).map(|n| format!("tm-{n}")).collect();
        let all = names.iter().map(|name| world.map.request(name, &asked));
        for done in futures_util::future::join_all(all).await {
            done.unwrap();
        }
        assert_eq!(world.load().await.requests.len(), 20);
    });
}

#[test]
fn what_others_keep_in_the_map_stays() {
    run(async {
        let world = World::new("foreign").await;
        world.map.save(&document("s3://b/0")).await.unwrap();
        world
            .edit(json!({
                "data": { "note": "mine" },
                "binaryData": { "blob": "AAECAw==" },
                "metadata": { "annotations": { "a": "b" }, "labels": { "team": "x" } },
            }))
            .await;
        let mut read = world.load().await;
        assert_eq!(read.other_bytes, 8);
        read.pointer = Sight::Good(pointer("s3://b/1"));
        world.map.save(&read).await.unwrap();
        let map = world.maps().get(world.map.name()).await.unwrap();
        assert_eq!(map.data.unwrap()["note"], "mine");
        assert!(map.binary_data.unwrap().contains_key("blob"));
        assert_eq!(map.metadata.annotations.unwrap()["a"], "b");
        assert_eq!(map.metadata.labels.unwrap()["team"], "x");
    });
}

#[test]
fn an_immutable_map_is_told_apart() {
    run(async {
        let world = World::new("immutable").await;
        world.map.save(&document("s3://b/0")).await.unwrap();
        world.edit(json!({ "immutable": true })).await;
        let mut read = world.load().await;
        assert!(read.immutable);
        read.pointer = Sight::Good(pointer("s3://b/1"));
        let refused = world.map.save(&read).await.unwrap_err();
        assert!(
            matches!(refused, PointerMapError::Kube(KubeError::Immutable { .. })),
            "{refused}"
        );
    });
}

#[test]
fn each_change_is_seen_and_so_is_the_end() {
    run(async {
        let world = World::new("watched").await;
        let mut watch = world.map.watch();
        assert_eq!(next(&mut watch).await.unwrap(), None);
        let made = world.map.save(&document("s3://b/0")).await.unwrap();
        let seen = next(&mut watch).await.unwrap().unwrap();
        assert_eq!(seen.version, Some(made));
        world
            .edit(json!({ "data": { "savepoint-path": "s3://b/9\n" } }))
            .await;
        let seen = next(&mut watch).await.unwrap().unwrap();
        assert_eq!(
            hand_edit(&seen),
            Some(HandEdit::PathSet("s3://b/9".to_owned()))
        );
        let deleted = world
            .maps()
            .delete(world.map.name(), &DeleteParams::default())
            .await;
        deleted.unwrap();
        assert_eq!(next(&mut watch).await.unwrap(), None);
        let lost = world.map.save(&seen).await;
        assert!(
            matches!(lost, Err(PointerMapError::Conflict(_))),
            "{lost:?}"
        );
        // Made again by another: the UID is another one.
        world.map.save(&document("s3://b/0")).await.unwrap();
        let lost = world.map.save(&seen).await;
        assert!(
            matches!(lost, Err(PointerMapError::Conflict(_))),
            "{lost:?}"
        );
    });
}

#[test]
fn garbage_is_data_and_is_not_written_over() {
    run(async {
        let world = World::new("garbage").await;
        world.map.save(&document("s3://b/0")).await.unwrap();
        let texts = [
            "{",
            "{\"format\": 9}",
            &serde_json::to_string(&drey::domain::pointer::Pointer::new("other")).unwrap(),
        ];
        for text in texts {
            world
                .edit(json!({ "data": { "pointer.json": text, "request.x": "hello" } }))
                .await;
            let read = world.load().await;
            assert!(
                matches!(hand_edit(&read), Some(HandEdit::Damaged(_))),
                "{read:?}"
            );
            assert!(read.unreadable.contains_key("x"));
            world.map.save(&read).await.unwrap();
            let map = world.maps().get(world.map.name()).await.unwrap();
            assert_eq!(map.data.unwrap()["pointer.json"], text);
        }
        world
            .edit(json!({ "data": { "pointer.json": null } }))
            .await;
        assert!(matches!(world.load().await.pointer, Sight::Damaged(_)));
        world
            .edit(json!({ "binaryData": { "pointer.json": "/w==" } }))
            .await;
        let mut read = world.load().await;
        assert!(matches!(read.pointer, Sight::Damaged(_)));
        read.pointer = Sight::Good(pointer("s3://b/1"));
        world.map.save(&read).await.unwrap();
        assert_eq!(hand_edit(&world.load().await), None);
        world
            .edit(json!({ "data": { "savepoint-path": null } }))
            .await;
        assert_eq!(hand_edit(&world.load().await), Some(HandEdit::PathRemoved));
        world.edit(json!({ "data": { "lock.json": "[]" } })).await;
        let read = world.load().await;
        assert!(read.lock_damage.is_some());
        let refused = world.map.save(&read).await;
        assert!(
            matches!(refused, Err(PointerMapError::Damaged { .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn a_path_in_a_map_made_by_hand_is_seen() {
    run(async {
        let world = World::new("byhand").await;
        let map = json!({ "metadata": { "name": "drey-orders" }, "data": { "savepoint-path": "s3://b/7" } });
        let map = serde_json::from_value(map).unwrap();
        world
            .maps()
            .create(&PostParams::default(), &map)
            .await
            .unwrap();
        let read = world.load().await;
        assert_eq!(read.pointer, Sight::None);
        assert_eq!(
            hand_edit(&read),
            Some(HandEdit::PathSet("s3://b/7".to_owned()))
        );
    });
}

#[test]
fn a_history_that_does_not_fit_loses_its_oldest() {
    run(async {
        let world = World::new("large").await;
        world.map.save(&document("s3://b/0")).await.unwrap();
        let note = "x".repeat(250_000);
        world.edit(json!({ "data": { "note": note } })).await;
        let mut written = world.load().await;
        let mut large = pointer("s3://b/0");
        for id in 0..40 {
            let path = format!("s3://b/{id}/{}", "x".repeat(40_000));
            large.entry("application").record(point(&path, id), 1000);
        }
        large.seal();
        let newest = large.savepoint_path.clone();
        written.pointer = Sight::Good(large);
        world.map.save(&written).await.unwrap();
        let read = world.load().await;
        assert_eq!(read.savepoint_path, newest);
        assert_eq!(hand_edit(&read), None);
        let history = &read.pointer.good().unwrap().jobs["application"].history;
        assert!((10..30).contains(&history.len()), "{}", history.len());
        let mut huge = world.load().await;
        huge.pointer = Sight::Good(pointer(&"x".repeat(500_000)));
        let refused = world.map.save(&huge).await;
        assert!(
            matches!(refused, Err(PointerMapError::TooLarge { .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn a_missing_right_is_named_with_the_rule_that_grants_it() {
    run(async {
        let world = World::new("rights").await;
        world.map.save(&document("s3://b/0")).await.unwrap();
        let read = world.load().await;
        for verb in ["get", "patch", "list", "watch"] {
            let mut rules = rights(world.map.name());
            let verbs: Vec<&str> = ["get", "list", "watch", "patch"]
                .into_iter()
                .filter(|granted| *granted != verb)
                .collect();
            rules[0]["verbs"] = json!(verbs);
            world.grant(rules).await;
            // The authorizer of the API server sees a Role a moment after it was written.
            let error = loop {
                let tried = match verb {
                    "get" => world.map.load().await.err(),
                    "patch" => world.map.save(&read).await.err(),
                    _ => {
                        let mut watch = world.map.watch();
                        let first = next(&mut watch).await;
                        match first {
                            Ok(_) if verb == "watch" => next(&mut watch_again(&world)).await.err(),
                            first => first.err(),
                        }
                    }
                };
                match tried {
                    Some(PointerMapError::Conflict(_)) | None => tokio::task::yield_now().await,
                    Some(error) => break error,
                }
            };
            let text = error.to_string();
            assert!(text.contains(&format!("verbs: [{verb}]")), "{text}");
            assert!(text.contains("resourceNames: [drey-orders]"), "{text}");
        }
        let other = PointerMap::new(&world.kube, "other")
            .load()
            .await
            .unwrap_err();
        assert!(
            other.to_string().contains("resourceNames: [drey-other]"),
            "{other}"
        );
    });
}

/// A watch whose first item, the present state, was taken.
fn watch_again(
    world: &World,
) -> impl futures_util::Stream<Item = Result<Option<drey::kubernetes::Document>, PointerMapError>> + Unpin
{
    use futures_util::StreamExt;
    Box::pin(world.map.watch().skip(1))
}

#[test]
fn in_a_namespace_that_goes_nothing_is_made() {
    run(async {
        let world = World::new("goes").await;
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
            kube::Api::all(world.admin.clone());
        namespaces
            .delete("goes", &DeleteParams::default())
            .await
            .unwrap();
        let refused = world.map.save(&document("s3://b/0")).await.unwrap_err();
        assert!(
            matches!(refused, PointerMapError::Kube(KubeError::Gone { .. })),
            "{refused}"
        );
    });
}
