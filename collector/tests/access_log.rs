//! Lines out of topic `access-log`: repeats of the shipper, deaths between publish and commit, members that come
//! and go, a log that is made anew, and a log that takes nothing for a while.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use collector::decode::envelope::MAX_RECORDS;
use collector::{DeadReason, Handle, LINES_PER_RECORD, Options, Source};
use common::{Running, Shop, expected, line, until};
use eventlog::{
    Consumer, EventLog, EventLogError, Group, MemoryLog, NewRecord, Position, Retention, Subscription, Topic,
    TopicPartition, TopicSpec,
};
use proptest::prelude::*;
use types::{SystemClock, Timestamp, topics};

const PARTITIONS: u32 = 2;

/// Lines as Filebeat would put them into the topic: each with its place in its file.
struct Shipper {
    log: MemoryLog,
    host: &'static str,
    path: String,
    partition: u32,
}

impl Shipper {
    fn new(shop: &Shop, host: &'static str, partition: u32) -> Self {
        Self { log: shop.log.clone(), host, path: "/var/log/nginx/access.log".to_owned(), partition }
    }
    fn record(&self, offset: u64, message: &str) -> NewRecord {
        let envelope = serde_json::json!({
            "@timestamp": "2026-11-11T00:00:00.000Z",
            "@metadata": {"beat": "filebeat", "type": "_doc", "version": "8.1.3"},
            "log": {"offset": offset, "file": {"path": self.path}},
            "message": message,
            "agent": {"id": format!("agent of {}", self.host), "type": "filebeat", "version": "8.1.3"},
            "host": {"name": self.host},
        });
        NewRecord::to_partition(self.partition, envelope.to_string(), Timestamp::from_seconds(1_794_355_200))
    }
    async fn ship(&self, records: Vec<NewRecord>) {
        for records in records.chunks(1_000) {
            self.log.append(&access_log(), records.to_vec()).await.unwrap();
        }
    }
    /// Ships the lines of these numbers; the lines of a file have one length each, so that offsets are easy.
    async fn lines(&self, numbers: std::ops::Range<u64>) {
        let records = numbers.map(|n| self.record(n * 300, &line(n % 7, n))).collect();
        self.ship(records).await;
    }
}

fn access_log() -> Topic {
    Topic::new(topics::ACCESS_LOG).unwrap()
}

async fn make_topic(log: &MemoryLog) {
    let retention = Retention::Time(std::time::Duration::from_secs(3600));
    log.ensure_topic(&TopicSpec { topic: access_log(), partitions: PARTITIONS, retention }).await.unwrap();
}

async fn shop() -> Shop {
    let mut shop = Shop::new();
    shop.options.source = Source::AccessLog;
    make_topic(&shop.log).await;
    shop
}

async fn counted_lines(handle: &Handle, lines: u64) {
    until(&format!("{lines} lines are counted"), || handle.accounting().lines == lines).await;
    assert!(handle.accounting().adds_up());
}

#[tokio::test]
async fn records_become_events_and_the_shippers_repeats_do_not() {
    let shop = shop().await;
    let (one, two) = (Shipper::new(&shop, "web-1", 0), Shipper::new(&shop, "web-2", 1));
    let running = shop.start().await;
    one.lines(0..3_000).await;
    // Another host writes the very same lines; they are its own.
    two.lines(0..500).await;
    // Killed, and not everything was noted as sent.
    one.lines(2_500..4_000).await;
    counted_lines(&running.handle, 5_000).await;
    assert_eq!(running.handle.accounting().repeats, 500);
    running.stop().await;
    let mut both = expected(0..4_000);
    for (page, views) in expected(0..500) {
        *both.get_mut(&page).unwrap() += views;
    }
    assert_eq!(shop.counted().await, (both, 0));
}

#[tokio::test]
async fn rotation_and_truncation_are_no_repeats() {
    let shop = shop().await;
    let mut web = Shipper::new(&shop, "web-1", 0);
    let running = shop.start().await;
    web.lines(0..100).await;
    // Truncated or moved away: the new file begins at 0 with other lines.
    let fresh = (100..200).map(|n| web.record((n - 100) * 300, &line(n % 7, n))).collect();
    web.ship(fresh).await;
    // Sent again, the old file's end under the name that it has now.
    web.path += ".1";
    web.lines(50..100).await;
    counted_lines(&running.handle, 250).await;
    assert_eq!(running.handle.accounting().repeats, 50);
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..200), 0));
}

#[tokio::test]
async fn a_restart_remembers_which_lines_came_before_and_goes_on_where_it_was() {
    let shop = shop().await;
    let web = Shipper::new(&shop, "web-1", 0);
    let running = shop.start().await;
    web.lines(0..1_000).await;
    counted_lines(&running.handle, 1_000).await;
    running.stop().await;
    web.lines(800..1_200).await;
    let running = shop.start().await;
    counted_lines(&running.handle, 1_400).await;
    assert_eq!(running.handle.accounting().repeats, 200);
    running.stop().await;

    // A machine of its own, with an empty store: the group knows how far they came.
    let mut other = Shop { log: shop.log.clone(), ..Shop::new() };
    other.options.source = Source::AccessLog;
    web.lines(1_100..1_300).await;
    let running = other.start().await;
    counted_lines(&running.handle, 200).await;
    assert_eq!(running.handle.accounting().repeats, 100);
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..1_300), 0));
}

#[tokio::test]
async fn what_was_there_before_is_left_out_unless_asked_for() {
    let mut shop = shop().await;
    shop.options.from_start = false;
    let web = Shipper::new(&shop, "web-1", 0);
    web.lines(0..100).await;
    let running = shop.start().await;
    until("both partitions are ours", || running.handle.partitions().len() == 2).await;
    running.stop().await;
    // Nothing was read yet; what comes meanwhile is not left out.
    web.lines(100..200).await;
    let running = shop.start().await;
    counted_lines(&running.handle, 100).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(100..200), 0));
}

#[tokio::test]
async fn what_is_no_line_is_a_dead_letter_with_its_record() {
    let shop = shop().await;
    let web = Shipper::new(&shop, "web-1", 0);
    let at = Timestamp::from_seconds(1_794_355_200);
    let raw = |value: &'static [u8]| NewRecord::to_partition(0, Bytes::from_static(value), at);
    let tombstone = NewRecord { value: None, ..raw(b"") };
    web.ship(vec![
        tombstone,
        raw(b""),
        raw(b"\xff\xfe"),
        raw(b"[1,2]"),
        raw(br#"{"message": 5, "log": {}}"#),
        raw(br#"{"@timestamp": "x", "log": {"offset": 1}}"#),
        web.record(7, "no line at all"),
        web.record(8, &line(1, 1).replace("2026-11-11", "2028-11-11")),
        // Any shipper's bare line.
        NewRecord::to_partition(0, line(0, 0), at),
    ])
    .await;
    let running = shop.start().await;
    counted_lines(&running.handle, 9).await;
    let books = running.handle.accounting();
    assert_eq!((books.events, books.dead_total()), (1, 8));
    let letters = running.handle.dead_letters(20).await.unwrap();
    let future = letters.iter().find(|letter| letter.reason == DeadReason::Future).unwrap();
    assert_eq!((future.file.as_deref(), future.file_offset), (Some("web-1:/var/log/nginx/access.log"), Some(8)));
    assert_eq!((future.offset, future.wrapped), (7 * LINES_PER_RECORD, false));
    let wrong = letters.iter().find(|letter| letter.offset == 4 * LINES_PER_RECORD).unwrap();
    assert!(wrong.wrapped && wrong.bytes.starts_with(b"{\"message\": 5"));
    running.stop().await;
    let noted: usize = shop.dead().await.iter().map(|batch| batch.letters.len()).sum();
    assert_eq!(noted, 8);
}

/// The row "Kafka record, wrong key": whatever the key is, and whichever partition it would belong to, the record is
/// read where it lies, once.
#[tokio::test]
async fn a_records_key_means_nothing() {
    let shop = shop().await;
    let web = Shipper::new(&shop, "web-1", 0);
    let keys: [Option<&'static [u8]>; 5] = [None, Some(b""), Some(b"web-2"), Some(b"\xff\x00"), Some(&[b'k'; 4096])];
    let records = keys.iter().enumerate().map(|(n, key)| {
        let n = n as u64;
        NewRecord { key: key.map(Bytes::from_static), ..web.record(n * 300, &line(n % 7, n)) }
    });
    web.ship(records.collect()).await;
    // The same lines again under other keys, one partition: repeats by file and offset.
    web.lines(0..5).await;
    let running = shop.start().await;
    counted_lines(&running.handle, 10).await;
    assert_eq!(running.handle.accounting().repeats, 5);
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..5), 0));
}

/// Shippers that send several lines as one record, an array: each line ends by itself, and is told from its repeats.
#[tokio::test]
async fn each_line_of_a_list_ends_by_itself() {
    let shop = shop().await;
    let web = Shipper::new(&shop, "web-1", 0);
    let one = |n: u64| String::from_utf8(web.record(n * 300, &line(n % 7, n)).value.unwrap().to_vec()).unwrap();
    let list = |parts: Vec<String>| {
        NewRecord::to_partition(0, format!("[{}]", parts.join(",\n ")), Timestamp::from_seconds(1_794_355_200))
    };
    let broken = |value: String| NewRecord::to_partition(0, value, Timestamp::from_seconds(1_794_355_200));
    web.ship(vec![
        list((0..100).map(one).collect()),
        // Alone, then the same again in a list with new ones, rubbish among them.
        web.record(100 * 300, &line(100 % 7, 100)),
        list((99..200).map(one).chain(["5".to_owned(), r#"{"message":7,"log":{}}"#.to_owned()]).collect()),
        // Not JSON as a whole: nobody knows where its records end.
        broken(format!("[{},{}", one(200), one(201))),
        broken(format!("[{}{{}}]", "{},".repeat(MAX_RECORDS))),
        list((200..300).map(one).collect()),
    ])
    .await;
    let running = shop.start().await;
    counted_lines(&running.handle, 100 + 1 + 103 + 1 + 1 + 100).await;
    let books = running.handle.accounting();
    assert_eq!((books.events, books.repeats), (300, 2));
    let dead = |reason| books.dead.get(&reason).copied();
    assert_eq!(books.dead_total(), 4);
    assert_eq!((dead(DeadReason::Truncated), dead(DeadReason::Array)), (Some(1), Some(1)));
    assert_eq!((dead(DeadReason::WrongType), dead(DeadReason::MissingField)), (Some(1), Some(1)));
    // Each has a place of its own: the record's, and which of its lines it was.
    let letters = running.handle.dead_letters(20).await.unwrap();
    let wrong = letters.iter().find(|letter| letter.reason == DeadReason::WrongType).unwrap();
    assert_eq!((wrong.offset, &wrong.bytes[..]), (2 * LINES_PER_RECORD + 102, r#"{"message":7,"log":{}}"#.as_bytes()));
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..300), 0));
}

/// The same lists, the collector dying between publish and commit: the same lines under the same places.
#[tokio::test]
async fn a_death_among_lists_counts_no_line_twice() {
    let shop = shop().await;
    let web = Shipper::new(&shop, "web-1", 0);
    let list = |from: u64| {
        let parts: Vec<_> = (from..from + 50).map(|n| web.record(n * 300, &line(n % 7, n)).value.unwrap()).collect();
        let text: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        NewRecord::to_partition(0, format!("[{}]", text.join(",")), Timestamp::from_seconds(1_794_355_200))
    };
    let mut written = 0;
    for life in 0..4 {
        web.ship((0..40).map(|n| list(written + n * 50)).collect()).await;
        written += 2_000;
        let log = Faulty::new(shop.log.clone(), life);
        let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
        until("it dies", || {
            log.appends_left.load(Ordering::SeqCst) == u32::MAX || running.handle.accounting().lines == written
        })
        .await;
        running.stop.cancel();
        let _ = running.task.await;
    }
    let running = shop.start().await;
    counted_lines(&running.handle, written).await;
    running.stop().await;
    let (views, repeats) = shop.counted().await;
    assert_eq!(views, expected(0..written));
    assert!(repeats > 0, "a death has struck");
}

#[tokio::test]
async fn members_share_the_partitions_and_take_over_from_each_other() {
    let shop = shop().await;
    let mut second = Shop { log: shop.log.clone(), ..Shop::new() };
    second.options.source = Source::AccessLog;
    let (one, two) = (Shipper::new(&shop, "web-1", 0), Shipper::new(&shop, "web-2", 1));
    let first = shop.start().await;
    let mut written = 0;
    let books = |members: &[&Running]| members.iter().map(|m| m.handle.accounting().lines).sum::<u64>();
    for _ in 0..3 {
        one.lines(written..written + 700).await;
        let member = second.start().await;
        two.lines(written..written + 700).await;
        until("each has a partition", || member.handle.partitions().len() == 1 && first.handle.partitions().len() == 1)
            .await;
        one.lines(written + 600..written + 1_000).await;
        two.lines(written + 600..written + 1_000).await;
        written += 1_000;
        until("everything is read", || books(&[&first, &member]) >= written / 1_000 * 2_200).await;
        member.stop().await;
        until("it has both again", || first.handle.partitions().len() == 2).await;
    }
    assert!(first.handle.accounting().adds_up());
    first.stop().await;
    let twice: BTreeMap<_, _> = expected(0..written).into_iter().map(|(page, views)| (page, 2 * views)).collect();
    assert_eq!(shop.counted().await.0, twice);
}

/// A log that dies after an append, or refuses while told to.
struct Faulty {
    inner: MemoryLog,
    appends_left: AtomicU32,
    refusing: AtomicBool,
    refused: AtomicU32,
}

impl Faulty {
    fn new(inner: MemoryLog, appends_left: u32) -> Arc<Self> {
        let (refusing, refused) = (AtomicBool::new(false), AtomicU32::new(0));
        Arc::new(Self { inner, appends_left: AtomicU32::new(appends_left), refusing, refused })
    }
}

#[async_trait]
impl EventLog for Faulty {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
        self.inner.ensure_topic(spec).await
    }
    async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        self.inner.partitions(topic).await
    }
    async fn append(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Position>, EventLogError> {
        if self.refusing.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(EventLogError::Unavailable("away".to_owned()));
        }
        let left = self.appends_left.load(Ordering::SeqCst);
        self.appends_left.store(left.wrapping_sub(1), Ordering::SeqCst);
        let positions = self.inner.append(topic, records).await?;
        if left == 0 { Err(EventLogError::Closed) } else { Ok(positions) }
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
async fn a_death_between_publish_and_commit_repeats_the_same_places() {
    let shop = shop().await;
    let web = Shipper::new(&shop, "web-1", 0);
    let mut written = 0;
    for life in 0..5 {
        web.lines(written..written + 3_000).await;
        written += 3_000;
        let log = Faulty::new(shop.log.clone(), life);
        let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
        until("it dies", || {
            log.appends_left.load(Ordering::SeqCst) == u32::MAX || running.handle.accounting().lines == written
        })
        .await;
        running.stop.cancel();
        let _ = running.task.await;
    }
    let running = shop.start().await;
    counted_lines(&running.handle, written).await;
    running.stop().await;
    let (views, repeats) = shop.counted().await;
    assert_eq!(views, expected(0..written));
    assert!(repeats > 0, "a death has struck");

    // Another machine takes over from one that died so: the same names, so that the repeats are known.
    web.lines(written..written + 3_000).await;
    let log = Faulty::new(shop.log.clone(), 0);
    let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
    until("it dies", || log.appends_left.load(Ordering::SeqCst) == u32::MAX).await;
    let _ = running.task.await;
    let mut other = Shop { log: shop.log.clone(), ..Shop::new() };
    other.options.source = Source::AccessLog;
    let running = other.start().await;
    counted_lines(&running.handle, 3_000).await;
    running.stop().await;
    let (views, more) = shop.counted().await;
    assert_eq!(views, expected(0..written + 3_000));
    assert!(more > repeats);
}

#[tokio::test]
async fn a_topic_made_anew_is_recognised_and_nothing_of_it_is_taken_for_a_repeat() {
    // Shorter than the one before, as long, longer: by its end, or by the record where the last one ended.
    for again in [300, 1_000, 2_500] {
        let mut shop = shop().await;
        let web = Shipper::new(&shop, "web-1", 0);
        web.lines(0..1_000).await;
        let running = shop.start().await;
        counted_lines(&running.handle, 1_000).await;
        let before = running.handle.partitions()[0].source.clone();
        running.stop().await;
        let first = shop.counted().await;
        assert_eq!(first.0, expected(0..1_000));

        shop.log = MemoryLog::new();
        make_topic(&shop.log).await;
        let web = Shipper::new(&shop, "web-1", 0);
        web.lines(5_000..5_000 + again).await;
        let running = shop.start().await;
        counted_lines(&running.handle, 1_000 + again).await;
        assert_ne!(running.handle.partitions()[0].source, before, "a name of its own");
        running.stop().await;
        assert_eq!(shop.counted().await, (expected(5_000..5_000 + again), 0), "{again} lines");
    }
}

#[tokio::test]
async fn a_log_that_takes_nothing_holds_the_reader_back() {
    let shop = shop().await;
    let web = Shipper::new(&shop, "web-1", 0);
    web.lines(0..20_000).await;
    let log = Faulty::new(shop.log.clone(), u32::MAX);
    log.refusing.store(true, Ordering::SeqCst);
    let running = shop.start_with(log.clone(), Arc::new(SystemClock::new())).await;
    until("it was refused a few times", || log.refused.load(Ordering::SeqCst) > 3).await;
    assert_eq!(running.handle.accounting().lines, 0, "nothing is counted before it is published");
    let partition = TopicPartition { topic: access_log(), partition: 0 };
    let group = Group::new(Options::default().group).unwrap();
    assert!(shop.log.committed(&group, &partition).await.unwrap().is_none_or(|next| next == 0));
    log.refusing.store(false, Ordering::SeqCst);
    counted_lines(&running.handle, 20_000).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..20_000), 0));
}

#[tokio::test]
async fn files_and_the_topic_are_read_in_turn() {
    let mut shop = shop().await;
    shop.options.source = Source::Both;
    shop.append("access.log", &common::lines(0..5_000));
    Shipper::new(&shop, "web-1", 1).lines(5_000..10_000).await;
    let running = shop.start().await;
    counted_lines(&running.handle, 10_000).await;
    until("nothing is left", || running.handle.caught_up()).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..10_000), 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Good lines, lines of other pages, rubbish, records that are none and repeats, in any order, with the
    /// collector stopped anywhere in between: each line ends once, and the books say how.
    #[test]
    fn every_record_ends_exactly_once(
        records in proptest::collection::vec((0..5u8, 0..40u64), 1..200),
        stop_after in 0..200usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shop = shop().await;
            let web = Shipper::new(&shop, "web-1", 0);
            let mut seen = std::collections::BTreeSet::new();
            let (mut events, mut filtered, mut dead, mut repeats) = (0, 0, 0, 0);
            let made: Vec<_> = records.iter().map(|(kind, number)| {
                let message = match kind {
                    0 | 1 => line(number % 7, *number),
                    2 => line(1, *number).replace("/product/", "/about/"),
                    _ => format!("rubbish {number}"),
                };
                if *kind == 4 {
                    dead += 1;
                    return NewRecord::to_partition(0, format!("{{\"message\":{number}}}"), Timestamp::from_seconds(1));
                }
                let offset = number * 300;
                if !seen.insert((offset, message.clone())) {
                    repeats += 1;
                } else {
                    *(match kind { 0 | 1 => &mut events, 2 => &mut filtered, _ => &mut dead }) += 1;
                }
                web.record(offset, &message)
            }).collect();
            let (before, behind) = made.split_at(stop_after.min(made.len()));
            web.ship(before.to_vec()).await;
            let running = shop.start().await;
            counted_lines(&running.handle, before.len() as u64).await;
            running.stop().await;
            web.ship(behind.to_vec()).await;
            let running = shop.start().await;
            counted_lines(&running.handle, made.len() as u64).await;
            let books = running.handle.accounting();
            running.stop().await;
            assert_eq!(
                (books.events, books.filtered_total(), books.dead_total(), books.repeats),
                (events, filtered, dead, repeats)
            );
            let (views, doubled) = shop.counted().await;
            assert_eq!((views.values().sum::<u64>(), doubled), (events, 0));
        });
    }
}
