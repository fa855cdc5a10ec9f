//! Changes of Flink's configuration: seen, judged, applied by a stop-with-savepoint and a start in the same pod, watched, and
//! rolled back when the job does not come up.
//!
//! Flink is started again where it ran: no other pod has to be made, a savepoint that fails leaves the job running, and no
//! right on Deployments is needed. What the next start uses is stored before the job is stopped, so whichever container or pod
//! makes that start goes on with it.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::Supervisor;
use super::cluster::is_application;
use crate::changes::{content, directory_flaws};
use crate::control::Prepare;
use crate::domain::budget::after;
use crate::domain::changes::{
    Change, Content, Files, OnChange, Record, Step, Version, View, judge, next,
};
use crate::domain::pointer::{APPLICATION, TriggerReason};
use crate::domain::savepoint::SavepointFormat;
use crate::domain::supervise::{Evidence, Outcome, Process, ready};
use crate::flink::version::FlinkVersion;
use crate::kill_point;
use crate::kubernetes::events::Event;
use crate::metrics::own;
use in_place::InPlace;
use objects::Source;

pub(in crate::supervisor) use objects::Part;

mod arguments;
mod begin;
mod diff;
mod in_place;
mod objects;
mod record;
mod tell;

/// A ConfigMap and the Deployment beside it change one after the other: what makes a new pod brings the configuration along.
const TOGETHER: std::time::Duration = std::time::Duration::from_secs(1);

/// After a savepoint that failed the change is tried again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

/// What is known of Flink's configuration.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// What stands in the directory, as the launcher saw it last.
    mounted: Option<Files>,
    configuration: Source,
    arguments: Source,
    running: Option<Running>,
    /// Where Flink's configuration is, in the container that Flink runs in.
    directory: Option<PathBuf>,
    /// The file with the job's arguments, in the same container.
    arguments_file: Option<PathBuf>,
    /// Outside Kubernetes: the record as it stands in its file.
    record: Option<Record>,
    /// What people were told of last.
    told: Option<String>,
    /// Flink is ended to be started again.
    pub(super) restarts: bool,
    /// When one of the ConfigMaps was seen to change last.
    seen_at: Option<Timestamp>,
    /// The last attempt has failed.
    not_before: Option<Timestamp>,
    /// TaskManagers of another configuration are there.
    pub(super) new_task_managers: bool,
    /// A change that is being made while the job runs.
    in_place: Option<InPlace>,
    /// This one cannot be made so.
    only_by_savepoint: Option<String>,
    /// Why there are too few slots for it, as it was told last.
    too_few: Option<String>,
}

/// What Flink was started with.
#[derive(Debug)]
struct Running {
    version: Version,
    content: Content,
    flink: FlinkVersion,
    /// The file with the job's arguments, where no copy of it may be kept.
    secret: Option<String>,
}

impl Running {
    fn of(flink: &Prepare) -> Option<Self> {
        let version: FlinkVersion = flink.flink_version.parse().ok()?;
        let content = content(&flink.files, version).ok()?;
        Some(Self {
            version: Version {
                digest: content.digest(),
                files: flink.files.clone(),
            },
            content,
            flink: version,
            secret: None,
        })
    }

    /// It runs with this now.
    fn turns_to(&mut self, version: Version) {
        if let Ok(content) = content(&version.files, self.flink) {
            self.content = content;
            self.version = version;
        }
    }
}

impl Changes {
    fn source(&mut self, part: Part) -> &mut Source {
        match part {
            Part::Configuration => &mut self.configuration,
            Part::Arguments => &mut self.arguments,
        }
    }
}

impl Supervisor {
    /// What the launcher sees in the configuration directory.
    pub(super) fn mounted(&mut self, files: Files) {
        self.changes.mounted = Some(files);
    }

    /// The launcher has started Flink, or tells a restarted supervisor about it.
    pub(super) fn runs_with(&mut self, flink: &Prepare) {
        self.changes.restarts = false;
        self.changes.told = None;
        self.changes.in_place = None;
        self.changes.only_by_savepoint = None;
        self.changes.running = is_application(self.settings.mode, flink.application)
            .then(|| Running::of(flink))
            .flatten();
        self.watch_configuration(flink);
    }

    /// The policy; without a place for the copy of the last good configuration, changes can only be told of.
    fn policy_of_changes(&self, flink: Option<&Prepare>) -> OnChange {
        let directory = flink.map(|flink| flink.directory.as_path());
        if self.pod.is_some() && self.configuration_map(directory).is_none() {
            // What comes from a Secret must not be copied into the pointer's ConfigMap.
            return OnChange::Ignore;
        }
        self.settings.on_config_change
    }

    fn wanted_change(&self, running: &Running) -> Option<(String, Change, Files)> {
        let files = self.wanted_files()?;
        let wanted = content(&files, running.flink);
        let set = [
            self.settings.savepoint_dir.is_some(),
            self.settings.checkpoint_dir.is_some()
                || !directory_flaws(&running.content, running.flink, [true, false]).is_empty(),
        ];
        let flaws = wanted.as_ref().map_or_else(
            |_| Vec::new(),
            |wanted| directory_flaws(wanted, running.flink, set),
        );
        let digest = wanted
            .as_ref()
            .map_or_else(|_| format!("unreadable:{}", files.len()), Content::digest);
        let change = judge(
            self.policy_of_changes(None),
            &running.content,
            &wanted,
            flaws,
        );
        Some((digest, change, files))
    }

    /// One look at the configuration; when to look again.
    pub(super) async fn follow_changes(&mut self) -> Option<Timestamp> {
        let idle = self.process != Process::Running
            || self.shutdown.is_some()
            || self.is_told_to_go()
            || !self.loaded
            || self.is_standby()
            || self.gave_up_lock();
        if idle {
            return None;
        }
        if self.changes.restarts {
            self.notice_failed_stop().await;
            return None;
        }
        let quiet = self.changes.seen_at.map(|at| after(at, TOGETHER));
        if let Some(at) = quiet.filter(|at| Timestamp::now() < *at) {
            return Some(at);
        }
        let mut running = self.changes.running.take()?;
        self.leave_secret_arguments_out(&mut running);
        let record = self.configurations();
        self.remember_rescaled(&record, &mut running);
        let again = match self.is_made_in_place(&mut running).await {
            true => None,
            false => self.take_step(&running).await,
        };
        self.changes.running = Some(running);
        again
    }

    async fn take_step(&mut self, running: &Running) -> Option<Timestamp> {
        let wanted = self.wanted_change(running);
        self.note_pending(wanted.as_ref()).await;
        if self.policy_of_changes(None) == OnChange::Ignore {
            // Nothing is kept then, so nothing is ever confirmed.
            self.only_tell(running, wanted);
            return None;
        }
        let record = self.configurations();
        let deadline = record.trial.as_ref().and_then(|trial| trial.deadline);
        let in_place = match &wanted {
            Some((digest, Change::Restart(difference), _)) => {
                self.in_place(running, digest, difference)
            }
            _ => None,
        };
        let view = View {
            now: Timestamp::now(),
            running: &running.version.digest,
            wanted: wanted
                .as_ref()
                .map(|(digest, change, _)| (digest.as_str(), change)),
            works: self.job_works(),
            busy: self.is_busy(),
            in_place,
        };
        let step = next(&record, &view);
        match (step, wanted) {
            (Step::Ignore, Some((digest, Change::Ignored(difference), _))) => {
                self.tell_ignored(&digest, &difference, running);
            }
            (Step::Refuse(reasons), Some((digest, ..))) => self.tell_refused(&digest, &reasons),
            (Step::Confirm, _) => self.confirm(&record, running).await,
            (Step::RollBack(why), _) => self.roll_back(&record, running, why).await,
            (Step::Forget, _) => drop(self.keep(record.settled()).await),
            (Step::Rescale(default), Some((digest, _, files))) => {
                self.begin_in_place(Version { digest, files }, default);
            }
            (Step::Apply, Some((digest, Change::Restart(difference), files))) => {
                let mut names = difference.names();
                let standalone = self.cluster.as_ref().is_some_and(|cluster| !cluster.native);
                if standalone && difference.concerns_task_managers() {
                    names.push_str(
                        "; TaskManagers with the same configuration are started again as well",
                    );
                }
                let wanted = Version { digest, files };
                self.apply(&record, wanted, &names).await;
                if difference.changes_state_backend() {
                    self.stop_in_canonical_format();
                }
            }
            _ => {}
        }
        deadline
    }

    /// In the record and in the metrics: who looks from outside sees neither the directory nor what runs.
    async fn note_pending(&mut self, wanted: Option<&(String, Change, Files)>) {
        let Some((digest, change, _)) = wanted else {
            return;
        };
        let record = self.configurations();
        let what = change.pending();
        own().config_pending(what.is_some() || record.has_failed(digest));
        if let Some(record) = record.with_pending(what, Timestamp::now()) {
            self.keep(record).await;
        }
    }

    fn only_tell(&mut self, running: &Running, wanted: Option<(String, Change, Files)>) {
        match wanted {
            Some((digest, Change::Ignored(difference), _)) => {
                self.tell_ignored(&digest, &difference, running);
            }
            Some((digest, Change::Refused(reasons), _)) => self.tell_refused(&digest, &reasons),
            _ => {}
        }
    }

    fn job_works(&self) -> bool {
        self.jobs.get(APPLICATION).is_some_and(|job| {
            let runs = job.view.as_ref().is_some_and(ready);
            runs && (job.watch.completed().is_some() || job.watch.takes_no_checkpoints())
        })
    }

    fn is_busy(&self) -> bool {
        let entry = self.pointer.jobs.get(APPLICATION);
        let open = entry.is_some_and(|entry| entry.intent.is_some());
        let job = self.jobs.get(APPLICATION);
        let asked = job.is_none_or(|job| {
            job.ask.is_some() || job.settled.is_some() || job.rescaling.is_some()
        });
        let ready = job.and_then(|job| job.view.as_ref()).is_some_and(ready);
        let early = self
            .changes
            .not_before
            .is_some_and(|at| Timestamp::now() < at);
        open || asked || !ready || early
    }

    async fn confirm(&mut self, record: &Record, running: &Running) {
        let tried = record.trial.is_some();
        kill_point("before-change-confirmed");
        if !self.keep(record.confirmed(running.version.clone())).await || !tried {
            return;
        }
        kill_point("after-change-confirmed");
        own().config_changed("applied");
        let digest = running.version.digest.as_str();
        info!(digest, "Changed configuration works");
        let text = "The job works with the changed configuration: its tasks run, and a checkpoint is completed";
        self.tell(Event::normal("ConfigApplied", text));
    }

    async fn apply(&mut self, record: &Record, wanted: Version, names: &str) {
        if let Some(pod) = &mut self.pod
            && pod.owner_has_new_template().await
        {
            // The rollout stops the job anyway.
            return;
        }
        let taken = self
            .jobs
            .get(APPLICATION)
            .is_none_or(|job| job.ask.is_some());
        // Stored first: with it missing nobody would know what to go back to.
        if taken || !self.keep(record.tried(wanted)).await {
            return;
        }
        kill_point("after-change-stored");
        own().config_changed("seen");
        info!(
            changed = names,
            "Configuration has changed: the job is restarted with it"
        );
        let text = format!(
            "Flink's configuration has changed ({names}): the job is stopped with a savepoint and started again"
        );
        self.tell(Event::normal("ConfigChanged", &text));
        // One that never came up need not be stopped with a savepoint.
        self.end_flink(self.is_busy());
    }

    async fn roll_back(&mut self, record: &Record, running: &Running, why: String) {
        let known = record.has_failed(&running.version.digest);
        // Stored already: who did so has died since.
        if known || self.keep(record.rolled_back(why.clone())).await {
            kill_point("after-rollback-stored");
            self.tell_rolled_back(&why);
            self.end_flink(true);
        }
    }

    /// Ends Flink to start it again; with `must_end` also where no savepoint can be taken.
    fn end_flink(&mut self, must_end: bool) {
        let now = Timestamp::now();
        let patience = match must_end {
            true if self.has_nothing_to_save() => Duration::ZERO,
            true => self.settings.shutdown_timeout,
            false => self.settings.savepoint_timeout,
        };
        let reason = TriggerReason::ConfigChange;
        let ask = self.stop_ask(APPLICATION, reason, now, after(now, patience), must_end);
        let Some(job) = self.jobs.get_mut(APPLICATION) else {
            return;
        };
        job.ask = Some(ask);
        job.evidence = Evidence::default();
        job.logged = None;
        self.changes.restarts = true;
    }

    /// No savepoint can be taken and no sink has committed anything since the start: waiting for the tasks would gain nothing.
    fn has_nothing_to_save(&self) -> bool {
        let job = self.jobs.get(APPLICATION);
        job.is_some_and(|job| {
            let runs = job.view.as_ref().is_none_or(ready);
            !runs && job.watch.completed().is_none()
        })
    }

    /// What any state backend reads, unless the user has decided.
    fn stop_in_canonical_format(&mut self) {
        let open = self.settings.savepoint_format.is_none() && self.changes.restarts;
        let job = self.jobs.get_mut(APPLICATION).filter(|_| open);
        let ask = job.and_then(|job| job.ask.as_mut());
        if let Some(ask) = ask.filter(|ask| ask.format.is_some()) {
            ask.format = Some(SavepointFormat::Canonical);
            ask.other_format = None;
        }
    }

    /// The job goes on when its savepoint failed, with the configuration that it has.
    async fn notice_failed_stop(&mut self) {
        let entry = self.pointer.jobs.get(APPLICATION);
        let open = entry.is_some_and(|entry| entry.intent.is_some());
        let job = self.jobs.get(APPLICATION);
        let over = job.is_some_and(|job| job.ask.is_none() && job.settled.is_none());
        if open || !over || self.run_is_stopped() {
            return;
        }
        let why = match job.and_then(|job| job.logged.as_ref()) {
            Some(Outcome::Nothing(why)) => why.clone(),
            _ => return,
        };
        self.changes.restarts = false;
        self.changes.not_before = Some(after(Timestamp::now(), AGAIN));
        let record = self.configurations();
        self.keep(Record {
            trial: None,
            ..record
        })
        .await;
        warn!(
            why,
            "Configuration was not applied: the job goes on as it was"
        );
        let text = format!(
            "The changed configuration is not applied, since no savepoint could be taken ({why}): the job goes on as it was, and it is tried again in {} s",
            AGAIN.as_secs()
        );
        self.tell(Event::warning("ConfigChangeFailed", &text));
    }
}
