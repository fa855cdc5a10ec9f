//! Savepoints that are asked for by an annotation of the pointer's ConfigMap: `drey.io/savepoint-request: NONCE`.
//!
//! The same nonce is answered once, also by a supervisor that was restarted: it is stored together with the intent.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::Supervisor;
use crate::domain::pointer::{JobEntry, Requested};
use crate::domain::supervise::{Outcome, Process, ready};
use crate::kubernetes::events::Event;
use crate::telemetry::one_line;

/// The name of the answer in the ConfigMap: `answer.savepoint-request`.
const ANSWER: &str = "savepoint-request";

impl Supervisor {
    /// Asks for the savepoints that the annotation wants, of every job that has not had one for this nonce.
    pub(super) fn ask_by_nonce(&mut self) {
        let Some(nonce) = self.nonce() else { return };
        if self.shutdown.is_some() || self.process == Process::Gone {
            return;
        }
        let keys: Vec<String> = self.jobs.keys().cloned().collect();
        for key in keys {
            if self.may_ask(&key, &nonce) {
                info!(job = key, nonce, "Savepoint asked for by annotation");
                self.ask_manual(&key);
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.nonce = Some(nonce.clone());
                }
            }
        }
    }

    fn nonce(&self) -> Option<String> {
        let document = self.store.as_map()?.document();
        document.savepoint_request.clone()
    }

    fn may_ask(&self, key: &str, nonce: &str) -> bool {
        let Some(job) = self.jobs.get(key) else {
            return false;
        };
        let none = JobEntry::default();
        let entry = self.pointer.jobs.get(key).unwrap_or(&none);
        let done = entry.requested.as_ref().is_some_and(|it| it.nonce == nonce);
        let free = job.ask.is_none() && entry.intent.is_none();
        !done && free && job.view.as_ref().is_some_and(ready)
    }

    /// Ends with its outcome what was asked for by annotation; what a killed supervisor has left open as well.
    pub(super) async fn answer_nonces(&mut self) {
        if self.store.as_map().is_none() || !self.loaded {
            return;
        }
        let open = |(key, entry): (&String, &JobEntry)| {
            let requested = entry.requested.as_ref()?;
            let ask = self.jobs.get(key).is_some_and(|job| job.ask.is_some());
            let over = entry.intent.is_none() && !ask && requested.answer.is_none();
            over.then(|| (key.clone(), requested.clone(), answer(entry, requested)))
        };
        let open: Vec<_> = self.pointer.jobs.iter().filter_map(open).collect();
        for (key, requested, answer) in open {
            let noted = |entry: &mut JobEntry| {
                if let Some(it) = entry
                    .requested
                    .as_mut()
                    .filter(|it| it.nonce == requested.nonce)
                {
                    it.answer = Some(answer.clone());
                }
            };
            if !self.update(&key, noted).await {
                return;
            }
            self.tell_answer(&key, &requested.nonce, &answer).await;
        }
    }

    async fn tell_answer(&mut self, key: &str, nonce: &str, answer: &str) {
        info!(job = key, nonce, answer, "Savepoint by annotation answered");
        let text = format!("Request {nonce} for a savepoint of job {key}: {answer}");
        self.tell(Event::normal("SavepointAnswered", &text));
        let Some(map) = self.store.map() else { return };
        let text = format!("{nonce} {answer}");
        let written = tokio::time::timeout(Duration::from_secs(2), map.map().answer(ANSWER, &text));
        match written.await {
            Ok(Ok(())) => map.answered(ANSWER, &text),
            Ok(Err(error)) => warn!(
                nonce,
                error = one_line(&error, 200),
                "Answer could not be written"
            ),
            Err(_) => warn!(nonce, "Answer could not be written: no answer"),
        }
    }

    /// A savepoint for a nonce was not even begun.
    pub(super) async fn refuse_nonce(&mut self, key: &str, outcome: &Outcome) {
        let nonce = self.jobs.get_mut(key).and_then(|job| job.nonce.take());
        let (Some(nonce), Outcome::Nothing(why)) = (nonce, outcome) else {
            return;
        };
        let requested = Requested {
            nonce,
            since: Timestamp::now(),
            failure: Some(why.clone()),
            answer: None,
        };
        self.update(key, |entry| {
            let known = entry.requested.as_ref().map(|it| &it.nonce);
            let since = entry.requested.as_ref().map(|it| it.since);
            let same = known == Some(&requested.nonce);
            entry.requested = Some(Requested {
                since: since.filter(|_| same).unwrap_or(requested.since),
                ..requested.clone()
            });
        })
        .await;
    }
}

/// The savepoint that was recorded since it was asked for, or why there is none.
fn answer(entry: &JobEntry, requested: &Requested) -> String {
    if let Some(why) = &requested.failure {
        return format!("failed: {why}");
    }
    let since = |started: Option<Timestamp>| started.is_some_and(|at| at >= requested.since);
    let made = entry.history.iter().find(|point| since(point.started));
    match made {
        Some(point) => point.path.clone(),
        None => "failed: no savepoint was recorded".to_owned(),
    }
}
