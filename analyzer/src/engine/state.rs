//! The engine's whole state as plain values, for a checkpoint: putting it back and going on is the same
//! as never having stopped. How it becomes bytes is not decided here.

use types::{Invalid, PageId};

use super::{Counters, Engine, Rules};
use crate::pane::{Contribution, Pane, Row};
use crate::visitors::{Kept, Visitors, slot_of};
use crate::window::Window;

/// A page by its place in [`EngineState::pages`].
pub type PageNumber = u32;

/// One pane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PaneState {
    /// Its second.
    pub second: i64,
    /// Whether it is sealed.
    pub sealed: bool,
    /// Its rows; `id` is a [`PageNumber`].
    pub rows: Vec<Row>,
    /// What each visitor of an open pane did.
    pub seen: Vec<(PageNumber, u64, Contribution)>,
}

/// Everything the engine knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineState {
    /// Newest second reached.
    pub head: Option<i64>,
    /// The first watermark.
    pub low: Option<i64>,
    /// Oldest second of an event while nothing is sealed.
    pub first: Option<i64>,
    /// The next second to be sealed.
    pub frontier: Option<i64>,
    /// Empty windows in a row.
    pub empty_run: u64,
    /// Counters since the beginning.
    pub counters: Counters,
    /// The pages that the rest names by number.
    pub pages: Vec<PageId>,
    /// Panes by second.
    pub panes: Vec<PaneState>,
    /// Visitors of the last minute.
    pub visitors: Vec<(PageNumber, Kept)>,
}

impl Engine {
    /// The whole state, in an order that does not depend on how it came about.
    pub fn state(&mut self) -> EngineState {
        let mut names: Vec<(PageId, u32)> = self.pages.iter().map(|(page, id)| (page.clone(), id)).collect();
        names.sort_unstable();
        let mut number = vec![0; self.pages.span()];
        for (at, (_, id)) in names.iter().enumerate() {
            number[*id as usize] = at as PageNumber;
        }
        let mut panes: Vec<PaneState> = self
            .ring
            .iter()
            .map(|pane| {
                let mut rows: Vec<Row> =
                    pane.rows().iter().map(|row| Row { id: number[row.id as usize], ..*row }).collect();
                rows.sort_unstable_by_key(|row| row.id);
                let mut seen: Vec<_> = pane.seen().map(|(id, visitor, c)| (number[id as usize], visitor, c)).collect();
                seen.sort_unstable_by_key(|(page, visitor, _)| (*page, *visitor));
                PaneState { second: pane.second, sealed: pane.is_sealed(), rows, seen }
            })
            .collect();
        panes.sort_unstable_by_key(|pane| pane.second);
        let now = slot_of(self.head.unwrap_or(0));
        let mut visitors: Vec<_> =
            self.visitors.iter_mut().map(|(id, page)| (number[*id as usize], page.keep(now))).collect();
        visitors.sort_unstable_by_key(|(page, _)| *page);
        EngineState {
            head: self.head,
            low: self.low,
            first: self.first,
            frontier: self.frontier,
            empty_run: self.empty_run,
            counters: self.counters,
            pages: names.into_iter().map(|(page, _)| page).collect(),
            panes,
            visitors,
        }
    }

    /// An engine that goes on from `state`. Refuses a state that contradicts itself or does not fit these rules.
    pub fn restore(rules: Rules, state: EngineState) -> Result<Self, Invalid> {
        let mut engine = Self::new(rules);
        let bad = |why: &str| Invalid::new("checkpoint", why.to_owned());
        if state.panes.windows(2).any(|pair| pair[0].second >= pair[1].second) {
            return Err(bad("its panes are not in order"));
        }
        let seconds = || state.panes.iter().map(|pane| pane.second);
        if let (Some(first), Some(last)) = (seconds().min(), seconds().max()) {
            if last.saturating_sub(first) >= engine.ring.seconds() {
                return Err(bad("its panes reach further than these rules keep"));
            }
            if state.head.is_none_or(|head| head < last) {
                return Err(bad("a pane is newer than the newest second"));
            }
            if state.panes.iter().any(|pane| pane.sealed != state.frontier.is_some_and(|f| pane.second < f)) {
                return Err(bad("a pane is sealed that is not final, or the other way round"));
            }
            let oldest = state.frontier.map_or(first, |frontier| frontier - i64::from(engine.rules.window));
            if first < oldest {
                return Err(bad("a pane is older than the window of these rules"));
            }
        }
        if state.pages.len() > engine.rules.max_pages {
            return Err(bad("it names more pages than these rules keep"));
        }
        (engine.head, engine.low) = (state.head, state.low);
        (engine.first, engine.frontier) = (state.first, state.frontier);
        (engine.empty_run, engine.counters) = (state.empty_run, state.counters);
        let mut ids = Vec::with_capacity(state.pages.len());
        for page in &state.pages {
            if engine.pages.find(page.as_str()).is_some() {
                return Err(bad("it names a page twice"));
            }
            ids.push(engine.admit(page.as_str()).ok_or_else(|| bad("it names a page that is none"))?);
        }
        let id_of = |page: PageNumber| ids.get(page as usize).copied().ok_or_else(|| bad("it names an unknown page"));
        for kept in state.panes {
            let rows = kept.rows.into_iter().map(|row| Ok(Row { id: id_of(row.id)?, ..row }));
            let mut pane = Pane::restore(kept.second, rows.collect::<Result<_, Invalid>>()?, kept.sealed);
            for (page, visitor, contribution) in kept.seen {
                pane.remember(id_of(page)?, visitor, contribution);
            }
            if !engine.put_pane(pane) {
                return Err(bad("its counts are larger than a window holds"));
            }
        }
        for (page, kept) in state.visitors {
            engine.visitors.insert(id_of(page)?, Visitors::restore(kept));
        }
        if ids.iter().any(|id| !engine.pages.is_mentioned(*id)) {
            return Err(bad("it names a page that no pane mentions"));
        }
        Ok(engine)
    }

    // False if a count is beyond what record() would ever have let in.
    fn put_pane(&mut self, pane: Pane) -> bool {
        let (second, head) = (pane.second, self.head.unwrap_or(pane.second));
        for row in pane.rows() {
            let Some(weighted) = self.counting.checked(row) else { return false };
            self.pages.mention(row.id);
            let enter = |window: &mut Window, wanted: bool| {
                if wanted {
                    window.add(row.id, weighted);
                }
            };
            enter(&mut self.live, self.rules.live && second > head - i64::from(self.rules.window));
            enter(&mut self.burst, self.rules.live && second > head - i64::from(super::BURST_SECONDS));
            enter(&mut self.settled, pane.is_sealed());
        }
        self.ring.put(pane);
        true
    }
}
