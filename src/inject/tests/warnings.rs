//! What defeats Drey is told, and what does not is not.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{job_manager, settings};
use crate::inject::{Facts, Outcome, inject};

/// A JobManager's pod in which these fields are set, by their pointers.
fn job_manager_with(fields: &[(&str, Value)]) -> Pod {
    let mut pod = serde_json::to_value(job_manager(&[])).expect("JSON");
    for (path, value) in fields {
        let (parent, name) = path.rsplit_once('/').expect("a pointer");
        pod.pointer_mut(parent).expect("it is there")[name] = value.clone();
    }
    serde_json::from_value(pod).expect("a pod")
}

fn warnings(pod: &Pod, facts: &Facts) -> Vec<String> {
    match inject(pod, &settings(), facts) {
        Ok(Outcome::Injected(injected)) => injected.warnings,
        other => unreachable!("{other:?}"),
    }
}

/// Flink's configuration, good but for these keys.
fn configured(keys: &[(&str, &str)]) -> Facts {
    let good = [
        ("execution.checkpointing.interval", "10s"),
        ("state.savepoints.dir", "s3://b/savepoints"),
    ];
    let all = good.iter().chain(keys);
    let all = all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Facts {
        flink_configuration: Some(all.collect()),
        ..Facts::default()
    }
}

/// Fails unless there is one warning, which begins so; without `start`, unless there is none.
fn expect(pod: &Pod, facts: &Facts, start: Option<&str>) {
    let warnings = warnings(pod, facts);
    assert_eq!(warnings.len(), usize::from(start.is_some()), "{warnings:?}");
    for (warning, start) in warnings.iter().zip(start) {
        assert!(warning.starts_with(start), "{warning}");
    }
}

#[test]
fn missing_rights_are_told() {
    let facts = Facts {
        missing_rights: vec!["patch configmaps/drey-orders".to_owned()],
        ..Facts::default()
    };
    assert_eq!(
        warnings(&job_manager(&[]), &facts),
        [
            "service account `default` may not patch configmaps/drey-orders; bind it to Drey's Role (the chart does for the \
          accounts that its values list)"
        ]
    );
}

#[test]
fn checkpointing_that_is_off_is_told_unless_the_pod_switches_it_on() {
    let off = Facts {
        flink_configuration: Some(
            [("state.savepoints.dir".to_owned(), "s3://b/s".to_owned())].into(),
        ),
        ..Facts::default()
    };
    let start = "checkpointing is off in Flink's configuration";
    expect(&job_manager(&[]), &off, Some(start));
    expect(&job_manager(&[]), &configured(&[]), None);
    // Nothing is known of the configuration.
    expect(&job_manager(&[]), &Facts::default(), None);
    let properties =
        json!([{"name": "FLINK_PROPERTIES", "value": "execution.checkpointing.interval: 5s\n"}]);
    let pod = job_manager_with(&[("/spec/containers/0/env", properties)]);
    expect(&pod, &off, None);
}

#[test]
fn savepoints_that_go_with_the_pod_are_told() {
    let start = "savepoints go to `file:///state/savepoints`, which is lost with the pod";
    let facts = configured(&[("state.savepoints.dir", "file:///state/savepoints")]);
    expect(&job_manager(&[]), &facts, Some(start));
    for (source, told) in [
        (json!({"emptyDir": {}}), Some(start)),
        (json!({"hostPath": {"path": "/x"}}), Some(start)),
        (json!({"persistentVolumeClaim": {"claimName": "x"}}), None),
    ] {
        let mut volume = source;
        volume["name"] = json!("state");
        let mounts = json!([{"name": "state", "mountPath": "/state/"}]);
        let pod = job_manager_with(&[
            ("/spec/volumes", json!([volume])),
            ("/spec/containers/0/volumeMounts", mounts),
        ]);
        expect(&pod, &facts, told);
    }
}

#[test]
fn several_job_managers_need_high_availability_with_storage() {
    let several = |keys: &[(&str, &str)]| Facts {
        replicas: Some(2),
        ..configured(keys)
    };
    let pod = job_manager(&[]);
    let start = "2 JobManagers share no high availability";
    expect(&pod, &several(&[]), Some(start));
    let kubernetes = ("high-availability.type", "kubernetes");
    expect(&pod, &several(&[kubernetes]), Some(start));
    let storage = ("high-availability.storageDir", "s3://b/ha");
    expect(&pod, &several(&[kubernetes, storage]), None);
}

#[test]
fn what_cuts_the_grace_period_is_told() {
    let probe = json!({"exec": {"command": ["true"]}, "terminationGracePeriodSeconds": 5});
    let spot = json!({"eks.amazonaws.com/capacityType": "SPOT"});
    for (path, value, start) in [
        (
            "/spec/containers/0/livenessProbe",
            probe,
            "a probe of container `jm` cuts the grace period to 5 s",
        ),
        (
            "/spec/terminationGracePeriodSeconds",
            json!(601),
            "the grace period of 601 s is cut to 600 s by a cluster autoscaler",
        ),
        ("/spec/terminationGracePeriodSeconds", json!(600), ""),
        ("/spec/nodeSelector", spot, ""),
    ] {
        let pod = job_manager_with(&[(path, value)]);
        expect(
            &pod,
            &Facts::default(),
            Some(start).filter(|it| !it.is_empty()),
        );
    }
}
