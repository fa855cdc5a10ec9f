//! One life of the example job, and what its pod and its checkpoints say.

use serde_json::Value;

use super::rest::Rest;
use super::wait::{eventually, wait_until};

/// One life of the job, in one JobManager.
#[derive(Debug, Clone)]
pub struct Run {
    /// The JobManager's pod.
    pub pod: String,
    pub job: String,
    pub rest: Rest,
}

impl Run {
    /// Where Flink says that the job was restored from, without `file:` and slashes before the path.
    pub fn restored(&self) -> Option<String> {
        let stats = eventually("checkpoint statistics", || self.rest.checkpoints(&self.job));
        let path = stats["latest"]["restored"]["external_path"].as_str()?;
        Some(plain_path(path))
    }

    /// Waits until the job has completed `count` more checkpoints.
    pub fn wait_for_checkpoints(&self, count: u64) {
        let completed = || self.rest.checkpoints(&self.job)?["counts"]["completed"].as_u64();
        let before = eventually("checkpoint statistics", completed);
        wait_until(&format!("{count} more checkpoints"), || {
            completed() >= Some(before + count)
        });
    }
}

/// The status of one container of a pod, also of a sidecar.
pub fn status<'a>(pod: &'a Value, container: &str) -> &'a Value {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|kind| pod["status"][kind].as_array().into_iter().flatten())
        .find(|status| status["name"] == container)
        .unwrap_or_else(|| panic!("no status of {container}"))
}

/// A `file:` URL, in whatever form, as a path; another URL as it is.
pub fn plain_path(url: &str) -> String {
    if url.contains("://") && !url.starts_with("file:") {
        return url.to_owned();
    }
    let path = url.strip_prefix("file:").unwrap_or(url);
    format!("/{}", path.trim_start_matches('/'))
}
