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
    let reads = ["/v1/overrides", "/v1/plan", "/v1/plan?product=a", "/v1/cores", "/v1/audit"];
    for path in reads {
        for token in ["viewer-token", "merchandiser-token", "operator-token", "admin-token"] {
            assert_eq!(call(&house, Method::GET, path, token, None).await.status(), 200, "{path} {token}");
        }
        for token in ["shopper-token", "core-token", "edge-token", "control-token"] {
            assert_eq!(refusal(call(&house, Method::GET, path, token, None).await).await.0, 403, "{path} {token}");
        }
        assert_eq!(refusal(call(&house, Method::GET, path, "", None).await).await.0, 401, "{path}");
    }
    let remove = call(&house, Method::DELETE, "/v1/overrides/a", "viewer-token", None).await;
    assert_eq!(refusal(remove).await.0, 403);
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
    let next = rows["next"].as_u64().unwrap();
    assert_eq!(get(&format!("/v1/audit?since={next}")).await["next"], Value::Null);
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
