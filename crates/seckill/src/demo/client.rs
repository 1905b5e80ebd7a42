//! One HTTP call as a shopper makes it: sends, reads the answer's meaning, writes the access log line that
//! the edge would write. It knows no schedule and decides nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reqwest::header::{LOCATION, RETRY_AFTER};
use serde_json::Value;
use types::{Clock, Timestamp};

use super::access_log::{AccessLog, Request};
use super::journal::Told;
use super::visits;

/// Longest real time a shopper waits for an answer: longer than `Prefer: wait` may take.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Longest body of an answer that is read, in bytes; the core's are below 4 KiB.
const MAX_ANSWER: usize = 64 * 1024;

/// Who makes a request, as far as a log shows it.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Keyed hash of the visitor.
    pub hash: String,
    /// Client address.
    pub address: String,
    /// What the browser calls itself.
    pub agent: &'static str,
}

/// One call.
pub struct Call<'a> {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path on the core.
    pub path: &'a str,
    /// Path in the log, where it differs: a ticket never stands in a log.
    pub logged_path: Option<&'a str>,
    /// Bearer token.
    pub bearer: &'a str,
    /// Keyed hash of the buyer, for the log.
    pub buyer_hash: &'a str,
    /// Header `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// Header `Prefer: wait=N`.
    pub wait: Option<u32>,
    /// JSON body.
    pub body: Option<Value>,
    /// Product, for the log.
    pub product: &'a str,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// When it was sent, by the demo's clock.
    pub sent: Timestamp,
    /// When it was read.
    pub read: Timestamp,
    /// Real time it took.
    pub took: Duration,
    /// HTTP status; 0 for none.
    pub status: u16,
    /// What it means for a purchase.
    pub told: Told,
    /// The order's id.
    pub order: Option<String>,
    /// The tier that answered.
    pub tier: Option<String>,
    /// The problem's name, for refusals.
    pub problem: Option<String>,
    /// The order's state, where the answer shows an order.
    pub state: Option<String>,
    /// A ticket's deadline.
    pub deadline: Option<Timestamp>,
    /// Where the ticket is read.
    pub location: Option<String>,
    /// After how long the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// The shoppers' browser.
pub struct Client {
    http: reqwest::Client,
    base: String,
    clock: Arc<dyn Clock>,
    log: AccessLog,
}

impl Client {
    /// A browser for the core at `base` (`http://127.0.0.1:8080`).
    pub fn new(base: &str, clock: Arc<dyn Clock>, log: AccessLog) -> Result<Self> {
        // No proxy: the shoppers of a demo talk to this machine only.
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), clock, log })
    }

    /// The demo's clock.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// A request that the edge answers itself (a static page): a log line and nothing else.
    pub async fn static_request(&self, visitor: &Visitor, request: Request) {
        self.log
            .request(Request {
                remote_addr: visitor.address.clone(),
                visitor: visitor.hash.clone(),
                user_agent: visitor.agent,
                ..request
            })
            .await;
    }

    /// Makes a call and logs it.
    pub async fn call(&self, visitor: &Visitor, call: Call<'_>, request_id: String) -> Answer {
        let url =
            if call.path.starts_with("http") { call.path.to_owned() } else { format!("{}{}", self.base, call.path) };
        let mut request = match call.method {
            "POST" => self.http.post(url),
            _ => self.http.get(url),
        };
        request = request.bearer_auth(call.bearer).header("X-Request-Id", &request_id);
        if self.log.behind_edge() {
            request = visits::as_visitor(request, &visitor.address, &visitor.hash, visitor.agent);
        }
        if let Some(key) = call.key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(wait) = call.wait {
            request = request.header("Prefer", format!("wait={wait}"));
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let sent = self.clock.now();
        let started = Instant::now();
        let (answer, bytes) = match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => {
                tracing::debug!(%error, "a shopper got no answer");
                (Reading::none(), 0)
            }
        };
        let took = started.elapsed();
        let answered = answer.status != 0;
        self.log
            .call_made(Request {
                remote_addr: visitor.address.clone(),
                method: call.method,
                uri: call.logged_path.unwrap_or(call.path).to_owned(),
                // What an edge notes for a server that does not answer in time.
                status: if answered { answer.status } else { 504 },
                bytes,
                request_time: took.as_secs_f64(),
                upstream_status: answered.then_some(answer.status),
                upstream_time: Some(took.as_secs_f64()),
                request_id,
                visitor: visitor.hash.clone(),
                buyer: call.buyer_hash.to_owned(),
                referer: "-",
                user_agent: visitor.agent,
                product: call.product.to_owned(),
            })
            .await;
        Answer {
            sent,
            read: self.clock.now(),
            took,
            status: answer.status,
            told: answer.told,
            order: answer.order,
            tier: answer.tier,
            problem: answer.problem,
            state: answer.state,
            deadline: answer.deadline,
            location: answer.location,
            retry_after: answer.retry_after,
        }
    }
}

/// What a response says, before it is timed.
struct Reading {
    status: u16,
    told: Told,
    order: Option<String>,
    tier: Option<String>,
    problem: Option<String>,
    state: Option<String>,
    deadline: Option<Timestamp>,
    location: Option<String>,
    retry_after: Option<Duration>,
}

impl Reading {
    fn none() -> Self {
        Self {
            status: 0,
            told: Told::Error,
            order: None,
            tier: None,
            problem: None,
            state: None,
            deadline: None,
            location: None,
            retry_after: None,
        }
    }
}

async fn read(response: reqwest::Response) -> (Reading, u64) {
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let location = header(LOCATION);
    let retry_after = header(RETRY_AFTER).and_then(|s| s.parse().ok()).map(Duration::from_secs);
    let Ok(body) = response.bytes().await else { return (Reading::none(), 0) };
    let json: Value =
        if body.len() <= MAX_ANSWER { serde_json::from_slice(&body).unwrap_or_default() } else { Value::Null };
    let problem = text_in(&json, "type").filter(|_| status >= 400);
    let problem = problem.map(|t| t.rsplit('/').next().unwrap_or_default().to_owned());
    let order = order_in(&json);
    let reading = Reading {
        status,
        told: understand(status, problem.as_deref(), &json),
        order: text_in(order, "order"),
        tier: text_in(order, "tier"),
        problem,
        state: text_in(order, "state"),
        deadline: text_in(&json, "deadline").and_then(|t| t.parse().ok()),
        location,
        retry_after,
    };
    (reading, body.len() as u64)
}

/// The order in an answer: the order itself, or a ticket that carries it.
fn order_in(json: &Value) -> &Value {
    json.get("order").filter(|o| o.is_object()).unwrap_or(json)
}

fn text_in(json: &Value, name: &str) -> Option<String> {
    json.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// The meaning of an answer to a purchase call or of a look at a ticket.
fn understand(status: u16, problem: Option<&str>, json: &Value) -> Told {
    // A ticket's end says why in `reason`, a refused call in its problem's name; they differ in their dashes.
    let reason = json.get("reason").and_then(Value::as_str).or(problem).unwrap_or_default().replace('-', "_");
    let state = json.get("state").and_then(Value::as_str);
    match (status, state, reason.as_str()) {
        (202, _, _) | (200, Some("pending"), _) => Told::Queued,
        (200 | 201, _, "") if text_in(order_in(json), "order").is_some() => Told::Accepted,
        (_, _, "sold_out") => Told::SoldOut,
        (_, _, "all_reserved") => Told::AllReserved,
        (_, _, "limit") => Told::Limit,
        (200, Some("refused"), _) | (403 | 409 | 410 | 425 | 429 | 503, _, _) => Told::Refused,
        _ => Told::Error,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_means_what_its_status_and_name_say() {
        let order = json!({"order": "00ff", "tier": "db", "state": "paid"});
        for (status, problem, body, told) in [
            (201, None, order.clone(), Told::Accepted),
            (202, None, json!({"ticket": "x", "state": "pending"}), Told::Queued),
            (200, None, json!({"state": "pending", "deadline": "2026-11-11T00:00:00Z"}), Told::Queued),
            (200, None, json!({"state": "accepted", "order": order}), Told::Accepted),
            (200, None, json!({"state": "refused", "reason": "sold_out"}), Told::SoldOut),
            (200, None, json!({"state": "refused", "reason": "deadline"}), Told::Refused),
            (409, Some("all-reserved"), Value::Null, Told::AllReserved),
            (409, Some("limit"), Value::Null, Told::Limit),
            (409, Some("deadline"), Value::Null, Told::Refused),
            (410, Some("sold-out"), Value::Null, Told::SoldOut),
            (410, Some("sale-ended"), Value::Null, Told::Refused),
            (503, Some("draining"), Value::Null, Told::Refused),
            (422, Some("key-reused"), Value::Null, Told::Error),
            (500, None, Value::Null, Told::Error),
            (200, None, Value::Null, Told::Error),
        ] {
            assert_eq!(understand(status, problem, &body), told, "{status} {problem:?} {body}");
        }
    }
}
