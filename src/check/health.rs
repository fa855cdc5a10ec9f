//! Whether the jobs get on, as their supervisors have noted in the pointer.

use super::{Cluster, Finding, table};
use crate::domain::pointer::JobEntry;

/// Nothing to say where nothing runs.
pub(super) fn finding(cluster: &Cluster) -> Option<Finding> {
    let check = &table::HEALTH;
    if cluster.is_suspended() {
        let found = "suspended by the annotation drey.io/suspend of the pointer's ConfigMap";
        return Some(Finding::ok(check, found));
    }
    if cluster.job_managers.is_empty() {
        return None;
    }
    let live = || {
        let entries = cluster.entries();
        entries.filter(|(_, entry)| entry.run.is_some() && entry.ended.is_none())
    };
    let ill: Vec<String> = live()
        .filter_map(|(key, entry)| words(key, entry))
        .collect();
    if !ill.is_empty() {
        let remedy = "look at the job in Flink, and at `drey status` in the JobManager's pod";
        return Some(Finding::warning(check, ill.join("; "), remedy));
    }
    let found = "no restart loop and no stuck checkpoints are known";
    live().next().map(|_| Finding::ok(check, found))
}

/// What is wrong with one job.
fn words(key: &str, entry: &JobEntry) -> Option<String> {
    let all: Vec<String> = entry
        .ailments
        .iter()
        .map(|noted| format!("{} since {:.0}", noted.text, noted.since))
        .collect();
    (!all.is_empty()).then(|| format!("job {key}: {}", all.join("; ")))
}
