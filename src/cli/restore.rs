//! `drey restore`: the restore step by itself.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::config::Output;
use super::run::pointer_error;
use super::{USAGE, failure, print, runtime, settings};
use crate::config::SettingsArgs;
use crate::control::StartOrder;
use crate::domain::pointer::Pointer;
use crate::flink::config_file::ConfDir;
use crate::flink::version::FlinkVersion;
use crate::launcher::{Command, Configuration, apply};
use crate::pointer_file::peek;
use crate::store::Store;
use crate::supervisor::{NoStart, Planner, load, prepare, storage_for};
use crate::telemetry::one_line;

/// The restore step by itself.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Show what would be chosen and why, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// The command that will start Flink: it tells mode and Flink's home. Without it: native application mode
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What native Application mode starts.
fn native() -> Vec<OsString> {
    let words = ["bash", "-c", "kubernetes-application"];
    words.map(OsString::from).to_vec()
}

pub(super) fn run(args: &RestoreArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let words = if args.command.is_empty() {
        native()
    } else {
        args.command.clone()
    };
    let usage = |error: &dyn std::error::Error| failure(one_line(error, 2000), USAGE);
    let command = Command::new(&words, settings.mode).map_err(|error| usage(&error))?;
    let configuration = Configuration::find(&settings, &command).map_err(|error| usage(&error))?;
    let flink = configuration
        .prepare(&command, &settings.state_dir, None)
        .map_err(|error| usage(&error))?;
    if let Some(why) = &flink.unreadable {
        return Err(failure(why.as_str(), USAGE));
    }
    let version: FlinkVersion = flink.flink_version.parse().map_err(|error| usage(&error))?;
    let storage = storage_for(&settings, &flink.configuration);
    let owner = settings
        .owner
        .clone()
        .unwrap_or_else(|| "drey restore".to_owned());
    let planner = Planner {
        settings: &settings,
        storage: &storage,
        version,
        flink: &flink,
        owner: &owner,
    };
    let mut store = match args.dry_run {
        true => None,
        false => Some(Store::file(&settings.pointer).map_err(|error| pointer_error(&error))?),
    };
    let runtime = runtime()?;
    let mut pointer = match &mut store {
        Some(store) => runtime.block_on(load(store, &settings.cluster_id)),
        None => peek(&settings.pointer)
            .map(|known| known.unwrap_or_else(|| Pointer::new(&settings.cluster_id))),
    }
    .map_err(|error| pointer_error(&error))?;
    let before = pointer.clone();
    let planned = runtime
        .block_on(prepare(&planner, &mut pointer, true))
        .map_err(|NoStart { text, code }| failure(text, code))?;
    let order = match planned {
        Ok(order) => order,
        Err(plan) => return Err(failure(format!("nothing to start: {plan:?}"), 1)),
    };
    if let Some(mut store) = store {
        if pointer != before {
            pointer.seal();
            runtime
                .block_on(store.save(&pointer))
                .map_err(|error| pointer_error(&error))?;
        }
        let directory =
            ConfDir::open(configuration.directory(), version).map_err(|error| usage(&error))?;
        apply(&directory, &order).map_err(|error| usage(&error))?;
    }
    print(args.output, &text(&order, args.dry_run), &json!(order))
}

fn text(order: &StartOrder, dry_run: bool) -> String {
    let from = order.restore_from.as_deref().unwrap_or("empty state");
    let tense = if dry_run {
        "Would start"
    } else {
        "The next start is"
    };
    let mut text = format!("{tense} from {from}\n  because {}\n", order.why);
    for (key, value) in &order.set {
        let _ = writeln!(text, "  {key}: {value}");
    }
    for key in &order.remove {
        let _ = writeln!(text, "  without {key}");
    }
    for arg in &order.args {
        let _ = writeln!(text, "  with the argument {arg}");
    }
    text
}
