//! A town with an edge in front of it, and the ways to look at both.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::servers::{Edge, EdgeCore, EdgeOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use types::Role;

use crate::town::{LOOK, PATIENCE, Town};

pub const SALE: &str = "rush";
pub const PRODUCT: &str = "lamp";

/// What stands in front of this town's cores: everything passes that is not refused for a reason under test.
pub fn options(town: &Town, name: &str) -> EdgeOptions {
    let secret = |name: &str| town.data().join("secrets").join(name);
    let bare = |listener: &str| town.base(listener).trim_start_matches("http://").to_owned();
    let mut cores = vec![EdgeCore { public: bare("public"), private: bare("private") }];
    if town.has("public-2") {
        cores.push(EdgeCore { public: bare("public-2"), private: bare("private-2") });
    }
    EdgeOptions {
        name: name.to_owned(),
        cores,
        token_file: secret("edge"),
        hash_key_file: secret("visitor"),
        issuer_file: secret("issuer"),
        trusted: Vec::new(),
        certificate: None,
        client_calls: 1_000_000,
        buyer_calls: 5,
        workers: 2,
        refuse_bots: true,
        log: None,
        shop: String::new(),
    }
}

pub fn start(town: &Town, options: &EdgeOptions) -> Edge {
    Edge::start(&town.data().join(&options.name), options).unwrap()
}

/// Opens the sale with these products and stocks, one unit for each buyer.
pub async fn sell(town: &Town, products: &[(&str, u64)]) {
    let products: Vec<_> = products
        .iter()
        .map(|(sku, stock)| json!({"sku": sku, "name": sku, "price": 1990, "stock": stock, "limit": 1}))
        .collect();
    let body = json!({"name": SALE, "zone": "UTC", "opens": "2026-01-01T00:00:00", "closes": "2036-01-01T00:00:00",
        "currency": "EUR", "product": products});
    let answer = town
        .http
        .put(town.url("admin", &format!("/v1/sales/{SALE}")))
        .bearer_auth(town.token("mia", &[Role::Merchandiser]))
        .json(&body)
        .send()
        .await
        .unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
}

/// Waits until the edge has credits of the product.
pub async fn has_credits(town: &Town, edge: &Edge, product: &str) -> Value {
    books_until(town, edge, product, "credits came", |books| books["balance"].as_i64().unwrap_or(0) > 0).await
}

/// The edge's books of a product, as soon as `good`.
pub async fn books_until(town: &Town, edge: &Edge, product: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    let url = format!("http://127.0.0.1:{}/credits?product={product}", edge.private_port());
    let began = Instant::now();
    let mut last = Value::Null;
    while began.elapsed() < PATIENCE {
        if let Ok(answer) = town.http.get(&url).send().await {
            let found = answer.status() == StatusCode::OK;
            last = answer.json().await.unwrap();
            if found && good(&last) {
                return last;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("it did not come about that {what}: {last}\n{}\n{}", edge.said(), town.said());
}

/// One call on a connection of its own.
pub async fn ask(edge: &Edge, call: &str) -> Option<(u16, String)> {
    ask_port(edge.port(), call).await
}

/// The same by port.
pub async fn ask_port(port: u16, call: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(call.as_bytes()).await.ok()?;
    crate::crowd::answer(&mut stream, &mut Vec::new()).await
}

/// A product as the core has it, as soon as it has this many units reserved: the core's table is read anew from SQL now
/// and then, so it may be a moment behind its orders.
pub async fn with_reserved(town: &Town, product: &str, units: u64) -> Value {
    let viewer = town.token("vic", &[Role::Viewer]);
    let began = Instant::now();
    loop {
        let call = town.http.get(town.url("private", "/internal/state")).bearer_auth(&viewer);
        let state: Value = call.send().await.unwrap().json().await.unwrap();
        let products = state["products"].as_array().unwrap();
        let found = products.iter().find(|one| one["product"] == product).unwrap().clone();
        if found["reserved"] == units {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not {units} reserved: {found}");
        tokio::time::sleep(LOOK).await;
    }
}

/// One metric of the edge, over all labels that begin so, as soon as it is `least`: workers add what they have counted
/// four times a second.
pub async fn metric(town: &Town, edge: &Edge, begin: &str, least: u64) -> u64 {
    let url = format!("http://127.0.0.1:{}/metrics", edge.private_port());
    let began = Instant::now();
    loop {
        let page = town.http.get(&url).send().await.unwrap().text().await.unwrap();
        let values = page.lines().filter(|line| line.starts_with(begin)).filter_map(|line| line.rsplit(' ').next());
        let sum = values.map(|value| value.parse::<f64>().unwrap() as u64).sum();
        if sum >= least {
            return sum;
        }
        assert!(began.elapsed() < PATIENCE, "{begin} is {sum} and not {least}:\n{page}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Every line of a log, each of which must be one JSON object.
pub fn lines(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// What is counted of a line.
#[derive(serde::Deserialize)]
struct Brief<'a> {
    uri: std::borrow::Cow<'a, str>,
    status: u64,
    upstream_status: std::borrow::Cow<'a, str>,
}

/// Purchase calls by status and by whether a core was reached, from the log, line by line: there may be a million.
pub fn calls(log: &Path) -> BTreeMap<(u64, bool), u64> {
    let mut counts = BTreeMap::new();
    for line in BufReader::new(File::open(log).unwrap()).lines() {
        let line = line.unwrap();
        let brief: Brief<'_> = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        if brief.uri.ends_with("/purchases") {
            // 502: there was no core to reach.
            let asked = !brief.upstream_status.is_empty() && !brief.upstream_status.contains("502");
            *counts.entry((brief.status, asked)).or_insert(0) += 1;
        }
    }
    counts
}
