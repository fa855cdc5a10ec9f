//! Several pages that become one: lines are put to their families, whatever page they come from and in whatever order.
//!
//! As in any sort of more than fits into memory, lines are gathered in a window of 4 MiB; when it is full, it
//! becomes a run, compressed and in the order of the families' names; at the end all runs are read side by side. So there is
//! the window, some 10 to 25 bytes for each series, and what it takes to read a run, some 64 KiB for each 4 MiB of text.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::mem;
use std::sync::{Mutex, PoisonError};

use bytes::buf::Reader;
use bytes::{Buf as _, Bytes};
use flate2::FlushCompress;
use flate2::bufread::DeflateDecoder;
use memchr::memmem;

use super::deflate::Deflater;
use super::merge::Sink;

/// How much is gathered until it is compressed, in bytes.
const WINDOW: usize = 4 << 20;

/// What a family takes beside its name and its lines, about.
const OF_FAMILY: usize = 64;

/// How much there is at most, compressed.
const MOST: usize = 64 << 20;

/// What the line with the name of a family begins with, in a run. No line of a page does.
const FAMILY: u8 = 0;

/// Takes lines by family.
pub trait Gather {
    /// These whole lines are of `family`; HELP and TYPE come in calls of their own.
    fn add(&mut self, family: &str, lines: &[u8]);

    /// Nothing more goes in.
    fn is_full(&self) -> bool;
}

#[derive(Debug, Default)]
struct Family {
    /// HELP and TYPE, each only once, before all samples: what one page does not say of a family another one does.
    heads: Vec<u8>,
    samples: Vec<u8>,
}

impl Family {
    fn add(&mut self, lines: &[u8]) -> usize {
        let to = match lines.first() {
            Some(b'#') if memmem::find(&self.heads, lines).is_some() => return 0,
            Some(b'#') => &mut self.heads,
            _ => &mut self.samples,
        };
        to.extend_from_slice(lines);
        lines.len()
    }
}

/// Lines by family, as they are.
#[derive(Debug, Default)]
pub struct Families {
    lines: BTreeMap<String, Family>,
    size: usize,
    /// All others are left out. None for all.
    only: Option<&'static [&'static str]>,
}

impl Families {
    /// The samples of a family, line by line.
    #[must_use]
    pub fn of(&self, family: &str) -> &[u8] {
        let found = self.lines.get(family);
        found.map_or(&[], |family| &family.samples)
    }

    /// These families alone.
    #[must_use]
    pub fn only(families: &'static [&'static str]) -> Self {
        Self {
            only: Some(families),
            ..Self::default()
        }
    }
}

impl Gather for Families {
    fn add(&mut self, family: &str, lines: &[u8]) {
        if self.only.is_some_and(|only| !only.contains(&family)) {
            return;
        }
        if !self.lines.contains_key(family) {
            self.size += family.len() + OF_FAMILY;
            self.lines.insert(family.to_owned(), Family::default());
        }
        let added = self.lines.get_mut(family).map(|known| known.add(lines));
        self.size += added.unwrap_or_default();
    }

    fn is_full(&self) -> bool {
        self.size >= WINDOW
    }
}

/// Lines by family, compressed.
#[derive(Debug)]
pub struct Spool {
    window: Families,
    /// How much is gathered until it is compressed, in bytes.
    room: usize,
    runs: Vec<Bytes>,
    size: usize,
}

impl Default for Spool {
    fn default() -> Self {
        Self::with_window(WINDOW)
    }
}

impl Gather for Spool {
    fn add(&mut self, family: &str, lines: &[u8]) {
        self.window.add(family, lines);
        if self.window.size >= self.room {
            self.end_run();
        }
    }

    fn is_full(&self) -> bool {
        self.size >= MOST
    }
}

impl Spool {
    fn with_window(room: usize) -> Self {
        Self {
            window: Families::default(),
            room,
            runs: Vec::new(),
            size: 0,
        }
    }

    fn end_run(&mut self) {
        if self.window.lines.is_empty() {
            return;
        }
        let mut run = Deflater::default();
        for (name, family) in mem::take(&mut self.window).lines {
            run.write(&[&[FAMILY], name.as_bytes(), b"\n"].concat());
            run.write(&family.heads);
            run.write(&family.samples);
        }
        let run = run.finish(FlushCompress::Finish).bytes;
        self.size += run.len();
        self.runs.push(run);
    }

    /// All that came.
    #[must_use]
    pub fn finish(mut self) -> Runs {
        self.end_run();
        Runs(self.runs.into_iter().map(Run::new).collect())
    }
}

/// All lines, family by family.
pub struct Runs(Vec<Run>);

impl Runs {
    /// Gives all lines of the next family to `each`, without their ends; whether there was one.
    pub fn next_family(&mut self, mut each: impl FnMut(&[u8])) -> bool {
        let names = self.0.iter().filter_map(|run| run.family.as_ref());
        let Some(next) = names.min().cloned() else {
            return false;
        };
        let has = |run: &&mut Run| run.family.as_ref() == Some(&next);
        for run in self.0.iter_mut().filter(has) {
            run.pour_heads(&mut each);
        }
        for run in self.0.iter_mut().filter(has) {
            run.pour(&mut each);
        }
        // Nothing more is to be kept of a run that is read to its end.
        self.0.retain(|run| run.family.is_some());
        true
    }
}

struct Run {
    text: BufReader<DeflateDecoder<Reader<Bytes>>>,
    /// What comes next.
    family: Option<Vec<u8>>,
}

impl Run {
    fn new(bytes: Bytes) -> Self {
        let mut run = Self {
            text: BufReader::new(DeflateDecoder::new(bytes.reader())),
            family: None,
        };
        // A run begins with a name.
        run.pour(|_| {});
        run
    }

    /// Gives HELP and TYPE, which come first, to `each`.
    fn pour_heads(&mut self, mut each: impl FnMut(&[u8])) {
        let mut line = Vec::new();
        while matches!(self.text.fill_buf(), Ok([b'#', ..]))
            && matches!(self.text.read_until(b'\n', &mut line), Ok(1..))
        {
            each(line.strip_suffix(b"\n").unwrap_or(&line));
            line.clear();
        }
    }

    /// Gives all lines up to the next family to `each`.
    fn pour(&mut self, mut each: impl FnMut(&[u8])) {
        self.family = None;
        let mut line = Vec::new();
        while matches!(self.text.read_until(b'\n', &mut line), Ok(1..)) {
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            match text.split_first() {
                Some((&FAMILY, name)) => {
                    self.family = Some(name.to_vec());
                    return;
                }
                _ => each(text),
            }
            line.clear();
        }
    }
}

/// Where one page's lines go, while those of others do.
#[derive(Debug)]
pub struct Gathered<'g, G> {
    gather: &'g Mutex<G>,
    family: String,
}

impl<'g, G> Gathered<'g, G> {
    /// They go to `gather`.
    #[must_use]
    pub fn new(gather: &'g Mutex<G>) -> Self {
        Self {
            gather,
            family: String::new(),
        }
    }
}

impl<G: Gather> Sink for Gathered<'_, G> {
    const GROUPS: bool = true;

    fn family(&mut self, name: &str) {
        name.clone_into(&mut self.family);
    }

    fn write(&mut self, lines: &[u8]) {
        let mut gather = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
        gather.add(&self.family, lines);
    }

    fn is_full(&self) -> bool {
        let gather = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
        gather.is_full()
    }
}

#[cfg(test)]
mod tests;
