//! Opens connections with the pragmas that durability rests on, and makes or checks the schema. A file of a
//! newer version, or of another program, is left exactly as it is.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::SqliteStoreOptions;
use super::fault::Fault;
use crate::stock::store::StoreError;

const SCHEMA: &str = include_str!("../schema.sql");
/// Raised with every change of the tables that an older program cannot live with.
const SCHEMA_VERSION: i64 = 4;
/// From version 1, after the new tables were made: the totals there are begin the history of totals.
const FROM_1: &str = "INSERT INTO stock_change (product_id, cause, delta, total, after_event, at) \
     SELECT product_id, 'older', total, total, (SELECT COALESCE(MAX(id), 0) FROM outbox), \
     CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM stock";
/// Room for every statement of this provider, so that none is ever parsed twice.
const CACHED_STATEMENTS: usize = 96;
/// Page cache of the writer in KiB: the upper levels of every index, and the orders of the last minutes.
const WRITER_CACHE_KIB: i64 = 64 * 1024;
/// Pages of the journal after which it is copied into the file (64 MiB). A hot page is copied once per round
/// instead of once per few commits; opening after a crash reads at most about this much.
const CHECKPOINT_PAGES: i64 = 16 * 1024;

/// Creates the tables in a new file, or checks that this program may use the old one.
pub(super) fn prepare(path: &Path, options: &SqliteStoreOptions) -> Result<(), StoreError> {
    let mut db = writer(path, options).map_err(StoreError::from)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Fault::from)?;
    let tables: i64 = tx.query_row("SELECT COUNT(*) FROM sqlite_master", [], |row| row.get(0)).map_err(Fault::from)?;
    if tables == 0 {
        tx.execute_batch(SCHEMA).map_err(Fault::from)?;
        tx.execute("INSERT INTO meta (key, value) VALUES ('schema_version', ?1)", [SCHEMA_VERSION.to_string()])
            .map_err(Fault::from)?;
        tx.commit().map_err(Fault::from)?;
        return Ok(());
    }
    match version(&tx).map_err(StoreError::from)? {
        // Tables and indices that came without a new version: an older program can live with them.
        Some(SCHEMA_VERSION) => {
            tx.execute_batch(SCHEMA).map_err(Fault::from)?;
            tx.commit().map_err(Fault::from)?;
            Ok(())
        }
        Some(older @ 1..SCHEMA_VERSION) => {
            // Every table of the schema is made if it is not there; what is new in later versions starts empty.
            tx.execute_batch(SCHEMA).map_err(Fault::from)?;
            if older < 2 {
                tx.execute(FROM_1, []).map_err(Fault::from)?;
            }
            tx.execute("UPDATE meta SET value = ?1 WHERE key = 'schema_version'", [SCHEMA_VERSION.to_string()])
                .map_err(Fault::from)?;
            tx.commit().map_err(Fault::from)?;
            Ok(())
        }
        Some(newer) if newer > SCHEMA_VERSION => Err(StoreError::Corrupt(format!(
            "{} has schema version {newer}, this program knows {SCHEMA_VERSION}: start the newer program",
            path.display()
        ))),
        Some(odd) => Err(StoreError::Corrupt(format!("{} has the unknown schema version {odd}", path.display()))),
        None => Err(StoreError::Corrupt(format!("{} is another program's database", path.display()))),
    }
}

fn version(db: &Connection) -> Result<Option<i64>, Fault> {
    let ours = db
        .query_row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'", [], |_| Ok(()))
        .optional()?
        .is_some();
    if !ours {
        return Ok(None);
    }
    let text: Option<String> =
        db.query_row("SELECT value FROM meta WHERE key = 'schema_version'", [], |row| row.get(0)).optional()?;
    text.map(|t| t.parse().map_err(|_| Fault::broken(format!("schema version {t:?} is not a number")))).transpose()
}

/// The connection that writes. WAL with `synchronous=FULL`: a commit is on disk when it returns.
pub(super) fn writer(path: &Path, options: &SqliteStoreOptions) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(options.busy_timeout)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Fault::broken(format!("the file system does not take a WAL journal (it stays {mode})")));
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(db)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path, options: &SqliteStoreOptions) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(options.busy_timeout)?;
    db.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(db)
}
