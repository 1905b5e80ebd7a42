//! The traffic against a small core made up here: what it promises in log and journal is held to it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
use std::collections::HashMap;
use std::sync::Mutex;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use types::SystemClock;

use super::*;

/// A core that accepts everything: `q…` products by ticket, and every fifth new key only at the second try.
#[derive(Default)]
struct FakeCore {
    orders: Mutex<HashMap<String, String>>,
    seen: Mutex<HashMap<String, u32>>,
}

type Core = State<Arc<FakeCore>>;

async fn purchase(State(core): Core, Path((_sale, sku)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    assert!(headers["authorization"].to_str().unwrap().starts_with("Bearer token-of-"));
    let tries = {
        let mut seen = core.seen.lock().unwrap();
        let tries = seen.entry(key.clone()).or_insert(0);
        *tries += 1;
        *tries
    };
    if tries == 1 && key.ends_with('5') {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"type": "/problems/draining"}))).into_response();
    }
    let order = {
        let mut orders = core.orders.lock().unwrap();
        let next = format!("{:032x}", orders.len() + 1);
        orders.entry(key.clone()).or_insert(next).clone()
    };
    if sku.starts_with('q') {
        let location = format!("/v1/tickets/{key}");
        return (StatusCode::ACCEPTED, [("location", location)], Json(json!({"ticket": key, "state": "pending"})))
            .into_response();
    }
    (StatusCode::CREATED, Json(json!({"order": order, "tier": "db", "state": "accepted"}))).into_response()
}

async fn ticket(State(core): Core, Path(key): Path<String>) -> Json<Value> {
    let order = core.orders.lock().unwrap()[&key].clone();
    Json(json!({"state": "accepted", "order": {"order": order, "tier": "queue", "state": "accepted"}}))
}

async fn order() -> Json<Value> {
    Json(json!({"state": "paid"}))
}

async fn start_core() -> String {
    let app = Router::new()
        .route("/v1/sales/{sale}/products/{sku}/purchases", post(purchase))
        .route("/v1/tickets/{id}", get(ticket))
        .route("/v1/orders/{id}", get(order))
        .route("/v1/orders/{id}/pay", post(order))
        .route("/v1/orders/{id}/cancel", post(order))
        .with_state(Arc::new(FakeCore::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}")
}

fn product(sku: &str, stock: u64, limit: u32) -> Product {
    Product { sku: sku.to_owned(), pages: vec![sku.to_owned()], stock, limit }
}

#[tokio::test]
async fn shoppers_buy_over_http_and_everything_stands_in_log_and_journal() {
    let seed = 42;
    println!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::with_speed(20.0));
    let options = TrafficOptions {
        core_url: start_core().await,
        sale: "autumn".to_owned(),
        products: vec![product("qphone", 420, 1), product("sneaker", 50_000, 4), product("coffee", 100_000, 10)],
        log_path: folder.path().join("access.log"),
        journal_path: journal::path_of_run(folder.path(), clock.now()),
        seed,
        background_rate: 100.0,
        ..TrafficOptions::default()
    };
    let (log_path, journal_path) = (options.log_path.clone(), options.journal_path.clone());
    let traffic = Traffic::new(options, clock, Arc::new(|buyer: &str| format!("token-of-{buyer}"))).unwrap();
    let handle = traffic.handle();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(traffic.run(shutdown.clone()));
    for _ in 0..3_000 {
        let stats = handle.stats();
        let by = |tier| stats.orders_by_tier.get(tier).copied().unwrap_or(0);
        if by("db") > 20 && by("queue") > 20 && stats.retries_equal > 0 && stats.paid > 0 {
            break;
        }
        assert!(!running.is_finished(), "the traffic ended by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();

    let stats = handle.stats();
    assert!(stats.orders() > 40 && stats.retries_equal > 0 && stats.paid > 0, "{stats:?}");
    assert_eq!((stats.retries_unequal, stats.unanswered, stats.tickets_without_end), (0, 0, 0));
    assert!(stats.refusals["draining"] > 0, "a refused try was made again with the same key");

    // The log: as many lines as counted, in order of time, and the auditor's own reading finds the demand in it.
    let log = std::fs::read(&log_path).unwrap();
    assert_eq!(log.iter().filter(|b| **b == b'\n').count() as u64, handle.lines());
    let mut recount = audit::heat::BruteForce::new(audit::heat::Rules::defaults(["googlebot", "bingbot", "ahrefsbot"]));
    recount.read(log.as_slice()).unwrap();
    assert_eq!(recount.lines(), handle.lines());
    assert!(recount.windows().any(|w| w.hot.iter().any(|(page, _)| page == "qphone")), "the crowd is seen");

    // The journal: each accepted purchase with its order, tickets with their ends, none open.
    let entries = audit::journal::read(&journal_path).unwrap().entries;
    let accepted = entries.iter().filter(|e| e.outcome == audit::journal::Told::Accepted && e.order.is_some()).count();
    assert!(accepted as u64 >= stats.orders(), "{accepted} of {}", stats.orders());
    assert!(journal::unfinished(&[journal_path]).unwrap().is_empty());
}

#[test]
fn arrivals_come_as_often_as_expected() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for mean in [0.0, 0.01, 0.5, 5.0, 70.0] {
        let rounds = 20_000;
        let sum: u64 = (0..rounds).map(|_| u64::from(poisson(&mut random, mean))).sum();
        let got = sum as f64 / f64::from(rounds);
        assert!((got - mean).abs() <= mean.sqrt() * 0.05 + 1e-9, "seed 3: mean {mean} gave {got}");
    }
}

#[test]
fn the_example_sale_has_a_part_for_each_role() {
    let text = include_str!("../../../../examples/sale.toml");
    let sale = types::SaleSpec::deserialize(toml::Deserializer::parse(text).unwrap()).unwrap().unwrap();
    let roles: Vec<Role> = sale.products.iter().map(|p| Product::from(p).role()).collect();
    let of = |role| roles.iter().filter(|r| **r == role).count();
    assert_eq!((of(Role::Scarce), of(Role::Plenty), of(Role::Steady)), (4, 3, 5));
    assert!(
        sale.products.iter().flat_map(|p| &p.pages).all(|p| p.as_str().parse::<u32>().is_err()),
        "no page of the trace"
    );
}
