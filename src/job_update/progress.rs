//! What is going on, to standard error: one line that counts the seconds on a terminal, plain lines in a pipeline.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often a terminal's line is written anew.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Says what is going on.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    began: Instant,
    /// What is waited for, and since when.
    open: Option<(String, Instant)>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new(io::stderr().is_terminal())
    }
}

impl Progress {
    /// For a terminal, or for a pipeline.
    #[must_use]
    pub fn new(terminal: bool) -> Self {
        Self {
            terminal,
            began: Instant::now(),
            open: None,
        }
    }

    /// What is done or waited for from now on. The same text twice is said once.
    pub(super) fn say(&mut self, text: &str) {
        if self.open.as_ref().is_some_and(|(open, _)| open == text) {
            return;
        }
        self.close();
        if !self.terminal {
            let at = self.began.elapsed().as_secs_f64();
            let _ = writeln!(io::stderr(), "{at:7.1}s  {text}");
        }
        self.open = Some((text.to_owned(), Instant::now()));
        self.tick();
    }

    /// Counts the seconds of what is waited for.
    pub(super) fn tick(&self) {
        if let (Some((text, since)), true) = (&self.open, self.terminal) {
            let seconds = since.elapsed().as_secs();
            let mut out = io::stderr();
            let _ = write!(out, "\r\x1b[K{text} … {seconds} s");
            let _ = out.flush();
        }
    }

    /// Ends the line that counts.
    pub fn close(&mut self) {
        if let (Some((text, since)), true) = (self.open.take(), self.terminal) {
            let seconds = since.elapsed().as_secs_f64();
            let _ = writeln!(io::stderr(), "\r\x1b[K{text}: {seconds:.1} s");
        }
    }
}
