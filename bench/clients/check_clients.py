"""pydruid's DB-API, its SQLAlchemy dialect, and Superset's way through it, against the address given: unchanged, as
they come from the package index. The rows are those of analyzer/tests/sql_druid/main.rs; any difference is an
AssertionError.
"""

import sys

import merchandiser
from pydruid.db import connect
from pydruid.db.exceptions import ProgrammingError
from sqlalchemy import MetaData, Table, column, create_engine, func, inspect, literal_column, select, table, text


def db_api(host, port):
    cursor = connect(host=host, port=port, path="/druid/v2/sql/", scheme="http").cursor()
    cursor.execute("SELECT product, SUM(weighted) AS heat FROM product_heat GROUP BY product ORDER BY heat DESC")
    assert [(c[0], c[1]) for c in cursor.description] == [("product", 1), ("heat", 2)], cursor.description
    assert [tuple(r) for r in cursor.fetchall()] == [("42", 14), ("7", 6)]
    cursor.execute("SELECT COUNT(*) AS n FROM product_heat WHERE product = %(p)s", {"p": "42"})
    assert cursor.fetchone().n == 2
    cursor.execute("SELECT product FROM product_heat WHERE product = 'nobody'")
    assert cursor.fetchall() == []
    cursor.execute("SELECT __time FROM product_heat ORDER BY __time LIMIT 1")
    assert cursor.fetchone()[0] == "2026-11-11T00:00:59.000Z"
    try:
        cursor.execute("SELECT nothing FROM product_heat")
        cursor.fetchall()
    except ProgrammingError as error:
        assert "nothing" in str(error), error
    else:
        raise AssertionError("a wrong query was answered")
    with_header = connect(host=host, port=port, path="/druid/v2/sql/", scheme="http", header=True).cursor()
    with_header.execute("SELECT product FROM product_heat WHERE product = 'nobody'")
    assert with_header.fetchall() == [] and with_header.description[0][0] == "product"


def sqlalchemy(host, port):
    engine = create_engine(f"druid://{host}:{port}/druid/v2/sql/")
    look = inspect(engine)
    assert "druid" in look.get_schema_names(), look.get_schema_names()
    # Without a schema pydruid lists the tables of all.
    assert look.get_table_names(schema="druid") == ["orders_by_second", "product_heat", "top_products"], look.get_table_names()
    assert look.has_table("product_heat") and not look.has_table("nowhere")
    columns = {c["name"]: str(c["type"]) for c in look.get_columns("product_heat")}
    assert columns == {
        "__time": "TIMESTAMP", "product": "VARCHAR", "kind": "VARCHAR", "events": "BIGINT", "weighted": "BIGINT", "visitors": "BIGINT",
    }, columns
    heat = Table("product_heat", MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        query = select(heat.c.product, func.sum(heat.c.events).label("n")).group_by(heat.c.product).order_by(text("n DESC"))
        assert [tuple(r) for r in connection.execute(query)] == [("42", 6), ("7", 4)]
    return engine


def superset(engine):
    """What Superset sends for a table, a time series, a big number and a filter box (its Druid engine specification)."""
    heat = table("product_heat", schema="druid")
    minute = literal_column("TIME_FLOOR(CAST(__time AS TIMESTAMP), 'PT1M')")
    since = literal_column("__time") >= literal_column("CAST(TIME_PARSE('2026-11-11T00:00:00') AS TIMESTAMP)")
    series = (
        select(minute.label("__timestamp"), column("product").label("product"), func.sum(column("events")).label("SUM(events)"))
        .select_from(heat).where(since).group_by(column("product"), minute)
        .order_by(literal_column('"SUM(events)"').desc()).limit(10000)
    )
    with engine.connect() as connection:
        found = {tuple(r) for r in connection.execute(series)}
        assert found == {
            ("2026-11-11T00:00:00.000Z", "7", 3), ("2026-11-11T00:01:00.000Z", "42", 6), ("2026-11-11T00:01:00.000Z", "7", 1),
        }, found
        big = select(func.count(literal_column("*")).label("count")).select_from(heat)
        assert [tuple(r) for r in connection.execute(big)] == [(4,)]
        choices = select(column("kind")).select_from(heat).group_by(column("kind")).order_by(column("kind"))
        assert [r[0] for r in connection.execute(choices)] == ["attempt", "cart", "view"]
        # SQL Lab wraps nothing and sends what was typed; the preview of a table asks for all columns.
        preview = connection.execute(text("SELECT\n  *\nFROM druid.product_heat\nLIMIT 100"))
        assert len(preview.fetchall()) == 4
        assert list(preview.keys()) == ["__time", "product", "kind", "events", "weighted", "visitors"]


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    db_api(host, int(port))
    superset(sqlalchemy(host, int(port)))
    druid = merchandiser.cursor(f"http://{host}:{port}/druid/v2/sql/")
    assert [r.product for r in merchandiser.hot(druid)] == ["42", "7"]
    assert [(r.product, r.views, r.attempts) for r in merchandiser.conversion(druid, ["42", "7"])][0] == ("42", 4, 2)
    assert [(r.heat, r.products) for r in merchandiser.by_minute(druid)] == [(17, 2), (3, 1)]
    print("all clients got what they asked for")


if __name__ == "__main__":
    main()
