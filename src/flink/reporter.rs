//! Flink's own Prometheus reporter in its configuration, so that Drey can read it while Drey itself is what Prometheus
//! asks.
//!
//! The reporter ships with Flink (`plugins/metrics-prometheus`). It listens at every address of the machine and has no
//! option for that; with its port taken it throws, and Flink runs without it after one line in its log.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Ports;

/// The list of reporters. Without it Flink starts all that it finds (`ReporterSetup.fromConfiguration`).
const LIST: &str = "metrics.reporters";

/// What all keys of reporters begin with.
const PREFIX: &str = "metrics.reporter.";

/// The factory of Flink's reporter.
const FACTORY: &str = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory";

/// The class of Flink's reporter, by which Flink up to 1.16 took it, too.
const CLASS: &str = "org.apache.flink.metrics.prometheus.PrometheusReporter";

/// The port of a reporter that is given none.
const USUAL: &str = "9249";

/// The name of the reporter that Drey adds.
const OWN: &str = "drey";

/// The keys that make Flink report at one of `ports`, by what is in its configuration now. A Prometheus reporter of the
/// user's that would take `served`, the port where Drey serves, moves there, with everything else about it as it was. One
/// at another port stays where it is, for somebody may read it there, and so do reporters of other kinds.
#[must_use]
pub fn reporter_keys(
    configuration: &BTreeMap<String, String>,
    served: u16,
    ports: Ports,
) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut moved = false;
    for name in started(configuration) {
        let port = format!("{PREFIX}{name}.port");
        let now = configuration.get(&port).map(String::as_str);
        if !is_prometheus(configuration, name) {
            continue;
        }
        if name == OWN || takes(now.unwrap_or(USUAL), served) {
            keys.insert(port, text(ports));
            // From 1.17 on Flink does not start a reporter that has a `class` alone.
            let factory = format!("{PREFIX}{name}.factory.class");
            if !configuration.contains_key(&factory) {
                keys.insert(factory, FACTORY.to_owned());
            }
            moved = true;
        } else if let Some(number) = now.filter(|now| now.parse::<u16>().is_ok()) {
            keys.insert(port, format!("{number},"));
        }
    }
    if !moved {
        keys.insert(format!("{PREFIX}{OWN}.factory.class"), FACTORY.to_owned());
        keys.insert(format!("{PREFIX}{OWN}.port"), text(ports));
        if let Some(list) = listed(configuration) {
            let list = list.iter().filter(|name| **name != OWN).chain([&OWN]);
            let list: Vec<&str> = list.copied().collect();
            keys.insert(LIST.to_owned(), list.join(","));
        }
    }
    keys
}

/// As Flink takes it. A port that is a number to YAML, Flink 1.19 and 1.20 do not see in `config.yaml`, and the reporter takes
/// 9249: `MetricConfig` is a `Properties`, which has no value for a key whose value is no `String`. A list of one is.
fn text(ports: Ports) -> String {
    match ports.first == ports.last {
        true => format!("{},", ports.first),
        false => ports.to_string(),
    }
}

/// The names of the reporters that Flink starts.
fn started(configuration: &BTreeMap<String, String>) -> BTreeSet<&str> {
    let name = |key: &'_ str| -> Option<usize> {
        let rest = key.strip_prefix(PREFIX)?;
        let (name, key) = rest.split_once('.')?;
        matches!(key, "class" | "factory.class").then_some(name.len())
    };
    let found = configuration
        .keys()
        .filter_map(|key| Some(&key[PREFIX.len()..PREFIX.len() + name(key)?]));
    let list = listed(configuration);
    let wanted = |name: &&str| list.as_ref().is_none_or(|list| list.contains(name));
    found.filter(wanted).collect()
}

/// The list of reporters, when there is one. `config.yaml` may have it as a YAML list, which Flink takes apart by `;`.
fn listed(configuration: &BTreeMap<String, String>) -> Option<Vec<&str>> {
    let list = configuration.get(LIST)?.trim();
    let list = list.strip_prefix('[').unwrap_or(list);
    let list = list.strip_suffix(']').unwrap_or(list);
    let words = list
        .split([',', ';'])
        .map(|word| word.trim().trim_matches(['\'', '"']));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then_some(words)
}

fn is_prometheus(configuration: &BTreeMap<String, String>, name: &str) -> bool {
    let value = |key: &str| configuration.get(&format!("{PREFIX}{name}.{key}"));
    match (value("factory.class"), value("class")) {
        (Some(factory), _) => factory.trim() == FACTORY,
        (None, Some(class)) => class.trim() == CLASS,
        (None, None) => false,
    }
}

/// Whether a reporter with the ports `text` may take `port`. Flink reads lists of ports and ranges
/// (`NetUtils.getPortRangeFromString`).
fn takes(text: &str, port: u16) -> bool {
    text.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports {
        first: 9250,
        last: 9260,
    };

    fn keys(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        let entries = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        reporter_keys(&entries.collect(), 9249, PORTS)
            .into_iter()
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let text = |text: &&str| (*text).to_owned();
        expected
            .iter()
            .map(|(key, value)| (text(key), text(value)))
            .collect()
    }

    #[test]
    fn flink_gets_a_reporter_where_it_has_none() {
        let own = [
            ("metrics.reporter.drey.factory.class", FACTORY),
            ("metrics.reporter.drey.port", "9250-9260"),
        ];
        assert_eq!(keys(&[]), pairs(&own));
        let slf4j = (
            "metrics.reporter.log.factory.class",
            "org.example.Slf4jReporterFactory",
        );
        assert_eq!(keys(&[slf4j]), pairs(&own));
        for (list, longer) in [("log", "log,drey"), ("[log, 'other']", "log,other,drey")] {
            let mut with_list = own.to_vec();
            with_list.push(("metrics.reporters", longer));
            assert_eq!(
                keys(&[slf4j, ("metrics.reporters", list)]),
                pairs(&with_list)
            );
        }
    }

    #[test]
    fn a_reporter_on_dreys_own_port_moves() {
        let class = ("metrics.reporter.prom.factory.class", FACTORY);
        let moved = pairs(&[("metrics.reporter.prom.port", "9250-9260")]);
        assert_eq!(keys(&[class]), moved);
        for port in ["9249", "9240-9250", "9000, 9248-9249"] {
            assert_eq!(
                keys(&[class, ("metrics.reporter.prom.port", port)]),
                moved,
                "{port}"
            );
        }
        let old = ("metrics.reporter.prom.class", CLASS);
        let with_factory = pairs(&[
            ("metrics.reporter.prom.factory.class", FACTORY),
            ("metrics.reporter.prom.port", "9250-9260"),
        ]);
        assert_eq!(keys(&[old, ("metrics.reporters", "prom")]), with_factory);
        assert_eq!(keys(&[old]), with_factory);
        assert_eq!(keys(&[old, class]), moved);
    }

    #[test]
    fn a_reporter_that_is_in_nobodys_way_stays_beside_dreys() {
        let class = ("metrics.reporter.prom.factory.class", FACTORY);
        let own = [
            ("metrics.reporter.drey.factory.class", FACTORY),
            ("metrics.reporter.drey.port", "9250-9260"),
        ];
        let mut beside = own.to_vec();
        // The same port, as text.
        beside.push(("metrics.reporter.prom.port", "9999,"));
        assert_eq!(
            keys(&[class, ("metrics.reporter.prom.port", "9999")]),
            pairs(&beside)
        );
        let range = ("metrics.reporter.prom.port", "9990-9999");
        assert_eq!(keys(&[class, range]), pairs(&own));
        // Not started, so not there.
        let mut listed = own.to_vec();
        listed.push(("metrics.reporters", "jmx,drey"));
        assert_eq!(keys(&[class, ("metrics.reporters", "jmx")]), pairs(&listed));
    }

    #[test]
    fn one_port_is_no_number_to_yaml() {
        let one = Ports {
            first: 9250,
            last: 9250,
        };
        let keys = reporter_keys(&BTreeMap::new(), 9249, one);
        assert_eq!(keys["metrics.reporter.drey.port"], "9250,");
    }

    #[test]
    fn what_drey_set_once_it_sets_again() {
        let first = reporter_keys(&BTreeMap::new(), 9249, PORTS);
        let again = reporter_keys(&first, 9249, PORTS);
        let port = pairs(&[("metrics.reporter.drey.port", "9250-9260")]);
        assert_eq!(again.into_iter().collect::<Vec<_>>(), port);
    }
}
