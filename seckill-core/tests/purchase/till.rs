//! The money's end of a story: a provider whose refunds can be refused, and callbacks signed by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, RequestBuilder};
use seckill_core::payment::{GivingBack, PaymentProvider, PaymentRequest, ProviderError, Taking};
use seckill_core::{CallbackKeys, ExternalProvider, Options, PaymentProviderKind, Payments, SimulatedProvider};
use serde_json::{Value, json};
use types::{Clock, Money, PaymentId, Timestamp};

use crate::shop::Core;

/// The key that callbacks are signed with.
pub fn keys() -> CallbackKeys {
    CallbackKeys::new([7u8; 32], Some(vec![6u8; 32])).unwrap()
}

/// What befalls refunds; it outlives the cores.
#[derive(Default)]
pub struct Till {
    pub refuses: AtomicBool,
    pub asked: AtomicU32,
}

/// The provider that the options name, behind the till.
pub fn payments(options: &Options, clock: Arc<dyn Clock>, till: Arc<Till>) -> Payments {
    let inner: Box<dyn PaymentProvider> = match options.payment_provider {
        PaymentProviderKind::External => Box::new(ExternalProvider),
        PaymentProviderKind::Simulated => {
            Box::new(SimulatedProvider::new(options.payment, options.seed, clock, keys()))
        }
    };
    Payments::new(AtTill { inner, till }, keys())
}

struct AtTill {
    inner: Box<dyn PaymentProvider>,
    till: Arc<Till>,
}

#[async_trait]
impl PaymentProvider for AtTill {
    fn calls_back_at(&self, url: &str) {
        self.inner.calls_back_at(url);
    }
    async fn start(&self, request: PaymentRequest) -> Result<Taking, ProviderError> {
        self.inner.start(request).await
    }
    async fn refund(&self, payment: PaymentId, amount: Money) -> Result<GivingBack, ProviderError> {
        self.till.asked.fetch_add(1, Ordering::SeqCst);
        if self.till.refuses.load(Ordering::SeqCst) {
            return Err(ProviderError("not now".into()));
        }
        self.inner.refund(payment, amount).await
    }
    fn is_external(&self) -> bool {
        self.inner.is_external()
    }
}

/// A payment's id.
pub fn payment(n: u32) -> String {
    format!("{n:032x}")
}

/// What a provider says of a payment of 1990 cents.
pub fn said(payment: &str, order: &str, status: &str) -> Value {
    json!({"payment": payment, "order": order, "amount": 1990, "currency": "EUR", "status": status})
}

/// A callback with this text and signature.
pub fn raw(core: &Core, signature: &str, body: impl Into<Vec<u8>>) -> RequestBuilder {
    let call = core.public(Method::POST, "/v1/payments/callback").header("content-type", "application/json");
    call.header("x-payment-signature", signature).body(body.into())
}

/// A callback, signed `at`.
pub fn signed_at(core: &Core, at: Timestamp, body: &Value) -> RequestBuilder {
    let body = body.to_string();
    raw(core, &keys().sign(at, body.as_bytes()), body)
}

/// The state that a callback is answered.
pub async fn answered(call: RequestBuilder) -> String {
    let answer = call.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["state"].as_str().unwrap().to_owned()
}

/// Longest that a story waits on purpose: none here waits longer than an order lives.
pub const SHORT_LIFE: Duration = Duration::from_secs(1);
