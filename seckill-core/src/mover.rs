//! The mover: finds products that are not where the plan wants them, or whose move was left half done by
//! whomever, and takes step after step. Each step is a compare-and-set in the store; losing one is no error.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::NewRecord;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{LeaseId, Phase, SaleName, Sku, Tier, codec};

use crate::handover::{LeaseHealth, LeaseWatch, MoveDone, NextStep, next_step, wanted};
use crate::metrics;
use crate::plan_client::PlanClient;
use crate::shared::Shared;
use crate::stock::queue::record::PurchaseRecord;
use crate::stock::redis::LeaseLoad;
use crate::stock::store::{LeaseRow, MoveStep, Moved, ProductRow, StoreError};
use crate::tier_table::Slot;

/// How often every product is looked at when nothing woke the mover.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Products moved at the same time; the others wait for their turn.
const MAX_MOVES: usize = 64;
/// Steps of one go: a move has at most six, and two may follow each other.
const MAX_STEPS: usize = 16;
/// Pause after a lease could not be loaded.
const LOAD_BACK_OFF: Duration = Duration::from_millis(500);
/// H4: how long after the fence the mover settles by itself, barrier or not (protocol).
const SETTLE_AFTER: Duration = Duration::from_millis(100);

/// H6: how long the next move of the product waits for its state to be published. Others learn it from SQL as well.
const PUBLISH_WITHIN: Duration = Duration::from_secs(1);

/// Where a move began, until it has ended.
struct Begun {
    from: Tier,
    at: Instant,
}

/// The mover of one core.
pub(crate) struct Mover {
    shared: Arc<Shared>,
    plan: Arc<PlanClient>,
    busy: Mutex<HashSet<Sku>>,
    begun: Mutex<HashMap<Sku, Begun>>,
    watches: Mutex<HashMap<Sku, LeaseWatch>>,
    closing: Mutex<HashSet<SaleName>>,
}

impl Mover {
    pub(crate) fn new(shared: Arc<Shared>, plan: Arc<PlanClient>) -> Self {
        Self {
            shared,
            plan,
            busy: Mutex::default(),
            begun: Mutex::default(),
            watches: Mutex::default(),
            closing: Mutex::default(),
        }
    }

    /// A sale is about to be closed: its leases are brought home first.
    pub(crate) fn closing(&self, sale: &SaleName, closing: bool) {
        let mut sales = self.closing.lock();
        if closing {
            sales.insert(sale.clone());
        } else {
            sales.remove(sale);
        }
        drop(sales);
        self.shared.wake_mover.notify_one();
    }

    /// Runs until `stop`; moves under way take their present step to its end.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut moves = JoinSet::new();
        while !stop.is_cancelled() {
            while moves.try_join_next().is_some() {}
            self.forget_gone();
            for slot in self.shared.table.slots() {
                if moves.len() >= MAX_MOVES {
                    break;
                }
                let row = slot.row();
                if self.busy.lock().contains(&row.state.product) || !self.has_work(&row).await {
                    continue;
                }
                self.busy.lock().insert(row.state.product.clone());
                let (mover, stop) = (self.clone(), stop.clone());
                moves.spawn(async move {
                    let product = slot.row().state.product.clone();
                    // Given back however the move ends, also when its task is dropped.
                    let _busy = Busy(&mover.busy, &product);
                    mover.take_steps(&slot, &stop).await;
                });
            }
            tokio::select! {
                biased;
                () = self.shared.wake_mover.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        while moves.join_next().await.is_some() {}
    }

    fn forget_gone(&self) {
        let table = &self.shared.table;
        self.watches.lock().retain(|product, _| table.get(product).is_some());
        self.begun.lock().retain(|product, _| table.get(product).is_some());
        self.shared.condemned.lock().retain(|product, _| table.get(product).is_some());
    }

    fn wanted(&self, row: &ProductRow) -> Tier {
        let closing = self.closing.lock().contains(&row.state.sale);
        wanted(row, self.plan.tier_of(&row.state.product), closing, self.shared.now())
    }

    async fn has_work(&self, row: &ProductRow) -> bool {
        next_step(row, self.wanted(row), self.health(row).await).is_some()
    }

    /// How the open, loaded lease of a product is doing.
    async fn health(&self, row: &ProductRow) -> LeaseHealth {
        let Some(lease) = row.lease.filter(|l| l.loaded && !l.fenced && row.state.phase == Phase::Active) else {
            return LeaseHealth::Sound;
        };
        let product = &row.state.product;
        if self.shared.condemned.lock().get(product) == Some(&lease.lease) {
            return LeaseHealth::Replace;
        }
        let left = match self.shared.leases.left(product, lease.lease).await {
            Ok(left) => left,
            // Not reachable is not lost; grants fail meanwhile and the plan may move the product away.
            Err(error) => {
                tracing::warn!(%error, %product, "the lease store did not answer");
                metrics::retry("leases");
                return LeaseHealth::Sound;
            }
        };
        let now = self.shared.now();
        let mut watches = self.watches.lock();
        match watches.get_mut(product) {
            Some(watch) if watch.is_of(lease.lease) => watch.look(row, &lease, left, now),
            _ => {
                let mut watch = LeaseWatch::new(row, &lease, now);
                let health = watch.look(row, &lease, left, now);
                watches.insert(product.clone(), watch);
                health
            }
        }
    }

    async fn take_steps(&self, slot: &Slot, stop: &CancellationToken) {
        for _ in 0..MAX_STEPS {
            if stop.is_cancelled() {
                return;
            }
            let row = slot.row();
            let Some(step) = next_step(&row, self.wanted(&row), self.health(&row).await) else { break };
            self.begun
                .lock()
                .entry(row.state.product.clone())
                .or_insert_with(|| Begun { from: row.state.tier, at: Instant::now() });
            match self.take(slot, &row, step).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, product = %row.state.product, ?step, "a move waits for the store");
                    metrics::retry("move");
                    break;
                }
            }
        }
        let row = slot.row();
        if sells(&row) {
            self.done(&row).await;
        }
    }

    async fn take(&self, slot: &Slot, row: &ProductRow, step: NextStep) -> Result<(), StoreError> {
        let (product, epoch) = (row.state.product.clone(), row.state.epoch);
        match step {
            NextStep::Switch { target } => self.step(MoveStep::Switch { product, epoch, target }).await.map(drop),
            NextStep::OpenLease => {
                let keep = self.shared.backlog.units(&product);
                let lease = self.shared.ids.lease();
                self.step(MoveStep::OpenLease { product, epoch, lease, keep }).await.map(drop)
            }
            NextStep::Load { lease } => self.load(row, lease).await,
            NextStep::Fence { target } => {
                if self.step(MoveStep::Fence { product: product.clone(), epoch, target }).await? {
                    self.shared.condemned.lock().remove(&product);
                    self.watches.lock().remove(&product);
                }
                Ok(())
            }
            NextStep::Settle { lease } => self.settle(slot, row, lease).await,
            NextStep::Open => self.step(MoveStep::Open { product, epoch }).await.map(drop),
        }
    }

    /// Takes a step; whether it was this call that took it. The table learns the row either way.
    async fn step(&self, step: MoveStep) -> Result<bool, StoreError> {
        match self.shared.store.step(step, self.shared.now()).await? {
            Moved::Done(row) => {
                self.shared.table.put(row);
                Ok(true)
            }
            Moved::Stale(row) => {
                if let Some(row) = row {
                    self.shared.table.put(row);
                }
                Ok(false)
            }
        }
    }

    /// Loads a lease, if nobody has: the compare-and-set comes first, so that a lease is loaded once.
    async fn load(&self, row: &ProductRow, lease: LeaseRow) -> Result<(), StoreError> {
        // The table learns of `loaded` only after the load, or requests would find an empty place.
        let marked =
            match self.shared.store.step(MoveStep::MarkLoaded { lease: lease.lease }, self.shared.now()).await? {
                Moved::Done(row) => row,
                Moved::Stale(row) => {
                    if let Some(row) = row {
                        self.shared.table.put(row);
                    }
                    return Ok(());
                }
            };
        let load = LeaseLoad {
            product: row.state.product.clone(),
            lease: lease.lease,
            epoch: lease.epoch,
            granted: lease.granted,
            limit: row.limit,
            opens: row.state.opens,
            closes: row.state.closes,
        };
        let product = row.state.product.clone();
        match self.shared.leases.load(load).await {
            Ok(true) => {}
            // Nobody may load it again: it is replaced.
            Ok(false) => {
                tracing::warn!(%product, lease = %lease.lease, "the lease store holds a newer lease");
                self.shared.condemned.lock().insert(product, lease.lease);
            }
            Err(error) => {
                tracing::warn!(%error, %product, "a lease was not loaded");
                metrics::retry("leases");
                self.shared.condemned.lock().insert(product, lease.lease);
                // Each try costs an epoch: a lease store that is down is not asked in a tight loop.
                tokio::time::sleep(LOAD_BACK_OFF).await;
            }
        }
        self.shared.table.put(marked);
        Ok(())
    }

    /// H2, H3 and H4.
    async fn settle(&self, slot: &Slot, row: &ProductRow, lease: LeaseId) -> Result<(), StoreError> {
        let product = row.state.product.clone();
        // H2. Not reachable: go on, safety does not need it.
        if let Err(error) = self.shared.leases.close(&product, lease).await {
            tracing::warn!(%error, %product, "a fenced lease was not closed in its store");
        }
        // H3. Only makes fewer grants fenced.
        let barrier = async {
            let record = PurchaseRecord::Barrier { product: product.clone(), lease, epoch: row.state.epoch };
            let sent = match record.encode(self.shared.now()) {
                Ok(record) => self.shared.append(&self.shared.topics.grants, record).await.map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = sent {
                tracing::warn!(%error, %product, "no barrier");
            }
        };
        // H4: by the consumer at the barrier, or here; a log that is away or behind holds nobody up.
        if beside(barrier, slot.moved_on(row, SETTLE_AFTER)).await {
            return Ok(());
        }
        self.step(MoveStep::Settle { lease }).await.map(drop)
    }

    /// The product sells again: tell everybody.
    async fn done(&self, row: &ProductRow) {
        let Some(begun) = self.begun.lock().remove(&row.state.product) else { return };
        let done = MoveDone {
            product: row.state.product.clone(),
            from: begun.from,
            to: row.state.tier,
            epoch: row.state.epoch,
            at: self.shared.now(),
            took: begun.at.elapsed(),
        };
        metrics::moved(done.from, done.to, done.took);
        tracing::info!(product = %done.product, from = %done.from, to = %done.to, epoch = done.epoch.get(),
            took_ms = u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX), "moved");
        // Nobody listening is no error.
        let _listeners = self.shared.moves.send(done);
        self.publish(row).await;
    }

    /// H6: the state to the compacted topic. Failing is harmless: cores and control plane read the state anyway.
    async fn publish(&self, row: &ProductRow) {
        let key = Bytes::copy_from_slice(row.state.product.as_str().as_bytes());
        let appended = match codec::encode(&row.state) {
            Ok(value) => {
                let record = NewRecord::keyed(key, value, self.shared.now());
                let appended = self.shared.append(&self.shared.topics.product_state, record);
                match tokio::time::timeout(PUBLISH_WITHIN, appended).await {
                    Ok(appended) => appended.map_err(|e| e.to_string()),
                    Err(_) => Err(format!("no acknowledgement within {PUBLISH_WITHIN:?}")),
                }
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = appended {
            tracing::warn!(%error, product = %row.state.product, "a product's state was not published");
        }
    }
}

/// Does `wait`, and `message` beside it as long as that takes: one that is not through by then is given up.
async fn beside<T>(message: impl Future<Output = ()>, wait: impl Future<Output = T>) -> T {
    tokio::pin!(message, wait);
    tokio::select! {
        biased;
        ended = &mut wait => ended,
        () = &mut message => wait.await,
    }
}

/// Whether requests get through to a path.
fn sells(row: &ProductRow) -> bool {
    row.state.phase == Phase::Active
        && (row.state.tier != Tier::Redis || row.lease.is_some_and(|l| l.loaded && !l.fenced))
}

struct Busy<'a>(&'a Mutex<HashSet<Sku>>, &'a Sku);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen in a soak: with Kafka dead, a barrier that nobody took kept a product draining for 15 s.
    #[tokio::test(start_paused = true)]
    async fn a_barrier_that_is_not_taken_holds_no_move_up() {
        let began = Instant::now();
        let wait = tokio::time::timeout(SETTLE_AFTER, std::future::pending::<()>());
        let moved = beside(std::future::pending(), wait).await.is_ok();
        assert!(!moved && began.elapsed() <= SETTLE_AFTER * 2, "{:?}", began.elapsed());

        let sent = Mutex::new(false);
        let wait = tokio::time::timeout(SETTLE_AFTER, std::future::pending::<()>());
        beside(async { *sent.lock() = true }, wait).await.expect_err("nobody else settled it");
        assert!(*sent.lock(), "one that is taken is sent");
    }
}
