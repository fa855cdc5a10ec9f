//! The restore step: where the next start resumes from, and what has to stand in Flink's configuration for it.

use tracing::info;

use super::Supervisor;
use super::cluster::is_application;
use super::planner::{NoStart, Planner, storage_for};
use super::pod::Pod;
use crate::control::{Prepare, Reply, StartOrder};
use crate::domain::claim::ClaimMode;
use crate::domain::ha::Start;
use crate::domain::pointer::{APPLICATION, JobEntry, PointKind, Pointer, Run};
use crate::domain::restore::{Choice, RestorePlan, begin};
use crate::flink::version::FlinkVersion;
use crate::kill_point;
use crate::metrics::own;
use crate::pointer_file::PointerError;
use crate::telemetry::one_line;

/// Why a session cluster's JobManager starts without a restore point.
pub(super) const SESSION_START: &str = "a session cluster's jobs are submitted to it";

/// Plans a start, stores the run in `pointer`, and says what has to stand in Flink's configuration. Everything is in
/// `pointer` only: the caller saves it before Flink starts.
///
/// With `again` a run that has been stored but has left no trace is used once more, so that the same step twice gives
/// the same configuration.
///
/// # Errors
/// When the start has to be refused, or the job is over.
pub async fn prepare(
    planner: &Planner<'_>,
    pointer: &mut Pointer,
    again: bool,
) -> Result<Result<StartOrder, RestorePlan>, NoStart> {
    if !is_application(planner.settings.mode, planner.flink.application) {
        let run = planner.new_run()?;
        return Ok(Ok(planner.common_order(&run, SESSION_START)));
    }
    let entry = pointer.entry(APPLICATION);
    let plan = planner.plan(entry).await?;
    let (choice, why) = match &plan {
        RestorePlan::From(choice, why) => (Some(choice), why),
        RestorePlan::Fresh(why) => (None, why),
        _ => return Ok(Err(plan)),
    };
    // A start path that the last start has put into the very file that is read here is not the user's.
    let parent = entry.run.as_ref().and_then(|run| run.parent.as_ref());
    let stale = parent.is_some_and(|parent| planner.configured() == Some(parent.path.as_str()));
    let cleared = entry.cleared || stale;
    let unused = entry
        .run
        .clone()
        .filter(|run| again && unused(run, entry, choice));
    let run = match unused {
        Some(run) => run,
        None => {
            let run = planner.new_run()?;
            begin(entry, choice, run.clone(), planner.settings.remembered());
            entry.note_start();
            run
        }
    };
    if let Some(choice) = choice.filter(|choice| planner.claim(Some(choice)) == ClaimMode::Claim) {
        entry.note_claim(&choice.path);
    }
    Ok(Ok(planner.order(&run, choice, why, cleared)?))
}

/// A run that started from the same place and has recorded nothing since.
pub(super) fn unused(run: &Run, entry: &JobEntry, choice: Option<&Choice>) -> bool {
    let parent = run.parent.as_ref().map(|parent| parent.path.as_str());
    parent == choice.map(|choice| choice.path.as_str())
        && entry.ended.is_none()
        && entry.intent.is_none()
        && !entry.cleared
        && !entry
            .history
            .iter()
            .any(|point| point.run.as_ref() == Some(&run.id))
}

impl Supervisor {
    /// Outside Kubernetes, where nobody has to be waited for.
    pub(super) async fn prepare_alone(&mut self, flink: &Prepare) -> Reply {
        // What had to end has ended: a sidecar outlives its Flink.
        self.shutdown = None;
        // Flink's own keys say how its storage is reached.
        self.storage = storage_for(&self.settings, &flink.configuration);
        match self.choose_configuration(flink).await {
            Some(reply) => reply,
            None => self.prepare(flink).await,
        }
    }

    /// The storage is the one that `flink` has.
    pub(super) async fn prepare(&mut self, flink: &Prepare) -> Reply {
        for _ in 0..super::write::CONFLICTS {
            // In each turn: another JobManager may have begun the run meanwhile.
            match self.weigh_metadata().await {
                Ok(how @ (Start::Join | Start::Resume)) => return self.go_on_with_run(flink, how),
                Ok(Start::Choose | Start::Plain) => {}
                Err(refused) => return refused,
            }
            match self.try_prepare(flink).await {
                Ok(Some(reply)) => return reply,
                Ok(None) if self.lost_lock() => {
                    let error = "not started: another pod has taken the lock meanwhile".to_owned();
                    return Reply::Failed { error, code: 75 };
                }
                // Somebody else has written the pointer: what they wrote is what is planned with.
                Ok(None) => {}
                Err(NoStart { text, code }) => return Reply::Failed { error: text, code },
            }
        }
        Reply::Failed {
            error: "not started: the pointer is being written by somebody else; try again"
                .to_owned(),
            code: 75,
        }
    }

    /// `None` after a conflict.
    async fn try_prepare(&mut self, flink: &Prepare) -> Result<Option<Reply>, NoStart> {
        let version: FlinkVersion = flink.flink_version.parse().map_err(|error| {
            NoStart::usage(format!(
                "Flink's version {:?}: {error}",
                flink.flink_version
            ))
        })?;
        let owner = self.owner();
        let planner = self.planner(version, flink, &owner);
        let mut pointer = self.pointer.clone();
        if is_application(self.settings.mode, flink.application) {
            self.begin_fork(&mut pointer).await?;
        }
        let order = match prepare(&planner, &mut pointer, false).await? {
            Ok(order) => order,
            Err(RestorePlan::Ended(ended)) => {
                return Ok(Some(Reply::Ended {
                    status: ended.status,
                    stay: self.pod.as_ref().is_some_and(Pod::is_restarted),
                }));
            }
            Err(plan) => unreachable_plan(&plan)?,
        };
        kill_point("before-run-stored");
        pointer.seal();
        let unwritable = |error: PointerError| NoStart {
            text: one_line(&error, 400),
            code: 75,
        };
        match self.store.save(&pointer).await {
            Ok(()) => {}
            Err(PointerError::Conflict { .. }) => {
                self.take_over_theirs().await.map_err(unwritable)?;
                return Ok(None);
            }
            Err(PointerError::Away { name, why }) => {
                let aside = self.write_aside(&pointer, name, why).await;
                aside.map_err(unwritable)?;
            }
            Err(error) => return Err(unwritable(error)),
        }
        self.pointer = pointer;
        kill_point("after-run-stored");
        own().started(order.restore_from.as_deref());
        self.decisions
            .start(APPLICATION, order.restore_from.as_deref(), &order.why);
        let restore_from = order.restore_from.as_deref().unwrap_or("empty state");
        info!(cluster_id = self.settings.cluster_id, run = %order.run, restore_from, why = order.why, "Restore point chosen");
        Ok(Some(Reply::Start(order)))
    }

    /// The run goes on in another JobManager: with the same job id, directories and start path.
    pub(super) fn go_on_with_run(&self, flink: &Prepare, how: Start) -> Reply {
        let owner = self.owner();
        let parts = flink
            .flink_version
            .parse()
            .ok()
            .zip(self.run_of_application());
        let Some((version, run)) = parts else {
            return Reply::failed("not started: there is no run to go on with");
        };
        let planner = self.planner(version, flink, &owner);
        let choice = run.parent.as_ref().map(|parent| Choice {
            path: parent.path.clone(),
            kind: PointKind::Savepoint,
            verified: None,
        });
        let why = match how {
            Start::Join => "another JobManager of this run is there already",
            _ => "Flink's high-availability metadata are the newest",
        };
        match planner.order(run, choice.as_ref(), why, false) {
            Ok(order) => Reply::Start(order),
            Err(NoStart { text, code }) => Reply::Failed { error: text, code },
        }
    }

    fn planner<'a>(
        &'a self,
        version: FlinkVersion,
        flink: &'a Prepare,
        owner: &'a str,
    ) -> Planner<'a> {
        Planner {
            settings: &self.settings,
            storage: &self.storage,
            version,
            flink,
            owner,
        }
    }

    fn run_of_application(&self) -> Option<&Run> {
        self.pointer.jobs.get(APPLICATION)?.run.as_ref()
    }

    /// Who starts: named by the user, what owns the pod, else this very process.
    pub(super) fn owner(&self) -> String {
        let of_pod = || self.pod.as_ref()?.owner_uid();
        let named = self.settings.owner.clone().or_else(of_pod);
        named.unwrap_or_else(|| self.instance.clone())
    }
}

/// `plan` has handled everything else.
fn unreachable_plan(plan: &RestorePlan) -> Result<StartOrder, NoStart> {
    Err(NoStart {
        text: format!("not started: {plan:?}"),
        code: 1,
    })
}
