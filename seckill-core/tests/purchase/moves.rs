//! Moves under load, a core's death in the middle of them, and what a restart finds: nothing oversold, lost or
//! stranded.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seckill_core::stock::store::{MoveStep, Moved};
use types::{Clock, LeaseId, Phase, Sku, Tier};

use crate::client::{Clients, End, Wish, orders};
use crate::place::Kind;
use crate::shop::Shop;

/// At rest: what is not free is leased by a living lease or reserved by an order that somebody was told of.
pub async fn all_in_its_place(shop: &Shop, product: &str, total: u64, ends: &[(Wish, End)]) {
    let orders = orders(ends);
    for (order, buyer) in &orders {
        shop.order(buyer, order).await;
    }
    let row = shop.row(product).await;
    let lent = row.lease.map_or(0, |l| l.granted - l.consumed);
    assert_eq!(row.state.phase, Phase::Active);
    assert_eq!(row.free + lent + row.state.reserved + row.sold, total);
    assert_eq!(row.state.reserved, orders.len() as u64, "an order for each that was told so, and no other");
    if row.state.tier != Tier::Redis {
        assert_eq!(row.lease, None, "no lease outlives its tier");
    }
}

/// A stream of buyers, each with one key, some with twins, calling any core, until `buyers` have come.
pub async fn stream(clients: Clients, buyers: usize, seed: u64) -> Vec<(Wish, End)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..buyers {
        for _ in 0..=u32::from(rng.random_bool(0.2)) {
            let wish = Wish::one(format!("b{n}"), "lamp").waiting(rng.random_bool(0.5)).at(rng.random_range(0..2));
            let clients = clients.clone();
            calls.spawn(async move {
                let end = clients.buy(wish.clone()).await;
                (wish, end)
            });
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..6))).await;
    }
    calls.join_all().await
}

/// Moves `lamp` round and round while `load` goes on, at least six times, then to the db tier.
pub async fn round_and_round<T>(shop: &mut Shop, load: &tokio::task::JoinHandle<T>) {
    let round = [Tier::Redis, Tier::Queue, Tier::Redis, Tier::Db, Tier::Queue, Tier::Db];
    for (n, tier) in round.into_iter().cycle().enumerate() {
        if load.is_finished() && n >= round.len() {
            break;
        }
        shop.push(&[("lamp", tier)]).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    shop.plan(&[("lamp", Tier::Db)]).await;
}

pub async fn a_product_moves_round_and_round_under_load_and_loses_nothing(kind: Kind) {
    let seed = rand::random();
    println!("seed {seed}");
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 200, 1)]).await;
    let mut moves = shop.handle.moves();
    let load = tokio::spawn(stream(shop.clients.clone(), 320, seed));
    round_and_round(&mut shop, &load).await;
    let told = load.await.unwrap();
    let made = std::iter::from_fn(|| moves.try_recv().ok()).count();
    assert!(made >= 4, "{made} moves");
    assert_eq!(orders(&told).len(), 200, "all units were sold, each once");
    shop.rest().await;
    all_in_its_place(&shop, "lamp", 200, &told).await;
    shop.close().await;
}

pub async fn a_core_that_is_killed_again_and_again_loses_nothing(kind: Kind) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 70, 1)]).await;
    let mut told = Vec::new();
    for round in 0..3 {
        let tier = Tier::ALL[round % 3];
        shop.plan(&[("lamp", tier)]).await;
        // A burst is cut off in the middle by the core's death, with a move begun; every client asks again.
        let wishes = (0..40).map(|n| Wish::one(format!("r{round}b{n}"), "lamp").waiting(n % 2 == 0)).collect();
        let clients = shop.clients.clone();
        let burst = tokio::spawn(async move { clients.all(wishes).await });
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..30))).await;
        shop.push(&[("lamp", Tier::ALL[(round + 1) % 3])]).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        shop.kill_and_restart().await;
        told.extend(burst.await.unwrap());
    }
    shop.plan(&[("lamp", Tier::Db)]).await;
    assert_eq!(orders(&told).len(), 70, "all units were sold, each once");
    shop.rest().await;
    all_in_its_place(&shop, "lamp", 70, &told).await;
    shop.close().await;
}

/// Somebody took the steps before and died; whoever starts next brings the move to its end.
pub async fn half_done_moves_are_finished_by_whoever_finds_them(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    let products = ["opened", "marked", "fenced", "settled"];
    shop.sell(&products.map(|p| (p, 9, 9))).await;
    shop.stop().await;
    let now = shop.place.clock.now();
    let sku = |s: &str| Sku::new(s).unwrap();
    for (n, product) in products.into_iter().enumerate() {
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
    shop.start(0).await;
    for (product, tier) in products.into_iter().zip([Tier::Redis, Tier::Redis, Tier::Queue, Tier::Queue]) {
        shop.sells_on(product, tier).await;
        let end = shop.clients.buy(Wish::one("anna", product).key(product).waiting(true)).await;
        assert!(end.is_ok(), "{product}: {end:?}");
        let row = shop.row(product).await;
        assert_eq!((row.state.reserved, row.state.sellable), (1, 8), "{product}");
        assert!(row.lease.is_none() || row.lease.is_some_and(|l| l.lease.bits() >= 104 || product == "opened"));
    }
    shop.close().await;
}
