//! One sliding window: every page's count, their histogram, the thresholds of hot and warm. It is told
//! which counts enter and leave; which panes those are it never decides.

use crate::rank::{Band, Cursor, Histogram};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// A sliding window.
#[derive(Debug, Clone)]
pub struct Window {
    counts: Vec<u32>,
    histogram: Histogram,
    hot: Cursor,
    warm: Cursor,
    band: Band,
    total: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            counts: Vec::new(),
            histogram: Histogram::default(),
            hot: Cursor::new(HOT_PER),
            warm: Cursor::new(WARM_PER),
            band: Band::default(),
            total: 0,
        }
    }
}

impl Window {
    /// Room for page ids below `pages`.
    pub fn grow(&mut self, pages: usize) {
        if self.counts.len() < pages {
            self.counts.resize(pages, 0);
            self.band.grow(pages);
        }
    }

    /// `n` weighted events of page `id` enter.
    #[inline]
    pub fn add(&mut self, id: u32, n: u32) {
        let from = self.counts[id as usize];
        let to = from + n;
        self.shift(id, from, to);
        self.total += u64::from(n);
        self.band.rose(id, to);
    }

    /// `n` weighted events of page `id` leave; they have entered before.
    #[inline]
    pub fn sub(&mut self, id: u32, n: u32) {
        let from = self.counts[id as usize];
        self.shift(id, from, from - n);
        self.total -= u64::from(n);
    }

    #[inline]
    fn shift(&mut self, id: u32, from: u32, to: u32) {
        self.counts[id as usize] = to;
        self.histogram.shift(from, to);
        self.hot.shift(from, to);
        self.warm.shift(from, to);
    }

    /// The count of page `id`.
    pub fn count(&self, id: u32) -> u32 {
        self.counts.get(id as usize).copied().unwrap_or(0)
    }

    /// How many pages have each count.
    pub const fn histogram(&self) -> &Histogram {
        &self.histogram
    }

    /// How often all counts had to be read to list the top.
    pub const fn rebuilds(&self) -> u64 {
        self.band.rebuilds()
    }

    /// Draws the lines.
    pub fn standing(&mut self, floors: Floors) -> Standing {
        let (k, threshold) = self.hot.settle(&self.histogram);
        let (_, warm) = self.warm.settle(&self.histogram);
        Standing {
            active: self.histogram.active(),
            k,
            threshold,
            hot: threshold.max(floors.hot).max(1),
            warm: warm.max(floors.warm).max(1),
            total: self.total,
        }
    }

    /// The pages with a count of at least `least`, in no order.
    pub fn at_least(&mut self, least: u32) -> Vec<u32> {
        self.band.at_least(least, &self.counts)
    }
}
