//! How long requests really wait for moves: two hundred moves under load, on the leases of this process and on a real
//! Redis. It prints what it saw and asserts no time; `docs/evidence` keeps a run.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]

#[path = "../core/shop.rs"]
mod shop;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seckill_core::stock::redis::LeaseStore;
use shop::Shop;
use types::{Clock, Tier};

/// Moves of one measurement.
const MOVES: usize = 200;
/// Shoppers who ask all the time, one call after the other.
const SHOPPERS: u64 = 16;
/// More than they can buy meanwhile.
const STOCK: u64 = 400_000;

/// Everything that was recorded as time waited for a move, by how the wait ended.
#[derive(Default)]
struct Waits(Mutex<BTreeMap<String, Arc<Samples>>>);

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, seconds: f64) {
        self.0.lock().push(seconds);
    }
}

struct Only(Arc<Waits>);

impl Recorder for Only {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() != seckill_core::metrics::HANDOVER_WAIT_SECONDS {
            return Histogram::noop();
        }
        let end = key.labels().map(|label| label.value().to_owned()).collect::<String>();
        Histogram::from_arc(self.0.0.lock().entry(end).or_default().clone())
    }
}

fn ms(samples: &mut [f64], share: f64) -> String {
    samples.sort_by(f64::total_cmp);
    let at = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
    samples.get(at).map_or("-".to_owned(), |seconds| format!("{:.1}", seconds * 1e3))
}

fn line(what: &str, samples: &mut [f64]) {
    let n = samples.len();
    println!(
        "  {what:<34} n {n:>6}  p50 {:>6} ms  p99 {:>6} ms  most {:>6} ms",
        ms(samples, 0.5),
        ms(samples, 0.99),
        ms(samples, 1.0)
    );
}

async fn measure(name: &str, leases: Option<Arc<dyn LeaseStore>>, waits: &Waits) {
    let seed: u64 = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shop = Shop::open_on(leases, |_| {}).await;
    shop.sell(&[("lamp", STOCK, 1)]).await;
    let mut moves = shop.handle.moves();
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut shoppers = tokio::task::JoinSet::new();
    for _ in 0..SHOPPERS {
        let (stop, next, http) = (stop.clone(), next.clone(), shop.http.clone());
        let url = format!("http://{}/v1/sales/{}/products/lamp/purchases", shop.handle.public(), shop::SALE);
        shoppers.spawn(async move {
            let mut told: BTreeMap<u16, u64> = BTreeMap::new();
            while !stop.load(Ordering::SeqCst) {
                let n = next.fetch_add(1, Ordering::SeqCst);
                let call = http.post(&url).bearer_auth(format!("shopper:b{n}")).header("Idempotency-Key", "k");
                let answer = call.json(&serde_json::json!({"quantity": 1})).send().await.unwrap();
                *told.entry(answer.status().as_u16()).or_default() += 1;
            }
            told
        });
    }
    let begun = Instant::now();
    let (mut took, mut tier) = (BTreeMap::<String, Vec<f64>>::new(), Tier::Db);
    for _ in 0..MOVES {
        let others: Vec<Tier> = Tier::ALL.into_iter().filter(|other| *other != tier).collect();
        tier = others[rng.random_range(0..others.len())];
        shop.plan(&[("lamp", tier)]).await;
        // It sells for a moment.
        tokio::time::sleep(Duration::from_millis(rng.random_range(10..60))).await;
        while let Ok(done) = moves.try_recv() {
            took.entry(format!("move {} to {}", done.from, done.to)).or_default().push(done.took.as_secs_f64());
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::SeqCst);
    let mut told: BTreeMap<u16, u64> = BTreeMap::new();
    for one in shoppers.join_all().await {
        for (status, n) in one {
            *told.entry(status).or_default() += n;
        }
    }
    let asked: u64 = told.values().sum();
    println!(
        "{name}, seed {seed}: {MOVES} moves in {seconds:.1} s, {asked} calls ({:.0}/s): {told:?}",
        asked as f64 / seconds
    );
    for (what, mut samples) in took {
        line(&what, &mut samples);
    }
    for (end, samples) in waits.0.lock().iter() {
        line(&format!("requests that waited: {end}"), &mut std::mem::take(&mut *samples.0.lock()));
    }
    shop.plan(&[("lamp", Tier::Db)]).await;
    shop::until("everything is decided", async || shop.handle.backlog() == 0).await;
    let row = shop.row("lamp").await;
    assert_eq!(row.free + row.state.reserved + row.sold, STOCK, "no unit is stranded");
    let report = audit::stock::audit(
        &shop.folder.path().join("stock.sqlite"),
        &[],
        &audit::stock::Options::at_rest(shop.clock.now().millis()),
        None,
    );
    assert!(report.as_ref().unwrap().holds(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_two_hundred_moves() {
    let waits = Arc::new(Waits::default());
    metrics::set_global_recorder(Only(waits.clone())).expect("the only recorder of this process");
    measure("redis (in-process)", None, &waits).await;
    #[cfg(feature = "redis")]
    {
        use seckill_core::stock::redis::server::{NodeAddress, RedisLeases, RedisLeasesOptions};
        let folder = tempfile::tempdir().unwrap();
        let redis = testkit::servers::Redis::start(&folder.path().join("redis")).unwrap();
        let options = RedisLeasesOptions {
            nodes: vec![NodeAddress::new("127.0.0.1", redis.port())],
            ..RedisLeasesOptions::default()
        };
        let leases = RedisLeases::connect(options, Arc::new(types::SystemClock::new())).await.unwrap();
        measure("Redis", Some(Arc::new(leases)), &waits).await;
    }
}
