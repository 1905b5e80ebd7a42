//! Each result format and header exactly as Druid writes it.

use axum::http::StatusCode;
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::{Answer, Fake, ask, options, send, small};
use analyzer::sql::router;
use std::sync::Arc;

const QUERY: &str = "SELECT __time, product, weighted, visitors * 0.5, kind = 'view' AS viewed FROM product_heat \
                     WHERE product = '42' ORDER BY weighted";

async fn written(format: &str, headers: Value) -> Answer {
    let mut request = json!({ "query": QUERY, "resultFormat": format, "context": { "sqlQueryId": "q-1" } });
    request.as_object_mut().unwrap().extend(headers.as_object().unwrap().clone());
    let answer = ask(&small(), request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.header("x-druid-sql-query-id"), Some("q-1"));
    answer
}

/// As in the snapshot: the ends of lines matter.
fn shown(answer: &Answer) -> String {
    format!("{}\n{}", answer.header("content-type").unwrap(), answer.body.replace('\n', "⏎\n"))
}

#[tokio::test]
async fn rows_without_a_header() {
    let answer = written("object", json!({})).await;
    assert_eq!(answer.header("x-druid-sql-header-included"), None);
    assert_snapshot!(shown(&answer), @r#"
    application/json
    [{"__time":"2026-11-11T00:01:00.000Z","product":"42","weighted":4,"EXPR$3":2.0,"viewed":true},{"__time":"2026-11-11T00:01:00.000Z","product":"42","weighted":10,"EXPR$3":1.0,"viewed":false}]⏎
    "#);
    assert_snapshot!(shown(&written("array", json!({})).await), @r#"
    application/json
    [["2026-11-11T00:01:00.000Z","42",4,2.0,true],["2026-11-11T00:01:00.000Z","42",10,1.0,false]]⏎
    "#);
    assert_snapshot!(shown(&written("objectLines", json!({})).await), @r#"
    application/json
    {"__time":"2026-11-11T00:01:00.000Z","product":"42","weighted":4,"EXPR$3":2.0,"viewed":true}⏎
    {"__time":"2026-11-11T00:01:00.000Z","product":"42","weighted":10,"EXPR$3":1.0,"viewed":false}⏎
    ⏎
    "#);
    assert_snapshot!(shown(&written("arrayLines", json!({})).await), @r#"
    application/json
    ["2026-11-11T00:01:00.000Z","42",4,2.0,true]⏎
    ["2026-11-11T00:01:00.000Z","42",10,1.0,false]⏎
    ⏎
    "#);
    assert_snapshot!(shown(&written("csv", json!({})).await), @r"
    application/json
    2026-11-11T00:01:00.000Z,42,4,2.0,true⏎
    2026-11-11T00:01:00.000Z,42,10,1.0,false⏎
    ⏎
    ");
}

#[tokio::test]
async fn a_header_with_names_and_types() {
    let all = json!({ "header": true, "typesHeader": true, "sqlTypesHeader": true });
    let first = |answer: &Answer, lines: usize| answer.body.lines().take(lines).collect::<Vec<_>>().join("\n");

    let answer = written("array", all.clone()).await;
    assert_eq!(answer.header("x-druid-sql-header-included"), Some("yes"));
    let rows = answer.json();
    assert_eq!(rows[0], json!(["__time", "product", "weighted", "EXPR$3", "viewed"]));
    assert_eq!(rows[1], json!(["LONG", "STRING", "LONG", "DOUBLE", "LONG"]));
    assert_eq!(rows[2], json!(["TIMESTAMP", "VARCHAR", "BIGINT", "DECIMAL", "BOOLEAN"]));
    assert_eq!(rows.as_array().unwrap().len(), 5);

    assert_snapshot!(first(&written("objectLines", all.clone()).await, 1), @r#"{"__time":{"type":"LONG","sqlType":"TIMESTAMP"},"product":{"type":"STRING","sqlType":"VARCHAR"},"weighted":{"type":"LONG","sqlType":"BIGINT"},"EXPR$3":{"type":"DOUBLE","sqlType":"DECIMAL"},"viewed":{"type":"LONG","sqlType":"BOOLEAN"}}"#);
    assert_snapshot!(first(&written("csv", all).await, 4), @r"
    __time,product,weighted,EXPR$3,viewed
    LONG,STRING,LONG,DOUBLE,LONG
    TIMESTAMP,VARCHAR,BIGINT,DECIMAL,BOOLEAN
    2026-11-11T00:01:00.000Z,42,4,2.0,true
    ");

    let names = json!({ "header": true });
    assert_snapshot!(first(&written("arrayLines", names.clone()).await, 1), @r#"["__time","product","weighted","EXPR$3","viewed"]"#);
    assert_eq!(written("object", names).await.json()[0]["product"], Value::Null);
}

#[tokio::test]
async fn an_answer_without_rows_still_ends_as_its_format_does() {
    for (format, expected) in
        [("object", "[]\n"), ("array", "[]\n"), ("objectLines", "\n\n"), ("arrayLines", "\n\n"), ("csv", "\n")]
    {
        let request = json!({ "query": "SELECT * FROM top_products WHERE rank < 0", "resultFormat": format });
        assert_eq!(ask(&small(), request).await.body, expected, "{format}");
    }
}

#[tokio::test]
async fn csv_quotes_what_would_break_it_and_a_lone_empty_value() {
    let answer = ask(
        &small(),
        json!({ "query": "SELECT 'a,\"b\"' AS x, CAST(NULL AS VARCHAR) AS y, 'é' AS z", "resultFormat": "csv" }),
    )
    .await;
    assert_eq!(answer.body, "\"a,\"\"b\"\"\",,é\n\n");
    let lone = ask(&small(), json!({ "query": "SELECT ''", "resultFormat": "csv" })).await;
    assert_eq!(lone.body, "\"\"\n\n");
}

#[tokio::test]
async fn a_plain_text_body_is_the_query() {
    for path in ["/druid/v2/sql", "/druid/v2/sql/"] {
        let answer = send(&small(), "POST", path, "text/plain; charset=utf-8", "SELECT 1 AS one").await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "[{\"one\":1}]\n"));
        assert!(answer.header("x-druid-sql-query-id").is_some_and(|id| id.len() == 36));
    }
}

#[tokio::test]
async fn the_other_routes_answer_what_clients_probe() {
    let router = router(Arc::new(Fake::small()), options());
    let get = async |path: &str| send(&router, "GET", path, "text/plain", "").await.body;
    assert_eq!(get("/status/health").await, "true");
    assert_eq!(get("/druid/v2/datasources").await, r#"["orders_by_second","product_heat","top_products"]"#);
    assert!(get("/status").await.contains("\"version\""));
}
