//! When the page table is full: the coldest pages leave, with everything that was counted for them, so
//! that what remains is still exact for the pages that remain.

use super::{BURST_SECONDS, Engine};

/// When the page table is full, one page in this many is evicted at once: each eviction reads all
/// panes, so that cost is spread over that many new pages.
const EVICT_PART: usize = 16;

impl Engine {
    pub(super) fn evict_coldest(&mut self) {
        let share = (self.rules.max_pages / EVICT_PART).max(1);
        let weight_kept = |id: u32| -> u64 {
            if self.rules.live {
                u64::from(self.live.count(id))
            } else {
                self.ring.iter().filter_map(|pane| pane.row(id)).map(|row| u64::from(self.counting.weighted(row))).sum()
            }
        };
        // By count, then name: which pages go does not depend on the order in which they came.
        let mut pages: Vec<(u64, &types::PageId, u32)> =
            self.pages.iter().map(|(page, id)| (weight_kept(id), page, id)).collect();
        if share < pages.len() {
            pages.select_nth_unstable(share);
            pages.truncate(share);
        }
        let mut gone = vec![false; self.pages.span()];
        for (_, _, id) in pages {
            gone[id as usize] = true;
        }
        let (head, span, sealed) = (self.head, i64::from(self.rules.window), self.frontier);
        for pane in self.ring.iter_mut() {
            let second = pane.second;
            let (pages, live, burst, settled) = (&mut self.pages, &mut self.live, &mut self.burst, &mut self.settled);
            let (counting, visitors, counters) = (&self.counting, &mut self.visitors, &mut self.counters);
            pane.purge(&|id| gone[id as usize], |row| {
                let weighted = counting.weighted(&row);
                if self.rules.live && head.is_some_and(|head| second > head - span && second <= head) {
                    live.sub(row.id, weighted);
                }
                if self.rules.live
                    && head.is_some_and(|head| second > head - i64::from(BURST_SECONDS) && second <= head)
                {
                    burst.sub(row.id, weighted);
                }
                if sealed.is_some_and(|sealed| second < sealed) {
                    settled.sub(row.id, weighted);
                }
                if pages.forget(row.id) {
                    visitors.remove(&row.id);
                    counters.evicted += 1;
                }
            });
        }
    }
}
