//! A page in memory, compressed, and the answers that are made of it.
//!
//! A page of Flink is a hundred times as long as what it says, so it is held as a deflate stream that is never ended: an
//! answer is that stream, with a few lines more and an end, or what it says.

use bytes::Bytes;
use flate2::{Crc, FlushCompress};

use super::deflate::{Deflated, Deflater, Inflater};
use super::lines::Lines;
use super::merge::{Counts, Merged, Merger, Sink};
use super::openmetrics::Translator;
use super::relabel::Rules;
use super::spool::{Gather, Gathered};

/// The first bytes of every gzip file that names no file and no time (RFC 1952).
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// A page that is being read.
pub struct Reader<'r, S = Deflater> {
    lines: Lines,
    merger: Merger<'r, S>,
    limit: u64,
}

impl<'r> Reader<'r> {
    /// A page of at most `limit` series.
    #[must_use]
    pub fn new(rules: &'r Rules, limit: u64) -> Self {
        Self::into(rules, limit, Deflater::default())
    }
}

impl<'r, S: Sink> Reader<'r, S> {
    /// A page of at most `limit` series, that goes to `sink`.
    #[must_use]
    pub fn into(rules: &'r Rules, limit: u64, sink: S) -> Self {
        Self {
            lines: Lines::default(),
            merger: Merger::new(rules, limit, sink),
            limit,
        }
    }

    /// Takes a chunk as it comes from the connection.
    pub fn feed(&mut self, chunk: &[u8]) {
        let merger = &mut self.merger;
        self.lines.feed(chunk, |line| merger.line(line));
    }

    fn end(self) -> Merged<S> {
        let lost = self.lines.lost();
        let mut merged = self.merger.finish();
        merged.counts.invalid += lost;
        merged
    }
}

impl<G: Gather> Reader<'_, Gathered<'_, G>> {
    /// How many lines went where, when there are no more.
    #[must_use]
    pub fn counts(self) -> Counts {
        self.end().counts
    }
}

impl Reader<'_> {
    /// The page, when there is no more.
    #[must_use]
    pub fn finish(self) -> Page {
        let limit = self.limit;
        Page::settled(self.end(), limit)
    }
}

/// What Flink said at one time.
#[derive(Debug, Clone)]
pub struct Page {
    text: Deflated,
    counts: Counts,
    differs: bool,
}

impl From<Merged<Deflater>> for Page {
    fn from(merged: Merged<Deflater>) -> Self {
        Self {
            text: merged.sink.finish(FlushCompress::Sync),
            counts: merged.counts,
            differs: merged.differs,
        }
    }
}

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Page {
    /// A page that says nothing.
    #[must_use]
    pub fn empty() -> Self {
        Reader::new(&Rules::default(), 0).finish()
    }

    /// How many lines went where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The page of all that was merged. A family that came in several pieces becomes one in a second pass.
    #[must_use]
    pub fn settled(merged: Merged<Deflater>, limit: u64) -> Self {
        if merged.late.is_empty() {
            return merged.into();
        }
        let first = merged.sink.finish(FlushCompress::Sync);
        let rules = Rules::default();
        let mut merger = Merger::regroup(&rules, limit, Deflater::default(), merged.late);
        let mut lines = Lines::default();
        first.inflate(|piece| lines.feed(piece, |line| merger.line(line)));
        let again = Self::from(merger.finish());
        let counts = merged.counts.then(again.counts);
        again.counted(counts)
    }

    /// The same page, of which more is known.
    #[must_use]
    pub fn counted(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.bytes.len()
    }

    /// The page in `format`, with the lines of `own`, which are in the text format, at its end.
    #[must_use]
    pub fn with(&self, own: &str, format: Format) -> Answer {
        match format {
            Format::Text => Answer {
                page: self.text.clone(),
                own: own.to_owned(),
            },
            Format::OpenMetrics => {
                let mut translated = Deflater::default();
                let page = if self.differs {
                    translate(
                        |each| self.text.inflate(each),
                        |lines| translated.write(lines),
                    );
                    translated.finish(FlushCompress::Sync)
                } else {
                    self.text.clone()
                };
                let mut text = Vec::new();
                translate(
                    |each| each(own.as_bytes()),
                    |lines| text.extend_from_slice(lines),
                );
                text.extend_from_slice(b"# EOF\n");
                let own = String::from_utf8(text).unwrap_or_default();
                Answer { page, own }
            }
        }
    }
}

fn translate(text: impl FnOnce(&mut dyn FnMut(&[u8])), mut out: impl FnMut(&[u8])) {
    let mut translator = Translator::default();
    let mut lines = Lines::default();
    text(&mut |piece| lines.feed(piece, |line| translator.line(line, &mut out)));
    translator.finish(&mut out);
}

/// An answer to one scrape.
#[derive(Debug)]
pub struct Answer {
    page: Deflated,
    own: String,
}

impl Answer {
    /// As a gzip file.
    #[must_use]
    pub fn gzip(&self) -> Bytes {
        let mut own = Deflater::default();
        own.write(self.own.as_bytes());
        let own = own.finish(FlushCompress::Finish);
        let mut checksum = Crc::new();
        checksum.combine(&self.page.checksum);
        checksum.combine(&own.checksum);
        let mut file = Vec::with_capacity(self.page.bytes.len() + own.bytes.len() + 18);
        file.extend_from_slice(&GZIP);
        file.extend_from_slice(&self.page.bytes);
        file.extend_from_slice(&own.bytes);
        file.extend_from_slice(&checksum.sum().to_le_bytes());
        file.extend_from_slice(&checksum.amount().to_le_bytes());
        file.into()
    }

    /// As it is, piece by piece.
    pub fn plain(self) -> impl Iterator<Item = Bytes> {
        let own = (!self.own.is_empty()).then(|| Bytes::from(self.own));
        Inflater::new(self.page.bytes).chain(own)
    }
}

#[cfg(test)]
mod tests;
