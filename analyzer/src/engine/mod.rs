//! The pure engine of one shard: events in, exact counts of three windows out, in event time. It does no I/O, reads
//! no clock and asks nobody what time it is: the caller says how far event time has come. Where the lines are drawn
//! over several shards is decided outside.

mod evict;
mod ranking;

use types::{EventKind, HotPage, PageId, Timestamp};

use crate::intern::{NOBODY, PageTable};
use crate::pane::{Counting, Pane, PaneRing, Recorded, weight_of};
use crate::tables::HeatRow;
use crate::visitors::{Visitors, slot_of};
use crate::window::{FOLLOWED, Floors, Slot, Standing, Which, Window, lines};

pub use ranking::{Ranked, Ranking, bounded, covered};

/// The short window by which pages are promoted, in seconds.
pub const BURST_SECONDS: u32 = 5;
/// Longest window, in seconds: an hour; bounds the ring and keeps 32-bit counts from overflowing.
pub const MAX_WINDOW_SECONDS: u32 = 3600;
/// Greatest weight of a kind of event.
pub const MAX_WEIGHT: u32 = 1000;
/// Most pages of a shard whose visitors are followed: about 100 bytes each.
pub const MAX_FOLLOWED: usize = 1 << 19;
/// Up to this many, each page's visitors are followed from its first; beyond it, from a quarter of what makes a page
/// warm, so that what becomes warm has been followed before.
const EASILY_FOLLOWED: usize = 1 << 17;

/// What is counted and where the lines are drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Seconds of the window, 1 to [`MAX_WINDOW_SECONDS`].
    pub window: u32,
    /// A final window is made for each second divisible by this.
    pub slide: u32,
    /// Weight of view, cart, attempt; 0 to [`MAX_WEIGHT`], 0 = this kind is not counted.
    pub weights: [u32; 3],
    /// Most events of one visitor on one page in one pane; 0 = no cap.
    pub cap: u8,
    /// Floor of hot, in thousandths of a weighted event per second.
    pub hot_floor_milli: u32,
    /// Floor of warm, likewise.
    pub warm_floor_milli: u32,
    /// Most pages known at once.
    pub max_pages: usize,
    /// Seconds that panes may run ahead of the oldest one that is not final yet.
    pub spread: u32,
    /// Whether there are provisional standings, visitors and rows for queries, or final windows only.
    pub live: bool,
}

impl Rules {
    /// Floors of the window and of the short one.
    pub fn floors(&self) -> [Floors; 2] {
        [self.window, BURST_SECONDS].map(|s| Floors::of(self.hot_floor_milli, self.warm_floor_milli, s))
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It counts.
    Counted,
    /// Its kind has weight 0.
    Unweighted,
    /// The visitor has contributed all he may to this page in this second.
    Capped,
    /// Its pane is closed.
    Late,
    /// Its pane is further ahead than the ring reaches: settle first, then push it again.
    Ahead,
    /// The pane's count is at its bound.
    Full,
    /// The page is no page id.
    BadPage,
}

/// A window that will not change any more.
#[derive(Debug, Clone, PartialEq)]
pub struct FinalWindow {
    /// Exclusive end, a whole second.
    pub end: Timestamp,
    /// The lines.
    pub standing: Standing,
    /// Every hot page, by count descending, then page.
    pub hot: Vec<HotPage>,
}

/// Counters since the beginning (they survive a restart).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Events counted.
    pub counted: u64,
    /// Events over the cap per visitor.
    pub capped: u64,
    /// Events whose pane was closed.
    pub late: u64,
    /// Events refused because a pane's count was at its bound.
    pub full: u64,
    /// Pages evicted because the table was full.
    pub evicted: u64,
}

impl Counters {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            counted: self.counted + other.counted,
            capped: self.capped + other.capped,
            late: self.late + other.late,
            full: self.full + other.full,
            evicted: self.evicted + other.evicted,
        }
    }
}

/// The engine of one shard.
///
/// Three edges move over the seconds. The *head* is the newest second that the provisional windows cover. Panes before
/// *closed* take no more events. The window that is final ends at *settled*. `settled ≤ closed`, and a pane is kept as
/// long as a window may still need it.
#[derive(Debug)]
pub struct Engine {
    rules: Rules,
    counting: Counting,
    pages: PageTable,
    slots: Vec<Slot>,
    ring: PaneRing,
    live: Window,
    burst: Window,
    settled: Window,
    followed: Vec<Visitors>,
    follow_free: Vec<u32>,
    follow_from: u32,
    head: Option<i64>,
    // Oldest second of any event while nothing is settled.
    first: Option<i64>,
    // And the newest: the head may be far beyond it, where other shards are.
    last: Option<i64>,
    closed_to: Option<i64>,
    settled_to: Option<i64>,
    counters: Counters,
    scratch: Vec<u32>,
}

impl Engine {
    /// An empty engine.
    pub fn new(rules: Rules) -> Self {
        let live = rules.live;
        let greatest = rules.weights.iter().copied().max().unwrap_or(1).max(1);
        let most = u32::MAX / (rules.window + 1) / greatest;
        Self {
            counting: Counting { weights: rules.weights, cap: rules.cap, visitors: live, most },
            pages: PageTable::default(),
            slots: Vec::new(),
            // Two more: the pane that is being closed and the one that is just beginning.
            ring: PaneRing::new((rules.window + rules.spread + 2) as usize),
            live: Window::new(Which::Live),
            burst: Window::new(Which::Burst),
            settled: Window::new(Which::Settled),
            followed: Vec::new(),
            follow_free: Vec::new(),
            follow_from: 0,
            head: None,
            first: None,
            last: None,
            closed_to: None,
            settled_to: None,
            counters: Counters::default(),
            scratch: Vec::new(),
            rules,
        }
    }

    /// An empty engine that tells no visitors apart, whatever its rules say: to measure what they cost.
    pub fn without_visitors(rules: Rules) -> Self {
        let mut engine = Self::new(rules);
        (engine.counting.visitors, engine.counting.cap) = (false, 0);
        engine
    }

    /// An empty engine that goes on from `second`: nothing before it is final, nothing before it is wanted.
    pub fn starting_at(rules: Rules, second: i64, counters: Counters) -> Self {
        let (closed_to, settled_to) = (Some(second), Some(second));
        Self { closed_to, settled_to, counters, ..Self::new(rules) }
    }

    const fn span(&self) -> i64 {
        self.rules.window as i64
    }

    /// Whether an event of this second would fit into the ring now.
    pub fn fits(&self, second: i64) -> bool {
        let low = self.settled_to.or_else(|| self.closed_to.into_iter().chain(self.first).min());
        low.is_none_or(|low| second - (low - self.span()) < self.ring.seconds())
    }

    /// Counters since the beginning.
    pub const fn counters(&self) -> Counters {
        self.counters
    }
    /// Pages known now.
    pub fn known_pages(&self) -> usize {
        self.pages.len()
    }
    /// Contributions remembered in open panes.
    pub fn open_contributions(&self) -> usize {
        self.ring.iter().map(Pane::seen_len).sum()
    }
    /// How often all counts had to be read at once to list a top.
    pub const fn rebuilds(&self) -> u64 {
        self.live.rebuilds() + self.burst.rebuilds() + self.settled.rebuilds()
    }
    /// The name of a page's number.
    pub fn page(&self, id: u32) -> &PageId {
        self.pages.name(id)
    }
    /// The end of the window that is final.
    pub const fn settled_to(&self) -> Option<i64> {
        self.settled_to
    }
    /// Seconds before this take no more events.
    pub const fn closed_to(&self) -> Option<i64> {
        self.closed_to
    }
    /// Oldest second of any event while nothing is settled.
    pub const fn first(&self) -> Option<i64> {
        self.first
    }
    /// The newest second that has an event or was reached by [`Engine::advance`].
    pub const fn head(&self) -> Option<i64> {
        self.head
    }
    /// A page's counts in the short and the long provisional window.
    pub fn counts(&self, page: &str) -> Option<(u32, u32)> {
        let slot = &self.slots[self.pages.find(page)? as usize];
        Some((slot.counts[Which::Burst as usize], slot.counts[Which::Live as usize]))
    }
    /// The window that is final.
    pub const fn final_window(&mut self) -> &mut Window {
        &mut self.settled
    }
    /// The provisional window and the short one.
    pub const fn live_windows(&mut self) -> (&mut Window, &mut Window) {
        (&mut self.live, &mut self.burst)
    }

    /// Numbers for the pages of a batch, which stay theirs until [`Engine::unpin`], whatever leaves meanwhile.
    pub fn pin(&mut self, pages: &[PageId], ids: &mut Vec<u32>) {
        self.pages.find_all(pages, ids);
        for (id, page) in ids.iter_mut().zip(pages) {
            if *id == NOBODY {
                // A batch names each page once, but need not.
                *id = self.pages.find(page.as_str()).unwrap_or_else(|| self.admit(page.clone()));
            }
            self.slots[*id as usize].events += 1;
        }
    }

    /// The batch is counted.
    pub fn unpin(&mut self, ids: &[u32]) {
        for id in ids {
            let slot = &mut self.slots[*id as usize];
            slot.events -= 1;
            if slot.events == 0 {
                self.forget(*id);
            }
        }
    }

    fn admit(&mut self, page: PageId) -> u32 {
        if self.pages.len() >= self.rules.max_pages {
            self.evict_coldest();
        }
        let id = self.pages.insert_page(page);
        if self.slots.len() < self.pages.span() {
            self.slots.resize(self.pages.span().next_power_of_two().max(1024), Slot::default());
        }
        id
    }

    fn forget(&mut self, id: u32) {
        self.pages.forget(id);
        let slot = &mut self.slots[id as usize];
        let followed = slot.marks & FOLLOWED;
        if followed > 0 {
            slot.marks &= !FOLLOWED;
            self.followed[followed as usize - 1] = Visitors::new();
            self.follow_free.push(followed - 1);
        }
    }

    /// Counts one event.
    pub fn push(&mut self, page: &str, kind: EventKind, visitor: u64, at: Timestamp) -> Pushed {
        let second = at.second();
        if weight_of(&self.rules.weights, kind) == 0 {
            return Pushed::Unweighted;
        }
        if let Some(refused) = self.misplaced(second) {
            self.counters.late += u64::from(refused == Pushed::Late);
            return refused;
        }
        let id = match self.pages.find(page) {
            Some(id) => id,
            None => match PageId::new(page) {
                Ok(page) => self.admit(page),
                Err(_) => return Pushed::BadPage,
            },
        };
        let pushed = self.push_id(id, kind, visitor, second);
        if self.slots[id as usize].events == 0 {
            self.forget(id);
        }
        pushed
    }

    /// Counts one event of a page that has been pinned.
    #[inline]
    pub fn push_id(&mut self, id: u32, kind: EventKind, visitor: u64, second: i64) -> Pushed {
        let weight = weight_of(&self.rules.weights, kind);
        if weight == 0 {
            return Pushed::Unweighted;
        }
        if let Some(refused) = self.misplaced(second) {
            self.counters.late += u64::from(refused == Pushed::Late);
            return refused;
        }
        match self.ring.open(second).record(id, kind, visitor, &self.counting) {
            Recorded::Counted { new_visitor } => {
                if self.settled_to.is_none() {
                    self.first = Some(self.first.map_or(second, |first| first.min(second)));
                    self.last = self.last.max(Some(second));
                }
                if self.head.is_none_or(|head| second > head) {
                    self.advance(second);
                }
                self.slots[id as usize].events += 1;
                if self.rules.live {
                    self.count_live(id, kind, weight, second, new_visitor.then_some(visitor));
                }
                self.counters.counted += 1;
                Pushed::Counted
            }
            Recorded::Capped => {
                self.counters.capped += 1;
                Pushed::Capped
            }
            Recorded::Full => {
                self.counters.full += 1;
                Pushed::Full
            }
        }
    }

    #[inline]
    fn misplaced(&self, second: i64) -> Option<Pushed> {
        if self.closed_to.is_some_and(|closed| second < closed) {
            return Some(Pushed::Late);
        }
        if self.settled_to.is_none()
            && self.last.is_some_and(|last| last - (second - self.span()) >= self.ring.seconds())
        {
            // Nothing is final yet: the ring may be full of newer seconds.
            return Some(Pushed::Late);
        }
        (!self.fits(second)).then_some(Pushed::Ahead)
    }

    #[inline]
    fn count_live(&mut self, id: u32, kind: EventKind, weight: u32, second: i64, new_visitor: Option<u64>) {
        let head = self.head.unwrap_or(second);
        let slot = &mut self.slots[id as usize];
        if second > head - i64::from(self.rules.window) {
            self.live.add(id, slot, weight);
        }
        if second > head - i64::from(BURST_SECONDS) {
            self.burst.add(id, slot, weight);
            slot.attempts += u32::from(kind == EventKind::Attempt);
        }
        let Some(visitor) = new_visitor else { return };
        let mut place = slot.marks & FOLLOWED;
        if place == 0 {
            if slot.counts[Which::Live as usize] < self.follow_from {
                return;
            }
            let free = self.follow_free.pop();
            if free.is_none() && self.followed.len() >= MAX_FOLLOWED {
                return;
            }
            place = 1 + free.unwrap_or_else(|| {
                self.followed.push(Visitors::new());
                (self.followed.len() - 1) as u32
            });
            slot.marks |= place;
        }
        self.followed[place as usize - 1].visit(slot_of(second), slot_of(head), visitor);
    }

    /// Event time has come to `second`: what is older than the provisional windows leaves them.
    pub fn advance(&mut self, to: i64) {
        let Some(from) = self.head else {
            self.head = Some(to);
            return;
        };
        if to <= from {
            return;
        }
        self.head = Some(to);
        if !self.rules.live {
            return;
        }
        let (counting, slots) = (&self.counting, &mut self.slots);
        for (window, span) in [(&mut self.live, i64::from(self.rules.window)), (&mut self.burst, BURST_SECONDS.into())]
        {
            let burst = window.which() == Which::Burst;
            for second in (from - span + 1)..=(to - span).min(from) {
                let Some(pane) = self.ring.get(second) else { continue };
                pane.each(|row| {
                    let slot = &mut slots[row.id as usize];
                    window.sub(slot, counting.weighted(&row));
                    if burst {
                        slot.attempts -= row.events[2];
                    }
                });
            }
        }
    }

    /// Seconds before `to` take no more events.
    pub fn close(&mut self, to: i64) {
        let from = self.closed_to.or(self.first).unwrap_or(to).min(to);
        if to.saturating_sub(from) > self.ring.seconds() {
            // A long gap: only the panes that there are.
            let seconds: Vec<i64> =
                self.ring.iter().filter(|p| !p.is_closed() && p.second < to).map(|p| p.second).collect();
            for second in seconds {
                self.ring.close(second, &mut self.scratch);
            }
        } else {
            for second in from..to {
                self.ring.close(second, &mut self.scratch);
            }
        }
        self.closed_to = self.closed_to.max(Some(to));
    }

    /// The window that is final ends at `end` from now on, one second after it did or, while nothing was ever settled,
    /// anywhere. Closes what it needs. Answers the rows of its last second, with [`Rules::live`].
    pub fn settle(&mut self, end: i64) -> Vec<HeatRow> {
        self.close(end);
        let second = end - 1;
        // The provisional windows must have let go of a pane before it is dropped below.
        self.advance(second);
        let mut rows = Vec::new();
        if let Some(pane) = self.ring.get_mut(second) {
            let visitors = pane.take_visitors();
            for row in pane.rows() {
                let slot = &mut self.slots[row.id as usize];
                self.settled.add(row.id, slot, self.counting.weighted(row));
            }
            if self.rules.live {
                rows = crate::live::rows_of(pane, &visitors, &self.pages, &self.counting);
            }
        }
        if let Some(pane) = self.ring.take(second - self.span()) {
            for row in pane.rows() {
                let slot = &mut self.slots[row.id as usize];
                let weighted = self.counting.weighted(row);
                self.settled.sub(slot, weighted);
                slot.events -= row.events.iter().sum::<u32>();
                if slot.events == 0 {
                    self.forget(row.id);
                }
            }
        }
        self.settled_to = Some(end);
        rows
    }

    /// Nothing is kept before `second` and no event came since: the window is empty and its end may move there.
    pub fn skip_to(&mut self, second: i64) {
        self.close(second);
        self.advance(second - 1);
        self.settled_to = Some(second);
    }

    /// The oldest pane at or behind the end of the window that is final, if any waits to be settled.
    pub fn next_pane(&self) -> Option<i64> {
        let from = self.settled_to.unwrap_or(i64::MIN);
        self.ring.iter().map(|pane| pane.second).filter(|second| *second >= from).min()
    }

    /// The pages of the window that is final with a count of at least `least`, in no order.
    pub fn hot(&mut self, least: u32) -> Vec<HotPage> {
        let ids = self.settled.at_least(least, &mut self.slots);
        let page = |id: u32| {
            let count = self.slots[id as usize].counts[Which::Settled as usize].into();
            HotPage { page: self.pages.name(id).clone(), count }
        };
        ids.into_iter().map(page).collect()
    }

    /// For a shard that stands alone: settles every second that ends at or before `watermark`, in order, and hands
    /// out each window that ends by the slide.
    pub fn seal(&mut self, watermark: Timestamp, mut yields: impl FnMut(FinalWindow)) {
        let Some(from) = self.settled_to.or(self.first) else { return };
        for end in (from + 1)..=watermark.second() {
            self.settle(end);
            if end.rem_euclid(i64::from(self.rules.slide.max(1))) == 0 {
                let standing = lines(std::iter::once(&mut self.settled), &[], self.rules.floors()[0]);
                let mut hot = if standing.active > 0 { self.hot(standing.hot) } else { Vec::new() };
                by_heat(&mut hot);
                yields(FinalWindow { end: Timestamp::from_seconds(end), standing, hot });
            }
        }
    }
}

/// By count descending, then page.
pub fn by_heat(hot: &mut [HotPage]) {
    hot.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.page.cmp(&b.page)));
}
