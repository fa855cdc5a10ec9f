//! A session cluster: each of its jobs has its own entry in the pointer.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use drey::domain::pointer::{JobEntry, PointKind};
use serde_json::{Value, json};

use crate::support::{Cluster, Process, Version, plain_path};

pub const SESSION: &str = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint";

fn start(cluster: &Cluster) -> Process {
    let words = cluster.java("jm.args", SESSION);
    cluster.start().command(words).go()
}

/// Uploads the example job; the name under which Flink runs it.
pub fn upload(cluster: &Cluster) -> String {
    let jar = cluster.installation.lib.with_file_name("usrlib");
    let jar = fs::read(jar.join("example-job.jar")).unwrap();
    let mut body = b"--x\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"example-job.jar\"\r\n\
        Content-Type: application/x-java-archive\r\n\r\n"
        .to_vec();
    body.extend(jar);
    body.extend(b"\r\n--x--\r\n");
    cluster.rest().get("/jars");
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.rest_port())).unwrap();
    write!(
        stream,
        "POST /jars/upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(&body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let file = body["filename"].as_str().unwrap();
    file.rsplit('/').next().unwrap().to_owned()
}

/// Submits the example job under `name`, from `savepoint` or from empty state.
pub fn submit(cluster: &Cluster, jar: &str, name: &str, savepoint: Option<&str>) {
    let out = cluster.path(name).display().to_string();
    let args = ["--name", name, "--out", &out, "--parallelism", "1"];
    let mut request = json!({
        "entryClass": "io.drey.example.ExampleJob",
        "programArgsList": args,
    });
    if let Some(savepoint) = savepoint {
        request["savepointPath"] = json!(savepoint);
    }
    cluster.rest().post(&format!("/jars/{jar}/run"), &request);
}

/// Waits until the job under `key` has completed two checkpoints more than `after`.
pub fn settle(cluster: &Cluster, key: &str, after: i64) {
    cluster.wait_for_status(&format!("checkpoints of {key}"), |status| {
        let job = status.jobs.get(key);
        let completed = job.and_then(|job| job.completed_checkpoint);
        completed >= Some(after + 2)
    });
}

pub fn entry(cluster: &Cluster, key: &str) -> JobEntry {
    let jobs = cluster.pointer().jobs;
    let known: Vec<&String> = jobs.keys().collect();
    jobs.get(key)
        .unwrap_or_else(|| panic!("no entry {key:?}, only {known:?}"))
        .clone()
}

/// The path of the stop-with-savepoint under `key`, which is there.
pub fn stopped(cluster: &Cluster, key: &str) -> String {
    let entry = entry(cluster, key);
    let newest = entry.newest().unwrap();
    assert_eq!(newest.kind, PointKind::Stop);
    let path = plain_path(&newest.path).to_owned();
    assert!(fs::exists(format!("{path}/_metadata")).unwrap());
    path
}

fn cycle(version: Version) {
    let cluster = Cluster::new(version);
    let _task_manager = cluster.task_manager();
    let mut drey = start(&cluster);
    let jar = upload(&cluster);
    submit(&cluster, &jar, "orders", None);
    submit(&cluster, &jar, "bills", None);
    settle(&cluster, "orders", 0);
    settle(&cluster, "bills", 0);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    let orders = stopped(&cluster, "orders");
    let bills = entry(&cluster, "bills");
    assert_ne!(stopped(&cluster, "bills"), orders);
    let before = entry(&cluster, "orders");

    let mut drey = start(&cluster);
    let jar = upload(&cluster);
    submit(&cluster, &jar, "orders", Some(&orders));
    let id = before.newest().unwrap().checkpoint_id.unwrap();
    settle(&cluster, "orders", id);
    let again = entry(&cluster, "orders");
    assert_eq!(again.lineage, before.lineage, "it continues its lineage");
    let parent = again.run.unwrap().parent.unwrap();
    assert_eq!(plain_path(&parent.path), orders);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    assert_ne!(stopped(&cluster, "orders"), orders);
    assert_eq!(entry(&cluster, "bills"), bills, "nothing happened to it");
    for name in ["orders", "bills"] {
        cluster.check_in(&cluster.path(name), &["--min", "500"]);
    }
}

#[test]
fn every_job_of_a_session_cluster_is_stopped_and_continues_its_own_lineage_1_20() {
    cycle(Version::v1());
}

#[test]
fn every_job_of_a_session_cluster_is_stopped_and_continues_its_own_lineage_2_x() {
    cycle(Version::v2());
}
