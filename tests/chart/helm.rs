//! Helm, and the objects that it renders.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where the chart is rendered for, as in the README.
pub const NAMESPACE: &str = "drey-system";

/// A file of `deploy/`.
pub fn deploy(file: &str) -> String {
    Path::new(ROOT)
        .join("deploy")
        .join(file)
        .display()
        .to_string()
}

/// Runs Helm, whatever it exits with.
pub fn helm(args: &[&str]) -> Output {
    static HELM: OnceLock<String> = OnceLock::new();
    let helm = HELM.get_or_init(|| {
        let mut setup = Command::new(Path::new(ROOT).join("tests/setup.sh"));
        let output = setup.arg("helm").output().unwrap();
        assert!(output.status.success(), "tests/setup.sh helm: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    // No kubeconfig: nothing here may depend on a cluster.
    let mut command = Command::new(helm);
    command.env("KUBECONFIG", "/dev/null").args(args);
    command.output().unwrap()
}

fn template(args: &[&str]) -> Output {
    let chart = deploy("chart");
    let fixed = ["template", "drey", &chart, "--namespace", NAMESPACE];
    helm(&[&fixed, args].concat())
}

/// The text that `helm template` prints with these arguments.
pub fn text(args: &[&str]) -> String {
    let output = template(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "helm template {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `helm template` says when it fails, as it must.
pub fn refused(args: &[&str]) -> String {
    let output = template(args);
    assert!(!output.status.success(), "not refused: {args:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The objects in a text of several documents.
pub fn parse(text: &str) -> Vec<Value> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            *document += line;
            document.push('\n');
        }
    }
    let documents = documents.iter().filter(|document| {
        let mut lines = document.lines();
        lines.any(|line| !line.is_empty() && !line.starts_with('#'))
    });
    documents
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}:\n{document}"))
        })
        .collect()
}

/// The objects that the chart renders.
pub fn render(args: &[&str]) -> Vec<Value> {
    parse(&text(args))
}

/// Those of one kind.
pub fn all<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.collect()
}

/// The only one of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let [object] = all(objects, kind)[..] else {
        panic!("not one {kind}")
    };
    object
}
