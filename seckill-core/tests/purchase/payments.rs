//! Money: what every callback is answered, what the shop does itself, what the simulated provider may do to us, and
//! refunds that outlive a crash.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use seckill_core::PaymentProviderKind;
use seckill_core::payment::CallbackKeys;
use seckill_core::stock::store::{Attempt, BodyHash, Claim};
use serde_json::{Value, json};
use types::{Clock, OrderId, Tier};

use crate::client::Wish;
use crate::doors::bought;
use crate::place::Kind;
use crate::shop::{Shop, problem, problem_with_wait, until};
use crate::till::{SHORT_LIFE, answered, payment, raw, said, signed_at};

fn id(order: &Value) -> String {
    order["order"].as_str().unwrap().to_owned()
}

async fn external(kind: Kind) -> Shop {
    Shop::open_with(kind, |o| {
        o.payment_provider = PaymentProviderKind::External;
        o.reserve_for = Duration::from_secs(600);
    })
    .await
}

/// The row "Payment callback" of the bad-input table, first half: what is not believed or not understood. Nothing is
/// written.
pub async fn a_callback_that_is_not_right_changes_nothing(kind: Kind) {
    let shop = external(kind).await;
    shop.sell(&[("lamp", 9, 9)]).await;
    let order = id(&bought(&shop, "anna", "lamp", "k").await);
    let now = shop.place.clock.now();
    let good = said(&payment(1), &order, "paid");
    let signature = |text: &str| crate::till::keys().sign(now, text.as_bytes());
    let call = |text: &str| raw(&shop, &signature(text), text);
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        call(&body.to_string())
    };
    let text = good.to_string();
    let foreign = CallbackKeys::new([8u8; 32], None).unwrap().sign(now, text.as_bytes());
    let bare = || shop.public(Method::POST, "/v1/payments/callback").json(&good);
    let s = Duration::from_secs;
    let rows: Vec<(&str, RequestBuilder, u16, &str)> = vec![
        ("no signature", bare(), 401, "bad-signature"),
        ("an empty signature", raw(&shop, "", text.clone()), 401, "bad-signature"),
        ("no MAC", raw(&shop, "t=1764000000", text.clone()), 401, "bad-signature"),
        ("a bearer token in its place", bare().bearer_auth("admin:a"), 401, "bad-signature"),
        ("another's key", raw(&shop, &foreign, text.clone()), 401, "bad-signature"),
        ("another body's", raw(&shop, &signature("{}"), text.clone()), 401, "bad-signature"),
        ("a changed space", raw(&shop, &signature(&text), format!("{text} ")), 401, "bad-signature"),
        ("two of them", call(&text).header("x-payment-signature", signature(&text)), 401, "bad-signature"),
        ("301 s old", signed_at(&shop, now.minus(s(302)), &good), 401, "stale-signature"),
        ("from the future", signed_at(&shop, now.plus(s(310)), &good), 401, "stale-signature"),
        ("a truncated body", call(&text[..text.len() - 1]), 400, "malformed"),
        ("no body", call(""), 400, "malformed"),
        (
            "bad UTF-8",
            raw(&shop, &crate::till::keys().sign(now, b"{\"payment\": \"\xff\"}"), &b"{\"payment\": \"\xff\"}"[..]),
            400,
            "malformed",
        ),
        ("an array", call(&format!("[{text}]")), 422, "invalid-field"),
        ("null", call("null"), 422, "invalid-field"),
        ("an unknown field", with("colour", "red".into()), 422, "invalid-field"),
        ("a missing field", call(r#"{"payment": "00000000000000000000000000000001"}"#), 422, "invalid-field"),
        ("a repeated field", call(&text.replacen('{', r#"{"status": "paid", "#, 1)), 422, "invalid-field"),
        ("amount 0", with("amount", 0.into()), 422, "invalid-field"),
        ("amount -1", with("amount", (-1).into()), 422, "invalid-field"),
        ("amount 19.9", with("amount", 19.9.into()), 422, "invalid-field"),
        ("amount as text", with("amount", "1990".into()), 422, "invalid-field"),
        ("amount 2^63", with("amount", (1u64 << 63).into()), 422, "invalid-field"),
        ("a currency in small letters", with("currency", "eur".into()), 422, "invalid-field"),
        ("no currency", with("currency", Value::Null), 422, "invalid-field"),
        ("an order's id cut short", with("order", order[1..].into()), 422, "invalid-field"),
        ("a payment's id of another form", with("payment", "pay_1".into()), 422, "invalid-field"),
        ("an unknown status", with("status", "maybe".into()), 422, "invalid-field"),
        ("16 KiB and more", call(&" ".repeat(17_000)), 413, "body-too-large"),
        (
            "another content type",
            shop.public(Method::POST, "/v1/payments/callback")
                .header("content-type", "text/plain")
                .header("x-payment-signature", signature(&text))
                .body(text.clone()),
            415,
            "unsupported-media-type",
        ),
        ("another method", shop.public(Method::GET, "/v1/payments/callback"), 405, "method-not-allowed"),
    ];
    for (case, call, status, kind) in rows {
        assert_eq!(problem(call).await, (status, kind.to_owned()), "{case}");
    }
    assert_eq!(shop.place.count("SELECT COUNT(*) FROM payment"), 0);
    assert_eq!(shop.order("anna", &order).await["state"], "accepted");
    // The key before the newest is good while it is configured, and a foreign bearer token is none of our business.
    let old = CallbackKeys::new([6u8; 32], None).unwrap().sign(now, text.as_bytes());
    assert_eq!(answered(raw(&shop, &old, text.clone()).bearer_auth("whoever")).await, "paid");
    shop.close().await;
}

/// The second half: what is believed has one definite answer, whatever comes wrong, twice, early or late.
pub async fn every_callback_has_a_definite_answer(kind: Kind) {
    let mut shop = external(kind).await;
    shop.sell(&[("lamp", 9, 9), ("last", 1, 1), ("free", 1, 1)]).await;
    let now = || shop.place.clock.now();
    let state = async |body: &Value| answered(signed_at(&shop, now(), body)).await;
    let order = id(&bought(&shop, "anna", "lamp", "k1").await);
    let other = id(&bought(&shop, "anna", "lamp", "k2").await);

    // Refund for unpaid, by either door.
    let refunded = signed_at(&shop, now(), &said(&payment(1), &order, "refunded"));
    let (status, why, wait) = problem_with_wait(refunded).await;
    assert_eq!((status, why.as_str(), wait.is_some()), (404, "unknown-payment", true));
    let refund = |order: &str| shop.admin(Method::POST, &format!("/v1/orders/{order}/refund"));
    assert_eq!(problem(refund(&order)).await, (409, "order-state".into()));

    // Amount or currency differs: kept, and owed back; the order waits for the right one.
    let mut wrong = said(&payment(2), &order, "paid");
    wrong["amount"] = 1991.into();
    assert_eq!(state(&wrong).await, "refund_due");
    assert_eq!(state(&wrong).await, "refund_due", "twice");
    assert_eq!(
        problem(signed_at(&shop, now(), &said(&payment(2), &order, "paid"))).await,
        (409, "payment-conflict".into())
    );
    let mut foreign = said(&payment(3), &order, "paid");
    foreign["currency"] = "USD".into();
    assert_eq!(state(&foreign).await, "refund_due");
    assert_eq!(shop.order("anna", &order).await["state"], "accepted");
    foreign["status"] = "refunded".into();
    assert_eq!(state(&foreign).await, "refunded");
    assert_eq!(state(&foreign).await, "refunded", "twice");
    foreign["status"] = "paid".into();
    assert_eq!(state(&foreign).await, "refunded", "said again when it has gone back");

    // A failure binds nothing; then the money comes, twice; then another time.
    assert_eq!(state(&said(&payment(4), &order, "failed")).await, "failed");
    assert_eq!(state(&said(&payment(5), &order, "paid")).await, "paid");
    assert_eq!(state(&said(&payment(5), &order, "paid")).await, "paid", "twice");
    assert_eq!(state(&said(&payment(5), &order, "failed")).await, "paid", "it stands");
    assert_eq!(state(&said(&payment(6), &order, "paid")).await, "refund_due", "one pays, one goes back");
    assert_eq!(
        problem(signed_at(&shop, now(), &said(&payment(5), &other, "paid"))).await,
        (409, "payment-conflict".into())
    );
    assert_eq!(shop.order("anna", &order).await["state"], "paid");

    // Before the order commits: not lost, since it is to be sent again.
    let early = OrderId::from_bits(0xea51);
    let (status, why, wait) =
        problem_with_wait(signed_at(&shop, now(), &said(&payment(7), &early.to_string(), "paid"))).await;
    assert_eq!((status, why.as_str(), wait.is_some()), (404, "unknown-order", true));
    let attempt = Attempt {
        buyer: "early".parse().unwrap(),
        key: "k".parse().unwrap(),
        body_hash: BodyHash([1; 32]),
        product: "lamp".parse().unwrap(),
        quantity: 1,
        claim: Claim::Door,
        deadline: now().plus(Duration::from_secs(9)),
        request: None,
        order: early,
        token: None,
    };
    shop.store.decide(vec![attempt], Duration::from_secs(600), now()).await.unwrap();
    assert_eq!(state(&said(&payment(7), &early.to_string(), "paid")).await, "paid");

    // While the core is down nothing is lost either.
    let body = said(&payment(8), &other, "paid");
    shop.kill_and_restart().await;
    assert_eq!(answered(signed_at(&shop, shop.place.clock.now(), &body)).await, "paid");

    // After expiry: paid if its unit can be had again, else owed.
    let (lost, kept) =
        (id(&bought(&shop, "ben", "last", "last").await), id(&bought(&shop, "ben", "free", "free").await));
    let given_up = id(&bought(&shop, "ben", "lamp", "lamp").await);
    shop.post("ben", &format!("/v1/orders/{given_up}/cancel")).send().await.unwrap();
    shop.place.clock.push(Duration::from_secs(601));
    for order in [&lost, &kept] {
        until("it has expired", async || shop.order("ben", order).await["state"] == "expired").await;
    }
    let mut tries = 0;
    until("another buys it", async || {
        tries += 1;
        shop.clients.buy(Wish::one("cleo", "last").key(format!("k{tries}")).waiting(true)).await.is_ok()
    })
    .await;
    let now = || shop.place.clock.now();
    for (n, order, end) in [(10, &lost, "refund_due"), (11, &kept, "paid"), (12, &given_up, "refund_due")] {
        assert_eq!(answered(signed_at(&shop, now(), &said(&payment(n), order, "paid"))).await, end);
        assert_eq!(shop.order("ben", order).await["state"], end);
    }
    // Money that has gone back although nobody owed it: it pays nothing any more, and its unit is free.
    let back = said(&payment(11), &kept, "refunded");
    assert_eq!(answered(signed_at(&shop, now(), &back)).await, "refunded");
    assert_eq!(shop.order("ben", &kept).await["state"], "refunded");
    assert_eq!(shop.row("free").await.free, 1);
    shop.close().await;
}

/// The provider `external`: the shop takes the money, confirms, releases, gives back.
pub async fn the_shop_confirms_and_releases_itself(kind: Kind) {
    let shop = external(kind).await;
    shop.sell(&[("lamp", 2, 2)]).await;
    let first = id(&bought(&shop, "anna", "lamp", "k1").await);
    let second = id(&bought(&shop, "anna", "lamp", "k2").await);
    let pay = shop.post("anna", &format!("/v1/orders/{first}/pay")).header("Prefer", "wait=5").send().await.unwrap();
    assert_eq!(pay.status(), StatusCode::ACCEPTED);
    let how: Value = pay.json().await.unwrap();
    assert_eq!((&how["state"], &how["amount"]["amount"]), (&"external".into(), &1990.into()));
    assert!(how.get("payment").is_none() && how["expires_at"].is_string(), "{how}");

    let at = |order: &str, call: &str| shop.admin(Method::POST, &format!("/v1/orders/{order}/{call}"));
    let taken = json!({"payment": payment(1), "amount": 1990, "currency": "EUR"});
    for call in ["confirm", "release", "refund"] {
        for (who, status) in [("shopper:anna", 403), ("viewer:v", 403), ("operator:o", 403)] {
            let path = format!("http://{}/v1/orders/{first}/{call}", shop.handle.admin());
            let call = reqwest::Client::new().post(path).bearer_auth(who).json(&taken);
            assert_eq!(problem(call).await, (status, "forbidden".into()), "{who}");
        }
    }
    assert_eq!(
        problem(at(&first, "confirm").json(&json!({"payment": payment(1)}))).await,
        (422, "invalid-field".into())
    );
    assert_eq!(answered(at(&first, "confirm").json(&taken)).await, "paid");
    assert_eq!(answered(at(&first, "confirm").json(&taken)).await, "paid", "twice");
    let nowhere = payment(99);
    assert_eq!(
        problem(at(&nowhere, "confirm").json(&json!({"payment": payment(9), "amount": 1, "currency": "EUR"}))).await.1,
        "unknown-order"
    );
    for call in ["release", "refund"] {
        assert_eq!(problem(at(&nowhere, call)).await, (404, "not-found".into()));
    }
    assert_eq!(problem(at(&first, "release")).await, (409, "order-state".into()), "it is paid");

    // Released: the unit is sold again at once.
    let sold_out = shop.buy("ben", "lamp", "k", 1);
    assert_eq!(problem(sold_out).await, (409, "all-reserved".into()));
    assert_eq!(answered(at(&second, "release")).await, "cancelled");
    assert_eq!(answered(at(&second, "release")).await, "cancelled", "twice");
    assert_eq!(shop.buy("ben", "lamp", "k", 1).send().await.unwrap().status(), StatusCode::CREATED);

    // The money of a paid one goes back when the shop says so.
    assert_eq!(answered(at(&first, "refund")).await, "refund_due");
    assert_eq!(answered(at(&first, "refund")).await, "refund_due", "twice");
    assert_eq!(shop.buy("cleo", "lamp", "k", 1).send().await.unwrap().status(), StatusCode::CREATED);
    let back = said(&payment(1), &first, "refunded");
    assert_eq!(answered(signed_at(&shop, shop.place.clock.now(), &back)).await, "refunded");
    assert_eq!(answered(at(&first, "refund")).await, "refunded", "and once more");
    assert_eq!(shop.order("anna", &first).await["state"], "refunded");
    shop.close().await;
}

/// Everything that the simulated provider may do, through the real door.
pub async fn the_simulated_provider_may_do_its_worst(kind: Kind) {
    type Fate = fn(&mut seckill_core::SimulatedPaymentOptions);
    // Fate, the order's end, the payments' ends.
    let rows: [(Fate, &str, &str); 6] = [
        (|o| o.double_per_mille = 1000, "paid", "paid"),
        (|o| o.early_per_mille = 1000, "paid", "paid"),
        (|o| o.slow_per_mille = 1000, "paid", "paid"),
        (|o| o.late_per_mille = 1000, "paid", "paid"),
        (|o| o.wrong_amount_per_mille = 1000, "expired", "refunded"),
        (|o| o.wrong_currency_per_mille = 1000, "expired", "refunded"),
    ];
    for (set, order_end, money_end) in rows {
        let shop = Shop::open_with(kind, |o| {
            o.reserve_for = SHORT_LIFE;
            o.payment.slow_delay = Duration::from_millis(1500);
            set(&mut o.payment);
        })
        .await;
        shop.sell(&[("lamp", 3, 3)]).await;
        let order = id(&bought(&shop, "anna", "lamp", "k").await);
        let confirm = shop.admin(Method::POST, &format!("/v1/orders/{order}/confirm"));
        let taken = json!({"payment": payment(1), "amount": 1990, "currency": "EUR"});
        assert_eq!(problem(confirm.json(&taken)).await, (409, "not-external".into()));
        let started = shop.post("anna", &format!("/v1/orders/{order}/pay")).send().await.unwrap();
        assert!([200, 202].contains(&started.status().as_u16()), "{}", started.status());
        until(&format!("the order is {order_end}"), async || shop.order("anna", &order).await["state"] == order_end)
            .await;
        until(&format!("the money is {money_end}"), async || {
            let sql = format!("SELECT COUNT(*) FROM payment WHERE state = '{money_end}'");
            shop.place.count(&sql) == 1 && shop.place.count("SELECT COUNT(*) FROM payment") == 1
        })
        .await;
        let units = shop.row("lamp").await;
        assert_eq!(units.sold, u64::from(order_end == "paid"));
        shop.close().await;
    }
}

/// A refund is asked for until the provider has done it, over a crash.
pub async fn a_refund_outlives_a_crash_and_an_unwilling_provider(kind: Kind) {
    let mut shop = Shop::open(kind).await;
    shop.sell(&[("lamp", 2, 2)]).await;
    let order = id(&bought(&shop, "anna", "lamp", "k").await);
    let pay = shop.post("anna", &format!("/v1/orders/{order}/pay")).header("Prefer", "wait=5");
    assert_eq!(pay.send().await.unwrap().json::<Value>().await.unwrap()["state"], "paid");
    shop.place.till.refuses.store(true, Ordering::SeqCst);
    let cancel = shop.post("anna", &format!("/v1/orders/{order}/cancel"));
    assert_eq!(cancel.send().await.unwrap().json::<Value>().await.unwrap()["state"], "refund_due");
    let asked = |shop: &Shop| shop.place.till.asked.load(Ordering::SeqCst);
    until("it is asked for again", async || asked(&shop) >= 2).await;
    shop.kill_and_restart().await;
    let before = asked(&shop);
    until("and after the crash", async || asked(&shop) > before).await;
    assert_eq!(shop.order("anna", &order).await["state"], "refund_due");
    shop.place.till.refuses.store(false, Ordering::SeqCst);
    until("it is done", async || shop.order("anna", &order).await["state"] == "refunded").await;
    let done = asked(&shop);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(asked(&shop), done, "and not asked for any more");
    shop.close().await;
}

/// What was sold out is available at once when an unpaid order expires, in every tier.
pub async fn what_expires_is_sold_at_once(kind: Kind) {
    let mut shop = Shop::open_with(kind, |o| o.reserve_for = Duration::from_secs(60)).await;
    let products = [("in-db", Tier::Db), ("in-redis", Tier::Redis), ("in-queue", Tier::Queue)];
    shop.sell(&products.map(|(p, _)| (p, 1, 1))).await;
    shop.plan(&products).await;
    for (product, _) in products {
        bought(&shop, "anna", product, product).await;
        assert_eq!(problem(shop.buy("ben", product, "early", 1).header("Prefer", "wait=5")).await.1, "all-reserved");
    }
    shop.place.clock.push(Duration::from_secs(61));
    for (product, tier) in products {
        let mut tries = 0;
        until("it is sold again", async || {
            tries += 1;
            shop.clients.buy(Wish::one("ben", product).key(format!("{product}-{tries}")).waiting(true)).await.is_ok()
        })
        .await;
        let row = shop.row(product).await;
        assert_eq!((row.state.reserved, row.state.sellable), (1, 0), "{tier}");
    }
    shop.close().await;
}
