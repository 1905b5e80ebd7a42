//! The SQL routes asked as a client asks them, over a fake of the live tables: formats, headers,
//! queries, refusals. One test binary, because each links DataFusion.
#![allow(clippy::unwrap_used)]

mod clients;
mod formats;
mod queries;
mod refusals;
mod suite;

use std::sync::{Arc, Condvar, Mutex};

use analyzer::sql::{SqlLimits, SqlOptions, router};
use analyzer::tables::{HeatRow, LiveTables, OrderRow, TopRow};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use types::{EventKind, ManualClock, Temperature, Timestamp};

type Bounds = (Option<Timestamp>, Option<Timestamp>);

/// Live tables with a few fixed rows; remembers what was asked of it.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) heat: Vec<HeatRow>,
    pub(crate) top: Vec<TopRow>,
    pub(crate) orders: Vec<OrderRow>,
    pub(crate) asked: Mutex<Vec<Bounds>>,
    /// While it is shut, `product_heat` does not answer.
    pub(crate) shut: Mutex<bool>,
    pub(crate) opened: Condvar,
    pub(crate) panics: bool,
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Fake {
    /// The minute before 00:02: two pages; the second one is hot.
    pub(crate) fn small() -> Self {
        let row = |time: &str, page: &str, kind, events, weighted, visitors| HeatRow {
            time: at(time),
            page: page.into(),
            kind,
            events,
            weighted,
            visitors,
        };
        let top = |rank, page: &str, count, share, temperature| TopRow {
            rank,
            page: page.into(),
            count,
            share,
            threshold: 12,
            temperature,
            since: at("2026-11-11T00:00:30Z"),
            window_end: at("2026-11-11T00:02:00Z"),
        };
        let ordered = |time: &str| OrderRow {
            time: at(time),
            product: "42".into(),
            sale: "eleven".into(),
            tier: "redis",
            step: "accepted",
            orders: 2,
            units: 2,
            amount_minor: 3980,
            currency: "EUR".into(),
        };
        Self {
            heat: vec![
                row("2026-11-11T00:00:59Z", "7", EventKind::View, 3, 3, 2),
                row("2026-11-11T00:01:00Z", "42", EventKind::View, 4, 4, 4),
                row("2026-11-11T00:01:00Z", "42", EventKind::Attempt, 2, 10, 2),
                row("2026-11-11T00:01:30Z", "7", EventKind::Cart, 1, 3, 1),
            ],
            orders: ["2026-11-11T00:00:59Z", "2026-11-11T00:01:01Z"].map(ordered).to_vec(),
            top: vec![top(1, "42", 14, 0.7, Temperature::Hot), top(2, "7", 6, 0.3, Temperature::Warm)],
            ..Self::default()
        }
    }
}

impl LiveTables for Fake {
    fn product_heat(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<HeatRow> {
        assert!(!self.panics, "the fake was told to panic");
        drop(self.opened.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
        self.asked.lock().unwrap().push((from, to));
        let within = |r: &&HeatRow| from.is_none_or(|f| f <= r.time) && to.is_none_or(|t| r.time < t);
        self.heat.iter().filter(within).cloned().collect()
    }
    fn top_products(&self) -> Vec<TopRow> {
        self.top.clone()
    }
    fn orders(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<OrderRow> {
        let within = |r: &&OrderRow| from.is_none_or(|f| f <= r.time) && to.is_none_or(|t| r.time < t);
        self.orders.iter().filter(within).cloned().collect()
    }
}

/// The clock stands at 00:02.
pub(crate) fn options() -> SqlOptions {
    let clock = Arc::new(ManualClock::at(at("2026-11-11T00:02:00Z")));
    SqlOptions { host: Some("analyzer:8888".to_owned()), ..SqlOptions::new(clock) }
}

pub(crate) fn limited(change: impl FnOnce(&mut SqlLimits)) -> SqlOptions {
    let mut options = options();
    change(&mut options.limits);
    options.limits.check().unwrap();
    options
}

pub(crate) fn small() -> Router {
    router(Arc::new(Fake::small()), options())
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

pub(crate) async fn send(router: &Router, method: &str, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body.into()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
    Answer { status, headers, body }
}

/// Posts a request's JSON.
pub(crate) async fn ask(router: &Router, request: Value) -> Answer {
    send(router, "POST", "/druid/v2/sql", "application/json", request.to_string()).await
}

/// The rows of a query as lines of JSON arrays under the names; it must succeed.
pub(crate) async fn rows(router: &Router, sql: &str) -> String {
    rows_with(router, json!({ "query": sql })).await
}

pub(crate) async fn rows_with(router: &Router, mut request: Value) -> String {
    request["resultFormat"] = json!("arrayLines");
    request["header"] = json!(true);
    let answer = ask(router, request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body.trim_end().to_owned()
}
