//! `flink-conf.yaml` as Flink up to 1.20 reads it: not YAML, but one `key: value` a line
//! (`GlobalConfiguration.loadLegacyYAMLResource`). From `#` on, even inside a value, a line is a comment; key and value are
//! split at the first colon with a space; there are no quotes and no lists; lines of another form are ignored; the last
//! line of a key counts.

use std::ops::Range;

use super::lines::{self, FinalBreak};

/// One effective line.
pub(super) struct Line {
    /// The line without its break.
    pub(super) span: Range<usize>,
    pub(super) key: String,
    /// The bytes of the value, trimmed.
    pub(super) value: Range<usize>,
}

/// All lines that Flink reads, in their order.
pub(super) fn parse(text: &str) -> Vec<Line> {
    lines::lines(text)
        .into_iter()
        .filter_map(|span| {
            let line = &text[span.clone()];
            let content = line.split('#').next().unwrap_or_default();
            // Flink trims before it splits, so that "key: " has no value and is ignored.
            let (key, value) = trim(content).split_once(": ")?;
            let (key, value) = (trim(key), trim(value));
            if key.is_empty() || value.is_empty() {
                return None;
            }
            let start = span.start + offset(line, value);
            Some(Line {
                key: key.to_owned(),
                value: start..start + value.len(),
                span,
            })
        })
        .collect()
}

/// `String.trim` of Java: control characters too, but no other white space than the ASCII space.
fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

fn offset(line: &str, part: &str) -> usize {
    part.as_ptr().addr() - line.as_ptr().addr()
}

/// Why the format has no way to write this entry, if so.
pub(super) fn unwritable(key: &str, value: &str) -> Option<&'static str> {
    let has = |c| key.contains(c) || value.contains(c);
    if has('#') {
        Some("'#' begins a comment there, also inside a value")
    } else if has('\n') || has('\r') {
        Some("a line break ends the entry there")
    } else if value.is_empty() {
        Some("a key without a value is ignored there")
    } else if trim(value) != value {
        Some("white space around a value is dropped there")
    } else {
        None
    }
}

/// The text with `value` in the line that counts, or in a new last line.
pub(super) fn set(text: &str, key: &str, value: &str) -> String {
    match parse(text).iter().rfind(|line| line.key == key) {
        Some(line) => lines::splice(text, vec![(line.value.clone(), value.to_owned())]),
        None => lines::append(text, text.len(), "", &format!("{key}: {value}")),
    }
}

/// The text without any line of `key`.
pub(super) fn remove(text: &str, key: &str) -> String {
    let lines_of_key = parse(text).into_iter().filter(|line| line.key == key);
    let ranges = lines_of_key.map(|line| lines::whole_lines(text, line.span));
    lines::delete(text, ranges.collect(), FinalBreak::Drop)
}
