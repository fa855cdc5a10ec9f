//! Events on the pod and its owner.

use std::time::Duration;

use drey::domain::lock::PodRef;
use drey::kubernetes::pods::OwnerRef;
use drey::kubernetes::{Event, EventKind, Recorder};
use k8s_openapi::api::core::v1::Event as CoreEvent;
use kube::Api;
use kube::api::ListParams;

use crate::world::{World, rights, run};

const SOON: Duration = Duration::from_secs(60);

fn recorder(world: &World) -> Recorder {
    let pod = PodRef {
        uid: "22222222-0000-0000-0000-000000000000".to_owned(),
        name: "jm".to_owned(),
        ip: None,
        node: None,
        template: String::new(),
    };
    let owner = OwnerRef {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: "orders".to_owned(),
        uid: "33333333-0000-0000-0000-000000000000".to_owned(),
    };
    Recorder::new(&world.kube, &pod, Some(owner))
}

fn event(message: &str) -> Event {
    Event {
        reason: "SavepointFailed",
        kind: EventKind::Warning,
        message: message.to_owned(),
        action: "Savepoint",
    }
}

impl World {
    async fn events(&self) -> Vec<CoreEvent> {
        let api: Api<CoreEvent> = Api::namespaced(self.admin.clone(), &self.name);
        api.list(&ListParams::default()).await.unwrap().items
    }
}

#[test]
fn repetitions_are_counted_on_the_pod_and_on_its_owner() {
    run(async {
        let world = World::new("events").await;
        let recorder = recorder(&world);
        for _ in 0..3 {
            recorder.publish(event("no"));
        }
        recorder.publish(event(&"é".repeat(2000)));
        recorder.flush(SOON).await;
        let events = world.events().await;
        assert_eq!(events.len(), 4);
        for kind in ["Pod", "Deployment"] {
            let of = |event: &&CoreEvent| event.involved_object.kind.as_deref() == Some(kind);
            let counts: Vec<Option<i32>> =
                events.iter().filter(of).map(|event| event.count).collect();
            assert_eq!(counts, [Some(3), Some(1)], "{kind}");
        }
        assert!(
            events
                .iter()
                .all(|event| event.message.as_ref().unwrap().len() <= 1024)
        );
    });
}

#[test]
fn an_event_that_was_forgotten_is_made_again() {
    run(async {
        let world = World::new("forgotten").await;
        let recorder = recorder(&world);
        recorder.publish(event("no"));
        recorder.flush(SOON).await;
        let api: Api<CoreEvent> = Api::namespaced(world.admin.clone(), &world.name);
        for event in world.events().await {
            let name = event.metadata.name.unwrap();
            api.delete(&name, &kube::api::DeleteParams::default())
                .await
                .unwrap();
        }
        recorder.publish(event("no"));
        recorder.flush(SOON).await;
        assert_eq!(world.events().await.len(), 2);
    });
}

#[test]
fn without_the_right_events_are_lost_and_nothing_else() {
    run(async {
        let world = World::new("noevents").await;
        world
            .grant(rights(world.map.name()).into_iter().take(2).collect())
            .await;
        while world.map.load().await.is_err() {}
        let recorder = recorder(&world);
        recorder.publish(event("no"));
        recorder.flush(SOON).await;
        recorder.publish(event("no"));
        recorder.flush(SOON).await;
    });
}
