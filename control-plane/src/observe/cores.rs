//! Joins what the cores say about one product into what the planner needs. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use types::plan::{CoreState, ProductState};
use types::{Sku, Timestamp};

/// The last word of one configured core.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CoreSeen {
    /// Its state; `None` before its first answer since our start.
    pub state: Option<Arc<CoreState>>,
    /// When that answer came.
    pub at: Timestamp,
}

impl CoreSeen {
    /// Whether it was heard within `silence` before `now`.
    pub fn fresh(&self, now: Timestamp, silence: Duration) -> bool {
        self.state.is_some() && now.since(self.at) <= silence
    }
}

/// One product as all cores together see it.
#[derive(Debug, Clone, Copy)]
pub struct ProductSeen<'a> {
    /// The word of the core that is furthest (highest epoch, then heard last).
    pub state: &'a ProductState,
    /// Some core that sells it was heard lately.
    pub ready: bool,
    /// Purchases per second that the redis paths of those cores carry together; 0 if not measured.
    pub redis_capacity: u64,
    at: Timestamp,
}

/// Every product that some core reports.
pub fn products(cores: &[CoreSeen], now: Timestamp, silence: Duration) -> BTreeMap<&Sku, ProductSeen<'_>> {
    let mut all: BTreeMap<&Sku, ProductSeen<'_>> = BTreeMap::new();
    for core in cores {
        let Some(state) = &core.state else { continue };
        let ready = core.fresh(now, silence);
        let redis_capacity = if ready { state.redis_capacity } else { 0 };
        for product in &state.products {
            let mine = ProductSeen { state: product, ready, redis_capacity, at: core.at };
            all.entry(&product.product)
                .and_modify(|seen| {
                    let redis_capacity = seen.redis_capacity.saturating_add(redis_capacity);
                    let further = (product.epoch, core.at) > (seen.state.epoch, seen.at);
                    let ready = seen.ready || ready;
                    *seen = ProductSeen { ready, redis_capacity, ..if further { mine } else { *seen } };
                })
                .or_insert(mine);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{core_state, product, seconds, sku};
    use types::{Epoch, Tier};

    #[test]
    fn the_core_that_is_furthest_is_believed_and_capacities_add_up() {
        let mut ahead = product("a", Tier::Redis);
        ahead.epoch = Epoch::new(4);
        let cores = [
            CoreSeen { state: Some(Arc::new(core_state("one", vec![ahead]))), at: seconds(9) },
            CoreSeen { state: Some(Arc::new(core_state("two", vec![product("a", Tier::Db)]))), at: seconds(10) },
            CoreSeen::default(),
        ];
        let all = products(&cores, seconds(10), Duration::from_secs(3));
        let seen = all[&sku("a")];
        assert_eq!((seen.state.tier, seen.ready, seen.redis_capacity), (Tier::Redis, true, 40_000));
        let later = products(&cores, seconds(60), Duration::from_secs(3));
        assert!(!later[&sku("a")].ready, "silent cores cannot move anything");
    }
}
