//! Checkpoints and savepoints in an object store, with credentials from a Secret: the sidecar finds the store by Flink's own
//! configuration and reads back there what Flink has written.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Job, Mode, ROOT, Version, flink_container, output, pod_spec};

const SECRET: &str = "e43a1b2c-for-this-test-only";

/// A job whose restore points are in a versitygw, which runs in a pod of the same namespace.
fn job_on_s3() -> Job {
    let version = Version::v2();
    let job = Job::new("s3", Mode::Standalone, version.clone());
    install(&job, &version);
    let job = job
        .set("execution.checkpointing.dir", "s3://bucket/checkpoints")
        .set(
            "execution.checkpointing.savepoint-dir",
            "s3://bucket/savepoints",
        )
        .set("s3.endpoint", "http://s3:7070")
        .set("s3.path.style.access", "true")
        // Objects that stand for directories: Hadoop would delete them again after each write, which versitygw, to which
        // they are directories, refuses.
        .set("s3.directory.marker.retention", "keep")
        .edit(|object, component| {
            let plugin = json!({
                "name": "state", "subPath": "plugins", "mountPath": "/opt/flink/plugins/s3-fs-hadoop", "readOnly": true,
            });
            let flink = flink_container(object);
            flink["volumeMounts"].as_array_mut().unwrap().push(plugin);
            flink["envFrom"] = credentials();
            if component == "jobmanager" {
                pod_spec(object)["initContainers"][1]["envFrom"] = credentials();
            }
        });
    start_server(&job);
    job
}

fn credentials() -> Value {
    json!([{"secretRef": {"name": "s3"}}])
}

/// The server, its empty bucket and Flink's plugin, in the volume of the job.
fn install(job: &Job, version: &Version) {
    let mut setup = Command::new(format!("{ROOT}/tests/setup.sh"));
    let printed = output(setup.args(["s3", "s3-plugin", version.as_str()]));
    let [server, plugin] = printed.lines().collect::<Vec<_>>()[..] else {
        panic!("unexpected output of setup.sh: {printed}");
    };
    fs::copy(server, job.path("versitygw")).unwrap();
    fs::create_dir_all(job.path("plugins")).unwrap();
    fs::copy(plugin, job.path("plugins/s3-fs-hadoop.jar")).unwrap();
    fs::create_dir_all(job.path("s3/bucket")).unwrap();
    for directory in ["s3", "s3/bucket"] {
        fs::set_permissions(job.path(directory), Permissions::from_mode(0o777)).unwrap();
    }
}

fn start_server(job: &Job) {
    let metadata = json!({"name": "s3", "labels": {"app": "s3"}});
    job.namespace.apply(&[
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"},
            "stringData": {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s3"},
            "spec": {"selector": {"app": "s3"}, "ports": [{"port": 7070}]},
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 9999, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "s3", "image": job.image(), "imagePullPolicy": job.namespace.node.pull_policy(),
                    "command": ["/state/versitygw"],
                    "args": [
                        "--port", "0.0.0.0:7070", "--quiet", "--access", "$(AWS_ACCESS_KEY_ID)", "--secret",
                        "$(AWS_SECRET_ACCESS_KEY)", "posix", "/state/s3",
                    ],
                    "envFrom": credentials(),
                    "readinessProbe": {"tcpSocket": {"port": 7070}, "periodSeconds": 1},
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "state", "mountPath": "/state"}],
                }],
                "volumes": [{"name": "state", "persistentVolumeClaim": {"claimName": "flink-state"}}],
            },
        }),
    ]);
    job.kubectl(&["wait", "--for=condition=Ready", "pod/s3", "--timeout=240s"]);
}

#[test]
fn a_deleted_pods_replacement_resumes_from_the_savepoint_in_s3() {
    let job = job_on_s3();
    let before = job.start_and_work();

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    let after = job.resumes(&before);
    let restored = after.restored().unwrap();
    assert!(
        restored.starts_with("s3://bucket/savepoints/"),
        "{restored}"
    );
    assert_eq!(job.pointer(), Some(restored));
    for said in [
        job.kubectl(&["logs", &after.pod, "--all-containers"]),
        job.kubectl(&["get", "events,configmaps", "-o", "yaml"]),
    ] {
        assert!(!said.contains(SECRET), "the secret is told: {said}");
    }
    job.stop_and_judge(1000);
}
