//! What happens to a member of a group between its polls: the library's events, put down as values for the next poll.
//!
//! A lost partition is let go at once, from within the poll that learns of it. A gained one is only noted: the
//! consumer first finds out where to start, tells its owner, and hands it to the library with the poll after that,
//! so that a seek in between needs no undoing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;

use super::client;
use crate::{Group, Topic, TopicPartition, metrics};

/// The library's member with our context.
pub(super) type Client = BaseConsumer<Member>;

/// A change of assignment that the owner has not been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Gained(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

/// The context of one member.
pub(super) struct Member {
    group: Group,
    changes: Mutex<VecDeque<Change>>,
    /// Events that a poll of the library took without giving a record; a poll that finds nothing after one must
    /// look again, since the wake-up comes only when the queue was empty.
    taken: AtomicU64,
    wake: Arc<Notify>,
    /// The owner is gone: nothing waits for its next poll any more.
    leaving: AtomicBool,
}

impl Member {
    pub(super) fn new(group: Group, wake: Arc<Notify>) -> Self {
        Self { group, changes: Mutex::default(), taken: AtomicU64::new(0), wake, leaving: AtomicBool::new(false) }
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// The oldest change that was not told; it stays until [`Member::told`].
    pub(super) fn next_change(&self) -> Option<Change> {
        self.changes.lock().front().cloned()
    }

    /// The oldest change is told.
    pub(super) fn told(&self) {
        self.changes.lock().pop_front();
    }

    /// Whether a loss waits to be told that concerns this partition.
    pub(super) fn has_lost(&self, partition: &TopicPartition) -> bool {
        self.changes.lock().iter().any(|change| matches!(change, Change::Lost(lost) if lost.contains(partition)))
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changes.lock().is_empty()
    }

    /// Puts down a loss that the library did not announce.
    pub(super) fn note_lost(&self, lost: Vec<TopicPartition>) {
        self.changes.lock().push_back(Change::Lost(lost));
    }

    /// From now on gains are answered at once, so that the library can end. Answers those that are still open.
    pub(super) fn leave(&self) -> Vec<TopicPartition> {
        self.leaving.store(true, Ordering::SeqCst);
        let gained = |change: Change| if let Change::Gained(got) = change { got } else { Vec::new() };
        self.changes.lock().drain(..).flat_map(gained).collect()
    }
}

/// Hands partitions to the library, each with the offset to start at.
pub(super) fn hand_over(client: &Client, list: &TopicPartitionList) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        // Another member of the group knows only the eager way.
        RebalanceProtocol::Eager => client.assign(list),
        RebalanceProtocol::Cooperative | RebalanceProtocol::None => client.incremental_assign(list),
    }
}

fn take_back(client: &Client, list: &TopicPartitionList) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Eager => client.unassign(),
        RebalanceProtocol::Cooperative | RebalanceProtocol::None => client.incremental_unassign(list),
    }
}

/// The library's list of these partitions and offsets.
pub(super) fn list(of: impl IntoIterator<Item = (TopicPartition, Option<u64>)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (TopicPartition { topic, partition }, offset) in of {
        let mut entry = list.add_partition(topic.as_str(), partition as i32);
        if let Some(offset) = offset.and_then(|o| i64::try_from(o).ok()) {
            // Fails only for negative offsets.
            let _ = entry.set_offset(Offset::Offset(offset));
        }
    }
    list
}

/// What a list of the library names. Names that the port does not allow cannot be: it subscribes by name.
pub(super) fn unlisted(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    let partition = |name: &str, number: i32| {
        Some(TopicPartition { topic: Topic::new(name).ok()?, partition: u32::try_from(number).ok()? })
    };
    elements.iter().filter_map(|e| partition(e.topic(), e.partition())).collect()
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.take();
        client::log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.take();
        client::error(&error, reason);
    }
    fn stats(&self, statistics: Statistics) {
        self.take();
        for (name, topic) in &statistics.topics {
            let Ok(name) = Topic::new(name) else { continue };
            for partition in topic.partitions.values() {
                let (number, lag) = (u32::try_from(partition.partition), u64::try_from(partition.consumer_lag));
                if let (Ok(number), Ok(lag)) = (number, lag) {
                    metrics::lag(&self.group, &TopicPartition { topic: name.clone(), partition: number }, lag);
                }
            }
        }
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, client: &Client, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.take();
        let partitions = unlisted(list);
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                // An empty gain has to be answered too, and has nobody to be told.
                if partitions.is_empty() || self.leaving.load(Ordering::SeqCst) {
                    hand_over(client, list)
                } else {
                    tracing::info!(group = %self.group, ?partitions, "gained partitions");
                    self.changes.lock().push_back(Change::Gained(partitions));
                    Ok(())
                }
            }
            _ => {
                let done = take_back(client, list);
                if !partitions.is_empty() {
                    tracing::info!(group = %self.group, ?partitions, by_force = client.assignment_lost(), "lost partitions");
                    self.changes.lock().push_back(Change::Lost(partitions));
                }
                done
            }
        };
        if let Err(error) = done {
            tracing::error!(group = %self.group, %error, "kafka: a change of assignment failed");
        }
        self.wake.notify_one();
    }

    fn commit_callback(&self, _: KafkaResult<()>, _: &TopicPartitionList) {
        self.take();
    }
}
