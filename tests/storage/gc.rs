//! `drey gc` where no Flink runs: the objects of old savepoints go one by one, and nobody else's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use drey::domain::pointer::{
    APPLICATION, JobEntry, Parent, PointKind, Pointer, RestorePoint, Run, RunId, TriggerReason,
};
use drey::pointer_file::{peek, to_json};
use drey::storage::{Location, Storage};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Writer, at, azurite_settings, gcs_settings, s3_settings};
use crate::servers::{AZURITE_ACCOUNT, AZURITE_KEY, Server};

/// Savepoints that the pointer knows, and how many of them are kept.
const MADE: u32 = 5;
const KEPT: u32 = 2;

const SIGKILL: i32 = 9;

fn run_id(number: u8) -> RunId {
    RunId::from_bytes([0, 0, 0, 0, 0, number])
}

/// Two clusters whose savepoints are in one directory of a bucket, and what reaches it.
struct Bucket<'a> {
    base: Location,
    storage: Storage,
    writer: Writer<'a>,
    env: Vec<(&'static str, String)>,
    /// Where the pointer is.
    dir: TempDir,
    /// State objects in the oldest savepoint.
    objects: usize,
}

impl Bucket<'_> {
    fn directory(&self, cluster: &str, run: u8, number: u32) -> Location {
        let run = run_id(run);
        let name = format!("{cluster}/{run}/{number:032x}/savepoint-aaaaaa-{number:012x}");
        self.base.join(&name)
    }

    /// The objects of savepoint `number` of run 1.
    fn objects(&self, cluster: &str, number: u32) -> Vec<Location> {
        let directory = self.directory(cluster, 1, number);
        let objects = if (cluster, number) == ("orders", 1) {
            self.objects
        } else {
            3
        };
        let state = (0..objects).map(|object| directory.join(&format!("state-{object}")));
        [directory.join("_metadata")]
            .into_iter()
            .chain(state)
            .collect()
    }

    /// What must outlive every deletion: the other cluster's savepoints, whose ids are the same, the newest ones, and what
    /// only begins with the same letters.
    fn others(&self) -> Vec<Location> {
        let other = (1..=MADE).flat_map(|number| self.objects("orders-2", number));
        let newest = (MADE - KEPT + 1..=MADE).flat_map(|number| self.objects("orders", number));
        let beside = self.directory("orders", 1, 1).parent().unwrap();
        let longer = beside.join("savepoint-aaaaaa-0000000000011/state-0");
        other.chain(newest).chain([longer]).collect()
    }

    fn old(&self) -> Vec<Location> {
        let old = 1..=MADE - KEPT;
        old.flat_map(|number| self.objects("orders", number))
            .collect()
    }

    async fn fill(&self) {
        let all = self.others().into_iter().chain(self.old());
        self.writer.write(all).await;
        let pointer = self.pointer();
        fs::write(self.pointer_file(), to_json(&pointer)).unwrap();
    }

    fn pointer_file(&self) -> PathBuf {
        self.dir.path().join("pointer.json")
    }

    /// Run 2 started from the newest savepoint of run 1 and has completed a checkpoint since.
    fn pointer(&self) -> Pointer {
        let mut pointer = Pointer::new("orders");
        let newest = self.directory("orders", 1, MADE).to_string();
        let own = self.base.join("orders").join(run_id(2).as_str());
        let entry = pointer.entry(APPLICATION);
        *entry = JobEntry {
            run: Some(Run {
                id: run_id(2),
                job_id: None,
                parent: Some(Parent {
                    path: newest,
                    checkpoint_id: None,
                }),
                checkpoint_dir: None,
                savepoint_dir: Some(own.to_string()),
                stored: Timestamp::now(),
                owner: String::new(),
                flink_version: "2.3.0".to_owned(),
            }),
            history: (1..=MADE).rev().map(|number| self.point(number)).collect(),
            ..JobEntry::default()
        };
        entry.prove(Timestamp::now());
        pointer.seal();
        pointer
    }

    fn point(&self, number: u32) -> RestorePoint {
        let age = std::time::Duration::from_secs(60 * u64::from(MADE - number));
        RestorePoint {
            path: self.directory("orders", 1, number).to_string(),
            kind: PointKind::Savepoint,
            checkpoint_id: Some(i64::from(number)),
            job_id: None,
            lineage: 0,
            run: Some(run_id(1)),
            reason: TriggerReason::Manual,
            started: None,
            completed: Timestamp::now() - age,
            size: None,
            flink_version: None,
            superseded: false,
            claimed: false,
        }
    }

    /// `drey gc`, with nothing in its environment but what reaches the bucket.
    fn gc(&self, kill_at: &str, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drey"));
        command
            .env_clear()
            .current_dir(self.dir.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("DREY_CLUSTER_ID", "orders")
            .env("DREY_POINTER", self.pointer_file())
            .env("DREY_HISTORY", KEPT.to_string())
            .env("DREY_STORAGE_ALLOW_HTTP", "true")
            .env("DREY_KILL_AT", kill_at)
            .args(["gc", "--output", "json"])
            .args(args);
        command.output().unwrap()
    }

    async fn missing(&self, of: &[Location]) -> BTreeSet<String> {
        let missing = self.storage.missing(of).await.unwrap();
        missing.iter().map(ToString::to_string).collect()
    }

    fn disposals(&self) -> usize {
        let pointer = peek(&self.pointer_file()).unwrap().unwrap();
        pointer.jobs[APPLICATION].disposals.len()
    }
}

fn names(locations: &[Location]) -> BTreeSet<String> {
    locations.iter().map(ToString::to_string).collect()
}

fn report(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

async fn a_dry_run_only_tells(bucket: &Bucket<'_>) {
    let before = fs::read(bucket.pointer_file()).unwrap();
    let dry = bucket.gc("", &["--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{dry:?}");
    let dry = report(&dry);
    assert_eq!(
        (&dry["orphans"], &dry["failures"]),
        (&json!([]), &json!([]))
    );
    let points = dry["points"].as_array().unwrap();
    let doomed = points
        .iter()
        .filter(|point| point["fate"] == json!({"delete": "count"}));
    let doomed: BTreeSet<_> = doomed
        .map(|point| point["path"].as_str().unwrap().to_owned())
        .collect();
    let old = (1..=MADE - KEPT).map(|number| bucket.directory("orders", 1, number));
    assert_eq!(doomed, names(&old.collect::<Vec<_>>()));
    let all = [bucket.old(), bucket.others()].concat();
    assert_eq!(bucket.missing(&all).await, BTreeSet::new());
    assert_eq!(fs::read(bucket.pointer_file()).unwrap(), before);
}

async fn a_killed_deletion_is_finished_by_the_next(bucket: &Bucket<'_>) {
    let killed = bucket.gc("amid-disposal", &[]);
    assert_eq!(killed.status.signal(), Some(SIGKILL), "{killed:?}");
    assert_eq!(bucket.disposals(), (MADE - KEPT) as usize);
    let half = bucket.missing(&bucket.old()).await;
    assert_eq!(half.len(), 1, "{half:?}");
    assert!(half.iter().all(|name| name.ends_with("/_metadata")));

    let done = bucket.gc("", &[]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(report(&done)["failures"], json!([]));
    assert_eq!(bucket.missing(&bucket.old()).await, names(&bucket.old()));
    assert_eq!(bucket.missing(&bucket.others()).await, BTreeSet::new());
    assert_eq!(bucket.disposals(), 0);
}

async fn only_its_own_go(bucket: &Bucket<'_>) {
    bucket.fill().await;
    a_dry_run_only_tells(bucket).await;
    a_killed_deletion_is_finished_by_the_next(bucket).await;
}

/// With more objects in a savepoint than one request deletes.
#[tokio::test]
async fn s3_loses_only_the_clusters_own_old_savepoints() {
    let server = Server::s3("flink");
    let storage = Storage::new(s3_settings(&server.url(), "secret"));
    only_its_own_go(&Bucket {
        base: at("s3://flink/shared dir/ü"),
        writer: Writer::Storage(&Storage::new(s3_settings(&server.url(), "secret"))),
        storage,
        env: s3_env(&server, "secret"),
        dir: TempDir::new().unwrap(),
        objects: 1050,
    })
    .await;
}

#[tokio::test]
async fn gcs_loses_only_the_clusters_own_old_savepoints() {
    let server = Server::gcs("flink");
    only_its_own_go(&Bucket {
        base: at("gs://flink/shared"),
        storage: Storage::new(gcs_settings(&server)),
        writer: Writer::GcsJson(&server),
        env: vec![
            ("STORAGE_EMULATOR_HOST", server.url()),
            ("GOOGLE_SKIP_SIGNATURE", "true".to_owned()),
        ],
        dir: TempDir::new().unwrap(),
        objects: 5,
    })
    .await;
}

#[tokio::test]
async fn azure_loses_only_the_clusters_own_old_savepoints() {
    let server = Server::azurite("flink");
    only_its_own_go(&Bucket {
        base: at("abfss://flink@devstoreaccount1.dfs.core.windows.net/shared"),
        storage: Storage::new(azurite_settings(&server, AZURITE_KEY)),
        writer: Writer::Storage(&Storage::new(azurite_settings(&server, AZURITE_KEY))),
        env: vec![
            (
                "AZURE_STORAGE_ENDPOINT",
                format!("{}/{AZURITE_ACCOUNT}", server.url()),
            ),
            ("AZURE_STORAGE_ACCOUNT", AZURITE_ACCOUNT.to_owned()),
            ("AZURE_STORAGE_KEY", AZURITE_KEY.to_owned()),
        ],
        dir: TempDir::new().unwrap(),
        objects: 5,
    })
    .await;
}

fn s3_env(server: &Server, secret: &str) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT_URL", server.url()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("DREY_S3_PATH_STYLE", "true".to_owned()),
    ]
}

/// Reading is allowed, deleting is not: nothing is gone, and what is to be deleted is not forgotten.
#[tokio::test]
async fn without_the_right_to_delete_it_says_so_and_nothing_is_lost() {
    let server = Server::s3("flink");
    let storage = Storage::new(s3_settings(&server.url(), "secret"));
    let mut bucket = Bucket {
        base: at("s3://flink/shared"),
        writer: Writer::Storage(&Storage::new(s3_settings(&server.url(), "secret"))),
        storage,
        env: Vec::new(),
        dir: TempDir::new().unwrap(),
        objects: 2,
    };
    bucket.fill().await;
    let reads = server.beside(&["--readonly"]);
    for (env, part) in [
        (s3_env(&reads, "secret"), "to list and delete"),
        (s3_env(&server, "hunter2"), "check the credentials"),
    ] {
        bucket.env = env;
        let refused = bucket.gc("", &[]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let failures = report(&refused)["failures"].clone();
        let failures = failures.as_array().unwrap();
        assert!(!failures.is_empty());
        for failure in failures {
            let failure = failure.as_str().unwrap();
            println!("{failure}");
            assert!(failure.contains("access denied"), "{failure}");
            assert!(failure.contains(part), "{failure}");
            assert!(!failure.contains("hunter2"), "{failure}");
        }
        assert_eq!(bucket.disposals(), (MADE - KEPT) as usize);
    }
    let all = [bucket.old(), bucket.others()].concat();
    assert_eq!(bucket.missing(&all).await, BTreeSet::new());
    bucket.env = s3_env(&server, "secret");
    let done = bucket.gc("", &[]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(bucket.missing(&all).await, names(&bucket.old()));
}
