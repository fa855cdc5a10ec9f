//! Storage against real servers: versitygw for S3, fake-gcs-server for Google, Azurite for Azure.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "storage/gc.rs"]
mod gc;
#[path = "support/mounts.rs"]
mod mounts;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/servers.rs"]
mod servers;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use drey::storage::{Location, Storage, StorageError, StorageErrorKind, StorageSettings};
use futures_util::{StreamExt, TryStreamExt, stream};
use servers::{AZURITE_ACCOUNT, AZURITE_KEY, Server};

const JOB: &str = "0123456789abcdef0123456789abcdef";

fn at(text: &str) -> Location {
    Location::parse(text).unwrap()
}

fn flink(pairs: &[(&str, &str)]) -> StorageSettings {
    let pairs: BTreeMap<_, _> = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    StorageSettings::from_flink(&pairs)
}

fn env(pairs: &[(&str, &str)]) -> StorageSettings {
    StorageSettings::from_env(
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    )
}

/// What a Flink user has in the configuration file.
fn s3_settings(endpoint: &str, secret: &str) -> StorageSettings {
    flink(&[
        ("s3.endpoint", endpoint),
        ("s3.access-key", "test"),
        ("s3.secret-key", secret),
        ("s3.path.style.access", "true"),
    ])
}

fn azurite_settings(server: &Server, key: &str) -> StorageSettings {
    let low = flink(&[(
        "fs.azure.account.key.devstoreaccount1.blob.core.windows.net",
        key,
    )]);
    env(&[(
        "AZURE_STORAGE_ENDPOINT",
        &format!("{}/{AZURITE_ACCOUNT}", server.url()),
    )])
    .over(low)
}

fn gcs_settings(server: &Server) -> StorageSettings {
    env(&[
        ("STORAGE_EMULATOR_HOST", &server.url()),
        ("GOOGLE_SKIP_SIGNATURE", "true"),
    ])
}

/// The error with all its causes, as it would be logged.
fn chain(error: &StorageError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// How objects get into the bucket.
enum Writer<'a> {
    Storage(&'a Storage),
    /// fake-gcs-server's JSON interface: of the XML one, which object_store speaks, it refuses uploads ("invalid
    /// uploadType"), but serves reads, listings and deletes.
    GcsJson(&'a Server),
}

impl Writer<'_> {
    async fn write(&self, names: impl IntoIterator<Item = Location>) {
        match self {
            Self::GcsJson(server) => names
                .into_iter()
                .for_each(|name| server.gcs_upload(name.as_str(), "meta")),
            Self::Storage(storage) => {
                let written = stream::iter(names)
                    .map(|name| async move {
                        storage
                            .write_small(&name, Bytes::from_static(b"meta"))
                            .await
                    })
                    .buffer_unordered(16);
                written.try_collect::<Vec<_>>().await.unwrap();
            }
        }
    }
}

/// What must hold in each object store.
async fn reads_and_lists(storage: &Storage, writer: &Writer<'_>, base: &Location) {
    let savepoint = base.join("sp dir/ü#1 100%25/savepoint-aaaaaa-0123456789ab");
    writer
        .write([savepoint.join("_metadata"), savepoint.join("state-1")])
        .await;
    assert_eq!(storage.read_metadata(&savepoint).await.unwrap(), "meta");
    assert_eq!(
        storage
            .read_metadata(&savepoint.join("_metadata"))
            .await
            .unwrap(),
        "meta"
    );
    assert_eq!(
        storage
            .read_metadata(&savepoint.join("state-1"))
            .await
            .unwrap(),
        "meta"
    );

    let parent = savepoint.parent().unwrap();
    writer
        .write([parent.join("savepoint-bbbbbb-aborted/state-2")])
        .await;
    let found = storage.list_savepoints(&parent).await.unwrap();
    assert_eq!(
        found
            .iter()
            .map(|found| &found.location)
            .collect::<Vec<_>>(),
        [&savepoint]
    );
    assert_eq!(found[0].metadata_size, 4);

    let missing = storage
        .read_metadata(&base.join("nothing"))
        .await
        .unwrap_err();
    assert_eq!(
        missing.kind(),
        StorageErrorKind::NotFound,
        "{}",
        chain(&missing)
    );
    assert!(storage.exists(&savepoint.join("state-1")).await.unwrap());
    let absent = savepoint.join("state-9");
    let asked = [savepoint.join("state-1"), absent.clone()];
    assert_eq!(storage.missing(&asked).await.unwrap(), [absent]);
    assert!(
        storage
            .list_checkpoints(&base.join("nothing"), 5)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn writes(storage: &Storage, base: &Location) {
    let file = base.join("pointer copy.yaml");
    for text in ["one", "two, longer"] {
        storage
            .write_small(&file, Bytes::from_static(text.as_bytes()))
            .await
            .unwrap();
        assert_eq!(storage.read_metadata(&file).await.unwrap(), text);
    }
    storage.probe_writable(base).await.unwrap();
    assert!(!storage.exists(&base.join(".drey-probe")).await.unwrap());
}

/// `count` of them, beside state that must not be listed.
async fn lists_checkpoints(storage: &Storage, writer: &Writer<'_>, dir: &Location, count: u64) {
    let job = dir.join(JOB);
    let complete = (1..=count).map(|id| job.join(&format!("chk-{id}/_metadata")));
    let state = (0..50).map(|i| job.join(&format!("shared/state-{i}")));
    writer
        .write(
            complete
                .chain(state)
                .chain([job.join(&format!("chk-{}/state", count + 1))]),
        )
        .await;
    let start = Instant::now();
    let found = storage.list_checkpoints(dir, 20).await.unwrap();
    println!(
        "20 newest of {count} checkpoints in {dir} listed in {:?}",
        start.elapsed()
    );
    let ids: Vec<_> = found
        .iter()
        .filter_map(|found| found.checkpoint_id)
        .collect();
    assert_eq!(ids, (count - 19..=count).rev().collect::<Vec<_>>());
    assert_eq!(found[0].location, job.join(&format!("chk-{count}")));
    assert_eq!(found[0].job_id.as_deref(), Some(JOB));
    let all = storage.list_checkpoints(&job, usize::MAX).await.unwrap();
    assert_eq!(all.len() as u64, count);
}

#[tokio::test]
async fn s3_works_with_flinks_own_settings() {
    let server = Server::s3("flink");
    let storage = Storage::new(s3_settings(&server.url(), "secret"));
    let (writer, base) = (Writer::Storage(&storage), at("s3://flink/some/prefix"));
    reads_and_lists(&storage, &writer, &base).await;
    writes(&storage, &base).await;
    let other_name = at("s3a://flink/some/prefix/pointer copy.yaml");
    assert_eq!(
        storage.read_metadata(&other_name).await.unwrap(),
        "two, longer"
    );
    writes(&storage, &at("s3p://flink")).await;
}

/// S3 answers with at most 1,000 keys at a time.
#[tokio::test]
async fn s3_lists_more_checkpoints_than_fit_into_one_answer() {
    let server = Server::s3("flink");
    let storage = Storage::new(s3_settings(&server.url(), "secret"));
    lists_checkpoints(
        &storage,
        &Writer::Storage(&storage),
        &at("s3://flink/checkpoints"),
        1500,
    )
    .await;
}

#[tokio::test]
async fn gcs_reads_and_lists() {
    let server = Server::gcs("flink");
    let storage = Storage::new(gcs_settings(&server));
    let writer = Writer::GcsJson(&server);
    reads_and_lists(&storage, &writer, &at("gs://flink/some/prefix")).await;
    lists_checkpoints(&storage, &writer, &at("gs://flink/checkpoints"), 1500).await;
}

#[tokio::test]
async fn azure_works_under_both_of_its_names() {
    let server = Server::azurite("flink");
    let storage = Storage::new(azurite_settings(&server, AZURITE_KEY));
    let (writer, base) = (
        Writer::Storage(&storage),
        at("abfss://flink@devstoreaccount1.dfs.core.windows.net/some"),
    );
    reads_and_lists(&storage, &writer, &base).await;
    writes(&storage, &base).await;
    lists_checkpoints(&storage, &writer, &base.join("checkpoints"), 120).await;
    let blob = at("wasbs://flink@devstoreaccount1.blob.core.windows.net/some/pointer copy.yaml");
    assert_eq!(storage.read_metadata(&blob).await.unwrap(), "two, longer");
}

#[tokio::test]
async fn wrong_credentials_are_denied_and_not_repeated() {
    let s3 = Server::s3("flink");
    let azurite = Server::azurite("flink");
    let wrong_key = "aHVudGVyMg==";
    let azure = "abfs://flink@devstoreaccount1.dfs.core.windows.net/x";
    for (settings, location) in [
        (s3_settings(&s3.url(), "hunter2"), "s3://flink/x"),
        (azurite_settings(&azurite, wrong_key), azure),
    ] {
        let storage = Storage::new(settings);
        let errors = [
            storage.read_metadata(&at(location)).await.unwrap_err(),
            storage.exists(&at(location)).await.unwrap_err(),
            storage
                .list_checkpoints(&at(location), 1)
                .await
                .unwrap_err(),
            storage.probe_writable(&at(location)).await.unwrap_err(),
        ];
        for error in errors {
            let text = format!("{} {error:?} {storage:?}", chain(&error));
            println!("{}", chain(&error));
            assert_eq!(error.kind(), StorageErrorKind::Denied, "{text}");
            assert!(
                !text.contains("hunter2") && !text.contains(wrong_key),
                "{text}"
            );
            assert!(
                chain(&error).len() < 600 && text.contains("check the credentials"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn a_missing_bucket_is_not_found() {
    let server = Server::s3("flink");
    let storage = Storage::new(s3_settings(&server.url(), "secret"));
    for error in [
        storage
            .read_metadata(&at("s3://other/x"))
            .await
            .unwrap_err(),
        storage
            .list_checkpoints(&at("s3://other/x"), 1)
            .await
            .unwrap_err(),
        storage
            .probe_writable(&at("s3://other/x"))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            error.kind(),
            StorageErrorKind::NotFound,
            "{}",
            chain(&error)
        );
        assert!(chain(&error).contains("NoSuchBucket"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_unreachable_soon() {
    let mut server = Server::s3("flink");
    let storage = Storage::new(s3_settings(&server.url(), "secret"));
    storage.probe_writable(&at("s3://flink/x")).await.unwrap();
    server.stop();
    let start = Instant::now();
    let error = storage
        .read_metadata(&at("s3://flink/x"))
        .await
        .unwrap_err();
    println!("{} after {:?}", chain(&error), start.elapsed());
    assert!(error.is_retryable(), "{}", chain(&error));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_credential_service_without_a_role_is_not_a_missing_savepoint() {
    let server = Server::s3("flink");
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for port in [odd_server(Some(answer)), ports::free_port()] {
        let metadata = format!("http://127.0.0.1:{port}");
        let settings = env(&[
            ("AWS_ENDPOINT_URL", &server.url()),
            ("AWS_METADATA_ENDPOINT", &metadata),
        ]);
        let storage = Storage::new(settings);
        for error in [
            storage
                .read_metadata(&at("s3://flink/x"))
                .await
                .unwrap_err(),
            storage.exists(&at("s3://flink/x")).await.unwrap_err(),
        ] {
            assert!(error.is_retryable(), "{}", chain(&error));
            assert!(
                chain(&error).contains("no credentials are configured"),
                "{}",
                chain(&error)
            );
        }
    }
}

#[tokio::test]
async fn a_read_only_or_full_file_system_says_so_and_keeps_nothing() {
    for (mounted, part) in [
        (mounts::Mounted::read_only(), "is read-only"),
        (mounts::Mounted::full(), "no space left"),
    ] {
        let storage = Storage::new(StorageSettings::default());
        let dir = at(mounted.path().join("savepoints").to_str().unwrap());
        for error in [
            storage.probe_writable(&dir).await.unwrap_err(),
            storage
                .write_small(&dir.join("pointer.yaml"), Bytes::from(vec![1; 9000]))
                .await
                .unwrap_err(),
        ] {
            assert_eq!(
                error.kind(),
                StorageErrorKind::NotWritable,
                "{}",
                chain(&error)
            );
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(
            std::fs::read_dir(dir.local_path().unwrap())
                .unwrap()
                .count(),
            0
        );
        assert!(storage.list_savepoints(&dir).await.unwrap().is_empty());
    }
}

/// Answers every connection with `answer`, or not at all.
fn odd_server(answer: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            match answer {
                Some(answer) => {
                    drop(stream.read(&mut [0; 4096]));
                    drop(stream.write_all(answer.as_bytes()));
                }
                None => kept.push(stream),
            }
        }
    });
    port
}

#[tokio::test]
async fn an_overloaded_or_silent_server_may_be_tried_again() {
    let overloaded = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for answer in [Some(overloaded), Some(""), None] {
        let mut settings = s3_settings(
            &format!("http://127.0.0.1:{}", odd_server(answer)),
            "secret",
        );
        settings.timeout = Some(Duration::from_secs(1));
        let start = Instant::now();
        let error = Storage::new(settings)
            .read_metadata(&at("s3://flink/x"))
            .await
            .unwrap_err();
        println!("{} after {:?}", chain(&error), start.elapsed());
        assert!(error.is_retryable(), "{answer:?}: {}", chain(&error));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_an_error() {
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ] {
        let settings = s3_settings(
            &format!("http://127.0.0.1:{}", odd_server(Some(answer))),
            "secret",
        );
        let error = Storage::new(settings)
            .read_metadata(&at("s3://flink/x"))
            .await
            .unwrap_err();
        println!("{}", chain(&error));
        assert_ne!(
            error.kind(),
            StorageErrorKind::NotFound,
            "{}",
            chain(&error)
        );
    }
}

#[tokio::test]
async fn tls_needs_a_trusted_authority() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])
        .unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let options = [
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    let server = Server::s3_with("flink", &options);

    let mut settings = s3_settings(&server.url().replace("http:", "https:"), "secret");
    let error = Storage::new(settings.clone())
        .probe_writable(&at("s3://flink/x"))
        .await
        .unwrap_err();
    assert!(chain(&error).contains("ca-file"), "{}", chain(&error));
    settings.ca_file = Some(cert);
    Storage::new(settings)
        .probe_writable(&at("s3://flink/x"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wrong_authority_file_is_an_error_that_names_it() {
    let mut settings = s3_settings("https://127.0.0.1:1", "secret");
    settings.ca_file = Some("/nowhere/ca.pem".into());
    let error = Storage::new(settings)
        .exists(&at("s3://flink/x"))
        .await
        .unwrap_err();
    assert!(
        chain(&error).contains("/nowhere/ca.pem"),
        "{}",
        chain(&error)
    );
}
