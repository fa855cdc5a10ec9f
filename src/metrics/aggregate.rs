//! The metrics of all TaskManagers in the JobManager's page, for those who scrape one port for each cluster.
//!
//! Promises: only addresses are asked that Flink itself names, all at one port; a TaskManager that does not answer, or not
//! with metrics, costs no more than its own series; memory is that of a [`Spool`], however many there are.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use super::coming::Coming;
use super::deflate::Deflater;
use super::lines::Lines;
use super::merge::{Counts, Merger};
use super::own::OF_TASK_MANAGERS;
use super::page::Page;
use super::proxy::Outcome;
use super::relabel::Rules;
use super::spool::{Families, Gathered, Spool};
use super::upstream::UpstreamError;
use crate::flink::rest::FlinkRest;
use crate::flink::wire::TaskManager;
use crate::telemetry::one_line;

/// How many TaskManagers are asked at the same time.
const AT_ONCE: usize = 16;

/// How many are asked at most.
const MOST: usize = 1000;

/// How long it takes to connect in one network. The address of a pod that is gone does not even refuse.
const CONNECT: Duration = Duration::from_secs(1);

/// The label that tells Drey's own series of TaskManagers apart. Flink's have it already.
pub const TM_ID: &str = "tm_id";

/// What the names of Drey's own families begin with.
const OWN: &[u8] = b"drey_";

/// Where Flink's REST interface is, once the supervisor has found it there.
#[derive(Debug, Clone, Default)]
pub struct JobManager(Arc<Mutex<Option<Arc<FlinkRest>>>>);

static JOB_MANAGER: LazyLock<JobManager> = LazyLock::new(JobManager::default);

impl JobManager {
    /// That of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        JOB_MANAGER.clone()
    }

    /// It is there from now on.
    pub fn is_at(&self, rest: FlinkRest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Arc::new(rest));
    }

    fn rest(&self) -> Option<Arc<FlinkRest>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

/// All TaskManagers of one Flink.
#[derive(Debug)]
pub struct TaskManagers {
    job_manager: JobManager,
    port: u16,
    /// Those of the last time.
    last: Mutex<Vec<Member>>,
}

/// A TaskManager.
#[derive(Debug, Clone)]
struct Member {
    /// Its id as Flink's reporter writes it.
    id: String,
    host: String,
}

/// What became of the TaskManagers in one reading.
#[derive(Debug, Default)]
pub struct Others {
    /// Flink has told which there are.
    pub listed: bool,
    /// The ids of those that were asked, and whether their pages are complete.
    pub asked: Vec<(String, bool)>,
    /// Drey's own lines of them.
    pub own: Families,
}

/// Pages that become one.
#[derive(Debug)]
pub struct Pages {
    flinks: Mutex<Spool>,
    own: Mutex<Families>,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            flinks: Mutex::default(),
            own: Mutex::new(Families::only(OF_TASK_MANAGERS)),
        }
    }
}

impl Pages {
    /// Where Flink's lines go.
    #[must_use]
    pub fn flinks(&self) -> Gathered<'_, Spool> {
        Gathered::new(&self.flinks)
    }

    /// Flink's page of them all, with at most `limit` series, and Drey's own lines.
    pub async fn merge(self, limit: u64) -> (Page, Families) {
        let flinks = self.flinks.into_inner();
        let mut runs = flinks.unwrap_or_else(PoisonError::into_inner).finish();
        let rules = Rules::default();
        let mut merger = Merger::new(&rules, limit, Deflater::default());
        while runs.next_family(|line| merger.line(line)) {
            // A long page would leave the other scrapes without an answer.
            tokio::task::consume_budget().await;
        }
        let own = self.own.into_inner();
        let own = own.unwrap_or_else(PoisonError::into_inner);
        (Page::settled(merger.finish(), limit), own)
    }
}

impl TaskManagers {
    /// Those of `job_manager`, each of which serves its metrics at `port`.
    #[must_use]
    pub fn new(job_manager: JobManager, port: u16) -> Self {
        Self {
            job_manager,
            port,
            last: Mutex::default(),
        }
    }

    /// Reads the pages of all of them into `pages`, at most `limit` series of each, until `deadline`.
    pub async fn read(&self, pages: &Pages, limit: u64, deadline: Instant) -> (Others, Counts) {
        let (members, listed) = self.list(deadline).await;
        let all = members.len();
        let readings = members.into_iter().enumerate().map(|(place, member)| {
            // Those that hang must leave time for the ones behind them.
            let turns = u32::try_from((all - place).div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
            async move {
                let left = deadline.saturating_duration_since(Instant::now());
                let deadline = Instant::now() + left / turns;
                self.member(member, pages, limit, deadline).await
            }
        });
        let readings: Vec<(String, bool, Counts)> = futures_util::stream::iter(readings)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let counts = readings.iter().map(|(_, _, counts)| *counts);
        let counts = counts.fold(Counts::default(), Counts::and);
        let mut asked: Vec<(String, bool)> = readings
            .into_iter()
            .map(|(id, complete, _)| (id, complete))
            .collect();
        asked.sort_unstable();
        let others = Others {
            listed,
            asked,
            own: Families::default(),
        };
        (others, counts)
    }

    /// The TaskManagers as Flink tells them now, else as it did the last time; and whether it did now.
    async fn list(&self, deadline: Instant) -> (Vec<Member>, bool) {
        let left = deadline.saturating_duration_since(Instant::now());
        let told = match self.job_manager.rest() {
            None => None,
            Some(rest) => match timeout(left / 4, rest.task_managers()).await {
                Ok(Ok(told)) => Some(told),
                Ok(Err(error)) => {
                    debug!(
                        error = one_line(&error, 300),
                        "Flink does not tell its TaskManagers"
                    );
                    None
                }
                Err(_) => None,
            },
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = told.is_some();
        if let Some(told) = told {
            if told.len() > MOST {
                warn!(there = told.len(), asked = MOST, "Too many TaskManagers");
            }
            *last = told.into_iter().filter_map(member).take(MOST).collect();
        }
        (last.clone(), listed)
    }

    async fn member(
        &self,
        member: Member,
        pages: &Pages,
        limit: u64,
        deadline: Instant,
    ) -> (String, bool, Counts) {
        let rules = (Rules::default(), Rules::replacing(TM_ID, &member.id));
        let mut intake = Intake::new(pages, &rules, limit);
        let address = address(&member.host, self.port);
        let read = timeout_at(deadline, async {
            let mut coming = ask(&member.host, self.port, &address).await?;
            while let Some(piece) = coming.next(deadline).await? {
                intake.feed(&piece);
                tokio::task::consume_budget().await;
            }
            Ok(())
        });
        let read = read.await.unwrap_or(Err(UpstreamError::Slow));
        if let Err(error) = &read {
            let (tm_id, error_text) = (&member.id, one_line(error, 300));
            if Outcome::from(error) == Outcome::Down {
                debug!(
                    tm_id,
                    error = error_text,
                    "A TaskManager's metrics are not there"
                );
            } else {
                warn!(
                    tm_id,
                    error = error_text,
                    "A TaskManager's metrics could not be read"
                );
            }
        }
        let counts = intake.finish();
        (member.id, read.is_ok(), counts)
    }
}

fn member(it: TaskManager) -> Option<Member> {
    Some(Member {
        id: as_reported(&it.id),
        host: it.host?,
    })
}

/// A value as Flink's reporter writes it into a label, unless `filterLabelValueCharacters` is off
/// (`AbstractPrometheusReporter.replaceInvalidChars`).
fn as_reported(id: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_');
    id.chars().map(|c| if good(c) { c } else { '_' }).collect()
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

async fn ask(host: &str, port: u16, address: &str) -> Result<Coming, UpstreamError> {
    let away = |source| UpstreamError::Away {
        address: address.to_owned(),
        source,
    };
    let stream = timeout(CONNECT, TcpStream::connect((host, port)))
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(away)?;
    Coming::ask(address, stream, true).await
}

/// Takes the page of one TaskManager.
struct Intake<'p> {
    lines: Lines,
    flinks: Merger<'p, Gathered<'p, Spool>>,
    own: Merger<'p, Gathered<'p, Families>>,
}

impl<'p> Intake<'p> {
    fn new(pages: &'p Pages, rules: &'p (Rules, Rules), limit: u64) -> Self {
        Self {
            lines: Lines::default(),
            flinks: Merger::new(&rules.0, limit, pages.flinks()),
            own: Merger::own(&rules.1, Gathered::new(&pages.own)),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        let (flinks, own) = (&mut self.flinks, &mut self.own);
        self.lines.feed(piece, |line| {
            if is_own(line) {
                own.line(line);
            } else {
                flinks.line(line);
            }
        });
    }

    fn finish(self) -> Counts {
        let lost = Counts {
            invalid: self.lines.lost(),
            over_limit: self.own.finish().counts.over_limit,
            ..Counts::default()
        };
        self.flinks.finish().counts.and(lost)
    }
}

/// Whether a line is about one of Drey's own families. What looks otherwise is left out of Flink's.
fn is_own(line: &[u8]) -> bool {
    let about = line.strip_prefix(b"# HELP ");
    let about = about.or_else(|| line.strip_prefix(b"# TYPE "));
    about.unwrap_or(line).starts_with(OWN)
}
