//! The ports of a core over a bad line: the real store, the real leases of this process, the real log in memory, and
//! between them and the core whatever fate sends. Mutants of what stands behind a port are substituted here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventlog::{
    Consumer, EventLog, EventLogError, Group, MemoryLog, NewRecord, Polled, Position, Progress, Subscription, Topic,
    TopicPartition, TopicSpec,
};
use parking_lot::Mutex;
use types::{
    BuyerId, IdempotencyKey, LeaseId, OrderEvent, OrderId, PaymentId, SaleName, SaleSpec, Sku, Timestamp, topics,
};

use super::fate::{Fate, Life, Line, Weather};
use super::mutant::Mutant;
use super::witness::Broken;
use crate::stock::adjustment::{Adjusted, Adjustment};
use crate::stock::db::sqlite::inline::InlineStore;
use crate::stock::redis::{
    GrantReply, GrantRequest, InProcessLeases, LeaseLoad, LeaseLook, LeaseStore, LeaseStoreError,
};
use crate::stock::store::{
    Attempt, BodyHash, Decision, Expired, MoveStep, Moved, OrderChange, OrderRow, Outcome, Payment, PaymentEffect,
    ProductRow, SaleApplied, SaleState, StockStore, StoreError, Verdict,
};

/// The stock store over a line.
pub struct FarStore {
    pub store: Arc<InlineStore>,
    pub line: Line,
    pub mutant: Mutant,
    /// For mutants that do in Redis what belongs to SQL.
    pub redis: Arc<Redis>,
}

/// The name of a step, as a place to die.
const fn name_of(step: &MoveStep) -> &'static str {
    match step {
        MoveStep::Switch { .. } => "switch",
        MoveStep::OpenLease { .. } => "open lease",
        MoveStep::MarkLoaded { .. } => "mark loaded",
        MoveStep::Fence { .. } => "fence",
        MoveStep::Settle { .. } => "settle",
        MoveStep::Open { .. } => "open",
        MoveStep::TopUp { .. } => "top-up in SQL",
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the line is bad".into())
}

#[async_trait]
impl StockStore for FarStore {
    async fn decide(
        &self,
        attempts: Vec<Attempt>,
        reserve_for: Duration,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        if self.mutant == Mutant::AnswerBeforeCommit && self.line.fate.strikes(20) {
            return self.store.decide_and_roll_back(&attempts, reserve_for, now);
        }
        if self.mutant == Mutant::FirstDecisionDoesNotCount {
            for attempt in &attempts {
                self.store.forget(&attempt.buyer, &attempt.key);
            }
        }
        self.line.call("decide", lost, self.store.decide(attempts, reserve_for, now)).await
    }
    async fn conclude(
        &self,
        buyer: &BuyerId,
        key: &IdempotencyKey,
        body_hash: BodyHash,
        product: &Sku,
        now: Timestamp,
    ) -> Result<Decision, StoreError> {
        match self.mutant {
            Mutant::ReaderConcludesFromAbsence => {
                let known = self.store.decision(buyer, key).await?;
                let absent = Decision { body_hash, product: product.clone(), outcome: Outcome::Deadline, at: now };
                Ok(known.unwrap_or(absent))
            }
            Mutant::NobodyDecidesAtTheDeadline => Err(lost()),
            _ => self.line.call("conclude", lost, self.store.conclude(buyer, key, body_hash, product, now)).await,
        }
    }
    async fn step(&self, step: MoveStep, now: Timestamp) -> Result<Moved, StoreError> {
        if self.mutant == Mutant::OpenBeforeSettle
            && let MoveStep::Settle { lease } = step
        {
            self.store.close_unsettled(lease);
        }
        if self.mutant == Mutant::TopUpInRedisFirst
            && let MoveStep::TopUp { lease, keep } = step
        {
            for row in self.store.products().await? {
                if let Some(lent) = row.lease.filter(|lent| lent.lease == lease) {
                    let granted = lent.granted + row.free.saturating_sub(keep);
                    let _done = self.redis.get().top_up(&row.state.product, lease, granted).await;
                    self.line.fate.delay(&self.line.weather).await;
                }
            }
        }
        self.line.call(name_of(&step), lost, self.store.step(step, now)).await
    }
    async fn adjust(&self, adjustment: Adjustment, now: Timestamp) -> Result<Adjusted, StoreError> {
        self.line.call("adjust", lost, self.store.adjust(adjustment, now)).await
    }
    async fn pay(&self, payment: Payment, now: Timestamp) -> Result<PaymentEffect, StoreError> {
        self.line.call("pay", lost, self.store.pay(payment, now)).await
    }
    async fn cancel(&self, order: OrderId, buyer: &BuyerId, now: Timestamp) -> Result<OrderChange, StoreError> {
        self.line.call("cancel", lost, self.store.cancel(order, buyer, now)).await
    }
    async fn expire_due(&self, now: Timestamp, max: usize) -> Result<Expired, StoreError> {
        // Most looks find nothing: only those that do are steps of the protocol.
        if self.store.due(now) == 0 {
            return self.line.read(lost, async { Ok(Expired::default()) }).await;
        }
        let kept = (self.mutant == Mutant::LimitIsNotGivenBack).then(|| self.store.limits());
        let expired = self.line.call("expire", lost, self.store.expire_due(now, max)).await;
        if let Some(kept) = kept {
            self.store.put_limits(&kept);
        }
        expired
    }
    async fn refunded(&self, payment: PaymentId, now: Timestamp) -> Result<bool, StoreError> {
        self.line.call("refunded", lost, self.store.refunded(payment, now)).await
    }
    async fn apply_sale(&self, sale: SaleSpec, now: Timestamp) -> Result<SaleApplied, StoreError> {
        self.line.call("sale", lost, self.store.apply_sale(sale, now)).await
    }
    async fn set_sale_state(
        &self,
        sale: &SaleName,
        state: SaleState,
        now: Timestamp,
    ) -> Result<Option<SaleState>, StoreError> {
        self.line.call("sale state", lost, self.store.set_sale_state(sale, state, now)).await
    }
    async fn decision(&self, buyer: &BuyerId, key: &IdempotencyKey) -> Result<Option<Decision>, StoreError> {
        self.line.read(lost, self.store.decision(buyer, key)).await
    }
    async fn order(&self, order: OrderId, buyer: &BuyerId) -> Result<Option<OrderRow>, StoreError> {
        self.line.read(lost, self.store.order(order, buyer)).await
    }
    async fn orders(&self, buyer: &BuyerId, max: usize) -> Result<Vec<OrderRow>, StoreError> {
        self.line.read(lost, self.store.orders(buyer, max)).await
    }
    async fn products(&self) -> Result<Vec<ProductRow>, StoreError> {
        self.line.read(lost, self.store.products()).await
    }
    async fn product(&self, product: &Sku) -> Result<Option<ProductRow>, StoreError> {
        self.line.read(lost, self.store.product(product)).await
    }
    async fn outbox(&self, max: usize) -> Result<Vec<OrderEvent>, StoreError> {
        self.line.read(lost, self.store.outbox(max)).await
    }
    async fn outbox_relayed(&self, sequence: u64) -> Result<(), StoreError> {
        self.line.call("relayed", lost, self.store.outbox_relayed(sequence)).await
    }
}

/// Who does not reach the lease store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Away {
    #[default]
    ForNone,
    For(usize),
    ForAll,
}

/// The lease store that all cores share: it can be emptied, come back with old data, and be out of reach.
#[derive(Default)]
pub struct Redis {
    now: Mutex<Arc<InProcessLeases>>,
    replica: Mutex<Option<Arc<InProcessLeases>>>,
    /// For whom it is out of reach.
    away: Mutex<Away>,
    lied: AtomicBool,
    // What was loaded last of each product: for a mutant that makes keys.
    loaded: Mutex<BTreeMap<Sku, LeaseLoad>>,
    top_ups: AtomicU64,
}

impl Redis {
    fn get(&self) -> Arc<InProcessLeases> {
        self.now.lock().clone()
    }
    /// A restart: empty.
    pub fn reset(&self) {
        *self.now.lock() = Arc::new(InProcessLeases::new());
    }
    /// The replica takes what there is.
    pub fn replicate(&self) {
        *self.replica.lock() = Some(Arc::new(self.get().copy()));
    }
    /// The replica is promoted: old data.
    pub fn come_back_stale(&self) {
        if let Some(old) = self.replica.lock().clone() {
            self.lied.store(true, Ordering::Relaxed);
            *self.now.lock() = Arc::new(old.copy());
        }
    }
    /// Nobody reaches it, or one core does not, or everybody does again.
    pub fn be_away(&self, away: Away) {
        *self.away.lock() = away;
    }
    /// Top-ups that raised something.
    pub fn top_ups(&self) -> u64 {
        self.top_ups.load(Ordering::Relaxed)
    }
    /// Whether it has ever come back with old data.
    pub fn has_lied(&self) -> bool {
        self.lied.load(Ordering::Relaxed)
    }
}

/// The lease store over a line.
pub struct FarLeases {
    pub redis: Arc<Redis>,
    pub line: Line,
    pub mutant: Mutant,
    pub store: Arc<InlineStore>,
    pub broken: Broken,
    pub core: usize,
}

fn away() -> LeaseStoreError {
    LeaseStoreError::Away("the line is bad".into())
}

impl FarLeases {
    fn reached(&self) -> Result<Arc<InProcessLeases>, LeaseStoreError> {
        match *self.redis.away.lock() {
            Away::ForAll => Err(away()),
            Away::For(core) if core == self.core => Err(away()),
            _ => Ok(self.redis.get()),
        }
    }

    /// What lies in the lease store is never more than SQL has lent to that very lease; and what SQL has sold by it was
    /// granted there, unless the lease store has come back with old data.
    async fn check(&self, product: &Sku) {
        let leases = self.redis.get();
        let Some(lease) = leases.lease_of(product) else { return };
        let Ok(Some(look)) = leases.look(product, lease).await else { return };
        let books: Option<(i64, i64)> = self.store.look(|db| {
            let sql = "SELECT granted, consumed FROM lease WHERE lease_id = ?1 AND state = 'OPEN'";
            db.prepare_cached(sql)
                .and_then(|mut q| q.query_row([lease.to_string()], |r| Ok((r.get(0)?, r.get(1)?))))
                .ok()
        });
        // A lease that is fenced by now may still be raised late: it sells nothing.
        let Some((lent, sold)) = books else { return };
        if look.granted > lent.unsigned_abs() {
            let what = format!("the lease store may grant {} units of {product}, SQL has lent {lent}", look.granted);
            self.broken.lock().push(what);
        }
        let taken = look.granted - look.left;
        if taken < sold.unsigned_abs() && !self.redis.has_lied() {
            let what = format!("SQL has sold {sold} units of {product} by a lease whose store has granted {taken}");
            self.broken.lock().push(what);
        }
    }

    /// As a broken protocol would do the Redis half of a top-up.
    async fn raise(&self, product: &Sku, lease: LeaseId, granted: u64, seen: u64) -> Result<bool, LeaseStoreError> {
        let leases = self.reached()?;
        match self.mutant {
            Mutant::TopUpByIncrement => {
                let Some(here) = leases.look(product, lease).await? else { return Ok(false) };
                leases.top_up(product, lease, here.granted + granted.saturating_sub(seen)).await
            }
            Mutant::TopUpOfAnyLease => {
                let here = leases.lease_of(product).unwrap_or(lease);
                leases.top_up(product, here, granted).await
            }
            Mutant::TopUpCreatesTheKey => {
                let last = self.redis.loaded.lock().get(product).filter(|last| last.lease == lease).cloned();
                if leases.lease_of(product).is_none()
                    && let Some(last) = last
                {
                    return leases.load(LeaseLoad { granted, ..last }).await;
                }
                leases.top_up(product, lease, granted).await
            }
            _ => leases.top_up(product, lease, granted).await,
        }
    }
}

#[async_trait]
impl LeaseStore for FarLeases {
    async fn load(&self, lease: LeaseLoad) -> Result<bool, LeaseStoreError> {
        self.line
            .call("load", away, async {
                let leases = self.reached()?;
                self.redis.loaded.lock().insert(lease.product.clone(), lease.clone());
                leases.load(lease).await
            })
            .await
    }
    async fn grant(&self, request: GrantRequest) -> Result<GrantReply, LeaseStoreError> {
        self.line
            .call("grant", away, async {
                let first = self.reached()?.grant(request.clone()).await;
                // A client that tries again by itself.
                if self.line.fate.strikes(self.line.weather.doubled) {
                    return self.reached()?.grant(request).await;
                }
                first
            })
            .await
    }
    async fn close(&self, product: &Sku, lease: LeaseId) -> Result<bool, LeaseStoreError> {
        self.line.call("close", away, async { self.reached()?.close(product, lease).await }).await
    }
    async fn top_up(&self, product: &Sku, lease: LeaseId, granted: u64) -> Result<bool, LeaseStoreError> {
        let seen = self.redis.get().look(product, lease).await?.map_or(granted, |look| look.granted);
        self.line
            .call("top-up in Redis", away, async {
                let mut done = self.raise(product, lease, granted, seen).await;
                if self.line.fate.strikes(self.line.weather.doubled) {
                    // A word that arrives once more, perhaps long after.
                    let late = self.line.fate.within(0..400);
                    tokio::time::sleep(Duration::from_millis(late)).await;
                    done = self.raise(product, lease, granted, seen).await;
                }
                if matches!(done, Ok(true)) && granted > seen {
                    self.redis.top_ups.fetch_add(1, Ordering::Relaxed);
                }
                self.check(product).await;
                done
            })
            .await
    }
    async fn look(&self, product: &Sku, lease: LeaseId) -> Result<Option<LeaseLook>, LeaseStoreError> {
        self.line
            .read(away, async {
                self.check(product).await;
                self.reached()?.look(product, lease).await
            })
            .await
    }
}

/// The event log over a line.
pub struct FarLog {
    pub log: MemoryLog,
    pub line: Arc<Line>,
}

fn broken_log() -> EventLogError {
    EventLogError::Unavailable("the line is bad".into())
}

/// The name of an append, as a place to die.
fn topic_name(topic: &Topic) -> &'static str {
    match topic.as_str() {
        topics::PURCHASE_GRANTS => "append grants",
        topics::PURCHASE_QUEUE => "append queue",
        topics::PRODUCT_STATE => "append state",
        _ => "append",
    }
}

#[async_trait]
impl EventLog for FarLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
        self.log.ensure_topic(spec).await
    }
    async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        self.log.partitions(topic).await
    }
    async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
        let purchases = matches!(topic.as_str(), topics::PURCHASE_GRANTS | topics::PURCHASE_QUEUE);
        self.line
            .call(topic_name(topic), broken_log, async {
                let (fate, weather) = (&self.line.fate, &self.line.weather);
                if purchases && fate.strikes(weather.tail_lost) {
                    return Ok(Vec::new());
                }
                if fate.strikes(weather.doubled) {
                    self.log.append(topic, records.clone()).await?;
                }
                self.log.append(topic, records).await
            })
            .await
    }
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, EventLogError> {
        let inner = self.log.subscribe(subscription).await?;
        Ok(Box::new(FarConsumer { inner, line: self.line.clone() }))
    }
    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError> {
        self.log.committed(group, partition).await
    }
    async fn end_offset(&self, partition: &TopicPartition) -> Result<u64, EventLogError> {
        self.log.end_offset(partition).await
    }
}

struct FarConsumer {
    inner: Box<dyn Consumer>,
    line: Arc<Line>,
}

#[async_trait]
impl Consumer for FarConsumer {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, EventLogError> {
        let polled = self.inner.poll(max, wait).await?;
        if matches!(polled, Polled::Records(_)) {
            self.line.fate.delay(&self.line.weather).await;
            if self.line.fate.strikes(self.line.weather.rebalanced) {
                return Err(broken_log());
            }
        }
        Ok(polled)
    }
    async fn commit(&mut self, progress: &[Progress]) -> Result<(), EventLogError> {
        let line = self.line.clone();
        line.call("commit offsets", broken_log, self.inner.commit(progress)).await
    }
    async fn seek(&mut self, progress: &Progress) -> Result<(), EventLogError> {
        self.inner.seek(progress).await
    }
    fn assignment(&self) -> Vec<TopicPartition> {
        self.inner.assignment()
    }
}

/// The lines of one life of a core.
pub struct Lines {
    pub seed: u64,
    pub stream: u64,
    pub calm: Arc<std::sync::atomic::AtomicBool>,
    pub life: Arc<Life>,
    pub weather: Weather,
}

impl Lines {
    pub fn line(&self, port: u64) -> Line {
        let fate = Fate::new(self.seed, self.stream * 8 + port, self.calm.clone());
        Line { fate, life: self.life.clone(), weather: self.weather }
    }
}
