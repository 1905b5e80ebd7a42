//! The collector's own SQLite: how far each file was read, the books, and the dead letters with their bytes.
//! Progress and books change in one transaction; it must never be committed before the events are published.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use types::Timestamp;

use crate::account::Accounting;
use crate::classify::FilterReason;
use crate::decode::DeadReason;
use crate::tail::Fingerprint;

/// Most dead letters kept with their bytes: with [`MAX_DEAD_BYTES`] each, 40 MiB. The oldest go first.
pub const MAX_DEAD_LETTERS: u64 = 10_000;
/// Most bytes kept of one dead letter: enough to see what it was.
pub const MAX_DEAD_BYTES: usize = 4 * 1024;
/// Finished files remembered per log, so that a rotated file is not read again after a restart.
const MAX_FINISHED: u32 = 1_000;
/// Version of the tables; a newer one is refused.
const SCHEMA_VERSION: u32 = 1;

const SCHEMA: &str = "
CREATE TABLE paths (
    path TEXT PRIMARY KEY,
    first_seen INTEGER NOT NULL
) STRICT;
CREATE TABLE sources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL,
    name TEXT UNIQUE,                   -- NULL until the first byte was read
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    prefix_length INTEGER NOT NULL,
    prefix_hash BLOB NOT NULL,
    position INTEGER NOT NULL,          -- first byte of the first line that has not had its effect
    modified INTEGER NOT NULL,          -- the file's own modification time, ms
    finished INTEGER NOT NULL
) STRICT;
CREATE INDEX sources_by_path ON sources (path, finished);
CREATE TABLE accounting (
    class TEXT NOT NULL,
    reason TEXT NOT NULL,
    lines INTEGER NOT NULL,
    PRIMARY KEY (class, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE dead_letters (
    source TEXT NOT NULL,
    offset INTEGER NOT NULL,
    reason TEXT NOT NULL,
    bytes BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (source, offset)
) STRICT;
";

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or its lock file could not be made.
    #[error("state folder {path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Another collector uses the folder.
    #[error("state folder {0} is in use by another collector")]
    InUse(PathBuf),
    /// The tables are of a newer version of this program.
    #[error("state folder has tables of version {0}; this program knows up to {SCHEMA_VERSION}")]
    Newer(u32),
    /// The tables hold what this program never wrote.
    #[error("state folder is damaged: {0}")]
    Damaged(String),
    /// SQLite failed.
    #[error("state database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        match self {
            Self::InUse(_) => true,
            Self::Sqlite(e) => {
                matches!(e.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure))
            }
            _ => false,
        }
    }
}

/// A file as the store remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub id: i64,
    pub name: Option<Arc<str>>,
    pub device: u64,
    pub inode: u64,
    pub fingerprint: Fingerprint,
    pub position: u64,
    pub modified: i64,
    pub finished: bool,
}

/// How far a file has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub id: i64,
    pub device: u64,
    pub inode: u64,
    pub fingerprint: Fingerprint,
    pub position: u64,
    pub modified: i64,
    pub finished: bool,
}

/// A line that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dead {
    pub offset: u64,
    pub reason: DeadReason,
    pub bytes: Vec<u8>,
}

/// A dead letter as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Identity of the file it stands in.
    pub source: String,
    /// Byte offset of the line there.
    pub offset: u64,
    /// Why it could not be decoded.
    pub reason: DeadReason,
    /// Its first [`MAX_DEAD_BYTES`] bytes, as they stand. Hold client addresses: not for logs.
    pub bytes: Vec<u8>,
    /// When it was found.
    pub at: Timestamp,
}

/// The store. Calls block: they write to disk.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Mutex<Connection>,
    /// Held for as long as the store lives; the system lets go of it even after kill -9.
    _lock: File,
}

impl Store {
    /// Opens or makes the store in `folder`, and keeps others out.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let broken = |error| StoreError::Folder { path: folder.to_owned(), error };
        // Dead letters hold addresses of clients: the folder is nobody else's.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(broken)?;
        let lock = File::create(folder.join("collector.lock")).map_err(broken)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(broken(error)),
        }
        let mut connection = Connection::open(folder.join("collector.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            0 => {
                let change = connection.transaction()?;
                change.execute_batch(SCHEMA)?;
                change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                change.commit()?;
            }
            SCHEMA_VERSION => {}
            newer => return Err(StoreError::Newer(newer)),
        }
        Ok(Self { connection: Mutex::new(connection), _lock: lock })
    }

    /// Whether this log was ever followed; from now on it was.
    pub fn meet(&self, path: &str, now: Timestamp) -> Result<bool, StoreError> {
        let added = self
            .connection
            .lock()
            .execute("INSERT OR IGNORE INTO paths (path, first_seen) VALUES (?1, ?2)", params![path, now.millis()])?;
        Ok(added == 0)
    }

    /// The files of a log, in the order in which they were met.
    pub fn files(&self, path: &str) -> Result<Vec<Remembered>, StoreError> {
        let connection = self.connection.lock();
        let mut query = connection.prepare_cached(
            "SELECT id, name, device, inode, prefix_length, prefix_hash, position, modified, finished
             FROM sources WHERE path = ?1 ORDER BY id",
        )?;
        let rows = query.query_map([path], remembered)?;
        rows.collect::<Result<Result<Vec<_>, _>, _>>()?
    }

    /// Remembers a new file of a log.
    pub fn add(
        &self,
        path: &str,
        device: u64,
        inode: u64,
        fingerprint: &Fingerprint,
        position: u64,
        modified: i64,
    ) -> Result<i64, StoreError> {
        let connection = self.connection.lock();
        connection.execute(
            "INSERT INTO sources (path, name, device, inode, prefix_length, prefix_hash, position, modified, finished)
             VALUES (?1, NULL, ?2, ?3, ?4, ?5, ?6, ?7, 0)",
            params![
                path,
                device.cast_signed(),
                inode.cast_signed(),
                fingerprint.length,
                fingerprint.hash.as_slice(),
                position.cast_signed(),
                modified
            ],
        )?;
        Ok(connection.last_insert_rowid())
    }

    /// Gives a file the name under which its events are published; it keeps it for ever. Must be durable
    /// before the first of them, else a restart would publish them under another name.
    pub fn name(&self, id: i64, name: &str, fingerprint: &Fingerprint) -> Result<(), StoreError> {
        self.connection.lock().execute(
            "UPDATE sources SET name = ?2, prefix_length = ?3, prefix_hash = ?4 WHERE id = ?1 AND name IS NULL",
            params![id, name, fingerprint.length, fingerprint.hash.as_slice()],
        )?;
        Ok(())
    }

    /// Marks a file as done with although it could not be read to its end.
    pub fn give_up(&self, id: i64) -> Result<(), StoreError> {
        self.connection.lock().execute("UPDATE sources SET finished = 1 WHERE id = ?1", [id])?;
        Ok(())
    }

    /// The books as they were last committed.
    pub fn accounting(&self) -> Result<Accounting, StoreError> {
        let connection = self.connection.lock();
        let mut query = connection.prepare("SELECT class, reason, lines FROM accounting")?;
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?.cast_unsigned()))
        })?;
        let mut books = Accounting::default();
        for row in rows {
            let (class, reason, lines) = row?;
            let unknown = || StoreError::Damaged(format!("books hold {class}/{reason}"));
            match class.as_str() {
                "lines" => books.lines = lines,
                "events" => books.events = lines,
                "dropped" => books.dead_letters_dropped = lines,
                "filtered" => {
                    books.filtered.insert(FilterReason::named(&reason).ok_or_else(unknown)?, lines);
                }
                "dead" => {
                    books.dead.insert(DeadReason::named(&reason).ok_or_else(unknown)?, lines);
                }
                _ => return Err(unknown()),
            }
        }
        Ok(books)
    }

    /// Commits a chunk's progress, its dead letters, and the books with it; answers the new books.
    pub fn commit(
        &self,
        checkpoint: &Checkpoint,
        source: &str,
        dead: &[Dead],
        books: Accounting,
        now: Timestamp,
    ) -> Result<Accounting, StoreError> {
        let mut books = books;
        let mut connection = self.connection.lock();
        let change = connection.transaction()?;
        change
            .prepare_cached(
                "UPDATE sources SET device = ?2, inode = ?3, prefix_length = ?4, prefix_hash = ?5, position = ?6,
                 modified = ?7, finished = ?8 WHERE id = ?1",
            )?
            .execute(params![
                checkpoint.id,
                checkpoint.device.cast_signed(),
                checkpoint.inode.cast_signed(),
                checkpoint.fingerprint.length,
                checkpoint.fingerprint.hash.as_slice(),
                checkpoint.position.cast_signed(),
                checkpoint.modified,
                checkpoint.finished,
            ])?;
        if !dead.is_empty() {
            books.dead_letters_dropped += bury(&change, source, dead, now)?;
        }
        if checkpoint.finished {
            change.execute(
                "DELETE FROM sources WHERE finished = 1 AND id <= (SELECT max(id) FROM sources) - ?1",
                [MAX_FINISHED],
            )?;
        }
        write_books(&change, &books)?;
        change.commit()?;
        Ok(books)
    }

    /// The newest dead letters, newest first.
    pub fn dead_letters(&self, most: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let connection = self.connection.lock();
        let mut query = connection.prepare_cached(
            "SELECT source, offset, reason, bytes, at FROM dead_letters ORDER BY rowid DESC LIMIT ?1",
        )?;
        let rows = query.query_map([most], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?, row.get(3)?, row.get(4)?))
        })?;
        rows.map(|row| {
            let (source, offset, reason, bytes, at) = row?;
            let reason = DeadReason::named(&reason)
                .ok_or_else(|| StoreError::Damaged(format!("a dead letter has the reason {reason}")))?;
            Ok(DeadLetter { source, offset: offset.cast_unsigned(), reason, bytes, at: Timestamp::from_millis(at) })
        })
        .collect()
    }
}

fn remembered(row: &Row<'_>) -> rusqlite::Result<Result<Remembered, StoreError>> {
    let hash: Vec<u8> = row.get(5)?;
    let Some(fingerprint) = Fingerprint::stored(row.get(4)?, &hash) else {
        return Ok(Err(StoreError::Damaged("a file's fingerprint has a wrong length".to_owned())));
    };
    Ok(Ok(Remembered {
        id: row.get(0)?,
        name: row.get::<_, Option<String>>(1)?.map(Arc::from),
        device: row.get::<_, i64>(2)?.cast_unsigned(),
        inode: row.get::<_, i64>(3)?.cast_unsigned(),
        fingerprint,
        position: row.get::<_, i64>(6)?.cast_unsigned(),
        modified: row.get(7)?,
        finished: row.get(8)?,
    }))
}

/// Stores dead letters and drops the oldest above the bound; answers how many were dropped.
fn bury(change: &Transaction<'_>, source: &str, dead: &[Dead], now: Timestamp) -> Result<u64, StoreError> {
    {
        let mut insert = change.prepare_cached(
            "INSERT OR IGNORE INTO dead_letters (source, offset, reason, bytes, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for letter in dead {
            let bytes = &letter.bytes[..letter.bytes.len().min(MAX_DEAD_BYTES)];
            insert.execute(params![
                source,
                letter.offset.cast_signed(),
                letter.reason.as_str(),
                bytes,
                now.millis()
            ])?;
        }
    }
    // Row ids rise by one, as rows are only ever added behind and taken away in front.
    let newest: Option<i64> =
        change.query_row("SELECT max(rowid) FROM dead_letters", [], |r| r.get(0)).optional()?.flatten();
    let Some(bound) = newest.map(|id| id - MAX_DEAD_LETTERS.cast_signed()) else { return Ok(0) };
    Ok(change.execute("DELETE FROM dead_letters WHERE rowid <= ?1", [bound])? as u64)
}

fn write_books(change: &Transaction<'_>, books: &Accounting) -> Result<(), StoreError> {
    let mut write = change.prepare_cached(
        "INSERT INTO accounting (class, reason, lines) VALUES (?1, ?2, ?3)
         ON CONFLICT (class, reason) DO UPDATE SET lines = excluded.lines",
    )?;
    let totals = [("lines", books.lines), ("events", books.events), ("dropped", books.dead_letters_dropped)];
    let totals = totals.into_iter().map(|(class, lines)| (class, "", lines));
    let filtered = books.filtered.iter().map(|(reason, lines)| ("filtered", reason.as_str(), *lines));
    let dead = books.dead.iter().map(|(reason, lines)| ("dead", reason.as_str(), *lines));
    for (class, reason, lines) in totals.chain(filtered).chain(dead) {
        write.execute(params![class, reason, lines.cast_signed()])?;
    }
    Ok(())
}
