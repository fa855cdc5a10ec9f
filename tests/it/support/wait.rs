//! Waiting for what another process does, always with a limit.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Looks again and again until `look` finds something; fails after [`LIMIT`].
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, what, look)
}

/// Looks again and again until `met`; fails after [`LIMIT`].
pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    eventually(what, || met().then_some(()));
}

fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        // Short waits are noticed soon, long ones cost little.
        sleep((start.elapsed() / 50).clamp(Duration::from_millis(5), Duration::from_millis(100)));
    }
}
