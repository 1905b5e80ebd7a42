//! Where the open orders lie: a SQLite file or a database on a MariaDB that this run started. They are made by one
//! statement for each table, as if a core had taken them, while none runs; a million purchases would take minutes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bench::child::{Providers, SALE};
use rusqlite::{Connection, OpenFlags};
use servers::MariaDb;

use crate::area::Settings;

/// Products of the orders that fall due one by one.
const PRODUCTS: u64 = 100;
/// The product of those due at one moment.
const TOGETHER: &str = "together";
/// Over which these fall due.
const SPREAD_MS: u64 = 15 * 60 * 1_000;

/// Milliseconds since the epoch.
pub fn wall_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// What is to be sold before a database is filled: as many units as there will be orders.
pub fn products(open: u64, together: u64) -> Vec<(String, u64)> {
    let mut all: Vec<_> = (0..PRODUCTS).map(|p| (format!("p{p}"), open / PRODUCTS)).collect();
    all.push((TOGETHER.to_owned(), together));
    all
}

/// Orders to be made.
pub struct Filling {
    pub open: u64,
    pub together: u64,
    /// When the first is due, in milliseconds since the epoch.
    pub first: i64,
    /// When those of one moment are due.
    pub together_at: i64,
}

/// A kind of database.
pub enum Place {
    Sqlite,
    MariaDb(Box<MariaDb>),
}

/// Both, or SQLite alone where no MariaDB is installed.
pub fn all(folder: &Path, settings: &Settings) -> Vec<Place> {
    let mut places = vec![Place::Sqlite];
    // Room for the indices that a million orders touch; the durability is the usual one of `servers`.
    match MariaDb::start_with(&folder.join("mariadb"), &["innodb_buffer_pool_size=512M"]) {
        Ok(server) => places.push(Place::MariaDb(Box::new(server))),
        Err(error) => settings.say(&format!("no MariaDB ({error:#}): its figures are left out")),
    }
    places
}

/// How the database is filled and looked at from outside.
pub enum Sql<'a> {
    File(PathBuf),
    Server(&'a MariaDb, String),
}

impl Place {
    /// For figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::MariaDb(_) => "MariaDB",
        }
    }

    /// A fresh database, and what a core on it is told.
    pub fn open(&self, data: &Path) -> anyhow::Result<(Providers, Sql<'_>)> {
        match self {
            Self::Sqlite => Ok((Providers::default(), Sql::File(data.join("stock.sqlite")))),
            Self::MariaDb(server) => {
                let url = server.create_database()?;
                let name = url.rsplit('/').next().unwrap_or_default().to_owned();
                Ok((Providers { mariadb: Some(url), ..Providers::default() }, Sql::Server(server, name)))
            }
        }
    }
}

impl Sql<'_> {
    /// Makes the orders.
    pub fn fill(&self, filling: &Filling) -> anyhow::Result<()> {
        match self {
            Self::File(path) => {
                let db = Connection::open(path)?;
                let numbers = |n: u64| {
                    let last = n - 1;
                    format!(
                        "(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s)"
                    )
                };
                let text = |word: &str, n: &str| format!("'{word}' || ({n})");
                db.execute_batch("PRAGMA cache_size = -500000; BEGIN")?;
                for sql in statements(filling, &numbers, "lower(hex(randomblob(16)))", "/", &text) {
                    db.execute(&sql, []).with_context(|| sql.clone())?;
                }
                Ok(db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?)
            }
            Self::Server(server, name) => {
                let numbers = |n: u64| format!("(SELECT seq AS n FROM seq_0_to_{}) s", n - 1);
                let text = |word: &str, n: &str| format!("CONCAT('{word}', {n})");
                let sql = statements(filling, &numbers, "MD5(UUID())", " DIV ", &text).join("; ");
                let quick = "SET sql_log_bin = 0, unique_checks = 0, foreign_key_checks = 0";
                server.run(&format!("USE {name}; {quick}; {sql}")).map(drop).map_err(Into::into)
            }
        }
    }

    /// When the oldest order was due that is due at `now` and not released.
    pub fn overdue(&self, now: i64) -> anyhow::Result<Option<i64>> {
        let sql = format!("SELECT MIN(expires_at) FROM orders WHERE state = 'accepted' AND expires_at <= {now}");
        Ok(self.numbers(&sql)?.first().copied())
    }

    /// By how many milliseconds each order was late that was due in this time (the end excluded), by the event of its
    /// end.
    pub fn lateness(&self, from: i64, to: i64) -> anyhow::Result<Vec<i64>> {
        self.numbers(&format!(
            "SELECT b.at - o.expires_at FROM outbox b JOIN orders o ON o.order_id = b.order_id \
             WHERE b.kind = 'expired' AND o.expires_at >= {from} AND o.expires_at < {to}"
        ))
    }

    /// Units that orders hold are those that the stock says are reserved.
    pub fn check(&self) -> anyhow::Result<()> {
        let of = |sql: &str| anyhow::Ok(self.numbers(sql)?.first().copied().unwrap_or(0));
        let reserved = of("SELECT SUM(reserved) FROM stock")?;
        let held = of("SELECT SUM(quantity) FROM orders WHERE state = 'accepted'")?;
        ensure!(reserved == held, "{reserved} units are reserved, and orders hold {held}");
        Ok(())
    }

    fn numbers(&self, sql: &str) -> anyhow::Result<Vec<i64>> {
        match self {
            Self::File(path) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let db = Connection::open_with_flags(path, flags)?;
                let mut find = db.prepare(sql)?;
                let rows = find.query_map([], |row| row.get::<_, Option<i64>>(0))?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            }
            Self::Server(server, name) => {
                let said = server.run(&format!("USE {name}; {sql}"))?;
                let lines = said.lines().filter(|line| *line != "NULL");
                lines.map(|line| line.trim().parse().with_context(|| line.to_owned())).collect()
            }
        }
    }
}

/// The same rows as purchases would have made, as far as expiry reads and writes them.
fn statements(
    filling: &Filling,
    numbers: &dyn Fn(u64) -> String,
    id: &str,
    divide: &str,
    text: &dyn Fn(&str, &str) -> String,
) -> Vec<String> {
    let &Filling { open, together, first, together_at } = filling;
    let made = first - 900_000;
    let parts = [
        (open, "b", text("p", &format!("n % {PRODUCTS}")), format!("{first} + (n * {SPREAD_MS}){divide}{open}")),
        (together, "t", format!("'{TOGETHER}'"), together_at.to_string()),
    ];
    let mut all = Vec::new();
    for (count, who, product, due) in parts {
        let (buyer, key, numbers) = (text(who, "n"), text("k", "n"), numbers(count));
        all.push(format!(
            "INSERT INTO orders (order_id, buyer, `key`, sale, product_id, quantity, amount, currency, tier, state, \
             accepted_at, expires_at, updated_at) SELECT {id}, {buyer}, {key}, '{SALE}', {product}, 1, 1990, 'EUR', \
             'db', 'accepted', {made}, {due}, {made} FROM {numbers}"
        ));
        all.push(format!(
            "INSERT INTO buyer_limit (buyer, sale, product_id, held) SELECT {buyer}, '{SALE}', {product}, 1 \
             FROM {numbers}"
        ));
    }
    // In this order MariaDB assigns what it had before; SQLite does in any.
    all.push("UPDATE stock SET reserved = free, free = 0 WHERE product_id <> 'hot'".into());
    all
}
