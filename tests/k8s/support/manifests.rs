//! The manifests of `deploy/`, and the few things that a test changes in them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::installation::ROOT;
use super::node::{Node, output};

/// The documents of a file in `deploy/`.
pub fn load(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(ROOT).join("deploy").join(file)).unwrap();
    parse(&text, file)
}

/// The documents of a directory of `deploy/` with a `kustomization.yaml`.
pub fn kustomized(node: &Node, directory: &str) -> Vec<Value> {
    let directory = Path::new(ROOT).join("deploy").join(directory);
    let text = output(node.kubectl().arg("kustomize").arg(&directory));
    parse(&text, &directory.display().to_string())
}

/// The configuration of `deploy/native`, and the directory with that of its logging.
pub fn native() -> (String, PathBuf) {
    let dir = Path::new(ROOT).join("deploy/native/conf");
    (fs::read_to_string(dir.join("config.yaml")).unwrap(), dir)
}

/// The configuration of a Flink home with what `deploy/examples/native` adds, and the directory with that of its logging.
pub fn native_example(home: &Path) -> (String, PathBuf) {
    let conf = home.join("conf");
    let added = Path::new(ROOT).join("deploy/examples/native/config.yaml");
    let text = [conf.join("config.yaml"), added].map(|file| fs::read_to_string(file).unwrap());
    (text.join("\n"), conf)
}

/// The documents in a text of several.
pub fn parse(text: &str, from: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{from}: {error}"))
        })
        .collect()
}

/// Puts the images of a test into everything below `value`.
pub fn use_images(value: &mut Value, node: &Node, job_image: &str) {
    match value {
        Value::Object(map) => {
            let image = match map.get("image").and_then(Value::as_str) {
                Some("drey:latest") => Some(node.image("drey:test")),
                Some("example-job:latest") => Some(job_image.to_owned()),
                _ => None,
            };
            if let Some(image) = image {
                map.insert("image".to_owned(), json!(image));
                map.insert("imagePullPolicy".to_owned(), json!(node.pull_policy()));
            }
            map.values_mut()
                .for_each(|value| use_images(value, node, job_image));
        }
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| use_images(value, node, job_image)),
        _ => {}
    }
}

/// Sets options in the text of a Flink configuration, instead of what it says about them.
pub fn set_options(text: &str, options: &[(String, String)]) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| {
            !options
                .iter()
                .any(|(key, _)| line.starts_with(&format!("{key}:")))
        })
        .map(ToOwned::to_owned)
        .collect();
    lines.extend(options.iter().map(|(key, value)| format!("{key}: {value}")));
    lines.join("\n") + "\n"
}

/// The pod in a Deployment or in a pod template.
pub fn pod_spec(object: &mut Value) -> &mut Value {
    if object["kind"] == "Pod" {
        &mut object["spec"]
    } else {
        &mut object["spec"]["template"]["spec"]
    }
}

/// Makes the JobManager's sidecar a container like any other, as it is before Kubernetes 1.29.
pub fn with_ordinary_sidecar(object: &mut Value, component: &str) {
    if component == "jobmanager" {
        let spec = pod_spec(object);
        let mut sidecar = spec["initContainers"].as_array_mut().unwrap().remove(1);
        sidecar.as_object_mut().unwrap().remove("restartPolicy");
        spec["containers"].as_array_mut().unwrap().push(sidecar);
    }
}

/// The first container: Flink's.
pub fn flink_container(object: &mut Value) -> &mut Value {
    &mut pod_spec(object)["containers"][0]
}

/// Takes Drey out of a pod: the same, with plain Flink.
pub fn without_drey(object: &mut Value) {
    let spec = pod_spec(object);
    spec.as_object_mut().unwrap().remove("initContainers");
    remove_where(&mut spec["volumes"], |volume| volume["name"] == "drey");
    let flink = flink_container(object);
    remove_where(&mut flink["volumeMounts"], |mount| mount["name"] == "drey");
    let flink = flink.as_object_mut().unwrap();
    for key in ["command", "env", "lifecycle"] {
        flink.remove(key);
    }
}

fn remove_where(list: &mut Value, unwanted: impl Fn(&Value) -> bool) {
    list.as_array_mut().unwrap().retain(|item| !unwanted(item));
}
