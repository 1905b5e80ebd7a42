//! Joins what the cores say about one product into what the planner needs, and tells which products a core's new
//! word may have changed. It only remembers; it never decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use types::plan::{CoreState, ProductState};
use types::{PageId, Sku, Timestamp};

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

#[derive(Debug, Default)]
struct Known {
    state: Option<Arc<CoreState>>,
    at: Timestamp,
    fresh: bool,
    /// Where each product stands in `state`.
    places: HashMap<Sku, usize, FxBuildHasher>,
}

impl Known {
    fn products(&self) -> &[ProductState] {
        self.state.as_ref().map_or(&[], |state| &state.products)
    }
}

/// Every product that some core reports, by the cores' last words.
#[derive(Debug, Default)]
pub struct Products {
    cores: Vec<Known>,
    /// Products by page.
    pages: HashMap<PageId, Vec<Sku>, FxBuildHasher>,
}

impl Products {
    /// Takes the cores' last words up; `changed` gets the products of which some core says something new. An unchanged
    /// product costs one comparison.
    pub fn observe(&mut self, cores: &[CoreSeen], now: Timestamp, silence: Duration, changed: &mut BTreeSet<Sku>) {
        self.cores.resize_with(cores.len(), Known::default);
        let mut other_places = false;
        for (known, seen) in self.cores.iter_mut().zip(cores) {
            known.at = seen.at;
            let fresh = seen.fresh(now, silence);
            if std::mem::replace(&mut known.fresh, fresh) != fresh {
                changed.extend(known.products().iter().map(|p| p.product.clone()));
            }
            let Some(state) = &seen.state else { continue };
            if known.state.as_ref().is_some_and(|old| Arc::ptr_eq(old, state)) {
                continue;
            }
            let old = known.state.replace(state.clone());
            let old = old.as_ref().map_or(&[][..], |old| &old.products);
            let same_places = old.len() == state.products.len()
                && old.iter().zip(&state.products).all(|(a, b)| a.product == b.product && a.pages == b.pages);
            if same_places {
                let new = old.iter().zip(&state.products).filter(|(a, b)| a != b);
                changed.extend(new.map(|(_, product)| product.product.clone()));
                continue;
            }
            changed.extend(old.iter().chain(&state.products).map(|p| p.product.clone()));
            known.places = state.products.iter().enumerate().map(|(n, p)| (p.product.clone(), n)).collect();
            other_places = true;
        }
        if other_places {
            self.index_pages();
        }
    }

    /// Only when a sale comes, changes or goes.
    fn index_pages(&mut self) {
        self.pages.clear();
        for product in self.cores.iter().flat_map(Known::products) {
            for page in &product.pages {
                let sold = self.pages.entry(page.clone()).or_default();
                if !sold.contains(&product.product) {
                    sold.push(product.product.clone());
                }
            }
        }
    }

    /// From words that are taken as new.
    pub fn of(cores: &[CoreSeen], now: Timestamp, silence: Duration) -> Self {
        let mut all = Self::default();
        all.observe(cores, now, silence, &mut BTreeSet::new());
        all
    }

    /// Whether every configured core has spoken since our start: before that silence about a product means nothing.
    pub fn all_cores_known(&self) -> bool {
        self.cores.iter().all(|core| core.state.is_some())
    }

    /// One product, joined over all cores.
    pub fn get(&self, product: &Sku) -> Option<ProductSeen<'_>> {
        let mut all: Option<ProductSeen<'_>> = None;
        for core in &self.cores {
            let Some((state, &place)) = core.state.as_ref().zip(core.places.get(product)) else { continue };
            let capacity = if core.fresh { state.redis_capacity } else { 0 };
            let (said, at) = (&state.products[place], core.at);
            all = Some(match all {
                None => ProductSeen { state: said, ready: core.fresh, redis_capacity: capacity, at },
                Some(seen) => {
                    let further = (said.epoch, at) > (seen.state.epoch, seen.at);
                    ProductSeen {
                        state: if further { said } else { seen.state },
                        at: if further { at } else { seen.at },
                        ready: seen.ready || core.fresh,
                        redis_capacity: seen.redis_capacity.saturating_add(capacity),
                    }
                }
            });
        }
        all
    }

    /// Whether some core sells it.
    pub fn contains(&self, product: &Sku) -> bool {
        self.cores.iter().any(|core| core.places.contains_key(product))
    }

    /// Every product that some core sells.
    pub fn all(&self) -> BTreeSet<Sku> {
        self.cores.iter().flat_map(|core| core.places.keys().cloned()).collect()
    }

    /// The products of a page.
    pub fn of_page(&self, page: &PageId) -> &[Sku] {
        self.pages.get(page).map_or(&[], Vec::as_slice)
    }
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
        let all = Products::of(&cores, seconds(10), Duration::from_secs(3));
        let seen = all.get(&sku("a")).expect("it is sold");
        assert_eq!((seen.state.tier, seen.ready, seen.redis_capacity), (Tier::Redis, true, 40_000));
        let later = Products::of(&cores, seconds(60), Duration::from_secs(3));
        assert!(!later.get(&sku("a")).expect("it is sold").ready, "silent cores cannot move anything");
    }

    #[test]
    fn only_what_a_core_says_anew_is_told() {
        let silence = Duration::from_secs(3);
        let say = |products: Vec<ProductState>, at| {
            [CoreSeen { state: Some(Arc::new(core_state("one", products))), at: seconds(at) }]
        };
        let mut all = Products::default();
        let mut told = |cores: &[CoreSeen], now| {
            let mut changed = BTreeSet::new();
            all.observe(cores, seconds(now), silence, &mut changed);
            changed.iter().map(|s| s.as_str().to_owned()).collect::<Vec<_>>()
        };
        let (a, b) = (product("a", Tier::Db), product("b", Tier::Db));
        assert_eq!(told(&say(vec![a.clone(), b.clone()], 1), 1), ["a", "b"]);
        assert!(told(&say(vec![a.clone(), b.clone()], 2), 2).is_empty());
        let sold = ProductState { sellable: 999, ..b.clone() };
        assert_eq!(told(&say(vec![a.clone(), sold.clone()], 3), 3), ["b"]);
        assert_eq!(told(&say(vec![sold.clone()], 4), 4), ["a", "b"], "one is gone");
        assert_eq!(told(&say(vec![sold.clone()], 4), 9), ["b"], "silent for too long");
        assert_eq!(told(&say(vec![sold], 9), 9), ["b"], "and heard again");
    }
}
