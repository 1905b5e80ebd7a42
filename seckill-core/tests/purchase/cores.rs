//! Two cores on one stock: each answers for the other, both move, one may die.

use std::time::Duration;

use serde_json::Value;
use types::{Clock, Tier};

use crate::client::{Wish, orders};
use crate::moves::{all_in_its_place, round_and_round, stream};
use crate::place::{Kind, Place};
use crate::shop::{Core, Shop, problem, until};

pub async fn any_core_answers_for_every_other(kind: Kind) {
    let mut shop = Shop::open_two(kind).await;
    shop.sell(&[("lamp", 40, 1)]).await;
    for tier in Tier::ALL {
        shop.plan(&[("lamp", tier)]).await;
        for (here, there) in [(0, 1), (1, 0)] {
            // Products' records are decided by one of the two, whichever core took the call.
            let buyer = format!("anna-{tier}-{here}");
            let wish = Wish::one(&buyer, "lamp").at(here);
            let order = shop.clients.buy(wish.clone().waiting(true)).await.unwrap();
            assert_eq!(shop.cores[there].order(&buyer, &order).await["tier"], tier.as_str());
            assert_eq!(shop.clients.buy(wish.clone().at(there)).await, Ok(order), "the key's answer, there too");
            let other = shop.cores[there].buy(&buyer, "lamp", "k", 2).header("Prefer", "wait=5");
            assert_eq!(problem(other).await, (422, "key-reused".into()), "{tier}");
            let more = shop.cores[there].buy(&buyer, "lamp", "k2", 1).header("Prefer", "wait=5");
            assert_eq!(problem(more).await, (409, "limit".into()), "{tier}");
            if tier != Tier::Db {
                let buyer = format!("ben-{tier}-{here}");
                let answer = shop.cores[here].buy(&buyer, "lamp", "k", 1).send().await.unwrap();
                let body: Value = answer.json().await.unwrap();
                let wish = Wish::one(&buyer, "lamp").at(there);
                let end = shop.clients.follow(&wish, body["ticket"].as_str().unwrap()).await;
                assert!(end.is_ok(), "{tier}: {end:?}");
            }
        }
    }
    shop.close().await;
}

/// When everything is gone, a core that has decided none of it has each key's answer all the same, and refuses whoever
/// never bought: it has heard of the other's orders.
pub async fn a_retry_at_the_other_core_has_its_answer_when_nothing_is_left(kind: Kind) {
    const STOCK: usize = 30;
    let mut shop = Shop::open_two(kind).await;
    let products = Tier::ALL.map(|tier| (format!("lamp-{tier}"), tier));
    let stock: Vec<_> = products.iter().map(|(name, _)| (name.as_str(), STOCK as u64, 1)).collect();
    shop.sell(&stock).await;
    let tiers: Vec<_> = products.iter().map(|(name, tier)| (name.as_str(), *tier)).collect();
    shop.plan(&tiers).await;
    for (product, tier) in tiers {
        let wishes = (0..STOCK).map(|n| Wish::one(format!("{tier}-{n}"), product).waiting(true)).collect();
        let told = shop.clients.all(wishes).await;
        assert_eq!(orders(&told).len(), STOCK, "{tier}: all units were sold");
        for (wish, end) in told {
            let order = end.expect("each has one");
            let (status, body) = answer(&shop.cores[1], &wish.buyer, product).await;
            assert_eq!((status, body["order"].as_str()), (201, Some(order.as_str())), "{tier}, {}: {body}", wish.buyer);
            let (status, body) = answer(&shop.cores[1], &format!("no-{}", wish.buyer), product).await;
            assert!(matches!(status, 409 | 410), "{tier}: {status} {body}");
        }
    }
    shop.close().await;
}

/// A core's definite answer to a purchase call with the key `k`.
async fn answer(core: &Core, buyer: &str, product: &str) -> (u16, Value) {
    let mut last = (0, Value::Null);
    until("a definite answer", async || {
        let said = core.buy(buyer, product, "k", 1).header("Prefer", "wait=5").send().await.unwrap();
        last = (said.status().as_u16(), said.json().await.unwrap());
        !matches!(last.0, 202 | 429 | 503)
    })
    .await;
    last
}

pub async fn two_cores_sell_one_product_while_it_moves(kind: Kind) {
    let seed = rand::random();
    println!("seed {seed}");
    let mut shop = Shop::open_two(kind).await;
    shop.sell(&[("lamp", 200, 1)]).await;
    let load = tokio::spawn(stream(shop.clients.clone(), 320, seed));
    round_and_round(&mut shop, &load).await;
    let told = load.await.unwrap();
    assert_eq!(orders(&told).len(), 200, "all units were sold, each once");
    shop.rest().await;
    all_in_its_place(&shop, "lamp", 200, &told).await;
    shop.close().await;
}

/// A core's queue is not full of what the other core has long decided.
pub async fn the_queue_is_open_again_whichever_core_has_decided(kind: Kind) {
    let mut shop = Shop::open_at(Place::fresh(kind).await, 2, |o| o.deadline = Duration::from_secs(60)).await;
    shop.sell(&[("lamp", 60, 1)]).await;
    shop.plan(&[("lamp", Tier::Queue)]).await;
    let began = shop.place.clock.now();
    let wish = |n: usize| Wish::one(format!("b{n}"), "lamp").at(n % 2);
    let told = shop.clients.all((0..200).map(wish).collect()).await;
    assert_eq!(orders(&told).len(), 60);
    for core in &shop.cores {
        until("every core knows that all is decided", async || core.handle.backlog() == 0).await;
    }
    let deadline = began.plus(Duration::from_secs(60));
    assert!(shop.place.clock.now() < deadline, "it did not have to wait for the tickets' deadlines");
    all_in_its_place(&shop, "lamp", 60, &told).await;
    shop.close().await;
}

pub async fn a_core_that_dies_leaves_its_tickets_to_the_other(kind: Kind) {
    let mut shop = Shop::open_two(kind).await;
    shop.sell(&[("lamp", 60, 1)]).await;
    let mut told = Vec::new();
    for (round, tier) in [Tier::Queue, Tier::Redis].into_iter().enumerate() {
        shop.plan(&[("lamp", tier)]).await;
        let wishes = (0..30).map(|n| Wish::one(format!("r{round}b{n}"), "lamp").at(n % 2).waiting(n % 3 == 0));
        let (clients, wishes) = (shop.clients.clone(), wishes.collect());
        let burst = tokio::spawn(async move { clients.all(wishes).await });
        tokio::time::sleep(Duration::from_millis(15)).await;
        // Whoever has its tickets asks the other one; its partitions go to the other one too.
        shop.kill(round).await;
        told.extend(burst.await.unwrap());
        shop.start(round).await;
    }
    // Attempts whose decision took longer than their deadline are refused, never lost; the rest is for others.
    let more = (0..60).map(|n| Wish::one(format!("late{n}"), "lamp").at(n % 2).waiting(true)).collect();
    told.extend(shop.clients.all(more).await);
    assert_eq!(orders(&told).len(), 60, "all units were sold, each once");
    shop.rest().await;
    all_in_its_place(&shop, "lamp", 60, &told).await;
    shop.close().await;
}
