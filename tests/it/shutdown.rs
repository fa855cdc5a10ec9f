//! SIGTERM and SIGINT: the job stops with a savepoint, and the next start resumes from exactly there.

use crate::support::{Cluster, Process, Version};

/// Stops a running job by SIGTERM, and starts it again.
fn cycle(cluster: &Cluster, start: impl Fn() -> Process, stop: impl Fn(&Process)) {
    let configuration = cluster.configuration();
    let _task_manager = cluster.task_manager();
    let mut drey = start();
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    stop(&drey);
    assert_eq!(drey.exit_code(), 0);
    cluster.wait_gone();
    let savepoint = cluster.newest_path();
    assert_eq!(cluster.savepoints(), [savepoint.clone()]);

    let mut drey = start();
    drey.wait_for_log("Job is running");
    assert_eq!(
        cluster.rest().restored().as_deref(),
        savepoint.to_str(),
        "the job resumes from the savepoint"
    );
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    stop(&drey);
    assert_eq!(drey.exit_code(), 0);
    assert_eq!(cluster.savepoints().len(), 2);
    cluster.assert_exactly_once(500);
    assert_eq!(
        cluster.configuration(),
        configuration,
        "Drey works on a copy"
    );
}

#[test]
fn sigterm_then_the_next_start_resumes_exactly_there_1_20() {
    let cluster = Cluster::new(Version::v1());
    cycle(&cluster, || cluster.run(), Process::term);
}

#[test]
fn sigterm_then_the_next_start_resumes_exactly_there_2_x() {
    let cluster = Cluster::new(Version::v2());
    cycle(&cluster, || cluster.run(), Process::term);
}
