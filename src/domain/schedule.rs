//! When the next periodic savepoint is due: [`due`], a pure function of the schedule and of what there is.
//!
//! One that could not be taken in time (no job, another savepoint under way) is taken as soon as it can be, once: however
//! many were missed, they are not made up for.

use std::time::Duration;

use croner::Cron;
use croner::parser::CronParser;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::budget::after;

/// When savepoints are taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// This long after the last one.
    Every(Duration),
    /// At the times of a cron expression, in UTC.
    Cron(Box<Cron>),
}

impl Schedule {
    /// A cron expression of five fields (minute, hour, day of the month, month, day of the week), or a nickname such as
    /// `@daily`. In UTC.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn cron(text: &str) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(croner::parser::Seconds::Disallowed)
            .year(croner::parser::Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| error.to_string())?;
        let schedule = Self::Cron(Box::new(cron));
        match schedule.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err("it names no day that there is".to_owned()),
        }
    }

    /// The first time after `last`.
    #[must_use]
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(interval) => Some(after(last, *interval)),
            Self::Cron(cron) => {
                let last = last.to_zoned(TimeZone::UTC).datetime();
                let next = cron.find_next_occurrence(&last, false).ok()?;
                next.to_zoned(TimeZone::UTC)
                    .ok()
                    .map(|next| next.timestamp())
            }
        }
    }
}

/// What is known when it is asked whether a savepoint is due.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// The time.
    pub now: Timestamp,
    /// When the last periodic savepoint was taken, skipped or tried; before the first one, when the job was started first.
    pub last: Timestamp,
    /// When the newest savepoint of any kind was completed.
    pub newest: Option<Timestamp>,
    /// No savepoint is taken while there is one that is younger.
    pub min_age: Duration,
    /// The job can have a savepoint now: all its tasks run, and no other one is under way.
    pub ready: bool,
}

/// Whether a savepoint is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not before this time.
    At(Timestamp),
    /// It is, and cannot be taken yet.
    Waiting,
    /// It is, and there is one that is young enough.
    Skip,
    /// It is.
    Take {
        /// At least one more has been missed since the last one; it is not made up for.
        missed: bool,
    },
    /// Never.
    Never,
}

/// Whether a savepoint is due.
#[must_use]
pub fn due(schedule: &Schedule, sight: &Sight) -> Due {
    let Some(next) = schedule.next(sight.last) else {
        return Due::Never;
    };
    if next > sight.now {
        return Due::At(next);
    }
    let young = |at: Timestamp| after(at, sight.min_age) > sight.now;
    if sight.newest.is_some_and(young) {
        return Due::Skip;
    }
    if !sight.ready {
        return Due::Waiting;
    }
    let another = schedule.next(next);
    Due::Take {
        missed: another.is_some_and(|another| another <= sight.now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn sight(last: &str, now: &str) -> Sight {
        Sight {
            now: at(now),
            last: at(last),
            newest: None,
            min_age: Duration::from_secs(600),
            ready: true,
        }
    }

    fn daily() -> Schedule {
        Schedule::cron("30 2 * * *").expect("a schedule")
    }

    #[test]
    fn a_cron_schedule_is_in_utc() {
        let next = daily().next(at("2026-03-28T12:00:00Z"));
        assert_eq!(next, Some(at("2026-03-29T02:30:00Z")));
        let next = daily().next(at("2026-03-29T02:30:00Z"));
        assert_eq!(next, Some(at("2026-03-30T02:30:00Z")), "once a day");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "often", "61 * * * *", "* * * * * *", "0 0 30 2 *"] {
            assert!(Schedule::cron(text).is_err(), "{text}");
        }
        assert!(Schedule::cron("@daily").is_ok());
        assert!(Schedule::cron("*/15 8-18 * * MON-FRI").is_ok());
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let seen = sight("2026-01-01T00:00:00Z", "2026-01-01T05:59:59Z");
        let six = Schedule::Every(Duration::from_secs(6 * 3600));
        assert_eq!(due(&six, &seen), Due::At(at("2026-01-01T06:00:00Z")));
        let seen = sight("2026-01-01T00:00:00Z", "2026-01-01T06:00:00Z");
        assert_eq!(due(&six, &seen), Due::Take { missed: false });
    }

    #[test]
    fn missed_ones_are_not_made_up_for() {
        let seen = sight("2026-01-01T00:00:00Z", "2026-01-09T12:00:00Z");
        assert_eq!(due(&daily(), &seen), Due::Take { missed: true });
        let seen = sight("2026-01-09T12:00:00Z", "2026-01-09T12:00:01Z");
        assert_eq!(due(&daily(), &seen), Due::At(at("2026-01-10T02:30:00Z")));
    }

    #[test]
    fn a_job_that_cannot_have_one_gets_it_later() {
        let mut seen = sight("2026-01-01T00:00:00Z", "2026-01-01T02:31:00Z");
        seen.ready = false;
        assert_eq!(due(&daily(), &seen), Due::Waiting);
        seen.ready = true;
        assert_eq!(due(&daily(), &seen), Due::Take { missed: false });
    }

    #[test]
    fn a_young_savepoint_will_do() {
        let mut seen = sight("2026-01-01T00:00:00Z", "2026-01-01T02:31:00Z");
        seen.newest = Some(at("2026-01-01T02:25:00Z"));
        assert_eq!(due(&daily(), &seen), Due::Skip);
        seen.newest = Some(at("2026-01-01T02:20:00Z"));
        assert_eq!(due(&daily(), &seen), Due::Take { missed: false });
    }
}
