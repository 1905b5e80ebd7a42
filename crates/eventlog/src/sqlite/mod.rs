//! Provider `sqlite`: the embedded default, durable. One file, one writer thread, one process at a time;
//! consumer groups coordinate within that process.

mod catalog;
mod clean;
mod file;
mod headers;
mod options;
mod readers;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use types::{Clock, SystemClock};

use crate::group::{GroupConsumer, Groups, Portion, Shelf, Wish};
use crate::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Position, Progress, Subscription, Topic, TopicPartition,
    TopicSpec, check,
};
use catalog::Catalog;
pub use options::SqliteLogOptions;
use readers::{Readers, Stretch};
use writer::{Answer, Append, Commit, Job, Row, Writer};

/// The unit in which the writer's queue is counted, in bytes; a record counts at least an eighth of it.
const QUEUE_UNIT: usize = 1024;

/// A log in a file. Clones are the same log; when the last clone and the last consumer are dropped the
/// writer finishes what waits and lets the file go, which blocks for that moment ([`SqliteLog::close`] does not).
#[derive(Clone)]
pub struct SqliteLog {
    shelf: Arc<Embedded>,
}

struct Embedded {
    catalog: Arc<Catalog>,
    readers: Arc<Readers>,
    jobs: mpsc::Sender<Job>,
    /// Bounds what waits for the writer.
    places: Arc<Semaphore>,
    all_places: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn unavailable(error: rusqlite::Error) -> EventLogError {
    EventLogError::Unavailable(format!("sqlite: {error}"))
}

impl SqliteLog {
    /// Opens or creates the file at `path` (and its folder) and starts the writer thread. Beside it lie
    /// `-wal` and `-shm` (SQLite's) and `.lock`.
    ///
    /// Blocks for the disk. Fails with `Unavailable` if another process has it open, with `Refused` if the
    /// file is something else or the options are out of range.
    pub fn open(path: &Path, options: SqliteLogOptions) -> Result<Self, EventLogError> {
        Self::open_with_clock(path, options, Arc::new(SystemClock::new()))
    }

    /// As [`SqliteLog::open`]; the age of records is counted on this clock.
    pub fn open_with_clock(
        path: &Path,
        options: SqliteLogOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EventLogError> {
        options.check().map_err(|e| EventLogError::Refused(e.to_string()))?;
        let lock = file::lock(path)?;
        let db = file::open_to_write(path, &options)?;
        let catalog = Arc::new(Catalog::new(file::load(&db).map_err(unavailable)?));
        let readers = Readers::new(path.to_owned(), options.readers);
        let all_places = options.queue_mib * (1024 * 1024 / QUEUE_UNIT) as u32;
        let (jobs, queue) = mpsc::channel();
        let writer = Writer { db, catalog: catalog.clone(), clock, options, _lock: lock };
        let thread = std::thread::Builder::new()
            .name("eventlog-writer".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|e| EventLogError::Unavailable(format!("cannot start the writer: {e}")))?;
        let places = Arc::new(Semaphore::new(all_places as usize));
        let thread = Mutex::new(Some(thread));
        Ok(Self { shelf: Arc::new(Embedded { catalog, readers, jobs, places, all_places, thread }) })
    }

    /// Finishes what waits, closes the file and lets it go. Every call after that, also of consumers,
    /// answers [`EventLogError::Closed`].
    pub async fn close(&self) {
        let shelf = self.shelf.clone();
        let closing = tokio::task::spawn_blocking(move || shelf.close());
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing the event log failed");
        }
    }

    /// Applies retention and compaction now, to the end; otherwise a bounded piece runs every
    /// [`SqliteLogOptions::clean_every`]. Appends wait meanwhile.
    pub async fn clean(&self) -> Result<(), EventLogError> {
        self.shelf.ask(Job::Clean).await
    }
}

impl Embedded {
    fn close(&self) {
        self.catalog.close();
        self.places.close();
        self.readers.close();
        // Fails only if the writer is gone already.
        let _ = self.jobs.send(Job::Close);
        let thread = self.thread.lock().take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the event log's writer panicked");
        }
    }

    /// Sends a job and waits for its answer. A writer that is gone answers `Closed`.
    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, EventLogError> {
        self.catalog.alive()?;
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).map_err(|_| EventLogError::Closed)?;
        answered.await.unwrap_or(Err(EventLogError::Closed))
    }

    /// Waits for a place in the writer's queue.
    async fn place(&self, records: usize, bytes: usize) -> Result<OwnedSemaphorePermit, EventLogError> {
        let units = u32::try_from(1 + bytes / QUEUE_UNIT + records / 8).unwrap_or(u32::MAX).min(self.all_places);
        self.places.clone().acquire_many_owned(units).await.map_err(|_| EventLogError::Closed)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Shelf for Embedded {
    fn groups(&self) -> &Arc<Groups> {
        &self.catalog.groups
    }
    fn alive(&self) -> Result<(), EventLogError> {
        self.catalog.alive()
    }
    fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        self.catalog.topic(topic).map(|t| t.partitions.len() as u32)
    }
    fn end(&self, partition: &TopicPartition) -> u64 {
        let topic = self.catalog.find(&partition.topic);
        topic.and_then(|t| t.partitions.get(partition.partition as usize).map(|p| p.end())).unwrap_or(0)
    }

    async fn read(&self, wishes: Vec<Wish>, max: usize, bytes: usize) -> Result<Vec<Portion>, EventLogError> {
        let stretch = |Wish { partition, from }| {
            let topic = self.catalog.topic_of(&partition)?;
            let state = &topic.partitions[partition.partition as usize];
            Ok(Stretch { partition, partition_id: state.id, from, end: state.end() })
        };
        let stretches = wishes.into_iter().map(stretch).collect::<Result<Vec<_>, EventLogError>>()?;
        self.readers.run(move |db| readers::read(db, stretches, max, bytes)).await
    }

    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError> {
        let id = self.catalog.partition_id(partition)?;
        let group = group.clone();
        let find = move |db: &rusqlite::Connection| {
            let mut select =
                db.prepare_cached("SELECT next FROM progress WHERE partition_id = ?1 AND group_name = ?2")?;
            let mut rows = select.query(rusqlite::params![id, group.as_str()])?;
            rows.next()?.map(|row| row.get::<_, i64>(0).map(|next| next as u64)).transpose()
        };
        self.readers.run(move |db| find(db).map_err(unavailable)).await
    }

    async fn commit(&self, group: &Group, progress: &[Progress]) -> Result<(), EventLogError> {
        let with_id = |p: &Progress| self.catalog.partition_id(&p.partition).map(|id| (id, p.next));
        let progress = progress.iter().map(with_id).collect::<Result<Vec<_>, _>>()?;
        let _place = self.place(progress.len(), 0).await?;
        let group = group.clone();
        self.ask(|answer| Job::Commit(Commit { group, progress, answer, _place })).await
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
        check::spec(spec)?;
        let spec = spec.clone();
        self.shelf.ask(|answer| Job::Ensure(spec, answer)).await
    }

    async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        self.shelf.alive()?;
        Shelf::partitions(&*self.shelf, topic)
    }

    async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
        let called = Instant::now();
        self.shelf.alive()?;
        let state = self.shelf.catalog.topic(topic)?;
        let places = check::places(&records, state.partitions.len() as u32, state.retention)?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (count, bytes) = (records.len(), records.iter().map(check::size).sum());
        let _place = self.shelf.place(count, bytes).await?;
        let row = |(record, partition): (NewRecord, u32)| {
            let NewRecord { key, value, headers, at, .. } = record;
            Row { partition, at, key, headers: headers::encode(&headers), value }
        };
        let rows = records.into_iter().zip(places).map(row).collect();
        let positions =
            self.shelf.ask(|answer| Job::Append(Append { topic: state.clone(), rows, bytes, answer, _place })).await?;
        state.appends().count(count, bytes, called.elapsed());
        Ok(positions)
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, EventLogError> {
        Ok(Box::new(GroupConsumer::join(self.shelf.clone(), subscription)?))
    }

    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError> {
        self.shelf.alive()?;
        Shelf::committed(&*self.shelf, group, partition).await
    }

    async fn end_offset(&self, partition: &TopicPartition) -> Result<u64, EventLogError> {
        self.shelf.alive()?;
        let topic = self.shelf.catalog.topic_of(partition)?;
        Ok(topic.partitions[partition.partition as usize].end())
    }
}
