//! Decides every product's tier: `plan(&PlanInput) -> PlanOutput`, pure. What it must remember between
//! ticks is part of its output, so the same input always gives the same plan. It looks only at the products that are
//! due, and says for each when it is due again. It must never read a clock, a store or a socket.

pub mod decision;
mod decisions;
pub mod explain;
mod level;
mod look;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use types::plan::Reason;
use types::{Sku, Temperature, Tier, Timestamp};

use crate::observe::{HeatView, ProductSeen, Products};
use crate::policy::Policy;

pub use decision::{Decision, Evidence, Memory, Override};
pub use decisions::Decisions;
pub use look::Look;

/// Which products a plan looks at.
#[derive(Debug, Clone, Copy)]
pub enum Due<'a> {
    /// Every one that a core sells or that is planned.
    All,
    /// These; the others stay as they are.
    These(&'a BTreeSet<Sku>),
}

/// Everything the planner may know.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// The numbers.
    pub policy: &'a Policy,
    /// The last plan, with what the planner remembers of each product.
    pub last: &'a Decisions,
    /// The newest heat.
    pub heat: &'a HeatView,
    /// Operators' decisions, ended ones included.
    pub overrides: &'a BTreeMap<Sku, Override>,
    /// What the cores say.
    pub products: &'a Products,
    /// Automatic moves that are left in this tick; none while an operator has frozen the plan.
    pub moves_left: usize,
    /// What is looked at.
    pub due: Due<'a>,
}

/// A tier that changes with this plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// Which product.
    pub product: Sku,
    /// Its tier until now.
    pub from: Tier,
    /// Its tier from now on.
    pub to: Tier,
    /// Bound by dwell and budget (heat decided), or not (an operator or the sale did).
    pub automatic: bool,
}

/// The new plan and how it differs from the last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanOutput {
    /// The products that were looked at and are planned, in the order of their SKUs.
    pub decisions: Vec<(Sku, Decision)>,
    /// Products that are new, or whose tier or override changed: what needs a new generation.
    pub changed: Vec<Sku>,
    /// Products that are planned no more (sale closed).
    pub dropped: Vec<Sku>,
    /// Overrides that have reached their end.
    pub ended: Vec<Sku>,
    /// Tiers that change.
    pub moves: Vec<Move>,
    /// When each product that was looked at is due again.
    pub looks: Vec<(Sku, Look)>,
}

impl PlanOutput {
    /// Automatic moves, as counted against the budget of a tick.
    pub fn automatic_moves(&self) -> usize {
        self.moves.iter().filter(|m| m.automatic).count()
    }
    /// The decision about one of the products that were looked at.
    pub fn decision(&self, product: &Sku) -> Option<&Decision> {
        let found = self.decisions.binary_search_by(|(sku, _)| sku.cmp(product)).ok()?;
        Some(&self.decisions[found].1)
    }
    /// The plan that follows `last`.
    pub fn applied_to(&self, last: &Decisions) -> Decisions {
        let mut next = last.clone();
        for product in &self.dropped {
            next.remove(product);
        }
        for (product, decision) in &self.decisions {
            if last.get(product) != Some(decision) {
                next.insert(product.clone(), decision.clone());
            }
        }
        next
    }
}

/// A decision before the budget of moves is spent.
struct Draft {
    decision: Decision,
    from: Tier,
    wanted: bool,
    automatic: bool,
}

/// Makes the next plan.
pub fn plan(input: &PlanInput<'_>) -> PlanOutput {
    let mut out = PlanOutput {
        ended: input.overrides.iter().filter(|(_, o)| !o.holds(input.now)).map(|(sku, _)| sku.clone()).collect(),
        ..PlanOutput::default()
    };
    let all: BTreeSet<Sku>;
    let due = match input.due {
        Due::These(due) => due,
        Due::All => {
            let planned = input.last.iter().map(|(sku, _)| sku.clone());
            all = input.products.all().into_iter().chain(planned).collect();
            &all
        }
    };
    let mut drafts: Vec<(&Sku, Draft)> = Vec::with_capacity(due.len());
    for sku in due {
        let last = input.last.get(sku);
        match input.products.get(sku) {
            Some(product) => {
                let order = input.overrides.get(sku).filter(|o| o.holds(input.now));
                if order.is_some() || on_sale_soon(&product, input) {
                    let draft = draft(last, &product, order, input);
                    out.looks.push((sku.clone(), look::again(&product, order, &draft.decision, draft.wanted, input)));
                    drafts.push((sku, draft));
                    continue;
                }
                out.looks.push((sku.clone(), look::unplanned(&product, input)));
                if last.is_some() {
                    out.dropped.push(sku.clone());
                }
            }
            // Until every core has spoken, silence about a product does not mean that its sale is over.
            None if last.is_some() && input.products.all_cores_known() => {
                out.looks.push((sku.clone(), Look::OnChange));
                out.dropped.push(sku.clone());
            }
            None => out.looks.push((sku.clone(), Look::OnChange)),
        }
    }
    spend_budget(&mut drafts, input);
    for (sku, draft) in drafts {
        finish(sku, draft, input, &mut out);
    }
    out
}

fn on_sale_soon(product: &ProductSeen<'_>, input: &PlanInput<'_>) -> bool {
    let state = product.state;
    input.now.plus(input.policy.opening_lead) >= state.opens && input.now < state.closes
}

/// Decides one product as if the budget had no end.
fn draft(last: Option<&Decision>, product: &ProductSeen<'_>, order: Option<&Override>, input: &PlanInput<'_>) -> Draft {
    let (policy, now, state) = (input.policy, input.now, product.state);
    let from = last.map_or_else(|| state.target.unwrap_or(state.tier), |l| l.tier);
    let evidence = Evidence::gather(product, input.heat, policy);
    let age = now.since(input.heat.fresh_at());
    let stale = age >= policy.stale_after;

    // A product that is new to the plan is taken as it stands and cools or warms from there.
    let memory = last.map_or_else(|| Memory::for_tier(from), |l| l.memory.clone());
    let memory = level::open_sale(memory, state, policy, now);
    let memory = if stale { memory.without_heat() } else { level::advance(memory, &evidence, state, policy, now) };
    let wanted = memory.tier();
    let reason = memory.reason(wanted < from, now, policy.dwell);

    let since = |tier: Tier, reason: &Reason| {
        last.filter(|l| l.tier == tier && l.reason.as_str() == reason.as_str()).map_or(now, |l| l.since)
    };
    let generation = last.map_or_else(Default::default, |l| l.generation);
    let decide = |tier, reason: Reason, automatic| {
        let decision =
            Decision { tier, since: since(tier, &reason), reason, generation, evidence, memory: memory.clone() };
        Draft { decision, from, wanted: tier != from, automatic }
    };

    if let Some(order) = order {
        return decide(order.tier, order.as_reason(), false);
    }
    let after_override = last.is_some_and(|l| matches!(l.reason, Reason::Override { .. }));
    let sold_out = state.sellable == 0 && state.reserved == 0;
    let all_reserved = state.sellable == 0;
    if sold_out {
        return decide(from, Reason::SoldOut, false);
    }
    if memory.is_sale_start() {
        return decide(wanted, reason, false);
    }
    if stale {
        // Keep the plan; but an override ends by itself even then, and what was known before it holds again.
        // Whole seconds, so that the plan does not differ with every tick.
        let reason = Reason::Stale { age_ms: age.as_secs().saturating_mul(1000) };
        return decide(if after_override { wanted } else { from }, reason, false);
    }
    if wanted == from {
        return decide(from, reason, true);
    }
    if all_reserved && wanted > from {
        return decide(from, Reason::SoldOut, true);
    }
    if !product.ready {
        return decide(from, Reason::CoreNotReady, true);
    }
    // A tier never changes under an unchanged reason: the reason would not explain the change. Such a
    // move (Cooled twice) says `DwellHeld` for one tick.
    let same_word = last.is_some_and(|l| l.reason.as_str() == reason.as_str());
    if memory.moved_within(now, policy.dwell) || same_word {
        return decide(from, Reason::DwellHeld, true);
    }
    decide(wanted, reason, true)
}

/// Lets the hottest moves pass and holds the others back until a later tick.
fn spend_budget(drafts: &mut [(&Sku, Draft)], input: &PlanInput<'_>) {
    let mut moving: Vec<usize> = (0..drafts.len()).filter(|&i| drafts[i].1.automatic && drafts[i].1.wanted).collect();
    moving.sort_by_key(|&i| {
        let (sku, draft) = &drafts[i];
        let seen = &draft.decision.evidence;
        (Reverse((draft.decision.tier, seen.count5, seen.count60)), *sku)
    });
    for (place, &i) in moving.iter().enumerate() {
        let (sku, draft) = &mut drafts[i];
        if place < input.moves_left {
            draft.decision.memory.moved(input.now);
        } else {
            let held = Reason::BudgetHeld.as_str();
            let since = input.last.get(sku).filter(|l| l.reason.as_str() == held).map_or(input.now, |l| l.since);
            draft.decision.tier = draft.from;
            draft.decision.reason = Reason::BudgetHeld;
            draft.decision.since = since;
            draft.wanted = false;
        }
    }
}

fn finish(sku: &Sku, draft: Draft, input: &PlanInput<'_>, out: &mut PlanOutput) {
    let Draft { decision, from, wanted, automatic } = draft;
    if wanted {
        out.moves.push(Move { product: sku.clone(), from, to: decision.tier, automatic });
    }
    let order = |reason: &Reason| matches!(reason, Reason::Override { .. }).then(|| reason.clone());
    let changed =
        input.last.get(sku).is_none_or(|l| l.tier != decision.tier || order(&l.reason) != order(&decision.reason));
    if changed {
        out.changed.push(sku.clone());
    }
    out.decisions.push((sku.clone(), decision));
}

/// The level at which a product that is found on `tier` is taken to be.
const fn level_of(tier: Tier) -> Temperature {
    match tier {
        Tier::Db => Temperature::Cold,
        Tier::Redis => Temperature::Warm,
        Tier::Queue => Temperature::Hot,
    }
}
