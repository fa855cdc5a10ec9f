//! Lines out of chunks, as they come from a connection.

use memchr::memchr;

/// The longest line that is read. Flink's have some 400 bytes.
const LONGEST: usize = 1 << 20;

/// Puts the chunks of a page together to lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// The line that is being read is too long, and is left out.
    skipping: bool,
    too_long: u64,
}

impl Lines {
    /// Gives each line that ends in `chunk` to `each`, without its end. Only a line that lies across two chunks is copied.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end];
            if self.skipping {
                self.skipping = false;
            } else if self.begun.is_empty() {
                each(line);
            } else {
                self.begun.extend_from_slice(line);
                each(&self.begun);
            }
            self.begun.clear();
            rest = &rest[end + 1..];
        }
        if self.skipping {
            return;
        }
        if self.begun.len() + rest.len() > LONGEST {
            self.skipping = true;
            self.too_long += 1;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(rest);
        }
    }

    /// How many lines were left out: those too long, and one whose end never came, which may have lost half a number.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.too_long + u64::from(!self.begun.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(
            text in "[ab\n]{0,200}",
            cuts in prop::collection::vec(0_usize..200, 0..20),
        ) {
            let mut lines = Lines::default();
            let mut seen: Vec<Vec<u8>> = Vec::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let mut from = 0;
            for cut in cuts {
                lines.feed(&text.as_bytes()[from..cut], |line| seen.push(line.to_vec()));
                from = cut;
            }
            let mut expected: Vec<Vec<u8>> = text.split('\n').map(|line| line.as_bytes().to_vec()).collect();
            let half = expected.pop().is_some_and(|last| !last.is_empty());
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(lines.lost(), u64::from(half));
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory() {
        let mut lines = Lines::default();
        let mut seen = 0;
        for _ in 0..100 {
            lines.feed(&[b'x'; 100_000], |_| seen += 1);
            assert!(lines.begun.capacity() <= 2 * LONGEST);
        }
        lines.feed(b"\na 1\n", |line| {
            assert_eq!(line, b"a 1");
            seen += 1;
        });
        assert_eq!((seen, lines.lost()), (1, 1));
    }
}
