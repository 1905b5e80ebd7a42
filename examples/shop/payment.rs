//! Payment, as a customer of this shop meets it: the platform starts it at its payment provider and says what came
//! of it.

use anyhow::bail;
use reqwest::StatusCode;

use super::Shop;

/// Pays an order; whether it is paid.
pub async fn pay(shop: &Shop, token: &str, order: &str) -> anyhow::Result<bool> {
    let url = format!("{}/v1/orders/{order}/pay", shop.public);
    // It answers when the payment has come to an end, or after five seconds.
    let answer = shop.http.post(url).bearer_auth(token).header("Prefer", "wait=5").send().await?;
    match answer.status() {
        StatusCode::OK => Ok(true),
        StatusCode::ACCEPTED | StatusCode::PAYMENT_REQUIRED | StatusCode::CONFLICT => Ok(false),
        status if status.is_server_error() => Ok(false),
        status => bail!("paying was answered {status}: {}", answer.text().await?),
    }
}
