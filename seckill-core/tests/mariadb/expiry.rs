//! Figures, not a test: how late unpaid orders are released with a million of them open, on both databases.
//! `cargo test -p seckill-core --test mariadb -- --ignored --nocapture expiry`

use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::sql_store::SqlStore;
use types::Timestamp;

use crate::place::{Database, Server};
use crate::store_suite::*;

const OPEN: u64 = 1_000_000;
const PRODUCTS: u64 = 100;
/// The orders fall due one after the other over this time.
const SPREAD: Duration = Duration::from_secs(15 * 60);
/// For how long the steady state is watched.
const WATCHED: Duration = Duration::from_secs(60);
/// As `expiry.rs` has them.
const EVERY: Duration = Duration::from_millis(100);
const BATCH: usize = 500;

/// When order `n` is due, after the start.
fn due(n: u64) -> Duration {
    Duration::from_micros(n * (SPREAD.as_micros() as u64 / OPEN))
}

/// Looks like a core until `until` (real time after the start) or until nothing is due; `at` is the clock. Answers
/// how many were released and how late each batch's first was.
async fn watch(
    store: &Arc<dyn SqlStore>,
    done: &mut u64,
    clock: impl Fn(Duration) -> Timestamp,
    until: Option<Duration>,
) -> (Vec<Duration>, Vec<Duration>) {
    let begun = Instant::now();
    let (mut late, mut idle) = (Vec::new(), Vec::new());
    while until.is_none_or(|until| begun.elapsed() < until) {
        let call = Instant::now();
        let expired = store.expire_due(clock(begun.elapsed()), BATCH).await.unwrap();
        if expired.orders == 0 {
            idle.push(call.elapsed());
            if until.is_none() {
                break;
            }
        } else {
            let was_due = NOW.plus(due(*done));
            late.push(clock(begun.elapsed()).since(was_due));
            *done += expired.orders as u64;
        }
        if expired.orders < BATCH {
            tokio::time::sleep(EVERY).await;
        }
    }
    (late, idle)
}

/// Median, 99th percentile and the longest.
fn shares(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |per_mille: usize| times.get((times.len() * per_mille / 1000).min(times.len().saturating_sub(1)));
    format!("p50 {:.0?}, p99 {:.0?}, most {:.0?}", at(500).unwrap(), at(990).unwrap(), at(1000).unwrap())
}

async fn measure(name: &str, store: Arc<dyn SqlStore>) {
    let mut done = 0;
    let call = Instant::now();
    for _ in 0..20 {
        store.expire_due(NOW.minus(Duration::from_secs(1)), BATCH).await.unwrap();
    }
    println!("{name}: a look that finds nothing takes {:?} with {OPEN} open", call.elapsed() / 20);

    let (late, _) = watch(&store, &mut done, |since| NOW.plus(since), Some(WATCHED)).await;
    let rate = done as f64 / WATCHED.as_secs_f64();
    println!(
        "{name}: {rate:.0} a second fall due and are released, late by {} (the first of each batch)",
        shares(late)
    );

    // A hundred thousand fall due at one moment: the last waits for all before it.
    let (from, at) = (done, NOW.plus(due(done + 100_000)));
    let begun = Instant::now();
    let (late, _) = watch(&store, &mut done, |_| at, None).await;
    let took = begun.elapsed();
    assert!(!late.is_empty());
    let released = done - from;
    println!("{name}: {released} at one moment take {took:?}: {:.0} a second", released as f64 / took.as_secs_f64());
    assert_eq!(store.product(&sku("p0")).await.unwrap().unwrap().state.total, OPEN / PRODUCTS);
}

async fn sell(store: &Arc<dyn SqlStore>) {
    let products = (0..PRODUCTS).map(|p| spec(&format!("p{p}"), OPEN / PRODUCTS, 1)).collect();
    store.apply_sale(sale("sale", products), NOW).await.unwrap();
}

/// The same orders as `decide` would have made, by one statement for each table.
fn fill(numbers: &str, id: &str, concat: &dyn Fn(&str, &str) -> String) -> Vec<String> {
    let micros = SPREAD.as_micros() as u64 / OPEN;
    let (start, price) = (NOW.millis(), PRICE);
    let (buyer, product, key) = (concat("b", "n"), concat("p", &format!("n % {PRODUCTS}")), concat("k", "n"));
    vec![
        format!(
            "INSERT INTO orders (order_id, buyer, `key`, sale, product_id, quantity, amount, currency, tier, state, \
             accepted_at, expires_at, updated_at) SELECT {id}, {buyer}, {key}, 'sale', {product}, 1, {price}, 'EUR', \
             'db', 'accepted', {start}, {start} + n * {micros} / 1000, {start} FROM {numbers}"
        ),
        format!(
            "INSERT INTO buyer_limit (buyer, sale, product_id, held) SELECT {buyer}, 'sale', {product}, 1 FROM {numbers}"
        ),
        // In this order MariaDB assigns what it had before; SQLite does in any.
        "UPDATE stock SET reserved = free, free = 0".into(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_late_unpaid_orders_are_released() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stock.db");
    let store: Arc<dyn SqlStore> = Arc::new(SqliteStore::open(&file, SqliteStoreOptions::default()).unwrap());
    sell(&store).await;
    let db = rusqlite::Connection::open(&file).unwrap();
    let numbers = format!(
        "(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {}) SELECT n FROM s)",
        OPEN - 1
    );
    for sql in fill(&numbers, "lower(hex(randomblob(16)))", &|word, n| format!("'{word}' || ({n})")) {
        db.execute(&sql, []).unwrap();
    }
    drop(db);
    measure("SQLite", store).await;

    let server = Server::start();
    let place = Database::at(server.db.create_database().unwrap());
    let store = place.connect().await;
    sell(&store).await;
    let numbers = format!("(SELECT seq AS n FROM seq_0_to_{}) s", OPEN - 1);
    for sql in fill(&numbers, "MD5(n)", &|word, n| format!("CONCAT('{word}', {n})")) {
        place.sql(&sql).await.unwrap();
    }
    measure("MariaDB", store).await;
}
