//! Administration through real HTTP: a sale is shown, cloned, changed while it sells, and every act has its line in the
//! audit log.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::shop::{SALE, Shop, problem};

async fn ok(call: RequestBuilder) -> Value {
    let answer = call.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap()
}

/// The audit log as an operator reads it, from after `since`.
async fn log(shop: &Shop, since: u64) -> Value {
    let url = format!("http://{}/v1/audit?since={since}", shop.handle.admin());
    ok(shop.http.get(url).bearer_auth("operator:olga")).await
}

fn words(log: &Value) -> Vec<String> {
    let line = |line: &Value| format!("{} {}", line["action"].as_str().unwrap(), line["outcome"].as_str().unwrap());
    log["lines"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_act_has_its_line_with_who_what_and_the_difference() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 2), ("vase", 5, 2)]).await;
    let mut file = shop.sale(&[("lamp", 5, 2), ("vase", 5, 2)]);
    let put = |file: &Value| shop.admin(Method::PUT, &format!("/v1/sales/{SALE}")).json(file);
    file["name"] = SALE.into();
    ok(put(&file)).await;
    ok(put(&file)).await;
    file["product"][0]["price"] = 990.into();
    ok(put(&file).header("x-request-id", "cheaper-1")).await;
    file["product"][1]["stock"] = 6.into();
    assert_eq!(problem(put(&file)).await, (422, "invalid-field".into()));
    let adjust = |product: &str, delta: i64| {
        let call = shop.admin(Method::POST, &format!("/v1/products/{product}/adjustments"));
        call.header("Idempotency-Key", format!("{product}{delta}")).json(&json!({"delta": delta, "reason": "found"}))
    };
    ok(adjust("vase", 3)).await;
    ok(adjust("vase", 3)).await;
    assert_eq!(problem(adjust("vase", -9)).await, (409, "too-few-units".into()));
    for verb in ["pause", "resume", "close"] {
        ok(shop.admin(Method::POST, &format!("/v1/sales/{SALE}/{verb}"))).await;
    }
    let late = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/pause"));
    assert_eq!(problem(late).await, (409, "sale-state".into()));

    let log = log(&shop, 1).await;
    let expected = [
        "apply done",
        "apply unchanged",
        "apply done",
        "apply refused",
        "adjust done",
        "adjust unchanged",
        "adjust refused",
        "pause done",
        "resume done",
        "close done",
        "close done",
        "pause refused",
    ];
    // The window of the second file is that of a moment later; whether that is another second is chance.
    let mut seen = words(&log);
    if seen[0] == "apply unchanged" {
        seen[0] = "apply done".into();
    }
    assert_eq!(seen, expected);
    let lines = log["lines"].as_array().unwrap();
    for (n, line) in lines.iter().enumerate() {
        assert_eq!((line["seq"].as_u64(), &line["subject"]), (Some(n as u64 + 2), &json!("mia")));
        assert_eq!(line["roles"], json!(["merchandiser"]));
        assert!(line["request"].is_string() && line["at"].is_string());
    }
    let cheaper = &lines[2];
    assert_eq!(cheaper["request"], "cheaper-1");
    let prices = (&cheaper["before"]["products"]["lamp"]["price"], &cheaper["after"]["products"]["lamp"]["price"]);
    assert_eq!(prices, (&json!(1990), &json!(990)));
    assert!(cheaper["after"]["products"]["vase"].is_null(), "only what changed");
    assert!(lines[3]["why"].as_str().unwrap().starts_with("stock: vase"), "{}", lines[3]);
    let adjusted = &lines[4];
    assert_eq!((&adjusted["before"]["total"], &adjusted["after"]["total"]), (&json!(5), &json!(8)));
    assert_eq!((&adjusted["product"], &adjusted["sale"]), (&json!("vase"), &json!(SALE)));
    assert_eq!((&lines[9]["before"]["state"], &lines[9]["after"]["state"]), (&json!("active"), &json!("paused")));
    assert_eq!(lines[10]["after"]["state"], "closed");
    assert_eq!(log["next"], 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_by_a_cursor_and_only_by_who_may() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 2)]).await;
    for verb in ["pause", "resume", "pause", "resume"] {
        ok(shop.admin(Method::POST, &format!("/v1/sales/{SALE}/{verb}"))).await;
    }
    let ask = |who: &str, query: &str| {
        shop.http.get(format!("http://{}/v1/audit{query}", shop.handle.admin())).bearer_auth(who.to_owned())
    };
    let first = ok(ask("admin:root", "?limit=2")).await;
    assert_eq!(words(&first), ["apply done", "pause done"]);
    let second = ok(ask("admin:root", &format!("?since={}&limit=500", first["next"]))).await;
    assert_eq!(words(&second), ["resume done", "pause done", "resume done"]);
    let end = ok(ask("operator:o", &format!("?since={}", second["next"]))).await;
    assert_eq!((words(&end).len(), &end["next"]), (0, &second["next"]));
    for who in ["shopper:a", "viewer:v", "merchandiser:mia", "core:c"] {
        assert_eq!(problem(ask(who, "")).await, (403, "forbidden".into()), "{who}");
    }
    for query in ["?since=-1", "?since=x", "?limit=x", "?from=1", "?since=99999999999999999999"] {
        assert_eq!(problem(ask("admin:root", query)).await, (400, "malformed".into()), "{query}");
    }
    for query in ["?limit=0", "?limit=501"] {
        assert_eq!(problem(ask("admin:root", query)).await, (422, "invalid-field".into()), "{query}");
    }
    // The database itself refuses to change what was written.
    let db = rusqlite::Connection::open(shop.folder.path().join("stock.sqlite")).unwrap();
    for sql in ["DELETE FROM admin_audit", "UPDATE admin_audit SET subject = 'nobody'"] {
        let why = db.execute(sql, []).unwrap_err().to_string();
        assert!(why.contains("only added to"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_cloned_with_new_skus_while_it_sells_and_with_its_own_once_it_is_closed() {
    let shop = Shop::open().await;
    let mut file = shop.sale(&[("lamp", 5, 2)]);
    file["zone"] = "Europe/Berlin".into();
    // Local to that zone, so an hour or two earlier: still open.
    file["product"][0]["pages"] = json!(["lamp-page"]);
    file["product"][0]["initial_tier"] = "redis".into();
    ok(shop.admin(Method::PUT, &format!("/v1/sales/{SALE}")).json(&file)).await;
    ok(shop.buy("anna", "lamp", "k", 1).header("Prefer", "wait=5")).await;
    let clone = |from: &str, body: Value| shop.admin(Method::POST, &format!("/v1/sales/{from}/clone")).json(&body);
    let next = |name: &str| json!({"name": name, "opens": "2027-03-28T00:30:00", "closes": "2027-03-28T04:00:00"});
    let with = |name: &str, field: &str, value: Value| {
        let mut body = next(name);
        body[field] = value;
        body
    };
    let early = "2027-01-01T00:00:00";
    let viewer = shop.http.post(format!("http://{}/v1/sales/{SALE}/clone", shop.handle.admin()));
    for (what, call, end) in [
        ("the same SKUs", clone(SALE, next("b")), (422, "invalid-field")),
        ("its own name", clone(SALE, with(SALE, "sku_suffix", "-b".into())), (422, "invalid-field")),
        ("a suffix that no SKU bears", clone(SALE, with("b", "sku_suffix", "/b".into())), (422, "invalid-field")),
        ("a long suffix", clone(SALE, with("b", "sku_suffix", "x".repeat(64).into())), (422, "invalid-field")),
        ("the spring gap", clone(SALE, with("b", "opens", "2027-03-28T02:30:00".into())), (422, "invalid-field")),
        ("the autumn fold", clone(SALE, with("b", "closes", "2027-10-31T02:30:00".into())), (422, "invalid-field")),
        ("an end before its start", clone(SALE, with("b", "closes", early.into())), (422, "invalid-field")),
        ("no zone of this world", clone(SALE, with("b", "zone", "Mars/Base".into())), (422, "invalid-field")),
        ("an unknown field", clone(SALE, with("b", "price", 1.into())), (422, "invalid-field")),
        ("no such sale", clone("monday", next("b")), (404, "not-found")),
        ("a viewer", viewer.bearer_auth("viewer:v").json(&next("b")), (403, "forbidden")),
    ] {
        let (status, kind) = problem(call).await;
        assert_eq!((status, kind.as_str()), end, "{what}");
    }
    ok(clone(SALE, with("b", "sku_suffix", "-b".into()))).await;
    assert_eq!(problem(clone(SALE, with("b", "sku_suffix", "-c".into()))).await.0, 422, "the name is taken");
    let shown = ok(shop.admin(Method::GET, "/v1/sales/b")).await;
    let product = &shown["products"][0];
    assert_eq!((&shown["zone"], &shown["opens_local"]), (&json!("Europe/Berlin"), &json!("2027-03-28T00:30:00")));
    let window = (&shown["opens"], &shown["closes"]);
    assert_eq!(window, (&json!("2027-03-27T23:30:00.000Z"), &json!("2027-03-28T02:00:00.000Z")));
    assert_eq!((&product["product"], &product["brought"], &product["free"]), (&json!("lamp-b"), &json!(5), &json!(5)));
    assert_eq!((&product["pages"], &product["initial_tier"]), (&json!(["lamp-b"]), &json!("redis")));

    crate::shop::until("it is closed", async || {
        let answer = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/close")).send().await.unwrap();
        answer.status() == 200
    })
    .await;
    let closed = ok(shop.admin(Method::GET, &format!("/v1/sales/{SALE}"))).await;
    assert_eq!((&closed["state"], &closed["products"][0]["reserved"]), (&json!("closed"), &json!(1)));
    ok(clone(SALE, with("c", "zone", "America/New_York".into()))).await;
    let again = ok(shop.admin(Method::GET, "/v1/sales/c")).await;
    let lamp = &again["products"][0];
    assert_eq!((&lamp["product"], &lamp["pages"]), (&json!("lamp"), &json!(["lamp-page"])));
    assert_eq!((&lamp["free"], &lamp["reserved"]), (&json!(5), &json!(1)), "what was reserved stays counted");
    assert_eq!(problem(clone(SALE, next("d"))).await, (409, "sale-state".into()), "its products have gone on");
    assert_eq!(problem(shop.admin(Method::GET, "/v1/sales/tuesday")).await, (404, "not-found".into()));
    let lines = log(&shop, 0).await;
    let made: Vec<_> = lines["lines"].as_array().unwrap().iter().filter(|l| l["action"] == "clone").collect();
    assert_eq!(made.last().unwrap()["after"]["from"], SALE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_not_change_the_currency_of_what_is_sold() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 2)]).await;
    let mut file = shop.sale(&[("lamp", 5, 2)]);
    file["currency"] = "USD".into();
    let answer = shop.admin(Method::PUT, &format!("/v1/sales/{SALE}")).json(&file).send().await.unwrap();
    assert_eq!(answer.status(), 422);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["field"], "currency", "{body}");
}
