//! One second of event time: which pages had how many events of each kind, and while it is open, who
//! has contributed. It counts events, never weights, so that weights can change over a restart.

use hashbrown::HashMap;
use rustc_hash::FxHashMap;
use types::EventKind;

/// Most contributions that one open pane remembers by visitor (about 100 MB). Beyond it events count
/// without the cap per visitor: heat that is a little too high is better than memory without end.
pub const MAX_SEEN: usize = 2_000_000;

/// One page in one pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The page's number.
    pub id: u32,
    /// Counted events by kind, as in [`EventKind::ALL`].
    pub events: [u32; 3],
    /// Distinct visitors by kind.
    pub visitors: [u32; 3],
}

/// What one visitor did on one page in an open pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contribution {
    /// Events counted.
    pub counted: u8,
    /// Kinds among them, one bit each.
    pub kinds: u8,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Counted.
    Counted {
        /// The page had no event in this pane before.
        new_row: bool,
        /// The visitor had no event on this page in this pane before (as far as is remembered).
        new_visitor: bool,
    },
    /// The visitor has contributed all he may.
    Capped,
    /// The pane's count of this page is at its bound.
    Full,
}

/// One second.
#[derive(Debug, Clone, Default)]
pub struct Pane {
    /// The second of event time.
    pub second: i64,
    rows: Vec<Row>,
    index: FxHashMap<u32, u32>,
    // The visitor hash is keyed by the collector; hashbrown's default hash mixes the pair.
    seen: HashMap<(u32, u64), Contribution>,
    events: u64,
    sealed: bool,
}

/// How a pane counts.
#[derive(Debug, Clone, Copy)]
pub struct Counting {
    /// Weight of each kind.
    pub weights: [u32; 3],
    /// Most events per visitor and page; 0 = no cap.
    pub cap: u8,
    /// Whether visitors are remembered at all.
    pub visitors: bool,
    /// Most weighted events of one page in one pane, so that a window's 32-bit count cannot overflow.
    pub most: u32,
}

impl Counting {
    /// A row's weighted events.
    #[inline]
    pub fn weighted(&self, row: &Row) -> u32 {
        row.events[0] * self.weights[0] + row.events[1] * self.weights[1] + row.events[2] * self.weights[2]
    }
}

impl Counting {
    /// A restored row's weighted events, if they are within the bound.
    pub fn checked(&self, row: &Row) -> Option<u32> {
        let weighted = |(events, weight): (&u32, &u32)| u64::from(*events).checked_mul((*weight).into());
        let sum = row.events.iter().zip(&self.weights).try_fold(0u64, |sum, pair| sum.checked_add(weighted(pair)?))?;
        u32::try_from(sum).ok().filter(|sum| *sum <= self.most)
    }
}

const fn kind_index(kind: EventKind) -> usize {
    match kind {
        EventKind::View => 0,
        EventKind::Cart => 1,
        EventKind::Attempt => 2,
    }
}

/// The weight of a kind.
#[inline]
pub const fn weight_of(weights: &[u32; 3], kind: EventKind) -> u32 {
    weights[kind_index(kind)]
}

impl Pane {
    /// An empty open pane.
    pub fn new(second: i64) -> Self {
        Self { second, ..Self::default() }
    }

    /// A pane as it was kept. An open one gets its contributions by [`Pane::remember`].
    pub fn restore(second: i64, rows: Vec<Row>, sealed: bool) -> Self {
        let events = rows.iter().flat_map(|row| row.events).map(u64::from).sum();
        let mut pane = Self { second, rows, events, ..Self::default() };
        if sealed {
            pane.seal();
        } else {
            pane.index = pane.rows.iter().enumerate().map(|(at, row)| (row.id, at as u32)).collect();
        }
        pane
    }

    /// Counts one event, if the visitor may still contribute.
    #[inline]
    pub fn record(&mut self, id: u32, kind: EventKind, visitor: u64, counting: &Counting) -> Recorded {
        let kind = kind_index(kind);
        let at = self.index.get(&id).map(|at| *at as usize);
        if let Some(at) = at
            && counting.weighted(&self.rows[at]) > counting.most - counting.weights[kind]
        {
            return Recorded::Full;
        }
        let (mut new_visitor, mut new_in_kind) = (false, false);
        if counting.visitors || counting.cap > 0 {
            let room = self.seen.len() < MAX_SEEN;
            let contribution = match self.seen.entry((id, visitor)) {
                hashbrown::hash_map::Entry::Occupied(entry) => Some(entry.into_mut()),
                hashbrown::hash_map::Entry::Vacant(entry) if room => {
                    new_visitor = true;
                    Some(entry.insert(Contribution::default()))
                }
                hashbrown::hash_map::Entry::Vacant(_) => None,
            };
            if let Some(contribution) = contribution {
                if counting.cap > 0 && contribution.counted >= counting.cap {
                    return Recorded::Capped;
                }
                contribution.counted = contribution.counted.saturating_add(1);
                new_in_kind = contribution.kinds & (1 << kind) == 0;
                contribution.kinds |= 1 << kind;
            }
        }
        let (at, new_row) = match at {
            Some(at) => (at, false),
            None => {
                self.index.insert(id, self.rows.len() as u32);
                self.rows.push(Row { id, events: [0; 3], visitors: [0; 3] });
                (self.rows.len() - 1, true)
            }
        };
        let row = &mut self.rows[at];
        row.events[kind] += 1;
        self.events += 1;
        row.visitors[kind] += u32::from(new_in_kind);
        Recorded::Counted { new_row, new_visitor }
    }

    /// Nothing enters any more: forgets who contributed and orders the rows for search.
    pub fn seal(&mut self) {
        self.sealed = true;
        self.index = FxHashMap::default();
        self.seen = HashMap::new();
        self.rows.sort_unstable_by_key(|row| row.id);
        self.rows.shrink_to_fit();
    }

    /// Whether it is sealed.
    pub const fn is_sealed(&self) -> bool {
        self.sealed
    }
    /// Its rows, one a page.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
    /// The row of one page.
    pub fn row(&self, id: u32) -> Option<&Row> {
        let at = if self.sealed {
            self.rows.binary_search_by_key(&id, |row| row.id).ok()?
        } else {
            *self.index.get(&id)? as usize
        };
        self.rows.get(at)
    }
    /// Counted events of all pages.
    pub const fn events(&self) -> u64 {
        self.events
    }
    /// How many contributions it remembers.
    pub fn seen_len(&self) -> usize {
        self.seen.len()
    }
    /// What each visitor of an open pane did: page number, visitor, contribution; in no order.
    pub fn seen(&self) -> impl Iterator<Item = (u32, u64, Contribution)> {
        self.seen.iter().map(|((id, visitor), contribution)| (*id, *visitor, *contribution))
    }
    /// Takes up again what a visitor did (after a restart).
    pub fn remember(&mut self, id: u32, visitor: u64, contribution: Contribution) {
        self.seen.insert((id, visitor), contribution);
    }
    /// Takes out the rows of pages that `gone` names, which are being evicted.
    pub fn purge(&mut self, gone: &dyn Fn(u32) -> bool, mut taken: impl FnMut(Row)) {
        self.rows.retain(|row| {
            let stays = !gone(row.id);
            if !stays {
                self.events -= row.events.iter().copied().map(u64::from).sum::<u64>();
                taken(*row);
            }
            stays
        });
        if !self.sealed {
            self.index = self.rows.iter().enumerate().map(|(at, row)| (row.id, at as u32)).collect();
            self.seen.retain(|(id, _), _| !gone(*id));
        }
    }
}

/// The panes that are kept: a ring over seconds.
#[derive(Debug)]
pub struct PaneRing {
    slots: Vec<Option<Pane>>,
}

impl PaneRing {
    /// Room for `seconds` consecutive seconds.
    pub fn new(seconds: usize) -> Self {
        Self { slots: (0..seconds).map(|_| None).collect() }
    }
    /// How many consecutive seconds fit.
    pub fn seconds(&self) -> i64 {
        self.slots.len() as i64
    }
    fn slot(&self, second: i64) -> usize {
        second.rem_euclid(self.seconds()) as usize
    }
    /// The pane of a second, if it had events.
    #[inline]
    pub fn get(&self, second: i64) -> Option<&Pane> {
        self.slots[self.slot(second)].as_ref().filter(|pane| pane.second == second)
    }
    /// The pane of a second, to be changed.
    #[inline]
    pub fn get_mut(&mut self, second: i64) -> Option<&mut Pane> {
        let slot = self.slot(second);
        self.slots[slot].as_mut().filter(|pane| pane.second == second)
    }
    /// The pane of a second, made if it is not there. The caller keeps all seconds within the ring.
    #[inline]
    pub fn open(&mut self, second: i64) -> &mut Pane {
        let slot = self.slot(second);
        let pane = self.slots[slot].get_or_insert_with(|| Pane::new(second));
        debug_assert_eq!(pane.second, second, "two kept seconds share a slot of the ring");
        pane
    }
    /// Puts a restored pane back.
    pub fn put(&mut self, pane: Pane) {
        let slot = self.slot(pane.second);
        self.slots[slot] = Some(pane);
    }
    /// Takes a pane out.
    pub fn take(&mut self, second: i64) -> Option<Pane> {
        let slot = self.slot(second);
        self.slots[slot].take_if(|pane| pane.second == second)
    }
    /// Drops every pane before `second`.
    pub fn drop_before(&mut self, second: i64) {
        for slot in &mut self.slots {
            slot.take_if(|pane| pane.second < second);
        }
    }
    /// The panes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Pane> {
        self.slots.iter().flatten()
    }
    /// The panes, to be changed, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pane> {
        self.slots.iter_mut().flatten()
    }
}
