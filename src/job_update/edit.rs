//! What an upgrade changes in Flink's configuration, and what native mode has in its Deployment beside it. No I/O.

use serde_json::{Value, json};

use super::error::JobError;
use crate::flink::config_file::{ConfigFile, ConfigFormat};

/// The JobManager's and the TaskManagers' image in native mode: the name since 1.16, and the older one.
const IMAGES: [&str; 2] = [
    "kubernetes.container.image.ref",
    "kubernetes.container.image",
];

/// What belongs to Drey, or says which cluster it is.
const FIXED: [&str; 6] = [
    "execution.savepoint.path",
    "execution.state-recovery.path",
    "kubernetes.cluster-id",
    "kubernetes.namespace",
    "high-availability.cluster-id",
    "$internal.pipeline.job-id",
];

const MEMORY: &str = "jobmanager.memory.process.size";
const CPU: &str = "kubernetes.jobmanager.cpu.amount";
const CPU_FACTOR: &str = "kubernetes.jobmanager.cpu.limit-factor";
const MEMORY_FACTOR: &str = "kubernetes.jobmanager.memory.limit-factor";

/// What an upgrade changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The image of JobManager and TaskManagers.
    pub image: Option<String>,
    /// `parallelism.default`.
    pub parallelism: Option<u32>,
    /// Options of Flink.
    pub set: Vec<(String, String)>,
}

impl Change {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), JobError> {
        if self.image.is_none() && self.parallelism.is_none() && self.set.is_empty() {
            return Err(JobError::Usage(
                "nothing to change: give `--image`, `--parallelism` or `--set KEY=VALUE`"
                    .to_owned(),
            ));
        }
        match self
            .set
            .iter()
            .find(|(key, _)| FIXED.contains(&key.as_str()))
        {
            Some((key, _)) => Err(JobError::Usage(format!(
                "{key} cannot be set by an upgrade: the restore point is chosen with `drey pointer set`, and another \
                 cluster id is another cluster"
            ))),
            None => Ok(()),
        }
    }

    /// The options that change in the file.
    fn options(&self, file: &ConfigFile, native: bool) -> Vec<(String, String)> {
        let mut options = self.set.clone();
        if let Some(parallelism) = self.parallelism {
            options.push(("parallelism.default".to_owned(), parallelism.to_string()));
        }
        if let (Some(image), true) = (&self.image, native) {
            let known: Vec<&str> = IMAGES
                .into_iter()
                .filter(|key| file.get(key).is_some())
                .collect();
            let keys = if known.is_empty() {
                vec![IMAGES[0]]
            } else {
                known
            };
            options.extend(keys.into_iter().map(|key| (key.to_owned(), image.clone())));
        }
        options
    }

    /// It is about more than the image of pods that Flink did not make.
    pub(super) fn is_in_file(&self, native: bool) -> bool {
        native || self.parallelism.is_some() || !self.set.is_empty()
    }

    /// The file as it is to be.
    pub(super) fn file(
        &self,
        format: ConfigFormat,
        text: &str,
        native: bool,
    ) -> Result<ConfigFile, JobError> {
        let wrong = |error: &dyn std::fmt::Display| {
            JobError::Refused(format!("Flink's configuration was not changed: {error}"))
        };
        let mut file = ConfigFile::parse(format, text).map_err(|error| wrong(&error))?;
        for (key, value) in self.options(&file, native) {
            file.set(&key, &value).map_err(|error| wrong(&error))?;
        }
        Ok(file)
    }

    /// The resources of the JobManager's container, which Flink wrote into the Deployment when it made it; `None` where
    /// nothing of them changes.
    pub(super) fn resources(&self, file: &ConfigFile) -> Option<Value> {
        let changed = |keys: &[&str]| self.set.iter().any(|(key, _)| keys.contains(&key.as_str()));
        let number = |key: &str| file.get(key).and_then(|it| it.parse::<f64>().ok());
        let mut resources = json!({"requests": {}, "limits": {}});
        let memory = file.get(MEMORY).and_then(mebibytes);
        if let (Some(memory), true) = (memory, changed(&[MEMORY, MEMORY_FACTOR])) {
            let limit = memory * number(MEMORY_FACTOR).unwrap_or(1.0);
            resources["requests"]["memory"] = json!(format!("{memory:.0}Mi"));
            resources["limits"]["memory"] = json!(format!("{limit:.0}Mi"));
        }
        if changed(&[CPU, CPU_FACTOR]) {
            let cpu = number(CPU).unwrap_or(1.0);
            let limit = cpu * number(CPU_FACTOR).unwrap_or(1.0);
            resources["requests"]["cpu"] = json!(cpu.to_string());
            resources["limits"]["cpu"] = json!(limit.to_string());
        }
        let some = resources["requests"]
            .as_object()
            .is_some_and(|all| !all.is_empty());
        some.then_some(resources)
    }
}

/// A size as Flink writes it (`MemorySize`), in MiB.
fn mebibytes(text: &str) -> Option<f64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let bytes = match text[end..].trim() {
        "" | "b" | "bytes" => 1.0,
        "k" | "kb" | "kibibytes" => 1024.0,
        "m" | "mb" | "mebibytes" => 1024.0 * 1024.0,
        "g" | "gb" | "gibibytes" => 1024.0 * 1024.0 * 1024.0,
        "t" | "tb" | "tebibytes" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number * bytes / (1024.0 * 1024.0)).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(pair).collect()
    }

    fn file(change: &Change, text: &str, native: bool) -> ConfigFile {
        change
            .file(ConfigFormat::ConfigYaml, text, native)
            .expect("a good file")
    }

    #[test]
    fn an_image_stands_in_native_modes_configuration_under_the_name_that_is_there() {
        let change = Change {
            image: Some("job:2".to_owned()),
            parallelism: Some(4),
            ..Change::default()
        };
        let old = "kubernetes.container.image: job:1\nparallelism.default: 2\n";
        let native = file(&change, old, true);
        assert_eq!(native.get("kubernetes.container.image"), Some("job:2"));
        assert_eq!(native.get("kubernetes.container.image.ref"), None);
        assert_eq!(native.get("parallelism.default"), Some("4"));
        let new = file(&change, "parallelism.default: 2\n", true);
        assert_eq!(new.get("kubernetes.container.image.ref"), Some("job:2"));
        let standalone = file(&change, "parallelism.default: 2\n", false);
        assert_eq!(standalone.get("kubernetes.container.image.ref"), None);
    }

    #[test]
    fn resources_of_the_jobmanager_follow_its_options_as_flink_writes_them() {
        let change = Change {
            set: set(&[(MEMORY, "1600m"), (CPU, "0.5")]),
            ..Change::default()
        };
        let text = "kubernetes.jobmanager.cpu.limit-factor: 4\n";
        assert_eq!(
            change.resources(&file(&change, text, true)),
            Some(json!({
                "requests": {"memory": "1600Mi", "cpu": "0.5"}, "limits": {"memory": "1600Mi", "cpu": "2"},
            }))
        );
        let other = Change {
            set: set(&[("restart-strategy.type", "fixed-delay")]),
            ..Change::default()
        };
        let text = "jobmanager.memory.process.size: 1g\n";
        assert_eq!(other.resources(&file(&other, text, true)), None);
        assert_eq!(mebibytes("1 gb"), Some(1024.0));
        assert_eq!(mebibytes("1x"), None);
    }

    #[test]
    fn what_belongs_to_drey_is_not_set() {
        for key in FIXED {
            let change = Change {
                set: set(&[(key, "x")]),
                ..Change::default()
            };
            assert!(matches!(change.check(), Err(JobError::Usage(_))), "{key}");
        }
        assert!(Change::default().check().is_err());
    }
}
