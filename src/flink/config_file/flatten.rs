//! The flat view of a `config.yaml`: every key as Flink names it, in the order in which Flink finds it.

use std::rc::Rc;

use super::Fault;
use super::scalar::{self, Scalar};
use super::yaml::{Entry, Kind, Node, target};

/// One flat key of the file, with the entries that lead to it, outermost first.
pub(super) struct Occurrence<'a> {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) path: Vec<&'a Entry>,
    /// Whether the value is reached through an alias, so that its text belongs to another key as well.
    pub(super) shared: bool,
}

/// An alias bomb would take memory for ever; no configuration comes near this many values.
const MAX_VALUES: usize = 100_000;

/// All flat keys in the order of the file. Where a key comes several times, in nested and flat spellings, the last one
/// counts (`GlobalConfiguration.flatten` puts them into one map in this order).
///
/// # Errors
/// On null values and keys that are no strings, with which Flink does not start.
pub(super) fn flatten<'a>(text: &str, root: &'a Node) -> Result<Vec<Occurrence<'a>>, Fault> {
    let mut flattener = Flattener {
        text,
        path: Vec::new(),
        visited: 0,
        found: Vec::new(),
    };
    flattener.mapping("", root, false)?;
    Ok(flattener.found)
}

struct Flattener<'a, 't> {
    text: &'t str,
    path: Vec<&'a Entry>,
    visited: usize,
    found: Vec<Occurrence<'a>>,
}

impl<'a> Flattener<'a, '_> {
    fn mapping(&mut self, prefix: &str, node: &'a Node, shared: bool) -> Result<(), Fault> {
        let Kind::Mapping { entries, .. } = &node.kind else {
            return Ok(());
        };
        for entry in entries {
            let Scalar::Text(name) = &entry.key else {
                let problem = format!("the key {} is not a string", scalar::dump(&entry.key));
                return Err(self.fault(entry, problem, "put the key in quotes"));
            };
            self.path.push(entry);
            self.entry(format!("{prefix}{name}"), entry, shared)?;
            self.path.pop();
        }
        Ok(())
    }

    fn entry(&mut self, key: String, entry: &'a Entry, shared: bool) -> Result<(), Fault> {
        let value = target(&entry.value);
        // The alias itself is this entry's own text; what it points into is not.
        let inside = shared || matches!(entry.value.kind, Kind::Alias(_));
        let text = match &value.kind {
            Kind::Mapping { .. } => {
                self.count(entry)?;
                return self.mapping(&format!("{key}."), value, inside);
            }
            Kind::Scalar {
                value: Scalar::Null,
                ..
            } => {
                let problem = format!("{key} has no value, with which Flink does not start");
                return Err(self.fault(entry, problem, "give it a value, or '' for an empty one"));
            }
            Kind::Scalar {
                value: Scalar::Typed(text) | Scalar::Text(text),
                ..
            } => text.clone(),
            Kind::Sequence { .. } | Kind::Alias(_) => {
                let mut list = String::new();
                self.dump(value, entry, &mut list)?;
                list
            }
        };
        self.count(entry)?;
        self.found.push(Occurrence {
            key,
            value: text,
            path: self.path.clone(),
            shared,
        });
        Ok(())
    }

    /// A list as Flink turns it into the text of an option.
    fn dump(&mut self, node: &Rc<Node>, entry: &Entry, out: &mut String) -> Result<(), Fault> {
        let node = target(node);
        self.count(entry)?;
        match &node.kind {
            Kind::Scalar { value, .. } => out.push_str(&scalar::dump(value)),
            Kind::Sequence { items, .. } => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    self.dump(item, entry, out)?;
                }
                out.push(']');
            }
            Kind::Mapping { entries, .. } => {
                out.push('{');
                for (at, inner) in entries.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    out.push_str(&scalar::dump(&inner.key));
                    out.push_str(": ");
                    self.dump(&inner.value, entry, out)?;
                }
                out.push('}');
            }
            Kind::Alias(_) => {}
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry) -> Result<(), Fault> {
        self.visited += 1;
        if self.visited > MAX_VALUES {
            let problem = "the aliases expand to more than 100000 values";
            return Err(self.fault(entry, problem, "write the values out"));
        }
        Ok(())
    }

    fn fault(&self, entry: &Entry, problem: impl Into<String>, remedy: &'static str) -> Fault {
        Fault::at(self.text, entry.key_span.start, problem, remedy)
    }
}
