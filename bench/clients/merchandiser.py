"""A merchandiser's first script: what is hot, since when, and how the last minutes went. Plain pydruid, as it would be
with a Druid: start from here.

    pip install pydruid
    python merchandiser.py http://localhost:8888/druid/v2/sql/ [--token TOKEN]
"""

import argparse
from urllib.parse import urlparse

from pydruid.db import connect


def cursor(url, token=None):
    at = urlparse(url)
    # Druid's clients send a name and a password; our password is the token, the name is not looked at.
    login = {"user": "merchandiser", "password": token} if token else {}
    return connect(host=at.hostname, port=at.port or 8888, path=at.path or "/druid/v2/sql/", scheme=at.scheme, **login).cursor()


def rows(cursor, sql, **parameters):
    return list(cursor.execute(sql, parameters or None))


def hot(cursor, limit=10):
    """The hottest products of the last minute, by rank."""
    return rows(cursor, f'SELECT "rank", product, "count", share, temperature, since FROM top_products ORDER BY "rank" LIMIT {int(limit)}')


def conversion(cursor, products, minutes=15):
    """Views, carts and attempts of these products in the last minutes of the data, and attempts per view."""
    names = ", ".join("'" + p.replace("'", "''") + "'" for p in products)
    if not names:
        return []
    return rows(
        cursor,
        f"""SELECT product,
                   SUM(events) FILTER (WHERE kind = 'view') AS views,
                   SUM(events) FILTER (WHERE kind = 'cart') AS carts,
                   SUM(events) FILTER (WHERE kind = 'attempt') AS attempts,
                   SAFE_DIVIDE(SUM(events) FILTER (WHERE kind = 'attempt') * 1.0,
                               SUM(events) FILTER (WHERE kind = 'view')) AS per_view
            FROM product_heat
            WHERE product IN ({names})
              AND __time >= TIMESTAMPADD(MINUTE, -{int(minutes)}, (SELECT MAX(__time) FROM product_heat))
            GROUP BY product ORDER BY attempts DESC, product""",
    )


def by_minute(cursor, minutes=10):
    """Heat and products by minute, newest first."""
    return rows(
        cursor,
        f"""SELECT FLOOR(__time TO MINUTE) AS minute_begin, SUM(weighted) AS heat, COUNT(DISTINCT product) AS products
            FROM product_heat GROUP BY FLOOR(__time TO MINUTE) ORDER BY minute_begin DESC LIMIT {int(minutes)}""",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="http://localhost:8888/druid/v2/sql/")
    parser.add_argument("--token")
    told = parser.parse_args()
    with_druid = cursor(told.url, told.token)
    top = hot(with_druid)
    print("What is hot now")
    for r in top:
        print(f"  {r.rank:>3}  {r.product:<24} {r.count:>9}  {r.share:7.2%}  {r.temperature} since {r.since}")
    print("How they sell (last 15 minutes)")
    for r in conversion(with_druid, [r.product for r in top]):
        print(f"  {r.product:<24} {r.views or 0:>9} views {r.carts or 0:>7} carts {r.attempts or 0:>7} attempts")
    print("By minute")
    for r in by_minute(with_druid):
        print(f"  {r.minute_begin}  heat {r.heat:>9}  products {r.products:>7}")


if __name__ == "__main__":
    main()
