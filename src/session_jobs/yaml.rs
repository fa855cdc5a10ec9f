//! YAML with the line of everything in it. Values are kept as they are written, so that `1.20` stays `1.20`.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::Flaw;

/// A value and the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    Text(String),
    List(Vec<Node>),
    /// Keys with their lines, in the order in which they are written.
    Map(Vec<(String, usize, Node)>),
}

/// A list or mapping whose end has not been read yet.
struct Open {
    line: usize,
    map: bool,
    /// Of a mapping, keys and values in turn.
    items: Vec<Node>,
}

impl Open {
    fn close(self) -> Result<Node, Flaw> {
        let line = self.line;
        if !self.map {
            let kind = Kind::List(self.items);
            return Ok(Node { line, kind });
        }
        let mut entries = Vec::new();
        let mut items = self.items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let Kind::Text(name) = key.kind else {
                let flaw = Flaw::new("the key is not a name", "write `KEY: VALUE`");
                return Err(flaw.at(key.line));
            };
            entries.push((name, key.line, value));
        }
        let kind = Kind::Map(entries);
        Ok(Node { line, kind })
    }
}

/// Reads the only document of `text`; `None` when there are but comments.
pub(super) fn parse(text: &str) -> Result<Option<Node>, Flaw> {
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let what = format!("is not YAML: {}", error.info().replace('\n', " "));
            Flaw::new(what, "write a list of jobs").at(error.marker().line())
        })?;
        let line = span.start.line();
        let done = match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(Flaw::new("a second document begins", "keep one").at(line));
                }
                None
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let map = matches!(event, Event::MappingStart(..));
                let items = Vec::new();
                open.push(Open { line, map, items });
                None
            }
            Event::MappingEnd | Event::SequenceEnd => open.pop().map(Open::close).transpose()?,
            Event::Scalar(text, style, ..) => Some(scalar(&text, style, line)),
            Event::Alias(..) => {
                return Err(Flaw::new("an alias stands here", "write the value out").at(line));
            }
            _ => None,
        };
        let Some(node) = done else { continue };
        match open.last_mut() {
            Some(parent) => parent.items.push(node),
            None => root = Some(node),
        }
    }
    Ok(root.filter(|node| node.kind != Kind::Null))
}

fn scalar(text: &str, style: ScalarStyle, line: usize) -> Node {
    let null = style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
    let kind = if null {
        Kind::Null
    } else {
        Kind::Text(text.to_owned())
    };
    Node { line, kind }
}
