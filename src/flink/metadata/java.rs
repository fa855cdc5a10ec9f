//! Reads the Java-serialized `CheckpointProperties` at the end of `_metadata` (format 4 and later).
//!
//! A small subset of the Java Object Serialization Stream Protocol, version 5: enough to walk any graph of plain
//! serializable objects, enums, strings and arrays to its last byte. No class is loaded and nothing is instantiated.

use std::collections::HashMap;

use super::reader::Reader;
use super::{Discard, MetadataError, Properties, SavepointFormat, SnapshotKind};

const STREAM_MAGIC: u16 = 0xaced;
const STREAM_VERSION: u16 = 5;

const TC_NULL: u8 = 0x70;
const TC_REFERENCE: u8 = 0x71;
const TC_CLASSDESC: u8 = 0x72;
const TC_OBJECT: u8 = 0x73;
const TC_STRING: u8 = 0x74;
const TC_ARRAY: u8 = 0x75;
const TC_BLOCKDATA: u8 = 0x77;
const TC_ENDBLOCKDATA: u8 = 0x78;
const TC_ENUM: u8 = 0x7e;

const SC_WRITE_METHOD: u8 = 0x01;
const SC_SERIALIZABLE: u8 = 0x02;
const SC_ENUM: u8 = 0x10;

const BASE_HANDLE: i32 = 0x7e_0000;

/// Deeper graphs are refused; Flink's has three levels.
const MAX_DEPTH: usize = 32;
/// Larger properties are refused; Flink's take less than 1 kB. Bounds what back references can make this copy.
const MAX_BYTES: usize = 16 << 10;
const READING: &str = "the checkpoint properties (Java-serialized)";
const CLASS_PREFIX: &str = "org.apache.flink.runtime.checkpoint.";

/// What a field of the graph holds, as far as anybody asks.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Bool(bool),
    /// A string, the name of an enum constant, or the class of an object.
    Text(String),
    Other,
}

#[derive(Debug, Clone)]
struct Field {
    code: u8,
    name: String,
}

#[derive(Debug, Clone)]
struct Class {
    name: String,
    flags: u8,
    fields: Vec<Field>,
    parent: Option<usize>,
}

/// What a back reference may point to.
#[derive(Debug, Clone)]
enum Handle {
    /// An index into `classes`.
    Class(usize),
    Value(Value),
}

struct Graph<'r, 'a> {
    reader: &'r mut Reader<'a>,
    classes: Vec<Class>,
    handles: Vec<Handle>,
    /// The fields of all objects by name: no two of Flink's are called the same.
    fields: HashMap<String, Value>,
    depth: usize,
}

/// Reads the properties and leaves the reader behind their last byte.
pub(super) fn read_properties(reader: &mut Reader<'_>) -> Result<Properties, MetadataError> {
    let mut limited = reader.prefix(MAX_BYTES);
    match read(&mut limited) {
        Ok(properties) => {
            reader.take(limited.offset() - reader.offset(), READING)?;
            Ok(properties)
        }
        Err(MetadataError::Truncated { .. }) if reader.remaining() > MAX_BYTES => {
            Err(reader.corrupt(0, READING, 0))
        }
        Err(error) => Err(error),
    }
}

fn read(reader: &mut Reader<'_>) -> Result<Properties, MetadataError> {
    for expected in [STREAM_MAGIC, STREAM_VERSION] {
        let found = reader.u16(READING)?;
        if found != expected {
            return Err(reader.corrupt(2, READING, i64::from(found)));
        }
    }
    let start = reader.clone();
    let mut graph = Graph {
        reader,
        classes: Vec::new(),
        handles: Vec::new(),
        fields: HashMap::new(),
        depth: 0,
    };
    let root = graph.content()?;
    if root != Value::Text(format!("{CLASS_PREFIX}CheckpointProperties")) {
        return Err(start.corrupt(0, READING, 0));
    }
    properties(&graph.fields).ok_or_else(|| start.corrupt(0, READING, 0))
}

fn properties(fields: &HashMap<String, Value>) -> Option<Properties> {
    let text = |name: &str| match fields.get(name) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = |name: &str| match fields.get(name) {
        Some(Value::Bool(flag)) => Some(*flag),
        _ => None,
    };
    let kind = match text("checkpointType")?.strip_prefix(CLASS_PREFIX)? {
        "SavepointType" => SnapshotKind::Savepoint,
        "CheckpointType" => SnapshotKind::Checkpoint,
        _ => return None,
    };
    Some(Properties {
        kind,
        name: text("name")?.to_owned(),
        format: match text("formatType") {
            Some("CANONICAL") => Some(SavepointFormat::Canonical),
            Some("NATIVE") => Some(SavepointFormat::Native),
            _ => None,
        },
        discard: Discard {
            subsumed: flag("discardSubsumed")?,
            finished: flag("discardFinished")?,
            cancelled: flag("discardCancelled")?,
            failed: flag("discardFailed")?,
            suspended: flag("discardSuspended")?,
        },
        unclaimed: flag("unclaimed").unwrap_or(false),
    })
}

impl Graph<'_, '_> {
    fn refuse(&self, value: i64) -> MetadataError {
        self.reader.corrupt(1, READING, value)
    }

    /// One object, string, enum, array, reference or null.
    fn content(&mut self) -> Result<Value, MetadataError> {
        let code = self.reader.u8(READING)?;
        self.content_of(code)
    }

    fn content_of(&mut self, code: u8) -> Result<Value, MetadataError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.refuse(i64::from(code)));
        }
        self.depth += 1;
        let value = match code {
            TC_NULL => Value::Other,
            TC_REFERENCE => match self.reference()? {
                Handle::Value(value) => value,
                Handle::Class(_) => Value::Other,
            },
            TC_STRING => {
                let text = Value::Text(self.reader.utf(READING)?.into_owned());
                self.handles.push(Handle::Value(text.clone()));
                text
            }
            TC_ENUM => self.enumeration()?,
            TC_OBJECT => self.object()?,
            TC_ARRAY => self.array()?,
            other => return Err(self.refuse(i64::from(other))),
        };
        self.depth -= 1;
        Ok(value)
    }

    fn reference(&mut self) -> Result<Handle, MetadataError> {
        let handle = self.reader.i32(READING)?;
        let known = handle
            .checked_sub(BASE_HANDLE)
            .and_then(|at| usize::try_from(at).ok());
        known
            .and_then(|at| self.handles.get(at).cloned())
            .ok_or_else(|| self.reader.corrupt(4, READING, i64::from(handle)))
    }

    fn enumeration(&mut self) -> Result<Value, MetadataError> {
        self.class()?;
        let slot = self.handles.len();
        self.handles.push(Handle::Value(Value::Other));
        let constant = self.content()?;
        self.handles[slot] = Handle::Value(constant.clone());
        Ok(constant)
    }

    fn object(&mut self) -> Result<Value, MetadataError> {
        let Some(class) = self.class()? else {
            return Err(self.refuse(i64::from(TC_NULL)));
        };
        let value = Value::Text(self.classes[class].name.clone());
        self.handles.push(Handle::Value(value.clone()));
        for at in self.ancestry(class)? {
            let Class { flags, fields, .. } = self.classes[at].clone();
            if flags & SC_SERIALIZABLE == 0 {
                return Err(self.refuse(i64::from(flags)));
            }
            for field in fields {
                let value = self.value(field.code)?;
                self.fields.insert(field.name, value);
            }
            if flags & SC_WRITE_METHOD != 0 {
                self.annotation()?;
            }
        }
        Ok(value)
    }

    /// The class and its superclasses, the outermost superclass first.
    fn ancestry(&self, class: usize) -> Result<Vec<usize>, MetadataError> {
        let mut line = vec![class];
        let mut at = class;
        while let Some(parent) = self.classes[at].parent {
            if line.len() > MAX_DEPTH {
                return Err(self.refuse(i64::from(TC_CLASSDESC)));
            }
            line.push(parent);
            at = parent;
        }
        line.reverse();
        Ok(line)
    }

    fn array(&mut self) -> Result<Value, MetadataError> {
        let element = self
            .class()?
            .and_then(|class| self.classes[class].name.as_bytes().get(1).copied());
        let Some(element) = element else {
            return Err(self.refuse(i64::from(TC_ARRAY)));
        };
        self.handles.push(Handle::Value(Value::Other));
        for _ in 0..self.reader.count(READING)? {
            self.value(element)?;
        }
        Ok(Value::Other)
    }

    /// A field's or an array element's value; every type takes at least one byte, so that loops end with the file.
    fn value(&mut self, code: u8) -> Result<Value, MetadataError> {
        let width = match code {
            b'Z' => return Ok(Value::Bool(self.reader.u8(READING)? != 0)),
            b'L' | b'[' => return self.content(),
            b'B' => 1,
            b'C' | b'S' => 2,
            b'F' | b'I' => 4,
            b'D' | b'J' => 8,
            other => return Err(self.refuse(i64::from(other))),
        };
        self.reader.take(width, READING)?;
        Ok(Value::Other)
    }

    /// What a class wrote beside its fields.
    fn annotation(&mut self) -> Result<(), MetadataError> {
        loop {
            match self.reader.u8(READING)? {
                TC_ENDBLOCKDATA => return Ok(()),
                TC_BLOCKDATA => {
                    let length = usize::from(self.reader.u8(READING)?);
                    self.reader.take(length, READING)?;
                }
                code => drop(self.content_of(code)?),
            }
        }
    }

    /// A class description: an index into `classes`, or none.
    fn class(&mut self) -> Result<Option<usize>, MetadataError> {
        match self.reader.u8(READING)? {
            TC_NULL => Ok(None),
            TC_REFERENCE => match self.reference()? {
                Handle::Class(class) => Ok(Some(class)),
                Handle::Value(_) => Err(self.refuse(i64::from(TC_REFERENCE))),
            },
            TC_CLASSDESC => self.new_class().map(Some),
            other => Err(self.refuse(i64::from(other))),
        }
    }

    fn new_class(&mut self) -> Result<usize, MetadataError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.refuse(i64::from(TC_CLASSDESC)));
        }
        self.depth += 1;
        let name = self.reader.utf(READING)?.into_owned();
        self.reader.i64(READING)?;
        let index = self.classes.len();
        self.handles.push(Handle::Class(index));
        let flags = self.reader.u8(READING)?;
        if flags & !(SC_WRITE_METHOD | SC_SERIALIZABLE | SC_ENUM) != 0 {
            return Err(self.refuse(i64::from(flags)));
        }
        self.classes.push(Class {
            name,
            flags,
            fields: Vec::new(),
            parent: None,
        });
        for _ in 0..self.reader.u16(READING)? {
            let code = self.reader.u8(READING)?;
            let name = self.reader.utf(READING)?.into_owned();
            if matches!(code, b'L' | b'[') {
                self.content()?;
            }
            self.classes[index].fields.push(Field { code, name });
        }
        self.annotation()?;
        // A class that names a later one, or itself, as its parent would make `ancestry` loop.
        self.classes[index].parent = self.class()?.filter(|parent| *parent != index);
        self.depth -= 1;
        Ok(index)
    }
}
