//! The provider of the stock store on MariaDB or MySQL: InnoDB, READ COMMITTED, one writer connection with group
//! commit and a few for reads. It decides nothing from memory: every call reads the database, so that any number of
//! cores may share it. Why it is correct: `docs/adr/0007`.

mod adjust;
mod admin;
mod aside;
mod book;
mod command;
mod fault;
mod feed;
mod flush;
mod import;
mod live;
mod load;
mod migrate;
mod moves;
mod options;
mod payment_books;
mod read;
mod retention;
mod rows;
mod sales;
mod session;
mod text;
mod webhooks;
mod work;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use types::{BuyerId, IdempotencyKey, OrderEvent, OrderId, PaymentId, SaleName, SaleSpec, Sku, Timestamp};

use self::aside::Aside;
use self::command::{Answer, Command};
pub use self::options::MariaStoreOptions;
use self::read::Readers;
use self::work::Desk;
use self::writer::Writer;
use crate::stock::adjustment::{Adjusted, Adjustment};
use crate::stock::admin_store::{Act, Acted, Actor, AdminStore, AuditLine, MAX_AUDIT_PAGE, SaleDetail};
use crate::stock::db::metrics::count_verdicts;
use crate::stock::store::{
    Attempt, BodyHash, Decision, Expired, MoveStep, Moved, OrderChange, OrderRow, Payment, PaymentEffect, ProductRow,
    SaleApplied, SaleState, StockStore, StoreError, Verdict,
};

/// The stock store on a server. Dropping it lets the writer finish what it was given and closes its connections.
#[derive(Debug)]
pub struct MariaStore {
    writer: Writer,
    readers: Readers,
    aside: Aside,
}

impl MariaStore {
    /// Connects, brings the tables to this program's version, and starts the writer on the current runtime.
    ///
    /// Errors: `Unavailable` (retryable) if the server does not answer or refuses the connection; `Corrupt` for
    /// settings that cannot work, a server too old or set up so that promises cannot be kept, a database of a newer
    /// version, of changed statements, or of another program.
    pub async fn connect(options: MariaStoreOptions) -> Result<Self, StoreError> {
        options.check().map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let options = Arc::new(options);
        migrate::migrate(&options).await?;
        let desk = Desk::open(Arc::clone(&options)).await?;
        Ok(Self {
            writer: Writer::start(desk, Arc::clone(&options)),
            readers: Readers::new(Arc::clone(&options)),
            aside: Aside::new(options),
        })
    }
}

/// Takes the answer of the kind that the command has; any other is a defect of this provider.
macro_rules! answer {
    ($answer:expr, $kind:ident) => {
        match $answer? {
            Answer::$kind(value) => Ok(value),
            other => Err(StoreError::Corrupt(format!("the writer answered {other:?}"))),
        }
    };
}

#[async_trait]
impl StockStore for MariaStore {
    async fn decide(
        &self,
        attempts: Vec<Attempt>,
        reserve_for: Duration,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        let verdicts = answer!(self.writer.run(Command::Decide { attempts, reserve_for, now }).await, Verdicts)?;
        count_verdicts(&verdicts);
        Ok(verdicts)
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
        answer!(self.writer.run(Command::Conclude { buyer, key, body_hash, product, now }).await, Decision)
    }

    async fn step(&self, step: MoveStep, now: Timestamp) -> Result<Moved, StoreError> {
        answer!(self.writer.run(Command::Step { step, now }).await, Moved)
    }

    async fn adjust(&self, adjustment: Adjustment, now: Timestamp) -> Result<Adjusted, StoreError> {
        answer!(self.writer.run(Command::Adjust { adjustment, now }).await, Adjusted)
    }

    async fn pay(&self, payment: Payment, now: Timestamp) -> Result<PaymentEffect, StoreError> {
        answer!(self.writer.run(Command::Pay { payment, now }).await, Effect)
    }

    async fn cancel(&self, order: OrderId, buyer: &BuyerId, now: Timestamp) -> Result<OrderChange, StoreError> {
        let buyer = buyer.clone();
        answer!(self.writer.run(Command::Cancel { order, buyer, now }).await, Change)
    }

    async fn expire_due(&self, now: Timestamp, max: usize) -> Result<Expired, StoreError> {
        answer!(self.writer.run(Command::ExpireDue { max, now }).await, Expired)
    }

    async fn refunded(&self, payment: PaymentId, now: Timestamp) -> Result<bool, StoreError> {
        answer!(self.writer.run(Command::Refunded { payment, now }).await, Did)
    }

    async fn apply_sale(&self, sale: SaleSpec, now: Timestamp) -> Result<SaleApplied, StoreError> {
        answer!(self.writer.run(Command::ApplySale { sale: Box::new(sale), now }).await, Applied)
    }

    async fn set_sale_state(
        &self,
        sale: &SaleName,
        state: SaleState,
        now: Timestamp,
    ) -> Result<Option<SaleState>, StoreError> {
        let sale = sale.clone();
        answer!(self.writer.run(Command::SetSaleState { sale, state, now }).await, State)
    }

    async fn decision(&self, buyer: &BuyerId, key: &IdempotencyKey) -> Result<Option<Decision>, StoreError> {
        self.readers.decision(buyer, key).await
    }

    async fn order(&self, order: OrderId, buyer: &BuyerId) -> Result<Option<OrderRow>, StoreError> {
        Ok(self.readers.order(order).await?.filter(|row| row.buyer == *buyer))
    }

    async fn orders(&self, buyer: &BuyerId, max: usize) -> Result<Vec<OrderRow>, StoreError> {
        self.readers.orders(buyer, max).await
    }

    async fn products(&self) -> Result<Vec<ProductRow>, StoreError> {
        self.readers.products().await
    }

    async fn product(&self, product: &Sku) -> Result<Option<ProductRow>, StoreError> {
        self.readers.product(product).await
    }

    async fn outbox(&self, max: usize) -> Result<Vec<OrderEvent>, StoreError> {
        self.readers.outbox(max).await
    }

    async fn outbox_relayed(&self, sequence: u64) -> Result<(), StoreError> {
        match self.writer.run(Command::Relayed { sequence }).await? {
            Answer::Done => Ok(()),
            other => Err(StoreError::Corrupt(format!("the writer answered {other:?}"))),
        }
    }
}

#[async_trait]
impl AdminStore for MariaStore {
    async fn administer(&self, act: Act, by: Actor, now: Timestamp) -> Result<Acted, StoreError> {
        answer!(self.writer.run(Command::Administer { act: Box::new(act), by, now }).await, Acted)
    }

    async fn audit_lines(&self, since: u64, max: usize) -> Result<Vec<AuditLine>, StoreError> {
        self.readers.audit_lines(since, max.min(MAX_AUDIT_PAGE)).await
    }

    async fn sale(&self, sale: &SaleName) -> Result<Option<SaleDetail>, StoreError> {
        self.readers.sale(sale).await
    }
}
