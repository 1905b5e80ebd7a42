//! The keeper of leases: looks at every open lease at a steady beat and remembers how each is doing, and whether its
//! lease store can be reached at all. The mover reads that without waiting; the keeper itself moves nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use types::{LeaseId, Phase, Sku, Timestamp};

use crate::handover::{LeaseHealth, LeaseWatch, Why};
use crate::metrics;
use crate::shared::Shared;
use crate::stock::redis::LeaseStoreError;
use crate::stock::store::{LeaseRow, ProductRow};
use crate::tier_table::Slot;

/// The beat.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks under way at once: a lease store that answers late must not make a thousand leases wait for each other.
const LOOKS_AT_ONCE: usize = 64;
/// A lease store that could not be asked for this long is away: its products sell from SQL until it is back.
const AWAY_AFTER: Duration = Duration::from_secs(1);
/// And this many looks in a row must have failed, so that one late answer of a second is not taken for an outage.
const AWAY_LOOKS: u32 = 3;

/// Looks that failed one after the other.
#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Timestamp,
    looks: u32,
}

impl Failing {
    fn is_away(self, now: Timestamp) -> bool {
        self.looks >= AWAY_LOOKS && now.since(self.since) >= AWAY_AFTER
    }
}

/// What is known of the leases of one core.
pub(crate) struct LeaseKeeper {
    shared: Arc<Shared>,
    // Both at most one per product of the tier table.
    watches: Mutex<HashMap<Sku, (LeaseWatch, LeaseHealth)>>,
    failing: Mutex<HashMap<Sku, Failing>>,
}

/// The lease that a product sells by.
fn open_lease(row: &ProductRow) -> Option<LeaseRow> {
    row.lease.filter(|lease| lease.loaded && !lease.fenced && row.state.phase == Phase::Active)
}

impl LeaseKeeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, watches: Mutex::default(), failing: Mutex::default() }
    }

    /// How the open, loaded lease of a product was doing at the last look.
    pub(crate) fn health(&self, row: &ProductRow) -> LeaseHealth {
        let Some(lease) = open_lease(row) else { return LeaseHealth::Sound };
        let product = &row.state.product;
        if self.shared.condemned.lock().get(product) == Some(&lease.lease) {
            return LeaseHealth::Replace(Why::Condemned);
        }
        match self.watches.lock().get(product) {
            Some((watch, health)) if watch.is_of(lease.lease) => *health,
            _ => LeaseHealth::Sound,
        }
    }

    /// Whether the store of this product's leases has been out of reach for a while.
    pub(crate) fn is_away(&self, product: &Sku, now: Timestamp) -> bool {
        let failing = self.failing.lock();
        !failing.is_empty() && failing.get(product).is_some_and(|failing| failing.is_away(now))
    }

    /// A call for this product failed.
    pub(crate) fn failed(&self, product: &Sku, error: &LeaseStoreError) {
        metrics::retry("leases");
        if matches!(error, LeaseStoreError::Full(_)) {
            // That says how much this core asks, not whether anybody would answer.
            return;
        }
        let now = self.shared.now();
        let mut failing = self.failing.lock();
        let before = failing.get(product).copied();
        let after = Failing {
            since: before.map_or(now, |before| before.since),
            looks: before.map_or(0, |before| before.looks).saturating_add(1),
        };
        failing.insert(product.clone(), after);
        drop(failing);
        // Said at the first failure and when it counts as away, not ten times a second.
        if before.is_none() {
            tracing::warn!(%error, %product, "the lease store did not answer");
        }
        if after.is_away(now) && !before.is_some_and(|before| before.is_away(now)) {
            tracing::warn!(%error, %product, "the lease store is away");
            self.shared.wake_mover.product(product);
        }
    }

    /// The lease was raised, or is to be looked at anew before anything is concluded.
    pub(crate) fn calm(&self, product: &Sku, lease: LeaseId) {
        if let Some((watch, health)) = self.watches.lock().get_mut(product)
            && watch.is_of(lease)
        {
            *health = LeaseHealth::Sound;
        }
    }

    /// Forgets products that are no longer sold.
    pub(crate) fn forget_gone(&self) {
        let table = &self.shared.table;
        self.watches.lock().retain(|product, _| table.get(product).is_some());
        self.failing.lock().retain(|product, _| table.get(product).is_some());
    }

    /// Looks at every open lease, and asks for those stores that were away, until `stop`.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let mut slots = self.shared.table.slots();
            slots.retain(|slot| {
                let row = slot.row();
                open_lease(&row).is_some() || self.failing.lock().contains_key(&row.state.product)
            });
            let round = futures::stream::iter(slots)
                .for_each_concurrent(LOOKS_AT_ONCE, |slot| async move { self.look(&slot).await });
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = round => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&self, slot: &Slot) {
        // Read before the lease store is asked: what SQL has consumed by now was granted by then.
        let row = slot.row();
        let (product, open) = (&row.state.product, open_lease(&row));
        // Of a product that sells from SQL meanwhile any answer will do.
        let asked = open.map_or(LeaseId::from_bits(0), |lease| lease.lease);
        let look = match self.shared.leases.look(product, asked).await {
            Ok(look) => look,
            // Not reachable is not lost; grants fail meanwhile.
            Err(error) => return self.failed(product, &error),
        };
        let now = self.shared.now();
        if let Some(failing) = self.failing.lock().remove(product) {
            if failing.is_away(now) {
                tracing::info!(%product, "the lease store is back");
            }
            self.shared.wake_mover.product(product);
        }
        let Some(lease) = open else {
            self.watches.lock().remove(product);
            return;
        };
        let mut watches = self.watches.lock();
        let (watch, health) = watches
            .entry(product.clone())
            .and_modify(|(watch, health)| {
                if !watch.is_of(lease.lease) {
                    (*watch, *health) = (LeaseWatch::new(&row, &lease, now), LeaseHealth::Sound);
                }
            })
            .or_insert_with(|| (LeaseWatch::new(&row, &lease, now), LeaseHealth::Sound));
        *health = watch.look(&row, &lease, look, now);
        let sound = *health == LeaseHealth::Sound;
        drop(watches);
        if !sound {
            self.shared.wake_mover.product(product);
        }
    }
}
