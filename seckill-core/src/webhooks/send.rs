//! One delivery: an event as a signed request, as the public convention "Standard Webhooks" has it, and what its
//! receiver said. It follows no redirect, reaches no address that the options forbid, reads no more of an answer than
//! it must, and never logs a secret or an event.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use sha2::Sha256;
use types::order_event::OrderEventKind;
use types::{BuyerId, Money, OrderId, RequestId, SaleName, Sku, Tier, Timestamp};

use super::options::{Networks, WebhookOptions};
use crate::stock::order_feed::OrderStep;

/// Most of an answer that is read, so that its connection can be used again; a longer one costs the connection.
const MAX_ANSWER: usize = 16 * 1024;
/// Most secrets in a file: the present one and the next or last.
const MAX_SECRETS: usize = 2;
/// Shortest secret in bytes.
const SHORTEST: usize = 16;
/// Before a secret that is written in base64, by the convention.
const BASE64_MARK: &str = "whsec_";

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Any 2xx.
    Delivered,
    /// The receiver answers, but does not want this event: any other answer than those of `Away`.
    Refused(String),
    /// No answer, or 408, 429, 5xx: perhaps it takes nothing at all now.
    Away(String),
}

/// Secrets of one subscription. `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secrets(Vec<Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// From a file: one a line.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("the secret file cannot be read: {e}"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets = lines.take(MAX_SECRETS).map(|line| match line.strip_prefix(BASE64_MARK) {
            Some(rest) => STANDARD.decode(rest).map_err(|_| "the secret file holds broken base64".to_owned()),
            None => Ok(line.as_bytes().to_vec()),
        });
        let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
        if secrets.is_empty() || secrets.iter().any(|secret| secret.len() < SHORTEST) {
            return Err(format!("the secret file holds no secret of at least {SHORTEST} bytes"));
        }
        Ok(Self(secrets))
    }

    /// `v1,<base64>` for each secret: HMAC-SHA256 over `id.timestamp.body`.
    fn signatures(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let one = |secret: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

/// The body of a delivery.
#[derive(Serialize)]
struct Event<'a> {
    r#type: String,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    /// Rises from step to step; whoever has seen a higher one of the same order leaves this one out.
    sequence: u64,
    order: OrderId,
    state: OrderEventKind,
    sale: &'a SaleName,
    product: &'a Sku,
    quantity: u32,
    amount: Money,
    buyer: &'a BuyerId,
    tier: Tier,
    accepted_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a RequestId>,
}

fn body(step: &OrderStep) -> Result<Vec<u8>, serde_json::Error> {
    let (state, order) = (OrderEventKind::from(step.state), &step.order);
    serde_json::to_vec(&Event {
        r#type: format!("order.{}", state.as_str()),
        timestamp: step.at,
        data: Data {
            sequence: step.sequence,
            order: order.order,
            state,
            sale: &order.sale,
            product: &order.product,
            quantity: order.quantity,
            amount: order.amount,
            buyer: &order.buyer,
            tier: order.tier,
            accepted_at: order.accepted_at,
            request: step.request.as_ref(),
        },
    })
}

/// What is wrong with an address to send to.
pub(crate) fn check_url(text: &str, networks: Networks) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|e| format!("is no URL: {e}"))?;
    if url.scheme() != "http" {
        return Err("must be http://: this build has no TLS; send to a forwarder beside it that speaks https".into());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must hold no user, password or fragment".into());
    }
    if text.len() > 2_048 {
        return Err("is longer than 2048 characters".into());
    }
    match literal(&url) {
        Some(ip) if !networks.allows(ip) => Err(format!("{ip} is not in a network that webhooks may reach")),
        _ if url.host_str().is_none() => Err("names no host".into()),
        _ => Ok(url),
    }
}

/// The address, if the URL has one in place of a name.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Looks names up and leaves out what may not be reached: whatever a name is changed to later.
struct Guard(Networks);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| networks.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(io::Error::other("the name has no address in a network that webhooks may reach").into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Sends.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    http: Client,
}

impl Sender {
    pub(crate) fn new(options: &WebhookOptions) -> reqwest::Result<Self> {
        let http = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(options.timeout)
            .connect_timeout(options.timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .dns_resolver(Arc::new(Guard(options.networks)))
            .user_agent(concat!("seckill-webhooks/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }

    /// Delivers one event.
    pub(crate) async fn deliver(&self, url: &Url, secrets: &Secrets, step: &OrderStep, now: Timestamp) -> End {
        let Ok(body) = body(step) else { return End::Refused("the event cannot be written as JSON".into()) };
        let (id, timestamp) = (format!("evt_{}", step.sequence), now.second());
        let signatures = secrets.signatures(&id, timestamp, &body);
        let request = self
            .http
            .post(url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signatures)
            .body(body);
        match request.send().await {
            Ok(mut answer) => {
                let status = answer.status();
                let mut read = 0;
                while let Ok(Some(chunk)) = answer.chunk().await {
                    read += chunk.len();
                    if read > MAX_ANSWER {
                        break;
                    }
                }
                judge(status)
            }
            Err(error) if error.is_timeout() => End::Away("no answer in time".into()),
            Err(error) if error.is_connect() => End::Away("no connection".into()),
            Err(_) => End::Away("the connection broke".into()),
        }
    }
}

fn judge(status: StatusCode) -> End {
    let said = || format!("answered {}", status.as_u16());
    match status {
        _ if status.is_success() => End::Delivered,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => End::Away(said()),
        _ if status.is_server_error() => End::Away(said()),
        _ if status.is_redirection() => End::Refused(format!("{}, a redirect, which is not followed", said())),
        _ => End::Refused(said()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::stock::store::{OrderRow, OrderState};

    fn secrets(text: &str) -> Result<Secrets, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Secrets::read(file.path())
    }

    #[test]
    fn an_event_is_signed_as_the_convention_has_it() {
        // Its own example: https://github.com/standard-webhooks/standard-webhooks, signature scheme.
        let key = secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = key.signatures("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nthe-next-secret-of-ours\n").unwrap();
        let both = two.signatures("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert!(both.starts_with(&signature) && both.matches("v1,").count() == 2, "{both}");
        assert_eq!(format!("{two:?}"), "Secrets(…)");
        for bad in ["", "short", "whsec_%%%%", "whsec_c2hvcnQ="] {
            assert!(secrets(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_event_holds_the_whole_order() {
        let order = OrderRow {
            order: OrderId::from_bits(7),
            buyer: "ann".parse().unwrap(),
            sale: "friday".parse().unwrap(),
            product: "lamp".parse().unwrap(),
            quantity: 2,
            amount: Money::new(5_000, "EUR".parse().unwrap()).unwrap(),
            tier: Tier::Db,
            state: OrderState::Paid,
            accepted_at: Timestamp::from_seconds(1_000),
            expires_at: Timestamp::from_seconds(1_900),
        };
        let at = Timestamp::from_seconds(1_001);
        let step = OrderStep { sequence: 12, state: OrderState::Accepted, at, request: None, order };
        insta::assert_snapshot!(String::from_utf8(body(&step).unwrap()).unwrap(), @r#"{"type":"order.accepted","timestamp":"1970-01-01T00:16:41.000Z","data":{"sequence":12,"order":"00000000000000000000000000000007","state":"accepted","sale":"friday","product":"lamp","quantity":2,"amount":{"amount":5000,"currency":"EUR"},"buyer":"ann","tier":"db","accepted_at":"1970-01-01T00:16:40.000Z"}}"#);
    }

    #[test]
    fn only_plain_addresses_within_reach_are_taken() {
        for good in ["http://127.0.0.1:9000/hooks", "http://orders.internal/x?y=1", "http://[::1]:9/"] {
            assert!(check_url(good, Networks::Private).is_ok(), "{good}");
        }
        for bad in [
            "https://orders.internal/",
            "ftp://a/",
            "orders",
            "http://u:p@a/",
            "http://a/#x",
            "http://169.254.169.254/",
            "http://8.8.8.8/",
            "http://[fe80::1]/",
            "http://2130706433.0.0.0.0.0/",
            "",
        ] {
            assert!(check_url(bad, Networks::Private).is_err(), "{bad}");
        }
        // Other ways to write an address are read before they are judged.
        assert!(check_url("http://0xa9fea9fe/", Networks::Any).is_err());
    }
}
