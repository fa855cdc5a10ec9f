//! Keeps certificate and configuration together: follows the Secret and the MutatingWebhookConfiguration, and on the replica that leads
//! takes the steps of a rotation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::Shared;
use super::certificate::{self, Certificate, Pem};
use super::registration::{self, Entry};
use super::rotation::{Material, Policy, Step, next_step};
use crate::kubernetes::{Kube, KubeError, admission};
use crate::telemetry::one_line;

/// The pause after a step that failed, and the longest one without a look at the clock: it may be set.
const AGAIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_secs(60 * 60);

/// What the keeper works on.
pub(super) struct Keeper {
    pub(super) kube: Kube,
    pub(super) shared: Arc<Shared>,
    /// The MutatingWebhookConfiguration.
    pub(super) configuration: String,
    /// How the built-in certificate is renewed; `None` when somebody else does it.
    pub(super) renewal: Option<Renewal>,
}

/// How the built-in certificate is kept.
pub(super) struct Renewal {
    pub(super) secret: String,
    pub(super) policy: Policy,
    pub(super) lifetime: Duration,
    pub(super) leads: watch::Receiver<bool>,
}

/// What is known of the Secret.
#[derive(Default)]
struct Seen {
    /// Nothing is known since the last change.
    stale: bool,
    /// The version of the Secret; `None` when there is none.
    version: Option<String>,
    /// The last that could be served.
    material: Option<Material>,
    /// The Secret no longer has it: it was deleted, emptied or damaged.
    lost: bool,
    /// The bundle that the configuration has, and since when it has been seen there.
    published: Option<(String, Instant)>,
}

impl Seen {
    /// For how long the configuration has had `bundle`, if it has. Without entries there is nobody who trusts it.
    fn published(&mut self, entries: &[Entry], bundle: &str) -> Option<Duration> {
        let known = !entries.is_empty() && entries.iter().all(|entry| entry.bundle == bundle);
        let before = self.published.take();
        if !known {
            return None;
        }
        let same = before.filter(|(published, _)| published == bundle);
        let (_, since) = self
            .published
            .insert(same.unwrap_or_else(|| (bundle.to_owned(), Instant::now())));
        Some(since.elapsed())
    }
}

impl Keeper {
    /// Follows both for ever.
    pub(super) async fn run(mut self) {
        let mut configurations = admission::watch_configuration(&self.kube, &self.configuration);
        let Some(mut renewal) = self.renewal.take() else {
            while let Some(seen) = configurations.next().await {
                self.configured(seen);
            }
            return;
        };
        let mut secrets = admission::watch_secret(&self.kube, &renewal.secret);
        let mut seen = Seen {
            stale: true,
            ..Seen::default()
        };
        let mut wake = Instant::now();
        loop {
            tokio::select! {
                Some(next) = configurations.next() => self.configured(next),
                Some(next) = secrets.next() => self.secret(next, &mut seen),
                Ok(()) = renewal.leads.changed() => {}
                () = sleep_until(wake) => {}
            }
            let leads = *renewal.leads.borrow_and_update();
            self.shared.metrics.leader.set(i64::from(leads));
            let pause = if leads {
                self.steps(&renewal, &mut seen).await
            } else {
                // Whoever leads meanwhile may publish another one.
                seen.published = None;
                LOOK
            };
            wake = Instant::now() + pause;
        }
    }

    fn configured(&self, seen: Result<Option<MutatingWebhookConfiguration>, KubeError>) {
        match seen {
            Ok(Some(configuration)) => self.shared.register(registration::entries(&configuration)),
            Ok(None) => self.shared.register(Vec::new()),
            // What was known before stays: that the API server is away makes nobody unready.
            Err(error) => {
                let error = one_line(&error, 300);
                warn!(error, "Cannot see the MutatingWebhookConfiguration");
                self.shared.unregistered(&error);
            }
        }
    }

    fn secret(&self, next: Result<Option<Secret>, KubeError>, seen: &mut Seen) {
        let secret = match next {
            Ok(secret) => secret,
            Err(error) => {
                warn!(
                    error = one_line(&error, 300),
                    "Cannot see the certificate's Secret"
                );
                return;
            }
        };
        seen.stale = false;
        seen.version = secret
            .as_ref()
            .and_then(|secret| secret.metadata.resource_version.clone());
        let material = secret.as_ref().map(material);
        let usable = |it: &Material| {
            let served = it.served.as_ref();
            served.is_some_and(|pem| Certificate::read(pem).is_ok())
        };
        match material.filter(usable) {
            Some(material) => {
                if let Some(served) = &material.served {
                    self.shared.tls.hand_in(served);
                }
                seen.material = Some(material);
                seen.lost = false;
            }
            None => seen.lost = seen.material.is_some(),
        }
    }

    /// Takes the next step; returns after how long there may be another one.
    async fn steps(&self, renewal: &Renewal, seen: &mut Seen) -> Duration {
        let Some(entries) = self.shared.entries() else {
            return AGAIN;
        };
        if seen.stale {
            return LOOK;
        }
        let material = seen.material.clone().unwrap_or_default();
        let published = seen.published(&entries, &material.bundle);
        let now = Timestamp::now();
        let step = match seen.lost {
            // API servers trust what is served, and nothing new yet.
            true => Step::Restore,
            false => next_step(&material, published, &renewal.policy, now),
        };
        match self
            .take(step, renewal, seen, &material, &entries, now)
            .await
        {
            Ok(pause) => pause,
            Err(error) => {
                warn!(
                    ?step,
                    error, "Cannot take a step of the certificate's rotation"
                );
                AGAIN
            }
        }
    }

    async fn take(
        &self,
        step: Step,
        renewal: &Renewal,
        seen: &mut Seen,
        material: &Material,
        entries: &[Entry],
        now: Timestamp,
    ) -> Result<Duration, String> {
        let new = || {
            certificate::make(&renewal.policy.names, now, renewal.lifetime)
                .map_err(|error| error.to_string())
        };
        let changed = match step {
            Step::Wait(rest) => return Ok(rest.min(LOOK)),
            Step::Publish => return self.publish(entries, &material.bundle).await,
            Step::Restore => material.clone(),
            Step::Found => material.found(new()?, now),
            Step::Stage => material.staged(new()?, now),
            Step::Promote => material.promoted(),
            Step::Prune => material.pruned(now),
        };
        let version = seen.version.as_deref();
        let stored = admission::store_secret(&self.kube, &renewal.secret, version, data(&changed));
        // Also when somebody else was faster, the watch tells what it is now.
        seen.stale = true;
        match stored.await {
            Ok(()) | Err(KubeError::Conflict { .. }) => {}
            Err(error) => {
                seen.stale = false;
                return Err(one_line(&error, 300));
            }
        }
        info!(?step, secret = renewal.secret, "Changed the certificate");
        Ok(LOOK)
    }

    async fn publish(&self, entries: &[Entry], bundle: &str) -> Result<Duration, String> {
        let operations = registration::patch(entries, bundle);
        if operations.as_array().is_none_or(Vec::is_empty) {
            return Ok(LOOK);
        }
        self.patch(&operations).await?;
        info!(configuration = self.configuration, "Published the CA");
        Ok(LOOK)
    }

    async fn patch(&self, operations: &Value) -> Result<(), String> {
        admission::patch_configuration(&self.kube, &self.configuration, operations)
            .await
            .map_err(|error| one_line(&error, 300))
    }
}

fn material(secret: &Secret) -> Material {
    let text = |key: &str| {
        let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.clone())
            .ok()
            .filter(|text| !text.is_empty())
    };
    let pem = |chain: &str, key: &str| {
        Some(Pem {
            chain: text(chain)?,
            key: text(key)?,
        })
    };
    Material {
        bundle: text("ca.crt").unwrap_or_default(),
        served: pem("tls.crt", "tls.key"),
        next: pem("next.crt", "next.key"),
    }
}

fn data(material: &Material) -> BTreeMap<&'static str, Option<ByteString>> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let half = |pem: &Option<Pem>, half: fn(&Pem) -> &str| pem.as_ref().map(|pem| bytes(half(pem)));
    [
        ("ca.crt", Some(bytes(&material.bundle))),
        ("tls.crt", half(&material.served, |pem| &pem.chain)),
        ("tls.key", half(&material.served, |pem| &pem.key)),
        ("next.crt", half(&material.next, |pem| &pem.chain)),
        ("next.key", half(&material.next, |pem| &pem.key)),
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entries(bundle: &str) -> Vec<Entry> {
        let configuration = json!({"metadata": {}, "webhooks": [{
            "name": "jobmanager.drey.io",
            "clientConfig": {"caBundle": ByteString(bundle.as_bytes().to_vec())},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }]});
        registration::entries(&serde_json::from_value(configuration).expect("a configuration"))
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_a_bundle_is_published_is_told_of_that_bundle_alone() {
        let mut seen = Seen::default();
        let second = Duration::from_secs(1);
        assert_eq!(seen.published(&[], "old"), None);
        assert_eq!(seen.published(&entries("other"), "old"), None);
        assert_eq!(seen.published(&entries("old"), "old"), Some(Duration::ZERO));
        tokio::time::advance(second).await;
        assert_eq!(seen.published(&entries("old"), "old"), Some(second));
        // Secret and configuration have changed, and both were seen at once.
        assert_eq!(seen.published(&entries("new"), "new"), Some(Duration::ZERO));
        assert_eq!(seen.published(&[], "new"), None);
    }
}
