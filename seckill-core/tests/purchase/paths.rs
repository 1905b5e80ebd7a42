//! The paths of the redis and queue tiers: crowds, tickets and their deadlines, the backlog, poison, tokens.

use std::collections::HashSet;
use std::time::Duration;

use eventlog::{NewRecord, Topic};
use reqwest::StatusCode;
use seckill_core::stock::store::Outcome;
use serde_json::{Value, json};
use types::topics::{DEAD_LETTERS, PURCHASE_GRANTS, PURCHASE_QUEUE};
use types::{BuyerId, Clock, IdempotencyKey, Tier};

use crate::client::{Wish, orders};
use crate::doors::bought;
use crate::place::Kind;
use crate::shop::{Shop, problem, problem_with_wait, records, until};

pub async fn each_path_sells_exactly_the_stock_to_a_crowd(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    let products = [("in-db", Tier::Db), ("in-redis", Tier::Redis), ("in-queue", Tier::Queue)];
    shop.sell(&products.map(|(p, _)| (p, 40, 1))).await;
    shop.plan(&products).await;
    let mut wishes = Vec::new();
    for n in 0..120 {
        for (product, _) in products {
            // Every third asks twice at once under one key.
            for turn in 0..if n % 3 == 0 { 2 } else { 1 } {
                let wish = Wish::one(format!("b{n}"), product).key(product).waiting((n + turn) % 2 == 0);
                wishes.push(wish);
            }
        }
    }
    let ends = shop.clients.all(wishes).await;
    for (product, tier) in products {
        let here: Vec<_> = ends.iter().filter(|(w, _)| w.product == product).cloned().collect();
        let orders = orders(&here);
        assert_eq!(orders.len(), 40, "{tier}: every unit has one buyer");
        assert_eq!(orders.values().collect::<HashSet<_>>().len(), 40, "{tier}: no buyer has two");
        for (order, buyer) in &orders {
            let order = shop.order(buyer, order).await;
            assert_eq!(order["tier"], tier.as_str(), "by the path under test");
        }
        assert!(here.iter().filter_map(|(_, end)| end.as_ref().err()).all(|why| why == "all_reserved"), "{tier}");
        let row = shop.row(product).await;
        assert_eq!((row.state.reserved, row.state.sellable, row.free), (40, 0, 0), "{tier}");
        // A repeat long after: the same order, and no unit more.
        let (first, buyer) = orders.iter().next().unwrap();
        let again = shop.clients.buy(Wish::one(buyer.as_str(), product).key(product)).await;
        assert_eq!(again.as_ref(), Ok(first));
        assert_eq!(shop.row(product).await.state.reserved, 40);
    }
    shop.close().await;
}

pub async fn a_ticket_is_its_owners_and_has_one_end(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 5, 2)]).await;
    for (tier, key) in [(Tier::Redis, "k1"), (Tier::Queue, "k2")] {
        shop.plan(&[("lamp", tier)]).await;
        let answer = shop.buy("anna", "lamp", key, 1).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{tier}");
        assert!(answer.headers().contains_key("retry-after"));
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["position"].is_null(), tier == Tier::Redis);
        let ticket = body["ticket"].as_str().unwrap();
        assert_eq!(location, format!("/v1/tickets/{ticket}"));
        assert_eq!(problem(shop.get("ben", &location)).await, (404, "not-found".into()));
        let wish = Wish::one("anna", "lamp").key(key);
        let order = shop.clients.follow(&wish, ticket).await.unwrap();
        assert_eq!(shop.clients.follow(&wish, ticket).await, Ok(order.clone()));
        assert_eq!(shop.clients.buy(wish.clone()).await, Ok(order.clone()));
        assert_eq!(problem(shop.buy("anna", "lamp", key, 2)).await, (422, "key-reused".into()));
        // Stored nowhere, it is good after a restart, and nowhere else.
        shop.kill_and_restart().await;
        assert_eq!(shop.clients.follow(&wish, ticket).await, Ok(order));
        let mut forged = ticket.to_owned();
        forged.replace_range(5..6, if &ticket[5..6] == "A" { "B" } else { "A" });
        assert_eq!(problem(shop.get("anna", &format!("/v1/tickets/{forged}"))).await, (404, "not-found".into()));
    }
    assert_eq!(problem(shop.buy("anna", "lamp", "k3", 1).header("Prefer", "wait=5")).await, (409, "limit".into()));
    shop.close().await;
}

pub async fn a_ticket_whose_record_was_lost_is_decided_by_its_reader(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 3, 2)]).await;
    for tier in [Tier::Redis, Tier::Queue] {
        shop.plan(&[("lamp", tier)]).await;
        let key = tier.as_str();
        shop.place.faults.lose(true);
        let answer = shop.buy("anna", "lamp", key, 1).send().await.unwrap();
        shop.place.faults.lose(false);
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{tier}");
        let body: Value = answer.json().await.unwrap();
        let (ticket, wish) = (body["ticket"].as_str().unwrap(), Wish::one("anna", "lamp").key(key));
        let state = async || {
            let answer = shop.get("anna", &format!("/v1/tickets/{ticket}")).send().await.unwrap();
            answer.json::<Value>().await.unwrap()["state"].as_str().unwrap().to_owned()
        };
        assert_eq!(state().await, "pending", "{tier}: nothing is concluded from absence");
        shop.place.clock.push(Duration::from_secs(12));
        assert_eq!(shop.clients.follow(&wish, ticket).await, Err("deadline".into()), "{tier}");
        // For every reader, for ever, and for the key.
        shop.kill_and_restart().await;
        assert_eq!(shop.clients.follow(&wish, ticket).await, Err("deadline".into()), "{tier}");
        let again = shop.buy("anna", "lamp", key, 1).header("Prefer", "wait=5");
        assert_eq!(problem(again).await, (409, "deadline".into()), "{tier}");
    }
    // The grant that was lost with its record has come back: all three are sold.
    for n in 0..3 {
        bought(&shop, &format!("ben{n}"), "lamp", "k").await;
    }
    assert_eq!(shop.row("lamp").await.state.reserved, 3);
    shop.close().await;
}

/// Appends a copy of the first queued attempt of `anna` under another key, and with a token where one is given.
async fn queue_a_copy(shop: &Shop, key: &str, token: Option<&str>) {
    let log = shop.log();
    let copies = records(&*log, PURCHASE_QUEUE, 1).await;
    let mut value: Value = serde_json::from_slice(&copies[0].value.as_ref().unwrap()[1..]).unwrap();
    value["key"] = key.into();
    value["deadline"] = json!(shop.place.clock.now().plus(Duration::from_secs(10)));
    if let Some(token) = token {
        value["token"] = token.into();
    }
    let bytes = [&[1u8], serde_json::to_vec(&value).unwrap().as_slice()].concat();
    let record = NewRecord::keyed("lamp", bytes, shop.place.clock.now());
    log.append(&Topic::new(PURCHASE_QUEUE).unwrap(), vec![record]).await.unwrap();
}

async fn decided(shop: &Shop, key: &str) -> Option<Outcome> {
    let (buyer, key) = (BuyerId::new("anna").unwrap(), IdempotencyKey::new(key).unwrap());
    shop.store.decision(&buyer, &key).await.unwrap().map(|d| d.outcome)
}

pub async fn an_attempt_that_lay_too_long_is_decided_so(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 5, 2)]).await;
    shop.plan(&[("lamp", Tier::Queue)]).await;
    bought(&shop, "anna", "lamp", "k1").await;
    // All cores are down while its record lies there past its deadline.
    shop.stop().await;
    queue_a_copy(&shop, "k2", None).await;
    shop.place.clock.push(Duration::from_secs(12));
    shop.start(0).await;
    until("the late attempt is decided", async || decided(&shop, "k2").await == Some(Outcome::Deadline)).await;
    let again = shop.buy("anna", "lamp", "k2", 1).header("Prefer", "wait=5");
    assert_eq!(problem(again).await, (409, "deadline".into()));
    assert_eq!(shop.row("lamp").await.state.reserved, 1);
    shop.close().await;
}

pub async fn the_queue_says_where_one_stands_and_is_bounded(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 3, 1)]).await;
    shop.plan(&[("lamp", Tier::Queue)]).await;
    shop.place.faults.hold(true);
    let mut tickets = Vec::new();
    for n in 0..6 {
        let answer = shop.buy(&format!("b{n}"), "lamp", "k", 1).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["position"], n, "so many stand before him");
        assert!(body["estimate_ms"].as_u64().unwrap() < 10_000, "{body}");
        tickets.push(body["ticket"].as_str().unwrap().to_owned());
    }
    // Twice the stock waits: more would wait for nothing.
    let (status, why, wait) = problem_with_wait(shop.buy("b6", "lamp", "k", 1)).await;
    assert_eq!((status, why.as_str()), (429, "backlog"));
    assert!(wait.is_some_and(|s| s >= 1));
    // Who waits already may ask again; he is counted once.
    assert_eq!(shop.buy("b0", "lamp", "k", 1).send().await.unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(shop.handle.backlog(), 6);
    shop.place.faults.hold(false);
    let mut ends = Vec::new();
    for (n, ticket) in tickets.iter().enumerate() {
        ends.push(shop.clients.follow(&Wish::one(format!("b{n}"), "lamp"), ticket).await.map(drop));
    }
    let refused = || Err("all_reserved".to_owned());
    assert_eq!(ends, [Ok(()), Ok(()), Ok(()), refused(), refused(), refused()], "in the order of their coming");
    until("there is room", async || shop.handle.backlog() == 0).await;
    let late = shop.buy("b6", "lamp", "k", 1).header("Prefer", "wait=5");
    assert_eq!(problem(late).await, (409, "all-reserved".into()));
    shop.close().await;
}

pub async fn poison_is_set_aside_and_blocks_nobody(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 5, 2)]).await;
    let log = shop.log();
    for topic in [PURCHASE_QUEUE, PURCHASE_GRANTS] {
        let now = shop.place.clock.now();
        let bad: [&[u8]; 5] = [b"", b"\x01{", b"\x02{}", b"\x01{\"record\":\"attempt\"}", &[0xff; 300]];
        let mut bad: Vec<_> = bad.into_iter().map(|b| NewRecord::keyed("lamp", b.to_vec(), now)).collect();
        bad.push(NewRecord { value: None, ..bad[0].clone() });
        log.append(&Topic::new(topic).unwrap(), bad).await.unwrap();
    }
    for tier in [Tier::Queue, Tier::Redis] {
        shop.plan(&[("lamp", tier)]).await;
        bought(&shop, "anna", "lamp", tier.as_str()).await;
    }
    let letters = records(&*log, DEAD_LETTERS, 12).await;
    assert_eq!(letters.len(), 12);
    shop.close().await;
}

pub async fn a_used_token_is_good_only_for_its_own_key(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 9, 9)]).await;
    shop.plan(&[("lamp", Tier::Queue)]).await;
    bought(&shop, "anna", "lamp", "k0").await;
    queue_a_copy(&shop, "k1", Some("token-1")).await;
    until("the first is accepted", async || matches!(decided(&shop, "k1").await, Some(Outcome::Accepted(_)))).await;
    let first = decided(&shop, "k1").await;
    queue_a_copy(&shop, "k1", Some("token-1")).await;
    queue_a_copy(&shop, "k2", Some("token-1")).await;
    queue_a_copy(&shop, "k3", Some("token-2")).await;
    // They are decided in their order, so the fourth shows that the others were looked at.
    until("the last is accepted", async || matches!(decided(&shop, "k3").await, Some(Outcome::Accepted(_)))).await;
    assert_eq!(decided(&shop, "k1").await, first);
    assert_eq!(decided(&shop, "k2").await, None, "a used token decides nothing for another key");
    assert_eq!(shop.row("lamp").await.state.reserved, 3);
    shop.close().await;
}
