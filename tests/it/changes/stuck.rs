//! A job that can go neither on nor back: the changed configuration's run has completed a checkpoint that the last good one
//! cannot read, and going back behind it would put out events twice. Drey stops, and a person decides.

use jiff::Timestamp;

use super::{KEY, KILLED, end, in_effect, record, supervised, working};
use crate::support::{Cluster, Process, Version, plain_path, wait_until};

/// What one state backend has written natively, the other cannot read.
fn with_another_backend() -> Cluster {
    supervised(Version::v2())
        .set("state.backend.type", "hashmap")
        .set("execution.checkpointing.incremental", "true")
        .set("restart-strategy.type", "none")
        .drey_env("DREY_CONFIG_CHANGE_TIMEOUT", "30s")
}

/// The change's run is killed, with Drey, when it has completed a checkpoint and is not known to work yet, and its time is
/// over.
fn stuck(cluster: &mut Cluster) -> Process {
    let task_manager = cluster.task_manager();
    working(cluster).kill();
    cluster.configure("state.backend.type", "rocksdb");
    let mut drey = cluster.start().kill_at("before-change-confirmed").go();
    assert_eq!(drey.exit_code(), KILLED, "{}", drey.log());
    cluster.kill_job_managers();
    let deadline = &record(cluster)["trial"]["deadline"];
    let deadline: Timestamp = deadline.as_str().unwrap().parse().unwrap();
    wait_until("the time over", || deadline < Timestamp::now());

    // As often as a kubelet would.
    for life in 1..=3 {
        let mut drey = cluster.run();
        drey.wait_for_logs(&["Started with the last good configuration", "Flink ended"]);
        assert_ne!(drey.exit_code(), 0, "life {life}");
    }
    task_manager
}

fn assert_asks(cluster: &Cluster) -> String {
    let mut drey = cluster.run();
    assert_eq!(drey.exit_code(), 64, "{}", drey.log());
    let savepoint = cluster.savepoints().remove(0).display().to_string();
    let log = drey.log();
    assert!(
        log.contains("the last good configuration does not come up"),
        "{log}"
    );
    assert!(
        log.contains("Change the configuration to one that can read it"),
        "{log}"
    );
    assert!(
        log.contains("drey pointer set") && log.contains(&savepoint),
        "{log}"
    );
    savepoint
}

#[test]
fn a_configuration_that_can_read_what_the_change_made_goes_on_with_nothing_lost_or_doubled() {
    let mut cluster = with_another_backend();
    let _task_manager = stuck(&mut cluster);
    assert_asks(&cluster);
    let newest = cluster.newest_checkpoint().unwrap();

    cluster.configure(KEY, 3);
    let mut drey = cluster.run();
    drey.wait_for_log("Changed configuration works");
    assert_eq!(in_effect(&cluster, KEY).as_deref(), Some("3"));
    assert_eq!(cluster.rest().restored().as_deref(), newest.to_str());
    end(&cluster, drey);
}

#[test]
fn the_savepoint_before_the_change_is_gone_back_to_when_a_person_says_so() {
    let mut cluster = with_another_backend();
    let _task_manager = stuck(&mut cluster);
    let savepoint = assert_asks(&cluster);

    cluster.drey_ok(&["pointer", "set", &savepoint]);
    let mut drey = cluster.run();
    drey.wait_for_logs(&["Started with the last good configuration", "Job is running"]);
    let restored = cluster.rest().restored().unwrap();
    assert_eq!(plain_path(&restored), savepoint);
    cluster.rest().wait_for_checkpoints(1);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
}
