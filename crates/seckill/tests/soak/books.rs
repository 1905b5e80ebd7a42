//! What the database says at the end, asked with plain SQL of the test's own, on SQLite and on MariaDB alike; and
//! how a copy of it is doctored, to see the judge see it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::shopper::PRODUCT;
use crate::town::Town;

/// The database of a town.
pub enum Books<'a> {
    File(PathBuf),
    Server(&'a crate::town::Servers),
}

/// What became of the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stock {
    pub total: u64,
    pub free: u64,
    pub leased: u64,
    pub reserved: u64,
    pub sold: u64,
}

impl<'a> Books<'a> {
    pub fn of(town: &'a Town) -> Self {
        match &town.servers {
            None => Self::File(town.data().join("core/stock.sqlite")),
            Some(servers) => Self::Server(servers),
        }
    }

    /// The same, as the auditor takes it.
    pub fn store(&self) -> audit::stock::Store {
        match self {
            Self::File(path) => audit::stock::Store::File(path.clone()),
            Self::Server(servers) => {
                audit::stock::Store::Server(audit::stock::Server::new(servers.database.clone(), None))
            }
        }
    }

    /// Rows as texts.
    pub fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        match self {
            Self::File(path) => {
                let store = Connection::open(path).unwrap();
                store.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
                let mut statement = store.prepare(sql).unwrap();
                let columns = statement.column_count();
                let text = |value: ValueRef<'_>| match value {
                    ValueRef::Integer(n) => n.to_string(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                };
                let rows = statement.query_map([], |row| {
                    (0..columns).map(|column| row.get_ref(column).map(text)).collect::<Result<Vec<_>, _>>()
                });
                rows.unwrap().map(Result::unwrap).collect()
            }
            Self::Server(servers) => {
                let database = servers.database.rsplit('/').next().unwrap();
                let rows = servers.mariadb.run(&format!("USE {database}; {sql}")).unwrap();
                rows.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
            }
        }
    }

    pub fn stock(&self) -> Stock {
        let sql = format!("SELECT total, free, leased, reserved, sold FROM stock WHERE product_id = '{PRODUCT}'");
        let rows = self.ask(&sql);
        let numbers: Vec<u64> = rows[0].iter().map(|text| text.parse().unwrap()).collect();
        let [total, free, leased, reserved, sold] = numbers[..] else { panic!("five columns") };
        Stock { total, free, leased, reserved, sold }
    }

    /// Units of orders that are accepted or paid.
    pub fn living_units(&self) -> u64 {
        let sql = "SELECT COALESCE(SUM(quantity), 0) FROM orders WHERE state IN ('accepted', 'paid')";
        self.ask(sql)[0][0].parse().unwrap()
    }

    /// Buyers who hold more than their limit.
    pub fn above_limit(&self, limit: u32) -> u64 {
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT buyer FROM orders WHERE state IN ('accepted', 'paid') GROUP BY buyer \
             HAVING SUM(quantity) > {limit}) b"
        );
        self.ask(&sql)[0][0].parse().unwrap()
    }

    /// Orders by tier.
    pub fn orders_by_tier(&self) -> BTreeMap<String, u64> {
        let rows = self.ask("SELECT tier, COUNT(*) FROM orders GROUP BY tier");
        rows.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
    }

    /// Orders by state.
    pub fn orders_by_state(&self) -> BTreeMap<String, u64> {
        let rows = self.ask("SELECT state, COUNT(*) FROM orders GROUP BY state");
        rows.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
    }

    /// Decisions by outcome.
    pub fn decisions(&self) -> BTreeMap<String, u64> {
        let rows = self.ask("SELECT outcome, COUNT(*) FROM decision GROUP BY outcome");
        rows.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
    }

    /// When the product was opened on another tier, in milliseconds since the epoch.
    pub fn moves(&self) -> Vec<i64> {
        let rows = self.ask("SELECT at FROM move WHERE step = 'open' AND from_tier <> to_tier ORDER BY at");
        rows.into_iter().map(|row| row[0].parse().unwrap()).collect()
    }

    /// A copy in `folder` on which this SQL was done.
    pub fn doctored(&self, folder: &Path, name: &str, sql: &str) -> Self {
        let Self::File(path) = self else { panic!("only the embedded store is copied") };
        let copy = folder.join(format!("{name}.sqlite"));
        let store = Connection::open(path).unwrap();
        store.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        let doctored = Connection::open(&copy).unwrap();
        doctored.execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}")).unwrap();
        Self::File(copy)
    }
}
