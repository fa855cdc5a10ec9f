//! Flink's configuration files, read and edited as text.
//!
//! Promise: [`ConfigFile::entries`] is what Flink itself reads from the file (the tests ask Flink's own parser), an edit
//! changes nothing but the key it is for, comments and line breaks included, and an edit that cannot be made that way is
//! refused. Pure except for [`ConfDir`]. No value is ever in an error message: it may be a secret.

use std::collections::BTreeMap;

use thiserror::Error;

mod dir;
mod flatten;
mod legacy;
mod lines;
mod list;
mod scalar;
mod yaml;
mod yaml_edit;

use yaml_edit::Removal;

pub use dir::{ConfDir, ConfDirError};
pub use list::{elements, list};

/// The two formats of Flink's configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigFormat {
    /// `flink-conf.yaml`: `key: value` lines, read by Flink up to 1.20. Not YAML in spite of its name.
    FlinkConfYaml,
    /// `config.yaml`: YAML 1.2, keys nested, flat or mixed; read by Flink from 1.19 on.
    ConfigYaml,
}

impl ConfigFormat {
    /// The file name in the configuration directory.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::FlinkConfYaml => "flink-conf.yaml",
            Self::ConfigYaml => "config.yaml",
        }
    }
}

/// Why a configuration file cannot be read or edited.
#[derive(Debug, Error)]
pub enum ConfigFileError {
    /// Flink would refuse the file, or read it differently by version.
    #[error("{file}, line {line}: {problem}; {remedy}")]
    Refused {
        /// The file name.
        file: &'static str,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// The format has no way to write this value.
    #[error("cannot write {key} to {file}: {reason}; choose another value or use config.yaml")]
    Unwritable {
        /// The file name.
        file: &'static str,
        /// The key to be set.
        key: String,
        /// What stands against it.
        reason: &'static str,
    },
    /// No edit was found that leaves all other keys as they are. The file was not changed.
    #[error(
        "cannot change {key} in {file} without changing something else (anchors, aliases or an unusual layout); write it as a \
         plain {key}: value line"
    )]
    NotEditable {
        /// The file name.
        file: &'static str,
        /// The key to be set or removed.
        key: String,
    },
}

/// What is wrong with a `config.yaml`, and where.
struct Fault {
    line: usize,
    problem: String,
    remedy: &'static str,
}

impl Fault {
    fn at(text: &str, at: usize, problem: impl Into<String>, remedy: &'static str) -> Self {
        let before = &text[..text.floor_char_boundary(at)];
        let line = lines::lines(before).len()
            + usize::from(before.is_empty() || before.ends_with(['\n', '\r']));
        Self {
            line,
            problem: problem.into(),
            remedy,
        }
    }
}

/// One configuration file in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    format: ConfigFormat,
    text: String,
    entries: BTreeMap<String, String>,
}

impl ConfigFile {
    /// Reads `text`.
    ///
    /// # Errors
    /// When Flink would not start with this `config.yaml`: broken YAML, several documents, a key without value, the same
    /// key twice in one mapping, tabs. A `flink-conf.yaml` is never refused.
    pub fn parse(format: ConfigFormat, text: &str) -> Result<Self, ConfigFileError> {
        let entries = match format {
            ConfigFormat::FlinkConfYaml => legacy::parse(text)
                .into_iter()
                .map(|line| (line.key, text[line.value].to_owned()))
                .collect(),
            ConfigFormat::ConfigYaml => {
                read_yaml(text).map_err(|fault| ConfigFileError::Refused {
                    file: format.file_name(),
                    line: fault.line,
                    problem: fault.problem,
                    remedy: fault.remedy,
                })?
            }
        };
        Ok(Self {
            format,
            text: text.to_owned(),
            entries,
        })
    }

    /// The format it was read in.
    #[must_use]
    pub fn format(&self) -> ConfigFormat {
        self.format
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All keys, flat, with the text that Flink makes of their values.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.entries
    }

    /// The value of exactly this key. See [`super::restore_keys`] for keys that were renamed.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    /// Gives `key` the value, where the key already is, else at the end (at the top when the file ends inside a block scalar,
    /// where a further line would become part of the value). Returns whether the text changed: it does not
    /// when the key has this value already.
    ///
    /// # Errors
    /// When the format cannot hold the value, or the key cannot be changed alone. Then nothing has changed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, ConfigFileError> {
        if self.get(key) == Some(value) {
            return Ok(false);
        }
        let mut expected = self.entries.clone();
        expected.insert(key.to_owned(), value.to_owned());
        let candidates = match self.format {
            ConfigFormat::FlinkConfYaml => {
                if let Some(reason) = legacy::unwritable(key, value) {
                    let (file, key) = (self.format.file_name(), key.to_owned());
                    return Err(ConfigFileError::Unwritable { file, key, reason });
                }
                vec![legacy::set(&self.text, key, value)]
            }
            ConfigFormat::ConfigYaml => self.yaml_texts_with(key, value),
        };
        let changed = candidates
            .iter()
            .find_map(|text| self.verified(text, &expected));
        *self = changed.ok_or_else(|| self.not_editable(key))?;
        Ok(true)
    }

    /// Takes `key` out in all its spellings, and the mappings that become empty by it. Returns whether it was there.
    ///
    /// # Errors
    /// When the key cannot be taken out alone. Then nothing has changed.
    pub fn remove(&mut self, key: &str) -> Result<bool, ConfigFileError> {
        let mut expected = self.entries.clone();
        if expected.remove(key).is_none() {
            return Ok(false);
        }
        let candidates = match self.format {
            ConfigFormat::FlinkConfYaml => vec![legacy::remove(&self.text, key)],
            ConfigFormat::ConfigYaml => Removal::all()
                .filter_map(|removal| yaml_text_without(&self.text, key, removal))
                .collect(),
        };
        let changed = candidates
            .iter()
            .find_map(|text| self.verified(text, &expected));
        *self = changed.ok_or_else(|| self.not_editable(key))?;
        Ok(true)
    }

    fn yaml_texts_with(&self, key: &str, value: &str) -> Vec<String> {
        let Ok(document) = yaml::parse(&self.text) else {
            return Vec::new();
        };
        let found = match &document.root {
            Some(root) => flatten::flatten(&self.text, root).unwrap_or_default(),
            None => Vec::new(),
        };
        let winner = found.iter().rfind(|occurrence| occurrence.key == key);
        yaml_edit::set(&self.text, &document, winner, (key, value))
    }

    /// `text` read again, if it says exactly what is expected.
    fn verified(&self, text: &str, expected: &BTreeMap<String, String>) -> Option<Self> {
        Self::parse(self.format, text)
            .ok()
            .filter(|file| file.entries == *expected)
    }

    fn not_editable(&self, key: &str) -> ConfigFileError {
        let (file, key) = (self.format.file_name(), key.to_owned());
        ConfigFileError::NotEditable { file, key }
    }
}

fn read_yaml(text: &str) -> Result<BTreeMap<String, String>, Fault> {
    let document = yaml::parse(text)?;
    let Some(root) = &document.root else {
        return Ok(BTreeMap::new());
    };
    let found = flatten::flatten(text, root)?;
    Ok(found
        .into_iter()
        .map(|entry| (entry.key, entry.value))
        .collect())
}

/// `text` without any spelling of `key`; `None` when one of them cannot be taken out.
fn yaml_text_without(text: &str, key: &str, removal: Removal) -> Option<String> {
    let mut text = text.to_owned();
    loop {
        let document = yaml::parse(&text).ok()?;
        let Some(root) = &document.root else {
            return Some(text);
        };
        let found = flatten::flatten(&text, root).ok()?;
        let Some(last) = found.iter().rfind(|occurrence| occurrence.key == key) else {
            return Some(text);
        };
        if last.shared {
            return None;
        }
        let shorter = yaml_edit::remove(&text, root, &last.path, removal)?;
        if shorter.len() >= text.len() {
            return None;
        }
        text = shorter;
    }
}

#[cfg(test)]
mod tests;
