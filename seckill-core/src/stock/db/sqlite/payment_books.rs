//! The books of payments on SQLite: the port's reads, and the shop's own steps with orders. It moves no money and no
//! unit by itself.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use types::{OrderId, PaymentId, Timestamp};

use super::fault::Fault;
use super::{SqliteStore, orders, read, rows};
use crate::stock::db::words;
use crate::stock::payment_store::{OrderOffice, PaymentRow, PaymentStore};
use crate::stock::store::{OrderChange, OrderRow, StoreError};

#[async_trait]
impl PaymentStore for SqliteStore {
    async fn payment(&self, payment: PaymentId) -> Result<Option<PaymentRow>, StoreError> {
        self.readers.call(move |db| find(db, payment)).await
    }

    async fn refunds_due(
        &self,
        after: Option<(Timestamp, PaymentId)>,
        max: usize,
    ) -> Result<Vec<PaymentRow>, StoreError> {
        self.readers.call(move |db| due(db, after, max)).await
    }

    async fn any_order(&self, order: OrderId) -> Result<Option<OrderRow>, StoreError> {
        self.readers.call(move |db| read::order(db, order)).await
    }

    async fn shop_step(&self, order: OrderId, office: OrderOffice, now: Timestamp) -> Result<OrderChange, StoreError> {
        self.writer.call(move |tx| orders::shop_step(tx, order, office, now)).await
    }
}

/// A payment by its id.
pub(super) fn find(db: &Connection, payment: PaymentId) -> Result<Option<PaymentRow>, Fault> {
    let mut find = db.prepare_cached(
        "SELECT payment_id, order_id, amount, currency, state, moved_order, at FROM payment WHERE payment_id = ?1",
    )?;
    let mut found = find.query([payment.to_string()])?;
    found.next()?.map(payment_row).transpose()
}

/// Payments that are owed back. Read through the index `payment_due`, which holds no other.
pub(super) fn due(
    db: &Connection,
    after: Option<(Timestamp, PaymentId)>,
    max: usize,
) -> Result<Vec<PaymentRow>, Fault> {
    let mut find = db.prepare_cached(
        "SELECT payment_id, order_id, amount, currency, state, moved_order, at FROM payment \
         WHERE state = 'refund_due' AND (at, payment_id) > (?1, ?2) ORDER BY at, payment_id LIMIT ?3",
    )?;
    let (at, payment) = after.map_or((i64::MIN, String::new()), |(at, id)| (at.millis(), id.to_string()));
    let mut found = find.query(params![at, payment, i64::try_from(max).unwrap_or(i64::MAX)])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(payment_row(row)?);
    }
    Ok(all)
}

fn payment_row(row: &Row<'_>) -> Result<PaymentRow, Fault> {
    let state: String = row.get("state")?;
    Ok(PaymentRow {
        payment: rows::parsed(row, "payment_id")?,
        order: rows::parsed(row, "order_id")?,
        amount: rows::money(row, "amount", "currency")?,
        state: words::payment_state(&state).map_err(Fault::Broken)?,
        moved_order: row.get("moved_order")?,
        at: rows::time(row, "at")?,
    })
}
