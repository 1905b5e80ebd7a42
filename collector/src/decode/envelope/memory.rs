//! Members that were validated before, recognised by comparing bytes instead of parsing them again. Sound
//! because equal bytes parse equally: only what delimits itself (object, array, string) is kept. Bounded.

use super::found::Span;
use super::members::{Fact, Place};

/// Members remembered, two for each slot. A shipper's record has about eight constant ones and writes each map's keys
/// in several orders.
const SLOTS: usize = 256;
/// Lengths of a member that is kept: a shorter one is parsed as fast, a longer one is no shipper's constant.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=2048;
/// Bytes from which a member's slot is found: its key and the beginning of what it holds.
const HEAD: usize = 24;
/// Bytes compared at once. No member that is kept is shorter.
const PIECE: usize = 16;
const _: () = assert!(*LENGTHS.start() >= PIECE);

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
            .find(|member| member.place == place && !member.bytes.is_empty() && begins(rest, &member.bytes))
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

/// Whether `rest` begins with a member's bytes, as `starts_with` says; members are too short for a call to be worth it.
#[inline]
fn begins(rest: &[u8], member: &[u8]) -> bool {
    let Some(rest) = rest.get(..member.len()) else { return false };
    let ((pieces, _), (others, _)) = (rest.as_chunks::<PIECE>(), member.as_chunks::<PIECE>());
    let same = |a: &[u8; PIECE], b: &[u8; PIECE]| u128::from_ne_bytes(*a) == u128::from_ne_bytes(*b);
    // The last piece overlaps the one before it, so that nothing is left over.
    let ends = rest.last_chunk().zip(member.last_chunk());
    pieces.iter().zip(others).all(|(a, b)| same(a, b)) && ends.is_some_and(|(a, b)| same(a, b))
}

/// Mixing of the key's beginning and of what tells one order of a map's members from another; a collision only costs
/// a parse.
#[inline]
fn slot(rest: &[u8]) -> Option<usize> {
    let head = rest.first_chunk::<HEAD>()?;
    let (words, _) = head.as_chunks::<8>();
    let mix = |word: usize, by: u64| u64::from_le_bytes(words[word]).wrapping_mul(by);
    let mixed = mix(0, 0x9e37_79b9_7f4a_7c15) ^ mix(1, 0xbf58_476d_1ce4_e5b9) ^ mix(2, 0x94d0_49bb_1331_11eb);
    Some((mixed >> (64 - SLOTS.ilog2())) as usize)
}
