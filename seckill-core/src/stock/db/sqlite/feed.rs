//! Orders as lists. Each is one statement on a reader's connection.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use types::{BuyerId, SaleName};

use super::fault::Fault;
use super::{SqliteStore, read, rows};
use crate::stock::order_feed::{OrderFeed, OrderStep, PageEnd};
use crate::stock::store::{OrderRow, StoreError};

/// Columns of an order, as `read::order_row` reads them.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT o.order_id, o.buyer, o.sale, o.product_id, o.quantity, o.amount, o.currency, o.tier, o.state, ",
            "o.accepted_at, o.expires_at",
            $rest
        )
    };
}

#[async_trait]
impl OrderFeed for SqliteStore {
    async fn orders_page(
        &self,
        buyer: &BuyerId,
        after: Option<PageEnd>,
        max: usize,
    ) -> Result<Vec<OrderRow>, StoreError> {
        let buyer = buyer.clone();
        self.readers.call(move |db| orders_page(db, &buyer, after, max)).await
    }

    async fn steps(&self, after: u64, max: usize) -> Result<Vec<OrderStep>, StoreError> {
        self.readers.call(move |db| steps(db, after, max)).await
    }

    async fn newest_step(&self) -> Result<u64, StoreError> {
        self.readers.call(|db| number(db, "SELECT COALESCE(MAX(id), 0) AS n FROM outbox")).await
    }

    async fn last_arrival(&self) -> Result<u64, StoreError> {
        self.readers.call(|db| number(db, "SELECT COALESCE(MAX(rowid), 0) AS n FROM orders")).await
    }

    async fn arrived(&self, sale: &SaleName, after: u64, last: u64) -> Result<Vec<OrderRow>, StoreError> {
        let sale = sale.clone();
        self.readers
            .call(move |db| {
                let mut find = db.prepare_cached(select!(
                    " FROM orders o WHERE o.rowid > ?1 AND o.rowid <= ?2 AND o.sale = ?3 ORDER BY o.rowid"
                ))?;
                read::collect(find.query(params![rows::int(after)?, rows::int(last)?, sale.as_str()])?, read::order_row)
            })
            .await
    }
}

fn number(db: &Connection, sql: &'static str) -> Result<u64, Fault> {
    let mut find = db.prepare_cached(sql)?;
    let mut found = find.query([])?;
    found.next()?.map_or(Ok(0), |row| rows::count(row, "n"))
}

/// A buyer's orders are found through his decisions, whose key begins with him.
fn orders_page(db: &Connection, buyer: &BuyerId, after: Option<PageEnd>, max: usize) -> Result<Vec<OrderRow>, Fault> {
    let mut find = db.prepare_cached(select!(
        " FROM orders o WHERE o.order_id IN (SELECT order_id FROM decision WHERE buyer = ?1) \
         AND (?2 IS NULL OR o.accepted_at < ?2 OR (o.accepted_at = ?2 AND o.order_id > ?3)) \
         ORDER BY o.accepted_at DESC, o.order_id LIMIT ?4"
    ))?;
    let at = after.map(|end| end.accepted_at.millis());
    let order = after.map(|end| end.order.to_string());
    read::collect(find.query(params![buyer.as_str(), at, order, read::limit(max)])?, read::order_row)
}

fn steps(db: &Connection, after: u64, max: usize) -> Result<Vec<OrderStep>, Fault> {
    let mut find = db.prepare_cached(select!(
        ", b.id, b.kind, b.at, b.request_id FROM outbox b JOIN orders o ON o.order_id = b.order_id \
         WHERE b.id > ?1 ORDER BY b.id LIMIT ?2"
    ))?;
    read::collect(find.query(params![rows::int(after)?, read::limit(max)])?, step)
}

fn step(row: &Row<'_>) -> Result<OrderStep, Fault> {
    let state: String = row.get("kind")?;
    Ok(OrderStep {
        sequence: rows::count(row, "id")?,
        state: rows::order_state(&state)?,
        at: rows::time(row, "at")?,
        request: rows::parsed_if_any(row, "request_id")?,
        order: read::order_row(row)?,
    })
}
