//! Which counts are the top: a histogram of counts, and cursors that stand at an exact threshold. It
//! knows counts only, never pages, so that several shards' histograms can be summed.

use std::collections::BTreeMap;

/// Counts below this lie in a flat array (256 KB). At most `total / DENSE` pages can have a larger count,
/// so the tree behind it stays small whatever the traffic: 1,000 entries at 65 million events a window.
pub const DENSE: u32 = 1 << 16;

/// How many pages have each count. Count 0 means "not in the window" and is never held.
#[derive(Debug, Clone)]
pub struct Histogram {
    dense: Vec<u32>,
    sparse: BTreeMap<u32, u32>,
    active: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { dense: vec![0; DENSE as usize], sparse: BTreeMap::new(), active: 0 }
    }
}

impl Histogram {
    /// Pages with a count of at least 1.
    pub const fn active(&self) -> u64 {
        self.active
    }

    /// Pages with exactly this count.
    pub fn at(&self, count: u32) -> u64 {
        match self.dense.get(count as usize) {
            Some(pages) => u64::from(*pages),
            None => self.sparse.get(&count).copied().map_or(0, u64::from),
        }
    }

    /// One page's count goes from `from` to `to`.
    #[inline]
    pub fn shift(&mut self, from: u32, to: u32) {
        if from > 0 {
            self.active -= 1;
            match self.dense.get_mut(from as usize) {
                Some(pages) => *pages -= 1,
                None => self.leave_sparse(from),
            }
        }
        if to > 0 {
            self.active += 1;
            match self.dense.get_mut(to as usize) {
                Some(pages) => *pages += 1,
                None => *self.sparse.entry(to).or_insert(0) += 1,
            }
        }
    }

    fn leave_sparse(&mut self, count: u32) {
        if let Some(pages) = self.sparse.get_mut(&count) {
            *pages -= 1;
            if *pages == 0 {
                self.sparse.remove(&count);
            }
        }
    }

    /// The smallest count above `count` that a page has.
    pub fn next_above(&self, count: u32) -> Option<u32> {
        let from = (count as usize).saturating_add(1).min(self.dense.len());
        match self.dense[from..].iter().position(|pages| *pages > 0) {
            Some(steps) => Some((from + steps) as u32),
            None => self.sparse.range(count.saturating_add(1)..).next().map(|(c, _)| *c),
        }
    }

    /// The largest count below `count` that a page has.
    pub fn next_below(&self, count: u32) -> Option<u32> {
        if let Some((c, _)) = self.sparse.range(..count).next_back() {
            return Some(*c);
        }
        let to = (count as usize).min(self.dense.len());
        self.dense[..to].iter().rposition(|pages| *pages > 0).map(|c| c as u32)
    }

    /// Pages with a count of at least `count`.
    pub fn reaching(&self, count: u32) -> u64 {
        let dense = &self.dense[(count.max(1) as usize).min(self.dense.len())..];
        let sparse = self.sparse.range(count..).map(|(_, pages)| u64::from(*pages));
        dense.iter().copied().map(u64::from).chain(sparse).sum()
    }

    /// The smallest count that at most `pages` pages reach; for lists that are bounded.
    pub fn smallest_with_at_most(&self, pages: u64) -> u32 {
        if self.active <= pages {
            return 1;
        }
        let (mut reached, mut count) = (0, u32::MAX);
        while let Some(below) = self.next_below(count) {
            reached += self.at(below);
            if reached > pages {
                return below.saturating_add(1);
            }
            count = below;
        }
        1
    }
}

/// Where the top `1 / per` of the active pages begins.
///
/// While counts change it keeps only "how many pages are at or above the place where I stand", two
/// comparisons a change. It walks to the exact threshold when it is asked: over the counts that lie
/// between the last answer and this one, never over pages. (Walking at each change instead would step
/// back and forth over wide empty ranges whenever `k` alternates, as it does around each hundredth page.)
#[derive(Debug, Clone)]
pub struct Cursor {
    per: u64,
    at: u32,
    reached: u64,
}

impl Cursor {
    /// A cursor for the top `1 / per`: 100 for 1 %, 10 for 10 %.
    pub const fn new(per: u64) -> Self {
        Self { per, at: 1, reached: 0 }
    }

    /// One page's count goes from `from` to `to`. Call it with each [`Histogram::shift`].
    #[inline]
    pub fn shift(&mut self, from: u32, to: u32) {
        self.reached -= u64::from(from >= self.at);
        self.reached += u64::from(to >= self.at);
    }

    /// `k = ⌈active / per⌉` and the threshold: the largest count that at least `k` pages reach. Both 0
    /// when nothing is active.
    pub fn settle(&mut self, histogram: &Histogram) -> (u64, u32) {
        let k = histogram.active().div_ceil(self.per);
        if k == 0 {
            *self = Self::new(self.per);
            return (0, 0);
        }
        while self.reached < k {
            let Some(below) = histogram.next_below(self.at) else { break };
            self.at = below;
            self.reached += histogram.at(below);
        }
        loop {
            let above = self.reached - histogram.at(self.at);
            if above < k {
                return (k, self.at);
            }
            let Some(next) = histogram.next_above(self.at) else { return (k, self.at) };
            self.at = next;
            self.reached = above;
        }
    }
}

/// The pages whose count is at or above a floor somewhat below the threshold, so that the top is listed
/// in time proportional to the top. When the threshold falls below the floor, the counts are read once
/// from end to end (sequentially) and a new floor is set a quarter below.
#[derive(Debug, Clone)]
pub struct Band {
    floor: u32,
    members: Vec<u32>,
    member: Vec<bool>,
    rebuilds: u64,
}

impl Default for Band {
    fn default() -> Self {
        Self { floor: 1, members: Vec::new(), member: Vec::new(), rebuilds: 0 }
    }
}

/// A band that holds this many more pages than were asked for is worth narrowing.
const BAND_SLACK: usize = 1024;

impl Band {
    /// Room for page ids below `pages`.
    pub fn grow(&mut self, pages: usize) {
        if self.member.len() < pages {
            self.member.resize(pages, false);
        }
    }

    /// The count of page `id` rose to `count`.
    #[inline]
    pub fn rose(&mut self, id: u32, count: u32) {
        if count >= self.floor && !self.member[id as usize] {
            self.member[id as usize] = true;
            self.members.push(id);
        }
    }

    /// How often all counts had to be read.
    pub const fn rebuilds(&self) -> u64 {
        self.rebuilds
    }

    /// The pages with a count of at least `least` (at least 1), in no order.
    pub fn at_least(&mut self, least: u32, counts: &[u32]) -> Vec<u32> {
        let least = least.max(1);
        if least < self.floor {
            self.rebuilds += 1;
            self.floor = least - least / 4;
            for (id, count) in counts.iter().enumerate() {
                if *count >= self.floor && !self.member[id] {
                    self.member[id] = true;
                    self.members.push(id as u32);
                }
            }
        }
        let mut top = Vec::new();
        self.keep(counts, |id, count| {
            if count >= least {
                top.push(id);
            }
        });
        let raised = least - least / 4;
        if raised > self.floor && self.members.len() > 2 * top.len() + BAND_SLACK {
            self.floor = raised;
            self.keep(counts, |_, _| {});
        }
        top
    }

    fn keep(&mut self, counts: &[u32], mut see: impl FnMut(u32, u32)) {
        let (floor, member) = (self.floor, &mut self.member);
        self.members.retain(|id| {
            let count = counts[*id as usize];
            let stays = count >= floor;
            if stays {
                see(*id, count);
            } else {
                member[*id as usize] = false;
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn naive_threshold(counts: &[u32], per: u64) -> (u64, u32) {
        let active = counts.iter().filter(|c| **c > 0).count() as u64;
        let k = active.div_ceil(per);
        let mut sorted: Vec<u32> = counts.iter().copied().filter(|c| *c > 0).collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        (k, if k == 0 { 0 } else { sorted[k as usize - 1] })
    }

    // Small counts, ties, the border of the dense part and far beyond it.
    fn count() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0u32), 1u32..6, 1u32..300, (DENSE - 3)..(DENSE + 3), 1u32..5_000_000]
    }

    proptest! {
        #[test]
        fn a_cursor_stands_where_sorting_would_put_it(
            moves in prop::collection::vec((0usize..150, count(), any::<bool>()), 1..400),
            per in prop::sample::select(vec![1u64, 10, 100]),
        ) {
            let (mut histogram, mut cursor, mut counts) = (Histogram::default(), Cursor::new(per), vec![0u32; 150]);
            for (page, to, ask) in moves {
                histogram.shift(counts[page], to);
                cursor.shift(counts[page], to);
                counts[page] = to;
                if ask {
                    prop_assert_eq!(cursor.settle(&histogram), naive_threshold(&counts, per));
                }
            }
            prop_assert_eq!(cursor.settle(&histogram), naive_threshold(&counts, per));
            for limit in [0u64, 1, 5, 1000] {
                let r = histogram.smallest_with_at_most(limit);
                let reach = |c: u32| counts.iter().filter(|x| **x >= c.max(1)).count() as u64;
                prop_assert_eq!(histogram.reaching(r), reach(r));
                prop_assert!(reach(r) <= limit);
                prop_assert!(r == 1 || reach(r - 1) > limit);
            }
        }

        #[test]
        fn a_band_lists_exactly_the_pages_that_reach_the_threshold(
            moves in prop::collection::vec((0u32..3000, 0u32..200, 0u32..260), 1..300),
        ) {
            let (mut band, mut counts) = (Band::default(), vec![0u32; 3000]);
            band.grow(counts.len());
            for (page, to, ask) in moves {
                // A whole stretch of pages at a time, so that narrowing happens.
                for id in page..(page + 40).min(3000) {
                    let rises = to > counts[id as usize];
                    counts[id as usize] = to;
                    if rises {
                        band.rose(id, to);
                    }
                }
                if ask < 200 {
                    let mut got = band.at_least(ask, &counts);
                    got.sort_unstable();
                    let want: Vec<u32> = (0..3000).filter(|id| counts[*id as usize] >= ask.max(1)).collect();
                    prop_assert_eq!(got, want);
                }
            }
        }
    }
}
