use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches as _};
use serde_json::Value;

use super::*;

mod sources;
mod values;

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
