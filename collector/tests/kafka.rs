//! The collector on a real Kafka: topics that are short of partitions or get more of them, and each event as JSON.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use collector::{Collector, Encoding, Handle, Source};
use common::{Shop, expected, line, lines, until};
use eventlog::kafka::{KafkaLog, KafkaLogOptions};
use eventlog::{EventLog, Group, NewRecord, Polled, Retention, Start, Subscription, Topic, TopicPartition, TopicSpec};
use testkit::servers::{Filebeat, Kafka, Secured};
use tokio::task::spawn_blocking;
use types::{SystemClock, Timestamp, topics};

fn connect(kafka: &Kafka) -> Arc<KafkaLog> {
    let options = KafkaLogOptions { bootstrap: vec![kafka.bootstrap()], ..KafkaLogOptions::default() };
    Arc::new(KafkaLog::connect(options, Arc::new(SystemClock::new())).unwrap())
}

fn start(folder: &Path) -> Arc<Kafka> {
    Arc::new(Kafka::start(&folder.join("kafka")).unwrap())
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

async fn make(log: &KafkaLog, name: &str, partitions: u32) {
    let retention = Retention::Time(Duration::from_secs(3600));
    log.ensure_topic(&TopicSpec { topic: topic(name), partitions, retention }).await.unwrap();
}

async fn grow(kafka: &Arc<Kafka>, partitions: u32) {
    let kafka = Arc::clone(kafka);
    spawn_blocking(move || kafka.grow_topic(topics::ACCESS_LOG, partitions).unwrap()).await.unwrap();
}

/// Ten bare lines into a partition, by a producer of their own, which knows how many there are.
async fn ship(kafka: &Kafka, partition: u32, from: u64) {
    let at = Timestamp::from_seconds(1_794_355_200);
    let records = (from..from + 10).map(|n| NewRecord::to_partition(partition, line(n % 7, n), at)).collect();
    connect(kafka).append(&topic(topics::ACCESS_LOG), records).await.unwrap();
}

async fn counted(handle: &Handle, lines: u64) {
    until(&format!("{lines} lines are counted"), || handle.accounting().lines == lines).await;
    assert!(handle.accounting().adds_up());
}

/// Every record of a topic.
async fn records(log: &KafkaLog, name: &str) -> Vec<eventlog::Record> {
    let (mut all, mut left) = (Vec::new(), BTreeMap::new());
    for partition in 0..log.partitions(&topic(name)).await.unwrap() {
        let end = log.end_offset(&TopicPartition { topic: topic(name), partition }).await.unwrap();
        left.extend((end > 0).then_some((partition, end)));
    }
    let group = Group::new(format!("reader-of-{name}")).unwrap();
    let subscription = Subscription { group, topics: vec![topic(name)], start: Start::Earliest };
    let mut consumer = log.subscribe(subscription).await.unwrap();
    while !left.is_empty() {
        if let Polled::Records(records) = consumer.poll(1_000, Duration::from_millis(100)).await.unwrap() {
            for record in records {
                if left.get(&record.partition).is_some_and(|end| record.offset + 1 >= *end) {
                    left.remove(&record.partition);
                }
                all.push(record);
            }
        }
    }
    all
}

/// The row "Kafka record, topic short of partitions": lines of a partition that is added later are all new, also for a
/// collector that leaves out what was there before it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_added_are_read_from_their_first_record() {
    let mut shop = Shop::new();
    let kafka = start(shop.folder.path());
    let log = connect(&kafka);
    shop.options.source = Source::AccessLog;
    shop.options.from_start = false;
    make(&log, topics::ACCESS_LOG, 1).await;
    ship(&kafka, 0, 0).await;

    let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
    until("the partition is ours", || running.handle.partitions().len() == 1).await;
    ship(&kafka, 0, 10).await;
    counted(&running.handle, 10).await;
    grow(&kafka, 3).await;
    ship(&kafka, 1, 20).await;
    ship(&kafka, 2, 30).await;
    counted(&running.handle, 30).await;
    running.stop().await;

    grow(&kafka, 4).await;
    ship(&kafka, 3, 40).await;
    let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
    counted(&running.handle, 40).await;
    assert_eq!((running.handle.accounting().events, running.handle.partitions().len()), (40, 4));
    running.stop().await;

    let mut views: BTreeMap<String, u64> = BTreeMap::new();
    for record in records(&log, topics::PRODUCT_EVENTS).await {
        for event in product_events::decode(record.value.as_ref().unwrap()).unwrap().events {
            *views.entry(event.page.to_string()).or_default() += 1;
        }
    }
    assert_eq!(views, expected(10..50));
}

/// A topic that has fewer partitions than are configured is refused by name, before anything is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_their_json_stand_in_the_same_partitions_and_a_short_topic_is_refused() {
    let mut shop = Shop::new();
    let kafka = start(shop.folder.path());
    let log = connect(&kafka);
    make(&log, topics::PRODUCT_EVENTS, 2).await;
    shop.options.encoding = Encoding::Json;
    shop.append("access.log", &lines(0..3_000));
    let refused = Collector::new(shop.options.clone(), log.clone(), Arc::new(SystemClock::new())).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "topic product-events has 2 partitions but 4 are configured; change the configuration or the topic"
    );
    assert!(!refused.retryable());

    shop.options.partitions = 2;
    let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
    counted(&running.handle, 3_000).await;
    running.stop().await;
    let mut events = BTreeMap::new();
    for record in records(&log, topics::PRODUCT_EVENTS).await {
        let batch = product_events::decode(record.value.as_ref().unwrap()).unwrap();
        for event in batch.events {
            events.insert((record.partition, event.offset), (event.page.to_string(), event.visitor.0, event.at));
        }
    }
    assert_eq!(events.len(), 3_000);
    let mut last = BTreeMap::new();
    for record in records(&log, topics::PRODUCT_EVENTS_JSON).await {
        let value: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        let offset = value["offset"].as_u64().unwrap();
        let (page, visitor, at) = events.remove(&(record.partition, offset)).expect("each event once");
        assert_eq!((value["product"].as_str(), value["kind"].as_str()), (Some(&*page), Some("view")));
        assert_eq!((value["events"].as_u64(), value["status"].as_u64()), (Some(1), Some(200)));
        assert_eq!(value["visitor"].as_str(), Some(&*format!("{visitor:016x}")));
        assert_eq!(value["__time"].as_str(), Some(&*at.to_string()));
        let before = last.insert(record.partition, offset);
        assert!(before.is_none_or(|before| before < offset), "in the order of the log");
    }
    assert!(events.is_empty(), "every event is there as JSON");
}

/// What stands in `filebeat.yml` as an example of TLS and SASL, uncommented: the real Filebeat takes it, and ships by it
/// to a broker that asks for both. Whoever has no password, or does not trust the certificate, is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shippers_examples_of_tls_and_sasl_are_right() {
    let mut shop = Shop::new();
    // Filebeat runs as nobody, who must be able to come here.
    fs::set_permissions(shop.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let kafka = Kafka::start_secured(&shop.path("kafka")).unwrap();
    let secured = kafka.secured().unwrap();
    fs::set_permissions(&secured.key, fs::Permissions::from_mode(0o644)).unwrap();
    let log = connect(&kafka);
    make(&log, topics::ACCESS_LOG, 1).await;

    let original = include_str!("../../filebeat/filebeat.yml");
    let uncommented: Vec<_> = original
        .lines()
        .map(|line| match line.strip_prefix("  # ") {
            Some(rest) if ["ssl.", "sasl.", "username:", "password:"].iter().any(|name| rest.starts_with(name)) => {
                format!("  {rest}")
            }
            _ => line.to_owned(),
        })
        .collect();
    let examples = uncommented.iter().zip(original.lines()).filter(|(now, before)| now != before).count();
    assert_eq!(examples, 7, "four of TLS, three of SASL");
    let (certificate, key) = (secured.certificate.display().to_string(), secured.key.display().to_string());
    let config = uncommented
        .join("\n")
        .replace("/etc/filebeat/kafka-ca.pem", &certificate)
        .replace("/etc/filebeat/this-host.pem", &certificate)
        .replace("/etc/filebeat/this-host.key", &key)
        .replace("username: filebeat", &format!("username: {}", Secured::USER));
    let access_log = shop.path("access.log").display().to_string();
    let values = [("ACCESS_LOG", access_log.as_str()), ("KAFKA_BOOTSTRAP", &secured.tls())];
    let config = Filebeat::fill(&config, &values).unwrap();
    let with = |password: &str| config.replace("${KAFKA_PASSWORD}", password);

    let judged = Filebeat::judge(&shop.path("judged"), &with(Secured::PASSWORD), false).unwrap();
    assert!(judged.contains("Config OK"), "{judged}");
    let mistyped = with(Secured::PASSWORD).replace("SCRAM-SHA-512", "SCRAM-SHA-3");
    let refused = Filebeat::judge(&shop.path("judged"), &mistyped, false).unwrap_err().to_string();
    assert!(refused.contains("SCRAM-SHA-3"), "{refused}");

    shop.append("access.log", &lines(0..500));
    fs::set_permissions(shop.path("access.log"), fs::Permissions::from_mode(0o644)).unwrap();
    let filebeat = Filebeat::start(&shop.path("filebeat"), &with(Secured::PASSWORD)).unwrap();
    shop.options.source = Source::AccessLog;
    let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
    counted(&running.handle, 500).await;
    assert_eq!(running.handle.accounting().events, 500);
    running.stop().await;
    drop(filebeat);
}
