//! The newest events of all orders, in the order of their sequences, whatever order and however often they arrive.
//! It never says that it has seen an event behind one that it has not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use types::{BuyerId, OrderEvent};

use crate::stock::live_store::Told;

/// How far ahead an event may be to wait for those before it. One from farther is not kept: SQL brings it when it is
/// asked for what is missing, and a record that lies about its sequence costs one such question.
const EARLY: u64 = 10_000;

/// What became of an arrived event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was the next, and what waited for it came with it.
    Next,
    /// One before it is missing: it waits.
    Early,
    /// It was here before.
    Repeat,
}

/// What a buyer with a cursor has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Since {
    /// Exactly these.
    Exact(Vec<Arc<OrderEvent>>),
    /// The cursor is older than what is kept, or there is more than is replayed.
    TooOld,
    /// The cursor is newer than what has arrived here.
    Ahead,
}

/// The window: complete in `(floor, head]`.
pub(crate) struct Window {
    floor: u64,
    head: u64,
    room: usize,
    ring: VecDeque<Arc<OrderEvent>>,
    of_buyer: HashMap<BuyerId, VecDeque<Arc<OrderEvent>>, FxBuildHasher>,
    early: BTreeMap<u64, Arc<OrderEvent>>,
    /// Something came from too far ahead to be kept.
    far: bool,
}

impl Window {
    /// Begins behind the sequence `after`; keeps `room` events.
    pub(crate) fn new(after: u64, room: usize) -> Self {
        Self {
            floor: after,
            head: after,
            room,
            ring: VecDeque::new(),
            of_buyer: HashMap::default(),
            early: BTreeMap::new(),
            far: false,
        }
    }

    /// The last sequence up to which nothing is missing.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Whether events wait for one that is missing.
    pub(crate) fn has_gap(&self) -> bool {
        self.far || !self.early.is_empty()
    }

    /// The sequence behind which it begins.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Takes an event from the log; what has become complete goes to `out`, in order.
    pub(crate) fn take(&mut self, event: OrderEvent, out: &mut Vec<Arc<OrderEvent>>) -> Taken {
        if event.sequence <= self.head || self.early.contains_key(&event.sequence) {
            return Taken::Repeat;
        }
        if event.sequence > self.head + 1 {
            if event.sequence - self.head > EARLY {
                self.far = true;
            } else {
                self.early.insert(event.sequence, Arc::new(event));
            }
            return Taken::Early;
        }
        self.append(Arc::new(event), out);
        self.join(out);
        Taken::Next
    }

    /// Takes what SQL says of everything behind the head. `false`: SQL's end is before ours, so this is another
    /// history (a database that was brought back), and nothing was taken.
    pub(crate) fn fill(&mut self, told: Told, out: &mut Vec<Arc<OrderEvent>>) -> bool {
        if told.through < self.head {
            return false;
        }
        for event in told.events {
            if event.sequence > self.head && event.sequence <= told.through {
                self.append(Arc::new(event), out);
            }
        }
        // What is not there by now never comes.
        self.head = self.head.max(told.through);
        self.far = false;
        self.early.retain(|sequence, _| *sequence > told.through);
        self.join(out);
        true
    }

    /// What this buyer has missed since `cursor`; at most `most` events.
    pub(crate) fn since(&self, buyer: &BuyerId, cursor: u64, most: usize) -> Since {
        if cursor > self.head {
            return Since::Ahead;
        }
        if cursor < self.floor {
            return Since::TooOld;
        }
        let Some(his) = self.of_buyer.get(buyer) else { return Since::Exact(Vec::new()) };
        let from = his.partition_point(|event| event.sequence <= cursor);
        if his.len() - from > most {
            return Since::TooOld;
        }
        Since::Exact(his.iter().skip(from).cloned().collect())
    }

    fn join(&mut self, out: &mut Vec<Arc<OrderEvent>>) {
        while let Some(first) = self.early.first_entry()
            && *first.key() == self.head + 1
        {
            let event = first.remove();
            self.append(event, out);
        }
    }

    fn append(&mut self, event: Arc<OrderEvent>, out: &mut Vec<Arc<OrderEvent>>) {
        self.head = event.sequence;
        self.of_buyer.entry(event.buyer.clone()).or_default().push_back(event.clone());
        self.ring.push_back(event.clone());
        out.push(event);
        while self.ring.len() > self.room {
            let Some(old) = self.ring.pop_front() else { break };
            self.floor = old.sequence;
            if let Some(his) = self.of_buyer.get_mut(&old.buyer) {
                his.pop_front();
                if his.is_empty() {
                    self.of_buyer.remove(&old.buyer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::order_event::OrderEventKind;
    use types::{Money, OrderId, SaleName, Sku, Tier, Timestamp};

    use super::*;

    fn buyer(n: u64) -> BuyerId {
        BuyerId::new(format!("b{n}")).expect("an id")
    }
    fn event(sequence: u64) -> OrderEvent {
        OrderEvent {
            sequence,
            order: OrderId::from_bits(u128::from(sequence)),
            kind: OrderEventKind::Accepted,
            product: Sku::new("lamp").expect("a sku"),
            sale: SaleName::new("friday").expect("a sale"),
            quantity: 1,
            amount: Money::new(100, "EUR".parse().expect("a currency")).expect("money"),
            buyer: buyer(sequence % 3),
            tier: Tier::Db,
            at: Timestamp::from_millis(1),
            key: None,
            request: None,
        }
    }
    fn sequences(events: &[Arc<OrderEvent>]) -> Vec<u64> {
        events.iter().map(|e| e.sequence).collect()
    }

    #[test]
    fn what_comes_early_waits_and_what_comes_again_is_dropped() {
        let (mut window, mut out) = (Window::new(10, 100), Vec::new());
        assert_eq!(window.take(event(10), &mut out), Taken::Repeat, "before the beginning");
        assert_eq!(window.take(event(12), &mut out), Taken::Early);
        assert_eq!((window.has_gap(), window.head()), (true, 10));
        assert_eq!(window.take(event(11), &mut out), Taken::Next);
        assert_eq!((sequences(&out), window.has_gap(), window.head()), (vec![11, 12], false, 12));
        assert_eq!(window.take(event(12), &mut out), Taken::Repeat);
    }

    #[test]
    fn sql_closes_a_gap_that_nothing_else_will() {
        let (mut window, mut out) = (Window::new(0, 100), Vec::new());
        for n in [1, 3, 6, 7] {
            window.take(event(n), &mut out);
        }
        // 2 was lost on its way, 4 never was, 5 is committed and not relayed yet.
        assert!(window.fill(Told { through: 5, events: vec![event(2), event(3), event(5)] }, &mut out));
        assert_eq!((sequences(&out), window.head(), window.has_gap()), (vec![1, 2, 3, 5, 6, 7], 7, false));
        assert!(!window.fill(Told { through: 3, events: vec![] }, &mut out), "a database from a backup");
        assert_eq!(window.head(), 7);
    }

    #[test]
    fn a_cursor_gets_exactly_what_it_missed_or_is_told_that_it_is_too_old() {
        let (mut window, mut out) = (Window::new(0, 6), Vec::new());
        for n in 1..=10 {
            window.take(event(n), &mut out);
        }
        let since = |buyer: &BuyerId, cursor| match window.since(buyer, cursor, 2) {
            Since::Exact(events) => Ok(sequences(&events)),
            other => Err(other),
        };
        assert_eq!(since(&buyer(1), 4), Ok(vec![7, 10]));
        assert_eq!(since(&buyer(1), 7), Ok(vec![10]));
        assert_eq!(since(&buyer(1), 10), Ok(vec![]));
        assert_eq!(since(&buyer(9), 4), Ok(vec![]), "one who has none misses none");
        assert_eq!(since(&buyer(1), 3), Err(Since::TooOld));
        assert_eq!(since(&buyer(1), 11), Err(Since::Ahead));
        assert_eq!(window.since(&buyer(1), 4, 1), Since::TooOld, "more than is replayed");
    }

    proptest! {
        /// Any order, any repeats, any moments at which SQL is asked: out comes every event once and in order.
        #[test]
        fn every_event_once_and_in_order(
            arrivals in proptest::collection::vec((1u64..60, any::<bool>()), 0..200),
            missing in proptest::collection::btree_set(1u64..60, 0..20),
        ) {
            let exists: Vec<u64> = (1..60).filter(|n| !missing.contains(n)).collect();
            let (mut window, mut out) = (Window::new(0, 1000), Vec::new());
            let told = |head: u64, through: u64| Told {
                through: through.max(head),
                events: exists.iter().filter(|n| **n > head && **n <= through.max(head)).map(|n| event(*n)).collect(),
            };
            for (n, ask) in arrivals {
                if ask {
                    // SQL knows at least what the log has brought.
                    let told = told(window.head(), n.max(window.early.keys().last().copied().unwrap_or(0)));
                    prop_assert!(window.fill(told, &mut out));
                } else if !missing.contains(&n) {
                    window.take(event(n), &mut out);
                }
            }
            let last = told(window.head(), 59);
            prop_assert!(window.fill(last, &mut out));
            prop_assert_eq!(sequences(&out), exists);
            prop_assert!(!window.has_gap());
        }
    }
}
