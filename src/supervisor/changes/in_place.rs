//! Another parallelism by Flink's configuration, for a job that runs on.
//!
//! What the JobManager was started with stays what it shows; what it is taken to run with is the changed configuration from
//! then on, and the record says so to a supervisor that comes later.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::{AGAIN, Running};
use crate::control::Reply;
use crate::domain::budget::after;
use crate::domain::changes::{Difference, Record, Version};
use crate::domain::pointer::APPLICATION;
use crate::domain::rescale::{NewDefault, Obstacle, Wanted, parallelism_alone};
use crate::kill_point;
use crate::kubernetes::events::Event;
use crate::metrics::own;
use crate::supervisor::Supervisor;
use crate::supervisor::rescale::Rescaling;

/// TaskManagers that were started for the change are looked for this often.
const SLOTS_AGAIN: Duration = Duration::from_secs(5);

/// A change that is being made.
#[derive(Debug)]
pub(super) struct InPlace {
    wanted: Version,
    outcome: Option<Made>,
}

/// What became of it.
#[derive(Debug)]
enum Made {
    Done,
    Hindered(Obstacle),
    /// It was not there in time.
    Overdue(String),
    /// Something else came first.
    Later(String),
}

impl Supervisor {
    /// The change as one that needs no restart, if it is.
    pub(super) fn in_place(
        &self,
        running: &Running,
        digest: &str,
        difference: &Difference,
    ) -> Option<NewDefault> {
        let cluster = self.cluster.as_ref()?;
        let tried = self.changes.only_by_savepoint.as_deref() == Some(digest);
        // Arguments of Flink's command count as well.
        let mut configuration = cluster.configuration.clone();
        configuration.extend(running.content.keys.clone());
        parallelism_alone(&configuration, running.flink.at_least(1, 18), difference)
            .filter(|_| !tried)
    }

    pub(super) fn begin_in_place(&mut self, wanted: Version, default: NewDefault) {
        let digest = wanted.digest.as_str();
        let NewDefault { before, after } = default;
        if !self.told_already(digest) {
            own().config_changed("seen");
            info!(
                digest,
                before, after, "Configuration has changed: the job is rescaled in place"
            );
            let text = format!(
                "parallelism.default has changed from {before} to {after}: the job is rescaled while it runs"
            );
            self.tell(Event::normal("ConfigChanged", &text));
        }
        self.changes.in_place = Some(InPlace {
            wanted,
            outcome: None,
        });
        let wanted = Wanted {
            default: Some(default),
            ..Wanted::default()
        };
        let patience = self.settings.config_change_timeout;
        self.begin_rescaling(
            APPLICATION.to_owned(),
            Rescaling::new(wanted, patience, None),
        );
    }

    /// The rescaling is over.
    pub(in crate::supervisor) fn rescaled_for_change(
        &mut self,
        reply: Reply,
        obstacle: Option<Obstacle>,
        overdue: bool,
    ) {
        let Some(under_way) = &mut self.changes.in_place else {
            return;
        };
        under_way.outcome = Some(match (reply, obstacle) {
            (_, Some(obstacle)) => Made::Hindered(obstacle),
            (Reply::Rescaled { .. }, _) => Made::Done,
            (Reply::Failed { error, code }, _) if overdue && code != 75 => Made::Overdue(error),
            (Reply::Failed { error, .. }, _) => Made::Later(error),
            (other, _) => Made::Later(format!("{other:?}")),
        });
    }

    /// Whether a change is being made; one that is over is taken into account.
    pub(super) async fn is_made_in_place(&mut self, running: &mut Running) -> bool {
        let job = self.jobs.get(APPLICATION);
        let under_way = job.is_some_and(|job| job.rescaling.is_some());
        match self.changes.in_place.take() {
            Some(change) if change.outcome.is_none() && under_way => {
                self.changes.in_place = Some(change);
                true
            }
            Some(InPlace {
                wanted,
                outcome: Some(outcome),
            }) => {
                self.note_made(running, wanted, outcome).await;
                false
            }
            _ => false,
        }
    }

    async fn note_made(&mut self, running: &mut Running, wanted: Version, outcome: Made) {
        let now = Timestamp::now();
        match outcome {
            Made::Done => self.note_rescaled(running, wanted).await,
            Made::Hindered(Obstacle::Scheduler(why)) => {
                info!(why, "Not rescaled in place: by a savepoint");
                self.changes.only_by_savepoint = Some(wanted.digest);
                self.changes.told = None;
            }
            Made::Hindered(Obstacle::Slots(why)) => {
                self.changes.not_before = Some(after(now, SLOTS_AGAIN));
                self.tell_too_few(&why);
            }
            Made::Hindered(Obstacle::Refused(why)) | Made::Overdue(why) => {
                let record = self.configurations().tried(wanted).rolled_back(why.clone());
                self.keep(record).await;
                own().config_changed("rolled-back");
                warn!(why, "Changed parallelism is given up");
                let text = format!(
                    "The changed parallelism is given up: {why}. The job runs on with the one that it has until the configuration changes again"
                );
                self.tell(Event::warning("ConfigRolledBack", &text));
            }
            Made::Later(why) => {
                info!(why, "Not rescaled now: tried again");
                self.changes.not_before = Some(after(now, AGAIN));
            }
        }
    }

    async fn note_rescaled(&mut self, running: &mut Running, wanted: Version) {
        let record = self.configurations();
        let next = record.rescaled(&running.version.digest, wanted.clone());
        kill_point("before-rescale-stored");
        // Else it is done again by the next supervisor, which changes nothing.
        self.keep(next).await;
        running.turns_to(wanted);
        self.changes.too_few = None;
        own().config_changed("applied");
        let digest = running.version.digest.as_str();
        info!(digest, "Changed configuration works");
        let text = "The job runs with the changed parallelism, and a checkpoint is completed";
        self.tell(Event::normal("ConfigApplied", text));
    }

    fn tell_too_few(&mut self, why: &str) {
        if self.changes.too_few.as_deref() == Some(why) {
            return;
        }
        self.changes.too_few = Some(why.to_owned());
        warn!(why, "Changed parallelism waits for slots");
        let text = format!(
            "The changed parallelism is not in effect yet: {why}. The job runs on with the one that it has"
        );
        self.tell(Event::warning("ConfigChangeFailed", &text));
    }

    /// What Flink has been rescaled to since its start, before this supervisor's own.
    pub(super) fn remember_rescaled(&self, record: &Record, running: &mut Running) {
        if let Some(version) = record.instead_of(&running.version.digest) {
            running.turns_to(version.clone());
        }
    }
}
