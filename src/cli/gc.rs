//! `drey gc`: old savepoints are deleted, and those that nobody has recorded are found.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;

use super::pointer::{CONFLICTS, Common, open};
use super::run::pointer_error;
use super::{ask, failure, print, runtime, settings, unexpected};
use crate::config::Settings;
use crate::control::{Call, Reply};
use crate::domain::pointer::Pointer;
use crate::domain::retention::{Fate, Policy, adopt};
use crate::pointer_file::PointerError;
use crate::retention::{
    Orphan, Report, adopted, dispose, disposed, expire_all, find_orphans, judge, next_disposal,
};
use crate::storage::Storage;
use crate::store::Store;
use crate::supervisor::{load, storage_for};

/// Deletion of old savepoints. Without a supervisor files are deleted from this machine.
#[derive(Debug, clap::Args)]
pub(super) struct GcArgs {
    #[command(flatten)]
    common: Common,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &GcArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.common.settings, env)?;
    let dry_run = args.dry_run;
    let answer = match args.common.kubernetes {
        true => None,
        false => ask(&settings, &Call::Gc { dry_run })?,
    };
    let report = match answer {
        Some(Reply::Gc(report)) => *report,
        Some(other) => return Err(unexpected(&other)),
        None => offline(args, &settings)?,
    };
    print(args.common.output, &text(&report, dry_run), &json!(report))?;
    Ok(ExitCode::from(u8::from(!report.failures.is_empty())))
}

/// Without a supervisor: in the file, or in the ConfigMap whose supervisor sees the change.
fn offline(args: &GcArgs, settings: &Settings) -> anyhow::Result<Report> {
    let runtime = runtime()?;
    let mut store = open(args.common.kubernetes, settings, &runtime)?;
    let storage = storage_for(settings, &BTreeMap::new());
    let policy = Policy {
        count: settings.history,
        age: settings.retention_age,
    };
    let gc = Gc {
        settings,
        storage,
        policy,
    };
    runtime.block_on(async {
        let mut report = gc.look(&mut store, args.dry_run).await?;
        if !args.dry_run {
            gc.delete(&mut store, &mut report).await?;
        }
        Ok(report)
    })
}

struct Gc<'a> {
    settings: &'a Settings,
    storage: Storage,
    policy: Policy,
}

impl Gc<'_> {
    /// What there is; without `dry_run` what belongs to a job's lineage is taken into its history.
    async fn look(&self, store: &mut Store, dry_run: bool) -> anyhow::Result<Report> {
        let pointer = self.load(store).await?;
        let mut report = Report::default();
        match find_orphans(&self.storage, &pointer).await {
            Ok(orphans) => report.orphans = orphans,
            Err(why) => report.failures.push(why),
        }
        for orphan in report.orphans.iter_mut().filter(|_| !dry_run) {
            orphan.adopted = self.adopt(store, orphan).await?;
        }
        let pointer = self.load(store).await?;
        report.points = judge(&pointer, self.policy, Timestamp::now());
        Ok(report)
    }

    async fn adopt(&self, store: &mut Store, orphan: &Orphan) -> anyhow::Result<bool> {
        let point = adopted(&self.storage, orphan).await;
        let Some((key, point)) = orphan.job.as_ref().zip(point) else {
            return Ok(false);
        };
        self.change(store, |pointer| adopt(pointer.entry(key), point.clone()))
            .await
    }

    async fn delete(&self, store: &mut Store, report: &mut Report) -> anyhow::Result<()> {
        let now = Timestamp::now();
        self.change(store, |pointer| expire_all(pointer, self.policy, now))
            .await?;
        crate::kill_point("after-retention-stored");
        let mut pointer = self.load(store).await?;
        while let Some((key, path)) = next_disposal(&pointer) {
            disposed(pointer.entry(&key), &path);
            match dispose(None, &self.storage, &path).await {
                Ok(()) => {
                    let gone = |pointer: &mut Pointer| {
                        let known = pointer.clone();
                        disposed(pointer.entry(&key), &path);
                        *pointer != known
                    };
                    self.change(store, gone).await?;
                }
                // It stays in the pointer: tried again by whoever comes next.
                Err(why) => report.failures.push(format!("{path}: {why}")),
            }
        }
        Ok(())
    }

    async fn load(&self, store: &mut Store) -> anyhow::Result<Pointer> {
        let pointer = load(store, &self.settings.cluster_id).await;
        pointer.map_err(|error| pointer_error(&error))
    }

    /// Changes the pointer and writes it, if `change` says that there is a change; whether it did.
    async fn change(
        &self,
        store: &mut Store,
        change: impl Fn(&mut Pointer) -> bool,
    ) -> anyhow::Result<bool> {
        for _ in 0..CONFLICTS {
            let mut pointer = self.load(store).await?;
            if !change(&mut pointer) {
                return Ok(false);
            }
            pointer.seal();
            match store.save(&pointer).await {
                Ok(()) => return Ok(true),
                Err(PointerError::Conflict { .. }) => {}
                Err(error) => return Err(pointer_error(&error)),
            }
        }
        let name = store.name();
        Err(failure(
            format!("{name} is written by somebody else all the time; try again"),
            super::TRY_AGAIN,
        ))
    }
}

fn text(report: &Report, dry_run: bool) -> String {
    let mut text = String::new();
    for point in &report.points {
        let (what, why) = match point.fate {
            Fate::Keep(why) => ("kept", why.to_string()),
            Fate::Forget(why) => ("forgotten", why.to_string()),
            Fate::Delete(why) if dry_run => ("to delete", why.to_string()),
            Fate::Delete(why) => ("deleted", why.to_string()),
        };
        let _ = writeln!(
            text,
            "{what:9}  {:.0}  {}  ({why})",
            point.completed, point.path
        );
    }
    for orphan in &report.orphans {
        let what = match (orphan.adopted, dry_run, &orphan.job) {
            (true, true, _) => "never recorded, to be adopted into the history",
            (true, false, _) => "never recorded, adopted into the history",
            (false, _, Some(_)) => "never recorded, of an abandoned lineage or not whole",
            (false, _, None) => "of a run that the pointer does not remember",
        };
        let _ = writeln!(
            text,
            "found      {:.0}  {}  ({what})",
            orphan.written, orphan.path
        );
    }
    for failure in &report.failures {
        let _ = writeln!(text, "FAILED     {failure}");
    }
    if text.is_empty() {
        text.push_str("There are no restore points\n");
    }
    text
}
