//! Dead letters with their bytes: kept, bounded, and taken out again for a replay. It must never forget a letter
//! that a replay is working on.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use types::Timestamp;

use super::{MAX_DEAD_BYTES, MAX_DEAD_LETTERS, Store, StoreError};
use crate::batch::Place;
use crate::decode::DeadReason;
use crate::redact::redact;

/// A line that could not be decoded or believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dead {
    pub offset: u64,
    pub reason: DeadReason,
    pub bytes: Vec<u8>,
    pub place: Place,
    /// Whether the bytes are a shipper's whole record, not a log line.
    pub wrapped: bool,
}

impl Dead {
    /// What is kept of a line.
    pub fn head(bytes: &[u8]) -> Vec<u8> {
        bytes[..bytes.len().min(MAX_DEAD_BYTES)].to_vec()
    }
}

/// A dead letter as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Identity of the file or partition under which it was noted.
    pub source: String,
    /// Its offset there: of a file's byte, or of a partition's line (see [`crate::LINES_PER_RECORD`]).
    pub offset: u64,
    /// The file it stood in, if a shipper said so.
    pub file: Option<String>,
    /// Its byte offset in that file.
    pub file_offset: Option<u64>,
    /// Why it could not be decoded or believed.
    pub reason: DeadReason,
    /// Its first [`MAX_DEAD_BYTES`] bytes, as they stand. They hold client addresses: printed and serialized,
    /// they are redacted, and nothing else may show them.
    #[serde(rename = "text", serialize_with = "shown")]
    pub bytes: Vec<u8>,
    /// Whether the bytes are a shipper's whole record, not a log line.
    pub wrapped: bool,
    /// When it was found.
    pub at: Timestamp,
}

fn shown<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&redact(bytes))
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{}:{}", self.source, self.offset);
        f.debug_tuple("DeadLetter").field(&place).field(&self.reason).field(&redact(&self.bytes)).finish()
    }
}

impl DeadLetter {
    /// Whether all of the line was kept.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() < MAX_DEAD_BYTES && self.reason != DeadReason::TooLong
    }
}

/// Which dead letters to try again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayFilter {
    /// Only those of this reason.
    pub reason: Option<DeadReason>,
    /// Only those found at or after this moment.
    pub since: Option<Timestamp>,
}

const COLUMNS: &str = "rowid, source, offset, reason, bytes, at, file, file_offset, wrapped";

fn letter(row: &Row<'_>) -> rusqlite::Result<Result<(i64, DeadLetter), StoreError>> {
    let reason: String = row.get(3)?;
    let Some(reason) = DeadReason::named(&reason) else {
        return Ok(Err(StoreError::Damaged(format!("a dead letter has the reason {reason}"))));
    };
    let letter = DeadLetter {
        source: row.get(1)?,
        offset: row.get::<_, i64>(2)?.cast_unsigned(),
        reason,
        bytes: row.get(4)?,
        at: Timestamp::from_millis(row.get(5)?),
        file: row.get(6)?,
        file_offset: row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned),
        wrapped: row.get(8)?,
    };
    Ok(Ok((row.get(0)?, letter)))
}

/// Stores dead letters and drops the oldest above the bound; answers how many were dropped.
pub(super) fn bury(change: &Transaction<'_>, source: &str, dead: &[Dead], now: Timestamp) -> Result<u64, StoreError> {
    {
        let mut insert = change.prepare_cached(
            "INSERT OR IGNORE INTO dead_letters (source, offset, reason, bytes, at, file, file_offset, wrapped)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for letter in dead {
            let bytes = &letter.bytes[..letter.bytes.len().min(MAX_DEAD_BYTES)];
            insert.execute(params![
                source,
                letter.offset.cast_signed(),
                letter.reason.as_str(),
                bytes,
                now.millis(),
                letter.place.file.as_deref(),
                letter.place.offset.map(u64::cast_signed),
                letter.wrapped,
            ])?;
        }
    }
    // Row ids rise by one, so that this many below the newest there are at most that many rows; fewer after a
    // replay, which is no harm.
    let newest: Option<i64> =
        change.query_row("SELECT max(rowid) FROM dead_letters", [], |r| r.get(0)).optional()?.flatten();
    let Some(bound) = newest.map(|id| id - MAX_DEAD_LETTERS.cast_signed()) else { return Ok(0) };
    Ok(change.execute("DELETE FROM dead_letters WHERE rowid <= ?1 AND replay IS NULL", [bound])? as u64)
}

/// Letters that go through a replay together. Its number is never used again, and it holds the same letters until
/// it is finished: so what it publishes under that number can be recognised as a repeat.
#[derive(Debug)]
pub(crate) struct Replay {
    pub id: i64,
    /// In order of their row ids.
    pub letters: Vec<(i64, DeadLetter)>,
}

/// The letters of a replay that became something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revived {
    pub id: i64,
    pub rows: Vec<i64>,
}

impl Store {
    /// The newest dead letters, newest first.
    pub fn dead_letters(&self, most: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let connection = self.connection.lock();
        let mut query =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letters ORDER BY rowid DESC LIMIT ?1"))?;
        let rows = query.query_map([most], letter)?;
        rows.map(|row| row?.map(|(_, letter)| letter)).collect()
    }

    /// Up to `most` letters behind row id `after` that the filter lets through, oldest first.
    pub fn select(&self, filter: &ReplayFilter, after: i64, most: u32) -> Result<Vec<(i64, DeadLetter)>, StoreError> {
        let connection = self.connection.lock();
        let mut query = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM dead_letters WHERE rowid > ?1 AND (?2 IS NULL OR reason = ?2)
             AND (?3 IS NULL OR at >= ?3) ORDER BY rowid LIMIT ?4"
        ))?;
        let (reason, since) = (filter.reason.map(DeadReason::as_str), filter.since.map(Timestamp::millis));
        let rows = query.query_map(params![after, reason, since, most], letter)?;
        rows.map(|row| row?).collect()
    }

    /// The replay that was begun and never finished, if any.
    pub fn unfinished_replay(&self) -> Result<Option<Replay>, StoreError> {
        let connection = self.connection.lock();
        let id: Option<i64> = connection
            .query_row("SELECT id FROM replays WHERE finished IS NULL ORDER BY id LIMIT 1", [], |row| row.get(0))
            .optional()?;
        id.map(|id| letters_of(&connection, id)).transpose()
    }

    /// Begins a replay of these letters; durable before anything is published.
    pub fn begin_replay(&self, rows: &[i64], now: Timestamp) -> Result<Replay, StoreError> {
        let mut connection = self.connection.lock();
        let change = connection.transaction()?;
        change.execute("INSERT INTO replays (started) VALUES (?1)", [now.millis()])?;
        let id = change.last_insert_rowid();
        {
            let mut mark = change.prepare_cached("UPDATE dead_letters SET replay = ?1 WHERE rowid = ?2")?;
            for row in rows {
                mark.execute([id, *row])?;
            }
        }
        change.commit()?;
        letters_of(&connection, id)
    }
}

/// Ends a replay: its letters that became something leave the store, the others are free again.
pub(super) fn finish(change: &Transaction<'_>, revived: &Revived, now: Timestamp) -> Result<(), StoreError> {
    let mut take = change.prepare_cached("DELETE FROM dead_letters WHERE rowid = ?1 AND replay = ?2")?;
    for row in &revived.rows {
        take.execute([*row, revived.id])?;
    }
    change.execute("UPDATE dead_letters SET replay = NULL WHERE replay = ?1", [revived.id])?;
    change.execute("UPDATE replays SET finished = ?2 WHERE id = ?1", [revived.id, now.millis()])?;
    Ok(())
}

fn letters_of(connection: &Connection, id: i64) -> Result<Replay, StoreError> {
    let mut query =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letters WHERE replay = ?1 ORDER BY rowid"))?;
    let letters = query.query_map([id], letter)?.map(|row| row?).collect::<Result<_, _>>()?;
    Ok(Replay { id, letters })
}
