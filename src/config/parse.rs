//! Text to value, one function for each kind of value. No I/O.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;
use url::Url;

use super::error::Problem;
use super::values::{Choice, Labels, LockBreak, Ports};
use crate::domain::claim::ClaimMode;
use crate::domain::schedule::Schedule;
use crate::flink::version::FlinkVersion;
use crate::telemetry;

type Parsed<T> = Result<T, Problem>;

/// The longest time that a request may take.
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
/// The longest time that any setting takes.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A name that Kubernetes takes for a resource: `kubernetes.cluster-id` of Flink, which allows 45 characters.
pub(super) fn cluster_id(text: &str) -> Parsed<String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !text.is_empty()
        && text.len() <= 45
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        format!("{} is not a cluster id", quoted(text)),
        "use at most 45 lower-case letters, digits and hyphens, with no hyphen at either end",
    ))
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err(Problem::new(
            format!("{} is not a path", quoted(text)),
            "give a path, or leave it out",
        ));
    }
    Ok(PathBuf::from(text))
}

pub(super) fn some_path(text: &str) -> Parsed<Option<PathBuf>> {
    path(text).map(Some)
}

pub(super) fn text(text: &str) -> Parsed<String> {
    some_text(text).map(Option::unwrap_or_default)
}

/// A time, or `never`.
pub(super) fn lock_break(text: &str) -> Parsed<LockBreak> {
    if text == "never" {
        return Ok(LockBreak::Never);
    }
    duration(text, Duration::ZERO, DAY).map(LockBreak::After)
}

pub(super) fn some_text(text: &str) -> Parsed<Option<String>> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Problem::new(
            format!("{} is not a name", quoted(text)),
            "give printable text, or leave it out",
        ));
    }
    Ok(Some(text.to_owned()))
}

/// A directory as Flink takes it: a URL, or an absolute path.
pub(super) fn some_location(text: &str) -> Parsed<Option<String>> {
    if text.starts_with('/') {
        return some_text(text);
    }
    let url = Url::parse(text).map_err(|why| {
        Problem::new(
            format!("{} is not a location ({why})", shown_url(text)),
            "give a URL such as `s3://BUCKET/DIR`, or an absolute path",
        )
    })?;
    without_password(&url)?;
    Ok(Some(text.to_owned()))
}

pub(super) fn some_http_url(text: &str) -> Parsed<Option<Url>> {
    let remedy = "give one such as `https://HOST:8081`";
    let url = Url::parse(text).map_err(|why| {
        let what = format!("{} is not a URL ({why})", shown_url(text));
        Problem::new(what, remedy)
    })?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        let what = format!("{} is neither `http:` nor `https:`", shown_url(text));
        return Err(Problem::new(what, remedy));
    }
    without_password(&url)?;
    if !url.username().is_empty() {
        return Err(secret_in_url());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Problem::new(
            "the URL has a query or a fragment",
            "end it after the path",
        ));
    }
    Ok(Some(url))
}

fn without_password(url: &Url) -> Parsed<()> {
    match url.password() {
        Some(_) => Err(secret_in_url()),
        None => Ok(()),
    }
}

fn secret_in_url() -> Problem {
    Problem::new(
        "the URL holds credentials, which any process list and log would show",
        "take them out; Flink's REST interface takes `rest-basic-file`, storage its usual credentials",
    )
}

/// What may be repeated of a URL: one with an `@` may hold a password.
fn shown_url(text: &str) -> String {
    if text.contains('@') {
        return "the value".to_owned();
    }
    quoted(text)
}

pub(super) fn flink_version(text: &str) -> Parsed<Option<FlinkVersion>> {
    text.parse().map(Some).map_err(|_| {
        Problem::new(
            format!("{} is not a version of Flink", quoted(text)),
            "give one such as `1.20` or `2.3.0`",
        )
    })
}

/// One of the names of a closed set.
pub(super) fn choice<T: Choice>(text: &str) -> Parsed<T> {
    one_of(text, T::NAMES).ok_or_else(|| not_one_of(text, names(T::NAMES)))
}

/// One of the names of a closed set, or `auto`.
pub(super) fn choice_or_auto<T: Choice>(text: &str) -> Parsed<Option<T>> {
    if text == "auto" {
        return Ok(None);
    }
    let all = || std::iter::once("auto").chain(names(T::NAMES));
    one_of(text, T::NAMES)
        .map(Some)
        .ok_or_else(|| not_one_of(text, all()))
}

pub(super) fn claim_mode(text: &str) -> Parsed<Option<ClaimMode>> {
    if text.eq_ignore_ascii_case("legacy") {
        return Err(Problem::new(
            "LEGACY leaves open who may delete the restore point, and Flink has deprecated it",
            "use `claim` or `no-claim`",
        ));
    }
    choice_or_auto(&text.to_ascii_lowercase().replace('_', "-")).map_err(|_| {
        let all = std::iter::once("auto").chain(names(ClaimMode::NAMES));
        not_one_of(text, all)
    })
}

fn one_of<T: Copy>(text: &str, all: &[(&'static str, T)]) -> Option<T> {
    all.iter()
        .find(|(name, _)| *name == text)
        .map(|(_, it)| *it)
}

fn names<T>(all: &'static [(&'static str, T)]) -> impl Iterator<Item = &'static str> {
    all.iter().map(|(name, _)| *name)
}

fn not_one_of(text: &str, all: impl Iterator<Item = &'static str>) -> Problem {
    let all: Vec<String> = all.map(|name| format!("`{name}`")).collect();
    Problem::new(
        format!("{} is not known", quoted(text)),
        format!("use one of {}", all.join(", ")),
    )
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Problem::new(
            format!("{} is neither true nor false", quoted(text)),
            "write `true` or `false`",
        )),
    }
}

pub(super) fn some_boolean(text: &str) -> Parsed<Option<bool>> {
    boolean(text).map(Some)
}

pub(super) fn history(text: &str) -> Parsed<usize> {
    match text.parse() {
        Ok(count) if (1..=100).contains(&count) => Ok(count),
        _ => Err(Problem::new(
            format!("{} is not a number from 1 to 100", quoted(text)),
            "give one, such as `10`",
        )),
    }
}

pub(super) fn some_schedule(text: &str) -> Parsed<Option<String>> {
    match Schedule::cron(text) {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(why) => Err(Problem::new(
            format!("{} is not a schedule: {why}", quoted(text)),
            "give minute, hour, day of the month, month and day of the week, such as `30 2 * * *`",
        )),
    }
}

/// Labels whose values Drey knows.
const KNOWN_LABELS: [&str; 4] = ["cluster_id", "job_name", "namespace", "pod"];

/// An address to listen at. A name could stand for several, so it is numeric.
pub(super) fn some_address(text: &str) -> Parsed<Option<SocketAddr>> {
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(Problem::new(
            format!("{} is not an IP address with a port", quoted(text)),
            "give one, such as `0.0.0.0:9249` or `[::]:9249`",
        )),
    }
}

/// An address that is reached from this machine alone.
pub(super) fn some_loopback(text: &str) -> Parsed<Option<SocketAddr>> {
    let remedy = "give one of this machine alone, such as `127.0.0.1:9248` or `[::1]:9248`";
    let wrong = |what: &str| Problem::new(format!("{} {what}", quoted(text)), remedy);
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
        Ok(_) => Err(wrong("can be reached from elsewhere")),
        Err(_) => Err(wrong("is not an IP address with a port")),
    }
}

/// One port, or a range with `-` between its ends.
pub(super) fn ports(text: &str) -> Parsed<Ports> {
    const MOST: u16 = 1000;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if (1..=last).contains(&first) && last - first < MOST => {
            Ok(Ports { first, last })
        }
        _ => Err(Problem::new(
            format!(
                "{} is neither a port nor a range of at most {MOST} ports",
                quoted(text)
            ),
            "give one, such as `9250` or `9250-9260`",
        )),
    }
}

/// One port.
pub(super) fn some_port(text: &str) -> Parsed<Option<u16>> {
    match text.parse() {
        Ok(port @ 1..) => Ok(Some(port)),
        _ => Err(Problem::new(
            format!("{} is not a port", quoted(text)),
            "give one, such as `9249`",
        )),
    }
}

/// `NAME=VALUE,…`; names that Drey knows a value for may stand alone.
pub(super) fn labels(text: &str) -> Parsed<Labels> {
    if text == "none" {
        return Ok(Labels::default());
    }
    let mut labels: Vec<(String, Option<String>)> = Vec::new();
    for word in text.split(',') {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        if !label_name(name) || name.starts_with("__") {
            let what = format!("{} is not the name of a label", quoted(name));
            return Err(Problem::new(what, "use letters, digits and `_`"));
        }
        if value.is_none() && !KNOWN_LABELS.contains(&name) {
            let what = format!("the label {} has no value", quoted(name));
            let remedy = "write `NAME=VALUE`; only `cluster_id`, `job_name`, `namespace` and `pod` stand alone";
            return Err(Problem::new(what, remedy));
        }
        if value
            .as_ref()
            .is_some_and(|value| value.is_empty() || value.chars().any(char::is_control))
        {
            let what = format!(
                "the value of the label {} is not printable text",
                quoted(name)
            );
            return Err(Problem::new(what, "give one"));
        }
        if labels.iter().any(|(other, _)| other == name) {
            let what = format!("the label {} comes twice", quoted(name));
            return Err(Problem::new(what, "keep one of them"));
        }
        labels.push((name.to_owned(), value));
    }
    Ok(Labels(labels))
}

fn label_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(inner) && !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// As many as Flink remembers (`web.exception-history-size`).
pub(super) fn failures(text: &str) -> Parsed<usize> {
    match text.parse() {
        Ok(count) if (2..=16).contains(&count) => Ok(count),
        _ => Err(Problem::new(
            format!("{} is not a number from 2 to 16", quoted(text)),
            "give one, such as `5`",
        )),
    }
}

pub(super) fn count(text: &str) -> Parsed<usize> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Problem::new(
            format!("{} is not a number above 0", quoted(text)),
            "give one, such as `1000`",
        )),
    }
}

/// A time such as `30s`, `5m`, `1h30m` or `500ms`, from `least` to `most`.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Parsed<Duration> {
    let range = format!("{} to {}", time(least), time(most));
    let refuse = |what| {
        let what = format!("{} is {what}", quoted(text));
        Problem::new(
            what,
            format!("give one from {range}, such as `30s` or `1h30m`"),
        )
    };
    let signed = SpanParser::new()
        .parse_duration(text)
        .map_err(|_| refuse("not a time"))?;
    let time = Duration::try_from(signed).map_err(|_| refuse("a negative time"))?;
    if time < least {
        return Err(refuse("too short"));
    }
    if time > most {
        return Err(refuse("too long"));
    }
    Ok(time)
}

/// A time as the settings write it.
pub(crate) fn time(value: Duration) -> String {
    jiff::fmt::friendly::SpanPrinter::new()
        .spacing(jiff::fmt::friendly::Spacing::None)
        .unsigned_duration_to_string(&value)
}

pub(super) fn log_level(text: &str) -> Parsed<String> {
    match telemetry::filter(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Problem::new(
            format!("{} is not a log level", quoted(text)),
            "give `error`, `warn`, `info`, `debug` or `trace`, or a list such as `drey=debug,hyper=info`",
        )),
    }
}

/// A value as it goes into a message: in one line, not too long.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    let short: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    match text.chars().nth(MOST) {
        None => format!("`{short}`"),
        Some(_) => format!("`{short}…`"),
    }
}
