use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use super::*;
use crate::domain::pointer::{Disposal, PointKind, Pointer, RestorePoint, TriggerReason};
use crate::domain::pointer_map::{Document, Sight as Seen};

const SAVEPOINT: &str = "s3://b/savepoints/orders/0123456789ab/x/savepoint-1";

fn job_manager() -> Pod {
    object(json!({
        "metadata": { "name": "jm", "namespace": "a" },
        "spec": {
            "terminationGracePeriodSeconds": 120,
            "containers": [{
                "name": "flink-main-container",
                "env": [{ "name": "DREY_SHUTDOWN_TIMEOUT", "value": "2m" }],
                "volumeMounts": [
                    { "name": "state", "mountPath": "/state" },
                    { "name": "scratch", "mountPath": "/scratch" },
                    { "name": "node", "mountPath": "/node" },
                ],
            }],
            "volumes": [
                { "name": "state", "persistentVolumeClaim": { "claimName": "state" } },
                { "name": "scratch", "emptyDir": {} },
                { "name": "node", "hostPath": { "path": "/node" } },
            ],
        },
    }))
}

fn task_manager(grace: Option<i64>) -> Pod {
    object(json!({
        "metadata": { "name": "tm", "namespace": "a" },
        "spec": { "terminationGracePeriodSeconds": grace, "containers": [] },
    }))
}

/// A savepoint that took so long, an hour ago.
fn point(seconds: i64) -> RestorePoint {
    let completed = now() - jiff::SignedDuration::from_hours(1);
    RestorePoint {
        path: SAVEPOINT.to_owned(),
        kind: PointKind::Stop,
        checkpoint_id: Some(7),
        job_id: None,
        lineage: 0,
        run: None,
        reason: TriggerReason::Shutdown,
        started: Some(completed - jiff::SignedDuration::from_secs(seconds)),
        completed,
        size: None,
        flink_version: None,
        superseded: false,
        claimed: false,
    }
}

fn pointer(points: Vec<RestorePoint>) -> Pointer {
    let mut pointer = Pointer::new("orders");
    for point in points {
        pointer.entry("application").record(point, 10);
    }
    pointer.seal();
    pointer
}

fn document(pointer: Pointer) -> Document {
    Document {
        pointer: Seen::Good(pointer),
        ..Document::default()
    }
}

fn config(entries: &[(&str, &str)], complete: bool) -> FlinkConfig {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    FlinkConfig {
        entries: entries.iter().map(owned).collect(),
        complete,
    }
}

fn good_config() -> FlinkConfig {
    config(
        &[
            ("execution.checkpointing.interval", "10s"),
            ("state.checkpoints.dir", "s3://b/checkpoints"),
            ("execution.checkpointing.savepoint-dir", "s3://b/savepoints"),
        ],
        true,
    )
}

fn cluster() -> Cluster {
    Cluster {
        id: "orders".to_owned(),
        namespace: "a".to_owned(),
        job_managers: vec![job_manager()],
        task_managers: vec![task_manager(Some(120))],
        pointer: Ok(Some(document(pointer(vec![point(3)])))),
        points: vec![PointRead {
            path: SAVEPOINT.to_owned(),
            read: Ok(()),
        }],
        configuration: Some(Ok(good_config())),
        account: Some(Account {
            name: "flink".to_owned(),
            asked: vec![(needed("patch", true), Ok(true))],
        }),
    }
}

fn needed(verb: &str, vital: bool) -> Needed {
    Needed {
        right: Right::new(verb, "", "configmaps").within("a"),
        vital,
    }
}

fn found(change: impl FnOnce(&mut Cluster)) -> Vec<Finding> {
    let mut cluster = cluster();
    change(&mut cluster);
    let mut all = super::super::pods::grace(&cluster);
    all.extend(super::super::jobs::findings(&cluster, now()));
    all
}

#[test]
fn a_good_cluster_has_nothing_but_good_findings() {
    let found = found(|_| {});
    assert!(
        found.iter().all(|finding| finding.state == State::Ok),
        "{found:#?}"
    );
    assert_eq!(found.len(), 7);
    assert!(
        found
            .iter()
            .all(|finding| finding.subject.as_deref() == Some("a/orders"))
    );
    is(
        the(&found, "pointer"),
        State::Ok,
        "stop-with-savepoint, 60 min old",
    );
    is(
        the(&found, "savepoint-dir"),
        State::Ok,
        "s3://b/savepoints: a savepoint was written and read back",
    );
}

#[test]
fn the_grace_period_is_judged_by_the_last_savepoint() {
    let took = |seconds| {
        found(|cluster| cluster.pointer = Ok(Some(document(pointer(vec![point(seconds)])))))
    };
    is(the(&took(55), "grace-period"), State::Ok, "110 s of 120 s");
    is(
        the(&took(56), "grace-period"),
        State::Warning,
        "took 56.0 s",
    );
    let long = took(110);
    is(the(&long, "grace-period"), State::Failed, "took 110.0 s");
    assert!(
        the(&long, "grace-period")
            .remedy
            .as_ref()
            .unwrap()
            .contains("to 230")
    );
    let none = found(|cluster| cluster.pointer = Ok(Some(document(pointer(Vec::new())))));
    is(
        the(&none, "grace-period"),
        State::Ok,
        "no savepoint was taken yet",
    );
}

#[test]
fn the_shutdown_timeout_has_to_fit_into_the_grace_period() {
    let short = found(|cluster| {
        let spec = cluster.job_managers[0].spec.as_mut().unwrap();
        spec.termination_grace_period_seconds = None;
    });
    is(
        the(&short, "grace-period"),
        State::Failed,
        "30 s, but DREY_SHUTDOWN_TIMEOUT is 120 s",
    );
}

#[test]
fn task_managers_have_to_stay_as_long_as_the_job_manager() {
    let short = found(|cluster| cluster.task_managers.push(task_manager(None)));
    is(
        the(&short, "task-manager-grace"),
        State::Warning,
        "30 s, the JobManager has 120 s",
    );
}

#[test]
fn the_pointer_is_told_from_a_damaged_one() {
    let with = |pointer| {
        let all = found(|cluster| cluster.pointer = pointer);
        the(&all, "pointer").clone()
    };
    is(
        &with(Ok(None)),
        State::Warning,
        "there is no ConfigMap drey-orders",
    );
    is(
        &with(Ok(Some(Document::default()))),
        State::Warning,
        "has no pointer yet",
    );
    is(&with(Err(forbidden())), State::Unknown, "may not");
    let document = |change: fn(&mut Document)| {
        let mut document = document(pointer(Vec::new()));
        change(&mut document);
        with(Ok(Some(document)))
    };
    is(
        &document(|_| {}),
        State::Ok,
        "no restore point recorded yet",
    );
    is(
        &document(|map| map.immutable = true),
        State::Failed,
        "immutable",
    );
    is(
        &document(|map| map.lock_damage = Some("x".to_owned())),
        State::Failed,
        "lock",
    );
    is(
        &document(|map| map.pointer = Seen::Damaged("x".to_owned())),
        State::Failed,
        "of no use",
    );
    let mut frozen = pointer(Vec::new());
    frozen.entry("application").frozen = Some("it restored another one".to_owned());
    is(
        &with(Ok(Some(super::jobs::document(frozen)))),
        State::Failed,
        "it restored another one",
    );
}

#[test]
fn a_restore_point_that_cannot_be_reached_is_no_failure() {
    let with = |read| {
        let path = SAVEPOINT.to_owned();
        let all = found(|cluster| cluster.points = vec![PointRead { path, read }]);
        the(&all, "restore-point").clone()
    };
    let why = || "x".to_owned();
    is(
        &with(Err(PointFault::Missing(why()))),
        State::Failed,
        "is not there",
    );
    is(
        &with(Err(PointFault::Damaged(why()))),
        State::Failed,
        "is damaged",
    );
    is(
        &with(Err(PointFault::Unreachable(why()))),
        State::Unknown,
        "cannot be read from here",
    );
}

fn with_savepoints_in(directory: &str) -> Finding {
    let all = found(|cluster| {
        let keys = [("state.savepoints.dir", directory)];
        cluster.configuration = Some(Ok(config(&keys, true)));
    });
    the(&all, "savepoint-dir").clone()
}

#[test]
fn savepoints_have_to_outlive_the_pod() {
    is(
        &with_savepoints_in("file:///tmp/savepoints"),
        State::Failed,
        "pod's own disk",
    );
    is(
        &with_savepoints_in("/scratch/savepoints"),
        State::Failed,
        "pod's own disk",
    );
    is(
        &with_savepoints_in("file:/node/x"),
        State::Warning,
        "node's disk",
    );
    is(
        &with_savepoints_in("file:///state"),
        State::Unknown,
        "no savepoint has been taken there yet",
    );
    is(
        &with_savepoints_in("s3://other/savepoints"),
        State::Unknown,
        "no savepoint has been taken there yet",
    );
}

#[test]
fn without_a_savepoint_directory_there_is_no_savepoint() {
    let none = |complete| {
        let all = found(|cluster| cluster.configuration = Some(Ok(config(&[], complete))));
        the(&all, "savepoint-dir").clone()
    };
    is(&none(true), State::Failed, "there is none");
    is(&none(false), State::Unknown, "none is seen");
}

#[test]
fn checkpoints_need_an_interval_and_a_directory() {
    let with = |entries: &[(&str, &str)], complete| {
        let all = found(|cluster| cluster.configuration = Some(Ok(config(entries, complete))));
        the(&all, "checkpointing").clone()
    };
    is(&with(&[], true), State::Warning, "no interval");
    is(&with(&[], false), State::Unknown, "no interval");
    let interval = [("execution.checkpointing.interval", "10s")];
    is(&with(&interval, true), State::Warning, "no directory");
    let blind = found(|cluster| cluster.configuration = Some(Err(forbidden())));
    is(the(&blind, "checkpointing"), State::Unknown, "may not");
}

#[test]
fn high_availability_needs_storage_and_several_job_managers_need_it() {
    let with = |entries: &[(&str, &str)], count| {
        let all = found(|cluster| {
            cluster.configuration = Some(Ok(config(entries, true)));
            cluster.job_managers = vec![job_manager(); count];
        });
        all.into_iter()
            .find(|finding| finding.id == "high-availability")
    };
    let on = ("high-availability.type", "kubernetes");
    let stored = ("high-availability.storageDir", "s3://b/ha");
    assert_eq!(with(&[], 1), None);
    assert_eq!(with(&[("high-availability", "NONE")], 1), None);
    is(
        &with(&[on], 1).unwrap(),
        State::Failed,
        "no storage directory",
    );
    is(
        &with(&[on, stored], 2).unwrap(),
        State::Ok,
        "kubernetes, in s3://b/ha",
    );
    is(
        &with(&[], 2).unwrap(),
        State::Warning,
        "2 JobManagers without it",
    );
}

#[test]
fn a_service_account_without_its_rights_is_told() {
    let with = |asked: Vec<(Needed, Sight<bool>)>| {
        let all = found(|cluster| cluster.account.as_mut().unwrap().asked = asked);
        the(&all, "service-account").clone()
    };
    is(
        &with(vec![(needed("patch", true), Ok(false))]),
        State::Failed,
        "flink may not patch configmaps",
    );
    is(
        &with(vec![(needed("get", false), Ok(false))]),
        State::Warning,
        "may not get",
    );
    is(
        &with(vec![(needed("get", true), Err(forbidden()))]),
        State::Unknown,
        "may not",
    );
}

#[test]
fn a_suspended_job_is_judged_by_its_pointer_alone() {
    let all = found(|cluster| {
        cluster.job_managers.clear();
        cluster.task_managers.clear();
        cluster.configuration = None;
        cluster.account = None;
    });
    let ids: Vec<_> = all.iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["pointer", "restore-point"]);
}

#[test]
fn flinks_configuration_is_that_of_the_pod() {
    let pod: Pod = object(json!({
        "spec": {
            "containers": [{
                "name": "flink-main-container",
                "args": ["bash", "-c", "kubernetes-jobmanager.sh kubernetes-application -D c=args -Dd='args'"],
                "env": [{ "name": "FLINK_PROPERTIES", "value": "b: properties\nc: properties\n" }],
                "volumeMounts": [{ "name": "conf", "mountPath": "/opt/flink/conf" }],
            }],
            "volumes": [
                { "name": "conf", "configMap": { "name": "flink-config-orders" } },
                { "name": "other", "configMap": { "name": "other" } },
            ],
        },
    }));
    assert_eq!(
        super::super::flink::mounted_maps(&pod),
        ["flink-config-orders"]
    );
    let map: ConfigMap = object(json!({ "data": { "config.yaml": "a: file\nb: file\n" } }));
    let seen = super::super::flink::configuration(&pod, &[map]);
    let expected = [
        ("a", "file"),
        ("b", "properties"),
        ("c", "args"),
        ("d", "args"),
    ];
    assert_eq!(seen, config(&expected, true));
    assert!(!super::super::flink::configuration(&pod, &[]).complete);
    let none: BTreeMap<String, String> = BTreeMap::new();
    assert_eq!(
        super::super::flink::configuration(&Pod::default(), &[]).entries,
        none
    );
}

#[test]
fn savepoints_that_should_be_gone_and_are_not_are_told() {
    let waiting = |hours: i64| {
        move |cluster: &mut Cluster| {
            let mut pointer = pointer(vec![point(3)]);
            let since = now() - jiff::SignedDuration::from_hours(hours);
            pointer.entry("application").disposals.push(Disposal {
                path: SAVEPOINT.to_owned(),
                since,
                size: None,
            });
            cluster.pointer = Ok(Some(document(pointer)));
        }
    };
    let told = |hours| {
        let all = found(waiting(hours));
        let finding = all.into_iter().find(|it| it.id == "retention");
        finding.map(|it| it.state)
    };
    assert_eq!(told(0), Some(State::Ok));
    assert_eq!(told(2), Some(State::Warning));
    assert!(found(|_| {}).iter().all(|it| it.id != "retention"));
}

#[test]
fn a_configuration_that_was_rolled_back_or_waits_is_a_warning() {
    let mut cluster = cluster();
    let mut with = |text: &str| {
        if let Ok(Some(document)) = &mut cluster.pointer {
            document.configuration = Some(text.to_owned());
        }
        let all = super::super::jobs::findings(&cluster, now());
        let found = all
            .into_iter()
            .find(|finding| finding.id == "configuration");
        found.map(|finding| (finding.state, finding.found))
    };
    let (state, found) = with(r#"{"failed":{"digest":"1","why":"it died"}}"#).expect("a finding");
    assert_eq!(state, State::Warning);
    assert!(found.contains("it died"), "{found}");
    let text = r#"{"pending":{"what":"refused: line 2","since":"2026-01-02T03:04:05Z"}}"#;
    let (state, found) = with(text).expect("a finding");
    assert_eq!(state, State::Warning);
    assert_eq!(
        found,
        "not in effect since 2026-01-02T03:04:05Z, refused: line 2"
    );
    assert_eq!(with("{}").expect("a finding").0, State::Ok);
    assert_eq!(with("[").expect("a finding").0, State::Warning);
}
