//! What a query may see of the running analysis: live rows as plain values behind one trait. It must
//! never block the engine: an implementation answers from snapshots that the engine has published.

use std::sync::Arc;

use types::{EventKind, Temperature, Timestamp};

/// One sealed second of one page and one kind of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeatRow {
    /// The second of event time, at its beginning.
    pub time: Timestamp,
    /// The page as it stands in the path.
    pub page: Arc<str>,
    /// What was done.
    pub kind: EventKind,
    /// Counted events (after the cap per visitor).
    pub events: u64,
    /// The same, times the weight of the kind.
    pub weighted: u64,
    /// Distinct visitors among the counted events.
    pub visitors: u64,
}

/// One page of the current 60 s window's top.
#[derive(Debug, Clone, PartialEq)]
pub struct TopRow {
    /// From 1; by count descending, then page.
    pub rank: u32,
    /// The page as it stands in the path.
    pub page: Arc<str>,
    /// Weighted count in the window.
    pub count: u64,
    /// Its share of all weighted counts in the window, 0 to 1.
    pub share: f64,
    /// Count from which a page is hot now.
    pub threshold: u64,
    /// Where it stands by the 60 s window.
    pub temperature: Temperature,
    /// Event time since which it has this temperature.
    pub since: Timestamp,
    /// Exclusive end of the window.
    pub window_end: Timestamp,
}

/// Orders of one product that took one step in one second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// The second, at its beginning.
    pub time: Timestamp,
    /// The SKU.
    pub product: Arc<str>,
    /// The sale.
    pub sale: Arc<str>,
    /// The path that accepted them.
    pub tier: &'static str,
    /// `accepted`, `paid`, `expired`, …
    pub step: &'static str,
    /// How many orders.
    pub orders: u64,
    /// How many units.
    pub units: u64,
    /// For how much, in minor units (cents) of the currency.
    pub amount_minor: u64,
    /// ISO 4217.
    pub currency: Arc<str>,
}

/// The live tables that queries read.
pub trait LiveTables: Send + Sync {
    /// Rows of sealed seconds in `[from, to)`, by time, then page, then kind; without a bound, all that
    /// are kept (15 minutes). A page that more than one partition delivered has one row for each.
    fn product_heat(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<HeatRow>;
    /// The current window's pages that are hot or warm, by rank.
    fn top_products(&self) -> Vec<TopRow>;
    /// The newest sealed second, if there is one.
    fn newest_second(&self) -> Option<i64> {
        None
    }
    /// Orders of seconds in `[from, to)`, by time, then product; none where nobody reads them.
    fn orders(&self, _from: Option<Timestamp>, _to: Option<Timestamp>) -> Vec<OrderRow> {
        Vec::new()
    }
}
