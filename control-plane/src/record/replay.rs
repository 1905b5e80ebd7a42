//! A recorded sale, planned again under another policy: which moves would differ, how fast it would react, which path
//! each attempt would have met. Pure: the same record and policy give the same answer. It does not guess how shoppers
//! would have behaved otherwise; their attempts are the recorded ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::plan::{CoreState, ProductState};
use types::{CoreId, Generation, HeatEntry, HeatReport, Sku, Term, Tier, Timestamp};

use super::{Kind, Row};
use crate::desk::Desk;
use crate::observe::{CoreSeen, HeatView};
use crate::planner::{Decisions, Due, Override, PlanInput, plan};
use crate::policy::Policy;

/// As the control plane plans.
const TICK: Duration = Duration::from_millis(250);

/// Why a record cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A row does not hold what this program writes.
    #[error("row {row}: {why}")]
    Row {
        /// Its number.
        row: usize,
        /// What is wrong.
        why: String,
    },
    /// There is no policy in it, so it is not known under which it was planned.
    #[error("the record has no policy: its beginning is missing")]
    NoPolicy,
}

/// One move of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// When.
    pub at: Timestamp,
    /// Which product.
    pub product: Sku,
    /// From where.
    pub from: Tier,
    /// Where to.
    pub to: Tier,
    /// Why.
    pub reason: &'static str,
}

/// What a policy made of the sale.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Outcome {
    /// Every move.
    pub moves: Vec<Moved>,
    /// From the first report over the hot threshold to a warmer tier, for each time a product became hot; milliseconds.
    pub reactions_ms: Vec<u64>,
    /// Attempts that met each path, db, redis, queue.
    pub attempts: [u64; 3],
    /// Attempts that met nothing to sell: refused on whatever path.
    pub refused: u64,
}

impl Outcome {
    /// Statements of SQL that the attempts cost, about: on `db` each attempt is one of a group's statements in the
    /// database; on the other paths SQL sees what was granted, in batches of hundreds.
    pub const fn sql_attempts(&self) -> u64 {
        self.attempts[0]
    }
    /// Mean time to react in milliseconds; 0 if nothing became hot.
    pub fn mean_reaction_ms(&self) -> u64 {
        match self.reactions_ms.len() as u64 {
            0 => 0,
            n => self.reactions_ms.iter().sum::<u64>() / n,
        }
    }
    /// Longest time to react.
    pub fn longest_reaction_ms(&self) -> u64 {
        self.reactions_ms.iter().copied().max().unwrap_or(0)
    }
}

#[derive(Deserialize)]
struct StateDetail {
    state: ProductState,
    redis_capacity: u64,
}

/// The policy under which a record begins.
pub fn recorded_policy(rows: &[Row]) -> Result<Policy, ReplayError> {
    let (n, first) = rows.iter().enumerate().find(|(_, row)| row.kind == Kind::Policy).ok_or(ReplayError::NoPolicy)?;
    detail(n, first)
}

fn detail<T: serde::de::DeserializeOwned>(row: usize, of: &Row) -> Result<T, ReplayError> {
    let text = of.detail.as_deref().unwrap_or_default();
    serde_json::from_str(text).map_err(|e| ReplayError::Row { row, why: e.to_string() })
}

/// Plans the recorded sale under `policy`.
pub fn replay(rows: &[Row], policy: &Policy) -> Result<Outcome, ReplayError> {
    let Some(first) = rows.first() else { return Err(ReplayError::NoPolicy) };
    let mut sale = Sale::begin(first.at, policy);
    for (n, row) in rows.iter().enumerate() {
        if row.kind != Kind::Heat {
            sale.take_report();
        }
        while sale.next_tick <= row.at {
            sale.tick(sale.next_tick);
        }
        match row.kind {
            Kind::Report => {
                sale.report = Some((row.at, detail::<HeatReport>(n, row)?));
            }
            Kind::Heat => {
                let entry: HeatEntry = detail(n, row)?;
                if let Some((_, report)) = &mut sale.report
                    && !report.entries.iter().any(|e| e.page == entry.page)
                {
                    report.entries.push(entry);
                }
            }
            Kind::State => {
                let StateDetail { state, redis_capacity } = detail(n, row)?;
                sale.redis_capacity = redis_capacity;
                sale.states.insert(state.product.clone(), state);
                sale.new_states = true;
            }
            Kind::Override | Kind::OverrideOver => {
                let Some(product) = row.product.clone() else { continue };
                sale.desk.touch([product.clone()]);
                match row.kind {
                    Kind::Override => sale.overrides.insert(product, detail::<Override>(n, row)?),
                    _ => sale.overrides.remove(&product),
                };
            }
            Kind::Policy | Kind::Decision | Kind::Move => {}
        }
    }
    sale.take_report();
    sale.tick(sale.next_tick);
    Ok(sale.outcome)
}

struct Sale<'a> {
    policy: &'a Policy,
    heat: HeatView,
    desk: Desk,
    states: BTreeMap<Sku, ProductState>,
    new_states: bool,
    redis_capacity: u64,
    overrides: BTreeMap<Sku, Override>,
    core: CoreSeen,
    last: Decisions,
    report: Option<(Timestamp, HeatReport)>,
    next_tick: Timestamp,
    /// Since when each product is over the hot threshold without a reaction; `None`: it was reacted to.
    hot_since: BTreeMap<Sku, Option<Timestamp>>,
    /// Attempts by product, per second, and parts of an attempt that are not counted yet.
    rest: BTreeMap<Sku, f64>,
    outcome: Outcome,
}

impl<'a> Sale<'a> {
    fn begin(at: Timestamp, policy: &'a Policy) -> Self {
        Self {
            policy,
            heat: HeatView::new(at),
            desk: Desk::new(at),
            states: BTreeMap::new(),
            new_states: true,
            redis_capacity: 0,
            overrides: BTreeMap::new(),
            core: CoreSeen::default(),
            last: Decisions::default(),
            report: None,
            next_tick: at.plus(TICK),
            hot_since: BTreeMap::new(),
            rest: BTreeMap::new(),
            outcome: Outcome::default(),
        }
    }

    fn take_report(&mut self) {
        let Some((at, report)) = self.report.take() else { return };
        self.desk.reported(&report);
        self.heat.apply(b"replay", report, at);
        self.plan(at);
    }

    /// A tick: a plan, and the attempts of a quarter of a second.
    fn tick(&mut self, now: Timestamp) {
        self.plan(now);
        for (product, state) in &self.states {
            let Some(decision) = self.last.get(product) else { continue };
            let seen = self.heat.of(&state.pages);
            let rest = self.rest.entry(product.clone()).or_default();
            *rest += seen.attempts_per_s * TICK.as_secs_f64();
            let whole = rest.floor();
            *rest -= whole;
            // A rate of attempts is far below 2^53.
            let whole = whole as u64;
            if state.sellable == 0 {
                self.outcome.refused += whole;
            }
            self.outcome.attempts[decision.tier as usize] += whole;
            // The time to react runs from the first report over the threshold.
            let threshold = self.heat.thresholds().hot5;
            let hot = threshold > 0 && seen.count5 >= threshold && seen.visitors >= self.policy.min_visitors;
            let reacted = decision.tier > Tier::Db;
            let since = self.hot_since.get(product).copied();
            match (hot, reacted, since) {
                (true, false, None) => drop(self.hot_since.insert(product.clone(), Some(now))),
                (true, true, None) => {
                    self.outcome.reactions_ms.push(0);
                    self.hot_since.insert(product.clone(), None);
                }
                (_, true, Some(Some(at))) => {
                    let took = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
                    self.outcome.reactions_ms.push(took);
                    self.hot_since.insert(product.clone(), None);
                }
                (false, false, Some(_)) => drop(self.hot_since.remove(product)),
                _ => {}
            }
        }
        self.next_tick = now.plus(TICK);
    }

    fn plan(&mut self, now: Timestamp) {
        if self.new_states || self.core.state.is_none() {
            self.new_states = false;
            self.core.state = CoreId::new("replay").ok().map(|core| {
                Arc::new(CoreState {
                    core,
                    incarnation: 1,
                    generation: Generation::default(),
                    term: Term::default(),
                    redis_capacity: self.redis_capacity,
                    products: self.states.values().cloned().collect(),
                })
            });
        }
        self.core.at = now;
        let stale = now.since(self.heat.fresh_at()) >= self.policy.stale_after;
        let over = self.overrides.iter().filter(|(_, o)| !o.holds(now)).map(|(sku, _)| sku.clone());
        self.desk.touch(over.collect::<Vec<_>>());
        let cores = std::slice::from_ref(&self.core);
        let all = self.desk.prepare(cores, now, self.policy.core_silence, stale);
        let mut out = plan(&PlanInput {
            now,
            policy: self.policy,
            last: &self.last,
            heat: &self.heat,
            overrides: &self.overrides,
            products: &self.desk.products,
            moves_left: self.policy.moves_per_tick,
            due: if all { Due::All } else { Due::These(self.desk.due()) },
        });
        self.desk.looked(std::mem::take(&mut out.looks), all);
        for m in &out.moves {
            let reason = out.decision(&m.product).map_or("", |d| d.reason.as_str());
            self.outcome.moves.push(Moved { at: now, product: m.product.clone(), from: m.from, to: m.to, reason });
        }
        self.last = out.applied_to(&self.last);
        for product in &out.ended {
            self.overrides.remove(product);
        }
    }
}
