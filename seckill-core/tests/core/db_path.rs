//! The db path over real HTTP: bought, paid, cancelled, expired, and told to the world.

use std::time::Duration;

use crate::shop::{SALE, Shop, outbox_is_empty, problem, records, until};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use types::{OrderEvent, OrderEventKind};

async fn bought(shop: &Shop, buyer: &str, product: &str, key: &str) -> Value {
    let answer = shop.buy(buyer, product, key, 1).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_is_an_order_and_a_retry_has_the_same_answer() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 3, 1)]).await;
    let call = shop.buy("anna", "lamp", "k1", 1).header("x-request-id", "r-77");
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["x-request-id"], "r-77");
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let order: Value = answer.json().await.unwrap();
    assert_eq!(
        (&order["state"], &order["tier"], &order["quantity"], &order["amount"]["amount"]),
        (&"accepted".into(), &"db".into(), &1.into(), &1990.into())
    );
    assert_eq!(bought(&shop, "anna", "lamp", "k1").await, order, "the same key, the same order");
    assert_eq!(shop.get("anna", &location).send().await.unwrap().json::<Value>().await.unwrap(), order);
    assert_eq!(problem(shop.get("ben", &location)).await, (404, "not-found".into()));
    assert_eq!(problem(shop.buy("anna", "lamp", "k1", 2)).await, (422, "key-reused".into()));
    assert_eq!(problem(shop.buy("anna", "lamp", "k2", 1)).await, (409, "limit".into()));
    assert_eq!(problem(shop.buy("anna", "lamp", "k2", 1)).await, (409, "limit".into()));
    let orders: Value = shop.get("anna", "/v1/orders").send().await.unwrap().json().await.unwrap();
    assert_eq!(orders["orders"], Value::Array(vec![order]));
    let none: Value = shop.get("ben", "/v1/orders").send().await.unwrap().json().await.unwrap();
    assert_eq!(none["orders"], Value::Array(vec![]));

    // The request's id is seen in the order event and its header.
    outbox_is_empty(&shop).await;
    let events = records(&shop.log, types::topics::ORDER_EVENTS).await;
    let event: OrderEvent = types::codec::decode(events[0].value.as_ref().unwrap()).unwrap();
    assert_eq!((event.kind, event.request.as_ref().map(|r| r.as_str())), (OrderEventKind::Accepted, Some("r-77")));
    assert_eq!(events[0].header("x-request-id").map(|b| &b[..]), Some(&b"r-77"[..]));
    assert_eq!(events[0].key.as_deref(), Some(event.order.to_string().as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn units_come_back_by_cancel_and_by_expiry_and_stay_when_paid() {
    let shop = Shop::open_with(|o| o.reserve_for = Duration::from_secs(60)).await;
    shop.sell(&[("lamp", 3, 3)]).await;
    let id = |order: &Value| order["order"].as_str().unwrap().to_owned();
    let paid = id(&bought(&shop, "anna", "lamp", "k1").await);
    let cancelled = id(&bought(&shop, "ben", "lamp", "k1").await);
    let left = id(&bought(&shop, "cleo", "lamp", "k1").await);
    assert_eq!(problem(shop.buy("dan", "lamp", "k1", 1)).await, (409, "all-reserved".into()));

    let path = |order: &str, call: &str| format!("/v1/orders/{order}/{call}");
    assert_eq!(problem(shop.post("ben", &path(&paid, "pay"))).await, (404, "not-found".into()));
    assert_eq!(problem(shop.post("anna", &path(&cancelled, "cancel"))).await, (404, "not-found".into()));
    let answer = shop.post("anna", &path(&paid, "pay")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let started: Value = answer.json().await.unwrap();
    let again: Value = shop.post("anna", &path(&paid, "pay")).send().await.unwrap().json().await.unwrap();
    assert!(again["payment"] == started["payment"] || again["state"] == "paid", "paid once: {again}");
    until("it is paid", async || {
        let order: Value = shop.get("anna", &format!("/v1/orders/{paid}")).send().await.unwrap().json().await.unwrap();
        order["state"] == "paid"
    })
    .await;
    let answer = shop.post("ben", &path(&cancelled, "cancel")).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["state"], "cancelled");
    assert_eq!(shop.post("ben", &path(&cancelled, "cancel")).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(problem(shop.post("ben", &path(&cancelled, "pay"))).await, (409, "order-state".into()));

    shop.clock.push(Duration::from_secs(61));
    until("the unpaid order expired", async || shop.row("lamp").await.state.reserved == 0).await;
    let order: Value = shop.get("cleo", &format!("/v1/orders/{left}")).send().await.unwrap().json().await.unwrap();
    assert_eq!(order["state"], "expired");
    let row = shop.row("lamp").await;
    assert_eq!((row.free, row.sold, row.state.sellable), (2, 1, 2));
    bought(&shop, "dan", "lamp", "k1").await;
    // The first answer stands, and shows what became of the order.
    assert_eq!(bought(&shop, "cleo", "lamp", "k1").await["state"], "expired");

    outbox_is_empty(&shop).await;
    let events = records(&shop.log, types::topics::ORDER_EVENTS).await;
    let of = |order: &str| -> Vec<OrderEventKind> {
        let events = events.iter().map(|r| types::codec::decode::<OrderEvent>(r.value.as_ref().unwrap()).unwrap());
        events.filter(|e| e.order.to_string() == order).map(|e| e.kind).collect()
    };
    assert_eq!(of(&paid), [OrderEventKind::Accepted, OrderEventKind::Paid]);
    assert_eq!(of(&cancelled), [OrderEventKind::Accepted, OrderEventKind::Cancelled]);
    assert_eq!(of(&left), [OrderEventKind::Accepted, OrderEventKind::Expired]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_payment_is_said_and_binds_nothing() {
    let shop = Shop::open_with(|o| o.payment.fail_per_mille = 1000).await;
    shop.sell(&[("lamp", 1, 1)]).await;
    let order = bought(&shop, "anna", "lamp", "k1").await["order"].as_str().unwrap().to_owned();
    let pay = || shop.post("anna", &format!("/v1/orders/{order}/pay")).header("Prefer", "wait=5");
    assert_eq!(problem(pay()).await, (402, "payment-failed".into()));
    let row: Value = shop.get("anna", &format!("/v1/orders/{order}")).send().await.unwrap().json().await.unwrap();
    assert_eq!(row["state"], "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_button_and_the_window_bind_the_door() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 3, 3)]).await;
    bought(&shop, "anna", "lamp", "k1").await;
    let set = |what: &str| shop.admin(Method::POST, &format!("/v1/sales/{SALE}/{what}")).send();
    assert_eq!(set("pause").await.unwrap().status(), StatusCode::OK);
    assert_eq!(problem(shop.buy("ben", "lamp", "k1", 1)).await, (503, "paused".into()));
    assert_eq!(set("resume").await.unwrap().status(), StatusCode::OK);
    bought(&shop, "ben", "lamp", "k1").await;
    shop.clock.push(Duration::from_secs(25 * 3600));
    assert_eq!(problem(shop.buy("cleo", "lamp", "k1", 1)).await, (410, "sale-ended".into()));
    assert_eq!(shop.buy("ben", "lamp", "k1", 1).send().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(set("close").await.unwrap().status(), StatusCode::OK);
    until("it is gone", async || shop.handle.products().is_empty()).await;
    assert_eq!(problem(shop.buy("cleo", "lamp", "k1", 1)).await, (404, "not-found".into()));
    assert_eq!(shop.buy("ben", "lamp", "k1", 1).send().await.unwrap().status(), StatusCode::CREATED);
    let name = "/v1/sales/nothing/close";
    assert_eq!(problem(shop.admin(Method::POST, name)).await, (404, "not-found".into()));
    let mut early = shop.sale(&[("vase", 1, 1)]);
    early["name"] = "later".into();
    early["opens"] = "2095-01-01T00:00:00".into();
    early["closes"] = "2095-01-02T00:00:00".into();
    let answer = shop.admin(Method::PUT, "/v1/sales/later").json(&early).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let call = shop.public(Method::POST, "/v1/sales/later/products/vase/purchases");
    let call =
        call.bearer_auth("shopper:anna").header("Idempotency-Key", "k9").json(&serde_json::json!({"quantity": 1}));
    assert_eq!(problem(call).await, (425, "not-open".into()));
}
