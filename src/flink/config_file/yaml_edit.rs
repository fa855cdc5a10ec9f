//! Edits of `config.yaml` as text. Every function proposes a text; the caller reads it again and decides whether it says
//! what it should, so that a rare construct leads to a refusal, never to a damaged file.

use std::ops::Range;

use super::flatten::Occurrence;
use super::lines::{self, FinalBreak};
use super::scalar::quote;
use super::yaml::{Document, Entry, Kind, Node};

/// Texts in which `key` should have `value`, the best first: the winning entry changed in place, else a flat key at the
/// end, which wins because it is last.
pub(super) fn set(
    text: &str,
    document: &Document,
    winner: Option<&Occurrence<'_>>,
    (key, value): (&str, &str),
) -> Vec<String> {
    let in_place = winner
        .filter(|winner| !winner.shared)
        .and_then(|winner| winner.path.last())
        .and_then(|entry| replace(text, entry, &quote(value)));
    let line = format!("{}: {}", quote(key), quote(value));
    in_place
        .into_iter()
        .chain([append(text, document, &line)])
        .chain(prepend(text, document, &line))
        .collect()
}

/// The last resort, for a file that ends inside a block scalar: any line break added there would belong to its value.
fn prepend(text: &str, document: &Document, line: &str) -> Option<String> {
    let Kind::Mapping {
        entries,
        flow: false,
    } = &document.root.as_ref()?.kind
    else {
        return None;
    };
    let first = entries.first()?;
    let indent = indent(text, first);
    let at = first.key_span.start - indent.len();
    let added = format!("{indent}{line}{}", lines::line_break(text));
    Some(lines::splice(text, vec![(at..at, added)]))
}

fn replace(text: &str, entry: &Entry, value: &str) -> Option<String> {
    match &entry.value.kind {
        Kind::Scalar { block: true, .. } => replace_block_scalar(text, entry, value),
        Kind::Sequence { flow: false, .. } => replace_block_sequence(text, entry, value),
        Kind::Mapping { .. } => None,
        Kind::Scalar { .. } | Kind::Sequence { .. } | Kind::Alias(_) => {
            let span = entry.value.span.clone();
            // In flow style a value may follow its quoted key's colon directly.
            let space = if text[..span.start].ends_with(':') {
                " "
            } else {
                ""
            };
            Some(lines::splice(text, vec![(span, format!("{space}{value}"))]))
        }
    }
}

/// The header (`|`, `>-` …) gives way to the value and keeps its comment; the lines of the content go.
fn replace_block_scalar(text: &str, entry: &Entry, value: &str) -> Option<String> {
    let after_key = entry.key_span.end;
    let header = after_key
        + text
            .get(after_key..entry.value.span.start)?
            .find(['|', '>'])?;
    let token = text[header..]
        .find([' ', '\t', '\n', '\r', '#'])
        .map_or(text.len(), |length| header + length);
    let content = lines::line_end(text, header)..entry.value.span.end;
    let edits = vec![(header..token, value.to_owned()), (content, String::new())];
    Some(lines::splice(text, edits))
}

/// The value goes behind the colon, the items go, a comment behind the colon stays.
fn replace_block_sequence(text: &str, entry: &Entry, value: &str) -> Option<String> {
    let span = entry.value.span.clone();
    let between = text.get(entry.key_span.end..span.start)?;
    let colon = entry.key_span.end + between.find(':')? + 1;
    let kept = colon + text[colon..span.start].trim_end().len();
    let edits = vec![
        (colon..colon, format!(" {value}")),
        (kept..span.end, String::new()),
    ];
    Some(lines::splice(text, edits))
}

fn append(text: &str, document: &Document, line: &str) -> String {
    let Some(root) = &document.root else {
        return lines::append(text, document.end, "", line);
    };
    match &root.kind {
        Kind::Mapping {
            entries,
            flow: true,
        } => {
            let (at, added) = match entries.last() {
                Some(last) => (last.value.span.end, format!(", {line}")),
                None => (root.span.start + 1, line.to_owned()),
            };
            lines::splice(text, vec![(at..at, added)])
        }
        Kind::Mapping { entries, .. } => {
            let indent = entries.first().map_or("", |entry| indent(text, entry));
            lines::append(text, document.end, indent, line)
        }
        _ => lines::append(text, document.end, "", line),
    }
}

fn indent<'t>(text: &'t str, entry: &Entry) -> &'t str {
    let key = entry.key_span.start;
    let before = &text[lines::line_start(text, key)..key];
    if before.trim_matches(' ').is_empty() {
        before
    } else {
        ""
    }
}

/// What becomes of the comments inside a mapping that goes because it is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InnerComments {
    Keep,
    /// Below a block scalar an indented comment would become part of its value.
    Drop,
}

/// One way to take an entry out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removal {
    end: FinalBreak,
    inner_comments: InnerComments,
}

impl Removal {
    /// All ways, the one that keeps most of the file first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [InnerComments::Keep, InnerComments::Drop]
            .into_iter()
            .flat_map(|inner_comments| {
                [FinalBreak::Drop, FinalBreak::Keep].map(|end| Self {
                    end,
                    inner_comments,
                })
            })
    }
}

/// The text without the entry at the end of `path`, and without the mappings that become empty by it.
/// `None` when the entry shares a line with something else that cannot be told apart.
pub(super) fn remove(text: &str, root: &Node, path: &[&Entry], removal: Removal) -> Option<String> {
    // Mapping `depth` contains the entry `path[depth]`.
    let mapping = |depth: usize| match depth {
        0 => &root.kind,
        _ => &path[depth - 1].value.kind,
    };
    let mut top = path.len().checked_sub(1)?;
    while top > 0 && matches!(mapping(top), Kind::Mapping { entries, .. } if entries.len() == 1) {
        top -= 1;
    }
    if matches!(mapping(top), Kind::Mapping { flow: true, .. }) {
        return Some(remove_flow(text, path[top]));
    }
    let mut ranges = Vec::new();
    for entry in &path[top..] {
        let nested = matches!(&entry.value.kind, Kind::Mapping { flow: false, .. });
        let end = if nested {
            entry.key_span.end
        } else {
            entry.value.span.end
        };
        ranges.push(own_lines(text, entry.key_span.start..end)?);
        if !nested {
            break;
        }
    }
    if removal.inner_comments == InnerComments::Drop
        && let [first, .., last] = &ranges[..]
    {
        ranges = vec![Range {
            start: first.start,
            end: last.end,
        }];
    }
    Some(lines::delete(text, ranges, removal.end))
}

/// The whole lines of a block entry; `None` if something else stands before its key.
fn own_lines(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let whole = lines::whole_lines(text, range.clone());
    let before = &text[whole.start..range.start];
    let content = before.trim_start_matches('\u{feff}');
    content
        .trim_matches(' ')
        .is_empty()
        .then(|| range.start - content.len()..whole.end)
}

fn remove_flow(text: &str, entry: &Entry) -> String {
    let mut range = entry.key_span.start..entry.value.span.end;
    let before = text[..range.start].trim_end();
    if before.ends_with(',') {
        range.start = before.len() - 1;
    } else {
        let after = &text[range.end..];
        if let Some(rest) = after.trim_start().strip_prefix(',') {
            range.end = text.len() - rest.trim_start_matches(' ').len();
        }
    }
    lines::splice(text, vec![(range, String::new())])
}
