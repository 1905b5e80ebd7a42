//! The hysteresis: how a product's level follows its heat. Up by the 5 s window, down by the 60 s window,
//! never both within one look.

use types::plan::ProductState;
use types::{Temperature, Timestamp};

use super::decision::{Evidence, Memory};
use super::level_of;
use crate::policy::Policy;

/// Takes up the sale's wish for its opening second, once for each opening. Heat that is already higher stays.
pub(super) fn open_sale(mut memory: Memory, state: &ProductState, policy: &Policy, now: Timestamp) -> Memory {
    let Some(tier) = state.initial_tier else { return memory };
    // After a late start of ours the wish is history: heat has had its say.
    let too_late = now >= state.opens.plus(policy.dwell);
    if memory.opened_for == Some(state.opens) || too_late {
        return memory;
    }
    memory.opened_for = Some(state.opens);
    if level_of(tier) >= memory.level {
        memory.sale_start = true;
        memory.level = level_of(tier);
        memory.contended = tier == types::Tier::Queue;
        memory.cooled = false;
    }
    memory
}

/// Moves the level on by what is seen now.
pub(super) fn advance(
    mut memory: Memory,
    seen: &Evidence,
    state: &ProductState,
    policy: &Policy,
    now: Timestamp,
) -> Memory {
    let enough = seen.count5 >= policy.min_events && seen.visitors >= policy.min_visitors;
    let over = |threshold: u64| enough && threshold > 0 && seen.count5 >= threshold;
    let urgent = |threshold: u64| over(threshold) && seen.count5 as f64 >= policy.urgent_factor * threshold as f64;
    let (hot, warm) = (over(seen.thresholds.hot5), over(seen.thresholds.warm5));

    // One report is one tick, however often it is looked at.
    if seen.revision != memory.revision {
        memory.revision = seen.revision;
        memory.over_hot = if hot { memory.over_hot.saturating_add(1) } else { 0 };
        memory.over_warm = if warm { memory.over_warm.saturating_add(1) } else { 0 };
    }
    let earned = if memory.over_hot >= policy.promote_ticks || urgent(seen.thresholds.hot5) {
        Temperature::Hot
    } else if hot {
        // On its way to hot: a move to warm now would only make hot wait for its dwell.
        Temperature::Cold
    } else if memory.over_warm >= policy.promote_ticks || urgent(seen.thresholds.warm5) {
        Temperature::Warm
    } else {
        Temperature::Cold
    };
    if earned > Temperature::Cold && earned >= memory.level {
        // Heat itself now says what the sale had asked for, or more.
        memory.sale_start = false;
        if earned > memory.level {
            memory.level = earned;
            memory.cooled = false;
        }
    }

    // A sale start has its dwell before heat's absence counts. A page that nobody reported yet is not cold.
    let counted = seen.heat_known && !(memory.sale_start && now < state.opens.plus(policy.dwell));
    let below = |threshold: u64| seen.count60 == 0 || (seen.count60 as f64) < policy.demote_ratio * threshold as f64;
    let clock = |running: Option<Timestamp>, is_below: bool| is_below.then(|| running.unwrap_or(now));
    // A page that is over its 5 s threshold is not cooling, whatever the last minute says.
    memory.below_hot = clock(memory.below_hot, counted && !hot && below(seen.thresholds.hot60));
    memory.below_warm = clock(memory.below_warm, counted && !warm && below(seen.thresholds.warm60));
    let long = |since: Option<Timestamp>| since.is_some_and(|since| now.since(since) >= policy.demote_after);
    let cooled_to = match memory.level {
        Temperature::Cold => Temperature::Cold,
        _ if long(memory.below_warm) => Temperature::Cold,
        Temperature::Hot if long(memory.below_hot) => Temperature::Warm,
        level => level,
    };
    if cooled_to < memory.level {
        memory.level = cooled_to;
        memory.cooled = true;
        memory.sale_start = false;
    }
    memory.contended = memory.level == Temperature::Hot && (memory.contended || seen.contended);
    memory
}
