//! One connection to the server, set up as the store needs it, and scripts on it under a time limit. It knows
//! nothing of stock.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Either};
use types::Sku;

use super::fault::Fault;
use super::options::MariaStoreOptions;
use super::text::Script;
use crate::stock::db::metrics::STATEMENTS;

/// Oldest versions whose behaviour the statements rest on: `CHECK` that is enforced, and window-free reads under
/// READ COMMITTED with row-based logging.
const OLDEST_MARIADB: (u32, u32) = (10, 5);
const OLDEST_MYSQL: (u32, u32) = (8, 0);
/// The least `max_allowed_packet`: a group of the largest size with the longest ids, with room.
const LEAST_PACKET: i64 = 4 * 1024 * 1024;
/// How long the server lets a connection be idle within a transaction: a core that has lost its network without a
/// word must not hold a product's lock for longer than a shopper waits. (MariaDB; MySQL has only `wait_timeout`.)
const IDLE_IN_TRANSACTION: u32 = 10;
/// How long the server keeps an idle connection. A new one costs a millisecond.
const IDLE: u32 = 600;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Transactions.
    Writer,
    /// Single reads, which the server itself ends after the time limit.
    Reader,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    db: MySqlConnection,
    limit: Duration,
    name: String,
}

/// What the server answered to a script, by label.
#[derive(Debug, Default)]
pub(super) struct Replies {
    parts: Vec<(&'static str, Vec<MySqlRow>, u64)>,
}

impl Replies {
    /// The rows of every statement of this label, in order; they are taken out.
    pub(super) fn rows(&mut self, label: &str) -> impl Iterator<Item = MySqlRow> + use<> {
        let mut all = Vec::new();
        for (name, rows, _) in &mut self.parts {
            if *name == label {
                all.append(rows);
            }
        }
        all.into_iter()
    }
    /// The only row of this label's statements, if there is one.
    pub(super) fn row(&mut self, label: &str) -> Option<MySqlRow> {
        self.rows(label).next()
    }
    /// Rows that the statements of this label inserted or found to update.
    pub(super) fn touched(&self, label: &str) -> u64 {
        self.parts.iter().filter(|(name, ..)| *name == label).map(|(.., touched)| touched).sum()
    }
}

impl Session {
    /// Connects and sets the session up; refuses a server that cannot keep the promises.
    pub(super) async fn open(options: &MariaStoreOptions, role: Role) -> Result<Self, Fault> {
        let limit = options.connect_limit;
        tokio::time::timeout(limit, Self::set_up(options, role)).await.map_err(|_| Fault::Slow(limit))?
    }

    async fn set_up(options: &MariaStoreOptions, role: Role) -> Result<Self, Fault> {
        let db = options.server()?.connect().await.map_err(|e| Fault::from_sqlx(e, "connect"))?;
        let name = format!("seckill {:016x}", rand::random::<u64>());
        let mut session = Self { db, limit: options.connect_limit, name };
        let mut ask = Script::default();
        ask.add("server", "SELECT VERSION(), CAST(@@max_allowed_packet AS SIGNED), @@log_bin, @@binlog_format");
        let row = session.run(&ask).await?.row("server").ok_or_else(|| Fault::broken("the server has no version"))?;
        let mariadb = check_version(super::rows::text(&row, 0)?)?;
        let packet = super::rows::int(&row, 1)?;
        if packet < LEAST_PACKET {
            return Err(Fault::broken(format!("max_allowed_packet is {packet}, below {LEAST_PACKET}: raise it")));
        }
        if super::rows::flag(&row, 2)? && super::rows::text(&row, 3)? == "STATEMENT" {
            return Err(Fault::broken(
                "binlog_format is STATEMENT, which READ COMMITTED cannot be logged with: set it to ROW or MIXED",
            ));
        }
        let mut set = Script::default();
        // READ COMMITTED, because a read that follows a lock must see what the lock's last holder committed
        // (docs/adr/0007). Strict, because a value that does not fit must fail. UTC, though no column is a date.
        set.add(
            "set up",
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,\
             NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', autocommit = 1, foreign_key_checks = 1, unique_checks = 1",
        );
        set.add("set up", "SET NAMES utf8mb4 COLLATE utf8mb4_bin");
        set.add("set up", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
        set.add("set up", "SET SESSION innodb_lock_wait_timeout = ").int(whole_seconds(options.lock_wait));
        set.add("set up", "SET SESSION wait_timeout = ").int(i64::from(IDLE));
        if mariadb {
            set.add("set up", "SET SESSION idle_transaction_timeout = ").int(i64::from(IDLE_IN_TRANSACTION));
            // A long IN list stays a list: as a subquery it would be joined in any order, and locks with it.
            set.add("set up", "SET SESSION in_predicate_conversion_threshold = 0");
        }
        if role == Role::Reader {
            let milliseconds = i64::try_from(options.read_limit.as_millis()).unwrap_or(i64::MAX);
            if mariadb {
                set.add("set up", "SET SESSION max_statement_time = ").int(milliseconds).sql(" / 1000");
            } else {
                set.add("set up", "SET SESSION max_execution_time = ").int(milliseconds);
            }
        }
        if role == Role::Writer {
            set.add("set up", "SELECT GET_LOCK(").text(&session.name).sql(", 0)");
        }
        session.run(&set).await?;
        session.limit = match role {
            Role::Writer => options.statement_limit,
            Role::Reader => options.read_limit,
        };
        Ok(session)
    }

    /// The name of this connection: the server gives it as a lock to whoever bears it, so that another one can end
    /// exactly this one. A connection's number would not do: a restarted server counts anew.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Ends another writer's connection of this user, if the server still has it.
    pub(super) async fn end_other(&mut self, name: &str) -> Result<(), Fault> {
        const NO_SUCH_THREAD: u16 = 1094;
        let mut ask = Script::default();
        ask.add("bearer", "SELECT CAST(IS_USED_LOCK(").text(name).sql(") AS SIGNED)");
        let row = self.run(&ask).await?.row("bearer").ok_or_else(|| Fault::broken("no answer about a lock"))?;
        let Some(bearer) = super::rows::int_if_any(&row, 0)? else { return Ok(()) };
        let mut end = Script::default();
        end.add("end another", "KILL CONNECTION ").int(bearer);
        match self.run(&end).await {
            Err(Fault::Refused { number: NO_SUCH_THREAD, .. }) | Ok(_) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Sends the script and waits for all of its answers. The first statement that fails ends it; what came before
    /// it in the transaction stands until a rollback. After a fault that `loses_connection` the session is useless.
    pub(super) async fn run(&mut self, script: &Script) -> Result<Replies, Fault> {
        let limit = self.limit;
        metrics::counter!(STATEMENTS).increment(script.labels().len() as u64);
        tokio::time::timeout(limit, self.run_unlimited(script)).await.map_err(|_| Fault::Slow(limit))?
    }

    async fn run_unlimited(&mut self, script: &Script) -> Result<Replies, Fault> {
        let mut labels = script.labels().iter().copied();
        let mut label = labels.next().unwrap_or("nothing");
        let mut replies = Replies::default();
        let mut rows = Vec::new();
        // Safe by construction: see `text`.
        let mut answers = sqlx::raw_sql(AssertSqlSafe(script.as_text().to_owned())).fetch_many(&mut self.db);
        while let Some(answer) = answers.try_next().await.map_err(|e| Fault::from_sqlx(e, label))? {
            match answer {
                Either::Right(row) => rows.push(row),
                Either::Left(end) => {
                    replies.parts.push((label, std::mem::take(&mut rows), end.rows_affected()));
                    label = labels.next().unwrap_or("nothing");
                }
            }
        }
        Ok(replies)
    }

    /// A script of one statement of this program.
    pub(super) async fn say(&mut self, label: &'static str, sql: &'static str) -> Result<Replies, Fault> {
        let mut script = Script::default();
        script.add(label, sql);
        self.run(&script).await
    }

    /// Ends the connection in good order; for a caller who needs nothing more of it.
    pub(super) async fn close(self) {
        let _gone_anyway = tokio::time::timeout(self.limit, self.db.close()).await;
    }
}

fn whole_seconds(d: Duration) -> i64 {
    i64::try_from(d.as_secs().max(1)).unwrap_or(i64::MAX)
}

/// Whether the server is MariaDB; refuses what is too old.
fn check_version(version: &str) -> Result<bool, Fault> {
    let mariadb = version.to_ascii_lowercase().contains("mariadb");
    // Old MariaDBs put "5.5.5-" before their own version, for the sake of replication.
    let text = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (name, oldest) = if mariadb { ("MariaDB", OLDEST_MARIADB) } else { ("MySQL", OLDEST_MYSQL) };
    if found < oldest {
        let (major, minor) = oldest;
        return Err(Fault::broken(format!("the server is {version}; {name} {major}.{minor} or newer is needed")));
    }
    Ok(mariadb)
}

/// Selects the product of a row of [`super::rows::PRODUCT`].
pub(super) fn product_where(script: &mut Script, label: &'static str, product: &Sku) {
    script.add(label, super::rows::PRODUCT).sql("p.product_id = ").text(product.as_str());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused() {
        assert!(check_version("10.11.19-MariaDB-0+deb12u1-log").unwrap());
        assert!(check_version("5.5.5-10.6.3-MariaDB").unwrap());
        assert!(!check_version("8.0.36").unwrap());
        for old in ["10.4.1-MariaDB", "5.7.44-log", "5.5.5-10.1.2-MariaDB", "odd"] {
            assert!(check_version(old).is_err(), "{old}");
        }
    }
}
