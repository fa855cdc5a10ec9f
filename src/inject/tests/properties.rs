//! What holds of any pod.

use json_patch::patch as apply;
use k8s_openapi::api::core::v1::Pod;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::settings;
use crate::inject::patch::graft;
use crate::inject::{Facts, Outcome, Settings, inject, patch, uninject};

fn maybe_empty(item: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    of(vec(item, 0..3)).prop_map(|items| items.map_or(Value::Null, Value::Array))
}

/// Names that are Drey's own, now and then.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![10 => "[a-z]{1,6}", 1 => Just("drey".to_owned()), 1 => Just("DREY_SOCKET".to_owned())]
}

fn env() -> impl Strategy<Value = Value> {
    let one = (name(), ".{0,8}").prop_map(|(name, value)| json!({"name": name, "value": value}));
    maybe_empty(one)
}

fn mounts() -> impl Strategy<Value = Value> {
    let path = prop_oneof![9 => "/[a-z]{1,4}", 1 => Just("/drey/x".to_owned())];
    maybe_empty((name(), path).prop_map(|(name, path)| json!({"name": name, "mountPath": path})))
}

fn lifecycle() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!({"stopSignal": "SIGTERM"})),
        vec("[a-z -]{0,5}", 0..3)
            .prop_map(|command| json!({"preStop": {"exec": {"command": command}}})),
        Just(
            json!({"preStop": {"sleep": {"seconds": 3}}, "postStart": {"exec": {"command": ["true"]}}})
        ),
        Just(json!({"preStop": {"httpGet": {"port": 80}}})),
    ]
}

fn command() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"command": []})),
        Just(json!({"args": ["standalone-job", "-Da=b"]})),
        Just(json!({"args": ["taskmanager"]})),
        Just(json!({"command": ["/docker-entrypoint.sh"], "args": ["jobmanager"]})),
        Just(json!({"command": ["/drey/drey-launch"], "args": ["standalone-job"]})),
        Just(json!({"command": ["bash", "-c", "jobmanager.sh start-foreground"]})),
        vec("[a-z-]{0,6}", 0..4).prop_map(|args| json!({"command": ["/x"], "args": args})),
    ]
}

fn container() -> impl Strategy<Value = Value> {
    let ports = maybe_empty((1..10_000i32).prop_map(|port| json!({"containerPort": port})));
    (name(), command(), env(), mounts(), lifecycle(), ports, of(0..20_000i64)).prop_map(
        |(name, command, env, mounts, lifecycle, ports, user)| {
            let mut container = json!({
                "name": name, "image": "i", "env": env, "volumeMounts": mounts, "lifecycle": lifecycle, "ports": ports,
                "securityContext": {"runAsUser": user}, "unknown": {"kept": [1, null]},
            });
            if let (Some(entries), Value::Object(more)) = (container.as_object_mut(), command) {
                entries.extend(more);
            }
            container
        },
    )
}

fn annotations() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        4 => Just("drey.io/role".to_owned()),
        4 => Just("drey.io/cluster-id".to_owned()),
        1 => "drey.io/[a-z-]{0,12}",
        1 => Just("drey.io/status".to_owned()),
        4 => "[a-z]{1,4}",
    ];
    let value = prop_oneof![
        5 => Just("jobmanager".to_owned()),
        3 => Just("orders".to_owned()),
        1 => ".{0,20}",
        1 => Just("{\"version\":\"9\",\"digest\":\"\",\"role\":\"jobmanager\",\"container\":\"a\"}".to_owned()),
        1 => Just("x: [\n'\"}".to_owned()),
    ];
    of(btree_map(key, value, 0..3)).prop_map(|all| all.map_or(Value::Null, |all| json!(all)))
}

/// A pod as somebody could write it; some are refused.
fn pod() -> impl Strategy<Value = Value> {
    let volumes = maybe_empty(name().prop_map(|name| json!({"name": name, "emptyDir": {}})));
    let labels = prop_oneof![
        Just(Value::Null),
        Just(json!({"app": "orders"})),
        Just(json!({"app": "No!"}))
    ];
    let grace = of(prop_oneof![0..2000i64, any::<i64>()]);
    (annotations(), labels, vec(container(), 0..3), maybe_empty(container()), volumes, grace).prop_map(
        |(annotations, labels, containers, inits, volumes, grace)| {
            json!({
                "metadata": {"annotations": annotations, "labels": labels, "managedFields": null},
                "spec": {
                    "containers": containers, "initContainers": inits, "volumes": volumes, "unknown": "kept",
                    "terminationGracePeriodSeconds": grace,
                },
            })
        },
    )
}

/// The pod with its lists in another order, in which something is there twice, something is gone and something is new.
fn moved(mut pod: Pod, by: usize) -> Pod {
    let Some(spec) = &mut pod.spec else {
        return pod;
    };
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        container.image = Some(format!("mirror/{by}"));
        for list in container.env.iter_mut().filter(|list| !list.is_empty()) {
            let again = list[by % list.len()].clone();
            list.insert(by % list.len(), again);
        }
        for list in container.volume_mounts.iter_mut() {
            let by = by.min(list.len());
            list.rotate_left(by);
            list.extend(list.first().cloned());
        }
    }
    let most = spec.containers.len();
    spec.containers[by.min(most)..].reverse();
    spec.volumes = spec.volumes.take().filter(|_| by != 1);
    spec.host_network = Some(true);
    pod
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_injection_is_done_once_can_be_taken_back_and_is_a_patch(original in pod(), native_sidecar: bool) {
        let settings = Settings { native_sidecar, opted_in: true, ..settings() };
        let before: Pod = serde_json::from_value(original.clone()).expect("a pod");
        let facts = Facts::default();
        if let Ok(Outcome::Injected(once)) = inject(&before, &settings, &facts) {
            let twice = inject(&once.pod, &settings, &facts);
            prop_assert_eq!(twice, Ok(Outcome::Injected(once.clone())));
            let had_status = before.metadata.annotations.iter().flatten().any(|(name, _)| name == super::STATUS);
            if !had_status {
                prop_assert_eq!(uninject(&once.pod), Ok(before.clone()));
            }
            let mut patched = original.clone();
            apply(&mut patched, &patch(&original, before.clone(), once.pod.clone())).expect("a good patch");
            prop_assert_eq!(&patched, &graft(&original, &before, &once.pod));
            prop_assert_eq!(&patched["spec"]["unknown"], &json!("kept"));
            for container in patched["spec"]["containers"].as_array().expect("containers") {
                if container["name"] != "drey" {
                    prop_assert_eq!(&container["unknown"], &json!({"kept": [1, null]}));
                }
            }
            let patched: Pod = serde_json::from_value(patched).expect("a pod");
            prop_assert_eq!(patched, once.pod);
        }
    }

    #[test]
    fn a_patch_makes_whatever_was_made_of_a_pod(original in pod(), by in 0..4usize) {
        let before: Pod = serde_json::from_value(original.clone()).expect("a pod");
        let after = moved(before.clone(), by);
        let mut patched = original.clone();
        apply(&mut patched, &patch(&original, before.clone(), after.clone())).expect("a good patch");
        prop_assert_eq!(&patched, &graft(&original, &before, &after));
        prop_assert_eq!(serde_json::from_value::<Pod>(patched).expect("a pod"), after);
    }

    #[test]
    fn a_change_by_others_after_the_injection_stays(original in pod(), image in "[a-z]{1,5}") {
        let settings = Settings { opted_in: true, ..settings() };
        let before: Pod = serde_json::from_value(original).expect("a pod");
        if let Ok(Outcome::Injected(once)) = inject(&before, &settings, &Facts::default()) {
            let mut changed = once.pod.clone();
            let inits = changed.spec.get_or_insert_default().init_containers.get_or_insert_default();
            let last = inits.len() - 1;
            inits[last].image = Some(format!("mirror/{image}"));
            let again = inject(&changed, &settings, &Facts::default());
            prop_assert_eq!(again.map(|outcome| matches!(outcome, Outcome::Injected(it) if it.pod == changed)), Ok(true));
        }
    }

    #[test]
    fn hostile_annotations_are_refused_or_understood(key in "\\PC{0,30}", value in any::<String>()) {
        let pod = super::job_manager(&[(&format!("drey.io/{key}"), &value)]);
        if let Err(refused) = inject(&pod, &settings(), &Facts::default()) {
            prop_assert!(!refused.message.contains('\n'), "{}", refused.message);
            prop_assert!(refused.message.len() < 1000);
        }
    }

    #[test]
    fn hostile_files_are_refused_or_understood(text in "(---|kind: Pod|[ -~]|\n|\t|\\{|\\[|&a|\\*a|: |- ){0,60}") {
        use crate::inject::offline::{Act, File, rewrite};
        let file = File { name: "f".to_owned(), text: text.clone() };
        let act = Act::Inject(Box::new(Settings { opted_in: true, ..settings() }), None);
        let done = rewrite(&[file], &act);
        if done.refused.is_empty() {
            prop_assert_eq!(&done.files[0].text, &text);
        }
    }
}
