//! What is kept of shards, in a compacted topic of the event log: whoever gets a partition finds its shard there, on
//! whatever machine. A shard is kept as a place in the log (ADR 0024). It stores and finds; when to do so others decide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Polled, Progress, Record, Retention, Start, Subscription,
    Topic, TopicPartition, TopicSpec,
};
use tokio::time::Instant;
use types::{Timestamp, codec, topics};

use crate::analysis::KeptShard;

/// Records of one poll.
const POLL_RECORDS: usize = 1000;
/// Wait of one poll, by the machine's time.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Longest time to read a topic to its end, by the machine's time; it is tried again afterwards.
const READ_TIME: Duration = Duration::from_secs(60);

/// A topic of one partition that is read whole, and then on.
pub(crate) struct Feed {
    log: Arc<dyn EventLog>,
    consumer: Box<dyn Consumer>,
    partition: TopicPartition,
    next: u64,
}

impl Feed {
    /// Makes the topic if it is missing, and begins at its oldest record. No other reader may have the same `name`.
    pub async fn open(
        log: Arc<dyn EventLog>,
        topic: &str,
        retention: Retention,
        name: &str,
    ) -> Result<Self, EventLogError> {
        let refused = |e: types::Invalid| EventLogError::Refused(e.to_string());
        let topic = Topic::new(topic).map_err(refused)?;
        log.ensure_topic(&TopicSpec { topic: topic.clone(), partitions: 1, retention }).await?;
        let group = Group::new(format!("{topic}-{name}")).map_err(refused)?;
        let wanted = Subscription { group, topics: vec![topic.clone()], start: Start::Earliest };
        let consumer = log.subscribe(wanted).await?;
        Ok(Self { log, consumer, partition: TopicPartition { topic, partition: 0 }, next: 0 })
    }

    /// The next records, if any come within `wait`.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<Record>, EventLogError> {
        match self.consumer.poll(POLL_RECORDS, wait).await? {
            Polled::Records(records) => {
                if let Some(last) = records.last() {
                    self.next = last.offset + 1;
                }
                Ok(records)
            }
            Polled::Assigned(_) if self.next > 0 => {
                // The group was shared anew, with nobody else in it: nothing was committed, so go on where we were.
                self.consumer.seek(&Progress { partition: self.partition.clone(), next: self.next }).await?;
                Ok(Vec::new())
            }
            Polled::Assigned(_) | Polled::Revoked(_) | Polled::Idle => Ok(Vec::new()),
        }
    }

    /// Everything that lies there now and was not read yet.
    pub async fn read_to_end(&mut self, mut see: impl FnMut(&Record)) -> Result<(), EventLogError> {
        let end = self.log.end_offset(&self.partition).await?;
        let begun = Instant::now();
        while self.next < end {
            for record in self.poll(POLL_WAIT).await? {
                see(&record);
            }
            if begun.elapsed() > READ_TIME {
                let topic = &self.partition.topic;
                return Err(EventLogError::Unavailable(format!("topic {topic} could not be read to its end {end}")));
            }
        }
        Ok(())
    }
}

/// Where shards are kept.
pub(crate) struct ShardStore {
    log: Arc<dyn EventLog>,
    topic: Topic,
    feed: Feed,
    group: String,
    known: BTreeMap<u32, KeptShard>,
}

impl ShardStore {
    /// The shards of a consumer group; `member` is the name of this process.
    pub async fn open(log: Arc<dyn EventLog>, group: &str, member: &str) -> Result<Self, EventLogError> {
        let feed = Feed::open(Arc::clone(&log), topics::ANALYZER_SHARDS, Retention::Compacted, member).await?;
        Ok(Self { log, topic: feed.partition.topic.clone(), feed, group: group.to_owned(), known: BTreeMap::new() })
    }

    fn key(&self, partition: u32) -> String {
        format!("{}/{partition}", self.group)
    }

    /// What was kept last of a partition's shard, by whomever. What cannot be read is not used, loudly: heat is rebuilt
    /// from the log within a minute, and a service that does not start would be worse.
    pub async fn find(&mut self, partition: u32) -> Result<Option<KeptShard>, EventLogError> {
        let (known, group) = (&mut self.known, &self.group);
        self.feed.read_to_end(|record| learn(known, group, record)).await?;
        Ok(self.known.get(&partition).cloned())
    }

    /// Reads on in passing, so that little is left to read when partitions move.
    pub async fn read_on(&mut self) -> Result<(), EventLogError> {
        for record in self.feed.poll(Duration::ZERO).await? {
            learn(&mut self.known, &self.group, &record);
        }
        Ok(())
    }

    /// It is of another log, or contradicts it: not to be found again.
    pub fn forget(&mut self, partition: u32) {
        self.known.remove(&partition);
    }

    /// Keeps shards, replacing what was kept of them; answers how many bytes that took.
    pub async fn keep(&mut self, kept: &[KeptShard], at: Timestamp) -> Result<usize, EventLogError> {
        let mut records = Vec::with_capacity(kept.len());
        for shard in kept {
            let value = codec::encode(shard).map_err(|e| EventLogError::Refused(e.to_string()))?;
            records.push(NewRecord::keyed(self.key(shard.partition).into_bytes(), value, at));
        }
        let bytes = records.iter().filter_map(|r| r.value.as_ref()).map(|value| value.len()).sum();
        self.log.append(&self.topic, records).await?;
        Ok(bytes)
    }
}

fn learn(known: &mut BTreeMap<u32, KeptShard>, group: &str, record: &Record) {
    let ours = record.key.as_deref().and_then(|key| key.strip_prefix(group.as_bytes()));
    if ours.is_none_or(|rest| rest.first() != Some(&b'/')) {
        return;
    }
    match codec::decode::<KeptShard>(record.value.as_deref().unwrap_or_default()) {
        Ok(kept) => drop(known.insert(kept.partition, kept)),
        Err(error) => tracing::error!(offset = record.offset, %error, "a kept shard cannot be used"),
    }
}
