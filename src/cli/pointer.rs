//! `drey pointer`: what the next start resumes from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::config::Output;
use super::run::pointer_error;
use super::{ask, failure, print, runtime, settings, unexpected};
use crate::config::{Settings, SettingsArgs};
use crate::control::{Call, Reply};
use crate::domain::pointer::{APPLICATION, JobEntry, Pointer, RestorePoint};
use crate::pointer_file::peek;
use crate::restore_points::verify;
use crate::store::Store;
use crate::supervisor::{choose, clear, load, storage_for};

/// What the next start resumes from.
#[derive(Debug, clap::Args)]
pub(super) struct PointerArgs {
    #[command(subcommand)]
    command: PointerCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PointerCommand {
    /// Show the pointer with its history
    Show {
        #[command(flatten)]
        common: Common,
    },
    /// Make the next start resume from PATH, whatever later runs made
    Set {
        #[command(flatten)]
        common: Common,
        /// A savepoint or retained checkpoint, as Flink would write it
        path: String,
        /// The job's key, in a session cluster
        #[arg(long)]
        job: Option<String>,
    },
    /// Make the next start begin from empty state
    Clear {
        #[command(flatten)]
        common: Common,
        /// The job's key, in a session cluster
        #[arg(long)]
        job: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    settings: SettingsArgs,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &PointerArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    match &args.command {
        PointerCommand::Show { common } => {
            let settings = settings(&common.settings, env)?;
            let pointer = peek(&settings.pointer).map_err(|error| pointer_error(&error))?;
            let Some(pointer) = pointer else {
                let text = format!("there is no pointer at {} yet", settings.pointer.display());
                return Err(failure(text, 1));
            };
            show(common.output, &pointer)
        }
        PointerCommand::Set { common, path, job } => {
            let settings = settings(&common.settings, env)?;
            let call = Call::PointerSet {
                path: path.clone(),
                job: job.clone(),
            };
            change(&settings, common.output, &call, |pointer| {
                let storage = storage_for(&settings, &BTreeMap::new());
                let verdict = runtime()
                    .map_err(|error| error.to_string())?
                    .block_on(verify(&storage, path));
                let key = job.as_deref().unwrap_or(APPLICATION);
                choose(pointer, key, path, verdict, settings.allow_unverified)
            })
        }
        PointerCommand::Clear { common, job } => {
            let settings = settings(&common.settings, env)?;
            let call = Call::PointerClear { job: job.clone() };
            let key = job.as_deref().unwrap_or(APPLICATION);
            change(&settings, common.output, &call, |pointer| {
                clear(pointer, key)
            })
        }
    }
}

/// By the running supervisor, else in the file itself.
fn change(
    settings: &Settings,
    output: Output,
    call: &Call,
    offline: impl FnOnce(&mut Pointer) -> Result<(), String>,
) -> anyhow::Result<ExitCode> {
    match ask(settings, call)? {
        Some(Reply::Pointer {
            pointer: Some(pointer),
        }) => return show(output, &pointer),
        Some(other) => return Err(unexpected(&other)),
        None => {}
    }
    let mut store = Store::file(&settings.pointer).map_err(|error| pointer_error(&error))?;
    let runtime = runtime()?;
    let mut pointer = runtime
        .block_on(load(&mut store, &settings.cluster_id))
        .map_err(|error| pointer_error(&error))?;
    offline(&mut pointer).map_err(|error| failure(error, 1))?;
    pointer.seal();
    runtime
        .block_on(store.save(&pointer))
        .map_err(|error| pointer_error(&error))?;
    show(output, &pointer)
}

fn show(output: Output, pointer: &Pointer) -> anyhow::Result<ExitCode> {
    print(output, &text(pointer), &json!(pointer))
}

fn text(pointer: &Pointer) -> String {
    let mut text = format!(
        "Cluster  {}, write {}\n",
        pointer.cluster_id, pointer.generation
    );
    for (key, entry) in &pointer.jobs {
        let _ = writeln!(text, "Job      {key}");
        let next = match entry.newest() {
            _ if entry.cleared => "empty state, as a person ordered",
            Some(point) => point.path.as_str(),
            None => "no restore point recorded",
        };
        let _ = writeln!(text, "  newest        {next}");
        if let Some(ended) = &entry.ended {
            let _ = writeln!(text, "  ended         {} at {:.0}", ended.status, ended.at);
        }
        if let Some(frozen) = &entry.frozen {
            let _ = writeln!(text, "  FROZEN        {frozen}");
        }
        if let Some(intent) = &entry.intent {
            let _ = writeln!(
                text,
                "  in progress   savepoint {} since {:.0}",
                intent.trigger, intent.stored
            );
        }
        for point in &entry.history {
            text.push_str(&point_text(entry, point));
        }
    }
    text
}

fn point_text(entry: &JobEntry, point: &RestorePoint) -> String {
    let id = point
        .checkpoint_id
        .map_or_else(|| "unverified".to_owned(), |id| format!("id {id}"));
    let counts = point.lineage == entry.lineage && !point.superseded;
    let mark = if counts { "" } else { ", counts no longer" };
    format!(
        "  {:.0}  {} ({}), {id}{mark}\n    {}\n",
        point.completed, point.kind, point.reason, point.path
    )
}
