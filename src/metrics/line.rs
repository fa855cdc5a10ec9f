//! One line of Prometheus' text format 0.0.4, read in place.
//!
//! Promises: what comes out as a sample is one that Prometheus takes, too. Nothing is copied.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// How many labels a line may have. Flink's have a dozen; a line of a megabyte could have 150,000.
const MOST_LABELS: usize = 256;

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line<'a> {
    /// What a family is about, escaped as it came.
    Help {
        /// The family.
        family: &'a str,
        /// The text, with `\\` and `\n` in it.
        text: &'a str,
    },
    /// The kind of a family.
    Type {
        /// The family.
        family: &'a str,
        /// Its kind.
        kind: Kind,
    },
    /// The value of a series. Its labels are in the [`Labels`] that the line was read into.
    Sample(Sample<'a>),
    /// An empty line or a remark.
    Nothing,
}

/// The value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is between the braces, without a comma at its end.
    pub labels: &'a str,
    /// Whether `labels` is written in the one way that OpenMetrics allows.
    pub plain: bool,
    /// The value as it came.
    pub value: Value<'a>,
    /// It has a time of its own.
    pub timed: bool,
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    /// The one spelling of it that every reader knows.
    #[must_use]
    pub fn text(self) -> &'a str {
        let text = self.0;
        let digits = text.trim_start_matches(['+', '-']);
        match digits.as_bytes().first() {
            Some(b'n' | b'N') => "NaN",
            Some(b'i' | b'I') if text.starts_with('-') => "-Inf",
            Some(b'i' | b'I') => "+Inf",
            _ => text,
        }
    }
}

/// The kind of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are Prometheus' own")]
pub enum Kind {
    Counter,
    Gauge,
    Summary,
    Histogram,
    Untyped,
}

impl Kind {
    const NAMES: [(&'static str, Self); 5] = [
        ("counter", Self::Counter),
        ("gauge", Self::Gauge),
        ("summary", Self::Summary),
        ("histogram", Self::Histogram),
        ("untyped", Self::Untyped),
    ];

    fn named(text: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| *kind)
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        found.map_or("untyped", |(name, _)| name)
    }

    /// What the names of its series may end with, beside the family's own name.
    #[must_use]
    pub fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Summary => &["_sum", "_count"],
            Self::Histogram => &["_bucket", "_sum", "_count"],
            _ => &[],
        }
    }
}

/// The labels of a line, as places in it. To be used again for the next line.
#[derive(Debug, Default)]
pub struct Labels {
    spans: Vec<(Range<usize>, Range<usize>)>,
}

impl Labels {
    /// Name and escaped value of each label of `line`, from which they were read.
    pub fn of<'a>(&self, line: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        let text = |span: &Range<usize>| line.get(span.clone()).unwrap_or_default();
        self.spans
            .iter()
            .map(move |(name, value)| (text(name), text(value)))
    }

    fn has_twice(&self, line: &str) -> bool {
        let names = || self.of(line).map(|(name, _)| name);
        names()
            .enumerate()
            .any(|(at, name)| names().skip(at + 1).any(|other| other == name))
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flaw;

/// Reads a line without its end.
///
/// # Errors
/// When it is neither a remark nor a good sample: names that Prometheus does not take, a label twice, broken escapes, no
/// number or one too great, too many labels, something behind the end.
pub fn read<'a>(line: &'a str, labels: &mut Labels) -> Result<Line<'a>, Flaw> {
    labels.spans.clear();
    let text = trim(line);
    match text.as_bytes().first() {
        None => Ok(Line::Nothing),
        Some(b'#') => remark(trim(&text[1..])),
        Some(_) => sample(line, text, labels).map(Line::Sample),
    }
}

/// White space is blanks and tabs alone.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_at(text.find([' ', '\t']).unwrap_or(text.len()));
    (word, trim(rest))
}

fn remark(text: &str) -> Result<Line<'_>, Flaw> {
    let (verb, rest) = word(text);
    let (family, text) = word(rest);
    match verb {
        "HELP" if is_name(family) && good_help(text) => Ok(Line::Help { family, text }),
        "TYPE" if is_name(family) => {
            let kind = Kind::named(text).ok_or(Flaw)?;
            Ok(Line::Type { family, kind })
        }
        "HELP" | "TYPE" => Err(Flaw),
        _ => Ok(Line::Nothing),
    }
}

fn good_help(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        if !matches!(rest.as_bytes().get(at + 1), Some(b'\\' | b'n')) {
            return false;
        }
        rest = &rest[at + 2..];
    }
    true
}

fn sample<'a>(line: &'a str, text: &'a str, labels: &mut Labels) -> Result<Sample<'a>, Flaw> {
    let bytes = text.as_bytes();
    let end = bytes
        .iter()
        .position(|byte| !is_name_byte(*byte))
        .ok_or(Flaw)?;
    let name = &text[..end];
    if !is_name(name) {
        return Err(Flaw);
    }
    let behind = trim(&text[end..]);
    let (between, rest) = match behind.strip_prefix('{') {
        Some(inside) => braces(line, inside, labels)?,
        None if matches!(bytes[end], b' ' | b'\t') => ("", behind),
        None => return Err(Flaw),
    };
    let (value, time) = word(trim(rest));
    let timed = match time {
        "" => false,
        time => time.parse::<i64>().map(|_| true).map_err(|_| Flaw)?,
    };
    let number: f64 = value.parse().map_err(|_| Flaw)?;
    // A number too great for a double is an error to Prometheus, and infinite here.
    if number.is_infinite() && value.contains(|c: char| c.is_ascii_digit()) {
        return Err(Flaw);
    }
    if labels.has_twice(line) {
        return Err(Flaw);
    }
    let written: usize = labels
        .spans
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    Ok(Sample {
        name,
        labels: between,
        plain: written == between.len() + usize::from(!between.is_empty()),
        value: Value(value),
        timed,
    })
}

/// Reads labels up to the closing brace; what was between the braces, and what is behind them.
fn braces<'a>(
    line: &'a str,
    inside: &'a str,
    labels: &mut Labels,
) -> Result<(&'a str, &'a str), Flaw> {
    let offset = inside.as_ptr().addr() - line.as_ptr().addr();
    let bytes = inside.as_bytes();
    let mut at = blanks(bytes, 0);
    while bytes.get(at) != Some(&b'}') {
        let name = at..label_name(bytes, at);
        at = blanks(bytes, name.end);
        if name.is_empty() || bytes[name.start].is_ascii_digit() || bytes.get(at) != Some(&b'=') {
            return Err(Flaw);
        }
        at = blanks(bytes, at + 1);
        if bytes.get(at) != Some(&b'"') {
            return Err(Flaw);
        }
        let value = at + 1..quoted(bytes, at + 1)?;
        at = blanks(bytes, value.end + 1);
        let moved = |span: &Range<usize>| span.start + offset..span.end + offset;
        // Prometheus refuses the whole page for a label with the name of the name.
        if labels.spans.len() == MOST_LABELS || &inside[name.clone()] == "__name__" {
            return Err(Flaw);
        }
        labels.spans.push((moved(&name), moved(&value)));
        match bytes.get(at) {
            Some(b',') => at = blanks(bytes, at + 1),
            Some(b'}') => {}
            _ => return Err(Flaw),
        }
    }
    let between = trim(&inside[..at]);
    let between = between.strip_suffix(',').unwrap_or(between);
    Ok((between, &inside[at + 1..]))
}

fn blanks(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let count = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    from + count.count()
}

fn label_name(bytes: &[u8], from: usize) -> usize {
    let inner = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
    from + bytes[from..].iter().take_while(inner).count()
}

/// The place of the quote that closes a value.
fn quoted(bytes: &[u8], from: usize) -> Result<usize, Flaw> {
    let mut at = from;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..).ok_or(Flaw)?).ok_or(Flaw)?;
        if bytes[at] == b'"' {
            return Ok(at);
        }
        if !matches!(bytes.get(at + 1), Some(b'\\' | b'"' | b'n')) {
            return Err(Flaw);
        }
        at += 2;
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')
}

fn is_name(text: &str) -> bool {
    let first = text.as_bytes().first();
    first.is_some_and(|first| !first.is_ascii_digit()) && text.bytes().all(is_name_byte)
}

/// A label's value as it is meant.
#[must_use]
pub fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    Cow::Owned(text)
}

/// A text as it is written into a label's value.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
