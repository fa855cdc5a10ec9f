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
        Value::Null => setting.spec.default.unwrap_or("-").to_owned(),
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
