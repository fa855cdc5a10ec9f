//! A real Prometheus: Debian's, or with `DREY_TEST_PROMETHEUS=prometheus-3` a current one.

#![allow(unreachable_pub, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A program of Prometheus.
pub fn program(name: &str) -> PathBuf {
    let part = std::env::var("DREY_TEST_PROMETHEUS").unwrap_or_else(|_| "prometheus".to_owned());
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup.sh");
    let mut command = Command::new(setup);
    let output = command.arg(&part).stderr(Stdio::inherit()).output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "`tests/setup.sh {part}` failed; run it by hand to see why"
    );
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join(name)
}

/// What is scraped: its job, its address, and its labels as YAML.
pub type Target = (String, String, String);

/// A Prometheus that scrapes each second; ended when dropped.
pub struct Prometheus {
    port: u16,
    child: Child,
    log: PathBuf,
    inside: Box<dyn Fn(&Path) -> Command>,
}

impl Prometheus {
    /// Starts it in `dir` with the rules in `dir/rules.yaml`, if they are there. `inside` makes a command that reaches the
    /// targets.
    pub fn start(
        dir: &Path,
        targets: &[Target],
        inside: impl Fn(&Path) -> Command + 'static,
    ) -> Self {
        let mut config = String::from(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\nrule_files: [rules*.yaml]\nscrape_configs:\n",
        );
        for (name, address, labels) in targets {
            config.push_str(&format!(
                "  - job_name: {name}\n    static_configs: [{{targets: ['{address}'], labels: {labels}}}]\n"
            ));
        }
        fs::write(dir.join("prometheus.yml"), config).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = dir.join("prometheus.log");
        let file = File::create(&log).unwrap();
        let mut command = inside(&program("prometheus"));
        command.current_dir(dir).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ]);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap());
        let child = command.stderr(file).spawn().unwrap();
        Self {
            port,
            child,
            log,
            inside: Box::new(inside),
        }
    }

    /// What it has logged; fails when it has ended.
    pub fn log(&mut self) -> String {
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned();
        assert!(self.child.try_wait().unwrap().is_none(), "ended: {log}");
        log
    }

    /// What is at a URL that it can reach as well.
    pub fn fetch(&self, url: &str) -> Option<String> {
        let mut command = (self.inside)(Path::new("curl"));
        let args = ["--silent", "--fail", "--max-time", "10", url];
        let output = command.args(args).output().unwrap();
        let good = output.status.success();
        good.then(|| String::from_utf8(output.stdout).ok())?
    }

    fn get(&self, path: &str) -> Option<Value> {
        let text = self.fetch(&format!("http://127.0.0.1:{}/api/v1/{path}", self.port))?;
        serde_json::from_str(&text).ok()
    }

    /// Its version.
    pub fn version(&self) -> Option<String> {
        Some(
            self.get("status/buildinfo")?["data"]["version"]
                .as_str()?
                .to_owned(),
        )
    }

    /// The series of an answer; an error of the query fails the test.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let coded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("query?query={coded}"));
        let answer = answer.unwrap_or_else(|| panic!("no answer to {query}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// Fails unless every target is up and nothing about the pages was worth a warning.
    pub fn assert_content(&mut self) {
        let all = self.get("targets").unwrap();
        for target in all["data"]["activeTargets"].as_array().unwrap() {
            let health = (&target["health"], &target["lastError"]);
            assert_eq!(health, (&"up".into(), &"".into()), "{target}");
        }
        let log = self.log();
        let lower = log.to_lowercase();
        assert!(
            !lower.contains("level=warn") && !lower.contains("level=error"),
            "{log}"
        );
        let own = self.fetch(&format!("http://127.0.0.1:{}/metrics", self.port));
        let own = own.unwrap();
        for what in ["duplicate_timestamp", "out_of_order", "out_of_bounds"] {
            let line = format!("prometheus_target_scrapes_sample_{what}_total 0");
            assert!(own.lines().any(|found| found == line), "no {line}: {own}");
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
