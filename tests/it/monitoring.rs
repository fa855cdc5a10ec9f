//! deploy/monitoring, tried with a real Prometheus that scrapes a real Flink through Drey: each query has an answer.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::metrics::{Metrics, cluster, task_manager};
use crate::prometheus::{Prometheus, program};
use crate::support::{ROOT, Version, eventually};

/// What the webhook serves, which does not run here.
const WEBHOOK: &str = "\
# TYPE drey_webhook_admissions_total counter
drey_webhook_admissions_total{outcome=\"injected\",reason=\"OptedIn\"} 3
drey_webhook_admissions_total{outcome=\"refused\",reason=\"BadAnnotation\"} 1
# TYPE drey_webhook_admission_seconds histogram
drey_webhook_admission_seconds_bucket{le=\"0.0002\"} 2
drey_webhook_admission_seconds_bucket{le=\"+Inf\"} 4
drey_webhook_admission_seconds_sum 0.01
drey_webhook_admission_seconds_count 4
# TYPE drey_webhook_connections gauge
drey_webhook_connections 1
# TYPE drey_webhook_certificate_expiry_timestamp_seconds gauge
drey_webhook_certificate_expiry_timestamp_seconds 4e9
# TYPE drey_webhook_ready gauge
drey_webhook_ready 1
# TYPE drey_webhook_leader gauge
drey_webhook_leader 1
";

fn monitoring(name: &str) -> String {
    let path = Path::new(ROOT).join("deploy/monitoring").join(name);
    fs::read_to_string(path).unwrap()
}

/// The rules as Prometheus reads them: `spec` of the PrometheusRule.
fn rules() -> String {
    let text = monitoring("prometheusrule.yaml");
    let (_, spec) = text.split_once("\nspec:\n").unwrap();
    let lines = spec
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line));
    lines.map(|line| format!("{line}\n")).collect()
}

fn promtool(directory: &Path, args: &[&str]) {
    let mut command = Command::new(program("promtool"));
    let output = command.current_dir(directory).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {text}{errors}");
}

#[test]
fn each_alert_fires_when_it_should_and_else_does_not() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("rules.yaml"), rules()).unwrap();
    fs::write(dir.path().join("tests.yaml"), monitoring("tests.yaml")).unwrap();
    promtool(dir.path(), &["check", "rules", "rules.yaml"]);
    promtool(dir.path(), &["test", "rules", "tests.yaml"]);
}

#[test]
fn each_alert_has_a_summary_a_cause_a_runbook_and_a_test() {
    let (rules, runbook, tests) = (rules(), monitoring("RUNBOOK.md"), monitoring("tests.yaml"));
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        for key in ["summary: ", "cause: ", "severity: "] {
            assert!(rule.contains(key), "{name} has no {key}");
        }
        let link = format!("runbook_url: RUNBOOK.md#{}", name.to_lowercase());
        assert!(rule.contains(&link), "{name} has no {link}");
        assert!(
            runbook.contains(&format!("\n## {name}\n")),
            "{name} is not in the runbook"
        );
        assert!(
            tests.contains(&format!("alertname: {name}\n")),
            "{name} is not tested"
        );
        alerts += 1;
    }
    assert_eq!(alerts, runbook.matches("\n## ").count());
}

/// All queries of the dashboards, for the cluster `default`.
fn dashboard_queries() -> Vec<String> {
    fn find(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| find(value, found));
            }
            Value::Array(all) => all.iter().for_each(|value| find(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for name in ["cluster.json", "webhook.json"] {
        let text = monitoring(&format!("dashboards/{name}"));
        find(&serde_json::from_str(&text).unwrap(), &mut found);
    }
    found
        .into_iter()
        .map(|query| {
            query
                .replace("$cluster_id", "default")
                .replace("$namespace", ".*")
                .replace("$__rate_interval", "1m")
                .replace("$__interval", "1m")
        })
        .collect()
}

/// What the alerts look at: an alert itself has no answer while all is well.
fn alert_selectors() -> Vec<String> {
    let text = rules();
    let mut found = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.contains("summary:") && !line.contains("cause:"))
    {
        let mut rest = line;
        while let Some(at) = ["drey_", "flink_"]
            .iter()
            .filter_map(|start| rest.find(start))
            .min()
        {
            rest = &rest[at..];
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let end = match rest[end..].starts_with('{') {
                true => end + rest[end..].find('}').unwrap() + 1,
                false => end,
            };
            found.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
    found
}

/// Serves the webhook's page until the test ends.
fn webhook() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{WEBHOOK}",
                WEBHOOK.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn every_query_has_an_answer_from_a_real_prometheus() {
    let (job, task) = (Metrics::new(), Metrics::new());
    // What the TaskManager serves is in the JobManager's page, too: Prometheus takes that as well.
    let cluster = cluster(Version::v2(), &job).drey_env("DREY_METRICS_AGGREGATE", task.drey);
    let _task_manager = task_manager(&cluster, &task);
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    cluster.drey_ok(&["savepoint"]);
    let targets = [
        ("jobmanager", job.drey),
        ("taskmanager", task.drey),
        ("webhook", webhook()),
    ];
    let targets = targets.map(|(name, port)| {
        let labels = format!("{{namespace: n, pod: {name}}}");
        (name.to_owned(), format!("127.0.0.1:{port}"), labels)
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("rules.yaml"), rules()).unwrap();
    let mut prometheus = Prometheus::start(dir.path(), &targets, |program| Command::new(program));

    // Three samples of each, so that there are rates.
    eventually("all targets are scraped", || {
        prometheus.log();
        prometheus.version()?;
        let scraped = prometheus.query("count_over_time(up[1m]) >= 3 and up == 1");
        (scraped.len() == targets.len()).then_some(())
    });
    prometheus.assert_content();

    let queries: Vec<String> = dashboard_queries()
        .into_iter()
        .chain(alert_selectors())
        .collect();
    assert!(queries.len() > 40, "{queries:?}");
    // One that Prometheus sees happen.
    cluster.drey_ok(&["savepoint"]);
    let mut left: Vec<&String> = queries.iter().collect();
    eventually("each query has an answer", || {
        left.retain(|query| prometheus.query(query).is_empty());
        eprintln!("without an answer: {left:?}");
        left.is_empty().then_some(())
    });
    // What really came through Prometheus is what was counted here.
    let saved =
        prometheus.query("sum(drey_savepoints_total{outcome=\"recorded\",reason=\"manual\"})");
    assert_eq!(saved[0]["value"][1], "2");
    drey.term();
    assert_eq!(drey.exit_code(), 0);
}
