//! Another parallelism in Flink's configuration while the job runs: in place where the scheduler can, else by a savepoint.

use crate::changes::{KEY, diff, end, wait_in_effect, working};
use crate::rescale::{adaptive, parallelism};
use crate::support::{Cluster, Process, Version};

/// How often the policy has brought a change into effect.
fn wait_applied(drey: &mut Process, times: usize) {
    drey.wait_for_logs(&vec!["Changed configuration works"; times]);
}

fn one_to_four_to_two(version: Version, policy: &str) {
    let mut cluster = adaptive(version).drey_env("DREY_ON_CONFIG_CHANGE", policy);
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);
    let rest = cluster.rest();
    let before = (rest.job(), cluster.job_manager());
    assert_eq!(parallelism(rest), [1, 1]);

    cluster.configure("parallelism.default", 4);
    wait_applied(&mut drey, 1);
    assert_eq!(parallelism(rest), [4, 4]);
    assert_eq!(diff(&cluster).0, Some(0), "what stands there is in effect");

    // What Flink shows is what it was started with: the record alone tells the next supervisor.
    drey.kill();
    let mut drey = working(&cluster);
    cluster.configure("parallelism.default", 2);
    wait_applied(&mut drey, 1);
    assert_eq!(parallelism(rest), [2, 2]);
    assert_eq!((rest.job(), cluster.job_manager()), before, "no restart");
    assert_eq!(cluster.entry().history.len(), 0, "no savepoint");
    assert!(!drey.log().contains("tried again"), "{}", drey.log());
    rest.wait_for_checkpoints(1);
    drey.term();
    assert_eq!(drey.exit_code(), 0);

    let drey = working(&cluster);
    assert_eq!(parallelism(rest), [2, 2], "the next start has it as well");
    end(&cluster, drey);
}

#[test]
fn a_changed_parallelism_takes_effect_in_place_1_20() {
    one_to_four_to_two(Version::v1(), "rescale-only");
}

#[test]
fn a_changed_parallelism_takes_effect_in_place_2_x() {
    one_to_four_to_two(Version::v2(), "restart");
}

#[test]
fn rescale_only_leaves_other_changes_alone_and_goes_by_a_savepoint_where_the_scheduler_cannot() {
    let cluster = Cluster::new(Version::v1()).drey_env("DREY_ON_CONFIG_CHANGE", "rescale-only");
    let mut cluster = cluster.set("taskmanager.numberOfTaskSlots", 4);
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);
    let job_manager = cluster.job_manager();

    cluster.configure(KEY, 3);
    drey.wait_for_log("Configuration has changed, and is left for the next start");
    cluster.rest().wait_for_checkpoints(1);
    assert_eq!(cluster.job_manager(), job_manager);

    let mut cluster = cluster.without(KEY);
    cluster.configure("parallelism.default", 3);
    wait_in_effect(&cluster, "parallelism.default", "3");
    wait_applied(&mut drey, 1);
    assert_eq!(parallelism(cluster.rest()), [3, 3]);
    let history = cluster.entry().history;
    assert_eq!(history.len(), 1, "one stop: {history:?}");
    end(&cluster, drey);
}

#[test]
fn a_parallelism_waits_for_its_slots_and_one_that_cannot_be_is_given_up() {
    let mut cluster = adaptive(Version::v2()).drey_env("DREY_ON_CONFIG_CHANGE", "restart");
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);
    let rest = cluster.rest();
    let before = (rest.job(), cluster.job_manager());

    cluster.configure("parallelism.default", 6);
    drey.wait_for_log("Changed parallelism waits for slots");
    assert_eq!(parallelism(rest), [1, 1], "it runs on");
    let _another = cluster.task_manager();
    wait_applied(&mut drey, 1);
    assert_eq!(parallelism(rest), [6, 6]);

    cluster.configure("parallelism.default", 129);
    drey.wait_for_log("Changed parallelism is given up");
    let (code, report) = diff(&cluster);
    let why = report["rolled-back"].as_str().unwrap();
    assert_eq!(code, Some(2));
    assert!(why.contains("maximum of 128"), "{report}");
    assert_eq!(parallelism(rest), [6, 6], "it runs on");
    assert_eq!((rest.job(), cluster.job_manager()), before);

    cluster.configure("parallelism.default", 2);
    wait_applied(&mut drey, 2);
    assert_eq!(parallelism(rest), [2, 2]);
    end(&cluster, drey);
}

#[test]
fn in_reactive_mode_a_changed_parallelism_is_left_alone() {
    let cluster = adaptive(Version::v1()).set("scheduler-mode", "reactive");
    let mut cluster = cluster.drey_env("DREY_ON_CONFIG_CHANGE", "restart");
    let _task_manager = cluster.task_manager();
    let mut drey = working(&cluster);
    let before = (cluster.rest().job(), cluster.job_manager());
    assert_eq!(parallelism(cluster.rest()), [4, 4], "all slots");
    cluster.configure("parallelism.default", 2);
    drey.wait_for_log("Configuration has changed, and is left for the next start");
    cluster.rest().wait_for_checkpoints(1);
    assert_eq!((cluster.rest().job(), cluster.job_manager()), before);
    end(&cluster, drey);
}
