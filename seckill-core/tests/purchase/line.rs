//! The line between a core and the event log: gives every story topics and groups of its own on a shared log, and can
//! hold back or lose purchase records. It changes no record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventlog::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Polled, Position, Progress, Subscription, Topic,
    TopicPartition, TopicSpec,
};
use types::topics::{PURCHASE_GRANTS, PURCHASE_QUEUE};

/// What befalls purchase records on their way.
#[derive(Default)]
pub struct Faults {
    held: AtomicBool,
    lost: AtomicBool,
}

impl Faults {
    /// Consumers get nothing while this is set.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }
    /// While this is set an append is acknowledged and the record gone: a lost tail.
    pub fn lose(&self, lost: bool) {
        self.lost.store(lost, Ordering::SeqCst);
    }
}

pub struct Line {
    log: Arc<dyn EventLog>,
    prefix: String,
    faults: Arc<Faults>,
}

fn is_purchase(topic: &Topic) -> bool {
    [PURCHASE_GRANTS, PURCHASE_QUEUE].contains(&topic.as_str())
}

impl Line {
    pub fn new(log: Arc<dyn EventLog>, prefix: String, faults: Arc<Faults>) -> Self {
        Self { log, prefix, faults }
    }
    fn out(&self, topic: &Topic) -> Topic {
        Topic::new(format!("{}{topic}", self.prefix)).unwrap()
    }
    fn out_partition(&self, at: &TopicPartition) -> TopicPartition {
        TopicPartition { topic: self.out(&at.topic), partition: at.partition }
    }
    fn group(&self, group: &Group) -> Group {
        Group::new(format!("{}{group}", self.prefix)).unwrap()
    }
}

#[async_trait]
impl EventLog for Line {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
        self.log.ensure_topic(&TopicSpec { topic: self.out(&spec.topic), ..spec.clone() }).await
    }
    async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        self.log.partitions(&self.out(topic)).await
    }
    async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
        if is_purchase(topic) && self.faults.lost.load(Ordering::SeqCst) {
            return Ok(records.iter().map(|_| Position { partition: 0, offset: 0 }).collect());
        }
        self.log.append(&self.out(topic), records).await
    }
    async fn subscribe(&self, wish: Subscription) -> Result<Box<dyn Consumer>, EventLogError> {
        let purchases = wish.topics.iter().any(is_purchase);
        let topics = wish.topics.iter().map(|t| self.out(t)).collect();
        let wish = Subscription { group: self.group(&wish.group), topics, start: wish.start };
        let end = self.log.subscribe(wish).await?;
        Ok(Box::new(FarEnd {
            end,
            prefix: self.prefix.clone(),
            faults: purchases.then(|| self.faults.clone()),
            kept: None,
        }))
    }
    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError> {
        self.log.committed(&self.group(group), &self.out_partition(partition)).await
    }
    async fn end_offset(&self, partition: &TopicPartition) -> Result<u64, EventLogError> {
        self.log.end_offset(&self.out_partition(partition)).await
    }
}

struct FarEnd {
    end: Box<dyn Consumer>,
    prefix: String,
    faults: Option<Arc<Faults>>,
    /// What arrived while nothing may arrive.
    kept: Option<Polled>,
}

impl FarEnd {
    fn is_held(&self) -> bool {
        self.faults.as_ref().is_some_and(|f| f.held.load(Ordering::SeqCst))
    }
    fn back(&self, topic: &Topic) -> Topic {
        Topic::new(topic.as_str().strip_prefix(&self.prefix).expect("our own topic")).unwrap()
    }
    fn back_all(&self, partitions: Vec<TopicPartition>) -> Vec<TopicPartition> {
        partitions.into_iter().map(|at| TopicPartition { topic: self.back(&at.topic), ..at }).collect()
    }
    fn out(&self, progress: &Progress) -> Progress {
        let topic = Topic::new(format!("{}{}", self.prefix, progress.partition.topic)).unwrap();
        Progress { partition: TopicPartition { topic, ..progress.partition }, next: progress.next }
    }
}

#[async_trait]
impl Consumer for FarEnd {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, EventLogError> {
        if self.is_held() {
            tokio::time::sleep(wait.min(Duration::from_millis(20))).await;
            return Ok(Polled::Idle);
        }
        if let Some(kept) = self.kept.take() {
            return Ok(kept);
        }
        Ok(match self.end.poll(max, wait).await? {
            Polled::Records(mut records) => {
                for record in &mut records {
                    record.topic = self.back(&record.topic);
                }
                if self.is_held() {
                    self.kept = Some(Polled::Records(records));
                    return Ok(Polled::Idle);
                }
                Polled::Records(records)
            }
            Polled::Assigned(partitions) => Polled::Assigned(self.back_all(partitions)),
            Polled::Revoked(partitions) => Polled::Revoked(self.back_all(partitions)),
            Polled::Idle => Polled::Idle,
        })
    }
    async fn commit(&mut self, progress: &[Progress]) -> Result<(), EventLogError> {
        let progress: Vec<_> = progress.iter().map(|p| self.out(p)).collect();
        self.end.commit(&progress).await
    }
    async fn seek(&mut self, progress: &Progress) -> Result<(), EventLogError> {
        self.end.seek(&self.out(progress)).await
    }
    fn assignment(&self) -> Vec<TopicPartition> {
        self.back_all(self.end.assignment())
    }
}
