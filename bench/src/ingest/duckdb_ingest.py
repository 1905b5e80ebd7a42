"""DuckDB's side of `script/bench ingest`: views per page from Filebeat's records, on one thread.

Two ways to read the file are known to be quick; each run takes both and answers with the quicker one.
What counts is time on the core, as on our side, so that neither pays for what else the machine does.
"""
import json, sys, time
import duckdb

path, what = sys.argv[1], sys.argv[2]
BOTS = "bot/|bot;|bot\\)|crawler|spider/|\\+http|slurp|curl/|python-"
SOURCES = {
    "read_json": f"""SELECT message FROM read_json('{path}', format='newline_delimited',
        columns={{message: 'VARCHAR'}})""",
    "json_extract": f"""SELECT json_extract_string(line, '$.message') AS message
        FROM read_csv('{path}', columns={{line: 'VARCHAR'}}, header=false, delim='\x01', quote='', escape='',
        auto_detect=false, max_line_size=2000000)""",
}

def query(source):
    # Request, status and agent are the second, third and sixth piece between quotes.
    bots = "" if what == "raw" else f"AND NOT regexp_matches(lower(split_part(message, '\"', 6)), '{BOTS}')"
    return f"""
        SELECT page, count(*) AS views FROM (
            SELECT split_part(split_part(rest, '/', 1), '?', 1) AS page FROM (
                SELECT CASE
                    WHEN starts_with(request, 'GET /product/') THEN substr(split_part(request, ' ', 2), 10)
                    WHEN starts_with(request, 'GET /m/product/') THEN substr(split_part(request, ' ', 2), 12)
                END AS rest
                FROM (SELECT message, split_part(message, '"', 2) AS request,
                             split_part(message, '"', 3)[2:4] AS status FROM ({source}))
                WHERE (starts_with(request, 'GET /product/') OR starts_with(request, 'GET /m/product/'))
                  AND (starts_with(status, '2') OR status = '304') {bots}))
        WHERE page <> '' GROUP BY page"""

best = None
for source in SOURCES.values():
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.execute("SET enable_progress_bar = false")
    started = time.process_time()
    rows = connection.execute(query(source)).fetchall()
    seconds = time.process_time() - started
    if best is None or seconds < best["seconds"]:
        best = {"seconds": seconds, "pages": len(rows), "views": sum(row[1] for row in rows)}
print(json.dumps(best))
