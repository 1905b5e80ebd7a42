//! How fast the kafka provider is on this machine; by hand:
//! `cargo test -p eventlog --test kafka_speed -- --ignored --nocapture`.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)]

mod kafka_broker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::{EventLog, Group, NewRecord, Polled, Retention, Start, Subscription, Topic, TopicSpec};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use types::Timestamp;

const RECORDS: usize = 1_000_000;
const PARTITIONS: u32 = 4;
/// Records of one append, as a batch of the collector has them, and appends on their way at once.
const APPEND: usize = 2_000;
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn records_of_200_bytes_in_and_out() {
    let log = kafka_broker::connect(kafka_broker::shared());
    let topic = Topic::new("speed").unwrap();
    let retention = Retention::Time(Duration::from_secs(3600));
    log.ensure_topic(&TopicSpec { topic: topic.clone(), partitions: PARTITIONS, retention }).await.unwrap();
    // Pieces of a long piece of noise: nothing for the compression to find.
    let mut noise = vec![0; 1024 * 1024];
    ChaCha8Rng::seed_from_u64(7).fill_bytes(&mut noise);
    let noise = bytes::Bytes::from(noise);
    let value = move |i: usize| {
        let from = i * 211 % (noise.len() - 200);
        noise.slice(from..from + 200)
    };
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let started = Instant::now();
    let mut appends = Vec::new();
    for append in 0..RECORDS / APPEND {
        let (log, topic, value) = (log.clone(), topic.clone(), value.clone());
        let place = places.clone().acquire_owned().await.unwrap();
        appends.push(tokio::spawn(async move {
            let record = |i: usize| {
                let value = value(append * APPEND + i);
                NewRecord::to_partition(i as u32 % PARTITIONS, value, Timestamp::from_millis(1))
            };
            log.append(&topic, (0..APPEND).map(record).collect()).await.unwrap();
            drop(place);
        }));
    }
    for append in appends {
        append.await.unwrap();
    }
    let produced = started.elapsed();
    let subscription =
        Subscription { group: Group::new("speed").unwrap(), topics: vec![topic.clone()], start: Start::Earliest };
    let mut consumer = log.subscribe(subscription).await.unwrap();
    let (mut count, mut first) = (0, None);
    while count < RECORDS {
        if let Polled::Records(records) = consumer.poll(5_000, Duration::from_secs(1)).await.unwrap() {
            first.get_or_insert_with(Instant::now);
            count += records.len();
        }
    }
    let consumed = first.unwrap().elapsed();
    let alone = Instant::now();
    for _ in 0..200 {
        log.append(&topic, vec![NewRecord::to_partition(0, value(0), Timestamp::from_millis(1))]).await.unwrap();
    }
    let alone = alone.elapsed() / 200;
    let rate = |took: Duration| RECORDS as f64 / took.as_secs_f64();
    eprintln!(
        "produce {:.0} records/s, consume {:.0} records/s, an append alone {alone:?}",
        rate(produced),
        rate(consumed)
    );
}
