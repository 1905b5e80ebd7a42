# Twenty queries that a merchandiser's dashboard needs, for a Druid that reads `product-events-json` by
# deploy/druid/supervisor.json (rolled up to the second) and for us: both answer alike. Form as in statements.sql; the
# events are made of the real trace examples/data/web07.trace.gz (deploy/druid/record.py and tests/sql_druid/suite.rs).

query hottest
SELECT product, SUM(weighted) AS heat FROM product_heat GROUP BY product ORDER BY heat DESC, product LIMIT 20

query hottest_last_minute
SELECT product, SUM(weighted) AS heat FROM product_heat WHERE __time >= TIMESTAMP '2026-11-11 00:11:40' AND __time < TIMESTAMP '2026-11-11 00:12:40' GROUP BY product ORDER BY heat DESC, product LIMIT 20

query total
SELECT SUM(events) AS events, SUM(weighted) AS heat FROM product_heat

query by_kind
SELECT kind, SUM(events) AS events FROM product_heat GROUP BY kind ORDER BY kind

query by_minute
SELECT TIME_FLOOR(__time, 'PT1M') AS t, SUM(events) AS events, SUM(weighted) AS heat FROM product_heat GROUP BY 1 ORDER BY 1

query by_minute_and_kind
SELECT FLOOR(__time TO MINUTE) AS t, kind, SUM(events) AS events FROM product_heat GROUP BY FLOOR(__time TO MINUTE), kind ORDER BY t, kind

query one_product
SELECT TIME_FLOOR(__time, 'PT1M') AS t, SUM(events) AS views FROM product_heat WHERE product = '71' AND kind = 'view' GROUP BY 1 ORDER BY 1

query active_products {"context":{"useApproximateCountDistinct":false}}
SELECT COUNT(DISTINCT product) AS products FROM product_heat

query active_products_by_minute
SELECT t, COUNT(*) AS products FROM (SELECT TIME_FLOOR(__time, 'PT1M') AS t, product FROM product_heat GROUP BY 1, 2) GROUP BY t ORDER BY t

query conversion
SELECT product, SUM(events) FILTER (WHERE kind = 'view') AS views, SUM(events) FILTER (WHERE kind = 'attempt') AS attempts, SAFE_DIVIDE(SUM(events) FILTER (WHERE kind = 'attempt') * 1.0, SUM(events) FILTER (WHERE kind = 'view')) AS per_view FROM product_heat GROUP BY product HAVING SUM(events) FILTER (WHERE kind = 'attempt') > 1 ORDER BY attempts DESC, product LIMIT 20

query carts
SELECT product, SUM(events) AS carts FROM product_heat WHERE kind = 'cart' GROUP BY product ORDER BY carts DESC, product LIMIT 10

query rising
SELECT product, SUM(weighted) FILTER (WHERE __time >= TIMESTAMP '2026-11-11 00:06:00') AS later, SUM(weighted) FILTER (WHERE __time < TIMESTAMP '2026-11-11 00:06:00') AS earlier FROM product_heat GROUP BY product HAVING SUM(weighted) > 60 ORDER BY later DESC, product LIMIT 20

query peak_second
SELECT __time, SUM(events) AS events FROM product_heat GROUP BY __time ORDER BY events DESC, __time LIMIT 3

query share_of_top
SELECT SUM(heat) AS top_heat FROM (SELECT product, SUM(weighted) AS heat FROM product_heat GROUP BY product ORDER BY heat DESC, product LIMIT 100)

query threshold
SELECT MIN(heat) AS threshold, COUNT(*) AS products FROM (SELECT product, SUM(weighted) AS heat FROM product_heat WHERE __time >= TIMESTAMP '2026-11-11 00:11:40' GROUP BY product ORDER BY heat DESC, product LIMIT 50)

query compare_two
SELECT TIME_FLOOR(__time, 'PT5M') AS t, SUM(events) FILTER (WHERE product = '71') AS a, SUM(events) FILTER (WHERE product = '17') AS b FROM product_heat WHERE product IN ('71', '17') GROUP BY 1 ORDER BY 1

query quarter_hours_by_zone {"context":{"sqlTimeZone":"Europe/Berlin"}}
SELECT TIME_FLOOR(__time, 'PT15M') AS t, SUM(events) AS events FROM product_heat GROUP BY 1 ORDER BY 1

query prefix
SELECT SUBSTRING(product, 1, 1) AS family, SUM(events) AS events FROM product_heat GROUP BY SUBSTRING(product, 1, 1) ORDER BY events DESC, family

query cold_with_attempts
SELECT product, SUM(weighted) AS heat FROM product_heat WHERE product IN (SELECT product FROM product_heat WHERE kind = 'attempt' GROUP BY product) GROUP BY product ORDER BY heat, product LIMIT 10

query export_csv {"resultFormat":"csv"}
SELECT TIME_FORMAT(TIME_FLOOR(__time, 'PT1M'), 'HH:mm') AS minute_of_day, SUM(events) AS events FROM product_heat GROUP BY 1 ORDER BY 1
