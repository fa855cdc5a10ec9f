//! A page of the text format in OpenMetrics 1.0.
//!
//! Series keep the names that they have. So a counter whose name does not end in `_total`, which OpenMetrics would have it
//! do, is of unknown kind there.

use super::line::{Kind, Labels, Line, read};

/// Translates a page that a [`Merger`](super::merge::Merger) wrote, line by line.
#[derive(Debug, Default)]
pub struct Translator {
    /// HELP that waits for TYPE, which decides on the family's name.
    help: Option<(String, String)>,
    labels: Labels,
}

impl Translator {
    /// Takes one line; `out` gets what it becomes.
    pub fn line(&mut self, line: &[u8], mut out: impl FnMut(&[u8])) {
        let Ok(text) = std::str::from_utf8(line) else {
            return;
        };
        match read(text, &mut self.labels) {
            Ok(Line::Help { family, text }) => {
                self.finish(out);
                self.help = Some((family.to_owned(), text.to_owned()));
            }
            Ok(Line::Type { family, kind }) => {
                let (name, kind) = family_of(family, kind);
                let help = self.help.take_if(|(other, _)| other == family);
                self.finish(&mut out);
                if let Some((_, text)) = help {
                    out(help_line(name, &text).as_bytes());
                }
                out(format!("# TYPE {name} {kind}\n").as_bytes());
            }
            Ok(Line::Sample(_)) => {
                self.finish(&mut out);
                out(line);
                out(b"\n");
            }
            Ok(Line::Nothing) | Err(_) => {}
        }
    }

    /// Writes what still waits.
    pub fn finish(&mut self, mut out: impl FnMut(&[u8])) {
        if let Some((name, text)) = self.help.take() {
            out(help_line(&name, &text).as_bytes());
        }
    }
}

fn family_of(family: &str, kind: Kind) -> (&str, &'static str) {
    match (kind, family.strip_suffix("_total")) {
        (Kind::Counter, Some(name)) if !name.is_empty() => (name, "counter"),
        (Kind::Counter | Kind::Untyped, _) => (family, "unknown"),
        _ => (family, kind.name()),
    }
}

fn help_line(name: &str, text: &str) -> String {
    format!("# HELP {name} {}\n", text.replace('"', "\\\""))
}
