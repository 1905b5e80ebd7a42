//! The consumer of the providers that coordinate their groups in this process: positions, fair reading,
//! waiting. It never decides who holds what, and never knows how records are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Change, Groups, Membership};
use crate::{
    Consumer, EventLogError, Group, MAX_APPEND, Polled, Progress, Record, Start, Subscription, TopicPartition, check,
    metrics,
};

/// Most bytes that one poll brings beyond its first record: bounds the memory of a consumer.
pub(crate) const MAX_POLL_BYTES: usize = 32 * 1024 * 1024;
/// A wait longer than this is for ever; keeps moments within what the timer can count.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

/// What a consumer reads from and commits to.
#[async_trait]
pub(crate) trait Shelf: Send + Sync + 'static {
    fn groups(&self) -> &Arc<Groups>;
    /// Whether the log is still open.
    fn alive(&self) -> Result<(), EventLogError>;
    /// Number of partitions of a topic.
    fn partitions(&self, topic: &crate::Topic) -> Result<u32, EventLogError>;
    /// The end offset as far as it can be read; cheap.
    fn end(&self, partition: &TopicPartition) -> u64;
    /// Up to `max` records and about `bytes` bytes, from the partitions in this order.
    async fn read(&self, wishes: Vec<Wish>, max: usize, bytes: usize) -> Result<Vec<Portion>, EventLogError>;
    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError>;
    async fn commit(&self, group: &Group, progress: &[Progress]) -> Result<(), EventLogError>;
}

/// From where to read a partition.
pub(crate) struct Wish {
    pub(crate) partition: TopicPartition,
    pub(crate) from: u64,
}

/// What was read of a partition.
pub(crate) struct Portion {
    pub(crate) partition: TopicPartition,
    pub(crate) records: Vec<Record>,
    /// From where to go on.
    pub(crate) next: u64,
}

#[derive(Clone, Copy)]
enum Reading {
    /// At the committed offset, which is not looked up yet; without one, here.
    Committed { or: u64 },
    /// Here.
    At(u64),
}

pub(crate) struct GroupConsumer<S: Shelf> {
    shelf: Arc<S>,
    membership: Membership,
    start: Start,
    /// What was told as assigned, in the order of `known`.
    reading: BTreeMap<TopicPartition, Reading>,
    known: BTreeSet<TopicPartition>,
    /// The partition that was read last: the next poll begins behind it, so that none starves.
    last: Option<TopicPartition>,
}

impl<S: Shelf> GroupConsumer<S> {
    pub(crate) fn join(shelf: Arc<S>, subscription: Subscription) -> Result<Self, EventLogError> {
        shelf.alive()?;
        check::subscription(&subscription)?;
        let Subscription { group, topics, start } = subscription;
        let wanted = topics.into_iter().map(|t| shelf.partitions(&t).map(|n| (t, n))).collect::<Result<_, _>>()?;
        let membership = shelf.groups().join(group, wanted);
        Ok(Self { shelf, membership, start, reading: BTreeMap::new(), known: BTreeSet::new(), last: None })
    }

    fn told(&mut self, change: Change) -> Option<Polled> {
        match change {
            Change::Revoked(lost) => {
                for partition in &lost {
                    self.reading.remove(partition);
                    self.known.remove(partition);
                }
                Some(Polled::Revoked(lost))
            }
            Change::Assigned(got) => {
                for partition in &got {
                    let or = match self.start {
                        Start::Earliest => 0,
                        Start::Latest => self.membership.began(partition, self.shelf.end(partition)),
                    };
                    self.reading.insert(partition.clone(), Reading::Committed { or });
                    self.known.insert(partition.clone());
                }
                Some(Polled::Assigned(got))
            }
            Change::Nothing(_) => None,
        }
    }

    /// Finds out where the group stands in partitions that are new here.
    async fn look_up(&mut self) -> Result<(), EventLogError> {
        for (partition, reading) in &mut self.reading {
            if let Reading::Committed { or } = *reading {
                let committed = self.shelf.committed(self.membership.group(), partition).await?;
                *reading = Reading::At(committed.unwrap_or(or));
            }
        }
        Ok(())
    }

    /// The partitions that have something to read, beginning behind the one that was read last.
    fn wishes(&self) -> Vec<Wish> {
        let behind = |p: &TopicPartition| self.last.as_ref().is_some_and(|last| p > last);
        let (first, then): (Vec<_>, Vec<_>) = self.reading.iter().partition(|(p, _)| behind(p));
        let wish = |(partition, reading): (&TopicPartition, &Reading)| match *reading {
            Reading::At(from) if from < self.shelf.end(partition) => Some(Wish { partition: partition.clone(), from }),
            _ => None,
        };
        first.into_iter().chain(then).filter_map(wish).collect()
    }

    /// Reads on. If this future is dropped no position has moved.
    async fn read(&mut self, max: usize) -> Result<Vec<Record>, EventLogError> {
        self.look_up().await?;
        let wishes = self.wishes();
        if wishes.is_empty() {
            return Ok(Vec::new());
        }
        let portions = self.shelf.read(wishes, max.clamp(1, MAX_APPEND), MAX_POLL_BYTES).await?;
        let mut records = Vec::with_capacity(portions.iter().map(|p| p.records.len()).sum());
        for portion in portions {
            records.extend(portion.records);
            self.reading.insert(portion.partition.clone(), Reading::At(portion.next));
            self.last = Some(portion.partition);
        }
        Ok(records)
    }

    /// Commits and seeks need the partition, and an offset that exists: one beyond the end comes from
    /// another log, and would skip records in silence.
    fn check(&self, progress: &Progress) -> Result<(), EventLogError> {
        let partition = &progress.partition;
        if !self.known.contains(partition) || !self.membership.holds(partition) {
            return Err(EventLogError::NotAssigned(partition.clone()));
        }
        let end = self.shelf.end(partition);
        if progress.next > end {
            return Err(EventLogError::Refused(format!(
                "offset {} of partition {} of {}: it ends at {end}; is this progress of another log?",
                progress.next, partition.partition, partition.topic
            )));
        }
        Ok(())
    }
}

#[async_trait]
impl<S: Shelf> Consumer for GroupConsumer<S> {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, EventLogError> {
        let deadline = Instant::now() + wait.min(FOR_EVER);
        // A consumer that always finds something must still let others run.
        tokio::task::coop::consume_budget().await;
        loop {
            self.shelf.alive()?;
            let now = Instant::now();
            let change = self.membership.change(&self.known, now);
            let again = if let Change::Nothing(again) = change { again } else { None };
            if let Some(polled) = self.told(change) {
                return Ok(polled);
            }
            let records = self.read(max).await?;
            if !records.is_empty() {
                return Ok(Polled::Records(records));
            }
            if now >= deadline {
                return Ok(Polled::Idle);
            }
            let until = again.map_or(deadline, |a| a.min(deadline));
            tokio::select! {
                biased;
                () = self.membership.woken() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    async fn commit(&mut self, progress: &[Progress]) -> Result<(), EventLogError> {
        self.shelf.alive()?;
        progress.iter().try_for_each(|p| self.check(p))?;
        if progress.is_empty() {
            return Ok(());
        }
        self.shelf.commit(self.membership.group(), progress).await?;
        for p in progress {
            metrics::lag(self.membership.group(), &p.partition, self.shelf.end(&p.partition).saturating_sub(p.next));
        }
        Ok(())
    }

    async fn seek(&mut self, progress: &Progress) -> Result<(), EventLogError> {
        self.shelf.alive()?;
        self.check(progress)?;
        self.reading.insert(progress.partition.clone(), Reading::At(progress.next));
        Ok(())
    }

    fn assignment(&self) -> Vec<TopicPartition> {
        self.known.iter().filter(|p| self.membership.holds(p)).cloned().collect()
    }
}
