//! A container ends and is started again in its pod: nothing can be done at that time, so the next start resumes from the
//! newest restore point. Without HA, plain Flink would start from empty state.

use serde_json::json;

use crate::support::{Job, Mode, Version, flink_container, pod_spec, status};

#[test]
fn a_jobmanager_out_of_memory_resumes_from_its_newest_checkpoint() {
    let job = Job::new("oom", Mode::Native, Version::v1());
    let before = job.start_and_work();

    // The kernel is told whom to choose, then many small processes use up the memory.
    let fill = "for jvm in $(pgrep java); do echo 1000 >/proc/$jvm/oom_score_adj; done; \
                for i in $(seq 30); do (head -c 60m /dev/zero | tail -c 60m | sleep 600) & done; wait";
    let container = format!("--container={}", job.container());
    job.namespace
        .try_kubectl(&["exec", &before.pod, &container, "--", "bash", "-c", fill]);
    job.wait_restarted(&before.pod, job.container());

    let pod = job.namespace.pod(&before.pod);
    let ended = &status(&pod, job.container())["lastState"]["terminated"];
    assert_eq!(ended["exitCode"], 137, "{ended}");
    job.resumes_from_a_checkpoint(&before);
}

#[test]
fn a_failing_liveness_probe_loses_nothing() {
    let job = Job::new("liveness", Mode::Standalone, Version::v2()).edit(|object, component| {
        if component == "jobmanager" {
            // Fails once for each time that the file is made.
            flink_container(object)["livenessProbe"] = json!({
                "exec": {"command": ["sh", "-c", "! rm /tmp/unwell 2>/dev/null"]},
                "periodSeconds": 1, "failureThreshold": 1,
            });
        }
    });
    let before = job.start_and_work();

    job.kubectl(&[
        "exec",
        &before.pod,
        &format!("--container={}", job.container()),
        "--",
        "touch",
        "/tmp/unwell",
    ]);
    job.wait_restarted(&before.pod, job.container());

    job.resumes(&before);
    job.stop_and_judge(1000);
}

#[test]
fn a_killed_jobmanager_resumes_from_its_newest_checkpoint() {
    let job = Job::new("kill-jobmanager", Mode::Native, Version::v2());
    let before = job.start_and_work();

    job.kill_container(&before.pod, job.container());

    job.resumes_from_a_checkpoint(&before);
}

#[test]
fn a_killed_sidecar_does_not_disturb_the_job_and_is_there_again_when_needed() {
    let job = Job::new("kill-sidecar", Mode::Standalone, Version::v1());
    let before = job.start_and_work();

    job.kill_container(&before.pod, "drey");
    before.wait_for_checkpoints(2);
    assert_eq!(job.wait_running().job, before.job);
    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    job.resumes_from_a_savepoint(&before);
}

/// The kubelet does not start a sidecar again in a pod that is going, so the successor has to find the savepoint; in a pod
/// that stays it does, and the sidecar goes on with the same savepoint.
#[test]
fn a_sidecar_killed_in_the_middle_of_a_savepoint_loses_nothing() {
    let job =
        Job::new("kill-mid-savepoint", Mode::Native, Version::v1()).edit(|object, component| {
            if component == "jobmanager" {
                let sidecar = &mut pod_spec(object)["initContainers"][1];
                let env = sidecar["env"].as_array_mut().unwrap();
                env.push(json!({"name": "DREY_KILL_AT", "value": "after-post"}));
            }
        });
    let before = job.start_and_work();

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    let between = job.resumes(&before);
    let selector = format!(
        "--field-selector=involvedObject.name={},reason=SavepointCompleted",
        before.pod
    );
    let completed = job.namespace.get(&["events", &selector]).unwrap();
    assert_eq!(completed["items"], json!([]), "the sidecar was not killed");

    let env = ["--containers=drey", "DREY_KILL_AT-"];
    job.kubectl(&[&["set", "env", job.deployment()], &env[..]].concat());

    job.resumes_from_a_savepoint(&between);
}
