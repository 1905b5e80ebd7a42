"""DuckDB's side of `script/bench heat`: for every second the top 1 % of the pages of the last 60 seconds, ties included,
from an access log in combined form, on one thread. What counts is time on the core, as on our side.
"""
import json, sys, time
import duckdb

path = sys.argv[1]
con = duckdb.connect()
con.execute("SET threads = 1; SET enable_progress_bar = false")
QUERY = f"""
WITH lines AS (
    SELECT line, split_part(line, '"', 2) AS request,
        split_part(ltrim(split_part(line, '"', 3)), ' ', 1) AS status
    FROM read_csv('{path}', columns={{line: 'VARCHAR'}}, header=false, delim='\x01', quote='', escape='',
        auto_detect=false)
), views AS (
    SELECT epoch(strptime(substr(split_part(line, '[', 2), 1, 20), '%d/%b/%Y:%H:%M:%S'))::BIGINT AS second,
        split_part(split_part(CASE
            WHEN starts_with(request, 'GET /product/') THEN substr(split_part(request, ' ', 2), 10)
            ELSE substr(split_part(request, ' ', 2), 12) END, '/', 1), '?', 1) AS page
    FROM lines
    WHERE (starts_with(request, 'GET /product/') OR starts_with(request, 'GET /m/product/'))
        AND (status LIKE '2__' OR status = '304')
), panes AS (
    SELECT second, page, count(*) AS n FROM views GROUP BY ALL
), windows AS (
    SELECT second + d AS window_end, page, sum(n) AS c FROM panes, range(1, 61) AS r(d) GROUP BY ALL
), ranked AS (
    SELECT window_end, c, row_number() OVER (PARTITION BY window_end ORDER BY c DESC) AS place,
        count(*) OVER (PARTITION BY window_end) AS active
    FROM windows
), lines_drawn AS (
    SELECT window_end, min(c) AS threshold FROM ranked WHERE place <= ceil(active / 100.0) GROUP BY window_end
)
SELECT count(DISTINCT window_end), count(*), sum(c) FROM ranked JOIN lines_drawn USING (window_end)
WHERE c >= threshold
"""
begun = time.process_time()
windows, hot, counts = con.execute(QUERY).fetchone()
seconds = time.process_time() - begun
print(json.dumps({"seconds": seconds, "version": duckdb.__version__,
                  "windows": int(windows), "hot": int(hot), "counts": int(counts)}))
