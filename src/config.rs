//! Settings from flags, environment and a file, in this order of precedence.
//!
//! Promises: what comes out is valid, or all errors are reported at once, each with its source and what to do about it.
//! The environment is handed in; nothing here reads it. Of a setting that is given twice, only the value that counts is
//! looked at, so that a flag can overrule a bad file.
mod args;
mod check;
mod docs;
mod error;
mod file;
mod live;
mod parse;
mod shown;
mod sources;
mod storage;
mod table;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

pub use args::SettingsArgs;
pub use docs::markdown_table;
pub use error::{ConfigError, ConfigErrors};
pub use live::Taken;
pub use sources::Source;
pub use table::{Settings, Spec, TABLE};
pub use values::{Labels, LockBreak, LogFormat, Mode, Ports, Restart};

use serde_json::Value;

use error::Problem;
use file::Content;
pub(crate) use parse::{quoted, time};
pub(crate) use sources::nearest;
use sources::{CONFIG_KEY, Environment, Resolver, spec};

/// The settings, and where each of them came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where they came from, in the order of [`TABLE`].
    sources: Vec<Source>,
}

/// One setting as it is shown to people.
#[derive(Debug, Clone)]
pub struct Effective<'a> {
    /// What is known of the setting.
    pub spec: &'static Spec,
    /// Its value; null when there is none.
    pub value: Value,
    /// Where it came from.
    pub source: &'a Source,
}

impl Loaded {
    /// All settings in the order of [`TABLE`].
    #[must_use]
    pub fn effective(&self) -> Vec<Effective<'_>> {
        TABLE
            .iter()
            .zip(self.settings.values())
            .zip(&self.sources)
            .map(|((spec, value), source)| Effective {
                spec,
                value: match value {
                    // Such as `auto`, which is nothing more to know.
                    Value::Null => spec.default.map_or(Value::Null, Value::from),
                    value => value,
                },
                source,
            })
            .collect()
    }
}

/// A time such as `30s` or `1h30m`, as the settings write it, of up to ten years.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    const YEAR: u32 = 366;
    let most = parse::DAY * (10 * YEAR);
    parse::duration(text, std::time::Duration::ZERO, most).map_err(|problem| problem.text())
}

impl Settings {
    /// How many restore points the history holds at most: with retention more than [`history`](field@Settings::history), so
    /// that none is forgotten whose files are still to be deleted.
    #[must_use]
    pub fn remembered(&self) -> usize {
        const ROOM: usize = 20;
        self.history + if self.retention { ROOM } else { 0 }
    }

    /// The environment variables of which [`load`] makes the same settings.
    #[must_use]
    pub fn to_env(&self) -> BTreeMap<String, String> {
        let text = |value: Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        };
        let given = TABLE.iter().zip(self.values());
        given
            .filter_map(|(spec, value)| Some((spec.env(), text(value)?)))
            .collect()
    }
}

/// Settings from the command line, the environment and the file that either of them names.
///
/// # Errors
/// Everything that is wrong: values, keys and `DREY_…` variables that nobody knows, settings that do not go together,
/// files that cannot be read.
pub fn load(
    args: &SettingsArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigErrors> {
    let mut resolver = Resolver::default();
    let env = Environment::read(env);
    args.give_to(&mut resolver);
    let file = named_file(args, env.config.as_ref());
    for (key, text, source) in env.given {
        resolver.give_os(key, text, source);
    }
    unknown_variables(&env.unknown, &mut resolver);
    if let Some((path, source)) = file {
        read_file(&path, &source, &mut resolver);
    }
    for (key, text, source) in env.fallbacks {
        resolver.give_os(key, text, source);
    }
    finish(resolver)
}

/// The settings file that flags or environment name.
#[must_use]
pub fn settings_file(
    args: &SettingsArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Option<PathBuf> {
    let env = Environment::read(env);
    named_file(args, env.config.as_ref()).map(|(path, _)| path)
}

fn named_file(args: &SettingsArgs, env: Option<&OsString>) -> Option<(PathBuf, Source)> {
    match (args.config.first(), env) {
        (Some(path), _) => Some((PathBuf::from(path), Source::Flag)),
        (None, Some(path)) => {
            let source = Source::Env(sources::CONFIG_ENV.to_owned());
            Some((PathBuf::from(path), source))
        }
        (None, None) => None,
    }
}

/// Whether Flink and Kubernetes take this as the name of a cluster.
#[must_use]
pub fn is_cluster_id(text: &str) -> bool {
    parse::cluster_id(text).is_ok()
}

/// The annotation by which a pod gives the setting `key`.
#[must_use]
pub fn annotation(key: &str) -> String {
    format!("drey.io/{key}")
}

/// The settings that a pod's annotations give, for a process on another machine: no file that they name is looked for here.
///
/// # Errors
/// Every value that is wrong, and values that do not go together.
pub fn of_annotations<'a>(
    given: impl IntoIterator<Item = (&'static Spec, &'a str)>,
) -> Result<Settings, ConfigErrors> {
    let mut resolver = Resolver::default();
    for (spec, text) in given {
        resolver.give(spec.key, text.to_owned(), Source::Annotation);
    }
    let settings = Settings::resolve(&mut resolver);
    check::together(&settings, &mut resolver);
    match resolver.errors.is_empty() {
        true => Ok(settings),
        false => Err(ConfigErrors(resolver.errors)),
    }
}

fn finish(mut resolver: Resolver) -> Result<Loaded, ConfigErrors> {
    let mut settings = Settings::resolve(&mut resolver);
    let state_dir = settings.state_dir.clone();
    for (key, path) in [
        ("pointer", &mut settings.pointer),
        ("socket", &mut settings.socket),
    ] {
        if let (false, Ok(name)) = (resolver.is_given(key), path.strip_prefix("STATE_DIR")) {
            *path = state_dir.join(name);
        }
    }
    check::check(&settings, &mut resolver);
    if !resolver.errors.is_empty() {
        return Err(ConfigErrors(resolver.errors));
    }
    let sources = TABLE
        .iter()
        .map(|spec| resolver.source(spec.key).clone())
        .collect();
    Ok(Loaded { settings, sources })
}

fn unknown_variables(names: &[String], resolver: &mut Resolver) {
    for name in names {
        let remedy = meant(nearest(name, TABLE.iter().map(Spec::env)), "unset it");
        let problem = Problem::new("is not known", remedy);
        resolver.errors.push(problem.at(format!("env `{name}`")));
    }
}

fn meant(nearest: Option<String>, otherwise: &str) -> String {
    nearest.map_or_else(
        || format!("{otherwise}; `drey config` shows what there is"),
        |name| format!("did you mean `{name}`?"),
    )
}

fn read_file(path: &Path, source: &Source, resolver: &mut Resolver) {
    match fs::read_to_string(path) {
        Ok(text) => take_content(path, file::read(&text), resolver),
        Err(error) => {
            let what = format!("could not read {}: {error}", path.display());
            let problem = Problem::new(what, "name a YAML file that can be read");
            resolver.wrong(CONFIG_KEY, source, problem);
        }
    }
}

fn take_content(path: &Path, content: Content, resolver: &mut Resolver) {
    let at = |line| Source::File {
        path: path.to_owned(),
        line,
    };
    for entry in content.entries {
        let source = at(entry.line);
        match spec(&entry.key) {
            Some(spec) => resolver.give(spec.key, entry.text, source),
            None => {
                let known = TABLE.iter().map(|spec| spec.key.to_owned());
                let remedy = meant(nearest(&entry.key, known), "take it out");
                resolver.wrong(&entry.key, &source, Problem::new("is not known", remedy));
            }
        }
    }
    for (line, key, problem) in content.flaws {
        match key {
            Some(key) => resolver.wrong(&key, &at(line), problem),
            None => resolver.errors.push(problem.at(at(line).to_string())),
        }
    }
}
