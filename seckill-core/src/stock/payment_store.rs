//! Port: the books of payments, beside the stock that they pay for. The same promises as the stock store's: each
//! method is one transaction, durable when it returns, and every change is conditional in SQL.

use async_trait::async_trait;
use types::{Money, OrderId, PaymentId, Timestamp};

use crate::stock::store::{OrderChange, OrderRow, StoreError};

/// Where a payment's money is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaymentState {
    /// Here, and it pays its order.
    Paid,
    /// Here, and owed back.
    RefundDue,
    /// Gone back.
    Refunded,
}

impl PaymentState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Paid, Self::RefundDue, Self::Refunded];
    /// The word, in the tables and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::RefundDue => "refund_due",
            Self::Refunded => "refunded",
        }
    }
}

/// A row of `payment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentRow {
    /// The provider's id.
    pub payment: PaymentId,
    /// For which order.
    pub order: OrderId,
    /// How much came.
    pub amount: Money,
    /// Where it is.
    pub state: PaymentState,
    /// Whether it is the payment that moved its order; a second or a wrong one is not.
    pub moved_order: bool,
    /// When it was kept.
    pub at: Timestamp,
}

/// What the shop itself does to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderOffice {
    /// `paid → refund_due`: units and limit return, the money is owed.
    Refund,
    /// `accepted → cancelled`: units and limit return.
    Release,
}

/// The books of payments.
#[async_trait]
pub trait PaymentStore: Send + Sync + 'static {
    /// A payment by its id.
    async fn payment(&self, payment: PaymentId) -> Result<Option<PaymentRow>, StoreError>;
    /// Payments that are owed back, in the order of `(at, payment)`, those after `after`, at most `max`.
    async fn refunds_due(
        &self,
        after: Option<(Timestamp, PaymentId)>,
        max: usize,
    ) -> Result<Vec<PaymentRow>, StoreError>;
    /// An order by its id, whoever its buyer is.
    async fn any_order(&self, order: OrderId) -> Result<Option<OrderRow>, StoreError>;
    /// The shop's own step. `InState`: the order is not in the state that it starts from; nothing changed.
    async fn shop_step(&self, order: OrderId, office: OrderOffice, now: Timestamp) -> Result<OrderChange, StoreError>;
}
