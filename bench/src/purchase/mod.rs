//! Area `purchase`: committed orders a second over HTTP on each tier, embedded and on real servers, their latencies
//! at 70 % of the peak, refusals beside bare axum, statements per attempt, memory. Server and generator share the
//! cores, so the generator is part of every limit. Orders are counted in SQL, never by answers.

mod alone;
pub mod place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bench::child::{Core, Providers, SALE, SECRET};
use bench::load::{self, Arrivals, Buyer, Mode, Plan, Report, Shoppers};
use bench::tokens::Tokens;
use tokio_util::sync::CancellationToken;
use types::Tier;

use crate::area::{Area, Settings};
use crate::figure::{Bar, Figure};
use crate::machine;
use place::{Orders, Place, Real, wall_ms};

/// Stock that no run sells out.
const PLENTY: u64 = 100_000_000;
/// Different buyers; their tokens are made before anything is measured.
const BUYERS: usize = 20_000;
/// Connections of the db tier and of refusals.
const CONNECTIONS: usize = 128;
/// Connections of tiers whose callers wait for the decision: they hold one each.
const WAITING: usize = 512;
/// Share of the peak at which latencies are taken.
const SHARE: f64 = 0.7;
/// Attempts per unit where statements are counted.
const PER_UNIT: f64 = 100.0;
/// Tickets left open while the database is paused.
const OPEN_TICKETS: f64 = 20_000.0;

/// The area.
pub struct Purchase;

impl Area for Purchase {
    fn name(&self) -> &'static str {
        "purchase"
    }
    fn about(&self) -> &'static str {
        "committed orders over HTTP on each tier, embedded and real, beside bare axum and the stores alone"
    }
    fn run(&self, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
        let folder = tempfile::tempdir_in(&settings.cache)?;
        let mut bench = Bench::new(settings)?;
        let real = match Real::start(&folder.path().join("servers")) {
            Ok(real) => Some(real),
            Err(error) => {
                settings.say(&format!("no real servers ({error:#}): their figures are left out"));
                None
            }
        };
        bench.refusing_core(&folder.path().join("refusals"))?;
        for round in 0..bench.rounds {
            settings.say(&format!("round {} of {}", round + 1, bench.rounds));
            bench.bare(&folder.path().join(format!("bare-{round}")))?;
            bench.alone(&folder.path().join(format!("alone-{round}")), real.as_ref())?;
            for tier in [Tier::Db, Tier::Redis, Tier::Queue] {
                let place = Place::Embedded(folder.path().join(format!("embedded-{tier}-{round}")));
                bench.tier(&place, tier)?;
                // Hundreds of megabytes each, and never looked at again.
                place.forget();
                if let Some(real) = &real {
                    bench.tier(&Place::Real(real, folder.path().join(format!("real-{tier}-{round}"))), tier)?;
                }
            }
            bench.refusals()?;
        }
        if let Some(real) = &real {
            bench.refused_and_waiting(real, &folder.path().join("refused"))?;
        }
        Ok(bench.figures())
    }
}

/// Rounds of one name.
struct Series {
    name: String,
    unit: &'static str,
    rounds: Vec<f64>,
    bar: Option<Bar>,
    against: Option<&'static str>,
}

struct Bench<'a> {
    settings: &'a Settings,
    rounds: usize,
    span: Duration,
    program: PathBuf,
    buyers: std::sync::Arc<[Buyer]>,
    series: Vec<Series>,
    /// Both are kept over all rounds and run once unmeasured, so that each knows the tokens (a token is verified once).
    bare: Option<Core>,
    refusing: Option<Core>,
    runs: u64,
}

const BARE: &str = "bare axum, refusals";
const SQLITE: &str = "SQLite alone, 500 a call";
const MARIADB: &str = "MariaDB alone, 500 a call";

impl<'a> Bench<'a> {
    fn new(settings: &'a Settings) -> anyhow::Result<Self> {
        let tokens = Tokens::new(SECRET);
        Ok(Self {
            settings,
            rounds: if settings.quick { 2 } else { 5 },
            span: Duration::from_millis(if settings.quick { 1_200 } else { 4_000 }),
            program: std::env::current_exe()?,
            buyers: load::buyers(&tokens, "b", BUYERS)?,
            series: Vec::new(),
            bare: None,
            refusing: None,
            runs: 0,
        })
    }

    fn put(&mut self, name: &str, unit: &'static str, value: f64) -> &mut Series {
        self.settings.say(&format!("  {name}: {value:.2} {unit}"));
        let at = match self.series.iter().position(|series| series.name == name) {
            Some(at) => at,
            None => {
                let name = name.to_owned();
                self.series.push(Series { name, unit, rounds: Vec::new(), bar: None, against: None });
                self.series.len() - 1
            }
        };
        self.series[at].rounds.push(value);
        &mut self.series[at]
    }

    fn figures(&self) -> Vec<Figure> {
        let of = |name: &str| self.series.iter().find(|s| s.name == name).map(|s| s.rounds.clone());
        let figure = |series: &Series| {
            let mut figure = Figure::new(series.name.clone(), series.unit, series.rounds.clone());
            if let Some((name, rounds)) = series.against.and_then(|name| Some((name, of(name)?))) {
                figure = figure.against(name, rounds);
            }
            match series.bar {
                Some(bar) => figure.bar(bar),
                None => figure,
            }
        };
        self.series.iter().map(figure).collect()
    }

    fn plan(&mut self, core: &Core, product: &str, mode: Mode, wait: bool) -> Plan {
        self.runs += 1;
        let shoppers = Shoppers {
            sale: SALE.to_owned(),
            products: vec![product.to_owned()],
            buyers: self.buyers.clone(),
            quantity: 1,
            duplicates: 0.0,
            retries: 0,
            follow: false,
            follow_every: Duration::from_secs(1),
            wait: wait.then_some(5),
            run: format!("r{}", self.runs),
        };
        let mut plan = Plan::new(core.at.public, mode, self.span, shoppers);
        plan.connections = if wait { WAITING } else { CONNECTIONS };
        plan.warm_up = self.span / 8;
        plan.seed = self.settings.seed;
        plan
    }

    fn bare(&mut self, folder: &Path) -> anyhow::Result<()> {
        let core = match self.bare.take() {
            Some(core) => core,
            None => {
                let core = Core::start(&self.program, folder, &Providers { bare: true, ..Providers::default() })?;
                run(&self.plan(&core, "p", Mode::Closed, false))?;
                core
            }
        };
        let plan = self.plan(&core, "p", Mode::Closed, false);
        let before = processor(&core);
        let report = run(&plan)?;
        let spent = (processor(&core) - before) / report.requests as f64;
        self.put(BARE, "requests/s", report.rate());
        self.put("bare axum, processor of the server", "µs/request", spent);
        self.bare = Some(core);
        Ok(())
    }

    /// The stores without HTTP.
    fn alone(&mut self, folder: &Path, real: Option<&Real>) -> anyhow::Result<()> {
        let rate = alone::sqlite(folder, self.span)?;
        self.put(SQLITE, "orders/s", rate);
        if let Some(real) = real {
            let rate = alone::mariadb(real.database()?, self.span)?;
            self.put(MARIADB, "orders/s", rate);
            let rate = real.evalsha(if self.settings.quick { 100_000 } else { 300_000 })?;
            self.put("Redis EVALSHA alone, 64 clients", "calls/s", rate);
        }
        Ok(())
    }

    /// Peak, then latencies at a share of it, of one tier on fresh databases.
    fn tier(&mut self, place: &Place<'_>, tier: Tier) -> anyhow::Result<()> {
        let (providers, orders) = place.open()?;
        let products = [("hot".to_owned(), PLENTY)];
        let mut core = Core::start(&self.program, place.folder(), &providers)?;
        core.sell(&products)?;
        core.put_on(tier, &products)?;
        let name = format!("{}, {tier} tier", place.name());
        let wait = tier != Tier::Db;

        let plan = self.plan(&core, "hot", Mode::Closed, wait);
        let (memory, before, from) = (resident(&core), processor(&core), wall_ms());
        let report = run(&plan)?;
        let (begin, end) = (from + plan.warm_up.as_millis() as i64, from + plan.duration.as_millis() as i64);
        let committed = orders.between(begin, end)?;
        let all = orders.between(0, i64::MAX)?;
        let spent = (processor(&core) - before) / all.max(1) as f64;
        let grown = (resident(&core) - memory) / all.max(1) as f64;
        let peak = committed as f64 / ((end - begin) as f64 / 1000.0);
        ensure!(peak > 0.0, "{name}: nothing was sold; answers: {:?}", report.answers);
        let bar = match (place, tier) {
            (Place::Embedded(_), Tier::Db) => Some(25_000.0),
            (Place::Real(..), Tier::Redis | Tier::Queue) => Some(10_000.0),
            _ => None,
        };
        let beside = if matches!(place, Place::Embedded(_)) { SQLITE } else { MARIADB };
        let series = self.put(&format!("{name}, committed"), "orders/s", peak);
        series.against = Some(beside);
        series.bar = bar.map(Bar::AtLeast);
        self.put(&format!("{name}, processor of the server"), "µs/order", spent);
        self.put(&format!("{name}, memory per live order"), "bytes", grown);

        let mode = Mode::Open { rate: peak * SHARE, arrivals: Arrivals::Poisson };
        let plan = self.plan(&core, "hot", mode, wait);
        let report = run(&plan)?;
        for (share, unit) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")] {
            let at = report.admitted.at(share);
            let series = self.put(&format!("{name}, {unit} at 70 % of peak"), "ms", at);
            series.bar = (unit == "p99").then_some(Bar::AtMost(50.0));
        }
        let missed = report.not_offered as f64 / report.arrivals.max(1) as f64;
        self.put(&format!("{name}, not offered at 70 %"), "share", missed);
        core.stop()
    }

    fn refusing_core(&mut self, folder: &Path) -> anyhow::Result<()> {
        let core = Core::start(&self.program, folder, &Providers::default())?;
        core.sell(&[("gone".to_owned(), 0), ("other".to_owned(), PLENTY)])?;
        self.refusing = Some(core);
        Ok(())
    }

    fn refusals(&mut self) -> anyhow::Result<()> {
        let core = self.refusing.take().context("a core that refuses")?;
        if !self.series.iter().any(|series| series.name == "sold-out answers") {
            run(&self.plan(&core, "gone", Mode::Closed, false))?;
        }
        let plan = self.plan(&core, "gone", Mode::Closed, false);
        let before = processor(&core);
        let report = run(&plan)?;
        ensure!(report.with_status(410) == report.requests, "not only refusals: {:?}", report.answers);
        let spent = (processor(&core) - before) / report.requests as f64;
        let series = self.put("sold-out answers", "requests/s", report.rate());
        series.against = Some(BARE);
        series.bar = Some(Bar::RatioAtLeast(0.8));
        self.put("sold-out answers, processor of the server", "µs/request", spent).against =
            Some("bare axum, processor of the server");
        self.refusing = Some(core);
        Ok(())
    }

    /// Statements of refused attempts, and memory of tickets, on one core.
    fn refused_and_waiting(&mut self, real: &Real, folder: &Path) -> anyhow::Result<()> {
        let rate = self.series.iter().find(|s| s.name == "sold-out answers").and_then(|s| s.rounds.last()).copied();
        let units = (rate.unwrap_or(20_000.0) * 0.5 * self.span.as_secs_f64() / PER_UNIT) as u64;
        let few = |tier: Tier| (format!("few-{tier}"), units.max(10));
        let products = [few(Tier::Redis), few(Tier::Queue), ("hot".to_owned(), PLENTY)];
        let place = Place::Real(real, folder.to_owned());
        let (providers, orders) = place.open()?;
        let mut core = Core::start(&self.program, place.folder(), &providers)?;
        core.sell(&products)?;
        for tier in [Tier::Redis, Tier::Queue] {
            core.put_on(tier, &[few(tier)])?;
            self.statements(&core, real, &orders, tier)?;
        }
        core.put_on(Tier::Redis, &[("hot".to_owned(), PLENTY)])?;
        self.open_tickets(core, real)
    }

    /// MariaDB's own count of statements while a hundred ask for each unit.
    fn statements(&mut self, core: &Core, real: &Real, orders: &Orders<'_>, tier: Tier) -> anyhow::Result<()> {
        let sold_before = orders.between(0, i64::MAX)?;
        let plan = self.plan(core, &format!("few-{tier}"), Mode::Closed, false);
        let before = real.statements()?;
        let report = run(&plan)?;
        let asked = real.statements()? - before;
        let sold = orders.between(0, i64::MAX)? - sold_before;
        let per = report.requests as f64 / sold.max(1) as f64;
        self.put(&format!("real, {tier} tier, attempts per unit sold"), "attempts", per);
        let name = format!("real, {tier} tier, statements per attempt");
        self.put(&name, "statements", asked as f64 / report.requests as f64).bar = Some(Bar::AtMost(0.1));
        Ok(())
    }

    /// Memory of tickets while the database answers nothing, so that none ends.
    fn open_tickets(&mut self, core: Core, real: &Real) -> anyhow::Result<()> {
        let mode = Mode::Open { rate: OPEN_TICKETS / self.span.as_secs_f64(), arrivals: Arrivals::Constant };
        // The buffers of connections and of the log's producer are no part of a ticket: fill them first.
        run(&self.plan(&core, "hot", mode, false))?;
        std::thread::sleep(Duration::from_secs(1));
        let before = resident(&core);
        real.pause();
        let report = run(&self.plan(&core, "hot", mode, false));
        let grown = resident(&core) - before;
        real.resume();
        let report = report?;
        ensure!(report.tickets > 0, "no tickets: {:?}", report.answers);
        self.put("memory per open ticket", "bytes", grown.max(0.0) / report.tickets as f64);
        // Killed, not stopped: it has thousands of grants to decide that nobody waits for.
        drop(core);
        Ok(())
    }
}

/// Processor time of a core so far, in µs.
fn processor(core: &Core) -> f64 {
    machine::computed_by(&core.pid().to_string()).as_secs_f64() * 1e6
}

/// Resident memory of a core, in bytes.
fn resident(core: &Core) -> f64 {
    machine::resident(&core.pid().to_string())
}

fn run(plan: &Plan) -> anyhow::Result<Report> {
    load::run(plan, &CancellationToken::new())
}
