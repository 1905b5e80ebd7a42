//! The admin's door to stock: what it takes, what it refuses, and that a sale goes on while its stock changes.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use types::Tier;

use crate::shop::{Shop, problem, until};

fn adjust(shop: &Shop, product: &str, key: &str, delta: i64) -> RequestBuilder {
    let call = shop.admin(Method::POST, &format!("/v1/products/{product}/adjustments"));
    call.header("Idempotency-Key", key).json(&json!({"delta": delta, "reason": "counted again"}))
}
async fn done(call: RequestBuilder) -> Value {
    let answer = call.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 201, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_adjusted_once_and_never_below_what_is_taken() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 3, 2), ("chair", 1, 1)]).await;
    assert_eq!(shop.buy("anna", "lamp", "k1", 2).send().await.unwrap().status(), 201);
    let first = done(adjust(&shop, "lamp", "a1", 4)).await;
    assert_eq!(
        (&first["adjustment"], &first["product"], &first["delta"], &first["total"], &first["reason"], &first["by"]),
        (&json!("a1"), &json!("lamp"), &json!(4), &json!(7), &json!("counted again"), &json!("mia"))
    );
    assert_eq!(done(adjust(&shop, "lamp", "a2", -1)).await["total"], 6);
    shop.kill_and_restart().await;
    assert_eq!(done(adjust(&shop, "lamp", "a1", 4)).await, first, "repeated: the same answer");
    assert_eq!(problem(adjust(&shop, "lamp", "a1", 5)).await, (422, "key-reused".into()));
    assert_eq!(problem(adjust(&shop, "chair", "a1", 4)).await, (422, "key-reused".into()));
    let answer = adjust(&shop, "lamp", "a3", -5).send().await.unwrap();
    assert_eq!(answer.status(), 409);
    let said: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(said["type"], "/problems/too-few-units");
    assert!(said["detail"].as_str().unwrap().contains("at most 4 can be removed"), "{said}");
    // The refusal bound nothing, and it was the whole truth.
    assert_eq!(done(adjust(&shop, "lamp", "a3", -4)).await["total"], 2);
    assert_eq!(problem(shop.buy("ben", "lamp", "k2", 1)).await, (409, "all-reserved".into()));
    done(adjust(&shop, "lamp", "a4", 1)).await;
    until("the new unit is for sale", async || shop.buy("ben", "lamp", "k3", 1).send().await.unwrap().status() == 201)
        .await;
    let row = shop.row("lamp").await;
    assert_eq!((row.state.total, row.free, row.state.reserved), (3, 0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lent_leaves_too_and_the_sale_goes_on() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 10, 5)]).await;
    shop.plan(&[("lamp", Tier::Redis)]).await;
    let before = shop.row("lamp").await;
    done(adjust(&shop, "lamp", "a1", -7)).await;
    until("a new lease sells", async || {
        let row = shop.row("lamp").await;
        row.state.phase == types::Phase::Active && row.lease.is_some_and(|l| l.loaded && !l.fenced)
    })
    .await;
    let row = shop.row("lamp").await;
    assert!(row.state.epoch > before.state.epoch);
    assert_eq!((row.state.total, row.state.sellable, row.lease.unwrap().granted), (3, 3, 3));
    let mut accepted = 0;
    for n in 0..5 {
        let answer = shop.buy(&format!("b{n}"), "lamp", "k", 1).header("Prefer", "wait=5").send().await.unwrap();
        accepted += u32::from(answer.status() == 201);
    }
    assert_eq!(accepted, 3, "exactly what was left");
    assert_eq!(problem(adjust(&shop, "lamp", "a2", -1)).await, (409, "too-few-units".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_adjustment_has_its_answer() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 9, 9)]).await;
    let path = "/v1/products/lamp/adjustments";
    let bare = |token: &str| {
        shop.http.request(Method::POST, format!("http://{}{path}", shop.handle.admin())).bearer_auth(token)
    };
    let call = || bare("merchandiser:mia").header("Idempotency-Key", "k");
    let raw = |text: &str| call().header("content-type", "application/json").body(text.to_owned());
    let with = |delta: Value, reason: Value| call().json(&json!({"delta": delta, "reason": reason}));
    let fine = json!({"delta": 1, "reason": "x"});
    let by = |token: &str| bare(token).header("Idempotency-Key", "k").json(&fine);
    let named = |name: &str| {
        let call = shop.admin(Method::POST, &format!("/v1/products/{name}/adjustments"));
        call.header("Idempotency-Key", "k").json(&fine)
    };
    let rows: Vec<(&str, RequestBuilder, u16, &str)> = vec![
        ("nothing", with(json!(0), json!("x")), 422, "invalid-field"),
        ("a fraction", with(json!(1.5), json!("x")), 422, "invalid-field"),
        ("1e3", raw(r#"{"delta": 1e3, "reason": "x"}"#), 422, "invalid-field"),
        ("2^63", raw(r#"{"delta": 9223372036854775808, "reason": "x"}"#), 422, "invalid-field"),
        ("the most an i64 adds", with(json!(i64::MAX), json!("x")), 422, "invalid-field"),
        ("the most an i64 removes", with(json!(i64::MIN), json!("x")), 409, "too-few-units"),
        ("more than there is", with(json!(-10), json!("x")), 409, "too-few-units"),
        ("text", with(json!("1"), json!("x")), 422, "invalid-field"),
        ("no number", with(Value::Null, json!("x")), 422, "invalid-field"),
        ("no reason", raw(r#"{"delta": 1}"#), 422, "invalid-field"),
        ("an empty reason", with(json!(1), json!("")), 422, "invalid-field"),
        ("a blank reason", with(json!(1), json!(" \n ")), 422, "invalid-field"),
        ("a reason of two lines", with(json!(1), json!("a\nb")), 422, "invalid-field"),
        ("a reason with NUL", with(json!(1), json!("a\u{0}b")), 422, "invalid-field"),
        ("a long reason", with(json!(1), json!("x".repeat(501))), 422, "invalid-field"),
        ("a reason of 1 MiB", with(json!(1), json!("x".repeat(1 << 20))), 422, "invalid-field"),
        ("unknown field", raw(r#"{"delta": 1, "reason": "x", "by": "ceo"}"#), 422, "invalid-field"),
        ("repeated field", raw(r#"{"delta": 1, "delta": 2, "reason": "x"}"#), 422, "invalid-field"),
        ("an array", raw(r#"[1, "x"]"#), 422, "invalid-field"),
        ("truncated", raw(r#"{"delta": 1"#), 400, "malformed"),
        ("empty", raw(""), 400, "malformed"),
        ("no content type", call().body(r#"{"delta": 1, "reason": "x"}"#), 415, "unsupported-media-type"),
        ("no key", bare("merchandiser:mia").json(&fine), 400, "malformed"),
        ("two keys", call().header("Idempotency-Key", "k2").json(&fine), 400, "malformed"),
        (
            "a long key",
            bare("merchandiser:mia").header("Idempotency-Key", "k".repeat(129)).json(&fine),
            400,
            "malformed",
        ),
        ("unknown product", named("yacht"), 404, "not-found"),
        ("a bad name", named("a%20b"), 404, "not-found"),
        ("nobody", bare("x").header("Idempotency-Key", "k").json(&fine), 401, "unauthenticated"),
        ("a shopper", by("shopper:anna"), 403, "forbidden"),
        ("a viewer", by("viewer:v"), 403, "forbidden"),
        ("an operator", by("operator:o"), 403, "forbidden"),
        ("a viewer's nonsense", bare("viewer:v").body("x"), 403, "forbidden"),
        ("another method", shop.admin(Method::GET, path), 405, "method-not-allowed"),
        ("on the shoppers' door", shop.public(Method::POST, path).bearer_auth("admin:a").json(&fine), 404, "not-found"),
    ];
    let mut wrong = Vec::new();
    for (what, call, status, kind) in rows {
        let said = problem(call).await;
        if said != (status, kind.to_owned()) {
            wrong.push((what, said));
        }
    }
    assert_eq!(wrong, []);
    assert_eq!(shop.row("lamp").await.state.total, 9, "none of them changed anything");
    assert_eq!(done(by("admin:root")).await["total"], 10, "and none used up the key");
}
