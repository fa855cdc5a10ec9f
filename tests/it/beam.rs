//! An Apache Beam pipeline on the Flink runner, upgraded as any other job is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drey::domain::pointer::PointKind;

use crate::support::{
    Cluster, JOB_MANAGER, Process, ROOT, Version, pinned, plain_path, wait_until,
};

/// Keys of the pipeline.
const KEYS: u64 = 8;

/// A number, its key's count before it, and the release that wrote it.
type Line = (u64, u64, String);

/// A `FLINK_LIB_DIR` with the pipeline in the `usrlib` beside it.
fn lib() -> PathBuf {
    let mut command = Command::new(Path::new(ROOT).join("tests/setup.sh"));
    let output = command.arg("beam").stderr(Stdio::inherit()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "tests/setup.sh beam failed");
    let printed = String::from_utf8(output.stdout).unwrap();
    Path::new(printed.trim()).join("lib")
}

fn start(cluster: &Cluster, lib: &Path, release: &str) -> Process {
    let mut words = cluster.java("jm.args", JOB_MANAGER);
    let job = [
        "--job-classname",
        "io.drey.beam.BeamJob",
        "--flinkMaster=[auto]",
    ];
    words.extend(job.map(str::to_owned));
    words.push(format!("--out={}", cluster.path("out").display()));
    words.push(format!("--release={release}"));
    let lib = lib.display().to_string();
    let start = cluster.start().env("FLINK_LIB_DIR", &lib);
    let mut drey = start.command(words).go();
    // Not every task runs on: a reader that gets no numbers of its own ends.
    drey.wait_for_log("Job is running");
    cluster.rest().wait_for_checkpoints(2);
    wait_until("numbers of this release", || {
        let lines = written(cluster);
        lines.iter().filter(|line| line.2 == release).count() >= 200
    });
    drey
}

/// Everything that was written, in the order of its numbers.
fn written(cluster: &Cluster) -> Vec<Line> {
    let files = fs::read_dir(cluster.path("out")).unwrap();
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let mut lines: Vec<Line> = texts
        .flat_map(|text| text.lines().map(line).collect::<Vec<_>>())
        .collect();
    lines.sort();
    lines
}

fn line(text: &str) -> Line {
    let words: Vec<&str> = text.split(' ').collect();
    let [number, count, release] = words[..] else {
        panic!("{text}");
    };
    let parse = |word: &str| word.parse().unwrap();
    (parse(number), parse(count), release.to_owned())
}

#[test]
fn a_beam_pipeline_is_upgraded_with_its_state() {
    let lib = lib();
    let mut cluster = Cluster::new(Version::named(&pinned("BEAM_FLINK")))
        .set("taskmanager.numberOfTaskSlots", 2)
        .set("parallelism.default", 1);
    let _task_manager = cluster.task_manager();
    let mut drey = start(&cluster, &lib, "one");
    drey.term();
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());
    cluster.wait_gone();
    let stop = cluster.newest().expect("a restore point");
    assert_eq!(stop.kind, PointKind::Stop);

    // Other arguments and another parallelism, as a new release has.
    cluster.configure("parallelism.default", 2);
    let mut drey = start(&cluster, &lib, "two");
    let restored = cluster
        .rest()
        .restored()
        .map(|path| plain_path(&path).to_owned());
    assert_eq!(restored.as_deref(), Some(plain_path(&stop.path)));
    drey.term();
    assert_eq!(drey.exit_code(), 0, "{}", drey.log());

    let lines = written(&cluster);
    let numbers: Vec<u64> = lines.iter().map(|line| line.0).collect();
    let all: Vec<u64> = (0..lines.len() as u64).collect();
    assert_eq!(numbers, all, "each number once, and none left out");
    let wrong = lines.iter().find(|line| line.1 != line.0 / KEYS);
    assert_eq!(wrong, None, "each key's count goes on");
    let first = lines.iter().position(|line| line.2 == "two");
    let first = first.expect("something of the second release");
    assert!(lines[first..].iter().all(|line| line.2 == "two"));
}
