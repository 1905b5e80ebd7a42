//! The words that the tables hold for states and outcomes, the same in every SQL provider. A word that is not
//! in the table is a broken row, never a guess.

use types::OrderId;

use crate::stock::payment_store::PaymentState;
use crate::stock::store::{BodyHash, OrderState, Outcome, SaleState};

/// A body hash in hexadecimal.
pub(super) fn hash_text(hash: BodyHash) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    let mut text = String::with_capacity(2 * hash.0.len());
    for byte in hash.0 {
        text.push(digit(byte >> 4));
        text.push(digit(byte));
    }
    text
}

/// A body hash from hexadecimal.
pub(super) fn hash(text: &str) -> Result<BodyHash, String> {
    let bad = || format!("the body hash {text:?}");
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
pub(super) fn outcome(word: &str, order: Option<OrderId>) -> Result<Outcome, String> {
    Ok(match (word, order) {
        ("accepted", Some(order)) => Outcome::Accepted(order),
        ("sold_out", None) => Outcome::SoldOut,
        ("all_reserved", None) => Outcome::AllReserved,
        ("limit", None) => Outcome::Limit,
        ("deadline", None) => Outcome::Deadline,
        ("closed", None) => Outcome::Closed,
        _ => return Err(format!("decision {word:?} with order {order:?}")),
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
pub(super) fn order_state(word: &str) -> Result<OrderState, String> {
    Ok(match word {
        "accepted" => OrderState::Accepted,
        "paid" => OrderState::Paid,
        "expired" => OrderState::Expired,
        "cancelled" => OrderState::Cancelled,
        "refund_due" => OrderState::RefundDue,
        "refunded" => OrderState::Refunded,
        _ => return Err(format!("order state {word:?}")),
    })
}

/// A payment's state from its word.
pub(super) fn payment_state(word: &str) -> Result<PaymentState, String> {
    let found = PaymentState::ALL.into_iter().find(|state| state.as_str() == word);
    found.ok_or_else(|| format!("payment state {word:?}"))
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
pub(super) fn sale_state(word: &str) -> Result<SaleState, String> {
    Ok(match word {
        "active" => SaleState::Active,
        "paused" => SaleState::Paused,
        "closed" => SaleState::Closed,
        _ => return Err(format!("sale state {word:?}")),
    })
}
