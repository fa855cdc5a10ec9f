//! Reads big-endian Java `DataOutput` from a byte slice: never past its end, never allocating more than the slice holds.

use std::borrow::Cow;

use super::MetadataError;

/// A position in the bytes of one `_metadata` file.
///
/// Every method names what it reads, so that an error tells a person which part of the file is missing or damaged.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// A reader at the same offset that ends after at most `length` more bytes.
    pub(super) fn prefix(&self, length: usize) -> Self {
        let end = self.offset.saturating_add(length).min(self.bytes.len());
        Self {
            bytes: &self.bytes[..end],
            offset: self.offset,
        }
    }

    /// The error for a value of `size` bytes that was just read.
    pub(super) fn corrupt(&self, size: usize, reading: &'static str, value: i64) -> MetadataError {
        MetadataError::Corrupt {
            offset: self.offset.saturating_sub(size) as u64,
            reading,
            value,
        }
    }

    /// The next `count` bytes, borrowed: inline state is skipped without being copied.
    pub(super) fn take(
        &mut self,
        count: usize,
        reading: &'static str,
    ) -> Result<&'a [u8], MetadataError> {
        let end = self
            .offset
            .checked_add(count)
            .filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(MetadataError::Truncated {
                offset: self.bytes.len() as u64,
                reading,
            });
        };
        let taken = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, reading: &'static str) -> Result<[u8; N], MetadataError> {
        let taken = self.take(N, reading)?;
        Ok(taken
            .try_into()
            .expect("take returns exactly the bytes asked for"))
    }

    pub(super) fn u8(&mut self, reading: &'static str) -> Result<u8, MetadataError> {
        self.array::<1>(reading).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, reading: &'static str) -> Result<u16, MetadataError> {
        self.array(reading).map(u16::from_be_bytes)
    }

    pub(super) fn i32(&mut self, reading: &'static str) -> Result<i32, MetadataError> {
        self.array(reading).map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self, reading: &'static str) -> Result<i64, MetadataError> {
        self.array(reading).map(i64::from_be_bytes)
    }

    /// An `i32` that counts or measures something; negative is corrupt.
    pub(super) fn count(&mut self, reading: &'static str) -> Result<usize, MetadataError> {
        let value = self.i32(reading)?;
        usize::try_from(value).map_err(|_| self.corrupt(4, reading, i64::from(value)))
    }

    /// An `i64` that measures bytes; negative is corrupt.
    pub(super) fn size(&mut self, reading: &'static str) -> Result<u64, MetadataError> {
        let value = self.i64(reading)?;
        u64::try_from(value).map_err(|_| self.corrupt(8, reading, value))
    }

    /// A number that Flink writes as 0 or 1.
    pub(super) fn flag(&mut self, reading: &'static str) -> Result<bool, MetadataError> {
        match self.i32(reading)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.corrupt(4, reading, i64::from(other))),
        }
    }

    /// Skips `count` longs.
    pub(super) fn skip_longs(
        &mut self,
        count: usize,
        reading: &'static str,
    ) -> Result<(), MetadataError> {
        self.take(count.saturating_mul(8), reading).map(drop)
    }

    /// A string as `DataInputStream.readUTF` accepts it: a length and "modified UTF-8".
    pub(super) fn utf(&mut self, reading: &'static str) -> Result<Cow<'a, str>, MetadataError> {
        let length = usize::from(self.u16(reading)?);
        let start = self.offset;
        let raw = self.take(length, reading)?;
        if raw.is_ascii() {
            return Ok(String::from_utf8_lossy(raw));
        }
        let units = decode_modified_utf8(raw).map_err(|at| MetadataError::Corrupt {
            offset: (start + at) as u64,
            reading,
            value: i64::from(raw[at]),
        })?;
        Ok(Cow::Owned(String::from_utf16_lossy(&units)))
    }
}

/// UTF-16 units of Java's modified UTF-8, or the index of the first byte that `readUTF` refuses.
///
/// Written out because the crates at hand either refuse a lone surrogate, which Java accepts, or accept bytes that Java
/// refuses.
fn decode_modified_utf8(raw: &[u8]) -> Result<Vec<u16>, usize> {
    let continuation = |at: usize| match raw.get(at) {
        Some(byte) if byte & 0xc0 == 0x80 => Ok(u16::from(byte & 0x3f)),
        Some(_) => Err(at),
        None => Err(raw.len() - 1),
    };
    let mut units = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&first) = raw.get(at) {
        match first >> 4 {
            0..=7 => {
                units.push(u16::from(first));
                at += 1;
            }
            0xc | 0xd => {
                units.push(u16::from(first & 0x1f) << 6 | continuation(at + 1)?);
                at += 2;
            }
            0xe => {
                units.push(
                    u16::from(first & 0x0f) << 12
                        | continuation(at + 1)? << 6
                        | continuation(at + 2)?,
                );
                at += 3;
            }
            _ => return Err(at),
        }
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf(raw: &[u8]) -> Result<String, MetadataError> {
        let length = u16::try_from(raw.len()).expect("short");
        let bytes = [&length.to_be_bytes(), raw].concat();
        Reader::new(&bytes).utf("a name").map(Cow::into_owned)
    }

    #[test]
    fn a_string_is_read_as_java_wrote_it() {
        assert_eq!(utf(b"map").ok().as_deref(), Some("map"));
        assert_eq!(utf("Zähler".as_bytes()).ok().as_deref(), Some("Zähler"));
        assert_eq!(
            utf(&[b'a', 0xc0, 0x80]).ok().as_deref(),
            Some("a\0"),
            "NUL takes two bytes in Java"
        );
        let squirrel = [0xed, 0xa0, 0xbd, 0xed, 0xb0, 0xbf];
        assert_eq!(
            utf(&squirrel).ok().as_deref(),
            Some("🐿"),
            "two surrogates of three bytes each"
        );
        assert_eq!(
            utf(&squirrel[..3]).ok().as_deref(),
            Some("\u{fffd}"),
            "Java accepts a lone surrogate"
        );
    }

    #[test]
    fn a_string_that_java_refuses_is_corrupt() {
        for raw in [
            &[0xff][..],
            &[0x80],
            &[0xc3],
            &[0xc3, 0x28],
            &[0xe2, 0x82],
            "🐿".as_bytes(),
        ] {
            assert!(
                matches!(utf(raw), Err(MetadataError::Corrupt { .. })),
                "{raw:x?}"
            );
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_truncated_not_allocated() {
        let mut reader = Reader::new(&[0; 3]);
        assert!(matches!(
            reader.skip_longs(usize::MAX, "x"),
            Err(MetadataError::Truncated { offset: 3, .. })
        ));
        assert_eq!(reader.offset(), 0);
    }
}
