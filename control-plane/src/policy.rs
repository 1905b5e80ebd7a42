//! The numbers of the planner, all in one place, validated. It decides nothing itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

/// Every number that the planner uses. The defaults are those of the design.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Reports in a row that must show a page over its 5 s threshold before it is promoted.
    pub promote_ticks: u32,
    /// A count this many times over its 5 s threshold promotes at once.
    pub urgent_factor: f64,
    /// Weighted events in 5 s below which nothing is promoted.
    pub min_events: u64,
    /// Distinct visitors below which nothing is promoted: a few scripts cannot make a product hot.
    pub min_visitors: u64,
    /// Demotion band: a product cools below this share of its 60 s threshold.
    pub demote_ratio: f64,
    /// How long it must stay below the band.
    #[serde(with = "types::time::duration_text")]
    #[schema(value_type = String, examples("10s"))]
    pub demote_after: Duration,
    /// Least time between two automatic moves of one product.
    #[serde(with = "types::time::duration_text")]
    #[schema(value_type = String, examples("10s"))]
    pub dwell: Duration,
    /// Most automatic moves in one tick, hottest first.
    pub moves_per_tick: usize,
    /// Without a heat report for this long the plan is kept and called stale.
    #[serde(with = "types::time::duration_text")]
    #[schema(value_type = String, examples("10s"))]
    pub stale_after: Duration,
    /// A hot product is contended if it would sell out within this time at its attempt rate.
    #[serde(with = "types::time::duration_text")]
    #[schema(value_type = String, examples("10s"))]
    pub sellout_within: Duration,
    /// A hot product is contended if its attempts exceed this share of the measured redis path.
    pub redis_share: f64,
    /// A sale's products are planned from this long before it opens.
    #[serde(with = "types::time::duration_text")]
    #[schema(value_type = String, examples("10s"))]
    pub opening_lead: Duration,
    /// A core that was not heard for this long is not ready to move a product.
    #[serde(with = "types::time::duration_text")]
    #[schema(value_type = String, examples("10s"))]
    pub core_silence: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            promote_ticks: 2,
            urgent_factor: 4.0,
            min_events: 10,
            min_visitors: 5,
            demote_ratio: 0.6,
            demote_after: Duration::from_secs(30),
            dwell: Duration::from_secs(10),
            moves_per_tick: 20,
            stale_after: Duration::from_secs(10),
            sellout_within: Duration::from_secs(10),
            redis_share: 0.5,
            // Long enough to load leases and edge credits of a large sale, short enough to plan few idle products.
            opening_lead: Duration::from_secs(60),
            core_silence: Duration::from_secs(3),
        }
    }
}

/// Longest duration in a policy: anything above a day is a slip of the pen.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

impl Policy {
    /// Checks every field; the error names the first bad one.
    pub fn check(&self) -> Result<(), Invalid> {
        let refuse = |what, why: String| Err(Invalid::new(what, why));
        if !(1..=100).contains(&self.promote_ticks) {
            return refuse("policy.promote_ticks", format!("{} is not in 1 to 100", self.promote_ticks));
        }
        // `contains` is false for NaN, so these refuse it too.
        if !(1.0..=1000.0).contains(&self.urgent_factor) {
            return refuse("policy.urgent_factor", format!("{} is not in 1 to 1000", self.urgent_factor));
        }
        if !(0.01..=0.99).contains(&self.demote_ratio) {
            return refuse(
                "policy.demote_ratio",
                format!("{} is not in 0.01 to 0.99; at 1 or above a product would flap", self.demote_ratio),
            );
        }
        if !(0.01..=1.0).contains(&self.redis_share) {
            return refuse("policy.redis_share", format!("{} is not in 0.01 to 1", self.redis_share));
        }
        if !(1..=100_000).contains(&self.moves_per_tick) {
            return refuse("policy.moves_per_tick", format!("{} is not in 1 to 100000", self.moves_per_tick));
        }
        let durations = [
            ("policy.demote_after", self.demote_after),
            ("policy.dwell", self.dwell),
            ("policy.stale_after", self.stale_after),
            ("policy.sellout_within", self.sellout_within),
            ("policy.opening_lead", self.opening_lead),
            ("policy.core_silence", self.core_silence),
        ];
        match durations.iter().find(|(_, d)| d.is_zero() || *d > MAX_DURATION) {
            Some((what, d)) => refuse(what, format!("{d:?} is not above 0 and at most 24h")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let policy = Policy::default();
        policy.check().unwrap();
        insta::assert_snapshot!(serde_json::to_string(&policy).unwrap(), @r#"{"promote_ticks":2,"urgent_factor":4.0,"min_events":10,"min_visitors":5,"demote_ratio":0.6,"demote_after":"30s","dwell":"10s","moves_per_tick":20,"stale_after":"10s","sellout_within":"10s","redis_share":0.5,"opening_lead":"1m","core_silence":"3s"}"#);
    }

    #[test]
    fn a_bad_number_is_refused_by_its_name() {
        let bad = |change: fn(&mut Policy)| {
            let mut policy = Policy::default();
            change(&mut policy);
            policy.check().unwrap_err().what
        };
        assert_eq!(bad(|p| p.promote_ticks = 0), "policy.promote_ticks");
        assert_eq!(bad(|p| p.urgent_factor = f64::NAN), "policy.urgent_factor");
        assert_eq!(bad(|p| p.demote_ratio = 1.0), "policy.demote_ratio");
        assert_eq!(bad(|p| p.redis_share = 0.0), "policy.redis_share");
        assert_eq!(bad(|p| p.moves_per_tick = 0), "policy.moves_per_tick");
        assert_eq!(bad(|p| p.dwell = Duration::ZERO), "policy.dwell");
        assert_eq!(bad(|p| p.stale_after = Duration::MAX), "policy.stale_after");
        assert!(serde_json::from_str::<Policy>(r#"{"dwell":"10"}"#).is_err(), "a unit is required");
        assert!(serde_json::from_str::<Policy>(r#"{"dwel":"10s"}"#).is_err(), "an unknown key");
    }
}
