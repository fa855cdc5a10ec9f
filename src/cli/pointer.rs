//! `drey pointer`: what the next start resumes from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;
use tokio::runtime::Runtime;

use super::config::Output;
use super::run::pointer_error;
use super::{USAGE, ask, failure, print, runtime, settings, unexpected};
use crate::config::{Settings, SettingsArgs};
use crate::control::{Call, Reply};
use crate::domain::pointer::{APPLICATION, JobEntry, Pointer, RestorePoint};
use crate::kubernetes::{Kube, PointerMap};
use crate::pointer_file::{PointerError, peek};
use crate::restore_points::verify;
use crate::store::{MapStore, Store};
use crate::supervisor::{choose, clear, load, storage_for};
use crate::telemetry::one_line;

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

/// What the commands about the pointer have in common.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// The pointer is the ConfigMap `drey-CLUSTER_ID`, reached by KUBECONFIG in its namespace or in `--pod-namespace`, whether
    /// or not anything runs
    #[arg(long)]
    pub(super) kubernetes: bool,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// How often a write is begun anew because somebody else was quicker.
pub(super) const CONFLICTS: usize = 5;

pub(super) fn run(args: &PointerArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    match &args.command {
        PointerCommand::Show { common } => {
            let settings = settings(&common.settings, env)?;
            look(common, &settings)
        }
        PointerCommand::Set { common, path, job } => {
            let settings = settings(&common.settings, env)?;
            let call = Call::PointerSet {
                path: path.clone(),
                job: job.clone(),
            };
            let verdict = || {
                let storage = storage_for(&settings, &BTreeMap::new());
                Ok(runtime()?.block_on(verify(&storage, path)))
            };
            let key = job.as_deref().unwrap_or(APPLICATION);
            change(common, &settings, &call, verdict, |pointer, verdict| {
                choose(pointer, key, path, verdict, settings.allow_unverified)
            })
        }
        PointerCommand::Clear { common, job } => {
            let settings = settings(&common.settings, env)?;
            let call = Call::PointerClear { job: job.clone() };
            let key = job.as_deref().unwrap_or(APPLICATION);
            change(
                common,
                &settings,
                &call,
                || Ok(()),
                |pointer, ()| clear(pointer, key),
            )
        }
    }
}

/// The pointer is a ConfigMap, which needs no supervisor to be seen.
fn is_map(kubernetes: bool, settings: &Settings) -> bool {
    kubernetes || settings.pod_name.is_some()
}

/// Where the pointer is kept, locked if it is a file. A ConfigMap is reached as long as `runtime` lives.
pub(super) fn open(
    kubernetes: bool,
    settings: &Settings,
    runtime: &Runtime,
) -> anyhow::Result<Store> {
    if !is_map(kubernetes, settings) {
        return Store::file(&settings.pointer).map_err(|error| pointer_error(&error));
    }
    let kube = runtime.block_on(Kube::of_caller(settings.pod_namespace.as_deref()));
    let kube = kube.map_err(|error| failure(one_line(&error, 400), USAGE))?;
    let map = PointerMap::new(&kube, &settings.cluster_id);
    Ok(Store::Map(Box::new(MapStore::without_copy(map))))
}

fn look(common: &Common, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (pointer, lock) = current(common.kubernetes, settings)?;
    show(common.output, &pointer, &lock)
}

/// The pointer as it is, and who has its lock.
pub(super) fn current(kubernetes: bool, settings: &Settings) -> anyhow::Result<(Pointer, String)> {
    if is_map(kubernetes, settings) {
        let runtime = runtime()?;
        let mut store = open(kubernetes, settings, &runtime)?;
        let found = runtime.block_on(store.load());
        let found = found.map_err(|error| pointer_error(&error))?;
        let Some(pointer) = found else {
            return Err(failure(format!("there is no {} yet", store.name()), 1));
        };
        return Ok((pointer, lock_text(&store)));
    }
    if let Some(pointer) = peek(&settings.pointer).map_err(|error| pointer_error(&error))? {
        return Ok((pointer, String::new()));
    }
    // Beside Flink in a pod there is the supervisor, and no file.
    match ask(settings, &Call::PointerShow)? {
        Some(Reply::Pointer {
            pointer: Some(pointer),
        }) => Ok((*pointer, String::new())),
        Some(other) => Err(unexpected(&other)),
        None => {
            let text = format!("there is no pointer at {} yet", settings.pointer.display());
            Err(failure(text, 1))
        }
    }
}

/// By the running supervisor, else in the file or the ConfigMap itself. A supervisor that runs elsewhere sees the change, and
/// keeps it as it keeps one that was made through it.
fn change<T: Clone>(
    common: &Common,
    settings: &Settings,
    call: &Call,
    prepare: impl FnOnce() -> anyhow::Result<T>,
    offline: impl Fn(&mut Pointer, T) -> Result<(), String>,
) -> anyhow::Result<ExitCode> {
    let answer = match common.kubernetes {
        true => None,
        false => ask(settings, call)?,
    };
    match answer {
        Some(Reply::Pointer {
            pointer: Some(pointer),
        }) => return show(common.output, &pointer, ""),
        Some(other) => return Err(unexpected(&other)),
        None => {}
    }
    let runtime = runtime()?;
    let mut store = open(common.kubernetes, settings, &runtime)?;
    let prepared = prepare()?;
    for _ in 0..CONFLICTS {
        let pointer = runtime.block_on(load(&mut store, &settings.cluster_id));
        let mut pointer = pointer.map_err(|error| pointer_error(&error))?;
        offline(&mut pointer, prepared.clone()).map_err(|error| failure(error, 1))?;
        pointer.seal();
        match runtime.block_on(store.save(&pointer)) {
            Ok(()) => return show(common.output, &pointer, &lock_text(&store)),
            Err(PointerError::Conflict { .. }) => {}
            Err(error) => return Err(pointer_error(&error)),
        }
    }
    let name = store.name();
    Err(pointer_error(&PointerError::Conflict { name }))
}

/// Whose JobManager runs, or waits: what was changed holds from the next start on.
fn lock_text(store: &Store) -> String {
    let Some(lock) = store.as_map().map(|map| &map.document().lock) else {
        return String::new();
    };
    let holders = lock.holders.iter().map(|holder| ("held by", &holder.pod));
    let waiters = lock
        .waiters
        .iter()
        .map(|waiter| ("waited for by", &waiter.pod));
    holders
        .chain(waiters)
        .map(|(how, pod)| format!("Lock     {how} pod {}\n", pod.name))
        .collect()
}

fn show(output: Output, pointer: &Pointer, more: &str) -> anyhow::Result<ExitCode> {
    print(output, &(text(pointer) + more), &json!(pointer))
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
