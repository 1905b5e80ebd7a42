//! The provisional standing of one shard at one moment: every page above the lines with its evidence. It changes
//! nothing but how far event time has come; the lines are drawn over all shards together, elsewhere.

use rustc_hash::FxHashMap;
use types::{PageId, Timestamp};

use super::{BURST_SECONDS, EASILY_FOLLOWED, Engine};
use crate::rank::{Counts, Sum, smallest_with_at_most};
use crate::visitors::slot_of;
use crate::window::{FOLLOWED, Standing, Which};

/// One page of the provisional ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The page.
    pub page: PageId,
    /// Weighted events in the short window.
    pub count5: u32,
    /// Weighted events in the window.
    pub count60: u32,
    /// Distinct visitors of the last minute.
    pub visitors: u64,
    /// Change of the weighted rate, events/s per second.
    pub slope: f64,
    /// Purchase attempts per second, not weighted, over the short window.
    pub attempts_per_s: f64,
}

/// The provisional standing at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// The lines of the window.
    pub standing: Standing,
    /// The lines of the short window.
    pub burst: Standing,
    /// Pages that are hot or warm in a window, by count60 descending, then page.
    pub pages: Vec<Ranked>,
    /// Pages that are hot or warm but were left out because the list is bounded (the coldest).
    pub cut: u64,
    /// Counted events per second over the short window.
    pub events_per_s: f64,
}

/// From which count on pages are listed, by the window and by the short one, and how many that leaves out: at most
/// `most` pages of all shards, half of them by each window.
pub fn bounded<'a>(
    shards: impl Iterator<Item = &'a Engine>,
    standing: [Standing; 2],
    most: u64,
) -> ([Option<u32>; 2], u64) {
    let shards: Vec<&Engine> = shards.collect();
    let (mut leasts, mut cut) = ([None; 2], 0);
    for ((which, lines), least) in [Which::Live, Which::Burst].into_iter().zip(standing).zip(&mut leasts) {
        if lines.active == 0 {
            continue;
        }
        let parts: Vec<_> = shards
            .iter()
            .map(|engine| if which == Which::Live { engine.live.histogram() } else { engine.burst.histogram() })
            .collect();
        let from = lines.warm.max(smallest_with_at_most(&Sum(&parts), most / 2));
        if from > lines.warm {
            cut += Sum(&parts).reaching(lines.warm) - Sum(&parts).reaching(from);
        }
        *least = Some(from);
    }
    (leasts, cut)
}

impl Engine {
    /// The pages at or above a count in the window or in the short one, at event time `now`, in no order.
    pub fn rank(&mut self, now: Timestamp, leasts: [Option<u32>; 2]) -> Vec<Ranked> {
        self.advance(now.second());
        let mut ids = Vec::new();
        for (window, least) in [&mut self.live, &mut self.burst].into_iter().zip(leasts) {
            if let Some(least) = least {
                ids.extend(window.at_least(least, &mut self.slots));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        self.follow(leasts);
        let head = self.head.unwrap_or(now.second());
        let covered = covered(now, head);
        let before = self.before(head, &ids);
        ids.into_iter().zip(before).map(|(id, before)| self.ranked(id, head, covered, before)).collect()
    }

    /// Counted events in the short window.
    pub fn burst_events(&self) -> u64 {
        let Some(head) = self.head else { return 0 };
        let range = (head - i64::from(BURST_SECONDS) + 1)..=head;
        range.filter_map(|second| self.ring.get(second)).map(crate::pane::Pane::events).sum()
    }

    // Whose visitors are followed from now on.
    fn follow(&mut self, leasts: [Option<u32>; 2]) {
        let followed = self.followed.len() - self.follow_free.len();
        if followed > EASILY_FOLLOWED {
            let warm = leasts.into_iter().flatten().min().unwrap_or(0);
            self.follow_from = self.follow_from.max(2).max(warm / 4);
        } else if followed < EASILY_FOLLOWED / 2 {
            self.follow_from = 0;
        }
    }

    // Weighted events of these pages in the five seconds before the short window.
    fn before(&self, head: i64, ids: &[u32]) -> Vec<u64> {
        let burst = i64::from(BURST_SECONDS);
        let mut before = vec![0; ids.len()];
        for pane in ((head - 2 * burst + 1)..=(head - burst)).filter_map(|second| self.ring.get(second)) {
            if pane.is_closed() {
                for (id, sum) in ids.iter().zip(&mut before) {
                    *sum += pane.row(*id).map_or(0, |row| u64::from(self.counting.weighted(row)));
                }
            } else {
                let mut counts: FxHashMap<u32, u64> = ids.iter().map(|id| (*id, 0)).collect();
                pane.each(|row| {
                    if let Some(count) = counts.get_mut(&row.id) {
                        *count += u64::from(self.counting.weighted(&row));
                    }
                });
                ids.iter().zip(&mut before).for_each(|(id, sum)| *sum += counts[id]);
            }
        }
        before
    }

    fn ranked(&mut self, id: u32, head: i64, covered: f64, before: u64) -> Ranked {
        let burst = f64::from(BURST_SECONDS);
        let slot = &self.slots[id as usize];
        let count5 = slot.counts[Which::Burst as usize];
        let followed = slot.marks & FOLLOWED;
        let visitors = if followed == 0 { 0 } else { self.followed[followed as usize - 1].count(slot_of(head)) };
        Ranked {
            page: self.pages.name(id).clone(),
            count5,
            count60: slot.counts[Which::Live as usize],
            visitors,
            slope: (f64::from(count5) / covered - before as f64 / burst) / burst,
            attempts_per_s: f64::from(slot.attempts) / covered,
        }
    }
}

/// Seconds that the short window covers: the newest pane is still filling, so four and a fraction.
pub fn covered(now: Timestamp, head: i64) -> f64 {
    let begun = (now.millis() - Timestamp::from_seconds(head).millis()).clamp(0, 1000) as f64 / 1000.0;
    f64::from(BURST_SECONDS - 1) + begun
}
