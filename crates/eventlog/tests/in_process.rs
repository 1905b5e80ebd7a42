//! What the providers that coordinate in this process promise beyond the port: no partition starves, a poll
//! that is given up loses nothing, a partition moves only after its holder has finished.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{
    Consumer, EventLog, EventLogError, Group, MemoryLog, NewRecord, Polled, Progress, Record, Retention, SqliteLog,
    SqliteLogOptions, Start, Subscription, Topic, TopicPartition, TopicSpec,
};
use types::{ManualClock, Timestamp};

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

async fn make(log: &dyn EventLog, name: &str, partitions: u32) {
    let retention = Retention::Time(Duration::from_secs(3600));
    log.ensure_topic(&TopicSpec { topic: topic(name), partitions, retention }).await.unwrap();
}

async fn append(log: &dyn EventLog, name: &str, partition: u32, count: usize) {
    let record = |i: usize| NewRecord::to_partition(partition, i.to_string(), Timestamp::default());
    log.append(&topic(name), (0..count).map(record).collect()).await.unwrap();
}

async fn join(log: &dyn EventLog, topics: &[&str], start: Start) -> Box<dyn Consumer> {
    let topics = topics.iter().map(|t| topic(t)).collect();
    log.subscribe(Subscription { group: Group::new("g").unwrap(), topics, start }).await.unwrap()
}

async fn polled(consumer: &mut dyn Consumer) -> Polled {
    consumer.poll(10, Duration::ZERO).await.unwrap()
}

fn records(polled: Polled) -> Vec<Record> {
    if let Polled::Records(records) = polled { records } else { panic!("{polled:?} where records were expected") }
}

/// Both providers, with what keeps them alive.
fn both() -> (tempfile::TempDir, Vec<Arc<dyn EventLog>>) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteLog::open(&folder.path().join("log.db"), SqliteLogOptions::default()).unwrap();
    (folder, vec![Arc::new(MemoryLog::new()), Arc::new(sqlite)])
}

#[tokio::test]
async fn a_full_partition_does_not_starve_the_others() {
    let (_folder, logs) = both();
    for log in logs {
        make(&*log, "full", 2).await;
        make(&*log, "quiet", 1).await;
        append(&*log, "full", 0, 1000).await;
        append(&*log, "full", 1, 1).await;
        append(&*log, "quiet", 0, 1).await;
        let mut consumer = join(&*log, &["full", "quiet"], Start::Earliest).await;
        assert!(matches!(polled(&mut *consumer).await, Polled::Assigned(got) if got.len() == 3));
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            seen.extend(records(polled(&mut *consumer).await).iter().map(Record::topic_partition));
        }
        assert_eq!(seen.len(), 3, "each partition had its turn in three polls");
    }
}

#[tokio::test]
async fn a_poll_that_is_given_up_loses_nothing() {
    let (_folder, logs) = both();
    for log in logs {
        make(&*log, "t", 2).await;
        let mut consumer = join(&*log, &["t"], Start::Earliest).await;
        let mut read: Vec<Record> = Vec::new();
        for round in 0..200_u64 {
            if round % 4 == 0 {
                append(&*log, "t", (round % 8 / 4) as u32, 3).await;
            }
            // Given up at another point of its way each time.
            tokio::select! {
                biased;
                polled = consumer.poll(2, Duration::from_secs(1)) => if let Polled::Records(records) = polled.unwrap() {
                    read.extend(records);
                },
                () = yields(round % 7) => {}
            }
        }
        loop {
            match polled(&mut *consumer).await {
                Polled::Records(records) => read.extend(records),
                Polled::Idle => break,
                _ => {}
            }
        }
        for partition in 0..2 {
            let offsets: Vec<u64> = read.iter().filter(|r| r.partition == partition).map(|r| r.offset).collect();
            assert_eq!(offsets, (0..75).collect::<Vec<_>>(), "partition {partition}");
        }
    }
}

async fn yields(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// A holder may finish what it polled and commit it, although another waits; the other begins behind it.
#[tokio::test]
async fn a_partition_moves_after_its_holders_commit() {
    let (_folder, logs) = both();
    for log in logs {
        make(&*log, "t", 1).await;
        make(&*log, "u", 1).await;
        append(&*log, "t", 0, 10).await;
        append(&*log, "u", 0, 10).await;
        let mut a = join(&*log, &["t", "u"], Start::Earliest).await;
        polled(&mut *a).await;
        let first = records(polled(&mut *a).await);
        let second = records(polled(&mut *a).await);
        let mut b = join(&*log, &["t", "u"], Start::Earliest).await;
        assert_eq!(polled(&mut *b).await, Polled::Idle, "a still works");
        for batch in [&first, &second] {
            let progress = Progress { partition: batch[0].topic_partition(), next: batch.last().unwrap().offset + 1 };
            a.commit(&[progress]).await.unwrap();
        }
        let Polled::Revoked(lost) = polled(&mut *a).await else { panic!("one of two moves") };
        assert_eq!(polled(&mut *b).await, Polled::Assigned(lost));
        assert_eq!(polled(&mut *b).await, Polled::Idle, "nothing comes again");
    }
}

/// A group that starts at the end does not skip what comes while a partition moves before its first commit.
#[tokio::test]
async fn a_move_before_the_first_commit_skips_nothing() {
    let (_folder, logs) = both();
    for log in logs {
        make(&*log, "t", 1).await;
        append(&*log, "t", 0, 5).await;
        let mut a = join(&*log, &["t"], Start::Latest).await;
        polled(&mut *a).await;
        let mut b = join(&*log, &["t"], Start::Latest).await;
        append(&*log, "t", 0, 3).await;
        drop(a);
        assert!(matches!(polled(&mut *b).await, Polled::Assigned(_)));
        let offsets: Vec<u64> = records(polled(&mut *b).await).iter().map(|r| r.offset).collect();
        assert_eq!(offsets, [5, 6, 7]);
    }
}

/// Progress beyond the end comes from another log; taking it would skip records in silence.
#[tokio::test]
async fn progress_of_another_log_is_refused() {
    let (_folder, logs) = both();
    for log in logs {
        make(&*log, "t", 1).await;
        append(&*log, "t", 0, 5).await;
        let mut consumer = join(&*log, &["t"], Start::Earliest).await;
        polled(&mut *consumer).await;
        let progress = |next| Progress { partition: TopicPartition { topic: topic("t"), partition: 0 }, next };
        assert!(matches!(consumer.seek(&progress(6)).await, Err(EventLogError::Refused(_))));
        assert!(matches!(consumer.commit(&[progress(6)]).await, Err(EventLogError::Refused(_))));
        consumer.seek(&progress(5)).await.unwrap();
        assert_eq!(polled(&mut *consumer).await, Polled::Idle);
    }
}

#[tokio::test]
async fn memory_forgets_by_its_clock() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1)));
    let log = MemoryLog::with_clock(clock.clone());
    make(&log, "t", 1).await;
    append(&log, "t", 0, 5).await;
    clock.advance(Duration::from_secs(3601));
    append(&log, "t", 0, 1).await;
    let mut consumer = join(&log, &["t"], Start::Earliest).await;
    polled(&mut *consumer).await;
    assert_eq!(records(polled(&mut *consumer).await).iter().map(|r| r.offset).collect::<Vec<_>>(), [5]);
}
