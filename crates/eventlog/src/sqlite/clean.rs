//! Retention and compaction inside the writer's transaction, a bounded piece at a time. Never removes the
//! last value of a compacted key, nor moves an offset.

use rusqlite::{Connection, OptionalExtension, params};

use super::catalog::{offset_of, record_id};

/// What one piece of work did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cleaned {
    /// Records that were worked on; as many as the budget means that there may be more.
    pub(super) worked: usize,
    /// Records removed.
    pub(super) removed: usize,
    /// Of these: not committed yet by some group.
    pub(super) unread: usize,
}

/// Removes records that were appended before `cutoff` (milliseconds), from the oldest on, at most `budget`.
pub(super) fn expire(
    db: &Connection,
    partition_id: i64,
    end: u64,
    cutoff: i64,
    budget: usize,
) -> rusqlite::Result<Cleaned> {
    let range = (record_id(partition_id, 0), record_id(partition_id, end));
    let mut oldest =
        db.prepare_cached("SELECT id, appended FROM records WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3")?;
    let mut rows = oldest.query(params![range.0, range.1, budget as i64])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= cutoff {
            break;
        }
        ids.push(row.get::<_, i64>(0)?);
    }
    drop(rows);
    let Some(last) = ids.last() else { return Ok(Cleaned::default()) };
    db.prepare_cached("DELETE FROM records WHERE id >= ?1 AND id <= ?2")?.execute([range.0, *last])?;
    let slowest: Option<i64> = db
        .prepare_cached("SELECT min(next) FROM progress WHERE partition_id = ?1")?
        .query_row([partition_id], |r| r.get(0))?;
    let unread = slowest.map_or(0, |next| ids.iter().filter(|id| offset_of(**id) >= next as u64).count());
    Ok(Cleaned { worked: ids.len(), removed: ids.len(), unread })
}

/// Goes on through a compacted partition: of each key that comes by, the value before it goes. Then
/// removes tombstones that were appended before `buried_before` (milliseconds).
pub(super) fn compact(
    db: &Connection,
    partition_id: i64,
    end: u64,
    buried_before: i64,
    budget: usize,
) -> rusqlite::Result<Cleaned> {
    let from: i64 = db
        .prepare_cached("SELECT compacted_to FROM partitions WHERE id = ?1")?
        .query_row([partition_id], |r| r.get(0))?;
    let mut cleaned = Cleaned::default();
    if (from as u64) < end {
        cleaned = supersede(db, partition_id, from as u64, end, budget)?;
    }
    let left = budget.saturating_sub(cleaned.worked);
    let removed = unbury(db, partition_id, buried_before, left)?;
    cleaned.worked += removed;
    cleaned.removed += removed;
    Ok(cleaned)
}

fn supersede(db: &Connection, partition_id: i64, from: u64, end: u64, budget: usize) -> rusqlite::Result<Cleaned> {
    let mut stretch = db.prepare_cached(
        "SELECT id, appended, key, value IS NULL FROM records WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
    )?;
    let mut before = db.prepare_cached("SELECT offset FROM newest WHERE partition_id = ?1 AND key = ?2")?;
    let mut put = db.prepare_cached(
        "INSERT INTO newest (partition_id, key, offset, buried) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (partition_id, key) DO UPDATE SET offset = excluded.offset, buried = excluded.buried",
    )?;
    let mut cleaned = Cleaned::default();
    let mut reached = end;
    let range = params![record_id(partition_id, from), record_id(partition_id, end), budget as i64];
    let rows: Vec<(i64, i64, Option<Vec<u8>>, bool)> = stretch
        .query_map(range, |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, appended, key, tombstone) in rows {
        cleaned.worked += 1;
        if cleaned.worked == budget {
            reached = offset_of(id) + 1;
        }
        // A record without a key is older than the topic's compaction; it has no successor.
        let Some(key) = key else { continue };
        let previous: Option<i64> = before.query_row(params![partition_id, key], |r| r.get(0)).optional()?;
        if let Some(previous) = previous {
            cleaned.removed += remove(db, partition_id, previous as u64)?;
        }
        put.execute(params![partition_id, key, offset_of(id) as i64, tombstone.then_some(appended)])?;
    }
    db.prepare_cached("UPDATE partitions SET compacted_to = ?2 WHERE id = ?1")?
        .execute([partition_id, reached as i64])?;
    Ok(cleaned)
}

fn unbury(db: &Connection, partition_id: i64, buried_before: i64, budget: usize) -> rusqlite::Result<usize> {
    let mut old = db.prepare_cached(
        "SELECT key, offset FROM newest WHERE partition_id = ?1 AND buried IS NOT NULL AND buried < ?2 LIMIT ?3",
    )?;
    let found: Vec<(Vec<u8>, i64)> = old
        .query_map(params![partition_id, buried_before, budget as i64], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (key, offset) in &found {
        remove(db, partition_id, *offset as u64)?;
        db.prepare_cached("DELETE FROM newest WHERE partition_id = ?1 AND key = ?2")?
            .execute(params![partition_id, key])?;
    }
    Ok(found.len())
}

fn remove(db: &Connection, partition_id: i64, offset: u64) -> rusqlite::Result<usize> {
    db.prepare_cached("DELETE FROM records WHERE id = ?1")?.execute([record_id(partition_id, offset)])
}
