//! Port: forgetting buyers. An order's money and units stay for ever, under a name that leads to nobody; what only
//! said who a buyer was goes. Nothing is forgotten that a living order, ticket or limit still needs.

use async_trait::async_trait;
use types::{BuyerId, IdempotencyKey, Timestamp};

use crate::stock::admin_store::Actor;
use crate::stock::store::StoreError;

/// How a name begins that leads to nobody; 32 random hexadecimal digits follow.
pub const ERASED: &str = "erased-";
/// The small fact that decisions may be gone, for the auditor.
pub(crate) const FORGOTTEN: &str = "forgotten";
/// Most orders of one buyer that are looked at; who has more is erased in several calls.
pub const MAX_ORDERS: usize = 2_000;

/// What erasing a buyer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// His orders (so many now) bear another name, his refusals are gone. 0: there was nothing (any more).
    Done {
        /// Orders that bear another name now.
        orders: usize,
        /// Whether there are more: call again.
        more: bool,
    },
    /// He has unpaid orders or money due: nothing was changed.
    OpenOrders(usize),
}

/// A decision's key, from where a walk goes on.
pub type Walked = (BuyerId, IdempotencyKey);

/// Forgetting. Each call is one transaction and bounded; a repeat finds nothing left to do.
#[async_trait]
pub trait RetentionStore: Send + Sync + 'static {
    /// Erases a buyer, unless he has open orders. Its line in the audit log, in the same transaction, says who did it
    /// and how many orders it was, and not whose.
    async fn forget_buyer(&self, buyer: &BuyerId, by: &Actor, now: Timestamp) -> Result<Forgotten, StoreError>;
    /// Orders with places above `after` and at most `last`, ended and unchanged since `before`, of sales that closed
    /// before it: each gets a name of its own. How many. The caller bounds the span.
    async fn forget_orders(&self, after: u64, last: u64, before: Timestamp) -> Result<usize, StoreError>;
    /// Walks `max` decisions on from `after` and removes refusals from before `before`. How many, and from where to
    /// go on; `None` at the end.
    async fn forget_refusals(
        &self,
        after: Option<Walked>,
        max: usize,
        before: Timestamp,
    ) -> Result<(usize, Option<Walked>), StoreError>;
    /// Removes up to `max` used tokens whose purchase nobody can repeat any more: its decision is gone or bears
    /// another name. How many.
    async fn forget_tokens(&self, max: usize) -> Result<usize, StoreError>;
    /// Removes up to `max` counters of buyers who hold nothing of sales that closed before `before`. How many.
    async fn forget_counters(&self, max: usize, before: Timestamp) -> Result<usize, StoreError>;
}

/// A fresh name that leads to nobody.
pub(crate) fn nobody() -> String {
    format!("{ERASED}{:032x}", rand::random::<u128>())
}

/// Whether a name leads to nobody already.
pub(crate) fn is_nobody(buyer: &BuyerId) -> bool {
    buyer.as_str().starts_with(ERASED)
}
