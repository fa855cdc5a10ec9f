//! Time without a clock: points and spans that saturate, and the back-off between attempts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The point `span` after `at`, or the last representable one.
#[must_use]
pub fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span)
        .ok()
        .and_then(|span| at.checked_add(span).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The span from `now` until `at`; zero when it has passed.
#[must_use]
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// Exponential back-off: `first`, doubled with every attempt, never more than `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failed attempt.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl Backoff {
    /// The wait after `attempt` failed attempts (1 is the first).
    #[must_use]
    pub fn wait(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_its_limit() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            most: Duration::from_secs(2),
        };
        let waits: Vec<u128> = (1..=7).map(|n| backoff.wait(n).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.wait(u32::MAX), Duration::from_secs(2));
    }

    #[test]
    fn a_span_that_would_overflow_saturates() {
        assert_eq!(
            after(Timestamp::MAX, Duration::from_secs(1)),
            Timestamp::MAX
        );
        assert_eq!(after(Timestamp::UNIX_EPOCH, Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn a_point_that_has_passed_is_zero_away() {
        let now = after(Timestamp::UNIX_EPOCH, Duration::from_secs(9));
        assert_eq!(until(now, Timestamp::UNIX_EPOCH), Duration::ZERO);
        assert_eq!(until(Timestamp::UNIX_EPOCH, now), Duration::from_secs(9));
    }
}
