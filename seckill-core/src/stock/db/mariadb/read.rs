//! Reads outside of any transaction: decisions, orders, products, the outbox. Each is one statement, so each sees one
//! moment. A few connections of their own, under time limits; they never wait for the writer, nor it for them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use types::order_event::OrderEventKind;
use types::{BuyerId, IdempotencyKey, OrderEvent, OrderId, SaleName, Sku};

use super::fault::{Fault, Remedy};
use super::options::MariaStoreOptions;
use super::session::{Replies, Role, Session, product_where};
use super::text::Script;
use super::{admin, rows};
use crate::stock::admin_store::{AuditLine, SaleDetail};
use crate::stock::db::words;
use crate::stock::store::{Decision, OrderRow, ProductRow, StoreError};

/// Reads that may wait for a connection: half a second's worth at 0.5 ms each on four connections.
const MAX_WAITING: usize = 4_096;

/// The connections for reads, made when they are first needed.
#[derive(Debug)]
pub(super) struct Readers {
    options: Arc<MariaStoreOptions>,
    idle: Mutex<Vec<Session>>,
    connections: Semaphore,
    waiting: Semaphore,
}

impl Readers {
    pub(super) fn new(options: Arc<MariaStoreOptions>) -> Self {
        let connections = Semaphore::new(options.readers);
        Self { options, idle: Mutex::new(Vec::new()), connections, waiting: Semaphore::new(MAX_WAITING) }
    }

    /// Runs a read. A connection that turns out to be gone is replaced once: a read may be repeated.
    pub(super) async fn ask(&self, script: &Script) -> Result<Replies, StoreError> {
        let closed = || StoreError::Unavailable("the readers have stopped".into());
        let _place = self.waiting.try_acquire().map_err(|_| StoreError::Overloaded)?;
        let wait = tokio::time::timeout(self.options.patience, self.connections.acquire());
        let _permit = wait.await.map_err(|_| StoreError::Overloaded)?.map_err(|_| closed())?;
        let used = self.idle.lock().pop();
        if let Some(session) = used {
            match self.ask_on(session, script).await {
                Err(fault) if fault.remedy() == Remedy::Retry("lost") => {}
                end => return end.map_err(StoreError::from),
            }
            // The server has gone away and perhaps come back: the other idle ones are as old.
            self.idle.lock().clear();
        }
        let session = Session::open(&self.options, Role::Reader).await?;
        Ok(self.ask_on(session, script).await?)
    }

    async fn ask_on(&self, mut session: Session, script: &Script) -> Result<Replies, Fault> {
        let end = session.run(script).await;
        if !end.as_ref().is_err_and(Fault::loses_connection) {
            self.idle.lock().push(session);
        }
        end
    }

    /// The decision of `(buyer, key)`.
    pub(super) async fn decision(&self, buyer: &BuyerId, key: &IdempotencyKey) -> Result<Option<Decision>, StoreError> {
        let mut script = Script::default();
        script.add("decision", "SELECT ").sql(rows::DECISION).sql(" FROM decision WHERE buyer = ").text(buyer.as_str());
        script.sql(" AND `key` = ").text(key.as_str());
        let row = self.ask(&script).await?.row("decision");
        Ok(row.map(|row| rows::decision(&row)).transpose()?)
    }

    /// An order by its id.
    pub(super) async fn order(&self, order: OrderId) -> Result<Option<OrderRow>, StoreError> {
        let mut script = Script::default();
        script.add("order", "SELECT ").sql(rows::ORDER).sql(" FROM orders WHERE order_id = ").id(order);
        let row = self.ask(&script).await?.row("order");
        Ok(row.map(|row| rows::order(&row)).transpose()?)
    }

    /// A buyer's orders, newest first, found through his decisions.
    pub(super) async fn orders(&self, buyer: &BuyerId, max: usize) -> Result<Vec<OrderRow>, StoreError> {
        let mut script = Script::default();
        script.add("orders", "SELECT ").sql(rows::ORDER).sql(
            " FROM orders WHERE order_id IN (SELECT order_id FROM decision WHERE order_id IS NOT NULL AND buyer = ",
        );
        script.text(buyer.as_str()).sql(") ORDER BY accepted_at DESC, order_id LIMIT ").int(limit(max));
        let found = self.ask(&script).await?.rows("orders");
        Ok(found.map(|row| rows::order(&row)).collect::<Result<_, _>>()?)
    }

    /// Every product of sales that are not closed, and those of closed sales that are not at rest yet.
    pub(super) async fn products(&self) -> Result<Vec<ProductRow>, StoreError> {
        let mut script = Script::default();
        script
            .add("products", rows::PRODUCT)
            .sql("s.state <> 'closed' OR l.lease_id IS NOT NULL OR k.phase <> 'active' ORDER BY p.product_id");
        let found = self.ask(&script).await?.rows("products");
        Ok(found.map(|row| rows::product(&row)).collect::<Result<_, _>>()?)
    }

    /// One product, of whatever sale.
    pub(super) async fn product(&self, product: &Sku) -> Result<Option<ProductRow>, StoreError> {
        let mut script = Script::default();
        product_where(&mut script, "product", product);
        let row = self.ask(&script).await?.row("product");
        Ok(row.map(|row| rows::product(&row)).transpose()?)
    }

    /// Lines of the audit log.
    pub(super) async fn audit_lines(&self, since: u64, max: usize) -> Result<Vec<AuditLine>, StoreError> {
        let mut script = Script::default();
        admin::ask_lines(&mut script, since, max);
        let found = self.ask(&script).await?.rows("lines");
        Ok(found.map(|row| admin::line(&row)).collect::<Result<_, _>>()?)
    }

    /// One sale with its products.
    pub(super) async fn sale(&self, sale: &SaleName) -> Result<Option<SaleDetail>, StoreError> {
        let mut script = Script::default();
        admin::ask_sale(&mut script, sale);
        Ok(admin::sale_of(&mut self.ask(&script).await?, sale)?)
    }

    /// Outbox events that were not relayed yet, oldest first.
    pub(super) async fn outbox(&self, max: usize) -> Result<Vec<OrderEvent>, StoreError> {
        let mut script = Script::default();
        script.add("events", EVENT).sql("(SELECT CAST(value AS SIGNED) FROM meta WHERE `key` = 'outbox_relayed')");
        script.sql(" ORDER BY b.id LIMIT ").int(limit(max));
        let found = self.ask(&script).await?.rows("events");
        Ok(found.map(|row| event(&row)).collect::<Result<_, _>>()?)
    }
}

/// The statement of which [`event`] reads a row, up to the id behind which it begins.
pub(super) const EVENT: &str = "SELECT b.id, b.kind, b.at, b.request_id, o.order_id, o.product_id, o.sale, o.quantity, \
     o.amount, o.currency, o.buyer, o.tier, o.`key` FROM outbox b STRAIGHT_JOIN orders o ON o.order_id = b.order_id WHERE b.id > ";

/// An event with what its order is.
pub(super) fn event(row: &sqlx::mysql::MySqlRow) -> Result<OrderEvent, Fault> {
    let kind: OrderEventKind = words::order_state(rows::text(row, 1)?).map_err(Fault::Broken)?.into();
    Ok(OrderEvent {
        sequence: rows::count(row, 0)?,
        kind,
        key: (kind == OrderEventKind::Accepted).then(|| rows::parsed(row, 12)).transpose()?,
        at: rows::time(row, 2)?,
        request: rows::parsed_if_any(row, 3)?,
        order: rows::parsed(row, 4)?,
        product: rows::parsed(row, 5)?,
        sale: rows::parsed(row, 6)?,
        quantity: rows::small_count(row, 7)?,
        amount: rows::money(row, 8)?,
        buyer: rows::parsed(row, 10)?,
        tier: rows::parsed(row, 11)?,
    })
}

pub(super) fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
