//! `drey job preflight`: which state a new job will not take over.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::super::config::Output;
use super::super::{TRY_AGAIN, USAGE, failure, print, runtime, settings};
use super::failed;
use crate::config::{Settings, SettingsArgs};
use crate::flink::metadata;
use crate::job_update::{NewJob, Preflight, Target, preflight};
use crate::kubernetes::Kube;
use crate::storage::Location;
use crate::supervisor::storage_for;
use crate::telemetry::one_line;

/// The settings say how the storage is reached.
#[derive(Debug, clap::Args)]
pub(super) struct PreflightArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The savepoint or checkpoint; the pointer's newest one of the cluster `--cluster-id` if not given
    #[arg(long, value_name = "PATH")]
    savepoint: Option<String>,
    /// The new job's uids, one a line
    #[arg(long, value_name = "FILE", required_unless_present = "operator_ids")]
    uids: Option<PathBuf>,
    /// The ids of the new job's operators, one a line
    #[arg(long, value_name = "FILE")]
    operator_ids: Option<PathBuf>,
    /// How the result is shown
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(
    args: &PreflightArgs,
    env: Vec<(OsString, OsString)>,
) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let uids = args.uids.as_deref().map(read).transpose()?;
    let ids = args.operator_ids.as_deref().map(read).transpose()?;
    let job =
        NewJob::read(uids.as_deref(), ids.as_deref()).map_err(|error| failure(error, USAGE))?;
    let runtime = runtime()?;
    let path = match &args.savepoint {
        Some(path) => path.clone(),
        None => match runtime.block_on(newest(&settings))? {
            Some(path) => path,
            // The first deployment of a pipeline that always looks.
            None => return nothing_to_compare(args.output),
        },
    };
    let bytes = runtime.block_on(metadata_of(&settings, &path))?;
    let metadata = metadata::parse(&bytes)
        .map_err(|error| failure(format!("{path}: {}", one_line(&error, 600)), 1))?;
    let found = preflight(&metadata, &job);
    let value = json!({"restore-point": path, "preflight": found});
    print(args.output, &text(&path, &found), &value)?;
    let fine = found.left_behind.is_empty() || settings.allow_non_restored_state;
    Ok(if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file)
        .map_err(|error| failure(format!("could not read {}: {error}", file.display()), USAGE))
}

fn nothing_to_compare(output: Output) -> anyhow::Result<ExitCode> {
    let none = Preflight {
        left_behind: Vec::new(),
        empty: Vec::new(),
    };
    let value = json!({"restore-point": null, "preflight": none});
    let text = "No restore point is recorded yet, so there is nothing to compare with.\n";
    print(output, text, &value)
}

async fn newest(settings: &Settings) -> anyhow::Result<Option<String>> {
    let kube = Kube::of_caller(settings.pod_namespace.as_deref()).await;
    let kube = kube.map_err(|error| failure(one_line(&error, 400), USAGE))?;
    let target = Target::new(kube, &settings.cluster_id, Duration::ZERO);
    target.newest().await.map_err(failed)
}

async fn metadata_of(settings: &Settings, path: &str) -> anyhow::Result<Vec<u8>> {
    let location = Location::parse(path).map_err(|error| failure(one_line(&error, 400), USAGE))?;
    let storage = storage_for(settings, &BTreeMap::new());
    let bytes = storage.read_metadata(&location).await;
    bytes.map(Into::into).map_err(|error| {
        let code = if error.is_retryable() { TRY_AGAIN } else { 1 };
        failure(one_line(&error, 600), code)
    })
}

fn text(path: &str, found: &Preflight) -> String {
    let mut text = format!("Restore point  {path}\n");
    for left in &found.left_behind {
        let name = left.name.as_deref().unwrap_or("no name stored");
        let _ = writeln!(
            text,
            "LEFT BEHIND    {} ({name}), {} bytes",
            left.id, left.bytes
        );
    }
    for new in &found.empty {
        let _ = writeln!(text, "starts empty   {new}");
    }
    if found.left_behind.is_empty() {
        text.push_str("All state is taken over.\n");
    } else {
        text.push_str("Flink starts with this only where allow-non-restored-state is set.\n");
    }
    text
}
