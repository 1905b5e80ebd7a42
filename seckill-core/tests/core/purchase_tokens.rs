//! One-time purchase tokens: not before the start, for one buyer and product, for a short time, used once, on every
//! tier; and what they cost where the sale asks for work.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use types::Tier;

use crate::shop::{SALE, Shop, problem};

async fn sell(shop: &Shop, policy: Value, opens_in: i64) {
    let mut sale = shop.sale(&[("lamp", 50, 9), ("vase", 50, 9)]);
    sale["policy"] = policy;
    if opens_in > 0 {
        use types::Clock as _;
        let opens = shop.clock.now().plus(Duration::from_secs(opens_in as u64));
        sale["opens"] = opens.to_second_string().trim_end_matches('Z').into();
    }
    let answer = shop.admin(Method::PUT, &format!("/v1/sales/{SALE}")).json(&sale).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
}

fn ask(shop: &Shop, buyer: &str, product: &str, body: &Value) -> RequestBuilder {
    shop.post(buyer, &format!("/v1/sales/{SALE}/products/{product}/token")).json(body)
}

async fn token(shop: &Shop, buyer: &str, product: &str) -> String {
    let answer = ask(shop, buyer, product, &json!({})).send().await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["cache-control"]),
        (StatusCode::CREATED, &"no-store".parse().unwrap())
    );
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    body["token"].as_str().unwrap().to_owned()
}

fn buy(shop: &Shop, buyer: &str, key: &str, token: &str) -> RequestBuilder {
    let path = format!("/v1/sales/{SALE}/products/lamp/purchases");
    let call = shop.post(buyer, &path).header("Idempotency-Key", key).header("Prefer", "wait=5");
    call.json(&json!({"quantity": 1, "token": token}))
}

async fn bought(call: RequestBuilder) -> String {
    let answer = call.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, StatusCode::CREATED, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["order"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_given_after_the_start_and_is_good_once_on_every_tier() {
    let mut shop = Shop::open().await;
    sell(&shop, json!({"token_required": true}), 3_600).await;
    let early = ask(&shop, "anna", "lamp", &json!({})).send().await.unwrap();
    assert_eq!(early.headers()["retry-after"], "3600");
    assert_eq!(problem(ask(&shop, "anna", "lamp", &json!({}))).await, (425, "not-open".into()));
    assert_eq!(problem(shop.buy("anna", "lamp", "k", 1)).await, (425, "not-open".into()), "the start comes first");
    assert_eq!(problem(ask(&shop, "anna", "yacht", &json!({}))).await, (404, "not-found".into()));
    shop.clock.push(Duration::from_secs(3_600));

    let body: Value = serde_json::from_str(
        &shop.public(Method::GET, "/v1/products/lamp").send().await.unwrap().text().await.unwrap(),
    )
    .unwrap();
    assert_eq!(body["token_required"], true, "a page knows beforehand");
    assert_eq!(problem(shop.buy("anna", "lamp", "k", 1)).await, (422, "token-required".into()));
    for tier in [Tier::Db, Tier::Queue, Tier::Redis] {
        shop.plan(&[("lamp", tier)]).await;
        let mine = token(&shop, "anna", "lamp").await;
        let key = format!("{tier}-1");
        let order = bought(buy(&shop, "anna", &key, &mine)).await;
        assert_eq!(bought(buy(&shop, "anna", &key, &mine)).await, order, "{tier}: the same key as often as one likes");
        let again = buy(&shop, "anna", &format!("{tier}-2"), &mine);
        assert_eq!(problem(again).await, (409, "token-used".into()), "{tier}");
        assert_eq!(problem(buy(&shop, "ben", &key, &mine)).await, (422, "token-invalid".into()), "{tier}: another's");
        let vase = token(&shop, "anna", "vase").await;
        assert_eq!(problem(buy(&shop, "anna", "v", &vase)).await, (422, "token-invalid".into()), "{tier}: for a vase");
        let old = token(&shop, "anna", "lamp").await;
        shop.clock.push(Duration::from_secs(120));
        assert_eq!(problem(buy(&shop, "anna", "o", &old)).await, (422, "token-invalid".into()), "{tier}: too old");
        assert_eq!(bought(buy(&shop, "anna", &key, &mine)).await, order, "{tier}: what is bought is bought");
    }
    assert_eq!(shop.row("lamp").await.state.reserved, 3);
    // Where none is asked for, none is needed, and the policy is the sale's to change.
    sell(&shop, json!({}), 0).await;
    assert_eq!(shop.buy("carl", "lamp", "k", 1).header("Prefer", "wait=5").send().await.unwrap().status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_use_one_token_at_once_one_buys() {
    let mut shop = Shop::open().await;
    sell(&shop, json!({"token_required": true}), 0).await;
    for tier in [Tier::Db, Tier::Queue] {
        shop.plan(&[("lamp", tier)]).await;
        let mine = token(&shop, "anna", "lamp").await;
        let keys: Vec<_> = (0..20).map(|n| format!("{tier}-{n}")).collect();
        let all = keys.iter().map(|key| buy(&shop, "anna", key, &mine).send());
        let statuses: Vec<_> =
            futures::future::join_all(all).await.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
        assert_eq!(statuses.iter().filter(|s| **s == 201).count(), 1, "{tier}: {statuses:?}");
        assert_eq!(statuses.iter().filter(|s| **s == 409).count(), 19, "{tier}: {statuses:?}");
    }
    assert_eq!(shop.row("lamp").await.state.reserved, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_token_costs_work_it_is_given_to_who_has_worked() {
    let shop = Shop::open().await;
    sell(&shop, json!({"token_required": true, "proof_of_work": 10}), 0).await;
    let answer = ask(&shop, "anna", "lamp", &json!({})).send().await.unwrap();
    assert_eq!(answer.status(), 428);
    let refused: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(refused["type"], "/problems/challenge-required");
    let (puzzle, bits) = (refused["challenge"]["challenge"].as_str().unwrap(), refused["challenge"]["bits"].as_u64());
    assert_eq!(bits, Some(10));
    let works = |answer: &String| {
        let digest = Sha256::digest(format!("{puzzle}:{answer}"));
        digest[0] == 0 && digest[1] < 64
    };
    let right = (0..).map(|n: u32| n.to_string()).find(works).unwrap();
    let wrong = (0..).map(|n: u32| n.to_string()).find(|answer| !works(answer)).unwrap();
    for answer in [wrong, String::new(), "x".repeat(3_000)] {
        let said = problem(ask(&shop, "anna", "lamp", &json!({"answer": answer}))).await;
        assert_eq!(said, (428, "challenge-required".into()), "{answer}");
    }
    let given = ask(&shop, "anna", "lamp", &json!({"answer": right})).send().await.unwrap();
    let given: Value = serde_json::from_str(&given.text().await.unwrap()).unwrap();
    bought(buy(&shop, "anna", "k", given["token"].as_str().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_is_refused_and_a_clone_keeps_its_own() {
    let shop = Shop::open().await;
    let url = format!("/v1/sales/{SALE}");
    for policy in [
        json!({"proof_of_work": 10}),
        json!({"token_required": true, "proof_of_work": 25}),
        json!({"token_required": 1}),
        json!({"captcha": true}),
        json!("token_required"),
    ] {
        let mut sale = shop.sale(&[("lamp", 5, 1)]);
        sale["policy"] = policy.clone();
        assert_eq!(problem(shop.admin(Method::PUT, &url).json(&sale)).await, (422, "invalid-field".into()), "{policy}");
    }
    sell(&shop, json!({"token_required": true, "proof_of_work": 7}), 0).await;
    let clone = json!({"name": "monday", "opens": "2030-01-01T09:00:00", "closes": "2030-01-01T10:00:00",
        "sku_suffix": "-2"});
    let made = shop.admin(Method::POST, &format!("{url}/clone")).json(&clone).send().await.unwrap();
    assert_eq!(made.status(), 201);
    for name in [SALE, "monday"] {
        let shown = shop.admin(Method::GET, &format!("/v1/sales/{name}")).send().await.unwrap().text().await.unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["policy"], json!({"token_required": true, "proof_of_work": 7}), "{name}");
    }
}
