//! Port: orders as lists, for their buyers and for the shop's own systems. Reading only; each call is one statement
//! and bounded. A list in order of change rests on the outbox, whose numbers have no gaps and become visible in
//! their order (ADR 0007), so that whoever has read up to a number has missed nothing before it.

use async_trait::async_trait;
use types::{BuyerId, OrderId, SaleName, Timestamp};

use crate::stock::store::{OrderRow, OrderState, StoreError};

/// The last order of a page of a buyer's list, newest first. It stays where it is while newer orders come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageEnd {
    /// When that order was accepted.
    pub accepted_at: Timestamp,
    /// Which: orders of one moment stand in the order of their ids.
    pub order: OrderId,
}

/// One step of an order, and the order as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderStep {
    /// The step's number in the outbox.
    pub sequence: u64,
    /// The state that it led to; the order may be further by now.
    pub state: OrderState,
    /// When it was made.
    pub at: Timestamp,
    /// The HTTP request that caused it, if one did.
    pub request: Option<types::RequestId>,
    /// The order as it is now.
    pub order: OrderRow,
}

/// The lists.
#[async_trait]
pub trait OrderFeed: Send + Sync + 'static {
    /// This buyer's orders, newest first, from behind `after`, at most `max`.
    async fn orders_page(
        &self,
        buyer: &BuyerId,
        after: Option<PageEnd>,
        max: usize,
    ) -> Result<Vec<OrderRow>, StoreError>;
    /// Steps with numbers above `after`, in order, at most `max`.
    async fn steps(&self, after: u64, max: usize) -> Result<Vec<OrderStep>, StoreError>;
    /// The number of the newest step; 0 before the first.
    async fn newest_step(&self) -> Result<u64, StoreError>;
    /// The place of the order that arrived last; 0 before the first. Places rise and may have gaps.
    async fn last_arrival(&self) -> Result<u64, StoreError>;
    /// Orders of `sale` whose places are above `after` and at most `last`, in the order of arrival. The caller bounds
    /// the span.
    async fn arrived(&self, sale: &SaleName, after: u64, last: u64) -> Result<Vec<OrderRow>, StoreError>;
}
