//! The redis (in-process) and queue paths: exactly the stock is sold to a crowd, every ticket ends, the same key
//! has the same answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{EventLog, NewRecord, Topic};
use reqwest::StatusCode;
use serde_json::Value;
use types::Tier;

use crate::shop::{Shop, problem, records, until};

/// Buys until a definite end: follows tickets, tries again where the answer says so.
pub async fn buy_to_the_end(shop: &Shop, buyer: &str, product: &str, key: &str, wait: bool) -> Result<String, String> {
    for _ in 0..2_000 {
        let call = shop.buy(buyer, product, key, 1);
        let call = if wait { call.header("Prefer", "wait=5") } else { call };
        // A connection may be cut by a core that is killed; the key makes a retry safe.
        let Ok(answer) = call.send().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let status = answer.status();
        let Ok(text) = answer.text().await else { continue };
        let body: Value = serde_json::from_str(&text).unwrap();
        match status {
            StatusCode::CREATED => return Ok(body["order"].as_str().unwrap().to_owned()),
            StatusCode::ACCEPTED => return shop.follow(buyer, body["ticket"].as_str().unwrap()).await,
            StatusCode::GONE | StatusCode::CONFLICT => {
                return Err(body["type"].as_str().unwrap().trim_start_matches("/problems/").to_owned());
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => panic!("{other}: {text}"),
        }
    }
    panic!("no end after 2,000 tries");
}

/// `buyers` buyers want one each, every third calls twice with one key. Answers what each was told.
pub async fn crowd(shop: &Arc<Shop>, product: &'static str, buyers: u32) -> Vec<Result<String, String>> {
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..buyers {
        let repeats = if n % 3 == 0 { 2 } else { 1 };
        for turn in 0..repeats {
            let shop = shop.clone();
            calls.spawn(async move {
                let told = buy_to_the_end(&shop, &format!("b{n}"), product, "k", (n + turn) % 2 == 0).await;
                (n, told)
            });
        }
    }
    let mut told: HashMap<u32, Result<String, String>> = HashMap::new();
    while let Some(one) = calls.join_next().await {
        let (n, end) = one.unwrap();
        match told.get(&n) {
            Some(Ok(order)) => assert_eq!(end.as_ref(), Ok(order), "one key, one order"),
            // A refusal at the door binds nothing, so a twin may have been luckier.
            _ => {
                told.insert(n, end);
            }
        }
    }
    told.into_values().collect()
}

fn orders(told: &[Result<String, String>]) -> HashSet<&String> {
    told.iter().filter_map(|t| t.as_ref().ok()).collect()
}

async fn sells_exactly(tier: Tier) {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 60, 1)]).await;
    shop.plan(&[("lamp", tier)]).await;
    let shop = Arc::new(shop);
    let told = crowd(&shop, "lamp", 200).await;
    assert_eq!(orders(&told).len(), 60, "every unit has one buyer");
    let row = shop.row("lamp").await;
    assert_eq!((row.state.reserved, row.state.sellable, row.free), (60, 0, 0));
    assert!(told.iter().filter_map(|t| t.as_ref().err()).all(|why| why == "all-reserved" || why == "all_reserved"));
    // A repeat long after: the same order, and no unit more.
    let order = buy_to_the_end(&shop, "b0", "lamp", "k", true).await;
    assert_eq!(
        order.is_ok(),
        shop.get("b0", "/v1/orders").send().await.unwrap().text().await.unwrap().contains("lamp")
    );
    assert_eq!(shop.row("lamp").await.state.reserved, 60);
    let tiers: HashSet<String> = HashSet::from([tier.as_str().to_owned()]);
    let mut seen = HashSet::new();
    for n in 0..200 {
        let body: Value = shop.get(&format!("b{n}"), "/v1/orders").send().await.unwrap().json().await.unwrap();
        seen.extend(body["orders"].as_array().unwrap().iter().map(|o| o["tier"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen, tiers, "all were accepted by the path under test");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_db_path_sells_exactly_the_stock_to_a_crowd() {
    sells_exactly(Tier::Db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redis_path_in_process_sells_exactly_the_stock_to_a_crowd() {
    sells_exactly(Tier::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_path_sells_exactly_the_stock_to_a_crowd() {
    sells_exactly(Tier::Queue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_its_owners_and_has_one_end() {
    let mut shop = Shop::open().await;
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
        let order = shop.follow("anna", ticket).await.unwrap();
        assert_eq!(shop.follow("anna", ticket).await.unwrap(), order);
        assert_eq!(buy_to_the_end(&shop, "anna", "lamp", key, false).await.unwrap(), order);
        assert_eq!(problem(shop.buy("anna", "lamp", key, 2)).await, (422, "key-reused".into()));
    }
    assert_eq!(problem(shop.get("anna", "/v1/tickets/nonsense")).await, (404, "not-found".into()));
    assert_eq!(problem(shop.buy("anna", "lamp", "k3", 1).header("Prefer", "wait=5")).await, (409, "limit".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_nobody_decides_ends_at_its_deadline() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 2)]).await;
    shop.plan(&[("lamp", Tier::Queue)]).await;
    let answer = shop.buy("anna", "lamp", "k1", 1).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    let decided = shop.follow("anna", body["ticket"].as_str().unwrap()).await;
    assert!(decided.is_ok(), "decided in time: {decided:?}");
    // An attempt whose record lies in the log until after its deadline.
    shop.stop().await.unwrap();
    let copies = records(&shop.log, types::topics::PURCHASE_QUEUE).await;
    let value = String::from_utf8(copies[0].value.clone().unwrap()[1..].to_vec()).unwrap();
    let late = value.replace("\"k1\"", "\"k2\"");
    let record = NewRecord::keyed("lamp", [&[1u8], late.as_bytes()].concat(), types::Clock::now(&*shop.clock));
    shop.log.append(&Topic::new(types::topics::PURCHASE_QUEUE).unwrap(), vec![record]).await.unwrap();
    shop.clock.push(Duration::from_secs(12));
    shop.restart().await;
    until("the late attempt is decided", async || {
        let (buyer, key) = (types::BuyerId::new("anna").unwrap(), types::IdempotencyKey::new("k2").unwrap());
        use seckill_core::stock::store::{Outcome, StockStore};
        shop.store.decision(&buyer, &key).await.unwrap().is_some_and(|d| d.outcome == Outcome::Deadline)
    })
    .await;
    assert_eq!(problem(shop.buy("anna", "lamp", "k2", 1)).await, (409, "deadline".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_set_aside_and_blocks_nobody() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 2)]).await;
    for topic in [types::topics::PURCHASE_QUEUE, types::topics::PURCHASE_GRANTS] {
        let now = types::Clock::now(&*shop.clock);
        let bad: [&[u8]; 5] = [b"", b"\x01{", b"\x02{}", b"\x01{\"record\":\"attempt\"}", &[0xff; 300]];
        let mut bad: Vec<_> = bad.into_iter().map(|b| NewRecord::keyed("lamp", b.to_vec(), now)).collect();
        bad.push(NewRecord { value: None, ..bad[0].clone() });
        shop.log.append(&Topic::new(topic).unwrap(), bad).await.unwrap();
    }
    for tier in [Tier::Queue, Tier::Redis] {
        shop.plan(&[("lamp", tier)]).await;
        let answer = shop.buy("anna", "lamp", tier.as_str(), 1).header("Prefer", "wait=5").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
    let letters = records(&shop.log, types::topics::DEAD_LETTERS).await;
    assert_eq!(letters.len(), 12);
}
