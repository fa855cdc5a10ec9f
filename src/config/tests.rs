use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches as _};
use serde_json::Value;

use super::*;

type Env<'a> = &'a [(&'a str, &'a str)];
type Checked = Result<(), Box<dyn std::error::Error>>;

fn args(flags: &[&str]) -> SettingsArgs {
    let command = SettingsArgs::augment_args(Command::new("drey").no_binary_name(true));
    let matches = command.try_get_matches_from(flags).expect("known flags");
    SettingsArgs::from_arg_matches(&matches).expect("any value")
}

fn load_from(flags: &[&str], env: Env<'_>) -> Result<Loaded, ConfigErrors> {
    let env = env
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load(&args(flags), env)
}

fn settings(flags: &[&str], env: Env<'_>) -> Settings {
    load_from(flags, env).expect("good settings").settings
}

fn errors(flags: &[&str], env: Env<'_>) -> Vec<String> {
    let errors = load_from(flags, env).expect_err("bad settings");
    errors.iter().map(ToString::to_string).collect()
}

/// A settings file in a directory of its own.
struct Yaml {
    _dir: tempfile::TempDir,
    path: String,
}

fn yaml(text: &str) -> Yaml {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("drey.yaml");
    fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("UTF-8").to_owned();
    Yaml { _dir: dir, path }
}

/// Three good values of a setting, all different, as written; none is the default.
fn samples(spec: &Spec, dir: &Path) -> [String; 3] {
    let make = |name: &str| {
        let path = dir.join(name);
        match spec.key {
            "state-dir" | "flink-home" | "flink-conf-dir" => fs::create_dir_all(&path),
            "pointer" | "socket" => Ok(()),
            "session-jobs" => fs::write(&path, "[]"),
            _ => fs::write(&path, "x"),
        }
        .expect("writable");
        path.to_str().expect("UTF-8").to_owned()
    };
    let texts: [&str; 3] = match (spec.key, spec.value) {
        (_, "FILE" | "DIR") => return ["one", "two", "three"].map(make),
        (_, "TIME" | "TIME|never") => ["11s", "12s", "13s"],
        (_, "true|false") if spec.default == Some("true") => ["false", "true", "false"],
        (_, "true|false") => ["true", "false", "true"],
        (_, "URL") => [
            "https://a.example/x",
            "https://b.example/x",
            "https://c.example/x",
        ],
        (_, "N") => ["2", "3", "4"],
        (_, "CRON") => ["30 2 * * *", "*/15 * * * *", "@daily"],
        (_, "VERSION") => ["1.13.0", "1.20.2", "2.3.0"],
        ("metrics-address", _) => ["127.0.0.1:9249", "0.0.0.0:9249", "[::]:9249"],
        ("status-page", _) => ["127.0.0.1:9248", "[::1]:9248", "127.0.0.2:0"],
        ("flink-metrics-port", _) => ["9251", "9300-9310", "9252"],
        (_, "PORT") => ["9249", "9250", "19249"],
        ("metrics-labels", _) => ["cluster_id", "namespace,team=a b", "pod,x=1"],
        ("log-level", _) => ["debug", "drey=debug,hyper=info", "error"],
        (_, value) if value.contains('|') => {
            let all: Vec<&str> = value.split('|').collect();
            let at = |n: usize| all[all.len() - 1 - n % all.len()].to_owned();
            return [at(0), at(1), at(0)];
        }
        _ => ["one", "two", "three"],
    };
    texts.map(str::to_owned)
}

/// What is in force for `key`, and the kind of its source.
fn in_force(loaded: &Loaded, key: &str) -> (String, &'static str) {
    let all = loaded.effective();
    let it = all.iter().find(|it| it.spec.key == key).expect("a setting");
    let value = match &it.value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (value, it.source.kind())
}

/// What else has to be given with a setting.
fn companions(key: &str, dir: &Path) -> Vec<String> {
    let other = match key {
        "rest-client-cert" => "rest-client-key",
        "rest-client-key" => "rest-client-cert",
        _ => return Vec::new(),
    };
    let path = dir.join("companion");
    fs::write(&path, "x").expect("writable");
    vec![format!("--{other}={}", path.display())]
}

#[test]
fn every_setting_is_taken_from_the_flag_then_the_environment_then_the_file_then_the_default() {
    for spec in TABLE {
        let dir = tempfile::tempdir().expect("a directory");
        let [in_file, in_env, in_flag] = samples(spec, dir.path());
        let file = yaml(&format!("{}: {in_file}\n", spec.key));
        let env_name = spec.env();
        let flag = format!("--{}={in_flag}", spec.key);
        let companions = companions(spec.key, dir.path());
        let with = |more: &[&str], env: Env<'_>| {
            let mut flags: Vec<&str> = companions.iter().map(String::as_str).collect();
            flags.extend(more);
            let loaded = load_from(&flags, env).expect(spec.key);
            in_force(&loaded, spec.key)
        };
        let config = ("DREY_CONFIG", file.path.as_str());
        let env = (env_name.as_str(), in_env.as_str());
        assert_eq!(with(&[&flag], &[config, env]), (in_flag, "flag"));
        assert_eq!(with(&[], &[config, env]), (in_env.clone(), "env"));
        assert_eq!(with(&[], &[config]), (in_file, "file"));
        let loaded = load_from(&[], &[]).expect("the defaults are good");
        let default = spec.default.unwrap_or("-").replace("STATE_DIR", ".drey");
        let (value, source) = in_force(&loaded, spec.key);
        assert_eq!((value, source), (default, "default"));
    }
}

#[test]
fn every_default_is_a_value_that_could_be_written() {
    let text: String = TABLE
        .iter()
        .filter_map(|spec| spec.default.map(|text| format!("{}: {text}\n", spec.key)))
        .filter(|line| !line.contains("STATE_DIR"))
        .collect();
    let file = yaml(&text);
    assert_eq!(settings(&["--config", &file.path], &[]), settings(&[], &[]));
}

#[test]
fn settings_as_variables_make_the_same_settings() {
    for spec in TABLE {
        let dir = tempfile::tempdir().expect("a directory");
        let companions = companions(spec.key, dir.path());
        let more: Vec<&str> = companions.iter().map(String::as_str).collect();
        for sample in samples(spec, dir.path()) {
            let flag = format!("--{}={sample}", spec.key);
            let given = settings(&[&more[..], &[&*flag]].concat(), &[]);
            let written = given.to_env();
            let env: Vec<(&str, &str)> = written.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(settings(&[], &env), given, "{flag}");
        }
    }
}

#[test]
fn keys_flags_and_variables_are_named_after_the_fields() {
    for spec in TABLE {
        assert_eq!(spec.key, spec.field.replace('_', "-"));
        assert_eq!(spec.env(), format!("DREY_{}", spec.field.to_uppercase()));
        assert!(spec.help().ends_with('.'), "{}", spec.key);
    }
}

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

#[test]
fn the_readme_has_the_table_of_settings() -> Checked {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = fs::read_to_string(path)?;
    let (_, rest) = text
        .split_once("<!-- settings -->\n")
        .ok_or("no opening marker")?;
    let (table, _) = rest
        .split_once("<!-- /settings -->")
        .ok_or("no closing marker")?;
    assert!(
        table.trim() == markdown_table().trim(),
        "put this between the markers in README.md:\n{}",
        markdown_table()
    );
    Ok(())
}
