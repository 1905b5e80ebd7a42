//! A set that may say "perhaps" for what was never put in, and never "no" for what was: for keys whose decision has
//! left memory. Its size is fixed; the fuller it is the oftener it says "perhaps", which costs a read of SQL each.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;

/// Words of one block: a cache line, so that a question costs one miss.
const BLOCK: usize = 8;
/// Bits of a key, all in one block.
const BITS: u32 = 6;

/// The set.
pub(crate) struct Bloom {
    words: Vec<u64>,
    hasher: DefaultHashBuilder,
}

impl Bloom {
    /// Of so many bytes. Untouched pages of it take no memory.
    pub(crate) fn new(bytes: usize) -> Self {
        let blocks = (bytes / (8 * BLOCK)).max(1);
        Self { words: vec![0; blocks * BLOCK], hasher: DefaultHashBuilder::default() }
    }

    /// The block of a hash, and its bits in it: word and mask.
    fn place(&self, hash: u64) -> (usize, impl Iterator<Item = (usize, u64)> + use<>) {
        let blocks = (self.words.len() / BLOCK) as u128;
        let block = ((u128::from(hash) * blocks) >> 64) as usize * BLOCK;
        // The upper bits have chosen the block; nine fresh ones for each bit come from the product's top.
        let mut mixed = hash;
        let bits = (0..BITS).map(move |_| {
            mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            let bit = (mixed >> 55) as usize;
            (bit / 64, 1u64 << (bit % 64))
        });
        (block, bits)
    }

    /// Puts a key in.
    pub(crate) fn insert(&mut self, key: impl Hash) {
        let (block, bits) = self.place(self.hasher.hash_one(key));
        for (word, mask) in bits {
            self.words[block + word] |= mask;
        }
    }

    /// Whether the key may have been put in.
    pub(crate) fn may_have(&self, key: impl Hash) -> bool {
        let (block, mut bits) = self.place(self.hasher.hash_one(key));
        bits.all(|(word, mask)| self.words[block + word] & mask != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forgotten_and_little_is_imagined() {
        // Ten bits a key.
        let keys = 100_000u64;
        let mut bloom = Bloom::new(keys as usize * 10 / 8);
        for key in 0..keys {
            bloom.insert(("buyer", key));
        }
        assert!((0..keys).all(|key| bloom.may_have(("buyer", key))));
        let imagined = (keys..3 * keys).filter(|key| bloom.may_have(("buyer", *key))).count();
        // In theory some 1.5 %, 3,000 of 200,000.
        assert!(imagined < 8_000, "{imagined} of {}", 2 * keys);
    }

    #[test]
    fn the_smallest_one_still_forgets_nothing() {
        let mut bloom = Bloom::new(0);
        for key in 0..1_000 {
            bloom.insert(key);
        }
        assert!((0..1_000).all(|key| bloom.may_have(key)));
    }
}
