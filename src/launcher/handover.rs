//! What a launcher leaves for the next one, should it be killed while Flink runs on.
//!
//! Before Flink is started, the run is written to a file; Flink carries the run id in its environment. So the next launcher
//! finds it in any case, even when the last one was killed right after the start.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::debug;

use super::{LaunchError, Running};
use crate::control::Prepare;
use crate::domain::pointer::RunId;
use crate::pointer_file::write_privately;
use crate::process::{Flink, Identity};

/// Carries the run id in Flink's environment. Not `DREY_…`, which is for settings.
pub(super) const RUN_VARIABLE: &str = "_DREY_RUN_ID";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Left {
    run: RunId,
    flink: Prepare,
}

/// To be called before Flink is started.
pub(super) fn remember(state_dir: &Path, run: &RunId, flink: &Prepare) -> Result<(), LaunchError> {
    let left = Left {
        run: run.clone(),
        flink: flink.clone(),
    };
    let text = serde_json::to_string_pretty(&left).expect("only string keys");
    write_privately(&file(state_dir), &text).map_err(LaunchError::Remember)
}

/// To be called when Flink has ended.
pub(super) fn forget(state_dir: &Path) {
    if let Err(error) = fs::remove_file(file(state_dir)) {
        debug!(%error, "Nothing to forget");
    }
}

/// The Flink that the last launcher left running, if there is one.
pub(super) fn adopt(state_dir: &Path) -> Option<Running> {
    let text = fs::read_to_string(file(state_dir)).ok()?;
    let left: Left = serde_json::from_str(&text).ok()?;
    let flink = find(&left.run).and_then(|identity| Flink::adopt(&identity));
    if flink.is_none() {
        forget(state_dir);
    }
    Some(Running {
        flink: flink?,
        prepare: left.flink,
        run: left.run,
        order: None,
        since: Instant::now(),
    })
}

/// The leader of the process group that was started for `run`.
fn find(run: &RunId) -> Option<Identity> {
    let wanted = format!("{RUN_VARIABLE}={run}");
    let carries = |pid: i32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == wanted.as_bytes())
        })
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // Children of Flink carry the run id as well: Flink itself is the one after which their process group is called. Behind
    // a script that waits for it, a JVM that was made ready ahead carries it, and the script does not.
    let groups: Vec<(i32, i32)> = pids
        .filter(|pid| carries(*pid))
        .filter_map(|pid| Some((pid, group_of(pid)?)))
        .collect();
    let leader = groups.iter().find(|(pid, group)| pid == group);
    let (_, group) = leader.or(groups.first())?;
    Identity::of(*group).ok()
}

fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(2)?.parse().ok()
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("running.json")
}
