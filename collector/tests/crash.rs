//! Kills between publish and checkpoint, and a log that fails: no event lost, none doubled, books exact.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::{Shop, expected, lines, until};
use eventlog::{
    Consumer, EventLog, EventLogError, Group, MemoryLog, NewRecord, Position, Subscription, Topic, TopicPartition,
    TopicSpec,
};
use types::SystemClock;

/// What the log does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Appends, then says that it is closed: the process dies before its checkpoint.
    DieAfter,
    /// Appends, then never answers: the task is aborted there.
    HangAfter,
    /// Appends every other time, but always says first that it failed.
    Flaky,
}

struct FaultyLog {
    inner: MemoryLog,
    fault: Fault,
    /// Appends until the fault.
    left: AtomicU32,
}

#[async_trait]
impl EventLog for FaultyLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
        self.inner.ensure_topic(spec).await
    }
    async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        self.inner.partitions(topic).await
    }
    async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
        let left = self.left.load(Ordering::SeqCst);
        self.left.store(left.wrapping_sub(1), Ordering::SeqCst);
        match (self.fault, left) {
            (Fault::DieAfter, 0) => {
                self.inner.append(topic, records).await?;
                Err(EventLogError::Closed)
            }
            (Fault::HangAfter, 0) => {
                self.inner.append(topic, records).await?;
                std::future::pending().await
            }
            (Fault::Flaky, n) if n % 3 == 0 => Err(EventLogError::Unavailable("lost before".to_owned())),
            (Fault::Flaky, n) if n % 3 == 2 => {
                self.inner.append(topic, records).await?;
                Err(EventLogError::Unavailable("lost behind".to_owned()))
            }
            _ => self.inner.append(topic, records).await,
        }
    }
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, EventLogError> {
        self.inner.subscribe(subscription).await
    }
    async fn committed(&self, group: &Group, partition: &TopicPartition) -> Result<Option<u64>, EventLogError> {
        self.inner.committed(group, partition).await
    }
    async fn end_offset(&self, partition: &TopicPartition) -> Result<u64, EventLogError> {
        self.inner.end_offset(partition).await
    }
}

#[tokio::test]
async fn a_death_between_publish_and_checkpoint_loses_and_doubles_nothing() {
    for fault in [Fault::DieAfter, Fault::HangAfter] {
        let shop = Shop::new();
        let mut written = 0;
        // Each life dies one append later than the last, and the log has grown in between.
        for life in 0..6 {
            shop.append("access.log", &lines(written..written + 5_000));
            shop.append("access.log", "no line at all\n");
            written += 5_000;
            let log = Arc::new(FaultyLog { inner: shop.log.clone(), fault, left: AtomicU32::new(life) });
            let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
            until("the fault strikes", || log.left.load(Ordering::SeqCst) == u32::MAX || running.handle.caught_up())
                .await;
            if fault == Fault::HangAfter {
                running.task.abort();
            } else {
                running.stop.cancel();
            }
            let _ = running.task.await;
        }
        let running = shop.start().await;
        until("everything is counted", || running.handle.caught_up()).await;
        let books = running.handle.accounting();
        running.stop().await;
        assert_eq!((books.lines, books.events, books.dead_total()), (written + 6, written, 6), "each line once");
        assert!(books.adds_up());
        let (views, repeats) = shop.counted().await;
        assert_eq!(views, expected(0..written));
        assert!(repeats > 0, "the fault has struck");
    }
}

#[tokio::test]
async fn a_log_that_fails_now_and_then_is_tried_again_until_it_takes_the_chunk() {
    let shop = Shop::new();
    shop.append("access.log", &lines(0..12_000));
    let log = Arc::new(FaultyLog { inner: shop.log.clone(), fault: Fault::Flaky, left: AtomicU32::new(99) });
    let running = shop.start_with(log, Arc::new(SystemClock::new())).await;
    until("everything is counted", || running.handle.accounting().lines == 12_000).await;
    running.stop().await;
    let (views, repeats) = shop.counted().await;
    assert_eq!(views, expected(0..12_000));
    assert!(repeats > 0, "some failures had landed");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_log_that_is_away() {
    struct Away(MemoryLog);
    #[async_trait]
    impl EventLog for Away {
        async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
            self.0.ensure_topic(spec).await
        }
        async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
            self.0.partitions(topic).await
        }
        async fn append(&self, _: &Topic, _: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
            Err(EventLogError::Unavailable("away".to_owned()))
        }
        async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, EventLogError> {
            self.0.subscribe(subscription).await
        }
        async fn committed(&self, group: &Group, of: &TopicPartition) -> Result<Option<u64>, EventLogError> {
            self.0.committed(group, of).await
        }
        async fn end_offset(&self, partition: &TopicPartition) -> Result<u64, EventLogError> {
            self.0.end_offset(partition).await
        }
    }
    let shop = Shop::new();
    shop.append("access.log", &lines(0..10));
    let running = shop.start_with(Arc::new(Away(shop.log.clone())), Arc::new(SystemClock::new())).await;
    tokio::time::timeout(Duration::from_secs(60), running.stop()).await.unwrap();
    let running = shop.start().await;
    until("the lines are counted", || running.handle.accounting().lines == 10).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..10), 0));
}
