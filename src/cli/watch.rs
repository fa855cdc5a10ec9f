//! `drey status --watch`: how the jobs stand, for as long as one looks. A terminal shows one picture that is drawn anew when
//! something has changed; anything else gets a line for each change.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use super::config::Output;
use super::{demand, unexpected};
use crate::config::Settings;
use crate::control::{self, Call, JobReport, Reply, Status};

/// The wait between looks right after a change, and how long it gets while nothing changes.
const POLL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// How the picture is drawn.
enum View {
    /// Over the last one, of so many lines.
    Terminal(usize),
    Lines,
    Json,
}

/// Shows the status again and again, until the reader is gone or somebody interrupts it.
///
/// # Errors
/// When there is no supervisor at first. One that goes later is waited for.
pub(super) fn run(
    settings: &Settings,
    output: Output,
    text: impl Fn(&Status) -> String,
) -> anyhow::Result<ExitCode> {
    let mut view = match output {
        Output::Json => View::Json,
        Output::Text if io::stdout().is_terminal() => View::Terminal(0),
        Output::Text => View::Lines,
    };
    let first = match demand(settings, &Call::Status)? {
        Reply::Status(status) => Some(*status),
        other => return Err(unexpected(&other)),
    };
    super::runtime()?.block_on(async {
        let (mut seen, mut wait) = (first, POLL.0);
        let mut shown = None;
        loop {
            if shown.as_ref() != Some(&seen) {
                if !view.show(seen.as_ref(), Timestamp::now(), &text)? {
                    return Ok(ExitCode::SUCCESS);
                }
                shown = Some(seen);
                wait = POLL.0;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(POLL.1);
            seen = match control::call(&settings.socket, &Call::Status).await {
                Ok(Reply::Status(status)) => Some(*status),
                _ => None,
            };
        }
    })
}

impl View {
    /// Whether there is still somebody who reads it. `None`: no supervisor answers.
    fn show(
        &mut self,
        status: Option<&Status>,
        now: Timestamp,
        text: impl Fn(&Status) -> String,
    ) -> anyhow::Result<bool> {
        let time = now.strftime("%FT%TZ");
        let shown = match self {
            Self::Terminal(above) => {
                let picture = status.map_or_else(|| AWAY.to_owned(), &text);
                let lines = fitting(&format!("Since    {time}\n{picture}"), size());
                let drawn = redraw(&lines, *above);
                *above = lines.len();
                drawn
            }
            Self::Lines => status
                .map_or_else(|| vec![AWAY.to_owned()], lines)
                .iter()
                .fold(String::new(), |mut all, line| {
                    let _ = writeln!(all, "{time}  {line}");
                    all
                }),
            Self::Json => serde_json::to_string(&status).map(|line| line + "\n")?,
        };
        let mut out = io::stdout().lock();
        match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written
                .map(|()| true)
                .context("could not write to standard output"),
        }
    }
}

const AWAY: &str = "no supervisor answers; waiting for it";

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    // A terminal that does not tell has none.
    let known = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

/// What can be drawn over later: no line is wrapped, and none has left the screen.
fn fitting(text: &str, (columns, rows): (usize, usize)) -> Vec<String> {
    let cut = |line: &str| {
        let printable = line.chars().filter(|c| !c.is_control());
        printable.take(columns).collect()
    };
    text.lines().take(rows.saturating_sub(1)).map(cut).collect()
}

/// Up to the first line of the last picture, which is `above` lines long, away with it, and the new one.
fn redraw(lines: &[String], above: usize) -> String {
    let mut text = match above {
        0 => String::new(),
        lines => format!("\x1b[{lines}A\r\x1b[J"),
    };
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// A line for each job, or for Flink where there is none.
fn lines(status: &Status) -> Vec<String> {
    let jobs: Vec<String> = status.jobs.iter().map(job_line).collect();
    let flink = match (&status.flink_version, status.reachable) {
        (None, _) => "Flink does not run".to_owned(),
        (Some(version), true) => format!("Flink {version} answers"),
        (Some(version), false) => format!("Flink {version} does not answer"),
    };
    let shutdown = if status.shutting_down {
        ", shutdown under way"
    } else {
        ""
    };
    let suspended = if status.suspended {
        ", SUSPENDED by the annotation drey.io/suspend"
    } else {
        ""
    };
    std::iter::once(format!("{flink}{shutdown}{suspended}"))
        .chain(jobs)
        .collect()
}

fn job_line((key, job): (&String, &JobReport)) -> String {
    let mut line = match job.status {
        Some(status) => format!("{key} {status}"),
        None => format!("{key} unknown"),
    };
    if let Some((running, total)) = job.tasks {
        let _ = write!(line, ", {running} of {total} tasks running");
    }
    if let Some(id) = job.completed_checkpoint {
        let _ = write!(line, ", checkpoint {id}");
    }
    if job.savepoint_in_progress {
        line.push_str(", savepoint in progress");
    }
    for problem in &job.problems {
        let _ = write!(line, ", PROBLEM: {problem}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::JobStatus;

    fn status() -> Status {
        let job = JobReport {
            status: Some(JobStatus::Running),
            tasks: Some((3, 4)),
            completed_checkpoint: Some(7),
            problems: vec!["it limps".to_owned()],
            ..JobReport::default()
        };
        Status {
            flink_version: Some("2.3.0".to_owned()),
            reachable: true,
            jobs: [("application".to_owned(), job)].into(),
            ..Status::default()
        }
    }

    #[test]
    fn a_picture_is_drawn_over_the_one_before() {
        let lines = fitting("one\ntwo", (80, 24));
        assert_eq!(redraw(&lines, 0), "one\ntwo\n");
        assert_eq!(redraw(&lines, 3), "\x1b[3A\r\x1b[Jone\ntwo\n");
    }

    #[test]
    fn nothing_is_wrapped_or_scrolls_away_and_names_cannot_move_the_cursor() {
        let lines = fitting("a long line\n\x1b[2Jtwo\nthree\nfour", (5, 4));
        assert_eq!(lines, ["a lon", "[2Jtw", "three"]);
    }

    #[test]
    fn in_a_pipeline_there_is_a_line_for_flink_and_for_each_job() {
        assert_eq!(
            lines(&status()),
            [
                "Flink 2.3.0 answers",
                "application RUNNING, 3 of 4 tasks running, checkpoint 7, PROBLEM: it limps"
            ]
        );
        assert_eq!(lines(&Status::default()), ["Flink does not run"]);
    }
}
