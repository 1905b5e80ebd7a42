//! Orders as their buyers and the shop's systems read them.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::shop::{Shop, problem};

async fn bought(shop: &Shop, buyer: &str, key: &str) -> String {
    let answer = shop.buy(buyer, "a", key, 1).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    answer.json::<Value>().await.unwrap()["order"].as_str().unwrap().to_owned()
}

async fn list(shop: &Shop, path: &str) -> Value {
    let answer = shop.get("ann", path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.json().await.unwrap()
}

fn ids(page: &Value) -> Vec<String> {
    page["orders"].as_array().unwrap().iter().map(|o| o["order"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_turns_the_pages_of_his_orders() {
    let shop = Shop::open().await;
    shop.sell(&[("a", 100, 50)]).await;
    for n in 0..5 {
        bought(&shop, "ann", &format!("k{n}")).await;
        bought(&shop, "bob", &format!("k{n}")).await;
    }
    let whole = list(&shop, "/v1/orders").await;
    assert_eq!(ids(&whole).len(), 5);
    assert!(whole.get("next").is_none(), "a whole list has no next page");

    let first = list(&shop, "/v1/orders?limit=2").await;
    bought(&shop, "ann", "meanwhile").await;
    let mut seen = ids(&first);
    let mut cursor = first["next"].as_str().map(str::to_owned);
    while let Some(from) = cursor {
        let page = list(&shop, &format!("/v1/orders?limit=2&cursor={from}")).await;
        seen.extend(ids(&page));
        cursor = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, ids(&whole));

    for bad in ["cursor=x", "cursor=", "cursor=1-2", "limit=x", "limit=-1", "curser=1-2", "limit=1&limit=2"] {
        let (status, kind) = problem(shop.get("ann", &format!("/v1/orders?{bad}"))).await;
        assert_eq!((status, kind.as_str()), (400, "malformed"), "{bad}");
    }
    for bad in ["limit=0", "limit=101"] {
        assert_eq!(problem(shop.get("ann", &format!("/v1/orders?{bad}"))).await.0, 422, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shop_reads_every_step_once_and_a_viewer_sees_no_buyer() {
    let shop = Shop::open().await;
    shop.sell(&[("a", 100, 50)]).await;
    let admin = |path: String, who: &str| {
        shop.http.request(Method::GET, format!("http://{}{path}", shop.handle.admin())).bearer_auth(who.to_owned())
    };
    let read = async |path: String, who: &str| {
        let answer = admin(path, who).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json::<Value>().await.unwrap()
    };
    let mut orders = Vec::new();
    for n in 0..6 {
        orders.push(bought(&shop, &format!("buyer{n}"), "k").await);
    }
    let cancelled = shop.post("buyer2", &format!("/v1/orders/{}/cancel", orders[2])).send().await.unwrap();
    assert_eq!(cancelled.status(), StatusCode::OK);

    let (mut seen, mut since) = (Vec::new(), 0);
    loop {
        let page = read(format!("/v1/orders?since={since}&limit=4"), "operator:olga").await;
        for step in page["steps"].as_array().unwrap() {
            let (order, state) = (step["order"]["order"].as_str().unwrap(), step["state"].as_str().unwrap());
            seen.push((order.to_owned(), state.to_owned()));
            assert!(step["order"]["buyer"].as_str().unwrap().starts_with("buyer"));
        }
        since = page["next"].as_u64().unwrap();
        if page["more"] == false {
            break;
        }
    }
    let mut expected: Vec<_> = orders.iter().map(|o| (o.clone(), "accepted".to_owned())).collect();
    expected.push((orders[2].clone(), "cancelled".to_owned()));
    assert_eq!(seen, expected);
    assert_eq!(read(format!("/v1/orders?since={since}"), "operator:olga").await["steps"], Value::Array(vec![]));

    let page = read("/v1/orders?state=cancelled&sale=friday".into(), "viewer:vic").await;
    assert_eq!(page["steps"].as_array().unwrap().len(), 1);
    assert_eq!(page["steps"][0]["order"]["state"], "cancelled");
    assert!(page["steps"][0]["order"].get("buyer").is_none(), "personal data");
    assert_eq!(read("/v1/orders?sale=other".into(), "viewer:vic").await["next"], since, "looked at, none wanted");

    for (query, status) in [("since=x", 400), ("state=lost", 400), ("since=99999", 422), ("limit=1001", 422)] {
        assert_eq!(problem(admin(format!("/v1/orders?{query}"), "viewer:vic")).await.0, status, "{query}");
    }
    assert_eq!(problem(admin("/v1/orders".into(), "shopper:ann")).await.0, 403);
}
