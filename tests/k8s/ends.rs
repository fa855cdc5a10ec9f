//! A job is told to end, and is started again later: by whatever is there then, from the savepoint of its end.

use crate::support::{Job, Mode, TASK_MANAGER, Version};

#[test]
fn what_is_scaled_to_0_and_back_resumes_from_the_savepoint() {
    let job = Job::new("scale", Mode::Native, Version::v2());
    let before = job.start_and_work();

    job.kubectl(&["scale", job.deployment(), "--replicas=0"]);
    job.wait_no_job_manager();
    job.assert_exactly_once(500);
    job.kubectl(&["scale", job.deployment(), "--replicas=1"]);

    job.resumes_from_a_savepoint(&before);
}

/// In native mode this tells JobManager and TaskManagers to go at the same moment.
#[test]
fn a_deleted_deployment_that_is_made_again_resumes_from_the_savepoint() {
    let job = Job::new("delete-deployment", Mode::Native, Version::v1());
    let before = job.start_and_work();

    job.kubectl(&["delete", "deployments", "--all"]);
    job.wait_no_job_manager();
    job.namespace.wait_no_pods(TASK_MANAGER);
    job.assert_exactly_once(500);
    job.start();

    job.resumes_from_a_savepoint(&before);
}

/// The pointer goes with the namespace; what is beside the savepoints stays.
#[test]
fn a_deleted_namespace_leaves_the_savepoint_and_what_is_needed_to_find_it() {
    let job = Job::new("delete-namespace", Mode::Standalone, Version::v2());
    let before = job.start_and_work();

    job.namespace.create_again();
    job.assert_exactly_once(500);
    job.start();

    job.resumes_from_a_savepoint(&before);
}
