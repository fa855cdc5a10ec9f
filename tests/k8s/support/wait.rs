//! Waiting for what pods do, always with a limit.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine: a pod's start is that of two JVMs.
const LIMIT: Duration = Duration::from_secs(300);

/// Each look is a process or two.
const PAUSE: Duration = Duration::from_millis(400);

/// Looks again and again until `look` finds something; fails after [`LIMIT`].
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        sleep(PAUSE);
    }
}

/// Looks again and again until `met`; fails after [`LIMIT`].
pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    eventually(what, || met().then_some(()));
}
