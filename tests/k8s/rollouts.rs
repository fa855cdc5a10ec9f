//! A new template of the pod: the new pod is there before the old one goes, or only afterwards, and in both cases one job
//! runs at a time and continues from the savepoint.

use serde_json::json;

use crate::support::{Job, Mode, Version, flink_container};

/// Flink makes the Deployment, which starts the new pod first.
#[test]
fn a_rollout_in_native_mode_hands_the_job_over() {
    let job = Job::new("rollout", Mode::Native, Version::v2());
    let before = job.start_and_work();

    job.kubectl(&["rollout", "restart", job.deployment()]);

    job.resumes_from_a_savepoint(&before);
    job.kubectl(&["rollout", "status", job.deployment(), "--timeout=240s"]);
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

    job.kubectl(&[
        "set",
        "env",
        job.deployment(),
        "--containers=jobmanager",
        "CHANGED=yes",
    ]);

    let after = job.resumes(&before);
    job.kubectl(&["rollout", "status", job.deployment(), "--timeout=240s"]);
    assert_eq!(
        job.wait_running().job,
        after.job,
        "the old pod went without a sound"
    );
    job.stop_and_judge(1000);
}

#[test]
fn a_template_change_with_recreate_resumes_from_the_savepoint() {
    let job = Job::new("recreate", Mode::Standalone, Version::v1()).edit(|object, component| {
        if component == "jobmanager" {
            object["spec"]["strategy"] = json!({"type": "Recreate"});
        }
    });
    let before = job.start_and_work();

    job.kubectl(&[
        "set",
        "env",
        job.deployment(),
        "--containers=jobmanager",
        "CHANGED=yes",
    ]);

    job.resumes_from_a_savepoint(&before);
}
