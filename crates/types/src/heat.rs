//! What the analyzer says about heat. Heat is per page; the planner maps pages to products.

use serde::{Deserialize, Serialize};

use crate::{PageId, Timestamp};

/// Where a page stands by the rule of `hot(w)` and `warm(w)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Temperature {
    /// Neither.
    Cold,
    /// In the top 10 % and above the warm floor, but not hot.
    Warm,
    /// In the top 1 % and above the hot floor.
    Hot,
}

/// Counts from which a page is hot or warm in each window: `max(T, floor · w)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Thresholds {
    /// Hot in the 60 s window, in weighted events.
    pub hot60: u64,
    /// Warm in the 60 s window.
    pub warm60: u64,
    /// Hot in the 5 s window.
    pub hot5: u64,
    /// Warm in the 5 s window.
    pub warm5: u64,
}

/// One page that is, or since the last snapshot was, hot or warm in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatEntry {
    /// Which page.
    pub page: PageId,
    /// Weighted events in the last 5 s.
    pub count5: u64,
    /// Weighted events in the last 60 s.
    pub count60: u64,
    /// Distinct visitors in the last 60 s (estimate beyond 16).
    pub visitors: u64,
    /// Change of the weighted rate, events/s per second, over the last 10 s.
    pub slope: f64,
    /// Purchase attempts per second over the last 5 s (not weighted).
    pub attempts_per_s: f64,
    /// By the 5 s window.
    pub now5: Temperature,
    /// By the 60 s window.
    pub now60: Temperature,
}

/// One page of a final window's hot set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotPage {
    /// The page as it stands in the path.
    #[serde(rename = "product")]
    pub page: PageId,
    /// Its weighted count in the window.
    pub count: u64,
}

/// One tick of the analyzer, topic `heat-reports`, keyed by shard. The last value wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatReport {
    /// Exclusive end of the window `[end − w, end)`, in event time.
    pub window_end: Timestamp,
    /// Whether the watermark has passed the end: nothing will change any more.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Rises by one with each report of this analyzer.
    pub sequence: u64,
    /// `entries` is everything hot or warm (and the receiver forgets the rest); otherwise only what changed.
    pub snapshot: bool,
    /// Pages with at least one event in the 60 s window.
    pub active: u64,
    /// `⌈0.01 · active⌉`.
    pub k: u64,
    /// Effective thresholds.
    pub thresholds: Thresholds,
    /// Sum of all weighted counts in the 60 s window.
    pub total: u64,
    /// Pages, by count60 descending, then page.
    pub entries: Vec<HeatEntry>,
    /// The whole hot set of the 60 s window; given for final windows only (else empty).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hot: Vec<HotPage>,
    /// When the analyzer made it, by its clock.
    pub made_at: Timestamp,
}
