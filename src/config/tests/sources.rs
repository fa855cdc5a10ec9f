//! Where values come from, and what is said of wrong ones.
use super::*;

#[test]
fn all_errors_are_reported_at_once_each_with_its_source_and_remedy() {
    let file =
        yaml("history: 0\n\nsavepoint-dirr: s3://b/s\nrest: {url: x}\nmode: session\nmode: auto\n");
    let found = errors(
        &[
            "--cluster-id",
            "Not OK",
            "--restart=always",
            "--owner=a",
            "--owner=b",
        ],
        &[
            ("DREY_CONFIG", &file.path),
            ("DREY_REST_TIMEOUT", "5"),
            ("DREY_SAVEPOINT_FORMT", "native"),
            ("DREY_CLAIM_MODE", "LEGACY"),
        ],
    );
    let expected = [
        "flag `--cluster-id`: `Not OK` is not a cluster id; use at most 45 lower-case",
        "flag `--restart`: `always` is not known; use one of `never`, `on-failure`",
        "flag `--owner`: is given more than once; keep one of them",
        "env `DREY_REST_TIMEOUT`: `5` is not a time; give one from 1ms to 1h, such as `30s` or `1h30m`",
        "env `DREY_SAVEPOINT_FORMT`: is not known; did you mean `DREY_SAVEPOINT_FORMAT`?",
        "env `DREY_CLAIM_MODE`: LEGACY leaves open",
        &format!(
            "{}:1 key `history`: `0` is not a number from 1 to 100; give one, such as `10`",
            file.path
        ),
        &format!(
            "{}:3 key `savepoint-dirr`: is not known; did you mean `savepoint-dir`?",
            file.path
        ),
        &format!(
            "{}:4 key `rest`: the value is not a single one; write `KEY: VALUE` lines",
            file.path
        ),
        &format!(
            "{}:6 key `mode`: is given twice; keep one of them",
            file.path
        ),
    ];
    for start in expected {
        assert!(
            found.iter().any(|error| error.starts_with(start)),
            "{start} in {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_flag_overrules_a_bad_value_in_the_file() {
    let file = yaml("history: many\n");
    let flags = ["--config", &file.path, "--history", "3"];
    assert_eq!(settings(&flags, &[]).history, 3);
}

#[test]
fn the_flag_names_another_file_than_the_environment() {
    let (one, other) = (yaml("history: 3"), yaml("history: 4"));
    let env = [("DREY_CONFIG", other.path.as_str())];
    assert_eq!(settings(&["--config", &one.path], &env).history, 3);
    assert_eq!(settings(&[], &env).history, 4);
}

#[test]
fn a_settings_file_that_cannot_be_read_is_an_error_that_names_it() {
    let found = errors(&["--config", "/nonexistent/drey.yaml"], &[]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .starts_with("flag `--config`: could not read /nonexistent/drey.yaml: No such file")
    );
    let found = errors(&[], &[("DREY_CONFIG", "/nonexistent/drey.yaml")]);
    assert!(
        found[0].starts_with("env `DREY_CONFIG`: could not read"),
        "{found:?}"
    );
}

#[test]
fn broken_yaml_is_reported_with_its_line() {
    let file = yaml("history: 3\nowner: \"open\n");
    let found = errors(&["--config", &file.path], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(&format!("{}:", file.path)),
        "{found:?}"
    );
    assert!(found[0].contains("is not YAML"), "{found:?}");
    for text in [
        "- history\n",
        "history\n",
        "a: 1\n---\nb: 2\n",
        "? [a]\n: b\n",
    ] {
        let file = yaml(text);
        let found = errors(&["--config", &file.path], &[]);
        assert!(found[0].contains("; "), "{found:?}");
    }
}

#[test]
fn an_empty_file_key_or_variable_sets_nothing() {
    for text in ["", "# nothing\n", "---\n", "history:\nowner: null\n"] {
        let file = yaml(text);
        let env = [("DREY_CONFIG", file.path.as_str()), ("DREY_HISTORY", "")];
        assert_eq!(settings(&[], &env), settings(&[], &[]), "{text:?}");
    }
}

#[test]
fn values_of_the_file_are_taken_as_they_are_written() {
    let file = yaml("flink-version: 1.20\nowner: 0x10\nsavepoint-dir: 's3://b/ä #1' # where\n");
    let got = settings(&["--config", &file.path], &[]);
    assert_eq!(got.flink_version.map(|v| v.minor), Some(20));
    assert_eq!(got.owner.as_deref(), Some("0x10"));
    assert_eq!(got.savepoint_dir.as_deref(), Some("s3://b/ä #1"));
}

#[test]
fn the_state_directory_holds_pointer_and_socket_unless_they_are_given() {
    let got = settings(
        &["--state-dir", "/var/lib/drey", "--socket=/run/d.sock"],
        &[],
    );
    assert_eq!(got.pointer, PathBuf::from("/var/lib/drey/pointer.json"));
    assert_eq!(got.socket, PathBuf::from("/run/d.sock"));
}

#[test]
fn flinks_own_variables_count_for_less_than_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().to_str().expect("UTF-8");
    let file = yaml(&format!("flink-home: {home}\n"));
    let got = settings(&["--config", &file.path], &[("FLINK_HOME", "/")]);
    assert_eq!(got.flink_home.as_deref(), Some(dir.path()));
    let got = settings(&[], &[("FLINK_HOME", "/"), ("FLINK_CONF_DIR", "")]);
    assert_eq!(got.flink_home.as_deref(), Some(Path::new("/")));
    assert_eq!(got.flink_conf_dir, None);
    let found = errors(&[], &[("FLINK_HOME", "/nonexistent")]);
    assert!(
        found[0].starts_with("env `FLINK_HOME`: could not read /nonexistent"),
        "{found:?}"
    );
}

#[test]
fn a_flag_alone_means_its_usual_value() {
    let got = settings(
        &["--restart", "--allow-unverified", "--s3-path-style=false"],
        &[],
    );
    assert_eq!(got.restart, Restart::OnFailure);
    assert!(got.allow_unverified);
    assert_eq!(got.s3_path_style, Some(false));
    assert_eq!(settings(&["--restart=never"], &[]).restart, Restart::Never);
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_are_not_mistaken_for_settings() {
    let env = [
        ("DREY_SERVICE_HOST", "10.0.0.1"),
        ("DREY_WEBHOOK_SERVICE_HOST", "10.0.0.1"),
        ("DREY_WEBHOOK_SERVICE_PORT", "443"),
        ("DREY_WEBHOOK_SERVICE_PORT_HTTPS", "443"),
        ("DREY_PORT", "tcp://10.0.0.1:443"),
        ("DREY_WEBHOOK_PORT_443_TCP", "tcp://10.0.0.1:443"),
        ("DREY_WEBHOOK_PORT_443_TCP_ADDR", "10.0.0.1"),
        ("DREY_WEBHOOK_PORT_53_UDP_PROTO", "udp"),
    ];
    assert_eq!(settings(&[], &env), settings(&[], &[]));
    for bad in [
        "DREY_PORTER",
        "DREY_PORT_HISTORY",
        "DREY_",
        "DREY_REST_PORTS",
    ] {
        assert_eq!(errors(&[], &[(bad, "1")]).len(), 1, "{bad}");
    }
}

#[test]
fn unknown_names_get_the_nearest_known_one_or_none() {
    let near = |name: &str| nearest(name, TABLE.iter().map(|spec| spec.key.to_owned()));
    assert_eq!(near("clusterId").as_deref(), Some("cluster-id"));
    assert_eq!(near("cluster_id").as_deref(), Some("cluster-id"));
    assert_eq!(
        near("savepoint-timeuot").as_deref(),
        Some("savepoint-timeout")
    );
    assert_eq!(near("kubernetes.namespace"), None);
    let found = errors(&[], &[("DREY_FOO", "1")]);
    assert_eq!(
        found,
        ["env `DREY_FOO`: is not known; unset it; `drey config` shows what there is"]
    );
}
