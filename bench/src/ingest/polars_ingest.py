"""Polars' side of `script/bench ingest`: views per page from Filebeat's records, on one thread.

Two ways to read the file are known; each run takes both and answers with the quicker one. What counts is time on the
core, as on our side.
"""
import json, os, sys, time
os.environ["POLARS_MAX_THREADS"] = "1"
import polars as pl

path, what = sys.argv[1], sys.argv[2]
BOTS = r"(?i)bot/|bot;|bot\)|crawler|spider/|\+http|slurp|curl/|python-"
# Page and status of a view; the agent is the sixth piece between quotes.
VIEW = r'^[^"]*"GET (?:/m)?/product/([^/? "]*)[^"]*" (?:2..|304) '

def records():
    return pl.scan_ndjson(path, schema={"message": pl.String})

def lines():
    whole = pl.scan_csv(path, has_header=False, separator="\x01", quote_char=None, new_columns=["line"])
    return whole.select(pl.col("line").str.json_path_match("$.message").alias("message"))

def query(source):
    views = source.with_columns(page=pl.col("message").str.extract(VIEW, 1)).filter(pl.col("page") != "")
    if what != "raw":
        agent = pl.col("message").str.splitn('"', 7).struct.field("field_5")
        views = views.filter(~agent.str.contains(BOTS))
    return views.group_by("page").len()

best = None
for source in (records, lines):
    started = time.process_time()
    found = query(source()).collect()
    seconds = time.process_time() - started
    if best is None or seconds < best["seconds"]:
        best = {"seconds": seconds, "pages": found.height, "views": int(found["len"].sum())}
print(json.dumps(best))
