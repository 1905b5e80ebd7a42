//! The mover: finds products that are not where they should be, or whose move was left half done by whomever, and
//! takes step after step. Each step is a compare-and-set in the store; losing one is no error. It never waits for one
//! product before it looks at the next.

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
use types::{LeaseId, Phase, SaleName, Sku, Tier, Timestamp, codec};

use crate::handover::{Circumstances, LeaseHealth, MoveDone, NextStep, next_step, wanted};
use crate::lease_keeper::LeaseKeeper;
use crate::metrics;
use crate::plan_client::{PlanClient, Wishes};
use crate::shared::Shared;
use crate::stock::queue::record::PurchaseRecord;
use crate::stock::redis::LeaseLoad;
use crate::stock::store::{LeaseRow, MoveStep, Moved, ProductRow, StoreError};
use crate::tier_table::Slot;

/// How often every product is looked at; one that somebody names is looked at at once.
const WALK_EVERY: Duration = Duration::from_millis(100);
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
    keeper: LeaseKeeper,
    busy: Mutex<HashSet<Sku>>,
    begun: Mutex<HashMap<Sku, Begun>>,
    closing: Mutex<HashSet<SaleName>>,
}

/// What decides about every product of one walk.
struct View {
    wishes: Arc<Wishes>,
    now: Timestamp,
}

impl Mover {
    pub(crate) fn new(shared: Arc<Shared>, plan: Arc<PlanClient>) -> Self {
        Self {
            keeper: LeaseKeeper::new(shared.clone()),
            shared,
            plan,
            busy: Mutex::default(),
            begun: Mutex::default(),
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
        self.shared.wake_mover.all();
    }

    /// Runs until `stop`; moves under way take their present step to its end.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.walk(&stop), self.keeper.run(&stop));
    }

    async fn walk(self: &Arc<Self>, stop: &CancellationToken) {
        let mut moves = JoinSet::new();
        let mut next_walk = Instant::now();
        while !stop.is_cancelled() {
            while moves.try_join_next().is_some() {}
            let calls = self.shared.wake_mover.take();
            let slots = if calls.all || Instant::now() >= next_walk {
                next_walk = Instant::now() + WALK_EVERY;
                self.forget_gone();
                self.shared.table.slots()
            } else {
                calls.products.iter().filter_map(|product| self.shared.table.get(product)).collect()
            };
            let mut full = false;
            for slot in self.with_work(slots) {
                full = moves.len() >= MAX_MOVES;
                if full {
                    break;
                }
                let product = slot.row().state.product.clone();
                if !self.busy.lock().insert(product.clone()) {
                    continue;
                }
                let (mover, stop) = (self.clone(), stop.clone());
                moves.spawn(async move {
                    // Given back however the move ends, also when its task is dropped.
                    let _busy = Busy(&mover.busy, &product);
                    mover.take_steps(&slot, &stop).await;
                });
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // Whoever had to wait for a place is looked for again.
                Some(_) = moves.join_next(), if full => self.shared.wake_mover.all(),
                () = self.shared.wake_mover.left(), if !full => {}
                () = tokio::time::sleep_until(next_walk), if !full => {}
            }
        }
        while moves.join_next().await.is_some() {}
    }

    fn forget_gone(&self) {
        let table = &self.shared.table;
        self.keeper.forget_gone();
        self.begun.lock().retain(|product, _| table.get(product).is_some());
        self.shared.condemned.lock().retain(|product, _| table.get(product).is_some());
    }

    fn is_closing(&self, sale: &SaleName) -> bool {
        let closing = self.closing.lock();
        // Nearly always; ten thousand names need not be hashed.
        !closing.is_empty() && closing.contains(sale)
    }

    /// Those products of which a step is due. Ten thousand at rest take a few milliseconds.
    pub(crate) fn with_work(&self, mut slots: Vec<Arc<Slot>>) -> Vec<Arc<Slot>> {
        let view = self.view();
        slots.retain(|slot| self.step_from(&slot.row(), &view).is_some());
        slots
    }

    fn view(&self) -> View {
        View { wishes: self.plan.wishes(), now: self.shared.now() }
    }

    /// The next step of a product; asks nobody.
    fn step_from(&self, row: &ProductRow, view: &View) -> Option<NextStep> {
        let product = &row.state.product;
        let around = Circumstances {
            closing: self.is_closing(&row.state.sale),
            away: self.keeper.is_away(product, view.now),
            now: view.now,
        };
        let wanted = wanted(row, view.wishes.get(product).copied(), around);
        let queued = if row.free == 0 { 0 } else { self.shared.backlog.units(product) };
        next_step(row, wanted, self.keeper.health(row), queued)
    }

    async fn take_steps(&self, slot: &Slot, stop: &CancellationToken) {
        for _ in 0..MAX_STEPS {
            if stop.is_cancelled() {
                return;
            }
            let row = slot.row();
            let Some(step) = self.step_from(&row, &self.view()) else { break };
            if step.moves() {
                self.begun
                    .lock()
                    .entry(row.state.product.clone())
                    .or_insert_with(|| Begun { from: row.state.tier, at: Instant::now() });
            }
            match self.take(slot, &row, step).await {
                // A next move may follow at once: each has its own end.
                Ok(()) if sells(&slot.row()) => self.done(&slot.row()).await,
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
            NextStep::TopUp { lease } => self.top_up(&product, &lease).await,
            NextStep::Raise { lease } => {
                self.raise(&product, &lease).await;
                Ok(())
            }
            NextStep::Load { lease } => self.load(row, lease).await,
            NextStep::Fence { target } => {
                if self.step(MoveStep::Fence { product: product.clone(), epoch, target }).await? {
                    if let LeaseHealth::Replace(why) = self.keeper.health(row) {
                        tracing::warn!(%product, why = why.as_str(), "a lease is replaced");
                        metrics::lease_replaced(why.as_str());
                    }
                    self.shared.condemned.lock().remove(&product);
                }
                Ok(())
            }
            NextStep::Settle { lease } => self.settle(slot, row, lease).await,
            NextStep::Open => self.step(MoveStep::Open { product, epoch }).await.map(drop),
        }
    }

    /// Takes a step; whether it was this call that took it.
    async fn step(&self, step: MoveStep) -> Result<bool, StoreError> {
        Ok(matches!(self.advance(step).await?, Moved::Done(_)))
    }

    /// Takes a step. The table learns the row either way.
    async fn advance(&self, step: MoveStep) -> Result<Moved, StoreError> {
        let moved = self.shared.store.step(step, self.shared.now()).await?;
        if let Moved::Done(row) | Moved::Stale(Some(row)) = &moved {
            self.shared.table.put(row.clone());
        }
        Ok(moved)
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
                self.keeper.failed(&product, &error);
                self.shared.condemned.lock().insert(product, lease.lease);
                // Each try costs an epoch: a lease store that is down is not asked in a tight loop.
                tokio::time::sleep(LOAD_BACK_OFF).await;
            }
        }
        self.shared.table.put(marked);
        Ok(())
    }

    /// Units came back: SQL lends them first. If the call to the lease store is lost, or this core dies before it, the
    /// next look of any core finds the lease behind and raises it.
    async fn top_up(&self, product: &Sku, seen: &LeaseRow) -> Result<(), StoreError> {
        let (lease, keep) = (seen.lease, self.shared.backlog.units(product));
        let Moved::Done(row) = self.advance(MoveStep::TopUp { lease, keep }).await? else { return Ok(()) };
        if let Some(lent) = row.lease.filter(|lent| lent.lease == lease) {
            metrics::topped_up(lent.granted.saturating_sub(seen.granted));
            self.raise(product, &lent).await;
        }
        Ok(())
    }

    /// The second half of a top-up, by max: it may be repeated by anybody at any time.
    async fn raise(&self, product: &Sku, lease: &LeaseRow) {
        match self.shared.leases.top_up(product, lease.lease, lease.granted).await {
            Ok(true) => tracing::debug!(%product, lease = %lease.lease, granted = lease.granted, "a lease was raised"),
            // Lost, closed or replaced: the keeper sees which.
            Ok(false) => tracing::info!(%product, lease = %lease.lease, "there is no such lease to raise"),
            Err(error) => self.keeper.failed(product, &error),
        }
        // Only the next look may find it behind again: no loop here.
        self.keeper.calm(product, lease.lease);
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
