//! The edges' call for credits: who may ask, what it says of stock, windows and pauses, and how edges divide.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use types::Tier;

use crate::shop::{SALE, Shop, until};

fn ask(shop: &Shop, query: &str) -> RequestBuilder {
    let call = shop.http.get(format!("http://{}/internal/edge/credits?{query}", shop.handle.private()));
    call.bearer_auth("edge:front")
}

async fn told(shop: &Shop, query: &str) -> Value {
    let answer = ask(shop, query).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

fn of<'a>(answer: &'a Value, product: &str) -> &'a Value {
    let all = answer["products"].as_array().unwrap();
    all.iter().find(|p| p["product"] == product).unwrap_or_else(|| panic!("{product} is not in {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_follow_stock_at_once_and_are_divided() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 5), ("vase", 0, 1)]).await;
    let first = told(&shop, "edge=one").await;
    assert_eq!((&first["whole"], &of(&first, "lamp")["credits"]), (&json!(true), &json!(10)));
    assert_eq!((&of(&first, "vase")["left"], &of(&first, "vase")["credits"]), (&json!("sold_out"), &json!(0)));
    let answer = shop.buy("ann", "lamp", "k", 2).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    // Only what has changed, and with the sale of a moment ago: no wait for the table's next refresh.
    until("the sale shows", async || {
        let whole = told(&shop, "edge=one").await;
        of(&whole, "lamp")["credits"] == 6
    })
    .await;
    let all = told(&shop, "edge=one&cores=2").await;
    assert_eq!(of(&all, "lamp")["credits"], 3, "among two cores");
    let two = told(&shop, "edge=two").await;
    assert_eq!((&two["edges"], &of(&two, "lamp")["credits"]), (&json!(2), &json!(3)), "among two edges");
    let changes = told(&shop, &format!("edge=two&have={}", two["version"].as_str().unwrap())).await;
    assert_eq!((&changes["whole"], changes["products"].as_array().unwrap().len()), (&json!(false), 0));

    // The last units: everybody else is told, by a header that only an edge reads.
    assert_eq!(shop.buy("ann", "lamp", "k2", 3).send().await.unwrap().status(), StatusCode::CREATED);
    until("nothing is left", async || {
        let refused = shop.buy("ben", "lamp", "k3", 1).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        refused.headers().get("x-nothing-left").is_some_and(|hint| hint == "all_reserved")
    })
    .await;
    let none = told(&shop, "edge=one").await;
    assert_eq!((&of(&none, "lamp")["left"], &of(&none, "lamp")["credits"]), (&json!("all_reserved"), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_told_and_attempts_that_are_not_decided_count() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 50, 1)]).await;
    assert_eq!(of(&told(&shop, "edge=one").await, "lamp")["door"], "open");
    let pause = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/pause")).send().await.unwrap();
    assert!(pause.status().is_success(), "{}", pause.text().await.unwrap());
    let paused = told(&shop, "edge=one").await;
    assert_eq!((&of(&paused, "lamp")["door"], &of(&paused, "lamp")["credits"]), (&json!("paused"), &json!(0)));
    let resume = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/resume")).send().await.unwrap();
    assert!(resume.status().is_success(), "{}", resume.text().await.unwrap());
    assert_eq!(of(&told(&shop, "edge=one").await, "lamp")["door"], "open");

    for tier in [Tier::Redis, Tier::Queue] {
        let mut shop = Shop::open().await;
        shop.sell(&[("lamp", 50, 1)]).await;
        shop.plan(&[("lamp", tier)]).await;
        shop.sells_on("lamp", tier).await;
        for n in 0..20 {
            let answer = shop.buy(&format!("b{n}"), "lamp", "k", 1).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::ACCEPTED, "{tier}");
            let credits = of(&told(&shop, "edge=one").await, "lamp")["credits"].as_u64().unwrap();
            // Sold counts twice, under way once; the row may be 50 ms old.
            assert!((100 - 2 * (n + 1)..=100).contains(&credits), "{tier}: {credits} after {n}");
        }
        until("all are decided", async || of(&told(&shop, "edge=one").await, "lamp")["credits"] == 60).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_edges_ask_and_nonsense_is_refused() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 5)]).await;
    for who in ["shopper:ann", "control:plane", "admin:ada", "operator:olga"] {
        let call = shop.http.get(format!("http://{}/internal/edge/credits?edge=one", shop.handle.private()));
        assert_eq!(call.bearer_auth(who).send().await.unwrap().status(), StatusCode::FORBIDDEN, "{who}");
    }
    let open = shop.http.get(format!("http://{}/internal/edge/credits?edge=one", shop.handle.private()));
    assert_eq!(open.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    for (query, status) in [
        ("", 400),
        ("edge=", 400),
        ("edge=a%20b", 400),
        ("edge=one&cores=0", 422),
        ("edge=one&cores=101", 422),
        ("edge=one&cores=-1", 400),
        ("edge=one&colour=red", 400),
    ] {
        assert_eq!(ask(&shop, query).send().await.unwrap().status().as_u16(), status, "{query}");
    }
}
