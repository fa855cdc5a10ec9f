//! Flink's configuration as a pod has it: from a mounted ConfigMap, from `FLINK_PROPERTIES` and from `-D` arguments.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use super::pods;
use crate::flink::config_file::{ConfigFile, ConfigFormat};

/// What is known of Flink's configuration in a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlinkConfig {
    /// All keys, flat.
    pub entries: BTreeMap<String, String>,
    /// The configuration file itself was seen: what is not in `entries` is not configured. Else it is the image's.
    pub complete: bool,
}

impl FlinkConfig {
    /// The first of these keys that has a value.
    #[must_use]
    pub fn first(&self, keys: &[&str]) -> Option<&str> {
        let values = keys.iter().filter_map(|key| self.entries.get(*key));
        values
            .map(|value| value.trim())
            .find(|value| !value.is_empty())
    }
}

/// The ConfigMaps that Flink's container mounts; one of them may have its configuration.
pub(super) fn mounted_maps(pod: &Pod) -> Vec<String> {
    let mounts = pods::flink_container(pod).and_then(|container| container.volume_mounts.as_ref());
    let mounted = |volume: &str| {
        mounts
            .iter()
            .copied()
            .flatten()
            .any(|mount| mount.name == volume)
    };
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter(|volume| mounted(&volume.name))
        .filter_map(|volume| volume.config_map.as_ref())
        .map(|map| map.name.clone())
        .collect()
}

/// The configuration that the pod has with these ConfigMaps.
pub(super) fn configuration(pod: &Pod, maps: &[ConfigMap]) -> FlinkConfig {
    let mut config = FlinkConfig::default();
    for map in maps {
        for format in [ConfigFormat::FlinkConfYaml, ConfigFormat::ConfigYaml] {
            let text = map
                .data
                .as_ref()
                .and_then(|data| data.get(format.file_name()));
            let parsed = text.and_then(|text| ConfigFile::parse(format, text).ok());
            if let Some(parsed) = parsed {
                config.complete = true;
                config.entries.extend(parsed.entries().clone());
            }
        }
    }
    let properties = pods::env(pod, "FLINK_PROPERTIES");
    if let Some(Ok(parsed)) =
        properties.map(|text| ConfigFile::parse(ConfigFormat::FlinkConfYaml, text))
    {
        config.entries.extend(parsed.entries().clone());
    }
    config.entries.extend(dynamic(pod));
    config
}

/// `-Dkey=value` and `-D key=value`, also inside the one word that native mode gives to a shell.
fn dynamic(pod: &Pod) -> Vec<(String, String)> {
    let Some(container) = pods::flink_container(pod) else {
        return Vec::new();
    };
    let all = container
        .command
        .iter()
        .flatten()
        .chain(container.args.iter().flatten());
    let words: Vec<&str> = all.flat_map(|word| word.split_whitespace()).collect();
    let pair = |at: usize| {
        let rest = words[at].strip_prefix("-D")?;
        let text = if rest.is_empty() {
            words.get(at + 1)?
        } else {
            rest
        };
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
    };
    (0..words.len()).filter_map(pair).collect()
}
