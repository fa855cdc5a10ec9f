//! Which of Flink's series are served: rules as in Prometheus' `metric_relabel_configs`, and labels for all of them.

use regex::Regex;
use serde::Deserialize;

use super::line::{escaped, unescaped};

/// The name of a series, as a label.
const NAME: &str = "__name__";

/// The label with the name of a job: that of Flink's own series.
pub const JOB_NAME: &str = "job_name";

/// What happens to series.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    series: Vec<SeriesRule>,
    labels: Vec<LabelRule>,
    /// With escaped values.
    added: Vec<(String, String)>,
    /// They take the place of those with the same name.
    replacing: bool,
    /// The name of the job is one more, once it is known.
    job_name: bool,
}

#[derive(Debug, Clone)]
struct SeriesRule {
    source: Vec<String>,
    separator: String,
    regex: Regex,
    keep: bool,
}

#[derive(Debug, Clone)]
struct LabelRule {
    regex: Regex,
    keep: bool,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RelabelError {
    /// It is no YAML list of rules.
    #[error("is not a list of rules: {0}")]
    Yaml(String),
    /// A rule is of no use here.
    #[error("rule {number}: {what}; {remedy}")]
    Rule {
        /// Its place in the list, from 1.
        number: usize,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    source_labels: Vec<String>,
    #[serde(default = "semicolon")]
    separator: String,
    #[serde(default = "anything")]
    regex: String,
    #[serde(default = "replace")]
    action: String,
    target_label: Option<String>,
    replacement: Option<String>,
    modulus: Option<u64>,
}

fn semicolon() -> String {
    ";".to_owned()
}

fn anything() -> String {
    "(.*)".to_owned()
}

fn replace() -> String {
    "replace".to_owned()
}

impl Rules {
    /// Reads the YAML list `text`; `labels` are put on every series that has none of the same name.
    ///
    /// # Errors
    /// When it is none, or when a rule does anything else than to keep or drop series or labels: the names and values of
    /// Flink's metrics are what its documentation and everybody's dashboards say.
    pub fn read(text: &str, labels: Vec<(String, String)>) -> Result<Self, RelabelError> {
        let written: Option<Vec<Written>> = serde_saphyr::from_str(text)
            .map_err(|error| RelabelError::Yaml(error.to_string().replace('\n', " ")))?;
        let mut rules = Self::adding(labels);
        for (index, rule) in written.unwrap_or_default().into_iter().enumerate() {
            rules
                .take(rule)
                .map_err(|(what, remedy)| RelabelError::Rule {
                    number: index + 1,
                    what,
                    remedy,
                })?;
        }
        Ok(rules)
    }

    /// No rules but labels.
    #[must_use]
    pub fn adding(labels: Vec<(String, String)>) -> Self {
        let added = labels
            .into_iter()
            .map(|(name, value)| (name, escaped(&value)));
        Self {
            added: added.collect(),
            ..Self::default()
        }
    }

    /// No rules but one label, which takes the place of any with the same name.
    #[must_use]
    pub fn replacing(name: &str, value: &str) -> Self {
        Self {
            replacing: true,
            ..Self::adding(vec![(name.to_owned(), value.to_owned())])
        }
    }

    /// Whether the name of the job is one more label.
    #[must_use]
    pub fn with_job_name(mut self, wanted: bool) -> Self {
        self.job_name = wanted;
        self
    }

    /// Whether it is.
    #[must_use]
    pub fn wants_job_name(&self) -> bool {
        self.job_name
    }

    /// These rules for the job with this name.
    #[must_use]
    pub fn of_job(&self, name: &str) -> Self {
        let mut rules = self.clone();
        rules.added.push((JOB_NAME.to_owned(), escaped(name)));
        rules
    }

    fn take(&mut self, rule: Written) -> Result<(), (String, &'static str)> {
        let anchored = format!("^(?s:{})$", rule.regex);
        let regex = Regex::new(&anchored).map_err(|_| {
            let what = format!("`{}` is not a regular expression", rule.regex);
            (what, "mend it")
        })?;
        let changes = rule.target_label.is_some() || rule.replacement.is_some();
        if changes || rule.modulus.is_some() {
            let remedy = "leave out `target_label`, `replacement` and `modulus`";
            return Err(("changes values of labels".to_owned(), remedy));
        }
        let keep = matches!(rule.action.as_str(), "keep" | "labelkeep");
        match rule.action.as_str() {
            "keep" | "drop" if rule.source_labels.is_empty() => {
                let what = format!("`{}` has no `source_labels`", rule.action);
                Err((what, "name some, such as `[__name__]`"))
            }
            "keep" | "drop" => {
                self.series.push(SeriesRule {
                    source: rule.source_labels,
                    separator: rule.separator,
                    regex,
                    keep,
                });
                Ok(())
            }
            "labelkeep" | "labeldrop" => {
                self.labels.push(LabelRule { regex, keep });
                Ok(())
            }
            other => {
                let what = format!("the action `{other}` is not for here");
                let remedy =
                    "use `keep`, `drop`, `labelkeep` or `labeldrop`, and the others in Prometheus";
                Err((what, remedy))
            }
        }
    }

    /// Whether a series stays.
    pub fn keeps<'a>(
        &self,
        name: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> bool {
        self.series.iter().all(|rule| {
            let value = |source: &String| {
                if source == NAME {
                    return name.to_owned();
                }
                let found = labels.clone().find(|(label, _)| label == source);
                found.map_or_else(String::new, |(_, value)| unescaped(value).into_owned())
            };
            let values: Vec<String> = rule.source.iter().map(value).collect();
            rule.regex.is_match(&values.join(&rule.separator)) == rule.keep
        })
    }

    /// Whether some labels may go.
    #[must_use]
    pub fn change_labels(&self) -> bool {
        self.replacing || !self.labels.is_empty()
    }

    /// Whether labels for every series take the place of those that it has.
    #[must_use]
    pub fn replaces_labels(&self) -> bool {
        self.replacing
    }

    /// Whether a label stays.
    #[must_use]
    pub fn keeps_label(&self, name: &str) -> bool {
        let stays = |rule: &LabelRule| rule.regex.is_match(name) == rule.keep;
        let replaced = self.replacing && self.added.iter().any(|(added, _)| added == name);
        !replaced && self.labels.iter().all(stays)
    }

    /// Labels for every series, with escaped values.
    pub fn added(&self) -> impl Iterator<Item = (&str, &str)> {
        self.added
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Rules, String> {
        Rules::read(text, Vec::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn series_are_kept_and_dropped_by_name_and_label() {
        let rules = rules(
            "- source_labels: [__name__]\n  regex: flink_.*\n  action: keep\n\
             - {source_labels: [__name__, task], separator: '@', regex: '.*_buffers_.*@Map.*', action: drop}\n",
        )
        .expect("good rules");
        let with = |name, task| rules.keeps(name, [("host", "x"), ("task", task)].into_iter());
        assert!(with("flink_a", "Map"));
        assert!(!with("other_flink_a", "Map"));
        assert!(!with("flink_buffers_x", "Map\\n1"));
        assert!(with("flink_buffers_x", "Sink"));
    }

    #[test]
    fn labels_are_kept_and_dropped_by_name() {
        let rules = rules("- {regex: 'task_attempt_.*', action: labeldrop}").expect("good rules");
        assert!(rules.change_labels());
        assert!(!rules.keeps_label("task_attempt_id"));
        assert!(rules.keeps_label("task_id"));
    }

    #[test]
    fn what_would_change_flinks_metrics_is_refused() {
        for (text, expected) in [
            (
                "- {source_labels: [a], target_label: b}",
                "changes values of labels",
            ),
            (
                "- {source_labels: [a]}",
                "the action `replace` is not for here",
            ),
            ("- {action: keep}", "`keep` has no `source_labels`"),
            (
                "- {source_labels: [a], action: keep, regex: '('}",
                "`(` is not a regular expression",
            ),
            ("a: 1", "is not a list of rules"),
            ("- {colour: red}", "is not a list of rules"),
        ] {
            let error = rules(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
        assert!(rules("").is_ok());
    }
}
