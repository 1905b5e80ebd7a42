//! Orders as lists. Each is one statement on a reader's connection.

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use types::{BuyerId, SaleName};

use super::fault::Fault;
use super::read::limit;
use super::text::Script;
use super::{MariaStore, rows};
use crate::stock::db::words;
use crate::stock::order_feed::{OrderFeed, OrderStep, PageEnd};
use crate::stock::store::{OrderRow, StoreError};

#[async_trait]
impl OrderFeed for MariaStore {
    /// Found through the buyer's decisions, whose key begins with him.
    async fn orders_page(
        &self,
        buyer: &BuyerId,
        after: Option<PageEnd>,
        max: usize,
    ) -> Result<Vec<OrderRow>, StoreError> {
        let mut script = Script::default();
        script.add("orders", "SELECT ").sql(rows::ORDER).sql(
            " FROM orders WHERE order_id IN (SELECT order_id FROM decision WHERE order_id IS NOT NULL AND buyer = ",
        );
        script.text(buyer.as_str()).sql(")");
        if let Some(end) = after {
            script.sql(" AND (accepted_at < ").time(end.accepted_at).sql(" OR (accepted_at = ").time(end.accepted_at);
            script.sql(" AND order_id > ").id(end.order).sql("))");
        }
        script.sql(" ORDER BY accepted_at DESC, order_id LIMIT ").int(limit(max));
        let found = self.readers.ask(&script).await?.rows("orders");
        Ok(found.map(|row| rows::order(&row)).collect::<Result<_, _>>()?)
    }

    async fn steps(&self, after: u64, max: usize) -> Result<Vec<OrderStep>, StoreError> {
        let mut script = Script::default();
        script.add(
            "steps",
            "SELECT o.order_id, o.buyer, o.sale, o.product_id, o.quantity, o.amount, o.currency, o.tier, o.state, \
             o.accepted_at, o.expires_at, b.id, b.kind, b.at, b.request_id FROM outbox b STRAIGHT_JOIN orders o \
             ON o.order_id = b.order_id WHERE b.id > ",
        );
        script.count(after)?.sql(" ORDER BY b.id LIMIT ").int(limit(max));
        let found = self.readers.ask(&script).await?.rows("steps");
        Ok(found.map(|row| step(&row)).collect::<Result<_, _>>()?)
    }

    async fn newest_step(&self) -> Result<u64, StoreError> {
        self.number("SELECT last FROM outbox_head WHERE one = 1").await
    }

    async fn last_arrival(&self) -> Result<u64, StoreError> {
        self.number("SELECT COALESCE(MAX(arrival), 0) FROM orders").await
    }

    async fn arrived(&self, sale: &SaleName, after: u64, last: u64) -> Result<Vec<OrderRow>, StoreError> {
        let mut script = Script::default();
        script.add("orders", "SELECT ").sql(rows::ORDER).sql(" FROM orders WHERE arrival > ").count(after)?;
        script.sql(" AND arrival <= ").count(last)?.sql(" AND sale = ").text(sale.as_str()).sql(" ORDER BY arrival");
        let found = self.readers.ask(&script).await?.rows("orders");
        Ok(found.map(|row| rows::order(&row)).collect::<Result<_, _>>()?)
    }
}

impl MariaStore {
    async fn number(&self, sql: &'static str) -> Result<u64, StoreError> {
        let mut script = Script::default();
        script.add("number", sql);
        let row = self.readers.ask(&script).await?.row("number");
        Ok(row.map_or(Ok(0), |row| rows::count(&row, 0))?)
    }
}

fn step(row: &MySqlRow) -> Result<OrderStep, Fault> {
    Ok(OrderStep {
        sequence: rows::count(row, 11)?,
        state: words::order_state(rows::text(row, 12)?).map_err(Fault::Broken)?,
        at: rows::time(row, 13)?,
        request: rows::parsed_if_any(row, 14)?,
        order: rows::order(row)?,
    })
}
