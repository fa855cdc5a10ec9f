//! Injection into files: manifests, pod templates of Flink's native mode, and Flink's configuration for it.
//!
//! Text in, text out. Documents that are not changed stay byte for byte, in their order.

use std::collections::BTreeMap;

use serde_json::Value;

use super::objects::{self, Done};
use super::text::{self, Document};
use super::{Facts, Refused, Role, Settings};
use crate::config::quoted;
use crate::flink::config_file::{ConfigFile, ConfigFormat};

/// The option that names the command of Flink's containers in native mode.
const ENTRY_PATH: &str = "kubernetes.entry.path";

/// The options that name the pod templates of native mode.
const TEMPLATES: [(&str, Role); 2] = [
    ("kubernetes.pod-template-file.jobmanager", Role::JobManager),
    (
        "kubernetes.pod-template-file.taskmanager",
        Role::TaskManager,
    ),
];

/// What is to be done with the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Put Drey in; for a pod template of native mode that does not say what it is for, the role.
    Inject(Box<Settings>, Option<Role>),
    /// Take Drey out.
    Uninject,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// For people; what is behind the last slash names a pod template.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// What became of all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The files in their order.
    pub files: Vec<File>,
    /// A line for each document, and one for each warning.
    pub report: Vec<String>,
    /// A line for each document that could not be changed. Then nothing is to be written.
    pub refused: Vec<String>,
}

/// Does it to all files.
#[must_use]
pub fn rewrite(files: &[File], act: &Act) -> Rewritten {
    let mut done = Rewritten::default();
    let mut read = Vec::new();
    for file in files {
        match text::documents(&file.text) {
            Ok(documents) => read.push((file, documents)),
            Err((line, why)) => done
                .refused
                .push(format!("{}:{line}: is not YAML: {why}", file.name)),
        }
    }
    let surroundings = Surroundings::of(&read);
    for (file, documents) in &read {
        let mut text = String::with_capacity(file.text.len() + 2000);
        for document in documents {
            text.push_str(&one(file, document, act, &surroundings, &mut done));
        }
        if documents.is_empty() {
            text.clone_from(&file.text);
        }
        let name = file.name.clone();
        done.files.push(File { name, text });
    }
    done
}

/// One document; its text afterwards.
fn one(
    file: &File,
    document: &Document<'_>,
    act: &Act,
    around: &Surroundings<'_>,
    done: &mut Rewritten,
) -> String {
    let (at, value) = (format!("{}:{}", file.name, document.line), &document.value);
    if value.is_null() {
        return document.text().to_owned();
    }
    if let Some(configuration) = native_configuration(file, document) {
        return match configured(configuration, act) {
            Ok((text, what)) => {
                done.report
                    .push(format!("{at}: Flink's configuration: {what}"));
                document.with_content(&text)
            }
            Err(refused) => {
                done.refused
                    .push(format!("{at}: Flink's configuration: {refused}"));
                document.text().to_owned()
            }
        };
    }
    let mut changed = value.clone();
    let whole = Place {
        file,
        at: &at,
        act,
        around,
    };
    if whole.object(&mut changed, done) {
        return document.with(&changed);
    }
    document.text().to_owned()
}

/// Where an object stands.
struct Place<'a> {
    file: &'a File,
    at: &'a str,
    act: &'a Act,
    around: &'a Surroundings<'a>,
}

impl Place<'_> {
    /// Changes an object, or all in a list of objects; whether anything changed.
    fn object(&self, value: &mut Value, done: &mut Rewritten) -> bool {
        if objects::items(value).is_some() {
            let items = value.get_mut("items").and_then(Value::as_array_mut);
            let items = items.into_iter().flatten();
            return items.fold(false, |any, item| self.object(item, done) | any);
        }
        let title = format!("{}: {}", self.at, objects::title(value));
        let result = match self.act {
            Act::Uninject => objects::take_out(value),
            Act::Inject(settings, role) => self
                .facts(value, *role)
                .and_then(|facts| objects::put_in(value, settings, &facts)),
        };
        match result {
            Ok(Done::Kept { why }) => done.report.push(format!("{title}: skipped, {why}")),
            Ok(Done::Changed {
                value: new,
                what,
                warnings,
            }) => {
                done.report.push(format!("{title}: {what}"));
                let warnings = warnings.into_iter();
                done.report
                    .extend(warnings.map(|warning| format!("{title}: warning: {warning}")));
                *value = new;
                return true;
            }
            Err(refused) => done.refused.push(format!("{title}: {refused}")),
        }
        false
    }

    /// What the other documents say about the pod of this one.
    fn facts(&self, object: &Value, role: Option<Role>) -> Result<Facts, Refused> {
        let mut facts = Facts {
            replicas: objects::replicas(object),
            ..Facts::default()
        };
        if let Some(pod) = objects::pod(object)
            && let Some(name) = objects::configuration_map(&pod)
        {
            facts.flink_configuration = self.around.maps.get(name).cloned();
        }
        if objects::is_native_template(object) {
            let name = self.file.name.rsplit('/').next().unwrap_or_default();
            let named = self.around.templates.get(name).copied();
            let role = objects::role(object).or(named).or(role).ok_or_else(|| {
                Refused::new(
                    "is a pod template of Flink's native mode and does not say of which pods; say so with `--role jobmanager` or \
                     `--role taskmanager`, by the annotation `drey.io/role`, or give Flink's configuration as well, which names it",
                )
            })?;
            facts.template = Some(role);
            facts.flink_configuration.clone_from(&self.around.native);
        }
        Ok(facts)
    }
}

/// What all the documents say about each other.
#[derive(Debug, Default)]
struct Surroundings<'a> {
    /// Flink's configuration in the ConfigMaps, by their names.
    maps: BTreeMap<&'a str, BTreeMap<String, String>>,
    /// What the pod templates are for, by the names of their files.
    templates: BTreeMap<String, Role>,
    /// Flink's configuration for native mode.
    native: Option<BTreeMap<String, String>>,
}

impl<'a> Surroundings<'a> {
    fn of(read: &'a [(&File, Vec<Document<'_>>)]) -> Self {
        let mut around = Self::default();
        for (file, documents) in read {
            for document in documents {
                match native_configuration(file, document) {
                    Some(configuration) => around.learn(configuration),
                    None => around.maps(&document.value),
                }
            }
        }
        around
    }

    fn learn(&mut self, configuration: ConfigFile) {
        for (key, role) in TEMPLATES {
            if let Some(path) = configuration.get(key) {
                let name = path.rsplit('/').next().unwrap_or_default();
                self.templates.insert(name.to_owned(), role);
            }
        }
        self.native = Some(configuration.entries().clone());
    }

    fn maps(&mut self, object: &'a Value) {
        for item in objects::items(object).into_iter().flatten() {
            self.maps(item);
        }
        if objects::text(object, "kind") != "ConfigMap" {
            return;
        }
        let name = object
            .get("metadata")
            .map(|metadata| objects::text(metadata, "name"));
        let data = objects::data(object);
        let formats = [ConfigFormat::FlinkConfYaml, ConfigFormat::ConfigYaml];
        let file = formats.into_iter().find_map(|format| {
            let text = data.get(format.file_name())?;
            ConfigFile::parse(format, text).ok()
        });
        if let (Some(name), Some(file)) = (name, file) {
            self.maps.insert(name, file.entries().clone());
        }
    }
}

/// Flink's configuration, should the document be that, and for native mode.
fn native_configuration(file: &File, document: &Document<'_>) -> Option<ConfigFile> {
    if !objects::text(&document.value, "kind").is_empty() {
        return None;
    }
    let format = match file.name.ends_with("flink-conf.yaml") {
        true => ConfigFormat::FlinkConfYaml,
        false => ConfigFormat::ConfigYaml,
    };
    let parsed = ConfigFile::parse(format, document.content()).ok()?;
    let native = parsed
        .entries()
        .keys()
        .any(|key| key.starts_with("kubernetes."));
    native.then_some(parsed)
}

/// The configuration with the launcher as the command of Flink's containers, or without it; and what was done.
fn configured(mut configuration: ConfigFile, act: &Act) -> Result<(String, String), Refused> {
    let ours = super::flink::LAUNCHER;
    let now = configuration.get(ENTRY_PATH).map(str::to_owned);
    let what = match (act, now.as_deref()) {
        (Act::Inject(..), Some(value)) if value == ours => {
            format!("skipped, has {ENTRY_PATH} already")
        }
        (Act::Inject(..), Some(value)) => {
            return Err(Refused::new(format!(
                "{ENTRY_PATH} is {} already; make it {ours}, and give {} by the annotation `drey.io/entrypoint` of both pod \
                 templates",
                quoted(value),
                quoted(value)
            )));
        }
        (Act::Inject(..), None) => {
            let text = appended(&configuration, ours)?;
            return Ok((text, format!("{ENTRY_PATH}: {ours} added")));
        }
        (Act::Uninject, Some(value)) if value == ours => {
            let removed = configuration.remove(ENTRY_PATH);
            removed.map_err(|error| Refused::new(error.to_string()))?;
            format!("{ENTRY_PATH} taken out")
        }
        (Act::Uninject, _) => "skipped, was not injected".to_owned(),
    };
    Ok((configuration.text().to_owned(), what))
}

/// One line more at the end, or wherever it can be put.
fn appended(configuration: &ConfigFile, value: &str) -> Result<String, Refused> {
    let text = configuration.text();
    let longer = format!("{}\n{ENTRY_PATH}: {value}\n", text.trim_end_matches('\n'));
    let mut wanted = configuration.entries().clone();
    wanted.insert(ENTRY_PATH.to_owned(), value.to_owned());
    let read = ConfigFile::parse(configuration.format(), &longer);
    if read.is_ok_and(|read| *read.entries() == wanted) {
        return Ok(longer);
    }
    let mut edited = configuration.clone();
    let set = edited.set(ENTRY_PATH, value);
    set.map_err(|error| Refused::new(error.to_string()))?;
    Ok(edited.text().to_owned())
}
