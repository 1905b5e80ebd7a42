//! The ports of a core over a bad line: the real store, the real leases of this process, the real log in memory, and
//! between them and the core whatever fate sends. Mutants of what stands behind a port are substituted here.

use std::sync::Arc;
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
use crate::stock::adjustment::{Adjusted, Adjustment};
use crate::stock::db::sqlite::inline::InlineStore;
use crate::stock::redis::{
    GrantReply, GrantRequest, InProcessLeases, LeaseLoad, LeaseLook, LeaseStore, LeaseStoreError,
};
use crate::stock::store::{
    Attempt, BodyHash, Decision, MoveStep, Moved, OrderChange, OrderRow, Outcome, Payment, PaymentEffect, ProductRow,
    SaleApplied, SaleState, StockStore, StoreError, Verdict,
};

/// The stock store over a line.
pub struct FarStore {
    pub store: Arc<InlineStore>,
    pub line: Line,
    pub mutant: Mutant,
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
        self.line.call(lost, self.store.decide(attempts, reserve_for, now)).await
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
            _ => self.line.call(lost, self.store.conclude(buyer, key, body_hash, product, now)).await,
        }
    }
    async fn step(&self, step: MoveStep, now: Timestamp) -> Result<Moved, StoreError> {
        if self.mutant == Mutant::OpenBeforeSettle
            && let MoveStep::Settle { lease } = step
        {
            self.store.close_unsettled(lease);
        }
        self.line.call(lost, self.store.step(step, now)).await
    }
    async fn adjust(&self, adjustment: Adjustment, now: Timestamp) -> Result<Adjusted, StoreError> {
        self.line.call(lost, self.store.adjust(adjustment, now)).await
    }
    async fn pay(&self, payment: Payment, now: Timestamp) -> Result<PaymentEffect, StoreError> {
        self.line.call(lost, self.store.pay(payment, now)).await
    }
    async fn cancel(&self, order: OrderId, buyer: &BuyerId, now: Timestamp) -> Result<OrderChange, StoreError> {
        self.line.call(lost, self.store.cancel(order, buyer, now)).await
    }
    async fn expire_due(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        // Most looks find nothing: only those that do are steps of the protocol.
        if self.store.due(now) == 0 {
            return self.line.read(lost, async { Ok(0) }).await;
        }
        let kept = (self.mutant == Mutant::LimitIsNotGivenBack).then(|| self.store.limits());
        let expired = self.line.call(lost, self.store.expire_due(now, max)).await;
        if let Some(kept) = kept {
            self.store.put_limits(&kept);
        }
        expired
    }
    async fn refunded(&self, payment: PaymentId, now: Timestamp) -> Result<bool, StoreError> {
        self.line.call(lost, self.store.refunded(payment, now)).await
    }
    async fn apply_sale(&self, sale: SaleSpec, now: Timestamp) -> Result<SaleApplied, StoreError> {
        self.line.call(lost, self.store.apply_sale(sale, now)).await
    }
    async fn set_sale_state(
        &self,
        sale: &SaleName,
        state: SaleState,
        now: Timestamp,
    ) -> Result<Option<SaleState>, StoreError> {
        self.line.call(lost, self.store.set_sale_state(sale, state, now)).await
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
        self.line.call(lost, self.store.outbox_relayed(sequence)).await
    }
}

/// The lease store that all cores share: it can be emptied, and come back with old data.
#[derive(Default)]
pub struct Redis {
    now: Mutex<Arc<InProcessLeases>>,
    replica: Mutex<Option<Arc<InProcessLeases>>>,
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
            *self.now.lock() = Arc::new(old.copy());
        }
    }
}

/// The lease store over a line.
pub struct FarLeases {
    pub redis: Arc<Redis>,
    pub line: Line,
}

fn away() -> LeaseStoreError {
    LeaseStoreError::Away("the line is bad".into())
}

#[async_trait]
impl LeaseStore for FarLeases {
    async fn load(&self, lease: LeaseLoad) -> Result<bool, LeaseStoreError> {
        self.line.call(away, async { self.redis.get().load(lease).await }).await
    }
    async fn grant(&self, request: GrantRequest) -> Result<GrantReply, LeaseStoreError> {
        self.line
            .call(away, async {
                let first = self.redis.get().grant(request.clone()).await;
                // A client that tries again by itself.
                if self.line.fate.strikes(self.line.weather.doubled) {
                    return self.redis.get().grant(request).await;
                }
                first
            })
            .await
    }
    async fn close(&self, product: &Sku, lease: LeaseId) -> Result<bool, LeaseStoreError> {
        self.line.call(away, async { self.redis.get().close(product, lease).await }).await
    }
    async fn top_up(&self, product: &Sku, lease: LeaseId, granted: u64) -> Result<bool, LeaseStoreError> {
        self.line.call(away, async { self.redis.get().top_up(product, lease, granted).await }).await
    }
    async fn look(&self, product: &Sku, lease: LeaseId) -> Result<Option<LeaseLook>, LeaseStoreError> {
        self.line.read(away, async { self.redis.get().look(product, lease).await }).await
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
            .call(broken_log, async {
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
        line.call(broken_log, self.inner.commit(progress)).await
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
