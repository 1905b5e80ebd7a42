//! Three cores on one store, one real Redis and one log: whoever moves a product dies in the middle, again and again,
//! and the others finish it. (Each single step is died at in `tests/sim/kill_points.rs`.)

use std::sync::Arc;
use std::time::Duration;

use eventlog::MemoryLog;
use parking_lot::RwLock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::StatusCode;
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::redis::server::{NodeAddress, RedisLeases, RedisLeasesOptions};
use seckill_core::stock::store::StockStore;
use seckill_core::{CoreError, CoreHandle, Options, SeckillCore, TicketSecret};
use serde_json::{Value, json};
use testkit::servers::Redis;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::{Clock, Phase, Sku, SystemClock, Tier};

use crate::shop::{PlainTokens, SALE, options, until};

const CORES: usize = 3;
const STOCK: u64 = 150;
const BUYERS: u32 = 260;
/// Deaths at least; one each 100 ms or so while there is demand.
const DEATHS: u32 = 12;

struct Life {
    handle: CoreHandle,
    running: JoinHandle<Result<(), CoreError>>,
}

struct House {
    folder: tempfile::TempDir,
    _redis: Redis,
    store: Arc<SqliteStore>,
    leases: Arc<RedisLeases>,
    log: Arc<MemoryLog>,
    clock: Arc<SystemClock>,
    http: reqwest::Client,
    lives: RwLock<Vec<Option<Life>>>,
}

impl House {
    async fn open() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let redis = Redis::start(&folder.path().join("redis")).unwrap();
        let leases = RedisLeasesOptions {
            nodes: vec![NodeAddress::new("127.0.0.1", redis.port())],
            answer_within: Duration::from_secs(1),
            ..RedisLeasesOptions::default()
        };
        let store = SqliteStore::open(&folder.path().join("stock.sqlite"), SqliteStoreOptions::default()).unwrap();
        let clock = Arc::new(SystemClock::new());
        let house = Self {
            leases: Arc::new(RedisLeases::connect(leases, clock.clone()).await.unwrap()),
            store: Arc::new(store),
            log: Arc::new(MemoryLog::new()),
            http: reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap(),
            lives: RwLock::new((0..CORES).map(|_| None).collect()),
            _redis: redis,
            folder,
            clock,
        };
        for n in 0..CORES {
            house.start(n).await;
        }
        Arc::new(house)
    }

    async fn start(&self, n: usize) {
        let own = self.folder.path().join(format!("core-{n}"));
        let core = SeckillCore::new(
            Options { core: format!("core-{n}"), ..options(&own) },
            self.store.clone(),
            self.leases.clone(),
            self.log.clone(),
            self.clock.clone(),
            Arc::new(PlainTokens),
            TicketSecret::new([9u8; 32]).unwrap(),
            axum::Router::new(),
        )
        .await
        .unwrap();
        let handle = core.handle();
        let running = tokio::spawn(core.run(CancellationToken::new()));
        self.lives.write()[n] = Some(Life { handle, running });
    }

    async fn kill(&self, n: usize) {
        let Some(life) = self.lives.write()[n].take() else { return };
        life.running.abort();
        let _aborted = life.running.await;
    }

    fn handle(&self, n: usize) -> Option<CoreHandle> {
        self.lives.read()[n].as_ref().map(|life| life.handle.clone())
    }

    /// Some core that lives.
    fn any(&self) -> CoreHandle {
        let first = rand::random_range(0..CORES);
        (0..CORES).find_map(|n| self.handle((first + n) % CORES)).expect("one lives")
    }

    async fn push(&self, n: usize, generation: u64, tier: Tier) {
        let Some(handle) = self.handle(n) else { return };
        let entries = json!([{"product": "lamp", "tier": tier, "reason": "hot"}]);
        let plan = json!({"generation": generation, "nonce": 1, "base": null, "entries": entries});
        let url = format!("http://{}/internal/plan", handle.private());
        let answer = self.http.post(url).bearer_auth("control:plane").json(&plan).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    /// Buys until there is an end, at whatever core.
    async fn buy(&self, buyer: &str) -> Result<String, String> {
        let shopper = format!("shopper:{buyer}");
        for _ in 0..2_000 {
            let core = self.any().public();
            let url = format!("http://{core}/v1/sales/{SALE}/products/lamp/purchases");
            let call = self.http.post(url).bearer_auth(&shopper).header("Idempotency-Key", "k");
            let answered = match call.json(&json!({"quantity": 1})).send().await {
                Ok(answer) => Some((answer.status(), answer.json::<Value>().await.unwrap_or_default())),
                Err(_) => None,
            };
            match answered {
                Some((StatusCode::CREATED, body)) => return Ok(body["order"].as_str().unwrap().to_owned()),
                Some((StatusCode::ACCEPTED, body)) => {
                    return self.follow(&shopper, body["ticket"].as_str().unwrap()).await;
                }
                Some((StatusCode::GONE | StatusCode::CONFLICT, body)) => return Err(body["type"].to_string()),
                // Cut off by a death, between two tiers, or full: the key makes a retry safe.
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("{buyer} has no end");
    }

    async fn follow(&self, shopper: &str, ticket: &str) -> Result<String, String> {
        for _ in 0..3_000 {
            let url = format!("http://{}/v1/tickets/{ticket}", self.any().public());
            if let Ok(answer) = self.http.get(url).bearer_auth(shopper).send().await
                && answer.status() == StatusCode::OK
                && let Ok(body) = answer.json::<Value>().await
            {
                match body["state"].as_str() {
                    Some("accepted") => return Ok(body["order"]["order"].as_str().unwrap().to_owned()),
                    Some("refused") => return Err(body["reason"].to_string()),
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("a ticket has no end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_cores_survive_the_death_of_whoever_moves() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let house = House::open().await;
    let now = house.clock.now();
    let local = |t: types::Timestamp| t.to_second_string().trim_end_matches('Z').to_owned();
    let (opens, closes) = (now.minus(Duration::from_secs(60)), now.plus(Duration::from_secs(7_200)));
    let sale = json!({"name": SALE, "zone": "UTC", "opens": local(opens), "closes": local(closes), "currency": "EUR",
        "product": [{"sku": "lamp", "name": "Lamp", "price": 100, "stock": STOCK, "limit": 1}]});
    let url = format!("http://{}/v1/sales/{SALE}", house.any().admin());
    let answer = house.http.put(url).bearer_auth("merchandiser:mia").json(&sale).send().await.unwrap();
    assert!(answer.status().is_success());

    let mut shoppers = tokio::task::JoinSet::new();
    for n in 0..BUYERS {
        let (house, after) = (house.clone(), rng.random_range(0..4_000));
        shoppers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            house.buy(&format!("b{n}")).await
        });
    }
    let (mut deaths, mut generation, mut told) = (0, 0, Vec::new());
    while deaths < DEATHS || !shoppers.is_empty() {
        // One core learns of the wish first, begins, and dies somewhere on the way.
        let (victim, tier) = (rng.random_range(0..CORES), Tier::ALL[rng.random_range(0..3)]);
        generation += 1;
        house.push(victim, generation, tier).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..25))).await;
        house.kill(victim).await;
        deaths += 1;
        for n in 0..CORES {
            house.push(n, generation, tier).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..150))).await;
        house.start(victim).await;
        while let Some(end) = shoppers.try_join_next() {
            told.push(end.unwrap());
        }
    }
    for n in 0..CORES {
        house.push(n, generation + 1, Tier::Db).await;
    }
    let lamp = Sku::new("lamp").unwrap();
    until("everything is home", async || {
        let row = house.store.product(&lamp).await.unwrap().unwrap();
        (row.state.tier, row.state.phase, row.lease) == (Tier::Db, Phase::Active, None)
            && house.any().backlog() == 0
            && house.store.outbox(1).await.unwrap().is_empty()
    })
    .await;
    let orders: std::collections::HashSet<_> = told.iter().filter_map(|end| end.as_ref().ok()).collect();
    let row = house.store.product(&lamp).await.unwrap().unwrap();
    println!("{deaths} deaths, epoch {}, {} orders of {} buyers", row.state.epoch.get(), orders.len(), told.len());
    assert_eq!((orders.len() as u64, row.state.reserved, row.free), (STOCK, STOCK, 0), "each unit sold, once");
    let file = house.folder.path().join("stock.sqlite");
    let options = audit::stock::Options::at_rest(house.clock.now().millis());
    let report = audit::stock::audit(&file, &[], &options, None).unwrap();
    assert!(report.holds(), "{report:#?}");
    for n in 0..CORES {
        house.kill(n).await;
    }
}
