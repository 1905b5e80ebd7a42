//! What is the sqlite provider's own: its file, its failures, its cleaning, its speed.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Polled, Record, Retention, SqliteLog, SqliteLogOptions, Start,
    Subscription, Topic, TopicPartition, TopicSpec,
};
use rusqlite::Connection;
use tempfile::TempDir;
use types::{ManualClock, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

fn topic() -> Topic {
    Topic::new("t").unwrap()
}

fn spec(partitions: u32, retention: Retention) -> TopicSpec {
    TopicSpec { topic: topic(), partitions, retention }
}

fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(), partition }
}

fn value(text: &str) -> NewRecord {
    NewRecord::to_partition(0, text.to_owned(), Timestamp::default())
}

struct Place {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_794_000_000)));
        Self { folder: tempfile::tempdir().unwrap(), clock }
    }
    fn path(&self) -> PathBuf {
        self.folder.path().join("deep/er/log.db")
    }
    fn open(&self) -> SqliteLog {
        self.open_with(SqliteLogOptions::default())
    }
    fn open_with(&self, options: SqliteLogOptions) -> SqliteLog {
        SqliteLog::open_with_clock(&self.path(), options, self.clock.clone()).unwrap()
    }
    /// Looks into the file beside the log.
    fn db(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
    fn count(&self, table: &str) -> i64 {
        self.db().query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0)).unwrap()
    }
}

async fn member(log: &SqliteLog, group: &str) -> Box<dyn Consumer> {
    let group = Group::new(group).unwrap();
    log.subscribe(Subscription { group, topics: vec![topic()], start: Start::Earliest }).await.unwrap()
}

async fn read_all(consumer: &mut dyn Consumer) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        match consumer.poll(1_000, Duration::ZERO).await.unwrap() {
            Polled::Records(records) => all.extend(records),
            Polled::Idle => return all,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_closed_log_says_so_everywhere_and_wakes_who_waits() {
    let place = Place::new();
    let log = place.open();
    log.ensure_topic(&spec(1, Retention::Time(DAY))).await.unwrap();
    log.append(&topic(), vec![value("a")]).await.unwrap();
    let mut waiting = member(&log, "waiting").await;
    let mut polling = member(&log, "polling").await;
    assert_eq!(read_all(&mut *polling).await.len(), 1);
    let polling = tokio::spawn(async move { polling.poll(1, Duration::from_secs(3600)).await });
    tokio::task::yield_now().await;
    log.close().await;
    assert!(matches!(polling.await.unwrap(), Err(EventLogError::Closed)));
    assert!(matches!(waiting.poll(1, Duration::ZERO).await, Err(EventLogError::Closed)));
    assert!(matches!(waiting.commit(&[]).await, Err(EventLogError::Closed)));
    assert!(matches!(log.append(&topic(), vec![value("b")]).await, Err(EventLogError::Closed)));
    assert!(matches!(log.committed(&Group::new("g").unwrap(), &partition(0)).await, Err(EventLogError::Closed)));
    log.close().await;
    // Closed means let go, although `log` and the consumers are still there.
    let again = place.open();
    assert_eq!(again.end_offset(&partition(0)).await.unwrap(), 1);
}

#[tokio::test]
async fn appends_that_wait_when_the_log_closes_are_answered() {
    let place = Place::new();
    let log = place.open();
    log.ensure_topic(&spec(1, Retention::Time(DAY))).await.unwrap();
    let appends: Vec<_> = (0..200)
        .map(|i| {
            let log = log.clone();
            tokio::spawn(async move { log.append(&topic(), vec![value(&i.to_string())]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    log.close().await;
    let mut acknowledged = 0;
    for append in appends {
        match append.await.unwrap() {
            Ok(_) => acknowledged += 1,
            Err(error) => assert!(matches!(error, EventLogError::Closed), "{error:?}"),
        }
    }
    assert!(place.open().end_offset(&partition(0)).await.unwrap() >= acknowledged);
}

#[tokio::test]
async fn a_failed_transaction_is_answered_and_leaves_no_hole() {
    let place = Place::new();
    let log = place.open();
    log.ensure_topic(&spec(1, Retention::Time(DAY))).await.unwrap();
    log.append(&topic(), vec![value("before")]).await.unwrap();
    // Stands for a full disk: the third insert fails.
    let trigger = "CREATE TRIGGER full BEFORE INSERT ON records WHEN NEW.value = CAST('bad' AS BLOB)
                   BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    place.db().execute_batch(trigger).unwrap();
    let error = log.append(&topic(), vec![value("x"), value("y"), value("bad")]).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    assert_eq!(log.end_offset(&partition(0)).await.unwrap(), 1);
    place.db().execute_batch("DROP TRIGGER full").unwrap();
    let positions = log.append(&topic(), vec![value("after"), value("bad")]).await.unwrap();
    assert_eq!(positions.iter().map(|p| p.offset).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(read_all(&mut *member(&log, "g").await).await.len(), 3);
}

#[tokio::test]
async fn a_foreign_file_is_left_alone() {
    let place = Place::new();
    let path = place.path();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    place.db().execute_batch("CREATE TABLE orders (id INTEGER)").unwrap();
    let error = SqliteLog::open(&path, SqliteLogOptions::default()).err().unwrap();
    assert!(matches!(error, EventLogError::Refused(_)), "{error}");
    assert_eq!(place.count("orders"), 0, "still what it was");
    std::fs::write(&path, "not a database, but long enough to be looked at as one, says its header").unwrap();
    assert!(SqliteLog::open(&path, SqliteLogOptions::default()).is_err());
    let bad = SqliteLogOptions { readers: 0, ..SqliteLogOptions::default() };
    let error = SqliteLog::open(&path, bad).err().unwrap();
    assert!(error.to_string().contains("readers"), "{error}");
}

#[tokio::test]
async fn old_records_go_and_offsets_stay() {
    let place = Place::new();
    let options = SqliteLogOptions { clean_records: 10, ..SqliteLogOptions::default() };
    let log = place.open_with(options.clone());
    log.ensure_topic(&spec(2, Retention::Time(DAY))).await.unwrap();
    let batch = |name: &str, count: usize| (0..count).map(|i| value(&format!("{name}-{i}"))).collect::<Vec<_>>();
    log.append(&topic(), batch("old", 35)).await.unwrap();
    let mut slow = member(&log, "slow").await;
    slow.poll(1, Duration::ZERO).await.unwrap();
    let Polled::Records(first) = slow.poll(5, Duration::ZERO).await.unwrap() else { panic!("records") };
    place.clock.advance(DAY / 2);
    log.append(&topic(), batch("new", 7)).await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 42, "nothing is old yet");
    place.clock.advance(DAY / 2 + Duration::from_millis(1));
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 7);
    // A reader that was too slow goes on at the oldest that is kept.
    let rest = read_all(&mut *slow).await;
    assert_eq!((first.len(), rest.len(), rest[0].offset), (5, 7, 35));
    place.clock.advance(DAY * 2);
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 0);
    drop((slow, log));
    let log = place.open_with(options);
    let position = log.append(&topic(), vec![value("behind all")]).await.unwrap()[0];
    assert_eq!(position.offset, 42, "an offset is never given twice");
}

#[tokio::test]
async fn cleaning_goes_on_by_itself_until_all_is_clean() {
    let place = Place::new();
    let options =
        SqliteLogOptions { clean_every: Duration::from_millis(10), clean_records: 10, ..SqliteLogOptions::default() };
    let log = place.open_with(options);
    log.ensure_topic(&spec(1, Retention::Time(DAY))).await.unwrap();
    log.append(&topic(), (0..95).map(|i| value(&i.to_string())).collect()).await.unwrap();
    place.clock.advance(DAY * 2);
    let started = Instant::now();
    while place.count("records") > 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "{} records are left", place.count("records"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_cleaning_of_more_partitions_than_its_bound_ends() {
    let place = Place::new();
    let log = place.open_with(SqliteLogOptions { clean_records: 10, ..SqliteLogOptions::default() });
    log.ensure_topic(&spec(30, Retention::Time(DAY))).await.unwrap();
    let one_each = || (0..30).map(|p| NewRecord::to_partition(p, "r", Timestamp::default())).collect();
    log.append(&topic(), one_each()).await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 30);
    place.clock.advance(DAY * 2);
    log.append(&topic(), one_each()).await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 30);
}

#[tokio::test]
async fn compaction_keeps_one_value_per_key_and_forgets_the_buried() {
    let place = Place::new();
    let log = place.open_with(SqliteLogOptions { clean_records: 10, ..SqliteLogOptions::default() });
    log.ensure_topic(&spec(3, Retention::Compacted)).await.unwrap();
    let keyed =
        |key: usize, text: String| NewRecord::keyed(format!("key-{key}").into_bytes(), text, Timestamp::default());
    for round in 0..20 {
        let records = (0..30).map(|key| keyed(key, format!("{key} in {round}"))).collect();
        log.append(&topic(), records).await.unwrap();
    }
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 30);
    let tombstones = (0..10).map(|key| NewRecord { value: None, ..keyed(key, String::new()) }).collect();
    log.append(&topic(), tombstones).await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 30, "a tombstone is kept a while for who reads late");
    place.clock.advance(DAY + Duration::from_secs(1));
    log.clean().await.unwrap();
    assert_eq!((place.count("records"), place.count("newest")), (20, 20));
    let mut left = read_all(&mut *member(&log, "g").await).await;
    left.sort_by_key(|r| r.key.clone());
    let mut expected: Vec<String> = (10..30).map(|key| format!("{key} in 19")).collect();
    expected.sort();
    let mut found: Vec<String> =
        left.iter().map(|r| String::from_utf8(r.value.as_ref().unwrap().to_vec()).unwrap()).collect();
    found.sort();
    assert_eq!(found, expected);
    // A key that comes back after its burial lives.
    log.append(&topic(), vec![keyed(3, "again".to_owned())]).await.unwrap();
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 21);
}

#[tokio::test]
async fn another_retention_counts_from_the_next_start_on() {
    let place = Place::new();
    let log = place.open();
    log.ensure_topic(&spec(1, Retention::Time(DAY))).await.unwrap();
    log.append(&topic(), vec![value("a")]).await.unwrap();
    log.ensure_topic(&spec(1, Retention::Time(Duration::from_secs(1)))).await.unwrap();
    assert_eq!(log.end_offset(&partition(0)).await.unwrap(), 1);
    drop(log);
    let log = place.open();
    place.clock.advance(Duration::from_secs(2));
    log.clean().await.unwrap();
    assert_eq!(place.count("records"), 0);
}

/// Not a test: says how fast it is here. `cargo test -p eventlog --test sqlite_file -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn appended_records_per_second() {
    for (callers, batch, size) in
        [(1, 500, 200), (8, 500, 200), (64, 1, 200), (512, 1, 200), (64, 20, 200), (4, 10, 50_000)]
    {
        let place = Place::new();
        let log = place.open();
        log.ensure_topic(&spec(8, Retention::Time(DAY))).await.unwrap();
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let log = log.clone();
                tokio::spawn(async move {
                    let mut count = 0;
                    let mut slowest = Duration::ZERO;
                    while started.elapsed() < Duration::from_secs(3) {
                        let record = |i| {
                            NewRecord::keyed(
                                format!("{caller}/{count}/{i}").into_bytes(),
                                vec![7; size],
                                Timestamp::default(),
                            )
                        };
                        let called = Instant::now();
                        count += log.append(&topic(), (0..batch).map(record).collect()).await.unwrap().len();
                        slowest = slowest.max(called.elapsed());
                    }
                    (count, slowest)
                })
            })
            .collect();
        let (mut count, mut slowest) = (0, Duration::ZERO);
        for task in tasks {
            let (n, s) = task.await.unwrap();
            (count, slowest) = (count + n, slowest.max(s));
        }
        let rate = count as f64 / started.elapsed().as_secs_f64();
        let reading = Instant::now();
        let read = read_all(&mut *member(&log, "g").await).await.len();
        let read_rate = read as f64 / reading.elapsed().as_secs_f64();
        eprintln!(
            "{callers} callers, {batch} x {size} B: {rate:.0} records/s, slowest append {slowest:?}; read {read_rate:.0}/s"
        );
    }
}
