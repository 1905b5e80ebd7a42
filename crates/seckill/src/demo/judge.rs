//! The demo's verdict on heat: final windows as the analyzer published them, against a recount of the raw
//! lines that shares neither the parser nor the counting.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use audit::heat::{BruteForce, Comparison, Rules, Window, compare};
use collector::Accounting;
use eventlog::{EventLog, Group, Polled, Start, Subscription, Topic, TopicPartition};
use types::{HeatReport, codec, topics};

/// Records of one poll.
const AT_ONCE: usize = 1_000;
/// How long one poll waits; the end is known by the offsets, not by the waiting.
const WAIT: Duration = Duration::from_millis(200);

/// Reads all final windows from the event log and compares them with a recount of the access log.
pub async fn heat(
    log: &Arc<dyn EventLog>,
    access_log: &Path,
    options: &analyzer::Options,
) -> anyhow::Result<Comparison> {
    let reported = final_windows(log).await?;
    let rules = Rules {
        view: options.weights.view.into(),
        cart: options.weights.cart.into(),
        attempt: options.weights.attempt.into(),
        per_visitor: options.visitor_cap.into(),
        floor: options.hot_floor,
        ..Rules::defaults(collector::classify::bot_tokens().iter().copied())
    };
    let path = access_log.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut recount = BruteForce::new(rules);
        recount.read(BufReader::new(File::open(&path).with_context(|| format!("cannot open {}", path.display()))?))?;
        Ok(compare(recount.windows(), &reported))
    })
    .await?
}

async fn final_windows(log: &Arc<dyn EventLog>) -> anyhow::Result<Vec<Window>> {
    let topic = Topic::new(topics::HEAT_REPORTS)?;
    let mut left = BTreeMap::new();
    for partition in 0..log.partitions(&topic).await? {
        let end = log.end_offset(&TopicPartition { topic: topic.clone(), partition }).await?;
        if end > 0 {
            left.insert(partition, end);
        }
    }
    // A group of its own that never commits: it reads from the beginning each time.
    let group = Group::new(format!("auditor-{:08x}", rand::random::<u32>()))?;
    let mut consumer = log.subscribe(Subscription { group, topics: vec![topic], start: Start::Earliest }).await?;
    let mut windows = Vec::new();
    let mut idle = 0;
    while !left.is_empty() && idle < 25 {
        match consumer.poll(AT_ONCE, WAIT).await? {
            Polled::Records(records) => {
                idle = 0;
                for record in records {
                    if left.get(&record.partition).is_some_and(|end| record.offset + 1 >= *end) {
                        left.remove(&record.partition);
                    }
                    let report: HeatReport = codec::decode(record.value.as_deref().unwrap_or_default())?;
                    if report.is_final {
                        windows.push(window(report));
                    }
                }
            }
            Polled::Idle => idle += 1,
            Polled::Assigned(_) | Polled::Revoked(_) => {}
        }
    }
    anyhow::ensure!(left.is_empty(), "the heat reports could not be read to their end");
    Ok(windows)
}

fn window(report: HeatReport) -> Window {
    Window {
        window_end: report.window_end.second(),
        active: report.active,
        k: report.k,
        // With nothing active there is no threshold, only the floor.
        threshold: if report.active == 0 { 0 } else { report.thresholds.hot60 },
        hot: report.hot.into_iter().map(|p| (p.page.to_string(), p.count)).collect(),
    }
}

/// How lines ended, by name.
pub fn fates(books: &Accounting) -> BTreeMap<String, u64> {
    let mut fates = BTreeMap::from([("event".to_owned(), books.events)]);
    fates.extend(books.filtered.iter().map(|(r, n)| (format!("filtered {r}"), *n)));
    fates.extend(books.dead.iter().map(|(r, n)| (format!("dead {r}"), *n)));
    if books.repeats > 0 {
        fates.insert("repeat".to_owned(), books.repeats);
    }
    fates
}
