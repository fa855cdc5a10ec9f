use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

/// What a test installation decides.
fn settings() -> Settings {
    Settings {
        image: "drey:latest".to_owned(),
        image_pull_policy: None,
        allowed_images: vec![
            "registry.example/drey".to_owned(),
            "registry.example/try-*".to_owned(),
        ],
        native_sidecar: true,
        opted_in: false,
    }
}

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

/// A JobManager's pod as somebody could write it, with these annotations.
fn job_manager(annotations: &[(&str, &str)]) -> Pod {
    let mut pod = pod(json!({
        "metadata": {"labels": {"app": "orders"}, "annotations": {"drey.io/inject": "true"}},
        "spec": {"containers": [{"name": "jm", "image": "flink:1.20", "args": ["standalone-job"]}]},
    }));
    let all = pod.metadata.annotations.get_or_insert_default();
    for (name, value) in annotations {
        all.insert((*name).to_owned(), (*value).to_owned());
    }
    pod
}

fn injected_with(pod: &Pod, settings: &Settings) -> Injected {
    match inject(pod, settings, &Facts::default()) {
        Ok(Outcome::Injected(injected)) => *injected,
        other => unreachable!("{other:?}"),
    }
}

fn injected(pod: &Pod) -> Injected {
    injected_with(pod, &settings())
}

fn skipped(pod: &Pod, settings: &Settings, facts: &Facts) -> Skipped {
    match inject(pod, settings, facts) {
        Ok(Outcome::Skipped(skipped)) => skipped,
        other => unreachable!("{other:?}"),
    }
}

/// The pods of the Deployments in a manifest of `deploy/`.
fn pods_of(text: &str) -> Vec<Pod> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    let deployments = documents
        .into_iter()
        .filter(|document| document["kind"] == "Deployment");
    deployments
        .map(|document| {
            let deployment: Deployment = serde_json::from_value(document).expect("a Deployment");
            let template = deployment.spec.expect("a spec").template;
            Pod {
                metadata: template.metadata.unwrap_or_default(),
                spec: template.spec,
                status: None,
            }
        })
        .collect()
}

/// The pod without what a person wrote into it for Drey.
fn without_drey(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.annotations = Some([(INJECT.to_owned(), "true".to_owned())].into());
    let spec = pod.spec.as_mut().expect("a spec");
    spec.termination_grace_period_seconds = None;
    spec.init_containers = None;
    let volumes = spec.volumes.as_mut().expect("volumes");
    volumes.retain(|volume| volume.name != "drey");
    let flink = &mut spec.containers[0];
    flink.command = None;
    flink.lifecycle = None;
    flink.env = None;
    let mounts = flink.volume_mounts.as_mut().expect("mounts");
    mounts.retain(|mount| mount.name != "drey");
    pod
}

fn yaml(pod: &Pod) -> String {
    serde_saphyr::to_string(pod).expect("YAML")
}

/// In an order of its own, where the order says nothing.
fn sorted(mut pod: Pod) -> Pod {
    pod.metadata.annotations = None;
    let spec = pod.spec.as_mut().expect("a spec");
    spec.volumes
        .iter_mut()
        .for_each(|all| all.sort_by(|a, b| a.name.cmp(&b.name)));
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        container
            .env
            .iter_mut()
            .for_each(|all| all.sort_by(|a, b| a.name.cmp(&b.name)));
        let mounts = &mut container.volume_mounts;
        mounts
            .iter_mut()
            .for_each(|all| all.sort_by(|a, b| a.name.cmp(&b.name)));
    }
    pod
}

#[test]
fn it_is_what_a_person_writes_by_hand() {
    let by_hand = pods_of(include_str!("../../deploy/standalone/flink.yaml"));
    assert_eq!(by_hand.len(), 2);
    for written in by_hand {
        let injected = injected(&without_drey(&written));
        assert_eq!(yaml(&sorted(injected.pod)), yaml(&sorted(written)));
        assert_eq!(injected.warnings, Vec::<String>::new());
    }
}

#[test]
fn what_was_written_by_hand_is_left_alone() {
    for mut written in pods_of(include_str!("../../deploy/standalone/flink.yaml")) {
        written.metadata.annotations = Some([(INJECT.to_owned(), "true".to_owned())].into());
        let skipped = skipped(&written, &settings(), &Facts::default());
        assert_eq!((skipped.reason, skipped.surprising), ("ByHand", false));
    }
}

#[test]
fn twice_is_once_and_back_is_where_it_began() {
    for native_sidecar in [true, false] {
        let settings = Settings {
            native_sidecar,
            ..settings()
        };
        for written in pods_of(include_str!("../../deploy/standalone/flink.yaml")) {
            let original = without_drey(&written);
            let once = injected_with(&original, &settings);
            assert_eq!(injected_with(&once.pod, &settings), once);
            assert_eq!(uninject(&once.pod), Ok(original));
        }
    }
    let original = job_manager(&[]);
    assert_eq!(uninject(&injected(&original).pod), Ok(original.clone()));
    assert_eq!(uninject(&original), Ok(original));
}
