//! What the kafka provider does when the broker is killed, paused or absent, and when a member dies.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)]

mod kafka_broker;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use eventlog::kafka::KafkaLogOptions;
use eventlog::{
    Consumer, EventLog, EventLogError, Group, KafkaLog, NewRecord, Polled, Progress, Record, Retention, Start,
    Subscription, Topic, TopicSpec,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use testkit::servers::{Kafka, Port};
use types::{SystemClock, Timestamp};

const AT: Timestamp = Timestamp::from_millis(1_794_355_260_123);
/// Far above what a restart of the broker on a busy machine needs.
const BOUND: Duration = Duration::from_secs(120);
const PARTITIONS: u32 = 3;

fn options(bootstrap: &str) -> KafkaLogOptions {
    KafkaLogOptions { bootstrap: vec![bootstrap.to_owned()], ..KafkaLogOptions::default() }
}

fn connect(options: KafkaLogOptions) -> KafkaLog {
    KafkaLog::connect(options, Arc::new(SystemClock::new())).unwrap()
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

fn spec(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec { topic: topic(name), partitions, retention: Retention::Time(Duration::from_secs(86_400)) }
}

fn subscription(name: &str) -> Subscription {
    Subscription { group: Group::new("readers").unwrap(), topics: vec![topic(name)], start: Start::Earliest }
}

fn text(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

fn numbered(count: usize) -> Vec<NewRecord> {
    (0..count).map(|i| NewRecord::to_partition(i as u32 % PARTITIONS, i.to_string(), AT)).collect()
}

/// Polls; a broker that is away is no reason to give up.
async fn step(consumer: &mut dyn Consumer, max: usize) -> Vec<Record> {
    match consumer.poll(max, Duration::from_millis(100)).await {
        Ok(Polled::Records(records)) => records,
        Ok(_) => Vec::new(),
        Err(error) if error.retryable() => Vec::new(),
        Err(error) => panic!("a poll: {error}"),
    }
}

async fn read(consumer: &mut dyn Consumer, count: usize) -> Vec<Record> {
    let started = Instant::now();
    let mut records = Vec::new();
    while records.len() < count {
        assert!(started.elapsed() < BOUND, "{} of {count} records came", records.len());
        records.extend(step(consumer, 1_000).await);
    }
    records
}

/// What the producers know: value by position for what was acknowledged, and which values may lie there twice.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<HashMap<(u32, u64), String>>,
    repeated: Mutex<BTreeSet<String>>,
    appends: AtomicUsize,
}

async fn produce(log: KafkaLog, producer: usize, told: Arc<Told>, stop: Arc<AtomicBool>) {
    let mut random = ChaCha8Rng::seed_from_u64(producer as u64);
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let count = random.random_range(1..40);
        let values: Vec<String> = (number..number + count).map(|n| format!("{producer}:{n:08}")).collect();
        let record = |(i, value): (usize, &String)| {
            NewRecord::to_partition(i as u32 % PARTITIONS, value.clone().into_bytes(), AT)
        };
        loop {
            match log.append(&topic("storm"), values.iter().enumerate().map(record).collect()).await {
                Ok(positions) => {
                    let known = positions.iter().map(|p| (p.partition, p.offset)).zip(values.clone());
                    told.acknowledged.lock().extend(known);
                    break;
                }
                Err(error) => {
                    assert!(error.retryable(), "{error}");
                    told.repeated.lock().extend(values.iter().cloned());
                }
            }
        }
        told.appends.fetch_add(1, Ordering::SeqCst);
        number += count;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < BOUND, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Three producers and one reader; the broker is killed three times in the middle of it. Nothing acknowledged is lost
/// or moved, each producer's records keep their order in a partition, only what was not acknowledged lies there
/// twice, and neither side had to be made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_the_broker_keeps_what_was_acknowledged_and_everybody_goes_on() {
    let mut broker = Kafka::start(&kafka_broker::folder("broker-killed")).unwrap();
    let log = connect(options(&broker.bootstrap()));
    log.ensure_topic(&spec("storm", PARTITIONS)).await.unwrap();
    let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let producers: Vec<_> = (0..3).map(|p| tokio::spawn(produce(log.clone(), p, told.clone(), stop.clone()))).collect();
    let mut consumer = log.subscribe(subscription("storm")).await.unwrap();
    let all_told = Arc::new(AtomicUsize::new(usize::MAX));
    let target = all_told.clone();
    let reader = tokio::spawn(async move {
        let mut seen: BTreeMap<(u32, u64), String> = BTreeMap::new();
        let started = Instant::now();
        // Reads on until it has as much as was acknowledged, and nothing more comes.
        loop {
            let records = step(&mut *consumer, 500).await;
            if records.is_empty() && seen.len() >= target.load(Ordering::SeqCst) {
                return seen;
            }
            assert!(started.elapsed() < 3 * BOUND, "{} records came", seen.len());
            let mut progress = BTreeMap::new();
            for record in records {
                let before = seen.insert((record.partition, record.offset), text(&record));
                assert!(before.is_none_or(|b| b == text(&record)), "another record at the same place");
                progress.insert(record.topic_partition(), record.offset + 1);
            }
            for (partition, next) in progress {
                match consumer.commit(&[Progress { partition, next }]).await {
                    Ok(()) | Err(EventLogError::NotAssigned(_)) => {}
                    Err(error) => assert!(error.retryable(), "{error}"),
                }
            }
        }
    });
    for round in 1..=3 {
        let before = told.appends.load(Ordering::SeqCst);
        until("appends", || told.appends.load(Ordering::SeqCst) > before + 50).await;
        let killed = Instant::now();
        broker.kill();
        broker = tokio::task::spawn_blocking(move || {
            broker.restart().unwrap();
            broker
        })
        .await
        .unwrap();
        let served = killed.elapsed();
        let before = told.appends.load(Ordering::SeqCst);
        until("appends after the restart", || told.appends.load(Ordering::SeqCst) > before + 3).await;
        eprintln!("kill {round}: broker serves after {served:?}, appends pass after {:?}", killed.elapsed());
    }
    stop.store(true, Ordering::SeqCst);
    for producer in producers {
        producer.await.unwrap();
    }
    let acknowledged = std::mem::take(&mut *told.acknowledged.lock());
    all_told.store(acknowledged.len(), Ordering::SeqCst);
    let seen = reader.await.unwrap();
    eprintln!("{} acknowledged, {} read", acknowledged.len(), seen.len());
    for (place, value) in &acknowledged {
        assert_eq!(seen.get(place), Some(value), "what was acknowledged at {place:?}");
    }
    let repeated = told.repeated.lock();
    let mut last: BTreeMap<(u32, String), String> = BTreeMap::new();
    let mut once = BTreeSet::new();
    for ((partition, offset), value) in &seen {
        assert!(once.insert(value.clone()) || repeated.contains(value), "{value} twice, at {partition}/{offset}");
        let (producer, number) = value.split_once(':').unwrap();
        let key = (*partition, producer.to_owned());
        match last.get(&key) {
            Some(before) if **before >= *number => assert!(repeated.contains(value), "{value} behind {before}"),
            _ => drop(last.insert(key, number.to_owned())),
        }
    }
}

/// SIGSTOP: an append waits and then passes, a poll is idle and then goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_and_resumed_the_broker_is_only_late() {
    let broker = Kafka::start(&kafka_broker::folder("broker-paused")).unwrap();
    let log = connect(options(&broker.bootstrap()));
    log.ensure_topic(&spec("late", PARTITIONS)).await.unwrap();
    log.append(&topic("late"), numbered(30)).await.unwrap();
    let mut consumer = log.subscribe(subscription("late")).await.unwrap();
    read(&mut *consumer, 30).await;
    broker.pause();
    let appending = tokio::spawn({
        let log = log.clone();
        async move { log.append(&topic("late"), numbered(30)).await }
    });
    for _ in 0..20 {
        assert!(step(&mut *consumer, 10).await.is_empty(), "from a broker that stands still");
    }
    assert!(!appending.is_finished());
    broker.resume();
    assert_eq!(appending.await.unwrap().unwrap().len(), 30);
    read(&mut *consumer, 30).await;
}

/// Where the child of the next test finds the broker; absent in an ordinary run.
const CHILD: &str = "EVENTLOG_KAFKA_CHILD";

/// Not a test of its own: the member that is killed. Commits the first half of what it reads and tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the next test"]
async fn child_that_reads_until_it_is_killed() {
    let Ok(bootstrap) = std::env::var(CHILD) else { return };
    let log = connect(options(&bootstrap));
    let mut consumer = log.subscribe(subscription("shared")).await.unwrap();
    loop {
        for record in step(&mut *consumer, 100).await {
            let commits = record.offset < 5;
            if commits {
                let progress = Progress { partition: record.topic_partition(), next: record.offset + 1 };
                consumer.commit(&[progress]).await.unwrap();
            }
            let mut out = std::io::stdout().lock();
            writeln!(out, "\nread {} {} {commits}", record.partition, record.offset).unwrap();
            out.flush().unwrap();
        }
    }
}

/// Two members share; one is killed with what it read but did not commit. The other gets its partitions when the
/// session ends, and exactly the uncommitted part again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_members_uncommitted_records_go_to_the_other() {
    let bootstrap = kafka_broker::shared();
    let log = connect(options(bootstrap));
    log.ensure_topic(&spec("shared", PARTITIONS)).await.unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "child_that_reads"])
        .env(CHILD, bootstrap)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // The child has all partitions before the other joins: it must share then.
    let mut reads = lines.filter_map(|line| line.strip_prefix("read ").map(str::to_owned));
    log.append(&topic("shared"), numbered(30)).await.unwrap();
    let of_child: BTreeSet<String> =
        tokio::task::spawn_blocking(move || reads.by_ref().take(30).collect()).await.unwrap();
    assert_eq!(of_child.len(), 30);
    let mut mine = log.subscribe(subscription("shared")).await.unwrap();
    let started = Instant::now();
    while mine.assignment().is_empty() {
        assert!(started.elapsed() < BOUND, "no share");
        let _ = step(&mut *mine, 1).await;
    }
    let killed = Instant::now();
    child.kill().unwrap();
    child.wait().unwrap();
    while mine.assignment().len() < 3 {
        assert!(killed.elapsed() < BOUND, "has {:?}", mine.assignment());
        step(&mut *mine, 1).await;
    }
    eprintln!("took over {:?} after the kill", killed.elapsed());
    for partition in 0..PARTITIONS {
        let at = eventlog::TopicPartition { topic: topic("shared"), partition };
        assert_eq!(log.committed(&Group::new("readers").unwrap(), &at).await.unwrap(), Some(5));
    }
    // What came while it shared was dropped above: go back to what is committed and read the rest of each.
    for partition in mine.assignment() {
        mine.seek(&Progress { partition, next: 5 }).await.unwrap();
    }
    let rest: BTreeSet<_> = read(&mut *mine, 15).await.iter().map(|r| (r.partition, r.offset)).collect();
    let expected: BTreeSet<_> = (0..PARTITIONS).flat_map(|p| (5..10).map(move |o| (p, o))).collect();
    assert_eq!(rest, expected);
}

/// Nobody there: every call says so in its time, and says that it may help to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_every_call_fails_in_time() {
    let nobody = Port::reserve().unwrap();
    let second = Duration::from_secs(1);
    let options = KafkaLogOptions {
        append_timeout: second,
        request_timeout: second,
        ..options(&format!("127.0.0.1:{}", nobody.number()))
    };
    let log = connect(options);
    let errors = [
        log.ensure_topic(&spec("nowhere", 1)).await.unwrap_err(),
        log.partitions(&topic("nowhere")).await.unwrap_err(),
        log.append(&topic("nowhere"), numbered(1)).await.unwrap_err(),
        log.subscribe(subscription("nowhere")).await.err().unwrap(),
    ];
    for error in errors {
        assert!(error.retryable(), "{error}");
    }
    log.close().await;
    assert!(matches!(log.partitions(&topic("nowhere")).await, Err(EventLogError::Closed)));
    assert!(matches!(log.append(&topic("nowhere"), numbered(1)).await, Err(EventLogError::Closed)));
}

/// A broker that stays away longer than an append waits: the append fails, its repeat after the return passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_gives_up_in_time_and_its_repeat_passes() {
    let mut broker = Kafka::start(&kafka_broker::folder("broker-away")).unwrap();
    let log = connect(KafkaLogOptions { append_timeout: Duration::from_secs(1), ..options(&broker.bootstrap()) });
    log.ensure_topic(&spec("away", PARTITIONS)).await.unwrap();
    log.append(&topic("away"), numbered(3)).await.unwrap();
    broker.kill();
    let failed = log.append(&topic("away"), numbered(9)).await.unwrap_err();
    assert!(failed.retryable(), "{failed}");
    let restarted = tokio::task::spawn_blocking(move || broker.restart().map(|()| broker)).await.unwrap();
    let _broker = restarted.unwrap();
    let started = Instant::now();
    while let Err(error) = log.append(&topic("away"), numbered(9)).await {
        assert!(error.retryable() && started.elapsed() < BOUND, "{error}");
    }
    let mut consumer = log.subscribe(subscription("away")).await.unwrap();
    read(&mut *consumer, 12).await;
}
