//! One run: a sale, two or three real cores without their listeners, shoppers, somebody who moves products about, and
//! the weather. At the end everything must have come to rest, and the auditor looks at all of it.

use std::collections::BTreeMap;
use std::num::NonZeroI64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use audit::journal::Entry;
use eventlog::MemoryLog;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use types::plan::{PlanEntry, Reason};
use types::{Clock, Generation, IdempotencyKey, Money, ProductSpec, SaleName, SaleSpec, Sku, Tier, Timestamp};

use super::fate::{Fate, Life, Place, Weather};
use super::mutant::Mutant;
use super::ports::{Away, FarLeases, FarLog, FarStore, Lines, Redis};
use super::shoppers;
use super::witness::{Books, Broken};
use crate::ids::Ids;
use crate::mover::Mover;
use crate::options::Options;
use crate::plan_client::PlanClient;
use crate::service::{Ports, share, spawn_relay, spawn_workers};
use crate::shared::Shared;
use crate::stock::adjustment::{self, Adjusted, Adjustment};
use crate::stock::db::sqlite::inline::InlineStore;
use crate::stock::store::StockStore;
use crate::ticket::TicketSecret;

/// True time at the start of every run.
pub const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// How long the sale lasts.
const SALE: Duration = Duration::from_millis(3_000);
/// Longest time until everything has come to rest after the weather has calmed.
const UNTIL_REST: Duration = Duration::from_secs(90);

/// A core's clock: true time and an error of its own.
struct CoreClock {
    born: Instant,
    off_ms: i64,
}

impl Clock for CoreClock {
    fn now(&self) -> Timestamp {
        let ms = i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(START.millis() + ms + self.off_ms)
    }
}

/// One life of a core, for those who call it.
#[derive(Clone)]
pub struct Core {
    pub shared: Arc<Shared>,
    pub dead: CancellationToken,
    plan: Arc<PlanClient>,
}

/// Everything that outlives a core.
pub struct World {
    pub seed: u64,
    pub weather: Weather,
    pub mutant: Mutant,
    pub sale: SaleName,
    pub products: Vec<Sku>,
    pub store: Arc<InlineStore>,
    pub redis: Arc<Redis>,
    pub log: MemoryLog,
    pub cores: Vec<Mutex<Option<Core>>>,
    pub journal: Mutex<Vec<Entry>>,
    pub broken: Broken,
    pub calm: Arc<AtomicBool>,
    pub folder: std::path::PathBuf,
    wishes: Mutex<BTreeMap<Sku, Tier>>,
    born: Instant,
    loud: bool,
    dies_at: Option<u64>,
    died: Mutex<Option<Place>>,
    adjustments: AtomicU64,
}

/// What came of a run.
pub struct Ended {
    pub broken: Vec<String>,
    /// The journal and the decisions as text: two runs of one seed give the same.
    pub trace: String,
    /// Orders accepted by the db, redis and queue paths.
    pub orders: [u64; 3],
    /// Tickets that ended at their deadline.
    pub late: u64,
    pub moves: u64,
    pub deaths: u64,
    /// Leases that were raised while they sold.
    pub top_ups: u64,
    /// Adjustments that took effect.
    pub adjustments: u64,
    /// Where the core died that was told to.
    pub died: Option<Place>,
}

fn weather(chance: &mut ChaCha8Rng) -> Weather {
    // Every kind of trouble is absent in some runs, so that it cannot hide another.
    let mut some = |most: u32| if chance.random_bool(0.5) { chance.random_range(0..=most) } else { 0 };
    let (refused, reply_lost, slow, very_slow) = (some(40), some(40), some(400), some(20));
    let (doubled, tail_lost, rebalanced, deaths) = (some(60), some(40), some(100), some(1_000));
    let steady = chance.random_bool(0.35);
    Weather {
        refused,
        reply_lost,
        slow,
        very_slow,
        doubled: if steady { doubled * 5 } else { doubled },
        tail_lost,
        rebalanced,
        deaths,
        redis_resets: chance.random_bool(0.4),
        redis_stale: chance.random_bool(0.4),
        redis_away: chance.random_bool(0.3),
        adjusted: chance.random_bool(0.4),
        clock_off: if chance.random_bool(0.5) { 450 } else { 0 },
        restless: chance.random_range(150..1_500),
        steady,
    }
}

impl World {
    /// The present moment, truly.
    pub fn now(&self) -> i64 {
        START.millis() + i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
    /// Says what happens, when a seed is replayed.
    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.loud {
            println!("{:>8} ms  {}", self.now() - START.millis(), what());
        }
    }
    pub fn fate(&self, stream: u64) -> Fate {
        Fate::new(self.seed, stream, self.calm.clone())
    }
    /// A core that lives, by chance.
    pub fn some_core(&self, fate: &Fate) -> Option<Core> {
        let at = fate.within(0..self.cores.len() as u64) as usize;
        self.cores[at].lock().clone()
    }
    pub fn break_with(&self, what: String) {
        self.broken.lock().push(what);
    }

    fn plan(&self, generation: u64) -> (Generation, Vec<PlanEntry>) {
        let entry =
            |(product, tier): (&Sku, &Tier)| PlanEntry { product: product.clone(), tier: *tier, reason: Reason::Hot };
        (Generation::new(generation), self.wishes.lock().iter().map(entry).collect())
    }

    /// One core, life after life, until `stop`.
    async fn live(self: Arc<Self>, n: usize, stop: CancellationToken) -> u64 {
        let fate = self.fate(100 + n as u64);
        let mut deaths = 0;
        for life_number in 0u64.. {
            let dies_at = match self.dies_at {
                Some(step) if n == 0 && deaths == 0 => step,
                Some(_) => u64::MAX,
                None if deaths < 4 && fate.strikes(self.weather.deaths) => fate.within(0..60),
                None => u64::MAX,
            };
            let life = Arc::new(Life::until(dies_at));
            let lines = Lines {
                seed: self.seed,
                stream: 1_000 + (n as u64) * 100 + life_number,
                calm: self.calm.clone(),
                life: life.clone(),
                weather: self.weather,
            };
            let span = 2 * self.weather.clock_off as u64 + 1;
            let off_ms = fate.within(0..span) as i64 - self.weather.clock_off;
            let ports = Ports {
                store: Arc::new(FarStore {
                    store: self.store.clone(),
                    line: lines.line(0),
                    mutant: self.mutant,
                    redis: self.redis.clone(),
                }),
                leases: Arc::new(FarLeases {
                    redis: self.redis.clone(),
                    line: lines.line(1),
                    mutant: self.mutant,
                    store: self.store.clone(),
                    broken: self.broken.clone(),
                    core: n,
                }),
                log: Arc::new(FarLog { log: self.log.clone(), line: Arc::new(lines.line(2)) }),
                clock: Arc::new(CoreClock { born: self.born, off_ms }),
            };
            let options = Options {
                core: format!("core-{n}"),
                deadline: Duration::from_secs(2),
                reserve_for: Duration::from_millis(1_500),
                partitions: 2,
                ..Options::default()
            };
            let secret = TicketSecret::new([7u8; 32]).expect("long enough");
            let ids = Ids::from_seed(self.seed ^ (lines.stream << 32));
            let shared = match share(options, ports, secret, ids).await {
                Ok(shared) => Arc::new(shared),
                Err(_) => {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let plan = Arc::new(PlanClient::open(&self.folder).expect("a folder"));
            let (generation, entries) = self.plan(1);
            plan.hold(generation, entries, shared.now());
            let mover = Arc::new(Mover::new(shared.clone(), plan.clone()));
            let mut tasks = JoinSet::new();
            let never = CancellationToken::new();
            spawn_workers(&mut tasks, &shared, mover, &never);
            spawn_relay(&mut tasks, &shared, &never);
            *self.cores[n].lock() = Some(Core { shared, dead: life.dead.clone(), plan });
            self.say(|| format!("core {n} lives"));
            tokio::select! {
                biased;
                () = life.dead.cancelled() => {}
                () = stop.cancelled() => return deaths,
                ended = tasks.join_next() => {
                    self.break_with(format!("a worker of core {n} ended by itself: {ended:?}"));
                    life.dead.cancel();
                }
            }
            if self.dies_at.is_some() {
                *self.died.lock() = life.died();
            }
            self.cores[n].lock().take();
            tasks.shutdown().await;
            deaths += 1;
            self.say(|| format!("core {n} is dead"));
            sleep(Duration::from_millis(fate.within(20..400))).await;
        }
        deaths
    }

    /// Wishes products onto other tiers; cores learn of it one after the other.
    async fn plan_moves(self: Arc<Self>, stop: CancellationToken) {
        let fate = self.fate(1);
        for generation in 2.. {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(Duration::from_millis(fate.within(20..self.weather.restless))) => {}
            }
            let product = self.products[fate.within(0..self.products.len() as u64) as usize].clone();
            let tier =
                if self.weather.steady && fate.coin(900) { Tier::Redis } else { Tier::ALL[fate.within(0..3) as usize] };
            self.say(|| format!("wish: {product} to {tier}"));
            self.wishes.lock().insert(product, tier);
            for (n, core) in self.cores.iter().enumerate() {
                // Of three, the first one moves, and the others find what it left.
                if fate.coin(300) || (self.dies_at.is_some() && n > 0) {
                    sleep(Duration::from_millis(fate.within(1..200))).await;
                }
                let core = core.lock().clone();
                if let Some(core) = core {
                    let (generation, entries) = self.plan(generation);
                    core.plan.hold(generation, entries, core.shared.now());
                    core.shared.wake_mover.all();
                }
            }
        }
    }

    /// What befalls the lease store.
    async fn trouble_redis(self: Arc<Self>, stop: CancellationToken) {
        let fate = self.fate(2);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(Duration::from_millis(fate.within(50..1_200))) => {}
            }
            if self.calm.load(Ordering::Relaxed) {
                return;
            }
            match fate.within(0..5) {
                0 if self.weather.redis_resets => {
                    self.say(|| "the lease store is empty".into());
                    self.redis.reset();
                }
                1 | 2 if self.weather.redis_stale => self.redis.replicate(),
                3 if self.weather.redis_stale => {
                    self.say(|| "the lease store is old".into());
                    self.redis.come_back_stale();
                }
                4 if self.weather.redis_away => {
                    let who = match fate.within(0..2 * self.cores.len() as u64) as usize {
                        n if n < self.cores.len() => Away::For(n),
                        _ => Away::ForAll,
                    };
                    self.say(|| format!("the lease store is away: {who:?}"));
                    self.redis.be_away(who);
                    sleep(Duration::from_millis(fate.within(50..3_000))).await;
                    self.redis.be_away(Away::ForNone);
                    self.say(|| "the lease store can be reached".into());
                }
                _ => {}
            }
        }
    }

    /// Somebody counts the shelves again: units come into being and leave while they sell. He repeats himself until he
    /// has an answer.
    async fn adjust_stock(self: Arc<Self>, stop: CancellationToken) {
        let fate = self.fate(3);
        for n in 0u64.. {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(Duration::from_millis(fate.within(100..900))) => {}
            }
            if !self.weather.adjusted || self.calm.load(Ordering::Relaxed) {
                return;
            }
            let units = NonZeroI64::new(fate.within(1..4) as i64 * if fate.coin(500) { 1 } else { -1 });
            let adjustment = Adjustment {
                id: IdempotencyKey::new(format!("count-{n}")).expect("an id"),
                product: self.products[fate.within(0..self.products.len() as u64) as usize].clone(),
                delta: units.expect("not zero"),
                reason: adjustment::Reason::new("the shelves were counted again").expect("a reason"),
                by: "mia".into(),
            };
            for _ in 0..20 {
                let Some(core) = self.some_core(&fate) else {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let answer = tokio::select! {
                    biased;
                    () = core.dead.cancelled() => None,
                    answer = core.shared.store.adjust(adjustment.clone(), core.shared.now()) => answer.ok(),
                };
                self.say(|| format!("{} × {}: {answer:?}", adjustment.delta, adjustment.product));
                match answer {
                    Some(Adjusted::Done { .. }) => {
                        self.adjustments.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Some(_) => break,
                    None => sleep(Duration::from_millis(fate.within(10..100))).await,
                }
            }
        }
    }

    fn count(&self, sql: &str) -> i64 {
        self.store.look(|db| db.query_row(sql, [], |row| row.get(0))).expect("a count")
    }

    /// What still moves; `None` at rest.
    fn unrest(&self) -> Option<String> {
        for (what, sql) in [
            ("a lease lives", "SELECT COUNT(*) FROM lease WHERE state <> 'CLOSED'"),
            ("a product drains", "SELECT COUNT(*) FROM stock WHERE phase <> 'active'"),
            ("an order is unpaid", "SELECT COUNT(*) FROM orders WHERE state = 'accepted'"),
            (
                "an event waits",
                "SELECT (SELECT COALESCE(MAX(id), 0) FROM outbox) \
                 - COALESCE((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'outbox_relayed'), 0)",
            ),
        ] {
            let n = self.count(sql);
            if n != 0 {
                return Some(format!("{what} ({n})"));
            }
        }
        None
    }

    fn audit(&self) {
        let path = self.folder.join(format!("{}.journal", self.seed));
        let lines: Vec<String> =
            self.journal.lock().iter().map(|e| serde_json::to_string(e).expect("an entry") + "\n").collect();
        std::fs::write(&path, lines.concat()).expect("the journal");
        // Calls may be under way for seconds here, and clocks differ by nearly one.
        let options = audit::stock::Options {
            skew_ms: 2_000,
            commit_slack_ms: 10_000,
            ..audit::stock::Options::at_rest(self.now())
        };
        match audit::stock::audit(self.store.path(), &[path], &options, None) {
            Ok(report) => {
                for invariant in report.invariants.iter().filter(|i| i.violated > 0) {
                    self.break_with(format!("audit {}: {}", invariant.number, invariant.violations.join("; ")));
                }
                if report.oversold > 0 {
                    self.break_with(format!("audit: {} units oversold", report.oversold));
                }
            }
            Err(error) => self.break_with(format!("no audit: {error}")),
        }
    }

    fn trace(&self) -> String {
        let decided = self.store.look(|db| -> rusqlite::Result<Vec<String>> {
            let mut all =
                db.prepare("SELECT buyer || key || outcome || decided_at FROM decision ORDER BY buyer, key")?;
            all.query_map([], |row| row.get(0))?.collect()
        });
        format!("{:?}\n{:?}", self.journal.lock(), decided)
    }
}

fn spec(chance: &mut ChaCha8Rng, products: &[Sku]) -> SaleSpec {
    // Sometimes the shoppers are there before the doors open.
    let early = if chance.random_bool(0.4) { chance.random_range(0..600) } else { 0 };
    let product = |sku: &Sku| ProductSpec {
        sku: sku.clone(),
        name: "It".into(),
        price: Money::new(100, "EUR".parse().expect("a currency")).expect("money"),
        stock: chance.random_range(1..=6),
        limit: chance.random_range(1..=3),
        initial_tier: chance.random_bool(0.3).then(|| Tier::ALL[chance.random_range(0..3)]),
        pages: Vec::new(),
    };
    SaleSpec {
        policy: types::SalePolicy::default(),
        name: SaleName::new("sale").expect("a name"),
        zone: "Europe/Berlin".into(),
        opens: START.plus(Duration::from_millis(early)),
        closes: START.plus(SALE),
        products: products.iter().map(product).collect(),
    }
}

/// Runs one seed from its first call to its audit.
pub fn run(seed: u64, mutant: Mutant, loud: bool, folder: &std::path::Path) -> Ended {
    run_set(seed, Setting { mutant, loud, dies_at: None }, folder)
}

/// How a run differs from what its seed says.
#[derive(Clone, Copy)]
pub struct Setting {
    pub mutant: Mutant,
    pub loud: bool,
    /// In calm weather the first of three cores dies at this step, and nothing else happens but moves.
    pub dies_at: Option<u64>,
}

pub fn run_set(seed: u64, setting: Setting, folder: &std::path::Path) -> Ended {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(in_virtual_time(seed, setting, folder))
}

async fn in_virtual_time(seed: u64, setting: Setting, folder: &std::path::Path) -> Ended {
    let Setting { mutant, loud, dies_at } = setting;
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut weather = weather(&mut chance);
    if dies_at.is_some() {
        weather = Weather { restless: 250, steady: seed.is_multiple_of(2), ..Weather::default() };
    }
    let products: Vec<Sku> =
        (0..chance.random_range(1..=2)).map(|n| Sku::new(format!("p{n}")).expect("a sku")).collect();
    let spec = spec(&mut chance, &products);
    let broken = Broken::default();
    // Several runs of one seed may be under way at once.
    static RUNS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let name = format!("sim-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let redis: Arc<Redis> = Arc::default();
    let books = Books::new(broken.clone(), redis.clone());
    let store = Arc::new(InlineStore::create(&name, Some(Box::new(books))));
    store.apply_sale(spec.clone(), START).await.expect("the sale");
    let world = Arc::new(World {
        seed,
        weather,
        mutant,
        sale: spec.name,
        products,
        store,
        redis,
        log: MemoryLog::new(),
        cores: (0..if dies_at.is_some() { 3 } else { chance.random_range(1..=3) }).map(|_| Mutex::default()).collect(),
        journal: Mutex::default(),
        broken,
        calm: Arc::default(),
        folder: folder.to_owned(),
        wishes: Mutex::default(),
        born: Instant::now(),
        loud,
        dies_at,
        died: Mutex::default(),
        adjustments: AtomicU64::new(0),
    });
    world.say(|| format!("{weather:?}\n{:?}", spec.products));
    let stop = CancellationToken::new();
    let cores: Vec<_> = (0..world.cores.len()).map(|n| tokio::spawn(world.clone().live(n, stop.clone()))).collect();
    let planner = tokio::spawn(world.clone().plan_moves(stop.clone()));
    let trouble = tokio::spawn(world.clone().trouble_redis(stop.clone()));
    let adjuster = tokio::spawn(world.clone().adjust_stock(stop.clone()));
    let mut crowd = JoinSet::new();
    let shoppers = chance.random_range(4..=14) * if weather.steady { 2 } else { 1 };
    for n in 0..shoppers {
        crowd.spawn(shoppers::shop(world.clone(), n));
    }
    sleep(SALE + Duration::from_millis(500)).await;
    world.calm.store(true, Ordering::Relaxed);
    world.say(|| "the weather calms".into());
    let rest = async {
        while crowd.join_next().await.is_some() {}
        while world.unrest().is_some() {
            sleep(Duration::from_millis(250)).await;
        }
    };
    if tokio::time::timeout(UNTIL_REST, rest).await.is_err() {
        let waiting = crowd.len();
        world.break_with(format!("9: no rest: {} shoppers wait, {:?}", waiting, world.unrest()));
    }
    // Whatever is still under way has time to do harm.
    sleep(Duration::from_secs(3)).await;
    stop.cancel();
    crowd.shutdown().await;
    let mut deaths = 0;
    for core in cores {
        deaths += core.await.expect("no core panics");
    }
    planner.await.expect("no panic");
    trouble.await.expect("no panic");
    adjuster.await.expect("no panic");
    world.audit();
    let broken = world.broken.lock().clone();
    Ended {
        broken,
        trace: world.trace(),
        orders: Tier::ALL
            .map(|tier| world.count(&format!("SELECT COUNT(*) FROM orders WHERE tier = '{tier}'")).unsigned_abs()),
        late: world.count("SELECT COUNT(*) FROM decision WHERE outcome = 'deadline'").unsigned_abs(),
        moves: world.count("SELECT COUNT(*) FROM move WHERE step = 'fence'").unsigned_abs(),
        deaths,
        top_ups: world.redis.top_ups(),
        adjustments: world.adjustments.load(Ordering::Relaxed),
        died: *world.died.lock(),
    }
}
