//! Flink's metrics through Drey, from a real JobManager and a real TaskManager.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Cluster, Process, Version, eventually, free_port};

/// Where Drey and Flink's reporter serve the metrics of one process.
pub(super) struct Metrics {
    pub(super) drey: u16,
    flink: u16,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            drey: free_port(),
            flink: free_port(),
        }
    }

    fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("DREY_METRICS_ADDRESS", format!("127.0.0.1:{}", self.drey)),
            ("DREY_FLINK_METRICS_PORT", self.flink.to_string()),
            ("DREY_METRICS_CACHE", "0s".to_owned()),
        ]
    }

    /// Drey's page.
    fn page(&self) -> Page {
        let page = read(self.drey).expect("Drey always answers");
        assert!(
            page.head.starts_with("HTTP/1.0 200") || page.head.starts_with("HTTP/1.1 200"),
            "{}",
            page.head
        );
        page
    }

    /// Waits until Flink's page is in Drey's.
    fn complete(&self) -> Page {
        eventually("Flink's page is complete", || {
            let page = self.page();
            (page.own("drey_flink_scrape_success", "") == Some(1.0)).then_some(page)
        })
    }

    /// Every series that Flink's reporter has is in Drey's page, with the same value unless it moves: what differs between two
    /// equal readings of the reporter does so in no second round.
    fn assert_complete(&self, least: usize) {
        let mut unequal: Option<BTreeSet<String>> = None;
        eventually("all values are equal", || {
            let (before, drey, after) = (read(self.flink)?, self.complete(), read(self.flink)?);
            let lasting = |series: &&String| after.series.contains_key(*series);
            let still = |series: &&String| before.series.get(*series) == after.series.get(*series);
            let missing = before.series.keys().filter(lasting);
            let missing = missing.filter(|series| !drey.series.contains_key(*series));
            assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
            assert!(before.series.keys().filter(still).count() >= least);
            let other = |series: &&String| drey.series.get(*series) != before.series.get(*series);
            let found = before.series.keys().filter(still).filter(other).cloned();
            let found: BTreeSet<String> = found.collect();
            let left = match unequal.take() {
                Some(earlier) => &earlier & &found,
                None => found,
            };
            eprintln!("unequal so far: {left:?}");
            let done = left.is_empty();
            unequal = Some(left);
            done.then_some(())
        });
        let page = self.complete();
        for reason in ["duplicate", "invalid", "conflict", "limit"] {
            let labels = format!("reason=\"{reason}\"");
            assert_eq!(
                page.own("drey_flink_lines_dropped_total", &labels),
                Some(0.0),
                "{reason}"
            );
        }
    }
}

struct Page {
    head: String,
    /// By name and labels.
    series: BTreeMap<String, String>,
}

impl Page {
    /// One of Drey's own.
    fn own(&self, name: &str, labels: &str) -> Option<f64> {
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{labels},")
        };
        let series = format!("{name}{{{labels}cluster_id=\"default\"}}");
        self.series
            .get(&series)
            .and_then(|value| value.parse().ok())
    }
}

fn read(port: u16) -> Option<Page> {
    read_at("127.0.0.1", port)
}

fn read_at(host: &str, port: u16) -> Option<Page> {
    let mut stream = TcpStream::connect((host, port)).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    Some(Page {
        head: head.to_owned(),
        series: samples
            .map(|(series, value)| (series.replace(",}", "}"), value.to_owned()))
            .collect(),
    })
}

pub(super) fn task_manager(cluster: &Cluster, metrics: &Metrics) -> Process {
    let class = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner";
    let mut launch = cluster
        .launch()
        .command(cluster.java("tm.args", class))
        .env(
            "DREY_STATE_DIR",
            &cluster.path("state-tm").display().to_string(),
        );
    for (name, value) in metrics.variables() {
        launch = launch.env(name, &value);
    }
    launch.go()
}

/// A cluster whose JobManager's metrics are `metrics`.
pub(super) fn cluster(version: Version, metrics: &Metrics) -> Cluster {
    let variables = metrics.variables();
    variables
        .into_iter()
        .fold(Cluster::new(version), |cluster, (name, value)| {
            cluster.drey_env(name, value)
        })
}

#[test]
fn every_series_of_job_manager_and_task_manager_comes_through() {
    let (job, task) = (Metrics::new(), Metrics::new());
    let cluster = cluster(Version::v2(), &job);
    let _task_manager = task_manager(&cluster, &task);
    let mut drey = cluster.run();
    drey.wait_for_logs(&["Serving metrics", "Job is running"]);
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    job.assert_complete(20);
    task.assert_complete(100);

    cluster.drey_ok(&["savepoint"]);
    let page = job.complete();
    assert_eq!(
        page.own(
            "drey_savepoints_total",
            "outcome=\"recorded\",reason=\"manual\""
        ),
        Some(1.0)
    );
    assert_eq!(page.own("drey_savepoint_size_bytes_count", ""), Some(1.0));
    assert_eq!(page.own("drey_starts_total", "from=\"empty\""), Some(1.0));
    assert_eq!(page.own("drey_jobs", "status=\"running\""), Some(1.0));
    assert_eq!(page.own("drey_flink_reachable", ""), Some(1.0));
    assert!(page.own("drey_restore_point_timestamp_seconds", "") > Some(1e9));
    assert!(page.own("drey_progress_timestamp_seconds", "") > Some(1e9));
    drey.term();
    assert_eq!(drey.exit_code(), 0);
}

#[test]
fn a_reporter_of_the_users_moves_and_a_restart_of_flink_is_no_gap() {
    let (job, task) = (Metrics::new(), Metrics::new());
    let factory = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory";
    let cluster = cluster(Version::v1(), &job)
        .set("metrics.reporter.mine.factory.class", factory)
        // Of both processes, since they share this machine's ports.
        .set(
            "metrics.reporter.mine.port",
            format!("{}-{}", job.drey, task.drey),
        )
        .drey_env("DREY_RESTART", "on-failure");
    let _task_manager = task_manager(&cluster, &task);
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(2);
    job.assert_complete(20);

    cluster.kill_job_managers();
    let page = eventually("Flink runs again", || {
        // Each of them is answered, whatever there is of Flink.
        let page = job.page();
        let restored = page.own("drey_starts_total", "from=\"checkpoint\"") == Some(1.0);
        (restored && page.own("drey_flink_scrape_success", "") == Some(1.0)).then_some(page)
    });
    assert!(page.own("drey_flink_scrapes_total", "outcome=\"complete\"") > Some(1.0));
    drey.term();
    assert_eq!(drey.exit_code(), 0);
}

/// A TaskManager with an address of its own, behind which Drey serves at the port that all have.
fn task_manager_at(cluster: &Cluster, host: &str, port: u16) -> Process {
    let class = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner";
    let mut command = cluster.java("tm.args", class);
    for key in ["taskmanager.host", "taskmanager.bind-host"] {
        command.extend(["-D".to_owned(), format!("{key}={host}")]);
    }
    let state = cluster.path(&format!("state-{host}"));
    let launch = cluster.launch().command(command);
    let launch = launch.env("DREY_STATE_DIR", &state.display().to_string());
    let launch = launch.env("DREY_METRICS_ADDRESS", &format!("{host}:{port}"));
    let launch = launch.env("DREY_FLINK_METRICS_PORT", &free_port().to_string());
    launch.env("DREY_METRICS_CACHE", "0s").go()
}

/// The ids of the TaskManagers whose series a page has.
fn task_managers(page: &Page, start: &str) -> BTreeSet<String> {
    let series = page
        .series
        .keys()
        .filter(|series| series.starts_with(start));
    let ids = series.filter_map(|series| series.split_once("tm_id=\"")?.1.split_once('"'));
    ids.map(|(id, _)| id.to_owned()).collect()
}

#[test]
fn the_job_manager_serves_all_task_managers_if_it_is_told_to() {
    let (job, port) = (Metrics::new(), free_port());
    let cluster = cluster(Version::v2(), &job).drey_env("DREY_METRICS_AGGREGATE", port);
    let hosts = ["127.0.0.2", "127.0.0.3"];
    let members = hosts.map(|host| task_manager_at(&cluster, host, port));
    let mut drey = cluster.run();
    drey.wait_for_logs(&["Serving metrics", "Job is running"]);
    cluster.rest().wait_running();
    let complete = |page: &Page| {
        let success = page
            .series
            .iter()
            .filter(|(series, _)| series.starts_with("drey_taskmanager_scrape_success{tm_id="));
        success.filter(|(_, value)| value.as_str() == "1").count()
    };
    let page = eventually("both TaskManagers are in the page", || {
        let page = job.complete();
        (complete(&page) == hosts.len()).then_some(page)
    });
    let ids = task_managers(&page, "flink_taskmanager_Status_JVM_CPU_Load{");
    assert_eq!(ids.len(), hosts.len(), "{ids:?}");
    // By the same label Drey's own series are told apart.
    assert_eq!(task_managers(&page, "drey_build_info{"), ids);
    assert_eq!(
        task_managers(&page, "drey_taskmanager_scrape_success{"),
        ids
    );
    assert_eq!(
        page.own("drey_flink_lines_dropped_total", "reason=\"duplicate\""),
        Some(0.0)
    );
    for host in hosts {
        let own = read_at(host, port).expect("Drey answers");
        let again = job.complete();
        let flinks = own
            .series
            .keys()
            .filter(|series| series.starts_with("flink_"));
        let flinks: Vec<&String> = flinks.collect();
        assert!(flinks.len() > 20, "{flinks:?}");
        let missing = flinks
            .iter()
            .filter(|series| !again.series.contains_key(**series));
        assert_eq!(
            missing.collect::<Vec<_>>(),
            Vec::<&&String>::new(),
            "of {host}"
        );
    }

    members[1].pause();
    let page = job.complete();
    let one = task_managers(&page, "flink_taskmanager_Status_JVM_CPU_Load{");
    assert_eq!(
        (complete(&page), one.len()),
        (1, 1),
        "the one that hangs is not there"
    );
    members[1].proceed();
    drey.term();
    assert_eq!(drey.exit_code(), 0);
}
