//! Provider `kafka`: the log of several processes and machines. Groups are coordinated by the brokers; a record is
//! acknowledged when all in-sync replicas have it. The only place that knows the client library.

mod begin;
mod catalog;
mod client;
mod consumer;
mod errors;
mod member;
mod options;
mod producer;
mod record;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer as RdConsumer, ConsumerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;
use types::Clock;

use crate::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Position, Subscription, Topic, TopicPartition, TopicSpec,
    check, metrics,
};
use catalog::Catalog;
use client::{Asking, Locked, REST, blocking, patiently};
use consumer::KafkaConsumer;
use errors::About;
pub use options::{Compression, KafkaLogOptions};
use producer::Producer;

/// A log on a Kafka cluster. Clones are the same log; dropping the last one gives up the appends on their way and blocks
/// for up to a second ([`KafkaLog::close`] does neither).
#[derive(Clone)]
pub struct KafkaLog {
    shared: Arc<Shared>,
}

struct Shared {
    options: KafkaLogOptions,
    catalog: Catalog,
    producer: Producer,
    closed: AtomicBool,
    /// Consumers that are just leaving their groups.
    leaving: AtomicUsize,
}

impl Shared {
    fn alive(&self) -> Result<(), EventLogError> {
        if self.closed.load(Ordering::SeqCst) { Err(EventLogError::Closed) } else { Ok(()) }
    }
}

impl KafkaLog {
    /// Sets the clients up; whether brokers answer is found out by the first call. How long topics keep their records
    /// counts on `clock`.
    ///
    /// Fails with `Refused` if the options are out of range, a secret's file cannot be read, or the library was built
    /// without what a property asks for.
    pub fn connect(options: KafkaLogOptions, clock: Arc<dyn Clock>) -> Result<Self, EventLogError> {
        options.check().map_err(|e| EventLogError::Refused(e.to_string()))?;
        let locked = Locked::default();
        let producer = Producer::new(&options, locked.clone())?;
        let catalog = Catalog::new(options.clone(), locked, clock)?;
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                catalog,
                producer,
                closed: AtomicBool::new(false),
                leaving: AtomicUsize::new(0),
            }),
        })
    }

    /// Waits for the appends on their way and for dropped consumers to have left their groups. Every call after that,
    /// also of consumers, answers [`EventLogError::Closed`].
    pub async fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let shared = self.shared.clone();
        let closing = move || {
            shared.producer.close(shared.options.append_timeout);
            let until = Instant::now() + shared.options.request_timeout;
            while shared.leaving.load(Ordering::SeqCst) > 0 && Instant::now() < until {
                std::thread::sleep(REST);
            }
            Ok(())
        };
        if let Err(error) = blocking(closing).await {
            tracing::error!(%error, "closing the event log failed");
        }
    }
}

/// What the client's group has committed in these; blocks.
fn committed_offsets<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    asked: &TopicPartitionList,
    wait: Duration,
) -> Result<HashMap<TopicPartition, u64>, EventLogError> {
    let about = About { doing: "asking what is committed", topic: None };
    let answer = patiently(wait, errors::passes, || client.committed_offsets(asked.clone(), wait));
    let answer = answer.map_err(|e| errors::of(&e, about))?;
    let elements = answer.elements();
    elements.iter().try_for_each(|e| e.error()).map_err(|e| errors::of(&e, about))?;
    let offset = |offset| if let Offset::Offset(o) = offset { u64::try_from(o).ok() } else { None };
    let offsets = elements.iter().map(|e| offset(e.offset()));
    Ok(member::unlisted(&answer).into_iter().zip(offsets).filter_map(|(p, o)| Some((p, o?))).collect())
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
        check::spec(spec)?;
        self.shared.alive()?;
        self.shared.catalog.ensure(spec).await
    }

    async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        self.shared.alive()?;
        self.shared.catalog.partitions(topic).await
    }

    async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
        let called = Instant::now();
        self.shared.alive()?;
        let known = self.shared.catalog.known(topic).await?;
        let places = check::places(&records, known.partitions, known.retention)?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (count, bytes) = (records.len(), records.iter().map(check::size).sum());
        let appended = self.shared.producer.append(topic, records, &places, bytes, known.stamps).await;
        match &appended {
            Ok(_) => known.appends.count(count, bytes, called.elapsed()),
            Err(_) => {
                metrics::append_failed(topic);
                // Perhaps it is gone, or another one: the repeat asks.
                self.shared.catalog.forget(topic);
            }
        }
        appended
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, EventLogError> {
        check::subscription(&subscription)?;
        self.shared.alive()?;
        Ok(Box::new(KafkaConsumer::join(self.shared.clone(), subscription).await?))
    }

    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError> {
        self.shared.alive()?;
        self.shared.catalog.has(partition).await?;
        let config = client::onlooker(&self.shared.options, group)?;
        let (partition, wait) = (partition.clone(), self.shared.options.request_timeout);
        blocking(move || {
            let about = About { doing: "asking what is committed", topic: Some(&partition.topic) };
            let client: BaseConsumer<Asking> = config.create_with_context(Asking).map_err(|e| errors::of(&e, about))?;
            let asked = member::list([(partition.clone(), None)]);
            Ok(committed_offsets(&client, &asked, wait)?.remove(&partition))
        })
        .await
    }

    async fn end_offset(&self, partition: &TopicPartition) -> Result<u64, EventLogError> {
        self.shared.alive()?;
        self.shared.catalog.has(partition).await?;
        Ok(self.shared.catalog.ends(partition).await?.1)
    }
}
