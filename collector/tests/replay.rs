//! Dead letters tried again after the configuration was put right: published once, whatever dies in between.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use collector::{DeadReason, Error, ReplayFilter, ReplayReport, StoreError, replay_dead_letters};
use common::{Shop, expected, line, lines, until};
use eventlog::{
    Consumer, EventLog, EventLogError, Group, MemoryLog, NewRecord, Position, Subscription, Topic, TopicPartition,
    TopicSpec,
};
use types::SystemClock;

/// Breaks nothing but the log's own format: the collector finds these lines dead. Putting the store's bytes right
/// stands for putting the decoder right.
fn broken(number: u64) -> String {
    line(number % 7, number).replacen('{', "?", 1)
}

/// As a decoder that knows the format would see them.
fn put_right(shop: &Shop) {
    let connection = rusqlite::Connection::open(shop.options.state_dir.join("collector.db")).unwrap();
    connection
        .execute("UPDATE dead_letters SET bytes = CAST(replace(CAST(bytes AS TEXT), '?', '{') AS BLOB)", [])
        .unwrap();
}

async fn replay(shop: &Shop, filter: ReplayFilter, dry_run: bool) -> Result<ReplayReport, Error> {
    let (log, clock) = (Arc::new(shop.log.clone()), Arc::new(SystemClock::new()));
    replay_dead_letters(&shop.options, log, clock, filter, dry_run).await
}

async fn collected(shop: &Shop, count: u64) {
    let running = shop.start().await;
    until("all lines are counted", || running.handle.accounting().lines == count).await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_a_line_now_is_published_once_and_moves_in_the_books() {
    let shop = Shop::new();
    shop.append("access.log", &lines(0..10));
    for number in 10..60 {
        shop.append("access.log", &(broken(number) + "\n"));
    }
    shop.append("access.log", "no line whatever\n");
    shop.append("access.log", &(broken(60).replace("/product/", "/about/") + "\n"));
    collected(&shop, 62).await;
    let all = ReplayFilter::default();
    let before = replay(&shop, all, false).await.unwrap();
    assert_eq!((before.tried, before.events), (52, 0), "nothing was put right yet");

    put_right(&shop);
    let dry = replay(&shop, all, true).await.unwrap();
    assert_eq!((dry.events, dry.filtered, dry.books.dead_total()), (50, 1, 52), "nothing changed");
    assert_eq!(shop.counted().await, (expected(0..10), 0));
    let other = ReplayFilter { reason: Some(DeadReason::Nul), ..all };
    assert_eq!(replay(&shop, other, false).await.unwrap().tried, 0);

    let done = replay(&shop, all, false).await.unwrap();
    assert_eq!((done.tried, done.events, done.filtered), (52, 50, 1));
    assert_eq!((done.books.dead_total(), done.books.replayed.events, done.books.replayed.filtered), (1, 50, 1));
    assert!(done.books.adds_up());
    let again = replay(&shop, all, false).await.unwrap();
    assert_eq!((again.tried, again.events), (1, 0));
    assert_eq!(shop.counted().await, (expected(0..60), 0));

    // A later replay is another source: what it brings is no repeat of the earlier one's.
    shop.append("access.log", &(broken(60) + "\n"));
    collected(&shop, 63).await;
    put_right(&shop);
    assert_eq!(replay(&shop, all, false).await.unwrap().events, 1);
    assert_eq!(shop.counted().await, (expected(0..61), 0));
}

#[tokio::test]
async fn a_replay_that_dies_after_publishing_is_finished_under_the_same_names() {
    struct Dying(MemoryLog);
    #[async_trait]
    impl EventLog for Dying {
        async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
            self.0.ensure_topic(spec).await
        }
        async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
            self.0.partitions(topic).await
        }
        async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
            self.0.append(topic, records).await?;
            Err(EventLogError::Unavailable("lost behind".to_owned()))
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
    for number in 0..40 {
        shop.append("access.log", &(broken(number) + "\n"));
    }
    collected(&shop, 40).await;
    put_right(&shop);
    let (log, clock) = (Arc::new(Dying(shop.log.clone())), Arc::new(SystemClock::new()));
    let all = ReplayFilter::default();
    let error = replay_dead_letters(&shop.options, log, clock, all, false).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    // The collector runs in between, and finds more.
    shop.append("access.log", &(broken(40) + "\n"));
    collected(&shop, 41).await;
    put_right(&shop);
    let done = replay(&shop, all, false).await.unwrap();
    assert_eq!((done.finished_before, done.events), (40, 1));
    assert_eq!((done.books.dead_total(), done.books.replayed.events), (0, 41));
    let (views, repeats) = shop.counted().await;
    assert_eq!(views, expected(0..41));
    assert_eq!(repeats, 40);
}

#[tokio::test]
async fn lines_of_another_time_are_only_replayed_by_name_and_a_running_collector_keeps_replays_out() {
    let shop = Shop::new();
    shop.append("access.log", &lines(0..3));
    shop.append("access.log", &(line(0, 3).replace("2026-11-11", "2031-11-11") + "\n"));
    shop.append("access.log", &lines(4..6));
    let running = shop.start().await;
    until("all lines are counted", || running.handle.accounting().lines == 6).await;
    assert_eq!(running.handle.accounting().dead[&DeadReason::Future], 1);
    let busy = replay(&shop, ReplayFilter::default(), false).await.unwrap_err();
    assert!(matches!(busy, Error::Store(StoreError::InUse(_))), "{busy}");
    running.stop().await;
    assert_eq!(replay(&shop, ReplayFilter::default(), false).await.unwrap().tried, 0);
    let named = ReplayFilter { reason: Some(DeadReason::Future), since: None };
    assert_eq!(replay(&shop, named, false).await.unwrap().events, 1);
}
