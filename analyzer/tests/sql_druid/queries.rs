//! What merchandisers ask: groups, joins, time, parameters, names; and what that reads.

use std::sync::Arc;

use analyzer::sql::router;
use axum::http::StatusCode;
use insta::assert_snapshot;
use serde_json::json;

use crate::{Fake, ask, at, options, rows, rows_with, small};

#[tokio::test]
async fn the_tables_are_there_as_documented() {
    assert_snapshot!(rows(&small(), "SELECT * FROM top_products ORDER BY rank").await, @r#"
    ["rank","product","count","share","threshold","temperature","since","window_end"]
    [1,"42",14,0.7,12,"hot","2026-11-11T00:00:30.000Z","2026-11-11T00:02:00.000Z"]
    [2,"7",6,0.3,12,"warm","2026-11-11T00:00:30.000Z","2026-11-11T00:02:00.000Z"]
    "#);
    assert_snapshot!(rows(&small(), "SELECT * FROM druid.product_heat").await, @r#"
    ["__time","product","kind","events","weighted","visitors"]
    ["2026-11-11T00:00:59.000Z","7","view",3,3,2]
    ["2026-11-11T00:01:00.000Z","42","view",4,4,4]
    ["2026-11-11T00:01:00.000Z","42","attempt",2,10,2]
    ["2026-11-11T00:01:30.000Z","7","cart",1,3,1]
    "#);
}

#[tokio::test]
async fn heat_is_grouped_by_minute_and_product() {
    let expected = rows(
        &small(),
        "SELECT TIME_FLOOR(__time, 'PT1M') AS minute, product, SUM(weighted) AS heat, COUNT(*) AS n,
                SUM(events) FILTER (WHERE kind = 'attempt') AS attempts, AVG(events) AS mean
         FROM product_heat GROUP BY 1, 2 HAVING SUM(weighted) > 0 ORDER BY 1, heat DESC",
    )
    .await;
    assert_snapshot!(expected, @r#"
    ["minute","product","heat","n","attempts","mean"]
    ["2026-11-11T00:00:00.000Z","7",3,1,null,3.0]
    ["2026-11-11T00:01:00.000Z","42",14,2,2,3.0]
    ["2026-11-11T00:01:00.000Z","7",3,1,null,1.0]
    "#);
    let by_unit = rows(
        &small(),
        "SELECT FLOOR(__time TO MINUTE), SUM(weighted) FROM product_heat
         GROUP BY FLOOR(__time TO MINUTE) ORDER BY FLOOR(__time TO MINUTE) DESC, SUM(weighted)",
    )
    .await;
    assert_snapshot!(by_unit, @r#"
    ["EXPR$0","EXPR$1"]
    ["2026-11-11T00:01:00.000Z",17]
    ["2026-11-11T00:00:00.000Z",3]
    "#);
}

#[tokio::test]
async fn the_two_tables_join() {
    let joined = rows(
        &small(),
        "WITH h AS (SELECT product, SUM(events) AS attempts FROM product_heat WHERE kind = 'attempt' GROUP BY product)
         SELECT t.rank, t.product, t.temperature, h.attempts, NULLIF(h.attempts, 2) AS other
         FROM top_products t LEFT JOIN h ON h.product = t.product ORDER BY t.rank",
    )
    .await;
    assert_snapshot!(joined, @r#"
    ["rank","product","temperature","attempts","other"]
    [1,"42","hot",2,null]
    [2,"7","warm",null,null]
    "#);
    let within = rows(
        &small(),
        "SELECT product, SUM(weighted) FROM product_heat
         WHERE product IN (SELECT product FROM top_products WHERE temperature = 'hot') GROUP BY product",
    )
    .await;
    assert_snapshot!(within, @r#"
    ["product","EXPR$1"]
    ["42",14]
    "#);
}

#[tokio::test]
async fn orders_stand_beside_heat() {
    let conversion = rows(
        &small(),
        "SELECT h.product, SUM(h.events) AS events, MAX(o.orders) AS orders, MAX(o.revenue) AS revenue
         FROM product_heat h
         JOIN (SELECT product, SUM(orders) AS orders, SUM(amount_minor) / 100.0 AS revenue FROM orders_by_second
               WHERE step = 'accepted' AND __time >= '2026-11-11T00:01:00Z' GROUP BY product) o ON o.product = h.product
         GROUP BY h.product",
    )
    .await;
    assert_snapshot!(conversion, @r#"
    ["product","events","orders","revenue"]
    ["42",6,2,39.8]
    "#);
}

#[tokio::test]
async fn the_last_minute_is_by_the_injected_clock_and_prunes() {
    let fake = Arc::new(Fake::small());
    let router = router(fake.clone(), options());
    for (condition, from, to, n) in [
        ("__time >= CURRENT_TIMESTAMP - INTERVAL '1' MINUTE", Some("2026-11-11T00:01:00Z"), None, 3),
        (
            "__time > TIMESTAMP '2026-11-11 00:00:30' AND __time <= '2026-11-11T00:01:00Z'",
            Some("2026-11-11T00:00:30Z"),
            Some("2026-11-11T00:01:00.001Z"),
            3,
        ),
        (
            "__time BETWEEN MILLIS_TO_TIMESTAMP(1794355259000) AND TIMESTAMP '2026-11-11 00:01:00'",
            Some("2026-11-11T00:00:59Z"),
            Some("2026-11-11T00:01:00.001Z"),
            3,
        ),
        ("__time < TIME_FLOOR(CURRENT_TIMESTAMP, 'PT1M') AND product = '7'", None, Some("2026-11-11T00:02:00Z"), 2),
        ("product = '42'", None, None, 2),
        ("__time < '2026-11-11' OR product = '42'", None, None, 2),
    ] {
        fake.asked.lock().unwrap().clear();
        let answer = rows(&router, &format!("SELECT COUNT(*) AS n FROM product_heat WHERE {condition}")).await;
        assert_eq!(answer, format!("[\"n\"]\n[{n}]"), "{condition}");
        assert_eq!(*fake.asked.lock().unwrap(), [(from.map(at), to.map(at))], "{condition}");
    }
    // Bounds that exclude each other ask for nothing at all.
    fake.asked.lock().unwrap().clear();
    let nothing = "SELECT product FROM product_heat WHERE __time > '2026-11-12' AND __time < '2026-11-11'";
    assert_eq!(rows(&router, nothing).await, "[\"product\"]");
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn time_functions_say_what_druid_says() {
    let sql = "SELECT CURRENT_TIMESTAMP, CURRENT_DATE AS d,
                      TIME_FLOOR(CURRENT_TIMESTAMP, 'P1W') AS w, TIME_CEIL(TIMESTAMP '2026-11-11 00:00:01', 'PT1H') AS h,
                      CEIL(TIMESTAMP '2026-11-11 00:00:01' TO DAY) AS c, FLOOR(2.5) AS f,
                      TIMESTAMP_TO_MILLIS(CURRENT_TIMESTAMP) AS ms, MILLIS_TO_TIMESTAMP(1500) AS ts,
                      TIME_FLOOR(CAST(NULL AS TIMESTAMP), 'P1D') AS n,
                      TIME_FLOOR(TIMESTAMP '2026-11-11 00:00:01', 'PT1H', TIMESTAMP '2026-01-01 00:30:00', 'UTC') AS o";
    let answer = ask(&small(), json!({ "query": sql })).await;
    assert_snapshot!(serde_json::to_string_pretty(&answer.json()[0]).unwrap(), @r#"
    {
      "CURRENT_TIMESTAMP": "2026-11-11T00:02:00.000Z",
      "c": "2026-11-12T00:00:00.000Z",
      "d": "2026-11-11T00:00:00.000Z",
      "f": 2.0,
      "h": "2026-11-11T01:00:00.000Z",
      "ms": 1794355320000,
      "n": null,
      "o": "2026-11-10T23:30:00.000Z",
      "ts": "1970-01-01T00:00:01.500Z",
      "w": "2026-11-09T00:00:00.000Z"
    }
    "#);
    assert_eq!(
        rows(&small(), "SELECT DISTINCT TIME_FLOOR(__time, 'PT30S') AS t FROM product_heat ORDER BY t").await,
        "[\"t\"]\n[\"2026-11-11T00:00:30.000Z\"]\n[\"2026-11-11T00:01:00.000Z\"]\n[\"2026-11-11T00:01:30.000Z\"]"
    );
}

#[tokio::test]
async fn parameters_are_bound_by_type() {
    let answer = rows_with(
        &small(),
        json!({
            "query": "SELECT product, ? AS note, ? AS d, ? AS b, CAST(? AS VARCHAR) AS n FROM product_heat
                      WHERE __time >= ? AND product = ? AND weighted > ? LIMIT ?",
            "parameters": [
                { "type": "VARCHAR", "value": "it's; DROP TABLE" }, { "type": "DOUBLE", "value": 2 },
                { "type": "BOOLEAN", "value": true }, { "type": "VARCHAR", "value": null },
                { "type": "TIMESTAMP", "value": "2026-11-11T00:01:00.000Z" }, { "type": "VARCHAR", "value": "42" },
                { "type": "BIGINT", "value": -1 }, { "type": "INTEGER", "value": 1 },
            ],
        }),
    )
    .await;
    assert_snapshot!(answer, @r#"
    ["product","note","d","b","n"]
    ["42","it's; DROP TABLE",2.0,true,null]
    "#);
}

#[tokio::test]
async fn unnamed_columns_are_named_by_their_place() {
    let wide = "SELECT 1 + 1, *, COUNT(*) OVER () FROM (SELECT kind, events FROM product_heat LIMIT 1) x,
                (SELECT product FROM top_products LIMIT 1) y";
    let wide = rows(&small(), wide).await;
    assert_snapshot!(wide.lines().next().unwrap(), @r#"["EXPR$0","kind","events","product","EXPR$4"]"#);
    assert_eq!(rows(&small(), "VALUES (1, 'a')").await, "[\"EXPR$0\",\"EXPR$1\"]\n[1,\"a\"]");
    assert_eq!(rows(&small(), "SELECT EXPR$0 FROM (SELECT COUNT(*) FROM top_products) x").await, "[\"EXPR$0\"]\n[2]");
    assert_eq!(
        rows(&small(), "SELECT MAX(count) FROM top_products UNION ALL SELECT 1").await,
        "[\"EXPR$0\"]\n[14]\n[1]"
    );
    // Names keep their case, as in Druid.
    assert_eq!(rows(&small(), "SELECT rank AS Rank FROM top_products LIMIT 1").await, "[\"Rank\"]\n[1]");
    let answer = ask(&small(), json!({ "query": "SELECT RANK FROM top_products" })).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_information_schema_has_druids_shape() {
    let router = small();
    assert_snapshot!(rows(&router, "SELECT TABLE_CATALOG, TABLE_NAME, TABLE_TYPE FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'druid'").await, @r#"
    ["TABLE_CATALOG","TABLE_NAME","TABLE_TYPE"]
    ["druid","orders_by_second","TABLE"]
    ["druid","product_heat","TABLE"]
    ["druid","top_products","TABLE"]
    "#);
    assert_snapshot!(rows(&router, "SELECT COLUMN_NAME, ORDINAL_POSITION, DATA_TYPE, IS_NULLABLE, JDBC_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'product_heat' AND TABLE_SCHEMA = 'druid'").await, @r#"
    ["COLUMN_NAME","ORDINAL_POSITION","DATA_TYPE","IS_NULLABLE","JDBC_TYPE"]
    ["__time",1,"TIMESTAMP","NO",93]
    ["product",2,"VARCHAR","YES",12]
    ["kind",3,"VARCHAR","YES",12]
    ["events",4,"BIGINT","YES",-5]
    ["weighted",5,"BIGINT","YES",-5]
    ["visitors",6,"BIGINT","YES",-5]
    "#);
    assert_eq!(
        rows(&router, "SELECT SCHEMA_NAME FROM INFORMATION_SCHEMA.SCHEMATA").await,
        "[\"SCHEMA_NAME\"]\n[\"INFORMATION_SCHEMA\"]\n[\"druid\"]\n[\"lookup\"]\n[\"sys\"]"
    );
    assert_eq!(
        rows(&router, "SELECT COUNT(*) AS n FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'COLUMNS'").await,
        "[\"n\"]\n[17]"
    );
}

#[tokio::test]
async fn explain_shows_the_plan_and_reads_nothing() {
    let fake = Arc::new(Fake::small());
    let router = router(fake.clone(), options());
    let answer = ask(&router, json!({ "query": "EXPLAIN PLAN FOR SELECT product FROM product_heat" })).await;
    let row = &answer.json()[0];
    assert!(row["PLAN"].as_str().unwrap().contains("StreamingTableExec"), "{row}");
    assert_eq!(row["RESOURCES"], r#"[{"name":"product_heat","type":"DATASOURCE"}]"#);
    assert_eq!(row["ATTRIBUTES"], r#"{"statementType":"SELECT"}"#);
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_context_limits_rows_and_says_how_arrays_look() {
    let outer = json!({ "query": "SELECT rank FROM top_products ORDER BY rank", "context": { "sqlOuterLimit": 1 } });
    assert_eq!(ask(&small(), outer).await.body, "[{\"rank\":1}]\n");
    let list = "SELECT ARRAY_AGG(rank) AS a FROM top_products";
    assert_eq!(ask(&small(), json!({ "query": list })).await.body, "[{\"a\":\"[1,2]\"}]\n");
    let raw = json!({ "query": list, "context": { "sqlStringifyArrays": false } });
    assert_eq!(ask(&small(), raw).await.body, "[{\"a\":[1,2]}]\n");
}
