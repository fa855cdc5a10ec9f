//! Whether a job that Flink calls RUNNING really gets on: it does not fail again and again, and its checkpoints complete.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::budget::until;

/// This many failed checkpoints in a row are no accident.
const FAILED_IN_A_ROW: usize = 5;

/// Checkpoints that come less often than every few minutes are late only after this many intervals.
const INTERVALS: u32 = 3;

/// When a job counts as ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many failures or starts within the window are a restart loop.
    pub failures: usize,
    /// How far back is looked.
    pub window: Duration,
    /// How long a job may run without completing a checkpoint; never less than three checkpoint intervals.
    pub stuck_after: Duration,
}

/// What is known of one job.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// The time.
    pub now: Timestamp,
    /// When tasks failed so that the job, or part of it, was restarted. Flink remembers 16 of them
    /// (`web.exception-history-size`).
    pub failures: &'a [Timestamp],
    /// When JobManagers were started for it.
    pub starts: &'a [Timestamp],
    /// Since when all of its tasks have been running; `None` when they do not, or when a savepoint is under way, which keeps
    /// checkpoints waiting.
    pub running_since: Option<Timestamp>,
    /// The time between two checkpoints; `None` when the job takes none.
    pub interval: Option<Duration>,
    /// Its checkpoints.
    pub checkpoints: &'a Checkpoints,
}

/// How the checkpoints of a job went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// When the newest one that completed was complete.
    pub completed: Option<Timestamp>,
    /// When those after it were triggered that have failed.
    pub failed: Vec<Timestamp>,
    /// Why the newest of these has failed.
    pub why: Option<String>,
}

/// What is wrong with a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailment {
    /// What it is.
    pub kind: AilmentKind,
    /// In words, with what to do.
    pub text: String,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AilmentKind {
    /// It fails and is restarted again and again.
    RestartLoop,
    /// It runs and completes no checkpoints.
    StuckCheckpoints,
}

impl AilmentKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::RestartLoop, Self::StuckCheckpoints];

    /// As metrics and `drey status` name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RestartLoop => "restart-loop",
            Self::StuckCheckpoints => "stuck-checkpoints",
        }
    }
}

impl fmt::Display for AilmentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An ailment as the pointer has it, for those who cannot ask the job's supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Noted {
    /// What it is.
    pub kind: AilmentKind,
    /// When it was seen first.
    pub since: Timestamp,
    /// In words, as they were then.
    pub text: String,
}

/// The longest text that is noted, in characters.
const NOTED: usize = 300;

/// What is to be noted now; `None`: that is noted already. Words that change are no reason to write.
#[must_use]
pub fn noted(known: &[Noted], found: &[Ailment], now: Timestamp) -> Option<Vec<Noted>> {
    let before = |ailment: &Ailment| known.iter().find(|noted| noted.kind == ailment.kind);
    if known.len() == found.len() && found.iter().all(|it| before(it).is_some()) {
        return None;
    }
    let note = |ailment: &Ailment| {
        before(ailment).cloned().unwrap_or_else(|| Noted {
            kind: ailment.kind,
            since: now,
            text: ailment.text.chars().take(NOTED).collect(),
        })
    };
    Some(found.iter().map(note).collect())
}

/// Everything that is wrong with a job, each kind at most once.
#[must_use]
pub fn diagnose(limits: &Limits, seen: &Sight<'_>) -> Vec<Ailment> {
    let found = [restart_loop(limits, seen), stuck(limits, seen)];
    found.into_iter().flatten().collect()
}

fn restart_loop(limits: &Limits, seen: &Sight<'_>) -> Option<Ailment> {
    let recent = |times: &[Timestamp]| {
        let within = |at: &&Timestamp| until(**at, seen.now) < limits.window;
        times.iter().filter(within).count()
    };
    let (failures, starts) = (recent(seen.failures), recent(seen.starts));
    let (count, what) = if failures >= limits.failures {
        (failures, "tasks failed")
    } else if starts >= limits.failures {
        (starts, "Flink was started")
    } else {
        return None;
    };
    let text = format!(
        "restart loop: {what} {count} times in the last {}; look at the job's exceptions in Flink",
        minutes(limits.window)
    );
    Some(Ailment {
        kind: AilmentKind::RestartLoop,
        text,
    })
}

fn stuck(limits: &Limits, seen: &Sight<'_>) -> Option<Ailment> {
    let (since, interval) = (seen.running_since?, seen.interval?);
    let checkpoints = seen.checkpoints;
    let progress = checkpoints
        .completed
        .map_or(since, |completed| completed.max(since));
    let failed = checkpoints.failed.iter().filter(|at| **at >= since).count();
    let silent = until(progress, seen.now);
    let patience = limits.stuck_after.max(interval.saturating_mul(INTERVALS));
    let what = if failed >= FAILED_IN_A_ROW {
        format!("the last {failed} have failed")
    } else if silent >= patience {
        format!("none has completed for {}", minutes(silent))
    } else {
        return None;
    };
    let why = checkpoints.why.as_ref().filter(|_| failed > 0);
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    let text = format!(
        "checkpoints are stuck: {what}{why}; look at backpressure and at the storage for checkpoints"
    );
    Some(Ailment {
        kind: AilmentKind::StuckCheckpoints,
        text,
    })
}

/// In whole minutes from two on, so that it does not change with every look.
fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        failures: 5,
        window: Duration::from_secs(600),
        stuck_after: Duration::from_secs(600),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// A job at second 10,000, whose tasks have been running for 5,000 s with a checkpoint every minute.
    fn healthy(checkpoints: &Checkpoints) -> Sight<'_> {
        Sight {
            now: at(10_000),
            failures: &[],
            starts: &[],
            running_since: Some(at(5_000)),
            interval: Some(Duration::from_secs(60)),
            checkpoints,
        }
    }

    fn completed(second: i64) -> Checkpoints {
        Checkpoints {
            completed: Some(at(second)),
            ..Checkpoints::default()
        }
    }

    fn kinds(seen: &Sight<'_>) -> Vec<AilmentKind> {
        let found = diagnose(&LIMITS, seen);
        found.into_iter().map(|ailment| ailment.kind).collect()
    }

    #[test]
    fn failures_count_within_the_window_only() {
        let checkpoints = completed(9_990);
        let five: Vec<_> = (0..5).map(|n| at(9_500 + n)).collect();
        let seen = Sight {
            failures: &five,
            ..healthy(&checkpoints)
        };
        assert_eq!(kinds(&seen), [AilmentKind::RestartLoop]);
        let mut old = five.clone();
        old[0] = at(9_400);
        let seen = Sight {
            failures: &old,
            ..healthy(&checkpoints)
        };
        assert_eq!(kinds(&seen), []);
        let seen = Sight {
            starts: &five,
            ..healthy(&checkpoints)
        };
        let found = diagnose(&LIMITS, &seen);
        assert!(
            found[0]
                .text
                .contains("Flink was started 5 times in the last 10 min")
        );
    }

    #[test]
    fn checkpoints_are_stuck_after_a_while_without_a_completed_one() {
        assert_eq!(kinds(&healthy(&completed(9_401))), []);
        let stuck = [AilmentKind::StuckCheckpoints];
        assert_eq!(kinds(&healthy(&completed(9_400))), stuck);
        assert_eq!(kinds(&healthy(&Checkpoints::default())), stuck);
    }

    #[test]
    fn a_job_that_has_just_started_or_does_not_run_or_takes_none_is_not_stuck() {
        let checkpoints = Checkpoints::default();
        for seen in [
            Sight {
                running_since: Some(at(9_500)),
                ..healthy(&checkpoints)
            },
            Sight {
                running_since: None,
                ..healthy(&checkpoints)
            },
            Sight {
                interval: None,
                ..healthy(&checkpoints)
            },
        ] {
            assert_eq!(kinds(&seen), [], "{seen:?}");
        }
    }

    #[test]
    fn rare_checkpoints_are_given_three_intervals() {
        let hourly = |second| {
            let checkpoints = completed(second);
            let seen = Sight {
                interval: Some(Duration::from_secs(1_000)),
                ..healthy(&checkpoints)
            };
            kinds(&seen)
        };
        assert_eq!(hourly(7_001), []);
        assert_eq!(hourly(7_000), [AilmentKind::StuckCheckpoints]);
    }

    #[test]
    fn failed_checkpoints_in_a_row_are_told_with_their_reason_at_once() {
        let mut checkpoints = completed(9_900);
        checkpoints.failed = (0..5).map(|n| at(9_910 + n)).collect();
        checkpoints.why = Some("Checkpoint expired before completing.".to_owned());
        let found = diagnose(&LIMITS, &healthy(&checkpoints));
        let text = &found[0].text;
        assert!(
            text.contains("the last 5 have failed (Checkpoint expired"),
            "{text}"
        );
        checkpoints.failed.pop();
        assert_eq!(kinds(&healthy(&checkpoints)), []);
    }

    #[test]
    fn an_ailment_is_noted_once_with_the_time_it_began_and_is_gone_when_it_is_over() {
        let ailment = |kind, text: &str| Ailment {
            kind,
            text: text.to_owned(),
        };
        let looping = ailment(AilmentKind::RestartLoop, "5 times");
        assert_eq!(noted(&[], &[], at(1)), None);
        let first = noted(&[], std::slice::from_ref(&looping), at(1)).expect("it is new");
        let again = ailment(AilmentKind::RestartLoop, "6 times");
        assert_eq!(noted(&first, std::slice::from_ref(&again), at(2)), None);
        let stuck = ailment(AilmentKind::StuckCheckpoints, &"x".repeat(1000));
        let both = noted(&first, &[again, stuck], at(3)).expect("another one");
        assert_eq!(both[0], first[0]);
        assert_eq!((both[1].since, both[1].text.len()), (at(3), NOTED));
        assert_eq!(noted(&both, &[], at(4)), Some(Vec::new()));
    }
}
