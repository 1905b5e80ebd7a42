//! The core's refusals as problems with stable types, statuses and `Retry-After`. A refusal never becomes a
//! 500: what the caller can wait for is 503 or 429.

use std::time::Duration;

use axum::http::StatusCode;
use http_kit::{Problem, ProblemKind};
use types::order_event::OrderEventKind;

use crate::admission::Refusal;
use crate::stock::store::{OrderState, StoreError};

const SOLD_OUT: ProblemKind = ProblemKind::new("sold-out", "Sold out", StatusCode::GONE);
const ALL_RESERVED: ProblemKind = ProblemKind::new("all-reserved", "All units are reserved", StatusCode::CONFLICT);
const LIMIT: ProblemKind = ProblemKind::new("limit", "Limit per buyer reached", StatusCode::CONFLICT);
const NOT_DECIDED: ProblemKind = ProblemKind::new("deadline", "Not decided in time", StatusCode::CONFLICT);
const ENDED: ProblemKind = ProblemKind::new("sale-ended", "The sale is over", StatusCode::GONE);
const NOT_OPEN: ProblemKind = ProblemKind::new("not-open", "The sale has not opened", StatusCode::TOO_EARLY);
const PAUSED: ProblemKind = ProblemKind::new("paused", "The sale is paused", StatusCode::SERVICE_UNAVAILABLE);
const KEY_REUSED: ProblemKind =
    ProblemKind::new("key-reused", "Idempotency-Key used for something else", StatusCode::UNPROCESSABLE_ENTITY);
const TOKEN_REQUIRED: ProblemKind =
    ProblemKind::new("token-required", "This sale needs a purchase token", StatusCode::UNPROCESSABLE_ENTITY);
/// A purchase token of another buyer or product, or too old.
const TOKEN_INVALID: ProblemKind =
    ProblemKind::new("token-invalid", "Not a good purchase token", StatusCode::UNPROCESSABLE_ENTITY);
/// A purchase token costs something first: what, stands in `challenge`.
pub(super) const CHALLENGE: ProblemKind =
    ProblemKind::new("challenge-required", "Solve the challenge first", StatusCode::PRECONDITION_REQUIRED);
/// The purchase token was used by another attempt.
const TOKEN_USED: ProblemKind = ProblemKind::new("token-used", "Purchase token already used", StatusCode::CONFLICT);
const BACKLOG: ProblemKind = ProblemKind::new("backlog", "Too many attempts", StatusCode::TOO_MANY_REQUESTS);
const MOVING: ProblemKind =
    ProblemKind::new("draining", "The product changes its path", StatusCode::SERVICE_UNAVAILABLE);
const ORDER_STATE: ProblemKind =
    ProblemKind::new("order-state", "Not possible in the order's state", StatusCode::CONFLICT);
/// The payment did not go through.
pub(super) const PAYMENT_FAILED: ProblemKind =
    ProblemKind::new("payment-failed", "The payment failed", StatusCode::PAYMENT_REQUIRED);
/// The payment did not move its order; the money goes back.
pub(super) const REFUND_DUE: ProblemKind =
    ProblemKind::new("refund-due", "The payment came too late or wrong and is given back", StatusCode::CONFLICT);
/// A callback that no key of ours has signed.
pub(super) const BAD_SIGNATURE: ProblemKind =
    ProblemKind::new("bad-signature", "Not signed by a key of ours", StatusCode::UNAUTHORIZED);
/// A callback that was signed too long ago, or too far ahead.
pub(super) const STALE_SIGNATURE: ProblemKind =
    ProblemKind::new("stale-signature", "Signed at another time", StatusCode::UNAUTHORIZED);
/// Money for an order that is not there yet: it must be told again.
pub(super) const UNKNOWN_ORDER: ProblemKind =
    ProblemKind::new("unknown-order", "No such order, yet", StatusCode::NOT_FOUND);
/// Money that is said to have gone back and is not in the books yet: it must be told again.
pub(super) const UNKNOWN_PAYMENT: ProblemKind =
    ProblemKind::new("unknown-payment", "No such payment, yet", StatusCode::NOT_FOUND);
/// The payment is in the books for another order or amount.
pub(super) const PAYMENT_CONFLICT: ProblemKind =
    ProblemKind::new("payment-conflict", "The payment's id is another payment's", StatusCode::CONFLICT);
/// The shop does not take the money itself.
pub(super) const NOT_EXTERNAL: ProblemKind =
    ProblemKind::new("not-external", "Payments come from the provider", StatusCode::CONFLICT);
/// The sale is in a state that the call does not start from.
pub(super) const SALE_STATE: ProblemKind =
    ProblemKind::new("sale-state", "Not possible in the sale's state", StatusCode::CONFLICT);
/// More units are to be removed than are neither sold nor reserved.
pub(super) const TOO_FEW: ProblemKind =
    ProblemKind::new("too-few-units", "Too few units can be removed", StatusCode::CONFLICT);
/// Rows of a file that cannot be: which, and why, stands in `errors`.
pub(super) const INVALID_ROWS: ProblemKind =
    ProblemKind::new("invalid-rows", "The file has wrong rows", StatusCode::UNPROCESSABLE_ENTITY);
/// A file of more rows than one import has.
pub(super) const TOO_MANY_ROWS: ProblemKind =
    ProblemKind::new("too-many-rows", "The file has too many rows", StatusCode::PAYLOAD_TOO_LARGE);
/// Leases are still being brought home.
pub(super) const CLOSING: ProblemKind =
    ProblemKind::new("closing", "The sale is still closing", StatusCode::SERVICE_UNAVAILABLE);
/// A buyer has orders that need his name.
pub(super) const OPEN_ORDERS: ProblemKind =
    ProblemKind::new("open-orders", "The buyer has open orders", StatusCode::CONFLICT);
/// There are as many webhooks as there may be.
pub(super) const TOO_MANY_WEBHOOKS: ProblemKind =
    ProblemKind::new("too-many-webhooks", "Too many webhooks", StatusCode::CONFLICT);
/// Parts that are not ready.
pub(super) const NOT_READY: ProblemKind = ProblemKind::new("not-ready", "Not ready", StatusCode::SERVICE_UNAVAILABLE);

/// Those above: what annotations of routes may name (`http_kit::openapi`).
pub(super) const ALL: &[ProblemKind] = &[
    SOLD_OUT,
    ALL_RESERVED,
    LIMIT,
    NOT_DECIDED,
    ENDED,
    NOT_OPEN,
    PAUSED,
    KEY_REUSED,
    TOKEN_REQUIRED,
    TOKEN_INVALID,
    CHALLENGE,
    TOKEN_USED,
    BACKLOG,
    MOVING,
    ORDER_STATE,
    PAYMENT_FAILED,
    REFUND_DUE,
    BAD_SIGNATURE,
    STALE_SIGNATURE,
    UNKNOWN_ORDER,
    UNKNOWN_PAYMENT,
    PAYMENT_CONFLICT,
    NOT_EXTERNAL,
    SALE_STATE,
    TOO_FEW,
    INVALID_ROWS,
    TOO_MANY_ROWS,
    CLOSING,
    NOT_READY,
    OPEN_ORDERS,
    TOO_MANY_WEBHOOKS,
    super::live::UPGRADE,
    super::live::ORIGIN,
];

/// Longest `Retry-After` that is said: whoever comes earlier than the opening is told to look again.
const LONGEST: u64 = 3_600;

/// Whole seconds, rounded up, at least 1.
pub(super) fn seconds(d: Duration) -> u64 {
    let whole = d.as_secs() + u64::from(d.subsec_nanos() > 0);
    whole.clamp(1, LONGEST)
}

/// A key that stands for another request.
pub(super) fn key_reused(detail: &'static str) -> Problem {
    Problem::new(KEY_REUSED, detail)
}

/// A refused purchase.
pub(super) fn refusal(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::SoldOut => Problem::new(SOLD_OUT, "every unit is sold"),
        Refusal::AllReserved => {
            Problem::new(ALL_RESERVED, "too few units are free; unpaid orders may give some back").retry_after(5)
        }
        Refusal::Limit => Problem::new(LIMIT, "you hold as many units of this product as one buyer may"),
        Refusal::Deadline => {
            Problem::new(NOT_DECIDED, "the attempt was not decided before its deadline; try again with a new key")
        }
        Refusal::Ended => Problem::new(ENDED, "the sale has closed"),
        Refusal::NotOpen { opens_in } => {
            Problem::new(NOT_OPEN, "purchases are not taken yet").retry_after(seconds(opens_in))
        }
        Refusal::Paused => Problem::new(PAUSED, "purchases are not taken for now; try again").retry_after(5),
        Refusal::OtherBody => {
            Problem::new(KEY_REUSED, "this Idempotency-Key belongs to another purchase; use a new one")
        }
        Refusal::TokenUsed => Problem::new(TOKEN_USED, "this purchase token was used with another key"),
        Refusal::TokenMissing => {
            let why = "get one from POST /v1/sales/{sale}/products/{product}/token and send it as `token`";
            Problem::new(TOKEN_REQUIRED, why).field("token")
        }
        Refusal::TokenInvalid => {
            Problem::new(TOKEN_INVALID, "it is not yours, not for this product, or too old; get a new one")
                .field("token")
        }
        Refusal::Unknown => Problem::new(ProblemKind::NOT_FOUND, "no such product in this sale"),
        Refusal::Backlog { retry_after } => {
            Problem::new(BACKLOG, "too many attempts wait for a decision; try again").retry_after(seconds(retry_after))
        }
        Refusal::Draining => Problem::new(MOVING, "try again in a moment").retry_after(1),
        Refusal::Overloaded => Problem::new(ProblemKind::OVERLOADED, "try again in a moment").retry_after(1),
        Refusal::Unavailable => {
            Problem::new(ProblemKind::UNAVAILABLE, "try again with the same Idempotency-Key").retry_after(1)
        }
    }
}

/// An order in a state that the call does not start from.
pub(super) fn wrong_state(state: OrderState) -> Problem {
    Problem::new(ORDER_STATE, format!("the order is {}", OrderEventKind::from(state).as_str()))
}

/// A failed store.
pub(super) fn store(error: &StoreError) -> Problem {
    match error {
        StoreError::Overloaded => Problem::new(ProblemKind::OVERLOADED, "try again in a moment").retry_after(1),
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "a call found no store");
            Problem::new(ProblemKind::UNAVAILABLE, "try again in a moment").retry_after(1)
        }
        StoreError::Corrupt(_) => {
            tracing::error!(%error, "the store contradicts itself");
            Problem::new(ProblemKind::INTERNAL, "the request id leads to the log")
        }
    }
}
