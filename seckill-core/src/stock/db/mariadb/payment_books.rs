//! The books of payments on a server: the port's reads, and the shop's own steps with orders. It moves no money and
//! no unit by itself.

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use types::{OrderId, PaymentId, Timestamp};

use super::command::{Answer, Command};
use super::fault::Fault;
use super::text::Script;
use super::{MariaStore, rows};
use crate::stock::db::words;
use crate::stock::payment_store::{OrderOffice, PaymentRow, PaymentStore};
use crate::stock::store::{OrderChange, OrderRow, StoreError};

const PAYMENT: &str =
    "SELECT payment_id, order_id, amount, currency, state, moved_order, at FROM payment WHERE state = 'refund_due'";

#[async_trait]
impl PaymentStore for MariaStore {
    async fn payment(&self, payment: PaymentId) -> Result<Option<PaymentRow>, StoreError> {
        let mut script = Script::default();
        script.add(
            "payment",
            "SELECT payment_id, order_id, amount, currency, state, moved_order, at FROM payment WHERE payment_id = ",
        );
        script.id(payment);
        let row = self.readers.ask(&script).await?.row("payment");
        Ok(row.map(|row| payment_row(&row)).transpose()?)
    }

    async fn refunds_due(
        &self,
        after: Option<(Timestamp, PaymentId)>,
        max: usize,
    ) -> Result<Vec<PaymentRow>, StoreError> {
        let mut script = Script::default();
        script.add("due", PAYMENT);
        if let Some((at, payment)) = after {
            script
                .sql(" AND at >= ")
                .time(at)
                .sql(" AND (at > ")
                .time(at)
                .sql(" OR payment_id > ")
                .id(payment)
                .sql(")");
        }
        script.sql(" ORDER BY at, payment_id LIMIT ").int(i64::try_from(max).unwrap_or(i64::MAX));
        let found = self.readers.ask(&script).await?.rows("due");
        Ok(found.map(|row| payment_row(&row)).collect::<Result<_, _>>()?)
    }

    async fn any_order(&self, order: OrderId) -> Result<Option<OrderRow>, StoreError> {
        self.readers.order(order).await
    }

    async fn shop_step(&self, order: OrderId, office: OrderOffice, now: Timestamp) -> Result<OrderChange, StoreError> {
        match self.writer.run(Command::ShopStep { order, office, now }).await? {
            Answer::Change(change) => Ok(change),
            other => Err(StoreError::Corrupt(format!("the writer answered {other:?}"))),
        }
    }
}

/// A payment from the columns of [`PAYMENT`].
pub(super) fn payment_row(row: &MySqlRow) -> Result<PaymentRow, Fault> {
    Ok(PaymentRow {
        payment: rows::parsed(row, 0)?,
        order: rows::parsed(row, 1)?,
        amount: rows::money(row, 2)?,
        state: words::payment_state(rows::text(row, 4)?).map_err(Fault::Broken)?,
        moved_order: rows::flag(row, 5)?,
        at: rows::time(row, 6)?,
    })
}
