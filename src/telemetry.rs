//! Logs to standard error: text for people, one JSON object a line for machines.
//!
//! Knows nothing of what is logged. Standard output is left to data.
use std::error::Error;
use std::fmt;
use std::io;

use jiff::Timestamp;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt as log};

use crate::config::LogFormat;

/// A text that is neither a level nor `TARGET=LEVEL`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a log level; give one such as `info` or `drey=debug,hyper=info`")]
pub struct FilterError(String);

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not understood.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A subscriber is there already.
    #[error("could not set up logging; call this once")]
    Init(#[from] TryInitError),
}

/// Sends logs to standard error from now on, for the whole process.
///
/// `directives` is a level for Drey itself, a list of `TARGET=LEVEL`, or both; all else is logged from `warn` on.
///
/// # Errors
/// When the directives are not understood, or logging is set up already.
pub fn init(format: LogFormat, directives: &str) -> Result<(), TelemetryError> {
    let filter = filter(directives)?;
    subscriber(format, filter, io::stderr).try_init()?;
    Ok(())
}

/// What is logged. A level without a target is Drey's own: the libraries' `debug` fills pages.
///
/// Stricter than [`Targets`]' own parser, which takes any misspelt level for the name of a target.
pub(crate) fn filter(directives: &str) -> Result<Targets, FilterError> {
    directives.split(',').map(directive).try_fold(
        Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("drey", LevelFilter::INFO),
        |targets, directive| {
            let (target, level) = directive?;
            Ok(targets.with_target(target, level))
        },
    )
}

fn directive(text: &str) -> Result<(String, LevelFilter), FilterError> {
    let text = text.trim();
    let (target, level) = text.split_once('=').unwrap_or(("drey", text));
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    match level.parse() {
        Ok(level_filter)
            if !level.is_empty() && !target.is_empty() && target.chars().all(named) =>
        {
            Ok((target.to_owned(), level_filter))
        }
        _ => Err(FilterError(shorten(text, 60))),
    }
}

/// Without colours, also on a terminal: the feature for them is left out, and asking for it is an error there.
fn subscriber<W>(format: LogFormat, filter: Targets, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = log::layer()
        .with_timer(Utc)
        .with_ansi(false)
        .with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => Box::new(layer.with_target(false)),
        LogFormat::Json => Box::new(layer.json().flatten_event(true).with_span_list(false)),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter))
}

/// UTC with milliseconds, as RFC 3339.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{:.3}", Timestamp::now())
    }
}

/// An error and its sources in one line of at most `max` characters: Flink's exceptions have hundreds of lines.
///
/// A source whose text the error before it repeats already is left out.
#[must_use]
pub fn one_line(error: &dyn Error, max: usize) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    shorten(&text, max)
}

/// Makes one line of a text, of at most `max` characters, the last of which is `…` when something was left out.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    let blank = |c: char| c.is_whitespace() || c.is_control();
    let mut line = String::new();
    for word in text.split(blank).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        // Enough, and more than enough is not copied.
        if line.len() > max.saturating_mul(4) {
            break;
        }
    }
    match line.char_indices().nth(max) {
        None => line,
        Some(_) => {
            let mut short: String = line.chars().take(max.saturating_sub(1)).collect();
            short.extend((max > 0).then_some('…'));
            short
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::{Level, debug, info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes.
    fn logged(format: LogFormat, directives: &str, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let filter = filter(directives).expect("a filter");
        let subscriber = subscriber(format, filter, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn text_has_utc_with_milliseconds_level_message_and_fields() {
        let text = logged(LogFormat::Text, "info", || {
            info!(job_id = "ab", bytes = 3, "Savepoint completed");
        });
        let (time, rest) = text.split_once(' ').expect("a time");
        assert_eq!(rest, " INFO Savepoint completed job_id=\"ab\" bytes=3\n");
        assert_eq!(time.len(), "2026-11-22T15:51:13.123Z".len(), "{time}");
        assert!(
            time.ends_with('Z') && time.parse::<Timestamp>().is_ok(),
            "{time}"
        );
    }

    #[test]
    fn json_is_one_flat_object_a_line() -> serde_json::Result<()> {
        let text = logged(LogFormat::Json, "info", || {
            warn!(job_id = "ab", bytes = 3, "Two\nlines");
        });
        assert_eq!(text.lines().count(), 1);
        let object: Value = serde_json::from_str(&text)?;
        assert_eq!(object["level"], "WARN");
        assert_eq!(object["message"], "Two\nlines");
        assert_eq!(object["target"], "drey::telemetry::tests");
        assert_eq!(object["job_id"], "ab");
        assert_eq!(object["bytes"], 3);
        assert!(
            object["timestamp"]
                .as_str()
                .is_some_and(|it| it.ends_with('Z'))
        );
        Ok(())
    }

    #[test]
    fn a_level_is_dreys_own_and_libraries_warn_unless_named() {
        let log = || {
            debug!("own");
            debug!(target: "hyper::client", "hyper debug");
            info!(target: "rustls", "rustls info");
            warn!(target: "rustls", "rustls warn");
        };
        let text = logged(LogFormat::Text, "debug", log);
        assert!(
            text.contains("own") && text.contains("rustls warn"),
            "{text}"
        );
        assert!(
            !text.contains("hyper debug") && !text.contains("rustls info"),
            "{text}"
        );
        let text = logged(LogFormat::Text, "warn, hyper=debug", log);
        assert!(
            text.contains("hyper debug") && !text.contains("own"),
            "{text}"
        );
    }

    #[test]
    fn a_filter_without_drey_leaves_it_at_info() -> Result<(), FilterError> {
        let targets = filter("hyper=debug")?;
        assert!(targets.would_enable("drey::supervisor", &Level::INFO));
        assert!(!targets.would_enable("drey::supervisor", &Level::DEBUG));
        Ok(())
    }

    #[test]
    fn misspelt_filters_are_refused() {
        for bad in [
            "",
            "inf",
            "loud",
            "drey=",
            "=info",
            "drey=loud",
            "info,",
            "drey[x]=info",
            "a b=info",
        ] {
            assert!(filter(bad).is_err(), "{bad}");
        }
        for good in [
            "info",
            "WARN",
            "off",
            "drey=debug,hyper=warn",
            "trace, drey::flink=info",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("could not stop the job")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_error_and_its_sources_become_one_short_line() {
        let error = Outer(io::Error::other("java.lang.X: a\r\n\tat b\u{1b}[31m\n"));
        let line = "could not stop the job: java.lang.X: a at b [31m";
        assert_eq!(one_line(&error, 200), line);
        assert_eq!(one_line(&error, line.len()), line);
        assert_eq!(one_line(&error, 10), "could not…");
        assert_eq!(one_line(&error, 0), "");
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert_eq!(shorten("ääää", 4), "ääää");
        assert_eq!(shorten("äääää", 4), "äää…");
        let long = format!("{}\n", "ä ".repeat(20_000));
        assert_eq!(shorten(&long, 50).chars().count(), 50);
    }
}
