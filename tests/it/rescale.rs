//! Another parallelism while the job runs: nothing is lost, nothing is doubled, and no process is restarted.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Cluster, Process, Rest, Version, wait_until};

/// A job with parallelism 1 and slots for 4.
pub fn adaptive(version: Version) -> Cluster {
    // How long a job is left alone after it was rescaled: 30 s by default.
    let cooldown = if version.at_least(2, 0) {
        "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling"
    } else {
        "jobmanager.adaptive-scheduler.scaling-interval.min"
    };
    Cluster::new(version)
        .set("jobmanager.scheduler", "adaptive")
        .set(cooldown, "0s")
        .set("taskmanager.numberOfTaskSlots", 4)
        .set("parallelism.default", 1)
}

fn settle(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
}

/// The parallelism of each vertex.
pub fn parallelism(rest: Rest) -> Vec<u64> {
    let job = rest.get(&format!("/jobs/{}", rest.wait_running()));
    let vertices = job["vertices"].as_array().unwrap();
    let of = |vertex: &Value| vertex["parallelism"].as_u64().unwrap();
    vertices.iter().map(of).collect()
}

fn requirements(rest: Rest) -> Value {
    rest.get(&format!("/jobs/{}/resource-requirements", rest.job()))
}

fn rescale(cluster: &Cluster, parallelism: u32) -> Value {
    let wanted = parallelism.to_string();
    let text = cluster.drey_ok(&["rescale", "--parallelism", &wanted, "--output", "json"]);
    serde_json::from_str(&text).unwrap()
}

/// What a rescaling says that must not work.
fn refused(cluster: &Cluster, args: &[&str]) -> String {
    let args = [&["rescale"], args].concat();
    let Output { status, stderr, .. } = cluster.drey(&args);
    let error = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn one_to_four_to_two(version: Version) {
    let cluster = adaptive(version);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    let rest = cluster.rest();
    let before = (rest.job(), cluster.job_managers());
    assert_eq!(parallelism(rest), [1, 1]);

    let wider = rescale(&cluster, 4);
    assert_eq!(parallelism(rest), [4, 4]);
    assert_eq!(wider["vertices"][0]["before"], 1, "{wider}");
    assert_eq!(wider["vertices"][0]["after"], 4, "{wider}");
    assert!(wider["checkpoint"].is_u64(), "{wider}");
    let again = rescale(&cluster, 4);
    assert_eq!(again["checkpoint"], Value::Null, "{again}");

    let known = requirements(rest);
    let error = refused(&cluster, &["--parallelism", "6"]);
    assert!(error.contains("6 are needed, and there are 4"), "{error}");
    let error = refused(&cluster, &["--parallelism", "129"]);
    assert!(error.contains("maximum of 128"), "{error}");
    let error = refused(&cluster, &["--vertex", "nobody=2"]);
    assert!(error.contains("no vertex \"nobody\""), "{error}");
    assert_eq!(requirements(rest), known);

    rest.wait_for_checkpoints(1);
    rescale(&cluster, 2);
    assert_eq!(parallelism(rest), [2, 2]);
    assert_eq!((rest.job(), cluster.job_managers()), before);
    rest.wait_for_checkpoints(1);
    drey.term();
    assert_eq!(drey.exit_code(), 0);

    // Requirements live as long as the JobManager; after it the configuration says what the parallelism is.
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    assert_eq!(parallelism(rest), [1, 1]);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(1000);
}

#[test]
fn a_job_of_flink_1_runs_with_another_parallelism_in_place() {
    one_to_four_to_two(Version::v1());
}

#[test]
fn a_job_of_flink_2_runs_with_another_parallelism_in_place() {
    one_to_four_to_two(Version::v2());
}

#[test]
fn what_does_not_come_about_in_time_is_taken_back() {
    // Flink rescales no sooner than 30 s after the last time that it did, or started.
    let mut cluster = adaptive(Version::v1());
    cluster.configure("jobmanager.adaptive-scheduler.scaling-interval.min", "1h");
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    let known = requirements(cluster.rest());
    let error = refused(&cluster, &["--parallelism", "2", "--timeout", "3s"]);
    assert!(error.contains("has 1 of 2 tasks running"), "{error}");
    assert_eq!(requirements(cluster.rest()), known);
    assert_eq!(parallelism(cluster.rest()), [1, 1]);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(100);
}

#[test]
fn other_schedulers_are_left_alone_and_the_way_by_savepoint_is_named() {
    let mut cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    let error = refused(&cluster, &["--parallelism", "1"]);
    assert!(error.contains("drey job upgrade --parallelism"), "{error}");
    assert_eq!(parallelism(cluster.rest()), [2, 2]);
    drey.term();
    assert_eq!(drey.exit_code(), 0);

    cluster.configure("scheduler-mode", "reactive");
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    let error = refused(&cluster, &["--parallelism", "1"]);
    assert!(error.contains("reactive mode"), "{error}");
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(200);
}

#[test]
fn a_job_that_is_stopped_meanwhile_is_stopped() {
    let mut cluster = adaptive(Version::v1());
    cluster.configure("jobmanager.adaptive-scheduler.scaling-interval.min", "1h");
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    let mut asking = cluster.drey_background(&["rescale", "--parallelism", "2"]);
    let two = json!({"lowerBound": 1, "upperBound": 2});
    wait_until("Flink is asked for it", || {
        let wanted = requirements(cluster.rest());
        let mut vertices = wanted.as_object().unwrap().values();
        vertices.all(|vertex| vertex["parallelism"] == two)
    });
    drey.term();
    assert_eq!(asking.exit_code(), 75);
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(100);
}
