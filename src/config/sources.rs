//! Where values come from, and which one counts.
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::error::{ConfigError, Problem};
use super::parse::quoted;
use super::table::{Spec, TABLE};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// On the command line.
    Flag,
    /// In this environment variable.
    Env(String),
    /// In the settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In an annotation of the pod, see [`annotation`](super::annotation).
    Annotation,
    /// Nowhere.
    Default,
}

impl Source {
    /// Flag, environment, file or default.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Env(_) => "env",
            Self::File { .. } => "file",
            Self::Annotation => "annotation",
            Self::Default => "default",
        }
    }

    /// With the name that the setting `key` has there.
    #[must_use]
    pub fn naming(&self, key: &str) -> String {
        match self {
            Self::Flag => format!("flag `--{key}`"),
            Self::Env(_) => self.to_string(),
            Self::File { .. } => format!("{self} key `{key}`"),
            Self::Annotation => format!("annotation `{}`", super::annotation(key)),
            Self::Default => format!("default of `{key}`"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => write!(f, "flag"),
            Self::Env(name) => write!(f, "env `{name}`"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Annotation => write!(f, "annotation"),
            Self::Default => write!(f, "default"),
        }
    }
}

/// A value as it was written.
#[derive(Debug, Clone)]
struct Given {
    text: String,
    source: Source,
}

/// Collects what was given, the most important source first, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    given: HashMap<&'static str, Given>,
    /// Whatever was wrong so far.
    pub(super) errors: Vec<ConfigError>,
}

impl Resolver {
    /// Notes a value, unless a source that counts for more has given one already.
    pub(super) fn give(&mut self, key: &'static str, text: String, source: Source) {
        self.given.entry(key).or_insert(Given { text, source });
    }

    /// Notes a value of the command line or of the environment.
    pub(super) fn give_os(&mut self, key: &'static str, text: OsString, source: Source) {
        match text.into_string() {
            Ok(text) => self.give(key, text, source),
            Err(text) => {
                let what = format!("{} is not UTF-8", quoted(&text.to_string_lossy()));
                self.wrong(key, &source, Problem::new(what, "write it in UTF-8"));
            }
        }
    }

    /// Notes what is wrong with a setting where it was given.
    pub(super) fn wrong(&mut self, key: &str, source: &Source, problem: Problem) {
        self.errors.push(problem.given(source, key));
    }

    /// The value of a setting. Of one that is wrong, the default, so that the rest can be looked at, too.
    pub(super) fn take<T: Default>(
        &mut self,
        key: &'static str,
        parse: fn(&str) -> Result<T, Problem>,
    ) -> T {
        if let Some(given) = self.given.get(key) {
            match parse(&given.text) {
                Ok(value) => return value,
                Err(problem) => self.errors.push(problem.given(&given.source, key)),
            }
        }
        spec(key)
            .and_then(|spec| spec.default)
            .map_or_else(T::default, |text| parse(text).unwrap_or_default())
    }

    /// Where a setting was given.
    pub(super) fn source(&self, key: &str) -> &Source {
        self.given
            .get(key)
            .map_or(&Source::Default, |given| &given.source)
    }

    /// Whether a setting was given at all.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }
}

/// The setting with this key.
pub(super) fn spec(key: &str) -> Option<&'static Spec> {
    TABLE.iter().find(|spec| spec.key == key)
}

/// The settings file, which is not a setting of its own.
pub(super) const CONFIG_KEY: &str = "config";
/// The variable that names it.
pub(super) const CONFIG_ENV: &str = "DREY_CONFIG";

/// Variables that are no settings: where a test wants the process to end. See [`kill_point`](crate::kill_point).
const OTHER_ENV: &[&str] = if cfg!(feature = "kill-points") {
    &["DREY_KILL_AT"]
} else {
    &[]
};

/// Reads the environment: what is given there, what Flink's own variables say, and the settings file's name.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Values of `DREY_…`, with their keys.
    pub(super) given: Vec<(&'static str, OsString, Source)>,
    /// Values of Flink's own variables, which count for less than the file.
    pub(super) fallbacks: Vec<(&'static str, OsString, Source)>,
    /// The settings file.
    pub(super) config: Option<OsString>,
    /// Variables that nobody knows.
    pub(super) unknown: Vec<String>,
}

impl Environment {
    /// An empty variable counts as not set, as a composed `DREY_X=${X:-}` means it.
    pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut env = Self::default();
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("DREY_") {
                env.own(name, value);
            } else if let Some(spec) = TABLE.iter().find(|s| s.fallback == Some(name.as_str()))
                && !value.is_empty()
            {
                env.fallbacks.push((spec.key, value, Source::Env(name)));
            }
        }
        env.unknown.sort();
        env
    }

    fn own(&mut self, name: String, value: OsString) {
        if OTHER_ENV.contains(&name.as_str()) {
            // Somebody else's.
        } else if name == CONFIG_ENV {
            self.config = Some(value).filter(|value| !value.is_empty());
        } else if let Some(spec) = TABLE.iter().find(|spec| spec.env() == name) {
            if !value.is_empty() {
                self.given.push((spec.key, value, Source::Env(name)));
            }
        } else if !is_service_link(&name) {
            self.unknown.push(name);
        }
    }
}

/// Kubernetes describes each Service of a namespace to its pods in variables, which for a Service called `drey` or
/// `drey-webhook` begin like Drey's own: `DREY_SERVICE_HOST`, `DREY_WEBHOOK_PORT_443_TCP_ADDR` and so on.
fn is_service_link(name: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") {
        return true;
    }
    let Some((_, rest)) = name.split_once("_PORT") else {
        return false;
    };
    let mut parts = rest.split('_').skip(1);
    match (parts.next(), parts.next()) {
        (None, _) => rest.is_empty(),
        (Some(number), Some("TCP" | "UDP" | "SCTP")) => number.parse::<u16>().is_ok(),
        _ => false,
    }
}

/// The known name that is meant by an unknown one, if one is near.
pub(crate) fn nearest(unknown: &str, known: impl Iterator<Item = String>) -> Option<String> {
    /// Nobody means a name by something so long, and to compare it takes minutes.
    const LONGEST: usize = 100;
    if unknown.len() > LONGEST {
        return None;
    }
    let plain = |name: &str| {
        let name = name.strip_prefix("DREY_").unwrap_or(name);
        name.to_ascii_lowercase().replace(['_', '-', '.'], "")
    };
    let unknown = plain(unknown);
    known
        .map(|name| (strsim::jaro_winkler(&unknown, &plain(&name)), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.85)
        .map(|(_, name)| name)
}
