//! A whole core on a real Redis that dies, falls silent, forgets, remembers too little or is fenced by a stranger:
//! sales go on, by SQL while it is away, and nothing is sold twice, lost or stranded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_core::stock::redis::server::{NodeAddress, RedisLeases, RedisLeasesOptions};
use testkit::servers::Redis;
use types::{LeaseId, SystemClock, Tier};

use crate::fast_paths::buy_to_the_end;
use crate::moves::at_rest;
use crate::shop::{Shop, until};

/// Units for sale: more than any story sells.
const STOCK: u64 = 200;

struct Place {
    _folder: tempfile::TempDir,
    redis: Redis,
    shop: Shop,
    sold: u64,
}

impl Place {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines = ["appendonly no", "save \"\"", "enable-debug-command yes"];
        let redis = Redis::start_with(&folder.path().join("redis"), &lines).unwrap();
        let options = RedisLeasesOptions {
            nodes: vec![NodeAddress::new("127.0.0.1", redis.port())],
            answer_within: Duration::from_millis(300),
            ..RedisLeasesOptions::default()
        };
        let leases = RedisLeases::connect(options, Arc::new(SystemClock::new())).await.unwrap();
        let mut shop = Shop::open_on(Some(Arc::new(leases)), |o| o.reserve_for = Duration::from_secs(3_600)).await;
        shop.sell(&[("lamp", STOCK, 1)]).await;
        shop.plan(&[("lamp", Tier::Redis)]).await;
        Self { _folder: folder, redis, shop, sold: 0 }
    }
    /// Sells to so many new buyers, each in the end; answers the tiers that accepted.
    async fn sells(&mut self, buyers: u64) -> Vec<String> {
        let mut tiers = Vec::new();
        for _ in 0..buyers {
            let buyer = format!("b{}", self.sold);
            buy_to_the_end(&self.shop, &buyer, "lamp", "k", true).await.unwrap();
            self.sold += 1;
            let orders: serde_json::Value =
                self.shop.get(&buyer, "/v1/orders").send().await.unwrap().json().await.unwrap();
            tiers.push(orders["orders"][0]["tier"].as_str().unwrap().to_owned());
        }
        tiers
    }
    async fn lease(&self) -> LeaseId {
        self.shop.row("lamp").await.lease.unwrap().lease
    }
    /// The first sale after a trouble, and how long it took.
    async fn sells_again(&mut self, what: &str) -> String {
        let begun = Instant::now();
        let tier = self.sells(1).await.remove(0);
        println!("{what}: sold again by {tier} after {} ms", begun.elapsed().as_millis());
        tier
    }
    async fn replaced(&self, before: LeaseId) {
        until("the lease is replaced", async || {
            self.shop.row("lamp").await.lease.is_some_and(|l| l.loaded && !l.fenced && l.lease != before)
        })
        .await;
    }
    /// Everything home, every unit accounted for.
    async fn end(mut self) {
        self.sells(3).await;
        self.shop.plan(&[("lamp", Tier::Db)]).await;
        at_rest(&self.shop, "lamp", STOCK, self.sold).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_go_on_without_redis_and_return_to_it() {
    for silent in [false, true] {
        let mut place = Place::open().await;
        assert_eq!(place.sells(3).await, ["redis"; 3]);
        if silent {
            place.redis.pause();
        } else {
            place.redis.kill();
        }
        let what = if silent { "silent" } else { "killed" };
        assert_eq!(place.sells_again(what).await, "db");
        assert_eq!(place.sells(5).await, ["db"; 5]);
        if silent {
            place.redis.resume();
        } else {
            place.redis.restart().unwrap();
        }
        place.shop.sells_on("lamp", Tier::Redis).await;
        assert_eq!(place.sells(3).await, ["redis"; 3], "{what}");
        place.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgot_everything_gets_a_new_lease() {
    let mut place = Place::open().await;
    place.sells(3).await;
    let before = place.lease().await;
    place.redis.ask("FLUSHALL").unwrap();
    place.sells_again("emptied").await;
    place.replaced(before).await;
    assert_eq!(place.sells(3).await, ["redis"; 3]);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_with_old_data_is_found_out_in_the_same_process_and_in_another() {
    for same_process in [true, false] {
        let mut place = Place::open().await;
        place.sells(2).await;
        let before = place.lease().await;
        place.redis.ask("SAVE").unwrap();
        // Six grants that the old data does not know.
        place.sells(6).await;
        if same_process {
            place.redis.ask("DEBUG RELOAD NOSAVE").unwrap();
        } else {
            place.redis.kill();
            place.redis.restart().unwrap();
            assert_eq!(place.redis.ask("DBSIZE").unwrap(), "1", "it came back with its data");
        }
        place.sells_again(if same_process { "old data, same process" } else { "old data, another process" }).await;
        place.replaced(before).await;
        assert_eq!(place.sells(6).await, ["redis"; 6]);
        place.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_a_stranger_closed_is_replaced() {
    let mut place = Place::open().await;
    place.sells(3).await;
    let before = place.lease().await;
    let key = place.redis.ask("RANDOMKEY").unwrap();
    assert_eq!(place.redis.ask(&format!("HSET {key} closed 1")).unwrap(), "1");
    place.sells_again("closed by a stranger").await;
    place.replaced(before).await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_come_back_are_lent_to_the_same_lease() {
    let mut place = Place::open().await;
    place.shop.sell(&[("lamp", STOCK, 1), ("rare", 2, 1)]).await;
    place.shop.plan(&[("lamp", Tier::Redis), ("rare", Tier::Redis)]).await;
    let mut orders = Vec::new();
    for buyer in ["anna", "ben"] {
        orders.push((buyer, buy_to_the_end(&place.shop, buyer, "rare", "k", true).await.unwrap()));
    }
    let lease = place.shop.row("rare").await.lease.unwrap();
    assert_eq!((lease.granted, lease.consumed), (2, 2));
    for (buyer, order) in orders {
        let answer = place.shop.post(buyer, &format!("/v1/orders/{order}/cancel")).send().await.unwrap();
        assert!(answer.status().is_success());
    }
    for (n, buyer) in ["cleo", "dora"].into_iter().enumerate() {
        let mut tries = 0;
        until("a unit that came back is sold", async || {
            tries += 1;
            buy_to_the_end(&place.shop, buyer, "rare", &format!("k{n}-{tries}"), true).await.is_ok()
        })
        .await;
    }
    let after = place.shop.row("rare").await;
    let now = after.lease.unwrap();
    assert_eq!((now.lease, now.granted, now.consumed), (lease.lease, 4, 4), "raised, not replaced");
    assert_eq!((after.free, after.state.sellable, after.state.reserved), (0, 0, 2));
    place.end().await;
}
