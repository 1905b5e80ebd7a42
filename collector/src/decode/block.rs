//! Sixteen bytes at a time: which of them end or interrupt a piece of text. The only place that knows vectors;
//! it must never look past the end of what it is given.

use wide::u8x16;

/// Bytes of one block.
const WIDTH: usize = 16;
/// Bytes of a wide one: as many as a word has bits.
pub(super) const WIDE: usize = 64;

/// Of a JSON string: bit `i` is set where byte `i` is a quote, a backslash or a control character.
#[inline]
fn string_stops(block: &[u8; WIDTH]) -> u32 {
    let bytes = u8x16::new(*block);
    let quotes = bytes.simd_eq(u8x16::splat(b'"'));
    let backslashes = bytes.simd_eq(u8x16::splat(b'\\'));
    let controls = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    (quotes | backslashes | controls).to_bitmask()
}

/// The block at `at`, unless fewer bytes are left.
#[inline]
fn block(bytes: &[u8], at: usize) -> Option<&[u8; WIDTH]> {
    bytes.get(at..)?.first_chunk()
}

/// The same of a wide block.
#[inline]
pub(super) fn wide(bytes: &[u8], at: usize) -> Option<&[u8; WIDE]> {
    bytes.get(at..)?.first_chunk()
}

/// Of a JSON string, as [`string_stops`].
#[inline]
pub(super) fn wide_stops(block: &[u8; WIDE]) -> u64 {
    let (blocks, _) = block.as_chunks::<WIDTH>();
    blocks.iter().rev().fold(0, |stops, block| stops << WIDTH | u64::from(string_stops(block)))
}

/// The first byte at or behind `at` that ends or interrupts a JSON string.
#[inline]
pub(super) fn string_stop(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(block) = block(bytes, at) {
        let stops = string_stops(block);
        if stops != 0 {
            return Some(at + stops.trailing_zeros() as usize);
        }
        at += WIDTH;
    }
    let tail = bytes.get(at..)?;
    tail.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)).map(|found| at + found)
}

/// Whether a control character other than the tab stands anywhere.
#[inline]
pub(super) fn holds_control(bytes: &[u8]) -> bool {
    let (blocks, tail) = bytes.as_chunks::<WIDTH>();
    let mut found = u8x16::splat(0);
    for block in blocks {
        let block = u8x16::new(*block);
        let controls = block.min(u8x16::splat(0x1f)).simd_eq(block);
        found |= controls & !block.simd_eq(u8x16::splat(b'\t'));
    }
    found.to_bitmask() != 0 || tail.iter().any(|b| *b < 0x20 && *b != b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_the_same_in_a_block_and_behind_it() {
        for byte in 0..=255u8 {
            let stops = matches!(byte, b'"' | b'\\') || byte < 0x20;
            let control = byte < 0x20 && byte != b'\t';
            for length in [1, 15, 16, 17, 40] {
                for place in [0, length / 2, length - 1] {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    let mut wide = [b'a'; WIDE];
                    wide[place] = byte;
                    assert_eq!(wide_stops(&wide), u64::from(stops) << place, "{byte:#x} at {place}");
                    assert_eq!(string_stop(&text, 0), stops.then_some(place), "{byte:#x} at {place} of {length}");
                    assert_eq!(holds_control(&text), control, "{byte:#x} at {place} of {length}");
                }
            }
        }
        assert_eq!(string_stop(b"ab\"", 3), None);
        assert_eq!(string_stop(b"ab\"", 9), None);
    }
}
