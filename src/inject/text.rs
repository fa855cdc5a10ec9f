//! Files of several documents, taken apart and put together again so that what is not changed stays byte for byte.

use serde_json::Value;
use serde_saphyr::{Options, SerializerOptions};

/// One document in a file.
#[derive(Debug, Clone)]
pub(super) struct Document<'a> {
    /// As it stands there, with the separator before it and the comments around it.
    text: &'a str,
    /// Where in `text` its content is.
    content: std::ops::Range<usize>,
    json: bool,
    /// The line of the file that its content begins on, from 1.
    pub(super) line: usize,
    /// What it says; null when there are but comments.
    pub(super) value: Value,
}

/// A document that is neither YAML nor JSON: its line, and why.
pub(super) type Unreadable = (usize, String);

/// The documents of a file; their texts in a row are the file's.
pub(super) fn documents(text: &str) -> Result<Vec<Document<'_>>, Unreadable> {
    match text.trim_start().starts_with('{') {
        true => json(text).or_else(|_| yaml(text)),
        false => yaml(text),
    }
}

fn json(text: &str) -> Result<Vec<Document<'_>>, Unreadable> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut found: Vec<Document<'_>> = Vec::new();
    let mut start = 0;
    while let Some(value) = stream.next() {
        let value = value.map_err(|error| (error.line(), error.to_string()))?;
        let end = stream.byte_offset();
        let blank = text[start..end].len() - text[start..end].trim_start().len();
        found.push(Document {
            text: &text[start..end],
            content: blank..end - start,
            json: true,
            line: line_of(text, start + blank),
            value,
        });
        start = end;
    }
    if let Some(last) = found.last_mut() {
        let first = start - last.text.len();
        last.text = &text[first..];
    }
    Ok(found)
}

fn yaml(text: &str) -> Result<Vec<Document<'_>>, Unreadable> {
    let mut starts: Vec<usize> = lines(text)
        .filter(|(_, line)| is_separator(line))
        .map(|(at, _)| at)
        .collect();
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let pieces = starts.iter().copied().zip(ends);
    pieces.map(|(start, end)| piece(text, start, end)).collect()
}

fn piece(file: &str, start: usize, end: usize) -> Result<Document<'_>, Unreadable> {
    let text = &file[start..end];
    let mut content = content(text);
    let line = line_of(file, start + content.start);
    let whole = read(&text[content.start..]);
    let value = match whole {
        Ok(whole) => {
            content.end = last(text, &content, &whole);
            whole
        }
        // What stands behind the content need not be readable.
        Err(_) => read(&text[content.clone()]).map_err(|why| (line, why))?,
    };
    Ok(Document {
        text,
        content,
        json: false,
        line,
        value,
    })
}

/// From the first line that says something to the last one.
fn content(text: &str) -> std::ops::Range<usize> {
    let says = |line: &str| {
        let line = line.trim();
        let behind = line.strip_prefix("---").filter(|_| is_separator(line));
        let line = behind.unwrap_or(line).trim();
        !line.is_empty() && !line.starts_with('#') && line != "..." && !line.starts_with('%')
    };
    let mut saying = lines(text).filter(|(_, line)| says(line));
    let Some((start, first)) = saying.next() else {
        return text.len()..text.len();
    };
    let end = saying
        .last()
        .map_or(start + first.len(), |(at, line)| at + line.len());
    start..end
}

/// Where the content ends: a text in it may go on with lines that look like comments.
fn last(text: &str, content: &std::ops::Range<usize>, value: &Value) -> usize {
    let line_end = |(at, line): (usize, &str)| at + line.len();
    let says_all = |end: &usize| {
        let newline = text[*end..]
            .find('\n')
            .map_or(text.len(), |more| end + more + 1);
        read(&text[content.start..newline]).as_ref() == Ok(value)
    };
    let ends = lines(text).map(line_end).filter(|end| *end >= content.end);
    ends.into_iter().find(says_all).unwrap_or(text.len())
}

/// Reads one document as `kubectl` does: YAML 1.1, where `0644` is octal and `yes` is true.
fn read(text: &str) -> Result<Value, String> {
    let mut options = Options::default();
    options.legacy_octal_numbers = true;
    options.with_snippet = false;
    let value = serde_saphyr::from_str_with_options::<Option<Value>>(text, options);
    let why = |error: serde_saphyr::Error| {
        error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    value.map(Option::unwrap_or_default).map_err(why)
}

impl<'a> Document<'a> {
    /// The document as it stands in the file.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Its content alone.
    pub(super) fn content(&self) -> &'a str {
        &self.text[self.content.clone()]
    }

    /// The document with another value; what stands before and behind its content stays, what is written in it goes.
    pub(super) fn with(&self, value: &Value) -> String {
        let content = match self.json {
            true if self.content().contains('\n') => format!("{value:#}"),
            true => value.to_string(),
            false => write(value),
        };
        self.with_content(&content)
    }

    /// The document with another content.
    pub(super) fn with_content(&self, content: &str) -> String {
        let (before, behind) = (
            &self.text[..self.content.start],
            &self.text[self.content.end..],
        );
        // `--- {kind: Pod}` is one line.
        let separator = match self.content().starts_with("---") {
            true => "---\n",
            false => "",
        };
        let end = if self.json || behind.starts_with(['\n', '\r']) {
            ""
        } else {
            "\n"
        };
        let content = content.trim_end_matches('\n');
        format!("{before}{separator}{content}{end}{behind}")
    }
}

/// As YAML, or as JSON, which YAML is as well, should the writer and the reader not agree.
fn write(value: &Value) -> String {
    let written = serde_saphyr::to_string_with_options(value, SerializerOptions::default());
    written
        .ok()
        .filter(|text| read(text).as_ref() == Ok(value))
        .unwrap_or_else(|| format!("{value:#}\n"))
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
}

/// The lines, each with its place.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line.trim_end_matches(['\n', '\r']))
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_at_the_end_keeps_lines_that_look_like_comments() {
        let ends = "    # last\n    %d\n    ...\n";
        let file =
            format!("kind: ConfigMap\ndata:\n  x: |\n    first\n      more\n{ends}# a comment\n");
        let found = documents(&file).expect("YAML");
        let said = "first\n  more\n# last\n%d\n...\n";
        assert_eq!(found[0].value["data"]["x"], said);
        let mut value = found[0].value.clone();
        value["kind"] = "Secret".into();
        let changed = found[0].with(&value);
        assert!(changed.ends_with("\n# a comment\n"), "{changed}");
        let again = documents(&changed).expect("YAML");
        assert_eq!(again[0].value, value, "{changed}");
    }

    #[test]
    fn comments_behind_the_content_are_not_part_of_it() {
        for behind in ["", "\n", "\n# a comment\n", "\n...\n", "\n\n  # a comment"] {
            let file = format!("a:\n  b: 1{behind}");
            let found = documents(&file).expect("YAML");
            assert_eq!(found[0].content(), "a:\n  b: 1", "{behind:?}");
        }
    }
}
