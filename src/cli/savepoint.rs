//! `drey savepoint`: a savepoint by a person's hand.

use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::json;

use super::config::Output;
use super::{demand, print, settings, unexpected};
use crate::config::SettingsArgs;
use crate::control::{Call, Reply, SavepointCall};
use crate::domain::savepoint::SavepointFormat;

/// A savepoint of a supervised job.
#[derive(Debug, clap::Args)]
pub(super) struct SavepointArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Stop the job with it, and end Flink
    #[arg(long)]
    stop: bool,
    /// Fire all timers and close all windows first: for a job that will not be resumed
    #[arg(long, requires = "stop")]
    drain: bool,
    /// How keyed state is stored; since Flink 1.15
    #[arg(long, value_name = "canonical|native", value_parser = format)]
    format: Option<SavepointFormat>,
    /// The job, by name or id, when there are several
    #[arg(long)]
    job: Option<String>,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn format(text: &str) -> Result<SavepointFormat, String> {
    match text {
        "canonical" => Ok(SavepointFormat::Canonical),
        "native" => Ok(SavepointFormat::Native),
        _ => Err("expected canonical or native".to_owned()),
    }
}

pub(super) fn run(
    args: &SavepointArgs,
    env: Vec<(OsString, OsString)>,
) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let call = Call::Savepoint(SavepointCall {
        stop: args.stop,
        drain: args.drain,
        format: args.format,
        job: args.job.clone(),
        timeout_ms: u64::try_from(settings.savepoint_timeout.as_millis()).unwrap_or(u64::MAX),
    });
    match demand(&settings, &call)? {
        Reply::Savepoint { path } => {
            print(args.output, &format!("{path}\n"), &json!({ "path": path }))
        }
        other => Err(unexpected(&other)),
    }
}
