//! When the page table is full: the coldest pages leave, with everything that was counted for them, so
//! that what remains is still exact for the pages that remain.

use super::Engine;

/// When the page table is full, one page in this many is evicted at once: each eviction reads all
/// panes, so that cost is spread over that many new pages.
const EVICT_PART: usize = 16;

impl Engine {
    pub(super) fn evict_coldest(&mut self) {
        let share = (self.rules.max_pages / EVICT_PART).max(1);
        // By count, then name: which pages go does not depend on the order in which they came.
        let mut pages: Vec<(u32, &types::PageId, u32)> = self
            .pages
            .iter()
            .map(|(page, id)| {
                let slot = &self.slots[id as usize];
                (if self.rules.live { slot.counts[0] } else { slot.events }, page, id)
            })
            .collect();
        if share < pages.len() {
            pages.select_nth_unstable(share);
            pages.truncate(share);
        }
        let mut gone = vec![false; self.pages.span()];
        let ids: Vec<u32> = pages.into_iter().map(|(.., id)| id).collect();
        for id in &ids {
            gone[*id as usize] = true;
            let slot = &mut self.slots[*id as usize];
            for window in [&mut self.live, &mut self.burst, &mut self.settled] {
                let count = slot.counts[window.which() as usize];
                if count > 0 {
                    window.sub(slot, count);
                }
            }
            slot.attempts = 0;
        }
        let slots = &mut self.slots;
        for pane in self.ring.iter_mut() {
            pane.purge(|id| gone[id as usize], |id, events| slots[id as usize].events -= events);
        }
        for id in ids {
            // One that a batch in the middle of being counted names stays known, with a count of nothing.
            if self.slots[id as usize].events == 0 {
                self.forget(id);
                self.counters.evicted += 1;
            }
        }
    }
}
