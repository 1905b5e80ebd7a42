//! What every event log must do. Written against `dyn EventLog` and only what the port promises; bounds
//! are generous, since a provider may be a cluster. A provider's test file is one [`Provider`] and
//! [`event_log_contract!`](crate::event_log_contract).

pub mod groups;
pub mod progress;
pub mod records;
pub mod topics;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use eventlog::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Polled, Position, Progress, Record, Retention, Start,
    Subscription, Topic, TopicPartition, TopicSpec,
};
use types::Timestamp;

/// How long a condition may take before a test gives up: far above what a busy machine or a rebalancing
/// cluster needs.
const BOUND: Duration = Duration::from_secs(90);
/// One wait of a poll within such a condition.
const STEP: Duration = Duration::from_millis(100);

/// How a provider's test file hands its log to the suite.
#[async_trait]
pub trait Provider: Send + Sync + Sized {
    /// Starts a log. It may hold other tests' topics; the suite's names do not collide.
    async fn open() -> Self;
    /// The running log.
    fn log(&self) -> Arc<dyn EventLog>;
    /// Lets go of the log without a word and opens it again, as after a crash of this process. `false` if
    /// nothing would survive that; then nothing happens. The suite has dropped its consumers before.
    async fn reopen(&mut self) -> bool;
    /// Invites the provider to apply retention and compaction now. One that does so in its own time
    /// does nothing here.
    async fn clean(&self) {}
}

/// Expands to one test per promise of the port, for a type that implements
/// [`Provider`](crate::contract::event_log::Provider).
#[macro_export]
macro_rules! event_log_contract {
    ($provider:ty) => {
        $crate::event_log_contract! { @each $provider,
            topics: a_topic_is_made_once_and_keeps_its_partitions;
            topics: what_does_not_exist_is_named;
            topics: what_breaks_a_bound_is_refused_as_a_whole;
            topics: a_compacted_topic_keeps_the_last_value_of_every_key;
            records: records_of_a_partition_keep_their_order;
            records: a_key_decides_the_partition_as_the_port_says;
            records: a_record_comes_back_as_it_was_given;
            records: each_producers_records_keep_their_order_among_many;
            records: a_poll_brings_at_most_what_was_asked_for;
            records: what_was_acknowledged_survives_a_restart;
            groups: every_group_sees_every_record;
            groups: members_share_the_partitions;
            groups: a_leaving_members_partitions_go_to_the_others;
            groups: a_revoked_partition_can_be_neither_committed_nor_sought;
            groups: nothing_is_lost_and_nothing_committed_comes_again_while_members_come_and_go;
            groups: a_poll_without_records_is_idle_after_its_wait;
            groups: a_waiting_poll_wakes_when_a_record_comes;
            progress: what_is_committed_does_not_come_again_and_the_rest_does;
            progress: a_restart_goes_on_at_the_committed_offset;
            progress: a_seek_goes_back_and_forth;
            progress: a_group_starts_where_it_asked_to;
            progress: each_group_has_its_own_progress;
        }
    };
    (@each $provider:ty, $($part:ident: $promise:ident;)*) => {$(
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            let provider = <$provider as $crate::contract::event_log::Provider>::open().await;
            $crate::contract::event_log::$part::$promise(provider).await;
        }
    )*};
}

/// The moment of all records of the suite.
const AT: Timestamp = Timestamp::from_millis(1_794_355_260_123);

fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("contract.{what}.{now}.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn new_group() -> Group {
    Group::new(unique("group")).expect("the suite's names are legal")
}

fn new_topic() -> Topic {
    Topic::new(unique("topic")).expect("the suite's names are legal")
}

/// A topic that keeps its records for a day.
async fn made_topic(log: &dyn EventLog, partitions: u32) -> Topic {
    let spec = TopicSpec { topic: new_topic(), partitions, retention: Retention::Time(Duration::from_secs(86_400)) };
    log.ensure_topic(&spec).await.expect("a topic");
    spec.topic
}

fn at(topic: &Topic, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition }
}

fn next_after(record: &Record) -> Progress {
    Progress { partition: record.topic_partition(), next: record.offset + 1 }
}

fn text(value: &Option<Bytes>) -> String {
    String::from_utf8_lossy(value.as_ref().expect("a value")).into_owned()
}

/// Appends numbered values `name-0`, `name-1`… to one partition.
async fn append_numbered(log: &dyn EventLog, topic: &Topic, partition: u32, name: &str, count: usize) -> Vec<Position> {
    let records = (0..count).map(|i| NewRecord::to_partition(partition, format!("{name}-{i}"), AT)).collect();
    log.append(topic, records).await.expect("an append")
}

fn numbered(name: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("{name}-{i}")).collect()
}

fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| text(&r.value)).collect()
}

/// A consumer whose every answer is checked against what it was told before.
struct Member {
    consumer: Box<dyn Consumer>,
    assigned: BTreeSet<TopicPartition>,
}

impl Member {
    async fn join(log: &dyn EventLog, group: &Group, topic: &Topic, start: Start) -> Self {
        let subscription = Subscription { group: group.clone(), topics: vec![topic.clone()], start };
        let consumer = log.subscribe(subscription).await.expect("a subscription");
        Self { consumer, assigned: BTreeSet::new() }
    }

    /// One poll.
    async fn step(&mut self, max: usize) -> Vec<Record> {
        match self.consumer.poll(max, STEP).await.expect("a poll") {
            Polled::Idle => Vec::new(),
            Polled::Assigned(got) => {
                for partition in got {
                    assert!(self.assigned.insert(partition.clone()), "{partition:?} was assigned twice");
                }
                Vec::new()
            }
            Polled::Revoked(lost) => {
                for partition in lost {
                    assert!(self.assigned.remove(&partition), "{partition:?} was revoked but not assigned");
                }
                Vec::new()
            }
            Polled::Records(records) => {
                assert!(!records.is_empty(), "no records is Idle");
                assert!(records.len() <= max, "{} records; {max} were asked for", records.len());
                for record in &records {
                    let partition = record.topic_partition();
                    assert!(self.assigned.contains(&partition), "a record of {partition:?}, which is not assigned");
                }
                records
            }
        }
    }

    /// Polls until it has this many records; more is a failure.
    async fn read(&mut self, count: usize) -> Vec<Record> {
        let mut patience = Patience::new(format!("{count} records"));
        let mut records = Vec::new();
        while records.len() < count {
            patience.check(|| format!("{} came", records.len()));
            records.extend(self.step(1_000).await);
        }
        assert_eq!(records.len(), count, "more came than was appended");
        records
    }

    /// Polls until it has this many partitions; records are a failure.
    async fn until_assigned(&mut self, count: usize) {
        let mut patience = Patience::new(format!("{count} partitions"));
        while self.assigned.len() != count {
            patience.check(|| format!("has {:?}", self.assigned));
            let records = self.step(1).await;
            assert!(records.is_empty(), "a record where none was expected: {records:?}");
        }
    }

    /// Polls until nothing comes for a while.
    async fn silence(&mut self) {
        for _ in 0..3 {
            let records = self.step(10).await;
            assert!(records.is_empty(), "a record where none was expected: {records:?}");
        }
    }

    async fn commit(&mut self, record: &Record) -> Result<(), EventLogError> {
        self.consumer.commit(&[next_after(record)]).await
    }
}

/// A condition's time, ended by a panic that tells what was waited for.
struct Patience {
    what: String,
    started: Instant,
}

impl Patience {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), started: Instant::now() }
    }
    fn check(&mut self, state: impl FnOnce() -> String) {
        assert!(self.started.elapsed() < BOUND, "waited {BOUND:?} for {}: {}", self.what, state());
    }
}
