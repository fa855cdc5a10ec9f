//! Text edits by line, the same for both formats: a line appended under Drey's marker, lines taken out again without a
//! trace.

use std::ops::Range;

/// The comment above the keys that Drey appended.
pub(super) const MARKER: &str = "# Written by drey: set again at every start";

/// Replaces each range by its text. The ranges do not overlap.
pub(super) fn splice(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut result = String::with_capacity(text.len() + 128);
    let mut at = 0;
    for (range, replacement) in edits {
        result.push_str(&text[at..range.start]);
        result.push_str(&replacement);
        at = range.end;
    }
    result.push_str(&text[at..]);
    result
}

/// The lines of `text` without their breaks (`\n`, `\r\n` or `\r`, as `BufferedReader.readLine` and YAML).
pub(super) fn lines(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = line_end(text, start);
        found.push(start..end);
        start = end + break_at(text, end).len();
    }
    found
}

/// Where the line with the byte `at` begins.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind(['\n', '\r']).map_or(0, |found| found + 1)
}

/// Where the line with the byte `at` ends, before its break.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..]
        .find(['\n', '\r'])
        .map_or(text.len(), |found| at + found)
}

/// The whole lines, breaks included, that `range` touches.
pub(super) fn whole_lines(text: &str, range: Range<usize>) -> Range<usize> {
    let end = line_end(text, range.end);
    line_start(text, range.start)..end + break_at(text, end).len()
}

fn break_at(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    let length = match rest.as_bytes() {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    };
    &rest[..length]
}

/// The line break that the text uses.
pub(super) fn line_break(text: &str) -> &str {
    match break_at(text, line_end(text, 0)) {
        "" => "\n",
        found => found,
    }
}

/// Inserts `line` at `end`, where a line begins or the text ends, below the marker. The last line keeps having a break or
/// none, as before.
pub(super) fn append(text: &str, end: usize, indent: &str, line: &str) -> String {
    let newline = line_break(text);
    let before = &text[..end];
    let marker = if ends_below_marker(before) {
        String::new()
    } else {
        format!("{indent}{MARKER}{newline}")
    };
    let open = !before.is_empty() && !before.ends_with(['\n', '\r']) && before != "\u{feff}";
    let added = if open {
        format!("{newline}{marker}{indent}{line}")
    } else {
        format!("{marker}{indent}{line}{newline}")
    };
    splice(text, vec![(end..end, added)])
}

fn ends_below_marker(text: &str) -> bool {
    let last = lines(text).into_iter().rev().map(|line| text[line].trim());
    for line in last {
        if line == MARKER {
            return true;
        }
        if line.is_empty() || line.starts_with('#') {
            return false;
        }
    }
    false
}

/// Whether the text ends with a line break once its last line, which had none, is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinalBreak {
    /// The line before becomes the last one and has none either.
    Drop,
    /// The line before keeps its break: in a block scalar it is part of the value.
    Keep,
}

/// Takes whole lines out, and the marker when nothing is left below it.
pub(super) fn delete(text: &str, mut ranges: Vec<Range<usize>>, end: FinalBreak) -> String {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    if let Some(last) = merged.last_mut() {
        include_idle_marker(text, last);
        let unbroken = last.end == text.len() && !text.ends_with(['\n', '\r']);
        if unbroken && end == FinalBreak::Drop {
            last.start = previous_break(text, last.start).unwrap_or(last.start);
        }
    }
    splice(
        text,
        merged
            .into_iter()
            .map(|range| (range, String::new()))
            .collect(),
    )
}

fn previous_break(text: &str, line_start: usize) -> Option<usize> {
    let before = text[..line_start].strip_suffix('\n');
    let before = before.map(|rest| rest.strip_suffix('\r').unwrap_or(rest));
    before
        .or_else(|| text[..line_start].strip_suffix('\r'))
        .map(str::len)
}

fn include_idle_marker(text: &str, range: &mut Range<usize>) {
    let Some(previous_end) = previous_break(text, range.start) else {
        return;
    };
    let previous = line_start(text, previous_end)..previous_end;
    let next = text[range.end..line_end(text, range.end)].trim();
    let nothing_below = next.is_empty() || next.starts_with('#') || next.starts_with("...");
    if text[previous.clone()].trim_start_matches('\u{feff}').trim() == MARKER && nothing_below {
        let bom = if text[previous.clone()].starts_with('\u{feff}') {
            3
        } else {
            0
        };
        range.start = previous.start + bom;
    }
}
