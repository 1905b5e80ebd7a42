//! An order's steps and what returns with them: units, the buyer's limit, the outbox. Every step is a
//! compare-and-set on the old state, so a repeat touches nothing.

use rusqlite::{Connection, params};
use types::{BuyerId, OrderId, RequestId, SaleName, Sku, Timestamp};

use super::fault::Fault;
use super::{payments, read, rows};
use crate::stock::db::ruling::{Holding, rule_on_cancel, rule_on_office};
use crate::stock::payment_store::OrderOffice;
use crate::stock::store::{Expired, OrderChange, OrderRow, OrderState};

/// `old → new` with its event. `false`: the order is not in `old`; nothing changed.
pub(super) fn advance(
    tx: &Connection,
    order: OrderId,
    old: OrderState,
    new: OrderState,
    now: Timestamp,
) -> Result<bool, Fault> {
    let id = order.to_string();
    let changed = tx
        .prepare_cached("UPDATE orders SET state = ?3, updated_at = ?4 WHERE order_id = ?1 AND state = ?2")?
        .execute(params![id, rows::order_state_text(old), rows::order_state_text(new), now.millis()])?;
    if changed == 1 {
        tell(tx, &id, new, None, now)?;
    }
    Ok(changed == 1)
}

/// Writes an event to the outbox.
pub(super) fn tell(
    tx: &Connection,
    order: &str,
    kind: OrderState,
    request: Option<&RequestId>,
    now: Timestamp,
) -> Result<(), Fault> {
    tx.prepare_cached("INSERT INTO outbox (order_id, kind, at, request_id) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![order, rows::order_state_text(kind), now.millis(), request.map(RequestId::as_str)])?;
    Ok(())
}

/// Counts units against the buyer's limit. The caller has seen that there is room.
pub(super) fn hold(tx: &Connection, buyer: &BuyerId, sale: &SaleName, product: &Sku, n: u32) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO buyer_limit (buyer, sale, product_id, held) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (buyer, sale, product_id) DO UPDATE SET held = held + ?4",
    )?
    .execute(params![buyer.as_str(), sale.as_str(), product.as_str(), n])?;
    Ok(())
}

/// Units go back to `free`, and the buyer's limit with them. Called exactly once per order: right after the
/// compare-and-set that ended its hold.
pub(super) fn release(tx: &Connection, order: &OrderRow, from: Holding) -> Result<(), Fault> {
    let sql = match from {
        Holding::Reserved => "UPDATE stock SET free = free + ?2, reserved = reserved - ?2 WHERE product_id = ?1",
        Holding::Sold => "UPDATE stock SET free = free + ?2, sold = sold - ?2 WHERE product_id = ?1",
    };
    let stock = tx.prepare_cached(sql)?.execute(params![order.product.as_str(), order.quantity])?;
    let limit = tx
        .prepare_cached("UPDATE buyer_limit SET held = held - ?4 WHERE buyer = ?1 AND sale = ?2 AND product_id = ?3")?
        .execute(params![order.buyer.as_str(), order.sale.as_str(), order.product.as_str(), order.quantity])?;
    if (stock, limit) == (1, 1) {
        Ok(())
    } else {
        Err(Fault::broken(format!("order {}: release touched {stock} stock and {limit} limit rows", order.order)))
    }
}

/// `accepted → cancelled`, or `paid → refund_due`; units and limit return either way.
pub(super) fn cancel(tx: &Connection, order: OrderId, buyer: &BuyerId, now: Timestamp) -> Result<OrderChange, Fault> {
    let Some(row) = read::order(tx, order)?.filter(|row| row.buyer == *buyer) else {
        return Ok(OrderChange::Unknown);
    };
    let ruling = rule_on_cancel(row.state);
    give_back(tx, row, ruling, now)
}

/// The shop's own step with an order.
pub(super) fn shop_step(
    tx: &Connection,
    order: OrderId,
    office: OrderOffice,
    now: Timestamp,
) -> Result<OrderChange, Fault> {
    let Some(row) = read::order(tx, order)? else { return Ok(OrderChange::Unknown) };
    let ruling = rule_on_office(office, row.state);
    give_back(tx, row, ruling, now)
}

/// The order's units and limit return, and its money is owed if it was paid.
fn give_back(
    tx: &Connection,
    row: OrderRow,
    ruling: Option<(OrderState, Holding)>,
    now: Timestamp,
) -> Result<OrderChange, Fault> {
    let Some((new, holding)) = ruling else { return Ok(OrderChange::InState(row)) };
    if !advance(tx, row.order, row.state, new, now)? {
        return Err(Fault::broken(format!("order {} changed within a transaction", row.order)));
    }
    release(tx, &row, holding)?;
    if holding == Holding::Sold {
        payments::owe(tx, row.order)?;
    }
    Ok(OrderChange::Changed(OrderRow { state: new, ..row }))
}

/// `accepted → expired` for up to `max` orders that are due, the longest overdue first.
pub(super) fn expire_due(tx: &Connection, now: Timestamp, max: usize) -> Result<Expired, Fault> {
    let due = read::due(tx, now, max)?;
    let mut expired = Expired::default();
    for order in due {
        if advance(tx, order.order, OrderState::Accepted, OrderState::Expired, now)? {
            release(tx, &order, Holding::Reserved)?;
            expired.orders += 1;
            expired.products.insert(order.product);
        }
    }
    Ok(expired)
}

/// Moves the relay's position on, never back and never beyond the last event.
pub(super) fn outbox_relayed(tx: &Connection, sequence: u64) -> Result<(), Fault> {
    let last: i64 = tx.prepare_cached("SELECT COALESCE(MAX(id), 0) FROM outbox")?.query_row([], |row| row.get(0))?;
    let reached = sequence.min(u64::try_from(last).unwrap_or(0));
    if reached > read::relayed(tx)? {
        tx.prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?
            .execute(params![read::RELAYED, reached.to_string()])?;
    }
    Ok(())
}
