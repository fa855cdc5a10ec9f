//! A page in memory, compressed, and the answers that are made of it.
//!
//! A page of Flink is a hundred times as long as what it says, so it is held as a deflate stream that is never ended: an
//! answer is that stream, with a few lines more and an end, or what it says.

use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::lines::Lines;
use super::merge::{Counts, Merger, Sink};
use super::openmetrics::Translator;
use super::relabel::Rules;

/// How much is compressed at a time.
const PIECE: usize = 64 << 10;

/// How long the compressed page may become.
const MOST: usize = 64 << 20;

/// The first bytes of every gzip file that names no file and no time (RFC 1952).
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// Lines that go into a deflate stream.
pub struct Deflater {
    stream: Compress,
    checksum: Crc,
    waiting: Vec<u8>,
    out: Vec<u8>,
}

impl Default for Deflater {
    fn default() -> Self {
        Self {
            stream: Compress::new(Compression::fast(), false),
            checksum: Crc::new(),
            waiting: Vec::with_capacity(PIECE),
            out: Vec::new(),
        }
    }
}

impl Sink for Deflater {
    fn write(&mut self, lines: &[u8]) {
        self.waiting.extend_from_slice(lines);
        if self.waiting.len() >= PIECE {
            self.compress(FlushCompress::None);
        }
    }

    fn is_full(&self) -> bool {
        self.out.len() >= MOST
    }
}

impl Deflater {
    fn compress(&mut self, flush: FlushCompress) {
        self.checksum.update(&self.waiting);
        let mut used = 0;
        loop {
            self.out.reserve(PIECE / 4);
            let before = self.stream.total_in();
            let rest = &self.waiting[used..];
            let status = self.stream.compress_vec(rest, &mut self.out, flush);
            used += usize::try_from(self.stream.total_in() - before).unwrap_or(rest.len());
            let room = self.out.len() < self.out.capacity();
            let done = used == self.waiting.len() && room;
            if done || !matches!(status, Ok(Status::Ok)) {
                break;
            }
        }
        self.waiting.clear();
    }

    fn finish(mut self, flush: FlushCompress) -> Deflated {
        self.compress(flush);
        self.out.shrink_to_fit();
        Deflated {
            bytes: self.out.into(),
            checksum: Arc::new(self.checksum),
        }
    }
}

/// A part of a deflate stream, and the checksum of what it says.
#[derive(Debug, Clone)]
struct Deflated {
    bytes: Bytes,
    checksum: Arc<Crc>,
}

impl Deflated {
    /// Gives what it says to `each`, piece by piece.
    fn inflate(&self, mut each: impl FnMut(&[u8])) {
        for piece in Inflater::new(self.bytes.clone()) {
            each(&piece);
        }
    }
}

/// What a deflate stream says, piece by piece.
pub struct Inflater {
    stream: Decompress,
    rest: Bytes,
}

impl Inflater {
    fn new(bytes: Bytes) -> Self {
        Self {
            stream: Decompress::new(false),
            rest: bytes,
        }
    }
}

impl Iterator for Inflater {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::with_capacity(PIECE);
        let before = self.stream.total_in();
        let status = self
            .stream
            .decompress_vec(&self.rest, &mut piece, FlushDecompress::None);
        let used = usize::try_from(self.stream.total_in() - before).ok()?;
        self.rest = self.rest.slice(used..);
        (status.is_ok() && !piece.is_empty()).then(|| piece.into())
    }
}

/// A page that is being read.
pub struct Reader<'r> {
    lines: Lines,
    merger: Merger<'r, Deflater>,
    limit: u64,
}

impl<'r> Reader<'r> {
    /// A page of at most `limit` series.
    #[must_use]
    pub fn new(rules: &'r Rules, limit: u64) -> Self {
        Self {
            lines: Lines::default(),
            merger: Merger::new(rules, limit, Deflater::default()),
            limit,
        }
    }

    /// Takes a chunk as it comes from the connection.
    pub fn feed(&mut self, chunk: &[u8]) {
        let merger = &mut self.merger;
        self.lines.feed(chunk, |line| merger.line(line));
    }

    /// The page, when there is no more. A family that came in several pieces becomes one in a second pass.
    #[must_use]
    pub fn finish(self) -> Page {
        let lost = self.lines.lost();
        let mut merged = self.merger.finish();
        merged.counts.invalid += lost;
        if merged.late.is_empty() {
            return Page {
                text: merged.sink.finish(FlushCompress::Sync),
                counts: merged.counts,
                differs: merged.differs,
            };
        }
        let first = merged.sink.finish(FlushCompress::Sync);
        let rules = Rules::default();
        let mut merger = Merger::regroup(&rules, self.limit, Deflater::default(), merged.late);
        let mut lines = Lines::default();
        first.inflate(|piece| lines.feed(piece, |line| merger.line(line)));
        let again = merger.finish();
        let mut counts = merged.counts;
        counts.series = again.counts.series;
        counts.duplicates += again.counts.duplicates;
        counts.over_limit += again.counts.over_limit;
        Page {
            text: again.sink.finish(FlushCompress::Sync),
            counts,
            differs: again.differs,
        }
    }
}

/// What Flink said at one time.
#[derive(Debug, Clone)]
pub struct Page {
    text: Deflated,
    counts: Counts,
    differs: bool,
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
