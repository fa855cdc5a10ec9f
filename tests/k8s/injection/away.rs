//! The webhook is not there.

use serde_json::Value;

use super::{assert_injected, is_injected};
use crate::support::{JOB_MANAGER, Job, Mode, TASK_MANAGER, Version, Webhook, eventually};

fn opt(job: &Job, value: &str) {
    let patch = format!(
        r#"{{"spec": {{"template": {{"metadata": {{"annotations": {{"drey.io/inject": "{value}"}}}}}}}}}}"#
    );
    job.kubectl(&["patch", job.deployment(), "--patch", &patch]);
}

fn only_pod(job: &Job, selector: &str) -> Option<Value> {
    job.namespace.pods(selector).into_iter().next()
}

/// The JobManager is refused, by `failurePolicy: Fail`; a TaskManager is by the policy, and starts without Drey where there is
/// none. A JobManager that gets past both finds the tripwire in its configuration.
#[test]
fn without_the_webhook_no_jobmanager_starts_from_empty_state() {
    let job = Job::only_alone("webhook-away", Mode::Standalone, Version::v2()).injected();
    Webhook::scale(0);
    job.start();
    job.wait_told("FailedCreate", "jobmanager.drey.io");
    job.wait_told("FailedCreate", "Drey is not in it");
    assert!(job.namespace.pods("app=example").is_empty());

    Webhook::kubectl(&["delete", "validatingadmissionpolicybinding", "drey"]);
    let task_manager = eventually("a TaskManager", || only_pod(&job, TASK_MANAGER));
    assert!(!is_injected(&task_manager));
    assert!(job.namespace.pods(JOB_MANAGER).is_empty());

    opt(&job, "false");
    let code = eventually("the end of a JobManager without Drey", || {
        let pod = only_pod(&job, JOB_MANAGER)?;
        let status = &pod["status"]["containerStatuses"][0];
        status["lastState"]["terminated"]["exitCode"].as_u64()
    });
    assert_ne!(code, 0);
    assert!(!job.path("out").exists(), "it ran");

    Webhook::scale(1);
    Webhook::upgrade(&[]);
    opt(&job, "true");
    job.kubectl(&["delete", "pods", "--selector", TASK_MANAGER]);
    job.wait_running().wait_for_checkpoints(2);
    assert_injected(&job);
    job.stop_and_judge(500);
}
