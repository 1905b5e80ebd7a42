//! Payments: each is recorded once under the provider's id and never dropped. One that moves no order is
//! refunded by its own row.

use rusqlite::{Connection, OptionalExtension, params};
use types::{OrderId, PaymentId, Timestamp};

use super::fault::Fault;
use super::orders::{advance, hold};
use super::{read, rows};
use crate::stock::db::ruling::{PaymentRuling, rule_on_payment};
use crate::stock::store::{OrderRow, OrderState, Payment, PaymentEffect};

/// Applies a payment.
///
/// A payment id that was seen before is answered by its own row: `Paid` while the money stands, `RefundDue`
/// once it is owed or returned. An id that was used for *another* order is recorded nowhere (an id names one
/// payment) and answered `UnknownOrder`: the provider must sort it out.
pub(super) fn pay(tx: &Connection, payment: &Payment, now: Timestamp) -> Result<PaymentEffect, Fault> {
    if let Some((order, state)) = find(tx, payment.payment)? {
        if order != payment.order.to_string() {
            tracing::error!(payment = %payment.payment, order = %payment.order, "a payment id was used for two orders");
            return Ok(PaymentEffect::UnknownOrder);
        }
        return Ok(if state == "paid" { PaymentEffect::Paid } else { PaymentEffect::RefundDue });
    }
    let Some(order) = read::order(tx, payment.order)? else { return Ok(PaymentEffect::UnknownOrder) };
    let retakable = order.state == OrderState::Expired && retakable(tx, &order)?;
    let ruling = rule_on_payment(order.state, payment.amount == order.amount, retakable);
    let n = order.quantity;
    let changed = match ruling {
        PaymentRuling::Pay => {
            take(tx, "UPDATE stock SET reserved = reserved - ?2, sold = sold + ?2 WHERE product_id = ?1", &order)?;
            advance(tx, order.order, OrderState::Accepted, OrderState::Paid, now)?
        }
        PaymentRuling::PayLate => {
            let sql = "UPDATE stock SET free = free - ?2, sold = sold + ?2 WHERE product_id = ?1 AND free >= ?2";
            take(tx, sql, &order)?;
            hold(tx, &order.buyer, &order.sale, &order.product, n)?;
            advance(tx, order.order, OrderState::Expired, OrderState::Paid, now)?
        }
        PaymentRuling::Refund => advance(tx, order.order, order.state, OrderState::RefundDue, now)?,
        PaymentRuling::RefundAlone => true,
    };
    if !changed {
        return Err(Fault::broken(format!("order {} changed within a transaction", order.order)));
    }
    let stands = matches!(ruling, PaymentRuling::Pay | PaymentRuling::PayLate);
    tx.prepare_cached(
        "INSERT INTO payment (payment_id, order_id, amount, currency, state, moved_order, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        payment.payment.to_string(),
        payment.order.to_string(),
        rows::int(payment.amount.minor())?,
        payment.amount.currency().as_str(),
        if stands { "paid" } else { "refund_due" },
        ruling != PaymentRuling::RefundAlone,
        now.millis(),
    ])?;
    Ok(if stands { PaymentEffect::Paid } else { PaymentEffect::RefundDue })
}

fn find(tx: &Connection, payment: PaymentId) -> Result<Option<(String, String)>, Fault> {
    Ok(tx
        .prepare_cached("SELECT order_id, state FROM payment WHERE payment_id = ?1")?
        .query_row([payment.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Whether an expired order's units and its buyer's limit could be taken again now. Leased units do not count.
fn retakable(tx: &Connection, order: &OrderRow) -> Result<bool, Fault> {
    let fits: Option<bool> = tx
        .prepare_cached(
            "SELECT k.free >= ?4 AND ?4 + COALESCE((SELECT held FROM buyer_limit b \
             WHERE b.buyer = ?1 AND b.sale = ?2 AND b.product_id = ?3), 0) <= p.buyer_limit \
             FROM stock k JOIN product p ON p.product_id = k.product_id WHERE k.product_id = ?3",
        )?
        .query_row(params![order.buyer.as_str(), order.sale.as_str(), order.product.as_str(), order.quantity], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(fits.unwrap_or(false))
}

fn take(tx: &Connection, sql: &str, order: &OrderRow) -> Result<(), Fault> {
    match tx.prepare_cached(sql)?.execute(params![order.product.as_str(), order.quantity])? {
        1 => Ok(()),
        n => Err(Fault::broken(format!("order {}: payment touched {n} stock rows", order.order))),
    }
}

/// The payment that paid this order is owed back: `paid → refund_due`.
pub(super) fn owe(tx: &Connection, order: OrderId) -> Result<(), Fault> {
    let owed = tx
        .prepare_cached(
            "UPDATE payment SET state = 'refund_due' WHERE order_id = ?1 AND moved_order = 1 AND state = 'paid'",
        )?
        .execute([order.to_string()])?;
    if owed == 1 { Ok(()) } else { Err(Fault::broken(format!("order {order} was paid by {owed} payments"))) }
}

/// `refund_due → refunded` of a payment, and of its order if it moved one. Money only: units went back
/// earlier. `false`: there is no such payment, or its refund is not due (a repeat says so too).
pub(super) fn refunded(tx: &Connection, payment: PaymentId, now: Timestamp) -> Result<bool, Fault> {
    let changed = tx
        .prepare_cached("UPDATE payment SET state = 'refunded' WHERE payment_id = ?1 AND state = 'refund_due'")?
        .execute([payment.to_string()])?;
    if changed == 0 {
        return Ok(false);
    }
    let (order, moved): (String, bool) = tx
        .prepare_cached("SELECT order_id, moved_order FROM payment WHERE payment_id = ?1")?
        .query_row([payment.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if moved {
        let order = order.parse().map_err(|_| Fault::broken(format!("payment {payment} is for order {order:?}")))?;
        if !advance(tx, order, OrderState::RefundDue, OrderState::Refunded, now)? {
            return Err(Fault::broken(format!("payment {payment} was due a refund and its order {order} was not")));
        }
    }
    Ok(true)
}
