//! Parquet's hybrid of run lengths and packed bits, which dictionary pages are indexed with. Pure.

/// Bits for the numbers below `count`; one at least, because not every reader takes none.
pub(super) fn width(count: usize) -> u8 {
    (usize::BITS - count.saturating_sub(1).leading_zeros()).max(1) as u8
}

/// Appends the numbers, each below `2^width`.
pub(super) fn encode(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    let mut at = 0;
    // Numbers that wait to be packed, in whole groups of eight.
    let mut from = 0;
    while at < numbers.len() {
        let run = numbers[at..].iter().take_while(|n| **n == numbers[at]).count();
        // A run pays from eight on, if what waits before it is whole groups.
        let missing = (8 - (at - from) % 8) % 8;
        if run >= 8 + missing {
            at += missing;
            pack(&numbers[from..at], width, out);
            let length = run - missing;
            varint((length as u64) << 1, out);
            out.extend_from_slice(&numbers[at].to_le_bytes()[..usize::from(width.div_ceil(8))]);
            at += length;
            from = at;
        } else {
            at += run;
        }
    }
    pack(&numbers[from..], width, out);
}

fn pack(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    if numbers.is_empty() {
        return;
    }
    varint(((numbers.len().div_ceil(8) as u64) << 1) | 1, out);
    let (mut bits, mut held) = (0_u64, 0);
    let padded = numbers.iter().copied().chain(std::iter::repeat(0)).take(numbers.len().next_multiple_of(8));
    for n in padded {
        bits |= u64::from(n) << held;
        held += u32::from(width);
        while held >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
    }
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads exactly `count` numbers, each below `below`; `None` if that is not what the bytes are.
pub(super) fn decode(mut bytes: &[u8], width: u8, count: usize, below: u32, out: &mut Vec<u32>) -> Option<()> {
    if width == 0 || width > 32 {
        return None;
    }
    out.clear();
    out.reserve(count);
    while out.len() < count {
        let head = read_varint(&mut bytes)?;
        let left = count - out.len();
        if head & 1 == 0 {
            let length = usize::try_from(head >> 1).ok()?;
            let size = usize::from(width.div_ceil(8));
            let (number, rest) = bytes.split_at_checked(size)?;
            bytes = rest;
            let mut padded = [0; 4];
            padded[..size].copy_from_slice(number);
            let number = u32::from_le_bytes(padded);
            if number >= below || length > left {
                return None;
            }
            out.resize(out.len() + length, number);
        } else {
            let groups = usize::try_from(head >> 1).ok()?;
            let size = groups.checked_mul(width.into())?;
            let (packed, rest) = bytes.split_at_checked(size)?;
            bytes = rest;
            let take = groups.checked_mul(8)?.min(left);
            unpack(packed, width, take, below, out)?;
        }
    }
    Some(())
}

fn unpack(packed: &[u8], width: u8, take: usize, below: u32, out: &mut Vec<u32>) -> Option<()> {
    let mask = (1_u64 << width) - 1;
    let width = usize::from(width);
    let mut greatest = 0;
    for i in 0..take {
        let bit = i * width;
        let (byte, shift) = (bit / 8, bit % 8);
        // Eight bytes at once where they are there; 32 bits and a shift of 7 fit into them.
        let word = match packed.get(byte..byte + 8) {
            Some(eight) => u64::from_le_bytes(eight.try_into().unwrap_or_default()),
            None => {
                let mut last = [0; 8];
                let tail = &packed[byte..];
                last[..tail.len()].copy_from_slice(tail);
                u64::from_le_bytes(last)
            }
        };
        let number = ((word >> shift) & mask) as u32;
        greatest = greatest.max(number);
        out.push(number);
    }
    (greatest < below).then_some(())
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(runs in proptest::collection::vec((0_u32..5000, 1_usize..40), 0..60), extra in 0_u8..5) {
            let numbers: Vec<u32> = runs.iter().flat_map(|(n, times)| std::iter::repeat_n(*n, *times)).collect();
            let below = numbers.iter().max().map_or(1, |m| m + 1);
            let width = width(below as usize) + extra;
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            encode(&numbers, width, &mut bytes);
            prop_assert!(decode(&bytes, width, numbers.len(), below, &mut back).is_some());
            prop_assert_eq!(&back, &numbers);
            if below > 1 && !numbers.is_empty() {
                prop_assert!(decode(&bytes, width, numbers.len(), below - 1, &mut back).is_none());
                prop_assert!(decode(&bytes[..bytes.len() - 1], width, numbers.len(), below, &mut back).is_none());
            }
        }

        #[test]
        fn garbage_is_refused_or_read_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), width in 0_u8..40) {
            let _ = decode(&bytes, width, 100, 1000, &mut Vec::new());
        }
    }

    #[test]
    fn widths() {
        assert_eq!([0, 1, 2, 3, 4, 5, 256, 257].map(width), [1, 1, 1, 2, 2, 3, 8, 9]);
    }
}
