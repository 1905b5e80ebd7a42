//! One to three analyzers of one group share the partitions of a log; each is killed at random, another takes its
//! partitions over, and every final window is what a recount of the events says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eventlog::kafka::KafkaLogOptions;
use eventlog::{EventLog, KafkaLog, MemoryLog, SqliteLog, SqliteLogOptions};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use testkit::servers::Kafka;
use types::{AccessEvent, Clock, HeatReport, PageId, SystemClock, Timestamp};

use crate::{Fast, GIVE_UP, Reports, Running, append, ready, start_on, views};

type Window = BTreeMap<PageId, u64>;

/// The hot pages of each final window, of all members together; the lines of a window are the same whoever draws them.
fn finals(reports: &[HeatReport]) -> BTreeMap<i64, Window> {
    let (mut finals, mut lines) = (BTreeMap::<i64, Window>::new(), BTreeMap::new());
    for report in reports.iter().filter(|r| r.is_final) {
        let end = report.window_end.second();
        let line = (report.active, report.k, report.thresholds.hot60, report.total);
        assert_eq!(*lines.entry(end).or_insert(line), line, "the lines of {end}, drawn twice, differ");
        let window = finals.entry(end).or_default();
        for hot in &report.hot {
            let before = window.insert(hot.page.clone(), hot.count);
            assert!(before.is_none_or(|before| before == hot.count), "published twice, but not the same: {end}");
        }
    }
    finals
}

fn recount(events: &[AccessEvent], end: i64) -> Window {
    let mut counts = Window::new();
    events
        .iter()
        .filter(|e| (end - 60..end).contains(&e.at.second()))
        .for_each(|e| *counts.entry(e.page.clone()).or_insert(0) += 1);
    let mut sorted: Vec<u64> = counts.values().copied().collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let least = if sorted.is_empty() { 0 } else { sorted[sorted.len().div_ceil(100) - 1].max(12) };
    counts.retain(|_, count| *count >= least);
    counts
}

async fn killed_again_and_again(log: Arc<dyn EventLog>, members: usize, seed: u64) {
    println!("seed {seed}, {members} analyzers");
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    ready(&*log).await;
    let mut reports = Reports::of(&log).await;
    // 2019, so that nothing can be right only because it is compared with the machine's clock.
    let (begin, mut line, mut events) = (Timestamp::from_seconds(1_548_000_000), 0, Vec::new());
    let clock = Fast::new();
    // While lines come nobody is silent, however busy the machine is.
    clock.hold();
    let shared = || Arc::clone(&clock) as Arc<dyn Clock>;
    let mut running: Vec<Running> = Vec::new();
    for _ in 0..members {
        running.push(start_on(&log, shared(), true).await);
    }
    for part in 0..5 {
        let more = views(random, begin.plus(Duration::from_secs(part * 20)), 20, &mut line);
        append(&*log, &more).await;
        events.extend(more);
        // Killed as soon as a random part of what came so far is final: at times in the middle of a write.
        let reached = begin.second() + (part as i64 * 20 + random.random_range(1..18)).max(1);
        reports.until("a final window", |all| all.iter().any(|r| r.is_final && r.window_end.second() >= reached)).await;
        let (_, _, killed) = running.swap_remove(random.random_range(0..members));
        killed.abort();
        let _ = killed.await;
        running.push(start_on(&log, shared(), true).await);
    }
    clock.release();
    let last = events.iter().map(|e| e.at.second()).max().unwrap();
    let expected: BTreeMap<i64, Window> =
        (begin.second() + 1..=last + 60).map(|end| (end, recount(&events, end))).collect();
    let wanted = |all: &[HeatReport]| {
        let finals = finals(all);
        expected.iter().all(|(end, window)| finals.get(end) == Some(window))
    };
    if tokio::time::timeout(GIVE_UP, reports.until("every window", wanted)).await.is_err() {
        println!("not every window came");
    }
    let finals = finals(&reports.all);
    for (end, window) in &expected {
        assert_eq!(finals.get(end), Some(window), "window that ends at {end}");
    }
    for (_, stop, running) in running {
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_on_the_log_in_memory() {
    for (members, seed) in [(1, 1), (2, 2), (3, 3)] {
        killed_again_and_again(Arc::new(MemoryLog::new()), members, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    for (members, seed) in [(1, 4), (2, 5)] {
        let path = folder.path().join(format!("log-{seed}.db"));
        let log = SqliteLog::open(&path, SqliteLogOptions::default()).unwrap();
        killed_again_and_again(Arc::new(log), members, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_on_kafka() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("analyzer-group-{}", std::process::id()));
    for (members, seed) in [(1, 6), (3, 7)] {
        let broker = Kafka::start(&folder).unwrap();
        let options = KafkaLogOptions { bootstrap: vec![broker.bootstrap()], ..KafkaLogOptions::default() };
        let log = KafkaLog::connect(options, Arc::new(SystemClock::new())).unwrap();
        killed_again_and_again(Arc::new(log), members, seed).await;
        drop(broker);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
