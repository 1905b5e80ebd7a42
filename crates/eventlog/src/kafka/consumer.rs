//! One member of a group: polls, commits, seeks. Nothing of it blocks the caller's thread, and a poll that is given
//! up holds nothing in its hands.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Shared;
use super::begin::{Begin, Found, begin};
use super::client::{self, REST, blocking, patiently};
use super::errors::{self, About, CommitFailure, ReadFailure};
use super::member::{Change, Client, Member, hand_over, list};
use super::{catalog, record};
use crate::{
    Consumer, EventLogError, Group, MAX_APPEND, Polled, Progress, Record, Retention, Start, Subscription, Topic,
    TopicPartition, metrics,
};

/// Most bytes that one poll brings beyond its first record: bounds the memory of a consumer.
const MAX_POLL_BYTES: usize = 32 * 1024 * 1024;
/// A wait longer than this is for ever; keeps moments within what the timer can count.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
/// A waiting poll looks again after this long even if nothing woke it: the library serves some of its own
/// needs only when it is asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Reading of one partition.
struct Lane {
    partition: TopicPartition,
    /// The next offset.
    next: u64,
    /// Whether offsets are missing by design.
    compacted: bool,
}

/// A partition and where its new member starts.
type Beginning = (TopicPartition, Begin);

pub(super) struct KafkaConsumer {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    client: Option<Arc<Client>>,
    wake: Arc<Notify>,
    subscription: Subscription,
    compacted: HashMap<Topic, bool>,
    /// What the owner was told it has, in no order.
    lanes: Vec<Lane>,
    /// The lane of the last record; the next one is mostly of the same.
    last: usize,
    /// Told, and handed to the library with the next poll.
    starting: BTreeSet<TopicPartition>,
    /// Finding out where to start. Survives a poll that is given up.
    finding: Option<JoinHandle<Result<Vec<Beginning>, EventLogError>>>,
    /// What the next poll has to tell.
    failure: Option<EventLogError>,
    /// A commit that was given up and may still take effect: the next one waits for it, so that none overtakes.
    committing: Option<JoinHandle<KafkaResult<()>>>,
    /// Whether somebody is finding out why offsets are missing.
    asking: Arc<AtomicBool>,
}

impl KafkaConsumer {
    pub(super) async fn join(shared: Arc<Shared>, subscription: Subscription) -> Result<Self, EventLogError> {
        let mut compacted = HashMap::new();
        for topic in &subscription.topics {
            // Asked anew: what is remembered may be gone.
            shared.catalog.forget(topic);
            let known = shared.catalog.known(topic).await?;
            compacted.insert(topic.clone(), known.retention == Retention::Compacted);
        }
        let wake = Arc::new(Notify::new());
        let config = client::member(&shared.options, &subscription)?;
        let member = Member::new(subscription.group.clone(), wake.clone());
        let (waker, topics) = (wake.clone(), subscription.topics.clone());
        let client = blocking(move || {
            let about = About { doing: "joining a group", topic: None };
            let mut client: Client = config.create_with_context(member).map_err(|e| errors::of(&e, about))?;
            client.set_nonempty_callback(move || waker.notify_one());
            let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
            client.subscribe(&names).map_err(|e| errors::of(&e, about))?;
            Ok(client)
        });
        Ok(Self {
            client: Some(Arc::new(client.await?)),
            shared,
            wake,
            subscription,
            compacted,
            lanes: Vec::new(),
            last: 0,
            starting: BTreeSet::new(),
            finding: None,
            failure: None,
            committing: None,
            asking: Arc::default(),
        })
    }

    fn group(&self) -> &Group {
        &self.subscription.group
    }

    fn client(&self) -> Result<&Arc<Client>, EventLogError> {
        self.shared.alive()?;
        self.client.as_ref().ok_or(EventLogError::Closed)
    }

    /// Hands what the owner was told to the library, at the offsets that it wished since.
    fn start_reading(&mut self) -> Result<(), EventLogError> {
        if self.starting.is_empty() {
            return Ok(());
        }
        let client = self.client()?.clone();
        let member = client.context();
        let starting = std::mem::take(&mut self.starting);
        let held = self.lanes.iter().filter(|l| starting.contains(&l.partition) && !member.has_lost(&l.partition));
        let held = list(held.map(|lane| (lane.partition.clone(), Some(lane.next))));
        if let Err(error) = hand_over(&client, &held) {
            // The group went on without us meanwhile; it will give partitions again.
            tracing::warn!(group = %self.group(), %error, "kafka: partitions were gone before they could be read");
            member.note_lost(starting.into_iter().collect());
        }
        Ok(())
    }

    /// The next change of assignment, if any can be told before `deadline`.
    async fn change(&mut self, deadline: Instant) -> Result<Option<Polled>, EventLogError> {
        let client = self.client()?.clone();
        let member = client.context();
        while let Some(change) = member.next_change() {
            match change {
                Change::Lost(lost) => {
                    member.told();
                    let told: Vec<_> = lost.into_iter().filter(|p| self.lane(p).is_some()).collect();
                    self.lanes.retain(|lane| !told.contains(&lane.partition));
                    self.starting.retain(|p| !told.contains(p));
                    self.last = 0;
                    if !told.is_empty() {
                        return Ok(Some(Polled::Revoked(told)));
                    }
                }
                Change::Gained(got) => {
                    let finding = match &mut self.finding {
                        Some(finding) => finding,
                        None => {
                            let (shared, subscription) = (self.shared.clone(), self.subscription.clone());
                            let client = client.clone();
                            self.finding.insert(tokio::task::spawn_blocking(move || {
                                find_beginnings(&shared, &client, &subscription, &got)
                            }))
                        }
                    };
                    // At least one look: a poll without a wait must get on too.
                    tokio::task::yield_now().await;
                    let Ok(found) = tokio::time::timeout_at(deadline, finding).await else { return Ok(None) };
                    self.finding = None;
                    let found = found.unwrap_or(Err(EventLogError::Closed))?;
                    member.told();
                    return Ok(Some(self.gained(found)));
                }
            }
        }
        Ok(None)
    }

    fn gained(&mut self, found: Vec<Beginning>) -> Polled {
        let mut got = Vec::with_capacity(found.len());
        for (partition, begin) in found {
            if let Begin::Reset { from, to } = begin {
                metrics::offset_reset(self.group(), &partition, from, to);
            }
            let compacted = self.compacted.get(&partition.topic).copied().unwrap_or(false);
            self.lanes.retain(|lane| lane.partition != partition);
            self.lanes.push(Lane { partition: partition.clone(), next: begin.next(), compacted });
            self.starting.insert(partition.clone());
            got.push(partition);
        }
        Polled::Assigned(got)
    }

    fn lane(&self, partition: &TopicPartition) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.partition == *partition)
    }

    /// The lane of a message, by its topic's name and partition.
    fn lane_of(&mut self, message: &impl Message) -> Option<usize> {
        let is = |lane: &Lane| {
            lane.partition.partition as i32 == message.partition() && lane.partition.topic.as_str() == message.topic()
        };
        if self.lanes.get(self.last).is_none_or(|lane| !is(lane)) {
            self.last = self.lanes.iter().position(is)?;
        }
        Some(self.last)
    }

    /// Takes what the library has, without waiting.
    fn drain(&mut self, max: usize) -> Result<Vec<Record>, EventLogError> {
        let client = self.client()?.clone();
        let member = client.context();
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        while records.len() < max && bytes < MAX_POLL_BYTES {
            let taken = member.taken();
            match client.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let Some(lane) = self.lane_of(&message) else {
                        // Of a partition that was lost: it comes again to whoever has it now.
                        continue;
                    };
                    let record = record::received(&message, self.lanes[lane].partition.topic.clone());
                    bytes += record::size(&record);
                    self.advance(lane, record.offset);
                    records.push(record);
                }
                Some(Err(error)) => {
                    if let Some(failure) = self.meaning(&error) {
                        self.failure = Some(failure);
                        break;
                    }
                }
                None if member.taken() == taken => break,
                None => {}
            }
            if member.has_changes() {
                // What is lost is not shown any more: the next member may have it already.
                records.retain(|r| !member.has_lost(&r.topic_partition()));
                break;
            }
        }
        Ok(records)
    }

    /// What the owner has to know of an error between records.
    fn meaning(&self, error: &KafkaError) -> Option<EventLogError> {
        let code = errors::code(error)?;
        let about = About { doing: "reading", topic: None };
        match errors::read_failure(code) {
            ReadFailure::GoesOn => None,
            ReadFailure::Tell(code) => Some(errors::of_code(code, about)),
            ReadFailure::TopicGone => match self.subscription.topics.as_slice() {
                [topic] => Some(EventLogError::NoSuchTopic(topic.clone())),
                topics => Some(EventLogError::Unavailable(format!("kafka: one of the topics {topics:?} is gone"))),
            },
        }
    }

    /// Moves a lane behind this offset, and notices when the log was cut off under the reader.
    fn advance(&mut self, lane: usize, offset: u64) {
        let lane = &mut self.lanes[lane];
        let (expected, partition) = (lane.next, &lane.partition);
        lane.next = offset + 1;
        if offset < expected {
            // The end was cut off, or the topic is another one now: the library went to the oldest record.
            metrics::offset_reset(&self.subscription.group, partition, expected, offset);
        } else if offset > expected && !lane.compacted && !self.asking.swap(true, Ordering::SeqCst) {
            // Retention overtook the reader, or a producer with transactions left its marks. The broker knows.
            let (shared, group, asking) = (self.shared.clone(), self.group().clone(), self.asking.clone());
            let partition = self.lanes[self.last].partition.clone();
            tokio::task::spawn_blocking(move || {
                let ends = catalog::ends(&shared.catalog.admin(), &partition, shared.options.request_timeout);
                if ends.is_ok_and(|(low, _)| low > expected) {
                    metrics::offset_reset(&group, &partition, expected, offset);
                }
                asking.store(false, Ordering::SeqCst);
            });
        }
    }

    /// Commits and seeks need the partition.
    fn held(&self, partition: &TopicPartition) -> Result<&Lane, EventLogError> {
        let lane = self.lane(partition).filter(|_| !self.lost(partition));
        lane.ok_or_else(|| EventLogError::NotAssigned(partition.clone()))
    }

    fn lost(&self, partition: &TopicPartition) -> bool {
        self.client.as_ref().is_none_or(|client| client.context().has_lost(partition))
    }

    /// Waits for the commit on its way. While the group shares anew the broker keeps it waiting until every member
    /// has polled.
    async fn committed(&mut self, until: Instant) -> Result<KafkaResult<()>, EventLogError> {
        let Some(committing) = &mut self.committing else { return Ok(Ok(())) };
        let Ok(answer) = tokio::time::timeout_at(until, committing).await else {
            let why = "kafka: commit: no answer yet; the group may be waiting for another member's poll";
            return Err(EventLogError::Unavailable(why.to_owned()));
        };
        self.committing = None;
        answer.map_err(|_| EventLogError::Closed)
    }

    /// Progress beyond the end comes from another log, and would skip records in silence.
    async fn within(&self, progress: &Progress) -> Result<(u64, u64), EventLogError> {
        let (low, end) = self.shared.catalog.ends(&progress.partition).await?;
        if progress.next > end {
            return Err(EventLogError::Refused(format!(
                "offset {} of partition {} of {}: it ends at {end}; is this progress of another log?",
                progress.next, progress.partition.partition, progress.partition.topic
            )));
        }
        Ok((low, end))
    }
}

/// Where to start in each of these; blocks. What is pinned is committed.
fn find_beginnings(
    shared: &Shared,
    client: &Client,
    subscription: &Subscription,
    partitions: &[TopicPartition],
) -> Result<Vec<Beginning>, EventLogError> {
    let wait = shared.options.request_timeout;
    let asked = list(partitions.iter().map(|p| (p.clone(), None)));
    let committed = super::committed_offsets(client, &asked, wait)?;
    let admin = shared.catalog.admin();
    let mut found = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let committed = committed.get(partition).copied();
        let (low, high) = catalog::ends(&admin, partition, wait)?;
        found.push((partition.clone(), begin(Found { committed, low, high }, subscription.start)));
    }
    let pinned: Vec<_> = found.iter().filter(|(_, b)| matches!(b, Begin::Pinned(_))).collect();
    if subscription.start == Start::Latest && !pinned.is_empty() {
        let pins = list(pinned.iter().map(|(partition, begin)| (partition.clone(), Some(begin.next()))));
        let about = About { doing: "remembering where to start", topic: None };
        let commit = || client.commit(&pins, CommitMode::Sync);
        patiently(wait, errors::passes, commit).map_err(|e| errors::of(&e, about))?;
    }
    Ok(found)
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, EventLogError> {
        let deadline = Instant::now() + wait.min(FOR_EVER);
        // A consumer that always finds something must still let others run.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            self.start_reading()?;
            if let Some(polled) = self.change(deadline).await? {
                return Ok(polled);
            }
            let records = self.drain(max.clamp(1, MAX_APPEND))?;
            if !records.is_empty() {
                return Ok(Polled::Records(records));
            }
            let now = Instant::now();
            if now >= deadline {
                return self.failure.take().map_or(Ok(Polled::Idle), Err);
            }
            if self.failure.is_some() || self.client()?.context().has_changes() {
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(deadline.min(now + LOOK_AGAIN)) => {}
            }
        }
    }

    async fn commit(&mut self, progress: &[Progress]) -> Result<(), EventLogError> {
        let client = self.client()?.clone();
        let mut beyond = Vec::new();
        for p in progress {
            if p.next > self.held(&p.partition)?.next {
                beyond.push(p);
            }
        }
        for p in beyond {
            self.within(p).await?;
        }
        let Some(first) = progress.first() else { return Ok(()) };
        let until = Instant::now() + self.shared.options.request_timeout;
        let about = About { doing: "commit", topic: None };
        if self.committing.is_some() {
            // What became of it was its caller's question.
            let _ = self.committed(until).await?;
        }
        loop {
            let offsets = list(progress.iter().map(|p| (p.partition.clone(), Some(p.next))));
            let client = client.clone();
            let commit = move || client.commit(&offsets, CommitMode::Sync);
            self.committing = Some(tokio::task::spawn_blocking(commit));
            let Err(error) = self.committed(until).await? else { return Ok(()) };
            let code = errors::code(&error);
            match code.map(errors::commit_failure) {
                Some(CommitFailure::Lost) => return Err(EventLogError::NotAssigned(first.partition.clone())),
                Some(CommitFailure::Again) if Instant::now() < until => tokio::time::sleep(REST).await,
                _ => return Err(errors::of(&error, about)),
            }
        }
    }

    async fn seek(&mut self, progress: &Progress) -> Result<(), EventLogError> {
        let client = self.client()?.clone();
        self.held(&progress.partition)?;
        let (low, _) = self.within(progress).await?;
        let next = progress.next.max(low);
        if next > progress.next {
            metrics::offset_reset(self.group(), &progress.partition, progress.next, next);
        }
        if !self.starting.contains(&progress.partition) {
            let until = Instant::now() + self.shared.options.request_timeout;
            let (wait, about) = (self.shared.options.request_timeout, About { doing: "seek", topic: None });
            loop {
                let (client, target) = (client.clone(), list([(progress.partition.clone(), Some(next))]));
                let sought = blocking(move || {
                    let answer = client.seek_partitions(target, wait).map_err(|e| errors::of(&e, about))?;
                    let each = answer.elements().iter().try_for_each(|e| e.error());
                    each.map_err(|e| errors::of(&e, about))
                });
                match sought.await {
                    Ok(()) => break,
                    // The library is still beginning with the partition.
                    Err(error) if Instant::now() < until && error.retryable() => tokio::time::sleep(REST).await,
                    Err(error) => return Err(error),
                }
            }
        }
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.partition == progress.partition) {
            lane.next = next;
        }
        Ok(())
    }

    fn assignment(&self) -> Vec<TopicPartition> {
        let mut held: Vec<_> = self.lanes.iter().map(|l| l.partition.clone()).filter(|p| !self.lost(p)).collect();
        held.sort();
        held
    }
}

impl Drop for KafkaConsumer {
    /// Leaves the group, on a thread of its own: the library waits for the group's answer.
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let mut open: Vec<_> = std::mem::take(&mut self.starting).into_iter().collect();
        open.extend(client.context().leave());
        let shared = self.shared.clone();
        shared.leaving.fetch_add(1, Ordering::SeqCst);
        let leave = move || {
            // The library cannot end while it waits to be told what to do with a gain.
            if !open.is_empty() {
                let open = list(open.into_iter().map(|partition| (partition, None)));
                if let Err(error) = hand_over(&client, &open) {
                    tracing::debug!(%error, "kafka: leaving a group that had gone on");
                }
            }
            drop(client);
            shared.leaving.fetch_sub(1, Ordering::SeqCst);
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-leave".to_owned()).spawn(leave) {
            self.shared.leaving.fetch_sub(1, Ordering::SeqCst);
            tracing::error!(%error, "kafka: no thread to leave a group on; the group waits for the session's end");
        }
    }
}
