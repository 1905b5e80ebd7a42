//! Small values for this crate's tests. Test code only.
#![allow(clippy::unwrap_used, missing_docs)]

use types::plan::{CoreState, ProductState};
use types::{
    CoreId, Epoch, Generation, HeatEntry, HeatReport, PageId, Phase, SaleName, Sku, Temperature, Thresholds, Tier,
    Timestamp,
};

/// Seconds after a fixed moment.
pub(crate) fn seconds(s: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + s)
}
pub(crate) fn sku(name: &str) -> Sku {
    Sku::new(name).unwrap()
}

/// Thresholds used by [`report`].
pub(crate) const THRESHOLDS: Thresholds = Thresholds { hot60: 600, warm60: 120, hot5: 100, warm5: 20 };

pub(crate) fn entry(page: &str, count5: u64, count60: u64, visitors: u64, attempts_per_s: f64) -> HeatEntry {
    HeatEntry {
        page: PageId::new(page).unwrap(),
        count5,
        count60,
        visitors,
        slope: 0.0,
        attempts_per_s,
        now5: Temperature::Cold,
        now60: Temperature::Cold,
    }
}

/// A delta report made at `at`.
pub(crate) fn report(sequence: u64, at: Timestamp, entries: Vec<HeatEntry>) -> HeatReport {
    HeatReport {
        window_end: at,
        is_final: false,
        sequence,
        snapshot: false,
        active: 1000,
        k: 10,
        thresholds: THRESHOLDS,
        total: 10_000,
        entries,
        hot: Vec::new(),
        made_at: at,
    }
}

/// A product in the middle of its sale: opened at 0 s, closes at 100,000 s, 1,000 of 1,000 units left.
pub(crate) fn product(name: &str, tier: Tier) -> ProductState {
    ProductState {
        product: sku(name),
        sale: SaleName::new("autumn").unwrap(),
        pages: vec![PageId::new(name).unwrap()],
        tier,
        phase: Phase::Active,
        target: None,
        epoch: Epoch::new(1),
        sellable: 1_000,
        reserved: 0,
        total: 1_000,
        opens: seconds(0),
        closes: seconds(100_000),
        initial_tier: None,
    }
}

pub(crate) fn core_state(name: &str, products: Vec<ProductState>) -> CoreState {
    CoreState {
        core: CoreId::new(name).unwrap(),
        incarnation: 1,
        generation: Generation::new(0),
        term: types::Term::default(),
        redis_capacity: 20_000,
        products,
    }
}
