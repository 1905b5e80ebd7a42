//! The stock store on a real MariaDB: the contract of every SQL provider, and what only a server can show: several
//! cores, deadlocks, lost connections, lost answers to a commit, migrations, kill -9 and pauses.
#![cfg(feature = "mysql")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod auditor;
mod cores;
mod expiry;
mod faults;
mod migrations;
mod place;
mod proxy;
mod speed;
#[path = "../store_suite/mod.rs"]
mod store_suite;

use place::Database;

store_suite::every_story_on!(Database::fresh());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_and_units_balance_in_every_order_of_callbacks() {
    let seeds = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).map_or(0..5, |seed: u64| seed..seed + 1);
    for seed in seeds {
        store_suite::money::walk(Database::fresh(), seed, 150).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_of_things_is_as_the_model_says() {
    let seeds = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).map_or(0..12, |seed: u64| seed..seed + 1);
    for seed in seeds {
        store_suite::life::walk(Database::fresh(), seed, 120).await;
    }
}
