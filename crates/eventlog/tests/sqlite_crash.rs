//! What the sqlite provider acknowledged is there after `kill -9`, at whatever moment it came.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use eventlog::{
    EventLog, Group, NewRecord, Polled, Progress, Retention, SqliteLog, SqliteLogOptions, Start, Subscription, Topic,
    TopicSpec,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use types::Timestamp;

/// Where the child of the kill test finds its log; absent in an ordinary run.
const CHILD: &str = "EVENTLOG_CRASH_CHILD";
const PRODUCERS: usize = 4;
const PARTITIONS: u32 = 3;

fn topic() -> Topic {
    Topic::new("crash").unwrap()
}

fn group() -> Group {
    Group::new("reader").unwrap()
}

fn subscription() -> Subscription {
    Subscription { group: group(), topics: vec![topic()], start: Start::Earliest }
}

/// Tells the parent; a line is whole or, at the moment of the kill, without its end.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: the child that is killed. Appends without end and tells what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the kill test"]
async fn child_that_appends_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let log = SqliteLog::open(&path, SqliteLogOptions::default()).unwrap();
    let spec =
        TopicSpec { topic: topic(), partitions: PARTITIONS, retention: Retention::Time(Duration::from_secs(86_400)) };
    log.ensure_topic(&spec).await.unwrap();
    let mut consumer = log.subscribe(subscription()).await.unwrap();
    for producer in 0..PRODUCERS {
        let log = log.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let size = 1 + (number * 7 + producer) % 40;
                let value = |i: usize| format!("{producer}/{number}/{i}");
                let records = (0..size)
                    .map(|i| NewRecord::to_partition(i as u32 % PARTITIONS, value(i), Timestamp::default()))
                    .collect();
                let positions = log.append(&topic(), records).await.unwrap();
                let lines: Vec<String> = positions
                    .iter()
                    .enumerate()
                    .map(|(i, p)| format!("acked {} {} {}", p.partition, p.offset, value(i)))
                    .collect();
                tell(&lines.join("\n"));
            }
        });
    }
    loop {
        if let Polled::Records(records) = consumer.poll(50, Duration::from_secs(1)).await.unwrap() {
            let last: BTreeMap<_, _> = records.iter().map(|r| (r.topic_partition(), r.offset + 1)).collect();
            for (partition, next) in last {
                let line = format!("committed {} {next} -", partition.partition);
                consumer.commit(&[Progress { partition, next }]).await.unwrap();
                tell(&line);
            }
        }
    }
}

/// Runs the child, kills it after `lines` lines, and adds what it told to what was told before.
fn run_and_kill(
    path: &Path,
    lines: usize,
    told: &mut BTreeMap<(u32, u64), String>,
    committed: &mut BTreeMap<u32, u64>,
) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends_until_it_is_killed", "--ignored", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut count = 0;
    let mut line = String::new();
    while out.read_line(&mut line).unwrap() > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), line.ends_with('\n')) {
            (["acked", partition, offset, value], true) => {
                let position = (partition.parse().unwrap(), offset.parse().unwrap());
                let before = told.insert(position, (*value).to_owned());
                assert_eq!(before, None, "position {position:?} was given before the kill and again after it");
                count += 1;
            }
            (["committed", partition, next, "-"], true) => {
                committed.insert(partition.parse().unwrap(), next.parse().unwrap());
                count += 1;
            }
            // The test harness's own lines, and a last line that the kill cut off.
            _ => {}
        }
        line.clear();
        if count == lines {
            // SIGKILL; what the pipe still holds was told before it, and is read on.
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(count >= lines, "the child ended by itself: {status}");
}

#[tokio::test]
async fn every_acknowledged_record_is_there_after_a_kill() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_111);
    eprintln!("SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let (mut told, mut committed) = (BTreeMap::new(), BTreeMap::new());
    for round in 0..6 {
        run_and_kill(&path, random.random_range(1..4_000), &mut told, &mut committed);
        // The lock of the killed process is gone, and so is every half-written transaction.
        let log = SqliteLog::open(&path, SqliteLogOptions::default()).unwrap();
        let mut all = read_all(&log).await;
        for (position, value) in &told {
            assert_eq!(all.remove(position).as_ref(), Some(value), "round {round}: {position:?} was acknowledged");
        }
        // What is left was written but not acknowledged before the kill; each append is there as a whole.
        let unacknowledged: BTreeSet<String> = all.values().cloned().collect();
        for value in &unacknowledged {
            let (append, _) = value.rsplit_once('/').unwrap();
            let first = format!("{append}/0");
            assert!(unacknowledged.contains(&first) || told.values().any(|v| *v == first), "{append} is torn");
        }
        told.extend(all);
        for (partition, next) in &committed {
            let partition = eventlog::TopicPartition { topic: topic(), partition: *partition };
            let kept = log.committed(&group(), &partition).await.unwrap().unwrap();
            assert!(kept >= *next, "round {round}: {partition:?} was committed up to {next}, is at {kept}");
        }
    }
    eprintln!("{} records acknowledged", told.len());
}

async fn read_all(log: &SqliteLog) -> BTreeMap<(u32, u64), String> {
    let group = Group::new("check").unwrap();
    let mut consumer = log.subscribe(Subscription { group, ..subscription() }).await.unwrap();
    let mut all = BTreeMap::new();
    loop {
        match consumer.poll(10_000, Duration::ZERO).await.unwrap() {
            Polled::Records(records) => all.extend(
                records
                    .into_iter()
                    .map(|r| ((r.partition, r.offset), String::from_utf8(r.value.unwrap().to_vec()).unwrap())),
            ),
            Polled::Idle => return all,
            _ => {}
        }
    }
}

/// The file serves one process: a second one is told so, and gets it when the first was killed.
#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends_until_it_is_killed", "--ignored", "--nocapture"])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("acked") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the child ended by itself");
    }
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let error = SqliteLog::open(&path, SqliteLogOptions::default()).err().unwrap();
    assert!(error.to_string().contains("open in another process"), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    SqliteLog::open(&path, SqliteLogOptions::default()).unwrap();
}
