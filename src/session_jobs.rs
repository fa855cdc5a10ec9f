//! The jobs that Drey submits to a session cluster, read from a YAML list.
//!
//! Promises: what comes out can be submitted as it is, and no two jobs have one name; or everything that is wrong is
//! reported at once, each with its line and what to do about it. Whether a jar is there is not looked at: it may come
//! later than the list.

mod yaml;

use std::fs;
use std::path::Path;

use url::Url;

use crate::config::nearest;
use crate::storage::Location;
use yaml::{Kind, Node};

/// A job of a session cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionJob {
    /// Its name, which must be the one that its code gives it.
    pub name: String,
    /// Where its jar is.
    pub jar: JarSource,
    /// Its main class; that of the jar's manifest if not given.
    pub entry_class: Option<String>,
    /// The arguments of its main method.
    pub args: Vec<String>,
    /// Flink's default if not given.
    pub parallelism: Option<u32>,
    /// Starts although the restore point holds state that the job has no operator for.
    pub allow_non_restored_state: bool,
}

/// Where a jar is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JarSource {
    /// A file, or an object in a bucket.
    Stored(Location),
    /// A file on a web server.
    Web(Url),
}

impl JarSource {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stored(location) => location.as_str(),
            Self::Web(url) => url.as_str(),
        }
    }

    fn parse(text: &str) -> Result<Self, Flaw> {
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = Url::parse(text);
            return url.map(Self::Web).map_err(|error| {
                Flaw::new(
                    format!("is no URL: {error}"),
                    "write it as https://HOST/PATH",
                )
            });
        }
        let location = Location::parse(text)
            .map_err(|error| Flaw::new(error.to_string(), "write an absolute path or a URI"))?;
        if location.is_supported() {
            return Ok(Self::Stored(location));
        }
        let scheme = location.scheme().unwrap_or_default();
        Err(Flaw::new(
            format!("there is no client for {scheme}:"),
            "use a path, or file:, s3:, gs:, abfs:, http: or https:",
        ))
    }
}

/// What is wrong with one line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Flaw {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            line: 0,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    fn at(self, line: usize) -> Self {
        Self { line, ..self }
    }

    fn of(self, key: &str) -> Self {
        let what = format!("`{key}`: {}", self.what);
        Self { what, ..self }
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum SessionJobsError {
    /// The file cannot be read.
    #[error("could not read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// What is wrong in it, in the order of its lines; at least one.
    #[error("{}", in_words(.path, .flaws))]
    Flawed {
        /// The file.
        path: String,
        /// What is wrong.
        flaws: Vec<Flaw>,
    },
}

fn in_words(path: &str, flaws: &[Flaw]) -> String {
    let words = |flaw: &Flaw| format!("{path}:{}: {}; {}", flaw.line, flaw.what, flaw.remedy);
    flaws.iter().map(words).collect::<Vec<_>>().join("\n")
}

/// Reads the list in the file `path`.
///
/// # Errors
/// When it cannot be read, or everything that is wrong in it.
pub fn load(path: &Path) -> Result<Vec<SessionJob>, SessionJobsError> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| SessionJobsError::Unreadable {
        path: name.clone(),
        source,
    })?;
    read(&text).map_err(|flaws| SessionJobsError::Flawed { path: name, flaws })
}

/// Reads the list in `text`. A text without anything in it is an empty list.
///
/// # Errors
/// Everything that is wrong, in the order of the lines.
pub fn read(text: &str) -> Result<Vec<SessionJob>, Vec<Flaw>> {
    let node = yaml::parse(text).map_err(|flaw| vec![flaw])?;
    let Some(node) = node else {
        return Ok(Vec::new());
    };
    let Kind::List(items) = &node.kind else {
        let remedy = "write a list: `- name: NAME`, and the job's other keys below";
        return Err(vec![Flaw::new("this is not a list", remedy).at(node.line)]);
    };
    let mut jobs: Vec<(usize, SessionJob)> = Vec::new();
    let mut flaws = Vec::new();
    for item in items {
        let job = entry(item, &mut flaws);
        let same = jobs.iter().find(|(_, known)| known.name == job.name);
        if let Some((line, _)) = same.filter(|_| !job.name.is_empty()) {
            let what = format!(
                "job {:?} is listed a second time, after line {line}",
                job.name
            );
            flaws.push(
                Flaw::new(what, "keep one, or give the other a name of its own").at(item.line),
            );
        }
        jobs.push((item.line, job));
    }
    if flaws.is_empty() {
        return Ok(jobs.into_iter().map(|(_, job)| job).collect());
    }
    flaws.sort_by_key(|flaw| flaw.line);
    Err(flaws)
}

const KEYS: [&str; 6] = [
    "name",
    "jar",
    "entry-class",
    "args",
    "parallelism",
    "allow-non-restored-state",
];

/// One job. What is wrong with it goes to `flaws`.
fn entry(node: &Node, flaws: &mut Vec<Flaw>) -> SessionJob {
    let mut fields = Fields::read(node, flaws);
    let name = fields.needed("name", "give it the name that its code gives it", |text| {
        match text.trim() {
            "" => Err(Flaw::new("is empty", "write a name")),
            // The pointer's key of the only job of an application cluster.
            crate::domain::pointer::APPLICATION => Err(Flaw::new(
                "is a name that Drey uses itself",
                "give the job another one",
            )),
            name => Ok(name.to_owned()),
        }
    });
    let jar = fields.needed("jar", "write where the job's jar is", JarSource::parse);
    let entry_class = fields.one("entry-class", |text| match text.trim() {
        "" => Err(Flaw::new("is empty", "leave it out")),
        class => Ok(class.to_owned()),
    });
    let parallelism = fields.one("parallelism", |text| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| {
            let what = format!("{text:?} is no number above 0");
            Flaw::new(what, "write one, or leave it out")
        })
    });
    let allow_non_restored_state = fields.one("allow-non-restored-state", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Flaw::new(
            format!("{text:?} is neither true nor false"),
            "write true or false",
        )),
    });
    let args = fields.list("args");
    SessionJob {
        name: name.unwrap_or_default(),
        jar: jar.unwrap_or_else(nowhere),
        entry_class,
        args,
        parallelism,
        allow_non_restored_state: allow_non_restored_state.unwrap_or_default(),
    }
}

/// Of an entry that is wrong, so that the rest of it can be looked at, too.
fn nowhere() -> JarSource {
    JarSource::Stored(Location::parse("/").expect("the root is a location"))
}

/// The keys of one entry.
struct Fields<'a> {
    line: usize,
    given: Vec<(&'static str, &'a Node)>,
    flaws: &'a mut Vec<Flaw>,
}

impl<'a> Fields<'a> {
    fn read(node: &'a Node, flaws: &'a mut Vec<Flaw>) -> Self {
        let mut given: Vec<(&'static str, &Node)> = Vec::new();
        let Kind::Map(entries) = &node.kind else {
            let remedy = "write its keys as `KEY: VALUE` lines, such as `name: NAME`";
            flaws.push(Flaw::new("this is not a job", remedy).at(node.line));
            // It lacks nothing more.
            return Self {
                line: 0,
                given,
                flaws,
            };
        };
        for (key, line, value) in entries {
            match KEYS.iter().find(|known| *known == key) {
                Some(known) if given.iter().any(|(given, _)| given == known) => {
                    flaws.push(
                        Flaw::new("is given twice", "keep one of them")
                            .of(key)
                            .at(*line),
                    );
                }
                Some(known) => given.push((known, value)),
                None => {
                    let remedy = nearest(key, KEYS.iter().map(|key| (*key).to_owned()))
                        .map_or_else(
                            || format!("take it out; there is {}", KEYS.join(", ")),
                            |name| format!("did you mean `{name}`?"),
                        );
                    flaws.push(Flaw::new("is not known", remedy).of(key).at(*line));
                }
            }
        }
        Self {
            line: node.line,
            given,
            flaws,
        }
    }

    fn take(&mut self, key: &str) -> Option<&'a Node> {
        let at = self.given.iter().position(|(given, _)| *given == key)?;
        let (_, node) = self.given.remove(at);
        (node.kind != Kind::Null).then_some(node)
    }

    fn one<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Flaw>) -> Option<T> {
        let node = self.take(key)?;
        let parsed = match &node.kind {
            Kind::Text(text) => parse(text),
            _ => Err(Flaw::new("is not a single value", "write one")),
        };
        parsed
            .map_err(|flaw| self.flaws.push(flaw.of(key).at(node.line)))
            .ok()
    }

    /// A key that must be there.
    fn needed<T>(
        &mut self,
        key: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, Flaw>,
    ) -> Option<T> {
        let given = self
            .given
            .iter()
            .any(|(given, node)| *given == key && node.kind != Kind::Null);
        if !given && self.line > 0 {
            let what = format!("the job has no `{key}`");
            self.flaws.push(Flaw::new(what, remedy).at(self.line));
        }
        self.one(key, parse)
    }

    fn list(&mut self, key: &str) -> Vec<String> {
        let Some(node) = self.take(key) else {
            return Vec::new();
        };
        let Kind::List(items) = &node.kind else {
            let remedy = "write a list, such as `[--rate, \"1000\"]`";
            self.flaws
                .push(Flaw::new("is not a list", remedy).of(key).at(node.line));
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.kind {
                Kind::Text(text) => texts.push(text.clone()),
                _ => {
                    let flaw = Flaw::new("is not a list of single values", "put it in quotes");
                    self.flaws.push(flaw.of(key).at(item.line));
                }
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests;
