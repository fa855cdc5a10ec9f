//! A job that is done by itself: what Flink would have cleaned up is cleaned up, and nothing starts it again.

use serde_json::Value;

use crate::support::{JOB_MANAGER, Job, Mode, Version, eventually, wait_until};

/// What the pointer says of the job's end.
fn ended(job: &Job) -> Option<String> {
    let map = job.namespace.get(&["configmap", "drey-example"])?;
    let pointer: Value = serde_json::from_str(map["data"]["pointer.json"].as_str()?).ok()?;
    let status = &pointer["jobs"]["application"]["ended"]["status"];
    status.as_str().map(ToOwned::to_owned)
}

#[test]
fn in_native_mode_the_deployment_goes_with_the_job_as_flink_has_it() {
    let job =
        Job::only("finished-native", Mode::Native, Version::v2()).job_args(&["--count", "20000"]);
    job.start();

    wait_until("the Deployment to be deleted", || {
        ended(&job).is_some() && job.namespace.get(&["deployment", "example"]).is_none()
    });

    assert_eq!(ended(&job).as_deref(), Some("FINISHED"));
    job.wait_no_job_manager();
    job.assert_exactly_once(20_000);
}

#[test]
fn in_standalone_mode_the_pod_stays_and_does_not_run_the_job_again() {
    let job =
        Job::only("finished", Mode::Standalone, Version::v1()).job_args(&["--count", "20000"]);
    job.start();

    let status = eventually("the job's end", || ended(&job));
    assert_eq!(status, "FINISHED");
    job.wait_told("JobOver", "");

    let pods = job.namespace.pods(JOB_MANAGER);
    assert_eq!(pods.len(), 1);
    job.assert_exactly_once(20_000);
}
