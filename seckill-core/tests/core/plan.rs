//! The control plane's pushes: the newest generation wins, is on disk before it is acknowledged, and is enforced.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use types::Tier;
use types::plan::{CoreState, NackReason, PlanAnswer};

use crate::shop::{SALE, Shop, problem, records, until};

async fn push(shop: &Shop, body: Value) -> PlanAnswer {
    let answer = shop.private(Method::POST, "/internal/plan").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

fn entry(product: &str, tier: &str) -> Value {
    json!({"product": product, "tier": tier, "reason": "hot"})
}

#[tokio::test(flavor = "multi_thread")]
async fn old_gapped_and_unknown_pushes_are_answered_and_change_nothing() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 1), ("vase", 5, 1)]).await;
    let whole = json!({"generation": 5, "nonce": 1, "base": null, "entries": [entry("lamp", "queue")]});
    assert!(matches!(push(&shop, whole.clone()).await, PlanAnswer::Ack { generation, .. } if generation.get() == 5));
    shop.sells_on("lamp", Tier::Queue).await;
    // Said twice: acknowledged twice.
    assert!(matches!(push(&shop, whole).await, PlanAnswer::Ack { generation, .. } if generation.get() == 5));
    let nack = async |body: Value| match push(&shop, body).await {
        PlanAnswer::Nack { generation, why, .. } if generation.get() == 5 => why,
        other => panic!("{other:?}"),
    };
    let old = json!({"generation": 4, "nonce": 1, "base": null, "entries": [entry("lamp", "db")]});
    assert_eq!(nack(old).await, NackReason::StaleGeneration);
    let gap = json!({"generation": 7, "nonce": 1, "base": 6, "entries": []});
    assert_eq!(nack(gap).await, NackReason::UnknownBase);
    let unknown =
        json!({"generation": 6, "nonce": 1, "base": 5, "entries": [entry("lamp", "db"), entry("yacht", "db")]});
    assert!(matches!(nack(unknown).await, NackReason::UnknownProduct { product } if product.as_str() == "yacht"));
    let delta = json!({"generation": 6, "nonce": 9, "base": 5, "entries": [entry("vase", "redis")]});
    assert!(matches!(push(&shop, delta).await, PlanAnswer::Ack { .. }));
    shop.sells_on("vase", Tier::Redis).await;
    shop.sells_on("lamp", Tier::Queue).await;

    let state: CoreState = shop.private(Method::GET, "/internal/state").send().await.unwrap().json().await.unwrap();
    assert_eq!((state.generation.get(), state.products.len()), (6, 2));
    // The last good plan outlives the process; the incarnation does not.
    shop.kill_and_restart().await;
    let after: CoreState = shop.private(Method::GET, "/internal/state").send().await.unwrap().json().await.unwrap();
    assert_eq!(after.generation, state.generation);
    assert_ne!(after.incarnation, state.incarnation);
    shop.sells_on("vase", Tier::Redis).await;
    let states = records(&shop.log, types::topics::PRODUCT_STATE).await;
    assert!(states.iter().any(|r| r.key.as_deref() == Some(b"vase")));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_control_plane_pushes_and_bad_pushes_are_refused() {
    let shop = Shop::open().await;
    let url = format!("http://{}/internal/plan", shop.handle.private());
    let good = json!({"generation": 1, "nonce": 1, "base": null, "entries": []});
    let call = || shop.http.post(&url).json(&good);
    assert_eq!(problem(call()).await, (401, "unauthenticated".into()));
    for who in ["shopper:a", "operator:a", "admin:a", "core:a", "edge:a", "merchandiser:a", "viewer:a"] {
        assert_eq!(problem(call().bearer_auth(who)).await, (403, "forbidden".into()), "{who}");
    }
    let post = || shop.private(Method::POST, "/internal/plan");
    let send = |text: &str| post().header("content-type", "application/json").body(text.to_owned());
    assert_eq!(problem(send("{\"generation\": 1,")).await.0, 400);
    assert_eq!(problem(send("{\"generation\": -1, \"nonce\": 1, \"base\": null, \"entries\": []}")).await.0, 422);
    assert_eq!(
        problem(send("{\"generation\": 1, \"nonce\": 1, \"base\": null, \"entries\": [], \"x\": 1}")).await.0,
        422
    );
    assert_eq!(problem(send("{\"generation\": 1, \"nonce\": 1, \"base\": null, \"entries\": [{\"product\": \"a\", \"tier\": \"gold\", \"reason\": \"hot\"}]}")).await.0, 422);
    let many: Vec<_> = (0..100_001).map(|n| entry(&format!("p{n}"), "db")).collect();
    let many = json!({"generation": 1, "nonce": 1, "base": null, "entries": many});
    assert_eq!(problem(post().json(&many)).await, (422, "invalid-field".into()));
    let huge = vec![b' '; 33 * 1024 * 1024];
    let answer =
        post().header("content-type", "application/json").body(huge).timeout(Duration::from_secs(20)).send().await;
    // The body is refused unread; the client may see the refusal or a closed connection.
    assert!(answer.is_err() || answer.is_ok_and(|a| a.status() == StatusCode::PAYLOAD_TOO_LARGE));
    let state: Value = shop.private(Method::GET, "/internal/state").send().await.unwrap().json().await.unwrap();
    assert_eq!(state["generation"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_shuts_the_door_and_nothing_else() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 5), ("vase", 5, 5)]).await;
    let order: Value = shop.buy("ann", "lamp", "before", 1).send().await.unwrap().json().await.unwrap();
    let entries = json!([entry("lamp", "db"), entry("vase", "redis")]);
    let plan = |generation: u64, pauses: Value| json!({"term": 1, "generation": generation, "nonce": 1, "base": null, "entries": entries, "pauses": pauses});
    push(&shop, plan(1, json!({}))).await;
    shop.sells_on("vase", Tier::Redis).await;

    push(&shop, plan(2, json!({"products": ["lamp"]}))).await;
    let lamp = |key: &str| shop.buy("bob", "lamp", key, 1);
    assert_eq!(problem(lamp("k1")).await, (503, "paused".into()), "acknowledged is enforced");
    assert!(shop.buy("bob", "vase", "k2", 1).send().await.unwrap().status().is_success(), "only what is named");
    push(&shop, plan(3, json!({"sales": [SALE]}))).await;
    assert_eq!(problem(shop.buy("bob", "vase", "k3", 1)).await, (503, "paused".into()), "on every tier");
    // A key that was decided keeps its answer; what was bought is paid.
    let again = shop.buy("ann", "lamp", "before", 1).send().await.unwrap();
    assert!(again.status().is_success());
    let path = format!("/v1/orders/{}/pay", order["order"].as_str().unwrap());
    assert!(shop.post("ann", &path).send().await.unwrap().status().is_success());
    until("it is paid", async || {
        let path = format!("/v1/orders/{}", order["order"].as_str().unwrap());
        let seen: Value = shop.get("ann", &path).send().await.unwrap().json().await.unwrap();
        seen["state"] == "paid"
    })
    .await;
    // An old leader opens nothing, and a restart forgets nothing.
    push(&shop, json!({"term": 2, "generation": 4, "nonce": 1, "base": 3, "entries": [], "pauses": {"sales": [SALE]}}))
        .await;
    let old = push(&shop, plan(9, json!({}))).await;
    assert!(matches!(old, PlanAnswer::Nack { why: NackReason::OldLeader { term }, .. } if term.get() == 2), "{old:?}");
    shop.kill_and_restart().await;
    assert_eq!(problem(shop.buy("bob", "lamp", "k1", 1)).await, (503, "paused".into()));
    let other = json!({"term": 2, "core": "core-elsewhere", "generation": 5, "nonce": 1, "base": null, "entries": []});
    assert!(matches!(push(&shop, other).await, PlanAnswer::Nack { why: NackReason::WrongCore { .. }, .. }));
    push(&shop, json!({"term": 2, "generation": 5, "nonce": 1, "base": 4, "entries": []})).await;
    assert!(
        shop.buy("bob", "lamp", "k1", 1).send().await.unwrap().status().is_success(),
        "the same key, not bound by a refusal"
    );
}
