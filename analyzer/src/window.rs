//! One sliding window of one shard: the histogram of its counts, its part of the thresholds, and the list of its top.
//! It is told which counts enter and leave; which panes those are it never decides, and the counts lie elsewhere.

use crate::rank::{Counts, Cursor, Histogram, Sum, settle, smallest_with_at_most};

/// Hot is the top 1 %.
pub const HOT_PER: u64 = 100;
/// Warm is the rest of the top 10 %.
pub const WARM_PER: u64 = 10;

/// Least counts by the configured floors, in weighted events of the whole window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Floors {
    /// For hot.
    pub hot: u32,
    /// For warm.
    pub warm: u32,
}

impl Floors {
    /// Floors of a window of `seconds`, from floors in thousandths of an event per second: the smallest
    /// whole counts `c` with `c ≥ floor · w`.
    pub fn of(hot_milli: u32, warm_milli: u32, seconds: u32) -> Self {
        let least = |milli: u32| (u64::from(milli) * u64::from(seconds)).div_ceil(1000);
        let least = |milli| u32::try_from(least(milli)).unwrap_or(u32::MAX);
        Self { hot: least(hot_milli), warm: least(warm_milli) }
    }
}

/// Where the lines are drawn now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// Pages with at least one event.
    pub active: u64,
    /// `⌈0.01 · active⌉`.
    pub k: u64,
    /// `T` of the top 1 %, 0 with nothing active.
    pub threshold: u32,
    /// Count from which a page is hot: `max(T, floor)`.
    pub hot: u32,
    /// Count from which a page is at least warm: `max(T of the top 10 %, floor)`.
    pub warm: u32,
    /// Sum of all counts.
    pub total: u64,
}

/// Counts of one page in the windows of its shard, side by side: one place in memory for each event.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    /// In the window, in the short window, in the window that is final: weighted.
    pub counts: [u32; 3],
    /// Events in all panes that are kept.
    pub events: u32,
    /// Attempts in the short window, not weighted.
    pub attempts: u32,
    /// Which lists it is in, in the three highest bits; below, one more than the place of its visitors.
    pub marks: u32,
}

/// Which of a slot's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Live = 0,
    Burst = 1,
    Settled = 2,
}

impl Which {
    const fn bit(self) -> u32 {
        1 << (31 - self as u32)
    }
}
/// The part of a slot's marks that says where its visitors are.
pub(crate) const FOLLOWED: u32 = (1 << 29) - 1;

/// A list that holds this many more pages than were asked for is worth narrowing.
const SLACK: u64 = 1024;
/// Pages looked at in one step of lowering the list's floor: about a millisecond when none lies in a cache.
const STEP: usize = 1 << 17;

/// A sliding window.
#[derive(Debug, Clone)]
pub struct Window {
    which: Which,
    histogram: Histogram,
    hot: Cursor,
    warm: Cursor,
    total: u64,
    // All pages whose count is at or above the floor, and some whose count was: so the top is listed in time
    // proportional to the top.
    floor: u32,
    members: Vec<u32>,
    // A lower floor on its way: pages before the second number have been looked at. Until it is there, the list
    // also holds what rose above it meanwhile.
    coming: Option<(u32, usize)>,
    rebuilds: u64,
}

impl Window {
    pub(crate) fn new(which: Which) -> Self {
        Self {
            which,
            histogram: Histogram::default(),
            hot: Cursor::default(),
            warm: Cursor::default(),
            total: 0,
            floor: 1,
            members: Vec::new(),
            coming: None,
            rebuilds: 0,
        }
    }

    /// `n` weighted events of page `id` enter.
    #[inline]
    pub(crate) fn add(&mut self, id: u32, slot: &mut Slot, n: u32) {
        let from = slot.counts[self.which as usize];
        let to = from + n;
        self.shift(slot, from, to);
        self.total += u64::from(n);
        let floor = self.coming.map_or(self.floor, |(floor, _)| floor);
        if to >= floor && slot.marks & self.which.bit() == 0 {
            slot.marks |= self.which.bit();
            self.members.push(id);
        }
    }

    /// `n` weighted events of a page leave; they have entered before.
    #[inline]
    pub(crate) fn sub(&mut self, slot: &mut Slot, n: u32) {
        let from = slot.counts[self.which as usize];
        self.shift(slot, from, from - n);
        self.total -= u64::from(n);
    }

    #[inline]
    fn shift(&mut self, slot: &mut Slot, from: u32, to: u32) {
        slot.counts[self.which as usize] = to;
        self.histogram.shift(from, to);
        self.hot.shift(from, to);
        self.warm.shift(from, to);
    }

    /// How many pages have each count.
    pub const fn histogram(&self) -> &Histogram {
        &self.histogram
    }
    pub(crate) const fn which(&self) -> Which {
        self.which
    }
    /// Sum of all counts.
    pub const fn total(&self) -> u64 {
        self.total
    }
    /// How often all counts had to be read at once to list the top.
    pub const fn rebuilds(&self) -> u64 {
        self.rebuilds
    }

    /// The pages with a count of at least `least`, in no order.
    pub(crate) fn at_least(&mut self, least: u32, slots: &mut [Slot]) -> Vec<u32> {
        let least = least.max(1);
        if let Some((floor, seen)) = self.coming
            && least < self.floor
        {
            // It was not quick enough: the rest at once.
            self.rebuilds += 1;
            self.look(floor.min(least), if floor <= least { seen } else { 0 }, slots.len(), slots);
            (self.floor, self.coming) = (floor.min(least), None);
        } else if least < self.floor {
            self.rebuilds += 1;
            self.look(least, 0, slots.len(), slots);
            self.floor = least;
        }
        let mut top = Vec::new();
        let floor = self.coming.map_or(self.floor, |(floor, _)| floor);
        self.keep(floor, slots, |id, count| {
            if count >= least {
                top.push(id);
            }
        });
        self.prepare(top.len() as u64, least, slots);
        top
    }

    // Moves the floor to where the list is at most twice as long as what was asked for: up at once, down in steps, so
    // that it is there before the threshold is.
    fn prepare(&mut self, listed: u64, least: u32, slots: &mut [Slot]) {
        if let Some((floor, seen)) = self.coming {
            let to = (seen + STEP).min(slots.len());
            self.look(floor, seen, to, slots);
            (self.floor, self.coming) = if to == slots.len() { (floor, None) } else { (self.floor, Some((floor, to))) };
            return;
        }
        let wanted = smallest_with_at_most(&self.histogram, 2 * listed + SLACK).min(least);
        if wanted > self.floor && self.members.len() as u64 > 4 * (listed + SLACK) {
            self.floor = wanted;
            self.keep(wanted, slots, |_, _| {});
        } else if wanted < self.floor && least < self.floor.saturating_add(self.floor / 2) {
            self.coming = Some((wanted, 0));
        }
    }

    fn look(&mut self, floor: u32, from: usize, to: usize, slots: &mut [Slot]) {
        for (id, slot) in (from..).zip(&mut slots[from..to]) {
            if slot.counts[self.which as usize] >= floor && slot.marks & self.which.bit() == 0 {
                slot.marks |= self.which.bit();
                self.members.push(id as u32);
            }
        }
    }

    fn keep(&mut self, floor: u32, slots: &mut [Slot], mut see: impl FnMut(u32, u32)) {
        let which = self.which;
        self.members.retain(|id| {
            let slot = &mut slots[*id as usize];
            let count = slot.counts[which as usize];
            let stays = count >= floor;
            if stays {
                see(*id, count);
            } else {
                slot.marks &= !which.bit();
            }
            stays
        });
    }
}

/// Draws the lines over the windows of all shards: those that are here, and `others` as they came from elsewhere
/// with the sum of their counts.
pub fn lines<'a>(
    shards: impl Iterator<Item = &'a mut Window>,
    others: &[(&dyn Counts, u64)],
    floors: Floors,
) -> Standing {
    let mut shards: Vec<&mut Window> = shards.collect();
    let total = shards.iter().map(|w| w.total).chain(others.iter().map(|(_, total)| *total)).sum();
    let (k, threshold) = draw(&mut shards, others, HOT_PER, |window| &mut window.hot);
    let (_, warm) = draw(&mut shards, others, WARM_PER, |window| &mut window.warm);
    let active = shards.iter().map(|w| w.histogram.active()).chain(others.iter().map(|(c, _)| c.active())).sum();
    Standing { active, k, threshold, hot: threshold.max(floors.hot).max(1), warm: warm.max(floors.warm).max(1), total }
}

fn draw(
    shards: &mut [&mut Window],
    others: &[(&dyn Counts, u64)],
    per: u64,
    cursor: impl Fn(&mut Window) -> &mut Cursor,
) -> (u64, u32) {
    let at = shards.first_mut().map_or(1, |window| cursor(window).at());
    let walk = |shards: &mut [&mut Window], to: u32| -> u64 {
        let mut reached = 0;
        for window in shards {
            let mut own = std::mem::take(cursor(window));
            own.move_to(to, &window.histogram);
            reached += own.reached();
            *cursor(window) = own;
        }
        reached
    };
    let reached = walk(shards, at);
    let reached = reached + others.iter().map(|(counts, _)| counts.reaching(at)).sum::<u64>();
    let own = shards.iter().map(|window| &window.histogram as &dyn Counts);
    let all: Vec<&dyn Counts> = own.chain(others.iter().map(|(counts, _)| *counts)).collect();
    let (k, threshold, _) = settle(&Sum(&all), per, at, reached);
    walk(shards, threshold);
    (k, threshold)
}
