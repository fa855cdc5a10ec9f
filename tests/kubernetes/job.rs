//! `drey job` against an API server that has no controllers: what it refuses, what it leaves alone, what it asks for.

use std::time::Duration;

use drey::domain::pointer::APPLICATION;
use drey::domain::pointer_map::StopAnswer;
use drey::job_update::{
    Change, JobError, Progress, Stopped, Target, start, stop, suspend, upgrade,
};
use drey::kubernetes::{Document, RequestKind, Sight};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::api_server::kubectl;
use crate::world::{World, document, next, run};

const PATH: &str = "file:/state/savepoint-1";

/// A pipeline with exactly what `deploy/rbac-ci.yaml` allows, for this cluster id.
async fn pipeline(world: &World, patience: Duration) -> Target {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac-ci.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let own = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(own.path(), text.replace("example", "orders")).unwrap();
    let apply = ["apply", "--namespace", &world.name, "--filename"].map(str::to_owned);
    let own = own.path().display().to_string();
    let args = apply.into_iter().chain([own]).collect();
    kubectl(&world.server.admin_kubeconfig(), args).await;
    let user = format!("system:serviceaccount:{}:drey-ci", world.name);
    let kube = world.server.drey(&user, &world.name).await;
    Target::new(kube, "orders", patience)
}

/// A JobManager's Deployment, of which nothing makes pods here.
async fn deploy(world: &World) -> Api<Deployment> {
    let api: Api<Deployment> = Api::namespaced(world.admin.clone(), &world.name);
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": "orders-jobmanager"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {"labels": {"app": "orders"}},
                "spec": {
                    "containers": [{"name": "jobmanager", "image": "job:1", "args": ["standalone-job"],
                        "env": [{"name": "DREY_CLUSTER_ID", "value": "orders"}],
                        "volumeMounts": [{"name": "flink-config", "mountPath": "/opt/flink/conf"}]}],
                    "volumes": [{"name": "flink-config", "configMap": {"name": "orders-config"}}],
                },
            },
        },
    }))
    .unwrap();
    api.create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    api
}

async fn replicas(api: &Api<Deployment>) -> Option<i32> {
    let found = api.get_opt("orders-jobmanager").await.unwrap()?;
    assert_eq!(found.metadata.deletion_timestamp, None);
    found.spec?.replicas
}

/// Answers the order to stop, as a supervisor does.
async fn answer(world: &World, answer: StopAnswer) {
    let mut watch = world.map.watch();
    loop {
        let document: Option<Document> = next(&mut watch).await.unwrap();
        let requests = document.map(|it| it.requests).unwrap_or_default();
        let order = requests.iter().find(|(_, it)| it.kind == RequestKind::Stop);
        if let Some((name, order)) = order {
            assert!(order.until.is_some());
            world.map.answer(name, &answer.to_text()).await.unwrap();
            return;
        }
    }
}

#[test]
fn without_a_cluster_there_is_nothing_to_stop_and_nothing_to_resume() {
    run(async {
        let world = World::new("job-none").await;
        let target = pipeline(&world, Duration::from_secs(60)).await;
        let mut progress = Progress::new(false);
        assert_eq!(
            stop(&target, None, &mut progress).await,
            Ok(Stopped::NoCluster)
        );
        assert_eq!(
            suspend(&target, None, &mut progress).await,
            Ok(Stopped::NoCluster)
        );
        let resumed = start(&target, &[], &mut progress).await;
        assert!(matches!(resumed, Err(JobError::Usage(_))), "{resumed:?}");
        let change = Change {
            image: Some("job:2".to_owned()),
            ..Change::default()
        };
        let upgraded = upgrade(&target, &change, &mut progress).await;
        assert!(
            matches!(upgraded, Err(JobError::Refused(_))),
            "{upgraded:?}"
        );
    });
}

#[test]
fn a_missing_right_is_named_as_a_role_would_have_it() {
    run(async {
        let world = World::new("job-rights").await;
        let target = Target::new(world.kube.clone(), "orders", Duration::from_secs(60));
        let refused = stop(&target, None, &mut Progress::new(false)).await;
        let Err(JobError::Refused(text)) = refused else {
            panic!("{refused:?}");
        };
        let who = format!("user {} may not list deployments", world.name);
        assert!(text.starts_with(&who), "{text}");
        assert!(
            text.contains("resources: [deployments], verbs: [list]"),
            "{text}"
        );
    });
}

#[test]
fn a_cluster_that_drey_does_not_supervise_is_left_alone() {
    run(async {
        let world = World::new("job-plain").await;
        let api = deploy(&world).await;
        let target = pipeline(&world, Duration::from_secs(60)).await;
        let refused = stop(&target, None, &mut Progress::new(false)).await;
        assert!(matches!(refused, Err(JobError::Refused(_))), "{refused:?}");
        assert_eq!(replicas(&api).await, Some(2));
    });
}

/// Nobody answers: the deadline is what ends it.
#[test]
fn without_a_savepoint_in_time_nothing_is_changed_and_the_order_is_withdrawn() {
    run(async {
        let world = World::new("job-late").await;
        let api = deploy(&world).await;
        world.map.save(&document(PATH)).await.unwrap();
        let target = pipeline(&world, Duration::from_millis(100)).await;
        let late = stop(&target, None, &mut Progress::new(false)).await;
        assert!(matches!(late, Err(JobError::Later(_))), "{late:?}");
        assert_eq!(replicas(&api).await, Some(2));
        let found = world.load().await;
        assert!(
            found.requests.is_empty() && found.answers.is_empty(),
            "{found:?}"
        );
    });
}

#[test]
fn a_savepoint_that_fails_changes_nothing() {
    run(async {
        let world = World::new("job-failed").await;
        let api = deploy(&world).await;
        world.map.save(&document(PATH)).await.unwrap();
        let target = pipeline(&world, Duration::from_secs(60)).await;
        let mut progress = Progress::new(false);
        let failed = StopAnswer::failed("the job keeps restarting".to_owned());
        let (stopped, ()) =
            tokio::join!(stop(&target, None, &mut progress), answer(&world, failed));
        let Err(JobError::Refused(text)) = stopped else {
            panic!("{stopped:?}");
        };
        assert!(text.starts_with("the job keeps restarting"), "{text}");
        assert_eq!(replicas(&api).await, Some(2));
    });
}

#[test]
fn a_suspended_cluster_has_no_pods_and_remembers_how_many_it_had() {
    run(async {
        let world = World::new("job-suspend").await;
        let api = deploy(&world).await;
        world.map.save(&document(PATH)).await.unwrap();
        let target = pipeline(&world, Duration::from_secs(60)).await;
        let mut progress = Progress::new(false);
        let recorded = StopAnswer::recorded(PATH.to_owned());
        let (stopped, ()) = tokio::join!(
            suspend(&target, None, &mut progress),
            answer(&world, recorded)
        );
        assert_eq!(stopped, Ok(Stopped::Savepoint(PATH.to_owned())));
        assert_eq!(replicas(&api).await, Some(0));
        let again = suspend(&target, None, &mut progress).await;
        assert_eq!(again, Ok(Stopped::Before(Some(PATH.to_owned()))));

        // Nobody starts the job here, and so nobody says that it runs.
        let short = pipeline(&world, Duration::from_secs(1)).await;
        let resumed = start(&short, &[], &mut progress).await;
        assert!(matches!(resumed, Err(JobError::Later(_))), "{resumed:?}");
        assert_eq!(replicas(&api).await, Some(2));
    });
}

#[test]
fn an_upgrade_changes_configuration_and_deployment_and_waits_for_the_job() {
    run(async {
        let world = World::new("job-upgrade").await;
        let api = deploy(&world).await;
        world.map.save(&document(PATH)).await.unwrap();
        let configuration = serde_json::from_value(json!({
            "metadata": {"name": "orders-config"},
            "data": {"config.yaml": "parallelism.default: 1\n"},
        }))
        .unwrap();
        let params = PostParams::default();
        world.maps().create(&params, &configuration).await.unwrap();
        let change = Change {
            image: Some("job:2".to_owned()),
            parallelism: Some(4),
            ..Change::default()
        };
        // Nobody starts the job here, and so nobody says that it runs.
        let target = pipeline(&world, Duration::from_secs(1)).await;
        let late = upgrade(&target, &change, &mut Progress::new(false)).await;
        assert!(matches!(late, Err(JobError::Later(_))), "{late:?}");
        let written = world.maps().get("orders-config").await.unwrap();
        assert_eq!(
            written.data.unwrap()["config.yaml"],
            "parallelism.default: 4\n"
        );
        let deployed = api.get("orders-jobmanager").await.unwrap().spec.unwrap();
        let container = &deployed.template.spec.unwrap().containers[0];
        assert_eq!(container.image.as_deref(), Some("job:2"));
    });
}

#[test]
fn a_stopped_cluster_is_deleted_only_after_the_savepoint() {
    run(async {
        let world = World::new("job-stop").await;
        let api = deploy(&world).await;
        world.map.save(&document(PATH)).await.unwrap();
        let target = pipeline(&world, Duration::from_secs(60)).await;
        let mut progress = Progress::new(false);
        let garbage_collector = async {
            answer(&world, StopAnswer::recorded(PATH.to_owned())).await;
            while api
                .get("orders-jobmanager")
                .await
                .unwrap()
                .metadata
                .deletion_timestamp
                .is_none()
            {
                tokio::task::yield_now().await;
            }
            let free = json!({"metadata": {"finalizers": null}});
            let (params, patch) = (PatchParams::default(), Patch::Merge(&free));
            api.patch("orders-jobmanager", &params, &patch)
                .await
                .unwrap();
        };
        let (stopped, ()) = tokio::join!(stop(&target, None, &mut progress), garbage_collector);
        assert_eq!(stopped, Ok(Stopped::Savepoint(PATH.to_owned())));
        assert!(api.get_opt("orders-jobmanager").await.unwrap().is_none());
        let Sight::Good(kept) = world.load().await.pointer else {
            panic!("no pointer");
        };
        assert_eq!(kept.jobs[APPLICATION].newest().unwrap().path, PATH);
    });
}
