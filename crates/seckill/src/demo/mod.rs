//! The demo's traffic: a background from a real trace, crowds that come and go, shoppers that buy over HTTP,
//! and the access log in which all of it stands. It drives the system from outside; it is no part of it.

pub mod access_log;
mod background;
mod client;
pub mod crowd;
pub mod edge;
pub mod journal;
pub mod judge;
pub mod legs;
pub mod real;
pub mod report;
mod shoppers;
pub mod stats;
pub mod trace;
mod visits;
pub mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{Clock, Timestamp};

use access_log::AccessLog;
use background::Background;
use client::Client;
use crowd::{Demand, Role, Schedule};
use shoppers::Street;
use stats::{Counters, Stats};
use trace::Trace;

/// How often, in real time, arrivals are drawn.
const TICK: Duration = Duration::from_millis(20);
/// Longest real time to wait at the end for shoppers under way: a ticket's deadline and a slow answer.
const CLOSING_TIME: Duration = Duration::from_secs(20);
/// At most this many units make a product scarce: a demo's crowd can want them all within 10 s.
const SCARCE: u64 = 600;
/// From this many units on, with a limit of a few per buyer, a crowd cannot exhaust a product.
const PLENTY: u64 = 20_000;
/// Limit from which a product is an everyday one that no crowd comes for.
const EVERYDAY_LIMIT: u32 = 5;

/// Makes a shopper's bearer token from the buyer's id.
pub type TokenIssuer = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// A product on sale, as shoppers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its id in the purchase path.
    pub sku: String,
    /// Its pages in the log.
    pub pages: Vec<String>,
    /// Units for sale at the start.
    pub stock: u64,
    /// Most units per buyer.
    pub limit: u32,
}

impl Product {
    fn role(&self) -> Role {
        match (self.stock, self.limit) {
            (..=SCARCE, _) => Role::Scarce,
            (PLENTY.., ..EVERYDAY_LIMIT) => Role::Plenty,
            _ => Role::Steady,
        }
    }
}

impl From<&types::ProductSpec> for Product {
    fn from(spec: &types::ProductSpec) -> Self {
        Self {
            sku: spec.sku.as_str().to_owned(),
            pages: spec.pages.iter().map(|p| p.as_str().to_owned()).collect(),
            stock: spec.stock,
            limit: spec.limit,
        }
    }
}

/// What the traffic is to be. Rates are per second of event time.
#[derive(Debug, Clone)]
pub struct TrafficOptions {
    /// The core's public listener, `http://127.0.0.1:8080`, or the edge's.
    pub core_url: String,
    /// Whether that is an edge, which writes the access log itself.
    pub edge: bool,
    /// The sale's name.
    pub sale: String,
    /// What is on sale.
    pub products: Vec<Product>,
    /// The access log to append to.
    pub log_path: PathBuf,
    /// This run's journal; must not exist yet ([`journal::path_of_run`]).
    pub journal_path: PathBuf,
    /// Journals of earlier runs on the same store: tickets without an end are asked for again.
    pub earlier_journals: Vec<PathBuf>,
    /// Draws everything.
    pub seed: u64,
    /// Lines of background traffic; 0 for none.
    pub background_rate: f64,
    /// Factor on all shoppers' rates; 0 for none.
    pub intensity: f64,
    /// Shoppers under way at once; more are turned away and counted.
    pub max_sessions: usize,
}

impl Default for TrafficOptions {
    fn default() -> Self {
        Self {
            core_url: "http://127.0.0.1:8080".to_owned(),
            edge: false,
            sale: String::new(),
            products: Vec::new(),
            log_path: PathBuf::from("access.log"),
            journal_path: PathBuf::from("shoppers.jsonl"),
            earlier_journals: Vec::new(),
            seed: 1,
            background_rate: 200.0,
            intensity: 1.0,
            max_sessions: 1_000,
        }
    }
}

/// The traffic, ready to run. Nothing has started.
pub struct Traffic {
    options: TrafficOptions,
    clock: Arc<dyn Clock>,
    token: TokenIssuer,
    schedule: Schedule,
    trace: Trace,
    counters: Counters,
    log: AccessLog,
    log_writer: LogWriter,
    lines: access_log::LineCount,
    started: Timestamp,
}

/// Who brings what shoppers do into the access log.
enum LogWriter {
    File(access_log::AccessLogWriter),
    Edge(visits::Visits),
}

impl LogWriter {
    async fn run(self) -> Result<()> {
        match self {
            Self::File(writer) => writer.run().await,
            Self::Edge(visits) => visits.run().await,
        }
    }
}

/// Looks at running traffic; cheap to clone, and does not keep it running.
#[derive(Clone)]
pub struct TrafficHandle {
    counters: Counters,
    lines: access_log::LineCount,
    schedule: Arc<Schedule>,
    products: Arc<Vec<String>>,
    clock: Arc<dyn Clock>,
    started: Timestamp,
}

impl TrafficHandle {
    /// Everything counted so far.
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
    /// Lines written to the access log by this run.
    pub fn lines(&self) -> u64 {
        self.lines.get()
    }
    /// The products for which a crowd is there now.
    pub fn crowded(&self) -> Vec<String> {
        let now = self.clock.now().since(self.started);
        let there = |c: &crowd::Crowd| (c.starts..c.ends).contains(&now);
        let crowds = self.schedule.crowds_near(now).into_iter().filter(there);
        crowds.filter_map(|c| self.products.get(c.product).cloned()).collect()
    }
}

impl Traffic {
    /// Traffic by `options`; event time counts from now on `clock`.
    pub fn new(options: TrafficOptions, clock: Arc<dyn Clock>, token: TokenIssuer) -> Result<Self> {
        let roles: Vec<Role> = options.products.iter().map(Product::role).collect();
        let schedule = Schedule::new(options.seed, &roles);
        let (log, log_writer) = if options.edge {
            let (log, visits) = visits::open(&options.core_url)?;
            (log, LogWriter::Edge(visits))
        } else {
            let (log, writer) = access_log::open(&options.log_path, clock.clone());
            (log, LogWriter::File(writer))
        };
        let lines = log.count();
        let started = clock.now();
        let trace = Trace::embedded()?;
        let counters = Counters::default();
        Ok(Self { options, clock, token, schedule, trace, counters, log, log_writer, lines, started })
    }

    /// To look at it while it runs.
    pub fn handle(&self) -> TrafficHandle {
        TrafficHandle {
            counters: self.counters.clone(),
            lines: self.lines.clone(),
            schedule: Arc::new(self.schedule.clone()),
            products: Arc::new(self.options.products.iter().map(|p| p.sku.clone()).collect()),
            clock: self.clock.clone(),
            started: self.started,
        }
    }

    /// Runs until `shutdown`; then nobody new comes, shoppers under way come to their end (bounded), and log and
    /// journal are written out. Stop it before the core.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { options, clock, token, schedule, trace, counters, log, log_writer, started, .. } = self;
        let unfinished = journal::unfinished(&options.earlier_journals)?;
        let (journal, journal_writer) = journal::open(&options.journal_path);
        // A writer that fails ends the traffic: what is not in the log or the journal cannot be judged.
        let closing = shutdown.child_token();
        let log_task = guarded(log_writer.run(), closing.clone());
        let journal_task = guarded(journal_writer.run(), closing.clone());
        // Unlike the seed, the run is never the same: buyers of a store's earlier run have used their limits.
        let run = format!("{:x}", started.millis());

        let background = Background {
            trace,
            random: ChaCha8Rng::seed_from_u64(options.seed ^ 0xbac6),
            seed: options.seed,
            run: run.clone(),
            number: 0,
            owed: 0.0,
        };
        let street = Arc::new(Street {
            client: Client::new(&options.core_url, clock.clone(), log.clone())?,
            journal,
            counters,
            token,
            sale: options.sale.clone(),
            seed: options.seed,
            run,
            requests: AtomicU64::new(0),
            closing: closing.clone(),
        });
        let sessions = TaskTracker::new();
        for open in unfinished {
            let street = street.clone();
            sessions.spawn(async move { street.resume(open).await });
        }
        let arrivals =
            Arrivals { options, clock, schedule, started, street: street.clone(), sessions: sessions.clone() };
        tokio::join!(arrivals.run(&closing), play(background, &log, &arrivals, &closing));

        sessions.close();
        if tokio::time::timeout(CLOSING_TIME, sessions.wait()).await.is_err() {
            tracing::warn!(left = sessions.len(), "shoppers were still under way when the demo's traffic ended");
        }
        // The writers end with the last sender; shoppers given up on above still hold theirs.
        drop((log, street, arrivals));
        let end = async { (log_task.await, journal_task.await) };
        let (log_end, journal_end) =
            tokio::time::timeout(CLOSING_TIME, end).await.context("the demo's writers did not end")?;
        log_end.context("the access log's writer panicked")??;
        journal_end.context("the journal's writer panicked")?
    }
}

/// Runs a writer; its failure closes the street.
fn guarded(
    writer: impl Future<Output = Result<()>> + Send + 'static,
    closing: CancellationToken,
) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let end = writer.await;
        if end.is_err() {
            closing.cancel();
        }
        end
    })
}

struct Arrivals {
    options: TrafficOptions,
    clock: Arc<dyn Clock>,
    schedule: Schedule,
    started: Timestamp,
    street: Arc<Street>,
    sessions: TaskTracker,
}

impl Arrivals {
    async fn run(&self, closing: &CancellationToken) {
        let products: Vec<Arc<Product>> = self.options.products.iter().cloned().map(Arc::new).collect();
        let room = Arc::new(Semaphore::new(self.options.max_sessions));
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        let mut number = 0u64;
        let mut before = self.started;
        self.open_the_door(&products, &room);
        while tick(closing).await {
            let now = self.clock.now();
            let passed = now.since(before).as_secs_f64() * self.options.intensity;
            before = now;
            for (index, demand) in self.schedule.demand(now.since(self.started)).into_iter().enumerate() {
                for _ in 0..poisson(&mut random, demand.views * passed) {
                    number += 1;
                    self.admit(number, index, &products[index], demand, &room);
                }
            }
        }
    }

    /// Somebody is at the door when the sale opens, and knows what to buy: the loop is seen closed at once.
    fn open_the_door(&self, products: &[Arc<Product>], room: &Arc<Semaphore>) {
        let keen = Demand { views: 0.0, buy: 1.0, fans: 0.0 };
        if let Some((index, product)) = products.iter().enumerate().find(|(_, p)| p.role() == Role::Steady)
            && self.options.intensity > 0.0
        {
            self.admit(0, index, product, keen, room);
        }
    }

    fn admit(&self, number: u64, index: usize, product: &Arc<Product>, demand: Demand, room: &Arc<Semaphore>) {
        let Ok(permit) = room.clone().try_acquire_owned() else {
            return self.street.counters.with(|s| s.shed += 1);
        };
        let wish = shoppers::draw(self.options.seed, &self.street.run, number, index, product, demand);
        let street = self.street.clone();
        self.sessions.spawn(async move {
            street.shop(wish).await;
            drop(permit);
        });
    }
}

async fn play(mut background: Background, log: &AccessLog, arrivals: &Arrivals, closing: &CancellationToken) {
    let mut before = arrivals.started;
    while tick(closing).await {
        let now = arrivals.clock.now();
        background.write(log, arrivals.options.background_rate, now.since(before)).await;
        before = now;
    }
}

/// Waits for the next tick; `false` at the end.
async fn tick(closing: &CancellationToken) -> bool {
    tokio::select! {
        () = closing.cancelled() => false,
        () = tokio::time::sleep(TICK) => true,
    }
}

/// How many arrive where `mean` are expected (Knuth's product of uniforms, in steps it can carry).
fn poisson(random: &mut impl Rng, mut mean: f64) -> u32 {
    const STEP: f64 = 16.0;
    let mut arrived = 0;
    while mean > 0.0 {
        let limit = (-mean.min(STEP)).exp();
        let mut product: f64 = random.random();
        while product > limit {
            arrived += 1;
            product *= random.random::<f64>();
        }
        mean -= STEP;
    }
    arrived
}

#[cfg(test)]
mod tests;
