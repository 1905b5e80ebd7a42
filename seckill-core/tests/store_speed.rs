//! A rough figure, not a test: committed orders per second of the embedded store in process, by how many ask at
//! once. `cargo test -p seckill-core --test store_speed -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod store_suite;

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::store::{Attempt, StockStore};
use store_suite::*;

async fn orders_per_second(tasks: usize, batch: usize, each: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn StockStore> =
        Arc::new(SqliteStore::open(&folder.path().join("stock.db"), SqliteStoreOptions::default()).unwrap());
    store.apply_sale(sale("sale", vec![spec("a", 10_000_000, 1_000)]), NOW).await.unwrap();
    let begun = Instant::now();
    let calls = (0..tasks).map(|t| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for i in (0..each).step_by(batch) {
                let attempts = (i..i + batch).map(|i| {
                    let n = t * each + i;
                    Attempt { buyer: buyer(n / 2), ..attempt(n) }
                });
                store.decide(attempts.collect(), RESERVE, NOW).await.unwrap();
            }
        })
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    let taken = begun.elapsed().as_secs_f64();
    let sold = store.product(&sku("a")).await.unwrap().unwrap().state.reserved;
    assert_eq!(sold, (tasks * each) as u64);
    sold as f64 / taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn committed_orders_per_second() {
    for (tasks, batch, each) in [(1, 1, 3_000), (64, 1, 1_000), (256, 1, 400), (1_000, 1, 100), (2, 500, 50_000)] {
        println!("{tasks:5} tasks, {batch:4} a call: {:.0} orders/s", orders_per_second(tasks, batch, each).await);
    }
}
