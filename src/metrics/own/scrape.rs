//! What one answer says: all metrics of Drey's own, and what became of the pages of Flink in it.

use std::fmt::Write as _;
use std::time::Duration;

use prometheus::{Encoder as _, TextEncoder};

use super::{Family, Own, number};
use crate::metrics::aggregate::{Others, TM_ID};
use crate::metrics::merge::{Counts, Merger};
use crate::metrics::proxy::Outcome;
use crate::metrics::relabel::Rules;

/// The families of a TaskManager that a JobManager serves, too: what the others tell is about a supervisor, and the same
/// series without a supervisor behind it, beside the JobManager's own, would mislead alerts.
pub const OF_TASK_MANAGERS: &[&str] = &[
    "drey_build_info",
    "drey_hold_duration_seconds",
    "drey_task_manager_restarts_total",
    "drey_flink_scrapes_total",
    "drey_flink_lines_dropped_total",
    "drey_flink_scrape_series",
    "drey_flink_scrape_series_over_limit",
    "drey_flink_scrape_duration_seconds",
    "drey_flink_scrape_age_seconds",
    "drey_flink_scrape_success",
];

const LISTED: Family = gauge(
    "drey_taskmanager_list_success",
    &[
        "Whether Flink told which TaskManagers there are (`metrics-aggregate`); if not, those of the last time are asked.",
    ],
    &[],
);

const MEMBER: Family = gauge(
    "drey_taskmanager_scrape_success",
    &["Whether the page of this TaskManager is complete in this answer (`metrics-aggregate`)."],
    &[(TM_ID, &[])],
);

/// What each answer says about Flink's page in it.
pub const SCRAPE: &[Family] = &[
    LISTED,
    MEMBER,
    gauge(
        "drey_flink_scrape_series",
        &["Series of Flink in this answer."],
        &[],
    ),
    gauge(
        "drey_flink_scrape_series_over_limit",
        &[
            "Series of Flink that are NOT in this answer, since they are beyond `metrics-series-limit`.",
        ],
        &[],
    ),
    gauge(
        "drey_flink_scrape_duration_seconds",
        &["How long it took to read Flink's page."],
        &[],
    ),
    gauge(
        "drey_flink_scrape_age_seconds",
        &["How old Flink's page in this answer is (`metrics-cache`)."],
        &[],
    ),
    gauge(
        "drey_flink_scrape_success",
        &["Whether Flink's page is complete in this answer. Always the last line."],
        &[],
    ),
];

const fn gauge(
    name: &'static str,
    doc: &'static [&'static str],
    labels: &'static [(&'static str, &'static [&'static str])],
) -> Family {
    Family {
        name,
        kind: "gauge",
        doc,
        labels,
    }
}

/// What became of Flink's page in one answer.
#[derive(Debug, Clone, Copy)]
pub struct Scrape<'a> {
    /// Its lines.
    pub counts: Counts,
    /// How its reading came out.
    pub outcome: Outcome,
    /// How long that took.
    pub duration: Duration,
    /// How long it is ago.
    pub age: Duration,
    /// The TaskManagers, where they are served, too.
    pub others: Option<&'a Others>,
}

impl Scrape<'_> {
    /// There was no page for this answer.
    #[must_use]
    pub fn missed(duration: Duration) -> Self {
        Self {
            counts: Counts::default(),
            outcome: Outcome::Slow,
            duration,
            age: Duration::ZERO,
            others: None,
        }
    }

    /// In the order of [`SCRAPE`], by label.
    fn values(&self) -> [Vec<(&str, f64)>; SCRAPE.len()] {
        let one = |value: f64| vec![("", value)];
        let listed = self.others.map(|others| one(others.listed.into()));
        let members = self.others.into_iter().flat_map(|others| &others.asked);
        [
            listed.unwrap_or_default(),
            members
                .map(|(id, complete)| (id.as_str(), f64::from(*complete)))
                .collect(),
            one(number(self.counts.series)),
            one(number(self.counts.over_limit)),
            one(self.duration.as_secs_f64()),
            one(self.age.as_secs_f64()),
            one((self.outcome == Outcome::Complete).into()),
        ]
    }

    fn write(&self, text: &mut String) {
        for (family, values) in SCRAPE.iter().zip(self.values()) {
            if values.is_empty() {
                continue;
            }
            let (name, help) = (family.name, family.help());
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
            for (id, value) in values {
                let _ = match family.labels {
                    [(label, _)] => writeln!(text, "{name}{{{label}=\"{id}\"}} {value}"),
                    _ => writeln!(text, "{name} {value}"),
                };
            }
        }
    }
}

impl Own {
    /// All of them in the text format, with `labels` and what is to say about one scrape at the end. The lines of
    /// TaskManagers come first in their families, so that the last line of all is this process's own.
    #[must_use]
    pub fn text(&self, labels: &Rules, scrape: &Scrape<'_>) -> String {
        let mut text = Vec::new();
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        let mut text = String::from_utf8(text).unwrap_or_default();
        scrape.write(&mut text);
        let mut merger = Merger::own(labels, Vec::new());
        for line in text.lines() {
            merger.line(line.as_bytes());
            if let Some(about) = line.strip_prefix("# TYPE ")
                && let Some(others) = scrape.others
            {
                let family = about.split(' ').next().unwrap_or_default();
                feed(&mut merger, others.own.of(family));
            }
        }
        String::from_utf8(merger.finish().sink).unwrap_or_default()
    }
}

fn feed(merger: &mut Merger<'_, Vec<u8>>, lines: &[u8]) {
    lines
        .split(|byte| *byte == b'\n')
        .for_each(|line| merger.line(line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::own::TABLE;
    use crate::metrics::spool::{Families, Gather as _};

    #[test]
    fn what_a_task_manager_tells_exists() {
        let exists = |name: &&str| {
            TABLE
                .iter()
                .chain(SCRAPE)
                .any(|family| family.name == *name)
        };
        for name in OF_TASK_MANAGERS {
            assert!(exists(name), "{name}");
        }
    }

    #[test]
    fn the_last_line_is_this_process_own_whatever_others_say() {
        let mut own = Families::only(OF_TASK_MANAGERS);
        for family in ["drey_flink_scrape_success", "drey_build_info", "drey_jobs"] {
            own.add(family, format!("# TYPE {family} gauge\n").as_bytes());
            own.add(family, format!("{family}{{tm_id=\"a\"}} 7\n").as_bytes());
        }
        let others = Others {
            listed: true,
            asked: vec![("a".to_owned(), true), ("b".to_owned(), false)],
            own,
        };
        let mut scrape = Scrape::missed(Duration::ZERO);
        scrape.others = Some(&others);
        let labels = Rules::adding(vec![("cluster_id".to_owned(), "c".to_owned())]);
        let text = Own::new().text(&labels, &scrape);
        let last: Vec<&str> = text.lines().rev().take(2).collect();
        assert_eq!(
            last,
            [
                "drey_flink_scrape_success{cluster_id=\"c\"} 0",
                "drey_flink_scrape_success{tm_id=\"a\",cluster_id=\"c\"} 7"
            ]
        );
        for line in [
            "drey_taskmanager_scrape_success{tm_id=\"a\",cluster_id=\"c\"} 1",
            "drey_taskmanager_scrape_success{tm_id=\"b\",cluster_id=\"c\"} 0",
            "drey_taskmanager_list_success{cluster_id=\"c\"} 1",
            "drey_build_info{tm_id=\"a\",cluster_id=\"c\"} 7",
        ] {
            assert_eq!(
                text.lines().filter(|it| *it == line).count(),
                1,
                "{line} in {text}"
            );
        }
        assert!(!text.contains("drey_jobs{tm_id"), "{text}");
        let heads: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .collect();
        let unique: std::collections::BTreeSet<&&str> = heads.iter().collect();
        assert_eq!(unique.len(), heads.len());
    }
}
