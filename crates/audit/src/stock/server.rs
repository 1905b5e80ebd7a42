//! Reads a stock store that lives on MariaDB or MySQL: copies the auditor's tables, as they are at one moment, into
//! a private database in memory, where the very same audit judges them. It never writes to the server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use futures::TryStreamExt;
use rusqlite::Connection;
use rusqlite::types::Value;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection as _, Row, TypeInfo};

use crate::AuditError;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long the copy may take: tens of millions of rows. The server keeps old row versions for as long.
const COPY_LIMIT: Duration = Duration::from_secs(600);
/// How long one sample may take; a later one makes the check weaker, a hanging one would end it.
const SAMPLE_LIMIT: Duration = Duration::from_secs(5);

/// The tables and columns that the audit reads.
const TABLES: [(&str, &str); 12] = [
    ("meta", "`key`, value"),
    ("sale", "name, opens, closes, state"),
    ("product", "product_id, sale, buyer_limit"),
    ("stock", "product_id, total, free, leased, reserved, sold, tier, phase, target, epoch"),
    ("lease", "lease_id, product_id, epoch, granted, consumed, state"),
    ("decision", "buyer, `key`, product_id, outcome, order_id, decided_at"),
    (
        "orders",
        "order_id, buyer, `key`, sale, product_id, quantity, amount, currency, state, lease_id, seq, accepted_at, \
         expires_at",
    ),
    ("buyer_limit", "buyer, sale, product_id, held"),
    ("outbox", "id, order_id, kind, at"),
    ("payment", "payment_id, order_id, amount, currency, state, moved_order"),
    ("move", "product_id, epoch, step, from_tier, to_tier, at"),
    ("stock_change", "product_id, seq, cause, delta, total, after_event, at, adjustment_id, reason, made_by"),
];
/// What a big audit looks up by.
const INDEXES: &str = "CREATE INDEX lease_of ON lease (product_id); CREATE INDEX limit_of ON buyer_limit (buyer);";

/// Where a server is and how to get in. The password is read from its file for each connection, and shown nowhere.
#[derive(Clone)]
pub struct Server {
    url: String,
    password_file: Option<PathBuf>,
}

impl Server {
    /// `mysql://user@host:port/database`. An account that may read is enough.
    pub fn new(url: impl Into<String>, password_file: Option<PathBuf>) -> Self {
        Self { url: url.into(), password_file }
    }

    fn options(&self) -> Result<MySqlConnectOptions, AuditError> {
        // The parser's own words may quote the address, and a password with it.
        let bad = |_| server_error("the address is not mysql://user@host:port/database", false);
        let mut options: MySqlConnectOptions = self.url.parse().map_err(bad)?;
        if let Some(path) = &self.password_file {
            let text =
                std::fs::read_to_string(path).map_err(|source| AuditError::File { path: path.clone(), source })?;
            options = options.password(text.trim_end_matches(['\r', '\n']));
        }
        // Statements are not logged; rows of buyers are in none of them, but the habit is worth keeping.
        Ok(options.charset("utf8mb4").disable_statement_logging())
    }

    async fn connect(&self) -> Result<MySqlConnection, AuditError> {
        let connecting = self.options()?;
        let connecting = tokio::time::timeout(CONNECT_LIMIT, connecting.connect());
        Ok(connecting.await.map_err(|_| server_error("the server does not answer", true))??)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.url.parse::<MySqlConnectOptions>().map_or_else(
            |_| "?".to_owned(),
            |o| format!("{}:{}/{}", o.get_host(), o.get_port(), o.get_database().unwrap_or_default()),
        );
        f.debug_tuple("Server").field(&address).finish()
    }
}

fn server_error(why: impl Into<String>, retryable: bool) -> AuditError {
    AuditError::Server { why: why.into(), retryable }
}

impl From<sqlx::Error> for AuditError {
    fn from(error: sqlx::Error) -> Self {
        let retryable = match &error {
            sqlx::Error::Io(_) => true,
            // Too many connections, shutting down, interrupted.
            sqlx::Error::Database(e) => matches!(e.code().as_deref(), Some("08004" | "08S01" | "70100")),
            _ => false,
        };
        server_error(error.to_string(), retryable)
    }
}

/// Runs `work` on a thread and a runtime of its own: the auditor is called from async code and from plain code alike.
fn on_own_thread<T: Send>(
    limit: Duration,
    work: impl Future<Output = Result<T, AuditError>> + Send,
) -> Result<T, AuditError> {
    std::thread::scope(|scope| {
        let running = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| server_error(e.to_string(), true))?;
            runtime
                .block_on(async { tokio::time::timeout(limit, work).await })
                .map_err(|_| server_error(format!("the server needs more than {limit:?}"), true))?
        });
        running.join().map_err(|_| server_error("the reader of the server panicked", false))?
    })
}

/// The auditor's tables at one moment, in memory.
pub(super) fn copy(server: &Server) -> Result<Connection, AuditError> {
    on_own_thread(COPY_LIMIT, async {
        let mut from = server.connect().await?;
        let begin = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                     START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
        sqlx::raw_sql(begin).execute(&mut from).await?;
        let mut to = Connection::open_in_memory()?;
        for (table, columns) in TABLES {
            to.execute_batch(&format!("CREATE TABLE {table} ({columns})"))?;
            to = copy_table(&mut from, to, table, columns).await?;
        }
        to.execute_batch(INDEXES)?;
        from.close().await?;
        Ok(to)
    })
}

/// Rows that are inserted together: the copy holds no more of the server's answer than this.
const BATCH: usize = 10_000;

async fn copy_table(
    from: &mut MySqlConnection,
    mut to: Connection,
    table: &str,
    columns: &str,
) -> Result<Connection, AuditError> {
    let select = format!("SELECT {columns} FROM {table}");
    let mut rows = sqlx::raw_sql(AssertSqlSafe(select)).fetch(from);
    let mut batch = Vec::new();
    loop {
        let row = rows.try_next().await?;
        let end = row.is_none();
        if let Some(row) = row {
            batch.push(values(&row)?);
        }
        if batch.len() == BATCH || end {
            insert(&mut to, table, &mut batch)?;
        }
        if end {
            return Ok(to);
        }
    }
}

fn insert(to: &mut Connection, table: &str, batch: &mut Vec<Vec<Value>>) -> Result<(), AuditError> {
    let Some(first) = batch.first() else { return Ok(()) };
    let places = vec!["?"; first.len()].join(", ");
    let transaction = to.transaction()?;
    {
        let mut insert = transaction.prepare(&format!("INSERT INTO {table} VALUES ({places})"))?;
        for row in batch.drain(..) {
            insert.execute(rusqlite::params_from_iter(row))?;
        }
    }
    Ok(transaction.commit()?)
}

/// A row as SQLite's values: whole numbers as such, all else as text.
fn values(row: &MySqlRow) -> Result<Vec<Value>, AuditError> {
    let cell = |(i, column): (usize, &sqlx::mysql::MySqlColumn)| {
        let Some(text) = row.try_get_unchecked::<Option<&str>, _>(i)? else { return Ok(Value::Null) };
        let is_number = column.type_info().name().contains("INT") || column.type_info().name() == "BOOLEAN";
        if !is_number {
            return Ok(Value::Text(text.to_owned()));
        }
        let number = text.parse().map_err(|_| server_error(format!("{} holds {text:?}", column.name()), false))?;
        Ok(Value::Integer(number))
    };
    row.columns().iter().enumerate().map(cell).collect()
}

/// A connection that samples; made again when it is lost.
#[derive(Debug)]
pub(super) struct Samples {
    server: Server,
}

impl Samples {
    pub(super) fn open(server: &Server) -> Result<Self, AuditError> {
        let samples = Self { server: server.clone() };
        samples.read()?;
        Ok(samples)
    }

    /// `(product, epoch, sellable)` of every product, in one statement. A connection for each sample: ten a second
    /// cost nothing, and none is held while the server restarts.
    pub(super) fn read(&self) -> Result<Vec<(String, i64, i64)>, AuditError> {
        on_own_thread(SAMPLE_LIMIT, async {
            let mut db = self.server.connect().await?;
            let rows: Vec<MySqlRow> = sqlx::raw_sql(
                "SELECT s.product_id, s.epoch, CAST(s.free + COALESCE((SELECT SUM(l.granted - l.consumed) FROM lease l \
                 WHERE l.product_id = s.product_id AND l.state <> 'CLOSED'), 0) AS SIGNED) FROM stock s",
            )
            .fetch_all(&mut db)
            .await?;
            db.close().await?;
            let read = |row: &MySqlRow| {
                let number = |i| row.try_get_unchecked::<i64, _>(i);
                Ok((row.try_get_unchecked(0)?, number(1)?, number(2)?))
            };
            rows.iter().map(read).collect()
        })
    }
}
