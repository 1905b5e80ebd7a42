//! Each way to be refused, with the error that Druid's clients understand; and what a query that ran
//! away leaves behind: nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use analyzer::sql::router;
use analyzer::tables::HeatRow;
use axum::Router;
use axum::http::StatusCode;
use insta::assert_snapshot;
use serde_json::json;
use types::{EventKind, Timestamp};

use crate::{Answer, Fake, ask, limited, options, rows, send, small};

async fn sql(router: &Router, query: &str) -> Answer {
    ask(router, json!({ "query": query })).await
}

fn is(answer: &Answer, status: u16, error: &str, category: &str, says: &str) {
    let body = answer.json();
    assert_eq!(answer.status.as_u16(), status, "{body}");
    assert_eq!((&body["error"], &body["category"]), (&json!(error), &json!(category)), "{body}");
    assert!(body["errorMessage"].as_str().unwrap().contains(says), "{body}");
    for field in ["errorCode", "persona", "errorClass", "host", "context"] {
        assert!(!body[field].is_null(), "{field} is missing: {body}");
    }
    assert!(answer.header("x-druid-sql-query-id").is_some());
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// So many rows that a join of them never ends.
fn many(rows: i64) -> Fake {
    let row = |i: i64| HeatRow {
        time: Timestamp::from_seconds(i),
        page: format!("{i}").into(),
        kind: EventKind::View,
        events: 1,
        weighted: 1,
        visitors: 1,
    };
    Fake { heat: (0..rows).map(row).collect(), ..Fake::default() }
}

/// Polls a condition; the bound is only there to fail instead of hang.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(120), "never came: {what}");
        tokio::task::yield_now().await;
    }
}

/// Its inner product streams past the outer table: no memory, no end.
const ENDLESS: &str = "SELECT SUM(a.events * bc.n) FROM product_heat a JOIN \
                       (SELECT b.events + c.events AS n FROM product_heat b CROSS JOIN product_heat c) bc \
                       ON a.events + bc.n > 4";

#[tokio::test]
async fn an_error_is_druids_json() {
    let answer = sql(&small(), "SELECT rank,\n  FROM top_products").await;
    assert_snapshot!(serde_json::to_string_pretty(&answer.json()).unwrap(), @r#"
    {
      "category": "INVALID_INPUT",
      "context": {
        "column": "8",
        "line": "2",
        "sourceType": "sql"
      },
      "error": "druidException",
      "errorClass": "org.apache.druid.error.DruidException",
      "errorCode": "invalidInput",
      "errorMessage": "Expected an expression, found: FROM at Line: 2, Column: 8",
      "host": "analyzer:8888",
      "persona": "USER"
    }
    "#);
}

#[tokio::test]
async fn what_the_query_does_wrong_is_its_own_fault() {
    let router = small();
    for (query, says) in [
        ("SELECT a FROM top_products", "No field named a"),
        ("SELECT 1 FROM nowhere", "nowhere"),
        ("SELECT 1 FROM sys.nothing", "sys"),
        ("SELECT 1 FROM other.druid.top_products", "other"),
        ("SELECT 1 FROM '/etc/passwd'", ""),
        ("SELECT nofunction(1)", "nofunction"),
        ("SELECT 1 / 0", ""),
        ("SELECT rank / (rank - rank) FROM top_products", ""),
        ("SELECT CAST('x' AS BIGINT)", ""),
        ("SELECT TIME_FLOOR(__time, 'PT7') FROM product_heat", "PT7"),
        ("SELECT TIME_FLOOR(__time, kind) FROM product_heat", "literal"),
        ("SELECT TIME_FLOOR(1, 'PT1M')", "TIMESTAMP"),
        ("SELECT TIME_FLOOR(__time, 'PT1M', NULL, 'Nowhere/Here') FROM product_heat", "no time zone"),
        ("SELECT TIME_FLOOR(MILLIS_TO_TIMESTAMP(9223372036854775807), 'P1M')", "calendar"),
        ("SELECT FLOOR(__time TO CENTURY) FROM product_heat", "CENTURY"),
        ("SELECT repeat('x', 1000000000)", "at most 65536"),
        ("SELECT * FROM generate_series(1, 1000000000000)", ""),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r", ""),
        ("DROP TABLE top_products", "Only queries are allowed"),
        ("INSERT INTO top_products SELECT * FROM top_products", "Only queries are allowed"),
        ("SELECT ?", "position [1] is not bound"),
        ("", "empty"),
    ] {
        is(&sql(&router, query).await, 400, "druidException", "INVALID_INPUT", says);
    }
    for body in ["", "{", "[]", "null", r#"{"query":1}"#, "{\"query\":\"\u{0}\"}"] {
        let answer = send(&router, "POST", "/druid/v2/sql", "application/json", body).await;
        is(&answer, 400, "druidException", "INVALID_INPUT", "");
    }
    let xml = send(&router, "POST", "/druid/v2/sql", "application/xml", "<q/>").await;
    is(&xml, 415, "druidException", "INVALID_INPUT", "Unsupported Content-Type: application/xml");
}

#[tokio::test]
async fn each_limit_has_its_error() {
    const ERROR: &str = "Resource limit exceeded";
    let fake = || Arc::new(many(10_000));
    let text = router(fake(), limited(|l| l.query_bytes = 100));
    is(&sql(&text, &format!("SELECT {}", "1".repeat(200))).await, 400, ERROR, "INVALID_INPUT", "at most 100");
    is(&sql(&text, &"x".repeat(10_000)).await, 400, ERROR, "INVALID_INPUT", "larger than 800 bytes");

    let few = router(fake(), limited(|l| l.rows = 5));
    assert_eq!(sql(&few, "SELECT product FROM product_heat LIMIT 5").await.status, StatusCode::OK);
    is(&sql(&few, "SELECT product FROM product_heat LIMIT 6").await, 400, ERROR, "INVALID_INPUT", "more than 5 rows");

    let short = router(fake(), limited(|l| l.result_bytes = 1000));
    is(&sql(&short, "SELECT * FROM product_heat").await, 400, ERROR, "INVALID_INPUT", "larger than 1000 bytes");

    let lean = router(fake(), limited(|l| l.memory_bytes = 1_500_000));
    let count = "SELECT COUNT(*) AS n FROM product_heat";
    assert_eq!(rows(&lean, count).await, "[\"n\"]\n[10000]");
    let heavy = "SELECT a.product, b.product, SUM(a.events) FROM product_heat a, product_heat b GROUP BY 1, 2 LIMIT 1";
    is(&sql(&lean, heavy).await, 400, ERROR, "INVALID_INPUT", "more memory");
    assert_eq!(rows(&lean, count).await, "[\"n\"]\n[10000]", "the memory is there again");

    is(&sql(&small(), &format!("SELECT 1{}", " + 1".repeat(600))).await, 400, ERROR, "INVALID_INPUT", "operators");
    let nested = format!("SELECT {}1{}", "(".repeat(300), ")".repeat(300));
    is(&sql(&small(), &nested).await, 400, ERROR, "INVALID_INPUT", "nested too deeply");
}

#[tokio::test]
async fn the_deepest_query_that_is_let_in_runs() {
    // That it ends is what is asked, not how soon on a machine that does other things.
    let patient = router(Arc::new(Fake::small()), limited(|l| l.timeout = Duration::from_secs(600)));
    let chain = format!("SELECT 1{} AS n FROM top_products WHERE rank = 1", " + rank".repeat(500));
    assert_eq!(rows(&patient, &chain).await, "[\"n\"]\n[501]");
    let ors = format!("SELECT COUNT(*) AS n FROM top_products WHERE rank < 0{}", " OR rank = 1".repeat(250));
    assert_eq!(rows(&patient, &ors).await, "[\"n\"]\n[1]");
    let nested = format!("SELECT {}1{} AS n", "(SELECT ".repeat(12), ")".repeat(12));
    assert_eq!(rows(&patient, &nested).await, "[\"n\"]\n[1]");
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped_and_leaves_its_place() {
    let router = router(Arc::new(many(20_000)), limited(|l| (l.concurrent, l.waiting) = (1, 0)));
    let asked = json!({ "query": ENDLESS, "context": { "timeout": 200 } });
    is(&ask(&router, asked).await, 504, "Query timeout", "TIMEOUT", "timeout 200 ms");
    // Its thread ends by itself; then the one place is free again.
    until("the place of the stopped query", async || sql(&router, "SELECT 1").await.status == StatusCode::OK).await;
}

#[tokio::test]
async fn more_queries_than_allowed_are_refused_at_once() {
    let fake = Arc::new(Fake::small());
    let router = router(fake.clone(), limited(|l| (l.concurrent, l.waiting) = (1, 1)));
    *fake.shut.lock().unwrap() = true;
    let running = [1, 2].map(|_| {
        let router = router.clone();
        tokio::spawn(async move {
            loop {
                // The probe below may be in its way for a moment.
                let answer = sql(&router, "SELECT COUNT(*) AS n FROM product_heat").await;
                if answer.status != StatusCode::TOO_MANY_REQUESTS {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let mut refused = None;
    until("the refusal", async || {
        // Until both are in, a query waits with them; its own time-out ends it.
        let answer = ask(&router, json!({ "query": "SELECT 1", "context": { "timeout": 1 } })).await;
        let full = answer.status == StatusCode::TOO_MANY_REQUESTS;
        refused = Some(answer);
        full
    })
    .await;
    let refused = refused.unwrap();
    is(&refused, 429, "Query capacity exceeded", "CAPACITY_EXCEEDED", "1 running and 1 waiting");
    assert_eq!(refused.header("retry-after"), Some("1"));
    *fake.shut.lock().unwrap() = false;
    fake.opened.notify_all();
    for query in running {
        assert_eq!(query.await.unwrap().body, "[{\"n\":4}]\n");
    }
}

#[tokio::test]
async fn a_running_query_is_cancelled_by_its_id() {
    let router = router(Arc::new(many(20_000)), options());
    let cancel =
        async |id: &str| send(&router, "DELETE", &format!("/druid/v2/sql/{id}"), "text/plain", "").await.status;
    assert_eq!(cancel("unknown").await, StatusCode::NOT_FOUND);
    let query = tokio::spawn({
        let router = router.clone();
        async move { ask(&router, json!({ "query": ENDLESS, "context": { "sqlQueryId": "heavy" } })).await }
    });
    until("the query", async || cancel("heavy").await == StatusCode::ACCEPTED).await;
    let answer = query.await.unwrap();
    is(&answer, 500, "Query cancelled", "CANCELED", "canceled");
    assert_eq!(answer.header("x-druid-sql-query-id"), Some("heavy"));
    assert_eq!(cancel("heavy").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let router = router(Arc::new(many(20_000)), limited(|l| (l.concurrent, l.waiting) = (1, 0)));
    let query = tokio::spawn({
        let router = router.clone();
        async move { sql(&router, ENDLESS).await }
    });
    until("the query", async || sql(&router, "SELECT 1").await.status == StatusCode::TOO_MANY_REQUESTS).await;
    query.abort();
    until("the place", async || sql(&router, "SELECT 1").await.status == StatusCode::OK).await;
}

#[tokio::test]
async fn a_defect_of_ours_is_told_apart_and_shows_nothing() {
    let router = router(Arc::new(Fake { panics: true, ..Fake::default() }), options());
    let answer = sql(&router, "SELECT * FROM product_heat").await;
    is(&answer, 500, "Unknown exception", "RUNTIME_FAILURE", "internal error");
    assert!(!answer.body.contains("fake"), "{}", answer.body);
    assert_eq!(sql(&router, "SELECT 1").await.status, StatusCode::OK);
}
