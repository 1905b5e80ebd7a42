//! The pure engine: events in, exact standings and final windows out, in event time. It does no I/O,
//! reads no clock and asks nobody what time it is: the caller says how far event time has come.

mod evict;
mod ranking;
mod state;

use rustc_hash::FxHashMap;
use types::{EventKind, HotPage, Timestamp};

use crate::intern::PageTable;
use crate::pane::{Counting, Pane, PaneRing, Recorded, weight_of};
use crate::tables::HeatRow;
use crate::visitors::{Visitors, slot_of};
use crate::window::{Floors, Standing, Window};

pub use ranking::{Ranked, Ranking};
pub use state::{EngineState, PageNumber, PaneState};

/// The short window by which pages are promoted, in seconds.
pub const BURST_SECONDS: u32 = 5;
/// Longest window, in seconds: an hour; bounds the ring and keeps 32-bit counts from overflowing.
pub const MAX_WINDOW_SECONDS: u32 = 3600;
/// Greatest weight of a kind of event.
pub const MAX_WEIGHT: u32 = 1000;
/// Most pages whose visitors are followed: about 100 bytes each. Beyond it, pages that are not followed
/// yet show no visitors until others leave.
pub const MAX_FOLLOWED: usize = 1 << 20;
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
    /// After this many empty windows in a row a gap is skipped; `None` = never.
    pub skip_empty_after: Option<u64>,
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
    /// Its pane is final.
    Late,
    /// Its pane is further ahead than the ring reaches: seal first, then push it again.
    Ahead,
    /// The page's count in this pane is at its bound.
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

/// What sealing a second yields.
#[derive(Debug)]
pub struct Sealed {
    /// The window that ends with it, if a window ends here by the slide.
    pub window: Option<FinalWindow>,
    /// The second's rows for queries, by page, then kind (with [`Rules::live`] only; empty seconds have none).
    pub rows: Vec<HeatRow>,
}

/// Counters since the beginning (they survive in the checkpoint).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Events counted.
    pub counted: u64,
    /// Events over the cap per visitor.
    pub capped: u64,
    /// Events whose pane was final.
    pub late: u64,
    /// Events refused because a pane's count was at its bound.
    pub full: u64,
    /// Pages evicted because the table was full.
    pub evicted: u64,
    /// Empty windows skipped in long gaps.
    pub skipped: u64,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    rules: Rules,
    counting: Counting,
    floors: Floors,
    burst_floors: Floors,
    pages: PageTable,
    ring: PaneRing,
    live: Window,
    burst: Window,
    settled: Window,
    visitors: FxHashMap<u32, Visitors>,
    // Newest second that provisional standings cover.
    head: Option<i64>,
    // While nothing is sealed: the first watermark, below which no event will be on time; the ring keeps
    // room from there, whatever comes first.
    low: Option<i64>,
    // Oldest second of any event while nothing is sealed.
    first: Option<i64>,
    // The next second to be sealed, once sealing has begun.
    frontier: Option<i64>,
    empty_run: u64,
    counters: Counters,
}

impl Engine {
    /// An empty engine.
    pub fn new(rules: Rules) -> Self {
        let most = u32::MAX / (rules.window + 1);
        let live = rules.live;
        Self {
            counting: Counting { weights: rules.weights, cap: rules.cap, visitors: live, most },
            floors: Floors::of(rules.hot_floor_milli, rules.warm_floor_milli, rules.window),
            burst_floors: Floors::of(rules.hot_floor_milli, rules.warm_floor_milli, BURST_SECONDS),
            pages: PageTable::default(),
            // Two more: the pane that is being sealed and the one that is just beginning.
            ring: PaneRing::new((rules.window + rules.spread + 2) as usize),
            live: Window::default(),
            burst: Window::default(),
            settled: Window::default(),
            visitors: FxHashMap::default(),
            head: None,
            low: None,
            first: None,
            frontier: None,
            empty_run: 0,
            counters: Counters::default(),
            rules,
        }
    }

    fn span(&self) -> i64 {
        i64::from(self.rules.window)
    }

    /// Whether an event of this second would fit into the ring now.
    pub fn fits(&self, second: i64) -> bool {
        let low = || self.low.or(self.first).map(|low| self.first.map_or(low, |first| first.min(low)));
        self.frontier.or_else(low).is_none_or(|low| second - (low - self.span()) < self.ring.seconds())
    }

    /// Whether it is known how far back events can still come. Until then a log of several partitions
    /// must not be counted: what is read first need not be oldest.
    pub const fn has_begun(&self) -> bool {
        self.low.is_some() || self.frontier.is_some()
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
    /// How often all counts had to be read to list a top.
    pub const fn rebuilds(&self) -> u64 {
        self.live.rebuilds() + self.burst.rebuilds() + self.settled.rebuilds()
    }
    /// The name of a page's number.
    pub fn page(&self, id: u32) -> &types::PageId {
        self.pages.name(id)
    }
    /// The end of the last second that was sealed.
    pub fn sealed_to(&self) -> Option<Timestamp> {
        self.frontier.map(Timestamp::from_seconds)
    }
    /// The newest second that has an event or was reached by [`Engine::advance`].
    pub const fn head(&self) -> Option<i64> {
        self.head
    }
    /// A page's counts in the short and the long provisional window.
    pub fn counts(&self, page: &str) -> (u32, u32) {
        self.pages.find(page).map_or((0, 0), |id| (self.burst.count(id), self.live.count(id)))
    }

    /// The rows of every sealed second that is kept, in order.
    pub fn sealed_rows(&self) -> Vec<(i64, Vec<HeatRow>)> {
        let mut panes: Vec<&Pane> = self.ring.iter().filter(|pane| pane.is_sealed()).collect();
        panes.sort_unstable_by_key(|pane| pane.second);
        let rows = |pane: &Pane| (pane.second, crate::live::rows_of(pane, &self.pages, &self.counting));
        panes.into_iter().map(rows).collect()
    }

    /// Counts one event.
    #[inline]
    pub fn push(&mut self, page: &str, kind: EventKind, visitor: u64, at: Timestamp) -> Pushed {
        let weight = weight_of(&self.rules.weights, kind);
        if weight == 0 {
            return Pushed::Unweighted;
        }
        let second = at.second();
        if let Some(refused) = self.misplaced(second) {
            if refused == Pushed::Late {
                self.counters.late += 1;
            }
            return refused;
        }
        let id = match self.pages.find(page) {
            Some(id) => id,
            None => match self.admit(page) {
                Some(id) => id,
                None => return Pushed::BadPage,
            },
        };
        match self.ring.open(second).record(id, kind, visitor, &self.counting) {
            Recorded::Counted { new_row, new_visitor } => {
                if new_row {
                    self.pages.mention(id);
                }
                if self.frontier.is_none() {
                    self.first = Some(self.first.map_or(second, |first| first.min(second)));
                }
                if self.head.is_none_or(|head| second > head) {
                    self.advance(Timestamp::from_seconds(second));
                }
                if self.rules.live {
                    self.count_live(id, weight, second, new_visitor.then_some(visitor));
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

    fn misplaced(&self, second: i64) -> Option<Pushed> {
        match (self.frontier, self.low) {
            (Some(low), _) | (None, Some(low)) if second < low => Some(Pushed::Late),
            // One stream, of which nothing is final yet: the ring may be full of newer seconds.
            (None, None) if self.head.is_some_and(|head| head - (second - self.span()) >= self.ring.seconds()) => {
                Some(Pushed::Late)
            }
            _ if !self.fits(second) => Some(Pushed::Ahead),
            _ => None,
        }
    }

    fn admit(&mut self, page: &str) -> Option<u32> {
        if self.pages.len() >= self.rules.max_pages {
            self.evict_coldest();
        }
        let id = self.pages.insert(page).ok()?;
        let span = self.pages.span();
        // Windows grow in steps, so that a new page does not mean a new allocation.
        let room = span.next_power_of_two().max(1024);
        self.settled.grow(room);
        if self.rules.live {
            self.live.grow(room);
            self.burst.grow(room);
        }
        Some(id)
    }

    fn count_live(&mut self, id: u32, weight: u32, second: i64, new_visitor: Option<u64>) {
        let head = self.head.unwrap_or(second);
        if second > head - self.span() {
            self.live.add(id, weight);
        }
        if second > head - i64::from(BURST_SECONDS) {
            self.burst.add(id, weight);
        }
        if let Some(visitor) = new_visitor {
            let room = self.visitors.len() < MAX_FOLLOWED;
            let page = match self.visitors.entry(id) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) if room => entry.insert(Visitors::new()),
                std::collections::hash_map::Entry::Vacant(_) => return,
            };
            page.visit(slot_of(second), slot_of(head), visitor);
        }
    }

    /// Event time has come to `now`: what is older than the provisional windows leaves them.
    pub fn advance(&mut self, now: Timestamp) {
        let to = now.second();
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
        for (window, span) in [(&mut self.live, i64::from(self.rules.window)), (&mut self.burst, BURST_SECONDS.into())]
        {
            for second in (from - span + 1)..=(to - span).min(from) {
                let Some(pane) = self.ring.get(second) else { continue };
                for row in pane.rows() {
                    window.sub(row.id, self.counting.weighted(row));
                }
            }
        }
    }

    /// Seals every second that ends at or before `watermark`, in order, and hands out what that yields.
    pub fn seal(&mut self, watermark: Timestamp, mut yields: impl FnMut(Sealed)) {
        let end = watermark.second();
        if self.first.is_none() && self.frontier.is_none() {
            self.low = self.low.max(Some(end));
        }
        let Some(mut second) = self.frontier.or(self.first) else { return };
        while second < end {
            if let Some(limit) = self.rules.skip_empty_after
                && self.empty_run >= limit
                && self.settled.histogram().active() == 0
            {
                let next = self.ring.iter().map(|pane| pane.second).filter(|s| *s >= second).min();
                let next = next.map_or(end, |next| next.min(end));
                if next > second {
                    self.counters.skipped += u64::try_from(next - second).unwrap_or(0);
                    // What eviction has emptied would otherwise keep its place in the ring.
                    self.ring.drop_before(next);
                    second = next;
                    self.frontier = Some(second);
                    continue;
                }
            }
            let sealed = self.seal_second(second);
            second += 1;
            self.frontier = Some(second);
            yields(sealed);
        }
    }

    fn seal_second(&mut self, second: i64) -> Sealed {
        // The provisional windows must have let go of a pane before it is dropped below.
        self.advance(Timestamp::from_seconds(second));
        let mut rows = Vec::new();
        if let Some(pane) = self.ring.get_mut(second) {
            pane.seal();
            for row in pane.rows() {
                self.settled.add(row.id, self.counting.weighted(row));
            }
            if self.rules.live {
                rows = crate::live::rows_of(pane, &self.pages, &self.counting);
            }
        }
        if let Some(pane) = self.ring.take(second - self.span()) {
            for row in pane.rows() {
                self.settled.sub(row.id, self.counting.weighted(row));
                if self.pages.forget(row.id) {
                    self.visitors.remove(&row.id);
                }
            }
        }
        let empty = self.settled.histogram().active() == 0;
        self.empty_run = if empty { self.empty_run + 1 } else { 0 };
        let ends = second + 1;
        let window = (ends.rem_euclid(i64::from(self.rules.slide.max(1))) == 0).then(|| self.final_window(ends));
        Sealed { window, rows }
    }

    fn final_window(&mut self, end: i64) -> FinalWindow {
        let standing = self.settled.standing(self.floors);
        let mut hot: Vec<HotPage> = Vec::new();
        if standing.active > 0 {
            for id in self.settled.at_least(standing.hot) {
                hot.push(HotPage { page: self.pages.name(id).clone(), count: self.settled.count(id).into() });
            }
            hot.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.page.cmp(&b.page)));
        }
        FinalWindow { end: Timestamp::from_seconds(end), standing, hot }
    }
}
