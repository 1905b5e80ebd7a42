//! How many different visitors a page had in the last minute: exact up to 16, HyperLogLog++ beyond.
//! It keeps six sketches of ten seconds, so that a minute slides without being forgotten at once.

use std::hash::{BuildHasher, Hasher};

use hyperloglogplus::{HyperLogLog, HyperLogLogPlus};

/// Seconds of one sub-sketch.
pub const SLOT_SECONDS: i64 = 10;
/// Sub-sketches that make the minute.
pub const SLOTS: usize = 6;
/// Visitors that are kept by name before a sketch takes over: most pages never have more in a minute.
pub const INLINE: usize = 16;
/// 2^12 registers: standard error 1.04 / √4096 = 1.6 %, at most 3 KB a sub-sketch.
const PRECISION: u8 = 12;

/// Hashes with a fixed seed: sketches of several shards can only be merged if all hash alike.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedSeed;

/// One round of splitmix64 over what it is given (a `u64` here).
#[derive(Debug, Clone, Copy, Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        let mut z = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.finish() ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 ^= value;
    }
}

impl BuildHasher for FixedSeed {
    type Hasher = Mix;
    fn build_hasher(&self) -> Mix {
        Mix::default()
    }
}

type Sketch = HyperLogLogPlus<u64, FixedSeed>;

fn sketch() -> Sketch {
    Sketch::new(PRECISION, FixedSeed).expect("12 is a legal precision")
}

/// The slot of ten seconds in which a second lies.
pub const fn slot_of(second: i64) -> i64 {
    second.div_euclid(SLOT_SECONDS)
}

#[derive(Debug, Default)]
struct Sketched {
    slots: [Option<(i64, Sketch)>; SLOTS],
    // All slots from this one on together. Kept as visitors come, so that it is merged from its parts
    // only when a slot leaves, and not at each tick.
    union: Option<(i64, Sketch)>,
    estimate: Option<u64>,
}

/// One page's visitors.
#[derive(Debug)]
pub struct Visitors {
    few: Vec<(i64, u64)>,
    many: Option<Box<Sketched>>,
}

impl Visitors {
    /// Nobody yet.
    pub const fn new() -> Self {
        Self { few: Vec::new(), many: None }
    }

    /// Somebody visits in `slot`; `now` is the newest slot seen.
    pub fn visit(&mut self, slot: i64, now: i64, visitor: u64) {
        if slot <= now - SLOTS as i64 {
            return;
        }
        if let Some(many) = &mut self.many {
            many.visit(slot, visitor);
            return;
        }
        if let Some(known) = self.few.iter_mut().find(|(_, v)| *v == visitor) {
            known.0 = known.0.max(slot);
            return;
        }
        if self.few.len() >= INLINE {
            self.few.retain(|(s, _)| *s > now - SLOTS as i64);
        }
        if self.few.len() < INLINE {
            self.few.push((slot, visitor));
            return;
        }
        self.sketched().visit(slot, visitor);
    }

    // From now on by sketches.
    fn sketched(&mut self) -> &mut Sketched {
        let few = std::mem::take(&mut self.few);
        let many = self.many.get_or_insert_default();
        for (slot, visitor) in few {
            many.visit(slot, visitor);
        }
        many
    }

    /// Whoever visited `other` has visited this one too: the visitors of several pages, or of one page in several
    /// shards, each counted once. `now` is the newest slot seen.
    pub fn merge(&mut self, other: &Self, now: i64) {
        for (slot, visitor) in &other.few {
            self.visit(*slot, now, *visitor);
        }
        let Some(theirs) = &other.many else { return };
        self.sketched().merge(theirs);
    }

    /// Distinct visitors of the six slots up to `now`.
    pub fn count(&mut self, now: i64) -> u64 {
        let oldest = now - SLOTS as i64 + 1;
        let fresh = match &mut self.many {
            Some(many) => many.count(oldest),
            None => self.few.iter().filter(|(slot, _)| *slot >= oldest).count() as u64,
        };
        if fresh == 0 && self.many.is_some() {
            self.many = None;
        }
        fresh
    }
}

impl Default for Visitors {
    fn default() -> Self {
        Self::new()
    }
}

impl Sketched {
    fn visit(&mut self, slot: i64, visitor: u64) {
        let place = &mut self.slots[slot.rem_euclid(SLOTS as i64) as usize];
        match place {
            Some((s, sketch)) if *s == slot => sketch.insert(&visitor),
            Some((s, _)) if *s > slot => return,
            _ => {
                let mut fresh = sketch();
                fresh.insert(&visitor);
                *place = Some((slot, fresh));
            }
        }
        if let Some((oldest, union)) = &mut self.union
            && slot >= *oldest
        {
            union.insert(&visitor);
        }
        self.estimate = None;
    }

    fn merge(&mut self, other: &Self) {
        for (slot, theirs) in other.slots.iter().flatten() {
            let place = &mut self.slots[slot.rem_euclid(SLOTS as i64) as usize];
            match place {
                Some((own, sketch)) if own == slot => {
                    // Both have the same precision, the only thing a merge can refuse.
                    let merged = sketch.merge(theirs);
                    debug_assert!(merged.is_ok());
                }
                Some((own, _)) if *own > *slot => {}
                _ => {
                    let mut fresh = sketch();
                    let merged = fresh.merge(theirs);
                    debug_assert!(merged.is_ok());
                    *place = Some((*slot, fresh));
                }
            }
        }
        (self.union, self.estimate) = (None, None);
    }

    fn count(&mut self, oldest: i64) -> u64 {
        if self.union.as_ref().is_none_or(|(from, _)| *from != oldest) {
            let mut union = sketch();
            for (_, part) in self.slots.iter().flatten().filter(|(slot, _)| *slot >= oldest) {
                // Both have the same precision, the only thing a merge can refuse.
                let merged = union.merge(part);
                debug_assert!(merged.is_ok());
            }
            self.union = Some((oldest, union));
            self.estimate = None;
        }
        let union = &mut self.union;
        *self.estimate.get_or_insert_with(|| union.as_mut().map_or(0, |(_, union)| union.count().round() as u64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::print_stdout)]
    use super::*;

    #[test]
    fn up_to_sixteen_visitors_are_exact_and_leave_after_a_minute() {
        let mut page = Visitors::new();
        for n in 0..16 {
            page.visit(100, 100, n);
            page.visit(100, 100, n);
            assert_eq!(page.count(100), n + 1);
        }
        page.visit(104, 104, 3);
        assert_eq!(page.count(105), 16);
        assert_eq!(page.count(106), 1, "only the one who came back is still within six slots");
        assert_eq!(page.count(110), 0);
    }

    #[test]
    fn beyond_sixteen_the_error_stays_within_the_bound_and_the_minute_slides() {
        for visitors in [17u64, 100, 1_000, 10_000, 100_000] {
            let mut page = Visitors::new();
            for n in 0..visitors {
                page.visit(50 + (n % 6) as i64, 50 + (n % 6) as i64, n);
            }
            let got = page.count(55);
            let error = (got as f64 - visitors as f64).abs() / visitors as f64;
            // Five standard errors; the input is fixed, so this cannot fail by chance.
            assert!(error < 5.0 * 0.0163, "{visitors} visitors were counted as {got}");
            assert_eq!(page.count(61), 0);
            page.visit(61, 61, 1);
            assert_eq!(page.count(61), 1);
        }
    }

    /// A hash as the collector's: every visitor another number, without a pattern.
    const fn hash(set: u64, visitor: u64) -> u64 {
        let mut z = (set << 40 | visitor).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 31)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        z ^ (z >> 32)
    }

    /// Standard error of 2^12 registers.
    const SIGMA: f64 = 0.01625;

    #[test]
    fn the_error_is_within_its_bound_from_a_hundred_to_ten_million_visitors_and_over_shards() {
        for (visitors, sets) in
            [(100u64, 40u64), (1_000, 40), (10_000, 40), (100_000, 10), (1_000_000, 2), (10_000_000, 1)]
        {
            let (mut squares, mut worst) = (0.0, 0.0f64);
            for set in 0..sets {
                // Three shards see a page's visitors, each some of them, a tenth of them seen by two.
                let mut shards = [Visitors::new(), Visitors::new(), Visitors::new()];
                let mut whole = Visitors::new();
                for visitor in 0..visitors {
                    let (slot, hash) = (50 + (visitor % 6) as i64, hash(set, visitor));
                    whole.visit(slot, 55, hash);
                    shards[(visitor % 3) as usize].visit(slot, 55, hash);
                    if visitor % 10 == 0 {
                        shards[((visitor + 1) % 3) as usize].visit(slot, 55, hash);
                    }
                }
                let mut merged = Visitors::new();
                shards.iter().for_each(|shard| merged.merge(shard, 55));
                let (alone, together) = (whole.count(55), merged.count(55));
                assert_eq!(together, alone, "{visitors} visitors, set {set}: merged and alone");
                let error = (alone as f64 - visitors as f64) / visitors as f64;
                squares += error * error;
                worst = worst.max(error.abs());
            }
            let rms = (squares / sets as f64).sqrt();
            println!("{visitors} visitors: rms {:.2} %, worst {:.2} % of {sets}", rms * 100.0, worst * 100.0);
            // The sets are fixed: neither can fail by chance.
            assert!(worst < 4.0 * SIGMA, "{visitors} visitors: worst {worst}");
            assert!(sets < 10 || rms < 1.3 * SIGMA, "{visitors} visitors: rms {rms}");
        }
    }

    #[test]
    fn few_visitors_stay_exact_over_a_merge() {
        let (mut a, mut b) = (Visitors::new(), Visitors::new());
        (0..8).for_each(|n| a.visit(7, 7, hash(0, n)));
        (4..12).for_each(|n| b.visit(8, 8, hash(0, n)));
        a.merge(&b, 8);
        assert_eq!(a.count(8), 12);
        assert_eq!(a.count(13), 8, "slot 7 has left");
    }
}
