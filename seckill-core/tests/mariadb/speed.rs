//! Figures, not a test: committed orders per second on this machine, MariaDB and the embedded store in one run.
//! `cargo test -p seckill-core --test mariadb -- --ignored --nocapture speed`

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::sql_store::SqlStore;
use seckill_core::stock::store::Attempt;

use crate::place::{Database, Server};
use crate::store_suite::*;

/// Sells one product to `callers` at once, `batch` attempts a call, spread over the stores.
async fn orders_per_second(stores: &[Arc<dyn SqlStore>], callers: usize, batch: usize, each: usize) -> f64 {
    stores[0].apply_sale(sale("sale", vec![spec("a", 10_000_000, 1_000)]), NOW).await.unwrap();
    let begun = Instant::now();
    let calls = (0..callers).map(|c| {
        let store = Arc::clone(&stores[c % stores.len()]);
        tokio::spawn(async move {
            for i in (0..each).step_by(batch) {
                let numbers = (i..i + batch).map(|i| c * each + i);
                let attempts = numbers.map(|n| Attempt { buyer: buyer(n / 2), ..attempt(n) });
                store.decide(attempts.collect(), RESERVE, NOW).await.unwrap();
            }
        })
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    let taken = begun.elapsed().as_secs_f64();
    let sold = stores[0].product(&sku("a")).await.unwrap().unwrap().state.reserved;
    assert_eq!(sold, (callers * each) as u64);
    sold as f64 / taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn committed_orders_per_second() {
    let server = Server::start();
    println!("callers  a call  MariaDB  two cores  SQLite  statements an order (MariaDB)");
    for (callers, batch, each) in [
        (1, 1, 500),
        (64, 1, 200),
        (1_000, 1, 40),
        (1, 10, 2_000),
        (1, 100, 20_000),
        (2, 100, 20_000),
        (2, 500, 30_000),
    ] {
        let place = Database::at(server.db.create_database().unwrap());
        let asked = || {
            let row = place.rows("SHOW GLOBAL STATUS LIKE 'Questions'");
            row[0].split(' ').nth(1).unwrap().parse::<u64>().unwrap()
        };
        let one = [place.connect().await];
        let before = asked();
        let maria = orders_per_second(&one, callers, batch, each).await;
        let statements = (asked() - before) as f64 / (callers * each) as f64;
        let two = Database::at(server.db.create_database().unwrap());
        let cores = [two.connect().await, two.connect().await];
        let both = orders_per_second(&cores, callers, batch, each).await;
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteStore::open(&folder.path().join("stock.db"), SqliteStoreOptions::default()).unwrap();
        let sqlite = orders_per_second(&[Arc::new(file)], callers, batch, each).await;
        println!("{callers:7}  {batch:6}  {maria:7.0}  {both:9.0}  {sqlite:6.0}  {statements:.3}");
    }
}
