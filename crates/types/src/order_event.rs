//! What happened to an order, as told to the rest of the world (topic `order-events`).

use serde::{Deserialize, Serialize};

use crate::{BuyerId, IdempotencyKey, Money, OrderId, RequestId, SaleName, Sku, Tier, Timestamp};

/// The step. Legal orders: `accepted → paid | expired | cancelled`, `paid → refund_due → refunded`,
/// `expired → paid | refund_due`, `cancelled → refund_due`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderEventKind {
    /// Committed; units reserved.
    Accepted,
    /// Paid; units sold.
    Paid,
    /// Not paid in time; units returned.
    Expired,
    /// Cancelled by its buyer; units returned.
    Cancelled,
    /// Paid, but the units are not the buyer's any more: money to return.
    RefundDue,
    /// Money returned.
    Refunded,
}

impl OrderEventKind {
    /// The snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Paid => "paid",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::RefundDue => "refund_due",
            Self::Refunded => "refunded",
        }
    }
}

/// One step of one order, keyed by the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEvent {
    /// Position in the outbox: rises with every event, so a repeat is recognised.
    pub sequence: u64,
    /// Which order.
    pub order: OrderId,
    /// What happened.
    pub kind: OrderEventKind,
    /// Of which product.
    pub product: Sku,
    /// In which sale.
    pub sale: SaleName,
    /// How many units.
    pub quantity: u32,
    /// For how much in all.
    pub amount: Money,
    /// Whose. Personal data: never logged.
    pub buyer: BuyerId,
    /// The path that accepted the order.
    pub tier: Tier,
    /// When.
    pub at: Timestamp,
    /// The buyer's own name for the attempt, on `accepted`: so every core knows the answer to that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// The HTTP request that caused it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
}
