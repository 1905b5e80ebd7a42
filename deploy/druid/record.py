"""Asks a real Druid the statements of analyzer/tests/druid and keeps its answers as fixtures: `record` over a batch of
fixed rows (statements.sql), `dashboard` over what a Kafka supervisor reads of the real trace (dashboard.sql). It writes
only the two files of answers; the analyzer's tests compare them with ours in every run.
"""

import argparse
import datetime
import gzip
import json
import os
import pathlib
import struct
import urllib.error
import urllib.request

from druid import Druid, Kafka

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUITE = ROOT / "analyzer" / "tests" / "druid"

# What a statement asks for if its line does not say otherwise; the Rust side has the same (tests/sql_druid/suite.rs).
DEFAULTS = {"resultFormat": "array", "header": True, "typesHeader": True, "sqlTypesHeader": True}


def statements(table):
    """(name, request) of each statement of the table, in order."""
    name, members, lines = None, {}, []
    for line in (SUITE / table).read_text().splitlines() + [""]:
        if name is None:
            if line.startswith("query "):
                head, _, tail = line.partition("{")
                name = head.split()[1]
                members = json.loads("{" + tail) if tail else {}
        elif line == "":
            yield name, {**DEFAULTS, "query": "\n".join(lines), **members}
            name, lines = None, []
        else:
            lines.append(line)


def spec():
    """The batch task that loads product_heat.csv: one row a line, nothing rolled up."""
    rows = (SUITE / "product_heat.csv").read_text()
    whole = lambda name: {"type": "long", "name": name}
    return {
        "type": "index_parallel",
        "spec": {
            "dataSchema": {
                "dataSource": "product_heat",
                "timestampSpec": {"column": "__time", "format": "iso"},
                "dimensionsSpec": {"dimensions": ["product", "kind", whole("events"), whole("weighted"), whole("visitors")]},
                "granularitySpec": {"segmentGranularity": "DAY", "queryGranularity": "NONE", "rollup": False},
            },
            "ioConfig": {
                "type": "index_parallel",
                "inputSource": {"type": "inline", "data": rows},
                "inputFormat": {"type": "csv", "findColumnsFromHeader": True},
            },
            "tuningConfig": {"type": "index_parallel", "maxNumConcurrentSubTasks": 1},
        },
    }, len(rows.splitlines()) - 1


def ask(url, request):
    """Status, the headers that matter, and the body as text."""
    post = urllib.request.Request(url + "/druid/v2/sql", json.dumps(request).encode(), {"Content-Type": "application/json"})
    try:
        answer = urllib.request.urlopen(post, timeout=120)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = answer.read().decode()
        return {
            "status": answer.status,
            "type": (answer.headers.get("Content-Type") or "").split(";")[0],
            "header": answer.headers.get("X-Druid-SQL-Header-Included"),
            "body": body,
        }


def masked(answer):
    """Without what differs from run to run: hosts and ports of the machine that it ran on."""
    if answer["status"] != 200:
        try:
            body = json.loads(answer["body"])
        except ValueError:
            return answer
        if isinstance(body, dict):
            body["host"] = None
            if isinstance(body.get("context"), dict):
                body["context"].pop("host", None)
            answer["body"] = json.dumps(body, ensure_ascii=False)
    return answer


def ask_all(druid, table, answers):
    with open(SUITE / answers, "w") as out:
        for name, request in statements(table):
            answer = masked(ask(druid.url("broker"), request))
            out.write(json.dumps({"name": name, **answer}, ensure_ascii=False) + "\n")


def record(druid):
    task, rows = spec()
    druid.ingest(task, rows)
    ask_all(druid, "statements.sql", "answers.jsonl")


def events():
    """The real trace as the collector writes it to product-events-json: a hundred requests a second from midnight, every
    13th an addition to the cart, every 40th an attempt. The Rust side makes the same (tests/sql_druid/suite.rs)."""
    raw = gzip.open(ROOT / "examples" / "data" / "web07.trace.gz").read()
    begin = datetime.datetime(2026, 11, 11, tzinfo=datetime.timezone.utc)
    for i, (page,) in enumerate(struct.iter_unpack(">i", raw[: len(raw) // 4 * 4])):
        kind = "attempt" if i % 40 == 39 else "cart" if i % 13 == 12 else "view"
        at = begin + datetime.timedelta(milliseconds=10 * i)
        yield json.dumps({
            "__time": at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z", "product": str(page), "kind": kind,
            "events": 1, "status": 200, "visitor": f"{i % 5000:016x}", "source": "web07", "offset": i,
        })


def dashboard(druid):
    lines = list(events())
    with Kafka(druid.dir / "kafka") as kafka:
        kafka.produce("product-events-json", lines)
        spec = json.loads((ROOT / "deploy" / "druid" / "supervisor.json").read_text())
        spec["spec"]["ioConfig"]["consumerProperties"]["bootstrap.servers"] = kafka.address
        druid.post("coordinator", "/druid/indexer/v1/supervisor", spec)
        druid.until_rows("product_heat", "SUM(events)", len(lines))
        ask_all(druid, "dashboard.sql", "dashboard.jsonl")
        druid.post("coordinator", "/druid/indexer/v1/supervisor/product_heat/terminate", {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "dashboard"])
    told = parser.parse_args()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "seckill" / "servers"
    with Druid(cache) as druid:
        {"record": record, "dashboard": dashboard}[told.what](druid)
    print("answers kept; now compare: cargo test --workspace --test sql_druid suite")


if __name__ == "__main__":
    main()
