//! Cuts a file's bytes into lines, whatever the pieces they arrive in. Pure; it must never hold more than one
//! chunk, however long a line is.

use crate::decode::MAX_LINE;

/// Bytes that are read at once and held at most: some 2,000 lines, a few milliseconds of work.
pub(crate) const CHUNK: usize = 512 * 1024;
/// Most lines of one chunk. One chunk is at most one record per partition; with at most some 400 bytes for an
/// event with the longest page, that is 1.7 MB, far below what the log and its codec take.
pub(crate) const MAX_CHUNK_LINES: usize = 4_096;
/// Most bytes that a file keeps for itself between two chunks: half a line of the longest kind.
const SMALL: usize = MAX_LINE + 1;
/// Bytes kept of a line that is too long to be held.
const HEAD: usize = crate::store::MAX_DEAD_BYTES;

/// A line as it was cut.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut<'a> {
    /// A line without its `\n`.
    Line(&'a [u8]),
    /// A line too long to be held: its first bytes.
    TooLong(&'a [u8]),
}

/// The bytes that were read and not yet cut.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// File offset of `bytes[0]`.
    base: u64,
    oversize: Option<Oversize>,
}

#[derive(Debug)]
struct Oversize {
    offset: u64,
    head: Vec<u8>,
}

impl Lines {
    pub fn starting_at(offset: u64) -> Self {
        Self { base: offset, ..Self::default() }
    }
    /// Offset of the first line that has not been cut: where to read on after a restart.
    pub fn position(&self) -> u64 {
        self.oversize.as_ref().map_or(self.base, |line| line.offset)
    }
    /// Offset of the next byte to be read.
    pub fn read_end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Reads up to a chunk with `read(buffer, offset)`, of which `more` bytes are known to be there; answers how many
    /// came. On an error, nothing changes that matters: what was read is kept.
    pub fn fill(
        &mut self,
        more: u64,
        mut read: impl FnMut(&mut [u8], u64) -> std::io::Result<usize>,
    ) -> std::io::Result<usize> {
        let before = self.bytes.len();
        // Only as far as something is to come: of a thousand logs that grew by a line each, no chunk is cleared.
        let room = CHUNK.saturating_sub(before).min(usize::try_from(more).unwrap_or(usize::MAX));
        self.bytes.resize(before + room, 0);
        let mut end = before;
        let result = loop {
            if end == self.bytes.len() {
                break Ok(());
            }
            match read(&mut self.bytes[end..], self.base + end as u64) {
                Ok(0) => break Ok(()),
                Ok(n) => end += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.bytes.truncate(end);
        result.map(|()| end - before)
    }

    /// Takes the big buffer that all files share, to read into.
    pub fn borrow(&mut self, big: &mut Vec<u8>) {
        if self.bytes.capacity() < CHUNK {
            big.clear();
            big.extend_from_slice(&self.bytes);
            std::mem::swap(&mut self.bytes, big);
        }
    }
    /// Gives it back once all but half a line was cut.
    pub fn give_back(&mut self, big: &mut Vec<u8>) {
        if self.bytes.capacity() >= CHUNK && self.bytes.len() <= SMALL {
            let rest = self.bytes.as_slice().to_vec();
            *big = std::mem::replace(&mut self.bytes, rest);
        }
    }

    /// Forgets the last `count` bytes that were read.
    pub fn unread(&mut self, count: usize) {
        self.bytes.truncate(self.bytes.len().saturating_sub(count));
    }

    /// Cuts up to [`MAX_CHUNK_LINES`] lines. With `last`, what stands behind the last line end is a line too.
    pub fn cut(&mut self, last: bool, mut each: impl FnMut(u64, Cut<'_>)) {
        let mut start = 0;
        for _ in 0..MAX_CHUNK_LINES {
            let rest = &self.bytes[start..];
            let (line, next) = match memchr::memchr(b'\n', rest) {
                Some(end) => (&rest[..end], start + end + 1),
                None if last && (!rest.is_empty() || self.oversize.is_some()) => (rest, self.bytes.len()),
                None => {
                    if rest.len() > MAX_LINE || self.oversize.is_some() {
                        let offset = self.base + start as u64;
                        self.oversize
                            .get_or_insert_with(|| Oversize { offset, head: rest[..HEAD.min(rest.len())].to_vec() });
                        start = self.bytes.len();
                    }
                    break;
                }
            };
            match self.oversize.take() {
                Some(long) => each(long.offset, Cut::TooLong(&long.head)),
                None if line.len() > MAX_LINE + 1 => {
                    each(self.base + start as u64, Cut::TooLong(&line[..HEAD]));
                }
                None => each(self.base + start as u64, Cut::Line(line)),
            }
            start = next;
        }
        self.bytes.drain(..start);
        self.base += start as u64;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Feeds `text` in pieces of these sizes and answers the lines with their offsets.
    fn lines(text: &[u8], pieces: &[usize]) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::starting_at(100);
        let mut out = Vec::new();
        let mut at = 0;
        let mut pieces = pieces.iter().cycle();
        loop {
            let piece = (*pieces.next().unwrap()).min(text.len() - at);
            let mut given = false;
            lines
                .fill(u64::MAX, |buffer, offset| {
                    assert_eq!(offset, 100 + at as u64);
                    if given || piece == 0 {
                        return Ok(0);
                    }
                    given = true;
                    let n = piece.min(buffer.len());
                    buffer[..n].copy_from_slice(&text[at..at + n]);
                    at += n;
                    Ok(n)
                })
                .unwrap();
            let last = at == text.len();
            let before = (out.len(), lines.position());
            lines.cut(last, |offset, cut| match cut {
                Cut::Line(line) => out.push((offset, line.to_vec())),
                Cut::TooLong(head) => out.push((offset, [b"long:", &head[..4]].concat())),
            });
            assert!(lines.bytes.len() <= CHUNK);
            if last && before == (out.len(), lines.position()) {
                return out;
            }
        }
    }

    #[test]
    fn a_line_of_three_megabytes_is_one_dead_letter_and_the_next_line_is_whole() {
        let mut text = b"one\n".to_vec();
        text.extend(vec![b'x'; 3 << 20]);
        text.extend(b"\ntwo\r\nhalf");
        let expected = vec![
            (100, b"one".to_vec()),
            (104, b"long:xxxx".to_vec()),
            (105 + (3 << 20), b"two\r".to_vec()),
            (110 + (3 << 20), b"half".to_vec()),
        ];
        for piece in [7_000, 65_536, CHUNK] {
            assert_eq!(lines(&text, &[piece]), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn a_restart_in_a_long_line_begins_again_at_its_first_byte() {
        let mut lines = Lines::starting_at(5);
        let mut given = false;
        let read = |buffer: &mut [u8], _| {
            if std::mem::replace(&mut given, true) {
                return Ok(0);
            }
            buffer.fill(b'x');
            Ok(buffer.len())
        };
        lines.fill(u64::MAX, read).unwrap();
        lines.cut(false, |_, _| panic!("no line yet"));
        assert_eq!(lines.position(), 5);
        assert_eq!(lines.read_end(), 5 + CHUNK as u64);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_pieces(
            text in proptest::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'\n')], 0..300),
            pieces in proptest::collection::vec(1usize..40, 1..8),
        ) {
            let mut expected = Vec::new();
            let mut offset = 100;
            for line in text.split_inclusive(|b| *b == b'\n') {
                expected.push((offset, line.strip_suffix(b"\n").unwrap_or(line).to_vec()));
                offset += line.len() as u64;
            }
            prop_assert_eq!(lines(&text, &pieces), expected);
        }
    }
}
