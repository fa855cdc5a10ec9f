//! Flink's REST interface in a pod, asked from inside the node's network, or through the API server of an existing cluster.

use serde_json::Value;

use super::namespace::Namespace;
use super::node::{Node, output_of};

/// Asks one JobManager.
#[derive(Debug, Clone)]
pub struct Rest {
    node: &'static Node,
    /// What a path is put behind.
    address: String,
}

impl Rest {
    /// Of this pod, once it has an address.
    pub fn of(namespace: &Namespace, pod: &Value) -> Option<Self> {
        let ip = pod["status"]["podIP"].as_str()?;
        let name = pod["metadata"]["name"].as_str()?;
        let (node, namespace) = (namespace.node, &namespace.name);
        let address = if node.is_own() {
            format!("http://{ip}:8081")
        } else {
            format!("/api/v1/namespaces/{namespace}/pods/{name}:8081/proxy")
        };
        Some(Self { node, address })
    }

    /// The body of a good answer, else `None`.
    pub fn try_get(&self, path: &str) -> Option<Value> {
        let url = format!("{}{path}", self.address);
        if self.node.is_own() {
            self.curl(&[&url])
        } else {
            self.through_api(&["get", "--raw", &url], None)
        }
    }

    /// The body of a good answer to a POST, else `None`.
    pub fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let (url, body) = (format!("{}{path}", self.address), body.to_string());
        if self.node.is_own() {
            self.curl(&["--json", &body, &url])
        } else {
            self.through_api(&["create", "--raw", &url, "--filename", "-"], Some(&body))
        }
    }

    fn through_api(&self, args: &[&str], body: Option<&str>) -> Option<Value> {
        let mut kubectl = self.node.kubectl();
        let output = output_of(kubectl.args(args).arg("--request-timeout=10s"), body);
        let good = output.status.success();
        good.then(|| serde_json::from_slice(&output.stdout).ok())?
    }

    fn curl(&self, args: &[&str]) -> Option<Value> {
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
