//! A server is killed (kill −9) and comes back in the middle of selling, in each tier: what was accepted stays, what
//! has a ticket ends, and every unit is sold.

use std::time::Duration;

use types::Tier;

use crate::client::{Wish, orders};
use crate::moves::all_in_its_place;
use crate::place::{Kind, Place};
use crate::shared;
use crate::shop::Shop;

/// Units of each tier's product.
const UNITS: u64 = 40;

/// Sells in all tiers while `strike` happens, and twice as much is wanted as there is.
async fn sells_through(kind: Kind, strike: fn()) {
    let place = Place::alone(kind).await;
    assert!(place.is_alone());
    let mut shop = Shop::open_at(place, 1, |_| {}).await;
    let products = [("in-db", Tier::Db), ("in-redis", Tier::Redis), ("in-queue", Tier::Queue)];
    shop.sell(&products.map(|(p, _)| (p, UNITS, 1))).await;
    shop.plan(&products).await;
    let clients = shop.clients.clone();
    let load = tokio::spawn(async move {
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..(UNITS as usize) * 2 {
            for (product, _) in products {
                let (clients, wish) = (clients.clone(), Wish::one(format!("b{n}"), product).key(product));
                let wish = wish.waiting(n % 2 == 0);
                calls.spawn(async move { (wish.clone(), clients.buy(wish).await) });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        calls.join_all().await
    });
    tokio::time::sleep(Duration::from_millis(250)).await;
    tokio::task::spawn_blocking(strike).await.unwrap();
    let mut told = load.await.unwrap();
    // Attempts that ended at their deadline sold nothing: what they left is for those who come now.
    for (product, _) in products {
        let late = (0..UNITS).map(|n| Wish::one(format!("late{n}"), product).key(product).waiting(true)).collect();
        told.extend(shop.clients.all(late).await);
    }
    for (product, tier) in products {
        let here: Vec<_> = told.iter().filter(|(w, _)| w.product == product).cloned().collect();
        assert_eq!(orders(&here).len() as u64, UNITS, "{tier}: all units were sold, each once");
        shop.plan(&products.map(|(p, _)| (p, Tier::Db))).await;
        all_in_its_place(&shop, product, UNITS, &here).await;
    }
    shop.close().await;
}

pub async fn mariadb_is_killed_while_it_sells(kind: Kind) {
    sells_through(kind, || {
        let mut server = shared::mariadb();
        server.kill();
        server.restart().unwrap();
    })
    .await;
}

pub async fn redis_is_killed_while_it_sells(kind: Kind) {
    sells_through(kind, || {
        let mut server = shared::redis();
        server.kill();
        server.restart().unwrap();
    })
    .await;
}

pub async fn kafka_is_killed_while_it_sells(kind: Kind) {
    sells_through(kind, || {
        let mut server = shared::kafka();
        server.kill();
        server.restart().unwrap();
    })
    .await;
}
