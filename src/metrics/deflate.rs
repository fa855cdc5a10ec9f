//! Text in memory, compressed: a page of Flink is a hundred times as long as what it says.

use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::merge::Sink;

/// How much is compressed at a time.
const PIECE: usize = 64 << 10;

/// How long the compressed text may become.
const MOST: usize = 64 << 20;

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

    /// The stream, which goes on or ends.
    #[must_use]
    pub fn finish(mut self, flush: FlushCompress) -> Deflated {
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
pub struct Deflated {
    /// The compressed bytes.
    pub bytes: Bytes,
    /// That of the text.
    pub checksum: Arc<Crc>,
}

impl Deflated {
    /// Gives what it says to `each`, piece by piece.
    pub fn inflate(&self, mut each: impl FnMut(&[u8])) {
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
    /// What `bytes` say.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
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
