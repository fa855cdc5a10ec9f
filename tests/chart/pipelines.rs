//! The pipelines in `deploy/examples/ci` are what the tools take that they are for. `k8s pipelines::` runs their steps.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::helm::{deploy, parse};

/// What a part of `tests/setup.sh` prints.
fn setup(part: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup.sh");
    let output = Command::new(script).arg(part).output().unwrap();
    assert!(output.status.success(), "tests/setup.sh {part}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

#[test]
fn github_takes_the_workflow() {
    passes(Command::new(setup("actionlint")).arg(deploy("examples/ci/github.yaml")));
}

#[test]
fn gitlab_takes_the_pipeline() {
    let mut check = Command::new("python3");
    check.env("PYTHONPATH", setup("check-jsonschema"));
    check.args([
        "-B",
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.gitlab-ci",
    ]);
    passes(check.arg(deploy("examples/ci/gitlab.yaml")));
}

/// The rest of a hook is a Kubernetes object, which the API server judges.
#[test]
fn argo_cd_knows_the_annotations_of_each_hook() {
    let text = std::fs::read_to_string(deploy("examples/ci/argocd.yaml")).unwrap();
    let hooks = parse(&text);
    assert!(!hooks.is_empty());
    for hook in &hooks {
        let of = |key: &str| -> &Value {
            &hook["metadata"]["annotations"][format!("argocd.argoproj.io/{key}")]
        };
        assert_eq!(of("hook"), "PreSync");
        assert_eq!(of("hook-delete-policy"), "HookSucceeded");
        let wave = of("sync-wave").as_str().expect("a text");
        assert!(wave.parse::<i32>().is_ok(), "{wave}");
        // Each sync makes another one, which a fixed name would refuse.
        assert!(hook["metadata"]["generateName"].is_string());
    }
}
