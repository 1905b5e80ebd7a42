//! Payments: a port to a provider that takes the buyer's money, and what becomes of its word. The provider says what
//! came of a payment by a signed call (`POST /v1/payments/callback`), as often as it must; the store keeps each
//! payment once, and none is dropped.
//!
//! The way of one payment: [`desk`] starts it → the provider calls back → [`signature`] proves the call → [`notice`]
//! settles it in the store → what is owed back is given back by [`refunds`].

pub(crate) mod desk;
pub mod external;
pub mod notice;
pub(crate) mod refunds;
pub mod signature;
pub mod simulated;

use std::sync::Arc;

use async_trait::async_trait;
use types::{Money, OrderId, PaymentId, Timestamp};

pub use external::ExternalProvider;
pub use signature::CallbackKeys;
pub use simulated::SimulatedProvider;

/// What a provider is asked to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// Our id for it; a provider takes the money of one id once.
    pub payment: PaymentId,
    /// For which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// Until when the order waits for it.
    pub expires_at: Timestamp,
}

/// How the money of an order is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// By the provider, which calls back.
    Started,
    /// By the shop itself, which calls back or confirms.
    ByTheShop,
}

/// How the money of a payment goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivingBack {
    /// It has gone.
    Gone,
    /// Whoever took it knows, and says `refunded` when it has gone.
    Later,
}

/// What a provider could not do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the payment provider is unavailable: {0}")]
pub struct ProviderError(pub String);

impl ProviderError {
    /// Whether the same call may succeed later: always, since what a provider refuses for good it says by a callback.
    pub const fn retryable(&self) -> bool {
        true
    }
}

/// Port: takes money and gives it back. What came of it is said through the callback, signed with the keys of
/// [`Payments`].
#[async_trait]
pub trait PaymentProvider: Send + Sync + 'static {
    /// Where its callbacks go. Called once, before anything is started.
    fn calls_back_at(&self, _url: &str) {}
    /// Starts a payment. An error means that it was not started.
    async fn start(&self, request: PaymentRequest) -> Result<Taking, ProviderError>;
    /// Gives the money of a payment back. Asking twice is harmless.
    async fn refund(&self, payment: PaymentId, amount: Money) -> Result<GivingBack, ProviderError>;
    /// Whether the shop takes the money itself, and may confirm a payment as administrator.
    fn is_external(&self) -> bool {
        false
    }
}

/// A provider and the keys that its callbacks are signed with.
#[derive(Clone)]
pub struct Payments {
    pub(crate) provider: Arc<dyn PaymentProvider>,
    pub(crate) keys: CallbackKeys,
}

impl Payments {
    /// Payments by this provider.
    pub fn new(provider: impl PaymentProvider, keys: CallbackKeys) -> Self {
        Self { provider: Arc::new(provider), keys }
    }

    /// For a core that was given no provider: the shop takes its money itself, and no callback is believed, since
    /// nobody has the key.
    pub(crate) fn nobody() -> Self {
        let key: [u8; signature::MIN_KEY] = rand::random();
        let keys = CallbackKeys::new(key, None).expect("the key is long enough");
        Self::new(ExternalProvider, keys)
    }
}
