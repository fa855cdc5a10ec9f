//! What `deploy/monitoring` has, installed by values.

use serde_json::{Value, json};

use crate::helm::{all, deploy, only, parse, render};

const ALL: &[&str] = &[
    "--set=monitoring.podMonitor.enabled=true",
    "--set=monitoring.serviceMonitor.enabled=true",
    "--set=monitoring.prometheusRule.enabled=true",
    "--set=monitoring.dashboards.enabled=true",
    "--set=monitoring.labels.release=prometheus",
];

fn file(name: &str) -> String {
    std::fs::read_to_string(deploy(&format!("monitoring/{name}"))).unwrap()
}

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let of_kind = all(objects, kind);
    let found = of_kind
        .iter()
        .find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn nothing_of_it_is_there_by_default() {
    let objects = render(&[]);
    for kind in [
        "PodMonitor",
        "ServiceMonitor",
        "PrometheusRule",
        "ConfigMap",
    ] {
        assert_eq!(all(&objects, kind), Vec::<&Value>::new(), "{kind}");
    }
}

#[test]
fn it_is_what_stands_in_the_files_with_the_releases_namespace_and_labels() {
    let objects = render(ALL);
    for (name, kinds) in [
        ("podmonitor.yaml", &["PodMonitor"][..]),
        ("servicemonitor.yaml", &["Service", "ServiceMonitor"]),
        ("prometheusrule.yaml", &["PrometheusRule"]),
    ] {
        let by_hand = parse(&file(name));
        for kind in kinds {
            let by_hand = only(&by_hand, kind);
            let name = by_hand["metadata"]["name"].as_str().unwrap();
            let installed = named(&objects, kind, name);
            let mut spec = installed["spec"].clone();
            if *kind == "PodMonitor" {
                assert_eq!(spec["namespaceSelector"], json!({"any": true}));
                spec.as_object_mut().unwrap().remove("namespaceSelector");
            }
            assert_eq!(spec, by_hand["spec"], "{kind}");
            assert_eq!(installed["metadata"]["namespace"], "drey-system");
            let labels = &installed["metadata"]["labels"];
            assert_eq!(labels["release"], "prometheus", "{kind}");
            for (key, value) in by_hand["metadata"]["labels"].as_object().unwrap() {
                assert_eq!(&labels[key], value, "{kind}");
            }
        }
    }
}

#[test]
fn each_dashboard_is_a_config_map_that_grafanas_sidecar_finds() {
    let objects = render(&[ALL, &["--set=monitoring.dashboards.namespace=grafana"]].concat());
    for name in ["cluster", "webhook"] {
        let map = named(&objects, "ConfigMap", &format!("drey-dashboard-{name}"));
        assert_eq!(map["metadata"]["namespace"], "grafana");
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        let text = map["data"][format!("drey-{name}.json")].as_str().unwrap();
        let installed: Value = serde_json::from_str(text).unwrap();
        let by_hand: Value =
            serde_json::from_str(&file(&format!("dashboards/{name}.json"))).unwrap();
        assert_eq!(installed, by_hand, "{name}");
    }
}

#[test]
fn namespaces_and_the_runbooks_place_can_be_named() {
    let objects = render(&[
        "--set=monitoring.podMonitor.enabled=true",
        "--set=monitoring.podMonitor.namespaces={orders,bills}",
        "--set=monitoring.prometheusRule.enabled=true",
        "--set=monitoring.prometheusRule.runbookUrl=https://wiki.example/drey",
    ]);
    let monitor = named(&objects, "PodMonitor", "drey-flink");
    let selector = &monitor["spec"]["namespaceSelector"];
    assert_eq!(*selector, json!({"matchNames": ["orders", "bills"]}));
    let rules = named(&objects, "PrometheusRule", "drey");
    let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap();
    for rule in rules {
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(url.starts_with("https://wiki.example/drey#drey"), "{url}");
    }
}
