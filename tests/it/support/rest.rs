//! Flink's REST interface as a person would use it, beside Drey.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::wait::eventually;

/// Asks one JobManager.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    port: u16,
}

impl Rest {
    pub fn new(port: u16) -> Self {
        Self { port }
    }

    /// The answer's status and body; an error when nobody answers.
    pub fn request(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.get(9..12).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no HTTP answer"))?;
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body)
            .unwrap_or_default();
        Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// The body of a good answer, else `None`.
    pub fn try_get(&self, path: &str) -> Option<Value> {
        let (status, body) = self.request("GET", path, "").ok()?;
        (status == 200).then_some(body)
    }

    /// Waits for a good answer.
    pub fn get(&self, path: &str) -> Value {
        eventually(&format!("an answer of Flink to {path}"), || {
            self.try_get(path)
        })
    }

    /// The body of an answer that must be good.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", path, body)
    }

    pub fn patch(&self, path: &str) -> Value {
        self.send("PATCH", path, &json!({}))
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.request(method, path, &body.to_string()).unwrap();
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    /// The id of the only job, once there is one.
    pub fn job(&self) -> String {
        eventually("a job", || {
            let jobs = self.try_get("/jobs/overview")?;
            Some(jobs["jobs"][0]["jid"].as_str()?.to_owned())
        })
    }

    /// The state of the only job.
    pub fn job_state(&self) -> Option<String> {
        let jobs = self.try_get("/jobs/overview")?;
        Some(jobs["jobs"][0]["state"].as_str()?.to_owned())
    }

    /// Waits until every task of the only job runs.
    pub fn wait_running(&self) -> String {
        let job = self.job();
        eventually("all tasks running", || {
            let detail = self.try_get(&format!("/jobs/{job}"))?;
            let vertices = detail["vertices"].as_array()?;
            let running = vertices
                .iter()
                .all(|vertex| vertex["tasks"]["RUNNING"] == vertex["parallelism"]);
            (running && !vertices.is_empty()).then_some(())
        });
        job
    }

    /// Flink's checkpoint statistics of the only job.
    pub fn checkpoints(&self) -> Value {
        self.get(&format!("/jobs/{}/checkpoints", self.job()))
    }

    /// What the job was restored from, without `file:` and slashes before the path.
    pub fn restored(&self) -> Option<String> {
        let stats = self.checkpoints();
        let path = stats["latest"]["restored"]["external_path"].as_str()?;
        Some(plain_path(path).to_owned())
    }

    /// Waits until the job has completed `count` more checkpoints in this run.
    pub fn wait_for_checkpoints(&self, count: u64) {
        let completed = || {
            let stats = self.try_get(&format!("/jobs/{}/checkpoints", self.job()))?;
            stats["counts"]["completed"].as_u64()
        };
        let before = eventually("checkpoint statistics", completed);
        eventually(&format!("{count} more checkpoints"), || {
            (completed()? >= before + count).then_some(())
        });
    }

    /// How many checkpoints or savepoints Flink is at.
    pub fn in_progress(&self) -> u64 {
        self.checkpoints()["counts"]["in_progress"]
            .as_u64()
            .unwrap_or_default()
    }

    /// Waits for the end of a savepoint that was triggered at `path`: its location.
    pub fn savepoint(&self, path: &str) -> String {
        eventually("the savepoint's end", || {
            let status = self.try_get(path)?;
            (status["status"]["id"] == "COMPLETED").then(|| {
                let location = status["operation"]["location"].as_str();
                location
                    .unwrap_or_else(|| panic!("savepoint failed: {status}"))
                    .to_owned()
            })
        })
    }
}

/// A `file:` URL in the form that Flink writes, as a path.
pub fn plain_path(url: &str) -> &str {
    let path = url.strip_prefix("file:").unwrap_or(url);
    match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}
