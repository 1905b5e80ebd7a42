//! What everybody may know without asking the file: topics, partitions and how far each can be read.
//! Only the writer changes it, after the change is durable.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::group::Groups;
use crate::metrics::Appends;
use crate::{EventLogError, Retention, Topic, TopicPartition, check};

/// Offsets are below 2^44: at 100,000 records/s in one partition that is five years.
pub(super) const OFFSET_BITS: u32 = 44;
/// Partition ids are below 2^19, so that the id of a record is a positive 64-bit number.
pub(super) const MAX_PARTITION_ID: i64 = (1 << (63 - OFFSET_BITS)) - 1;
/// One past the largest offset.
pub(super) const MAX_OFFSET: u64 = 1 << OFFSET_BITS;

/// The id of the record at this offset.
pub(super) fn record_id(partition_id: i64, offset: u64) -> i64 {
    (partition_id << OFFSET_BITS) | offset.min(MAX_OFFSET - 1) as i64
}

/// The offset of the record with this id.
pub(super) fn offset_of(record_id: i64) -> u64 {
    record_id as u64 & (MAX_OFFSET - 1)
}

/// A topic as it stands; replaced, never changed.
pub(super) struct TopicState {
    pub(super) topic: Topic,
    pub(super) retention: Retention,
    pub(super) partitions: Arc<[PartitionState]>,
    appends: OnceLock<Appends>,
}

impl TopicState {
    pub(super) fn new(topic: Topic, retention: Retention, partitions: Arc<[PartitionState]>) -> Self {
        Self { topic, retention, partitions, appends: OnceLock::new() }
    }
    /// What its appends count in.
    pub(super) fn appends(&self) -> &Appends {
        self.appends.get_or_init(|| Appends::of(&self.topic))
    }
}

/// A partition and its end.
pub(super) struct PartitionState {
    pub(super) id: i64,
    end: AtomicU64,
}

impl PartitionState {
    pub(super) fn new(id: i64, end: u64) -> Self {
        Self { id, end: AtomicU64::new(end) }
    }
    /// One past the last durable record.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }
    /// For the writer, after its commit.
    pub(super) fn reached(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }
}

/// Shared between the writer and everybody else.
pub(super) struct Catalog {
    topics: RwLock<BTreeMap<Topic, Arc<TopicState>>>,
    pub(super) groups: Arc<Groups>,
    closed: AtomicBool,
}

impl Catalog {
    pub(super) fn new(topics: BTreeMap<Topic, Arc<TopicState>>) -> Self {
        Self { topics: RwLock::new(topics), groups: Arc::default(), closed: AtomicBool::new(false) }
    }

    pub(super) fn find(&self, topic: &Topic) -> Option<Arc<TopicState>> {
        self.topics.read().get(topic).cloned()
    }

    pub(super) fn topic(&self, topic: &Topic) -> Result<Arc<TopicState>, EventLogError> {
        self.find(topic).ok_or_else(|| EventLogError::NoSuchTopic(topic.clone()))
    }

    /// The partition's topic, whose list of partitions has it.
    pub(super) fn topic_of(&self, partition: &TopicPartition) -> Result<Arc<TopicState>, EventLogError> {
        let topic = self.topic(&partition.topic)?;
        check::partition(partition, topic.partitions.len() as u32)?;
        Ok(topic)
    }

    pub(super) fn partition_id(&self, partition: &TopicPartition) -> Result<i64, EventLogError> {
        Ok(self.topic_of(partition)?.partitions[partition.partition as usize].id)
    }

    pub(super) fn all(&self) -> Vec<Arc<TopicState>> {
        self.topics.read().values().cloned().collect()
    }

    /// For the writer, after its commit.
    pub(super) fn put(&self, topic: TopicState) {
        self.topics.write().insert(topic.topic.clone(), Arc::new(topic));
    }

    pub(super) fn alive(&self) -> Result<(), EventLogError> {
        if self.closed.load(Ordering::Acquire) { Err(EventLogError::Closed) } else { Ok(()) }
    }

    /// From now on every call is refused, and every waiting consumer learns it.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.groups.wake_all();
    }
}
