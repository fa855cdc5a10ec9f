//! Flink's REST interface in a pod, asked from inside the node's network.

use serde_json::Value;

use super::node::Node;

/// Asks one JobManager.
#[derive(Debug, Clone)]
pub struct Rest {
    node: &'static Node,
    address: String,
}

impl Rest {
    /// Of the pod with this IP.
    pub fn new(node: &'static Node, ip: &str) -> Self {
        Self {
            node,
            address: format!("http://{ip}:8081"),
        }
    }

    /// The body of a good answer, else `None`.
    pub fn try_get(&self, path: &str) -> Option<Value> {
        self.send(&[&format!("{}{path}", self.address)])
    }

    /// The body of a good answer to a POST, else `None`.
    pub fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let (url, body) = (format!("{}{path}", self.address), body.to_string());
        self.send(&["--json", &body, &url])
    }

    fn send(&self, args: &[&str]) -> Option<Value> {
        let mut command = self.node.inside("curl");
        command.args(["--silent", "--fail", "--max-time", "10"]);
        let output = command.args(args).output().unwrap();
        let good = output.status.success();
        good.then(|| serde_json::from_slice(&output.stdout).ok())?
    }

    /// The id and the state of the only job.
    pub fn job(&self) -> Option<(String, String)> {
        let jobs = self.try_get("/jobs/overview")?;
        let job = &jobs["jobs"][0];
        Some((
            job["jid"].as_str()?.to_owned(),
            job["state"].as_str()?.to_owned(),
        ))
    }

    /// Whether every task of this job runs.
    pub fn all_running(&self, job: &str) -> bool {
        let Some(detail) = self.try_get(&format!("/jobs/{job}")) else {
            return false;
        };
        let vertices = detail["vertices"].as_array().cloned().unwrap_or_default();
        !vertices.is_empty()
            && vertices
                .iter()
                .all(|vertex| vertex["tasks"]["RUNNING"] == vertex["parallelism"])
    }

    /// Flink's checkpoint statistics of a job.
    pub fn checkpoints(&self, job: &str) -> Option<Value> {
        self.try_get(&format!("/jobs/{job}/checkpoints"))
    }
}
