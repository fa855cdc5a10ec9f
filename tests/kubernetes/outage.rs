//! The API server goes away and comes back. It has one of its own.

use drey::domain::pointer_map::Sight;
use drey::kubernetes::{KubeError, PointerMap, PointerMapError};
use serde_json::json;

use crate::api_server::ApiServer;
use crate::world::{document, next, pointer, rights, run};

#[test]
fn a_watch_and_a_save_survive_an_api_server_that_is_killed() {
    run(async {
        let mut server = ApiServer::start().await;
        server.namespace("outage").await;
        server
            .grant("drey", "outage", json!(rights("drey-orders")))
            .await;
        let kube = server.drey("drey", "outage").await;
        let map = PointerMap::new(&kube, "orders");
        while map.load().await.is_err() {}
        map.save(&document("s3://b/0")).await.unwrap();
        let mut watch = map.watch();
        let mut read = next(&mut watch).await.unwrap().unwrap();
        server.kill();
        let told = next(&mut watch).await.unwrap_err();
        assert!(told.is_retryable(), "{told}");
        read.pointer = Sight::Good(pointer("s3://b/1"));
        let failed = map.save(&read).await.unwrap_err();
        assert!(
            matches!(failed, PointerMapError::Kube(KubeError::Unreachable { .. })),
            "{failed}"
        );
        server.resume().await;
        loop {
            match next(&mut watch).await {
                Ok(seen) => {
                    assert_eq!(seen.unwrap().pointer, Sight::Good(pointer("s3://b/0")));
                    break;
                }
                Err(error) => assert!(!matches!(error, PointerMapError::Conflict(_)), "{error}"),
            }
        }
        let saved = map.save(&read).await.unwrap();
        let seen = next(&mut watch).await.unwrap().unwrap();
        assert_eq!(seen.version, Some(saved));
    });
}
