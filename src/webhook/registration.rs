//! Drey's entries in the MutatingWebhookConfiguration: what API servers trust, and the patch that changes it.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::{Value, json};

/// How the names of our entries end: others in the same configuration are not touched.
const OURS: &str = ".drey.io";

/// One of our entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its place among all entries.
    index: usize,
    pub(super) name: String,
    /// The name for which the API server checks the certificate.
    pub(super) host: String,
    /// PEM; empty when there is none.
    pub(super) bundle: String,
    /// The version of the configuration in which this was seen.
    version: String,
}

/// Our entries.
pub(super) fn entries(configuration: &MutatingWebhookConfiguration) -> Vec<Entry> {
    let all = configuration.webhooks.iter().flatten().enumerate();
    let version = configuration.metadata.resource_version.clone();
    let version = version.unwrap_or_default();
    all.filter(|(_, webhook)| webhook.name.ends_with(OURS))
        .map(|(index, webhook)| {
            let client = &webhook.client_config;
            let bundle = client
                .ca_bundle
                .as_ref()
                .map(|ByteString(bytes)| bytes.as_slice());
            Entry {
                index,
                name: webhook.name.clone(),
                host: match (&client.service, &client.url) {
                    (Some(service), _) => format!("{}.{}.svc", service.name, service.namespace),
                    (None, url) => host(url.as_deref().unwrap_or_default()),
                },
                bundle: String::from_utf8_lossy(bundle.unwrap_or_default()).into_owned(),
                version: version.clone(),
            }
        })
        .collect()
}

fn host(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let host = url
        .as_ref()
        .and_then(url::Url::host_str)
        .unwrap_or_default();
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}

/// The JSON patch that gives each entry `bundle`; it fails when the configuration is another one by now: who led before must not
/// put an old bundle over a new one.
pub(super) fn patch(entries: &[Entry], bundle: &str) -> Value {
    let changed = entries.iter().filter(|entry| entry.bundle != bundle);
    let operations: Vec<Value> = changed
        .flat_map(|entry| {
            let at = format!("/webhooks/{}", entry.index);
            [
                json!({ "op": "test", "path": "/metadata/resourceVersion", "value": entry.version }),
                json!({ "op": "test", "path": format!("{at}/name"), "value": entry.name }),
                json!({
                    "op": "add",
                    "path": format!("{at}/clientConfig/caBundle"),
                    "value": ByteString(bundle.as_bytes().to_vec()),
                }),
            ]
        })
        .collect();
    Value::Array(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Value {
        let entry = |name: &str, client: Value| {
            json!({
                "name": name,
                "clientConfig": client,
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            })
        };
        let service = json!({ "service": { "name": "drey-webhook", "namespace": "drey-system" } });
        json!({ "metadata": { "name": "drey", "resourceVersion": "7" }, "webhooks": [
            entry("other.example.org", json!({ "url": "https://x", "caBundle": "eA==" })),
            entry("jobmanager.drey.io", service),
            entry("taskmanager.drey.io", json!({ "url": "https://[::1]:8443/inject", "caBundle": "b2xk" })),
        ]})
    }

    #[test]
    fn the_patch_touches_our_entries_alone() {
        let mut raw = configuration();
        let typed = serde_json::from_value(raw.clone()).expect("a configuration");
        let entries = entries(&typed);
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| {
                (
                    entry.name.as_str(),
                    entry.host.as_str(),
                    entry.bundle.as_str(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("jobmanager.drey.io", "drey-webhook.drey-system.svc", ""),
                ("taskmanager.drey.io", "::1", "old"),
            ]
        );
        let patch = patch(&entries, "new");
        let patch: json_patch::Patch = serde_json::from_value(patch).expect("a patch");
        let (mut moved, mut changed) = (raw.clone(), raw.clone());
        json_patch::patch(&mut raw, &patch).expect("it fits");
        assert_eq!(raw["webhooks"][0], configuration()["webhooks"][0]);
        assert_eq!(raw["webhooks"][1]["clientConfig"]["caBundle"], "bmV3");
        assert_eq!(raw["webhooks"][2]["clientConfig"]["caBundle"], "bmV3");
        let list = moved["webhooks"].as_array_mut().expect("a list");
        list.swap(0, 1);
        json_patch::patch(&mut moved, &patch).expect_err("entries were moved");
        changed["metadata"]["resourceVersion"] = json!("8");
        json_patch::patch(&mut changed, &patch).expect_err("somebody was faster");
    }

    #[test]
    fn nothing_to_change_is_an_empty_patch() {
        let typed = serde_json::from_value(configuration()).expect("a configuration");
        let mut entries = entries(&typed);
        entries.remove(0);
        assert_eq!(patch(&entries, "old"), json!([]));
    }
}
