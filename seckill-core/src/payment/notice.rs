//! What a provider says of a payment, and what the store makes of it: settled once, whatever comes twice, late, early
//! or wrong, in any order. It believes every notice; who sent it is proved before.

use serde::{Deserialize, Serialize};
use types::{Currency, Invalid, Money, OrderId, PaymentId, Timestamp};

use crate::stock::payment_store::{OrderOffice, PaymentRow, PaymentState};
use crate::stock::sql_store::SqlStore;
use crate::stock::store::{OrderChange, Payment, PaymentEffect, StoreError};

/// What happened to the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoneyState {
    /// It is here.
    Paid,
    /// It did not come and will not.
    Failed,
    /// It has gone back.
    Refunded,
}

/// The body of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoticeBody {
    /// The payment's id: 32 hexadecimal digits, the one that was started, or the shop's own for a payment that the
    /// shop takes itself.
    pub payment: PaymentId,
    /// For which order.
    pub order: OrderId,
    /// Minor units.
    pub amount: u64,
    /// ISO 4217.
    pub currency: Currency,
    /// What happened.
    pub status: MoneyState,
}

/// A notice that is well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Which payment.
    pub payment: PaymentId,
    /// For which order.
    pub order: OrderId,
    /// How much, as the provider has it.
    pub amount: Money,
    /// What happened.
    pub status: MoneyState,
}

impl TryFrom<NoticeBody> for Notice {
    type Error = Invalid;
    fn try_from(body: NoticeBody) -> Result<Self, Invalid> {
        let NoticeBody { payment, order, amount, currency, status } = body;
        if amount == 0 {
            return Err(Invalid::new("amount", "0 is no payment"));
        }
        Ok(Self { payment, order, amount: Money::new(amount, currency)?, status })
    }
}

impl From<Notice> for NoticeBody {
    fn from(notice: Notice) -> Self {
        let Notice { payment, order, amount, status } = notice;
        Self { payment, order, amount: amount.minor(), currency: amount.currency(), status }
    }
}

/// How a payment stands after a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// In the books, in this state.
    Kept(PaymentState),
    /// It failed, and nothing of it is in the books.
    Failed,
    /// There is no such order, yet: nothing was written. Whoever sent it must send it again.
    UnknownOrder,
    /// Money is said to have gone back that is not in the books, yet: nothing was written. Send it again.
    UnknownPayment,
    /// The payment is in the books for another order or amount, in this state: an id names one payment. Nothing was
    /// written.
    Conflict(PaymentState),
}

/// Settles a notice. After an error nothing is known of it: it must come again, which is harmless.
///
/// - Money that is here is kept: it pays its order, or is owed back (a second payment, a wrong amount or currency, an
///   order that is over and whose units are gone).
/// - A failure changes nothing: the order stays payable. Said of money that is here it changes nothing either.
/// - Money that has gone back pays nothing any more: a payment that still stood is owed first (`paid → refund_due`,
///   its units return), then refunded.
pub async fn settle(store: &dyn SqlStore, notice: Notice, now: Timestamp) -> Result<Settled, StoreError> {
    if let Some(row) = store.payment(notice.payment).await? {
        return settle_known(store, notice, row, now).await;
    }
    match notice.status {
        MoneyState::Failed => Ok(Settled::Failed),
        MoneyState::Refunded => Ok(Settled::UnknownPayment),
        MoneyState::Paid => {
            let payment = Payment { payment: notice.payment, order: notice.order, amount: notice.amount };
            match store.pay(payment, now).await? {
                PaymentEffect::Paid => Ok(Settled::Kept(PaymentState::Paid)),
                PaymentEffect::RefundDue => Ok(Settled::Kept(PaymentState::RefundDue)),
                // Somebody may have used the id for another order just now.
                PaymentEffect::UnknownOrder => match store.payment(notice.payment).await? {
                    Some(row) => settle_known(store, notice, row, now).await,
                    None => Ok(Settled::UnknownOrder),
                },
            }
        }
    }
}

async fn settle_known(
    store: &dyn SqlStore,
    notice: Notice,
    row: PaymentRow,
    now: Timestamp,
) -> Result<Settled, StoreError> {
    if row.order != notice.order || row.amount != notice.amount {
        return Ok(Settled::Conflict(row.state));
    }
    if notice.status != MoneyState::Refunded || row.state == PaymentState::Refunded {
        return Ok(Settled::Kept(row.state));
    }
    if row.state == PaymentState::Paid {
        tracing::warn!(payment = %row.payment, order = %row.order, "money has gone back that was not owed");
        if let OrderChange::Unknown = store.shop_step(row.order, OrderOffice::Refund, now).await? {
            return Err(StoreError::Corrupt(format!("payment {} is for no order", row.payment)));
        }
    }
    store.refunded(row.payment, now).await?;
    let row = store.payment(row.payment).await?;
    row.map(|row| Settled::Kept(row.state))
        .ok_or_else(|| StoreError::Corrupt(format!("payment {} is gone", notice.payment)))
}
