//! One reading of Flink for all who scrape at the same time, and the answers to them.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::aggregate::{Others, Pages, TaskManagers};
use super::job_name::JobName;
use super::merge::{Counts, Sink};
use super::own::{Own, Scrape};
use super::page::{Answer, Format, Page, Reader};
use super::relabel::Rules;
use super::upstream::{Upstream, UpstreamError};
use crate::telemetry::one_line;

/// What is served, and how it is read.
#[derive(Debug)]
pub struct Proxy {
    upstream: Upstream,
    /// Whose pages are in the answers, too.
    others: Option<TaskManagers>,
    rules: Rules,
    limit: u64,
    /// For how long a reading is an answer.
    cache: Duration,
    own: Arc<Own>,
    /// Labels of Drey's own metrics.
    labels: Rules,
    last: Mutex<Option<Arc<Reading>>>,
    job_name: std::sync::Mutex<JobName>,
}

/// What is served of Flink's page, and how.
#[derive(Debug)]
pub struct Served {
    /// What is kept of it.
    pub rules: Rules,
    /// How many series of it there are at most.
    pub limit: u64,
    /// For how long one reading is an answer.
    pub cache: Duration,
    /// The labels of Drey's own metrics.
    pub labels: Rules,
}

/// One reading of Flink's page.
#[derive(Debug)]
struct Reading {
    page: Page,
    outcome: Outcome,
    others: Option<Others>,
    began: Instant,
    ended: Instant,
}

impl Reading {
    fn is_fresh(&self, cache: Duration) -> bool {
        self.outcome == Outcome::Complete && self.ended.elapsed() < cache
    }
}

/// How a reading came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The page is complete.
    Complete,
    /// Nobody listens.
    Down,
    /// The time was up.
    Slow,
    /// What came was no page of metrics, or broke off.
    Broken,
}

impl Outcome {
    /// The values of the label.
    pub const NAMES: [&'static str; 4] = ["complete", "down", "slow", "broken"];

    /// The value of the label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Down => "down",
            Self::Slow => "slow",
            Self::Broken => "broken",
        }
    }
}

impl From<&UpstreamError> for Outcome {
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Down(_) | UpstreamError::Away { .. } => Self::Down,
            UpstreamError::Slow => Self::Slow,
            UpstreamError::Unfit { .. } | UpstreamError::Broken(_) | UpstreamError::Endless => {
                Self::Broken
            }
        }
    }
}

impl Proxy {
    /// A proxy of `upstream`.
    #[must_use]
    pub fn new(upstream: Upstream, served: Served, own: Arc<Own>) -> Self {
        Self {
            upstream,
            others: None,
            rules: served.rules,
            limit: served.limit,
            cache: served.cache,
            labels: served.labels,
            own,
            last: Mutex::default(),
            job_name: std::sync::Mutex::default(),
        }
    }

    /// The same proxy, in whose answers the pages of `others` are, too.
    #[must_use]
    pub fn with(self, others: Option<TaskManagers>) -> Self {
        Self { others, ..self }
    }

    /// Whether others are in its answers, who must not ask for them.
    #[must_use]
    pub fn aggregates(&self) -> bool {
        self.others.is_some()
    }

    /// The answer to one scrape, by `deadline`: of Flink what has come until then, and Drey's own in any case.
    pub async fn scrape(&self, format: Format, deadline: Instant) -> Answer {
        let arrived = Instant::now();
        let reading = timeout_at(deadline, self.reading(arrived, deadline)).await;
        let scrape = match &reading {
            Ok(reading) => Scrape {
                counts: reading.page.counts(),
                outcome: reading.outcome,
                duration: reading.ended - reading.began,
                age: reading.ended.elapsed(),
                others: reading.others.as_ref(),
            },
            // Another scrape's reading takes longer than this one may.
            Err(_) => Scrape::missed(arrived.elapsed()),
        };
        let own = self.own.text(&self.labels, &scrape);
        match reading {
            Ok(reading) => reading.page.with(&own, format),
            Err(_) => Page::empty().with(&own, format),
        }
    }

    /// A reading that ended after this scrape came, a complete one that is fresh, or a new one. A failed one is shared, too:
    /// else each of many scrapes of a Flink that hangs would wait for those before it.
    async fn reading(&self, arrived: Instant, deadline: Instant) -> Arc<Reading> {
        let mut last = self.last.lock().await;
        if let Some(reading) = &*last
            && (reading.ended >= arrived || reading.is_fresh(self.cache))
        {
            return Arc::clone(reading);
        }
        let reading = Arc::new(self.read(deadline).await);
        *last = Some(Arc::clone(&reading));
        reading
    }

    async fn read(&self, deadline: Instant) -> Reading {
        let began = Instant::now();
        let time = deadline.saturating_duration_since(began);
        let of_job = self.rules_of_job();
        let rules = of_job.as_ref().unwrap_or(&self.rules);
        // What has come by then is still to be merged, compressed and sent.
        let (page, outcome, others) = match &self.others {
            None => {
                let mut reader = Reader::new(rules, self.limit);
                let outcome = self.follow(&mut reader, deadline - time / 20).await;
                (reader.finish(), outcome, None)
            }
            Some(others) => self.read_all(others, rules, deadline - time / 4).await,
        };
        self.own.flink_was_read(outcome, &page.counts());
        Reading {
            page,
            outcome,
            others,
            began,
            ended: Instant::now(),
        }
    }

    async fn read_all(
        &self,
        others: &TaskManagers,
        rules: &Rules,
        deadline: Instant,
    ) -> (Page, Outcome, Option<Others>) {
        let pages = Pages::default();
        let mut reader = Reader::into(rules, self.limit, pages.flinks());
        let (outcome, (others, counts)) = tokio::join!(
            self.follow(&mut reader, deadline),
            others.read(&pages, self.limit, deadline)
        );
        let counts: Counts = reader.counts().and(counts);
        let (page, own) = pages.merge(self.limit).await;
        let counts = counts.then(page.counts());
        (
            page.counted(counts),
            outcome,
            Some(Others { own, ..others }),
        )
    }

    /// Feeds Flink's page to `reader`.
    async fn follow(&self, reader: &mut Reader<'_, impl Sink>, deadline: Instant) -> Outcome {
        let mut job_name = JobName::default();
        match self.feed(reader, &mut job_name, deadline).await {
            Ok(()) => {
                let mut known = self.job_name.lock().unwrap_or_else(PoisonError::into_inner);
                known.update(job_name);
                Outcome::Complete
            }
            Err(error) => {
                let outcome = Outcome::from(&error);
                let error = one_line(&error, 300);
                if outcome == Outcome::Down {
                    debug!(error, "Flink's metrics are not there");
                } else {
                    warn!(error, "Flink's metrics could not be read");
                }
                outcome
            }
        }
    }

    /// The rules with the name of the job that the page before this one told, where that is a label.
    fn rules_of_job(&self) -> Option<Rules> {
        let wanted = self.rules.wants_job_name();
        let known = self.job_name.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .name()
            .filter(|_| wanted)
            .map(|name| self.rules.of_job(name))
    }

    async fn feed(
        &self,
        reader: &mut Reader<'_, impl Sink>,
        job_name: &mut JobName,
        deadline: Instant,
    ) -> Result<(), UpstreamError> {
        let mut coming = self.upstream.open(deadline).await?;
        while let Some(piece) = coming.next(deadline).await? {
            reader.feed(&piece);
            if self.rules.wants_job_name() {
                job_name.look(&piece);
            }
            // A page that never waits would leave the other scrapes without an answer.
            tokio::task::consume_budget().await;
        }
        Ok(())
    }
}
