//! A whole cycle with everything in S3: Flink writes it with its own plugin, Drey reads it with the credentials in Flink's
//! configuration.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drey::domain::pointer::PointKind;

use crate::servers::Server;
use crate::support::{Cluster, Process, ROOT, Version};

/// `flink-s3-fs-hadoop` for `version`.
fn plugin(version: &Version) -> PathBuf {
    let mut command = Command::new(Path::new(ROOT).join("tests/setup.sh"));
    command.args(["s3-plugin", version.as_str()]);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "tests/setup.sh s3-plugin failed");
    let printed = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(printed.trim())
}

/// A cluster whose checkpoints and savepoints go to `server`.
fn on(server: &Server, version: Version) -> Cluster {
    let jar = plugin(&version);
    let cluster = Cluster::new(version);
    let plugins = cluster.path("plugins");
    let own = plugins.join("s3-fs-hadoop");
    fs::create_dir_all(&own).unwrap();
    symlink(&jar, own.join(jar.file_name().unwrap())).unwrap();
    cluster
        .plugins(plugins)
        .set("state.checkpoints.dir", "s3://bucket/checkpoints")
        .set("state.savepoints.dir", "s3://bucket/savepoints")
        .set("s3.endpoint", server.url())
        .set("s3.path.style.access", true)
        .set("s3.access-key", "test")
        .set("s3.secret-key", "secret")
        // Empty objects that stand for directories: Hadoop would delete them again after each write, which versitygw, to
        // which they are real directories, refuses.
        .set("s3.directory.marker.retention", "keep")
}

fn settle(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
}

/// What Flink restored, as it writes it.
fn restored(cluster: &Cluster) -> Option<String> {
    let stats = cluster.rest().checkpoints();
    let path = stats["latest"]["restored"]["external_path"].as_str();
    path.map(str::to_owned)
}

/// Stop and resume, crash and resume, and a start while the storage is away.
fn cycle(version: Version) {
    let mut server = Server::s3("bucket");
    let cluster = on(&server, version);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    let newest = cluster.newest().unwrap();
    assert_eq!(newest.kind, PointKind::Stop);
    assert!(newest.path.starts_with("s3://bucket/savepoints/"));
    assert!(newest.size > Some(0));

    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    assert_eq!(restored(&cluster), Some(newest.path));
    drey.kill();
    cluster.kill_job_managers();

    let mut drey = cluster.run();
    settle(&cluster, &mut drey);
    let newest = cluster.newest().unwrap();
    assert_eq!(newest.kind, PointKind::Checkpoint);
    assert_eq!(restored(&cluster), Some(newest.path));
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);

    server.stop();
    let flags = ["--start-timeout", "2s", "--storage-timeout", "1s"];
    let mut drey = cluster.start().flags(&flags).go();
    assert_eq!(drey.exit_code(), 75);
    let log = drey.log();
    assert!(log.contains("try again when it answers"), "{log}");
    assert_eq!(cluster.job_managers(), [0; 0]);
}

#[test]
fn a_whole_cycle_over_s3_loses_and_repeats_nothing_1_20() {
    cycle(Version::v1());
}

#[test]
fn a_whole_cycle_over_s3_loses_and_repeats_nothing_2_x() {
    cycle(Version::v2());
}

/// As in an image with nothing but Drey in it, where not even a client for http:// could be made.
#[test]
fn where_the_system_has_no_certificates_a_store_is_reached_all_the_same() {
    let server = Server::s3("bucket");
    let empty = server.dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();

    let mut drey = Command::new(env!("CARGO_BIN_EXE_drey"));
    drey.env_clear()
        .env("SSL_CERT_FILE", &empty)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .args(["inspect", "--storage-allow-http", "--s3-path-style=true"])
        .args(["--s3-endpoint", &server.url(), "s3://bucket/savepoint"]);
    let output = drey.output().unwrap();

    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("NoSuchKey"), "{said}");
}
