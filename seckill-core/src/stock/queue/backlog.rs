//! How many attempts of each product are queued and not decided yet, as this process knows it, and how many may
//! be. It bounds waiting; it never decides who gets a unit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventlog::Position;
use hashbrown::HashMap;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use tokio::time::Instant;
use types::{Sku, Timestamp};

use super::record::AttemptRecord;
use crate::recent::AttemptName;

/// Decisions per second that are assumed before any was measured: below what one SQLite file does one by one.
const ASSUMED_RATE: u64 = 2_000;
/// Slowest rate that is believed: small batches say little about what a full one would do.
const LEAST_RATE: u64 = 200;
/// Records before a measurement moves the rate: a batch of one measures an fsync, not a rate.
const ENOUGH: u64 = 50;
/// After this time a partition that this core consumes has nothing left that another has decided: until then it is
/// asked about like the others.
const OURS_AFTER: Duration = Duration::from_secs(1);

/// Decisions per second of one consumer while it is busy, smoothed.
pub(crate) struct Rate(AtomicU64, Mutex<(u64, Duration)>);

impl Rate {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(ASSUMED_RATE), Mutex::new((0, Duration::ZERO)))
    }
    /// Per second.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    /// `records` were decided in `busy`.
    pub(crate) fn observe(&self, records: u64, busy: Duration) {
        let mut sum = self.1.lock();
        sum.0 += records;
        sum.1 += busy;
        if sum.0 < ENOUGH || sum.1.is_zero() {
            return;
        }
        let measured = (sum.0 as f64 / sum.1.as_secs_f64()) as u64;
        *sum = (0, Duration::ZERO);
        // A quarter of the new value: one slow fsync does not halve the backlog, ten do.
        let next = (self.get() * 3 + measured) / 4;
        self.0.store(next.max(LEAST_RATE), Ordering::Relaxed);
    }
}

/// Most attempts of one product that may be queued: `min(2 × sellable, ½ deadline × rate)`, at least 1 while
/// something is sellable.
pub(crate) fn bound(sellable: u64, deadline: Duration, rate: u64) -> u64 {
    sellable.saturating_mul(2).min(in_time(deadline, rate))
}

/// Attempts that are decided within half the deadline.
fn in_time(deadline: Duration, rate: u64) -> u64 {
    let half = u64::try_from(deadline.as_millis() / 2).unwrap_or(u64::MAX);
    (rate.saturating_mul(half) / 1000).max(1)
}

/// By what the backlog of a product is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Units that may still be sold.
    pub(crate) sellable: u64,
    /// A ticket's time.
    pub(crate) time: Duration,
    /// Decisions per second.
    pub(crate) rate: u64,
}

/// What a queued attempt is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// Queued behind `ahead` attempts of the same product; decided in about `estimate`.
    At { ahead: u64, estimate: Duration },
    /// Too many are queued already.
    Full { retry_after: Duration },
}

struct Queued {
    deadline: Timestamp,
    quantity: u32,
    /// Where its record lies, once that is known.
    at: Option<Position>,
}

#[derive(Default)]
struct Inner {
    products: HashMap<Sku, HashMap<AttemptName, Queued, FxBuildHasher>, FxBuildHasher>,
    total: u64,
    /// Partitions that this core consumes, and since when.
    held: BTreeMap<u32, Instant>,
}

/// The queued attempts of this process.
#[derive(Default)]
pub(crate) struct Backlog(Mutex<Inner>);

impl Backlog {
    /// Counts an attempt in, if there is room. The same attempt twice counts once.
    pub(crate) fn enter(&self, attempt: &AttemptRecord, room: Room) -> Entered {
        let Room { sellable, time, rate } = room;
        let (product, name) = (&attempt.product, attempt.name());
        let mut inner = self.0.lock();
        let total = inner.total;
        let queued = inner.products.entry(product.clone()).or_default();
        let ahead = queued.len() as u64;
        let seconds = |n: u64| Duration::from_millis(n.saturating_mul(1000) / rate.max(1));
        let repeat = queued.contains_key(&name);
        // The consumer serves all products: the time bound holds for their sum, the stock bound for each.
        if !repeat && (ahead >= bound(sellable, time, rate) || total >= in_time(time, rate)) {
            if queued.is_empty() {
                inner.products.remove(product);
            }
            return Entered::Full { retry_after: seconds(total).max(Duration::from_secs(1)) };
        }
        let entry = Queued { deadline: attempt.deadline, quantity: attempt.quantity, at: None };
        if queued.insert(name, entry).is_none() {
            inner.total += 1;
        }
        Entered::At { ahead, estimate: seconds(total) }
    }

    /// Counts an attempt in that needs no room: it has been granted.
    pub(crate) fn note(&self, attempt: &AttemptRecord, at: Option<Position>) {
        let mut inner = self.0.lock();
        let entry = Queued { deadline: attempt.deadline, quantity: attempt.quantity, at };
        if inner.products.entry(attempt.product.clone()).or_default().insert(attempt.name(), entry).is_none() {
            inner.total += 1;
        }
    }

    /// Attempts of the product that are not decided.
    pub(crate) fn waiting(&self, product: &Sku) -> u64 {
        self.0.lock().products.get(product).map_or(0, |queued| queued.len() as u64)
    }

    /// The attempt is decided, or on another way.
    pub(crate) fn leave(&self, product: &Sku, name: &AttemptName) {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        if let Some(queued) = inner.products.get_mut(product) {
            if queued.remove(name).is_some() {
                inner.total -= 1;
            }
            if queued.is_empty() {
                inner.products.remove(product);
            }
        }
    }

    /// The attempt's record lies here; its last one, if it was appended again.
    pub(crate) fn lies_at(&self, product: &Sku, name: &AttemptName, at: Position) {
        if let Some(queued) = self.0.lock().products.get_mut(product).and_then(|queued| queued.get_mut(name)) {
            queued.at = Some(at);
        }
    }

    /// The partitions in which queued attempts lie, but for those that this core has consumed for long enough itself.
    pub(crate) fn partitions(&self) -> BTreeSet<u32> {
        let inner = self.0.lock();
        let ours = |partition: &u32| inner.held.get(partition).is_some_and(|since| since.elapsed() >= OURS_AFTER);
        inner
            .products
            .values()
            .flat_map(HashMap::values)
            .filter_map(|attempt| attempt.at.map(|at| at.partition))
            .filter(|partition| !ours(partition))
            .collect()
    }

    /// The partitions that this core consumes from now on; all others are another's.
    pub(crate) fn held(&self, partitions: impl Iterator<Item = u32>) {
        let mut inner = self.0.lock();
        let now = Instant::now();
        inner.held = partitions.map(|p| (p, inner.held.get(&p).copied().unwrap_or(now))).collect();
    }

    /// Everything before `next` in the partition has had its effect, by whichever core: those attempts wait no longer.
    pub(crate) fn passed(&self, partition: u32, next: u64) {
        let mut inner = self.0.lock();
        inner.products.retain(|_, queued| {
            queued.retain(|_, attempt| attempt.at.is_none_or(|at| at.partition != partition || at.offset >= next));
            !queued.is_empty()
        });
        inner.total = inner.products.values().map(|q| q.len() as u64).sum();
    }

    /// Units that queued attempts of the product ask for: a new lease leaves them in `free`.
    pub(crate) fn units(&self, product: &Sku) -> u64 {
        self.0.lock().products.get(product).map_or(0, |q| q.values().map(|a| u64::from(a.quantity)).sum())
    }

    /// Attempts queued in all.
    pub(crate) fn len(&self) -> u64 {
        self.0.lock().total
    }

    /// Forgets attempts past their deadline (another core may have decided them, or the log lost them).
    pub(crate) fn forget_before(&self, now: Timestamp) {
        let mut inner = self.0.lock();
        inner.products.retain(|_, queued| {
            queued.retain(|_, attempt| attempt.deadline >= now);
            !queued.is_empty()
        });
        inner.total = inner.products.values().map(|q| q.len() as u64).sum();
    }
}

#[cfg(test)]
mod tests {
    use types::{BuyerId, IdempotencyKey};

    use super::*;
    use crate::stock::store::BodyHash;

    const TEN: Duration = Duration::from_secs(10);

    fn attempt(n: u32, product: &Sku, deadline: Timestamp) -> AttemptRecord {
        AttemptRecord {
            buyer: BuyerId::new(format!("b{n}")).expect("id"),
            key: IdempotencyKey::new("k").expect("key"),
            body_hash: BodyHash([0; 32]),
            product: product.clone(),
            quantity: 2,
            deadline,
            request: None,
            token: None,
            grant: None,
        }
    }

    #[test]
    fn the_bound_is_the_smaller_of_stock_and_time() {
        assert_eq!(bound(10, TEN, 2_000), 20);
        assert_eq!(bound(1_000_000, TEN, 2_000), 10_000);
        assert_eq!(bound(0, TEN, 2_000), 0);
        assert_eq!(bound(u64::MAX, TEN, u64::MAX), u64::MAX / 1000);
    }

    #[test]
    fn a_full_backlog_refuses_and_a_decision_makes_room() {
        let (backlog, lamp, at) = (Backlog::default(), Sku::new("lamp").expect("sku"), Timestamp::from_seconds(10));
        let room = Room { sellable: 1, time: TEN, rate: 1_000 };
        let enter = |n| backlog.enter(&attempt(n, &lamp, at), room);
        assert_eq!(enter(1), Entered::At { ahead: 0, estimate: Duration::ZERO });
        assert_eq!(enter(2), Entered::At { ahead: 1, estimate: Duration::from_millis(1) });
        assert!(matches!(enter(3), Entered::Full { .. }));
        assert!(matches!(enter(2), Entered::At { .. }), "a repeat is not refused");
        assert_eq!((backlog.len(), backlog.units(&lamp)), (2, 4));
        backlog.leave(&lamp, &attempt(1, &lamp, at).name());
        backlog.leave(&lamp, &attempt(1, &lamp, at).name());
        assert!(matches!(enter(3), Entered::At { ahead: 1, .. }));
        backlog.forget_before(Timestamp::from_seconds(11));
        assert_eq!((backlog.len(), backlog.units(&lamp)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_core_has_decided_waits_no_longer() {
        let (backlog, lamp, at) = (Backlog::default(), Sku::new("lamp").expect("sku"), Timestamp::from_seconds(10));
        let room = Room { sellable: 9, time: TEN, rate: 1_000 };
        for (n, place) in [(1, Some((0, 4))), (2, Some((0, 5))), (3, Some((1, 4))), (4, None)] {
            let one = attempt(n, &lamp, at);
            backlog.enter(&one, room);
            if let Some((partition, offset)) = place {
                backlog.lies_at(&lamp, &one.name(), Position { partition, offset });
            }
        }
        assert_eq!(backlog.partitions(), BTreeSet::from([0, 1]));
        backlog.held([1].into_iter());
        assert_eq!(backlog.partitions(), BTreeSet::from([0, 1]), "what another has decided there is still unknown");
        tokio::time::advance(OURS_AFTER).await;
        assert_eq!(backlog.partitions(), BTreeSet::from([0]));
        backlog.held([0, 1].into_iter());
        assert_eq!(backlog.partitions(), BTreeSet::from([0]));
        backlog.held(std::iter::empty());
        assert_eq!(backlog.partitions(), BTreeSet::from([0, 1]));
        backlog.passed(0, 5);
        assert_eq!(backlog.len(), 3, "only what lies before");
        backlog.passed(0, 6);
        backlog.passed(1, 5);
        assert_eq!((backlog.len(), backlog.units(&lamp)), (1, 2), "what lies nowhere yet still waits");
    }

    #[test]
    fn the_rate_follows_what_was_measured() {
        let rate = Rate::new();
        for _ in 0..40 {
            rate.observe(500, Duration::from_millis(10));
        }
        assert!((45_000..=50_000).contains(&rate.get()), "{}", rate.get());
        for _ in 0..100 {
            rate.observe(1, Duration::from_secs(5));
        }
        assert!(rate.get() >= LEAST_RATE);
    }
}
