//! The provider `external`: the shop takes the money with its own payment system and tells us, by the signed
//! callback or as administrator (`POST /v1/orders/{id}/confirm`). It takes nothing and gives nothing back itself.

use async_trait::async_trait;
use types::{Money, PaymentId};

use super::{GivingBack, PaymentProvider, PaymentRequest, ProviderError, Taking};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExternalProvider;

#[async_trait]
impl PaymentProvider for ExternalProvider {
    async fn start(&self, _: PaymentRequest) -> Result<Taking, ProviderError> {
        Ok(Taking::ByTheShop)
    }
    /// The shop learns of it by the order's event `refund_due` or the list of refunds, and says `refunded`.
    async fn refund(&self, _: PaymentId, _: Money) -> Result<GivingBack, ProviderError> {
        Ok(GivingBack::Later)
    }
    fn is_external(&self) -> bool {
        true
    }
}
