//! `deploy/install.yaml` and the examples.

use std::fs;

use serde_json::Value;

use crate::helm::{deploy, parse, text};

#[test]
fn install_yaml_is_what_the_chart_renders() {
    let rendered = text(&["--set=namespace.create=true"]);
    let file = fs::read_to_string(deploy("install.yaml")).unwrap();
    // Not assert_eq: nobody reads two whole manifests.
    let (_, body) = file.split_once("---\n").unwrap();
    let same = rendered.split_once("---\n").unwrap().1 == body;
    assert!(
        same,
        "deploy/install.yaml is out of date: make install-yaml"
    );
}

/// The image's tag, when none is given.
#[test]
fn the_chart_installs_the_version_that_it_comes_with() {
    let chart: Value =
        serde_saphyr::from_str(&fs::read_to_string(deploy("chart/Chart.yaml")).unwrap()).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// Minimal is what they promise: the annotation, and nothing else of Drey.
#[test]
fn the_examples_have_nothing_of_drey_but_the_annotation() {
    for file in ["examples/standalone.yaml", "examples/session.yaml"] {
        let objects = parse(&fs::read_to_string(deploy(file)).unwrap());
        let mut pods = 0;
        for object in &objects {
            let template = &object["spec"]["template"];
            if template["spec"].is_object() {
                pods += 1;
                assert_eq!(
                    template["metadata"]["annotations"]["drey.io/inject"],
                    "true"
                );
                let spec = template["spec"].to_string();
                assert!(
                    !spec.contains("drey-") && !spec.contains("/drey"),
                    "{file}: {spec}"
                );
            }
        }
        assert_eq!(pods, 2, "{file}");
    }
    let native = fs::read_to_string(deploy("examples/native/config.yaml")).unwrap();
    let options: Value = serde_saphyr::from_str(&native).unwrap();
    for component in ["jobmanager", "taskmanager"] {
        let annotations = &options[format!("kubernetes.{component}.annotations")];
        assert_eq!(annotations, "drey.io/inject:true");
    }
    assert!(options.get("kubernetes.entry.path").is_none());
}
