//! Reading: a few connections of their own, used on the runtime's blocking threads. Never writes.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tokio::sync::Semaphore;
use types::Timestamp;

use super::catalog::{offset_of, record_id};
use super::{file, headers, unavailable};
use crate::group::Portion;
use crate::{EventLogError, Record, TopicPartition};

/// A bounded set of connections that only read.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    slots: Arc<Semaphore>,
}

/// A stretch of a partition: from here up to, but not with, `end`.
pub(super) struct Stretch {
    pub(super) partition: TopicPartition,
    pub(super) partition_id: i64,
    pub(super) from: u64,
    pub(super) end: u64,
}

impl Readers {
    pub(super) fn new(path: PathBuf, count: u32) -> Arc<Self> {
        Arc::new(Self { path, idle: Mutex::default(), slots: Arc::new(Semaphore::new(count as usize)) })
    }

    /// Runs `read` with a connection. One that failed is not used again.
    pub(super) async fn run<T, F>(self: &Arc<Self>, read: F) -> Result<T, EventLogError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, EventLogError> + Send + 'static,
    {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| EventLogError::Closed)?;
        let readers = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let idle = readers.idle.lock().pop();
            let db = idle.map_or_else(|| file::open_to_read(&readers.path), Ok).map_err(unavailable)?;
            let answer = read(&db)?;
            if !readers.slots.is_closed() {
                readers.idle.lock().push(db);
            }
            Ok(answer)
        });
        task.await.unwrap_or_else(|e| Err(EventLogError::Unavailable(format!("a reader failed: {e}"))))
    }

    /// Lets no more in and closes what is idle.
    pub(super) fn close(&self) {
        self.slots.close();
        self.idle.lock().clear();
    }
}

/// Up to `max` records and about `bytes` bytes from the stretches in their order.
pub(super) fn read(
    db: &Connection,
    stretches: Vec<Stretch>,
    max: usize,
    bytes: usize,
) -> Result<Vec<Portion>, EventLogError> {
    let (mut left, mut bytes_left) = (max, bytes);
    let mut portions = Vec::new();
    for stretch in stretches {
        if left == 0 || bytes_left == 0 {
            break;
        }
        let portion = read_one(db, stretch, left, &mut bytes_left)?;
        left -= portion.records.len();
        portions.push(portion);
    }
    Ok(portions)
}

fn read_one(db: &Connection, stretch: Stretch, max: usize, bytes: &mut usize) -> Result<Portion, EventLogError> {
    let Stretch { partition, partition_id, from, end } = stretch;
    let mut select = db
        .prepare_cached(
            "SELECT id, at, key, headers, value FROM records WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        )
        .map_err(unavailable)?;
    let range = (record_id(partition_id, from), record_id(partition_id, end), max as i64);
    let mut rows = select.query(range).map_err(unavailable)?;
    let mut records = Vec::new();
    while *bytes > 0
        && let Some(row) = rows.next().map_err(unavailable)?
    {
        let record = record(row, &partition).map_err(unavailable)?.ok_or_else(|| {
            EventLogError::Unavailable(format!("a record of {} has malformed headers", partition.topic))
        })?;
        *bytes = bytes.saturating_sub(record.value.as_ref().map_or(0, |v| v.len()) + 1);
        records.push(record);
    }
    // A stretch that was read to its end may have had holes there; what was cut short goes on behind the last.
    let cut = records.len() == max || *bytes == 0;
    let next = if cut { records.last().map_or(from, |r| r.offset + 1) } else { end };
    Ok(Portion { partition, records, next })
}

fn record(row: &rusqlite::Row<'_>, partition: &TopicPartition) -> rusqlite::Result<Option<Record>> {
    let bytes = |i: usize| -> rusqlite::Result<Option<Bytes>> {
        Ok(match row.get_ref(i)? {
            ValueRef::Blob(b) => Some(Bytes::copy_from_slice(b)),
            _ => None,
        })
    };
    let Some(headers) = headers::decode(row.get_ref(3)?.as_blob_or_null().unwrap_or(None)) else { return Ok(None) };
    Ok(Some(Record {
        topic: partition.topic.clone(),
        partition: partition.partition,
        offset: offset_of(row.get(0)?),
        key: bytes(2)?,
        value: bytes(4)?,
        headers,
        at: Timestamp::from_millis(row.get(1)?),
    }))
}
