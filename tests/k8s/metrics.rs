//! A real Prometheus that scrapes the pods through Drey, as `deploy/monitoring/podmonitor.yaml` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::prometheus::{Prometheus, Target};
use crate::support::{Job, Mode, ROOT, Version, eventually, pod_spec, wait_until};

/// Flink's own reporter in each pod: the first port of `flink-metrics-port`.
const DIRECT: u16 = 9250;

/// A series by its name and labels.
type Series = BTreeMap<String, String>;

#[test]
fn a_prometheus_sees_every_series_of_flink_with_its_value() {
    let job = Job::new("scraped", Mode::Standalone, Version::v2()).edit(|object, component| {
        if component == "jobmanager" {
            let sidecar = &mut pod_spec(object)["initContainers"][1];
            let env = sidecar["env"].as_array_mut().unwrap();
            env.push(json!({"name": "DREY_METRICS_AGGREGATE", "value": "9249"}));
        }
    });
    job.start_and_work();
    let pods = job.namespace.pods(&selector());
    let targets: Vec<Target> = pods.iter().map(target).collect();
    let components: BTreeSet<&str> = pods
        .iter()
        .map(|pod| pod["metadata"]["labels"]["component"].as_str().unwrap())
        .collect();
    assert!(
        components.iter().eq(["jobmanager", "taskmanager"].iter()),
        "{components:?}"
    );
    let dir = tempfile::tempdir().unwrap();
    let node = job.namespace.node;
    let mut prometheus = Prometheus::start(dir.path(), &targets, |program| node.inside(program));
    wait_until("all targets are scraped", || {
        prometheus.log();
        prometheus.version().is_some()
            && prometheus
                .query("count_over_time(up[1m]) >= 3 and up == 1")
                .len()
                == targets.len()
    });
    eprintln!("Prometheus {}", prometheus.version().unwrap());

    for (pod, address, _) in &targets {
        let least = if pod.contains("taskmanager") { 100 } else { 20 };
        assert_complete(&prometheus, address, least);
        let own = |name: &str| {
            let found = prometheus.query(&format!(
                "{name}{{instance='{address}',cluster_id='example',tm_id=''}}"
            ));
            assert_eq!(found.len(), 1, "{name} of {pod}: {found:?}");
            found[0]["value"][1].as_str().unwrap().to_owned()
        };
        assert_eq!(own("drey_flink_scrape_success"), "1", "{pod}");
        assert_eq!(own("drey_build_info"), "1", "{pod}");
    }
    assert_one_port_is_enough(&prometheus, &targets);
    prometheus.assert_content();
    assert_one_savepoint_joins_all_logs(&job, &pods);
}

/// What the TaskManager's target has of Flink, the JobManager's has, too.
fn assert_one_port_is_enough(prometheus: &Prometheus, targets: &[Target]) {
    let of = |component: &str| {
        let found = targets.iter().find(|(pod, ..)| pod.contains(component));
        found.unwrap().1.clone()
    };
    let (one, other) = (of("jobmanager"), of("taskmanager"));
    let success = format!("drey_taskmanager_scrape_success{{instance='{one}'}} == 1");
    wait_until("the TaskManager is in the JobManager's page", || {
        prometheus.query(&success).len() == 1
    });
    let names = |instance: &str| -> BTreeSet<String> {
        let series = scraped(prometheus, instance).into_keys();
        series
            .filter(|it| it.starts_with("flink_taskmanager_"))
            .collect()
    };
    let alone = names(&other);
    assert!(alone.len() >= 100, "{alone:?}");
    wait_for_scrapes(prometheus, &one);
    let missing: Vec<String> = alone.difference(&names(&one)).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The Deployments are deleted together: JobManager and TaskManager are told at the same time, and one savepoint is taken.
/// Its trigger id finds it in the logs of the supervisor and of both launchers.
fn assert_one_savepoint_joins_all_logs(job: &Job, pods: &[Value]) {
    let mut logs = Vec::new();
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let flink = pod["spec"]["containers"][0]["name"].as_str().unwrap();
        let sidecars = pod["spec"]["initContainers"].as_array().unwrap();
        let sidecar = sidecars.iter().any(|it| it["name"] == "drey");
        for container in [Some(flink), sidecar.then_some("drey")]
            .into_iter()
            .flatten()
        {
            let args = ["logs", "--follow", "--container", container, name];
            let mut command = job.namespace.command(&args);
            let follower = command.stdout(Stdio::piped()).spawn().unwrap();
            logs.push((format!("{container} of {name}"), follower));
        }
    }
    assert_eq!(logs.len(), 3);
    job.kubectl(&["delete", "deployments", "--all", "--wait=false"]);
    let logs: Vec<(String, String)> = logs
        .into_iter()
        .map(|(name, follower)| {
            let output = follower.wait_with_output().unwrap();
            (name, String::from_utf8(output.stdout).unwrap())
        })
        .collect();
    let told = |text: &str| logs.iter().any(|(_, log)| log.contains(text));
    assert!(told("Restore point recorded"), "{logs:?}");
    let intent = logs.iter().find_map(|(_, log)| {
        let (_, line) = log.split_once("Savepoint intent stored")?;
        Some(line.split_once("trigger_id=")?.1)
    });
    let id: String = intent.unwrap().chars().take(32).collect();
    for (name, log) in &logs {
        assert!(log.contains(&id), "{id} is not in the log of {name}: {log}");
    }
}

/// The label selector of the PodMonitor.
fn selector() -> String {
    let path = Path::new(ROOT).join("deploy/monitoring/podmonitor.yaml");
    let monitor: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let wanted = &monitor["spec"]["selector"]["matchExpressions"][0];
    assert_eq!(wanted["operator"], "In");
    let values = wanted["values"].as_array().unwrap();
    let values: Vec<&str> = values.iter().map(|value| value.as_str().unwrap()).collect();
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(
        (&endpoint["port"], &endpoint["path"]),
        (&"metrics".into(), &"/metrics".into())
    );
    format!(
        "{} in ({})",
        wanted["key"].as_str().unwrap(),
        values.join(", ")
    )
}

/// A pod at its port `metrics`, of whichever container.
fn target(pod: &Value) -> Target {
    let name = pod["metadata"]["name"].as_str().unwrap();
    let containers = ["containers", "initContainers"].map(|kind| pod["spec"][kind].as_array());
    let ports = containers.into_iter().flatten().flatten();
    let ports = ports
        .filter_map(|container| container["ports"].as_array())
        .flatten();
    let ports: Vec<&Value> = ports.filter(|port| port["name"] == "metrics").collect();
    assert_eq!(ports.len(), 1, "ports of {name}: {ports:?}");
    let ip = pod["status"]["podIP"].as_str().unwrap();
    let address = format!("{ip}:{}", ports[0]["containerPort"]);
    (name.to_owned(), address, format!("{{pod: {name}}}"))
}

/// Every series that Flink's reporter has is in Prometheus, with the same value unless it moves: what differs between two
/// equal readings of the reporter does so in no second round.
fn assert_complete(prometheus: &Prometheus, address: &str, least: usize) {
    let (ip, _) = address.split_once(':').unwrap();
    let direct = || direct(&prometheus.fetch(&format!("http://{ip}:{DIRECT}/metrics"))?);
    let mut unequal: Option<BTreeSet<String>> = None;
    eventually("all values are equal", || {
        let before = direct()?;
        wait_for_scrapes(prometheus, address);
        let scraped = scraped(prometheus, address);
        let after = direct()?;
        let missing = before.keys().filter(|series| after.contains_key(*series));
        let missing = missing.filter(|series| !scraped.contains_key(*series));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
        let still = |series: &&String| before.get(*series) == after.get(*series);
        let still: Vec<&String> = before.keys().filter(still).collect();
        assert!(
            still.len() >= least,
            "only {still:?} of {} stay",
            before.len()
        );
        let other = still
            .into_iter()
            .filter(|series| scraped.get(*series) != before.get(*series));
        let found: BTreeSet<String> = other.cloned().collect();
        let left = unequal
            .take()
            .map_or_else(|| found.clone(), |earlier| &earlier & &found);
        eprintln!("unequal so far at {address}: {left:?}");
        let done = left.is_empty();
        unequal = Some(left);
        done.then_some(())
    });
}

/// Waits until Drey was asked three more times: the last of these answers is newer than what it keeps for a second.
fn wait_for_scrapes(prometheus: &Prometheus, address: &str) {
    let count = || {
        let found = prometheus.query(&format!("count_over_time(up{{instance='{address}'}}[1h])"));
        found[0]["value"][1]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = count();
    wait_until("three more scrapes", || count() >= before + 3);
}

/// What Flink's reporter says.
fn direct(page: &str) -> Option<Series> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            Some((described(name, labels_of(labels)), number(value)))
        })
        .collect()
}

/// What Prometheus has of Flink.
fn scraped(prometheus: &Prometheus, address: &str) -> Series {
    let found = prometheus.query(&format!("{{__name__=~'flink_.+',instance='{address}'}}"));
    let series = |it: &Value| {
        let mut labels: BTreeMap<String, String> =
            serde_json::from_value(it["metric"].clone()).unwrap();
        let name = labels.remove("__name__").unwrap();
        for given in ["instance", "job", "pod"] {
            labels.remove(given);
        }
        (
            described(&name, labels),
            number(it["value"][1].as_str().unwrap()),
        )
    };
    found.iter().map(series).collect()
}

/// The labels of a line, behind the opening brace. To Prometheus an empty one is none.
fn labels_of(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text.trim_start_matches(',');
    while let Some((name, value)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = value.find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let (value, behind) = value.split_at(end.unwrap());
        let value = value
            .replace("\\\"", "\"")
            .replace("\\n", "\n")
            .replace("\\\\", "\\");
        if !value.is_empty() {
            labels.insert(name.to_owned(), value);
        }
        rest = behind[1..].trim_start_matches(',');
    }
    labels
}

fn described(name: &str, labels: BTreeMap<String, String>) -> String {
    format!("{name}{labels:?}")
}

/// A number as one text, however it is written.
fn number(text: &str) -> String {
    text.parse::<f64>().unwrap().to_string()
}
