//! The stock stores without HTTP: attempts of one product, 500 a call, from two tasks. What a database can commit at
//! most when nothing else is done on the machine.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use seckill_core::stock::db::mariadb::{MariaStore, MariaStoreOptions};
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::store::{Attempt, BodyHash, Claim, StockStore};
use types::sale::ProductSpec;
use types::{
    BuyerId, Clock, Currency, IdempotencyKey, Money, OrderId, PageId, SaleName, SaleSpec, Sku, SystemClock, Timestamp,
};

/// Attempts of a call.
const CALL: usize = 500;
/// Calls under way.
const TASKS: u64 = 2;

/// SQLite in a folder.
pub fn sqlite(folder: &Path, span: Duration) -> anyhow::Result<f64> {
    std::fs::create_dir_all(folder)?;
    let store = SqliteStore::open(&folder.join("stock.sqlite"), SqliteStoreOptions::default())?;
    let rate = runtime()?.block_on(measure(Arc::new(store), span));
    let _gone = std::fs::remove_dir_all(folder);
    rate
}

/// MariaDB at a URL.
pub fn mariadb(url: String, span: Duration) -> anyhow::Result<f64> {
    runtime()?.block_on(async {
        let options = MariaStoreOptions { url: Some(url), ..MariaStoreOptions::default() };
        measure(Arc::new(MariaStore::connect(options).await?), span).await
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn measure(store: Arc<dyn StockStore>, span: Duration) -> anyhow::Result<f64> {
    let clock = Arc::new(SystemClock::new());
    let now = clock.now();
    let hour = Duration::from_secs(3600);
    let sku = Sku::new("hot")?;
    let product = ProductSpec {
        sku: sku.clone(),
        name: "hot".into(),
        price: Money::new(1990, "EUR".parse::<Currency>()?)?,
        stock: 100_000_000,
        limit: 1000,
        initial_tier: None,
        pages: vec![PageId::new("hot")?],
    };
    let name = SaleName::new("bench")?;
    let sale = SaleSpec {
        policy: types::SalePolicy::default(),
        name,
        zone: "UTC".into(),
        opens: now.minus(hour),
        closes: now.plus(hour),
        products: vec![product],
    };
    store.apply_sale(sale, now).await?;
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, sku, clock) = (store.clone(), sku.clone(), clock.clone());
        tasks.spawn(async move {
            let mut n = 0u64;
            while begun.elapsed() < span {
                let attempts = (0..CALL).map(|_| {
                    n += 1;
                    attempt(&sku, task, n, clock.now(), now.plus(hour))
                });
                let attempts = attempts.collect::<Result<Vec<_>, types::Invalid>>()?;
                store.decide(attempts, hour, now).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let sold = store.product(&sku).await?.context("it is sold")?.state.reserved;
    Ok(sold as f64 / seconds)
}

fn attempt(sku: &Sku, task: u64, n: u64, now: Timestamp, deadline: Timestamp) -> Result<Attempt, types::Invalid> {
    // As real ids are: the moment, then 80 scattered bits.
    let bits = u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) ^ (u128::from(task) << 64);
    let bits = (u128::from(now.millis().unsigned_abs()) << 80) | (bits >> 48);
    Ok(Attempt {
        buyer: BuyerId::new(format!("b-{}", (n * 7919) % 20_000))?,
        key: IdempotencyKey::new(format!("k-{task}-{n:x}"))?,
        body_hash: BodyHash([7; 32]),
        product: sku.clone(),
        quantity: 1,
        claim: Claim::Door,
        deadline,
        request: None,
        order: OrderId::from_bits(bits),
        token: None,
    })
}
