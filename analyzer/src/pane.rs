//! One second of event time: which pages had how many events of each kind, and while it is open, who has contributed.
//! It counts events, never weights, so that weights can change over a restart.

use types::EventKind;

/// Most contributions that one open pane remembers by visitor (64 MB). Beyond it events count without the cap per
/// visitor: heat that is a little too high is better than memory without end.
pub const MAX_SEEN: usize = 2_000_000;

/// One page in one pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The page's number.
    pub id: u32,
    /// Counted events by kind, as in [`EventKind::ALL`].
    pub events: [u32; 3],
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
    /// Most events of one pane, so that a window's 32-bit counts cannot overflow.
    pub most: u32,
}

impl Counting {
    /// A row's weighted events.
    #[inline]
    pub const fn weighted(&self, row: &Row) -> u32 {
        row.events[0] * self.weights[0] + row.events[1] * self.weights[1] + row.events[2] * self.weights[2]
    }
}

/// The place of a kind in [`EventKind::ALL`].
#[inline]
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

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Counted; whether the visitor had no event on this page in this pane before (as far as is remembered).
    Counted {
        /// See above.
        new_visitor: bool,
    },
    /// The visitor has contributed all he may.
    Capped,
    /// The pane's count is at its bound.
    Full,
}

// One event of an open pane in a word: the page's number, the kind, and whether the visitor is new in this kind.
const fn word(id: u32, kind: usize, fresh: bool) -> u32 {
    id << 3 | (kind as u32) << 1 | fresh as u32
}
const fn unword(word: u32) -> (u32, usize, bool) {
    (word >> 3, (word >> 1 & 3) as usize, word & 1 == 1)
}

/// One second.
#[derive(Debug, Default)]
pub struct Pane {
    /// The second of event time.
    pub second: i64,
    // While it is open, an entry for each event, in the order of their coming.
    log: Vec<u32>,
    seen: Seen,
    // Once it is closed, by number.
    rows: Vec<Row>,
    // Distinct visitors by kind of each row, until somebody takes them.
    visitors: Vec<[u32; 3]>,
    events: u64,
    closed: bool,
}

impl Pane {
    /// An empty open pane that will be about as large as another was.
    fn like(second: i64, other: usize) -> Self {
        Self { second, log: Vec::with_capacity(other), ..Self::default() }
    }

    /// Counts one event, if the visitor may still contribute.
    #[inline]
    pub fn record(&mut self, id: u32, kind: EventKind, visitor: u64, counting: &Counting) -> Recorded {
        if self.log.len() >= counting.most as usize {
            return Recorded::Full;
        }
        let kind = kind_index(kind);
        let (mut new_visitor, mut fresh) = (false, false);
        if counting.visitors || counting.cap > 0 {
            match self.seen.visit(id, visitor, kind, counting.cap) {
                Visit::New => (new_visitor, fresh) = (true, true),
                Visit::Again { new_in_kind } => fresh = new_in_kind,
                Visit::Unknown => {}
                Visit::Capped => return Recorded::Capped,
            }
        }
        self.log.push(word(id, kind, fresh));
        self.events += 1;
        Recorded::Counted { new_visitor }
    }

    /// Nothing enters any more: forgets who contributed and keeps a row for each page, by number. `scratch` is only
    /// there to be used again.
    pub fn close(&mut self, scratch: &mut Vec<u32>) {
        self.closed = true;
        self.seen = Seen::default();
        sort(&mut self.log, scratch);
        for entry in &self.log {
            let (id, kind, fresh) = unword(*entry);
            if self.rows.last().is_none_or(|row| row.id != id) {
                self.rows.push(Row { id, events: [0; 3] });
                self.visitors.push([0; 3]);
            }
            let at = self.rows.len() - 1;
            self.rows[at].events[kind] += 1;
            self.visitors[at][kind] += u32::from(fresh);
        }
        self.log = Vec::new();
        self.rows.shrink_to_fit();
    }

    /// Whether it is closed.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }
    /// Of a closed pane its rows, by number.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
    /// Of a closed pane the distinct visitors of each row, once.
    pub fn take_visitors(&mut self) -> Vec<[u32; 3]> {
        std::mem::take(&mut self.visitors)
    }
    /// Rows, or single events as rows while it is open.
    #[inline]
    pub fn each(&self, mut see: impl FnMut(Row)) {
        if self.closed {
            self.rows.iter().copied().for_each(see);
            return;
        }
        for entry in &self.log {
            let (id, kind, _) = unword(*entry);
            let mut events = [0; 3];
            events[kind] = 1;
            see(Row { id, events });
        }
    }
    /// Of a closed pane, the row of one page.
    pub fn row(&self, id: u32) -> Option<&Row> {
        let at = self.rows.binary_search_by_key(&id, |row| row.id).ok()?;
        self.rows.get(at)
    }
    /// Counted events of all pages.
    pub const fn events(&self) -> u64 {
        self.events
    }
    /// How many contributions it remembers.
    pub const fn seen_len(&self) -> usize {
        self.seen.len
    }
    /// Takes out the pages that `gone` names, which are being evicted; tells how many events each loses.
    pub fn purge(&mut self, gone: impl Fn(u32) -> bool, mut taken: impl FnMut(u32, u32)) {
        let mut lost = 0u64;
        self.log.retain(|entry| {
            let id = unword(*entry).0;
            let goes = gone(id);
            if goes {
                lost += 1;
                taken(id, 1);
            }
            !goes
        });
        if self.closed {
            let stays: Vec<bool> = self.rows.iter().map(|row| !gone(row.id)).collect();
            for (row, _) in self.rows.iter().zip(&stays).filter(|(_, stays)| !**stays) {
                let events = row.events.iter().sum();
                lost += u64::from(events);
                taken(row.id, events);
            }
            let mut at = stays.iter();
            self.rows.retain(|_| at.next() == Some(&true));
            if !self.visitors.is_empty() {
                let mut at = stays.iter();
                self.visitors.retain(|_| at.next() == Some(&true));
            }
        } else {
            self.seen.retain(|id| !gone(id));
        }
        self.events -= lost;
    }
}

/// Bits sorted in one pass: three passes are all of a word.
const DIGIT: u32 = 11;
/// Below this many, sorting by comparison is quicker.
const FEW: usize = 4096;

/// Sorts words digit by digit: a second of a million events in a few milliseconds.
fn sort(words: &mut Vec<u32>, scratch: &mut Vec<u32>) {
    if words.len() < FEW {
        words.sort_unstable();
        return;
    }
    scratch.clear();
    scratch.resize(words.len(), 0);
    let most = words.iter().copied().max().unwrap_or(0);
    let mut shift = 0;
    while shift < u32::BITS && most >> shift > 0 {
        let digit = |word: u32| (word >> shift & ((1 << DIGIT) - 1)) as usize;
        let mut ends = [0u32; 1 << DIGIT];
        words.iter().for_each(|word| ends[digit(*word)] += 1);
        let mut sum = 0;
        for end in &mut ends {
            sum += std::mem::replace(end, sum);
        }
        for word in words.iter() {
            let place = &mut ends[digit(*word)];
            scratch[*place as usize] = *word;
            *place += 1;
        }
        std::mem::swap(words, scratch);
        shift += DIGIT;
    }
}

/// Who has contributed to which page in one second: a table of pairs of words with no holes.
#[derive(Debug, Default)]
struct Seen {
    // The visitor; and the page's number above, the count and the kinds below. A count of 0 is an empty place.
    places: Vec<(u64, u64)>,
    len: usize,
}

enum Visit {
    New,
    Again { new_in_kind: bool },
    Capped,
    // There is no room to remember him.
    Unknown,
}

const COUNT: u32 = 8;
const PAGE: u32 = 16;

impl Seen {
    #[inline]
    fn home(&self, id: u32, visitor: u64) -> usize {
        // The visitor hash is keyed by the collector; the page is mixed in by a multiplication.
        let mixed = (visitor ^ u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> 32) as usize & (self.places.len() - 1)
    }

    #[inline]
    fn visit(&mut self, id: u32, visitor: u64, kind: usize, cap: u8) -> Visit {
        if self.len * 4 >= self.places.len() * 3 {
            if self.len >= MAX_SEEN {
                return self.full(id, visitor, kind, cap);
            }
            self.grow();
        }
        let mut place = self.home(id, visitor);
        loop {
            let (who, what) = &mut self.places[place];
            if *what == 0 {
                (*who, *what) = (visitor, u64::from(id) << PAGE | 1 << COUNT | 1 << kind);
                self.len += 1;
                return Visit::New;
            }
            if *who == visitor && *what >> PAGE == u64::from(id) {
                return again(what, kind, cap);
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    // Only who is known already.
    fn full(&mut self, id: u32, visitor: u64, kind: usize, cap: u8) -> Visit {
        let mut place = self.home(id, visitor);
        loop {
            let (who, what) = &mut self.places[place];
            if *what == 0 {
                return Visit::Unknown;
            }
            if *who == visitor && *what >> PAGE == u64::from(id) {
                return again(what, kind, cap);
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    fn grow(&mut self) {
        let larger = vec![(0, 0); (self.places.len() * 4).max(64)];
        for (who, what) in std::mem::replace(&mut self.places, larger) {
            if what != 0 {
                self.put(who, what);
            }
        }
    }

    fn put(&mut self, who: u64, what: u64) {
        let mut place = self.home((what >> PAGE) as u32, who);
        while self.places[place].1 != 0 {
            place = (place + 1) & (self.places.len() - 1);
        }
        self.places[place] = (who, what);
    }

    fn retain(&mut self, stays: impl Fn(u32) -> bool) {
        let empty = vec![(0, 0); self.places.len()];
        for (who, what) in std::mem::replace(&mut self.places, empty) {
            if what != 0 && stays((what >> PAGE) as u32) {
                self.put(who, what);
            } else if what != 0 {
                self.len -= 1;
            }
        }
    }
}

#[inline]
fn again(what: &mut u64, kind: usize, cap: u8) -> Visit {
    let counted = (*what >> COUNT) as u8;
    if cap > 0 && counted >= cap {
        return Visit::Capped;
    }
    let new_in_kind = *what & 1 << kind == 0;
    *what |= 1 << kind;
    if counted < u8::MAX {
        *what += 1 << COUNT;
    }
    Visit::Again { new_in_kind }
}

/// The panes that are kept: a ring over seconds.
#[derive(Debug)]
pub struct PaneRing {
    slots: Vec<Option<Pane>>,
    // Events of the pane that was opened last but one: about what the next will hold.
    usual: usize,
}

impl PaneRing {
    /// Room for `seconds` consecutive seconds.
    pub fn new(seconds: usize) -> Self {
        Self { slots: (0..seconds).map(|_| None).collect(), usual: 0 }
    }
    /// How many consecutive seconds fit.
    pub const fn seconds(&self) -> i64 {
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
        let usual = self.usual;
        let pane = self.slots[slot].get_or_insert_with(|| Pane::like(second, usual));
        debug_assert_eq!(pane.second, second, "two kept seconds share a slot of the ring");
        pane
    }
    /// Closes the pane of a second, if it had events.
    pub fn close(&mut self, second: i64, scratch: &mut Vec<u32>) -> Option<&Pane> {
        let slot = self.slot(second);
        let pane = self.slots[slot].as_mut().filter(|pane| pane.second == second)?;
        self.usual = pane.events as usize;
        pane.close(scratch);
        Some(pane)
    }
    /// Takes a pane out.
    pub fn take(&mut self, second: i64) -> Option<Pane> {
        let slot = self.slot(second);
        self.slots[slot].take_if(|pane| pane.second == second)
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
