//! What values may be, by themselves and together.
use super::*;

#[test]
fn times_are_read_with_their_units_and_kept_within_bounds() {
    let read = |text: &str| parse::duration(text, Duration::from_millis(1), parse::DAY).ok();
    for (text, millis) in [
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("24h", 86_400_000),
    ] {
        assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        assert_eq!(
            read(&parse::time(Duration::from_millis(millis))),
            read(text)
        );
    }
    for text in [
        "",
        "30",
        "-30s",
        "30s ago",
        "s",
        "1d",
        "25h",
        "0s",
        "1µs",
        "999999999999999999h",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
    let found = errors(&["--shutdown-timeout=9s"], &[]);
    assert_eq!(
        found,
        [
            "flag `--shutdown-timeout`: `9s` is too short; give one from 10s to 24h, such as `30s` or `1h30m`"
        ]
    );
}

#[test]
fn a_cluster_id_is_what_flink_takes() {
    for good in ["a", "default", "my-cluster-1", &"a".repeat(45)] {
        assert_eq!(settings(&["--cluster-id", good], &[]).cluster_id, good);
    }
    for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"a".repeat(46)] {
        let flag = format!("--cluster-id={bad}");
        assert_eq!(errors(&[&flag], &[]).len(), 1, "{bad}");
    }
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pem");
    fs::write(&path, "x").expect("writable");
    let file = path.to_str().expect("UTF-8");
    let one = |flags: &[&str]| errors(flags, &[]).join("\n");

    let found = one(&["--rest-client-cert", file]);
    assert!(
        found.contains("`--rest-client-cert`: needs `rest-client-key`, too"),
        "{found}"
    );
    let found = one(&["--rest-client-key", file]);
    assert!(
        found.contains("`--rest-client-key`: needs `rest-client-cert`, too"),
        "{found}"
    );
    let found = one(&["--rest-bearer-file", file, "--rest-basic-file", file]);
    assert!(
        found.contains("excludes flag `--rest-basic-file`"),
        "{found}"
    );
    let found = one(&["--rest-ca", file, "--rest-url", "http://h:8081"]);
    assert!(found.contains("`--rest-ca`: is of no use"), "{found}");
    let found = one(&["--s3-endpoint=http://127.0.0.1:9000"]);
    assert!(
        found.contains("`--s3-endpoint`: sends requests in the clear"),
        "{found}"
    );
    settings(
        &[
            "--s3-endpoint=http://127.0.0.1:9000",
            "--storage-allow-http",
        ],
        &[],
    );
    let found = one(&["--pointer=/a/x", "--socket=/a/x"]);
    assert!(
        found.contains("pointer and socket are the same file"),
        "{found}"
    );
}

#[test]
fn a_socket_path_that_the_kernel_would_refuse_is_refused() {
    let path = |length: usize| format!("--socket=/{}", "s".repeat(length - 1));
    settings(&[&path(107)], &[]);
    let found = errors(&[&path(108)], &[]);
    assert!(
        found[0].starts_with("flag `--socket`: a socket's path of 108 bytes is too long"),
        "{found:?}"
    );
    let state_dir = format!("/{}", "s".repeat(107));
    let found = errors(&[], &[("DREY_STATE_DIR", &state_dir)]);
    assert!(
        found[0].starts_with("env `DREY_STATE_DIR`: a socket's path of"),
        "{found:?}"
    );
}

#[test]
fn files_that_are_named_must_be_there() {
    let found = errors(
        &[
            "--rest-ca=/nonexistent",
            "--rest-bearer-file=/",
            "--flink-conf-dir=/etc/passwd",
            "--state-dir=/etc/passwd",
        ],
        &[],
    );
    for expected in [
        "flag `--rest-ca`: could not read /nonexistent: No such file",
        "flag `--rest-bearer-file`: / is not a file",
        "flag `--flink-conf-dir`: could not read /etc/passwd: Not a directory",
        "flag `--state-dir`: /etc/passwd is not a directory",
    ] {
        assert!(
            found.iter().any(|error| error.starts_with(expected)),
            "{expected} in {found:#?}"
        );
    }
}

#[test]
fn credentials_in_a_url_are_refused_and_not_repeated() {
    for flag in [
        "--rest-url=https://user:hunter2@h:8081",
        "--rest-url=https://hunter2@h:8081",
        "--rest-url=user:hunter2@h:8081",
        "--s3-endpoint=https://user:hunter2@h",
        "--savepoint-dir=s3://key:hunter2@bucket/dir",
    ] {
        let found = errors(&[flag], &[]).join("\n");
        assert!(!found.contains("hunter2"), "{found}");
    }
    let wasb = "wasb://container@account.blob.core.windows.net/dir";
    assert_eq!(
        settings(&["--savepoint-dir", wasb], &[])
            .savepoint_dir
            .as_deref(),
        Some(wasb)
    );
}

#[test]
fn addresses_are_http_urls() {
    for bad in ["h:8081", "ftp://h", "", "https://h/?a=b", "file:///x"] {
        assert_eq!(
            errors(&[&format!("--rest-url={bad}")], &[]).len(),
            1,
            "{bad}"
        );
    }
    for bad in ["", "relative/dir", "~"] {
        assert_eq!(
            errors(&[&format!("--savepoint-dir={bad}")], &[]).len(),
            1,
            "{bad}"
        );
    }
}

#[test]
fn storage_gets_its_endpoints_without_a_slash_at_the_end() {
    let flags = [
        "--s3-endpoint=https://s3.example",
        "--s3-path-style",
        "--azure-endpoint=https://az.example/account",
        "--storage-timeout=3s",
    ];
    let storage = settings(&flags, &[]).storage();
    assert_eq!(storage.s3.endpoint.as_deref(), Some("https://s3.example"));
    assert_eq!(storage.s3.path_style, Some(true));
    assert_eq!(
        storage.azure.endpoint.as_deref(),
        Some("https://az.example/account")
    );
    assert_eq!(storage.gcs.endpoint, None);
    assert_eq!(storage.timeout, Some(Duration::from_secs(3)));
}
