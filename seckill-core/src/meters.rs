//! Handles of the metrics that every purchase call counts in, looked up once for each core: a look-up by name and
//! labels costs more than the counting. Names and help texts are in `metrics`.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use types::Tier;

use crate::admission::Refusal;
use crate::metrics::{ATTEMPTS, ORDERS, PURCHASE_SECONDS, REFUSALS};

/// How a purchase call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    Accepted,
    Queued,
    Refused(Refusal),
}

const TIERS: [Option<Tier>; 4] = [Some(Tier::Db), Some(Tier::Redis), Some(Tier::Queue), None];

const fn place(tier: Option<Tier>) -> usize {
    match tier {
        Some(Tier::Db) => 0,
        Some(Tier::Redis) => 1,
        Some(Tier::Queue) => 2,
        None => 3,
    }
}

struct OfTier {
    accepted: Counter,
    queued: Counter,
    refused: Vec<Counter>,
    seconds: Histogram,
    orders: Option<Counter>,
}

impl OfTier {
    fn new(tier: Option<Tier>) -> Self {
        let name = tier.map_or("none", Tier::as_str);
        let answered = |outcome: &'static str| counter!(ATTEMPTS, "tier" => name, "outcome" => outcome);
        Self {
            accepted: answered("accepted"),
            queued: answered("queued"),
            refused: Refusal::NAMES.iter().map(|reason| answered(reason)).collect(),
            seconds: histogram!(PURCHASE_SECONDS, "tier" => name),
            orders: tier.map(|tier| counter!(ORDERS, "tier" => tier.as_str())),
        }
    }
}

/// The handles of one core; made when the process's recorder is there.
pub(crate) struct Meters {
    tiers: [OfTier; 4],
    refusals: Vec<Counter>,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            tiers: TIERS.map(OfTier::new),
            refusals: Refusal::NAMES.iter().map(|reason| counter!(REFUSALS, "reason" => *reason)).collect(),
        }
    }

    /// A purchase call was answered.
    pub(crate) fn attempt(&self, tier: Option<Tier>, answered: Answered, took: Duration) {
        let tier = &self.tiers[place(tier)];
        match answered {
            Answered::Accepted => tier.accepted.increment(1),
            Answered::Queued => tier.queued.increment(1),
            Answered::Refused(refusal) => {
                tier.refused[refusal.place()].increment(1);
                self.refusals[refusal.place()].increment(1);
            }
        }
        tier.seconds.record(took.as_secs_f64());
    }

    /// An order was committed.
    pub(crate) fn order_accepted(&self, tier: Tier) {
        if let Some(orders) = &self.tiers[place(Some(tier))].orders {
            orders.increment(1);
        }
    }
}
