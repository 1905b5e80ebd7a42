//! What a purchase call is answered, in every tier: orders, repeats, limits, sold out, the window, waiting.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use types::{OrderEvent, OrderEventKind, Tier};

use crate::client::Wish;
use crate::place::Kind;
use crate::shop::{SALE, Shop, problem, problem_with_wait, records, until};

/// A purchase that waits for its end and must be accepted.
pub async fn bought(shop: &Shop, buyer: &str, product: &str, key: &str) -> Value {
    let order = shop.clients.buy(Wish::one(buyer, product).key(key).waiting(true)).await;
    shop.order(buyer, &order.unwrap_or_else(|why| panic!("{buyer} {key}: {why}"))).await
}

pub async fn a_purchase_is_an_order_and_a_retry_has_the_same_answer(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 9, 9)]).await;
    for tier in Tier::ALL {
        shop.plan(&[("lamp", tier)]).await;
        let key = tier.as_str();
        let call = || shop.buy("anna", "lamp", key, 1).header("Prefer", "wait=5").header("x-request-id", key);
        let answer = call().send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{tier}");
        assert_eq!(answer.headers()["x-request-id"], key);
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let order: Value = answer.json().await.unwrap();
        let shown = (&order["state"], &order["tier"], &order["quantity"], &order["amount"]["amount"]);
        assert_eq!(shown, (&"accepted".into(), &key.into(), &1.into(), &1990.into()));
        let again: Value = call().send().await.unwrap().json().await.unwrap();
        assert_eq!(again, order, "the same key, the same order");
        assert_eq!(shop.get("anna", &location).send().await.unwrap().json::<Value>().await.unwrap(), order);
        assert_eq!(problem(shop.get("ben", &location)).await, (404, "not-found".into()));
        assert_eq!(problem(shop.buy("anna", "lamp", key, 2)).await, (422, "key-reused".into()), "{tier}");
        // Another's key of the same name is another key.
        assert_ne!(bought(&shop, "ben", "lamp", key).await["order"], order["order"]);
    }
    let orders: Value = shop.get("anna", "/v1/orders").send().await.unwrap().json().await.unwrap();
    assert_eq!(orders["orders"].as_array().unwrap().len(), 3);
    // The keys keep their answers on every other path, and after a restart.
    shop.kill_and_restart().await;
    for tier in Tier::ALL {
        let end = shop.clients.buy(Wish::one("anna", "lamp").key(tier.as_str())).await.unwrap();
        assert_eq!(shop.order("anna", &end).await["tier"], tier.as_str());
    }
    shop.rest().await;
    let events = records(&*shop.log(), types::topics::ORDER_EVENTS, 6).await;
    for record in events {
        let event: OrderEvent = types::codec::decode(record.value.as_ref().unwrap()).unwrap();
        assert_eq!(event.kind, OrderEventKind::Accepted);
        assert_eq!(record.key.as_deref(), Some(event.order.to_string().as_bytes()));
        let request = event.request.as_ref().map(|r| r.as_str().as_bytes());
        assert_eq!(record.header("x-request-id").map(|b| &b[..]), request, "the call's id is seen in its event");
    }
    assert_eq!(shop.row("lamp").await.state.reserved, 6);
    shop.close().await;
}

pub async fn a_buyer_gets_no_more_than_his_limit_by_whatever_path(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 20, 3)]).await;
    let limit = || (409, "limit".to_owned());
    for (n, tier) in Tier::ALL.into_iter().enumerate() {
        shop.plan(&[("lamp", tier)]).await;
        let buy = |buyer: &str, key: &str, quantity| {
            shop.buy(buyer, "lamp", &format!("{key}{n}"), quantity).header("Prefer", "wait=5")
        };
        // One more on each path until he holds three; then none, on any.
        bought(&shop, "anna", "lamp", &format!("a{n}")).await;
        // Four at once are too many for anybody; the refusal is this key's for ever.
        let who = format!("ben{n}");
        assert_eq!(problem(buy(&who, "four", 4)).await, limit(), "{tier}");
        assert_eq!(problem(buy(&who, "four", 4)).await, limit(), "{tier}");
        assert_eq!(buy(&who, "three", 3).send().await.unwrap().status(), StatusCode::CREATED, "{tier}");
        assert_eq!(problem(buy(&who, "one", 1)).await, limit(), "{tier}");
    }
    for tier in Tier::ALL {
        shop.plan(&[("lamp", tier)]).await;
        let call = shop.buy("anna", "lamp", &format!("more-{tier}"), 1).header("Prefer", "wait=5");
        assert_eq!(problem(call).await, limit(), "{tier}");
    }
    // What he gives back he may buy again.
    let orders: Value = shop.get("anna", "/v1/orders").send().await.unwrap().json().await.unwrap();
    let order = orders["orders"][0]["order"].as_str().unwrap().to_owned();
    assert_eq!(shop.post("anna", &format!("/v1/orders/{order}/cancel")).send().await.unwrap().status(), 200);
    bought(&shop, "anna", "lamp", "again").await;
    assert_eq!(shop.row("lamp").await.state.reserved, 3 + 3 * 3);
    shop.close().await;
}

pub async fn sold_out_is_said_only_when_nothing_can_come_back(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    let products = [("in-db", Tier::Db), ("in-redis", Tier::Redis), ("in-queue", Tier::Queue)];
    shop.sell(&products.map(|(p, _)| (p, 2, 1))).await;
    shop.plan(&products).await;
    for (product, tier) in products {
        let first = bought(&shop, "anna", product, product).await["order"].as_str().unwrap().to_owned();
        let second = bought(&shop, "ben", product, product).await["order"].as_str().unwrap().to_owned();
        // In the queue tier it may be the consumer who says so.
        let waiting = |key: &str| shop.buy("cleo", product, key, 1).header("Prefer", "wait=5");
        let (status, why, wait) = problem_with_wait(waiting("early")).await;
        assert_eq!((status, why.as_str()), (409, "all-reserved"), "{tier}");
        assert!(wait.is_some(), "some may come back");
        for (buyer, order) in [("anna", &first), ("ben", &second)] {
            let call = shop.post(buyer, &format!("/v1/orders/{order}/pay")).header("Prefer", "wait=5");
            assert_eq!(call.send().await.unwrap().json::<Value>().await.unwrap()["state"], "paid", "{tier}");
        }
        // The table may be half a second old, the answer a second.
        let mut tries = 0;
        until("it is sold out", async || {
            tries += 1;
            problem(waiting(&format!("sold-out-{tries}"))).await == (410, "sold-out".into())
        })
        .await;
        // Said at the door it binds nothing: when a paid order is given back, the same key may buy. What the queue's
        // consumer has said is a decision.
        assert_eq!(problem(waiting(product)).await, (410, "sold-out".into()), "{tier}");
        let call = shop.post("ben", &format!("/v1/orders/{second}/cancel"));
        assert_eq!(call.send().await.unwrap().json::<Value>().await.unwrap()["state"], "refund_due");
        let mut tries = 0;
        until("the unit that came back is sold", async || {
            tries += 1;
            let key = if tier == Tier::Queue { format!("back-{tries}") } else { product.to_owned() };
            shop.clients.buy(Wish::one("cleo", product).key(key).waiting(true)).await.is_ok()
        })
        .await;
        let row = shop.row(product).await;
        assert_eq!((row.sold, row.state.reserved, row.state.sellable), (1, 1, 0), "{tier}");
    }
    shop.close().await;
}

pub async fn the_stop_button_and_the_window_bind_the_door(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    let products = [("in-db", Tier::Db), ("in-redis", Tier::Redis), ("in-queue", Tier::Queue)];
    shop.sell(&products.map(|(p, _)| (p, 5, 2))).await;
    shop.plan(&products).await;
    let mut early = shop.sale("later", &[("vase", 1, 1)]);
    early["opens"] = "2095-01-01T00:00:00".into();
    early["closes"] = "2095-01-02T00:00:00".into();
    let answer = shop.admin(Method::PUT, "/v1/sales/later").json(&early).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let call = shop.public(Method::POST, "/v1/sales/later/products/vase/purchases").bearer_auth("shopper:anna");
    let call = call.header("Idempotency-Key", "k9").json(&json!({"quantity": 1}));
    assert_eq!(problem(call).await, (425, "not-open".into()));

    let set = async |what: &str| {
        let answer = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/{what}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{what}");
    };
    set("pause").await;
    for (product, tier) in products {
        assert_eq!(problem(shop.buy("anna", product, product, 1)).await, (503, "paused".into()), "{tier}");
    }
    set("resume").await;
    for (product, _) in products {
        bought(&shop, "anna", product, product).await;
    }
    shop.place.clock.push(Duration::from_secs(25 * 3600));
    for (product, tier) in products {
        assert_eq!(problem(shop.buy("ben", product, product, 1)).await, (410, "sale-ended".into()), "{tier}");
        assert_eq!(shop.buy("anna", product, product, 1).send().await.unwrap().status(), StatusCode::CREATED, "{tier}");
        // Over: its lease comes home by itself.
        shop.sells_on(product, Tier::Db).await;
    }
    set("close").await;
    until("it is gone", async || shop.handle.products().iter().all(|p| p.sale.as_str() != SALE)).await;
    assert_eq!(problem(shop.buy("cleo", "in-db", "k1", 1)).await, (404, "not-found".into()));
    assert_eq!(shop.buy("anna", "in-db", "in-db", 1).send().await.unwrap().status(), StatusCode::CREATED);
    shop.close().await;
}

pub async fn waiting_brings_the_end_or_a_ticket(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 4, 1)]).await;
    for tier in [Tier::Redis, Tier::Queue] {
        shop.plan(&[("lamp", tier)]).await;
        let buyer = format!("anna-{tier}");
        let call = shop.buy(&buyer, "lamp", "k", 1).header("Prefer", "wait=5");
        assert_eq!(call.send().await.unwrap().status(), StatusCode::CREATED, "{tier}");
        // Nobody decides: a second later he has a ticket in his hand.
        shop.place.faults.hold(true);
        let buyer = format!("ben-{tier}");
        let answer = shop.buy(&buyer, "lamp", "k", 1).header("Prefer", "wait=1").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{tier}");
        let ticket: Value = answer.json().await.unwrap();
        let path = format!("/v1/tickets/{}", ticket["ticket"].as_str().unwrap());
        let pending = shop.get(&buyer, &path).send().await.unwrap();
        assert!(pending.headers().contains_key("retry-after"));
        assert_eq!(pending.json::<Value>().await.unwrap()["state"], "pending", "{tier}");
        shop.place.faults.hold(false);
        let end = shop.clients.follow(&Wish::one(&buyer, "lamp"), ticket["ticket"].as_str().unwrap()).await;
        assert!(end.is_ok(), "{tier}: {end:?}");
    }
    shop.close().await;
}
