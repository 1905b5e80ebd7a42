//! For tests: the embedded store's own SQL on a database in memory, run within the caller's task, one transaction
//! after the other. No thread and no clock, so that a simulation in virtual time replays.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{
    Adjusted, Adjustment, Attempt, BodyHash, BuyerId, Decision, Duration, Expired, IdempotencyKey, MoveStep, Moved,
    OrderChange, OrderEvent, OrderId, OrderRow, Payment, PaymentEffect, PaymentId, ProductRow, SaleApplied, SaleName,
    SaleSpec, SaleState, Sku, StockStore, StoreError, Timestamp, Verdict, adjust, decide, orders, payments, read,
    sales,
};
use super::{fault::Fault, moves};

/// What is looked at around every transaction, with the transaction's own connection.
pub(crate) trait Witness: Send + Sync {
    /// Before an attempt is decided.
    fn before(&self, tx: &Connection, attempt: &Attempt);
    /// After it was.
    fn after(&self, tx: &Connection, attempt: &Attempt, verdict: &Verdict);
    /// Before the commit of a transaction that may have written.
    fn commit(&self, tx: &Connection);
}

pub(crate) struct InlineStore {
    db: Mutex<Connection>,
    path: PathBuf,
    witness: Option<Box<dyn Witness>>,
}

impl InlineStore {
    /// Makes a database of this name, which other connections of this process may open while the store lives.
    pub(crate) fn create(name: &str, witness: Option<Box<dyn Witness>>) -> Self {
        let path = PathBuf::from(format!("file:/{name}?vfs=memdb"));
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_URI;
        let db = Connection::open_with_flags(&path, flags).expect("a database in memory");
        db.pragma_update(None, "foreign_keys", true).expect("a pragma");
        db.set_prepared_statement_cache_capacity(96);
        db.execute_batch(include_str!("../schema.sql")).expect("the schema");
        db.execute("INSERT INTO meta (key, value) VALUES ('schema_version', '2')", []).expect("the version");
        Self { db: Mutex::new(db), path, witness }
    }

    /// Under which other connections find it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks into the database.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        read(&self.db.lock())
    }

    fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        let mut db = self.db.lock();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Fault::from)?;
        let done = work(&tx)?;
        if let Some(witness) = &self.witness {
            witness.commit(&tx);
        }
        tx.commit().map_err(Fault::from)?;
        Ok(done)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        Ok(work(&self.db.lock())?)
    }
}

#[async_trait]
impl StockStore for InlineStore {
    async fn decide(
        &self,
        attempts: Vec<Attempt>,
        reserve_for: Duration,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.write(|tx| {
            let Some(witness) = &self.witness else {
                return decide::decide_and_settle(tx, &attempts, reserve_for, now);
            };
            let mut verdicts = Vec::with_capacity(attempts.len());
            for attempt in &attempts {
                witness.before(tx, attempt);
                let verdict = decide::decide_and_settle(tx, std::slice::from_ref(attempt), reserve_for, now)?;
                witness.after(tx, attempt, &verdict[0]);
                verdicts.extend(verdict);
            }
            Ok(verdicts)
        })
    }

    async fn conclude(
        &self,
        buyer: &BuyerId,
        key: &IdempotencyKey,
        body_hash: BodyHash,
        product: &Sku,
        now: Timestamp,
    ) -> Result<Decision, StoreError> {
        self.write(|tx| decide::conclude(tx, buyer, key, body_hash, product, now))
    }

    async fn step(&self, step: MoveStep, now: Timestamp) -> Result<Moved, StoreError> {
        self.write(|tx| moves::step(tx, &step, now))
    }

    async fn adjust(&self, adjustment: Adjustment, now: Timestamp) -> Result<Adjusted, StoreError> {
        self.write(|tx| adjust::adjust(tx, &adjustment, now))
    }

    async fn pay(&self, payment: Payment, now: Timestamp) -> Result<PaymentEffect, StoreError> {
        self.write(|tx| payments::pay(tx, &payment, now))
    }

    async fn cancel(&self, order: OrderId, buyer: &BuyerId, now: Timestamp) -> Result<OrderChange, StoreError> {
        self.write(|tx| orders::cancel(tx, order, buyer, now))
    }

    async fn expire_due(&self, now: Timestamp, max: usize) -> Result<Expired, StoreError> {
        self.write(|tx| orders::expire_due(tx, now, max))
    }

    async fn refunded(&self, payment: PaymentId, now: Timestamp) -> Result<bool, StoreError> {
        self.write(|tx| payments::refunded(tx, payment, now))
    }

    async fn apply_sale(&self, sale: SaleSpec, now: Timestamp) -> Result<SaleApplied, StoreError> {
        self.write(|tx| sales::apply(tx, &sale, now))
    }

    async fn set_sale_state(
        &self,
        sale: &SaleName,
        state: SaleState,
        now: Timestamp,
    ) -> Result<Option<SaleState>, StoreError> {
        self.write(|tx| sales::set_state(tx, sale, state, now))
    }

    async fn decision(&self, buyer: &BuyerId, key: &IdempotencyKey) -> Result<Option<Decision>, StoreError> {
        self.read(|db| read::decision(db, buyer, key))
    }

    async fn order(&self, order: OrderId, buyer: &BuyerId) -> Result<Option<OrderRow>, StoreError> {
        self.read(|db| Ok(read::order(db, order)?.filter(|row| row.buyer == *buyer)))
    }

    async fn orders(&self, buyer: &BuyerId, max: usize) -> Result<Vec<OrderRow>, StoreError> {
        self.read(|db| read::orders(db, buyer, max))
    }

    async fn products(&self) -> Result<Vec<ProductRow>, StoreError> {
        self.read(read::products)
    }

    async fn product(&self, product: &Sku) -> Result<Option<ProductRow>, StoreError> {
        self.read(|db| read::product(db, product))
    }

    async fn outbox(&self, max: usize) -> Result<Vec<OrderEvent>, StoreError> {
        self.read(|db| read::outbox(db, max))
    }

    async fn outbox_relayed(&self, sequence: u64) -> Result<(), StoreError> {
        self.write(|tx| orders::outbox_relayed(tx, sequence))
    }
}

/// Ways to break it, for mutants.
impl InlineStore {
    /// Answers and commits nothing.
    pub(crate) fn decide_and_roll_back(
        &self,
        attempts: &[Attempt],
        reserve_for: Duration,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        let mut db = self.db.lock();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Fault::from)?;
        Ok(decide::decide_and_settle(&tx, attempts, reserve_for, now)?)
    }

    fn run(&self, sql: &str, values: impl rusqlite::Params) {
        self.db.lock().execute(sql, values).expect("a mutant's own SQL");
    }

    /// Forgets a decision.
    pub(crate) fn forget(&self, buyer: &BuyerId, key: &IdempotencyKey) {
        self.run("DELETE FROM decision WHERE buyer = ?1 AND key = ?2", [buyer.as_str(), key.as_str()]);
    }

    /// Closes a lease and keeps its units.
    pub(crate) fn close_unsettled(&self, lease: types::LeaseId) {
        self.run("UPDATE lease SET state = 'CLOSED' WHERE lease_id = ?1 AND state = 'FENCED'", [lease.to_string()]);
    }

    /// What every buyer holds.
    pub(crate) fn limits(&self) -> Vec<(String, String, String, i64)> {
        let read = |db: &Connection| -> rusqlite::Result<Vec<_>> {
            let mut all = db.prepare("SELECT buyer, sale, product_id, held FROM buyer_limit")?;
            all.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?.collect()
        };
        self.look(read).expect("the limits")
    }

    /// Puts back what every buyer held.
    pub(crate) fn put_limits(&self, limits: &[(String, String, String, i64)]) {
        for (buyer, sale, product, held) in limits {
            self.run(
                "UPDATE buyer_limit SET held = ?4 WHERE buyer = ?1 AND sale = ?2 AND product_id = ?3",
                rusqlite::params![buyer, sale, product, held],
            );
        }
    }

    /// Orders that are due to expire.
    pub(crate) fn due(&self, now: Timestamp) -> usize {
        self.look(|db| {
            db.prepare_cached("SELECT COUNT(*) FROM orders WHERE state = 'accepted' AND expires_at <= ?1")
                .and_then(|mut q| q.query_row([now.millis()], |r| r.get::<_, i64>(0)))
        })
        .map_or(0, |n| usize::try_from(n).unwrap_or(0))
    }
}
