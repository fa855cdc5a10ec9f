//! A stop-with-savepoint that was ordered through the pointer's ConfigMap, by a person or a pipeline.
//!
//! The order is answered in the map. Once it is carried out the job is over for its owner, as one that was canceled is: a
//! container that starts again in the pod runs nothing, and another Deployment of the same cluster id resumes from the
//! savepoint.

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tracing::{info, warn};

use super::Supervisor;
use crate::control::Reply;
use crate::domain::pointer::{APPLICATION, TriggerReason};
use crate::domain::pointer_map::{RequestKind, StopAnswer};
use crate::domain::savepoint::SavepointFormat;
use crate::domain::supervise::{Evidence, Process};
use crate::telemetry::one_line;

/// An order that is being carried out.
#[derive(Debug)]
pub(super) struct Ordered {
    name: String,
    reply: oneshot::Receiver<Reply>,
}

impl Supervisor {
    /// Begins what was ordered.
    pub(super) async fn begin_ordered_stop(&mut self) {
        if self.ordered.is_some() {
            return;
        }
        let Some((name, until, format)) = self.open_order() else {
            return;
        };
        let (back, reply) = oneshot::channel();
        if let Err(error) = self.order_stop(until, format, back) {
            self.answer_order(&name, &StopAnswer::failed(error)).await;
            return;
        }
        info!(request = name, "Ordered to stop the job with a savepoint");
        self.ordered = Some(Ordered { name, reply });
    }

    /// Answers what has been carried out, or has failed.
    pub(super) async fn answer_ordered_stop(&mut self) {
        let Some(ordered) = &mut self.ordered else {
            return;
        };
        let answer = match ordered.reply.try_recv() {
            Ok(Reply::Savepoint { path }) => StopAnswer::recorded(path),
            Ok(Reply::Failed { error, .. }) => StopAnswer::failed(error),
            Ok(other) => StopAnswer::failed(format!("unexpected answer {other:?}")),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Closed) => StopAnswer::failed("the job is gone".to_owned()),
        };
        let name = ordered.name.clone();
        self.ordered = None;
        self.answer_order(&name, &answer).await;
    }

    /// The first order that is still wanted. What nobody waits for any more is not carried out.
    fn open_order(&mut self) -> Option<(String, Timestamp, Option<SavepointFormat>)> {
        let document = self.store.map()?.document();
        let now = Timestamp::now();
        document.requests.iter().find_map(|(name, request)| {
            let until = request.until.filter(|until| *until > now)?;
            let open = request.kind == RequestKind::Stop && !document.answers.contains_key(name);
            open.then(|| (name.clone(), until, request.format))
        })
    }

    fn order_stop(
        &mut self,
        until: Timestamp,
        format: Option<SavepointFormat>,
        back: oneshot::Sender<Reply>,
    ) -> Result<(), String> {
        if self.process == Process::Gone {
            return Err("Flink is not running".to_owned());
        }
        let now = Timestamp::now();
        let mut ask = self.stop_ask(APPLICATION, TriggerReason::Stop, now, until, false);
        if format.is_some() {
            (ask.format, ask.other_format) = (format, None);
        }
        let Some(job) = self.jobs.get_mut(APPLICATION) else {
            return Err(
                "this is a session cluster: stop its jobs one by one with `drey savepoint --stop`"
                    .to_owned(),
            );
        };
        if job.ask.is_some() {
            return Err(
                "another savepoint of the job is under way; try again when it is done".to_owned(),
            );
        }
        job.ask = Some(ask);
        job.evidence = Evidence::default();
        job.logged = None;
        job.waiters.push(back);
        Ok(())
    }

    async fn answer_order(&mut self, name: &str, answer: &StopAnswer) {
        let Some(map) = self.store.map() else { return };
        let text = answer.to_text();
        match map.map().answer(name, &text).await {
            Ok(()) => map.answered(name, &text),
            Err(error) => {
                // Who has ordered it sees the pointer as well.
                let error = one_line(&error, 200);
                warn!(request = name, error, "Order could not be answered");
            }
        }
    }
}
