//! Moves under load, crashes in the middle of them, and what a restart finds: nothing oversold, lost or stranded.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Method, StatusCode};
use seckill_core::stock::store::{MoveStep, Moved, StockStore};
use types::{Clock, LeaseId, Phase, Sku, Tier};

use crate::fast_paths::buy_to_the_end;
use crate::shop::{SALE, Shop, outbox_is_empty, until};

/// At rest: what is not free is leased by a living lease or reserved by an order that somebody was told of.
pub async fn at_rest(shop: &Shop, product: &str, total: u64, accepted: u64) {
    until("everything is decided", async || shop.handle.backlog() == 0).await;
    let row = shop.row(product).await;
    let lent = row.lease.map_or(0, |l| l.granted - l.consumed);
    assert_eq!(row.state.phase, Phase::Active);
    assert_eq!(row.free + lent + row.state.reserved + row.sold, total);
    assert_eq!(row.state.reserved, accepted, "an order for each that was told so, and no other");
    if row.state.tier != Tier::Redis {
        assert_eq!(row.lease, None, "no lease outlives its tier");
    }
    // And by eyes that share no code with the core.
    let file = shop.folder.path().join("stock.sqlite");
    let report =
        audit::stock::audit(&file, &[], &audit::stock::Options::at_rest(shop.clock.now().millis()), None).unwrap();
    assert!(report.holds(), "{report:#?}");
}

struct Shopper {
    buyer: String,
    told: Result<String, String>,
}

/// A stream of buyers, each with one key and some with twins, until the stock is gone or `buyers` have come.
async fn stream(shop: Arc<tokio::sync::RwLock<Shop>>, buyers: u32, seed: u64) -> Vec<Shopper> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..buyers {
        let (shop, wait, twin) = (shop.clone(), rng.random_bool(0.5), rng.random_bool(0.2));
        for _ in 0..=u32::from(twin) {
            let shop = shop.clone();
            calls.spawn(async move {
                let buyer = format!("b{n}");
                let told = buy_with_restarts(&shop, &buyer, wait).await;
                Shopper { buyer, told }
            });
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..6))).await;
    }
    calls.join_all().await
}

async fn buy_with_restarts(shop: &tokio::sync::RwLock<Shop>, buyer: &str, wait: bool) -> Result<String, String> {
    for _ in 0..500 {
        let shop = shop.read().await;
        match tokio::time::timeout(Duration::from_secs(20), buy_to_the_end(&shop, buyer, "lamp", "k", wait)).await {
            // Too many at once, or between two tiers, or the reader came too late: those bind nothing or end.
            Ok(end) => return end,
            Err(_) => continue,
        }
    }
    panic!("{buyer} has no end");
}

fn orders(shoppers: &[Shopper]) -> HashSet<&String> {
    shoppers.iter().filter_map(|s| s.told.as_ref().ok()).collect()
}

async fn every_order_stands(shop: &Shop, shoppers: &[Shopper]) {
    for Shopper { buyer, told } in shoppers {
        let Ok(order) = told else { continue };
        let answer = shop.get(buyer, &format!("/v1/orders/{order}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{buyer} was told of order {order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_moves_round_and_round_under_load_and_loses_nothing() {
    let seed = rand::random();
    println!("seed {seed}");
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 250, 1)]).await;
    let mut moves = shop.handle.moves();
    let shop = Arc::new(tokio::sync::RwLock::new(shop));
    let load = tokio::spawn(stream(shop.clone(), 400, seed));
    let mut generation = 0;
    let round = [Tier::Redis, Tier::Queue, Tier::Redis, Tier::Db, Tier::Queue, Tier::Db];
    'load: loop {
        for tier in round {
            if load.is_finished() {
                break 'load;
            }
            generation += 1;
            push(&shop, generation, tier).await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    let told = load.await.unwrap();
    generation += 1;
    push(&shop, generation, Tier::Db).await;
    let shop = shop.read().await;
    shop.sells_on("lamp", Tier::Db).await;
    let mut made = 0;
    while moves.try_recv().is_ok() {
        made += 1;
    }
    assert!(made >= 6, "{made} moves");
    assert_eq!(orders(&told).len(), 250, "all units were sold, each once");
    every_order_stands(&shop, &told).await;
    at_rest(&shop, "lamp", 250, 250).await;
    outbox_is_empty(&shop).await;
}

async fn push(shop: &tokio::sync::RwLock<Shop>, generation: u64, tier: Tier) {
    use types::plan::{PlanEntry, PlanPush, Reason};
    let push = PlanPush {
        term: types::Term::default(),
        core: None,
        pauses: types::plan::Pauses::default(),
        generation: types::Generation::new(generation),
        nonce: types::Nonce::new(generation),
        base: None,
        entries: vec![PlanEntry { product: Sku::new("lamp").unwrap(), tier, reason: Reason::Hot }],
    };
    let shop = shop.read().await;
    let answer = shop.private(Method::POST, "/internal/plan").json(&push).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_is_killed_again_and_again_loses_nothing() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 120, 1)]).await;
    let (mut told, mut generation) = (Vec::new(), 0);
    for round in 0..6u32 {
        let tier = Tier::ALL[(round % 3) as usize];
        generation += 1;
        shop.generation = generation;
        shop.plan(&[("lamp", tier)]).await;
        // A burst is cut off in the middle by the core's death, with a move begun.
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..40 {
            calls.spawn(shop.buy(&format!("r{round}b{n}"), "lamp", "k", 1).send());
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..30))).await;
        let next = Tier::ALL[((round + 1) % 3) as usize];
        generation += 1;
        shop.generation = generation - 1;
        shop.push(&[("lamp", next)]).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        shop.kill_and_restart().await;
        drop(calls);
        generation = generation.max(shop.generation);
        // Every client asks again with its key.
        for n in 0..40 {
            let buyer = format!("r{round}b{n}");
            let end = buy_to_the_end(&shop, &buyer, "lamp", "k", n % 2 == 0).await;
            told.push(Shopper { buyer, told: end });
        }
    }
    shop.generation = generation + 1;
    shop.plan(&[("lamp", Tier::Db)]).await;
    assert_eq!(orders(&told).len(), 120, "all units were sold, each once");
    every_order_stands(&shop, &told).await;
    at_rest(&shop, "lamp", 120, 120).await;
    assert_eq!(shop.stop().await.map_err(|e| e.to_string()), Ok(()));
    assert!(shop.store.outbox(1).await.unwrap().is_empty(), "the relay finished at shutdown");
}

/// Somebody took the steps before and died; whoever starts next brings the move to its end.
#[tokio::test(flavor = "multi_thread")]
async fn half_done_moves_are_finished_by_whoever_finds_them() {
    let mut shop = Shop::open().await;
    shop.sell(&[("opened", 9, 9), ("marked", 9, 9), ("fenced", 9, 9), ("settled", 9, 9)]).await;
    shop.stop().await.unwrap();
    let now = shop.clock.now();
    let sku = |s: &str| Sku::new(s).unwrap();
    for (n, product) in ["opened", "marked", "fenced", "settled"].into_iter().enumerate() {
        let lease = LeaseId::from_bits(100 + n as u128);
        let mut row = shop.row(product).await;
        let mut steps = vec![MoveStep::OpenLease { product: sku(product), epoch: row.state.epoch, lease, keep: 0 }];
        if n > 0 {
            steps.push(MoveStep::MarkLoaded { lease });
        }
        if n > 1 {
            let epoch = row.state.epoch.next();
            steps.push(MoveStep::Fence { product: sku(product), epoch, target: Tier::Queue });
        }
        if n > 2 {
            steps.push(MoveStep::Settle { lease });
        }
        for step in steps {
            let Moved::Done(now_is) = shop.store.step(step, now).await.unwrap() else { panic!("a step") };
            row = now_is;
        }
        assert_eq!(row.state.sellable, 9);
    }
    shop.restart().await;
    for (product, tier) in
        [("opened", Tier::Redis), ("marked", Tier::Redis), ("fenced", Tier::Queue), ("settled", Tier::Queue)]
    {
        shop.sells_on(product, tier).await;
        let end = buy_to_the_end(&shop, "anna", product, product, true).await;
        assert!(end.is_ok(), "{product}: {end:?}");
        let row = shop.row(product).await;
        assert_eq!((row.state.reserved, row.state.sellable), (1, 8), "{product}");
        assert!(row.lease.is_none() || row.lease.is_some_and(|l| l.lease.bits() >= 104 || product == "opened"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_expire_in_the_redis_tier_are_sold_again() {
    let mut shop = Shop::open_with(|o| o.reserve_for = Duration::from_secs(30)).await;
    shop.sell(&[("lamp", 2, 1)]).await;
    shop.plan(&[("lamp", Tier::Redis)]).await;
    for buyer in ["anna", "ben"] {
        assert!(buy_to_the_end(&shop, buyer, "lamp", "k", true).await.is_ok());
    }
    let lease = shop.row("lamp").await.lease.unwrap().lease;
    shop.clock.push(Duration::from_secs(31));
    // At first all are reserved; once they have expired the same lease is topped up.
    let mut tries = 0;
    until("a unit that came back is sold", async || {
        tries += 1;
        buy_to_the_end(&shop, "cleo", "lamp", &format!("k{tries}"), true).await.is_ok()
    })
    .await;
    let row = shop.row("lamp").await;
    assert_eq!((row.state.tier, row.state.reserved, row.state.sellable), (Tier::Redis, 1, 1));
    assert_eq!(row.lease.map(|l| l.lease), Some(lease), "no move was needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_closed_only_when_its_leases_are_home() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 1)]).await;
    shop.plan(&[("lamp", Tier::Redis)]).await;
    assert!(buy_to_the_end(&shop, "anna", "lamp", "k", true).await.is_ok());
    let answer = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/close")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let row = shop.row("lamp").await;
    assert_eq!((row.lease, row.free, row.state.reserved), (None, 4, 1));
}
