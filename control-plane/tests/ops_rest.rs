//! The ops REST over real HTTP: every case of the row "Ops override" of the bad-input table, roles, versions.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use support::{House, SmallCore, product, start, until};
use types::{ManualClock, Tier};

async fn house(dir: &tempfile::TempDir) -> House {
    let clock = Arc::new(ManualClock::at(start().plus(Duration::from_secs(60))));
    let house = House::build(dir.path(), SmallCore::selling(vec![product("a"), product("b")]), clock).await;
    until("the core has a plan", || house.handle.is_ready()).await;
    house
}

async fn call(house: &House, method: Method, path: &str, token: &str, body: Option<&str>) -> Response {
    let mut request = reqwest::Client::new().request(method, house.url(path));
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_owned());
    }
    request.send().await.unwrap()
}

/// Status, problem type and field of a refusal.
async fn refusal(response: Response) -> (u16, String, Option<String>) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "status {status}");
    let body: Value = response.json().await.unwrap();
    let kind = body["type"].as_str().unwrap().trim_start_matches("/problems/").to_owned();
    (status, kind, body["field"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn every_bad_order_gets_its_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    let before = house.handle.plan().borrow().generation;
    let order =
        |tier: Value, ttl: Value, reason: Value| json!({"tier": tier, "ttl": ttl, "reason": reason}).to_string();
    let with_ttl = |ttl: Value| order(json!("redis"), ttl, json!("a test"));
    let with_reason = |reason: &str| order(json!("redis"), json!("1m"), json!(reason));
    let good = with_reason("a test");
    let too_long = "x".repeat(65);
    // Case, product, token, body, expected status with type and field.
    type Row<'a> = (&'a str, &'a str, &'a str, String, (u16, &'a str, Option<&'a str>));
    #[rustfmt::skip]
    let rows: Vec<Row<'_>> = vec![
        ("no TTL", "a", "operator-token", json!({"tier": "redis", "reason": "a test"}).to_string(), (422, "invalid-field", Some("ttl"))),
        ("TTL null", "a", "operator-token", with_ttl(json!(null)), (422, "invalid-field", Some("ttl"))),
        ("TTL 0", "a", "operator-token", with_ttl(json!(0)), (422, "invalid-field", Some("ttl"))),
        ("TTL -1", "a", "operator-token", with_ttl(json!(-1)), (422, "invalid-field", Some("ttl"))),
        ("TTL -1s", "a", "operator-token", with_ttl(json!("-1s")), (422, "invalid-field", Some("ttl"))),
        ("TTL 9 s", "a", "operator-token", with_ttl(json!("9s")), (422, "invalid-field", Some("ttl"))),
        ("TTL 1 year", "a", "operator-token", with_ttl(json!("365d")), (422, "invalid-field", Some("ttl"))),
        ("TTL a second too long", "a", "operator-token", with_ttl(json!(86_401)), (422, "invalid-field", Some("ttl"))),
        ("TTL overflowing", "a", "operator-token", with_ttl(json!("99999999999999999999d")), (422, "invalid-field", Some("ttl"))),
        ("TTL 1.5", "a", "operator-token", with_ttl(json!(60.5)), (422, "invalid-field", Some("ttl"))),
        ("TTL a list", "a", "operator-token", with_ttl(json!([60])), (422, "invalid-field", Some("ttl"))),
        ("unknown tier", "a", "operator-token", order(json!("kafka"), json!("1m"), json!("a test")), (422, "invalid-field", Some("tier"))),
        ("tier a number", "a", "operator-token", order(json!(1), json!("1m"), json!("a test")), (422, "invalid-field", Some("tier"))),
        ("no tier", "a", "operator-token", json!({"ttl": "1m", "reason": "a test"}).to_string(), (422, "invalid-field", Some("tier"))),
        ("empty reason", "a", "operator-token", with_reason(""), (422, "invalid-field", Some("reason"))),
        ("blank reason", "a", "operator-token", with_reason("      "), (422, "invalid-field", Some("reason"))),
        ("2 characters", "a", "operator-token", with_reason("ab"), (422, "invalid-field", Some("reason"))),
        ("501 characters", "a", "operator-token", with_reason(&"ä".repeat(501)), (422, "invalid-field", Some("reason"))),
        ("1 MiB reason", "a", "operator-token", with_reason(&"x".repeat(1 << 20)), (413, "body-too-large", None)),
        ("a forged log line", "a", "operator-token", with_reason("fine\nERROR all lost"), (422, "invalid-field", Some("reason"))),
        ("no reason", "a", "operator-token", json!({"tier": "redis", "ttl": "1m"}).to_string(), (422, "invalid-field", Some("reason"))),
        ("unknown field", "a", "operator-token", r#"{"tier":"redis","ttl":"1m","reason":"a test","actor":"eve"}"#.into(), (422, "invalid-field", Some("actor"))),
        ("a field twice", "a", "operator-token", r#"{"tier":"redis","tier":"db","ttl":"1m","reason":"a test"}"#.into(), (422, "invalid-field", Some("tier"))),
        ("not JSON", "a", "operator-token", "tier=redis".into(), (400, "malformed", None)),
        ("half a body", "a", "operator-token", r#"{"tier":"redis","#.into(), (400, "malformed", None)),
        ("bad UTF-8 is not JSON", "a", "operator-token", "\u{fffd}".into(), (400, "malformed", None)),
        ("a list", "a", "operator-token", "[]".into(), (400, "malformed", None)),
        ("deep nesting", "a", "operator-token", "[".repeat(10_000), (400, "malformed", None)),
        ("nothing", "a", "operator-token", String::new(), (400, "malformed", None)),
        ("unknown product", "zzz", "operator-token", good.clone(), (404, "not-found", None)),
        ("what is no SKU", "%00%ff", "operator-token", good.clone(), (400, "malformed", None)),
        ("a SKU too long", &too_long, "operator-token", good.clone(), (404, "not-found", None)),
        ("viewer's token", "a", "viewer-token", good.clone(), (403, "forbidden", None)),
        ("merchandiser's token", "a", "merchandiser-token", good.clone(), (403, "forbidden", None)),
        ("shopper's token", "a", "shopper-token", good.clone(), (403, "forbidden", None)),
        ("core's token", "a", "core-token", good.clone(), (403, "forbidden", None)),
        ("a viewer learns nothing of bodies", "a", "viewer-token", "nonsense".into(), (403, "forbidden", None)),
        ("no token", "a", "", good.clone(), (401, "unauthenticated", None)),
        ("an old token", "a", "old-token", good.clone(), (401, "unauthenticated", None)),
        ("a foreign token", "a", "whatever", good.clone(), (401, "unauthenticated", None)),
        ("what to wait for", "a?wait=forever", "operator-token", good.clone(), (422, "invalid-field", Some("wait"))),
        ("unknown parameter", "a?force=1", "operator-token", good.clone(), (422, "invalid-field", Some("force"))),
    ];
    for (case, product, token, body, (status, kind, field)) in rows {
        let answer = call(&house, Method::PUT, &format!("/v1/overrides/{product}"), token, Some(&body)).await;
        let expected = (status, kind.to_owned(), field.map(str::to_owned));
        assert_eq!(refusal(answer).await, expected, "{case}");
    }
    let no_type = reqwest::Client::new()
        .put(house.url("/v1/overrides/a"))
        .bearer_auth("operator-token")
        .body(good.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(refusal(no_type).await.0, 415);
    let post = call(&house, Method::POST, "/v1/overrides/a", "operator-token", Some(&good)).await;
    assert_eq!(refusal(post).await.0, 405);
    assert_eq!(house.handle.plan().borrow().generation, before, "nothing was changed by any of them");
    assert!(house.handle.plan().borrow().overrides.is_empty());
    house.stop().await;
}

#[tokio::test]
async fn the_bounds_themselves_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    for (ttl, seconds, reason) in [
        (json!("10s"), 10, "abc".to_owned()),
        (json!(86_400), 86_400, "ä".repeat(500)),
        (json!("24h"), 86_400, " trim me ".to_owned()),
    ] {
        let body = json!({"tier": "redis", "ttl": ttl, "reason": reason}).to_string();
        let answer = call(&house, Method::PUT, "/v1/overrides/a", "operator-token", Some(&body)).await;
        assert!(answer.status().is_success(), "{ttl}");
        let shown: Value = answer.json().await.unwrap();
        let until: types::Timestamp = shown["until"].as_str().unwrap().parse().unwrap();
        let at: types::Timestamp = shown["at"].as_str().unwrap().parse().unwrap();
        assert_eq!(until.since(at), Duration::from_secs(seconds));
        assert_eq!(shown["reason"], reason.trim());
    }
    house.stop().await;
}

#[tokio::test]
async fn nobody_overwrites_what_he_has_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    let body = |reason: &str| json!({"tier": "redis", "ttl": "5m", "reason": reason}).to_string();
    let put = async |headers: &[(&str, &str)], reason: &str| {
        let mut request = reqwest::Client::new()
            .put(house.url("/v1/overrides/a"))
            .bearer_auth("operator-token")
            .header("content-type", "application/json")
            .body(body(reason));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    };
    assert_eq!(refusal(put(&[("if-match", "*")], "none there").await).await.0, 409);
    assert_eq!(refusal(put(&[("if-match", "\"g1\"")], "none there").await).await.0, 409);
    let first = put(&[("if-none-match", "*")], "first").await;
    assert_eq!(first.status(), 201);
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(
        refusal(put(&[("if-none-match", "*")], "again").await).await,
        (409, "version-conflict".to_owned(), None)
    );
    let second = put(&[("if-match", &tag)], "second").await;
    assert_eq!(second.status(), 200);
    let newer = second.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(newer, tag);
    let stale = refusal(put(&[("if-match", &tag)], "stale").await).await;
    assert_eq!(stale, (409, "version-conflict".to_owned(), None));
    let weak = format!("W/{newer}");
    assert_eq!(refusal(put(&[("if-match", &weak)], "weak").await).await.0, 409, "a weak tag never matches");
    let list = format!("\"other\", {newer}");
    assert_eq!(put(&[("if-match", &list)], "one of these").await.status(), 200);
    for malformed in ["g1", "\"g1", "*, \"g1\""] {
        assert_eq!(refusal(put(&[("if-match", malformed)], "odd").await).await.0, 400, "{malformed}");
    }
    assert_eq!(refusal(put(&[("if-match", "*"), ("if-none-match", "*")], "both").await).await.0, 400);

    let http = reqwest::Client::new();
    let get = http.get(house.url("/v1/overrides/a")).bearer_auth("viewer-token").send().await.unwrap();
    let tag = get.headers()["etag"].to_str().unwrap().to_owned();
    let known = http.get(house.url("/v1/overrides/a")).bearer_auth("viewer-token").header("if-none-match", &tag);
    assert_eq!(known.send().await.unwrap().status(), 304);

    let remove = |tag: String| {
        http.delete(house.url("/v1/overrides/a")).bearer_auth("operator-token").header("if-match", tag).send()
    };
    assert_eq!(refusal(remove("\"g1\"".into()).await.unwrap()).await.0, 409);
    assert_eq!(remove(tag).await.unwrap().status(), 200);
    until("back on heat's tier", || house.core.lock().tier("a") == Tier::Db).await;
    let gone = call(&house, Method::DELETE, "/v1/overrides/a", "operator-token", None).await;
    assert_eq!(refusal(gone).await, (404, "not-found".to_owned(), None));
    house.stop().await;
}

#[tokio::test]
async fn reads_are_for_viewers_and_above_and_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    let reads = [
        "/v1/overrides",
        "/v1/plan",
        "/v1/plan?product=a",
        "/v1/plan/generations",
        "/v1/why/a",
        "/v1/cores",
        "/v1/leader",
        "/v1/audit",
        "/v1/policy",
        "/v1/policy/versions",
        "/v1/freeze",
        "/v1/pauses",
    ];
    for path in reads {
        for token in ["viewer-token", "merchandiser-token", "operator-token", "admin-token"] {
            assert_eq!(call(&house, Method::GET, path, token, None).await.status(), 200, "{path} {token}");
        }
        for token in ["shopper-token", "core-token", "edge-token", "control-token"] {
            assert_eq!(refusal(call(&house, Method::GET, path, token, None).await).await.0, 403, "{path} {token}");
        }
        assert_eq!(refusal(call(&house, Method::GET, path, "", None).await).await.0, 401, "{path}");
    }
    let reason = json!({"reason": "a test"}).to_string();
    let orders = [
        (Method::DELETE, "/v1/overrides/a", None),
        (Method::POST, "/v1/overrides:batch", Some("nonsense")),
        (Method::PUT, "/v1/policy", Some("nonsense")),
        (Method::PUT, "/v1/freeze", Some(reason.as_str())),
        (Method::DELETE, "/v1/freeze", None),
        (Method::PUT, "/v1/sales/autumn/pause", Some(reason.as_str())),
        (Method::DELETE, "/v1/sales/autumn/pause", None),
        (Method::PUT, "/v1/products/a/pause", Some(reason.as_str())),
        (Method::DELETE, "/v1/products/a/pause", None),
    ];
    for (method, path, body) in orders {
        for token in
            ["viewer-token", "merchandiser-token", "shopper-token", "core-token", "edge-token", "control-token"]
        {
            let answer = call(&house, method.clone(), path, token, body).await;
            assert_eq!(refusal(answer).await.0, 403, "{method} {path} {token}");
        }
        assert_eq!(refusal(call(&house, method.clone(), path, "", body).await).await.0, 401, "{method} {path}");
    }
    assert_eq!(call(&house, Method::GET, "/openapi.json", "", None).await.status(), 200);
    for (token, status) in [("shopper-token", 403), ("", 401)] {
        assert_eq!(refusal(call(&house, Method::GET, "/v1/events", token, None).await).await.0, status);
    }
    assert_eq!(call(&house, Method::GET, "/healthz", "", None).await.status(), 200, "what was given as extra is open");
    house.stop().await;
}

#[tokio::test]
async fn what_is_read_is_whole_and_pages_on() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    let get = async |path: &str| -> Value {
        call(&house, Method::GET, path, "viewer-token", None).await.json().await.unwrap()
    };
    let first = get("/v1/plan?limit=1").await;
    assert_eq!(first["products"][0]["product"], "a");
    assert_eq!(first["next"], "a");
    let second = get("/v1/plan?limit=1&after=a").await;
    assert_eq!((&second["products"][0]["product"], second.get("next")), (&json!("b"), None));
    assert_eq!(second["products"][0]["reason"], "cold");
    assert_eq!(second["products"][0]["evidence"]["sellable"], 100);

    let cores = get("/v1/cores").await;
    let core = &cores["cores"][0];
    assert_eq!(core["core"], "core-1");
    assert_eq!(core["fresh"], true);
    assert_eq!(core["acknowledged"], cores["generation"]);
    assert_eq!(core["trouble"], Value::Null);

    let rows = get("/v1/audit?limit=1").await;
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1);
    assert_eq!(rows["next"], 1);
    let all = get("/v1/audit?since=0").await;
    let last = all["next"].as_u64().unwrap();
    assert!(last > 1 && all["rows"].as_array().unwrap().len() as u64 == last, "{all}");
    assert_eq!(get(&format!("/v1/audit?since={last}")).await["next"], Value::Null);
    assert_eq!(get("/v1/audit?since=2999-01-01T00:00:00Z").await["rows"], json!([]));

    for (path, field) in [
        ("/v1/plan?product=zzz", None),
        ("/v1/plan?limit=0", Some("limit")),
        ("/v1/plan?limit=1000000", Some("limit")),
        ("/v1/plan?after=%20", Some("after")),
        ("/v1/plan?limit=1&limit=2", Some("limit")),
        ("/v1/audit?since=yesterday", Some("since")),
        ("/v1/audit?since=%zz", Some("since")),
        ("/v1/audit?until=1", Some("until")),
    ] {
        let (status, _, at) = refusal(call(&house, Method::GET, path, "viewer-token", None).await).await;
        assert_eq!((status, at.as_deref()), (if field.is_some() { 422 } else { 404 }, field), "{path}");
    }
    house.stop().await;
}

#[tokio::test]
async fn a_wait_that_nothing_ends_is_bounded_and_honest() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    // The core takes the plan but its product never leaves `draining`.
    house.core.lock().state.products[0].phase = types::Phase::Draining;
    let body = json!({"tier": "queue", "ttl": "1m", "reason": "a slow move"}).to_string();
    let answer = call(&house, Method::PUT, "/v1/overrides/a?wait=applied", "operator-token", Some(&body)).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.json::<Value>().await.unwrap()["applied"], false);
    house.stop().await;
}

#[tokio::test]
async fn a_batch_is_done_wholly_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    let one = |product: &str, tier: &str, ttl: Value| json!({"product": product, "tier": tier, "ttl": ttl, "reason": "a batch"});
    let batch = |orders: Vec<Value>| json!({"overrides": orders}).to_string();
    let many = |n: usize| (0..n).map(|i| one(&format!("p{i}"), "redis", json!("1m"))).collect::<Vec<_>>();
    let good = one("a", "redis", json!("1m"));
    #[rustfmt::skip]
    let rows = [
        ("1,001 of them", batch(many(1_001)), 422, Some("overrides")),
        ("none", batch(vec![]), 422, Some("overrides")),
        ("no list", json!({}).to_string(), 422, Some("overrides")),
        ("a text for a list", json!({"overrides": "all"}).to_string(), 400, None),
        ("an unknown field beside it", json!({"overrides": [good], "force": true}).to_string(), 422, Some("force")),
        ("the second has no TTL", batch(vec![good.clone(), json!({"product": "b", "tier": "db", "reason": "a batch"})]), 422, Some("overrides[1].ttl")),
        ("the second's TTL is a year", batch(vec![good.clone(), one("b", "db", json!("365d"))]), 422, Some("overrides[1].ttl")),
        ("the second's tier is unknown", batch(vec![good.clone(), one("b", "gold", json!("1m"))]), 422, Some("overrides[1].tier")),
        ("no product", batch(vec![json!({"tier": "db", "ttl": "1m", "reason": "a batch"})]), 422, Some("overrides[0].product")),
        ("what is no SKU", batch(vec![one("a b", "db", json!("1m"))]), 422, Some("overrides[0].product")),
        ("one product twice", batch(vec![good.clone(), good.clone()]), 422, Some("overrides[1].product")),
        ("the second is unknown", batch(vec![good.clone(), one("zzz", "db", json!("1m"))]), 404, None),
        ("a thousand unknown ones", batch(many(1_000)), 404, None),
    ];
    for (case, body, status, field) in rows {
        let answer = call(&house, Method::POST, "/v1/overrides:batch", "operator-token", Some(&body)).await;
        let (found, _, at) = refusal(answer).await;
        assert_eq!((found, at.as_deref()), (status, field), "{case}");
        assert!(house.handle.plan().borrow().overrides.is_empty(), "{case}: nothing was done");
    }
    let both = batch(vec![one("a", "redis", json!("1m")), one("b", "queue", json!(60))]);
    let answer = call(&house, Method::POST, "/v1/overrides:batch?wait=applied", "operator-token", Some(&both)).await;
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    let told = body["overrides"].as_array().unwrap();
    assert!(told.iter().all(|o| o["applied"] == true && o["generation"] == body["generation"]), "{body}");
    let tiers = {
        let core = house.core.lock();
        (core.tier("a"), core.tier("b"))
    };
    assert_eq!(tiers, (Tier::Redis, Tier::Queue));
    house.stop().await;
}

#[tokio::test]
async fn a_pause_reaches_the_core_at_once_and_ends_when_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    let reason = json!({"reason": "a price is wrong"}).to_string();
    for (path, status) in
        [("/v1/sales/winter/pause", 404), ("/v1/products/zzz/pause", 404), ("/v1/sales/a%20b/pause", 404)]
    {
        assert_eq!(refusal(call(&house, Method::PUT, path, "operator-token", Some(&reason)).await).await.0, status);
    }
    let empty = json!({"reason": ""}).to_string();
    let bad = call(&house, Method::PUT, "/v1/sales/autumn/pause", "operator-token", Some(&empty)).await;
    assert_eq!(refusal(bad).await, (422, "invalid-field".into(), Some("reason".into())));

    for path in ["/v1/sales/autumn/pause", "/v1/products/b/pause"] {
        let paused = call(&house, Method::PUT, &format!("{path}?wait=applied"), "operator-token", Some(&reason)).await;
        let body: Value = paused.json().await.unwrap();
        assert_eq!((&body["paused"], &body["applied"]), (&json!(true), &json!(true)), "{body}");
    }
    let told = house.core.lock().pauses.clone();
    assert_eq!((told.sales.len(), told.products.len()), (1, 1));
    let generation = house.handle.plan().borrow().generation;
    assert_eq!(call(&house, Method::PUT, "/v1/products/b/pause", "operator-token", Some(&reason)).await.status(), 200);
    assert_eq!(house.handle.plan().borrow().generation, generation, "said twice is done once");
    let shown: Value = call(&house, Method::GET, "/v1/pauses", "viewer-token", None).await.json().await.unwrap();
    assert_eq!(shown["paused"][0]["why"], "a price is wrong");
    let plan: Value = call(&house, Method::GET, "/v1/plan", "viewer-token", None).await.json().await.unwrap();
    assert!(plan["products"].as_array().unwrap().iter().all(|p| p["paused"] == true), "{plan}");

    let path = "/v1/sales/autumn/pause?wait=applied&reason=the+price+is+right";
    let resumed: Value = call(&house, Method::DELETE, path, "operator-token", None).await.json().await.unwrap();
    assert_eq!((&resumed["paused"], &resumed["applied"]), (&json!(false), &json!(true)));
    let told = house.core.lock().pauses.clone();
    assert_eq!((told.sales.len(), told.products.len()), (0, 1), "the product's own pause stays");
    let audit: Value = call(&house, Method::GET, "/v1/audit", "viewer-token", None).await.json().await.unwrap();
    let resumed = audit["rows"].as_array().unwrap().iter().find(|row| row["action"] == "resumed").unwrap();
    assert_eq!(resumed["why"], "the price is right");
    house.stop().await;
}

#[tokio::test]
async fn a_frozen_plan_moves_nothing_by_itself_and_obeys_operators() {
    let dir = tempfile::tempdir().unwrap();
    let mut house = house(&dir).await;
    let reason = json!({"reason": "a release is under way"}).to_string();
    assert_eq!(call(&house, Method::PUT, "/v1/freeze", "operator-token", Some(&reason)).await.status(), 200);
    for _ in 0..20 {
        house.report(vec![support::entry("a", 900, 2_000, 50.0)]).await;
        house.clock.advance(Duration::from_millis(250));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let held = || {
        house
            .handle
            .plan()
            .borrow()
            .decisions
            .iter()
            .any(|(s, d)| s.as_str() == "a" && d.reason.as_str() == "BudgetHeld")
    };
    until("the move is held", held).await;
    assert_eq!(house.core.lock().tier("a"), Tier::Db);
    let order = json!({"tier": "redis", "ttl": "1m", "reason": "by hand"}).to_string();
    let put = call(&house, Method::PUT, "/v1/overrides/b?wait=applied", "operator-token", Some(&order)).await;
    assert_eq!(put.json::<Value>().await.unwrap()["applied"], true);
    assert_eq!(call(&house, Method::DELETE, "/v1/freeze", "operator-token", None).await.status(), 200);
    until("the move is made", || house.core.lock().tier("a") == Tier::Queue).await;
    let why: Value = call(&house, Method::GET, "/v1/why/a", "viewer-token", None).await.json().await.unwrap();
    let told: Vec<_> = why["decisions"].as_array().unwrap().iter().map(|d| d["reason"].as_str().unwrap()).collect();
    assert_eq!((told.first(), told.last()), (Some(&"cold"), Some(&"hot")), "{told:?}");
    assert!(told.contains(&"budget_held"), "{told:?}");
    let last = why["decisions"].as_array().unwrap().last().unwrap();
    assert_eq!(last["evidence"]["count5"], 900);
    assert!(last["because"].as_str().unwrap().contains("900 weighted events in 5 s, hot from 100"), "{last}");
    house.stop().await;
}

#[tokio::test]
async fn a_policy_is_tried_before_it_is_set_and_every_number_of_it_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut house = house(&dir).await;
    let got = call(&house, Method::GET, "/v1/policy", "viewer-token", None).await;
    let tag = got.headers()["etag"].to_str().unwrap().to_owned();
    let body: Value = got.json().await.unwrap();
    let policy = body["policy"].clone();
    let with = |name: &str, value: Value| {
        let mut changed = policy.clone();
        match value {
            Value::Null => drop(changed.as_object_mut().unwrap().remove(name)),
            value => changed[name] = value,
        }
        json!({"policy": changed, "reason": "calmer"}).to_string()
    };
    for (body, field) in [
        (with("dwell", json!("0s")), "policy.dwell"),
        (with("dwell", json!(10)), "policy.dwell"),
        (with("demote_ratio", json!(1.5)), "policy.demote_ratio"),
        (with("dwel", json!("10s")), "policy.dwel"),
        (with("dwell", Value::Null), "policy.dwell"),
        (json!({"policy": policy}).to_string(), "reason"),
        (json!({"policy": 7, "reason": "calmer"}).to_string(), "policy"),
    ] {
        let answer = call(&house, Method::PUT, "/v1/policy", "operator-token", Some(&body)).await;
        assert_eq!(refusal(answer).await, (422, "invalid-field".into(), Some(field.into())), "{field}");
    }
    // A page that is warm by one report only: the policy in force waits for a second one.
    house.report(vec![support::entry("a", 30, 200, 0.0)]).await;
    until("the report is seen", || house.handle.plan().borrow().decisions.iter().any(|(_, d)| d.evidence.count5 == 30))
        .await;
    let eager = with("promote_ticks", json!(1));
    let tried = call(&house, Method::PUT, "/v1/policy?dry_run=true", "operator-token", Some(&eager)).await;
    let tried: Value = tried.json().await.unwrap();
    assert_eq!(tried["differs"], json!([{"field": "promote_ticks", "from": 2, "to": 1}]));
    assert_eq!(tried["would_move"], json!([{"product": "a", "from": "db", "to": "redis", "reason": "warm"}]));
    assert_eq!(house.core.lock().tier("a"), Tier::Db, "nothing was changed");

    let put = |tag: &str| {
        reqwest::Client::new()
            .put(house.url("/v1/policy"))
            .bearer_auth("operator-token")
            .header("content-type", "application/json")
            .header("if-match", tag)
            .body(eager.clone())
            .send()
    };
    assert_eq!(refusal(put("\"p999\"").await.unwrap()).await, (409, "version-conflict".into(), None));
    let set = put(&tag).await.unwrap();
    assert_eq!(set.status(), 200);
    assert_ne!(set.headers()["etag"].to_str().unwrap(), tag);
    assert_eq!(refusal(put(&tag).await.unwrap()).await.0, 409, "somebody was faster: we were");
    until("it holds", || house.core.lock().tier("a") == Tier::Redis).await;
    let versions: Value =
        call(&house, Method::GET, "/v1/policy/versions", "viewer-token", None).await.json().await.unwrap();
    assert_eq!(versions["versions"][0]["by"], "ada-the-operator");
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    house.stop().await;
}

#[tokio::test]
async fn what_changes_is_told_as_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(&dir).await;
    let request = reqwest::Client::new().get(house.url("/v1/events")).bearer_auth("viewer-token");
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let order = json!({"tier": "queue", "ttl": "1m", "reason": "watched"}).to_string();
    assert_eq!(call(&house, Method::PUT, "/v1/overrides/a", "operator-token", Some(&order)).await.status(), 201);
    while !(text.contains("event: move") && text.contains("\"overrides\":1")) {
        let more = tokio::time::timeout(Duration::from_secs(30), stream.chunk()).await.expect("within 30 s").unwrap();
        text.push_str(std::str::from_utf8(&more.expect("the stream has no end")).unwrap());
    }
    assert!(text.starts_with("event: plan"), "first the plan as it is: {text}");
    // The stream ends with the service, and does not hold it up.
    house.stop().await;
    while let Ok(Some(_)) = stream.chunk().await {}
}
