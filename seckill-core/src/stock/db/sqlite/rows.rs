//! Between columns and types: small, total conversions. What does not convert is a broken row, never a guess.

use rusqlite::Row;
use types::{Money, OrderId, Timestamp};

use super::fault::Fault;
use crate::stock::store::{BodyHash, OrderState, Outcome, SaleState};

/// A count as a column.
pub(super) fn int(n: u64) -> Result<i64, Fault> {
    i64::try_from(n).map_err(|_| Fault::broken(format!("{n} does not fit a column")))
}

/// A column as a count.
pub(super) fn count(row: &Row<'_>, column: &str) -> Result<u64, Fault> {
    let n: i64 = row.get(column)?;
    u64::try_from(n).map_err(|_| Fault::broken(format!("{column} is {n}")))
}

/// A column as a count of few units.
pub(super) fn small_count(row: &Row<'_>, column: &str) -> Result<u32, Fault> {
    let n: i64 = row.get(column)?;
    u32::try_from(n).map_err(|_| Fault::broken(format!("{column} is {n}")))
}

/// A column as a moment.
pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

/// A text column parsed as what it stands for.
pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<T, Fault> {
    let value = row.get_ref(column)?;
    let text = value.as_str().map_err(|e| Fault::broken(format!("{column}: {e}")))?;
    text.parse().map_err(|_| Fault::broken(format!("{column} holds {text:?}")))
}

/// A text column that may be NULL.
pub(super) fn parsed_if_any<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<Option<T>, Fault> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    parsed(row, column).map(Some)
}

/// An amount and its currency as money.
pub(super) fn money(row: &Row<'_>, amount: &str, currency: &str) -> Result<Money, Fault> {
    Money::new(count(row, amount)?, parsed(row, currency)?).map_err(|e| Fault::broken(e.to_string()))
}

/// A body hash in hexadecimal.
pub(super) fn hash_text(hash: BodyHash) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    hash.0.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// A body hash from hexadecimal.
pub(super) fn hash(row: &Row<'_>, column: &str) -> Result<BodyHash, Fault> {
    let text: String = row.get(column)?;
    let bad = || Fault::broken(format!("{column} holds {text:?}"));
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(bad());
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
    }
    Ok(BodyHash(bytes))
}

/// The word for an outcome in `decision.outcome`.
pub(super) const fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted(_) => "accepted",
        Outcome::SoldOut => "sold_out",
        Outcome::AllReserved => "all_reserved",
        Outcome::Limit => "limit",
        Outcome::Deadline => "deadline",
        Outcome::Closed => "closed",
    }
}

/// An outcome from its word and the order it names.
pub(super) fn outcome(word: &str, order: Option<OrderId>) -> Result<Outcome, Fault> {
    Ok(match (word, order) {
        ("accepted", Some(order)) => Outcome::Accepted(order),
        ("sold_out", None) => Outcome::SoldOut,
        ("all_reserved", None) => Outcome::AllReserved,
        ("limit", None) => Outcome::Limit,
        ("deadline", None) => Outcome::Deadline,
        ("closed", None) => Outcome::Closed,
        _ => return Err(Fault::broken(format!("decision {word:?} with order {order:?}"))),
    })
}

/// The word for an order's state in `orders.state`; also its event's kind.
pub(super) const fn order_state_text(state: OrderState) -> &'static str {
    match state {
        OrderState::Accepted => "accepted",
        OrderState::Paid => "paid",
        OrderState::Expired => "expired",
        OrderState::Cancelled => "cancelled",
        OrderState::RefundDue => "refund_due",
        OrderState::Refunded => "refunded",
    }
}

/// An order's state from its word.
pub(super) fn order_state(word: &str) -> Result<OrderState, Fault> {
    Ok(match word {
        "accepted" => OrderState::Accepted,
        "paid" => OrderState::Paid,
        "expired" => OrderState::Expired,
        "cancelled" => OrderState::Cancelled,
        "refund_due" => OrderState::RefundDue,
        "refunded" => OrderState::Refunded,
        _ => return Err(Fault::broken(format!("order state {word:?}"))),
    })
}

/// The word for a sale's state in `sale.state`.
pub(super) const fn sale_state_text(state: SaleState) -> &'static str {
    match state {
        SaleState::Active => "active",
        SaleState::Paused => "paused",
        SaleState::Closed => "closed",
    }
}

/// A sale's state from its word.
pub(super) fn sale_state(word: &str) -> Result<SaleState, Fault> {
    Ok(match word {
        "active" => SaleState::Active,
        "paused" => SaleState::Paused,
        "closed" => SaleState::Closed,
        _ => return Err(Fault::broken(format!("sale state {word:?}"))),
    })
}
