//! A decision in words: which numbers made it, beside the numbers that they were compared with. For people; nothing
//! may be decided by this text.

use types::plan::Reason;

use super::Decision;
use crate::policy::Policy;

/// Why, in a sentence, by the numbers that the planner had and the policy that holds now.
pub fn because(decision: &Decision, policy: &Policy) -> String {
    let seen = &decision.evidence;
    let t = seen.thresholds;
    let heat5 = |name: &str, threshold: u64| {
        format!("{} weighted events in 5 s, {name} from {threshold}; {} visitors", seen.count5, seen.visitors)
    };
    let cool = |name: &str, threshold: u64| {
        let band = policy.demote_ratio * threshold as f64;
        format!(
            "{} weighted events in 60 s, below {band:.0} ({} of {threshold}, the threshold of {name}) for {:?}",
            seen.count60, policy.demote_ratio, policy.demote_after
        )
    };
    let contention = || {
        let capacity = match seen.redis_capacity {
            0 => "the redis path was not measured yet".to_owned(),
            n => format!("the redis path carries {n}/s"),
        };
        format!("{:.1} attempts/s for {} sellable units; {capacity}", seen.attempts_per_s, seen.sellable)
    };
    match &decision.reason {
        Reason::Cold => {
            let known = if seen.heat_known { "" } else { " (no report names its pages yet)" };
            format!("{}; warm from {}{known}", heat5("hot", t.hot5), t.warm5)
        }
        Reason::Warm => heat5("warm", t.warm5),
        Reason::Hot => format!("{}; contended: {}", heat5("hot", t.hot5), contention()),
        Reason::HotUncontended => format!("{}; not contended: {}", heat5("hot", t.hot5), contention()),
        Reason::Cooled => match decision.tier {
            types::Tier::Db => cool("warm", t.warm60),
            _ => cool("hot", t.hot60),
        },
        Reason::Override { by, until, why } => format!("{by} decided, until {until}: {why}"),
        Reason::SaleStart => "the sale asks for it at its opening; heat comes too late for the first second".to_owned(),
        Reason::Pinned => "the sale fixes the tier".to_owned(),
        Reason::SoldOut => format!("{} sellable units: a move would serve nobody", seen.sellable),
        Reason::DwellHeld => format!("a move is due, and the last one is less than {:?} old", policy.dwell),
        Reason::BudgetHeld => {
            format!("a move is due, and this tick has made its {} moves or is frozen", policy.moves_per_tick)
        }
        Reason::CoreNotReady => {
            format!("a move is due, and no core that sells it was heard for {:?}", policy.core_silence)
        }
        Reason::Stale { age_ms } => format!("no heat report for {} s: the tier is kept", age_ms / 1000),
    }
}
