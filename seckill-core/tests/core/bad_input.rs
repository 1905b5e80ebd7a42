//! The REST row of the bad-input table: each case has one expected answer, never a 5xx, and sells nothing.

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::shop::{SALE, Shop, problem};

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_purchase_has_its_answer() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 9, 9)]).await;
    let path = format!("/v1/sales/{SALE}/products/lamp/purchases");
    let bare = || shop.public(Method::POST, &path);
    let call = || bare().bearer_auth("shopper:anna").header("Idempotency-Key", "k");
    let raw = |text: &str| call().header("content-type", "application/json").body(text.to_owned());
    let to = |path: &str| {
        let call = shop.public(Method::POST, path).bearer_auth("shopper:anna").header("Idempotency-Key", "k");
        call.json(&json!({"quantity": 1}))
    };
    let one = json!({"quantity": 1});
    let long_key = "k".repeat(129);
    let rows: Vec<(&str, RequestBuilder, u16, &str)> = vec![
        ("unknown field", raw(r#"{"quantity": 1, "colour": "red"}"#), 422, "invalid-field"),
        ("buyer in the body", raw(r#"{"quantity": 1, "buyer": "ben"}"#), 422, "invalid-field"),
        ("price in the body", raw(r#"{"quantity": 1, "price": 1}"#), 422, "invalid-field"),
        ("a token of nobody", raw(r#"{"quantity": 1, "token": "x"}"#), 422, "token-invalid"),
        ("a token that is a number", raw(r#"{"quantity": 1, "token": 7}"#), 422, "invalid-field"),
        ("missing field", raw("{}"), 422, "invalid-field"),
        ("repeated field", raw(r#"{"quantity": 1, "quantity": 2}"#), 422, "invalid-field"),
        ("wrong type", raw(r#"{"quantity": "1"}"#), 422, "invalid-field"),
        ("an array", raw("[1]"), 422, "invalid-field"),
        ("null", raw("null"), 422, "invalid-field"),
        ("quantity 0", raw(r#"{"quantity": 0}"#), 422, "invalid-field"),
        ("quantity -1", raw(r#"{"quantity": -1}"#), 422, "invalid-field"),
        ("quantity 2^31", raw(r#"{"quantity": 2147483648}"#), 422, "invalid-field"),
        ("quantity 1e9", raw(r#"{"quantity": 1e9}"#), 422, "invalid-field"),
        ("quantity 1.5", raw(r#"{"quantity": 1.5}"#), 422, "invalid-field"),
        ("quantity 2^64", raw(r#"{"quantity": 18446744073709551616}"#), 422, "invalid-field"),
        ("quantity NaN", raw(r#"{"quantity": NaN}"#), 400, "malformed"),
        ("truncated", raw(r#"{"quantity": 1"#), 400, "malformed"),
        ("empty", raw(""), 400, "malformed"),
        ("two values", raw(r#"{"quantity": 1}{}"#), 400, "malformed"),
        ("deep nesting", raw(&"[".repeat(10_000)), 422, "invalid-field"),
        (
            "bad UTF-8",
            call().header("content-type", "application/json").body(b"{\"quantity\": 1, \"\xff\": 1}".to_vec()),
            400,
            "malformed",
        ),
        ("over the limit", raw(&" ".repeat(20_000)), 413, "body-too-large"),
        ("no content type", call().body(r#"{"quantity": 1}"#), 415, "unsupported-media-type"),
        (
            "a form",
            call().header("content-type", "application/x-www-form-urlencoded").body("quantity=1"),
            415,
            "unsupported-media-type",
        ),
        ("no key", bare().bearer_auth("shopper:anna").json(&one), 400, "malformed"),
        ("an empty key", bare().bearer_auth("shopper:anna").header("Idempotency-Key", "").json(&one), 400, "malformed"),
        (
            "a long key",
            bare().bearer_auth("shopper:anna").header("Idempotency-Key", long_key).json(&one),
            400,
            "malformed",
        ),
        ("two keys", call().header("Idempotency-Key", "k2").json(&one), 400, "malformed"),
        (
            "a key with a space",
            bare().bearer_auth("shopper:anna").header("Idempotency-Key", "a b").json(&one),
            400,
            "malformed",
        ),
        (
            "a key of raw bytes",
            bare().bearer_auth("shopper:anna").header("Idempotency-Key", &b"\xff\xfe"[..]).json(&one),
            400,
            "malformed",
        ),
        ("no token", bare().header("Idempotency-Key", "k").json(&one), 401, "unauthenticated"),
        ("nonsense token", bare().bearer_auth("x").header("Idempotency-Key", "k").json(&one), 401, "unauthenticated"),
        ("old token", bare().bearer_auth("old:anna").header("Idempotency-Key", "k").json(&one), 401, "unauthenticated"),
        (
            "basic credentials",
            bare().basic_auth("anna", Some("x")).header("Idempotency-Key", "k").json(&one),
            401,
            "unauthenticated",
        ),
        ("two tokens", call().header("Authorization", "Bearer shopper:ben").json(&one), 401, "unauthenticated"),
        ("an operator", bare().bearer_auth("operator:o").header("Idempotency-Key", "k").json(&one), 403, "forbidden"),
        ("unknown product", to(&format!("/v1/sales/{SALE}/products/yacht/purchases")), 404, "not-found"),
        ("unknown sale", to("/v1/sales/monday/products/lamp/purchases"), 404, "not-found"),
        ("a bad name", to(&format!("/v1/sales/{SALE}/products/a%20b/purchases")), 404, "not-found"),
        ("a name in bad UTF-8", to(&format!("/v1/sales/{SALE}/products/%ff/purchases")), 404, "not-found"),
        ("a long name", to(&format!("/v1/sales/{SALE}/products/{}/purchases", "x".repeat(500))), 404, "not-found"),
        ("no such route", shop.get("anna", "/v1/nothing"), 404, "not-found"),
        ("another method", shop.get("anna", &path), 405, "method-not-allowed"),
        ("a foreign order", shop.get("anna", &format!("/v1/orders/{}", "0".repeat(32))), 404, "not-found"),
        ("a bad order id", shop.get("anna", "/v1/orders/1"), 404, "not-found"),
        ("cancel of a bad order id", shop.post("anna", "/v1/orders/../cancel"), 404, "not-found"),
        ("pay for a foreign order", shop.post("anna", &format!("/v1/orders/{}/pay", "0".repeat(32))), 404, "not-found"),
        ("a ticket of another form", shop.get("anna", &format!("/v1/tickets/{}", "A".repeat(4000))), 404, "not-found"),
        ("orders of nobody", shop.public(Method::GET, "/v1/orders"), 401, "unauthenticated"),
    ];
    let mut wrong = Vec::new();
    for (what, call, status, kind) in rows {
        let said = problem(call).await;
        if said != (status, kind.to_owned()) {
            wrong.push((what, said));
        }
    }
    assert_eq!(wrong, []);
    let row = shop.row("lamp").await;
    assert_eq!((row.free, row.state.reserved), (9, 0), "nothing was sold by any of them");
    // The core is as well as before.
    assert_eq!(call().json(&one).send().await.unwrap().status(), 201);
}

/// Sends bytes as they are and reads until the core ends the connection: the statuses of its answers.
async fn raw(shop: &Shop, bytes: &[u8]) -> Vec<u16> {
    let mut stream = tokio::net::TcpStream::connect(shop.handle.public()).await.unwrap();
    // Refused before all of it was sent: what was answered still counts.
    let _refused_early = stream.write_all(bytes).await;
    statuses(&mut stream).await
}

async fn statuses(stream: &mut tokio::net::TcpStream) -> Vec<u16> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(std::time::Duration::from_secs(120), stream.read_to_end(&mut answer)).await;
    // A reset after the answer is an end too; none at all is a hang.
    let _reset = read.expect("the core ends the connection");
    let text = String::from_utf8_lossy(&answer);
    text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_client_library_sends_has_its_answer_and_smuggles_nothing() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 9, 9)]).await;
    let many: String = (0..10_000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = "x".repeat(200_000);
    let get = "GET /v1/sales HTTP/1.1\r\nHost: a\r\n";
    let buy = format!(
        "POST /v1/sales/{SALE}/products/lamp/purchases HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer shopper:eve\r\n\
         Idempotency-Key: smuggled\r\nContent-Type: application/json\r\n"
    );
    let order = r#"{"quantity": 1}"#;
    let smuggled = format!("{buy}Content-Length: {}\r\nConnection: close\r\n\r\n{order}", order.len());
    let nobody = format!("POST /v1/sales/{SALE}/products/lamp/purchases HTTP/1.1\r\nHost: a\r\n");
    let rows: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("10,000 headers", format!("{get}{many}\r\n").into(), &[431]),
        ("a header of 200 KB", format!("{get}x: {long}\r\n\r\n").into(), &[431]),
        ("an address of 200 KB", format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").into(), &[431]),
        ("two lengths", format!("{nobody}Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345").into(), &[400]),
        ("a negative length", format!("{nobody}Content-Length: -1\r\n\r\n").into(), &[400]),
        ("a length of 2^64", format!("{nobody}Content-Length: 18446744073709551616\r\n\r\n").into(), &[400]),
        ("a length with a plus", format!("{nobody}Content-Length: +5\r\n\r\n12345").into(), &[400]),
        ("a bad chunk", format!("{nobody}Transfer-Encoding: chunked\r\n\r\nzz\r\n").into(), &[401]),
        ("an unknown coding", format!("{nobody}Transfer-Encoding: gzip\r\n\r\n{smuggled}").into(), &[400]),
        ("chunked not last", format!("{nobody}Transfer-Encoding: chunked, gzip\r\n\r\n{smuggled}").into(), &[400]),
        (
            "chunks in HTTP/1.0",
            format!("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}").into(),
            &[400],
        ),
        // The chunks rule, the connection ends after them, and what a proxy that goes by the length would have taken
        // for a second call is never looked at.
        (
            "length, then chunks",
            format!("{get}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}").into(),
            &[200],
        ),
        (
            "chunks, then length",
            format!("{get}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{smuggled}").into(),
            &[200],
        ),
        ("a space before the colon", format!("{nobody}Content-Length : 5\r\n\r\n12345").into(), &[400]),
        ("a folded header", format!("{get}x: 1\r\n Content-Length: 5\r\n\r\n").into(), &[400]),
        ("a bare line feed in a value", format!("{get}x: 1\rContent-Length: 5\r\n\r\n").into(), &[400]),
        ("NUL in a header", format!("{get}x: \u{0}\r\n\r\n").into(), &[400]),
        ("no HTTP", b"\x00\x01\x02\r\n\r\n".to_vec(), &[400]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400]),
        // Whoever speaks this would not understand an answer in HTTP/1.1.
        ("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[]),
        ("another version", b"GET /v1/sales HTTP/3.7\r\nHost: a\r\n\r\n".to_vec(), &[400]),
        ("pipelining", format!("{}{get}Connection: close\r\n\r\n", format!("{get}\r\n").repeat(50)).into(), &[200; 51]),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, expected) in rows {
        let said = raw(&shop, &bytes).await;
        if said != expected {
            wrong.push((what, said));
        }
    }
    assert_eq!(wrong, []);
    assert_eq!(shop.row("lamp").await.state.reserved, 0, "nothing was smuggled");
    assert_eq!(raw(&shop, smuggled.as_bytes()).await, [201], "and sent alone it would have bought");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_loses_his_connection() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 9, 9)]).await;
    /// One byte a second, for ever: every one is in time by itself.
    async fn trickle(shop: &Shop, head: String, byte: &[u8]) -> Vec<u16> {
        let mut stream = tokio::net::TcpStream::connect(shop.handle.public()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        let reading = read.read_to_end(&mut answer);
        let writing = async {
            while write.write_all(byte).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        let end = async {
            tokio::select! { read = reading => drop(read), () = writing => {} }
        };
        tokio::time::timeout(std::time::Duration::from_secs(120), end).await.expect("the core ends the connection");
        let text = String::from_utf8_lossy(&answer);
        text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
    }
    let buy = format!(
        "POST /v1/sales/{SALE}/products/lamp/purchases HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer shopper:anna\r\n\
         Idempotency-Key: k\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    );
    let (slow_body, slow_head, silent) = tokio::join!(
        trickle(&shop, buy, b" "),
        trickle(&shop, "GET /v1/sales HTTP/1.1\r\nHost: a\r\n".to_owned(), b"x: 1\r\n"),
        async {
            let mut stream = tokio::net::TcpStream::connect(shop.handle.public()).await.unwrap();
            statuses(&mut stream).await
        },
    );
    assert_eq!(slow_body, [408], "slow body");
    // Half a head is no request: there is nothing to answer.
    assert_eq!((slow_head, silent), (vec![], vec![]), "slow headers; a connection that says nothing");
    assert_eq!(shop.row("lamp").await.state.reserved, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sales_are_refused_and_roles_kept_apart() {
    let shop = Shop::open().await;
    let good = shop.sale(&[("lamp", 5, 1)]);
    let put = |body: &serde_json::Value| shop.admin(Method::PUT, &format!("/v1/sales/{SALE}")).json(body);
    let but = |field: &str, value: serde_json::Value| {
        let mut sale = good.clone();
        sale[field] = value;
        sale
    };
    let product = |field: &str, value: serde_json::Value| {
        let mut sale = good.clone();
        sale["product"][0][field] = value;
        sale
    };
    let rows = [
        ("another name", but("name", "monday".into())),
        ("ends before it starts", but("closes", "2001-01-01T00:00:00".into())),
        ("no such zone", but("zone", "Mars/Base".into())),
        ("a clock change's gap", {
            let mut sale = but("zone", "Europe/Berlin".into());
            sale["opens"] = "2027-03-28T02:30:00".into();
            sale["closes"] = "2027-03-30T02:30:00".into();
            sale
        }),
        ("price 0", product("price", 0.into())),
        ("price negative", product("price", (-5).into())),
        ("unknown field", but("discount", 5.into())),
        ("no product", but("product", json!([]))),
        ("the same product twice", but("product", json!([good["product"][0], good["product"][0]]))),
        ("limit 0", product("limit", 0.into())),
        ("an unknown tier", product("initial_tier", "gold".into())),
    ];
    for (what, sale) in rows {
        assert_eq!(problem(put(&sale)).await, (422, "invalid-field".into()), "{what}");
    }
    let text = shop.admin(Method::PUT, &format!("/v1/sales/{SALE}")).body("{}");
    assert_eq!(problem(text).await, (415, "unsupported-media-type".into()));
    for who in ["shopper:a", "viewer:a", "operator:a", "core:a", "control:a"] {
        let url = format!("http://{}/v1/sales/{SALE}", shop.handle.admin());
        assert_eq!(problem(shop.http.put(url).bearer_auth(who).json(&good)).await, (403, "forbidden".into()), "{who}");
    }
    assert!(shop.handle.products().is_empty(), "nothing was created");
    assert_eq!(put(&good).send().await.unwrap().status(), 201);
    assert_eq!(put(&good).send().await.unwrap().status(), 200);
    // The same SKU in another open sale.
    let mut other = good.clone();
    other["name"] = "monday".into();
    assert_eq!(problem(shop.admin(Method::PUT, "/v1/sales/monday").json(&other)).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_cacheable_and_say_when_nothing_changed() {
    let shop = Shop::open().await;
    shop.sell(&[("lamp", 5, 1)]).await;
    for path in ["/v1/sales", &format!("/v1/sales/{SALE}"), "/v1/products/lamp", "/v1/products/lamp/availability"] {
        let answer = shop.public(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.headers()["cache-control"].to_str().unwrap().starts_with("public, max-age="));
        let tag = answer.headers()["etag"].clone();
        let again = shop.public(Method::GET, path).header("If-None-Match", tag).send().await.unwrap();
        assert_eq!(again.status(), 304, "{path}");
    }
    let live: serde_json::Value =
        shop.public(Method::GET, "/v1/products/lamp/availability").send().await.unwrap().json().await.unwrap();
    assert_eq!(live, json!({"product": "lamp", "state": "available", "sellable": 5}));
}
