//! A JobManager in a pod of kind Job, as a batch scheduler has it: what the pod exits with decides whether there is another
//! one.

use serde_json::{Value, json};

use crate::support::{JOB_MANAGER, Job, Mode, Version, status, wait_until, with_ordinary_sidecar};

/// Keeps a pod's object after its end, to be looked at.
const KEPT: &str = "drey.test/kept";

fn as_job(object: &mut Value, component: &str) {
    if component == "jobmanager" {
        let mut template = object["spec"]["template"].take();
        template["spec"]["restartPolicy"] = json!("Never");
        *object = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": object["metadata"],
            "spec": {"template": template, "backoffLimit": 3},
        });
    }
}

fn patch(job: &Job, pod: &str, kind: &str, patch: &Value) {
    let kind = format!("--type={kind}");
    job.kubectl(&["patch", "pod", pod, &kind, "--patch", &patch.to_string()]);
}

#[test]
fn an_evicted_pod_of_a_job_exits_with_flinks_code_and_another_one_resumes() {
    let job = Job::only("batch", Mode::Standalone, Version::v1()).edit(as_job);
    let before = job.start_and_work();
    let kept = json!([{"op": "add", "path": "/metadata/finalizers/-", "value": KEPT}]);
    patch(&job, &before.pod, "json", &kept);

    job.namespace.evict(&before.pod);

    let after = job.resumes(&before);
    let restored = after.restored().unwrap();
    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    let pod = job.namespace.pod(&before.pod);
    let code = &status(&pod, "jobmanager")["state"]["terminated"]["exitCode"];
    // SIGTERM, by which Flink ends; with 0 the Job would be complete.
    assert_eq!(code, 143);
    let free = json!({"metadata": {"finalizers": null}});
    patch(&job, &before.pod, "merge", &free);

    job.kubectl(&["delete", "job/example-jobmanager", "--wait=false"]);
    wait_until("no JobManager", || {
        job.namespace.pods(JOB_MANAGER).is_empty()
    });
    job.assert_exactly_once(1000);
}

/// A pod is over when all its containers have ended, and nobody but itself ends an ordinary sidecar.
#[test]
fn the_pod_of_a_finished_job_completes_with_an_ordinary_sidecar_too() {
    let job = Job::only("batch-done", Mode::Standalone, Version::v2())
        .edit(with_ordinary_sidecar)
        .edit(as_job)
        .job_args(&["--count", "20000"]);
    job.start();

    wait_until("the Job to be complete", || {
        let object = job.namespace.get(&["job", "example-jobmanager"]);
        object.is_some_and(|object| object["status"]["succeeded"] == 1)
    });

    let pods = job.namespace.pods(JOB_MANAGER);
    assert_eq!(pods.len(), 1);
    for container in ["jobmanager", "drey"] {
        let ended = &status(&pods[0], container)["state"]["terminated"];
        assert_eq!(ended["exitCode"], 0, "{container}");
        assert_eq!(
            status(&pods[0], container)["restartCount"],
            0,
            "{container}"
        );
    }
    job.assert_exactly_once(20_000);
}
