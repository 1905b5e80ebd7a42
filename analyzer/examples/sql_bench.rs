//! The figures of `script/bench sql`, one JSON line each: `top_products` over HTTP, an ad-hoc `GROUP BY` over five
//! million live events, a day of history beside DuckDB on the same files, and the engine's tick beside heavy queries.
//! It measures and checks nothing but that the answers are the right ones.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use analyzer::engine::{Engine, Rules};
use analyzer::history::{History, HistoryOptions};
use analyzer::sql::{SqlLimits, SqlOptions, router};
use analyzer::tables::{HeatRow, LiveTables, TopRow};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use types::{EventKind, ManualClock, Temperature, Timestamp};

const SEED: u64 = 11;
const BEGIN: i64 = 1_794_355_200;
/// Pages that the last minute has at full size, as in the comparison of `limits.md`.
const PAGES: u32 = 571_000;

struct Live {
    seconds: BTreeMap<i64, Vec<HeatRow>>,
    top: Vec<TopRow>,
}

impl LiveTables for Live {
    fn product_heat(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<HeatRow> {
        let (from, to) = (from.map_or(i64::MIN, Timestamp::second), to.map_or(i64::MAX, Timestamp::second));
        self.seconds.range(from..to).flat_map(|(_, rows)| rows.iter().cloned()).collect()
    }
    fn top_products(&self) -> Vec<TopRow> {
        self.top.clone()
    }
}

/// A minute of events, skewed as shops are, as rows by second and page.
fn live(events: usize, random: &mut ChaCha8Rng) -> Live {
    let names: Vec<Arc<str>> = (0..PAGES).map(|n| n.to_string().into()).collect();
    let mut seconds = BTreeMap::new();
    for second in 0..60 {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..events / 60 {
            // Half of all on a few, half on any: about as many different pages as the real trace has.
            let page = if random.random_bool(0.5) {
                (f64::from(PAGES).powf(random.random::<f64>()) as u32).min(PAGES - 1)
            } else {
                random.random_range(0..PAGES)
            };
            *counts.entry(page).or_default() += 1;
        }
        let time = Timestamp::from_seconds(BEGIN + second);
        let row = |(page, events): (u32, u64)| HeatRow {
            time,
            page: Arc::clone(&names[page as usize]),
            kind: EventKind::View,
            events,
            weighted: events,
            visitors: events,
        };
        seconds.insert(BEGIN + second, counts.into_iter().map(row).collect());
    }
    let top = (1..=5000)
        .map(|rank| TopRow {
            rank,
            page: Arc::clone(&names[rank as usize]),
            count: u64::from(6000 - rank),
            share: 0.0001,
            threshold: 900,
            temperature: Temperature::Hot,
            since: Timestamp::from_seconds(BEGIN),
            window_end: Timestamp::from_seconds(BEGIN + 60),
        })
        .collect();
    Live { seconds, top }
}

/// A day of a shop: some hundred products a second.
fn day(history: &History, per_second: usize, random: &mut ChaCha8Rng) -> usize {
    let names: Vec<Arc<str>> = (0..50_000).map(|n| format!("sku-{n}").into()).collect();
    let mut rows = 0;
    for hour in 0..24 {
        let mut all = Vec::new();
        for second in 0..3600 {
            let mut pages: Vec<usize> =
                (0..per_second).map(|_| (50_000_f64.powf(random.random::<f64>()) as usize).min(49_999)).collect();
            pages.sort_unstable_by_key(|p| &names[*p]);
            pages.dedup();
            let time = Timestamp::from_seconds(BEGIN - 86_400 + hour * 3600 + second);
            all.extend(pages.into_iter().map(|p| {
                let events = random.random_range(1..9);
                let kind = EventKind::ALL[usize::from(events % 7 == 0)];
                HeatRow { time, page: Arc::clone(&names[p]), kind, events, weighted: events, visitors: events }
            }));
        }
        rows += history.append(all).unwrap();
    }
    rows
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn say(name: &str, value: f64, rounds: &[f64], against: Option<(&str, f64)>, bar: &str, holds: Option<bool>) {
    let spread = (percentile(rounds, 1.0) - percentile(rounds, 0.0)) / median(rounds);
    println!(
        "{}",
        json!({ "area": "sql", "name": name, "value": (value * 1000.0).round() / 1000.0, "unit": "ms",
                "against": against.map(|a| a.0), "against_value": against.map(|a| a.1), "ratio": against.map(|a| value / a.1),
                "bar": bar, "holds": holds, "rounds": rounds.len(), "spread": (spread * 1000.0).round() / 1000.0 })
    );
}

struct Asked {
    client: reqwest::Client,
    url: String,
}

impl Asked {
    async fn ask(&self, sql: &str) -> (f64, Value) {
        let body = json!({ "query": sql, "resultFormat": "array" }).to_string();
        let started = Instant::now();
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        let took = started.elapsed().as_secs_f64() * 1000.0;
        assert_eq!(status, 200, "{text}");
        (took, serde_json::from_str(&text).unwrap())
    }

    async fn rounds(&self, sql: &str, rounds: usize) -> (Vec<f64>, Value) {
        let (mut all, mut last) = (Vec::new(), Value::Null);
        for _ in 0..rounds {
            let (took, answer) = self.ask(sql).await;
            all.push(took);
            last = answer;
        }
        (all, last)
    }
}

/// Milliseconds of the engine's ticks at this size for so long, on a thread of their own.
fn ticks(pages: u32, until: &AtomicBool) -> Vec<f64> {
    let rules = Rules {
        window: 60,
        slide: 1,
        weights: [1, 3, 5],
        cap: 2,
        hot_floor_milli: 200,
        warm_floor_milli: 50,
        max_pages: 10_000_000,
        spread: 10,
        live: true,
        skip_empty_after: None,
    };
    let mut engine = Engine::new(rules);
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let names: Vec<String> = (0..pages).map(|n| n.to_string()).collect();
    let (mut all, mut ms) = (Vec::new(), 0_i64);
    while !until.load(Ordering::Relaxed) {
        // A quarter of a second of 20,000 events a second, then what a tick does.
        for _ in 0..5000 {
            let page = random.random_range(0..pages) as usize;
            engine.push(&names[page], EventKind::View, random.random(), Timestamp::from_millis(ms));
        }
        ms += 250;
        let at = Timestamp::from_millis(ms);
        let started = Instant::now();
        engine.seal(Timestamp::from_millis(ms - 2000), drop);
        engine.lines(at);
        engine.rank(at, 10_000);
        all.push(started.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_millis(20));
    }
    all
}

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|a| a == "--quick");
    let (events, per_second, rounds) = if quick { (500_000, 20, 5) } else { (5_000_000, 120, 15) };
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let place = tempfile::tempdir().unwrap();
    let history = Arc::new(History::open(place.path(), HistoryOptions::default()).unwrap());
    let written = day(&history, per_second, &mut random);
    let live = Arc::new(live(events, &mut random));
    let rows: usize = live.seconds.values().map(Vec::len).sum();
    eprintln!("{events} live events in {rows} rows; {written} rows of history in {} files", history.files());

    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(BEGIN + 60)));
    let limits = SqlLimits { memory_bytes: 4 << 30, timeout: Duration::from_secs(600), ..SqlLimits::default() };
    let options = SqlOptions { limits, history: Some(history), ..SqlOptions::new(clock) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/druid/v2/sql", listener.local_addr().unwrap());
    let app = router(live.clone(), options);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let asked = Asked { client: reqwest::Client::new(), url };

    let top = "SELECT * FROM top_products ORDER BY \"rank\" LIMIT 100";
    asked.rounds(top, 20).await;
    let (all, answer) = asked.rounds(top, rounds * 40).await;
    assert_eq!(answer.as_array().unwrap().len(), 100);
    let p99 = percentile(&all, 0.99);
    say("top_products over HTTP, p99", p99, &all, None, "<= 10", Some(p99 <= 10.0));

    let group = format!(
        "SELECT product, SUM(weighted) AS heat FROM product_heat WHERE __time >= MILLIS_TO_TIMESTAMP({}) \
         GROUP BY product ORDER BY heat DESC LIMIT 100",
        BEGIN * 1000
    );
    asked.rounds(&group, 2).await;
    let (all, answer) = asked.rounds(&group, rounds).await;
    assert_eq!(answer.as_array().unwrap().len(), 100);
    let value = median(&all);
    say("GROUP BY over the live minute", value, &all, None, "<= 25", Some(value <= 25.0));

    for (name, ours, theirs) in [
        (
            "a day of history, top 20",
            "SELECT product, SUM(weighted) AS heat FROM product_heat WHERE __time < MILLIS_TO_TIMESTAMP(@) \
             GROUP BY product ORDER BY heat DESC, product LIMIT 20",
            "SELECT product, SUM(weighted) AS heat FROM read_parquet('%') GROUP BY product ORDER BY heat DESC, product LIMIT 20",
        ),
        (
            "a day of history by hour and kind",
            "SELECT TIME_FLOOR(__time, 'PT1H') AS t, kind, SUM(events) FROM product_heat \
             WHERE __time < MILLIS_TO_TIMESTAMP(@) GROUP BY 1, 2 ORDER BY 1, 2",
            "SELECT date_trunc('hour', __time) AS t, kind, SUM(events) FROM read_parquet('%') GROUP BY 1, 2 ORDER BY 1, 2",
        ),
        (
            "one minute of the day",
            "SELECT product, SUM(events) AS n FROM product_heat WHERE __time >= MILLIS_TO_TIMESTAMP(@m) \
             AND __time < MILLIS_TO_TIMESTAMP(@n) GROUP BY product ORDER BY n DESC, product LIMIT 20",
            "SELECT product, SUM(events) AS n FROM read_parquet('%') WHERE __time >= make_timestamptz(@m000) \
             AND __time < make_timestamptz(@n000) GROUP BY product ORDER BY n DESC, product LIMIT 20",
        ),
    ] {
        let (m, n) = ((BEGIN - 40_000) * 1000, (BEGIN - 39_940) * 1000);
        let fill = |sql: &str| {
            sql.replace("@m", &m.to_string()).replace("@n", &n.to_string()).replace('@', &(BEGIN * 1000).to_string())
        };
        let (all, _) = asked.rounds(&fill(ours), rounds).await;
        let value = median(&all);
        let files = place.path().join("*/*.parquet");
        let peer = duckdb(&fill(theirs).replace('%', &files.to_string_lossy()), rounds);
        let holds = peer.map(|p| value <= 1.2 * p);
        say(name, value, &all, peer.map(|p| ("DuckDB, same files", p)), "ratio <= 1.2", holds);
    }

    let measure = |busy: bool| {
        let done = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&done);
        let thread = std::thread::spawn(move || ticks(1_000_000, &flag));
        let asked = &asked;
        let group = &group;
        async move {
            let end = Instant::now() + Duration::from_secs(if quick { 2 } else { 8 });
            while Instant::now() < end {
                if busy {
                    asked.ask(group).await;
                } else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            done.store(true, Ordering::Relaxed);
            thread.join().unwrap()
        }
    };
    let quiet = measure(false).await;
    let busy = measure(true).await;
    let (value, alone) = (percentile(&busy, 0.99), percentile(&quiet, 0.99));
    say("a tick beside heavy queries, p99", value, &busy, Some(("alone", alone)), "<= 250", Some(value <= 250.0));
}

/// DuckDB's median for a query, in one process with two threads; `None` where it is not installed.
fn duckdb(sql: &str, rounds: usize) -> Option<f64> {
    let python = std::env::var_os("BENCH_PYTHON").map(PathBuf::from)?;
    let program = "import duckdb, sys, time\n\
                   c = duckdb.connect(); c.execute('SET threads = 2'); c.execute(\"SET TimeZone = 'UTC'\")\n\
                   t = []\n\
                   for _ in range(int(sys.argv[2])):\n\
                   \x20   s = time.perf_counter(); c.execute(sys.argv[1]).fetchall(); t.append(time.perf_counter() - s)\n\
                   print(sorted(t)[len(t) // 2] * 1000)";
    let ran = std::process::Command::new(python).args(["-c", program, sql, &rounds.to_string()]).output().ok()?;
    assert!(ran.status.success(), "DuckDB: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().parse().ok()
}
