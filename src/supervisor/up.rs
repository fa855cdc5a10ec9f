//! That a run has come up is noted in the pointer, twice in its life: its tasks run, and a checkpoint of it is complete.

use jiff::Timestamp;

use super::Supervisor;
use crate::domain::pointer::{APPLICATION, JobEntry, Up};
use crate::domain::supervise::ready;

impl Supervisor {
    /// Notes what has become of the application's run since it was noted last.
    pub(super) async fn note_up(&mut self) {
        let Some(job) = self.jobs.get(APPLICATION) else {
            return;
        };
        // Where no others can see the pointer nobody waits for it there.
        if self.pod.is_none() || self.shutdown.is_some() || job.ask.is_some() {
            return;
        }
        let running = job.view.as_ref().is_some_and(ready);
        let completed = job.watch.completed();
        let entry = self.pointer.jobs.get(APPLICATION);
        let Some(up) = entry.and_then(|entry| news(entry, running, completed)) else {
            return;
        };
        let noted = self.update(APPLICATION, |entry| entry.up = Some(up.clone()));
        if noted.await && up.checkpoint.is_some() {
            self.leave_parent().await;
        }
    }
}

/// What has to be noted.
fn news(entry: &JobEntry, running: bool, completed: Option<i64>) -> Option<Up> {
    let run = entry.run.as_ref()?;
    if entry.frozen.is_some() || entry.ended.is_some() {
        return None;
    }
    // What a run restored counts as completed to some versions of Flink.
    let restored = run.parent.as_ref().and_then(|parent| parent.checkpoint_id);
    let own = completed.filter(|id| Some(*id) > restored);
    match entry.up.as_ref().filter(|up| up.run == run.id) {
        None => running.then(|| Up {
            run: run.id.clone(),
            since: Timestamp::now(),
            checkpoint: own,
        }),
        Some(up) if up.checkpoint.is_none() && own.is_some() => Some(Up {
            checkpoint: own,
            ..up.clone()
        }),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_noted_when_its_tasks_run_and_when_a_checkpoint_of_its_own_is_complete() {
        let mut entry = JobEntry::started(1, "file:/s/savepoint-1", Some(7));
        assert_eq!(news(&entry, false, None), None);
        let first = news(&entry, true, Some(7)).expect("it runs");
        assert_eq!(first.checkpoint, None, "7 is what it restored");
        entry.up = Some(first);
        assert_eq!(news(&entry, true, Some(7)), None);
        let second = news(&entry, true, Some(8)).expect("a checkpoint");
        assert_eq!(second.checkpoint, Some(8));
        entry.up = Some(second);
        assert_eq!(news(&entry, true, Some(9)), None);
    }
}
