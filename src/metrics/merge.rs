//! Many lines to one page: each family once, each series once.
//!
//! Promises: names and values stay as they came; of what contradicts itself the first counts; nothing that comes in can
//! take more memory than some bytes for each series. What is left out is counted.

mod series;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use super::line::{Flaw, Kind, Labels, Line, Sample, read};
use super::relabel::Rules;

/// How much of families that are in several places of a page is kept until the end, in bytes.
const MOST_LATE: usize = 4 << 20;

/// Endings that a series shares with the summary or histogram that it may belong to.
const SUFFIXES: [&str; 3] = ["_sum", "_count", "_bucket"];

/// What the names of Drey's own series begin with. A page of somebody else's that has such ones cannot be put before them.
const RESERVED: &str = "drey_";

/// Where a page is written to.
pub trait Sink {
    /// It puts the pieces of families together, and finds what is in them twice, later and by itself.
    const GROUPS: bool = false;

    /// What comes now is of this family.
    fn family(&mut self, _name: &str) {}

    /// Takes whole lines.
    fn write(&mut self, lines: &[u8]);

    /// Nothing more goes in.
    fn is_full(&self) -> bool;
}

/// A page in memory.
impl Sink for Vec<u8> {
    fn write(&mut self, lines: &[u8]) {
        self.extend_from_slice(lines);
    }

    fn is_full(&self) -> bool {
        false
    }
}

/// How many lines went where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Series that are in the page.
    pub series: u64,
    /// Series that were in it already.
    pub duplicates: u64,
    /// Lines that Prometheus would not have taken.
    pub invalid: u64,
    /// Kinds of a family that has another one already.
    pub conflicts: u64,
    /// Series that the rules drop.
    pub filtered: u64,
    /// Series with a name as Drey's own.
    pub reserved: u64,
    /// Series beyond the limit.
    pub over_limit: u64,
    /// Times of samples, which were taken off: with them Prometheus would show a series for five minutes after its end.
    pub timestamps: u64,
}

impl Counts {
    /// Those of a page that went through two passes.
    #[must_use]
    pub fn then(self, second: Self) -> Self {
        Self {
            series: second.series,
            duplicates: self.duplicates + second.duplicates,
            over_limit: self.over_limit + second.over_limit,
            ..self
        }
    }

    /// Those of two pages.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            series: self.series + other.series,
            duplicates: self.duplicates + other.duplicates,
            invalid: self.invalid + other.invalid,
            conflicts: self.conflicts + other.conflicts,
            filtered: self.filtered + other.filtered,
            reserved: self.reserved + other.reserved,
            over_limit: self.over_limit + other.over_limit,
            timestamps: self.timestamps + other.timestamps,
        }
    }
}

/// Hashes that are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Hashes = HashSet<u64, BuildHasherDefault<Same>>;

/// The family whose lines come now.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: Option<Kind>,
    help: Option<String>,
    /// A series of it has come that neither the rules nor the limit left out.
    begun: bool,
    /// Its HELP and TYPE are written.
    headed: bool,
    /// It has been in the page already.
    known: bool,
}

impl Family {
    fn owns(&self, series: &str) -> bool {
        let suffixes = self.kind.map_or(&[][..], Kind::suffixes);
        match series.strip_prefix(self.name.as_str()) {
            Some("") => !self.name.is_empty(),
            Some(suffix) => suffixes.contains(&suffix),
            None => false,
        }
    }
}

/// Lines that came after their family was left.
#[derive(Debug, Default)]
pub struct Late {
    lines: BTreeMap<String, Vec<u8>>,
    size: usize,
}

impl Late {
    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Makes one page of lines.
pub struct Merger<'r, S> {
    rules: &'r Rules,
    /// The page is Drey's own.
    own: bool,
    limit: u64,
    sink: S,
    counts: Counts,
    random: RandomState,
    /// All families so far, by the hash of the name.
    families: HashMap<u64, Option<Kind>, BuildHasherDefault<Same>>,
    /// The series of this family.
    series: Hashes,
    /// The series of all families that could be of two of them.
    ambiguous: Hashes,
    family: Family,
    late: Late,
    /// What is late belongs into this page, at the end of its family.
    regrouping: bool,
    labels: Labels,
    buffer: Vec<u8>,
    differs: bool,
}

/// What has become of the lines.
pub struct Merged<S> {
    /// Where they went.
    pub sink: S,
    /// How many there were.
    pub counts: Counts,
    /// What has to go into the page in a second pass.
    pub late: Late,
    /// OpenMetrics would write this page in another way.
    pub differs: bool,
}

impl<'r, S: Sink> Merger<'r, S> {
    /// A page of at most `limit` series, none of them with a name as Drey's own, that goes to `sink`.
    pub fn new(rules: &'r Rules, limit: u64, sink: S) -> Self {
        Self {
            rules,
            own: false,
            limit,
            sink,
            counts: Counts::default(),
            random: RandomState::new(),
            families: HashMap::default(),
            series: Hashes::default(),
            ambiguous: Hashes::default(),
            family: Family::default(),
            late: Late::default(),
            regrouping: false,
            labels: Labels::default(),
            buffer: Vec::new(),
            differs: false,
        }
    }

    /// The page of Drey's own series, which is served behind Flink's.
    pub fn own(rules: &'r Rules, sink: S) -> Self {
        let mut merger = Self::new(rules, u64::MAX, sink);
        merger.own = true;
        merger
    }

    /// A second pass over a page, in which `late` comes where it belongs.
    pub fn regroup(rules: &'r Rules, limit: u64, sink: S, late: Late) -> Self {
        let mut merger = Self::new(rules, limit, sink);
        merger.late = late;
        merger.regrouping = true;
        merger
    }

    /// Takes one line.
    pub fn line(&mut self, line: &[u8]) {
        let mut labels = std::mem::take(&mut self.labels);
        let read = std::str::from_utf8(line)
            .map_err(|_| Flaw)
            .and_then(|line| Ok((line, read(line, &mut labels)?)));
        match read {
            Err(Flaw) => self.counts.invalid += 1,
            Ok((_, Line::Nothing)) => {}
            Ok((_, Line::Help { family, text })) => self.help(family, text),
            Ok((_, Line::Type { family, kind })) => self.kind(family, kind),
            Ok((line, Line::Sample(sample))) => self.sample(&sample, line, &labels),
        }
        self.labels = labels;
    }

    /// The page is complete.
    pub fn finish(mut self) -> Merged<S> {
        self.close();
        while self.regrouping
            && let Some(name) = self.late.lines.keys().next().cloned()
        {
            // The first pass has seen the family, and kept nothing of it.
            self.open(&name);
            self.close();
        }
        Merged {
            sink: self.sink,
            counts: self.counts,
            late: self.late,
            differs: self.differs,
        }
    }

    fn help(&mut self, family: &str, text: &str) {
        if self.family.name != family {
            self.open(family);
        }
        if self.family.help.is_none() && !self.family.begun && !self.is_late() {
            self.family.help = Some(text.to_owned());
        }
    }

    fn kind(&mut self, family: &str, kind: Kind) {
        if self.family.name != family {
            self.open(family);
        }
        match self.family.kind {
            Some(known) if known == kind => {}
            None if !self.family.begun && !self.is_late() => {
                self.family.kind = Some(kind);
                let hash = self.random.hash_one(family);
                self.families.insert(hash, Some(kind));
            }
            _ => self.counts.conflicts += 1,
        }
    }

    /// Leaves the family for another one. Of a family of which nothing is in the page, nothing is remembered: what comes of it
    /// later would wait for a place that there is not.
    fn open(&mut self, name: &str) {
        self.close();
        if !self.family.headed && !self.family.known {
            let hash = self.random.hash_one(self.family.name.as_str());
            self.families.remove(&hash);
        }
        let hash = self.random.hash_one(name);
        let known = self.families.get(&hash).copied();
        self.family = Family {
            name: name.to_owned(),
            kind: known.flatten(),
            known: known.is_some(),
            ..Family::default()
        };
        if known.is_none() {
            self.families.insert(hash, None);
        }
    }

    fn close(&mut self) {
        if self.regrouping
            && let Some(lines) = self.late.lines.remove(&self.family.name)
        {
            for line in lines.split(|byte| *byte == b'\n') {
                self.line(line);
            }
        }
        self.series.clear();
    }

    fn sample(&mut self, sample: &Sample<'_>, line: &str, labels: &Labels) {
        if !self.family.owns(sample.name) {
            self.open(sample.name);
        }
        self.counts.timestamps += u64::from(sample.timed);
        if !self.own && sample.name.starts_with(RESERVED) {
            self.counts.reserved += 1;
            return;
        }
        if !self.rules.keeps(sample.name, labels.of(line)) {
            self.counts.filtered += 1;
            return;
        }
        if self.counts.series >= self.limit || self.sink.is_full() {
            self.counts.over_limit += 1;
            return;
        }
        // Only of families that are in the page something is kept: else a page of nothing but new names would have no end.
        self.family.begun = true;
        let buffer = &mut self.buffer;
        let hash = series::write(buffer, self.rules, &self.random, sample, line, labels);
        if self.is_late() {
            self.keep_late();
        } else if self.is_new(sample.name, hash) {
            self.head();
            self.sink.write(&self.buffer);
            self.counts.series += 1;
        } else {
            self.counts.duplicates += 1;
        }
    }

    fn keep_late(&mut self) {
        if self.late.size + self.buffer.len() > MOST_LATE {
            self.counts.over_limit += 1;
            return;
        }
        self.late.size += self.buffer.len();
        let lines = self.late.lines.entry(self.family.name.clone()).or_default();
        lines.extend_from_slice(&self.buffer);
    }

    /// What comes now waits for the end of the page.
    fn is_late(&self) -> bool {
        self.family.known && !S::GROUPS
    }

    fn is_new(&mut self, name: &str, hash: u64) -> bool {
        if S::GROUPS {
            true
        } else if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            self.ambiguous.insert(hash)
        } else {
            self.series.insert(hash)
        }
    }

    /// Writes HELP and TYPE, once there is something to say it about.
    fn head(&mut self) {
        let family = &mut self.family;
        if family.headed {
            return;
        }
        family.headed = true;
        self.sink.family(&family.name);
        if let Some(text) = &family.help {
            self.differs |= text.contains('"');
            let help = format!("# HELP {} {text}\n", family.name);
            self.sink.write(help.as_bytes());
        }
        if let Some(kind) = family.kind {
            self.differs |= matches!(kind, Kind::Counter | Kind::Untyped);
            let text = format!("# TYPE {} {}\n", family.name, kind.name());
            self.sink.write(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
