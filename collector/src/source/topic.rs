//! Follows the partitions of `access-log` that the group gives this collector, one batch of one partition at a
//! time. It must never hand out a record whose partition was taken away, nor commit before it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{
    Consumer, EventLog, EventLogError, Group, Polled, Progress as Committed, Record, Retention, Start, Subscription,
    Topic, TopicPartition, TopicSpec,
};
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use types::{Clock, topics};

use super::files::Files;
use super::reading::{Built, Reading, mark};
use super::resume::{Known, Resume, resume};
use crate::Error;
use crate::batch::{Batch, Press, Recipe};
use crate::decode::envelope::{Opener, lines_about};
use crate::metrics;
use crate::store::{PartitionProgress, Store};

/// Most records of one poll, and about the most lines of one batch: as many as a chunk of a file has.
const MAX_RECORDS: usize = 4_096;
/// Records before the place of resuming that are read again, for what they say about files: repeats of them may
/// come. More than one file remembers, as files share a partition; 20 MB and a fraction of a second to read.
const REREAD: u64 = 64 * 1024;
/// How often the ends of partitions are asked for while there is nothing to do.
const LOOK: Duration = Duration::from_secs(1);
/// How long lines are kept in a topic that the collector itself had to make.
const KEEP_LINES: Duration = Duration::from_secs(24 * 3600);

/// How far a partition of `access-log` has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: u32,
    /// The name under which its lines are published; `None` before its first record.
    pub source: Option<String>,
    /// The first record that has not had its effect.
    pub next: u64,
    /// Where it ended when it was last asked.
    pub end: u64,
}

impl PartitionStatus {
    /// Records that waited when it was last asked.
    pub fn behind(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }
}

/// The topic, as a member of a group follows it.
pub(crate) struct TopicSource {
    log: Arc<dyn EventLog>,
    consumer: Box<dyn Consumer>,
    topic: Topic,
    name: Arc<str>,
    group: Group,
    /// Partitions below this number that nobody knows begin at their end, others at their beginning.
    at_end: u32,
    store: Arc<Store>,
    recipe: Recipe,
    /// Away while a batch is made.
    press: Option<Press>,
    clock: Arc<dyn Clock>,
    partitions: BTreeMap<u32, Reading>,
    /// Assigned, and not yet known where to begin.
    unsettled: VecDeque<TopicPartition>,
    /// Polled and not yet handed out.
    waiting: VecDeque<Record>,
    looked: Option<Instant>,
}

impl TopicSource {
    /// Joins the group. Makes the topic with as many partitions as `product-events` has if it is not there; otherwise
    /// it stays as whoever runs the log made it.
    pub async fn join(
        log: Arc<dyn EventLog>,
        group: &str,
        from_start: bool,
        recipe: Recipe,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let topic = Topic::new(topics::ACCESS_LOG)?;
        let group = Group::new(group)?;
        if matches!(log.partitions(&topic).await, Err(EventLogError::NoSuchTopic(_))) {
            let retention = Retention::Time(KEEP_LINES);
            log.ensure_topic(&TopicSpec { topic: topic.clone(), partitions: recipe.partitions, retention }).await?;
        }
        let at_end = if from_start { 0 } else { old_partitions(&*log, &group, &topic, &store).await? };
        // Where to begin is decided here. If the log must choose, because what was to be read is not kept any
        // more, it shall choose the oldest.
        let subscription = Subscription { group: group.clone(), topics: vec![topic.clone()], start: Start::Earliest };
        let consumer = log.subscribe(subscription).await?;
        let name = Arc::from(topic.as_str());
        Ok(Self {
            log,
            consumer,
            topic,
            name,
            group,
            at_end,
            store,
            recipe,
            press: None,
            clock,
            partitions: BTreeMap::new(),
            unsettled: VecDeque::new(),
            waiting: VecDeque::new(),
            looked: None,
        })
    }

    /// The next batch; `None` if nothing came within `wait`. After an error the call can be repeated.
    pub async fn next_batch(&mut self, wait: Duration) -> Result<Option<Box<Batch>>, Error> {
        loop {
            while let Some(partition) = self.unsettled.front().cloned() {
                self.settle(&partition).await?;
                self.unsettled.pop_front();
            }
            if !self.waiting.is_empty() {
                match self.take().await? {
                    Some(batch) => return Ok(Some(batch)),
                    None => continue,
                }
            }
            match self.consumer.poll(MAX_RECORDS, wait).await? {
                Polled::Records(records) => self.waiting.extend(records),
                Polled::Assigned(partitions) => self.unsettled.extend(partitions),
                Polled::Revoked(partitions) => self.revoked(&partitions),
                Polled::Idle => {
                    self.look().await?;
                    return Ok(None);
                }
            }
        }
    }

    /// Tells the group that a batch has had its effect. The own store knows already: a failure is made good by
    /// the next commit, and after a crash by the store, or by the analyzer, which drops repeats.
    pub async fn commit(&mut self, progress: &PartitionProgress) {
        let partition = TopicPartition { topic: self.topic.clone(), partition: progress.partition };
        match self.consumer.commit(&[Committed { partition, next: progress.next }]).await {
            Ok(()) => {}
            Err(EventLogError::NotAssigned(_)) => {
                tracing::info!(partition = progress.partition, "partition went to another member before the commit");
            }
            Err(error) => {
                metrics::retry();
                tracing::warn!(partition = progress.partition, %error, "group's progress not committed; the next commit makes it good");
            }
        }
    }

    pub fn status(&self) -> Vec<PartitionStatus> {
        let status = |(partition, reading): (&u32, &Reading)| PartitionStatus {
            partition: *partition,
            source: reading.source.as_deref().map(str::to_owned),
            next: reading.next,
            end: reading.end,
        };
        self.partitions.iter().map(status).collect()
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) {
        // Nothing is in flight: a batch is handed out, published and committed before the next poll.
        for partition in partitions {
            tracing::info!(partition = partition.partition, "partition revoked");
            self.forget(partition.partition);
            self.unsettled.retain(|p| p != partition);
        }
    }

    fn forget(&mut self, partition: u32) {
        self.partitions.remove(&partition);
        self.drop_waiting(partition);
    }

    /// Finds the place to begin in a partition anew, as when it was assigned.
    fn begin_again(&mut self, partition: TopicPartition) {
        self.forget(partition.partition);
        self.unsettled.push_back(partition);
    }

    fn drop_waiting(&mut self, partition: u32) {
        self.waiting.retain(|record| record.partition != partition);
    }

    /// Finds out where to read on in a partition, and goes there.
    async fn settle(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        let (store, name, number) = (Arc::clone(&self.store), Arc::clone(&self.name), partition.partition);
        let own = spawn_blocking(move || store.partition(&name, number)).await??;
        let committed = self.log.committed(&self.group, partition).await?;
        let end = self.log.end_offset(partition).await?;
        let known = Known { own: own.as_ref().map(|own| own.next), committed, end };
        let (next, own, continuing) = match resume(known, number >= self.at_end) {
            Resume::At(next) => (next, own, true),
            Resume::Fresh(next) => {
                // So that whoever gets the partition next, before anything was read, begins here too.
                self.unless_revoked(partition, Some(next), None).await?;
                (next, None, false)
            }
            Resume::Recreated => {
                another(number, known);
                (0, None, false)
            }
        };
        self.begin(partition, next, own, end, continuing).await
    }

    /// Begins to read a partition: first its oldest record if its name is not known, then what says which lines
    /// came before, then what is new.
    async fn begin(
        &mut self,
        partition: &TopicPartition,
        next: u64,
        own: Option<PartitionProgress>,
        end: u64,
        continuing: bool,
    ) -> Result<(), Error> {
        let expected = own.as_ref().and_then(|own| Some((own.next.checked_sub(1)?, own.last_mark?)));
        let source = own.map(|own| own.source);
        let from = if source.is_some() { next.saturating_sub(REREAD) } else { 0 };
        if !self.unless_revoked(partition, None, Some(from)).await? {
            return Ok(());
        }
        tracing::info!(partition = partition.partition, next, end, source = source.as_deref(), "partition assigned");
        let reading = Reading {
            partition: partition.clone(),
            source,
            next,
            expected,
            rereading: true,
            continuing,
            end,
            files: Files::new(),
            opener: Opener::default(),
        };
        self.drop_waiting(partition.partition);
        self.partitions.insert(partition.partition, reading);
        Ok(())
    }

    /// Commits or seeks; answers `false` if the partition is no longer ours.
    async fn unless_revoked(
        &mut self,
        partition: &TopicPartition,
        commit: Option<u64>,
        seek: Option<u64>,
    ) -> Result<bool, Error> {
        let at = |next| Committed { partition: partition.clone(), next };
        let result = match (commit, seek) {
            (Some(next), _) => self.consumer.commit(&[at(next)]).await,
            (None, Some(next)) => self.consumer.seek(&at(next)).await,
            (None, None) => Ok(()),
        };
        match result {
            Ok(()) => Ok(true),
            // The next poll says so too.
            Err(EventLogError::NotAssigned(_)) => {
                self.forget(partition.partition);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next run of waiting records of one partition as a batch, if it holds anything new.
    async fn take(&mut self) -> Result<Option<Box<Batch>>, Error> {
        let Some(first) = self.waiting.front() else { return Ok(None) };
        let (number, offset) = (first.partition, first.offset);
        let run = run(&self.waiting, number);
        let Some(reading) = self.partitions.get_mut(&number) else {
            self.waiting.drain(..run);
            return Ok(None);
        };
        if reading.source.is_none() {
            // The oldest record is the same for every member, so that all give the partition the same name.
            let name = Arc::from(format!("{}/{number}/{:016x}", self.name, mark(first)));
            let (from, partition) = (reading.next.saturating_sub(REREAD), reading.partition.clone());
            if from > offset {
                self.drop_waiting(number);
                if let Err(error) = self.unless_revoked(&partition, None, Some(from)).await {
                    self.begin_again(partition);
                    return Err(error);
                }
            }
            if let Some(reading) = self.partitions.get_mut(&number) {
                reading.source = Some(name);
            }
            return Ok(None);
        }
        // Going back without having been asked to: the log begins anew, or says something again. Either way the
        // beginning must be found again.
        if !reading.rereading && offset < reading.next {
            let partition = reading.partition.clone();
            self.begin_again(partition);
            return Ok(None);
        }
        let Some(mut reading) = self.partitions.remove(&number) else { return Ok(None) };
        let records: Vec<_> = self.waiting.drain(..run).collect();
        let (now, topic) = (self.clock.now(), Arc::clone(&self.name));
        let mut press = self.press.take().unwrap_or_else(|| Press::new(&self.recipe));
        let (reading, press, built) = spawn_blocking(move || {
            let built = reading.build(&records, &mut press, now, topic);
            (reading, press, built)
        })
        .await?;
        self.press = Some(press);
        let built = built?;
        if matches!(built, Built::Another) {
            another(number, Known { own: Some(reading.next), committed: None, end: reading.end });
            if let Err(error) = self.begin(&reading.partition, 0, None, reading.end, false).await {
                self.begin_again(reading.partition);
                return Err(error);
            }
            return Ok(None);
        }
        self.partitions.insert(number, reading);
        match built {
            Built::Batch(batch) => Ok(Some(batch)),
            Built::Nothing | Built::Another => Ok(None),
        }
    }

    /// Asks where the partitions end, now and then.
    async fn look(&mut self) -> Result<(), Error> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(());
        }
        for reading in self.partitions.values_mut() {
            reading.end = self.log.end_offset(&reading.partition).await?;
            if reading.end < reading.next {
                // Seen before a record of the new topic is.
                self.unsettled.push_back(reading.partition.clone());
            }
        }
        self.looked = Some(Instant::now());
        Ok(())
    }
}

/// How many partitions were there before anybody here read the topic: what lies in them is old. Once it was read, a
/// partition that nobody knows was added since, and all of its lines are new.
async fn old_partitions(log: &dyn EventLog, group: &Group, topic: &Topic, store: &Arc<Store>) -> Result<u32, Error> {
    let (own, name) = (Arc::clone(store), topic.as_str().to_owned());
    if spawn_blocking(move || own.has_read(&name)).await?? {
        return Ok(0);
    }
    let partitions = log.partitions(topic).await?;
    for partition in 0..partitions {
        let partition = TopicPartition { topic: topic.clone(), partition };
        if log.committed(group, &partition).await?.is_some() {
            return Ok(0);
        }
    }
    Ok(partitions)
}

/// How many of the waiting records of this partition make one batch: lists count as the lines in them.
fn run(waiting: &VecDeque<Record>, partition: u32) -> usize {
    let mut lines = 0;
    let of_run = |record: &&Record| {
        let fits = record.partition == partition && lines < MAX_RECORDS;
        lines += lines_about(record.value.as_deref().unwrap_or_default());
        fits
    };
    waiting.iter().take_while(of_run).count()
}

fn another(partition: u32, known: Known) {
    metrics::recreated();
    tracing::error!(
        partition,
        ?known,
        "access-log is another topic than the one read before; it is read from its beginning, under new names"
    );
}
