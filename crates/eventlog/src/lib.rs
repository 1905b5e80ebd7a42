//! The event log port: topics of partitions, records in order within a partition, consumer groups that
//! commit their own progress. Providers live beside it; only `crates/seckill/src/wire.rs` names one.

mod check;
mod group;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
pub mod metrics;
pub mod partition;
pub mod sqlite;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use types::{Invalid, Timestamp};

pub use check::{MAX_APPEND_BYTES, MAX_KEY_AND_HEADERS, MAX_SUBSCRIBED};
#[cfg(feature = "kafka")]
pub use kafka::{KafkaLog, KafkaLogOptions};
pub use memory::MemoryLog;
pub use partition::partition_for;
pub use sqlite::{SqliteLog, SqliteLogOptions};

/// Longest topic or group name: Kafka's own limit.
pub const MAX_NAME: usize = 249;
/// Most partitions of a topic: above this a small installation drowns in bookkeeping.
pub const MAX_PARTITIONS: u32 = 1024;
/// Most records in one append: bounds the memory and the latency of one write.
pub const MAX_APPEND: usize = 10_000;
/// Largest value of a record, as `types::codec` reads at most.
pub const MAX_VALUE: usize = types::codec::MAX_VALUE;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);
        impl $name {
            /// Parses a name of 1 to 249 letters, digits and `. _ -`.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
                let text = text.as_ref();
                let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
                if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(legal) {
                    return Err(Invalid::new($what, format!("{text:?} is not 1 to {MAX_NAME} letters, digits and . _ -")));
                }
                Ok(Self(Arc::from(text)))
            }
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
name!(
    /// A topic's name.
    Topic, "topic"
);
name!(
    /// A consumer group's name.
    Group, "group"
);

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// The partition, from 0.
    pub partition: u32,
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// At least this long.
    Time(Duration),
    /// At least the last value of every key; older values of a key may go.
    Compacted,
}

/// What a topic must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub topic: Topic,
    /// Number of partitions, 1 to [`MAX_PARTITIONS`].
    pub partitions: u32,
    /// How long records are kept.
    pub retention: Retention,
}

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Same key, same partition. Without a key the partition must be given.
    pub key: Option<Bytes>,
    /// The partition, if the key shall not decide.
    pub partition: Option<u32>,
    /// The value; `None` is a tombstone (compacted topics).
    pub value: Option<Bytes>,
    /// Names (without NUL) and values beside the value.
    pub headers: Vec<(String, Bytes)>,
    /// When the producer made it.
    pub at: Timestamp,
}

impl NewRecord {
    /// A keyed record.
    pub fn keyed(key: impl Into<Bytes>, value: impl Into<Bytes>, at: Timestamp) -> Self {
        Self { key: Some(key.into()), partition: None, value: Some(value.into()), headers: Vec::new(), at }
    }
    /// A record for one partition.
    pub fn to_partition(partition: u32, value: impl Into<Bytes>, at: Timestamp) -> Self {
        Self { key: None, partition: Some(partition), value: Some(value.into()), headers: Vec::new(), at }
    }
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Where an appended record came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// Its offset there; offsets of a partition rise, not always by one.
    pub offset: u64,
}

/// A record as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub topic: Topic,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(String, Bytes)>,
    /// When its producer made it.
    pub at: Timestamp,
}

impl Record {
    /// The last header of that name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v)
    }
    /// Its topic and partition.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

/// Where a group starts in a partition for which it has committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record kept.
    Earliest,
    /// Behind the newest.
    Latest,
}

/// What a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Members of one group share the partitions; each group sees every record.
    pub group: Group,
    /// The topics; they must exist.
    pub topics: Vec<Topic>,
    /// Where to start without a committed offset.
    pub start: Start,
}

/// What a poll brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Records in order within each partition; never empty.
    Records(Vec<Record>),
    /// These partitions are this member's from now on. Seek before the next poll to start elsewhere than
    /// at the committed offset.
    Assigned(Vec<TopicPartition>),
    /// These are no longer: what is not committed will be delivered to another member.
    Revoked(Vec<TopicPartition>),
    /// Nothing within the waiting time.
    Idle,
}

/// The next offset to read of a partition: everything before it has had its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The partition.
    pub partition: TopicPartition,
    /// One past the last offset whose effect is durable.
    pub next: u64,
}

/// What the log could not do.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    /// The topic does not exist.
    #[error("topic {0} does not exist; create it before use")]
    NoSuchTopic(Topic),
    /// The topic exists with another number of partitions.
    #[error("topic {topic} has {have} partitions but {want} are configured; change the configuration or the topic")]
    Partitions {
        /// The topic.
        topic: Topic,
        /// What it has.
        have: u32,
        /// What was asked for.
        want: u32,
    },
    /// A record or specification breaks a bound of this port; sending it again cannot help.
    #[error("refused: {0}")]
    Refused(String),
    /// The partition was assigned to another member; its commits and seeks are void.
    #[error("partition {} of {} is not assigned to this consumer", .0.partition, .0.topic)]
    NotAssigned(TopicPartition),
    /// The provider is not reachable or failed; trying again may help.
    #[error("event log unavailable: {0}")]
    Unavailable(String),
    /// The log was shut down.
    #[error("the event log is closed")]
    Closed,
}

impl EventLogError {
    /// Whether the same call may succeed later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A durable, partitioned log.
///
/// Promise: records appended by one call to one partition lie there in their order; once `append` has
/// returned `Ok` they survive a crash of this process; after an error all, some or none may lie there.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Creates the topic, or checks that it has this number of partitions.
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError>;
    /// Number of partitions of a topic.
    async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError>;
    /// Appends up to [`MAX_APPEND`] records; answers their positions in the same order.
    async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError>;
    /// Joins a group. The first poll that has partitions to give answers [`Polled::Assigned`].
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, EventLogError>;
    /// What a group has committed in a partition, if anything.
    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError>;
    /// The offset that the next record of the partition will get, or more.
    async fn end_offset(&self, partition: &TopicPartition) -> Result<u64, EventLogError>;
}

/// One member of a consumer group. Dropping it leaves the group.
#[async_trait]
pub trait Consumer: Send {
    /// Waits up to `wait` for up to `max` records, or for a change of assignment. Dropping the future before it
    /// is ready loses no record and no change.
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, EventLogError>;
    /// Says that everything before `next` has had its effect. Committing what is not assigned any more fails.
    ///
    /// While the group shares its partitions anew, a provider may have to wait until other members have polled; it
    /// fails retryably rather than wait for ever. After an error the commit may still take effect, but never behind
    /// a later one.
    async fn commit(&mut self, progress: &[Progress]) -> Result<(), EventLogError>;
    /// Reads on from `next` in an assigned partition.
    async fn seek(&mut self, progress: &Progress) -> Result<(), EventLogError>;
    /// The partitions that are assigned now.
    fn assignment(&self) -> Vec<TopicPartition>;
}
