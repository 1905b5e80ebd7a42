"""Reads history's Parquet with DuckDB and with Arrow's own reader, as it lies, and prints what both must agree upon:
rows and sums by kind, and how many rows one minute has (which both find by statistics).
"""

import json
import sys

import duckdb
import pyarrow.dataset
import pyarrow.parquet


def main():
    place, begin = sys.argv[1], int(sys.argv[2])
    files = f"{place}/*/*.parquet"
    by_kind = duckdb.sql(
        f"SELECT kind, COUNT(*), SUM(events), SUM(weighted), SUM(visitors), COUNT(DISTINCT product) "
        f"FROM read_parquet('{files}', hive_partitioning = true) GROUP BY kind ORDER BY kind"
    ).fetchall()
    minute = duckdb.sql(
        f"SELECT COUNT(*) FROM read_parquet('{files}') "
        f"WHERE epoch_ms(__time) >= {begin} AND epoch_ms(__time) < {begin + 60_000}"
    ).fetchall()[0][0]
    arrow = pyarrow.dataset.dataset(place, format="parquet", partitioning="hive").to_table()
    assert str(arrow.schema.field("__time").type) == "timestamp[ms, tz=UTC]", arrow.schema
    for name in ["product", "kind"]:
        assert str(arrow.schema.field(name).type) == "string", arrow.schema
    first = pyarrow.dataset.dataset(place, format="parquet").files[0]
    meta = pyarrow.parquet.ParquetFile(first).metadata
    assert [c.column_index for c in meta.row_group(0).sorting_columns] == [0, 1]
    assert meta.row_group(0).column(0).has_column_index and meta.row_group(0).column(0).statistics.has_min_max
    print(json.dumps({"rows": arrow.num_rows, "events": sum(arrow["events"].to_pylist()), "by_kind": by_kind, "minute": minute}))


if __name__ == "__main__":
    main()
