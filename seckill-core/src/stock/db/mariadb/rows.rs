//! Between columns and types: small, total conversions. What does not convert is a broken row, never a guess.
//! Columns are read by position, in the order of the statement.

use std::str::FromStr;

use sqlx::Row;
use sqlx::mysql::MySqlRow;
use types::plan::ProductState;
use types::{Epoch, LeaseId, Money, SalePolicy, Timestamp};

use super::fault::Fault;
use crate::stock::db::words;
use crate::stock::store::{Decision, LeaseRow, OrderRow, ProductRow};

fn broken(column: usize, what: impl std::fmt::Display) -> Fault {
    Fault::broken(format!("column {column}: {what}"))
}

/// A text column.
pub(super) fn text(row: &MySqlRow, column: usize) -> Result<&str, Fault> {
    row.try_get_unchecked(column).map_err(|e| broken(column, e))
}
/// A text column that may be NULL.
pub(super) fn text_if_any(row: &MySqlRow, column: usize) -> Result<Option<&str>, Fault> {
    row.try_get_unchecked(column).map_err(|e| broken(column, e))
}
/// A number.
pub(super) fn int(row: &MySqlRow, column: usize) -> Result<i64, Fault> {
    row.try_get_unchecked(column).map_err(|e| broken(column, e))
}
/// A number that may be NULL.
pub(super) fn int_if_any(row: &MySqlRow, column: usize) -> Result<Option<i64>, Fault> {
    row.try_get_unchecked(column).map_err(|e| broken(column, e))
}
/// A count.
pub(super) fn count(row: &MySqlRow, column: usize) -> Result<u64, Fault> {
    let n = int(row, column)?;
    u64::try_from(n).map_err(|_| broken(column, n))
}
/// A count of few units.
pub(super) fn small_count(row: &MySqlRow, column: usize) -> Result<u32, Fault> {
    let n = int(row, column)?;
    u32::try_from(n).map_err(|_| broken(column, n))
}
/// A flag.
pub(super) fn flag(row: &MySqlRow, column: usize) -> Result<bool, Fault> {
    Ok(int(row, column)? != 0)
}
/// A moment.
pub(super) fn time(row: &MySqlRow, column: usize) -> Result<Timestamp, Fault> {
    int(row, column).map(Timestamp::from_millis)
}
/// A text column parsed as what it stands for.
pub(super) fn parsed<T: FromStr>(row: &MySqlRow, column: usize) -> Result<T, Fault> {
    text(row, column)?.parse().map_err(|_| broken(column, "holds what does not parse"))
}
/// A text column that may be NULL, parsed.
pub(super) fn parsed_if_any<T: FromStr>(row: &MySqlRow, column: usize) -> Result<Option<T>, Fault> {
    let text = text_if_any(row, column)?;
    text.map(|t| t.parse().map_err(|_| broken(column, "holds what does not parse"))).transpose()
}
/// An amount and, in the next column, its currency.
pub(super) fn money(row: &MySqlRow, column: usize) -> Result<Money, Fault> {
    Money::new(count(row, column)?, parsed(row, column + 1)?).map_err(|e| broken(column, e))
}

/// Columns of [`decision`].
pub(super) const DECISION: &str = "buyer, `key`, body_hash, product_id, outcome, order_id, decided_at";
/// A decision (the first two columns are its key).
pub(super) fn decision(row: &MySqlRow) -> Result<Decision, Fault> {
    Ok(Decision {
        body_hash: words::hash(text(row, 2)?).map_err(Fault::Broken)?,
        product: parsed(row, 3)?,
        outcome: words::outcome(text(row, 4)?, parsed_if_any(row, 5)?).map_err(Fault::Broken)?,
        at: time(row, 6)?,
    })
}

/// Columns of [`order`].
pub(super) const ORDER: &str =
    "order_id, buyer, sale, product_id, quantity, amount, currency, tier, state, accepted_at, expires_at";
/// An order.
pub(super) fn order(row: &MySqlRow) -> Result<OrderRow, Fault> {
    Ok(OrderRow {
        order: parsed(row, 0)?,
        buyer: parsed(row, 1)?,
        sale: parsed(row, 2)?,
        product: parsed(row, 3)?,
        quantity: small_count(row, 4)?,
        amount: money(row, 5)?,
        tier: parsed(row, 7)?,
        state: words::order_state(text(row, 8)?).map_err(Fault::Broken)?,
        accepted_at: time(row, 9)?,
        expires_at: time(row, 10)?,
    })
}

/// The statement of which [`product`] reads a row, up to its condition.
pub(super) const PRODUCT: &str = "SELECT p.product_id, p.sale, p.name, p.price, p.currency, p.buyer_limit, p.initial_tier, p.pages, s.opens, s.closes, \
     s.state, k.total, k.free, k.reserved, k.sold, k.tier, k.phase, k.epoch, k.target, l.lease_id, l.epoch, l.granted, \
     l.consumed, l.state, l.loaded, COALESCE(y.token_required, 0), COALESCE(y.proof_of_work, 0), \
     (SELECT last FROM outbox_head WHERE one = 1) \
     FROM product p JOIN sale s ON s.name = p.sale LEFT JOIN sale_policy y ON y.sale = p.sale \
     JOIN stock k ON k.product_id = p.product_id LEFT JOIN lease l ON l.alive = p.product_id WHERE ";
/// A product with its sale, stock and living lease.
pub(super) fn product(row: &MySqlRow) -> Result<ProductRow, Fault> {
    let lease = match parsed_if_any::<LeaseId>(row, 19)? {
        None => None,
        Some(lease) => Some(LeaseRow {
            lease,
            epoch: Epoch::new(count(row, 20)?),
            granted: count(row, 21)?,
            consumed: count(row, 22)?,
            fenced: text(row, 23)? == "FENCED",
            loaded: flag(row, 24)?,
        }),
    };
    let free = count(row, 12)?;
    let leased = match lease {
        Some(l) => l.granted.checked_sub(l.consumed).ok_or_else(|| Fault::broken("consumed above granted"))?,
        None => 0,
    };
    Ok(ProductRow {
        state: ProductState {
            product: parsed(row, 0)?,
            sale: parsed(row, 1)?,
            pages: serde_json::from_str(text(row, 7)?).map_err(|e| Fault::broken(format!("pages: {e}")))?,
            tier: parsed(row, 15)?,
            phase: parsed(row, 16)?,
            target: parsed_if_any(row, 18)?,
            epoch: Epoch::new(count(row, 17)?),
            sellable: free.saturating_add(leased),
            reserved: count(row, 13)?,
            total: count(row, 11)?,
            opens: time(row, 8)?,
            closes: time(row, 9)?,
            initial_tier: parsed_if_any(row, 6)?,
        },
        sale_state: words::sale_state(text(row, 10)?).map_err(Fault::Broken)?,
        policy: SalePolicy {
            token_required: flag(row, 25)?,
            proof_of_work: u8::try_from(small_count(row, 26)?).map_err(|e| broken(26, e))?,
        },
        name: text(row, 2)?.to_owned(),
        price: money(row, 3)?,
        limit: small_count(row, 5)?,
        free,
        sold: count(row, 14)?,
        told: count(row, 27)?,
        lease,
    })
}
