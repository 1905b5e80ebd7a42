//! What the demo shows while it runs: a line of figures each second, each move with its reason, and the
//! auditor's samples. It only reads.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use audit::stock::Sampler;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::{Clock, Timestamp};

use super::TrafficHandle;
use super::legs::{Leg, Legs};
use crate::house::House;

/// How often figures are shown on a terminal, in real time.
const FIGURES: Duration = Duration::from_secs(1);
/// On a pipe or a file each line stays, so there are fewer.
const FIGURES_IN_A_FILE: u32 = 5;
/// How often, in event time, the auditor looks at what is sellable.
const SAMPLE: Duration = Duration::from_millis(200);
/// How often, in real time, the audit runs beside the sale.
const AUDIT: Duration = Duration::from_secs(3);

/// Standard output, with or without a last line that is written over.
pub struct Display {
    terminal: bool,
}

impl Display {
    /// For a terminal, or for a file.
    pub const fn new(terminal: bool) -> Self {
        Self { terminal }
    }
    /// A line that stays.
    pub fn line(&self, text: &str) {
        self.print(&if self.terminal { format!("\r\x1b[K{text}\n") } else { format!("{text}\n") });
    }
    /// Figures that the next line replaces, where that is possible.
    fn figures(&self, text: &str) {
        self.print(&if self.terminal { format!("\r\x1b[K{text}") } else { format!("{text}\n") });
    }
    fn print(&self, text: &str) {
        let mut out = std::io::stdout();
        // Nobody reads any more; the run and its verdict go on.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Reasons of planned moves until they are applied, and how many were applied by reason.
#[derive(Default)]
struct Moves {
    reasons: HashMap<types::Sku, (&'static str, Timestamp)>,
    applied: BTreeMap<String, u64>,
}

/// The watcher: its own tasks, and what they have seen.
pub struct Watch {
    plan: tokio::sync::broadcast::Sender<String>,
    moves: Arc<Mutex<Moves>>,
    verdict: Arc<Mutex<Option<(u64, bool)>>>,
    tasks: Vec<JoinHandle<()>>,
    sampler: JoinHandle<anyhow::Result<Sampler>>,
    stop: CancellationToken,
    figures: Figures,
}

struct Figures {
    collector: collector::Handle,
    analyzer: analyzer::Handle,
    core: seckill_core::CoreHandle,
    traffic: TrafficHandle,
    clock: Arc<dyn Clock>,
    started: Timestamp,
    began: Instant,
}

impl Watch {
    /// Starts looking.
    pub fn start(
        house: &House,
        traffic: TrafficHandle,
        clock: Arc<dyn Clock>,
        stock: audit::stock::Store,
        speed: f64,
        began: Instant,
        legs: Legs,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let moves = Arc::new(Mutex::new(Moves::default()));
        let verdict = Arc::new(Mutex::new(None));
        let (plan, _) = tokio::sync::broadcast::channel(1024);
        let started = clock.now();
        let tasks = vec![
            tokio::spawn(follow_moves(
                house,
                started,
                plan.clone(),
                moves.clone(),
                (legs, clock.clone()),
                stop.clone(),
            )),
            tokio::spawn(keep_auditing(stock.clone(), clock.clone(), speed, verdict.clone(), stop.clone())),
        ];
        let mut sampler = Sampler::on(&stock).context("the auditor's sampler")?;
        let (sampling, sample_clock) = (stop.clone(), clock.clone());
        let sampler = tokio::task::spawn_blocking(move || {
            while !sampling.is_cancelled() {
                sampler.sample(sample_clock.now().millis())?;
                std::thread::sleep(sample_clock.real(SAMPLE));
            }
            Ok(sampler)
        });
        let figures = Figures {
            collector: house.collector.clone(),
            analyzer: house.analyzer.clone(),
            core: house.core.clone(),
            traffic,
            clock,
            started,
            began,
        };
        Ok(Self { plan, moves, verdict, tasks, sampler, stop, figures })
    }

    /// Shows figures and moves for ever.
    pub async fn show(&self, display: &Display) {
        let mut moves = self.plan.subscribe();
        let every = if display.terminal { FIGURES } else { FIGURES * FIGURES_IN_A_FILE };
        let mut timer = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        let mut lines_before = (self.figures.collector.accounting().lines, self.figures.clock.now());
        let mut first_order = false;
        loop {
            tokio::select! {
                moved = moves.recv() => match moved {
                    Ok(text) => display.line(&text),
                    Err(RecvError::Lagged(n)) => display.line(&format!("({n} moves not shown)")),
                    Err(RecvError::Closed) => return,
                },
                _ = timer.tick() => {
                    display.figures(&self.figures.line(&mut lines_before, *self.verdict.lock()));
                }
                () = tokio::time::sleep(Duration::from_millis(20)), if !first_order => {
                    if self.figures.traffic.stats().orders() > 0 {
                        first_order = true;
                        display.line(&format!("first order {:.2} s after the program's start", self.figures.began.elapsed().as_secs_f64()));
                    }
                }
            }
        }
    }

    /// Stops looking; answers the applied moves by reason and the auditor's samples.
    pub async fn end(self) -> anyhow::Result<(BTreeMap<String, u64>, Sampler)> {
        self.stop.cancel();
        for task in self.tasks {
            task.await.context("a watcher of the demo panicked")?;
        }
        let sampler = self.sampler.await.context("the sampler panicked")??;
        let applied = std::mem::take(&mut self.moves.lock().applied);
        Ok((applied, sampler))
    }
}

fn clock_text(at: Timestamp, started: Timestamp) -> String {
    let s = at.since(started).as_secs();
    format!("{:02}:{:02}", s / 60, s % 60)
}

fn follow_moves(
    house: &House,
    started: Timestamp,
    show: tokio::sync::broadcast::Sender<String>,
    moves: Arc<Mutex<Moves>>,
    (legs, clock): (Legs, Arc<dyn Clock>),
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    // Subscribed here, before anything can move.
    let mut planned = house.control_plane.moves();
    let mut applied = house.core.moves();
    async move {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // What is planned is taken note of before what is applied, so that the reason is there.
                plan = planned.recv() => match plan {
                    Ok(m) => {
                        moves.lock().reasons.insert(m.product.clone(), (m.reason.as_str(), m.at));
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                done = applied.recv() => match done {
                    Ok(m) => {
                        let mut all = moves.lock();
                        let (why, after) = if m.from == m.to {
                            ("NewLease", None)
                        } else {
                            all.reasons.get(&m.product).map_or(("unknown", None), |(r, at)| (*r, Some(m.at.since(*at))))
                        };
                        *all.applied.entry(format!("{}→{} {why}", m.from, m.to)).or_default() += 1;
                        if let Some(took) = after {
                            legs.add(Leg::DecisionToMove, clock.real(took));
                        }
                        let after = after.map_or_else(String::new, |d| format!(", {} ms after the decision", d.as_millis()));
                        // Nobody may be looking; the count above is what matters.
                        let _ = show.send(format!(
                            "{}  {:<14} {} → {}  {why} (epoch {}{after})",
                            clock_text(m.at, started), m.product.as_str(), m.from, m.to, m.epoch
                        ));
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

async fn keep_auditing(
    stock: audit::stock::Store,
    clock: Arc<dyn Clock>,
    speed: f64,
    verdict: Arc<Mutex<Option<(u64, bool)>>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AUDIT) => {}
        }
        let options = audit::stock::Options::running(clock.now().millis()).at_speed(speed);
        let store = stock.clone();
        // Without the journals: they are long, and the end reads them once.
        let seen = tokio::task::spawn_blocking(move || audit::stock::audit_store(&store, &[], &options, None)).await;
        match seen {
            Ok(Ok(report)) => *verdict.lock() = Some((report.oversold, report.holds())),
            Ok(Err(error)) => tracing::warn!(%error, "the running audit could not read the store"),
            Err(error) => tracing::error!(%error, "the running audit panicked"),
        }
    }
}

impl Figures {
    fn line(&self, before: &mut (u64, Timestamp), verdict: Option<(u64, bool)>) -> String {
        let now = self.clock.now();
        let lines = self.collector.accounting().lines;
        let rate = (lines - before.0) as f64 / now.since(before.1).as_secs_f64().max(0.001);
        *before = (lines, now);
        let heat = self.analyzer.snapshot();
        let stats = self.traffic.stats();
        let hot = heat.top.iter().filter(|p| p.temperature == types::Temperature::Hot).count();
        let orders: Vec<_> = types::Tier::ALL
            .iter()
            .map(|t| format!("{t} {}", stats.orders_by_tier.get(t.as_str()).unwrap_or(&0)))
            .collect();
        let crowds = self.traffic.crowded();
        let crowd = if crowds.is_empty() { String::new() } else { format!(" | crowd {}", crowds.join(" ")) };
        let audited = match verdict {
            Some((oversold, true)) => format!("oversold {oversold}"),
            Some((oversold, false)) => format!("oversold {oversold}, AN INVARIANT IS BROKEN"),
            None => "not audited yet".to_owned(),
        };
        let reserved: u64 = self.core.products().iter().map(|p| p.reserved).sum();
        format!(
            "{}  {rate:.0} lines/s | {} pages, threshold {}, {hot} hot | orders {} ({reserved} units unpaid) | p99 {:.0} ms | {audited}{crowd}",
            clock_text(now, self.started),
            heat.active,
            heat.thresholds.hot60,
            orders.join(", "),
            stats.all_answers().quantile(0.99).as_secs_f64() * 1_000.0,
        )
    }
}
