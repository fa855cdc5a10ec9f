//! `drey config`: the effective settings, each with where it came from. Secrets are never among them: settings name the
//! files that hold them.
use std::ffi::OsString;
use std::io::Write;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::config::{Effective, Loaded, SettingsArgs, load};

/// How a command writes its result to standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON document.
    Json,
}

/// Shows the effective settings and where each of them comes from.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// How the settings are shown.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
    /// The settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Writes the effective settings to `out`.
///
/// # Errors
/// [`ConfigErrors`](crate::config::ConfigErrors) when a setting is wrong, or the error of `out`.
pub fn run(
    args: &ConfigArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let loaded = load(&args.settings, env)?;
    let text = match args.output {
        Output::Text => table(&loaded),
        Output::Json => format!("{:#}\n", document(&loaded)),
    };
    out.write_all(text.as_bytes())
        .context("could not write the settings")
}

/// `KEY  VALUE  SOURCE`, aligned.
fn table(loaded: &Loaded) -> String {
    let rows: Vec<[String; 3]> = loaded.effective().iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let (key, value) = (width(0), width(1));
    rows.iter()
        .map(|[k, v, source]| format!("{k:key$}  {v:value$}  {source}\n"))
        .collect()
}

fn row(setting: &Effective<'_>) -> [String; 3] {
    let value = match &setting.value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    [
        setting.spec.key.to_owned(),
        value,
        setting.source.to_string(),
    ]
}

/// By key: the value, the kind of its source (`flag`, `env`, `file`, `default`), and where exactly it was given.
fn document(loaded: &Loaded) -> Value {
    let entries = loaded.effective().into_iter().map(|setting| {
        let key = setting.spec.key;
        let entry = json!({
            "value": setting.value,
            "source": setting.source.kind(),
            "at": setting.source.naming(key),
        });
        (key.to_owned(), entry)
    });
    Value::Object(entries.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;
    use crate::config::{ConfigErrors, TABLE};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        config: ConfigArgs,
        #[arg(last = true)]
        command: Vec<String>,
    }

    fn shown(flags: &[&str], env: &[(&str, &str)]) -> anyhow::Result<String> {
        let cli = Cli::try_parse_from([&["drey"], flags].concat())?;
        let env = env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect::<Vec<(OsString, OsString)>>();
        let mut out = Vec::new();
        run(&cli.config, env, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn the_flags_fit_into_a_command_and_each_has_help() {
        Cli::command().debug_assert();
        let unwrapped = Cli::command().term_width(0).render_long_help();
        let help = unwrapped.to_string();
        for spec in TABLE {
            assert!(help.contains(&format!("--{}", spec.key)), "{}", spec.key);
            assert!(
                help.contains(&format!("[env: {}]", spec.env())),
                "{}",
                spec.key
            );
        }
    }

    #[test]
    fn a_flag_that_may_stand_alone_takes_nothing_of_what_follows() -> anyhow::Result<()> {
        let cli = Cli::try_parse_from(["drey", "--restart", "--", "bin/jobmanager.sh", "--x"])?;
        assert_eq!(cli.command, ["bin/jobmanager.sh", "--x"]);
        Ok(())
    }

    #[test]
    fn each_setting_has_a_line_with_its_value_and_source() -> anyhow::Result<()> {
        let text = shown(&["--history=3"], &[("DREY_OWNER", "me")])?;
        assert_eq!(text.lines().count(), TABLE.len());
        let line = |key: &str| {
            let words = text
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            words.into_iter().find(|words| words[0] == key)
        };
        assert_eq!(line("history"), Some(vec!["history", "3", "flag"]));
        assert_eq!(
            line("owner"),
            Some(vec!["owner", "me", "env", "`DREY_OWNER`"])
        );
        assert_eq!(line("rest-url"), Some(vec!["rest-url", "-", "default"]));
        assert_eq!(
            line("claim-mode"),
            Some(vec!["claim-mode", "auto", "default"])
        );
        Ok(())
    }

    #[test]
    fn json_has_typed_values_and_where_each_was_given() -> anyhow::Result<()> {
        let text = shown(
            &["--output=json", "--history=3"],
            &[("DREY_LOG_FORMAT", "json")],
        )?;
        let document: Value = serde_json::from_str(&text)?;
        assert_eq!(
            document["history"],
            json!({"value": 3, "source": "flag", "at": "flag `--history`"})
        );
        assert_eq!(
            document["log-format"],
            json!({"value": "json", "source": "env", "at": "env `DREY_LOG_FORMAT`"})
        );
        assert_eq!(document["savepoint-timeout"]["value"], "10m");
        assert_eq!(document["allow-unverified"]["value"], false);
        assert_eq!(document["rest-url"]["value"], Value::Null);
        assert_eq!(document.as_object().map(Map::len), Some(TABLE.len()));
        Ok(())
    }

    #[test]
    fn secrets_are_named_by_their_file_and_never_shown() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("token");
        std::fs::write(&path, "hunter2")?;
        let path = path.to_string_lossy();
        let env = [("DREY_REST_BEARER_FILE", path.as_ref())];
        for flags in [&[][..], &["--output=json"]] {
            let text = shown(flags, &env)?;
            assert!(
                text.contains(path.as_ref()) && !text.contains("hunter2"),
                "{text}"
            );
        }
        Ok(())
    }

    #[test]
    fn wrong_settings_can_be_told_from_other_errors() {
        let error = shown(&["--history=0"], &[]).expect_err("a wrong setting");
        assert!(error.is::<ConfigErrors>());
    }
}
