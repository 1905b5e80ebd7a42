//! The embedded provider of the stock store: SQLite in WAL mode with `synchronous=FULL`, one writer thread
//! with group commit and a few read-only connections. It decides nothing in memory: every call reads the
//! database, so that any number of processes may share the file.

mod adjust;
mod admin;
mod connect;
mod decide;
mod fault;
mod feed;
mod import;
#[cfg(test)]
pub(crate) mod inline;
mod ledger;
mod live;
mod moves;
mod orders;
mod payment_books;
mod payments;
mod read;
mod readers;
mod retention;
mod rows;
mod sales;
mod webhooks;
mod writer;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use types::{BuyerId, IdempotencyKey, Invalid, OrderEvent, OrderId, PaymentId, SaleName, SaleSpec, Sku, Timestamp};

use self::ledger::Ledger;
use self::readers::Readers;
use self::writer::Writer;
use crate::stock::adjustment::{Adjusted, Adjustment};
use crate::stock::admin_store::{Act, Acted, Actor, AdminStore, AuditLine, MAX_AUDIT_PAGE, SaleDetail};
use crate::stock::db::metrics::count_verdicts;
use crate::stock::store::{
    Attempt, BodyHash, Decision, Expired, MoveStep, Moved, OrderChange, OrderRow, Payment, PaymentEffect, ProductRow,
    SaleApplied, SaleState, StockStore, StoreError, Verdict,
};

/// Settings of the embedded store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteStoreOptions {
    /// Commands that may wait for the writer; one more is refused (`Overloaded`), which is a quick 503.
    pub queue: usize,
    /// Attempts and other commands in one transaction. Above a few hundred nothing is gained (an fsync is
    /// shared by all), and the first of a group waits for the last.
    pub group: usize,
    /// How long at most a group waits for callers that the last one answered; a lone caller never waits.
    #[serde(with = "types::time::duration_text")]
    pub linger: Duration,
    /// Read-only connections.
    pub readers: usize,
    /// How long to wait for another process's lock on the file.
    #[serde(with = "types::time::duration_text")]
    pub busy_timeout: Duration,
}

/// Most commands that may wait: at 20,000 a second the last of these has waited for longer than any client.
const MAX_QUEUE: usize = 1_000_000;
/// Largest group: a second of the writer's time.
const MAX_GROUP: usize = 50_000;
/// Longest linger: well below what a caller notices, and of the order of one slow fsync.
const MAX_LINGER: Duration = Duration::from_millis(20);
/// Most readers: each holds a page cache and a file handle.
const MAX_READERS: usize = 64;

impl Default for SqliteStoreOptions {
    fn default() -> Self {
        Self {
            queue: 8_192,
            group: 500,
            linger: Duration::from_millis(1),
            readers: 2,
            busy_timeout: Duration::from_secs(5),
        }
    }
}

impl SqliteStoreOptions {
    /// Refuses what cannot work, naming the field.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |what: &'static str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(Invalid::new(what, format!("{value} is not in 1 to {most}")))
            }
        };
        within("stock.sqlite.queue", self.queue, MAX_QUEUE)?;
        within("stock.sqlite.group", self.group, MAX_GROUP)?;
        if self.linger > MAX_LINGER {
            return Err(Invalid::new("stock.sqlite.linger", format!("is above {MAX_LINGER:?}")));
        }
        within("stock.sqlite.readers", self.readers, MAX_READERS)
    }
}

/// The embedded stock store. Dropping it lets the writer finish what it was given and closes the database.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
}

impl SqliteStore {
    /// Opens the database file, creating it and its tables if it does not exist.
    ///
    /// Errors: `Corrupt` for a file of a newer schema version, of another program, or that is no database;
    /// `Unavailable` if it cannot be opened or is locked.
    pub fn open(path: &Path, options: SqliteStoreOptions) -> Result<Self, StoreError> {
        options.check().map_err(|e| StoreError::Corrupt(e.to_string()))?;
        connect::prepare(path, &options)?;
        let readers = Readers::open(path, &options)?;
        let writer = Writer::start(path, &options)?;
        Ok(Self { writer, readers })
    }
}

#[async_trait]
impl StockStore for SqliteStore {
    async fn decide(
        &self,
        attempts: Vec<Attempt>,
        reserve_for: Duration,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        let count = |verdicts: &Vec<Verdict>| count_verdicts(verdicts);
        let weight = attempts.len();
        let decide =
            move |tx: &Connection, ledger: &mut Ledger| decide::decide(tx, ledger, &attempts, reserve_for, now);
        self.writer.run_with_ledger(weight, count, decide).await
    }

    async fn conclude(
        &self,
        buyer: &BuyerId,
        key: &IdempotencyKey,
        body_hash: BodyHash,
        product: &Sku,
        now: Timestamp,
    ) -> Result<Decision, StoreError> {
        let (buyer, key, product) = (buyer.clone(), key.clone(), product.clone());
        self.writer.call(move |tx| decide::conclude(tx, &buyer, &key, body_hash, &product, now)).await
    }

    async fn step(&self, step: MoveStep, now: Timestamp) -> Result<Moved, StoreError> {
        self.writer.call(move |tx| moves::step(tx, &step, now)).await
    }

    async fn adjust(&self, adjustment: Adjustment, now: Timestamp) -> Result<Adjusted, StoreError> {
        self.writer.call(move |tx| adjust::adjust(tx, &adjustment, now)).await
    }

    async fn pay(&self, payment: Payment, now: Timestamp) -> Result<PaymentEffect, StoreError> {
        self.writer.call(move |tx| payments::pay(tx, &payment, now)).await
    }

    async fn cancel(&self, order: OrderId, buyer: &BuyerId, now: Timestamp) -> Result<OrderChange, StoreError> {
        let buyer = buyer.clone();
        self.writer.call(move |tx| orders::cancel(tx, order, &buyer, now)).await
    }

    async fn expire_due(&self, now: Timestamp, max: usize) -> Result<Expired, StoreError> {
        self.writer.run(max, |_| (), move |tx| orders::expire_due(tx, now, max)).await
    }

    async fn refunded(&self, payment: PaymentId, now: Timestamp) -> Result<bool, StoreError> {
        self.writer.call(move |tx| payments::refunded(tx, payment, now)).await
    }

    async fn apply_sale(&self, sale: SaleSpec, now: Timestamp) -> Result<SaleApplied, StoreError> {
        self.writer.run(sale.products.len(), |_| (), move |tx| sales::apply(tx, &sale, now)).await
    }

    async fn set_sale_state(
        &self,
        sale: &SaleName,
        state: SaleState,
        now: Timestamp,
    ) -> Result<Option<SaleState>, StoreError> {
        let sale = sale.clone();
        self.writer.call(move |tx| sales::set_state(tx, &sale, state, now)).await
    }

    async fn decision(&self, buyer: &BuyerId, key: &IdempotencyKey) -> Result<Option<Decision>, StoreError> {
        let (buyer, key) = (buyer.clone(), key.clone());
        self.readers.call(move |db| read::decision(db, &buyer, &key)).await
    }

    async fn order(&self, order: OrderId, buyer: &BuyerId) -> Result<Option<OrderRow>, StoreError> {
        let buyer = buyer.clone();
        self.readers.call(move |db| Ok(read::order(db, order)?.filter(|row| row.buyer == buyer))).await
    }

    async fn orders(&self, buyer: &BuyerId, max: usize) -> Result<Vec<OrderRow>, StoreError> {
        let buyer = buyer.clone();
        self.readers.call(move |db| read::orders(db, &buyer, max)).await
    }

    async fn products(&self) -> Result<Vec<ProductRow>, StoreError> {
        self.readers.call(read::products).await
    }

    async fn product(&self, product: &Sku) -> Result<Option<ProductRow>, StoreError> {
        let product = product.clone();
        self.readers.call(move |db| read::product(db, &product)).await
    }

    async fn outbox(&self, max: usize) -> Result<Vec<OrderEvent>, StoreError> {
        self.readers.call(move |db| read::outbox(db, max)).await
    }

    async fn outbox_relayed(&self, sequence: u64) -> Result<(), StoreError> {
        self.writer.call(move |tx| orders::outbox_relayed(tx, sequence)).await
    }
}

#[async_trait]
impl AdminStore for SqliteStore {
    async fn administer(&self, act: Act, by: Actor, now: Timestamp) -> Result<Acted, StoreError> {
        self.writer.run(act.weight(), |_| (), move |tx| admin::administer(tx, &act, &by, now)).await
    }

    async fn audit_lines(&self, since: u64, max: usize) -> Result<Vec<AuditLine>, StoreError> {
        self.readers.call(move |db| admin::lines(db, since, max.min(MAX_AUDIT_PAGE))).await
    }

    async fn sale(&self, sale: &SaleName) -> Result<Option<SaleDetail>, StoreError> {
        let sale = sale.clone();
        self.readers.call(move |db| admin::sale(db, &sale)).await
    }
}
