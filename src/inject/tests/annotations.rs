//! What the annotations of a pod say, and what is said about those that are wrong.

use super::{flink, injected, job_manager, refused, sidecar, variable};
use crate::inject::markdown_table;

/// Name, value, message.
const BAD: &[(&str, &str, &str)] = &[
    (
        "inject",
        "yes",
        "annotation `drey.io/inject`: `yes` is neither true nor false; write \"true\" or \"false\", in quotes",
    ),
    (
        "shutdown-timout",
        "2m",
        "annotation `drey.io/shutdown-timout` is not known; did you mean `drey.io/shutdown-timeout`?",
    ),
    (
        "xyzzy",
        "",
        "annotation `drey.io/xyzzy` is not known; take it out; Drey's README lists what there is",
    ),
    (
        "state-dir",
        "/x",
        "annotation `drey.io/state-dir` is not known; take it out; Drey's README lists what there is",
    ),
    (
        "shutdown-timeout",
        "soon",
        "annotation `drey.io/shutdown-timeout`: `soon` is not a time; give one from 10s to 24h, such as `30s` or `1h30m`",
    ),
    (
        "role",
        "boss",
        "annotation `drey.io/role`: `boss` is not known; use one of `jobmanager`, `taskmanager`",
    ),
    (
        "role",
        "taskmanager",
        "annotation `drey.io/role`: container `jm` starts a JobManager by its command; take the annotation out, or name another `drey.io/container`",
    ),
    (
        "container",
        "tm",
        "annotation `drey.io/container`: the pod has no container `tm`; use one of `jm`",
    ),
    (
        "cluster-id",
        "No Way",
        "annotation `drey.io/cluster-id`: `No Way` is not a cluster id; use at most 45 lower-case letters, digits and hyphens, with no hyphen at either end",
    ),
    (
        "image",
        "evil/drey",
        "annotation `drey.io/image`: image `evil/drey` is not allowed here; use one of `drey:latest, registry.example/drey, registry.example/try-*`, or have it added to the installation's list",
    ),
    (
        "image",
        "registry.example/drey/../evil:1",
        "annotation `drey.io/image`: image `registry.example/drey/../evil:1` is not allowed here; use one of `drey:latest, registry.example/drey, registry.example/try-*`, or have it added to the installation's list",
    ),
    (
        "run-as-user",
        "root",
        "annotation `drey.io/run-as-user`: `root` is not a user id; give the number that Flink runs as, such as `9999`, or `none`",
    ),
    (
        "mounts",
        "jars",
        "annotation `drey.io/mounts`: `jars` does not name a volume and a directory; write `VOLUME=/DIRECTORY`, with commas between several",
    ),
    (
        "mounts",
        "jars=/jars",
        "annotation `drey.io/mounts`: the pod has no volume `jars`; name one of the pod's volumes",
    ),
    (
        "memory-limit",
        "0",
        "annotation `drey.io/memory-limit`: `0` is not a quantity above zero; give one such as `64Mi`",
    ),
    (
        "cpu-request",
        "1; rm -rf",
        "annotation `drey.io/cpu-request`: `1; rm -rf` is not a quantity above zero; give one such as `100m`",
    ),
    (
        "rest-url",
        "ftp://x",
        "annotation `drey.io/rest-url`: `ftp://x` is neither `http:` nor `https:`; give one such as `https://HOST:8081`",
    ),
    (
        "s3-endpoint",
        "http://minio",
        "annotation `drey.io/s3-endpoint`: sends requests in the clear; make it `https:`, or set `storage-allow-http`",
    ),
];

#[test]
fn a_bad_annotation_is_refused_by_its_name_its_value_and_the_remedy() {
    for (name, value, message) in BAD {
        let pod = job_manager(&[(&format!("drey.io/{name}"), value)]);
        assert_eq!(refused(&pod), *message);
    }
}

#[test]
fn a_long_value_is_cut_in_the_message() {
    let long = "x".repeat(1_000_000);
    for key in [
        "shutdown-timeout",
        "image",
        "cluster-id",
        "container",
        "mounts",
        "status",
    ] {
        let message = refused(&job_manager(&[(&format!("drey.io/{key}"), &long)]));
        assert!(message.len() < 600, "{key}: {}", message.len());
    }
    let key = format!("drey.io/{long}");
    assert!(refused(&job_manager(&[(&key, "x")])).len() < 300);
}

#[test]
fn settings_go_where_they_are_read() {
    let pod = job_manager(&[
        ("drey.io/shutdown-timeout", "5m"),
        ("drey.io/entrypoint", "/run.sh"),
        ("drey.io/savepoint-dir", "s3://b/$(X)"),
        ("drey.io/log-level", "debug"),
        ("drey.io/image", "registry.example/drey:2"),
        ("drey.io/metrics-address", "0.0.0.0:9000"),
    ]);
    let injected = injected(&pod).pod;
    let (flink, sidecar) = (flink(&injected), sidecar(&injected));
    for container in [flink, sidecar] {
        assert_eq!(variable(container, "DREY_SHUTDOWN_TIMEOUT"), Some("5m"));
        assert_eq!(variable(container, "DREY_LOG_LEVEL"), Some("debug"));
        assert_eq!(
            variable(container, "DREY_METRICS_ADDRESS"),
            Some("0.0.0.0:9000")
        );
    }
    assert_eq!(variable(flink, "DREY_ENTRYPOINT"), Some("/run.sh"));
    assert_eq!(variable(sidecar, "DREY_ENTRYPOINT"), None);
    assert_eq!(
        variable(sidecar, "DREY_SAVEPOINT_DIR"),
        Some("s3://b/$$(X)")
    );
    assert_eq!(variable(flink, "DREY_SAVEPOINT_DIR"), None);
    assert_eq!(sidecar.image.as_deref(), Some("registry.example/drey:2"));
    assert_eq!(
        sidecar.ports.as_ref().map(|ports| ports[0].container_port),
        Some(9000)
    );
    let spec = injected.spec.expect("a spec");
    assert_eq!(spec.termination_grace_period_seconds, Some(300));
}

#[test]
fn the_readme_has_all_annotations() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme
        .split_once("<!-- annotations -->\n")
        .expect("the table's begin");
    let (table, _) = rest
        .split_once("<!-- /annotations -->")
        .expect("the table's end");
    assert!(
        table.trim() == markdown_table().trim(),
        "put this into README.md:\n{}",
        markdown_table()
    );
}
