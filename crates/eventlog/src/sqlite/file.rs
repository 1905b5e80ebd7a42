//! The file: its lock, its connections, its schema, what it holds at start. Never appends.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::catalog::{PartitionState, TopicState};
use super::options::SqliteLogOptions;
use super::unavailable;
use crate::{EventLogError, Retention, Topic};

/// Marks the file as ours: "SkEL".
const APPLICATION_ID: i32 = 0x536b_454c;
const SCHEMA_VERSION: i32 = 1;
const SCHEMA: &str = include_str!("schema.sql");
/// How long to wait for another's lock: a process that was just killed needs a moment to be gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Statements that the writer keeps prepared; it has fewer.
const STATEMENTS: usize = 32;

/// Keeps other processes out as long as it lives. The operating system lets go when the process ends,
/// however it ends.
pub(super) struct FileLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Locks `<path>.lock`.
pub(super) fn lock(path: &Path) -> Result<FileLock, EventLogError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let failed = |e: &dyn std::fmt::Display| EventLogError::Unavailable(format!("lock file {}: {e}", name.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(|e| failed(&e))?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(FileLock(file)),
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(EventLogError::Unavailable(format!(
                    "{} is open in another process; the embedded event log serves one process at a time",
                    path.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed(&e)),
        }
    }
}

/// The connection that writes; makes the schema in a new file.
pub(super) fn open_to_write(path: &Path, options: &SqliteLogOptions) -> Result<Connection, EventLogError> {
    let mut db = Connection::open(path).map_err(|e| foreign(path, &e))?;
    let version: i32 = db.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(|e| foreign(path, &e))?;
    let owner: i32 = db.pragma_query_value(None, "application_id", |r| r.get(0)).map_err(|e| foreign(path, &e))?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(unavailable)?;
    if tables > 0 && (owner != APPLICATION_ID || version != SCHEMA_VERSION) {
        return Err(EventLogError::Refused(format!(
            "{} is not an event log of version {SCHEMA_VERSION} (application id {owner:#x}, version {version})",
            path.display()
        )));
    }
    set_up(&mut db, options, tables == 0).map_err(unavailable)?;
    Ok(db)
}

fn foreign(path: &Path, error: &rusqlite::Error) -> EventLogError {
    EventLogError::Unavailable(format!("cannot open {}: {error}", path.display()))
}

fn set_up(db: &mut Connection, options: &SqliteLogOptions, fresh: bool) -> rusqlite::Result<()> {
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |r| r.get(0))?;
    if mode != "wal" {
        // Such as a network file system that cannot share memory.
        tracing::warn!(mode, "the event log's file system has no write-ahead log; appends will be slow");
    }
    // FULL: the write-ahead log is synced at every commit. Less would lose acknowledged records with the power.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update_and_check(None, "wal_autocheckpoint", options.checkpoint_pages, |_| Ok(()))?;
    db.pragma_update_and_check(None, "journal_size_limit", i64::from(options.checkpoint_pages) * 4096 * 2, |_| Ok(()))?;
    db.pragma_update(None, "cache_size", -16_384)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    if fresh {
        let tx = db.transaction()?;
        tx.execute_batch(SCHEMA)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        tx.commit()?;
    }
    Ok(())
}

/// A connection that can only read.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

/// Every topic with its partitions and their ends.
pub(super) fn load(db: &Connection) -> rusqlite::Result<BTreeMap<Topic, Arc<TopicState>>> {
    let mut topics = BTreeMap::new();
    let mut names = db.prepare("SELECT topic, retention_ms FROM topics")?;
    let mut rows = names.query([])?;
    while let Some(row) = rows.next()? {
        let (name, retention): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
        // Only names that were parsed get in; one that a hand wrote there is not served.
        let Ok(topic) = Topic::new(&name) else { continue };
        let partitions: Vec<PartitionState> = partitions(db, &name)?;
        let retention = retention_from(retention);
        topics.insert(topic.clone(), Arc::new(TopicState::new(topic, retention, partitions.into())));
    }
    Ok(topics)
}

/// The partitions of one topic, in order.
pub(super) fn partitions(db: &Connection, topic: &str) -> rusqlite::Result<Vec<PartitionState>> {
    let mut select = db.prepare("SELECT id, next FROM partitions WHERE topic = ?1 ORDER BY partition")?;
    select.query_map([topic], |r| Ok(PartitionState::new(r.get(0)?, r.get::<_, i64>(1)? as u64)))?.collect()
}

fn retention_from(ms: Option<i64>) -> Retention {
    ms.map_or(Retention::Compacted, |ms| Retention::Time(Duration::from_millis(ms.max(0) as u64)))
}

/// Retention as the column has it.
pub(super) fn retention_ms(retention: Retention) -> Option<i64> {
    match retention {
        Retention::Time(keep) => Some(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)),
        Retention::Compacted => None,
    }
}
