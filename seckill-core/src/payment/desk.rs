//! Where payments are started, and where those who wait for one are told its end. It keeps no payment: the store
//! does, so that a core may die at any time and a callback may come to any core.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use types::{OrderId, PaymentId, Timestamp};

use super::notice::{MoneyState, Notice, Settled, settle};
use super::{PaymentProvider, PaymentRequest, Payments, Taking};
use crate::metrics;
use crate::payment::signature::CallbackKeys;
use crate::shared::Shared;
use crate::stock::payment_store::PaymentState;
use crate::stock::sql_store::SqlStore;
use crate::stock::store::{OrderRow, OrderState, StoreError};

/// Payments that may be under way at once; one more is refused with 503.
const MAX_UNDER_WAY: usize = 20_000;
/// For how long a payment counts as under way. After it a shopper may start another: the callback has gone to another
/// core, or the provider has lost it. If both are paid in the end, the second is given back.
const UNDER_WAY_FOR: Duration = Duration::from_secs(600);

/// What a pay call is told.
pub(crate) enum Started {
    /// Under way, now or since an earlier call.
    UnderWay(PaymentId, watch::Receiver<Option<Settled>>),
    /// The shop takes the money itself.
    ByTheShop,
    /// The order is not one that can be paid.
    InState(OrderState),
    /// The provider cannot take it now.
    Unavailable,
}

struct UnderWay {
    payment: PaymentId,
    since: Timestamp,
    end: watch::Sender<Option<Settled>>,
}

impl UnderWay {
    fn is_stale(&self, now: Timestamp) -> bool {
        now.since(self.since) > UNDER_WAY_FOR
    }
}

/// Starts payments and settles what is said of them.
pub(crate) struct PaymentDesk {
    pub(crate) provider: Arc<dyn PaymentProvider>,
    pub(crate) keys: CallbackKeys,
    pub(super) sql: Arc<dyn SqlStore>,
    // One payment of an order at a time: a shopper who clicks twice pays once.
    under_way: Mutex<HashMap<OrderId, UnderWay>>,
    /// Money is owed back.
    pub(crate) wake_refunds: Notify,
}

impl PaymentDesk {
    pub(crate) fn new(payments: Payments, sql: Arc<dyn SqlStore>) -> Self {
        let Payments { provider, keys } = payments;
        Self { provider, keys, sql, under_way: Mutex::default(), wake_refunds: Notify::new() }
    }

    /// Starts the payment of an order.
    pub(crate) async fn start(&self, shared: &Shared, order: &OrderRow) -> Started {
        if order.state != OrderState::Accepted {
            return Started::InState(order.state);
        }
        let (end, ended) = watch::channel(None);
        let payment = shared.ids.payment();
        let now = shared.now();
        {
            let mut under_way = self.under_way.lock();
            if let Some(earlier) = under_way.get(&order.order).filter(|earlier| !earlier.is_stale(now)) {
                return Started::UnderWay(earlier.payment, earlier.end.subscribe());
            }
            if under_way.len() >= MAX_UNDER_WAY {
                under_way.retain(|_, one| !one.is_stale(now));
                if under_way.len() >= MAX_UNDER_WAY {
                    return Started::Unavailable;
                }
            }
            under_way.insert(order.order, UnderWay { payment, since: now, end });
        }
        let request =
            PaymentRequest { payment, order: order.order, amount: order.amount, expires_at: order.expires_at };
        match self.provider.start(request).await {
            Ok(Taking::Started) => Started::UnderWay(payment, ended),
            Ok(Taking::ByTheShop) => {
                self.forget(order.order, payment);
                Started::ByTheShop
            }
            Err(error) => {
                tracing::warn!(%error, order = %order.order, "a payment was not started");
                self.forget(order.order, payment);
                Started::Unavailable
            }
        }
    }

    fn forget(&self, order: OrderId, payment: PaymentId) -> Option<UnderWay> {
        let mut under_way = self.under_way.lock();
        let is_it = under_way.get(&order).is_some_and(|one| one.payment == payment);
        if is_it { under_way.remove(&order) } else { None }
    }

    /// Settles what is said of a payment, and tells whoever waits.
    pub(crate) async fn settle(&self, shared: &Shared, notice: Notice) -> Result<Settled, StoreError> {
        let settled = settle(&*self.sql, notice, shared.now()).await?;
        let answer = match settled {
            Settled::Kept(state) => {
                shared.wake_outbox.notify_one();
                if state == PaymentState::RefundDue {
                    self.wake_refunds.notify_one();
                }
                if notice.status == MoneyState::Refunded {
                    self.units_came_back(shared, notice.order).await;
                }
                state.as_str()
            }
            Settled::Failed => "failed",
            Settled::UnknownOrder => "unknown_order",
            Settled::UnknownPayment => "unknown_payment",
            Settled::Conflict(_) => "conflict",
        };
        metrics::payment(answer);
        match settled {
            Settled::UnknownOrder => {
                tracing::warn!(payment = %notice.payment, order = %notice.order, "money for an order that is not there yet");
            }
            Settled::Conflict(state) => {
                tracing::error!(payment = %notice.payment, order = %notice.order, state = state.as_str(),
                    "a payment's id is in the books for another order or amount");
            }
            Settled::Kept(_) | Settled::Failed | Settled::UnknownPayment => {}
        }
        if matches!(settled, Settled::Kept(_) | Settled::Failed)
            && let Some(one) = self.forget(notice.order, notice.payment)
        {
            one.end.send_replace(Some(settled));
        }
        Ok(settled)
    }

    /// Only a hint: without it every core sees the units within half a second.
    async fn units_came_back(&self, shared: &Shared, order: OrderId) {
        if let Ok(Some(row)) = self.sql.any_order(order).await {
            shared.units_came_back(&row.product).await;
        }
    }
}
