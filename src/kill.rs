//! Named points at which a test may end the process as `kill -9` would, or wedge it.

/// Ends the process at once when `DREY_KILL_AT` names this point; with `wedge:` before the name, blocks this thread, and so
/// the runtime, for ever. Compiled to nothing without the feature `kill-points`.
#[cfg(feature = "kill-points")]
pub fn kill_point(name: &str) {
    let Ok(wanted) = std::env::var("DREY_KILL_AT") else {
        return;
    };
    if wanted == name {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // Process 1 of a container does not get a signal that it sends to itself.
        std::process::exit(137);
    }
    if wanted.strip_prefix("wedge:") == Some(name) {
        eprintln!("Wedged at {name}");
        loop {
            std::thread::park();
        }
    }
}

/// Ends the process at once when `DREY_KILL_AT` names this point; with `wedge:` before the name, blocks this thread, and so
/// the runtime, for ever. Compiled to nothing without the feature `kill-points`.
#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub fn kill_point(_name: &str) {}
