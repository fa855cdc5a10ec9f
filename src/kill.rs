//! Named points at which a test may end the process as `kill -9` would.

/// Ends the process at once when `DREY_KILL_AT` names this point. Compiled to nothing without the feature `kill-points`.
#[cfg(feature = "kill-points")]
pub fn kill_point(name: &str) {
    if std::env::var("DREY_KILL_AT").is_ok_and(|wanted| wanted == name) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Ends the process at once when `DREY_KILL_AT` names this point. Compiled to nothing without the feature `kill-points`.
#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub fn kill_point(_name: &str) {}
