//! Members that were validated before, recognised by comparing bytes instead of parsing them again. Sound
//! because equal bytes parse equally: only what delimits itself (object, array, string) is kept. Bounded.

use super::{Fact, Place, Span};

/// Members remembered, two for each slot. A shipper's record has about eight constant ones and writes each map's keys
/// in several orders.
const SLOTS: usize = 256;
/// Lengths of a member that is kept: a shorter one is parsed as fast, a longer one is no shipper's constant.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=2048;
/// Bytes from which a member's slot is found: its key and the beginning of what it holds.
const HEAD: usize = 24;

/// One member: its bytes and what was read in them, as offsets from its first byte.
#[derive(Debug, Default)]
pub(super) struct Member {
    place: Place,
    bytes: Vec<u8>,
    pub bits: u32,
    pub facts: Vec<(Fact, Span)>,
}

impl Member {
    pub fn length(&self) -> usize {
        self.bytes.len()
    }
}

/// The members of one source's records; any source's may be asked for, but few are then known.
#[derive(Debug)]
pub(super) struct Memory(Vec<Member>);

impl Default for Memory {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| Member::default()).collect())
    }
}

impl Memory {
    /// The member that `rest` begins with, if it is known at this place.
    #[inline]
    pub fn find(&self, place: Place, rest: &[u8]) -> Option<&Member> {
        let first = slot(rest)?;
        [first, first ^ 1]
            .into_iter()
            .map(|slot| &self.0[slot])
            .find(|member| member.place == place && !member.bytes.is_empty() && rest.starts_with(&member.bytes))
    }

    /// Keeps a member that was validated: its bytes, `head` being those with what follows it in the record.
    pub fn keep(
        &mut self,
        place: Place,
        head: &[u8],
        length: usize,
        bits: u32,
        facts: impl Iterator<Item = (Fact, Span)>,
    ) {
        if !LENGTHS.contains(&length) {
            return;
        }
        let Some(slot) = slot(head) else { return };
        if !self.0[slot].bytes.is_empty() {
            self.0.swap(slot, slot ^ 1);
        }
        let member = &mut self.0[slot];
        member.place = place;
        member.bytes.clear();
        member.bytes.extend_from_slice(&head[..length]);
        member.bits = bits;
        member.facts.clear();
        member.facts.extend(facts);
    }
}

/// Multiplicative mixing; a collision only costs a parse.
#[inline]
fn slot(rest: &[u8]) -> Option<usize> {
    let head = rest.first_chunk::<HEAD>()?;
    let (words, _) = head.as_chunks::<8>();
    let mixed = words.iter().fold(0u64, |mixed, word| {
        (mixed.rotate_left(25) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    Some((mixed >> (64 - SLOTS.ilog2())) as usize)
}
