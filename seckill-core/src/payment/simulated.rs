//! A provider for demos and tests, with failures by seed. It calls back through the real door, over HTTP and signed,
//! and repeats a call until it has a definite answer. It holds no money, and forgets what is under way when its
//! process ends.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::Semaphore;
use types::{Clock, Currency, Money, OrderId, PaymentId};

use super::notice::{MoneyState, Notice, NoticeBody};
use super::signature::{self, CallbackKeys};
use super::{GivingBack, PaymentProvider, PaymentRequest, ProviderError, Taking};
use crate::options::SimulatedPaymentOptions;

/// Payments that may be under way at once; one more is refused with 503.
const MAX_UNDER_WAY: usize = 20_000;
/// Longest time of one call: the core answers within a commit.
const CALL: Duration = Duration::from_secs(10);
/// First pause before a call is repeated; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause: a core that was restarted hears of its payments within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Calls of one notice before it is given up: a minute and a half. A real provider goes on for days.
const MAX_CALLS: u32 = 48;
/// How long after its order expired a late payment arrives.
const LATE_BY: Duration = Duration::from_secs(2);

/// What becomes of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fate {
    Good,
    /// Never comes.
    Failed,
    /// Comes after a long time.
    Slow,
    /// Comes twice at once, and once more later.
    Double,
    /// Is told before its start was answered.
    Early,
    /// Comes after the order has expired.
    Late,
    /// One minor unit too much.
    WrongAmount,
    /// The right number of another currency.
    WrongCurrency,
}

/// The fate of an order's payment: by order, so that it does not depend on the payment's random id. (A second try at
/// one order meets the same fate.)
fn fate(options: &SimulatedPaymentOptions, seed: u64, order: OrderId) -> Fate {
    use std::hash::{Hash, Hasher};
    let mut hasher = rustc_hash::FxHasher::default();
    (seed, order).hash(&mut hasher);
    let mut x = hasher.finish();
    // FxHash is weak in its low bits; one round of splitmix64 spreads them.
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mut roll = ((x ^ (x >> 31)) % 1000) as u32;
    for (fate, per_mille) in [
        (Fate::Failed, options.fail_per_mille),
        (Fate::Slow, options.slow_per_mille),
        (Fate::Double, options.double_per_mille),
        (Fate::Early, options.early_per_mille),
        (Fate::Late, options.late_per_mille),
        (Fate::WrongAmount, options.wrong_amount_per_mille),
        (Fate::WrongCurrency, options.wrong_currency_per_mille),
    ] {
        match roll.checked_sub(per_mille) {
            None => return fate,
            Some(rest) => roll = rest,
        }
    }
    Fate::Good
}

/// See the module.
pub struct SimulatedProvider {
    options: SimulatedPaymentOptions,
    seed: u64,
    caller: Arc<Caller>,
    room: Arc<Semaphore>,
}

/// Whoever makes the calls.
struct Caller {
    clock: Arc<dyn Clock>,
    keys: CallbackKeys,
    http: reqwest::Client,
    url: OnceLock<String>,
}

impl SimulatedProvider {
    /// A provider that signs with the newest of these keys.
    pub fn new(options: SimulatedPaymentOptions, seed: u64, clock: Arc<dyn Clock>, keys: CallbackKeys) -> Self {
        // Nothing of the machine's proxies: it calls this very process.
        let http = reqwest::Client::builder().no_proxy().timeout(CALL).build();
        let http = http.expect("a client without TLS has nothing to fail on");
        let caller = Arc::new(Caller { clock, keys, http, url: OnceLock::new() });
        Self { options, seed, caller, room: Arc::new(Semaphore::new(MAX_UNDER_WAY)) }
    }
}

#[async_trait]
impl PaymentProvider for SimulatedProvider {
    fn calls_back_at(&self, url: &str) {
        if self.caller.url.set(url.to_owned()).is_err() {
            tracing::error!("a provider calls back at one place only");
        }
    }

    async fn start(&self, request: PaymentRequest) -> Result<Taking, ProviderError> {
        let permit = self.room.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ProviderError("too many payments at once".into()))?;
        let fate = fate(&self.options, self.seed, request.order);
        let notice = what_is_told(fate, &request);
        let caller = self.caller.clone();
        if fate == Fate::Early {
            caller.tell(notice).await;
            return Ok(Taking::Started);
        }
        let SimulatedPaymentOptions { delay, slow_delay, .. } = self.options;
        let wait = match fate {
            Fate::Slow => slow_delay,
            Fate::Late => request.expires_at.since(caller.clock.now()) + LATE_BY,
            _ => delay,
        };
        tokio::spawn(async move {
            tokio::time::sleep(caller.clock.real(wait)).await;
            if fate == Fate::Double {
                tokio::join!(caller.tell(notice), caller.tell(notice));
                tokio::time::sleep(caller.clock.real(delay)).await;
            }
            caller.tell(notice).await;
            drop(permit);
        });
        Ok(Taking::Started)
    }

    async fn refund(&self, _: PaymentId, _: Money) -> Result<GivingBack, ProviderError> {
        Ok(GivingBack::Gone)
    }
}

fn what_is_told(fate: Fate, request: &PaymentRequest) -> Notice {
    let PaymentRequest { payment, order, amount, .. } = *request;
    let other: Currency =
        if amount.currency().as_str() == "USD" { "EUR" } else { "USD" }.parse().expect("a currency's code");
    let amount = match fate {
        Fate::WrongAmount => Money::new(amount.minor().saturating_add(1).min(Money::MAX_MINOR), amount.currency()),
        Fate::WrongCurrency => Money::new(amount.minor(), other),
        _ => Ok(amount),
    };
    let status = if fate == Fate::Failed { MoneyState::Failed } else { MoneyState::Paid };
    Notice { payment, order, amount: amount.expect("within the largest amount"), status }
}

impl Caller {
    /// Calls until the answer is definite.
    async fn tell(&self, notice: Notice) {
        let Some(url) = self.url.get() else {
            tracing::error!(payment = %notice.payment, "nobody to call back");
            return;
        };
        let Ok(body) = serde_json::to_vec(&NoticeBody::from(notice)) else { return };
        let mut pause = FIRST_PAUSE;
        for _ in 0..MAX_CALLS {
            if self.call(url, &body).await {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        tracing::error!(payment = %notice.payment, order = %notice.order, "a payment could not be told");
    }

    /// One call, signed anew; whether its answer is definite.
    async fn call(&self, url: &str, body: &[u8]) -> bool {
        let signature = self.keys.sign(self.clock.now(), body);
        let call = self.http.post(url).header(CONTENT_TYPE, "application/json").header(signature::HEADER, signature);
        match call.body(body.to_vec()).send().await {
            Ok(answer) if answer.status().is_success() || answer.status() == StatusCode::CONFLICT => true,
            Ok(answer) => {
                tracing::debug!(status = answer.status().as_u16(), "a callback is to be repeated");
                false
            }
            Err(error) => {
                tracing::debug!(%error, "a callback did not arrive");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: SimulatedPaymentOptions = SimulatedPaymentOptions {
        fail_per_mille: 0,
        slow_per_mille: 0,
        double_per_mille: 0,
        early_per_mille: 0,
        late_per_mille: 0,
        wrong_amount_per_mille: 0,
        wrong_currency_per_mille: 0,
        delay: Duration::ZERO,
        slow_delay: Duration::ZERO,
    };

    #[test]
    fn the_fates_follow_seed_and_rates() {
        let orders = || (0..10_000u128).map(OrderId::from_bits);
        let count = |options: &SimulatedPaymentOptions, wanted| {
            orders().filter(|order| fate(options, 7, *order) == wanted).count()
        };
        assert_eq!(count(&NEVER, Fate::Good), 10_000);
        assert_eq!(count(&SimulatedPaymentOptions { slow_per_mille: 1000, ..NEVER }, Fate::Slow), 10_000);
        let some =
            SimulatedPaymentOptions { fail_per_mille: 100, late_per_mille: 100, wrong_amount_per_mille: 100, ..NEVER };
        for wanted in [Fate::Failed, Fate::Late, Fate::WrongAmount] {
            let met = count(&some, wanted);
            assert!((800..1_200).contains(&met), "{met} of 10,000 are {wanted:?}");
        }
        assert!(orders().all(|order| fate(&some, 7, order) == fate(&some, 7, order)));
        assert!(orders().any(|order| fate(&some, 7, order) != fate(&some, 8, order)));
    }

    #[test]
    fn a_wrong_payment_differs_in_one_thing_only() {
        let euros = |cents| Money::new(cents, "EUR".parse().expect("a currency")).expect("an amount");
        let request = PaymentRequest {
            payment: PaymentId::from_bits(1),
            order: OrderId::from_bits(2),
            amount: euros(250),
            expires_at: types::Timestamp::default(),
        };
        assert_eq!(what_is_told(Fate::WrongAmount, &request).amount, euros(251));
        let wrong = what_is_told(Fate::WrongCurrency, &request).amount;
        assert_eq!((wrong.minor(), wrong.currency().as_str()), (250, "USD"));
        assert_eq!(what_is_told(Fate::Failed, &request).status, MoneyState::Failed);
        assert_eq!(what_is_told(Fate::Late, &request).amount, request.amount);
    }
}
