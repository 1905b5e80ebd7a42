//! Provider `memory`: for simulation and tests. Deterministic: no thread, no clock of its own, nothing in
//! hash order. Nothing survives the process.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use types::{Clock, Timestamp};

use crate::group::{GroupConsumer, Groups, Portion, Shelf, Wish};
use crate::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Position, Progress, Record, Retention, Subscription, Topic,
    TopicPartition, TopicSpec, check, metrics,
};

/// A compacted partition is compacted when it has this many times as many records as it had after the
/// last time: so that each append pays a constant share.
const COMPACT_GROWTH: usize = 2;
/// Below this many records compaction is not worth it.
const COMPACT_FLOOR: usize = 1024;

/// A log in memory. Clones are the same log.
#[derive(Clone, Default)]
pub struct MemoryLog {
    shelf: Arc<Memory>,
}

impl MemoryLog {
    /// An empty log that keeps every record, except old values of compacted topics.
    pub fn new() -> Self {
        Self::default()
    }
    /// An empty log that also forgets what is older than its topic's retention on this clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { shelf: Arc::new(Memory { clock: Some(clock), ..Memory::default() }) }
    }
}

#[derive(Default)]
struct Memory {
    state: Mutex<State>,
    groups: Arc<Groups>,
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<Topic, Stored>,
    committed: BTreeMap<(Group, TopicPartition), u64>,
}

struct Stored {
    retention: Retention,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    next: u64,
    kept: std::collections::VecDeque<Kept>,
    compact_at: usize,
}

struct Kept {
    offset: u64,
    appended: Timestamp,
    record: NewRecord,
}

impl Partition {
    fn push(&mut self, record: NewRecord, now: Timestamp) -> u64 {
        let offset = self.next;
        self.kept.push_back(Kept { offset, appended: now, record });
        self.next += 1;
        offset
    }

    fn forget(&mut self, retention: Retention, now: Option<Timestamp>) {
        match (retention, now) {
            (Retention::Time(keep), Some(now)) => {
                while self.kept.front().is_some_and(|k| now.since(k.appended) > keep) {
                    self.kept.pop_front();
                }
            }
            (Retention::Compacted, _) if self.kept.len() >= self.compact_at.max(COMPACT_FLOOR) => {
                let mut seen: HashSet<Bytes> = HashSet::new();
                let newest = |k: &Kept| k.record.key.clone().is_none_or(|key| seen.insert(key));
                let last: Vec<bool> = self.kept.iter().rev().map(newest).collect();
                let mut last = last.into_iter().rev();
                self.kept.retain(|_| last.next().unwrap_or(true));
                self.compact_at = self.kept.len() * COMPACT_GROWTH;
            }
            _ => {}
        }
    }
}

impl State {
    fn stored(&self, topic: &Topic) -> Result<&Stored, EventLogError> {
        self.topics.get(topic).ok_or_else(|| EventLogError::NoSuchTopic(topic.clone()))
    }
    fn partition(&self, partition: &TopicPartition) -> Result<&Partition, EventLogError> {
        let stored = self.stored(&partition.topic)?;
        check::partition(partition, stored.partitions.len() as u32)?;
        Ok(&stored.partitions[partition.partition as usize])
    }
}

fn record(topic: &Topic, partition: u32, kept: &Kept) -> Record {
    let NewRecord { key, value, headers, at, .. } = kept.record.clone();
    Record { topic: topic.clone(), partition, offset: kept.offset, key, value, headers, at }
}

#[async_trait]
impl Shelf for Memory {
    fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }
    fn alive(&self) -> Result<(), EventLogError> {
        Ok(())
    }
    fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        self.state.lock().stored(topic).map(|s| s.partitions.len() as u32)
    }
    fn end(&self, partition: &TopicPartition) -> u64 {
        self.state.lock().partition(partition).map_or(0, |p| p.next)
    }

    async fn read(&self, wishes: Vec<Wish>, max: usize, bytes: usize) -> Result<Vec<Portion>, EventLogError> {
        let state = self.state.lock();
        let (mut left, mut bytes_left) = (max, bytes);
        let mut portions = Vec::new();
        for Wish { partition, from } in wishes {
            if left == 0 || bytes_left == 0 {
                break;
            }
            let stored = state.partition(&partition)?;
            let first = stored.kept.partition_point(|k| k.offset < from);
            let mut records = Vec::new();
            let mut next = stored.next;
            for kept in stored.kept.range(first..) {
                if left == 0 || bytes_left == 0 {
                    next = kept.offset;
                    break;
                }
                left -= 1;
                bytes_left = bytes_left.saturating_sub(check::size(&kept.record));
                records.push(record(&partition.topic, partition.partition, kept));
            }
            portions.push(Portion { partition, records, next });
        }
        Ok(portions)
    }

    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError> {
        let state = self.state.lock();
        state.partition(partition)?;
        Ok(state.committed.get(&(group.clone(), partition.clone())).copied())
    }

    async fn commit(&self, group: &Group, progress: &[Progress]) -> Result<(), EventLogError> {
        let mut state = self.state.lock();
        for p in progress {
            state.committed.insert((group.clone(), p.partition.clone()), p.next);
        }
        Ok(())
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
        check::spec(spec)?;
        let mut state = self.shelf.state.lock();
        let fresh = || Stored {
            retention: spec.retention,
            partitions: (0..spec.partitions).map(|_| Partition::default()).collect(),
        };
        let stored = state.topics.entry(spec.topic.clone()).or_insert_with(fresh);
        let have = stored.partitions.len() as u32;
        if have != spec.partitions {
            return Err(EventLogError::Partitions { topic: spec.topic.clone(), have, want: spec.partitions });
        }
        stored.retention = spec.retention;
        Ok(())
    }

    async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        Shelf::partitions(&*self.shelf, topic)
    }

    async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
        let called = Instant::now();
        let now = self.shelf.clock.as_ref().map(|c| c.now());
        let (count, bytes) = (records.len(), records.iter().map(check::size).sum());
        let mut state = self.shelf.state.lock();
        let stored = state.topics.get_mut(topic).ok_or_else(|| EventLogError::NoSuchTopic(topic.clone()))?;
        let places = check::places(&records, stored.partitions.len() as u32, stored.retention)?;
        let mut positions = Vec::with_capacity(count);
        for (record, partition) in records.into_iter().zip(places) {
            let offset = stored.partitions[partition as usize].push(record, now.unwrap_or_default());
            positions.push(Position { partition, offset });
        }
        let touched: std::collections::BTreeSet<u32> = positions.iter().map(|p| p.partition).collect();
        for partition in touched {
            stored.partitions[partition as usize].forget(stored.retention, now);
        }
        drop(state);
        self.shelf.groups.wake_topic(topic);
        metrics::Appends::of(topic).count(count, bytes, called.elapsed());
        Ok(positions)
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, EventLogError> {
        Ok(Box::new(GroupConsumer::join(self.shelf.clone(), subscription)?))
    }

    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError> {
        Shelf::committed(&*self.shelf, group, partition).await
    }

    async fn end_offset(&self, partition: &TopicPartition) -> Result<u64, EventLogError> {
        self.shelf.state.lock().partition(partition).map(|p| p.next)
    }
}
