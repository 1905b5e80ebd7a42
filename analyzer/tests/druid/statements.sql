# What a real Druid 33 is asked and we are asked, over `product_heat.csv`: a header line
#   query NAME [unordered] [{"members":"that replace those of the request"}]
# then the statement, up to an empty line. Every statement asks for rows as arrays, with names and both types, if its
# members do not say otherwise. `unordered` compares rows as a set. Answers: answers.jsonl (script/druid record).

# --- rows ---

query rows_all
SELECT * FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 5

query rows_columns
SELECT product, kind, events FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 3

query rows_qualified
SELECT h.product, h.events AS n FROM druid.product_heat AS h WHERE h.product = '42' AND h.kind = 'view' ORDER BY h.__time LIMIT 4

query rows_quoted
SELECT "product", "events" AS "How many" FROM "druid"."product_heat" WHERE "kind" = 'cart' AND "product" = '7' ORDER BY "__time" LIMIT 3

query rows_no_table
SELECT 1, 'a', 2.5, TRUE, CAST(NULL AS VARCHAR)

query rows_expression_names
SELECT events + 1, events * weighted AS product_of_both, -events FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query rows_distinct
SELECT DISTINCT kind FROM product_heat ORDER BY kind

query rows_distinct_two unordered
SELECT DISTINCT product, kind FROM product_heat WHERE product IN ('42', '7')

query rows_order_desc
SELECT __time, product, events FROM product_heat WHERE product = '42' AND kind = 'view' ORDER BY __time DESC LIMIT 3

query rows_offset
SELECT product, SUM(events) AS n FROM product_heat GROUP BY product ORDER BY product LIMIT 3 OFFSET 2

query rows_fetch
SELECT product, SUM(events) AS n FROM product_heat GROUP BY product ORDER BY product OFFSET 1 ROWS FETCH NEXT 2 ROWS ONLY

query rows_limit_zero
SELECT product FROM product_heat LIMIT 0

query rows_none
SELECT product, events FROM product_heat WHERE product = 'nobody'

query rows_where_and_or
SELECT COUNT(*) AS n FROM product_heat WHERE (product = '42' AND kind = 'view') OR NOT (events < 3) OR product LIKE 'sku%'

query rows_between
SELECT COUNT(*) FROM product_heat WHERE events BETWEEN 2 AND 3

query rows_not_between
SELECT COUNT(*) FROM product_heat WHERE events NOT BETWEEN 2 AND 3

query rows_in
SELECT COUNT(*) FROM product_heat WHERE product IN ('42', '7', 'nobody')

query rows_not_in
SELECT COUNT(*) FROM product_heat WHERE product NOT IN ('42', '7')

query rows_like
SELECT DISTINCT product FROM product_heat WHERE product LIKE 'sku-_' ORDER BY 1

query rows_like_escape
SELECT COUNT(*) FROM product_heat WHERE product LIKE '%\_%' ESCAPE '\'

query rows_not_equal
SELECT COUNT(*) FROM product_heat WHERE kind <> 'view'

query rows_number_as_text
SELECT COUNT(*) FROM product_heat WHERE product = 42

query rows_is_null
SELECT COUNT(*) FROM product_heat WHERE NULLIF(kind, 'view') IS NULL

query rows_is_not_distinct
SELECT COUNT(*) FROM product_heat WHERE NULLIF(kind, 'view') IS NOT DISTINCT FROM NULL

query rows_boolean_column
SELECT events > 2, product = '42' AS is_it FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 3

query rows_values
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t (n, s)

query rows_nulls_first
SELECT NULLIF(product, '42') AS p, COUNT(*) AS n FROM product_heat GROUP BY 1 ORDER BY 1 LIMIT 2

query rows_nulls_last
SELECT NULLIF(product, '42') AS p, COUNT(*) AS n FROM product_heat GROUP BY 1 ORDER BY 1 DESC NULLS LAST LIMIT 2

query rows_semicolon
SELECT COUNT(*) AS n FROM product_heat;

query rows_comment
SELECT /* all */ COUNT(*) AS n -- of them
FROM product_heat

query rows_keyword_case
select Count(*) as N from product_heat where kind = 'view'

# --- aggregates ---

query agg_count
SELECT COUNT(*) FROM product_heat

query agg_all
SELECT COUNT(*) AS n, SUM(events) AS s, MIN(events) AS lo, MAX(events) AS hi FROM product_heat

query agg_avg
SELECT AVG(events) AS mean, AVG(CAST(events AS DOUBLE)) AS exact FROM product_heat

query agg_avg_group
SELECT kind, AVG(weighted) AS mean FROM product_heat GROUP BY kind ORDER BY kind

query agg_empty
SELECT COUNT(*) AS n, SUM(events) AS s, MIN(events) AS lo, AVG(events) AS mean FROM product_heat WHERE product = 'nobody'

query agg_empty_group
SELECT product, COUNT(*) AS n FROM product_heat WHERE product = 'nobody' GROUP BY product

query agg_group
SELECT product, SUM(weighted) AS heat FROM product_heat GROUP BY product ORDER BY heat DESC, product LIMIT 5

query agg_group_unordered unordered
SELECT product, kind, SUM(weighted) FROM product_heat GROUP BY product, kind

query agg_group_ordinal
SELECT kind, product, SUM(events) FROM product_heat WHERE product IN ('42', '7') GROUP BY 1, 2 ORDER BY 1, 2

query agg_group_expression
SELECT SUBSTRING(product, 1, 1) AS first_letter, COUNT(*) AS n FROM product_heat GROUP BY SUBSTRING(product, 1, 1) ORDER BY n DESC, first_letter

query agg_having
SELECT product, SUM(events) AS n FROM product_heat GROUP BY product HAVING SUM(events) > 60 ORDER BY n DESC, product

query agg_filter
SELECT COUNT(*) FILTER (WHERE kind = 'view') AS views, SUM(events) FILTER (WHERE kind = 'attempt') AS attempts FROM product_heat

query agg_filter_none
SELECT SUM(events) FILTER (WHERE kind = 'nothing') AS s, COUNT(*) FILTER (WHERE kind = 'nothing') AS n FROM product_heat

query agg_filter_group
SELECT product, SUM(events) FILTER (WHERE kind = 'cart') AS carts FROM product_heat GROUP BY product ORDER BY product LIMIT 4

query agg_case
SELECT SUM(CASE WHEN kind = 'view' THEN events ELSE 0 END) AS views, COUNT(CASE WHEN kind = 'cart' THEN 1 END) AS carts FROM product_heat

query agg_count_distinct
SELECT COUNT(DISTINCT kind) AS kinds FROM product_heat

query agg_count_distinct_exact {"context":{"useApproximateCountDistinct":false}}
SELECT COUNT(DISTINCT product) AS products FROM product_heat

query agg_approx_count_distinct
SELECT APPROX_COUNT_DISTINCT(kind) AS kinds FROM product_heat

query agg_approx_ds_hll
SELECT APPROX_COUNT_DISTINCT_DS_HLL(kind) AS kinds, APPROX_COUNT_DISTINCT_DS_HLL(product) AS products FROM product_heat

query agg_approx_ds_hll_args
SELECT APPROX_COUNT_DISTINCT_DS_HLL(product, 14, 'HLL_8') AS products FROM product_heat

query agg_approx_ds_theta
SELECT APPROX_COUNT_DISTINCT_DS_THETA(product) AS products FROM product_heat

query agg_sum_double
SELECT SUM(CAST(events AS DOUBLE)) AS s, SUM(events * 0.5) AS half FROM product_heat

query agg_min_max_text
SELECT MIN(product) AS lo, MAX(product) AS hi FROM product_heat

query agg_min_max_time
SELECT MIN(__time) AS first_seen, MAX(__time) AS last_seen FROM product_heat

query agg_latest
SELECT LATEST(events) AS last_events, EARLIEST(weighted) AS first_weighted FROM product_heat WHERE product = '42' AND kind = 'view'

query agg_latest_text
SELECT LATEST(product, 64) AS p, EARLIEST(product, 64) AS q FROM product_heat WHERE kind = 'view' AND events > 5 AND product IN ('42')

query agg_latest_group
SELECT kind, LATEST(events) AS e FROM product_heat WHERE product = '7' GROUP BY kind ORDER BY kind

query agg_latest_by
SELECT LATEST_BY(events, __time) AS e, EARLIEST_BY(events, __time) AS f FROM product_heat WHERE product = '42' AND kind = 'view'

query agg_latest_by_text
SELECT LATEST_BY(kind, __time, 32) AS k FROM product_heat WHERE product = '42' AND kind = 'view'

query agg_any_value
SELECT ANY_VALUE(kind) AS k, ANY_VALUE(events) AS e FROM product_heat WHERE product = '42' AND kind = 'view' AND events = 1

query agg_any_value_text
SELECT product, ANY_VALUE(product, 10) AS p FROM product_heat GROUP BY product ORDER BY product LIMIT 2

query agg_rollup
SELECT kind, SUM(events) AS n FROM product_heat GROUP BY ROLLUP (kind) ORDER BY n DESC

query agg_grouping_sets
SELECT kind, product, GROUPING(kind, product) AS g, SUM(events) AS n FROM product_heat WHERE product IN ('42', '7') GROUP BY GROUPING SETS ((kind), (product), ()) ORDER BY g, n DESC, product

query agg_cube
SELECT kind, product, COUNT(*) AS n FROM product_heat WHERE product IN ('42') GROUP BY CUBE (kind, product) ORDER BY n DESC, kind, product

query agg_string_agg
SELECT STRING_AGG(DISTINCT kind, ',') AS kinds FROM product_heat WHERE product = '42'

query agg_listagg
SELECT LISTAGG(DISTINCT kind, '|') AS kinds FROM product_heat WHERE product = '42'

query agg_array_agg
SELECT ARRAY_AGG(DISTINCT kind) AS kinds FROM product_heat WHERE product = '42'

query agg_bit
SELECT BIT_AND(events) AS a, BIT_OR(events) AS o, BIT_XOR(events) AS x FROM product_heat

query agg_nested
SELECT AVG(n) AS mean, MAX(n) AS most FROM (SELECT product, SUM(events) AS n FROM product_heat GROUP BY product)

query agg_share
SELECT product, SUM(weighted) * 100.0 / (SELECT SUM(weighted) FROM product_heat) AS share FROM product_heat GROUP BY product ORDER BY share DESC LIMIT 3

query agg_integer_division
SELECT SUM(events) / COUNT(*) AS whole, SUM(events) * 1.0 / COUNT(*) AS part FROM product_heat

query agg_order_by_count
SELECT kind FROM product_heat GROUP BY kind ORDER BY COUNT(*) DESC

query agg_stddev
SELECT STDDEV_POP(events) AS s FROM product_heat

query agg_bloom
SELECT BLOOM_FILTER(product, 100) AS b FROM product_heat

query agg_quantile
SELECT APPROX_QUANTILE_DS(events, 0.5) AS median FROM product_heat

query agg_ungrouped
SELECT product, SUM(events) FROM product_heat

query agg_max_case_text
SELECT kind, LATEST_BY(product, __time, 32) AS newest FROM product_heat WHERE product IN ('42') GROUP BY kind ORDER BY kind

query agg_sum_of_group_zero
SELECT product, COALESCE(SUM(events) FILTER (WHERE kind = 'attempt'), 0) AS attempts FROM product_heat GROUP BY product ORDER BY attempts DESC, product LIMIT 4

query agg_having_alias
SELECT product, SUM(events) AS n FROM product_heat GROUP BY product HAVING n > 60 ORDER BY n DESC, product

query agg_group_alias
SELECT TIME_FLOOR(__time, 'P1D') AS d, COUNT(*) AS n FROM product_heat GROUP BY d ORDER BY d

query agg_count_column
SELECT COUNT(product) AS a, COUNT(NULLIF(product, '42')) AS b, COUNT(DISTINCT product) FILTER (WHERE kind = 'cart') AS c FROM product_heat

# --- time ---

query time_floor_minute
SELECT TIME_FLOOR(__time, 'PT1M') AS t, SUM(events) AS n FROM product_heat GROUP BY 1 ORDER BY 1 LIMIT 5

query time_floor_hour
SELECT TIME_FLOOR(__time, 'PT1H') AS t, SUM(events) AS n FROM product_heat GROUP BY TIME_FLOOR(__time, 'PT1H') ORDER BY TIME_FLOOR(__time, 'PT1H')

query time_floor_week_month
SELECT DISTINCT TIME_FLOOR(__time, 'P1W') AS w, TIME_FLOOR(__time, 'P1M') AS m, TIME_FLOOR(__time, 'P3M') AS q, TIME_FLOOR(__time, 'P1Y') AS y FROM product_heat ORDER BY 1, 2, 3, 4

query time_floor_odd
SELECT DISTINCT TIME_FLOOR(__time, 'PT7M') AS t FROM product_heat ORDER BY 1 LIMIT 4

query time_floor_origin
SELECT TIME_FLOOR(TIMESTAMP '2026-11-11 00:07:00', 'PT5M', TIMESTAMP '2026-11-11 00:01:00') AS t

query time_floor_zone
SELECT TIME_FLOOR(TIMESTAMP '2026-11-11 00:07:00', 'P1D', NULL, 'America/Los_Angeles') AS d, TIME_FLOOR(TIMESTAMP '2026-11-11 00:07:00', 'P1D', NULL, 'Asia/Shanghai') AS e

query time_floor_zone_dst
SELECT TIME_FLOOR(TIMESTAMP '2026-11-01 12:00:00', 'P1D', NULL, 'America/New_York') AS d, TIME_FLOOR(TIMESTAMP '2026-11-01 12:00:00', 'P1W', NULL, 'America/New_York') AS w, TIME_FLOOR(TIMESTAMP '2026-11-01 06:30:00', 'PT1H', NULL, 'America/New_York') AS h, TIME_FLOOR(TIMESTAMP '2026-03-08 12:00:00', 'PT6H', NULL, 'America/New_York') AS six

query time_floor_weeks
SELECT TIME_FLOOR(TIMESTAMP '2026-11-11 00:00:00', 'P2W') AS two_weeks, TIME_FLOOR(TIMESTAMP '2026-11-11 00:00:00', 'P2M') AS two_months, TIME_FLOOR(TIMESTAMP '2026-11-11 00:00:00', 'P3D') AS three_days

query time_floor_before_epoch
SELECT TIME_FLOOR(TIMESTAMP '1966-07-30 15:07:09', 'PT1H') AS t, TIME_FLOOR(TIMESTAMP '1966-07-30 15:07:09', 'P1Y') AS y

query time_floor_expression
SELECT TIME_FLOOR(__time, kind) FROM product_heat LIMIT 1

query time_ceil
SELECT TIME_CEIL(TIMESTAMP '2026-11-11 00:00:01', 'PT1H') AS h, TIME_CEIL(TIMESTAMP '2026-11-11 00:00:00', 'P1D') AS d, TIME_CEIL(TIMESTAMP '2026-11-11 00:00:01', 'P1M') AS m, TIME_CEIL(TIMESTAMP '2026-11-11 00:00:01', 'P1D', NULL, 'Asia/Shanghai') AS z

query time_shift
SELECT TIME_SHIFT(TIMESTAMP '2026-01-31 10:00:00', 'P1M', 1) AS m, TIME_SHIFT(TIMESTAMP '2026-11-11 00:00:00', 'PT15M', -4) AS q, TIME_SHIFT(TIMESTAMP '2024-02-29 00:00:00', 'P1Y', 1) AS y

query time_shift_zone
SELECT TIME_SHIFT(TIMESTAMP '2026-10-31 12:00:00', 'P1D', 1, 'America/New_York') AS d, TIME_SHIFT(TIMESTAMP '2026-03-08 06:30:00', 'PT1H', 1, 'America/New_York') AS h

query time_shift_column
SELECT TIME_SHIFT(__time, 'P1D', -1) AS yesterday, events FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query time_shift_mixed_period
SELECT TIME_SHIFT(TIMESTAMP '2026-01-01 00:00:00', 'P1M2DT3H', 2) AS t

query time_extract
SELECT TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'HOUR') AS h, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'DOW') AS dow, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'DOY') AS doy, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'WEEK') AS w, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'QUARTER') AS q, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'EPOCH') AS e

query time_extract_more
SELECT TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'SECOND') AS s, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'MINUTE') AS mi, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'DAY') AS d, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'MONTH') AS m, TIME_EXTRACT(TIMESTAMP '2026-11-11 13:07:09', 'YEAR') AS y

query time_extract_zone
SELECT TIME_EXTRACT(TIMESTAMP '2026-11-11 02:07:09', 'HOUR', 'America/Los_Angeles') AS h, TIME_EXTRACT(TIMESTAMP '2026-11-11 02:07:09', 'DAY', 'America/Los_Angeles') AS d

query time_extract_group
SELECT TIME_EXTRACT(__time, 'HOUR') AS h, SUM(events) AS n FROM product_heat GROUP BY 1 ORDER BY 1

query extract_sql
SELECT EXTRACT(HOUR FROM __time) AS h, COUNT(*) AS n FROM product_heat GROUP BY EXTRACT(HOUR FROM __time) ORDER BY h

query extract_sql_more
SELECT EXTRACT(YEAR FROM TIMESTAMP '2026-11-11 13:07:09') AS y, EXTRACT(DOW FROM TIMESTAMP '2026-11-15 13:07:09') AS dow, EXTRACT(ISODOW FROM TIMESTAMP '2026-11-15 13:07:09') AS isodow, EXTRACT(WEEK FROM TIMESTAMP '2026-01-01 00:00:00') AS w, EXTRACT(EPOCH FROM TIMESTAMP '2026-11-11 13:07:09') AS e

query time_parts_functions
SELECT YEAR(TIMESTAMP '2026-11-11 13:07:09') AS y, MONTH(TIMESTAMP '2026-11-11 13:07:09') AS m, DAYOFWEEK(TIMESTAMP '2026-11-11 13:07:09') AS d, HOUR(TIMESTAMP '2026-11-11 13:07:09') AS h

query time_parse
SELECT TIME_PARSE('2026-11-11T00:01:02Z') AS iso, TIME_PARSE('11/11/2026 00:01', 'dd/MM/yyyy HH:mm') AS other, TIME_PARSE('never') AS bad

query time_parse_zone
SELECT TIME_PARSE('2026-11-11 00:01:02', 'yyyy-MM-dd HH:mm:ss', 'Asia/Shanghai') AS z, TIME_PARSE('2026-11-11') AS d, TIME_PARSE('2026-11-11T00:01:02+02:00') AS o

query time_format
SELECT TIME_FORMAT(TIMESTAMP '2026-11-11 13:07:09') AS iso, TIME_FORMAT(TIMESTAMP '2026-11-11 13:07:09', 'yyyy-MM-dd HH:mm:ss') AS sql_style, TIME_FORMAT(TIMESTAMP '2026-11-11 13:07:09', 'EEE, d MMM yy h:mm a') AS words

query time_format_zone
SELECT TIME_FORMAT(TIMESTAMP '2026-11-11 13:07:09', 'yyyy-MM-dd HH:mm', 'America/New_York') AS z, TIME_FORMAT(TIMESTAMP '2026-11-11 13:07:09', NULL, 'America/New_York') AS iso

query time_format_column
SELECT TIME_FORMAT(__time, 'HH:mm') AS minute_of_day, SUM(events) AS n FROM product_heat GROUP BY 1 ORDER BY 1 LIMIT 4

query time_in_interval
SELECT COUNT(*) AS n FROM product_heat WHERE TIME_IN_INTERVAL(__time, '2026-11-11T00:00:00Z/2026-11-11T00:05:00Z')

query time_in_interval_period
SELECT COUNT(*) AS n FROM product_heat WHERE TIME_IN_INTERVAL(__time, '2026-11-11/PT5M')

query time_in_interval_bad
SELECT COUNT(*) AS n FROM product_heat WHERE TIME_IN_INTERVAL(__time, 'today')

query floor_to_units
SELECT FLOOR(TIMESTAMP '2026-11-11 13:07:09' TO SECOND) AS s, FLOOR(TIMESTAMP '2026-11-11 13:07:09' TO MINUTE) AS mi, FLOOR(TIMESTAMP '2026-11-11 13:07:09' TO HOUR) AS h, FLOOR(TIMESTAMP '2026-11-11 13:07:09' TO DAY) AS d, FLOOR(TIMESTAMP '2026-11-11 13:07:09' TO WEEK) AS w, FLOOR(TIMESTAMP '2026-11-11 13:07:09' TO MONTH) AS mo, FLOOR(TIMESTAMP '2026-11-11 13:07:09' TO QUARTER) AS q, FLOOR(TIMESTAMP '2026-11-11 13:07:09' TO YEAR) AS y

query floor_to_column
SELECT FLOOR(__time TO HOUR) AS h, SUM(weighted) AS heat FROM product_heat GROUP BY FLOOR(__time TO HOUR) ORDER BY FLOOR(__time TO HOUR)

query ceil_to_units
SELECT CEIL(TIMESTAMP '2026-11-11 13:07:09' TO HOUR) AS h, CEIL(TIMESTAMP '2026-11-11 13:07:09' TO MONTH) AS m

query floor_to_century
SELECT FLOOR(__time TO CENTURY) FROM product_heat LIMIT 1

query date_trunc
SELECT DATE_TRUNC('hour', TIMESTAMP '2026-11-11 13:07:09') AS h, DATE_TRUNC('week', TIMESTAMP '2026-11-11 13:07:09') AS w

query timestamp_add
SELECT TIMESTAMPADD(DAY, 1, TIMESTAMP '2026-11-11 13:07:09') AS d, TIMESTAMPADD(HOUR, -2, TIMESTAMP '2026-11-11 13:07:09') AS h, TIMESTAMPADD(MONTH, 1, TIMESTAMP '2026-01-31 00:00:00') AS m

query timestamp_diff
SELECT TIMESTAMPDIFF(DAY, TIMESTAMP '2026-11-01 00:00:00', TIMESTAMP '2026-11-11 13:07:09') AS d, TIMESTAMPDIFF(HOUR, TIMESTAMP '2026-11-11 13:07:09', TIMESTAMP '2026-11-11 00:00:00') AS h, TIMESTAMPDIFF(MONTH, TIMESTAMP '2026-01-31 00:00:00', TIMESTAMP '2026-03-30 00:00:00') AS m

query timestamp_diff_column
SELECT TIMESTAMPDIFF(SECOND, MIN(__time), MAX(__time)) AS s FROM product_heat

query millis
SELECT MILLIS_TO_TIMESTAMP(1794355260500) AS t, TIMESTAMP_TO_MILLIS(TIMESTAMP '2026-11-11 00:01:00') AS ms

query millis_column
SELECT TIMESTAMP_TO_MILLIS(__time) AS ms FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query interval_arithmetic
SELECT TIMESTAMP '2026-11-11 00:01:00' - INTERVAL '1' HOUR AS h, TIMESTAMP '2026-11-11 00:01:00' + INTERVAL '2' DAY AS d, TIMESTAMP '2026-01-31 00:00:00' + INTERVAL '1' MONTH AS m, TIMESTAMP '2026-11-11 00:00:00' + INTERVAL '1:30' MINUTE TO SECOND AS ms

query interval_where
SELECT COUNT(*) AS n FROM product_heat WHERE __time >= TIMESTAMP '2026-11-11 00:05:00' - INTERVAL '3' MINUTE AND __time < TIMESTAMP '2026-11-11 00:05:00'

query time_compare_text
SELECT COUNT(*) AS n FROM product_heat WHERE __time >= '2026-11-11T00:00:00' AND __time < '2026-11-11 00:05:00'

query time_compare_number
SELECT COUNT(*) AS n FROM product_heat WHERE __time >= 1794355200000

query time_between
SELECT COUNT(*) AS n FROM product_heat WHERE __time BETWEEN TIMESTAMP '2026-11-11 00:00:00' AND TIMESTAMP '2026-11-11 00:02:00'

query time_cast
SELECT CAST('2026-11-11 00:01:00' AS TIMESTAMP) AS t, CAST(TIMESTAMP '2026-11-11 13:01:00' AS DATE) AS d, CAST(TIMESTAMP '2026-11-11 13:01:00' AS VARCHAR) AS s, CAST(TIMESTAMP '2026-11-11 13:01:00' AS BIGINT) AS n

query time_cast_iso
SELECT CAST('2026-11-11T00:01:00.500Z' AS TIMESTAMP) AS t

query date_literal
SELECT DATE '2026-11-11' AS d, DATE '2026-11-11' + INTERVAL '1' DAY AS e

query time_date_group
SELECT CAST(__time AS DATE) AS d, SUM(events) AS n FROM product_heat GROUP BY CAST(__time AS DATE) ORDER BY 1

query current_compare
SELECT COUNT(*) AS n FROM product_heat WHERE __time < CURRENT_TIMESTAMP + INTERVAL '1000' YEAR

query time_zone_context {"context":{"sqlTimeZone":"America/Los_Angeles"}}
SELECT TIMESTAMP '2026-11-11 00:00:00' AS t, FLOOR(MAX(__time) TO DAY) AS d, EXTRACT(HOUR FROM MAX(__time)) AS h FROM product_heat

query time_zone_context_where {"context":{"sqlTimeZone":"Asia/Shanghai"}}
SELECT COUNT(*) AS n, CAST('2026-11-11 08:00:00' AS TIMESTAMP) AS t FROM product_heat WHERE __time >= '2026-11-11 08:00:00'

query time_zone_context_bad {"context":{"sqlTimeZone":"Nowhere/Here"}}
SELECT 1

query unix_timestamp
SELECT UNIX_TIMESTAMP(TIMESTAMP '2026-11-11 00:00:00') AS u

# --- text ---

query text_concat
SELECT CONCAT(product, '-', kind) AS c, product || ':' || kind AS d, TEXTCAT(product, kind) AS t FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query text_concat_null
SELECT 'a' || CAST(NULL AS VARCHAR) AS c, CONCAT('a', NULL, 'b') AS d

query text_case
SELECT UPPER('aBc') AS u, LOWER('aBc') AS l

query text_initcap
SELECT INITCAP('hot product') AS i

query text_length
SELECT LENGTH('flash') AS a, CHAR_LENGTH('flash') AS b, CHARACTER_LENGTH('flash') AS c, STRLEN('flash') AS d, LENGTH('') AS e

query text_length_unicode
SELECT LENGTH('é😀') AS n, UPPER('straße') AS u, REVERSE('é😀a') AS r

query text_trim
SELECT TRIM('  a ') AS t, TRIM(LEADING '0' FROM '007') AS l, TRIM(TRAILING '0' FROM '700') AS r, TRIM(BOTH 'x' FROM 'xax') AS b

query text_trim_functions
SELECT BTRIM('xxaxx', 'x') AS b, LTRIM('  a') AS l, RTRIM('a  ') AS r, BTRIM('  a ') AS d

query text_substring
SELECT SUBSTRING('abcdef', 2, 3) AS a, SUBSTR('abcdef', 3) AS b, SUBSTRING('abcdef' FROM 2 FOR 2) AS c

query text_left_right
SELECT LEFT('abcdef', 2) AS l, RIGHT('abcdef', 2) AS r

query text_pad
SELECT LPAD('7', 3, '0') AS l, RPAD('7', 3, '0') AS r, LPAD('12345', 3, '0') AS cut

query text_repeat
SELECT REPEAT('ab', 3) AS r, REVERSE('abc') AS v

query text_replace
SELECT REPLACE('a-b-c', '-', '+') AS r

query text_translate
SELECT TRANSLATE('abc', 'ab', 'xy') AS t

query text_position
SELECT POSITION('b' IN 'abcb') AS p, STRPOS('abcb', 'c') AS s, POSITION('z' IN 'abc') AS c

query text_position_from
SELECT POSITION('b' IN 'abcb' FROM 3) AS p

query text_regexp_extract
SELECT REGEXP_EXTRACT('sku-123', '[0-9]+') AS a, REGEXP_EXTRACT('sku-123', '([a-z]+)-([0-9]+)', 2) AS b, REGEXP_EXTRACT('sku', '[0-9]+') AS c

query text_regexp_like
SELECT REGEXP_LIKE('sku-123', '^sku') AS a, REGEXP_LIKE('sku-123', '^[0-9]') AS b

query text_regexp_like_where
SELECT DISTINCT product FROM product_heat WHERE REGEXP_LIKE(product, '^sku-[0-3]$') ORDER BY product

query text_regexp_replace
SELECT REGEXP_REPLACE('a1b22', '[0-9]+', '#') AS a, REGEXP_REPLACE('john smith', '([a-z]+) ([a-z]+)', '$2 $1') AS b

query text_contains
SELECT CONTAINS_STRING('flash sale', 'sale') AS a, ICONTAINS_STRING('flash SALE', 'sale') AS b, CONTAINS_STRING('flash', 'x') AS c

query text_format
SELECT STRING_FORMAT('%s has %d', 'sku', 7) AS f

query text_parse_long
SELECT PARSE_LONG('42') AS a, PARSE_LONG('ff', 16) AS b, PARSE_LONG('x') AS c

query text_upper_where
SELECT COUNT(*) AS n FROM product_heat WHERE UPPER(kind) = 'VIEW'

query text_string_to_array
SELECT STRING_TO_ARRAY('a,b,c', ',') AS a

query text_split_part
SELECT SPLIT_PART('a-b-c', '-', 2) AS s

query text_ascii
SELECT ASCII('A') AS a, CHR(65) AS c

query text_lookup
SELECT LOOKUP(product, 'names') FROM product_heat LIMIT 1

query text_decode_base64
SELECT DECODE_BASE64_UTF8('aGVsbG8=') AS s

query text_json_value
SELECT JSON_VALUE('{"a":1}', '$.a') AS a

# --- numbers ---

query number_arithmetic
SELECT 7 + 2 AS a, 7 - 2 AS b, 7 * 2 AS c, 7 / 2 AS d, 7.0 / 2 AS e, MOD(7, 2) AS f, -7 / 2 AS g, MOD(-7, 2) AS h

query number_percent
SELECT 7 % 2 AS a

query number_rounding
SELECT ROUND(2.5) AS a, ROUND(-2.5) AS b, ROUND(3.14159, 2) AS c, FLOOR(2.7) AS d, CEIL(2.1) AS e, TRUNCATE(2.79, 1) AS f, TRUNC(2.79) AS g

query number_rounding_integers
SELECT ROUND(7) AS a, FLOOR(7) AS b, CEIL(7) AS c, ABS(-7) AS d, ROUND(1234, -2) AS e

query number_rounding_column
SELECT ROUND(AVG(CAST(events AS DOUBLE)), 3) AS a, FLOOR(AVG(CAST(events AS DOUBLE))) AS b FROM product_heat

query number_functions
SELECT ABS(-2.5) AS a, SQRT(16) AS b, POWER(2, 10) AS c, EXP(0) AS d, LN(1) AS e, LOG10(1000) AS f

query number_sign
SELECT SIGN(-3) AS s

query number_trigonometry
SELECT ROUND(SIN(1), 6) AS a, ROUND(COS(1), 6) AS b, ROUND(TAN(1), 6) AS c, ROUND(ATAN2(1, 2), 6) AS d, ROUND(DEGREES(PI), 3) AS e, ROUND(RADIANS(180), 6) AS f

query number_div
SELECT DIV(7, 2) AS a, SAFE_DIVIDE(7, 2) AS b, SAFE_DIVIDE(1, 0) AS c

query number_safe_divide_column
SELECT product, SAFE_DIVIDE(SUM(events) FILTER (WHERE kind = 'attempt'), SUM(events) FILTER (WHERE kind = 'view')) AS conversion FROM product_heat GROUP BY product ORDER BY product LIMIT 4

query number_bitwise
SELECT BITWISE_AND(12, 10) AS a, BITWISE_OR(12, 10) AS o, BITWISE_XOR(12, 10) AS x, BITWISE_SHIFT_LEFT(1, 4) AS l, BITWISE_SHIFT_RIGHT(16, 2) AS r, BITWISE_COMPLEMENT(0) AS c

query number_greatest
SELECT GREATEST(1, 5, 3) AS g, LEAST(1, 5, 3) AS l, GREATEST('a', 'b') AS t

query number_greatest_null
SELECT GREATEST(1, NULL, 3) AS g, LEAST(NULL, 2) AS l

query number_human
SELECT HUMAN_READABLE_BINARY_BYTE_FORMAT(1048576) AS b, HUMAN_READABLE_DECIMAL_BYTE_FORMAT(1000000) AS d, HUMAN_READABLE_DECIMAL_FORMAT(1234567) AS f

query number_division_by_zero
SELECT 1 / 0 AS x

query number_division_by_zero_column
SELECT events / (events - events) AS x FROM product_heat LIMIT 1

query number_division_by_zero_double
SELECT 1.0 / 0 AS x

query number_overflow
SELECT 9223372036854775807 + 1 AS x

query number_literals
SELECT 1e3 AS a, .5 AS b, 9223372036854775807 AS c, 0.1 + 0.2 AS d

query number_cast
SELECT CAST('42' AS BIGINT) AS a, CAST(2.7 AS BIGINT) AS b, CAST(42 AS VARCHAR) AS c, CAST('2.5' AS DOUBLE) AS d

query number_cast_boolean
SELECT CAST(1 AS BOOLEAN) AS e, CAST(TRUE AS VARCHAR) AS f

query number_cast_narrow
SELECT CAST(3 AS INTEGER) AS g, CAST(2.5 AS FLOAT) AS h, CAST(3 AS SMALLINT) AS i

query number_cast_bad
SELECT CAST('x' AS BIGINT) AS a

query number_cast_bad_column
SELECT CAST(kind AS BIGINT) AS a FROM product_heat LIMIT 1

query number_decimal
SELECT CAST(2.345 AS DECIMAL(10, 2)) AS a, SUM(CAST(events AS DECIMAL(10, 2))) AS s FROM product_heat

query number_large_double
SELECT 1e21 AS a, 1.0E-7 AS b, 123456789.125 AS c, 100000000.0 AS d, 12345678.0 AS e

# --- null and choice ---

query null_nvl
SELECT NVL(NULL, 'x') AS a, NVL(NULLIF(kind, 'view'), 'other') AS b FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query null_coalesce
SELECT COALESCE(NULL, NULL, 3) AS a, COALESCE(NULLIF('a', 'a'), 'b') AS b

query null_case
SELECT CASE kind WHEN 'view' THEN 1 WHEN 'cart' THEN 3 ELSE 5 END AS w, CASE WHEN events > 3 THEN 'many' END AS m FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 3

query null_isnull
SELECT ISNULL(NULL) AS a, ISNOTNULL('x') AS b

query null_logic
SELECT NULL AND FALSE AS a, NULL OR TRUE AS b, NOT CAST(NULL AS BOOLEAN) AS c, NULL = NULL AS d

query null_empty_string
SELECT '' IS NULL AS a, COALESCE('', 'x') AS b, LENGTH('') AS c

query null_is_true
SELECT (events > 2) IS TRUE AS a, (events > 2) IS NOT FALSE AS b FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query null_if_aggregate
SELECT SUM(NULLIF(events, 1)) AS s, COUNT(NULLIF(events, 1)) AS n FROM product_heat

query choice_decode
SELECT IF(1 > 0, 'a', 'b') AS a

# --- queries in queries ---

query sub_from
SELECT kind, n FROM (SELECT kind, COUNT(*) AS n FROM product_heat GROUP BY kind) t WHERE n > 10 ORDER BY kind

query sub_in
SELECT COUNT(*) AS n FROM product_heat WHERE product IN (SELECT product FROM product_heat WHERE kind = 'attempt' AND events > 3)

query sub_not_in
SELECT COUNT(*) AS n FROM product_heat WHERE product NOT IN (SELECT product FROM product_heat WHERE kind = 'attempt')

query sub_scalar
SELECT COUNT(*) AS n FROM product_heat WHERE events > (SELECT AVG(events) FROM product_heat)

query sub_exists
SELECT COUNT(*) AS n FROM product_heat h WHERE EXISTS (SELECT 1 FROM product_heat a WHERE a.product = h.product AND a.kind = 'attempt' AND a.events > 3)

query with_one
WITH top AS (SELECT product, SUM(weighted) AS heat FROM product_heat GROUP BY product) SELECT product, heat FROM top WHERE heat > 50 ORDER BY heat DESC, product LIMIT 3

query with_two
WITH v AS (SELECT product, SUM(events) AS n FROM product_heat WHERE kind = 'view' GROUP BY product), a AS (SELECT product, SUM(events) AS n FROM product_heat WHERE kind = 'attempt' GROUP BY product) SELECT v.product, v.n AS views, a.n AS attempts FROM v JOIN a ON v.product = a.product ORDER BY v.n DESC, v.product LIMIT 5

query join_left
SELECT v.product, v.n, a.n FROM (SELECT product, SUM(events) AS n FROM product_heat WHERE kind = 'view' GROUP BY product) v LEFT JOIN (SELECT product, SUM(events) AS n FROM product_heat WHERE kind = 'cart' AND events > 2 GROUP BY product) a ON v.product = a.product ORDER BY v.product LIMIT 6

query join_cross
SELECT COUNT(*) AS n FROM (SELECT DISTINCT kind FROM product_heat) a CROSS JOIN (SELECT DISTINCT product FROM product_heat) b

query join_using
SELECT COUNT(*) AS n FROM (SELECT DISTINCT product FROM product_heat) a JOIN (SELECT DISTINCT product FROM product_heat WHERE kind = 'cart') b USING (product)

query join_non_equal
SELECT COUNT(*) AS n FROM (SELECT DISTINCT product FROM product_heat) a JOIN (SELECT DISTINCT product FROM product_heat) b ON a.product < b.product

query union_all unordered
SELECT COUNT(*) AS n FROM product_heat WHERE kind = 'view' UNION ALL SELECT COUNT(*) FROM product_heat WHERE kind = 'cart'

query union_distinct unordered
SELECT kind FROM product_heat UNION SELECT kind FROM product_heat

query intersect
SELECT product FROM product_heat WHERE kind = 'cart' INTERSECT SELECT product FROM product_heat WHERE kind = 'attempt'

query window_rank
SELECT product, SUM(weighted) AS heat, RANK() OVER (ORDER BY SUM(weighted) DESC) AS place FROM product_heat GROUP BY product ORDER BY heat DESC, product LIMIT 5

query window_partition
SELECT kind, product, SUM(events) AS n, ROW_NUMBER() OVER (PARTITION BY kind ORDER BY SUM(events) DESC, product) AS place FROM product_heat WHERE product IN ('42', '7', 'sku-1') GROUP BY kind, product ORDER BY kind, place

query window_running
SELECT TIME_FLOOR(__time, 'PT1H') AS t, SUM(events) AS n, SUM(SUM(events)) OVER (ORDER BY TIME_FLOOR(__time, 'PT1H') ROWS UNBOUNDED PRECEDING) AS so_far FROM product_heat GROUP BY TIME_FLOOR(__time, 'PT1H') ORDER BY t

query window_lag
SELECT TIME_FLOOR(__time, 'PT1H') AS t, SUM(events) AS n, LAG(SUM(events)) OVER (ORDER BY TIME_FLOOR(__time, 'PT1H')) AS before FROM product_heat GROUP BY TIME_FLOOR(__time, 'PT1H') ORDER BY t

query qualify
SELECT product, SUM(weighted) AS heat FROM product_heat GROUP BY product QUALIFY ROW_NUMBER() OVER (ORDER BY SUM(weighted) DESC, product) <= 2

# --- arrays ---

query array_literal
SELECT ARRAY['a', 'b'] AS a, ARRAY_LENGTH(ARRAY[1, 2, 3]) AS n

query array_item
SELECT ARRAY[1, 2][1] AS e

query array_offset
SELECT ARRAY_OFFSET(ARRAY['a', 'b'], 0) AS z, ARRAY_ORDINAL(ARRAY['a', 'b'], 1) AS o, ARRAY_OFFSET_OF(ARRAY['a', 'b'], 'b') AS f, ARRAY_CONCAT(ARRAY[1], ARRAY[2, 3]) AS c, ARRAY_SLICE(ARRAY[1, 2, 3], 0, 2) AS s

query array_raw {"context":{"sqlStringifyArrays":false}}
SELECT ARRAY[1, 2] AS a

query array_contains
SELECT ARRAY_CONTAINS(ARRAY['a', 'b'], 'a') AS c, ARRAY_OVERLAP(ARRAY[1, 2], ARRAY[2, 3]) AS o, ARRAY_TO_STRING(ARRAY['a', 'b'], '-') AS s

query array_unnest
SELECT u FROM UNNEST(ARRAY['a', 'b']) AS t (u)

query mv_functions
SELECT MV_LENGTH(MV_APPEND(ARRAY['a'], 'b')) AS n

# --- schema ---

query schema_schemata
SELECT SCHEMA_NAME FROM INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME IN ('druid', 'INFORMATION_SCHEMA', 'sys', 'lookup') ORDER BY SCHEMA_NAME

query schema_tables
SELECT TABLE_CATALOG, TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, IS_JOINABLE, IS_BROADCAST FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'product_heat'

query schema_columns
SELECT COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, DATA_TYPE, JDBC_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'product_heat' ORDER BY ORDINAL_POSITION

query schema_columns_all unordered
SELECT * FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'product_heat'

query schema_tables_all
SELECT * FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'product_heat'

query schema_system_tables
SELECT TABLE_NAME, TABLE_TYPE FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'INFORMATION_SCHEMA' ORDER BY TABLE_NAME

query schema_sys_tables
SELECT TABLE_NAME, TABLE_TYPE FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'sys' ORDER BY TABLE_NAME

query schema_sys_columns
SELECT TABLE_NAME, COLUMN_NAME, ORDINAL_POSITION, DATA_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'sys' AND TABLE_NAME IN ('segments', 'servers', 'tasks', 'supervisors') ORDER BY TABLE_NAME, ORDINAL_POSITION

query schema_pydruid_tables
SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'druid' AND TABLE_NAME = 'product_heat'

query schema_routines
SELECT COUNT(*) > 0 AS there FROM INFORMATION_SCHEMA.ROUTINES

query sys_segments_rows
SELECT datasource, SUM(num_rows) AS n FROM sys.segments WHERE is_active = 1 AND datasource = 'product_heat' GROUP BY datasource

query sys_servers
SELECT COUNT(*) > 0 AS there FROM sys.servers

query sys_supervisors
SELECT COUNT(*) AS n FROM sys.supervisors WHERE state = 'NONE'

query sys_tasks
SELECT COUNT(*) AS n FROM sys.tasks WHERE status = 'RUNNING'

query explain_select {"header":false,"typesHeader":false,"sqlTypesHeader":false}
EXPLAIN PLAN FOR SELECT COUNT(*) AS n FROM product_heat

query schema_columns_pydruid
SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE, COLUMN_DEFAULT FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'product_heat' AND TABLE_SCHEMA = 'druid'

query schema_case
SELECT "TABLE_NAME" FROM "INFORMATION_SCHEMA"."TABLES" WHERE TABLE_NAME = 'product_heat'

query schema_schemata_all
SELECT CATALOG_NAME, SCHEMA_NAME, SCHEMA_OWNER FROM INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = 'druid'

# --- formats and headers ---

query format_object {"resultFormat":"object","header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT __time, product, events, events * 0.5, kind = 'view' AS viewed, CAST(NULL AS VARCHAR) AS nothing FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query format_object_header {"resultFormat":"object"}
SELECT __time, product, events * 0.5 AS half FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 1

query format_object_names {"resultFormat":"object","typesHeader":false,"sqlTypesHeader":false}
SELECT product, events FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 1

query format_array {"header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT __time, product, events * 0.5 FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query format_object_lines {"resultFormat":"objectLines"}
SELECT __time, product, events * 0.5 AS half FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query format_object_lines_plain {"resultFormat":"objectLines","header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT product, events FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query format_array_lines {"resultFormat":"arrayLines"}
SELECT __time, product, events * 0.5 AS half FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query format_csv {"resultFormat":"csv"}
SELECT __time, product, events, events * 0.5 AS half, events > 1 AS many FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 2

query format_csv_plain {"resultFormat":"csv","header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT 'a,b' AS c, 'say "hi"' AS q, CAST(NULL AS VARCHAR) AS n, '' AS e, 'é' AS u, ' pad ' AS p

query format_csv_lone_empty {"resultFormat":"csv","header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT ''

query format_csv_newline {"resultFormat":"csv","header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT U&'a\000Ab' AS n

query format_empty_object {"resultFormat":"object","header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT product FROM product_heat WHERE product = 'nobody'

query format_empty_lines {"resultFormat":"objectLines","header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT product FROM product_heat WHERE product = 'nobody'

query format_empty_array_lines {"resultFormat":"arrayLines"}
SELECT product FROM product_heat WHERE product = 'nobody'

query format_empty_csv {"resultFormat":"csv","header":false,"typesHeader":false,"sqlTypesHeader":false}
SELECT product FROM product_heat WHERE product = 'nobody'

query format_upper_case {"resultFormat":"ARRAYLINES"}
SELECT 1 AS n

query format_unknown {"resultFormat":"xml"}
SELECT 1 AS n

query format_types_without_header {"header":false}
SELECT 1 AS n

query format_query_id {"context":{"sqlQueryId":"a-name-of-mine"}}
SELECT 1 AS n

query format_outer_limit {"context":{"sqlOuterLimit":2}}
SELECT product, SUM(events) AS n FROM product_heat GROUP BY product ORDER BY product

query format_unicode
SELECT 'é😀' AS u, 'tab	end' AS t

query format_duplicate_names
SELECT events AS n, weighted AS n FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 1

query format_duplicate_names_object {"resultFormat":"object"}
SELECT events AS n, weighted AS n FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 1

# --- parameters ---

query parameter_text {"parameters":[{"type":"VARCHAR","value":"42"}]}
SELECT COUNT(*) AS n FROM product_heat WHERE product = ?

query parameter_many {"parameters":[{"type":"TIMESTAMP","value":1794355200000},{"type":"BIGINT","value":2},{"type":"VARCHAR","value":"view"}]}
SELECT COUNT(*) AS n FROM product_heat WHERE __time >= ? AND events > ? AND kind = ?

query parameter_time_text {"parameters":[{"type":"TIMESTAMP","value":"2026-11-11 00:00:00"}]}
SELECT COUNT(*) AS n FROM product_heat WHERE __time >= ?

query parameter_select {"parameters":[{"type":"VARCHAR","value":"it's"},{"type":"DOUBLE","value":2.5},{"type":"BIGINT","value":-3}]}
SELECT ? AS a, ? AS b, ? AS c

query parameter_missing
SELECT COUNT(*) AS n FROM product_heat WHERE product = ?

query parameter_limit {"parameters":[{"type":"INTEGER","value":2}]}
SELECT product FROM product_heat GROUP BY product ORDER BY product LIMIT ?

query parameter_bad_type {"parameters":[{"type":"NONSENSE","value":2}]}
SELECT ?

query parameter_injection {"parameters":[{"type":"VARCHAR","value":"x' OR '1'='1"}]}
SELECT COUNT(*) AS n FROM product_heat WHERE product = ?

# --- refusals ---

query error_syntax
SELEC 1

query error_unfinished
SELECT product, FROM product_heat

query error_empty {"query":""}
SELECT 1

query error_blank {"query":" "}
SELECT 1

query error_no_table
SELECT 1 FROM nowhere

query error_no_column
SELECT nothing FROM product_heat

query error_no_schema
SELECT 1 FROM other.product_heat

query error_no_function
SELECT NOFUNCTION(product) FROM product_heat

query error_types
SELECT SUM(product + kind) FROM product_heat

query error_arguments
SELECT TIME_FLOOR(__time) FROM product_heat

query error_period
SELECT TIME_FLOOR(__time, 'PT7') FROM product_heat LIMIT 1

query error_aggregate_in_where
SELECT product FROM product_heat WHERE SUM(events) > 1

query error_insert
INSERT INTO product_heat SELECT * FROM product_heat

query error_replace
REPLACE INTO product_heat OVERWRITE ALL SELECT * FROM product_heat PARTITIONED BY DAY

query error_drop
DROP TABLE product_heat

query error_update
UPDATE product_heat SET events = 1

query error_two_statements
SELECT 1; SELECT 2

query error_unclosed_text
SELECT 'open

query error_case_sensitive_column
SELECT PRODUCT FROM product_heat LIMIT 1

query error_case_sensitive_table
SELECT 1 FROM PRODUCT_HEAT LIMIT 1

query error_order_position
SELECT product FROM product_heat GROUP BY product ORDER BY 7

query error_ambiguous
SELECT product FROM product_heat a JOIN product_heat b ON a.__time = b.__time

query error_no_query {"query":null}
SELECT 1

query error_order_by_column_of_rows
SELECT product, events FROM product_heat ORDER BY events DESC, __time, product, kind LIMIT 2

query error_timeout_bad {"context":{"timeout":"soon"}}
SELECT 1 AS n

query error_set_statement {"query":"SET sqlTimeZone = 'UTC'; SELECT 1 AS n"}
SELECT 1

query error_explain
EXPLAIN SELECT 1

# --- what clients ask ---

query superset_preview
SELECT * FROM product_heat WHERE product = '7' AND kind = 'cart' ORDER BY __time LIMIT 10

query superset_series
SELECT TIME_FLOOR(CAST(__time AS TIMESTAMP), 'PT1M') AS __timestamp, product AS product, SUM(events) AS "SUM(events)" FROM druid.product_heat WHERE __time >= TIME_PARSE('2026-11-11T00:00:00') AND __time < TIME_PARSE('2026-11-11T00:03:00') GROUP BY TIME_FLOOR(CAST(__time AS TIMESTAMP), 'PT1M'), product ORDER BY "SUM(events)" DESC, product, __timestamp LIMIT 8

query superset_count
SELECT COUNT(*) AS rowcount FROM (SELECT product AS product, COUNT(*) AS "count" FROM druid.product_heat GROUP BY product) AS rowcount_qry

query superset_filter_values
SELECT product AS product FROM druid.product_heat GROUP BY product ORDER BY product LIMIT 5

query superset_time_range
SELECT MIN(__time) AS lo, MAX(__time) AS hi FROM (SELECT __time FROM druid.product_heat) AS virtual_table

query superset_percent
SELECT kind AS kind, CAST(SUM(events) FILTER (WHERE product = '42') AS DOUBLE) / SUM(events) AS part FROM druid.product_heat GROUP BY kind ORDER BY kind

query grafana_timeseries
SELECT FLOOR(__time TO MINUTE) AS "time", SUM(events) AS "value" FROM product_heat WHERE __time >= TIMESTAMP '2026-11-11 00:00:00' AND __time <= TIMESTAMP '2026-11-11 00:03:00' GROUP BY 1 ORDER BY 1

query grafana_metric
SELECT TIME_FLOOR(__time, 'PT30S') AS "time", kind AS "metric", SUM(weighted) AS "value" FROM product_heat WHERE __time >= MILLIS_TO_TIMESTAMP(1794355200000) AND __time < MILLIS_TO_TIMESTAMP(1794355320000) GROUP BY 1, 2 ORDER BY 1, 2

query grafana_variable
SELECT DISTINCT product FROM product_heat ORDER BY product LIMIT 10

query merchandiser_hot_and_cold
SELECT product, SUM(events) FILTER (WHERE __time >= TIMESTAMP '2026-11-11 00:02:00') AS recent, SUM(events) FILTER (WHERE __time < TIMESTAMP '2026-11-11 00:02:00') AS before FROM product_heat WHERE __time >= TIMESTAMP '2026-11-11 00:00:00' GROUP BY product HAVING COUNT(*) > 5 ORDER BY product LIMIT 5

query merchandiser_peak
SELECT TIME_FORMAT(TIME_FLOOR(__time, 'PT1M'), 'HH:mm') AS minute_of_day, COUNT(DISTINCT product) AS products, SUM(weighted) AS heat FROM product_heat GROUP BY 1 ORDER BY heat DESC, minute_of_day LIMIT 3
