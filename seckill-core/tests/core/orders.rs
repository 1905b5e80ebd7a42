//! Orders as their buyers and the shop's systems read them.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use types::Clock;

use crate::shop::{Shop, problem, until};

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
async fn the_shops_book_is_held_against_ours() {
    let shop = Shop::open().await;
    shop.sell(&[("a", 100, 50)]).await;
    let mut orders = Vec::new();
    for n in 0..4 {
        orders.push(bought(&shop, &format!("buyer{n}"), "k").await);
    }
    let cancelled = shop.post("buyer3", &format!("/v1/orders/{}/cancel", orders[3])).send().await.unwrap();
    assert_eq!(cancelled.status(), StatusCode::OK);
    let call = |method: Method, path: &str, who: &str| {
        shop.http.request(method, format!("http://{}/v1/{path}", shop.handle.admin())).bearer_auth(who.to_owned())
    };
    let ours = call(Method::GET, "reconciliation.csv?sale=friday", "admin:ada").send().await.unwrap();
    assert_eq!(ours.headers()["content-type"], "text/csv; charset=utf-8");
    let ours = ours.text().await.unwrap();
    assert_eq!(ours.lines().count(), 5, "{ours}");
    assert!(ours.contains("buyer3"));
    let seen =
        call(Method::GET, "reconciliation.csv?sale=friday", "viewer:vic").send().await.unwrap().text().await.unwrap();
    assert!(!seen.contains("buyer3"), "personal data: {seen}");

    let compare = async |book: String| {
        let call = call(Method::POST, "reconciliation?sale=friday", "viewer:vic").header("content-type", "text/csv");
        let answer = call.body(book).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.unwrap()
    };
    assert_eq!(compare(ours.clone()).await, "order,difference,ours,theirs\n", "our own book is ours");
    let stranger = "f".repeat(32);
    let theirs = format!(
        "order,state,amount,currency\n{},accepted,1990,EUR\n{},paid,1990,EUR\n{},cancelled,1,EUR\n{stranger},paid,5,EUR\n",
        orders[0], orders[1], orders[3]
    );
    let told = compare(theirs).await;
    let mut lines: Vec<_> = told.lines().skip(1).collect();
    lines.sort_unstable();
    let mut expected = vec![
        format!("{},state,accepted,paid", orders[1]),
        format!("{},missing-there,accepted 1990 EUR,", orders[2]),
        format!("{},amount,1990 EUR,1 EUR", orders[3]),
        format!("{stranger},missing-here,,paid 5 EUR"),
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);

    let post = |kind: &str, body: &str| {
        let call =
            call(Method::POST, "reconciliation?sale=friday", "viewer:vic").header("content-type", kind.to_owned());
        call.body(body.to_owned())
    };
    assert_eq!(problem(post("application/json", "{}")).await.0, 415);
    assert_eq!(problem(post("text/csv", "order,state\n")).await.0, 422);
    assert_eq!(problem(post("text/csv", "")).await.0, 422);
    assert_eq!(problem(call(Method::GET, "reconciliation.csv", "viewer:vic")).await.0, 400);
    assert_eq!(problem(call(Method::GET, "reconciliation.csv?sale=friday", "shopper:ann")).await.0, 403);
}

/// The auditor's verdict at rest, with what this client wrote down.
fn judged(shop: &Shop, journal: &[Value]) -> audit::Report {
    let path = shop.folder.path().join("journal.jsonl");
    std::fs::write(&path, journal.iter().map(|entry| format!("{entry}\n")).collect::<String>()).unwrap();
    let options = audit::stock::Options::at_rest(shop.clock.now().millis());
    audit::stock::audit(&shop.folder.path().join("stock.sqlite"), &[path], &options, None).unwrap()
}

fn saw(buyer: &str, order: &str) -> Value {
    json!({"t": 1, "buyer": buyer, "key": "k", "product": "a", "quantity": 1, "status": 201, "outcome": "accepted",
        "order": order})
}

async fn paid(shop: &Shop, buyer: &str, order: &str) {
    let call = shop.post(buyer, &format!("/v1/orders/{order}/pay")).header("Prefer", "wait=5");
    assert_eq!(call.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_erases_a_buyer_once_nothing_of_his_is_open() {
    let shop = Shop::open().await;
    shop.sell(&[("a", 100, 50)]).await;
    let order = bought(&shop, "ann", "k").await;
    let erase = |who: &str| {
        shop.http.delete(format!("http://{}/v1/buyers/ann", shop.handle.admin())).bearer_auth(who.to_owned())
    };
    for who in ["operator:olga", "merchandiser:mia", "shopper:ann"] {
        assert_eq!(problem(erase(who)).await.0, 403, "{who}");
    }
    assert_eq!(problem(erase("admin:ada")).await, (409, "open-orders".into()));
    paid(&shop, "ann", &order).await;
    for orders in [1, 0] {
        let answer = erase("admin:ada").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({"orders": orders}));
    }
    assert!(ids(&list(&shop, "/v1/orders").await).is_empty());
    assert_eq!(problem(shop.get("ann", &format!("/v1/orders/{order}"))).await.0, 404);
    assert_eq!((shop.row("a").await.sold, shop.row("a").await.free), (1, 99), "the sale stands");
    let report = judged(&shop, &[saw("ann", &order)]);
    assert!(report.holds(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buyers_are_forgotten_when_their_time_is_over() {
    let day = Duration::from_secs(86_400);
    let mut shop = Shop::open_with(|options| options.retention.buyers = day).await;
    shop.sell(&[("a", 100, 50)]).await;
    let (first, second) = (bought(&shop, "ann", "k").await, bought(&shop, "bob", "k").await);
    paid(&shop, "ann", &first).await;
    // A core walks when it starts: the sale is open for another day.
    shop.stop().await.unwrap();
    shop.restart().await;
    assert_eq!(ids(&list(&shop, "/v1/orders").await), [first.as_str()]);

    shop.stop().await.unwrap();
    shop.clock.push(day * 3);
    shop.restart().await;
    // Bob's order expires on the way; it is told from ann's only by having changed just now.
    until("ann is forgotten", async || ids(&list(&shop, "/v1/orders").await).is_empty()).await;
    until("bob's order has expired", async || {
        let answer = shop.get("bob", &format!("/v1/orders/{second}")).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["state"] == "expired"
    })
    .await;
    let report = judged(&shop, &[saw("ann", &first), saw("bob", &second)]);
    assert!(report.holds(), "{report}");
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
