//! When a product must be looked at again. A product at rest, whose decision neither time nor another threshold can
//! change, is looked at only when something is said about it; that is what keeps a plan's cost to what changes.

use types::{Temperature, Timestamp};

use super::{Decision, Override, PlanInput};
use crate::observe::ProductSeen;

/// When to look again, if nothing is said about the product before: by a core, a heat report or an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// At every tick: it has heat, cools, is held back or is about to start.
    EveryTick,
    /// At this moment.
    At(Timestamp),
    /// Only when something is said about it.
    OnChange,
}

/// For a product that is planned. `moving`: its tier is about to change.
pub(super) fn again(
    product: &ProductSeen<'_>,
    order: Option<&Override>,
    decision: &Decision,
    moving: bool,
    input: &PlanInput<'_>,
) -> Look {
    let (memory, seen, state) = (&decision.memory, &decision.evidence, product.state);
    let starts = state.initial_tier.is_some() && input.now < state.opens.plus(input.policy.dwell);
    let has_heat = seen.count5 > 0 || seen.count60 > 0 || seen.attempts_per_s > 0.0;
    let on_the_way = memory.level > Temperature::Cold || memory.over_hot > 0 || memory.over_warm > 0;
    // Held back for whatever reason: what heat asks for is not what it has.
    let sold_out = matches!(decision.reason, types::plan::Reason::SoldOut);
    let held = order.is_none() && !sold_out && memory.tier() != decision.tier;
    if starts || has_heat || on_the_way || held || moving || memory.sale_start {
        return Look::EveryTick;
    }
    Look::At(order.map_or(state.closes, |order| order.until))
}

/// For a product that is not planned.
pub(super) fn unplanned(product: &ProductSeen<'_>, input: &PlanInput<'_>) -> Look {
    let state = product.state;
    if input.now >= state.closes {
        return Look::OnChange;
    }
    let lead = i64::try_from(input.policy.opening_lead.as_millis()).unwrap_or(i64::MAX);
    Look::At(Timestamp::from_millis(state.opens.millis().saturating_sub(lead)))
}
