//! A shop in a folder: its log, its collector, its event log, and what a reader of the events would count.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::{Collector, Error, Handle, Options};
use eventlog::{EventLog, Group, MemoryLog, Polled, Start, Subscription, Topic};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::access::DeadLetterBatch;
use types::{Clock, EventBatch, SystemClock, codec, topics};

pub struct Shop {
    pub folder: TempDir,
    pub log: MemoryLog,
    pub options: Options,
}

pub struct Running {
    pub handle: Handle,
    pub task: JoinHandle<Result<(), Error>>,
    pub stop: CancellationToken,
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// The edge's line of a view of `page`, with a visitor of its own.
pub fn line(page: u64, number: u64) -> String {
    format!(
        r#"{{"time":"2026-11-11T00:00:00.{:03}Z","remote_addr":"10.0.0.1","method":"GET","uri":"/product/{page}","status":200,"request_id":"{number}","visitor":"v{number}","user_agent":"Firefox"}}"#,
        number % 1000
    )
}

pub fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| line(n % 7, n) + "\n").collect()
}

/// Waits for a condition; the bound is only there so that a failure ends.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Shop {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            paths: vec![folder.path().join("access.log")],
            from_start: true,
            state_dir: folder.path().join("state"),
            partitions: 4,
            poll: Duration::from_millis(2),
            visitor_key: "a key that only this test knows".into(),
            ..Options::default()
        };
        Self { folder, log: MemoryLog::new(), options }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    pub fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }
    pub async fn start(&self) -> Running {
        self.start_with(Arc::new(self.log.clone()), Arc::new(SystemClock::new())).await
    }
    pub async fn start_with(&self, log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> Running {
        // A worker of the collector before may still hold the folder for a moment.
        let started = Instant::now();
        let collector = loop {
            match Collector::new(self.options.clone(), Arc::clone(&log), Arc::clone(&clock)).await {
                Ok(collector) => break collector,
                Err(error) if error.retryable() && started.elapsed() < Duration::from_secs(60) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let stop = CancellationToken::new();
        let handle = collector.handle();
        Running { handle, task: tokio::spawn(collector.run(stop.clone())), stop }
    }
    pub async fn records(&self, topic: &str) -> Vec<eventlog::Record> {
        static GROUPS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let group = GROUPS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let subscription = Subscription {
            group: Group::new(format!("reader-{group}")).unwrap(),
            topics: vec![Topic::new(topic).unwrap()],
            start: Start::Earliest,
        };
        let mut consumer = self.log.subscribe(subscription).await.unwrap();
        let mut all = Vec::new();
        loop {
            match consumer.poll(1_000, Duration::from_millis(50)).await.unwrap() {
                Polled::Records(records) => all.extend(records),
                Polled::Assigned(_) | Polled::Revoked(_) => {}
                Polled::Idle => return all,
            }
        }
    }
    /// Views per page as the analyzer counts them: repeats of a source's offset in a partition are dropped.
    /// Also answers how many repeats there were.
    pub async fn counted(&self) -> (BTreeMap<String, u64>, u64) {
        let mut seen: BTreeMap<(u32, String), u64> = BTreeMap::new();
        let mut views = BTreeMap::new();
        let mut repeats = 0;
        for record in self.records(topics::PRODUCT_EVENTS).await {
            let batch: EventBatch = product_events::decode(record.value.as_ref().unwrap()).unwrap();
            assert_eq!(record.header("source").unwrap(), batch.source.as_bytes());
            let mut within = None;
            for event in batch.events {
                assert!(within.is_none_or(|before| before < event.offset), "offsets rise within a record");
                within = Some(event.offset);
                assert_eq!(record.partition, eventlog::partition_for(event.page.as_str().as_bytes(), 4));
                let next = seen.entry((record.partition, batch.source.clone())).or_default();
                if event.offset < *next {
                    repeats += 1;
                    continue;
                }
                *next = event.offset + 1;
                *views.entry(event.page.to_string()).or_default() += 1;
            }
        }
        (views, repeats)
    }
    pub async fn dead(&self) -> Vec<DeadLetterBatch> {
        let records = self.records(topics::DEAD_LETTERS).await;
        records.iter().map(|record| codec::decode(record.value.as_ref().unwrap()).unwrap()).collect()
    }
}

/// What the views of [`lines`] come to.
pub fn expected(numbers: std::ops::Range<u64>) -> BTreeMap<String, u64> {
    let mut views = BTreeMap::new();
    for n in numbers {
        *views.entry((n % 7).to_string()).or_default() += 1;
    }
    views
}
