//! What the planner says about one product, and what it remembers of it until the next tick.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::plan::Reason;
use types::{Generation, Temperature, Thresholds, Tier, Timestamp};

use super::level_of;
use crate::observe::{HeatView, ProductSeen};
use crate::policy::Policy;

/// An operator's decision with its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The tier that holds.
    pub tier: Tier,
    /// Who decided: the subject of the token.
    pub by: String,
    /// Why, in his words.
    pub why: String,
    /// When.
    pub at: Timestamp,
    /// First moment at which it no longer holds.
    pub until: Timestamp,
    /// The generation that carried it first; also its version (ETag).
    pub generation: Generation,
}

impl Override {
    /// Whether it is in force.
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.until
    }
    pub(super) fn as_reason(&self) -> Reason {
        Reason::Override { by: self.by.clone(), until: self.until, why: self.why.clone() }
    }
}

/// The numbers behind a decision.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Evidence {
    /// Weighted events in the last 5 s.
    pub count5: u64,
    /// Weighted events in the last 60 s.
    pub count60: u64,
    /// Distinct visitors in the last 60 s.
    pub visitors: u64,
    /// Purchase attempts per second over the last 5 s.
    pub attempts_per_s: f64,
    /// Whether silence about a page means that it is cold.
    pub heat_known: bool,
    /// Counts from which a page is hot or warm.
    pub thresholds: Thresholds,
    /// Units that can still be sold.
    pub sellable: u64,
    /// Purchases per second that the redis path carries; 0 if not measured.
    pub redis_capacity: u64,
    /// Contended by the rule, now.
    pub contended: bool,
    /// The heat report that was looked at (rises with each).
    pub revision: u64,
}

impl Evidence {
    pub(super) fn gather(product: &ProductSeen<'_>, heat: &HeatView, policy: &Policy) -> Self {
        let seen = heat.of(&product.state.pages);
        let sellable = product.state.sellable;
        Self {
            count5: seen.count5,
            count60: seen.count60,
            visitors: seen.visitors,
            attempts_per_s: seen.attempts_per_s,
            heat_known: seen.known,
            thresholds: heat.thresholds(),
            sellable,
            redis_capacity: product.redis_capacity,
            contended: contended(seen.attempts_per_s, sellable, product.redis_capacity, policy),
            revision: heat.revision(),
        }
    }
}

/// At this attempt rate it would sell out within `sellout_within`, or the attempts exceed `redis_share` of
/// the redis path's measured capacity (which does not count while nothing was measured).
fn contended(attempts_per_s: f64, sellable: u64, redis_capacity: u64, policy: &Policy) -> bool {
    // The conversions are exact up to 2^53 units, far above the most that a product may have.
    let sells_out = attempts_per_s > 0.0 && attempts_per_s * policy.sellout_within.as_secs_f64() >= sellable as f64;
    let overloads = redis_capacity > 0 && attempts_per_s > policy.redis_share * redis_capacity as f64;
    sells_out || overloads
}

/// What the planner remembers of a product between ticks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Its heat with hysteresis: up by the 5 s window, down by the 60 s window.
    pub(super) level: Temperature,
    /// It was contended since it became hot. Not withdrawn before it cools: contention comes and goes with
    /// each second's attempts, and every withdrawal would be a move under full load.
    pub(super) contended: bool,
    /// Its last change of level was downwards.
    pub(super) cooled: bool,
    /// Its level is still the one that its sale asked for.
    pub(super) sale_start: bool,
    /// The opening for which the sale's wish was taken.
    pub(super) opened_for: Option<Timestamp>,
    /// Reports in a row over the hot threshold of 5 s.
    pub(super) over_hot: u32,
    /// Reports in a row over the warm threshold of 5 s.
    pub(super) over_warm: u32,
    /// Below the hot band of 60 s since.
    pub(super) below_hot: Option<Timestamp>,
    /// Below the warm band of 60 s since.
    pub(super) below_warm: Option<Timestamp>,
    /// Its last automatic move.
    pub(super) last_move: Option<Timestamp>,
    /// The report that was counted last.
    pub(super) revision: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::for_tier(Tier::Db)
    }
}

impl Memory {
    /// What is assumed of a product that is found on `tier`.
    pub(super) const fn for_tier(tier: Tier) -> Self {
        Self {
            level: level_of(tier),
            contended: matches!(tier, Tier::Queue),
            cooled: false,
            sale_start: false,
            opened_for: None,
            over_hot: 0,
            over_warm: 0,
            below_hot: None,
            below_warm: None,
            last_move: None,
            revision: 0,
        }
    }
    /// The tier by heat alone.
    pub(super) const fn tier(&self) -> Tier {
        match (self.level, self.contended) {
            (Temperature::Cold, _) => Tier::Db,
            (Temperature::Hot, true) => Tier::Queue,
            (Temperature::Warm, _) | (Temperature::Hot, false) => Tier::Redis,
        }
    }
    /// Why that tier. `Cooled` is said of a warm product when it moves down (`down`) and for the time of its
    /// dwell, of a cold one until it warms again.
    pub(super) fn reason(&self, down: bool, now: Timestamp, dwell: Duration) -> Reason {
        match self.level {
            _ if self.sale_start => Reason::SaleStart,
            Temperature::Cold if self.cooled => Reason::Cooled,
            Temperature::Warm if self.cooled && (down || self.moved_within(now, dwell)) => Reason::Cooled,
            Temperature::Cold => Reason::Cold,
            Temperature::Warm => Reason::Warm,
            Temperature::Hot if self.contended => Reason::Hot,
            Temperature::Hot => Reason::HotUncontended,
        }
    }
    pub(super) const fn is_sale_start(&self) -> bool {
        self.sale_start
    }
    pub(super) fn moved_within(&self, now: Timestamp, dwell: Duration) -> bool {
        self.last_move.is_some_and(|at| now.since(at) < dwell)
    }
    pub(super) const fn moved(&mut self, now: Timestamp) {
        self.last_move = Some(now);
    }
    /// Without heat nothing is counted: the streaks start again with the next report.
    pub(super) fn without_heat(self) -> Self {
        Self { over_hot: 0, over_warm: 0, below_hot: None, below_warm: None, ..self }
    }
    /// As taken up by a new process: levels, moves and dwell go on, streaks start again.
    pub(crate) fn after_restart(self) -> Self {
        Self { revision: 0, ..self.without_heat() }
    }
}

/// One product's decided tier, why, since when, by which numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The tier.
    pub tier: Tier,
    /// Why.
    pub reason: Reason,
    /// Since when it has this tier for this reason.
    pub since: Timestamp,
    /// The generation in which its tier or override last changed; set when the plan is made durable.
    pub generation: Generation,
    /// The numbers.
    pub evidence: Evidence,
    /// For the next tick.
    pub memory: Memory,
}
