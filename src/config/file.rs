//! The settings file: one flat YAML mapping. Values are kept as they are written, so that `1.20` stays `1.20`.
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError};

use super::error::Problem;

/// What a settings file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The values that are set.
    pub(super) entries: Vec<Entry>,
    /// What cannot be used: the line, the key where there is one, and why.
    pub(super) flaws: Vec<(usize, Option<String>, Problem)>,
}

/// One line of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// The line, from 1.
    pub(super) line: usize,
    /// The value.
    pub(super) text: String,
}

/// Reads a settings file. Everything up to a syntax error is used.
pub(super) fn read(text: &str) -> Content {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => reader.event(&event, span.start.line()),
            Err(error) => {
                reader.syntax(&error);
                break;
            }
        }
    }
    reader.content
}

#[derive(Default)]
struct Reader {
    content: Content,
    documents: usize,
    /// Open mappings and sequences.
    depth: usize,
    /// The key whose value comes next.
    key: Option<(String, usize)>,
    seen: Vec<String>,
}

const REMEDY_FLAT: &str = "write `KEY: VALUE` lines, with keys such as `rest-url`";

impl Reader {
    fn event(&mut self, event: &Event<'_>, line: usize) {
        match event {
            Event::DocumentStart(..) => self.document(line),
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let top = self.depth == 0 && matches!(event, Event::MappingStart(..));
                if !top {
                    self.not_flat(line);
                }
                self.depth += 1;
            }
            Event::MappingEnd | Event::SequenceEnd => self.depth -= 1,
            Event::Scalar(text, style, ..) => {
                let null = *style == ScalarStyle::Plain
                    && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                self.scalar((!null).then_some(text.as_ref()), line);
            }
            Event::Alias(..) => self.not_flat(line),
            _ => {}
        }
    }

    fn document(&mut self, line: usize) {
        self.documents += 1;
        if self.documents > 1 {
            self.flaw(line, None, "a second document begins", "keep one");
        }
    }

    /// A value that is no scalar, or a key that is none.
    fn not_flat(&mut self, line: usize) {
        match (self.depth, self.key.take()) {
            (1, Some((key, line))) => {
                self.flaw(
                    line,
                    Some(key),
                    "the value is not a single one",
                    REMEDY_FLAT,
                );
            }
            (0 | 1, _) => self.flaw(line, None, "this is not a mapping of settings", REMEDY_FLAT),
            _ => {}
        }
    }

    fn scalar(&mut self, text: Option<&str>, line: usize) {
        match (self.depth, self.key.take(), text) {
            (0, _, Some(_)) => self.not_flat(line),
            (1, None, Some(key)) => self.key = Some((key.to_owned(), line)),
            (1, None, None) => self.not_flat(line),
            (1, Some((key, line)), text) => self.entry(key, line, text),
            _ => {}
        }
    }

    /// A key without a value counts as not set.
    fn entry(&mut self, key: String, line: usize, text: Option<&str>) {
        if self.seen.contains(&key) {
            self.flaw(line, Some(key), "is given twice", "keep one of them");
            return;
        }
        self.seen.push(key.clone());
        if let Some(text) = text {
            let text = text.to_owned();
            self.content.entries.push(Entry { key, line, text });
        }
    }

    fn flaw(&mut self, line: usize, key: Option<String>, what: &str, remedy: &str) {
        let problem = Problem::new(what, remedy);
        self.content.flaws.push((line, key, problem));
    }

    fn syntax(&mut self, error: &ScanError) {
        let what = format!("is not YAML: {}", error.info().replace('\n', " "));
        self.flaw(error.marker().line(), None, &what, REMEDY_FLAT);
    }
}
