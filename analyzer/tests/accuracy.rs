//! Precision and recall against a brute force that reads the raw lines without our parser: seeded Zipf streams of many
//! skews, with a hot set that moves and ties at the threshold, written as an access log; `real_logs.rs` has the real
//! ones. Both are 1.000 or the test fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::Arc;

use analyzer::Options;
use analyzer::analysis::Analysis;
use analyzer::live::LiveHeat;
use eventlog::{Record, Topic, partition_for};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use types::{AccessEvent, EventBatch, EventKind, PageId, Timestamp, VisitorHash, codec};

const SECONDS: i64 = 150;
const RATE: usize = 150;
const PAGES: usize = 3000;

/// Lines of an access log: page ids by Zipf's law with this exponent. Every thirty seconds the popular pages are others.
fn lines(skew: f64, seed: u64) -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut sums = Vec::with_capacity(PAGES);
    let mut sum = 0.0;
    for rank in 1..=PAGES {
        sum += 1.0 / (rank as f64).powf(skew);
        sums.push(sum);
    }
    let mut lines = Vec::new();
    for second in 0..SECONDS {
        for _ in 0..RATE {
            let at = random.random::<f64>() * sum;
            let rank = sums.partition_point(|s| *s < at);
            let page = (rank + (second / 30) as usize * 977) % PAGES;
            lines.push(format!(
                r#"10.0.0.{} - - [11/Nov/2026:00:{:02}:{:02} +0000] "GET /product/{page} HTTP/1.1" 200 5 "-" "Mozilla/5.0""#,
                random.random_range(1..250),
                second / 60,
                second % 60,
            ));
        }
    }
    lines
}

/// By the raw line alone: the second and the page.
fn raw(line: &str) -> (i64, &str) {
    let time = line.split_once('[').unwrap().1;
    let number = |from: usize| time[from..from + 2].parse::<i64>().unwrap();
    let page = line.split_once("/product/").unwrap().1.split_once(' ').unwrap().0;
    (number(12) * 3600 + number(15) * 60 + number(18), page)
}

#[test]
fn precision_and_recall_are_one_on_zipf_streams_at_one_four_and_eight_partitions() {
    let midnight = "2026-11-11T00:00:00Z".parse::<Timestamp>().unwrap();
    let options = Options { hot_floor: 0.0, warm_floor: 0.0, visitor_cap: 0, ..Options::default() };
    let (mut windows, mut hits, mut ties) = (0u64, 0u64, 0u64);
    for (skew, seed) in [(0.6, 11), (0.8, 12), (1.0, 13), (1.2, 14), (1.4, 15)] {
        println!("skew {skew}, seed {seed}");
        let lines = lines(skew, seed);
        let mut by_second: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        lines.iter().map(|line| raw(line)).for_each(|(second, page)| by_second.entry(second).or_default().push(page));
        for partitions in [1u32, 4, 8] {
            let mut analysis = Analysis::new(&options, Arc::new(LiveHeat::default()), "one", partitions, 1).unwrap();
            let now = midnight;
            for partition in 0..partitions {
                analysis.assign(partition, None, 0, now);
            }
            let topic = Topic::new("product-events").unwrap();
            for (n, some) in lines.chunks(RATE * 3).enumerate() {
                let mut batches: BTreeMap<u32, Vec<AccessEvent>> = BTreeMap::new();
                for (at, line) in some.iter().enumerate() {
                    let (second, page) = raw(line);
                    batches.entry(partition_for(page.as_bytes(), partitions)).or_default().push(AccessEvent {
                        page: PageId::new(page).unwrap(),
                        kind: EventKind::View,
                        visitor: VisitorHash(at as u64),
                        status: 200,
                        at: midnight.plus(std::time::Duration::from_secs(second as u64)),
                        offset: (n * 10_000 + at) as u64 + 1,
                    });
                }
                for (partition, events) in batches {
                    let value = codec::encode(&EventBatch { source: "log".to_owned(), events }).unwrap();
                    let record = Record {
                        topic: topic.clone(),
                        partition,
                        offset: n as u64,
                        key: None,
                        value: Some(value.into()),
                        headers: Vec::new(),
                        at: Timestamp::default(),
                    };
                    analysis.take(&[record], now);
                    analysis.kept(now);
                }
            }
            let finals: Vec<_> = analysis.outbox().iter().filter(|r| r.is_final).cloned().collect();
            assert!(finals.len() as i64 > SECONDS - 10, "{} windows at {partitions} partitions", finals.len());
            for report in finals {
                let end = report.window_end.second() - midnight.second();
                let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
                by_second.range(end - 60..end).flat_map(|(_, p)| p).for_each(|p| *counts.entry(*p).or_insert(0) += 1);
                let k = counts.len().div_ceil(100);
                let mut sorted: Vec<u64> = counts.values().copied().collect();
                sorted.sort_unstable_by(|a, b| b.cmp(a));
                let threshold = sorted[k - 1];
                let hot: BTreeMap<&str, u64> = counts.into_iter().filter(|(_, c)| *c >= threshold).collect();
                let got: BTreeMap<&str, u64> = report.hot.iter().map(|p| (p.page.as_str(), p.count)).collect();
                assert_eq!(got, hot, "skew {skew}, {partitions} partitions, window that ends at {end} s");
                assert_eq!((report.k, report.thresholds.hot60), (k as u64, threshold));
                windows += 1;
                hits += got.len() as u64;
                ties += u64::from(got.len() > k);
            }
        }
    }
    println!("{windows} windows, {hits} hot pages: precision 1.000, recall 1.000; ties at the threshold in {ties}");
    assert!(ties > 100, "the streams have ties at the threshold: {ties}");
}
