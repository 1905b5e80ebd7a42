//! Topics that are missing, short, gone, cut off or of another kind, and records at the bounds: each with a clear
//! answer.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)]

mod kafka_broker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::kafka::{Compression, KafkaLogOptions};
use eventlog::{
    Consumer, EventLog, EventLogError, Group, KafkaLog, MAX_KEY_AND_HEADERS, MAX_VALUE, NewRecord, Polled, Progress,
    Record, Retention, Start, Subscription, Topic, TopicPartition, TopicSpec,
};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use testkit::servers::Kafka;
use types::{SystemClock, Timestamp};

const AT: Timestamp = Timestamp::from_millis(1_794_355_260_123);
const BOUND: Duration = Duration::from_secs(90);

/// The broker that the tests share, with the tools that only Kafka has.
fn broker() -> &'static Kafka {
    kafka_broker::shared_broker()
}

fn log() -> KafkaLog {
    kafka_broker::connect(kafka_broker::shared())
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

fn spec(name: &str, partitions: u32, retention: Retention) -> TopicSpec {
    TopicSpec { topic: topic(name), partitions, retention }
}

const A_DAY: Retention = Retention::Time(Duration::from_secs(86_400));

async fn join(log: &KafkaLog, group: &str, name: &str, start: Start) -> Box<dyn Consumer> {
    let group = Group::new(group).unwrap();
    log.subscribe(Subscription { group, topics: vec![topic(name)], start }).await.unwrap()
}

async fn append(log: &KafkaLog, name: &str, range: std::ops::Range<usize>) {
    log.append(&topic(name), numbered(range)).await.unwrap();
}

fn numbered(range: std::ops::Range<usize>) -> Vec<NewRecord> {
    range.map(|i| NewRecord::to_partition(0, i.to_string(), AT)).collect()
}

async fn read(consumer: &mut dyn Consumer, count: usize) -> Vec<Record> {
    let started = Instant::now();
    let mut records = Vec::new();
    while records.len() < count {
        assert!(started.elapsed() < BOUND, "{} of {count} records came", records.len());
        if let Polled::Records(more) = consumer.poll(1_000, Duration::from_millis(100)).await.unwrap() {
            records.extend(more);
        }
    }
    records
}

fn offsets(records: &[Record]) -> Vec<u64> {
    records.iter().map(|r| r.offset).collect()
}

fn delete_records(name: &str, before: u64) {
    let file = broker().directory().join(format!("delete-{name}.json"));
    let json = format!(r#"{{"partitions":[{{"topic":"{name}","partition":0,"offset":{before}}}],"version":1}}"#);
    std::fs::write(&file, json).unwrap();
    let arguments = ["--offset-json-file", file.to_str().unwrap()];
    broker().run_tool("org.apache.kafka.tools.DeleteRecordsCommand", &arguments).unwrap();
}

/// The broker would make it; we do not let it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_named_and_not_made_in_passing() {
    let log = log();
    let missing = topic("missing");
    let named =
        |error: EventLogError| assert!(matches!(&error, EventLogError::NoSuchTopic(t) if *t == missing), "{error}");
    named(log.append(&missing, vec![NewRecord::to_partition(0, "x", AT)]).await.unwrap_err());
    let group = Group::new("lost").unwrap();
    let subscription = Subscription { group, topics: vec![missing.clone()], start: Start::Earliest };
    named(log.subscribe(subscription).await.err().unwrap());
    named(log.end_offset(&TopicPartition { topic: missing.clone(), partition: 0 }).await.unwrap_err());
    let there = tokio::task::spawn_blocking(|| broker().list_topics().unwrap()).await.unwrap();
    assert!(!there.contains(&"missing".to_owned()), "{there:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_short_of_partitions_or_of_another_kind_is_refused_in_words() {
    tokio::task::spawn_blocking(|| broker().create_topic("short", 2).unwrap()).await.unwrap();
    let log = log();
    let short = log.ensure_topic(&spec("short", 4, A_DAY)).await.unwrap_err();
    assert_eq!(
        short.to_string(),
        "topic short has 2 partitions but 4 are configured; change the configuration or the topic"
    );
    let kind = log.ensure_topic(&spec("short", 2, Retention::Compacted)).await.unwrap_err();
    assert!(matches!(kind, EventLogError::Refused(_)) && kind.to_string().contains("cleanup.policy"), "{kind}");
    log.ensure_topic(&spec("short", 2, A_DAY)).await.unwrap();
}

/// A topic made by others has Kafka's small bound, and its producers' own timestamps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_topic_made_by_others_the_producers_moment_is_kept_and_too_large_a_record_is_refused() {
    tokio::task::spawn_blocking(|| broker().create_topic("foreign", 1).unwrap()).await.unwrap();
    let log = log();
    let mut random = vec![0; 2 * 1024 * 1024];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut random);
    let large = log.append(&topic("foreign"), vec![NewRecord::to_partition(0, random, AT)]).await.unwrap_err();
    assert!(matches!(large, EventLogError::Refused(_)) && large.to_string().contains("max.message.bytes"), "{large}");
    append(&log, "foreign", 0..1).await;
    let read = read(&mut *join(&log, "g", "foreign", Start::Earliest).await, 1).await;
    assert_eq!((read[0].at, read[0].headers.len()), (AT, 0));
}

/// As large as the port allows, incompressible, with key and headers at their bound: there and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_record_there_may_be_comes_back() {
    let log = log();
    log.ensure_topic(&spec("huge", 1, A_DAY)).await.unwrap();
    let mut value = vec![0; MAX_VALUE];
    ChaCha8Rng::seed_from_u64(2).fill_bytes(&mut value);
    let mut huge = NewRecord::to_partition(0, value, AT);
    huge.key = Some(vec![b'k'; MAX_KEY_AND_HEADERS / 2].into());
    for _ in 0..MAX_KEY_AND_HEADERS / 2 / 2 {
        huge.headers.push(("h".to_owned(), vec![b'v'].into()));
    }
    log.append(&topic("huge"), vec![huge.clone(), huge.clone()]).await.unwrap();
    let read = read(&mut *join(&log, "g", "huge", Start::Earliest).await, 2).await;
    for record in read {
        assert!(record.key == huge.key && record.value == huge.value && record.headers == huge.headers);
    }
}

/// Retention went past what the group has committed, and past where a reader stands: both go on at the oldest kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_that_retention_removed_goes_on_at_the_oldest_record() {
    let log = log();
    log.ensure_topic(&spec("overtaken", 1, A_DAY)).await.unwrap();
    append(&log, "overtaken", 0..100).await;
    let mut consumer = join(&log, "slow", "overtaken", Start::Latest).await;
    while consumer.assignment().is_empty() {
        consumer.poll(1, Duration::from_millis(100)).await.unwrap();
    }
    let at = |next| Progress { partition: TopicPartition { topic: topic("overtaken"), partition: 0 }, next };
    consumer.commit(&[at(10)]).await.unwrap();
    drop(consumer);
    tokio::task::spawn_blocking(|| delete_records("overtaken", 50)).await.unwrap();
    let mut consumer = join(&log, "slow", "overtaken", Start::Latest).await;
    assert_eq!(offsets(&read(&mut *consumer, 50).await), (50..100).collect::<Vec<_>>(), "not at the end: records wait");
    consumer.seek(&at(20)).await.unwrap();
    assert_eq!(offsets(&read(&mut *consumer, 50).await)[0], 50, "a seek to what is gone");
    let beyond = consumer.seek(&at(101)).await.unwrap_err();
    assert!(matches!(beyond, EventLogError::Refused(_)), "{beyond}");
    let beyond = consumer.commit(&[at(101)]).await.unwrap_err();
    assert!(matches!(beyond, EventLogError::Refused(_)), "{beyond}");
}

/// Deleted under a writer and a reader, and made again smaller: errors that name it, then a start from its beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_and_made_again_is_read_from_its_beginning() {
    let options = KafkaLogOptions {
        bootstrap: vec![kafka_broker::shared().to_owned()],
        append_timeout: Duration::from_secs(3),
        ..KafkaLogOptions::default()
    };
    let log = KafkaLog::connect(options, Arc::new(SystemClock::new())).unwrap();
    log.ensure_topic(&spec("again", 1, A_DAY)).await.unwrap();
    append(&log, "again", 0..20).await;
    let mut consumer = join(&log, "g", "again", Start::Earliest).await;
    let last = read(&mut *consumer, 20).await.pop().unwrap();
    consumer.commit(&[Progress { partition: last.topic_partition(), next: 20 }]).await.unwrap();
    drop(consumer);
    tokio::task::spawn_blocking(|| broker().delete_topic("again").unwrap()).await.unwrap();
    // On its way when the topic goes it can only wait for its return; the repeat says what is the matter.
    let started = Instant::now();
    while !matches!(log.append(&topic("again"), numbered(0..1)).await, Err(EventLogError::NoSuchTopic(_))) {
        assert!(started.elapsed() < BOUND, "no word that the topic is gone");
    }
    assert!(matches!(log.partitions(&topic("again")).await, Err(EventLogError::NoSuchTopic(_))));
    let there = tokio::task::spawn_blocking(|| broker().list_topics().unwrap()).await.unwrap();
    assert!(!there.contains(&"again".to_owned()), "the writer brought it back: {there:?}");
    log.ensure_topic(&spec("again", 1, A_DAY)).await.unwrap();
    append(&log, "again", 0..5).await;
    let mut consumer = join(&log, "g", "again", Start::Earliest).await;
    assert_eq!(offsets(&read(&mut *consumer, 5).await), [0, 1, 2, 3, 4]);
}

/// A group that begins at the end remembers where that was, though it commits nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_began_at_the_end_skips_nothing_when_its_partition_moves() {
    let log = log();
    log.ensure_topic(&spec("moves", 1, A_DAY)).await.unwrap();
    append(&log, "moves", 0..5).await;
    let mut first = join(&log, "late", "moves", Start::Latest).await;
    while first.assignment().is_empty() {
        first.poll(1, Duration::from_millis(100)).await.unwrap();
    }
    drop(first);
    append(&log, "moves", 5..8).await;
    let mut second = join(&log, "late", "moves", Start::Latest).await;
    assert_eq!(offsets(&read(&mut *second, 3).await), [5, 6, 7]);
}

/// More at once than the queue holds: everybody waits their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_makes_appends_wait_and_loses_none() {
    let options = KafkaLogOptions {
        bootstrap: vec![kafka_broker::shared().to_owned()],
        queue_mib: 1,
        ..KafkaLogOptions::default()
    };
    let log = KafkaLog::connect(options, Arc::new(SystemClock::new())).unwrap();
    log.ensure_topic(&spec("full", 1, A_DAY)).await.unwrap();
    let append = |i: u8| {
        let log = log.clone();
        tokio::spawn(
            async move { log.append(&topic("full"), vec![NewRecord::to_partition(0, vec![i; 900_000], AT)]).await },
        )
    };
    let appends: Vec<_> = (0..40).map(append).collect();
    // Given up in the middle: its records may or may not lie there, and its place comes back.
    appends[7].abort();
    let mut answered = 0;
    for append in appends {
        answered += usize::from(append.await.is_ok_and(|a| a.is_ok()));
    }
    assert!(answered >= 39, "{answered}");
    read(&mut *join(&log, "g", "full", Start::Earliest).await, answered).await;
}

/// The broker's own bound on sessions is named, with what to change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_broker_finds_too_short_is_refused_in_words() {
    let strict = Kafka::start_with(&kafka_broker::folder("broker-strict"), &["group.min.session.timeout.ms=6000"]);
    let strict = strict.unwrap();
    let log = kafka_broker::connect(&strict.bootstrap());
    log.ensure_topic(&spec("t", 1, A_DAY)).await.unwrap();
    let mut consumer = join(&log, "g", "t", Start::Earliest).await;
    let started = Instant::now();
    let refused = loop {
        assert!(started.elapsed() < BOUND, "no word");
        if let Err(error) = consumer.poll(1, Duration::from_millis(100)).await {
            break error;
        }
    };
    assert!(matches!(refused, EventLogError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("group.min.session.timeout.ms"), "{refused}");
}

/// Each way to compress is there in this build, and one member may read many topics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_compression_is_read_back_by_one_member_of_many_topics() {
    let ways = [("plain", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)];
    for (name, compression) in ways {
        let bootstrap = vec![kafka_broker::shared().to_owned()];
        let options = KafkaLogOptions { bootstrap, compression, ..KafkaLogOptions::default() };
        let log = KafkaLog::connect(options, Arc::new(SystemClock::new())).unwrap();
        log.ensure_topic(&spec(name, 2, A_DAY)).await.unwrap();
        append(&log, name, 0..500).await;
        log.close().await;
    }
    let topics = ways.iter().map(|(name, _)| topic(name)).collect();
    let subscription = Subscription { group: Group::new("all").unwrap(), topics, start: Start::Earliest };
    let mut consumer = log().subscribe(subscription).await.unwrap();
    let records = read(&mut *consumer, 1_500).await;
    for (name, _) in ways {
        let of_topic = records.iter().filter(|r| r.topic == topic(name)).map(|r| r.value.clone().unwrap());
        assert!(of_topic.eq(numbered(0..500).into_iter().map(|r| r.value.unwrap())), "{name}");
    }
    assert_eq!(consumer.assignment().len(), 6);
}
