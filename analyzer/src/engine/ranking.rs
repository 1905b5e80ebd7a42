//! The provisional standing at one moment: the lines, and every page above them with its evidence. It
//! changes nothing but how far event time has come.

use types::{Thresholds, Timestamp};

use super::{BURST_SECONDS, Engine};
use crate::pane::{Pane, PaneRing};
use crate::visitors::slot_of;
use crate::window::Standing;

/// One page of the provisional ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The page's number.
    pub id: u32,
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

impl Ranking {
    /// The lines as reports write them.
    pub fn thresholds(&self) -> Thresholds {
        Thresholds {
            hot60: self.standing.hot.into(),
            warm60: self.standing.warm.into(),
            hot5: self.burst.hot.into(),
            warm5: self.burst.warm.into(),
        }
    }
}

impl Engine {
    /// The lines of the window and of the short window at event time `now`, without any page.
    pub fn lines(&mut self, now: Timestamp) -> (Standing, Standing) {
        self.advance(now);
        (self.live.standing(self.floors), self.burst.standing(self.burst_floors))
    }

    /// The provisional standing at event time `now`, with at most `most` pages (half of them by each window).
    pub fn rank(&mut self, now: Timestamp, most: u64) -> Ranking {
        let (standing, burst) = self.lines(now);
        let (mut ids, mut cut) = (Vec::new(), 0);
        for (window, lines) in [(&mut self.live, standing), (&mut self.burst, burst)] {
            if lines.active == 0 {
                continue;
            }
            let least = lines.warm.max(window.histogram().smallest_with_at_most(most / 2));
            if least > lines.warm {
                cut += window.histogram().reaching(lines.warm) - window.histogram().reaching(least);
            }
            ids.extend(window.at_least(least));
        }
        ids.sort_unstable();
        ids.dedup();
        let head = self.head.unwrap_or(now.second());
        // The newest pane is still filling: the short window covers four seconds and this fraction.
        let begun = (now.millis() - Timestamp::from_seconds(head).millis()).clamp(0, 1000) as f64 / 1000.0;
        let covered = f64::from(BURST_SECONDS - 1) + begun;
        let mut pages: Vec<Ranked> = ids.into_iter().map(|id| self.ranked(id, head, covered)).collect();
        pages.sort_by(|a, b| b.count60.cmp(&a.count60).then_with(|| self.page(a.id).cmp(self.page(b.id))));
        let burst_range = (head - i64::from(BURST_SECONDS) + 1)..=head;
        let events: u64 = burst_range.filter_map(|second| self.ring.get(second)).map(Pane::events).sum();
        Ranking { standing, burst, pages, cut, events_per_s: events as f64 / covered }
    }

    fn ranked(&mut self, id: u32, head: i64, covered: f64) -> Ranked {
        let burst = i64::from(BURST_SECONDS);
        let rows = |ring: &PaneRing, from: i64, to: i64| -> (u64, u64) {
            ((from + 1)..=to)
                .filter_map(|second| ring.get(second)?.row(id).copied())
                .fold((0, 0), |(w, a), row| (w + u64::from(self.counting.weighted(&row)), a + u64::from(row.events[2])))
        };
        let (_, attempts) = rows(&self.ring, head - burst, head);
        let (before, _) = rows(&self.ring, head - 2 * burst, head - burst);
        let count5 = self.burst.count(id);
        let slope = (f64::from(count5) / covered - before as f64 / burst as f64) / burst as f64;
        Ranked {
            id,
            count5,
            count60: self.live.count(id),
            visitors: self.visitors.get_mut(&id).map_or(0, |page| page.count(slot_of(head))),
            slope,
            attempts_per_s: attempts as f64 / covered,
        }
    }
}
