//! `config.yaml` as Flink (snakeyaml-engine, core schema) reads it, with the place of every entry in the text. What Flink
//! refuses is refused here too, with its line.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag};

use super::Fault;
use super::lines;
use super::scalar::{self, Scalar};

/// The one document of a `config.yaml`.
pub(super) struct Document {
    /// Its top mapping; `None` when there are only comments.
    pub(super) root: Option<Rc<Node>>,
    /// Where a line can be appended to it: the end of the text, or the line of the end marker `...`.
    pub(super) end: usize,
}

/// A value and its place.
pub(super) struct Node {
    /// The bytes of the value itself, without anchor, tag and the line break after it.
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Scalar { value: Scalar, block: bool },
    Sequence { items: Vec<Rc<Node>>, flow: bool },
    Mapping { entries: Vec<Entry>, flow: bool },
    Alias(Rc<Node>),
}

pub(super) struct Entry {
    pub(super) key: Scalar,
    pub(super) key_span: Range<usize>,
    pub(super) value: Rc<Node>,
}

const TABS: &str = "indent and separate with spaces";
const MAPPING: &str = "write the file as key: value lines";

/// Reads `text`.
///
/// # Errors
/// What Flink refuses: broken YAML, several documents, duplicate keys, tabs, unknown tags.
pub(super) fn parse(text: &str) -> Result<Document, Fault> {
    scalar::check_characters(text)?;
    let mut options = granit_parser::Options::default();
    options.max_buffered_comment_events = usize::MAX;
    options.block_scalar_eof_without_line_feed = true;
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        opaque: Vec::new(),
    };
    let document = builder.document()?;
    builder.check_tabs()?;
    Ok(document)
}

struct Builder<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Rc<Node>>,
    /// Scalars and comments, in which a tab is text.
    opaque: Vec<Range<usize>>,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Document, Fault> {
        let mut document = Document {
            root: None,
            end: self.text.len(),
        };
        let mut seen = false;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart => {}
                Event::StreamEnd if seen => return Ok(document),
                Event::StreamEnd => {
                    self.check_no_end_marker(self.text.len())?;
                    return Ok(document);
                }
                Event::DocumentStart(..) if seen => {
                    return Err(self.fault(
                        span.byte_range().unwrap_or_default().start,
                        "a second YAML document begins here",
                        "keep one document in the file",
                    ));
                }
                Event::DocumentStart(..) => {
                    self.check_no_end_marker(span.byte_range().unwrap_or_default().start)?;
                    seen = true;
                }
                Event::DocumentEnd => {
                    let end = span.byte_range().unwrap_or_default();
                    if !end.is_empty() {
                        document.end = end.start;
                    }
                }
                event => document.root = self.root(event, &span)?,
            }
        }
    }

    /// The parser skips an end marker that ends nothing; snakeyaml-engine refuses it.
    fn check_no_end_marker(&self, document_start: usize) -> Result<(), Fault> {
        let before = &self.text[..document_start];
        let marker = lines::lines(before).into_iter().find(|line| {
            let line = before[line.clone()].trim_start_matches('\u{feff}');
            line.starts_with("...")
        });
        match marker {
            Some(line) => Err(self.fault(
                line.start,
                "the end marker ... comes before any document",
                "delete the line",
            )),
            None => Ok(()),
        }
    }

    fn root(&mut self, event: Event<'a>, span: &Span) -> Result<Option<Rc<Node>>, Fault> {
        let root = self.node(event, span)?;
        match &root.kind {
            Kind::Mapping { .. } => Ok(Some(root)),
            Kind::Scalar {
                value: Scalar::Null,
                ..
            } if root.span.is_empty() => Ok(None),
            _ => Err(self.fault(root.span.start, "the file is not a mapping", MAPPING)),
        }
    }

    /// The next event that is not a comment.
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        loop {
            let (event, span) = match self.parser.next_event() {
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    let at = error.marker().byte_offset().unwrap_or(0);
                    return Err(self.fault(at, error.info(), "correct the YAML"));
                }
                None => return Err(self.fault(self.text.len(), "the YAML ends early", MAPPING)),
            };
            match event {
                Event::Comment(..) => self.opaque.extend(span.byte_range()),
                event => return Ok((event, span)),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span) -> Result<Rc<Node>, Fault> {
        let bytes = span.byte_range().unwrap_or_default();
        let (node, anchor) = match event {
            Event::Scalar(value, style, anchor, tag) => {
                (self.scalar(&value, style, tag.as_deref(), bytes)?, anchor)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", bytes.start)?;
                (self.sequence(bytes, style == StructureStyle::Flow)?, anchor)
            }
            Event::MappingStart(style, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", bytes.start)?;
                (self.mapping(bytes, style == StructureStyle::Flow)?, anchor)
            }
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned().ok_or_else(|| {
                    self.fault(
                        bytes.start,
                        "the alias contains itself",
                        "write the value out",
                    )
                })?;
                (
                    Node {
                        span: bytes,
                        kind: Kind::Alias(target),
                    },
                    0,
                )
            }
            _ => return Err(self.fault(bytes.start, "a value is missing", MAPPING)),
        };
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    fn scalar(
        &mut self,
        value: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        mut span: Range<usize>,
    ) -> Result<Node, Fault> {
        self.check_tag(tag, "str", span.start)?;
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let kept = if block { &['\n', '\r'][..] } else { &[][..] };
        let source = &self.text[span.clone()];
        self.opaque.push(span.clone());
        if style == ScalarStyle::Plain {
            // Only after a plain scalar does snakeyaml-engine skip tabs.
            let after = &self.text[span.end..];
            let blank = after.len() - after.trim_start_matches([' ', '\t']).len();
            self.opaque.push(span.end..span.end + blank);
        }
        span.end = span.start + source.trim_end_matches(kept).len();
        let value = if tag.is_none() && style == ScalarStyle::Plain {
            // The parser gives an empty node the text "~"; both mean null.
            scalar::resolve_plain(value)
                .map_err(|(problem, remedy)| self.fault(span.start, problem, remedy))?
        } else {
            Scalar::Text(value.to_owned())
        };
        Ok(Node {
            span,
            kind: Kind::Scalar { value, block },
        })
    }

    fn sequence(&mut self, mut span: Range<usize>, flow: bool) -> Result<Node, Fault> {
        if !flow {
            // The parser places a sequence that is not indented behind its first dash.
            let line = lines::line_start(self.text, span.start);
            let before = &self.text[line..span.start];
            span.start -= before.trim_start_matches(' ').len();
        }
        let mut items: Vec<Rc<Node>> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                span.end =
                    self.collection_end(flow, &at, items.last().map(|item| item.span.end), &span);
                return Ok(Node {
                    span,
                    kind: Kind::Sequence { items, flow },
                });
            }
            items.push(self.node(event, &at)?);
        }
    }

    fn mapping(&mut self, mut span: Range<usize>, flow: bool) -> Result<Node, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                let last = entries.last().map(|entry| entry.value.span.end);
                span.end = self.collection_end(flow, &at, last, &span);
                return Ok(Node {
                    span,
                    kind: Kind::Mapping { entries, flow },
                });
            }
            let key_node = self.node(event, &at)?;
            let key = match &target(&key_node).kind {
                Kind::Scalar { value, .. } => value.clone(),
                _ => {
                    let remedy = "write the key as plain text";
                    return Err(self.fault(key_node.span.start, "a key is a collection", remedy));
                }
            };
            if entries.iter().any(|entry| entry.key == key) {
                let problem = format!("the key {} is there twice", scalar::dump(&key));
                return Err(self.fault(
                    key_node.span.start,
                    problem,
                    "keep one of the two entries",
                ));
            }
            let (event, at) = self.next()?;
            let value = self.node(event, &at)?;
            entries.push(Entry {
                key,
                key_span: key_node.span.clone(),
                value,
            });
        }
    }

    fn collection_end(
        &self,
        flow: bool,
        end: &Span,
        last: Option<usize>,
        span: &Range<usize>,
    ) -> usize {
        let end = end.byte_range().unwrap_or_default().end;
        // The end of a block collection is only seen at the next token, beyond blank lines and comments.
        if flow { end } else { last.unwrap_or(span.end) }
    }

    fn check_tag(&self, tag: Option<&Tag>, expected: &str, at: usize) -> Result<(), Fault> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema_tag(expected) => Err(self.fault(
                at,
                format!("the tag {} is not supported", tag.original()),
                "remove the tag",
            )),
            _ => Ok(()),
        }
    }

    /// YAML 1.2 allows a tab wherever white space separates tokens, snakeyaml-engine only after a plain scalar.
    fn check_tabs(&mut self) -> Result<(), Fault> {
        self.opaque.sort_unstable_by_key(|range| range.start);
        let mut at = 0;
        let tail = std::iter::once(self.text.len()..self.text.len());
        for opaque in self.opaque.iter().cloned().chain(tail) {
            if let Some(tab) = self
                .text
                .get(at..opaque.start)
                .and_then(|gap| gap.find('\t'))
            {
                return Err(self.fault(at + tab, "Flink refuses the tab in this place", TABS));
            }
            at = at.max(opaque.end);
        }
        Ok(())
    }

    fn fault(&self, at: usize, problem: impl Into<String>, remedy: &'static str) -> Fault {
        Fault::at(self.text, at, problem, remedy)
    }
}

pub(super) fn target(node: &Rc<Node>) -> &Rc<Node> {
    match &node.kind {
        Kind::Alias(node) => target(node),
        _ => node,
    }
}
