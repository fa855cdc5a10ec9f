//! Old savepoints are deleted while the job runs: one at a time, beside the supervisor's loop, which never waits for it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::Supervisor;
use super::planner::storage_for;
use crate::control::Reply;
use crate::domain::budget::after;
use crate::domain::pointer::RestorePoint;
use crate::domain::retention::{Policy, adopt};
use crate::domain::supervise::Process;
use crate::kill_point;
use crate::kubernetes::events::Event;
use crate::metrics::own;
use crate::retention::{
    Orphan, Report, adopted, dispose, disposed, expire_all, find_orphans, judge, next_disposal,
    postpone,
};

/// How often it is looked whether something has become too old, and for savepoints that nobody has recorded.
const LOOK: Duration = Duration::from_secs(3600);

/// How long after a deletion that failed the next one is tried.
const PAUSE: Duration = Duration::from_secs(60);

/// How often it is looked whether a deletion is done.
const POLL: Duration = Duration::from_millis(100);

/// What is being deleted, and what comes next.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Something was recorded, or the run has completed its first checkpoint: look now.
    due: bool,
    /// When to look for savepoints that nobody has recorded.
    search: Option<Timestamp>,
    /// Not before this time again.
    pause: Option<Timestamp>,
    work: Option<JoinHandle<Done>>,
    /// `drey gc` waits for the end, with what it was told at the beginning.
    waiting: Option<(Report, oneshot::Sender<Reply>)>,
}

#[derive(Debug)]
enum Done {
    Disposed {
        key: String,
        path: String,
        result: Result<(), String>,
    },
    Searched(Result<Vec<(Orphan, Option<RestorePoint>)>, String>),
}

impl Supervisor {
    /// How many savepoints are kept, and for how long.
    pub(super) fn retention(&self) -> Policy {
        Policy {
            count: self.settings.history,
            age: self.settings.retention_age,
        }
    }

    /// Something has changed that may let a savepoint go.
    pub(super) fn look_after(&mut self) {
        self.keeper.due |= self.settings.retention;
    }

    /// A person wants it done now, or wants to see what would be.
    pub(super) fn want_gc(&mut self, dry_run: bool, back: oneshot::Sender<Reply>) {
        let report = Report {
            points: judge(&self.pointer, self.retention(), Timestamp::now()),
            ..Report::default()
        };
        if dry_run {
            return self.tell_orphans(report, back);
        }
        if !self.may_keep_house() || self.keeper.waiting.is_some() {
            let error =
                "not now: Flink does not run, or a savepoint or another `drey gc` is under way"
                    .to_owned();
            let _ = back.send(Reply::Failed { error, code: 75 });
            return;
        }
        self.keeper.due = true;
        self.keeper.search = Some(Timestamp::now());
        self.keeper.pause = None;
        self.keeper.waiting = Some((report, back));
    }

    fn tell_orphans(&self, mut report: Report, back: oneshot::Sender<Reply>) {
        let (storage, pointer) = (self.own_storage(), self.pointer.clone());
        tokio::spawn(async move {
            match find_orphans(&storage, &pointer).await {
                Ok(orphans) => report.orphans = orphans,
                Err(why) => report.failures.push(why),
            }
            let _ = back.send(Reply::Gc(Box::new(report)));
        });
    }

    fn own_storage(&self) -> crate::storage::Storage {
        let none = std::collections::BTreeMap::new();
        let cluster = self.cluster.as_ref();
        storage_for(
            &self.settings,
            cluster.map_or(&none, |it| &it.configuration),
        )
    }

    /// Only beside a job that runs, and never while something more important goes on.
    fn may_keep_house(&self) -> bool {
        let busy = self.jobs.values().any(|job| job.ask.is_some())
            || self
                .pointer
                .jobs
                .values()
                .any(|entry| entry.intent.is_some());
        self.loaded
            && self.process == Process::Running
            && self.shutdown.is_none()
            && !busy
            && !self.is_standby()
            && !self.gave_up_lock()
    }

    /// Deletes what may be deleted; when to look again.
    pub(super) async fn keep_house(&mut self) -> Option<Timestamp> {
        if self
            .keeper
            .work
            .as_ref()
            .is_some_and(JoinHandle::is_finished)
            && let Some(work) = self.keeper.work.take()
            && let Ok(done) = work.await
        {
            self.note(done).await;
        }
        if !self.may_keep_house() {
            return None;
        }
        let now = Timestamp::now();
        if self.keeper.work.is_none() {
            self.begin_work(now).await;
        }
        if self.keeper.work.is_some() {
            return Some(after(now, POLL));
        }
        if let Some((report, back)) = self.keeper.waiting.take() {
            let _ = back.send(Reply::Gc(Box::new(report)));
        }
        self.keeper.pause.or(self.keeper.search)
    }

    async fn begin_work(&mut self, now: Timestamp) {
        let on = self.settings.retention;
        let search = *self.keeper.search.get_or_insert(after(now, LOOK));
        if search <= now {
            self.keeper.search = Some(after(now, LOOK));
            if on || self.keeper.waiting.is_some() {
                self.keeper.due = true;
                self.search_orphans();
                return;
            }
        }
        if std::mem::take(&mut self.keeper.due) {
            self.expire(now).await;
        }
        if self.keeper.pause.is_none_or(|pause| pause <= now) {
            self.keeper.pause = None;
            self.begin_disposal();
        }
    }

    /// Stores what is to be deleted before anything is.
    async fn expire(&mut self, now: Timestamp) {
        let policy = self.retention();
        if !expire_all(&mut self.pointer.clone(), policy, now) {
            return;
        }
        let written = self
            .write(|pointer| {
                expire_all(pointer, policy, now);
            })
            .await;
        // Tried again with the next look.
        if self.is_written(written) {
            kill_point("after-retention-stored");
        }
    }

    fn begin_disposal(&mut self) {
        let Some((key, path)) = next_disposal(&self.pointer) else {
            return;
        };
        let storage = self.own_storage();
        let limit = self.settings.rest_timeout;
        let rest = self
            .cluster
            .as_ref()
            .filter(|cluster| cluster.reachable)
            .and_then(|cluster| cluster.rest.with_timeout(limit).ok());
        self.keeper.work = Some(tokio::spawn(async move {
            let result = dispose(rest.as_ref(), &storage, &path).await;
            Done::Disposed { key, path, result }
        }));
    }

    fn search_orphans(&mut self) {
        let (storage, pointer) = (self.own_storage(), self.pointer.clone());
        self.keeper.work = Some(tokio::spawn(async move {
            let mut found = Vec::new();
            let orphans = match find_orphans(&storage, &pointer).await {
                Ok(orphans) => orphans,
                Err(why) => return Done::Searched(Err(why)),
            };
            for orphan in orphans {
                let point = adopted(&storage, &orphan).await;
                found.push((orphan, point));
            }
            Done::Searched(Ok(found))
        }));
    }

    async fn note(&mut self, done: Done) {
        match done {
            Done::Disposed { key, path, result } => self.note_disposed(&key, &path, result).await,
            Done::Searched(Ok(found)) => self.note_orphans(found).await,
            Done::Searched(Err(why)) => {
                warn!(
                    why,
                    "Savepoints that nobody recorded could not be looked for"
                );
                self.note_failure(why);
            }
        }
    }

    fn note_failure(&mut self, why: String) {
        if let Some((report, _)) = &mut self.keeper.waiting {
            report.failures.push(why);
        }
    }

    async fn note_disposed(&mut self, key: &str, path: &str, result: Result<(), String>) {
        own().deleted(result.is_ok());
        match result {
            Ok(()) => {
                // Should this write fail, what is gone is deleted once more.
                if self.update(key, |entry| disposed(entry, path)).await {
                    info!(job = key, path, "Old savepoint deleted");
                    let text = format!("Deleted an old savepoint of job {key}: {path}");
                    self.tell(Event::normal("SavepointDeleted", &text));
                } else {
                    self.keeper.pause = Some(after(Timestamp::now(), PAUSE));
                }
            }
            Err(why) => {
                warn!(job = key, path, why, "Old savepoint could not be deleted");
                let text =
                    format!("An old savepoint of job {key} could not be deleted ({why}): {path}");
                self.tell(Event::warning("SavepointNotDeleted", &text));
                self.note_failure(format!("{path}: {why}"));
                // In memory only: the order matters to nobody else.
                postpone(self.pointer.entry(key), path);
                self.keeper.pause = Some(after(Timestamp::now(), PAUSE));
            }
        }
    }

    async fn note_orphans(&mut self, found: Vec<(Orphan, Option<RestorePoint>)>) {
        let mut left = Vec::new();
        for (mut orphan, point) in found {
            let known = orphan.job.clone().zip(point);
            orphan.adopted = match known {
                Some((key, point)) => self.adopt(&key, point).await,
                None => false,
            };
            left.push(orphan);
        }
        let strangers = left.iter().filter(|orphan| !orphan.adopted).count();
        own().orphans(strangers);
        if strangers > 0 {
            warn!(strangers, "There are savepoints that nobody has recorded");
        }
        let (policy, now) = (self.retention(), Timestamp::now());
        let points = judge(&self.pointer, policy, now);
        if let Some((report, _)) = &mut self.keeper.waiting {
            report.points = points;
            report.orphans = left;
        }
    }

    async fn adopt(&mut self, key: &str, point: RestorePoint) -> bool {
        let Some(entry) = self.pointer.jobs.get(key) else {
            return false;
        };
        if !adopt(&mut entry.clone(), point.clone()) {
            return false;
        }
        let path = point.path.clone();
        let adopted = self.update(key, |entry| {
            adopt(entry, point.clone());
        });
        let adopted = adopted.await;
        if adopted {
            info!(
                job = key,
                path, "Savepoint that nobody had recorded is known from now on"
            );
            let text = format!("Found a savepoint of job {key} that nobody had recorded: {path}");
            self.tell(Event::normal("SavepointFound", &text));
        }
        adopted
    }
}
