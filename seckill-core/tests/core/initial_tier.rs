//! A sale's `initial_tier`: the first purchase of the opening second finds the product where the sale wants it, lease
//! loaded, though no control plane has ever spoken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use types::{Clock, Tier, Timestamp, topics};

use crate::shop::{SALE, Shop, records};

/// Seconds until the opening when the sale is applied.
const EARLY: u64 = 120;
/// A core acts by itself from 30 s before.
const LEAD: u64 = 29;

async fn announce(shop: &Shop) -> Timestamp {
    let mut sale = shop.sale(&[("lamp", 40, 1), ("vase", 40, 1), ("plain", 40, 1)]);
    let opens = shop.clock.now().plus(Duration::from_secs(EARLY));
    sale["opens"] = json!(opens.to_second_string().trim_end_matches('Z'));
    sale["product"][0]["initial_tier"] = json!("redis");
    sale["product"][1]["initial_tier"] = json!("queue");
    let answer = shop.admin(Method::PUT, &format!("/v1/sales/{SALE}")).json(&sale).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    shop.row("lamp").await.state.opens
}

async fn tiers(shop: &Shop) -> [Tier; 3] {
    [shop.row("lamp").await, shop.row("vase").await, shop.row("plain").await].map(|row| row.state.tier)
}

async fn nothing_sells_yet(shop: &Shop) {
    for product in ["lamp", "vase", "plain"] {
        let answer = shop.buy("early", product, product, 1).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_EARLY, "{product}");
    }
    assert!(records(&shop.log, topics::PURCHASE_QUEUE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_purchase_at_the_opening_finds_its_lease_though_nobody_has_planned() {
    let mut shop = Shop::open().await;
    let opens = announce(&shop).await;
    let until_opening = |shop: &Shop| opens.since(shop.clock.now());
    assert_eq!(tiers(&shop).await, [Tier::Db; 3], "too early: a planner may still speak");
    nothing_sells_yet(&shop).await;

    shop.clock.push(until_opening(&shop) - Duration::from_secs(LEAD));
    shop.sells_on("lamp", Tier::Redis).await;
    shop.sells_on("vase", Tier::Queue).await;
    assert_eq!(tiers(&shop).await[2], Tier::Db, "it asks for nothing");
    // The core dies, and the leases of its process with it; the next life has a new one before the opening.
    let before = shop.row("lamp").await.lease.unwrap().lease;
    shop.kill_and_restart().await;
    crate::shop::until("the lease that died is replaced", async || {
        shop.row("lamp").await.lease.is_some_and(|l| l.loaded && l.lease != before)
    })
    .await;
    nothing_sells_yet(&shop).await;
    let lent = shop.row("lamp").await.lease.unwrap();
    assert_eq!((lent.granted, lent.consumed), (40, 0), "all of it is lent, none of it granted");

    let mut moves = shop.handle.moves();
    shop.clock.push(until_opening(&shop));
    // The very first call, and a crowd in the same second: nobody is told to wait for a move.
    let first = shop.buy("first", "lamp", "k", 1).header("Prefer", "wait=5").send().await.unwrap();
    assert_eq!(first.status(), StatusCode::CREATED);
    let shop = Arc::new(shop);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..90 {
        let (shop, product) = (shop.clone(), ["lamp", "vase", "plain"][n % 3]);
        calls.spawn(async move {
            let answer = shop.buy(&format!("b{n}"), product, "k", 1).header("Prefer", "wait=5").send().await.unwrap();
            answer.status().as_u16()
        });
    }
    let mut told: BTreeMap<u16, u32> = BTreeMap::new();
    while let Some(status) = calls.join_next().await {
        *told.entry(status.unwrap()).or_default() += 1;
    }
    println!("second 0: {told:?}");
    assert_eq!(told, BTreeMap::from([(201, 90)]), "stock for all, pauses for none");
    assert!(moves.try_recv().is_err(), "nothing moved in second 0");
    let orders: serde_json::Value = shop.get("first", "/v1/orders").send().await.unwrap().json().await.unwrap();
    assert_eq!(orders["orders"][0]["tier"], "redis");
    assert_eq!(shop.row("lamp").await.lease.map(|l| l.lease), Some(lent.lease), "the lease of before the opening");

    // Long after, and still no plan: tiers freeze.
    shop.clock.push(Duration::from_secs(600));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(tiers(&shop).await, [Tier::Redis, Tier::Queue, Tier::Db]);
}
