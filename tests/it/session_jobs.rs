//! The jobs that Drey submits to a session cluster: each comes back from its own restore point, once.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

use drey::control::Status;
use drey::domain::job::JobStatus;
use drey::domain::pointer::{JobEntry, PointKind};
use serde_json::{Value, json};

use crate::session::{SESSION, entry, settle, stopped, submit, upload};
use crate::support::{Cluster, Process, Version, eventually, plain_path};

const KILLED: i32 = -9;

/// A job of the list.
fn listed(cluster: &Cluster, name: &str, jar: &str, more: &[&str]) -> String {
    let out = cluster.path(name).display().to_string();
    let args = [&["--name", name, "--out", &out, "--parallelism", "1"], more].concat();
    let args: Vec<String> = args.iter().map(|arg| format!("{arg:?}")).collect();
    format!(
        "- name: {name}\n  jar: {jar:?}\n  entry-class: io.drey.example.ExampleJob\n  args: [{}]\n",
        args.join(", ")
    )
}

fn jar(cluster: &Cluster) -> String {
    let usrlib = cluster.installation.lib.with_file_name("usrlib");
    usrlib.join("example-job.jar").display().to_string()
}

/// Starts a session cluster with this list of jobs.
fn start(cluster: &Cluster, list: &[String]) -> Process {
    start_killed(cluster, list, None)
}

fn start_killed(cluster: &Cluster, list: &[String], point: Option<&str>) -> Process {
    let file = cluster.path("jobs.yaml");
    fs::write(&file, list.concat()).unwrap();
    let words = cluster.java("jm.args", SESSION);
    let flags = ["--session-jobs", file.to_str().unwrap()];
    let start = cluster.start().flags(&flags).command(words);
    match point {
        Some(point) => start.kill_at(point).go(),
        None => start.go(),
    }
}

/// The names of all jobs that Flink knows.
fn names(cluster: &Cluster) -> Vec<String> {
    let overview = cluster.rest().get("/jobs/overview");
    let jobs = overview["jobs"].as_array().unwrap().iter();
    let mut names: Vec<String> = jobs
        .map(|job| job["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What is wrong with the job under `key`, once that says `says`.
fn problem(cluster: &Cluster, key: &str, says: &str) -> String {
    let found = |status: &Status| {
        let problems = &status.jobs.get(key)?.problems;
        problems.iter().find(|one| one.contains(says)).cloned()
    };
    let what = format!("the problem {says:?} of {key}");
    let status = cluster.wait_for_status(&what, |status| found(status).is_some());
    found(&status).unwrap()
}

fn newest_id(entry: &JobEntry) -> i64 {
    entry.newest().unwrap().checkpoint_id.unwrap()
}

fn end(mut drey: Process) {
    drey.term();
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());
}

/// The job under `key` runs from `path`, and goes on.
fn goes_on(cluster: &Cluster, key: &str, before: &JobEntry) {
    settle(cluster, key, newest_id(before));
    let now = entry(cluster, key);
    let parent = now.run.unwrap().parent.unwrap();
    assert_eq!(parent.path, before.newest().unwrap().path);
    assert_eq!(now.lineage, before.lineage);
    assert_eq!(now.frozen, None);
}

fn cycle(version: Version) {
    let cluster = Cluster::new(version).set("taskmanager.numberOfTaskSlots", 3);
    let _task_manager = cluster.task_manager();
    let jar = jar(&cluster);
    let list = [
        listed(&cluster, "orders", &jar, &[]),
        listed(&cluster, "bills", &format!("file://{jar}"), &[]),
    ];
    let drey = start(&cluster, &list);
    settle(&cluster, "orders", 0);
    settle(&cluster, "bills", 0);
    let uploaded = upload(&cluster);
    submit(&cluster, &uploaded, "extra", None);
    settle(&cluster, "extra", 0);
    end(drey);
    let [orders, bills, extra] = ["orders", "bills", "extra"].map(|key| {
        stopped(&cluster, key);
        entry(&cluster, key)
    });

    let drey = start(&cluster, &list);
    goes_on(&cluster, "orders", &orders);
    goes_on(&cluster, "bills", &bills);
    assert_eq!(names(&cluster), ["bills", "orders"]);
    let jars = eventually("no jar left", || {
        let jars = cluster.rest().get("/jars");
        (jars["files"] == Value::Array(Vec::new())).then_some(jars)
    });
    assert!(jars["address"].is_string());
    // Who submitted it is told from where it has to go on.
    let path = extra.newest().unwrap().path.clone();
    let says = problem(&cluster, "extra", "not in the list");
    assert!(says.contains(&path), "{says}");
    assert_eq!(entry(&cluster, "extra"), extra, "nothing happened to it");
    let uploaded = upload(&cluster);
    submit(&cluster, &uploaded, "extra", Some(plain_path(&path)));
    settle(&cluster, "extra", newest_id(&extra));
    cluster.wait_for_status("no problem left", |status| {
        status.jobs.values().all(|job| job.problems.is_empty())
    });
    end(drey);
    for name in ["orders", "bills", "extra"] {
        stopped(&cluster, name);
        cluster.check_in(&cluster.path(name), &["--min", "500"]);
    }
}

#[test]
fn listed_jobs_come_back_from_their_savepoints_and_of_others_it_is_told_1_20() {
    cycle(Version::v1());
}

#[test]
fn listed_jobs_come_back_from_their_savepoints_and_of_others_it_is_told_2_x() {
    cycle(Version::v2());
}

const POINTS: [&str; 4] = [
    "before-session-run-stored",
    "after-session-run-stored",
    "after-jar-upload",
    "after-jar-run",
];

#[test]
fn killed_at_each_step_of_a_submission_in_turn_there_is_one_job() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let list = [listed(&cluster, "orders", &jar(&cluster), &[])];
    let mut ids = Vec::new();
    for point in POINTS {
        let mut drey = start_killed(&cluster, &list, Some(point));
        assert_eq!(drey.exit_code(), KILLED, "killed {point}");
        let entry = cluster.pointer_entry("orders");
        ids.extend(entry.and_then(|entry| entry.run?.job_id));
    }
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]), "one run: {ids:?}");
    let drey = start(&cluster, &list);
    settle(&cluster, "orders", 0);
    assert_eq!(names(&cluster), ["orders"]);
    assert_eq!(cluster.rest().job(), ids[0].to_string());
    end(drey);
    cluster.check_in(&cluster.path("orders"), &["--min", "100"]);
}

#[test]
fn killed_at_any_step_of_a_submission_the_next_drey_finishes_it_once() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let list = [listed(&cluster, "orders", &jar(&cluster), &[])];
    let mut before: Option<JobEntry> = None;
    for point in POINTS {
        let mut drey = start_killed(&cluster, &list, Some(point));
        assert_eq!(drey.exit_code(), KILLED, "killed {point}");
        let drey = start(&cluster, &list);
        match &before {
            Some(before) => goes_on(&cluster, "orders", before),
            None => settle(&cluster, "orders", 0),
        }
        assert_eq!(names(&cluster), ["orders"], "killed {point}");
        end(drey);
        stopped(&cluster, "orders");
        before = Some(entry(&cluster, "orders"));
    }
    cluster.check_in(&cluster.path("orders"), &["--min", "500"]);
}

#[test]
fn after_the_loss_of_the_machine_a_listed_job_goes_on_from_its_newest_checkpoint() {
    let cluster = Cluster::new(Version::v2());
    let task_manager = cluster.task_manager();
    let list = [listed(&cluster, "orders", &jar(&cluster), &[])];
    let mut drey = start(&cluster, &list);
    settle(&cluster, "orders", 0);
    drey.kill();
    cluster.kill_all(SESSION);
    drop(task_manager);
    let checkpoint = cluster.newest_checkpoint().unwrap();

    let _task_manager = cluster.task_manager();
    let drey = start(&cluster, &list);
    settle(&cluster, "orders", 1);
    let parent = entry(&cluster, "orders").run.unwrap().parent.unwrap();
    assert_eq!(PathBuf::from(plain_path(&parent.path)), checkpoint);
    end(drey);
    cluster.check_in(&cluster.path("orders"), &["--min", "200"]);
}

#[test]
fn one_job_that_cannot_be_submitted_keeps_no_other_from_it() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let late = cluster.path("late.jar");
    let list = [
        listed(&cluster, "bills", late.to_str().unwrap(), &[]),
        listed(
            &cluster,
            "odd",
            &jar(&cluster),
            &["--no-such-argument", "1"],
        ),
        listed(&cluster, "orders", &serve(jar(&cluster)), &[]),
    ];
    let drey = start(&cluster, &list);
    settle(&cluster, "orders", 0);
    let says = problem(&cluster, "bills", "not submitted yet");
    assert!(says.contains("late.jar"), "{says}");
    problem(&cluster, "odd", "--no-such-argument");
    fs::copy(jar(&cluster), &late).unwrap();
    settle(&cluster, "bills", 0);
    end(drey);
    let savepoint = stopped(&cluster, "orders");
    let bills = entry(&cluster, "bills");

    let aside = format!("{savepoint}-aside");
    fs::rename(&savepoint, &aside).unwrap();
    let drey = start(&cluster, &list[..]);
    goes_on(&cluster, "bills", &bills);
    let says = problem(&cluster, "orders", "does not exist");
    assert!(says.contains("drey pointer set --job \"orders\""), "{says}");
    assert_eq!(names(&cluster), ["bills"]);
    // A person brings it back and says so: that needs no new JobManager.
    fs::rename(&aside, &savepoint).unwrap();
    cluster.drey_ok(&["pointer", "set", &savepoint, "--job", "orders"]);
    settle(&cluster, "orders", 0);
    end(drey);
    for name in ["orders", "bills"] {
        cluster.check_in(&cluster.path(name), &["--min", "300"]);
    }
}

/// Serves one file over HTTP; its URL.
fn serve(file: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let bytes = fs::read(&file).unwrap();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len()
            );
            // Whoever has seen enough hangs up.
            let _ = stream.write_all(&[head.as_bytes(), &bytes].concat());
        }
    });
    format!("http://{address}/jars/orders.jar")
}

#[test]
fn a_finished_job_is_submitted_again_only_for_another_owner() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let list = [
        listed(&cluster, "batch", &jar(&cluster), &["--count", "1000"]),
        listed(&cluster, "orders", &jar(&cluster), &[]),
    ];
    let start = |owner: &str| {
        fs::write(cluster.path("jobs.yaml"), list.concat()).unwrap();
        let file = cluster.path("jobs.yaml");
        let flags = ["--session-jobs", file.to_str().unwrap(), "--owner", owner];
        let words = cluster.java("jm.args", SESSION);
        cluster.start().flags(&flags).command(words).go()
    };
    let drey = start("monday");
    cluster.wait_for_status("the end of the batch", |status| {
        let batch = status.jobs.get("batch").and_then(|job| job.status);
        batch == Some(JobStatus::Finished)
    });
    settle(&cluster, "orders", 0);
    end(drey);
    let ended = entry(&cluster, "batch").ended.unwrap();
    assert_eq!(ended.status, JobStatus::Finished);
    cluster.check_in(&cluster.path("batch"), &["--count", "1000"]);
    let before = entry(&cluster, "orders");

    let mut drey = start("monday");
    drey.wait_for_log("Not submitted: the job is over");
    goes_on(&cluster, "orders", &before);
    assert_eq!(names(&cluster), ["orders"]);
    end(drey);
    assert_eq!(entry(&cluster, "batch").ended, Some(ended));

    let mut drey = start("tuesday");
    drey.wait_for_logs(&[
        "Job is submitted job=\"batch\"",
        "empty state",
        "Job was submitted",
    ]);
    cluster.wait_for_status("the end of the next batch", |status| {
        let batch = status.jobs.get("batch").and_then(|job| job.status);
        batch == Some(JobStatus::Finished)
    });
    end(drey);
    assert_eq!(entry(&cluster, "batch").ended.unwrap().owner, "tuesday");
}

#[test]
fn a_job_with_another_name_than_its_entry_is_told_of_and_keeps_its_entry() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let entry_of = listed(&cluster, "orders", &jar(&cluster), &[]);
    let list = [entry_of.replace("\"--name\", \"orders\"", "\"--name\", \"purchases\"")];
    let drey = start(&cluster, &list);
    let says = problem(&cluster, "orders", "calls itself");
    assert!(says.contains("\"purchases\""), "{says}");
    settle(&cluster, "orders", 0);
    end(drey);
    stopped(&cluster, "orders");
    let before = entry(&cluster, "orders");
    let drey = start(&cluster, &list);
    goes_on(&cluster, "orders", &before);
    assert_eq!(names(&cluster), ["purchases"]);
    end(drey);
    assert_eq!(
        entry(&cluster, "orders").newest().unwrap().kind,
        PointKind::Stop
    );
    cluster.check_in(&cluster.path("orders"), &["--min", "300"]);
}

/// What a repeated submission relies on.
fn refused_twice(version: Version) {
    let cluster = Cluster::new(version);
    let _task_manager = cluster.task_manager();
    let drey = start(&cluster, &[]);
    let jar = upload(&cluster);
    let out = cluster.path("out").display().to_string();
    let id = "0123456789abcdef0123456789abcdef";
    let body = json!({"programArgsList": ["--out", out], "parallelism": 1, "jobId": id});
    let run = || {
        let path = format!("/jars/{jar}/run");
        cluster
            .rest()
            .request("POST", &path, &body.to_string())
            .unwrap()
    };
    let (status, answer) = run();
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["jobid"], id);
    cluster.rest().wait_running();
    let refused = |when: &str| {
        let (status, answer) = run();
        assert!(status >= 400, "{when}: {answer}");
        let overview = cluster.rest().get("/jobs/overview");
        assert_eq!(overview["jobs"].as_array().unwrap().len(), 1, "{when}");
    };
    refused("while it runs");
    cluster.rest().patch(&format!("/jobs/{id}?mode=cancel"));
    eventually("its end", || {
        (cluster.rest().job_state()? == "CANCELED").then_some(())
    });
    refused("when it has ended");
    end(drey);
}

#[test]
fn flink_refuses_a_second_job_with_the_same_id_1_20() {
    refused_twice(Version::v1());
}

#[test]
fn flink_refuses_a_second_job_with_the_same_id_2_x() {
    refused_twice(Version::v2());
}

#[test]
fn a_list_with_errors_starts_nothing() {
    let cluster = Cluster::new(Version::v2());
    let orders = listed(&cluster, "orders", &jar(&cluster), &[]);
    let list = [orders.clone(), orders, "  paralellism: 1\n".to_owned()];
    let mut drey = start(&cluster, &list);
    assert_eq!(drey.exit_code(), 64);
    let log = drey.log();
    assert!(
        log.contains("jobs.yaml:5: job \"orders\" is listed a second time"),
        "{log}"
    );
    assert!(
        log.contains("jobs.yaml:9: `paralellism`: is not known; did you mean `parallelism`?"),
        "{log}"
    );
}

#[test]
fn a_listed_job_that_has_failed_is_submitted_again_from_its_newest_checkpoint_when_that_is_wanted()
{
    // Once in each TaskManager.
    let cluster = Cluster::new(Version::v2())
        .set("restart-strategy.type", "none")
        .drey_env("DREY_RESTART_FAILED", "true");
    let _task_manager = cluster.task_manager();
    let jar = jar(&cluster);
    let list = [listed(&cluster, "orders", &jar, &["--fail-after", "1500"])];
    let mut drey = start(&cluster, &list);
    drey.wait_for_logs(&["has FAILED: it is submitted again", "Job was submitted"]);
    let now = eventually("the second run", || {
        let now = entry(&cluster, "orders");
        let resumed = now.run.as_ref().is_some_and(|run| run.parent.is_some());
        resumed.then_some(now)
    });
    let parent = now.run.unwrap().parent.unwrap();
    assert!(parent.path.contains("/chk-"), "{parent:?}");
    assert_eq!(now.ended, None);
    settle(&cluster, "orders", parent.checkpoint_id.unwrap());
    end(drey);
    stopped(&cluster, "orders");
    cluster.check_in(&cluster.path("orders"), &["--min", "1500"]);
}
