//! The one thread that owns the write connection: takes what waits, writes it in one transaction, and
//! answers after the commit. Never answers before it, and never leaves a caller without an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, params};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use types::{Clock, Timestamp};

use super::catalog::{Catalog, MAX_OFFSET, MAX_PARTITION_ID, TopicState, record_id};
use super::clean::{self, Cleaned};
use super::file::{self, FileLock};
use super::options::SqliteLogOptions;
use super::unavailable;
use crate::{EventLogError, Group, Position, Retention, TopicSpec, metrics};

/// Most records of one transaction, unless one append alone has more: bounds how long the first of them
/// waits. At 100,000 records/s that is 0.1 s.
const MAX_TRANSACTION_RECORDS: usize = 10_000;
/// Most bytes of one transaction, unless one append alone has more: as much as one checkpoint moves.
const MAX_TRANSACTION_BYTES: usize = 16 * 1024 * 1024;
/// Pause between two cleanings while there is more to clean, so that appends come first.
const CLEAN_PAUSE: Duration = Duration::from_millis(20);

pub(super) type Answer<T> = oneshot::Sender<Result<T, EventLogError>>;

/// A record ready to be written.
pub(super) struct Row {
    pub(super) partition: u32,
    pub(super) at: Timestamp,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Option<Vec<u8>>,
    pub(super) value: Option<Bytes>,
}

pub(super) struct Append {
    pub(super) topic: Arc<TopicState>,
    pub(super) rows: Vec<Row>,
    pub(super) bytes: usize,
    pub(super) answer: Answer<Vec<Position>>,
    /// Its place in the queue; given back when it is done.
    pub(super) _place: OwnedSemaphorePermit,
}

pub(super) struct Commit {
    pub(super) group: Group,
    /// Partition ids and offsets.
    pub(super) progress: Vec<(i64, u64)>,
    pub(super) answer: Answer<()>,
    pub(super) _place: OwnedSemaphorePermit,
}

pub(super) enum Job {
    Append(Append),
    Commit(Commit),
    Ensure(TopicSpec, Answer<()>),
    Clean(Answer<()>),
    Close,
}

impl Job {
    fn records(&self) -> usize {
        if let Self::Append(append) = self { append.rows.len() } else { 1 }
    }
    fn bytes(&self) -> usize {
        if let Self::Append(append) = self { append.bytes } else { 0 }
    }
}

pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) catalog: Arc<Catalog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: SqliteLogOptions,
    /// Let go after the connection is closed: fields drop in order.
    pub(super) _lock: FileLock,
}

/// Offsets that a transaction has given out: they count when it is committed.
#[derive(Default)]
struct Staged {
    ends: BTreeMap<i64, (Arc<TopicState>, u32, u64)>,
    records: usize,
}

/// Whatever ends the thread, nobody waits for it any longer.
struct ClosesAtTheEnd(Arc<Catalog>);

impl Drop for ClosesAtTheEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Writer {
    /// Works until it is told to close, its callers are gone, or the connection is beyond use.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let _closes = ClosesAtTheEnd(self.catalog.clone());
        let mut clean_at = Instant::now() + self.options.clean_every;
        let mut clean_from = 0;
        let mut waiting: Option<Job> = None;
        loop {
            let first = match waiting.take() {
                Some(job) => Ok(job),
                None => jobs.recv_timeout(clean_at.saturating_duration_since(Instant::now())),
            };
            let goes_on = match first {
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => false,
                Err(RecvTimeoutError::Timeout) => true,
                Ok(Job::Ensure(spec, answer)) => {
                    let _ = answer.send(self.ensure(&spec));
                    self.usable()
                }
                Ok(Job::Clean(answer)) => {
                    let _ = answer.send(self.clean_all());
                    self.usable()
                }
                Ok(job @ (Job::Append(_) | Job::Commit(_))) => {
                    let batch = gather(job, jobs, &mut waiting);
                    self.write(batch);
                    self.usable()
                }
            };
            if !goes_on {
                return;
            }
            if Instant::now() >= clean_at {
                let more = self.clean(&mut clean_from).unwrap_or_else(|error| {
                    tracing::warn!(%error, "could not clean the event log; trying again later");
                    false
                });
                clean_at = Instant::now() + if more { CLEAN_PAUSE } else { self.options.clean_every };
            }
        }
    }

    /// Whether no transaction is left open, which no later one could be trusted with.
    fn usable(&self) -> bool {
        let usable = self.db.is_autocommit();
        if !usable {
            tracing::error!("the event log's connection cannot roll back; closing the log");
        }
        usable
    }

    /// Runs `work` in a transaction that is there as a whole or not at all.
    fn transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let run = |this: &mut Self| {
            this.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let done = work(this)?;
            this.db.prepare_cached("COMMIT")?.execute([])?;
            Ok(done)
        };
        run(self).inspect_err(|error| {
            ::metrics::counter!(metrics::FAILED_TRANSACTIONS).increment(1);
            tracing::warn!(%error, "a transaction of the event log failed");
            if !self.db.is_autocommit() {
                let _ = self.db.execute_batch("ROLLBACK");
            }
        })
    }

    fn write(&mut self, batch: Vec<Job>) {
        let mut staged = Staged::default();
        let written = self.transaction(|this| {
            let now = this.clock.now();
            batch.iter().map(|job| put(&this.db, job, now, &mut staged)).collect::<rusqlite::Result<Vec<_>>>()
        });
        let Ok(positions) = written.as_ref() else {
            let why = written.err().map_or_else(String::new, |e| e.to_string());
            for job in batch {
                let error = || Err(EventLogError::Unavailable(why.clone()));
                match job {
                    Job::Append(append) => drop(append.answer.send(error())),
                    Job::Commit(commit) => drop(commit.answer.send(error().map(|_: Vec<Position>| ()))),
                    _ => {}
                }
            }
            return;
        };
        self.publish(&staged);
        for (job, positions) in batch.into_iter().zip(positions.iter()) {
            match job {
                Job::Append(append) => drop(append.answer.send(Ok(positions.clone()))),
                Job::Commit(commit) => drop(commit.answer.send(Ok(()))),
                _ => {}
            }
        }
    }

    /// Shows the new ends and wakes who waits for them.
    fn publish(&self, staged: &Staged) {
        if staged.records == 0 {
            return;
        }
        ::metrics::histogram!(metrics::TRANSACTION_RECORDS).record(staged.records as f64);
        let mut topics = BTreeMap::new();
        for (topic, partition, end) in staged.ends.values() {
            topic.partitions[*partition as usize].reached(*end);
            topics.insert(&topic.topic, ());
        }
        for topic in topics.keys() {
            self.catalog.groups.wake_topic(topic);
        }
    }

    fn ensure(&mut self, spec: &TopicSpec) -> Result<(), EventLogError> {
        let known = self.catalog.find(&spec.topic);
        let have = known.as_ref().map(|t| t.partitions.len() as u32);
        if let Some(have) = have.filter(|have| *have != spec.partitions) {
            return Err(EventLogError::Partitions { topic: spec.topic.clone(), have, want: spec.partitions });
        }
        let retention_ms = file::retention_ms(spec.retention);
        let created = self
            .transaction(|this| {
                this.db.execute(
                    "INSERT INTO topics (topic, retention_ms) VALUES (?1, ?2)
                     ON CONFLICT (topic) DO UPDATE SET retention_ms = excluded.retention_ms",
                    params![spec.topic.as_str(), retention_ms],
                )?;
                if known.is_none() {
                    let mut insert = this.db.prepare("INSERT INTO partitions (topic, partition) VALUES (?1, ?2)")?;
                    for partition in 0..spec.partitions {
                        insert.execute(params![spec.topic.as_str(), partition])?;
                    }
                }
                file::partitions(&this.db, spec.topic.as_str())
            })
            .map_err(unavailable)?;
        if created.iter().any(|p| p.id > MAX_PARTITION_ID) {
            return Err(EventLogError::Refused(format!("the log has more than {MAX_PARTITION_ID} partitions")));
        }
        let partitions = known.map_or_else(|| created.into(), |t| t.partitions.clone());
        self.catalog.put(TopicState::new(spec.topic.clone(), spec.retention, partitions));
        Ok(())
    }

    /// Cleans until there is nothing left to clean.
    fn clean_all(&mut self) -> Result<(), EventLogError> {
        let mut from = 0;
        while self.clean(&mut from).map_err(unavailable)? {}
        Ok(())
    }

    /// One bounded cleaning, beginning with the partition where the last one stopped and going to the last
    /// partition at most, so that a pass ends even if each one has something to look at; whether there is more.
    fn clean(&mut self, from: &mut usize) -> rusqlite::Result<bool> {
        let topics = self.catalog.all();
        let now = self.clock.now();
        let buried_before = now.minus(self.options.keep_tombstones).millis();
        let partitions: Vec<_> =
            topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p))).collect();
        let budget = self.options.clean_records as usize;
        let first = *from;
        let mut removed: BTreeMap<&str, Cleaned> = BTreeMap::new();
        let stopped = self.transaction(|this| {
            let mut left = budget;
            for (at, (topic, partition)) in partitions.iter().enumerate().skip(first) {
                let cleaned = match topic.retention {
                    Retention::Time(keep) => {
                        clean::expire(&this.db, partition.id, partition.end(), now.minus(keep).millis(), left)?
                    }
                    Retention::Compacted => {
                        clean::compact(&this.db, partition.id, partition.end(), buried_before, left)?
                    }
                };
                let sum = removed.entry(topic.topic.as_str()).or_default();
                sum.removed += cleaned.removed;
                sum.unread += cleaned.unread;
                if cleaned.worked >= left {
                    return Ok(Some(at));
                }
                left -= cleaned.worked;
            }
            Ok(None)
        })?;
        for (topic, cleaned) in removed {
            report(topic, cleaned);
        }
        *from = stopped.unwrap_or(0);
        Ok(stopped.is_some())
    }
}

fn report(topic: &str, cleaned: Cleaned) {
    if cleaned.removed > 0 {
        let topic = topic.to_owned();
        ::metrics::counter!(metrics::REMOVED_RECORDS, "topic" => topic).increment(cleaned.removed as u64);
    }
    if cleaned.unread > 0 {
        tracing::warn!(topic, records = cleaned.unread, "retention removed records that a group had not read");
        let topic = topic.to_owned();
        ::metrics::counter!(metrics::REMOVED_UNREAD, "topic" => topic).increment(cleaned.unread as u64);
    }
}

/// The first job and what else waits and fits its transaction. What does not, comes next.
fn gather(first: Job, jobs: &Receiver<Job>, waiting: &mut Option<Job>) -> Vec<Job> {
    let (mut records, mut bytes) = (first.records(), first.bytes());
    let mut batch = vec![first];
    while let Ok(job) = jobs.try_recv() {
        records += job.records();
        bytes += job.bytes();
        let joins = matches!(job, Job::Append(_) | Job::Commit(_));
        if !joins || records > MAX_TRANSACTION_RECORDS || bytes > MAX_TRANSACTION_BYTES {
            *waiting = Some(job);
            break;
        }
        batch.push(job);
    }
    batch
}

fn put(db: &Connection, job: &Job, now: Timestamp, staged: &mut Staged) -> rusqlite::Result<Vec<Position>> {
    match job {
        Job::Append(append) => put_records(db, append, now, staged),
        Job::Commit(commit) => put_progress(db, commit).map(|()| Vec::new()),
        _ => Ok(Vec::new()),
    }
}

fn put_records(
    db: &Connection,
    append: &Append,
    now: Timestamp,
    staged: &mut Staged,
) -> rusqlite::Result<Vec<Position>> {
    let mut insert = db.prepare_cached(
        "INSERT INTO records (id, appended, at, key, headers, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut positions = Vec::with_capacity(append.rows.len());
    let mut touched = BTreeMap::new();
    for row in &append.rows {
        let state = &append.topic.partitions[row.partition as usize];
        let entry = staged.ends.entry(state.id);
        let (_, _, end) = entry.or_insert_with(|| (append.topic.clone(), row.partition, state.end()));
        let offset = *end;
        if offset >= MAX_OFFSET - 1 {
            return Err(rusqlite::Error::IntegralValueOutOfRange(0, offset as i64));
        }
        insert.execute(params![
            record_id(state.id, offset),
            now.millis(),
            row.at.millis(),
            row.key.as_deref(),
            row.headers.as_deref(),
            row.value.as_deref(),
        ])?;
        *end = offset + 1;
        touched.insert(state.id, offset + 1);
        positions.push(Position { partition: row.partition, offset });
    }
    let mut advance = db.prepare_cached("UPDATE partitions SET next = ?2 WHERE id = ?1")?;
    for (id, next) in touched {
        advance.execute([id, next as i64])?;
    }
    staged.records += append.rows.len();
    Ok(positions)
}

fn put_progress(db: &Connection, commit: &Commit) -> rusqlite::Result<()> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO progress (partition_id, group_name, next) VALUES (?1, ?2, ?3)
         ON CONFLICT (partition_id, group_name) DO UPDATE SET next = excluded.next",
    )?;
    for (id, next) in &commit.progress {
        upsert.execute(params![id, commit.group.as_str(), *next as i64])?;
    }
    Ok(())
}
