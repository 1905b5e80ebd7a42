//! The collector's own SQLite: how far each file and partition was read, the books, and the dead letters with
//! their bytes. They change in one transaction; it must never be committed before the events are published.

mod books;
mod dead;
mod schema;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};
use types::Timestamp;

use crate::account::Accounting;
use crate::batch::Batch;
use crate::sanity::Pace;
use crate::tail::Fingerprint;
pub(crate) use dead::{Dead, Replay, Revived};
pub use dead::{DeadLetter, ReplayFilter};

/// Most dead letters kept with their bytes: with [`MAX_DEAD_BYTES`] each, 40 MiB. The oldest go first.
pub const MAX_DEAD_LETTERS: u64 = 10_000;
/// Most bytes kept of one dead letter: enough to see what it was.
pub const MAX_DEAD_BYTES: usize = 4 * 1024;
/// Finished files remembered per log, so that a rotated file is not read again after a restart.
const MAX_FINISHED: u32 = 1_000;
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
    #[error("state folder has tables of version {0}; this program knows up to {known}", known = schema::VERSION)]
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
    pub pace: Pace,
}

/// How far something has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    File(Checkpoint),
    Partition(PartitionProgress),
    Replay(Revived),
}

/// How far a partition of the event log has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionProgress {
    pub topic: Arc<str>,
    pub partition: u32,
    /// The name under which its lines are published.
    pub source: Arc<str>,
    /// The first record that has not had its effect.
    pub next: u64,
    /// Hash of the record before that, by which another topic of the same name is recognised.
    pub last_mark: Option<u64>,
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
    pub pace: Pace,
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
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self, StoreError> {
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
        schema::prepare(&mut connection, now)?;
        Ok(Self { connection: Mutex::new(connection), _lock: lock })
    }

    /// Makes what `work` tells the store durable at once, when it is done: for a thousand logs that are met and named in
    /// one look each word would else be a write to disk of its own. If it fails, nothing of it is remembered. It must not
    /// be nested, nor hold a [`Self::commit`].
    pub fn together<T>(&self, work: impl FnOnce() -> Result<T, crate::Error>) -> Result<T, crate::Error> {
        self.connection.lock().execute_batch("BEGIN").map_err(StoreError::from)?;
        let done = work().and_then(|done| {
            self.connection.lock().execute_batch("COMMIT").map_err(StoreError::from)?;
            Ok(done)
        });
        let connection = self.connection.lock();
        if done.is_err() && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK").map_err(StoreError::from)?;
        }
        done
    }

    /// Lets the database grow by no more than so many pages, as a full disk would; `None` lets go.
    #[cfg(test)]
    pub fn leave_room(&self, pages: Option<u32>) {
        let connection = self.connection.lock();
        let now: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
        let most = pages.map_or(i64::from(u32::MAX) / 2, |pages| now + i64::from(pages));
        connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(())).expect("is taken");
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
            "SELECT id, name, device, inode, prefix_length, prefix_hash, position, modified, finished,
             newest, doubted FROM sources WHERE path = ?1 ORDER BY id",
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

    /// What tells this store from every other collector's.
    pub fn identity(&self) -> Result<String, StoreError> {
        Ok(self.connection.lock().query_row("SELECT name FROM identity", [], |row| row.get(0))?)
    }

    /// The times of the log as its newest file with any left them: a log goes on in its next file.
    pub fn pace(&self, path: &str) -> Result<Pace, StoreError> {
        let connection = self.connection.lock();
        let mut query = connection.prepare_cached(
            "SELECT newest, doubted FROM sources WHERE path = ?1 AND newest IS NOT NULL ORDER BY id DESC LIMIT 1",
        )?;
        Ok(query.query_row([path], |row| pace(row, 0)).optional()?.unwrap_or_default())
    }

    /// How far a partition was read by this collector.
    pub fn partition(&self, topic: &str, partition: u32) -> Result<Option<PartitionProgress>, StoreError> {
        let connection = self.connection.lock();
        let mut query = connection
            .prepare_cached("SELECT source, next, last_mark FROM partitions WHERE topic = ?1 AND partition = ?2")?;
        let read = |row: &Row<'_>| {
            Ok(PartitionProgress {
                topic: Arc::from(topic),
                partition,
                source: Arc::from(row.get::<_, String>(0)?),
                next: row.get::<_, i64>(1)?.cast_unsigned(),
                last_mark: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
            })
        };
        Ok(query.query_row(params![topic, partition], read).optional()?)
    }

    /// Whether this collector has read anything of the topic.
    pub fn has_read(&self, topic: &str) -> Result<bool, StoreError> {
        let connection = self.connection.lock();
        let mut query = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM partitions WHERE topic = ?1)")?;
        Ok(query.query_row([topic], |row| row.get(0))?)
    }

    /// The books as they were last committed.
    pub fn accounting(&self) -> Result<Accounting, StoreError> {
        books::read(&self.connection.lock())
    }

    /// Commits the batches' progress, their dead letters, and the books with them; answers the new books.
    pub fn commit(&self, load: &[Batch], mut books: Accounting, now: Timestamp) -> Result<Accounting, StoreError> {
        let mut connection = self.connection.lock();
        let change = connection.transaction()?;
        for batch in load {
            match &batch.progress {
                Progress::File(checkpoint) => file_progress(&change, checkpoint)?,
                Progress::Partition(progress) => partition_progress(&change, progress)?,
                Progress::Replay(revived) => dead::finish(&change, revived, now)?,
            }
            if !batch.dead.is_empty() {
                books.dead_letters_dropped += dead::bury(&change, &batch.source, &batch.dead, now)?;
            }
        }
        books::write(&change, &books)?;
        change.commit()?;
        Ok(books)
    }
}

/// The books of a folder, whoever uses it; `None` if no collector ever did.
pub(crate) fn peek(folder: &Path) -> Result<Option<Accounting>, StoreError> {
    let file = folder.join("collector.db");
    if !file.is_file() {
        return Ok(None);
    }
    let connection = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    books::read(&connection).map(Some)
}

fn file_progress(change: &Transaction<'_>, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    change
        .prepare_cached(
            "UPDATE sources SET device = ?2, inode = ?3, prefix_length = ?4, prefix_hash = ?5, position = ?6,
             modified = ?7, finished = ?8, newest = ?9, doubted = ?10 WHERE id = ?1",
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
            checkpoint.pace.newest.map(Timestamp::millis),
            checkpoint.pace.doubted.map(Timestamp::millis),
        ])?;
    if checkpoint.finished {
        change.execute(
            "DELETE FROM sources WHERE finished = 1 AND id <= (SELECT max(id) FROM sources) - ?1",
            [MAX_FINISHED],
        )?;
    }
    Ok(())
}

fn partition_progress(change: &Transaction<'_>, progress: &PartitionProgress) -> Result<(), StoreError> {
    change
        .prepare_cached(
            "INSERT INTO partitions (topic, partition, source, next, last_mark) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (topic, partition) DO UPDATE
             SET source = excluded.source, next = excluded.next, last_mark = excluded.last_mark",
        )?
        .execute(params![
            &*progress.topic,
            progress.partition,
            &*progress.source,
            progress.next.cast_signed(),
            progress.last_mark.map(u64::cast_signed),
        ])?;
    Ok(())
}

fn pace(row: &Row<'_>, first: usize) -> rusqlite::Result<Pace> {
    let at = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis));
    Ok(Pace { newest: at(first)?, doubted: at(first + 1)? })
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
        pace: pace(row, 9)?,
    }))
}
