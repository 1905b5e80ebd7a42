//! The tier table: the newest row of every product that this core has seen, for the purchase path to read
//! without SQL. It decides nothing: a row may be up to a second old, and the store checks everything again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use types::{Phase, SaleName, Sku, Timestamp};

use crate::stock::store::{ProductRow, SaleState, StockStore, StoreError};

/// A product's row is read again after a stale answer at most this often: a thousand requests that trip over
/// one move cost one read, not a thousand.
const REREAD_EVERY: Duration = Duration::from_millis(50);

/// Orders the rows of one product in time: the epoch, then the steps within one move.
fn age(row: &ProductRow) -> (u64, u8) {
    let step = match (row.state.phase, row.lease) {
        (Phase::Draining, Some(_)) => 0,
        (Phase::Draining, None) => 1,
        (Phase::Active, Some(lease)) if !lease.loaded => 2,
        (Phase::Active, _) => 3,
    };
    (row.state.epoch.get(), step)
}

/// Whether `new` may replace `old`: rows read before a step must not undo it.
pub(crate) fn not_older(new: &ProductRow, old: &ProductRow) -> bool {
    age(new) >= age(old)
}

/// One product's place in the table.
pub(crate) struct Slot {
    row: ArcSwap<ProductRow>,
    // Those who wait are woken in the order of their coming, so that a simulation replays.
    changed: Notify,
    // One writer at a time compares and replaces.
    putting: parking_lot::Mutex<()>,
    // Milliseconds of the table's own age at the last single read.
    reread_at: AtomicU64,
    // Every order of this product that its row counts is told of by an event up to this number.
    told: AtomicU64,
    // Milliseconds of the table's own age at the last purchase call; 0 for none.
    asked_at: AtomicU64,
}

/// Units that somebody has: it rises with accepted orders alone.
fn taken(row: &ProductRow) -> u64 {
    row.state.reserved.saturating_add(row.sold)
}

impl Slot {
    fn new(row: ProductRow) -> Self {
        Self {
            told: AtomicU64::new(row.told),
            row: ArcSwap::from_pointee(row),
            changed: Notify::new(),
            putting: parking_lot::Mutex::default(),
            reread_at: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
        }
    }

    /// The newest row seen.
    pub(crate) fn row(&self) -> Arc<ProductRow> {
        self.row.load_full()
    }

    /// How far the outbox had come when the row's orders were there: who has heard of everything up to it knows them
    /// all.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    fn put(&self, mut row: ProductRow) {
        let one = self.putting.lock();
        let old = self.row.load();
        // That other products were sold since is no change of this one.
        let told = std::mem::replace(&mut row.told, old.told);
        if not_older(&row, &old) && **old != row {
            // Payments and returned units bring no order that was not there before.
            if taken(&row) > taken(&old) {
                self.told.fetch_max(told, Ordering::AcqRel);
            }
            row.told = told;
            self.row.store(Arc::new(row));
            drop(one);
            self.changed.notify_waiters();
        }
    }

    /// Waits until the product has taken a step since `seen`, at most for `limit`. Whether it has.
    pub(crate) async fn moved_on(&self, seen: &ProductRow, limit: Duration) -> bool {
        let moved = async {
            loop {
                // Made before the look: a change between the two is not missed.
                let changed = self.changed.notified();
                if age(&self.row.load()) > age(seen) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, moved).await.is_ok()
    }
}

/// What shoppers read of a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SaleSummary {
    pub(crate) state: SaleState,
    pub(crate) opens: Timestamp,
    pub(crate) closes: Timestamp,
    pub(crate) products: Vec<Sku>,
}

type Slots = HashMap<Sku, Arc<Slot>, FxBuildHasher>;

/// All products of sales that are not closed.
pub(crate) struct TierTable {
    store: Arc<dyn StockStore>,
    slots: ArcSwap<Slots>,
    sales: ArcSwap<BTreeMap<SaleName, SaleSummary>>,
    // One refresh at a time, so that an older reading never replaces a newer one's set of products.
    refreshing: Mutex<()>,
    born: Instant,
    refreshed_at: AtomicU64,
}

impl TierTable {
    /// Reads the table for the first time.
    pub(crate) async fn open(store: Arc<dyn StockStore>) -> Result<Self, StoreError> {
        let table = Self {
            store,
            slots: ArcSwap::default(),
            sales: ArcSwap::default(),
            refreshing: Mutex::new(()),
            born: Instant::now(),
            refreshed_at: AtomicU64::new(0),
        };
        table.refresh().await?;
        Ok(table)
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long ago the whole table was read last.
    pub(crate) fn staleness(&self) -> Duration {
        Duration::from_millis(self.age_ms().saturating_sub(self.refreshed_at.load(Ordering::Relaxed)))
    }

    pub(crate) fn get(&self, product: &Sku) -> Option<Arc<Slot>> {
        self.slots.load().get(product).cloned()
    }

    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.load().values().cloned().collect()
    }

    pub(crate) fn sales(&self) -> Arc<BTreeMap<SaleName, SaleSummary>> {
        self.sales.load_full()
    }

    /// Every row, in the order of their SKUs.
    pub(crate) fn rows(&self) -> Vec<Arc<ProductRow>> {
        let mut rows: Vec<_> = self.slots.load().values().map(|slot| slot.row()).collect();
        rows.sort_by(|a, b| a.state.product.cmp(&b.state.product));
        rows
    }

    /// Takes a row that a step has answered.
    pub(crate) fn put(&self, row: ProductRow) {
        if let Some(slot) = self.get(&row.state.product) {
            slot.put(row);
        }
    }

    /// Reads every product again.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let _one = self.refreshing.lock().await;
        let rows = self.store.products().await?;
        let old = self.slots.load_full();
        let mut sales: BTreeMap<SaleName, SaleSummary> = BTreeMap::new();
        let mut slots = Slots::with_capacity_and_hasher(rows.len(), FxBuildHasher);
        let mut same = rows.len() == old.len();
        for row in rows {
            let summary = sales.entry(row.state.sale.clone()).or_insert_with(|| SaleSummary {
                state: row.sale_state,
                opens: row.state.opens,
                closes: row.state.closes,
                products: Vec::new(),
            });
            summary.products.push(row.state.product.clone());
            let sku = row.state.product.clone();
            // A SKU that a new sale brings back starts anew; its epochs may start lower.
            let slot = match old.get(&sku) {
                Some(slot) if slot.row().state.sale == row.state.sale => {
                    slot.put(row);
                    slot.clone()
                }
                _ => {
                    same = false;
                    Arc::new(Slot::new(row))
                }
            };
            slots.insert(sku, slot);
        }
        if !same {
            self.slots.store(Arc::new(slots));
        }
        if **self.sales.load() != sales {
            self.sales.store(Arc::new(sales));
        }
        self.refreshed_at.store(self.age_ms(), Ordering::Relaxed);
        Ok(())
    }

    /// Somebody asks to buy it.
    pub(crate) fn asked(&self, slot: &Slot) {
        // Only when the time has changed: a million who ask must not pass one cache line around.
        let now = self.age_ms().max(1);
        if slot.asked_at.load(Ordering::Relaxed) < now {
            slot.asked_at.store(now, Ordering::Relaxed);
        }
    }

    /// Products that somebody asked to buy within `span`.
    pub(crate) fn asked_within(&self, span: Duration) -> Vec<Arc<Slot>> {
        let oldest = self.age_ms().saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let asked = |slot: &&Arc<Slot>| matches!(slot.asked_at.load(Ordering::Relaxed), at if at > oldest && at > 0);
        self.slots.load().values().filter(asked).cloned().collect()
    }

    /// Reads one product again, unless that was done within the last 50 ms.
    pub(crate) async fn reread(&self, slot: &Slot) -> Result<(), StoreError> {
        let now = self.age_ms();
        let every = u64::try_from(REREAD_EVERY.as_millis()).unwrap_or(u64::MAX);
        let due = |at: u64| (at == 0 || now >= at.saturating_add(every)).then_some(now.max(1));
        if slot.reread_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_err() {
            return Ok(());
        }
        self.reread_now(slot).await
    }

    /// Reads one product again at once: units came back, and whoever asks next must find them, however lately somebody
    /// tripped over their absence. Each costs its change a read, so these are as bounded as the changes are.
    pub(crate) async fn reread_now(&self, slot: &Slot) -> Result<(), StoreError> {
        slot.reread_at.store(self.age_ms().max(1), Ordering::Relaxed);
        let product = slot.row().state.product.clone();
        if let Some(row) = self.store.product(&product).await? {
            slot.put(row);
        }
        Ok(())
    }
}
