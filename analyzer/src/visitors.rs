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
    // What was known before a restart: sketches are not kept over one, the number is.
    carried: Option<(i64, u64)>,
}

/// A page's visitors as a checkpoint keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Slot of the last visit, and visitor.
    pub few: Vec<(i64, u64)>,
    /// Beyond 16: the slot of the estimate and the estimate.
    pub many: Option<(i64, u64)>,
}

impl Visitors {
    /// Nobody yet.
    pub const fn new() -> Self {
        Self { few: Vec::new(), many: None, carried: None }
    }

    /// As kept by a checkpoint.
    pub fn restore(kept: Kept) -> Self {
        Self { few: kept.few, many: None, carried: kept.many }
    }

    /// For a checkpoint; `now` is the present slot.
    pub fn keep(&mut self, now: i64) -> Kept {
        let many = (self.many.is_some() || self.carried.is_some()).then(|| (now, self.count(now)));
        Kept { few: self.few.clone(), many }
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
        let mut many = Box::<Sketched>::default();
        for (slot, visitor) in self.few.drain(..) {
            many.visit(slot, visitor);
        }
        many.visit(slot, visitor);
        self.few = Vec::new();
        self.many = Some(many);
    }

    /// Distinct visitors of the six slots up to `now`.
    pub fn count(&mut self, now: i64) -> u64 {
        let oldest = now - SLOTS as i64 + 1;
        if self.carried.is_some_and(|(slot, _)| slot < oldest) {
            self.carried = None;
        }
        let carried = self.carried.map_or(0, |(_, n)| n);
        let fresh = match &mut self.many {
            Some(many) => many.count(oldest),
            None => self.few.iter().filter(|(slot, _)| *slot >= oldest).count() as u64,
        };
        if fresh == 0 && self.many.is_some() {
            self.many = None;
        }
        fresh.max(carried)
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

    #[test]
    fn a_restart_keeps_names_below_seventeen_and_the_number_above() {
        let mut few = Visitors::new();
        (0..5).for_each(|n| few.visit(7, 7, n));
        let mut few = Visitors::restore(few.keep(7));
        few.visit(8, 8, 4);
        assert_eq!(few.count(8), 5);
        let mut many = Visitors::new();
        (0..1000).for_each(|n| many.visit(7, 7, n));
        let before = many.count(7);
        let mut many = Visitors::restore(many.keep(7));
        many.visit(8, 8, 1);
        assert_eq!(many.count(8), before);
        assert_eq!(many.count(13), 1);
    }
}
