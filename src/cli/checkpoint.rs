//! `drey checkpoint`: a checkpoint by a person's hand.

use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::json;

use super::config::Output;
use super::{demand, print, settings, unexpected};
use crate::config::SettingsArgs;
use crate::control::{Call, CheckpointCall, Reply};

/// A checkpoint of a supervised job, of the kind that it takes by itself.
#[derive(Debug, clap::Args)]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The job, by name or id, when there are several
    #[arg(long)]
    job: Option<String>,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(
    args: &CheckpointArgs,
    env: Vec<(OsString, OsString)>,
) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let call = Call::Checkpoint(CheckpointCall {
        job: args.job.clone(),
        timeout_ms: u64::try_from(settings.savepoint_timeout.as_millis()).unwrap_or(u64::MAX),
    });
    match demand(&settings, &call)? {
        Reply::Checkpoint { checkpoint_id } => print(
            args.output,
            &format!("{checkpoint_id}\n"),
            &json!({ "checkpoint-id": checkpoint_id }),
        ),
        other => Err(unexpected(&other)),
    }
}
