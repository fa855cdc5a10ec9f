//! The webhook's own metrics, as Prometheus text.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// One family: name, type, labels, meaning.
type Family = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

const ADMISSIONS: Family = (
    "drey_webhook_admissions_total",
    "counter",
    &["outcome", "reason"],
    "Requests that were answered: `injected`, `skipped`, `refused`, `ignored` (no pod is created), or `failed`",
);
const SECONDS: Family = (
    "drey_webhook_admission_seconds",
    "histogram",
    &[],
    "Time from a request's head to its answer",
);
const CONNECTIONS: Family = (
    "drey_webhook_connections",
    "gauge",
    &[],
    "Open TLS connections",
);
const EXPIRY: Family = (
    "drey_webhook_certificate_expiry_timestamp_seconds",
    "gauge",
    &[],
    "When the certificate that is served ends, as seconds since 1970; 0 if there is none",
);
const READY: Family = ("drey_webhook_ready", "gauge", &[], "1 if `/readyz` says so");
const LEADER: Family = (
    "drey_webhook_leader",
    "gauge",
    &[],
    "1 on the replica that renews the built-in certificate",
);
const BUILD: Family = (
    "drey_build_info",
    "gauge",
    &["version"],
    "1, with this program's version",
);

/// All of them, in the order in which they are documented.
const FAMILIES: [Family; 7] = [
    ADMISSIONS,
    SECONDS,
    CONNECTIONS,
    EXPIRY,
    READY,
    LEADER,
    BUILD,
];

/// The upper bounds of the histogram's buckets, in seconds: an answer takes a fraction of a millisecond.
const BUCKETS: [f64; 9] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 2.0];

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    admissions: IntCounterVec,
    seconds: Histogram,
    pub(super) connections: IntGauge,
    pub(super) expiry: Gauge,
    pub(super) ready: IntGauge,
    pub(super) leader: IntGauge,
}

impl Metrics {
    /// # Errors
    /// When two families have the same name.
    pub(super) fn new() -> prometheus::Result<Self> {
        let options = |family: Family| Opts::new(family.0, family.3);
        let metrics = Self {
            registry: Registry::new(),
            admissions: IntCounterVec::new(options(ADMISSIONS), ADMISSIONS.2)?,
            seconds: Histogram::with_opts(
                HistogramOpts::new(SECONDS.0, SECONDS.3).buckets(BUCKETS.to_vec()),
            )?,
            connections: IntGauge::with_opts(options(CONNECTIONS))?,
            expiry: Gauge::with_opts(options(EXPIRY))?,
            ready: IntGauge::with_opts(options(READY))?,
            leader: IntGauge::with_opts(options(LEADER))?,
        };
        let build = IntGaugeVec::new(options(BUILD), BUILD.2)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.admissions.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.expiry.clone()))?;
        registry.register(Box::new(metrics.ready.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(build))?;
        Ok(metrics)
    }

    pub(super) fn answered(&self, outcome: &str, reason: &str, took: Duration) {
        self.admissions.with_label_values(&[outcome, reason]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// # Errors
    /// When they cannot be written as text.
    pub(super) fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// The families as a table for the README.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, kind, labels, help) in FAMILIES {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        table.push_str(&format!(
            "| `{name}` | {kind} | {} | {help} |\n",
            labels.join(", ")
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_served() {
        let metrics = Metrics::new().expect("metrics");
        metrics.answered("injected", "OptedIn", Duration::from_millis(1));
        let text = String::from_utf8(metrics.text().expect("text")).expect("UTF-8");
        for (name, kind, _, help) in FAMILIES {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{text}");
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{text}");
        }
        let admissions = "drey_webhook_admissions_total{outcome=\"injected\",reason=\"OptedIn\"} 1";
        assert!(text.contains(admissions), "{text}");
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../README.md");
        let table = markdown_table();
        assert!(
            readme.contains(&table),
            "README.md lacks this table:\n{table}"
        );
    }
}
