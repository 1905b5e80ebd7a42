//! The row "Admin, import" of the bad-input table through real HTTP, and what imports do where they are right: each
//! case has one expected answer, never a 5xx, and a refusal changes nothing.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::Tier;

use crate::shop::{SALE, Shop, problem};

const HEAD: &str = "sku,name,price,currency,stock,limit";
const WINDOW: &str = "zone=Europe/Berlin&opens=2027-03-28T01:30:00&closes=2027-03-28T03:30:00";

async fn ok(call: RequestBuilder) -> (u16, Value) {
    let answer = call.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    (status.as_u16(), serde_json::from_str(&text).unwrap())
}

fn csv(call: RequestBuilder, text: impl Into<reqwest::Body>) -> RequestBuilder {
    call.header("content-type", "text/csv").body(text)
}

fn catalogue(shop: &Shop, sale: &str, query: &str, text: impl Into<reqwest::Body>) -> RequestBuilder {
    csv(shop.admin(Method::POST, &format!("/v1/sales/{sale}/imports/catalogue?{query}")), text)
}

fn stock(shop: &Shop, key: &str, query: &str, text: impl Into<reqwest::Body>) -> RequestBuilder {
    let call = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/imports/stock?{query}"));
    csv(call.header("Idempotency-Key", key), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_made_and_changed_from_a_file_all_or_nothing() {
    let shop = Shop::open().await;
    let text = format!(
        "\u{feff}{HEAD},initial_tier,pages\r\nlamp,Lamp,1990,EUR,5,2,redis,p-1 p-2\r\nvase,Vase,500,EUR,0,1,,\r\n"
    );
    let (status, dry) = ok(catalogue(&shop, SALE, &format!("{WINDOW}&dry_run=true"), text.clone())).await;
    assert_eq!(
        (status, &dry["dry_run"], &dry["new_sale"], &dry["created"]),
        (200, &json!(true), &json!(true), &json!(2))
    );
    assert_eq!(problem(shop.admin(Method::GET, &format!("/v1/sales/{SALE}"))).await.0, 404, "nothing was made");
    let (status, made) = ok(catalogue(&shop, SALE, WINDOW, text.clone())).await;
    assert_eq!((status, &made["created"], &made["added"]), (201, &json!(2), &json!(5)));
    let (status, again) = ok(catalogue(&shop, SALE, WINDOW, text.clone())).await;
    assert_eq!((status, &again["unchanged"], &again["changed"]), (200, &json!(2), &json!(0)), "the same again");
    let (_, shown) = ok(shop.admin(Method::GET, &format!("/v1/sales/{SALE}"))).await;
    assert_eq!(shown["closes"], "2027-03-28T01:30:00.000Z", "an hour of that night does not exist");
    assert_eq!(shown["products"][0]["pages"], json!(["p-1", "p-2"]));

    // What the file does not name stays; what it names is changed.
    let more = format!("{HEAD}\nvase,Big vase,700,EUR,0,3\nrug,Rug,900,EUR,7,1\n");
    let (_, changed) = ok(catalogue(&shop, SALE, "", more)).await;
    assert_eq!((&changed["created"], &changed["changed"], &changed["unchanged"]), (&json!(1), &json!(1), &json!(0)));
    let (_, shown) = ok(shop.admin(Method::GET, &format!("/v1/sales/{SALE}"))).await;
    let skus: Vec<_> = shown["products"].as_array().unwrap().iter().map(|p| p["product"].as_str().unwrap()).collect();
    assert_eq!(skus, ["lamp", "rug", "vase"]);
    assert_eq!((&shown["products"][2]["price"]["amount"], &shown["products"][2]["limit"]), (&json!(700), &json!(3)));
    let (_, log) =
        ok(shop.http.get(format!("http://{}/v1/audit", shop.handle.admin())).bearer_auth("admin:root")).await;
    let words: Vec<_> =
        log["lines"].as_array().unwrap().iter().map(|l| format!("{} {}", l["action"], l["outcome"])).collect();
    assert_eq!(
        words,
        [r#""import_catalogue" "done""#, r#""import_catalogue" "unchanged""#, r#""import_catalogue" "done""#]
    );
    let last = &log["lines"][2];
    assert_eq!(
        (&last["before"]["products"]["vase"]["price"], &last["after"]["products"]["vase"]["price"]),
        (&json!(500), &json!(700))
    );
    assert!(last["before"]["products"]["lamp"].is_null() && last["after"]["products"]["lamp"].is_null(), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_of_many_products_changes_once_or_not_at_all() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 9, 9), ("vase", 4, 4), ("rug", 4, 4)]).await;
    shop.plan(&[("vase", Tier::Redis)]).await;
    let text = "sku,delta,reason\nlamp,-9,broken\nvase,-3,broken\nrug,6,found\n";
    let (_, dry) = ok(stock(&shop, "i-1", "dry_run=true", text)).await;
    assert_eq!((&dry["added"], &dry["removed"]), (&json!(6), &json!(12)));
    assert_eq!(shop.row("lamp").await.state.total, 9);
    let (_, done) = ok(stock(&shop, "i-1", "", text)).await;
    assert_eq!(
        (&done["rows"], &done["added"], &done["removed"], &done["repeated"]),
        (&json!(3), &json!(6), &json!(12), &json!(false))
    );
    for _ in 0..2 {
        let (_, again) = ok(stock(&shop, "i-1", "", text)).await;
        assert_eq!((&again["repeated"], &again["added"], &again["removed"]), (&json!(true), &json!(6), &json!(12)));
    }
    for (sku, total) in [("lamp", 0), ("vase", 1), ("rug", 10)] {
        assert_eq!(shop.row(sku).await.state.total, total, "{sku}");
    }
    shop.sells_on("vase", Tier::Redis).await;
    let other = problem(stock(&shop, "i-1", "", "sku,delta,reason\nrug,1,found\n")).await;
    assert_eq!(other, (422, "key-reused".into()));
    // One row that cannot be: none is done, and all that is wrong is told.
    let text = "sku,delta,reason\nrug,1,found\nvase,-2,broken\nyacht,5,found\nlamp,1000000001,found\n";
    let answer = stock(&shop, "i-2", "", text).send().await.unwrap();
    assert_eq!(answer.status(), 422);
    let body: Value = answer.json().await.unwrap();
    let told: Vec<_> =
        body["errors"].as_array().unwrap().iter().map(|e| format!("{} {}", e["row"], e["column"])).collect();
    assert_eq!(told, [r#"3 "delta""#, r#"4 "sku""#, r#"5 "delta""#], "{body}");
    assert_eq!(shop.row("rug").await.state.total, 10);
    ok(stock(&shop, "i-2", "", "sku,delta,reason\nrug,1,found\n")).await;
    assert_eq!(shop.row("rug").await.state.total, 11, "a refusal binds nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_import_has_its_answer() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 9, 9)]).await;
    let mut other = shop.sale(&[("rug", 4, 4)]);
    other["name"] = "monday".into();
    ok(shop.admin(Method::PUT, "/v1/sales/monday").json(&other)).await;
    let good = format!("{HEAD}\nvase,Vase,500,EUR,5,1\n");
    let row = |row: &str| catalogue(&shop, SALE, "", format!("{HEAD}\n{row}\n"));
    let new = |query: &str| catalogue(&shop, "new", query, good.clone());
    let by = |who: &str, text: &'static str| {
        let url = format!("http://{}/v1/sales/{SALE}/imports/catalogue", shop.handle.admin());
        csv(shop.http.post(url).bearer_auth(who.to_owned()), text)
    };
    let stock = |text: &'static str| stock(&shop, "k", "", text);
    let keyed = |key: String| {
        let call = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/imports/stock"));
        csv(call.header("Idempotency-Key", key), "sku,delta,reason\nlamp,1,x\n")
    };
    let typed = |kind: &'static str| {
        let call = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/imports/catalogue"));
        call.header("content-type", kind).body(good.clone())
    };
    let one = "zone=Europe/Berlin&opens=2027-06-01T09:00:00&closes=";
    let rows: Vec<(&str, RequestBuilder, u16, &str)> = vec![
        ("ends before it starts", new(&format!("{one}2027-05-01T09:00:00")), 422, "invalid-field"),
        ("ends as it starts", new(&format!("{one}2027-06-01T09:00:00")), 422, "invalid-field"),
        (
            "the gap of spring",
            new("zone=Europe/Berlin&opens=2027-03-28T02:30:00&closes=2027-03-28T09:00:00"),
            422,
            "invalid-field",
        ),
        (
            "the fold of autumn",
            new("zone=Europe/Berlin&opens=2027-10-31T00:30:00&closes=2027-10-31T02:30:00"),
            422,
            "invalid-field",
        ),
        ("an offset", new("zone=UTC&opens=2027-06-01T09:00:00Z&closes=2027-06-02T09:00:00Z"), 422, "invalid-field"),
        (
            "no such zone",
            new("zone=Mars/Base&opens=2027-06-01T09:00:00&closes=2027-06-02T09:00:00"),
            422,
            "invalid-field",
        ),
        ("half a window", new("zone=UTC&opens=2027-06-01T09:00:00"), 422, "invalid-field"),
        ("no window for a new sale", new(""), 422, "invalid-field"),
        ("another window", catalogue(&shop, SALE, WINDOW, good.clone()), 422, "invalid-field"),
        ("a misspelt parameter", new("dryrun=true"), 400, "malformed"),
        ("a product of another sale", row("rug,Rug,500,EUR,4,1"), 422, "invalid-rows"),
        (
            "a page of another sale",
            catalogue(&shop, SALE, "", format!("{HEAD},pages\nvase,Vase,500,EUR,5,1,rug\n")),
            422,
            "invalid-rows",
        ),
        (
            "a page of this sale",
            catalogue(&shop, SALE, "", format!("{HEAD},pages\nvase,Vase,500,EUR,5,1,lamp\n")),
            422,
            "invalid-rows",
        ),
        ("price 0", row("vase,Vase,0,EUR,5,1"), 422, "invalid-rows"),
        ("price negative", row("vase,Vase,-1,EUR,5,1"), 422, "invalid-rows"),
        ("price as a fraction", row("vase,Vase,5.00,EUR,5,1"), 422, "invalid-rows"),
        ("price beyond all", row("vase,Vase,9223372036854775807,EUR,5,1"), 422, "invalid-rows"),
        ("another currency", row("vase,Vase,500,USD,5,1"), 422, "invalid-rows"),
        ("another currency of what is sold", row("lamp,lamp,1990,USD,9,9"), 422, "invalid-rows"),
        ("two currencies", row("vase,Vase,500,EUR,5,1\nsofa,Sofa,500,USD,5,1"), 422, "invalid-rows"),
        ("no currency", row("vase,Vase,500,€,5,1"), 422, "invalid-rows"),
        ("other stock of what is there", row("lamp,lamp,1990,EUR,10,9"), 422, "invalid-rows"),
        ("stock negative", row("vase,Vase,500,EUR,-5,1"), 422, "invalid-rows"),
        ("limit 0", row("vase,Vase,500,EUR,5,0"), 422, "invalid-rows"),
        ("a duplicate SKU", row("vase,Vase,500,EUR,5,1\nvase,Vase,500,EUR,5,1"), 422, "invalid-rows"),
        ("a column too many", row("vase,Vase,500,EUR,5,1,x"), 422, "invalid-rows"),
        ("a column too few", row("vase,Vase,500,EUR,5"), 422, "invalid-rows"),
        ("a wrong column", catalogue(&shop, SALE, "", good.replace("limit", "colour")), 422, "invalid-rows"),
        ("semicolons", catalogue(&shop, SALE, "", good.replace(',', ";")), 422, "invalid-rows"),
        ("UTF-16", catalogue(&shop, SALE, "", b"\xff\xfes\0k\0u\0".to_vec()), 422, "invalid-rows"),
        ("bad UTF-8", catalogue(&shop, SALE, "", [good.as_bytes(), b"v,\xff,1,EUR,1,1"].concat()), 422, "invalid-rows"),
        ("an open quote", row("vase,\"Vase,500,EUR,5,1"), 422, "invalid-rows"),
        ("NUL", row("vase,Va\0se,500,EUR,5,1"), 422, "invalid-rows"),
        ("empty", catalogue(&shop, SALE, "", ""), 422, "invalid-rows"),
        ("no rows", catalogue(&shop, SALE, "", HEAD), 422, "invalid-rows"),
        ("10,001 rows", row(&"x\n".repeat(10_001)), 413, "too-many-rows"),
        ("9 MiB in few rows", row(&"x".repeat(9 << 20)), 413, "body-too-large"),
        ("JSON", typed("application/json"), 415, "unsupported-media-type"),
        ("another character set", typed("text/csv; charset=utf-16"), 415, "unsupported-media-type"),
        ("below zero free", stock("sku,delta,reason\nlamp,-10,broken\n"), 422, "invalid-rows"),
        ("0 units", stock("sku,delta,reason\nlamp,0,broken\n"), 422, "invalid-rows"),
        ("no reason", stock("sku,delta,reason\nlamp,1,\n"), 422, "invalid-rows"),
        ("no such product", stock("sku,delta,reason\nyacht,1,found\n"), 422, "invalid-rows"),
        ("a product of another sale's stock", stock("sku,delta,reason\nrug,1,found\n"), 422, "invalid-rows"),
        ("a product twice", stock("sku,delta,reason\nlamp,1,a\nlamp,1,b\n"), 422, "invalid-rows"),
        ("a long import id", keyed("k".repeat(61)), 422, "invalid-field"),
        (
            "no import id",
            csv(shop.admin(Method::POST, &format!("/v1/sales/{SALE}/imports/stock")), "x"),
            400,
            "malformed",
        ),
        (
            "no such sale",
            csv(
                shop.admin(Method::POST, "/v1/sales/tuesday/imports/stock").header("Idempotency-Key", "k"),
                "sku,delta,reason\nlamp,1,x\n",
            ),
            404,
            "not-found",
        ),
        (
            "nobody",
            csv(shop.http.post(format!("http://{}/v1/sales/{SALE}/imports/catalogue", shop.handle.admin())), "x"),
            401,
            "unauthenticated",
        ),
        ("a shopper's token", by("shopper:anna", "x"), 403, "forbidden"),
        ("a viewer's token", by("viewer:v", "x"), 403, "forbidden"),
        ("an operator's token", by("operator:o", "x"), 403, "forbidden"),
        ("an old token", by("old:mia", "x"), 401, "unauthenticated"),
    ];
    let before = shop.store_text();
    let mut wrong = Vec::new();
    for (what, call, status, kind) in rows {
        let said = problem(call).await;
        if said != (status, kind.to_owned()) {
            wrong.push((what, said));
        }
    }
    assert_eq!(wrong, []);
    assert_eq!(shop.store_text(), before, "none of them changed anything");
    ok(catalogue(&shop, SALE, "", good)).await;
}

/// Ten million rows, made as they are sent: refused at the bound, long before they are all there, and held nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn ten_million_rows_are_refused_at_the_bound() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 9, 9)]).await;
    let stream = tokio::net::TcpStream::connect(shop.handle.admin()).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let head = format!(
        "POST /v1/sales/{SALE}/imports/catalogue HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer merchandiser:mia\r\n\
         Content-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let answer = tokio::spawn(async move {
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while let Ok(n) = from.read(&mut part).await {
            answer.extend_from_slice(&part[..n]);
            if n == 0 || answer.ends_with(b"}") {
                break;
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    });
    to.write_all(head.as_bytes()).await.unwrap();
    let (mut sent, mut line) = (0_u64, 0_u64);
    let mut rows = format!("{HEAD}\n");
    while line < 10_000_000 {
        for _ in 0..1_000 {
            line += 1;
            rows += &format!("p{line},Product,1,EUR,1,1\n");
        }
        let chunk = format!("{:x}\r\n{rows}\r\n", rows.len());
        rows.clear();
        if to.write_all(chunk.as_bytes()).await.is_err() || answer.is_finished() {
            break;
        }
        sent = line;
    }
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("/problems/too-many-rows"), "{answer}");
    assert!(sent < 1_000_000, "{sent} rows were taken");
    println!("refused after {sent} rows were sent");
    assert_eq!(shop.buy("anna", "lamp", "k", 1).send().await.unwrap().status(), 201, "the core is as well as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_product_is_restocked_and_reduced_by_a_file() {
    let mut shop = Shop::open().await;
    shop.sell(&[("lamp", 9, 9)]).await;
    shop.plan(&[("lamp", Tier::Redis)]).await;
    for n in 0..6 {
        shop.push(&[("lamp", if n % 2 == 0 { Tier::Db } else { Tier::Redis })]).await;
        let delta = if n % 2 == 0 { -4 } else { 4 };
        ok(stock(&shop, &format!("i-{n}"), "", format!("sku,delta,reason\nlamp,{delta},while it moves\n"))).await;
    }
    shop.sells_on("lamp", Tier::Redis).await;
    assert_eq!((shop.row("lamp").await.state.total, shop.row("lamp").await.state.sellable), (9, 9));
}
