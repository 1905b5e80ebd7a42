//! Which counts are the top: a histogram of counts, and cursors that stand at an exact threshold. It
//! knows counts only, never pages, so that several shards' histograms can be summed.

use std::collections::BTreeMap;

/// Counts below this lie in a flat array (256 KB). At most `total / DENSE` pages can have a larger count,
/// so the tree behind it stays small whatever the traffic: 1,000 entries at 65 million events a window.
pub const DENSE: u32 = 1 << 16;

/// How many pages have each count, of one shard or of another process's.
pub trait Counts {
    /// Pages with a count of at least 1.
    fn active(&self) -> u64;
    /// Pages with exactly this count.
    fn at(&self, count: u32) -> u64;
    /// The smallest count above `count` that a page has.
    fn next_above(&self, count: u32) -> Option<u32>;
    /// The largest count below `count` that a page has.
    fn next_below(&self, count: u32) -> Option<u32>;
    /// Pages with a count of at least `count`.
    fn reaching(&self, count: u32) -> u64;
}

/// How many pages have each count. Count 0 means "not in the window" and is never held.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    // As long as the largest count so far asked for, in powers of two.
    dense: Vec<u32>,
    sparse: BTreeMap<u32, u32>,
    active: u64,
}

impl Histogram {
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
                None => self.enter_beyond(to),
            }
        }
    }

    #[cold]
    fn enter_beyond(&mut self, count: u32) {
        if count < DENSE {
            self.dense.resize((count as usize + 1).next_power_of_two().max(64), 0);
            self.dense[count as usize] += 1;
        } else {
            self.dense.resize(DENSE as usize, 0);
            *self.sparse.entry(count).or_insert(0) += 1;
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

    /// Counts with their pages, by count: small, whatever the number of pages.
    pub fn pairs(&self) -> Vec<(u32, u32)> {
        let dense = (0..).zip(&self.dense).filter(|(_, pages)| **pages > 0).map(|(count, pages)| (count, *pages));
        dense.chain(self.sparse.iter().map(|(count, pages)| (*count, *pages))).collect()
    }
}

impl Counts for Histogram {
    fn active(&self) -> u64 {
        self.active
    }
    fn at(&self, count: u32) -> u64 {
        match self.dense.get(count as usize) {
            Some(pages) => u64::from(*pages),
            None => self.sparse.get(&count).copied().map_or(0, u64::from),
        }
    }
    fn next_above(&self, count: u32) -> Option<u32> {
        let from = (count as usize).saturating_add(1).min(self.dense.len());
        match self.dense[from..].iter().position(|pages| *pages > 0) {
            Some(steps) => Some((from + steps) as u32),
            None => self.sparse.range(count.saturating_add(1)..).next().map(|(c, _)| *c),
        }
    }
    fn next_below(&self, count: u32) -> Option<u32> {
        if let Some((c, _)) = self.sparse.range(..count).next_back() {
            return Some(*c);
        }
        let to = (count as usize).min(self.dense.len());
        self.dense[..to].iter().rposition(|pages| *pages > 0).map(|c| c as u32)
    }
    fn reaching(&self, count: u32) -> u64 {
        let dense = &self.dense[(count.max(1) as usize).min(self.dense.len())..];
        let sparse = self.sparse.range(count..).map(|(_, pages)| u64::from(*pages));
        dense.iter().copied().map(u64::from).chain(sparse).sum()
    }
}

/// A histogram that came from elsewhere and does not change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fixed {
    // By count; each with the pages that have it, and those that have it or more.
    pairs: Vec<(u32, u32, u64)>,
}

impl Fixed {
    /// From counts with their pages, in order of the counts and without 0; `None` if they are not so.
    pub fn new(pairs: &[(u32, u32)]) -> Option<Self> {
        let rising = pairs.windows(2).all(|two| two[0].0 < two[1].0);
        if !rising || pairs.iter().any(|(count, pages)| *count == 0 || *pages == 0) {
            return None;
        }
        let mut reached = 0;
        let mut all: Vec<_> = pairs
            .iter()
            .rev()
            .map(|(count, pages)| {
                reached += u64::from(*pages);
                (*count, *pages, reached)
            })
            .collect();
        all.reverse();
        Some(Self { pairs: all })
    }
    fn from(&self, count: u32) -> usize {
        self.pairs.partition_point(|(c, ..)| *c < count)
    }
}

impl Counts for Fixed {
    fn active(&self) -> u64 {
        self.pairs.first().map_or(0, |(.., reached)| *reached)
    }
    fn at(&self, count: u32) -> u64 {
        self.pairs.get(self.from(count)).filter(|(c, ..)| *c == count).map_or(0, |(_, pages, _)| u64::from(*pages))
    }
    fn next_above(&self, count: u32) -> Option<u32> {
        self.pairs.get(self.from(count.saturating_add(1))).map(|(c, ..)| *c)
    }
    fn next_below(&self, count: u32) -> Option<u32> {
        self.pairs[..self.from(count)].last().map(|(c, ..)| *c)
    }
    fn reaching(&self, count: u32) -> u64 {
        self.pairs.get(self.from(count)).map_or(0, |(.., reached)| *reached)
    }
}

/// Several histograms as the one they sum to.
#[derive(Debug, Clone, Copy)]
pub struct Sum<'a, C: ?Sized>(pub &'a [&'a C]);

impl<C: Counts + ?Sized> Counts for Sum<'_, C> {
    fn active(&self) -> u64 {
        self.0.iter().map(|part| part.active()).sum()
    }
    fn at(&self, count: u32) -> u64 {
        self.0.iter().map(|part| part.at(count)).sum()
    }
    fn next_above(&self, count: u32) -> Option<u32> {
        self.0.iter().filter_map(|part| part.next_above(count)).min()
    }
    fn next_below(&self, count: u32) -> Option<u32> {
        self.0.iter().filter_map(|part| part.next_below(count)).max()
    }
    fn reaching(&self, count: u32) -> u64 {
        self.0.iter().map(|part| part.reaching(count)).sum()
    }
}

/// The smallest count that at most `pages` pages reach; for lists that are bounded.
pub fn smallest_with_at_most(counts: &(impl Counts + ?Sized), pages: u64) -> u32 {
    if counts.active() <= pages {
        return 1;
    }
    let (mut reached, mut count) = (0, u32::MAX);
    while let Some(below) = counts.next_below(count) {
        reached += counts.at(below);
        if reached > pages {
            return below.saturating_add(1);
        }
        count = below;
    }
    1
}

/// The threshold of the top `1 / per`: from a place `at`, at or above which `reached` pages are, walks to the largest
/// count that at least `k = ⌈active / per⌉` pages reach. It steps over counts, never over pages. Answers `k`, the
/// threshold and the pages that reach it; all 0 when nothing is active.
pub fn settle(counts: &(impl Counts + ?Sized), per: u64, mut at: u32, mut reached: u64) -> (u64, u32, u64) {
    let k = counts.active().div_ceil(per);
    if k == 0 {
        return (0, 0, 0);
    }
    while reached < k {
        let Some(below) = counts.next_below(at) else { break };
        at = below;
        reached += counts.at(below);
    }
    loop {
        let above = reached - counts.at(at);
        if above < k {
            return (k, at, reached);
        }
        let Some(next) = counts.next_above(at) else { return (k, at, reached) };
        at = next;
        reached = above;
    }
}

/// A shard's own part of the place where the top begins.
///
/// While counts change it keeps only "how many of my pages are at or above the place where I stand", two comparisons
/// a change. When the threshold is asked for, all shards' cursors walk on from where they stand together: over the
/// counts that lie between the last answer and this one. (Walking at each change instead would step back and forth
/// over wide empty ranges whenever `k` alternates, as it does around each hundredth page.)
#[derive(Debug, Clone)]
pub struct Cursor {
    at: u32,
    reached: u64,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { at: 1, reached: 0 }
    }
}

impl Cursor {
    /// Where it stands.
    pub const fn at(&self) -> u32 {
        self.at
    }
    /// Pages at or above that.
    pub const fn reached(&self) -> u64 {
        self.reached
    }

    /// One page's count goes from `from` to `to`. Call it with each [`Histogram::shift`].
    #[inline]
    pub fn shift(&mut self, from: u32, to: u32) {
        self.reached -= u64::from(from >= self.at);
        self.reached += u64::from(to >= self.at);
    }

    /// Walks to `to` (at least 1).
    pub fn move_to(&mut self, to: u32, counts: &Histogram) {
        let to = to.max(1);
        while let Some(above) = counts.next_below(self.at).filter(|below| *below >= to) {
            self.at = above;
            self.reached += counts.at(above);
        }
        while self.at < to {
            self.reached -= counts.at(self.at);
            self.at = counts.next_above(self.at).map_or(to, |next| next.min(to));
        }
        self.at = to;
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
        fn cursors_of_any_number_of_shards_stand_where_sorting_would_put_them(
            moves in prop::collection::vec((0usize..150, count(), any::<bool>()), 1..400),
            per in prop::sample::select(vec![1u64, 10, 100]),
            shards in 1usize..5,
        ) {
            let mut parts = vec![(Histogram::default(), Cursor::default()); shards];
            let mut counts = vec![0u32; 150];
            let check = |parts: &mut Vec<(Histogram, Cursor)>, counts: &[u32]| {
                // The last shard is another process's: it comes as pairs.
                let fixed = Fixed::new(&parts[shards - 1].0.pairs()).unwrap();
                let (k, threshold) = {
                    let at = parts[0].1.at();
                    parts.iter_mut().for_each(|(histogram, cursor)| cursor.move_to(at, histogram));
                    let own: Vec<&dyn Counts> = parts[..shards - 1].iter().map(|(h, _)| h as &dyn Counts).collect();
                    let all: Vec<&dyn Counts> = own.into_iter().chain([&fixed as &dyn Counts]).collect();
                    let reached: u64 = parts[..shards - 1].iter().map(|(_, c)| c.reached()).sum();
                    let (k, threshold, reached) = settle(&Sum(&all), per, at, reached + fixed.reaching(at));
                    assert!(k == 0 || reached == Sum(&all).reaching(threshold));
                    for limit in [0u64, 1, 5, 1000] {
                        let r = smallest_with_at_most(&Sum(&all), limit);
                        let reach = |c: u32| counts.iter().filter(|x| **x >= c.max(1)).count() as u64;
                        assert_eq!(Sum(&all).reaching(r), reach(r));
                        assert!(reach(r) <= limit);
                        assert!(r == 1 || reach(r - 1) > limit);
                    }
                    (k, threshold)
                };
                parts.iter_mut().for_each(|(histogram, cursor)| cursor.move_to(threshold, histogram));
                (k, threshold)
            };
            for (page, to, ask) in moves {
                let (histogram, cursor) = &mut parts[page % shards];
                histogram.shift(counts[page], to);
                cursor.shift(counts[page], to);
                counts[page] = to;
                if ask {
                    prop_assert_eq!(check(&mut parts, &counts), naive_threshold(&counts, per));
                }
            }
            prop_assert_eq!(check(&mut parts, &counts), naive_threshold(&counts, per));
        }
    }

    #[test]
    fn pairs_out_of_order_or_of_nothing_are_no_histogram() {
        for pairs in [vec![(2, 1), (1, 1)], vec![(1, 1), (1, 2)], vec![(0, 1)], vec![(3, 0)]] {
            assert_eq!(Fixed::new(&pairs), None);
        }
    }
}
