//! The words of the house as types: ids, money, quantity, time, sale, tier, events and reports.
//! Values are checked when they are made ("parse at the door") and never again. No I/O here.

pub mod access;
pub mod codec;
pub mod heat;
pub mod identity;
pub mod ids;
pub mod money;
pub mod order_event;
pub mod plan;
pub mod sale;
mod schema;
pub mod tier;
pub mod time;
pub mod topics;

pub use access::{AccessEvent, EventBatch, EventKind, VisitorHash};
pub use heat::{HeatEntry, HeatReport, HotPage, Temperature, Thresholds};
pub use identity::{AuthError, Authenticator, Identity, Role};
pub use ids::{BuyerId, CoreId, EdgeId, IdempotencyKey, LeaseId, OrderId, PageId, PaymentId, RequestId, SaleName, Sku};
pub use money::{Currency, Money};
pub use order_event::{OrderEvent, OrderEventKind};
pub use sale::{ProductSpec, SalePolicy, SaleSpec};
pub use tier::{Epoch, Generation, Nonce, Phase, Term, Tier};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};

/// Why a value from outside was refused at the door. The text says what is wrong and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Invalid {
    /// The word for the thing that was parsed, for example `sku`.
    pub what: &'static str,
    /// What is wrong with it and what would be right.
    pub why: String,
}

impl Invalid {
    /// A refusal of `what` because of `why`.
    pub fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self { what, why: why.into() }
    }
}
