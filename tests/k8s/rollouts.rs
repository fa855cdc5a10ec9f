//! A new template of the pod: the new pod is there before the old one goes, or only afterwards, and in both cases one job
//! runs at a time and continues from the savepoint.

use serde_json::json;

use crate::support::{JOB_MANAGER, Job, Mode, TASK_MANAGER, Version, flink_container};

/// Flink makes the Deployment, which starts the new pod first. Its JobManager would adopt the TaskManagers of the old one.
#[test]
fn a_new_image_in_native_mode_takes_the_job_over_without_the_old_images_taskmanagers() {
    let job = Job::only("new-image", Mode::Native, Version::v2());
    let before = job.start_and_work();
    let new = job.image_by_another_name();

    let configuration = job.kubectl(&["get", "configmap/flink-config-example", "-o", "json"]);
    let configuration = configuration.replace(&job.image(), &new);
    job.namespace
        .apply(&[serde_json::from_str(&configuration).unwrap()]);
    let image = format!("{}={new}", job.container());
    job.kubectl(&["set", "image", job.deployment(), &image]);

    let after = job.resumes(&before);
    job.kubectl(&["rollout", "status", job.deployment(), "--timeout=240s"]);
    let restored = after.restored().unwrap();
    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    let task_managers = job.namespace.pods(TASK_MANAGER);
    for pod in &task_managers {
        let going = pod["metadata"]["deletionTimestamp"].is_string();
        let image = &pod["spec"]["containers"][0]["image"];
        assert!(going || image == new.as_str(), "{pod}");
    }
    assert!(!task_managers.is_empty());
    job.stop_and_judge(1000);
}

/// The new pod is not Ready before it has the job, and the old one is not told to go before the new one is Ready.
#[test]
fn a_rollout_with_a_readiness_probe_hands_the_job_over() {
    let job =
        Job::new("rollout-readiness", Mode::Standalone, Version::v2()).edit(|object, component| {
            if component == "jobmanager" {
                flink_container(object)["readinessProbe"] =
                    json!({"tcpSocket": {"port": "rest"}, "periodSeconds": 1});
            }
        });
    let before = job.start_and_work();

    job.kubectl(&["rollout", "restart", job.deployment()]);

    let after = job.resumes(&before);
    job.kubectl(&["rollout", "status", job.deployment(), "--timeout=240s"]);
    assert_eq!(
        job.wait_running().job,
        after.job,
        "the old pod went without a sound"
    );
    job.stop_and_judge(1000);
}

/// A TaskManager that went before the savepoint would leave the old JobManager without slots, for the new one finds it no more.
/// The new JobManager is not scheduled until the old TaskManager was told to go.
#[test]
fn taskmanagers_that_are_rolled_with_their_jobmanager_stay_until_its_savepoint() {
    let job = Job::only("rollout-both", Mode::Standalone, Version::v2());
    let before = job.start_and_work();

    let gate =
        json!({"spec": {"template": {"spec": {"schedulingGates": [{"name": "drey.test/gate"}]}}}});
    job.kubectl(&["patch", job.deployment(), "--patch", &gate.to_string()]);
    job.kubectl(&["rollout", "restart", "deployment/example-taskmanager"]);
    job.wait_told("Hold", "stay until the savepoint is recorded");
    let gated = "--field-selector=status.phase=Pending";
    let new = job.kubectl(&[
        "get",
        "pods",
        "--selector",
        JOB_MANAGER,
        gated,
        "-o",
        "name",
    ]);
    let open = json!({"spec": {"schedulingGates": null}}).to_string();
    job.kubectl(&["patch", new.trim(), "--patch", &open]);

    let after = job.resumes(&before);
    let restored = after.restored().unwrap();
    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    job.stop_and_judge(1000);
}

#[test]
fn a_template_change_with_recreate_resumes_from_the_savepoint() {
    let job = Job::only("recreate", Mode::Standalone, Version::v1()).edit(|object, component| {
        if component == "jobmanager" {
            object["spec"]["strategy"] = json!({"type": "Recreate"});
        }
    });
    let before = job.start_and_work();

    job.change_template();

    job.resumes_from_a_savepoint(&before);
}
