//! Payments: a port to a provider that takes the buyer's money and says later what came of it, and the desk that
//! starts payments and applies their results to the store, once each. No result is dropped.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use types::{Clock, Money, OrderId, PaymentId};

use crate::metrics;
use crate::options::SimulatedPaymentOptions;
use crate::shared::Shared;
use crate::stock::store::{OrderRow, OrderState, Payment, PaymentEffect};

/// Results that may wait to be applied; the provider waits when it is full, as a real one would try again.
const MAX_RESULTS: usize = 4_096;
/// Payments that may be under way at once; one more is refused with 503.
const MAX_UNDER_WAY: usize = 20_000;
/// Pause before a payment's result is applied again.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What a provider is asked to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// Our id for it; a provider takes the money of one id once.
    pub payment: PaymentId,
    /// For which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
}

/// What a provider says later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentResult {
    /// The money is here.
    Paid,
    /// It is not and will not be.
    Failed,
}

/// What a provider could not do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the payment provider is unavailable: {0}")]
pub struct ProviderError(pub String);

/// Port: takes money and gives it back. Results come through [`PaymentResults`].
#[async_trait]
pub trait PaymentProvider: Send + Sync + 'static {
    /// Starts a payment; its result comes later, once.
    async fn start(&self, request: PaymentRequest) -> Result<(), ProviderError>;
    /// Gives the money of a payment back. `Ok`: it has gone. Asking twice is harmless.
    async fn refund(&self, payment: PaymentId, amount: Money) -> Result<(), ProviderError>;
}

/// The callback port: where a provider says what came of a payment.
#[derive(Debug, Clone)]
pub struct PaymentResults(mpsc::Sender<(PaymentRequest, PaymentResult)>);

impl PaymentResults {
    /// Reports a result; waits while too many wait to be applied.
    pub async fn report(&self, request: PaymentRequest, result: PaymentResult) {
        if self.0.send((request, result)).await.is_err() {
            tracing::error!("a payment's result came after the core had stopped");
        }
    }
}

/// A provider with failures and slowness, by seed. It holds no money.
pub struct SimulatedProvider {
    options: SimulatedPaymentOptions,
    seed: u64,
    clock: Arc<dyn Clock>,
    results: PaymentResults,
    room: Arc<Semaphore>,
}

impl SimulatedProvider {
    fn new(options: SimulatedPaymentOptions, seed: u64, clock: Arc<dyn Clock>, results: PaymentResults) -> Self {
        Self { options, seed, clock, results, room: Arc::new(Semaphore::new(MAX_UNDER_WAY)) }
    }
}

/// What the simulated provider will say of a payment, and whether slowly.
fn fate(options: &SimulatedPaymentOptions, seed: u64, order: OrderId) -> (PaymentResult, bool) {
    use std::hash::{Hash, Hasher};
    // By order, so that it does not depend on the payment's random id. (A second try at one order meets the
    // same fate.)
    let roll = |what: u8| {
        let mut hasher = rustc_hash::FxHasher::default();
        (seed, what, order).hash(&mut hasher);
        let mut x = hasher.finish();
        // FxHash is weak in its low bits; one round of splitmix64 spreads them.
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % 1000) as u32
    };
    let result = if roll(0) < options.fail_per_mille { PaymentResult::Failed } else { PaymentResult::Paid };
    (result, roll(1) < options.slow_per_mille)
}

#[async_trait]
impl PaymentProvider for SimulatedProvider {
    async fn start(&self, request: PaymentRequest) -> Result<(), ProviderError> {
        let permit = self.room.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ProviderError("too many payments at once".into()))?;
        let (result, slow) = fate(&self.options, self.seed, request.order);
        let delay = self.clock.real(if slow { self.options.slow_delay } else { self.options.delay });
        let results = self.results.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            results.report(request, result).await;
            drop(permit);
        });
        Ok(())
    }
    async fn refund(&self, _: PaymentId, _: Money) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// What became of a payment, as those who wait for it learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaymentEnd {
    Effect(PaymentEffect),
    Failed,
}

/// What a pay call is told.
pub(crate) enum Started {
    /// Under way, now or since an earlier call.
    UnderWay(PaymentId, watch::Receiver<Option<PaymentEnd>>),
    /// The order is not one that can be paid.
    InState(OrderState),
    /// The provider cannot take it now.
    Unavailable,
}

struct UnderWay {
    payment: PaymentId,
    end: watch::Sender<Option<PaymentEnd>>,
}

/// Starts payments and applies their results.
pub(crate) struct PaymentDesk {
    provider: Box<dyn PaymentProvider>,
    // One payment of an order at a time: a shopper who clicks twice pays once.
    under_way: Mutex<HashMap<OrderId, UnderWay>>,
}

/// The receiving end of the callback port.
pub(crate) type Results = mpsc::Receiver<(PaymentRequest, PaymentResult)>;

impl PaymentDesk {
    /// A desk with the simulated provider.
    pub(crate) fn simulated(options: SimulatedPaymentOptions, seed: u64, clock: Arc<dyn Clock>) -> (Self, Results) {
        let (send, receive) = mpsc::channel(MAX_RESULTS);
        let provider = SimulatedProvider::new(options, seed, clock, PaymentResults(send));
        (Self { provider: Box::new(provider), under_way: Mutex::default() }, receive)
    }

    /// Starts the payment of an order.
    pub(crate) async fn start(&self, shared: &Shared, order: &OrderRow) -> Started {
        if order.state != OrderState::Accepted {
            return Started::InState(order.state);
        }
        let (end, ended) = watch::channel(None);
        let payment = shared.ids.payment();
        {
            let mut under_way = self.under_way.lock();
            if let Some(earlier) = under_way.get(&order.order) {
                return Started::UnderWay(earlier.payment, earlier.end.subscribe());
            }
            if under_way.len() >= MAX_UNDER_WAY {
                return Started::Unavailable;
            }
            under_way.insert(order.order, UnderWay { payment, end });
        }
        let request = PaymentRequest { payment, order: order.order, amount: order.amount };
        match self.provider.start(request).await {
            Ok(()) => Started::UnderWay(payment, ended),
            Err(error) => {
                tracing::warn!(%error, order = %order.order, "a payment was not started");
                self.under_way.lock().remove(&order.order);
                Started::Unavailable
            }
        }
    }

    fn end(&self, request: &PaymentRequest, end: PaymentEnd) {
        let mut under_way = self.under_way.lock();
        if under_way.get(&request.order).is_some_and(|u| u.payment == request.payment)
            && let Some(one) = under_way.remove(&request.order)
        {
            one.end.send_replace(Some(end));
        }
    }

    /// Applies results until `stop`, and then those that have arrived by then.
    pub(crate) async fn run(&self, shared: &Shared, mut results: Results, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                biased;
                next = results.recv() => next,
                () = stop.cancelled() => results.try_recv().ok(),
            };
            let Some((request, result)) = next else { return };
            match result {
                PaymentResult::Failed => {
                    metrics::payment("failed");
                    self.end(&request, PaymentEnd::Failed);
                }
                PaymentResult::Paid => {
                    let Some(effect) = self.apply(shared, &request, &stop).await else { return };
                    self.end(&request, PaymentEnd::Effect(effect));
                }
            }
        }
    }

    /// `None`: stopped while the store was not reachable. A real provider repeats its callback then.
    async fn apply(
        &self,
        shared: &Shared,
        request: &PaymentRequest,
        stop: &CancellationToken,
    ) -> Option<PaymentEffect> {
        let payment = Payment { payment: request.payment, order: request.order, amount: request.amount };
        let effect = loop {
            match shared.store.pay(payment.clone(), shared.now()).await {
                Ok(effect) => break effect,
                Err(error) => {
                    tracing::warn!(%error, payment = %request.payment, "a payment was not applied; trying again");
                    metrics::retry("payment");
                    if stop.is_cancelled() {
                        tracing::error!(payment = %request.payment, order = %request.order, "stopped with a payment not applied");
                        return None;
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        };
        shared.wake_outbox.notify_one();
        match effect {
            PaymentEffect::Paid => metrics::payment("paid"),
            PaymentEffect::RefundDue => {
                metrics::payment("refund_due");
                self.refund(shared, request).await;
            }
            PaymentEffect::UnknownOrder => {
                metrics::payment("unknown_order");
                tracing::error!(payment = %request.payment, order = %request.order, "money for an order that does not exist");
                if let Err(error) = self.provider.refund(request.payment, request.amount).await {
                    tracing::error!(%error, payment = %request.payment, "not given back");
                }
            }
        }
        Some(effect)
    }

    /// Gives the money back, then says so in the store. If either fails the payment stays `refund_due`.
    async fn refund(&self, shared: &Shared, request: &PaymentRequest) {
        if let Err(error) = self.provider.refund(request.payment, request.amount).await {
            tracing::warn!(%error, payment = %request.payment, "a refund is due and was not made");
            return;
        }
        match shared.store.refunded(request.payment, shared.now()).await {
            Ok(_) => shared.wake_outbox.notify_one(),
            Err(error) => tracing::warn!(%error, payment = %request.payment, "a refund was made and not noted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulated_fates_follow_seed_and_rates() {
        let options = SimulatedPaymentOptions { fail_per_mille: 100, slow_per_mille: 0, ..Default::default() };
        let orders = (0..10_000u128).map(OrderId::from_bits);
        let failed = orders.clone().filter(|o| fate(&options, 7, *o).0 == PaymentResult::Failed).count();
        assert!((800..1_200).contains(&failed), "{failed} of 10,000 failed");
        assert!(orders.clone().all(|o| !fate(&options, 7, o).1));
        assert!(orders.clone().all(|o| fate(&options, 7, o) == fate(&options, 7, o)));
        let never = SimulatedPaymentOptions { fail_per_mille: 0, slow_per_mille: 1000, ..options };
        assert!(orders.clone().all(|o| fate(&never, 7, o) == (PaymentResult::Paid, true)));
    }
}
