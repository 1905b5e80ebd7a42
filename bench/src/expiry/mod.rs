//! Area `expiry`: how late unpaid orders are released by a running core with a million of them open, falling due one
//! after the other while it sells, then a hundred thousand at one moment; and what open orders cost meanwhile. Lateness
//! is read from outside and from the orders' own events, never from the core's word.

mod place;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bench::child::{Core, SALE, SECRET};
use bench::load::{self, Arrivals, Buyer, Mode, Plan, Report, Shoppers};
use bench::tokens::Tokens;
use tokio_util::sync::CancellationToken;

use crate::area::{Area, Settings};
use crate::figure::{Bar, Figure};
use crate::machine;
use place::{Filling, Place, wall_ms};

/// Purchases that go on meanwhile, a second.
const SELLING: f64 = 200.0;
/// What they buy: stock that no run sells out.
const HOT: (&str, u64) = ("hot", 100_000_000);
/// Between two looks from outside.
const LOOK: Duration = Duration::from_millis(100);
/// How long a core is watched while nothing is due.
const IDLE: Duration = Duration::from_secs(5);
/// From a core's start until the first order is due: its start, and [`IDLE`].
const LEAD: Duration = Duration::from_secs(10);
/// Longest wait until everything that was due is released.
const PATIENCE: Duration = Duration::from_secs(120);

/// The area.
pub struct Expiry;

/// How much of everything.
struct Size {
    /// Open orders, due one after the other over 15 minutes.
    open: u64,
    /// Orders due at one moment.
    together: u64,
    /// How long the first are watched.
    watched: Duration,
    /// Time that filling a database takes at most.
    fill: Duration,
}

impl Area for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }
    fn about(&self) -> &'static str {
        "how late unpaid orders are released with a million open, on SQLite and on MariaDB, while the core sells"
    }
    fn run(&self, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
        let size = if settings.quick {
            let (watched, fill) = (Duration::from_secs(8), Duration::from_secs(20));
            Size { open: 100_000, together: 10_000, watched, fill }
        } else {
            let (watched, fill) = (Duration::from_secs(30), Duration::from_secs(100));
            Size { open: 1_000_000, together: 100_000, watched, fill }
        };
        let folder = tempfile::tempdir_in(&settings.cache)?;
        let buyers = load::buyers(&Tokens::new(SECRET), "b", 1_000)?;
        let mut figures = Vec::new();
        for (n, place) in place::all(folder.path(), settings).iter().enumerate() {
            let mut bench = Bench { settings, size: &size, place, buyers: &buyers, figures: &mut figures };
            bench.run(&folder.path().join(format!("core-{n}")))?;
        }
        Ok(figures)
    }
}

struct Bench<'a> {
    settings: &'a Settings,
    size: &'a Size,
    place: &'a Place,
    buyers: &'a std::sync::Arc<[Buyer]>,
    figures: &'a mut Vec<Figure>,
}

/// What a core costs while nothing is due: resident bytes, and µs of processor a second.
struct Rest {
    memory: f64,
    processor: f64,
}

impl Bench<'_> {
    fn put(&mut self, name: &str, unit: &'static str, value: f64) -> &mut Figure {
        let name = format!("{}, {name}", self.place.name());
        self.settings.say(&format!("  {name}: {value:.2} {unit}"));
        self.figures.push(Figure::new(name, unit, vec![value]));
        self.figures.last_mut().expect("just pushed")
    }

    fn run(&mut self, data: &Path) -> anyhow::Result<()> {
        let (program, place) = (std::env::current_exe()?, self.place);
        let (providers, sql) = place.open(data)?;
        let core = Core::start(&program, data, &providers)?;
        let mut products = place::products(self.size.open, self.size.together);
        products.push((HOT.0.to_owned(), HOT.1));
        core.sell(&products)?;
        let empty = rest(&core);
        core.stop()?;

        let first = wall_ms() + millis(self.size.fill + LEAD);
        let together = first + millis(self.size.watched) + 3_000;
        let filling = Filling { open: self.size.open, together: self.size.together, first, together_at: together };
        let began = Instant::now();
        sql.fill(&filling)?;
        self.settings.say(&format!("  {}: filled in {:.1?}", place.name(), began.elapsed()));
        wait_until(first - millis(LEAD)).context("filling took longer than was planned for")?;
        let core = Core::start(&program, data, &providers)?;
        let full = rest(&core);
        wait_until(first).context("the core's start took longer than was planned for")?;

        let (seen, report) = self.watch(&core, &sql, self.size.watched)?;
        let from = SystemMs { from: first, to: first + millis(self.size.watched) };
        let late = sorted(sql.lateness(from.from, from.to)?);
        ensure!(!late.is_empty(), "nothing was released");
        self.put("open orders, due over 15 min", "orders", self.size.open as f64);
        self.put("memory per open order", "bytes", (full.memory - empty.memory) / self.size.open as f64);
        let name = format!("{}, processor while nothing is due, none open", place.name());
        self.put("processor while nothing is due", "µs/s", full.processor).against =
            Some((name, vec![empty.processor]));
        self.put("released one by one", "orders/s", late.len() as f64 / self.size.watched.as_secs_f64());
        self.put("late by the order's event, p50", "ms", share(&late, 0.5));
        self.put("late by the order's event, p99", "ms", share(&late, 0.99));
        self.put("late seen from outside, most", "ms", seen).bar = Some(Bar::AtMost(1_000.0));
        self.put("p99 of purchases meanwhile", "ms", report.admitted.at(0.99));

        wait_until(together).context("the first part took longer than was planned for")?;
        let span = Duration::from_secs(if self.settings.quick { 4 } else { 15 });
        let (_, report) = self.watch(&core, &sql, span)?;
        let began = Instant::now();
        while sql.overdue(wall_ms())?.is_some_and(|due| wall_ms() - due > 1_000) {
            ensure!(began.elapsed() < PATIENCE, "orders stay overdue");
            std::thread::sleep(LOOK);
        }
        let late = sorted(sql.lateness(together, together + 1)?);
        ensure!(late.len() as u64 >= self.size.together, "{} of {} are released", late.len(), self.size.together);
        let last = share(&late, 1.0);
        self.put("due at one moment", "orders", self.size.together as f64);
        self.put("of these, the last one is late", "ms", last);
        self.put("of these, released", "orders/s", late.len() as f64 / (last / 1_000.0).max(0.001));
        self.put("p99 of purchases meanwhile (all at one moment)", "ms", report.admitted.at(0.99));
        core.stop()?;
        sql.check()
    }

    /// Sells for this long and looks from outside: how overdue the oldest unreleased order was, at most (ms).
    fn watch(&self, core: &Core, sql: &place::Sql<'_>, span: Duration) -> anyhow::Result<(f64, Report)> {
        let shoppers = Shoppers {
            sale: SALE.to_owned(),
            products: vec![HOT.0.to_owned()],
            buyers: self.buyers.clone(),
            quantity: 1,
            duplicates: 0.0,
            retries: 0,
            follow: false,
            follow_every: Duration::from_secs(1),
            wait: None,
            run: format!("expiry-{}", wall_ms()),
        };
        let mode = Mode::Open { rate: SELLING, arrivals: Arrivals::Poisson };
        let mut plan = Plan::new(core.at.public, mode, span, shoppers);
        plan.seed = self.settings.seed;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| -> anyhow::Result<i64> {
                let mut most = 0;
                while !over.load(Ordering::Relaxed) {
                    if let Some(due) = sql.overdue(wall_ms())? {
                        // The time of the look itself counts against the core.
                        most = most.max(wall_ms() - due);
                    }
                    std::thread::sleep(LOOK);
                }
                Ok(most)
            });
            let report = load::run(&plan, &CancellationToken::new());
            over.store(true, Ordering::Relaxed);
            let most = looking.join().map_err(|_| anyhow::anyhow!("the look from outside panicked"))??;
            let report = report?;
            ensure!(report.accepted > 0, "nothing was sold meanwhile: {:?}", report.answers);
            Ok((most as f64, report))
        })
    }
}

/// A part of time, in milliseconds since the epoch.
struct SystemMs {
    from: i64,
    to: i64,
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

fn wait_until(moment: i64) -> anyhow::Result<()> {
    let left = moment - wall_ms();
    ensure!(left >= 0, "{} ms too late", -left);
    std::thread::sleep(Duration::from_millis(left.unsigned_abs()));
    Ok(())
}

fn rest(core: &Core) -> Rest {
    let pid = core.pid().to_string();
    let before = machine::computed_by(&pid);
    std::thread::sleep(IDLE);
    let processor = (machine::computed_by(&pid) - before).as_secs_f64() * 1e6 / IDLE.as_secs_f64();
    Rest { memory: machine::resident(&pid), processor }
}

fn sorted(mut late: Vec<i64>) -> Vec<i64> {
    late.sort_unstable();
    late
}

/// The value within which this share (0 to 1) lies.
fn share(sorted: &[i64], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0) as f64
}
